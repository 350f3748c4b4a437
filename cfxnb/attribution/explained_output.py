"""The number that an attribution explains: a logit, or one logit's lead over another."""

from typing import Any

import torch
from torch import Tensor

from cfxnb.attribution.paths import Path
from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.decisions import check_labels, explained_logit
from cfxnb.core.tensors import gradient, needs_gradient
from cfxnb.core.types import Classifier


class Looks:
    """The explained number of images, with its gradient if there is to be one."""

    def __init__(
        self,
        classifier: Classifier,
        label: Any,
        contrast_class: Any,
        count: int,
        batch_size: int,
        slope: bool,
    ) -> None:
        self.classifier = CheckedClassifier(classifier)
        self.count, self.batch_size, self.slope = count, batch_size, slope
        self.asked = label, contrast_class
        self.classes: Any = None  # label and against, once the number of classes is known

    def number(self, logits: Tensor, rows: Tensor) -> Tensor:
        """f of each of the images, which belong to the samples ``rows``."""
        if self.classes is None:
            names = self.classifier.class_names
            self.classes = check_labels(*self.asked, self.count, logits.shape[1], names)
        return explained_logit(validate.finite_logits(logits), *self.of(rows))

    def of(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Label and against of the samples ``rows``, known after the first look."""
        label, contrast_class = self.classes
        own = label[rows.to(label.device)].to(rows.device)
        return own, None if contrast_class is None else contrast_class[
            rows.to(contrast_class.device)
        ].to(rows.device)

    def at(self, path: Path, rows: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images, f (float64) and gradients (or the images again) at places of the path."""
        found = []
        for some, where in zip(rows.split(self.batch_size), t.split(self.batch_size), strict=True):
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
