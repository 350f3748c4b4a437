"""Classifiers: whatever a person has, as a callable images -> logits (b, k), k >= 2."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.core.types import Classifier
from cfxnb.core.warn import warn_of_probabilities

TINY = 1e-37  # a probability of 0 becomes the log of this, which is finite
LUMA = (0.299, 0.587, 0.114)  # red, green and blue in gray (ITU-R BT.601)


class Wrapped:
    """A classifier that takes images in [0, 1] and gives logits (b, k); made by ``wrap``."""

    def __init__(
        self,
        function: Callable[[Tensor], Any],
        *,
        mean: Tensor | None = None,
        std: Tensor | None = None,
        size: tuple[int, int] | None = None,
        channels: int | None = None,
        labels: tuple[str, ...] | None = None,
        probabilities: bool = False,
    ) -> None:
        self.function = function
        self.mean, self.std, self.size, self.channels = mean, std, size, channels
        self.labels, self.probabilities = labels, probabilities
        self._warned = probabilities

    @property
    def module(self) -> Any:
        """The torch module inside, or None."""
        return self.function if isinstance(self.function, nn.Module) else None

    @module.setter
    def module(self, value: nn.Module) -> None:
        self.function = value

    @property
    def device(self) -> torch.device:
        """Where the module's weights lie; the CPU for anything else."""
        first = _first_float(self.module)
        return torch.device("cpu") if first is None else first.device

    def __call__(self, images: Tensor) -> Tensor:
        images = validate.pixels(images)
        x = self._prepared(images)
        try:
            out = self.function(x)
        except RuntimeError as error:
            if self.module is None or type(error) not in (RuntimeError, NotImplementedError):
                raise  # out of memory, or a fault of the device: no matter of the images
            name, got = type(self.module).__name__, f"{tuple(x.shape)}, {x.dtype}"
            raise ValueError(
                f"images: expected such as {name} takes, got {got}: {error}"
            ) from error
        return self._logits(out, len(images)).to(images.device)

    def _prepared(self, images: Tensor) -> Tensor:
        """A copy in the network's channels, size, normalisation, dtype and device."""
        images = validate.pixels(images)
        first = _first_float(self.module)
        x = images.to(self.device).clone()  # the network may change what it is given
        if x.is_floating_point():
            x = x.float()
        if self.channels is not None and x.ndim == 4:
            x = _in_channels(x, self.channels)
        if self.size is not None and x.shape[-2:] != self.size:
            x = F.interpolate(x, size=self.size, mode="bilinear", antialias=True)
        for part, name in ((self.mean, "mean"), (self.std, "std")):
            if part is not None and x.ndim == 4 and part.shape[1] not in (1, x.shape[1]):
                raise ValueError(
                    f"images: expected {part.shape[1]} channels, as {name} has, got {x.shape[1]}"
                )
        if self.mean is not None:
            x = x - self.mean.to(x)
        if self.std is not None:
            x = x / self.std.to(x)
        return x if first is None else x.to(first.dtype)

    def _logits(self, out: Any, rows: int) -> Tensor:
        """float32 (rows, k) of what a module or a function returns."""
        out = out.get("logits", out) if isinstance(out, Mapping) else out
        out = getattr(out, "logits", out)  # transformers return an object with .logits
        if isinstance(out, np.ndarray) and out.dtype.kind in "fiu":
            out = torch.from_numpy(out.copy())
        validate.instance(out, Tensor, "module", "logits as a torch tensor")
        if not self._warned and out.ndim and len(out) == rows:
            flat = out if out.ndim == 2 else out.reshape(rows, -1)
            self._warned = warn_of_probabilities(flat, "module")
        single = out.ndim == 1 or (out.ndim == 2 and out.shape[1] == 1)
        if self.probabilities:
            out = _log(out, single)
        found = validate.logits(two_class(out) if single else out, rows, "module")
        if self.labels is not None and len(self.labels) != found.shape[1]:
            raise ValueError(
                f"labels: expected {found.shape[1]} names, one per logit, got {len(self.labels)}"
            )
        return found

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return f"Wrapped({name}, labels={self.labels})"


def _first_float(module: Any) -> Tensor | None:
    """The first weight with a floating dtype: it tells the network's dtype and device."""
    if module is None:
        return None
    tensors = (t for part in (module.parameters(), module.buffers()) for t in part)
    return next((t for t in tensors if t.is_floating_point()), None)


def _in_channels(x: Tensor, channels: int) -> Tensor:
    """Gray images in three equal channels, or coloured ones in gray."""
    if x.shape[1] == channels:
        return x
    if x.shape[1] == 1:
        return x.expand(-1, channels, -1, -1)
    if (x.shape[1], channels) == (3, 1):
        return (x * x.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    raise ValueError(f"images: expected {channels} channels, or 1 or 3, got {x.shape[1]}")


def _log(p: Tensor, single: bool) -> Tensor:
    """Logits that have these probabilities."""
    if not p.is_floating_point() or p.min() < -1e-6 or p.max() > 1 + 1e-6:
        raise ValueError(
            f"probabilities: expected outputs in [0, 1], got {p.min().item():.4g} to "
            f"{p.max().item():.4g}; leave it out for logits"
        )
    p = p.float()
    return torch.logit(p, eps=1e-7) if single else p.clamp_min(TINY).log()


@standard_modes
def wrap(
    module: Any,
    *,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    labels: Sequence[str] | Mapping[Any, Any] | None = None,
    probabilities: bool = False,
) -> Wrapped:
    """Make a classifier out of what you have.

    Args:
        module: a torch module (timm, torchvision, transformers, scripted, quantised, your own), a
            scikit-learn estimator, an ONNX Runtime session, or a function. It returns logits
            (b, k), or one logit (b,) or (b, 1), which is widened to two classes. An output with a
            ``.logits`` attribute is unpacked. Estimators get flattened images (b, c * h * w) as
            numpy, sessions float32 arrays (b, c, h, w).
        mean, std: what the training subtracted and divided by, in units of [0, 1]; one number, or
            one per channel.
        size: height and width that the module expects (bilinear, antialiased).
        channels: number of channels that the module expects, 1 or 3: gray images are repeated,
            coloured ones become gray.
        labels: names of the classes, in order, or a dict such as ``config.id2label``. Default:
            those of a transformers model or an estimator, if they have names.
        probabilities: True if the module returns probabilities. Their logarithm is taken.

    Returns:
        A callable: float images (b, c, h, w) in [0, 1], on any device -> float32 logits (b, k) on
        that device. The network gets its own copy of the images, in its own dtype and on its own
        device. Gradients pass through torch modules and functions. Training mode is left as it
        is; the methods of this package switch to evaluation mode while they run. Images that the
        module fails on, mostly by their shape, are a ValueError with its reason.

    Warns:
        UserWarning: if outputs look like probabilities, unless ``probabilities=True``.
    """
    function, names, gives_probabilities = _adapted(module)
    named = validate.optional(validate.class_names, labels, "labels")
    return Wrapped(
        function,
        mean=validate.optional(_channels, mean, "mean"),
        std=validate.optional(_channels, std, "std"),
        size=validate.optional(_pair, size, "size"),
        channels=validate.optional(_colours, channels, "channels"),
        labels=names if named is None else named,
        probabilities=validate.flag(probabilities, "probabilities") or gives_probabilities,
    )


def as_classifier(value: Any, name: str = "classifier") -> Any:
    """What a method can call: a function as it is, anything else as ``wrap`` makes it."""
    if isinstance(value, nn.Module) or _is_estimator(value) or _is_session(value):
        return wrap(value)
    return validate.function(value, name)


def _adapted(module: Any) -> tuple[Any, tuple[str, ...] | None, bool]:
    """A function of image tensors, the names of its classes, whether it gives probabilities."""
    if isinstance(module, nn.Module):
        return module, _labels_of_config(module), False
    if _is_estimator(module):
        return Estimator(module), _texts(module.classes_), Estimator(module).gives_probabilities
    if _is_session(module):
        return Session(module), None, False
    if isinstance(module, type) or not callable(module):
        raise TypeError(
            "module: expected a torch module, an estimator, an ONNX session or a function, got "
            f"{validate.told(module)}"
        )
    return module, getattr(module, "labels", None), False


def _labels_of_config(module: nn.Module) -> tuple[str, ...] | None:
    """The names in a transformers config; its placeholders LABEL_0, LABEL_1, ... are none."""
    names = getattr(getattr(module, "config", None), "id2label", None)
    if not isinstance(names, Mapping) or all(str(n).startswith("LABEL_") for n in names.values()):
        return None
    try:
        return validate.names(names, "labels")
    except (ValueError, TypeError):  # a config that does not number its labels tells nothing
        return None


def _texts(classes: Any) -> tuple[str, ...] | None:
    named = np.asarray(classes)
    return tuple(map(str, named.tolist())) if named.dtype.kind in "OU" else None


def _is_estimator(value: Any) -> bool:
    """A fitted classifier of scikit-learn, or one that follows its conventions."""
    scores = hasattr(value, "predict_proba") or hasattr(value, "decision_function")
    return scores and not isinstance(value, type | nn.Module) and hasattr(value, "classes_")


def _is_session(value: Any) -> bool:
    """An inference session of ONNX Runtime."""
    return all(hasattr(value, each) for each in ("run", "get_inputs", "get_outputs"))


class Estimator:
    """A fitted scikit-learn classifier as a function of image tensors."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self.gives_probabilities = hasattr(estimator, "predict_proba")

    def __call__(self, images: Tensor) -> Tensor:
        rows = images.detach().cpu().flatten(1).numpy()
        ask = "predict_proba" if self.gives_probabilities else "decision_function"
        return torch.from_numpy(np.asarray(getattr(self.estimator, ask)(rows), np.float64))


class Session:
    """An ONNX Runtime session with one image input as a function of image tensors."""

    def __init__(self, session: Any) -> None:
        inputs = session.get_inputs()
        if len(inputs) != 1:
            names = [i.name for i in inputs]
            raise ValueError(f"module: expected a session with one input, got {names}")
        self.session, self.input = session, inputs[0].name
        self.half = "float16" in str(getattr(inputs[0], "type", ""))

    def __call__(self, images: Tensor) -> Tensor:
        rows = images.detach().cpu().numpy().astype(np.float16 if self.half else np.float32)
        return torch.from_numpy(np.array(self.session.run(None, {self.input: rows})[0]))


def _channels(value: Any, name: str) -> Tensor:
    rule = "positive finite numbers" if name == "std" else "finite numbers"
    wrong = f"{name}: expected {rule}, one or one per channel, got {validate.told(value)}"
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # text, or unequal lengths
        raise TypeError(wrong) from None
    plain = tensor.layout == torch.strided and not tensor.is_meta
    if tensor.dtype == torch.bool or tensor.is_complex() or not plain:
        raise TypeError(wrong)
    tensor = tensor.detach().to(torch.float32).reshape(1, -1, 1, 1)
    if not tensor.numel() or not tensor.isfinite().all() or (name == "std" and tensor.min() <= 0):
        raise ValueError(wrong)
    return tensor


def _pair(value: Any, name: str) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in pair):
        raise ValueError(
            f"{name}: expected a positive int or two of them, got {validate.told(value)}"
        )
    return pair


def _colours(value: Any, name: str) -> int:
    if validate.count(value, name, 1) not in (1, 3):
        raise ValueError(f"{name}: expected 1 or 3, got {value}")
    return int(value)


def two_class(logit: Tensor) -> Tensor:
    """One logit (b,) or (b, 1) for "class 1" as two logits (b, 2) with the same probability.

    What is not finite stays so: the method that asks tells which image it was.

    Raises:
        TypeError, ValueError: for anything else; two logits already are what is wanted.
    """
    validate.instance(logit, Tensor, "logit", "a torch tensor")
    if logit.ndim != 1 and logit.shape[1:] != (1,):
        raise ValueError(f"logit: expected shape (b,) or (b, 1), got {tuple(logit.shape)}")
    if not logit.is_floating_point():
        raise TypeError(f"logit: expected floats, got {logit.dtype}")
    if logit.is_meta or logit.layout != torch.strided:
        raise TypeError(f"logit: expected numbers, got {logit.layout} on {logit.device}")
    positive = logit.reshape(-1)
    return torch.stack([torch.zeros_like(positive), positive], dim=1)


class OneLabel:
    """One label of a multi-label net as two classes, "without" and "with"; by ``one_label``."""

    def __init__(self, classifier: Any, label: int) -> None:
        self.classifier, self.label = classifier, label
        self._warned = False

    @property
    def module(self) -> Any:
        """The module inside, if there is one."""
        return _module_of(self.classifier)

    @property
    def device(self) -> torch.device | None:
        return getattr(self.classifier, "device", None)

    def __call__(self, images: Tensor) -> Tensor:
        images = validate.pixels(images)
        logits = validate.instance(self.classifier(images), Tensor, "classifier", "logits")
        if logits.ndim != 2 or logits.shape[1] <= self.label:
            raise ValueError(
                f"label: expected one of the logits (b, k), got {self.label} with "
                f"{tuple(logits.shape)}"
            )
        if not self._warned:
            self._warned = warn_of_probabilities(logits, "classifier")
        return two_class(logits[:, self.label])


def one_label(classifier: Classifier, label: int) -> OneLabel:
    """A classifier with two classes out of a net whose labels may hold all at once.

    Args:
        classifier: images -> logits (b, k), one for each label's own sigmoid.
        label: which of them.

    Returns:
        Images -> logits (b, 2): class 1 has the label's probability. Gradients pass through.
    """
    return OneLabel(as_classifier(classifier), validate.count(label, "label"))


class BlackBox(validate.BlackBoxed):
    """Hides the gradients of a classifier and counts the images it is asked about.

    Attributes:
        queries: number of images classified so far.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = as_classifier(classifier)
        self.queries = 0

    @property
    def module(self) -> Any:
        """The module inside, if there is one."""
        return _module_of(self.classifier)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the classes, if the classifier has any."""
        return getattr(self.classifier, "labels", None)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        images = validate.pixels(images)
        self.queries += len(images)
        return self.classifier(images)

    def __repr__(self) -> str:
        return f"BlackBox({self.classifier!r}, queries={self.queries})"


def _module_of(inner: Any) -> Any:
    return inner if isinstance(inner, nn.Module) else getattr(inner, "module", None)
