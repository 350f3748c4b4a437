"""Check arguments.

Each error message names the argument, the expected value, and the value that was passed.
"""

import contextlib
import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Sized
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cfxnb.core.images import as_images, native

T = TypeVar("T")


class BlackBoxed:
    """Base class of ``cfxnb.BlackBox``, so that this module can recognise it."""


def describe(value: Any) -> str:
    """Describe a value for a message: its type and the beginning of its repr."""
    try:
        shown = repr(value)
    except Exception:  # a repr may raise any error, and so do huge numbers
        shown = ""
    return f"{type(value).__name__} {shown}"[:80].rstrip()


def instance(value: Any, kind: type, name: str, what: str = "") -> Any:
    """Return the value if it has type ``kind``. ``what`` describes the type in the error."""
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {what or kind.__name__}, got {type(value).__name__}")
    return value


def optional(check: Callable[[Any, str], T], value: Any, name: str) -> T | None:
    """Return None for None, and ``check(value, name)`` for any other value."""
    return None if value is None else check(value, name)


def images(value: Any, name: str = "images") -> Tensor:
    """Return images as float32 (b, c, h, w) in [0, 1], b >= 1. See ``core.images``."""
    return as_images(value, name)


def pixels(value: Any, name: str = "images") -> Tensor:
    """Check images as the function ``images`` does, but keep their gradient for a network."""
    return as_images(value, name, live=True)


def listed(value: Any, name: str, what: str) -> list[Any]:
    """Return an iterable with one entry per image as a list."""
    wrong = TypeError(f"{name}: expected a list of {what}, one per image, got {describe(value)}")
    if isinstance(value, str | bytes | Mapping | set | frozenset):
        raise wrong
    try:
        return list(value)
    except TypeError:
        raise wrong from None


def batches(value: Any, name: str = "images") -> Any:
    """Return the value if it is an iterable of image batches, and raise TypeError otherwise."""
    wrong = TypeError(f"{name}: expected images, or an iterator of batches, got {describe(value)}")
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise wrong
    if isinstance(value, Sized) and (not getattr(value, "ndim", 1) or not len(value)):
        raise wrong
    return value


def floats(value: Any, name: str) -> Tensor:
    """Check that the value is a float tensor (b, c, h, w), and return it with its gradient."""
    instance(value, Tensor, name, "a torch tensor")
    if not value.is_floating_point() or not is_plain(value) or value.ndim != 4:
        raise ValueError(
            f"{name}: expected floats of shape (b, c, h, w), got {value.dtype} of shape "
            f"{tuple(value.shape)}"
        )
    return value


def is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor stores its numbers: not sparse, quantised or on the meta device."""
    return tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized


def float_tensor(value: Any, name: str, what: str = "a torch tensor") -> Tensor:
    """Return a float tensor that stores its numbers, and raise TypeError for any other value."""
    tensor: Tensor = instance(value, Tensor, name, what)
    if not tensor.is_floating_point() or not is_plain(tensor):
        came = f"{tensor.dtype}, {tensor.layout} on {tensor.device}"
        raise TypeError(f"{name}: expected floats, got {came}")
    return tensor


def having(value: Any, parts: Sequence[str], name: str, wanted: str) -> None:
    """Raise TypeError if the value lacks one of the attributes ``parts``.

    ``wanted`` describes the value in the message.
    """
    if missing := [part for part in parts if not hasattr(value, part)]:
        came = f"{type(value).__name__} without {', '.join(missing)}"
        raise TypeError(f"{name}: expected {wanted}, got {came}{_old_names(value, missing)}")


def sizes(value: Any, name: str, wanted: str) -> tuple[int, ...]:
    """Return the sizes of the axes in ``wanted``, such as "(c, h, w)", from 1 to 100,000 each."""
    listed_sizes = listed(value, name, "sizes")
    if len(listed_sizes) != wanted.count(",") + 1:
        raise ValueError(f"{name}: expected {wanted}, got {describe(value)}")
    return tuple(count(size, name, 1, 10**5) for size in listed_sizes)


def stops(value: Any) -> bool:
    """Return the result of ``on_step`` as bool. True stops the search, False or None does not."""
    if value is None or isinstance(value, bool | np.bool_):
        return bool(value)
    raise TypeError(f"on_step: expected True, False or None from it, got {describe(value)}")


def logits(value: Any, rows: int, name: str = "classifier", classes: int | None = None) -> Tensor:
    """Return the logits of ``rows`` images as float32 (rows, k) for k >= 2 classes.

    Logits may be NaN or infinite; ``tensors.predicted`` returns -1 for images with such logits.

    Args:
        value: Output of a classifier.
        rows: Number of images.
        name: Name of the classifier, for messages.
        classes: Number of classes k, if known from an earlier call.
    """
    value = instance(tensor_of(value, name), Tensor, name, "logits as a torch tensor")
    if value.ndim != 2 or value.shape[0] != rows or value.shape[1] < 2:
        raise ValueError(
            f"{name}: expected logits of shape ({rows}, k) with k >= 2, got {tuple(value.shape)}; "
            "cfx.wrap widens a single-logit head"
        )
    if classes is not None and value.shape[1] != classes:
        raise ValueError(
            f"{name}: expected logits of {classes} classes as before, got {value.shape[1]}"
        )
    float_tensor(value, name)
    # A tensor from torch.inference_mode cannot be used with autograd.
    return (value.clone() if value.is_inference() else value).float()


def tensor_of(value: Any, name: str) -> Any:
    """Return a numpy array of numbers as a tensor. Other values are returned unchanged."""
    if not isinstance(unmasked(value, name), np.ndarray) or value.dtype.kind not in "fiub":
        return value
    return torch.from_numpy(native(value))


def unmasked(value: Any, name: str) -> Any:
    """Return the value, but refuse a masked array, because numpy would ignore its mask."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: expected plain numbers, got a masked array; use .filled() to say what is "
            "masked, or leave it out"
        )
    return value


def finite_logits(logits: Tensor, name: str = "classifier") -> Tensor:
    """Return the logits (b, k), and raise ValueError if any of them is not finite."""
    wrong = int((~logits.isfinite().all(1)).sum())
    if wrong:
        raise ValueError(
            f"{name}: expected finite logits, got NaN or infinity for {wrong} of {len(logits)} "
            "images"
        )
    return logits


def labels(
    value: Any, rows: int, classes: int, name: str = "target", names: Sequence[str] | None = None
) -> Tensor:
    """Return one class per image, int64 (rows,) in [0, classes).

    If the caller passes a single class, this class applies to all images.

    Args:
        value: Class numbers from 0, as an int, a list, an array or a tensor, or names of classes.
        rows, classes: Number of images and of classes.
        name: Name of the argument, for messages.
        names: Names of the classes, if known.
    """
    tensor = _classes(value, name, names)
    if tensor.ndim == 0:
        tensor = tensor.expand(rows)
    if tensor.shape != (rows,):
        raise ValueError(f"{name}: expected shape ({rows},), got {tuple(tensor.shape)}")
    if rows and not (tensor.min().item() >= 0 and tensor.max().item() < classes):
        low, high = tensor.min().item(), tensor.max().item()
        came = f"{low}" if low == high else f"{low} to {high}"
        raise ValueError(f"{name}: expected classes from 0 to {classes - 1}, got {came}")
    return tensor


def _classes(value: Any, name: str, names: Sequence[str] | None) -> Tensor:
    wrong = TypeError(f"{name}: expected an int or an integer tensor, got {describe(value)}")
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
            raise TypeError(f"{name}: expected integer classes, got {value.dtype}")
        if not is_plain(value):
            raise wrong
        return value.detach().to(torch.int64)
    if isinstance(value, Mapping | set | frozenset) or value is None:
        raise wrong
    array = _as_array(value, name, wrong)
    if array.dtype.kind == "O" and array.size and all(_is(v, int) for v in array.flat):
        fitting = [max(-(2**62), min(int(v), 2**62)) for v in array.flat]
        array = np.array(fitting, np.int64).reshape(array.shape)
    known = [str(n) for n in names or ()]
    if array.dtype.kind in "OU" and array.size and all(isinstance(v, str) for v in array.flat):
        if not known:
            raise ValueError(
                f"{name}: expected class numbers, because this classifier has no class names, got "
                f"{describe(str(array.flat[0]))}; add them by cfx.wrap(..., class_names=[...])"
            )
        if unknown := [v for v in array.flat if v not in known]:
            raise ValueError(
                f"{name}: expected class numbers, or names out of {str(known)[:200]}, "
                f"got {describe(str(unknown[0]))}"
            )
        if len(set(known)) < len(known):
            raise ValueError(f"{name}: expected class numbers, as names occur twice in {known}")
        array = np.array([known.index(v) for v in array.flat]).reshape(array.shape)
    elif array.dtype.kind in "iu":
        _refuse_other_names(array, name, known)
    if array.dtype.kind not in "iu":
        raise wrong
    return torch.from_numpy(array.astype(np.int64))


def _as_array(value: Any, name: str, wrong: TypeError) -> np.ndarray:
    """Return a tensor, an array or a list as an array, and raise ``wrong`` for other values."""
    if isinstance(value, Tensor):
        if not is_plain(value):
            raise wrong
        value = value.detach().cpu()
        value = value.double() if value.is_floating_point() else value  # bfloat16 is not in numpy
    value = unmasked(value, name)
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # lists of unequal lengths
        raise wrong from None


def _refuse_other_names(numbers: np.ndarray, name: str, known: list[str]) -> None:
    """Refuse the number of a class if it is the name of another class.

    Class numbers in a tensor are never refused, because ``argmax`` counts from 0.
    """
    for number in np.unique(numbers).tolist():
        own_name = 0 <= number < len(known) and known[number] == str(number)
        if str(number) in known and not own_name:
            raise ValueError(
                f"{name}: expected a name of a class, as numbers count from 0 and the classes are "
                f"called {str(known)[:200]}, got {number}; pass {str(number)!r} for the class of "
                "that name, or a torch tensor of numbers"
            )


LARGEST_NUMBER = 1e30


def number(
    value: Any, name: str, low: float, high: float = math.inf, *, open_low: bool = False
) -> float:
    """Return a finite number in [low, high], or in (low, high] with ``open_low=True``.

    Numbers beyond ``LARGEST_NUMBER`` are refused, because float32 overflows. If 0 is not allowed,
    positive numbers below 1 / ``LARGEST_NUMBER`` are refused, too."""
    low, high = max(low, -LARGEST_NUMBER), min(high, LARGEST_NUMBER)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {describe(value)}")
    try:
        # float32 numbers are converted as they are written: 0.382 is not 0.38199999928.
        short = isinstance(value, np.floating) and not isinstance(value, np.float64)
        value = float(str(value)) if short else float(value)
    except OverflowError:
        value = math.inf
    zero = open_low and low == 0 and value < 1 / LARGEST_NUMBER
    inside = low < value <= high if open_low else low <= value <= high  # False for NaN
    if not inside or zero:
        left = "(" if open_low else "["
        raise ValueError(f"{name}: expected a number in {left}{low}, {high}], got {value!r}")
    return value


LARGEST = 2**31 - 1  # largest count; a larger one is a mistake
LARGEST_SEED = 2**63 - 1  # largest seed of torch's generators


def count(value: Any, name: str, low: int = 0, high: int = LARGEST) -> int:
    """Return the value as an int if it is an integer in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected a whole number, got {describe(value)}")
    number = int(value)
    if number < low:
        came = number if number > -LARGEST else describe(number)
        raise ValueError(f"{name}: expected a whole number >= {low}, got {came}")
    if number > high:
        raise ValueError(f"{name}: expected a whole number <= {high}, got {describe(number)}")
    return number


def odd(value: Any, name: str) -> int:
    """Return the value as an int if it is an odd integer, 1 or larger."""
    number = count(value, name, 1)
    if not number % 2:
        raise ValueError(f"{name}: expected an odd number, got {number}")
    return number


def seed(value: Any, name: str = "seed") -> int:
    """Return the value if it is an integer that can seed torch's random generators."""
    return count(value, name, 0, LARGEST_SEED)


def flag(value: Any, name: str) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {describe(value)}")
    return value


def choice(value: Any, name: str, allowed: Iterable[str]) -> str:
    """Return the value if it is one of the ``allowed`` names."""
    known = list(allowed)
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected one of {known}, got {describe(value)}")
    if value not in known:
        raise ValueError(f"{name}: expected one of {known}, got {value!r:.80}")
    return value


def device(value: Any, name: str = "device") -> torch.device:
    """Return ``value`` as an available device, or for None the best of CUDA, MPS and CPU."""
    if value is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=value).device
    # Without CUDA support, torch raises an AssertionError.
    except (RuntimeError, TypeError, AssertionError, ValueError, OverflowError):
        raise ValueError(
            f"{name}: expected one that torch has here, such as 'cpu', got {describe(value)}"
        ) from None


def named_device(value: Any, name: str = "device") -> torch.device:
    """Return an available device as ``device`` does, but refuse None."""
    if value is None or isinstance(value, Tensor | float):
        raise TypeError(f"{name}: expected one such as 'cpu', got {type(value).__name__}")
    return device(value, name)


def names(value: Any, name: str, count: int | None = None) -> tuple[str, ...]:
    """Return a tuple of names.

    A single text is refused, because iterating over it would give its letters. A dict from a
    model's config is accepted: number -> name as in ``id2label``, or name -> number.

    Args:
        value: The names.
        name: Name of the argument, for messages.
        count: Number of names, if known.
    """
    if isinstance(value, Mapping):
        value = _by_number(value, name)
    if isinstance(value, str | bytes | set | frozenset) or not isinstance(value, Iterable):
        raise TypeError(f"{name}: expected a sequence of names, got {describe(value)}")
    listed = tuple(str(v) for v in value)
    if count is not None and len(listed) != count:
        raise ValueError(f"{name}: expected {count} names, got {len(listed)}")
    return listed


def _by_number(value: Mapping[Any, Any], name: str) -> list[Any]:
    """Return the names of a dict in the order of their numbers, which must be 0, 1, ..."""
    by_number = value and all(isinstance(v, str) for v in value.values())
    pairs = [(str(k), v) if by_number else (str(v), k) for k, v in value.items()]
    if sorted(key for key, _ in pairs) != sorted(str(i) for i in range(len(pairs))) or not pairs:
        raise ValueError(
            f"{name}: expected a dict with each class number from 0 to {len(value) - 1} once, "
            f"got {describe(value)}"
        )
    return [label for _, label in sorted(pairs, key=lambda pair: int(pair[0]))]


def space(value: Any, name: str = "space") -> Any:
    """Check that ``value`` has encode, decode, mean and std, and return it."""
    wanted = "a space with encode, decode, mean and std"
    if isinstance(value, type):
        raise TypeError(f"{name}: expected {wanted}, got the class {value.__name__}; make a space")
    having(value, ("encode", "decode", "mean", "std"), name, wanted)
    for part in ("encode", "decode"):
        function(getattr(value, part), f"{name}.{part}")
    place(value.mean, value.std, f"{name}.")
    return value


def diffusion(value: Any, name: str = "space", null: bool = True) -> Any:
    """Check that the value is a diffusion space, and return it.

    A diffusion space has alphas_cumprod, predict_noise, encode_condition and conditions.

    Args:
        null: whether the space must have a prediction without a condition. Spaces of
            class-conditional models without an embedding for "no class" have
            ``space.conditions.null`` False.
    """
    space(value, name)
    parts = ("alphas_cumprod", "predict_noise", "encode_condition", "conditions")
    having(value, parts, name, "a Diffusion space")
    falling(value.alphas_cumprod, f"{name}.alphas_cumprod")
    if null and getattr(value.conditions, "null", True) is False:
        raise ValueError(
            f"{name}: expected a diffusion model that can predict noise without a condition, got "
            "one in which every embedding stands for a class (null_class=False). "
            "cfx.flow_counterfactual and cfx.latent_attack don't need such a prediction."
        )
    return value


#: Parts of a space: present name -> name in the first version.
OLD_NAMES = {
    "mean": "center",
    "std": "spread",
    "alphas_cumprod": "alphas",
    "predict_noise": "eps",
    "encode_condition": "tell",
}


def _old_names(value: Any, missing: Sequence[str]) -> str:
    """Return advice to rename missing attributes that ``value`` has under their old names."""
    old = [(OLD_NAMES[new], new) for new in missing if hasattr(value, OLD_NAMES.get(new, new))]
    return "".join(f"; rename its {before} to {new}" for before, new in old)


def falling(value: Any, name: str) -> Tensor:
    """Check that alphas_cumprod falls between 1 and 0, and return it as float64 on the CPU."""
    instance(value, Tensor, name, "a torch tensor")
    if value.is_complex() or not is_plain(value):
        raise TypeError(f"{name}: expected numbers, got {value.dtype}, {value.layout}")
    alphas_cumprod = value.detach().cpu().double()
    if not is_falling(alphas_cumprod):
        raise ValueError(f"{name}: expected numbers between 1 and 0, falling, got others")
    return alphas_cumprod


def is_falling(x: Tensor) -> bool:
    """Return whether a tensor (n,), n >= 2, has falling numbers between 1 and 0."""
    if x.ndim != 1 or len(x) < 2:
        return False
    return bool(x[-1] > 0 and x[0] < 1 and (x.diff() < 0).all())


def same_classes(
    judge: Any, images: Tensor, classes: int, name: str, names: Sequence[str] | None = None
) -> Tensor:
    """Return the class that a judge (a second classifier) predicts for each of n images, (n,).

    The judge must have the same classes as the results, in the same order.

    Args:
        judge: A second classifier.
        images: Images (n, c, h, w).
        classes: Number of classes of the results.
        name: Name of the argument, for messages.
        names: Names of the classes of the results, if known.

    Raises:
        ValueError: If the judge has another number of classes, or the same names in another
            order.
    """
    read = finite_logits(logits(judge(images), len(images), name), name)
    if read.shape[1] != classes:
        raise ValueError(
            f"{name}: expected the {classes} classes of the results, got {read.shape[1]}; "
            "wrap one that adds up the probabilities of what belongs together"
        )
    same_order(getattr(judge, "class_names", None), names, name)
    return read.argmax(1)


def same_order(found: Sequence[str] | None, names: Sequence[str] | None, name: str) -> None:
    """Refuse a classifier that has the same class names in another order.

    Class names that only one of the two classifiers has, such as translations, are ignored.
    """
    ours, theirs = ([str(each) for each in named or ()] for named in (names, found))
    moved = [n for n in ours if n in theirs and ours.index(n) != theirs.index(n)]
    if moved:
        raise ValueError(
            f"{name}: expected the classes in the order {str(ours)[:200]}, got "
            f"{str(theirs)[:200]}; wrap a function that puts its logits into that order"
        )


def recorded_names(made_by: Mapping[str, Any]) -> list[str] | None:
    """Return the class names in ``made_by``, or in its first part if results were joined."""
    parts = made_by.get("parts")
    if isinstance(parts, list) and parts and isinstance(parts[0], Mapping):
        made_by = parts[0]
    found = made_by.get("class_names")
    return [str(each) for each in found] if isinstance(found, list) else None


def function(value: Any, name: str) -> Any:
    """Return a callable, but refuse a class: the caller probably forgot to make an instance."""
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{name}: expected a callable, got {type(value).__name__}")
    return value


def white_box(value: Any, name: str = "classifier") -> Any:
    """Return a classifier that may pass gradients, and refuse others, such as a BlackBox."""
    foreign = not callable(value) and (hasattr(value, "predict") or hasattr(value, "get_outputs"))
    if isinstance(value, BlackBoxed) or foreign:
        what = type(value).__name__ if foreign else "a BlackBox"
        raise TypeError(
            f"{name}: expected one that passes gradients, got {what}; "
            "use a black-box method instead, such as cfx.follow_direction"
        )
    return function(value, name)


def on_step(value: Any) -> Any:
    """Return ``on_step``, a function or None."""
    return optional(function, value, "on_step")


@contextlib.contextmanager
def part_of(name: str) -> Iterator[None]:
    """Put ``name`` and a dot before the messages of errors that are raised in the ``with``
    block."""
    try:
        yield
    except (ValueError, TypeError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name}.{error}") from error


def live_images(value: Any, name: str) -> Tensor:
    """Return images (b, c, h, w) in [0, 1] as float32, and keep their gradient."""
    if isinstance(value, Tensor) and value.requires_grad:
        return pixels(value, name)
    return images(value, name)


def array(value: Any, name: str, dims: int | None = None, *, gaps: bool = False) -> np.ndarray:
    """Return finite numbers as a float64 array.

    Args:
        value: A tensor, an array, a table, or a list of numbers.
        name: Name of the argument, for messages.
        dims: Number of dimensions, if it is fixed.
        gaps: Whether NaN and missing values are accepted.
    """
    wrong = TypeError(f"{name}: expected numbers, got {describe(value)}")
    if isinstance(value, pd.DataFrame | pd.Series):
        columns = pd.DataFrame(value).convert_dtypes()
        numeric = pd.api.types.is_numeric_dtype
        if not all(numeric(kind) and kind.kind not in "bc" for kind in columns.dtypes):
            raise wrong
        found = columns.to_numpy(float, na_value=np.nan)
        found = found[:, 0] if isinstance(value, pd.Series) else found
    else:
        found = _as_array(value, name, wrong)
    if found.dtype.kind not in "fiu":
        raise wrong
    found = found.astype(float)
    if dims is not None and found.ndim != dims:
        raise ValueError(f"{name}: expected {dims} dimensions, got shape {found.shape}")
    if np.isinf(found).any() or (not gaps and np.isnan(found).any()):
        came = "infinity" if gaps else "NaN or infinity"
        raise ValueError(f"{name}: expected finite numbers, got {came}")
    return found


def drawable(value: Any, name: str, dims: int | None = None, *, gaps: bool = False) -> np.ndarray:
    """Return numbers as ``array`` does, but refuse numbers too large for the axes of a figure."""
    found = array(value, name, dims, gaps=gaps)
    if (np.abs(found) > 1e100).any():
        raise ValueError(f"{name}: expected numbers that can be drawn, got some beyond 1e100")
    return found


def decisions(value: Any, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
    """Return decisions as a tensor of bools or of class numbers."""
    wrong = TypeError(f"{name}: expected bools or numbers of classes, got {describe(value)}")
    found = value
    if not isinstance(value, Tensor):
        numbers = _as_array(value, name, wrong)
        if numbers.dtype.kind not in "biu":
            raise wrong
        found = torch.from_numpy(native(numbers))
    if found.is_floating_point() or found.is_complex() or not is_plain(found):
        raise wrong
    if shape is not None and found.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {tuple(found.shape)}")
    return found.detach()


def groups(value: Any, name: str, rows: int | None = None) -> list[str]:
    """Return the name of each image's group. ``value`` has a number or a name for each image."""
    wrong = TypeError(f"{name}: expected the group of each image, got {describe(value)}")
    if isinstance(value, Tensor) and (value.is_complex() or not is_plain(value)):
        raise wrong
    if isinstance(unmasked(value, name), Tensor | np.ndarray | pd.Series | pd.Index):
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise wrong
    for row, each in enumerate(value):
        if not isinstance(each, Hashable) or isinstance(each, complex):
            raise TypeError(f"{name}: expected numbers or names, got {describe(each)} in row {row}")
        if missing(each):
            raise ValueError(
                f"{name}: expected a group for each image, got a missing value in row {row}; "
                "leave these images out, or name their group"
            )
    if rows is not None and len(value) != rows:
        raise ValueError(f"{name}: expected {rows}, one per image, got {len(value)}")
    return [str(each) for each in value]


def code_like(value: Any, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
    """Return finite floats (b, ...), such as codes and their changes.

    Args:
        value: The tensor.
        name: Name of the argument, for messages.
        shape: Shape of one row, if known.
    """
    z = float_tensor(value, name)
    if z.ndim < 2 or 0 in z.shape[1:] or (shape is not None and tuple(z.shape[1:]) != shape):
        known = "..." if shape is None else ", ".join(map(str, shape))
        raise ValueError(f"{name}: expected shape (b, {known}), got {tuple(z.shape)}")
    if not z.isfinite().all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    return z


def shape(found: Any, wanted: Any, name: str, what: str = "the shape") -> None:
    """Raise ValueError unless two shapes are equal. ``what`` describes the expected shape."""
    if tuple(found) != tuple(wanted):
        raise ValueError(f"{name}: expected {what} {tuple(wanted)}, got {tuple(found)}")


def place(mean: Any, std: Any, owner: str = "") -> tuple[Tensor, Tensor]:
    """Check that mean and std of codes are floats of one shape, std >= 0, and return both.

    ``owner`` stands before "mean" and "std" in messages, such as "space.".
    """
    for value, name in ((mean, f"{owner}mean"), (std, f"{owner}std")):
        tensor = float_tensor(value, name)
        if not tensor.ndim or not tensor.numel():
            raise ValueError(f"{name}: expected the shape of one code, got {tuple(tensor.shape)}")
        if not tensor.isfinite().all():
            raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    shape(std.shape, mean.shape, f"{owner}std", f"the shape of {owner}mean,")
    if std.min() < 0 or std.max() == 0:
        came = f"{std.min().item():.4g} to {std.max().item():.4g}"
        raise ValueError(f"{owner}std: expected numbers >= 0, some of them positive, got {came}")
    return mean, std


def place_axes(
    axes: Any, variances: Any, mean: Tensor, owner: str = ""
) -> tuple[Tensor | None, Tensor | None]:
    """Check the active axes (k, d) and variances (k,) of codes, both None if they are unknown.

    Args:
        owner: text before the names in messages, such as "space.".
    """
    if axes is None and variances is None:
        return None, None
    for value, name, ndim in ((axes, f"{owner}axes", 2), (variances, f"{owner}variances", 1)):
        tensor = instance(value, Tensor, name, "a torch tensor")
        if not tensor.is_floating_point() or tensor.is_meta or tensor.layout != torch.strided:
            raise TypeError(f"{name}: expected floats, got {tensor.dtype} on {tensor.device}")
        if tensor.ndim != ndim or not tensor.numel() or not tensor.isfinite().all():
            shape = "(k, d)" if ndim == 2 else "(k,)"
            raise ValueError(
                f"{name}: expected finite numbers of shape {shape}, got {tuple(tensor.shape)}, or "
                "NaN or infinity"
            )
    if axes.shape != (len(variances), mean.numel()) or variances.min() <= 0:
        raise ValueError(
            f"{owner}axes: expected shape ({len(variances)}, {mean.numel()}), one row per "
            f"variance above 0, got {tuple(axes.shape)} and variances from "
            f"{variances.min().item():.4g}"
        )
    return axes, variances


def class_names(value: Any, name: str, count: int | None = None) -> tuple[str, ...]:
    """Convert texts, numbers, or a dict such as ``id2label`` to class names."""
    listed = names(value, name) if isinstance(value, Mapping) else tuple(texts(value, name))
    if count is not None and len(listed) != count:
        raise ValueError(f"{name}: expected {count} names, got {len(listed)}")
    return listed


def table(value: Any, name: str, rows: int | None = None) -> pd.DataFrame:
    """Return a DataFrame with numpy dtypes. Missing values of nullable dtypes become NaN.

    Args:
        value: The DataFrame.
        name: Name of the argument, for messages.
        rows: Number of rows, if known.
    """
    frame: pd.DataFrame = instance(value, pd.DataFrame, name, "a pandas DataFrame")
    if frame.columns.nlevels > 1 or not frame.columns.is_unique:
        came = str(list(frame.columns))[:200]
        raise ValueError(f"{name}: expected distinct column names, got {came}")
    if rows is not None and len(frame) != rows:
        raise ValueError(f"{name}: expected {rows} rows, one per image, got {len(frame)} rows")
    if all(isinstance(kind, np.dtype) for kind in frame.dtypes):
        return frame
    return pd.DataFrame({column: _plain(frame[column]) for column in frame}, index=frame.index)


def discrete(column: pd.Series, name: str) -> pd.Series:
    """Return a column whose values are hashable: texts, numbers, bools, and missing values."""
    if column.dtype == object:
        for row, each in enumerate(column):
            if not isinstance(each, Hashable):
                raise TypeError(
                    f"{name}: expected texts, numbers or bools in {column.name!r}, got "
                    f"{describe(each)} in row {row}"
                )
    return column


def _plain(column: pd.Series) -> pd.Series:
    if isinstance(column.dtype, np.dtype):
        return column
    known = column.astype(object)
    return known.where(column.notna(), np.nan).infer_objects()


def mask(value: Any, name: str, rows: int) -> np.ndarray:
    """Convert a list, an array, a tensor, or a column of a table to one bool per row."""
    wrong = TypeError(f"{name}: expected {rows} bools, got {describe(value)}")
    if isinstance(value, pd.Series):
        if value.isna().any():
            raise ValueError(
                f"{name}: expected {rows} bools, got a missing value; replace it, for example by "
                ".fillna(False)"
            )
        value = _plain(value.convert_dtypes())
    found = _as_array(value, name, wrong)
    if found.dtype != bool or found.shape != (rows,):
        kind = ValueError if found.dtype == bool else TypeError
        raise kind(
            f"{name}: expected {rows} bools, one per row, got {type(value).__name__} of "
            f"{found.dtype}, shape {found.shape}"
        )
    return found


def missing(value: Any) -> bool:
    """Return whether pandas treats the value as missing."""
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def is_label(value: Any) -> bool:
    """Return whether the value can be a label: a text, a bool, a finite number, or a date."""
    if not isinstance(value, Hashable) or not pd.api.types.is_scalar(value) or missing(value):
        return False
    return not isinstance(value, complex | float | np.inexact) or bool(np.isfinite(value))


def pair(value: Any, name: str) -> tuple[Any, Any]:
    """Return the pair (baseline, value), and refuse equal values and missing values."""
    two = isinstance(value, tuple | list) and len(value) == 2 and all(map(is_label, value))
    if not two or value[0] == value[1]:
        raise ValueError(
            f"{name}: expected two different values, (baseline, value), got {describe(value)}"
        )
    return value[0], value[1]


def fields(record: Any) -> None:
    """Check that each field of a dataclass has its annotated type.

    Raises:
        TypeError: If a field has another type.
    """
    kind: Any = type(record)
    hints = _hints(kind)
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if not _is(value, hints[field.name]):
            wanted = getattr(hints[field.name], "__name__", None) or str(hints[field.name])
            raise TypeError(f"{field.name}: expected {wanted}, got {describe(value)}")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is(value: Any, hint: Any) -> bool:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_is(value, each) for each in inside)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        many = len(inside) == 2 and inside[1] is ...
        kinds = inside[:1] * len(value) if many else inside
        return len(kinds) == len(value) and all(map(_is, value, kinds))
    if origin is not None:
        return isinstance(value, origin)
    if hint in (int, float):
        kind = Integral if hint is int else Real
        return isinstance(value, kind) and not isinstance(value, bool)
    if hint is Tensor:
        return isinstance(value, Tensor) and is_plain(value) and not value.is_complex()
    return isinstance(value, type(None) if hint is None else hint)


def text(value: Any, name: str) -> str:
    """Return the value if it is a text. The text may be empty."""
    return str(instance(value, str, name, "a text"))


def texts(value: Any, name: str, count: int | None = None) -> list[str]:
    """Return texts for a figure. Numbers are converted to texts.

    Args:
        value: The texts.
        name: Name of the argument, for messages.
        count: Number of texts, if known.
    """
    wrong = TypeError(f"{name}: expected a sequence of texts, got {describe(value)}")
    if isinstance(value, str | bytes | Mapping | set) or not isinstance(value, Iterable):
        raise wrong
    try:
        listed = list(value)
    except TypeError:  # arrays and tensors without dimensions
        raise wrong from None
    for each in listed:
        if not isinstance(each, str) and not (isinstance(each, Real) and math.isfinite(each)):
            raise TypeError(f"{name}: expected texts, got {describe(each)}")
    if count is not None and len(listed) != count:
        raise ValueError(f"{name}: expected {count}, got {len(listed)}")
    return [str(each) for each in listed]
