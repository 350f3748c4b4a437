"""The number that an attribution explains: a logit, or one logit's lead over another."""

from typing import Any

import torch
from torch import Tensor

from cfxnb.attacks import gradient_search as search
from cfxnb.attribution.paths import Path
from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.tensors import gradient, needs_gradient
from cfxnb.core.types import Classifier


class Looks:
    """The explained number of images, with its gradient if there is to be one."""

    def __init__(
        self, classifier: Classifier, label: Any, against: Any, count: int, batch: int, slope: bool
    ) -> None:
        self.classifier = CheckedClassifier(classifier)
        self.count, self.batch, self.slope = count, batch, slope
        self.asked = label, against
        self.classes: Any = None  # label and against, once the number of classes is known

    def number(self, logits: Tensor, rows: Tensor) -> Tensor:
        """f of each of the images, which belong to the samples ``rows``."""
        if self.classes is None:
            names = self.classifier.labels
            self.classes = check_labels(*self.asked, self.count, logits.shape[1], names)
        return lead(validate.finite_logits(logits), *self.of(rows))

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Label and against of the samples ``rows``, known after the first look."""
        label, against = self.classes
        own = label[rows.to(label.device)].to(rows.device)
        return own, None if against is None else against[rows.to(against.device)].to(rows.device)

    def at(self, path: Path, rows: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images, f (float64) and gradients (or the images again) at places of the path."""
        found = []
        for some, where in zip(rows.split(self.batch), t.split(self.batch), strict=True):
            with torch.no_grad():
                x = path.at(some, where)
            g = x
            if self.slope:
                with torch.enable_grad():
                    point = x.detach().requires_grad_()
                    f = self.number(self.classifier(point), some)
                    needs_gradient(f)
                    g = gradient(f, point)
            else:
                with torch.no_grad():
                    f = self.number(self.classifier(x), some)
            found.append((x, f.detach().double().to(x.device), g))
        return tuple(torch.cat(part) for part in zip(*found, strict=True))  # type: ignore


def check_labels(
    label: Any, against: Any, rows: int, classes: int, names: Any = None
) -> tuple[Tensor, Tensor | None]:
    """Both classes of each sample, checked; they must differ.

    Of two classes only the difference decides: a widened single logit leaves that of class 0 at
    0, whose map would be empty. So the other one is ``against`` by default. "none" asks about the
    one logit alone.
    """
    own = validate.labels(label, rows, classes, "label", names)
    if against is None:
        return own, 1 - own if classes == 2 else None
    if isinstance(against, str) and against == "none" and "none" not in (names or ()):
        return own, None
    other = validate.labels(against, rows, classes, "against", names).to(own.device)
    if (own == other).any():
        raise ValueError(f"against: expected another class than label, got {own[own == other][0]}")
    return own, other


def lead(logits: Tensor, label: Tensor, against: Tensor | None) -> Tensor:
    """The explained number: logit[label], or its lead over logit[against], (b,)."""
    own = logits.gather(1, label.to(logits.device)[:, None])[:, 0]
    if against is None:
        return own
    return own - logits.gather(1, against.to(logits.device)[:, None])[:, 0]


def log_odds(logits: Tensor, label: Tensor, against: Tensor | None) -> Tensor:
    """log p / (1 - p) of the label among all classes, or among the two."""
    if against is not None:
        return lead(logits, label, against)
    return search.log_odds(logits, label.to(logits.device))
