"""Query a black box about changed codes of one image."""

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor

from cfxnb.core import validate
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


class BlackBoxProbe:
    """Renders changed codes and queries the classifier about them, through a ``QueryLog``.

    Args:
        image: the image from which directions are found, (1, c, h, w).
        log: if it contains stored answers, some of their codes are queried again, beyond the
            limit. Another space, classifier or distance is refused.
        others: further images whose codes will be changed, (m, c, h, w).
        stop: holds ``on_step``, which is called after each batch of probes.

    Attributes:
        score_at_start: log odds of the target for the reconstruction of ``image``.
        sign: s of the paper: 1 if the reconstruction is classified as the target, -1 if not.
        n_batches: number of batches of probes so far, including lost ones.
        n_start_queries: queries spent on the reconstruction: 1, plus 1 for each lost answer.
        n_compared: images that were queried again to recognise the classifier.
        space_fit: measures how well the space reconstructs the images.
    """

    def __init__(
        self,
        space: LatentSpace,
        classifier: Classifier,
        distance: Distance,
        image: Tensor,
        log: QueryLog,
        config: SearchConfig,
        others: Tensor | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.space, self.classifier, self.distance = space, classifier, distance
        self.log, self.config, self.n_batches = log, config, 0
        self.stop, self.space_fit = stop or Stop(None), SpaceFit(space)
        self.n_classes: int | None = None
        self.image = image.to(space.mean.device)
        self.code = self.encode(self.image)
        images = [image.cpu()] if others is None else [image.cpu(), others.cpu()]
        self.n_compared = recognise(self, torch.cat(images))
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
        """Return changed codes z (n, ...) of an image as a batch of queries; aux is unchanged."""
        mean, std = self.space.mean, self.space.std
        key = sketch(standardise(z.to(mean) - mean, std))
        if code.aux is not None:
            key = torch.cat([key, sketch(code.aux).expand(len(z), -1)], 1)
        n_batches = self.n_batches if n_batches is None else n_batches
        return QueryBatch(kind, z, code.z, image_digest(image), key, n_batches)

    def query(self, batch: QueryBatch, code: Code) -> Answers | None:
        """Return the answers to a batch, or None if they are lost.

        Args:
            code: the unchanged code of the image, for aux.

        Returns:
            Tensors on the CPU: see ``interpret``.
        """

        def render() -> Tensor:
            images = self.render(batch.z, code.aux)
            if batch.kind.startswith("start"):
                return validate.images(images, "space.decode")
            return images

        found = self.log.query(batch, render, self.classify)
        return None if found is None else self.interpret(found)

    def render(self, z: Tensor, aux: Tensor | None) -> Tensor:
        """Return images of codes (n, ...), with one aux (1, ...) for all or one for each."""
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
        """Query the classifier, and return logits, distance and a short sketch of the images."""
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
        """Return distances from the image, (n,), NaN where the space returned NaN."""
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

        If the answers are stored in a folder, Ctrl-C raises as usual, since the search can be
        continued later.
        """
        return self.stop.on_interrupt() if self.log.kept is None else contextlib.nullcontext()

    def sample(self, active: Tensor, reserved: int) -> Probes:
        """Query pairs of opposite random changes until only ``reserved`` queries are left.

        Args:
            active: active dimensions of the flat code, bool (d,). The other dimensions are not
                changed.
        """
        n_pairs = (self.log.max_queries - self.n_start_queries - reserved) // 2
        pairs_per_batch = self.config.batch_size // 2
        total = -(-n_pairs // pairs_per_batch)
        parts: list[Answers] = []
        not_finite = {"classifier": 0, "space.decode": 0}  # answers, by the part to blame
        for number, rows in enumerate(torch.arange(n_pairs).split(pairs_per_batch), 1):
            delta = self._perturbations(rows, active)
            step = self.space.std * delta.to(self.code.z).view(-1, *self.space.mean.shape)
            z = self.code.z + step
            batch = self.batch("probes", self.image, self.code, z, number)
            # A batch that earlier processes got past was queried, even if its file was deleted.
            queried = number <= self.log.n_batches
            if not self.log.can_afford(batch, 0 if queried else reserved):
                continue  # an earlier search in this folder spent the queries on its trial
            answers = None
            with self.on_interrupt():
                answers = self.query(batch, self.code)
            self.n_batches += 1
            if self.stop.interrupted:
                break
            if answers is None:
                continue
            not_finite["classifier"] += int((~finite_rows(answers["logits"])).sum())
            not_finite["space.decode"] += int((~finite_rows(answers["distance"])).sum())
            parts.append(_finite_pairs({"delta": delta, **answers}))
            self._report(z, answers["score"], total)
            if self.stop.now:
                break
        self._check_enough(sum(len(part["delta"]) for part in parts), not_finite)
        joined = {
            name: torch.cat([part[name] for part in parts])
            for name in ("delta", "score", "logits", "distance")
        }
        return Probes(**joined, score_at_start=self.score_at_start)

    def _report(self, z: Tensor, score: Tensor, total: int) -> None:
        """Call ``on_step``."""
        rows, active = torch.zeros(len(z), dtype=torch.int64), torch.ones(len(z), dtype=torch.bool)
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


def _finite_pairs(answers: Answers) -> Answers:
    """Return the answers of the pairs in which both answers are finite."""
    finite = answers["score"].isfinite() & answers["distance"].isfinite()
    finite &= answers["logits"].isfinite().all(1)
    both = finite.view(-1, 2).all(1).repeat_interleave(2)
    return {name: value[both] for name, value in answers.items()}


def rms(images: Tensor, originals: Tensor) -> Tensor:
    """Return the root of the mean squared difference of pixels, (b,)."""
    return (images - originals).flatten(1).square().mean(1).sqrt()
