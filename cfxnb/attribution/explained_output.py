"""The output that an attribution explains: a logit, or the difference of two logits."""

from typing import Any

import torch
from torch import Tensor

from cfxnb.attribution.paths import Path
from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.decisions import check_labels, explained_logit
from cfxnb.core.tensors import gradient, require_gradient
from cfxnb.core.types import Classifier


class ExplainedOutput:
    """The explained function f from images to numbers, with the gradient of f if a method needs it.

    Args:
        classifier: Images -> logits (b, k).
        label, contrast_class: As in ``integrated_gradients``. Label and contrast class are checked
            after the first evaluation of the classifier, because the logits tell the number of
            classes.
        n_images: Number of images in the call.
        batch_size: Images per batch. A larger batch is faster and needs more memory.
        with_gradient: Whether ``along`` computes gradients.
    """

    def __init__(
        self,
        classifier: Classifier,
        label: Any,
        contrast_class: Any,
        n_images: int,
        batch_size: int,
        with_gradient: bool = False,
    ) -> None:
        self.classifier = CheckedClassifier(classifier)
        self.n_images, self.batch_size, self.with_gradient = n_images, batch_size, with_gradient
        self._unchecked = label, contrast_class
        self._classes: Any = None

    def classes_of(
        self, rows: Tensor, n_classes: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return label and contrast class of the images at the positions ``rows``.

        The first call checks the label and the contrast class of all images.
        """
        if self._classes is None:
            names = self.classifier.class_names
            self._classes = check_labels(*self._unchecked, self.n_images, n_classes or 2, names)
        label, other = self._classes
        at = rows.to(label.device)
        return label[at].to(rows.device), None if other is None else other[at].to(rows.device)

    def output(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return the explained output (n,) of the images ``rows``, from their logits (n, k)."""
        classes = self.classes_of(rows, logits.shape[1])
        return explained_logit(validate.finite_logits(logits), *classes)

    def along(self, path: Path, rows: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate the explained function f at points of a path.

        Args:
            path: The path, which has one curve per image of the call.
            rows: Position of the image to which each point belongs, int64 (n,).
            t: Position of each point on the curve of its image, (n,) in [0, 1].

        Returns:
            Images x (n, c, h, w), f(x) in float64 (n,), and the gradients of f with the shape of
            x. If ``with_gradient`` is False, the images x are returned in place of the gradients.
        """
        parts = []
        for some, at in zip(rows.split(self.batch_size), t.split(self.batch_size), strict=True):
            with torch.no_grad():
                x = path.at(some, at)
            with torch.set_grad_enabled(self.with_gradient):
                point = x.detach().requires_grad_(self.with_gradient)
                f = self.output(self.classifier(point), some)
            g = x
            if self.with_gradient:
                require_gradient(f)
                g = gradient(f, point)
            parts.append((x, f.detach().double().to(x.device), g))
        x, f, g = (torch.cat(part) for part in zip(*parts, strict=True))
        return x, f, g
