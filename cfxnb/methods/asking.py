"""A black box, asked about pictures of one image's changed code."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfxnb import validate
from cfxnb.methods.explained import check_labels, log_odds
from cfxnb.methods.ledger import Ledger
from cfxnb.methods.proxies import Probes
from cfxnb.tensors import noise_like, unit
from cfxnb.types import Classifier, Code, LatentSpace, OnStep, Step

Distance = Callable[[Tensor, Tensor], Tensor]
FEWEST = 32  # probes that a proxy is fitted to


class Questions:
    """The black box, asked about pictures of changed codes; answers come from the ledger.

    Attributes:
        home: score of the reconstruction.
        sign: the paper's s: 1 if the reconstruction is seen as the label, -1 if not.
        asked: batches of probes that were wanted so far, lost ones among them.
        shape: of a code.
    """

    def __init__(
        self,
        space: LatentSpace,
        classifier: Classifier,
        distance: Distance,
        image: Tensor,
        ledger: Ledger,
        knobs: dict[str, Any],
    ) -> None:
        self.space, self.classifier, self.distance = space, classifier, distance
        self.ledger, self.knobs, self.asked = ledger, knobs, 0
        self.shape = tuple(space.center.shape)
        self.image = image.to(space.center.device)
        self.code = self.encode(self.image)
        first = self.render("home", self.code.z, self.code.rest)
        if first is None:
            raise ValueError(
                "folder: expected the answer to the first question, which was lost when the "
                "search was interrupted; begin with an empty folder"
            )
        self.home = float(first["score"][0])
        if not abs(self.home) < float("inf"):
            told = first["logits"].tolist()[0]
            raise ValueError(f"classifier: expected finite logits of the image, got {told}")
        self.sign = 1.0 if first["seen"][0] else -1.0

    def encode(self, image: Tensor) -> Code:
        """Code of one image."""
        return validate.instance(self.space.encode(image), Code, "space.encode", "a cfx.Code")

    def render(self, name: str, z: Tensor, rest: Tensor | None) -> dict[str, Tensor] | None:
        """What is answered about codes (n, ...) with one rest (1, ...) for all; None if lost.

        Returns:
            On the CPU: logits (n, k), score (n,), distance (n,) from the image, and whether the
            label is what is seen, seen (n,).
        """
        rows = len(z)

        def draw() -> Tensor:
            whole = Code(z, None if rest is None else rest.expand(rows, *rest.shape[1:]))
            images = self.space.decode(whole)
            return validate.images(images, "space.decode") if name == "home" else images

        found = self.ledger.ask(name, rows, draw, self._answer)
        if found is None:
            return None
        logits, distance = (found[key].float().cpu() for key in ("logits", "distance"))
        label, against = self._classes(logits)
        score = log_odds(logits, label, against)
        seen = logits.argmax(1) == label if self.knobs["against"] is None else score > 0
        return {"logits": logits, "score": score, "distance": distance, "seen": seen}

    def _answer(self, images: Tensor) -> dict[str, Tensor]:
        logits = validate.logits(self.classifier(images), len(images))
        self._classes(logits)
        far = self.distance(images, self.image.expand_as(images))
        validate.instance(far, Tensor, "distance", "a tensor with one number a pair of images")
        if far.numel() != len(images):
            raise ValueError(
                f"distance: expected {len(images)} numbers, one a pair, got {tuple(far.shape)}"
            )
        return {"logits": logits, "distance": far.flatten()}

    def _classes(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Label and against of each row, checked."""
        return check_labels(self.knobs["label"], self.knobs["against"], *logits.shape)

    def probes(self, used: Tensor, keep: int, on_step: OnStep | None) -> Probes:
        """Pairs of opposite changes, as many as the budget has, but for ``keep`` images.

        Args:
            used: coordinates that carry anything, bool, shaped like a code.
        """
        pairs, each = (self.ledger.budget - 1 - keep) // 2, self.knobs["batch"] // 2
        parts, known, total = [], 0, -(-pairs // each)
        for rows in torch.arange(pairs).split(each):
            name = f"probes-{self.asked + 1:06}"
            if not self.ledger.affords(name, 2 * len(rows), keep):
                break  # an earlier search here has spent it on a trial of its own
            delta = self._changes(rows, used.flatten().cpu())
            z = self.code.z + self.space.spread * delta.to(self.code.z).view(-1, *self.shape)
            found = self.render(name, z, self.code.rest)
            self.asked += 1
            if found is None:
                continue
            fine = found["score"].isfinite() & found["distance"].isfinite()
            fine &= found["logits"].isfinite().all(1)
            both = fine.view(-1, 2).all(1).repeat_interleave(2)
            parts.append({"delta": delta[both]})
            parts[-1] |= {n: found[n][both] for n in ("score", "logits", "distance")}
            known += int(both.sum())
            if on_step is not None:
                p, active = found["score"].sigmoid(), torch.ones(len(z), dtype=torch.bool)
                row = torch.zeros(len(z), dtype=torch.int64)
                if on_step(Step(self.asked, total, row, z, p, active)):
                    break
        if known < FEWEST:
            raise ValueError(
                f"queries: expected at least {FEWEST} answered probes, got {known}; those that "
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
