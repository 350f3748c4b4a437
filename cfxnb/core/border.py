"""The border: classifiers, spaces and functions of a caller, as the methods call them.

Whatever is handed over may change its input, return another shape, dtype or device, or numbers
that are not finite. Here each call gets its own copy of the input, and what comes back is checked.
So a method can rely on what it sees, and needs no checks of its own.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.classifiers import as_classifier
from cfxnb.core.images import SLACK
from cfxnb.core.modules import modules_of
from cfxnb.core.tensors import finite_rows, per_sample
from cfxnb.core.types import Code
from cfxnb.core.warn import warn_of_probabilities


class _Called:
    """What every checked callable has: a name for messages, and its own copies of the input."""

    def __init__(self, inner: Any, name: str) -> None:
        self.inner, self.name, self._noticed = inner, name, False

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__") or attribute == "inner":
            raise AttributeError(attribute)
        return getattr(self.inner, attribute)

    def _call(self, function: Callable[..., Any], *inputs: Tensor, **options: Any) -> Any:
        """Call with copies, and notice when one of them was changed."""
        copies = [x.clone() for x in inputs]
        versions = [c._version for c in copies]
        self._refuse_inference(inputs)
        out = function(*copies, **options)
        if not self._noticed and versions != [c._version for c in copies]:
            self._noticed = True
            warnings.warn(
                f"{self.name}: changes its input in place; it was given a copy, so that the "
                "result is right, but your own images would be changed",
                stacklevel=5,
            )
        return out

    def _refuse_inference(self, inputs: tuple[Tensor, ...]) -> None:
        """No gradient passes through weights that were made under torch.inference_mode."""
        if not torch.is_grad_enabled() or not any(x.requires_grad for x in inputs):
            return
        if any(p.is_inference() for m in self.modules for p in m.parameters(recurse=False)):
            raise ValueError(
                f"{self.name}: expected weights that let gradients pass, got some that were made "
                "under torch.inference_mode; create or load the network outside of it"
            )

    @property
    def modules(self) -> list[torch.nn.Module]:
        """The networks inside, as far as they can be found."""
        if "_modules_found" not in self.__dict__:
            self._modules_found = modules_of(self.inner)
        return self._modules_found


class CheckedClassifier(_Called):
    """A classifier whose every answer is float32 logits (b, k) on the device of the images.

    Logits may be NaN or infinite: ``tensors.predicted`` makes no decision of them.
    """

    def __init__(self, classifier: Any, name: str = "classifier") -> None:
        while isinstance(classifier, CheckedClassifier):
            classifier = classifier.inner
        super().__init__(as_classifier(classifier, name), name)
        self.classes: int | None = None

    @property
    def labels(self) -> tuple[str, ...] | None:
        return getattr(self.inner, "labels", None)

    def __call__(self, images: Tensor) -> Tensor:
        out = self._call(self.inner, images)
        first, known = self.classes is None, self.classes
        found = validate.logits(out, len(images), self.name, known).to(images.device)
        self.classes = found.shape[1]
        if first:
            warn_of_probabilities(found, self.name)
        return found


class CheckedSpace(_Called):
    """A space whose every answer is float32, has as many rows as the input, and fits ``center``.

    Args:
        any_size: whether codes (b, c, h, w) may have other sides than ``center`` (c, ...), as those
            of larger images have. Only for methods that don't compare codes with it.

    Its own tensors may have another floating dtype; they are converted on both ways.
    """

    def __init__(self, space: Any, name: str = "space", any_size: bool = False) -> None:
        while isinstance(space, CheckedSpace):
            space = space.inner
        super().__init__(validate.space(space, name), name)
        self.any_size = any_size
        self._dtype = space.center.dtype

    @property
    def center(self) -> Tensor:
        return self.inner.center.detach().float()

    @property
    def spread(self) -> Tensor:
        return self.inner.spread.detach().float()

    def encode(self, images: Tensor) -> Code:
        """Codes of images; all numbers are finite."""
        try:
            code = self._call(lambda x: self.inner.encode(x.to(self._dtype)), images)
        except RuntimeError as error:
            if type(error) is not RuntimeError:
                raise  # out of memory, or a fault of the device: no matter of the images
            raise ValueError(
                f"images: expected such as {self.name} takes, got {tuple(images.shape)}: {error}"
            ) from error
        where = f"{self.name}.encode"
        validate.instance(code, Code, where, "a cfx.Code")
        z = validate.instance(code.z, Tensor, f"{where}, z", "a torch tensor")
        shape = tuple(self.center.shape)
        fits = _fits(tuple(z.shape[1:]), shape)
        fits |= self.any_size and z.ndim == 4 == len(shape) + 1 and z.shape[1] == shape[0]
        if z.ndim < 2 or len(z) != len(images) or not fits:
            raise ValueError(
                f"{where}: expected codes of shape ({len(images)}, "
                f"{', '.join(map(str, shape))}) like {self.name}.center, got {tuple(z.shape)}"
            )
        rest = code.rest
        if rest is not None:
            validate.instance(rest, Tensor, f"{where}, rest", "a torch tensor or None")
            if len(rest) != len(images):
                raise ValueError(f"{where}: expected {len(images)} rows of rest, got {len(rest)}")
            rest = _finite(rest, f"{where}, rest").to(images.device)
        return Code(_finite(z, where).to(images.device), rest)

    def decode(self, code: Code, **options: Any) -> Tensor:
        """Images of codes, in [0, 1] unless ``clamp=False``.

        Where a code is far out an image may be NaN: such a row decides nothing.
        """
        known = finite_rows(code.z.detach())
        z = code.z
        if not known.all():  # the space is never asked about these, and their images are NaN
            z = torch.where(per_sample(known, z), z, self.center.to(z))
        rest = () if code.rest is None else (code.rest.to(self._dtype),)
        made = self._call(
            lambda z, *rest: self.inner.decode(Code(z, *rest), **options),
            z.to(self._dtype),
            *rest,
        )
        where = f"{self.name}.decode"
        validate.instance(made, Tensor, where, "images as a torch tensor")
        if made.ndim != 4 or len(made) != len(code.z) or not made.is_floating_point():
            raise ValueError(
                f"{where}: expected floats of shape ({len(code.z)}, c, h, w), got "
                f"{made.dtype} of shape {tuple(made.shape)}"
            )
        made = (made.clone() if made.is_inference() else made).float().to(code.z.device)
        if options.get("clamp", True):
            shown = made.detach()[finite_rows(made.detach())]
            if len(shown) and (shown.min() < -SLACK or shown.max() > 1 + SLACK):
                raise ValueError(
                    f"{where}: expected values in [0, 1], got {shown.min().item():.4g} to "
                    f"{shown.max().item():.4g}; clamp them there"
                )
        return made if known.all() else torch.where(per_sample(known, made), made, torch.nan)

    def eps(self, z: Tensor, times: Tensor, condition: Any) -> Tensor:
        """The noise in noisy codes (a diffusion space)."""
        found = self._call(lambda x: self.inner.eps(x, times, condition), z)
        validate.instance(found, Tensor, f"{self.name}.eps", "a torch tensor")
        if found.shape != z.shape:
            raise ValueError(
                f"{self.name}.eps: expected shape {tuple(z.shape)} like the codes, "
                f"got {tuple(found.shape)}"
            )
        return found.float()


def _fits(shape: tuple[int, ...], center: tuple[int, ...]) -> bool:
    """Whether codes have the shape of the center, or one to which it can be broadcast."""
    try:
        return torch.broadcast_shapes(shape, center) == torch.Size(shape)
    except RuntimeError:
        return False


def _finite(x: Tensor, where: str) -> Tensor:
    """float32, all numbers finite."""
    if not x.is_floating_point() or x.is_meta or x.layout != torch.strided:
        raise TypeError(f"{where}: expected floats, got {x.dtype}, {x.layout} on {x.device}")
    if not x.isfinite().all():
        count = int((~finite_rows(x.detach())).sum())
        raise ValueError(
            f"{where}: expected finite numbers, got NaN or infinity for {count} of {len(x)} images"
        )
    return (x.clone() if x.is_inference() else x).float()


class CheckedFunction(_Called):
    """A function of images, such as features or a distance: finite floats, one row per image."""

    def __init__(self, function: Any, name: str, dims: int | None = None) -> None:
        super().__init__(validate.function(function, name), name)
        self.dims = dims

    def __call__(self, *images: Tensor) -> Tensor:
        found = self._call(self.inner, *images)
        rows = len(images[0])
        validate.instance(found, Tensor, self.name, "a torch tensor from it")
        fits = found.ndim and len(found) == rows and self.dims in (None, found.ndim)
        if not fits:
            wanted = "(n,)" if self.dims == 1 else "(n, d)" if self.dims == 2 else "(n, ...)"
            raise ValueError(
                f"{self.name}: expected shape {wanted} with n = {rows} from it, "
                f"got {tuple(found.shape)}"
            )
        return _finite(found, self.name).to(images[0].device)
