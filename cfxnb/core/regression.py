"""Make models of outcomes, such as an age in years, from networks, estimators and functions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cfxnb.core import validate
from cfxnb.core.classifiers import (
    Session,
    Wrapped,
    blaming_images,
    is_estimator,
    is_pipeline,
    is_session,
    wrapping_options,
)
from cfxnb.core.modes import standard_modes
from cfxnb.core.outcomes import Outcomes


class WrappedRegression(Wrapped):
    """A model that maps images in [0, 1] to outcomes (b, k). Made by ``wrap_regression``."""

    def __init__(self, function: Callable[[Tensor], Any], outcomes: Outcomes, **options: Any):
        super().__init__(function, **options)
        self._watch.needed, self._watch.done = False, True  # an outcome may lie in [0, 1]
        self.outcomes = outcomes

    def _logits(self, out: Tensor, images: Tensor) -> Tensor:
        """Return the output of the model as float32 outcomes (b, k)."""
        rows, names = len(images), self.outcomes.names
        found = out[:, None] if out.ndim == 1 else out
        if found.ndim != 2 or len(found) != rows or not found.shape[1]:
            raise ValueError(
                f"module: expected outcomes of shape ({rows},) or ({rows}, k), got "
                f"{tuple(out.shape)}"
            )
        if not found.is_floating_point():
            found = found.float()
        validate.float_tensor(found, "module")
        if names is not None and len(names) != found.shape[1]:
            raise ValueError(
                f"names: expected {found.shape[1]} names, one per outcome, got {len(names)}"
            )
        return (found.clone() if found.is_inference() else found).float()

    def __repr__(self) -> str:
        return f"WrappedRegression({self._name()}, {self.outcomes})"


class Regressor:
    """A fitted scikit-learn regressor as a function of images."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = self.inner = estimator

    def __call__(self, images: Tensor) -> Tensor:
        rows = images.detach().cpu().flatten(1).numpy()
        with blaming_images(type(self.estimator).__name__, images):
            found = np.asarray(self.estimator.predict(rows))
        if found.dtype.kind not in "fiu":
            raise ValueError(f"module: expected numbers from predict, got {found.dtype}")
        return torch.from_numpy(found.astype(np.float64))


@standard_modes
def wrap_regression(
    module: Any,
    *,
    names: Sequence[str] | str | None = None,
    units: Sequence[str] | str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    transform: Callable[[Tensor], Tensor] | None = None,
    dtype: torch.dtype | None = None,
    processor: Any = None,
) -> WrappedRegression:
    """Make a model of outcomes from a module, a regressor, a session or a function.

    Pass the result to a method as ``classifier``, together with a goal as ``target``, such as
    ``cfx.raise_to(0.8)`` or ``cfx.lower_by(2.0, output="age")``. ``cfx.select_goal`` makes a
    classifier of two classes from a model and a goal.

    Args:
        module: A torch module (a transformers model with one label, timm, your own), a fitted
            scikit-learn regressor, an ONNX Runtime session, or a function. The module returns one
            outcome (b,) or (b, 1), or several outcomes (b, k). If the output has a ``.logits``
            attribute, the wrapper uses this attribute. Regressors get flattened images (b, c * h *
            w) as numpy arrays, sessions get float32 arrays (b, c, h, w).
        names: Name of each outcome, or one text for a single outcome. Default: outcomes have
            numbers only.
        units: Unit of each outcome, such as "years", or one text for a single outcome. Units stand
            in pictures, tables and records. Default: none.
        mean, std, size, channels, transform, dtype, processor: Preparation of the images for the
            module, as in ``cfx.wrap``.

    Returns:
        A callable that maps float images (b, c, h, w) in [0, 1] to float32 outcomes (b, k) on the
        device of the images. Gradients pass through torch modules and functions.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    if is_pipeline(module):
        module, processor = module.model, processor or module.image_processor
    return WrappedRegression(
        _adapted(module),
        _outcomes(names, units),
        **wrapping_options(mean, std, size, channels, transform, dtype, processor),
    )


def _outcomes(names: Any, units: Any) -> Outcomes:
    names, units = ([x] if isinstance(x, str) else x for x in (names, units))
    known = validate.optional(validate.class_names, names, "names")
    if known is not None and len(set(known)) < len(known):
        raise ValueError(f"names: expected different names, got {str(known)[:200]}")
    count = None if known is None else len(known)
    own = None if units is None else tuple(validate.texts(units, "units", count))
    return Outcomes(known, own)


def _adapted(module: Any) -> Any:
    """Return a function of images."""
    if isinstance(module, nn.Module):
        return module
    if is_session(module):
        return Session(module)
    if is_estimator(module) or hasattr(module, "classes_"):
        raise TypeError(
            f"module: expected a model of outcomes, got the classifier {type(module).__name__}; "
            "use cfx.wrap"
        )
    if hasattr(module, "predict") and hasattr(module, "fit") and not isinstance(module, type):
        from sklearn.utils.validation import check_is_fitted  # imported here, because it is slow

        try:
            check_is_fitted(module)
        except Exception as error:
            raise TypeError(f"module: expected a fitted regressor, got {error}") from None
        return Regressor(module)
    if isinstance(module, type | Mapping) or not callable(module):
        raise TypeError(
            "module: expected a torch module, a regressor, an ONNX session or a function, got "
            f"{validate.describe(module)}"
        )
    return module
