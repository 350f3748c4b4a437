"""Query a black box about changed codes of images."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.code_covariance import covariance_of
from cfxnb.core.decisions import check_labels, log_odds
from cfxnb.core.driver import Stop
from cfxnb.core.kept_work import sketch
from cfxnb.core.space_fit import SpaceFit
from cfxnb.core.tensors import finite_rows, noise_like, predicted, standardise, unit
from cfxnb.core.types import Classifier, Code, LatentSpace, Step
from cfxnb.directions.proxies import MIN_PROBES, Probes
from cfxnb.directions.query_log import Answers, QueryBatch, QueryLog, image_digest
from cfxnb.directions.recognition import recognise
from cfxnb.directions.search_config import SearchConfig

Distance = Callable[[Tensor, Tensor], Tensor]
MIN_PER_IMAGE = 4  # queries about each image, else only the first images are used


@dataclasses.dataclass(frozen=True, eq=False)
class ImageProbes:
    """Changed codes of several images, in whitened coordinates xi, and the classifier's answers.

    Opposite changes are neighbours.

    Attributes:
        code: the whole changed code, (2 m, axes).
        change: the change of the code, with change[2 i + 1] = -change[2 i], (2 m, axes).
        logits: logits of all classes, (2 m, k).
        logits_at_start: for each change, the logits of the reconstruction of the image whose code
            is changed, (2 m, k). NaN if these logits are unknown.
        image: position of the changed image among all images, int64 (2 m,).
    """

    code: Tensor
    change: Tensor
    logits: Tensor
    logits_at_start: Tensor
    image: Tensor

    @property
    def n_images(self) -> int:
        return len(self.image.unique())

    def predictors(self) -> Tensor:
        """Return the inputs of the fit: whole codes if there are several images, else changes."""
        return self.code if self.n_images > 1 else self.change

    def rows(self, kept: Tensor) -> "ImageProbes":
        """Return the probes that the mask ``kept`` selects, which must be whole pairs."""
        fields = dataclasses.fields(self)
        return ImageProbes(**{f.name: getattr(self, f.name)[kept] for f in fields})

    def even_scores(self, target: int, contrast_class: int | None) -> Tensor:
        """Return the mean score of each pair, minus the score of the unchanged code, (m,)."""

        def score(logits: Tensor) -> Tensor:
            classes = [
                None if c is None else torch.full((len(logits),), c)
                for c in (target, contrast_class)
            ]
            return log_odds(logits, *classes)  # type: ignore[arg-type]

        forward, backward = score(self.logits).view(-1, 2).T
        return (forward + backward) / 2 - score(self.logits_at_start)[::2]


class BlackBoxProbe:
    """Renders changed codes and queries the classifier about them, through a ``QueryLog``.

    Args:
        images: the images from which directions are found, (m, c, h, w). Searches around one image
            use only the first image.
        log: counts and stores the queries. If the log contains stored answers, some of the stored
            codes are queried again, beyond the limit. Stored answers of another space, classifier
            or distance are refused.
        others: further images whose codes will be changed, (m, c, h, w).
        stop: holds ``on_step``, which is called after each batch of probes.

    Attributes:
        image, code: the first of ``images``, and its code.
        covariance: the covariance of the codes of real images.
        score_at_start: log odds of the target for the reconstruction of ``image``.
        sign: 1 if the reconstruction is classified as the target, -1 if not (s in the paper).
        n_batches: number of batches of probes so far, including batches whose answers are lost.
        n_start_queries: number of queries about the reconstruction of the first image. The number
            is 1, plus 1 for each such query whose answer was lost.
        n_compared: number of stored images that were queried again, to check that the classifier
            still gives the stored answers.
        space_fit: measures how well the space reconstructs the images.
    """

    def __init__(
        self,
        space: LatentSpace,
        classifier: Classifier,
        distance: Distance,
        images: Tensor,
        log: QueryLog,
        config: SearchConfig,
        others: Tensor | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.space, self.classifier, self.distance = space, classifier, distance
        self.log, self.config, self.n_batches = log, config, 0
        self.stop, self.space_fit = stop or Stop(None), SpaceFit(space)
        self.n_classes: int | None = None
        self.images = images.to(space.mean.device)
        self.image = self.images[:1]
        self.code = self.encode(self.image)
        self.covariance = covariance_of(space)
        all_images = [images.cpu()] if others is None else [images.cpu(), others.cpu()]
        self.n_compared = recognise(self, torch.cat(all_images))
        first, self.n_start_queries = None, 0
        while first is None:  # a lost answer is queried again, since the search needs it
            self.n_start_queries += 1
            kind = "start" if self.n_start_queries == 1 else f"start{self.n_start_queries}"
            batch = self.batch(kind, self.image, self.code, self.code.z)
            if not log.can_afford(batch):
                raise ValueError(
                    f"max_queries: expected more than {log.n_queries}, because as many queries "
                    "about the reconstruction were interrupted; begin with an empty folder"
                )
            first = self.query(batch, self.code)
        self.score_at_start = float(first["score"][0])
        if not abs(self.score_at_start) < float("inf"):
            logits = first["logits"].tolist()[0]
            raise ValueError(f"classifier: expected finite logits of the image, got {logits}")
        self.logits_at_start = first["logits"][0]
        self.sign = 1.0 if first["is_target"][0] else -1.0

    def encode(self, image: Tensor) -> Code:
        """Return the code of one image."""
        code: Code = self.space.encode(image)
        reconstruction = self.space.decode(code)
        if reconstruction.shape == image.shape:
            self.space_fit.add_images(image, reconstruction)
        return code

    def batch(
        self, kind: str, image: Tensor, code: Code, z: Tensor, n_batches: int | None = None
    ) -> QueryBatch:
        """Return a batch of queries about changed codes z (n, ...) of one image."""
        mean, std = self.space.mean, self.space.std
        key = sketch(standardise(z.to(mean) - mean, std))
        if code.aux is not None:
            key = torch.cat([key, sketch(code.aux).expand(len(z), -1)], 1)
        n_batches = self.n_batches if n_batches is None else n_batches
        return QueryBatch(kind, z, code.z, image_digest(image), key, n_batches)

    def query(self, batch: QueryBatch, code: Code) -> Answers | None:
        """Return the answers to a batch, or None if they are lost.

        Args:
            code: the unchanged code of the image, whose stochastic code (aux) is used.

        Returns:
            Tensors on the CPU, which ``interpret`` describes.
        """

        def render() -> Tensor:
            images = self.render(batch.z, code.aux)
            if batch.kind.startswith("start"):
                return validate.images(images, "space.decode")
            return images

        found = self.log.query(batch, render, self.classify)
        return None if found is None else self.interpret(found)

    def render(self, z: Tensor, aux: Tensor | None) -> Tensor:
        """Return images of codes (n, ...), with one stochastic code (aux) for all or for each."""
        aux = None if aux is None else aux.expand(len(z), *aux.shape[1:])
        return self.space.decode(Code(z, aux))

    def interpret(self, answers: Answers) -> Answers:
        """Compute scores and decisions for the target from raw answers of the classifier.

        Returns:
            logits: (n, k).
            score: log odds of the target, (n,).
            distance: distance from the image, (n,).
            is_target: whether the target is predicted, bool (n,).
        """
        logits, distance = (answers[key].float().cpu() for key in ("logits", "distance"))
        target, contrast_class = self._classes(logits)
        score = log_odds(logits, target, contrast_class)
        alone = self.config.contrast_class is None
        is_target = predicted(logits) == target if alone else score > 0
        return {"logits": logits, "score": score, "distance": distance, "is_target": is_target}

    def classify(self, images: Tensor) -> Answers:
        """Query the classifier, and return logits, distances and a short vector per image."""
        view = torch.cat([sketch(images), images.flatten(1).mean(1, keepdim=True).cpu()], 1)
        logits = validate.logits(self.classifier(images), len(images))
        if self.n_classes not in (None, logits.shape[1]):
            raise ValueError(
                f"classifier: expected logits of {self.n_classes} classes as before, "
                f"got {logits.shape[1]}"
            )
        self.n_classes = logits.shape[1]
        self._classes(logits)
        return {"logits": logits, "distance": self._distance(images), "view": view}

    def _distance(self, images: Tensor) -> Tensor:
        """Return distances from the original, (n,), NaN where the space returned NaN."""
        known = finite_rows(images)
        distances = images.new_full((len(images),), torch.nan)
        if known.any():
            found = self.distance(images[known], self.image.expand_as(images[known]))
            if found.numel() != len(found):
                raise ValueError(
                    f"distance: expected {len(found)} numbers, one per pair of images, got "
                    f"{tuple(found.shape)}"
                )
            distances[known] = found.flatten().to(distances)
        return distances

    def _classes(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Check target and contrast class, and return them for each row of ``logits``."""
        target, contrast_class = self.config.target, self.config.contrast_class
        rows, n_classes = logits.shape
        return check_labels(target, contrast_class, rows, n_classes, argument="target")

    def on_interrupt(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which Ctrl-C ends the search with its results so far.

        If the answers are stored in a folder, Ctrl-C raises KeyboardInterrupt as usual, since the
        search can be continued later.
        """
        return self.stop.on_interrupt() if self.log.kept is None else contextlib.nullcontext()

    def sample(self, active: Tensor, reserved: int) -> Probes:
        """Query pairs of opposite random changes until only ``reserved`` queries are left.

        Args:
            active: dimensions of the flat code that vary among real images, bool (d,). Dimensions
                that do not vary are not changed.
        """
        n_pairs = (self.log.max_queries - self.n_start_queries - reserved) // 2
        chunks = torch.arange(n_pairs).split(self.config.batch_size // 2)
        plan = [(0, self._perturbations(rows, active)) for rows in chunks]
        parts = self._query_changes(plan, [self.code], reserved)
        joined = {
            name: torch.cat([part[name] for part in parts])
            for name in ("delta", "score", "logits", "distance")
        }
        return Probes(**joined, score_at_start=self.score_at_start)

    def sample_images(self, reserved: int) -> ImageProbes:
        """Query pairs of opposite changes of all images until ``reserved`` queries are left.

        All images get the same number of pairs, up to a difference of 1. Changes have the
        covariance of real codes. The root mean square length of the changes is uniform in [0,
        radius].
        """
        budget = self.log.max_queries - self.n_start_queries - reserved
        most = min(budget // MIN_PER_IMAGE, budget + 1 - MIN_PROBES)
        images = self.images[: max(1, most)]
        codes = [self.code, *(self.encode(image[None]) for image in images[1:])]
        changes = torch.cat([code.z for code in codes]).cpu() - self.space.mean.cpu()
        standardised = standardise(changes, self.space.std.cpu()).flatten(1)
        if self.covariance.source != "space":
            self.covariance = covariance_of(self.space, torch.cat([code.z for code in codes]))
        others = zip(images[1:], codes[1:], strict=True)
        at_start = [self.logits_at_start, *(self._logits_at_start(*pair) for pair in others)]
        pairs = torch.arange((budget - len(images) + 1) // 2)
        chunks = [
            (number, some)
            for number in range(len(images))
            for some in pairs[number :: len(images)].split(self.config.batch_size // 2)
            if len(some)
        ]
        plan = [(number, self._with_covariance(rows)) for number, rows in chunks]
        parts = self._query_changes(plan, codes, reserved)
        change, logits, image = (
            torch.cat([part[name] for part in parts]) for name in ("delta", "logits", "image")
        )
        unknown = torch.full_like(logits[0], torch.nan)
        start = torch.stack([unknown if known is None else known for known in at_start])
        return ImageProbes(
            code=self.covariance.whiten(standardised[image] + change),
            change=self.covariance.whiten(change),
            logits=logits,
            logits_at_start=start[image],
            image=image,
        )

    def _logits_at_start(self, image: Tensor, code: Code) -> Tensor | None:
        """Return the logits of the reconstruction of an image, (k,), or None if they are lost."""
        batch = self.batch("unchanged", image[None], code, code.z, 0)
        if not self.log.can_afford(batch) or self.stop.interrupted:
            return None
        with self.on_interrupt():
            answers = self.query(batch, code)
            return None if answers is None else answers["logits"][0]
        return None

    def _query_changes(
        self, plan: Sequence[tuple[int, Tensor]], codes: Sequence[Code], reserved: int
    ) -> list[Answers]:
        """Return the answers to batches of changes, without pairs whose answers are not finite.

        Args:
            plan: for each batch, the position of the image and the changes in std, (2 n, d).
            codes: unchanged codes of the images, each with one row.

        Returns:
            Answers of each batch, with the changes as ``delta`` and the position of the image as
            ``image``.
        """
        total = len(plan)
        parts: list[Answers] = []
        not_finite = {"classifier": 0, "space.decode": 0}  # answers, by the part to blame
        for number, (place, delta) in enumerate(plan, 1):
            code = codes[place]
            step = self.space.std * delta.to(code.z).view(-1, *self.space.mean.shape)
            z = code.z + step
            batch = self.batch("probes", self.images[place : place + 1], code, z, number)
            # A batch that earlier processes got past was queried, even if its file was deleted.
            queried = number <= self.log.n_batches
            if not self.log.can_afford(batch, 0 if queried else reserved):
                continue  # an earlier search in this folder spent the queries on its trial
            answers = None
            with self.on_interrupt():
                answers = self.query(batch, code)
            self.n_batches += 1
            if self.stop.interrupted:
                break
            if answers is None:
                continue
            not_finite["classifier"] += int((~finite_rows(answers["logits"])).sum())
            not_finite["space.decode"] += int((~finite_rows(answers["distance"])).sum())
            rows = torch.full((len(delta),), place)
            parts.append(_finite_pairs({"delta": delta, "image": rows, **answers}))
            self._report(rows, z, answers["score"], total)
            if self.stop.now:
                break
        self._check_enough(sum(len(part["delta"]) for part in parts), not_finite)
        return parts

    def _report(self, rows: Tensor, z: Tensor, score: Tensor, total: int) -> None:
        """Call ``on_step``."""
        active = torch.ones(len(z), dtype=torch.bool)
        with self.on_interrupt():
            self.stop.tell(Step(self.n_batches, total, rows, z, score.sigmoid(), active))

    def _check_enough(self, known: int, not_finite: dict[str, int]) -> None:
        """Raise an error if too few probes have finite answers."""
        if known >= MIN_PROBES:
            return
        if self.stop.interrupted:
            raise KeyboardInterrupt
        for part, count in not_finite.items():
            if known + count >= MIN_PROBES:
                raise ValueError(
                    f"{part}: expected finite numbers for at least {MIN_PROBES} probes, got NaN or "
                    f"infinity for {count} of {known + count}"
                )
        raise ValueError(
            f"max_queries: expected at least {MIN_PROBES} answered probes, got {known}; probes "
            "that were stopped, lost or not finite do not count"
        )

    def _perturbations(self, rows: Tensor, active: Tensor) -> Tensor:
        """Return pairs of opposite changes, (2 n, d), in std. Pair i depends on (seed, i) alone.

        As in the paper, directions are uniform on the sphere and lengths are uniform in
        [0, radius]. The paper draws no opposite changes.
        """
        raw = noise_like(torch.zeros(len(rows), len(active) + 1), self.config.seed, rows)
        length = self.config.radius * (0.5 * (1 + torch.erf(raw[:, -1:] / 2**0.5)))
        delta = length * unit(raw[:, :-1] * active)
        return torch.stack([delta, -delta], 1).flatten(0, 1)

    def _with_covariance(self, rows: Tensor) -> Tensor:
        """Return pairs of opposite changes with the covariance of real codes, (2 n, d), in std.

        Pair i depends on (seed, i) alone. The root mean square length of the changes is uniform in
        [0, radius].
        """
        variances = self.covariance.variances
        raw = noise_like(torch.zeros(len(rows), len(variances) + 1), self.config.seed, rows)
        length = self.config.radius * (0.5 * (1 + torch.erf(raw[:, -1:] / 2**0.5)))
        delta = self.covariance.colour(length * raw[:, :-1] / variances.sum().sqrt())
        return torch.stack([delta, -delta], 1).flatten(0, 1)


def _finite_pairs(answers: Answers) -> Answers:
    """Return the answers of the pairs in which both answers are finite."""
    finite = answers["score"].isfinite() & answers["distance"].isfinite()
    finite &= answers["logits"].isfinite().all(1)
    both = finite.view(-1, 2).all(1).repeat_interleave(2)
    return {name: value[both] for name, value in answers.items()}


def rms(images: Tensor, originals: Tensor) -> Tensor:
    """Return the root of the mean squared difference of pixels, (b,)."""
    return (images - originals).flatten(1).square().mean(1).sqrt()
