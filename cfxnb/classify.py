"""Classifiers: any torch module as a callable Images -> logits (b, k), k >= 2."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfxnb import validate
from cfxnb.tensors import undisturbed
from cfxnb.types import Classifier


class Wrapped:
    """A torch module that takes images in [0, 1] and gives logits (b, k); made by ``wrap``."""

    def __init__(
        self,
        module: nn.Module,
        mean: Tensor | None,
        std: Tensor | None,
        size: tuple[int, int] | None,
        labels: tuple[str, ...] | None,
    ) -> None:
        self.module = module
        self.mean = mean
        self.std = std
        self.size = size
        self.labels = labels

    @property
    def device(self) -> torch.device:
        first = next(self.module.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def __call__(self, images: Tensor) -> Tensor:
        x = images.to(self.device)
        if self.size is not None and x.shape[-2:] != self.size:
            x = F.interpolate(x, size=self.size, mode="bilinear", antialias=True)
        try:
            if self.mean is not None:
                x = x - self.mean.to(x)
            if self.std is not None:
                x = x / self.std.to(x)
            out = self.module(x)
        except RuntimeError as error:
            if type(error) is not RuntimeError:
                raise  # out of memory, or a fault of the device: no matter of the images
            name, got = type(self.module).__name__, f"{tuple(x.shape)}, {x.dtype}"
            raise ValueError(
                f"images: expected such as {name} takes, got {got}: {error}"
            ) from error
        out = getattr(out, "logits", out)  # transformers return an object with .logits
        if isinstance(out, Tensor) and (out.ndim == 1 or (out.ndim == 2 and out.shape[1] == 1)):
            out = two_class(out)
        return validate.logits(out, len(images), "module").to(images.device)

    def __repr__(self) -> str:
        return f"Wrapped({type(self.module).__name__}, labels={self.labels})"


def wrap(
    module: nn.Module,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    size: int | tuple[int, int] | None = None,
    labels: Sequence[str] | None = None,
) -> Wrapped:
    """Make a classifier out of any torch module (timm, torchvision, transformers, your own).

    Args:
        module: images -> logits (b, k), or one logit (b,) or (b, 1), which is widened to two
            classes. An output with a ``.logits`` attribute is unpacked.
        mean, std: what the module's training subtracted and divided by, in units of [0, 1];
            one number, or one a channel.
        size: height and width that the module expects (bilinear, antialiased).
        labels: names of the classes.

    Returns:
        A callable: float images (b, c, h, w) in [0, 1], on any device -> logits (b, k) on that
        device. Gradients pass through. Training mode is left as it is; the methods of this
        package switch to evaluation mode while they run. Images that the module fails on, by their
        shape mostly, are a ValueError with its reason.
    """
    return Wrapped(
        validate.instance(module, nn.Module, "module", "a torch.nn.Module"),
        validate.optional(_channels, mean, "mean"),
        validate.optional(_channels, std, "std"),
        validate.optional(_pair, size, "size"),
        validate.optional(validate.names, labels, "labels"),
    )


def _channels(value: Any, name: str) -> Tensor:
    rule = "positive finite numbers" if name == "std" else "finite numbers"
    wrong = f"{name}: expected {rule}, one or one a channel, got {value!r}"
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):  # text, or lists of unequal lengths
        raise TypeError(wrong) from None
    if tensor.dtype == torch.bool:
        raise TypeError(wrong)
    tensor = tensor.to(torch.float32).reshape(1, -1, 1, 1)
    if not tensor.numel() or not tensor.isfinite().all() or (name == "std" and tensor.min() <= 0):
        raise ValueError(wrong)
    return tensor


def _pair(value: Any, name: str) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in pair):
        raise ValueError(f"{name}: expected a positive int or two of them, got {value!r}")
    return pair


def two_class(logit: Tensor) -> Tensor:
    """One logit (b,) or (b, 1) for "class 1" as two logits (b, 2) with the same probability.

    Raises:
        TypeError, ValueError: for anything else; two logits already are what is wanted.
    """
    validate.instance(logit, Tensor, "logit", "a torch tensor")
    if logit.ndim != 1 and logit.shape[1:] != (1,):
        raise ValueError(f"logit: expected shape (b,) or (b, 1), got {tuple(logit.shape)}")
    positive = logit.reshape(-1)
    return torch.stack([torch.zeros_like(positive), positive], dim=1)


class OneLabel:
    """One label of a multi-label net as two classes, "without" and "with"; by ``one_label``."""

    def __init__(self, classifier: Classifier, label: int) -> None:
        self.classifier, self.label = classifier, label

    @property
    def module(self) -> Any:
        """The module inside, if there is one, so that methods can leave it undisturbed."""
        inner = self.classifier
        return inner if isinstance(inner, nn.Module) else getattr(inner, "module", None)

    def __call__(self, images: Tensor) -> Tensor:
        logits = validate.instance(self.classifier(images), Tensor, "classifier", "logits")
        if logits.ndim != 2 or logits.shape[1] <= self.label:
            raise ValueError(
                f"label: expected one of the logits (b, k), got {self.label} with "
                f"{tuple(logits.shape)}"
            )
        return two_class(logits[:, self.label])


def one_label(classifier: Classifier, label: int) -> OneLabel:
    """A classifier with two classes out of a net whose labels may hold all at once.

    Args:
        classifier: images -> logits (b, k), one for each label's own sigmoid.
        label: which of them.

    Returns:
        Images -> logits (b, 2): class 1 has the label's probability. Gradients pass through.
    """
    return OneLabel(validate.function(classifier, "classifier"), validate.count(label, "label"))


class BlackBox(validate.BlackBoxed):
    """Hides the gradients of a classifier and counts the images it is asked about.

    Attributes:
        queries: number of images classified so far.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = validate.function(classifier, "classifier")
        self.queries = 0

    @property
    def module(self) -> Any:
        """The module inside, if there is one, so that methods can leave it undisturbed."""
        inner = self.classifier
        return inner if isinstance(inner, nn.Module) else getattr(inner, "module", None)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        self.queries += len(images)
        return self.classifier(images)

    def __repr__(self) -> str:
        return f"BlackBox({self.classifier!r}, queries={self.queries})"


@torch.no_grad()
def predict(classifier: Classifier, images: Tensor, batch: int = 512) -> Tensor:
    """Logits (n, k) for many images, a batch at a time, in evaluation mode."""
    validate.function(classifier, "classifier")
    images = validate.images(images)
    chunks = images.split(validate.count(batch, "batch", 1))
    with undisturbed(classifier):
        return torch.cat([validate.logits(classifier(c), len(c)) for c in chunks])
