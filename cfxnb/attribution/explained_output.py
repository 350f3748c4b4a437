"""The number that an attribution explains: a logit, or one logit's lead over another."""

from typing import Any

import torch
from torch import Tensor

from cfxnb.attribution.paths import Path
from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.decisions import check_labels, lead
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
