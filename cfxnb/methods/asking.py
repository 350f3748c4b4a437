"""A black box, asked about pictures of one image's changed code."""

import math
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
    """The black box, asked about pictures of one image's changed code."""

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
        self.ledger, self.knobs = ledger, knobs
        self.image = image.to(space.center.device)
        self.code: Code = space.encode(self.image)
        self.classes: Any = None
        first = self.render(torch.zeros(1, space.center.numel()))
        if first is None:
            raise ValueError("folder: its first question was lost; begin with an empty folder")
        self.home = float(first["score"][0])
        # The paper's s: whether the source is seen as the label.
        self.sign = 1.0 if self.home > 0 else -1.0

    def classify(self, images: Tensor) -> Tensor:
        """Logits, checked."""
        logits = validate.logits(self.classifier(images), len(images))
        if self.classes is None:
            knobs = self.knobs
            self.classes = check_labels(knobs["label"], knobs["against"], 1, logits.shape[1])
        return logits

    def render(self, delta: Tensor) -> dict[str, Tensor] | None:
        """Logits, score and distance of changes (n, d) in spreads, from the ledger."""
        rows, space = len(delta), self.space

        def answer() -> dict[str, Tensor]:
            change = space.spread * delta.to(space.center).view(-1, *space.center.shape)
            rest = (
                None
                if self.code.rest is None
                else self.code.rest.expand(rows, *self.code.rest.shape[1:])
            )
            images = space.decode(Code(self.code.z + change, rest))
            logits = self.classify(images)
            far = self.distance(images, self.image.expand_as(images)).flatten()
            return {"logits": logits, "distance": far}

        found = self.ledger.ask(rows, answer)
        if found is None:
            return None
        logits = found["logits"].float().cpu()
        if self.classes is None:  # the answer came from the folder
            knobs = self.knobs
            self.classes = check_labels(knobs["label"], knobs["against"], 1, logits.shape[1])
        label, against = self.classes
        score = log_odds(
            logits, label.expand(rows), None if against is None else against.expand(rows)
        )
        return {"logits": logits, "score": score, "distance": found["distance"].float().cpu()}

    def probes(self, used: Tensor, count: int, on_step: OnStep | None) -> Probes:
        """Pairs of opposite changes, ``count`` at most."""
        pairs, each = count // 2, self.knobs["batch"] // 2
        flat = used.flatten().cpu()
        parts, total = [], math.ceil(pairs / each)
        for number, rows in enumerate(torch.arange(pairs).split(each)):
            raw = noise_like(torch.zeros(len(rows), len(flat) + 1), self.knobs["seed"], rows)
            share = 0.5 * (1 + torch.erf(raw[:, -1:] / 2**0.5))  # uniform in [0, 1]
            delta = self.knobs["radius"] * share * unit(raw[:, :-1] * flat)
            both = torch.stack([delta, -delta], 1).flatten(0, 1)
            found = self.render(both)
            if found is None:
                continue
            parts.append({"delta": both, **found})
            if on_step is not None:
                z = self.code.z.cpu() + self.space.spread.cpu() * both.view(-1, *used.shape)
                p, active = found["score"].sigmoid(), torch.ones(len(both), dtype=torch.bool)
                row = torch.zeros(len(both), dtype=torch.int64)
                if on_step(Step(number + 1, total, row, z, p, active)):
                    break
        if sum(len(part["delta"]) for part in parts) < FEWEST:
            raise ValueError(f"queries: expected enough for {FEWEST} probes, got {count}")
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return Probes(**whole, home=self.home)


def rms(images: Tensor, originals: Tensor) -> Tensor:
    """Root of the mean squared difference of pixels, (b,)."""
    return (images - originals).flatten(1).square().mean(1).sqrt()
