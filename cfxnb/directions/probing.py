"""A black box, asked about pictures of one image's changed code."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.decisions import check_labels, log_odds
from cfxnb.core.driver import Stop
from cfxnb.core.kept_work import sketch
from cfxnb.core.space_fit import SpaceFit
from cfxnb.core.tensors import finite_rows, noise_like, predicted, standardise, unit
from cfxnb.core.types import Classifier, Code, LatentSpace, Step
from cfxnb.directions.proxies import Probes
from cfxnb.directions.query_log import Answers, Ledger, Question, stamp
from cfxnb.directions.recognition import recognise

Distance = Callable[[Tensor, Tensor], Tensor]
FEWEST = 32  # probes that a proxy is fitted to


class Questions:
    """The black box, asked about pictures of changed codes; answers come from the ledger.

    Args:
        ledger: if it holds answers, a few of their questions are asked anew, beyond the budget:
            another space, classifier or distance is refused.
        others: more images whose codes are changed, (m, c, h, w).
        stop: its ``on_step`` is told of each batch of probes.

    Attributes:
        home: score of the reconstruction.
        sign: the paper's s: 1 if the reconstruction is seen as the label, -1 if not.
        asked: batches of probes that were wanted so far, lost ones among them.
        first: queries that the first question took: one more each time it was interrupted.
        compared: images that were asked about once more, to recognise the classifier.
        shape: of a code.
        fit: whether the space knows the images.
    """

    def __init__(
        self,
        space: LatentSpace,
        classifier: Classifier,
        distance: Distance,
        image: Tensor,
        ledger: Ledger,
        knobs: dict[str, Any],
        others: Tensor | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.space, self.classifier, self.distance = space, classifier, distance
        self.ledger, self.knobs, self.asked = ledger, knobs, 0
        self.stop, self.fit = stop or Stop(None), SpaceFit(space)
        self.classes: int | None = None
        self.shape = tuple(space.mean.shape)
        self.image = image.to(space.mean.device)
        self.code = self.encode(self.image)
        pictures = [image.cpu()] if others is None else [image.cpu(), others.cpu()]
        self.compared = recognise(self, torch.cat(pictures))
        first, self.first = None, 0
        while first is None:  # nothing can be asked without it: if it was lost, it is asked again
            self.first += 1
            kind = "home" if self.first == 1 else f"home{self.first}"
            question = self.question(kind, self.image, self.code, self.code.z)
            if not ledger.affords(question):
                raise ValueError(
                    f"n_queries: expected more than {ledger.spent}, which were spent on a first "
                    "question that was interrupted each time; begin with an empty folder"
                )
            first = self.render(question, self.code)
        self.home = float(first["score"][0])
        if not abs(self.home) < float("inf"):
            told = first["logits"].tolist()[0]
            raise ValueError(f"classifier: expected finite logits of the image, got {told}")
        self.sign = 1.0 if first["seen"][0] else -1.0

    def encode(self, image: Tensor) -> Code:
        """Code of one image."""
        code: Code = self.space.encode(image)
        made = self.space.decode(code)
        if made.shape == image.shape:
            self.fit.see(image, made)
        return code

    def question(
        self, kind: str, image: Tensor, code: Code, z: Tensor, after: int | None = None
    ) -> Question:
        """About codes (n, ...) that an image's code was changed to; its rest stays."""
        mean, std = self.space.mean, self.space.std
        key = sketch(standardise(z.to(mean) - mean, std))
        if code.aux is not None:
            key = torch.cat([key, sketch(code.aux).expand(len(z), -1)], 1)
        return Question(kind, z, code.z, stamp(image), key, self.asked if after is None else after)

    def render(self, question: Question, code: Code) -> Answers | None:
        """What is answered to a question; None if that is lost.

        Args:
            code: of its image, for the rest.

        Returns:
            On the CPU: logits (n, k), score (n,), distance (n,) from the image, and whether the
            label is what is seen, seen (n,).
        """

        def draw() -> Tensor:
            images = self.draw(question.z, code.aux)
            if question.kind.startswith("home"):
                return validate.images(images, "space.decode")
            return images

        found = self.ledger.ask(question, draw, self.answer)
        return None if found is None else self.read(found)

    def draw(self, z: Tensor, aux: Tensor | None) -> Tensor:
        """Images of codes (n, ...), with one rest (1, ...) for all or one for each."""
        aux = None if aux is None else aux.expand(len(z), *aux.shape[1:])
        return self.space.decode(Code(z, aux))

    def read(self, found: Answers) -> Answers:
        """What answers mean for the label; see ``render``."""
        logits, distance = (found[key].float().cpu() for key in ("logits", "distance"))
        target, contrast_class = self._classes(logits)
        score = log_odds(logits, target, contrast_class)
        seen = predicted(logits) == target if self.knobs["contrast_class"] is None else score > 0
        return {"logits": logits, "score": score, "distance": distance, "seen": seen}

    def answer(self, images: Tensor) -> Answers:
        """What is told about images: logits, distance, and a few numbers to know the image by."""
        view = torch.cat([sketch(images), images.flatten(1).mean(1, keepdim=True).cpu()], 1)
        logits = validate.logits(self.classifier(images), len(images))
        if self.classes not in (None, logits.shape[1]):
            raise ValueError(
                f"classifier: expected logits of {self.classes} classes as before, "
                f"got {logits.shape[1]}"
            )
        self.classes = logits.shape[1]
        self._classes(logits)
        return {"logits": logits, "distance": self._distance(images), "view": view}

    def _distance(self, images: Tensor) -> Tensor:
        """Distances from the image, (n,); NaN where the space gave no image."""
        known = finite_rows(images)
        far = images.new_full((len(images),), torch.nan)
        if known.any():
            told = self.distance(images[known], self.image.expand_as(images[known]))
            if told.numel() != len(told):
                raise ValueError(
                    f"distance: expected {len(told)} numbers, one a pair, got {tuple(told.shape)}"
                )
            far[known] = told.flatten().to(far)
        return far

    def _classes(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Label and against of each row, checked."""
        return check_labels(self.knobs["target"], self.knobs["contrast_class"], *logits.shape)

    def may_end(self) -> contextlib.AbstractContextManager[None]:
        """Ctrl-C inside ends the search with what is known, unless a folder keeps it."""
        return self.stop.on_interrupt() if self.ledger.kept is None else contextlib.nullcontext()

    def probes(self, used: Tensor, keep: int) -> Probes:
        """Pairs of opposite changes, as many as the budget has, but for ``keep`` images.

        Args:
            used: coordinates that carry anything, bool, shaped like a code.
        """
        pairs = (self.ledger.budget - self.first - keep) // 2
        each = self.knobs["batch_size"] // 2
        parts, known, total = [], 0, -(-pairs // each)
        broken: dict[str, int] = {}  # answers that are not finite, by who gave them
        for number, rows in enumerate(torch.arange(pairs).split(each), 1):
            delta = self._changes(rows, used.flatten().cpu())
            z = self.code.z + self.space.std * delta.to(self.code.z).view(-1, *self.shape)
            question = self.question("probes", self.image, self.code, z, number)
            # If others rest on it, it was asked as well, and its file was deleted.
            deleted = number <= self.ledger.reached
            if not self.ledger.affords(question, 0 if deleted else keep):
                continue  # an earlier search here has spent it on a trial of its own
            found = None
            with self.may_end():
                found = self.render(question, self.code)
            self.asked += 1
            if self.stop.interrupted:
                break
            if found is None:
                continue
            fine = found["score"].isfinite() & found["distance"].isfinite()
            fine &= found["logits"].isfinite().all(1)
            for part, who in (("logits", "classifier"), ("distance", "space.decode")):
                missing = int((~finite_rows(found[part].view(len(z), -1))).sum())
                broken[who] = broken.get(who, 0) + missing
            both = fine.view(-1, 2).all(1).repeat_interleave(2)
            parts.append({"delta": delta[both]})
            parts[-1] |= {n: found[n][both] for n in ("score", "logits", "distance")}
            known += int(both.sum())
            p, active = found["score"].sigmoid(), torch.ones(len(z), dtype=torch.bool)
            row = torch.zeros(len(z), dtype=torch.int64)
            with self.may_end():
                self.stop.tell(Step(self.asked, total, row, z, p, active))
            if self.stop.now:
                break
        if known < FEWEST:
            if self.stop.interrupted:
                raise KeyboardInterrupt
            for who, count in broken.items():
                if known + count >= FEWEST:
                    raise ValueError(
                        f"{who}: expected finite numbers for at least {FEWEST} probes, got NaN or "
                        f"infinity for {count} of {known + count}"
                    )
            raise ValueError(
                f"n_queries: expected at least {FEWEST} answered probes, got {known}; those that "
                "were stopped, lost or not finite don't count"
            )
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return Probes(**whole, home=self.home)

    def _changes(self, rows: Tensor, used: Tensor) -> Tensor:
        """Pairs of opposite changes (2 n, d) in spreads; each pair is bound to its number."""
        raw = noise_like(torch.zeros(len(rows), len(used) + 1), self.knobs["seed"], rows)
        share = 0.5 * (1 + torch.erf(raw[:, -1:] / 2**0.5))  # uniform in [0, 1]
        delta = self.knobs["radius"] * share * unit(raw[:, :-1] * used)
        return torch.stack([delta, -delta], 1).flatten(0, 1)


def rms(images: Tensor, originals: Tensor) -> Tensor:
    """Root of the mean squared difference of pixels, (b,)."""
    return (images - originals).flatten(1).square().mean(1).sqrt()
