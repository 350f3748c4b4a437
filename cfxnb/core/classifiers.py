"""Make classifiers, which map images to logits (b, k), from networks, estimators and functions."""

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfxnb.core import validate
from cfxnb.core.images import COLOURS, SLACK
from cfxnb.core.memory import is_out_of_memory
from cfxnb.core.model_folder import Carded
from cfxnb.core.modes import standard_modes, standard_numbers
from cfxnb.core.outcomes import Outcomes, outcomes_of
from cfxnb.core.processors import read_processor
from cfxnb.core.types import Classifier
from cfxnb.core.warn import ProbabilityWatch

COMPARED = 32  # images on which the scores of an estimator are compared with its decisions
FLOAT_OUTPUTS = ("tensor(fl", "tensor(do")  # float16, float, double
TINY = 1e-37  # a probability of 0 becomes the log of this, which is finite
LARGEST_SIDE = 8192  # pixels; no network takes more
LARGEST_STD = 2.0  # in units of [0, 1]; those of bytes are about 20 to 80
LUMA = (0.299, 0.587, 0.114)  # red, green and blue in gray (ITU-R BT.601)


class Wrapped(Carded):
    """A classifier that maps images in [0, 1] to logits (b, k). Made by ``wrap``."""

    def __init__(
        self,
        function: Callable[[Tensor], Any],
        *,
        mean: Tensor | None = None,
        std: Tensor | None = None,
        size: tuple[int, int] | None = None,
        channels: int | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
        dtype: torch.dtype | None = None,
        class_names: tuple[str, ...] | None = None,
        probabilities: bool = False,
    ) -> None:
        self.function = function
        self.transform, self.dtype = transform, dtype
        self.mean, self.std, self.size, self.channels = mean, std, size, channels
        self.class_names, self.probabilities = class_names, probabilities
        known = isinstance(function, Estimator) or probabilities
        self._watch = ProbabilityWatch("module", needed=not known)
        self.widened = False  # whether the last output was a single logit

    def _stored(self) -> tuple[nn.Module, dict[str, Tensor | None], dict[str, Carded]]:
        return self.module, {}, {}

    @property
    def module(self) -> Any:
        """The torch module inside the classifier, or None."""
        return self.function if isinstance(self.function, nn.Module) else None

    @module.setter
    def module(self, value: nn.Module) -> None:
        self.function = value

    @property
    def device(self) -> torch.device:
        """Device of the module's weights, or the CPU if there is no torch module."""
        first = _first_float(self.module)
        return torch.device("cpu") if first is None else first.device

    @standard_numbers
    def __call__(self, images: Tensor) -> Tensor:
        return self._logits_of(validate.pixels(images))

    def _logits_of(self, images: Tensor) -> Tensor:
        """Return the logits (b, k) of images (b, c, h, w), which the caller has checked."""
        return self._logits(self._classify(images), images).to(images.device)

    def _classify(self, images: Tensor) -> Tensor:
        """Return the output of the network or function as a tensor."""
        x = self._prepared(images)
        if self.module is None:  # errors of a caller's function are not changed
            return _unpacked(self.function(x))
        with blaming_images(self._name(), x):
            out = self.function(x)
        return _unpacked(out)

    def _name(self) -> str:
        inner = getattr(self.function, "inner", self.function)
        return getattr(inner, "__name__", type(inner).__name__)

    def _prepared(self, images: Tensor) -> Tensor:
        """Copy images to the channels, size, normalisation, dtype and device of the network."""
        first = _first_float(self.module)
        x = images.to(self.device).clone()  # the network may change what it is given
        if x.is_floating_point():
            x = x.float()
        if self.channels is not None and x.ndim == 4:
            x = _in_channels(x, self.channels)
        if self.size is not None and x.shape[-2:] != self.size:
            x = F.interpolate(x, size=self.size, mode="bilinear", antialias=True)
        if self.transform is not None and x.ndim == 4:
            x = _transformed(self.transform, x)
        for part, name in ((self.mean, "mean"), (self.std, "std")):
            if part is not None and x.ndim == 4 and part.shape[1] not in (1, x.shape[1]):
                raise ValueError(
                    f"images: expected {part.shape[1]} channels, as {name} has, got {x.shape[1]}"
                )
        if self.mean is not None:
            x = x - self.mean.to(x)
        if self.std is not None:
            x = x / self.std.to(x)
        if self.dtype == torch.uint8:
            return (x.clamp(0, 1) * 255).round().to(torch.uint8)
        dtype = first.dtype if self.dtype is None and first is not None else self.dtype
        return x if dtype is None else x.to(dtype)

    def _logits(self, out: Tensor, images: Tensor) -> Tensor:
        """Return the output of a module or a function as float32 logits (b, k)."""
        rows = len(images)
        self.widened = single = out.ndim == 1 or (out.ndim == 2 and out.shape[1] == 1)
        if not self._watch.done and out.ndim and len(out) == rows and out.is_floating_point():
            flat = out.reshape(rows, -1)
            one = images[:1].detach().clone().requires_grad_()
            self._watch.see(flat, lambda: self._classify(one).reshape(1, -1))
        if self.probabilities:
            out = _log(out, single)
        found = validate.logits(two_logits(out) if single else out, rows, "module")
        if self.class_names is not None and len(self.class_names) != found.shape[1]:
            raise ValueError(
                f"class_names: expected {found.shape[1]} names, one per logit, got "
                f"{len(self.class_names)}"
            )
        return found

    def __repr__(self) -> str:
        return f"Wrapped({self._name()}, class_names={self.class_names})"


def _transformed(transform: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return the output of a caller's transform, after checking that it holds as many images."""
    out = transform(images)
    if not isinstance(out, Tensor) or out.ndim < 2 or len(out) != len(images):
        raise ValueError(
            f"transform: expected it to return a tensor (b, c, h, w) with {len(images)} images, "
            f"got {validate.describe(out)}"
        )
    if not out.is_floating_point():
        raise TypeError(
            f"transform: expected it to return floats, got {out.dtype}; the dtype of the network's "
            "input is the argument dtype"
        )
    return out.to(images.device)


@contextlib.contextmanager
def blaming_images(name: str, x: Tensor | np.ndarray) -> Iterator[None]:
    """Turn errors in the ``with`` block into a ValueError about the images, their usual cause."""
    try:
        yield
    except (Warning, MemoryError, OSError):
        raise
    except Exception as error:
        plain = type(error) in (RuntimeError, NotImplementedError)
        if is_out_of_memory(error) or (isinstance(error, RuntimeError) and not plain):
            raise  # out of memory, or an error of the device
        raise ValueError(
            f"images: expected such as {name} takes, got {tuple(x.shape)}, {x.dtype}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _unpacked(out: Any) -> Tensor:
    """Return the logits in a network's output: a tensor, a dict, or an object with .logits."""
    out = out.get("logits", out) if isinstance(out, Mapping) else out
    out = getattr(out, "logits", out)  # transformers return an object with .logits
    out = validate.tensor_of(out, "module")
    return validate.instance(out, Tensor, "module", "logits as a torch tensor")


def _first_float(module: Any) -> Tensor | None:
    """Return the first floating-point weight, which shows the network's dtype and device."""
    tensors = () if module is None else (*module.parameters(), *module.buffers())
    return next((t for t in tensors if t.is_floating_point()), None)


def _in_channels(x: Tensor, channels: int) -> Tensor:
    """Repeat gray images to three channels, or convert colour to gray."""
    if x.shape[1] == channels:
        return x
    if x.shape[1] == 1:
        return x.expand(-1, channels, -1, -1)
    if (x.shape[1], channels) == (3, 1):
        return (x * x.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    raise ValueError(f"images: expected {channels} channels, or 1 or 3, got {x.shape[1]}")


def _log(p: Tensor, single: bool) -> Tensor:
    """Convert probabilities to logits.

    With ``single=True``, ``p`` holds only the probability of class 1.
    """
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
    transform: Callable[[Tensor], Tensor] | None = None,
    dtype: torch.dtype | None = None,
    processor: Any = None,
    class_names: Sequence[str] | Mapping[Any, Any] | None = None,
    probabilities: bool = False,
) -> Wrapped:
    """Make a classifier from a module, an estimator, a session or a function.

    Args:
        module: A torch module (timm, torchvision, transformers, scripted, quantised, your own), a
            fitted scikit-learn classifier, an ONNX Runtime session, or a function. The module
            returns logits (b, k), or a single logit (b,) or (b, 1), which is widened to two
            classes. If the output has a ``.logits`` attribute, the wrapper uses this attribute.
            Estimators get flattened images (b, c * h * w) as numpy arrays, sessions get float32
            arrays (b, c, h, w). An image classification pipeline of transformers stands for its
            model and its image processor.
        mean, std: Normalisation of images in [0, 1] that the module was trained with. Pass one
            number, or one number per channel. Images are not shifted if ``mean`` is None, and not
            divided if ``std`` is None.
        size: Height and width to which images are resized (bilinear, antialiased) for the module.
            If ``size`` is None, images are not resized.
        channels: Number of channels that the module expects, 1 or 3. The wrapper repeats gray
            images to three channels, or converts colour images to gray. If ``channels`` is None,
            the number of channels is not changed.
        transform: Function that maps float images (b, c, h, w) in [0, 1] to what is normalised by
            ``mean`` and ``std`` and given to the module, such as a crop or a transform of
            torchvision. It is called after ``channels`` and ``size``. Gradients pass if it is made
            of torch operations. If ``transform`` is None, nothing is done.
        dtype: dtype of the module's input: a float dtype, or ``torch.uint8`` for bytes from 0 to
            255, through which no gradient passes. Default: the dtype of the module's weights, or
            float32 without weights.
        processor: Image processor of a transformers model. If it is given, the size, the crop, the
            mean and the standard deviation are read from it. The processor itself is never called,
            so that gradients pass. ``mean``, ``std``, ``size`` and ``transform`` must be None.
        class_names: Names of the classes in order, or a dict such as ``config.id2label``. If
            ``class_names`` is None, the wrapper uses the names in a transformers model or in an
            estimator. An estimator whose classes are numbers other than 0, 1, ... needs names.
        probabilities: Set to True if the module returns probabilities. With ``probabilities=True``,
            the wrapper returns the logarithm of the probabilities as logits.

    Returns:
        A callable that maps float images (b, c, h, w) in [0, 1] to float32 logits (b, k) on the
        device of the images. The network gets a copy of the images, with the dtype and device of
        the network's weights. Gradients pass through torch modules and functions. The wrapper does
        not change the training mode, but the methods of this package switch to evaluation mode
        while they run. If the module fails on the images, the callable raises ValueError with the
        reason.

    Warns:
        UserWarning: If outputs look like probabilities, unless ``probabilities=True``.
    """
    named = validate.optional(validate.class_names, class_names, "class_names")
    if is_pipeline(module):
        module, processor = module.model, processor or module.image_processor
    function, names, gives_probabilities = _adapted(module, named is not None)
    return Wrapped(
        function,
        **wrapping_options(mean, std, size, channels, transform, dtype, processor),
        class_names=names if named is None else named,
        probabilities=validate.flag(probabilities, "probabilities") or gives_probabilities,
    )


def wrapping_options(
    mean: Any, std: Any, size: Any, channels: Any, transform: Any, dtype: Any, processor: Any
) -> dict[str, Any]:
    """Check how images are prepared for a network, and return the options of ``Wrapped``."""
    if processor is not None:
        own = {"mean": mean, "std": std, "size": size, "transform": transform}
        if given := [name for name, value in own.items() if value is not None]:
            raise ValueError(
                f"processor: expected none of mean, std, size and transform beside it, got "
                f"{', '.join(given)}"
            )
        transform = read_processor(processor)
        mean, std = transform.mean, transform.std
    if dtype is torch.uint8 and not (mean is None and std is None):
        raise ValueError(
            "dtype: expected a float dtype beside mean, std or processor, got torch.uint8; a "
            "network that takes bytes normalises them itself"
        )
    return {
        "transform": validate.optional(validate.function, transform, "transform"),
        "dtype": validate.optional(_input_dtype, dtype, "dtype"),
        "mean": validate.optional(_channels, mean, "mean"),
        "std": validate.optional(_channels, std, "std"),
        "size": validate.optional(_pair, size, "size"),
        "channels": validate.optional(_colours, channels, "channels"),
    }


def is_pipeline(value: Any) -> bool:
    """Return whether the value is an image pipeline of transformers, which is no classifier."""
    parts = ("model", "image_processor", "preprocess", "postprocess")
    return not isinstance(value, nn.Module) and all(hasattr(value, part) for part in parts)


def _input_dtype(value: Any, name: str) -> torch.dtype:
    """Return a dtype for the input of a network."""
    floats = isinstance(value, torch.dtype) and value.is_floating_point and value.itemsize > 1
    if not floats and value is not torch.uint8:
        raise ValueError(
            f"{name}: expected a float dtype such as torch.float16, or torch.uint8, got "
            f"{validate.describe(value)}"
        )
    found: torch.dtype = value
    return found


def as_classifier(value: Any, name: str = "classifier") -> Any:
    """Return a function unchanged, and pass networks, estimators and sessions to ``wrap``."""
    if outcomes_of(value) is not None:
        raise TypeError(
            f"{name}: expected a classifier, got a regression model; pass a goal as target, such "
            "as cfx.raise_to(0.8), or make a classifier by cfx.select_goal(model, goal)"
        )
    if isinstance(value, nn.Module) or is_estimator(value) or is_session(value):
        return wrap(value)
    _refuse_unfitted(value, name)
    return validate.function(value, name)


def class_names_of(classifier: Any) -> tuple[str, ...] | None:
    """Return the attribute ``class_names`` of a classifier, or None if it holds no names."""
    names = getattr(classifier, "class_names", None)
    try:
        return validate.optional(validate.class_names, names, "class_names")
    except (ValueError, TypeError):  # something else has that name
        return None


def _adapted(module: Any, named: bool) -> tuple[Any, tuple[str, ...] | None, bool]:
    """Return a function of images, its class names, and whether it returns probabilities."""
    if isinstance(module, nn.Module):
        return module, _class_names_of_config(module), False
    if is_estimator(module):
        made = Estimator(module, named)
        return made, made.class_names, made.gives_probabilities
    if is_session(module):
        return Session(module), None, False
    _refuse_unfitted(module, "module")
    if isinstance(module, type) or not callable(module):
        raise TypeError(
            "module: expected a torch module, an estimator, an ONNX session or a function, got "
            f"{validate.describe(module)}"
        )
    return module, class_names_of(module), False


def _refuse_unfitted(value: Any, name: str) -> None:
    """Refuse an estimator that is not fitted, or that has no score per class."""
    if callable(value) or not (hasattr(value, "fit") and hasattr(value, "predict")):
        return
    raise TypeError(
        f"{name}: expected a fitted classifier with predict_proba or decision_function, got "
        f"{type(value).__name__}; call fit first, and use a classifier, no regressor (a "
        "VotingClassifier needs voting='soft')"
    )


def _class_names_of_config(module: nn.Module) -> tuple[str, ...] | None:
    """Return the names in a transformers config, but not its placeholders LABEL_0, LABEL_1, ..."""
    names = getattr(getattr(module, "config", None), "id2label", None)
    if not isinstance(names, Mapping) or all(str(n).startswith("LABEL_") for n in names.values()):
        return None
    try:
        return validate.names(names, "class_names")
    except (ValueError, TypeError):  # a config that does not number its labels
        return None


def is_estimator(value: Any) -> bool:
    """Return whether the value is a fitted classifier with the interface of scikit-learn."""
    scores = hasattr(value, "predict_proba") or hasattr(value, "decision_function")
    return scores and not isinstance(value, type | nn.Module) and hasattr(value, "classes_")


def is_session(value: Any) -> bool:
    """Return whether the value is an inference session of ONNX Runtime."""
    return all(hasattr(value, each) for each in ("run", "get_inputs", "get_outputs"))


class Estimator:
    """A fitted scikit-learn classifier as a function of images.

    Args:
        estimator: The classifier.
        named: Whether the caller gives names for the classes.
        multi_label: Whether several labels of one image may be true.
    """

    def __init__(self, estimator: Any, named: bool = False, multi_label: bool = False) -> None:
        self.estimator = self.inner = estimator
        self.multi_label = multi_label
        self.gives_probabilities = hasattr(estimator, "predict_proba")
        self.classes = _classes_of(estimator)
        self.class_names: tuple[str, ...] | None = None
        if self.classes.dtype.kind in "OUT":
            self.class_names = tuple(map(str, self.classes.tolist()))
        elif not named and self.classes.tolist() != list(range(len(self.classes))):
            listed = str([str(c) for c in self.classes.tolist()])[:200]
            raise ValueError(
                f"module: expected an estimator of the classes 0, 1, ..., got classes_ {listed}; "
                "classes are numbered from 0 here, so give names: cfx.wrap(estimator, "
                f"class_names={listed})"
            )
        self._compared = 0

    def __call__(self, images: Tensor) -> Tensor:
        rows = images.detach().cpu().flatten(1).numpy()
        ask = "predict_proba" if self.gives_probabilities else "decision_function"
        with blaming_images(type(self.estimator).__name__, images):
            found = np.asarray(getattr(self.estimator, ask)(rows))
        columns = (len(images), len(self.classes))
        single = found.shape in ((len(images),), (len(images), 1)) and columns[1] == 2
        if found.shape != columns and not single:
            raise ValueError(
                f"module: expected {ask} of shape {columns}, one column for each of classes_, got "
                f"{found.shape}; for an SVC use decision_function_shape='ovr'"
            )
        if self._compared < COMPARED and hasattr(self.estimator, "predict"):
            self._compare(rows[:COMPARED], found[:COMPARED])
        return torch.from_numpy(found.astype(np.float64))

    def _compare(self, rows: np.ndarray, found: np.ndarray) -> None:
        """Warn or raise an error if scores contradict the ``predict`` of the estimator."""
        self._compared += len(rows)
        read = np.asarray(self.estimator.predict(rows))
        if read.ndim != 1:
            if not self.multi_label:
                raise ValueError(
                    "module: expected an estimator whose classes exclude each other, got one "
                    "with several true labels; select one: cfx.select_label(estimator, 0)"
                )
            return
        flat = found.reshape(len(found), -1)
        even = 0.5 if self.gives_probabilities else 0.0  # a single score for two classes
        best = flat.argmax(1) if flat.shape[1] > 1 else (flat[:, 0] > even).astype(int)
        other = int((self.classes[best] != read).sum())
        if not other:
            return
        text = f"its scores contradict predict for {other} of {len(rows)} images"
        if self.gives_probabilities:  # as those of an SVC with probability=True
            warnings.warn(f"module: {text}; the probabilities are used", stacklevel=5)
        else:
            raise ValueError(
                f"module: expected decision_function with one column per class, but {text}; for an "
                "SVC use decision_function_shape='ovr'"
            )


def _classes_of(estimator: Any) -> np.ndarray:
    """Return the classes of an estimator, in the order of the columns of its scores.

    Raises:
        ValueError: If the estimator has fewer than two classes, or several outputs.
    """
    wrong = "module: expected an estimator with two classes or more, got {} as classes_ of {}"
    kind, listed = type(estimator).__name__, estimator.classes_
    several = isinstance(listed, list | tuple) and any(np.ndim(each) for each in listed)
    if listed is None or several:
        came = "those of several outputs" if several else "None"
        raise ValueError(wrong.format(came, kind) + "; use one estimator for each output")
    classes = np.asarray(listed)
    if classes.ndim != 1 or len(classes) < 2:
        raise ValueError(wrong.format(str(classes)[:80], kind))
    if _is_one_against_one(estimator, len(classes)):
        raise ValueError(
            "module: expected decision_function with one column per class, got "
            "decision_function_shape='ovo', which has one for each pair; set it to 'ovr'"
        )
    return classes


def _is_one_against_one(estimator: Any, classes: int) -> bool:
    """Return whether an SVC, perhaps in a pipeline, gives a score for each pair of classes."""
    last = getattr(estimator, "best_estimator_", estimator)
    last = last[-1] if hasattr(last, "steps") else last
    pairs = getattr(last, "decision_function_shape", None) == "ovo" and classes > 2
    return pairs and not hasattr(estimator, "predict_proba")


NUMBERS = {"float16": np.float16, "float": np.float32, "double": np.float64, "uint8": np.uint8}


class Session:
    """An ONNX Runtime session with one image input, as a function of images.

    Images get the dtype and the shape of the session's input. Inputs with channels last or with a
    fixed batch size are supported.
    """

    def __init__(self, session: Any) -> None:
        inputs = session.get_inputs()
        if len(inputs) != 1:
            names = [i.name for i in inputs]
            raise ValueError(f"module: expected a session with one input, got {names}")
        self.session = self.inner = session
        self.input, kind = inputs[0].name, str(getattr(inputs[0], "type", "tensor(float)"))
        self.type = NUMBERS.get(kind.removeprefix("tensor(").removesuffix(")"))
        if self.type is None:
            raise TypeError(f"module: expected an input of floats or bytes, got {kind}")
        sides = getattr(inputs[0], "shape", None) or [None] * 4
        self.shape = [side if isinstance(side, int) and side > 0 else None for side in sides]
        self.output = _output_of(session)

    def __call__(self, images: Tensor) -> Tensor:
        if len(self.shape) != images.ndim:
            raise ValueError(
                f"module: expected a session that takes (b, c, h, w), got an input of shape "
                f"{self.shape}"
            )
        x = images.detach().cpu().numpy()
        if self.shape[1] not in COLOURS and self.shape[3] in COLOURS:
            x = x.transpose(0, 2, 3, 1)
        wrong = [want for want, got in zip(self.shape[1:], x.shape[1:], strict=True) if want != got]
        if any(want is not None for want in wrong):
            raise ValueError(
                f"images: expected such as the session takes, {self.shape}, got {x.shape}; "
                "cfx.wrap(..., size=, channels=) makes them fit"
            )
        if self.type is np.uint8:
            if x.min() < -SLACK or x.max() > 1 + SLACK:
                raise ValueError(
                    "module: expected no normalisation before a session that takes bytes, got "
                    f"{x.min():.4g} to {x.max():.4g} after it; leave out mean and std"
                )
            x = (x.clip(0, 1) * 255).round()
        x = np.ascontiguousarray(x.astype(self.type))
        rows = self.shape[0] or len(x)
        parts = [self._run(x[i : i + rows], rows) for i in range(0, len(x), rows)]
        return torch.cat([validate.tensor_of(part, "module") for part in parts])

    def _run(self, x: np.ndarray, rows: int) -> np.ndarray:
        """Run the session on ``rows`` images.

        If the batch is smaller, its last image is repeated.
        """
        filled = np.concatenate([x, x[-1:].repeat(rows - len(x), 0)]) if len(x) < rows else x
        with blaming_images("the session", x):
            out = np.asarray(self.session.run([self.output], {self.input: filled})[0])
        if out.dtype.kind not in "fiu" or len(out) != len(filled):
            raise ValueError(
                f"module: expected {len(filled)} rows of numbers from the session, got "
                f"{out.dtype} of shape {out.shape}"
            )
        return out[: len(x)]


def _output_of(session: Any) -> str:
    """Return the name of a session's only float output, or of its only output called logits."""
    outputs = session.get_outputs()
    floats = [o.name for o in outputs if getattr(o, "type", "tensor(fl")[:9] in FLOAT_OUTPUTS]
    named = [name for name in floats if "logits" in name.lower()]
    for found in (floats, named):
        if len(found) == 1:
            return found[0]
    raise ValueError(
        f"module: expected a session with one output of floats, or one that is called logits, got "
        f"{[o.name for o in outputs]}; pass a function that picks one"
    )


def _channels(value: Any, name: str) -> Tensor:
    rule = "positive finite numbers" if name == "std" else "finite numbers"
    wrong = f"{name}: expected {rule}, one or one per channel, got {validate.describe(value)}"
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # text, or unequal lengths
        raise TypeError(wrong) from None
    if tensor.dtype == torch.bool or tensor.is_complex() or not validate.is_plain(tensor):
        raise TypeError(wrong)
    tensor = tensor.detach().to(torch.float32).reshape(1, -1, 1, 1)
    if not tensor.numel() or not tensor.isfinite().all() or (name == "std" and tensor.min() <= 0):
        raise ValueError(wrong)
    high = 1.0 if name == "mean" else LARGEST_STD
    if tensor.min() < 0 or tensor.max() > high:
        raise ValueError(
            f"{name}: expected numbers in units of [0, 1], at most {high:g}, got "
            f"{validate.describe(value)}; divide those for bytes by 255"
        )
    return tensor


def _pair(value: Any, name: str) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    try:
        height, width = (validate.count(v, name, 1, LARGEST_SIDE) for v in pair)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name}: expected a positive int or two of them, at most {LARGEST_SIDE}, got "
            f"{validate.describe(value)}"
        ) from None
    return height, width


def _colours(value: Any, name: str) -> int:
    if validate.count(value, name, 1) not in (1, 3):
        raise ValueError(f"{name}: expected 1 or 3, got {value}")
    return int(value)


def two_logits(logit: Tensor) -> Tensor:
    """Widen one logit (b,) or (b, 1) of class 1 to two logits (b, 2) with the same probability.

    A logit that is NaN or infinite is kept, so that the calling method can report the image.

    Raises:
        TypeError, ValueError: If ``logit`` has another shape, or is not a float tensor.
    """
    validate.instance(logit, Tensor, "logit", "a torch tensor")
    if logit.ndim != 1 and logit.shape[1:] != (1,):
        raise ValueError(f"logit: expected shape (b,) or (b, 1), got {tuple(logit.shape)}")
    positive = validate.float_tensor(logit, "logit").reshape(-1)
    return torch.stack([torch.zeros_like(positive), positive], dim=1)


class _Around:
    """Base class of ``SelectLabel`` and ``BlackBox``, which call another classifier."""

    classifier: Any

    @property
    def module(self) -> Any:
        """The torch module inside the classifier, or None."""
        inner = self.classifier
        return inner if isinstance(inner, nn.Module) else getattr(inner, "module", None)

    @standard_numbers
    def __call__(self, images: Tensor) -> Tensor:
        return self._logits_of(validate.pixels(images).clone())

    def _logits_of(self, images: Tensor) -> Tensor:
        """Return the logits (b, k) of images (b, c, h, w), which the caller has checked."""
        raise NotImplementedError


class SelectLabel(_Around):
    """A classifier with two classes: "without" and "with" one label of a multi-label network."""

    def __init__(self, classifier: Any, label: int) -> None:
        self.classifier, self.label = classifier, label
        inside = watch_of(classifier)  # a wrapped classifier notices probabilities itself
        self._own = inside is None
        self._watch = ProbabilityWatch("classifier") if inside is None else inside
        self._checked = False

    @property
    def device(self) -> torch.device | None:
        return getattr(self.classifier, "device", None)

    def _logits_of(self, images: Tensor) -> Tensor:
        return two_logits(self._logit(unchecked_call(self.classifier)(images), images))

    def _logit(self, logits: Any, images: Tensor) -> Tensor:
        """Return the logit of the selected label, (b,)."""
        logits = validate.tensor_of(logits, "classifier")
        logits = validate.instance(logits, Tensor, "classifier", "logits")
        if logits.ndim != 2 or logits.shape[1] <= self.label:
            raise ValueError(
                f"label: expected one of the logits (b, k), got {self.label} with "
                f"{tuple(logits.shape)}"
            )
        logit = logits[:, self.label]
        inner = innermost(self.classifier)
        if getattr(inner, "widened", False):
            if self.label == 0:
                raise ValueError(
                    "label: expected 1, as the classifier has a single logit, which is that of "
                    "class 1, got 0"
                )
            return logit
        if getattr(inner, "probabilities", False):  # these are logarithms of probabilities
            certain = logit.clamp_max(-1e-7)
            return certain - torch.log(-torch.expm1(certain))
        if not self._checked:
            self._checked = True
            if len(logits) and (logits.detach().float().logsumexp(1).abs() < 1e-4).all():
                raise ValueError(
                    "classifier: expected one logit for each label's own sigmoid, got logarithms "
                    "of probabilities that add up to 1; pass their exp to "
                    "cfx.wrap(..., probabilities=True)"
                )
        if self._own and not self._watch.done:
            self._watch.see(logit[:, None], lambda: with_gradient(inner, images[:1]))
        return logit


def select_label(classifier: Classifier, label: int | str) -> SelectLabel:
    """Make a two-class classifier from one label of a multi-label network.

    Args:
        classifier: Maps images to logits (b, k) of k labels, with one sigmoid per label. If the
            classifier was wrapped with ``probabilities=True``, the label's probability is used.
        label: Number or name of the label.

    Returns:
        A callable that maps images to logits (b, 2). The probability of class 1 is the probability
        of the label. Gradients pass through.
    """
    inner = as_classifier(classifier)
    function = getattr(inner, "function", None)
    if isinstance(function, Estimator):  # an estimator may have several true labels, too
        inner = copy.copy(inner)
        inner.function = Estimator(function.estimator, named=True, multi_label=True)
    if isinstance(label, str):
        names = class_names_of(inner) or ()
        label = int(validate.labels(label, 1, max(len(names), 1), "label", names))
    return SelectLabel(inner, validate.count(label, "label"))


class BlackBox(_Around, validate.BlackBoxed):
    """Hides the gradients of a classifier and counts the images that it classifies.

    A regression model from ``cfx.wrap_regression`` may stand in place of the classifier.

    Attributes:
        n_queries: Number of images classified so far.
    """

    def __init__(self, classifier: Classifier) -> None:
        is_regression = outcomes_of(classifier) is not None
        self.classifier = classifier if is_regression else as_classifier(classifier)
        self.n_queries = 0

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, if the classifier has any."""
        return class_names_of(self.classifier)

    @property
    def outcomes(self) -> Outcomes | None:
        """Names and units of the outcomes, if the box holds a regression model."""
        return outcomes_of(self.classifier)

    @torch.no_grad()
    def _logits_of(self, images: Tensor) -> Tensor:
        self.n_queries += len(images)
        return unchecked_call(self.classifier)(images)

    def __repr__(self) -> str:
        return f"BlackBox({self.classifier!r}, n_queries={self.n_queries})"


def unchecked_call(classifier: Any) -> Callable[[Tensor], Any]:
    """Return a function that classifies images which were checked before, without a new check.

    Only ``Wrapped``, ``SelectLabel`` and ``BlackBox`` can classify without a check. All other
    classifiers, also subclasses of ``Wrapped``, ``SelectLabel`` and ``BlackBox``, are returned
    unchanged.
    """
    own = type(classifier) in (Wrapped, SelectLabel, BlackBox)
    return classifier._logits_of if own else classifier


def innermost(classifier: Any) -> Any:
    """Return the classifier inside all ``BlackBox`` wrappers."""
    while isinstance(classifier, BlackBox):
        classifier = classifier.classifier
    return classifier


def watch_of(classifier: Any) -> ProbabilityWatch | None:
    """Return the ProbabilityWatch inside a wrapped classifier, or None for other classifiers."""
    found = getattr(innermost(classifier), "_watch", None)
    return found if isinstance(found, ProbabilityWatch) else None


def with_gradient(classifier: Any, image: Tensor) -> Tensor:
    """Return the logits of one image with a gradient, even if the classifier is a black box."""
    image = image.detach().clone().requires_grad_()
    out = unchecked_call(innermost(classifier))(image)
    return validate.instance(out, Tensor, "classifier").reshape(1, -1)
