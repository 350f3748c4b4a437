"""Checked versions of a caller's classifiers, spaces and functions.

A caller's object may change its input, return another shape, dtype or device, or return numbers
that are not finite. A caller's object may also be random, or reuse the memory of its last result. A
checked version passes a copy of the input to the object, and copies and checks the result. Methods
can therefore rely on the results, and need no checks of their own.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import classifiers, second_look, validate
from cfxnb.core.goals import GoalClassifier
from cfxnb.core.images import SLACK
from cfxnb.core.memory import is_out_of_memory
from cfxnb.core.modules import is_compiled, modules_of, of_library, uninitialised, within_call
from cfxnb.core.tensors import finite_rows, per_sample
from cfxnb.core.types import Code
from cfxnb.core.warn import ProbabilityWatch


class Called:
    """Base class of all checked objects: holds the name for messages, and copies the inputs."""

    def __init__(self, inner: Any, name: str) -> None:
        self.inner, self.name = inner, name
        self._called = self._noticed = False
        self._second_looks: dict[str, second_look.SecondLook] = {}

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__") or attribute == "inner":
            raise AttributeError(attribute)
        return getattr(self.inner, attribute)

    def _watched(self, part: str, apart: Callable[[Any, Any], float]) -> second_look.SecondLook:
        """Return the SecondLook that notices random results of one function of this object."""
        if part not in self._second_looks:
            name, again = self.name + part, self._may_repeat_calls()
            self._second_looks[part] = second_look.SecondLook(name, apart, again)
        return self._second_looks[part]

    def _may_repeat_calls(self) -> bool:
        """Return whether a call may be repeated, to check if results are random.

        Calls of a BlackBox are not repeated, because a BlackBox counts them. A compiled network is
        not called again, because another batch size may mean a minute of compilation.
        """
        if isinstance(self.inner, GoalClassifier) and self.inner.fixed_scale is None:
            return False  # its answers depend on the original of the batch
        return not isinstance(self.inner, validate.BlackBoxed) and not is_compiled(self.modules)

    def _call(self, function: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        """Call ``function`` with copies of the inputs, and warn if it changed one of them."""
        copies = [x.clone() if isinstance(x, Tensor) else x for x in inputs]
        tensors = [c for c in copies if isinstance(c, Tensor)]
        versions = [c._version for c in tensors]
        differentiated = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
        if differentiated and any(p.is_inference() for p in self._weights()):
            raise ValueError(
                f"{self.name}: expected weights that let gradients pass, got some that were made "
                "under torch.inference_mode; create or load the network outside of it"
            )
        if not self._called and uninitialised(self.modules):
            raise ValueError(
                f"{self.name}: expected a network with weights, got one with lazy modules that "
                "have none yet; call it once on a few images, train it or load its weights"
            )
        self._called = True
        try:
            with within_call():
                out = function(*copies, **options)
        except Exception as error:
            if any(p.is_meta for p in self._weights()):
                raise ValueError(
                    f"{self.name}: expected a network with weights, got one on the meta device, "
                    f"which holds no numbers; load its weights on another device ({error})"
                ) from error
            if isinstance(error, RuntimeError) and "nference tensor" in str(error):
                raise ValueError(
                    f"{self.name}: expected tensors that let gradients pass, got some that were "
                    "made under torch.inference_mode; create or load them outside of it"
                ) from error
            raise
        if not self._noticed and versions != [c._version for c in tensors]:
            self._noticed = True
            warnings.warn(
                f"{self.name}: changes its input in place; it was given a copy, so that the "
                "result is right, but your own images would be changed",
                stacklevel=6,
            )
        return out

    def _weights(self) -> list[Tensor]:
        return [p for m in self.modules for p in m.parameters(recurse=False)]

    @functools.cached_property
    def modules(self) -> list[torch.nn.Module]:
        """The networks inside the caller's object, as far as ``modules_of`` finds them."""
        return modules_of(self.inner)


class CheckedClassifier(Called):
    """A classifier that always returns float32 logits (b, k) on the device of the images.

    Logits may be NaN or infinite; ``tensors.predicted`` returns -1 for images with such logits.
    """

    def __init__(self, classifier: Any, name: str = "classifier") -> None:
        while isinstance(classifier, CheckedClassifier):
            classifier = classifier.inner
        super().__init__(classifiers.as_classifier(classifier, name), name)
        self.classes: int | None = None
        own = classifiers.watch_of(self.inner)  # a wrapped classifier notices probabilities itself
        if own is not None:
            own.reset()
        self._watch = ProbabilityWatch(name, needed=own is None)
        given = getattr(classifier, "device", None)
        # Any object may have such an attribute. Only a torch.device is the device of images.
        self.device = given if isinstance(given, torch.device) else None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return classifiers.class_names_of(self.inner)

    def __call__(self, images: Tensor) -> Tensor:
        return self._watched("", second_look.logits_distance)(self._classify, images)

    def _classify(self, images: Tensor) -> Tensor:
        out = self._call(classifiers.unchecked_call(self.inner), images)
        found = validate.logits(out, len(images), self.name, self.classes).to(images.device)
        self.classes = found.shape[1]
        self._watch.see(found, lambda: classifiers.with_gradient(self.inner, images[:1]))
        return _own(found)


class CheckedSpace(Called):
    """A space that always returns float32, with one row per image and the shape of ``mean``.

    Tensors of the caller's space may have another floating dtype, and are converted to float32.

    Args:
        space: The space of the caller.
        name: Name of the argument, for messages.
        any_size: Whether codes (b, c, h, w) may have another height and width than ``mean``, as
            codes of larger images have. Methods that compare codes with ``mean`` need
            ``any_size=False``.
    """

    def __init__(self, space: Any, name: str = "space", any_size: bool = False) -> None:
        while isinstance(space, CheckedSpace):
            space = space.inner
        super().__init__(validate.space(space, name), name)
        self.any_size = any_size
        self._dtype = space.mean.dtype

    def _may_repeat_calls(self) -> bool:
        """Return False for spaces of this package, which treat each image on its own."""
        return not of_library(type(self.inner).__module__) and super()._may_repeat_calls()

    @property
    def mean(self) -> Tensor:
        return _plain(self.inner.mean.detach())

    @property
    def std(self) -> Tensor:
        return _plain(self.inner.std.detach())

    def encode(self, images: Tensor) -> Code:
        """Return the codes of images. All numbers are finite."""
        return self._watched(".encode", second_look.codes_distance(self.std))(self._encode, images)

    def _encode(self, images: Tensor) -> Code:
        try:
            code = self._call(lambda x: self.inner.encode(x.to(self._dtype)), images)
        except RuntimeError as error:
            if is_out_of_memory(error) or type(error) is not RuntimeError:
                raise  # out of memory, or an error of the device: not caused by the images
            raise ValueError(
                f"images: expected such as {self.name} takes, got {tuple(images.shape)}: {error}"
            ) from error
        where = f"{self.name}.encode"
        z = validate.instance(code, Code, where, "a cfx.Code").z
        shape = tuple(self.mean.shape)
        fits = _fits(tuple(z.shape[1:]), shape)
        fits |= self.any_size and z.ndim == 4 == len(shape) + 1 and z.shape[1] == shape[0]
        if z.ndim < 2 or len(z) != len(images) or not fits:
            raise ValueError(
                f"{where}: expected codes of shape ({len(images)}, "
                f"{', '.join(map(str, shape))}) like {self.name}.mean, got {tuple(z.shape)}"
            )
        aux = code.aux
        if aux is not None:
            aux = _own(_finite(aux, f"{where}, aux").to(images.device))
        return Code(_own(_finite(z, where).to(images.device)), aux)

    def decode(self, code: Code, **options: Any) -> Tensor:
        """Return the images of codes, in [0, 1] unless ``clamp=False``.

        The image of an extreme code may be NaN. A NaN image has no predicted class.
        """

        def decode(z: Tensor, aux: Tensor | None) -> Tensor:
            return self._decode(Code(z, aux), **options)

        return self._watched(".decode", second_look.images_distance)(decode, code.z, code.aux)

    def _decode(self, code: Code, **options: Any) -> Tensor:
        known = finite_rows(code.z.detach())
        z = code.z
        if not known.all():  # codes that are not finite are not decoded; their images are NaN
            z = torch.where(per_sample(known, z), z, self.mean.to(z))
        aux = () if code.aux is None else (code.aux.to(self._dtype),)
        made = self._call(
            lambda z, *aux: self.inner.decode(Code(z, *aux), **options), z.to(self._dtype), *aux
        )
        where = f"{self.name}.decode"
        validate.instance(made, Tensor, where, "images as a torch tensor")
        if not validate.is_plain(made):
            came = f"{made.layout} on {made.device}"
            raise TypeError(f"{where}: expected images as ordinary tensors, got {came}")
        if made.ndim != 4 or len(made) != len(code.z) or not made.is_floating_point():
            raise ValueError(
                f"{where}: expected floats of shape ({len(code.z)}, c, h, w), got "
                f"{made.dtype} of shape {tuple(made.shape)}"
            )
        if torch.is_grad_enabled() and code.z.requires_grad and not made.requires_grad:
            raise TypeError(
                f"{where}: expected images that pass gradients to the code, got some that do not "
                "(torch.no_grad, detach, torch.inference_mode or numpy inside); use a black-box "
                "method instead"
            )
        made = _own(_plain(made).to(code.z.device))
        if options.get("clamp", True):
            shown = made.detach()[finite_rows(made.detach())]
            if len(shown) and (shown.min() < -SLACK or shown.max() > 1 + SLACK):
                raise ValueError(
                    f"{where}: expected values in [0, 1], got {shown.min().item():.4g} to "
                    f"{shown.max().item():.4g}; clamp them there"
                )
        return made if known.all() else torch.where(per_sample(known, made), made, torch.nan)

    def encode_condition(self, conditions: list[Any]) -> Tensor:
        """Encode conditions as the input of a diffusion network, one row per condition."""
        cond = self._call(self.inner.encode_condition, conditions)
        where = f"{self.name}.encode_condition"
        validate.instance(cond, Tensor, where, "a torch tensor")
        if not cond.ndim or len(cond) != len(conditions):
            raise ValueError(
                f"{where}: expected {len(conditions)} rows, got shape {tuple(cond.shape)}"
            )
        return cond

    def predict_noise(self, z: Tensor, times: Tensor, condition: Any) -> Tensor:
        """Return the noise that a diffusion space predicts in noisy codes."""
        watched = self._watched(".predict_noise", second_look.noise_distance)
        return watched(self._predict_noise, z, times, condition)

    def _predict_noise(self, z: Tensor, times: Tensor, condition: Any) -> Tensor:
        found = self._call(self.inner.predict_noise, z, times, condition)
        return self._checked_noise(found, z, f"{self.name}.predict_noise")

    def predict_noise_and_variance(
        self, z: Tensor, times: Tensor, condition: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Return the predicted noise, and the fraction that states the learned variance, or None.

        A space without a function ``predict_noise_and_variance`` has no learned variance.
        """
        if not hasattr(self.inner, "predict_noise_and_variance"):
            return self.predict_noise(z, times, condition), None
        found = self._call(self.inner.predict_noise_and_variance, z, times, condition)
        where = f"{self.name}.predict_noise_and_variance"
        if not isinstance(found, tuple) or len(found) != 2:
            raise TypeError(f"{where}: expected a pair, got {validate.describe(found)}")
        noise, fraction = found
        if fraction is not None:
            fraction = self._checked_noise(fraction, z, f"{where}, fraction")
        return self._checked_noise(noise, z, where), fraction

    def _checked_noise(self, found: Any, z: Tensor, where: str) -> Tensor:
        """Return the output of a denoising network, which must fit the codes ``z``."""
        validate.instance(found, Tensor, where, "a torch tensor")
        validate.shape(found.shape, z.shape, where, "the shape of the codes,")
        known = finite_rows(z.detach())  # where the code is NaN, the noise may be NaN
        if not known.all():
            found = torch.where(per_sample(known, found), found, 0.0)
        found = _own(_finite(found, where).to(z.device))
        return found if known.all() else torch.where(per_sample(known, found), found, torch.nan)


def _fits(shape: tuple[int, ...], mean: tuple[int, ...]) -> bool:
    """Return whether the mean of the codes can be broadcast to the shape of the codes."""
    try:
        return torch.broadcast_shapes(shape, mean) == torch.Size(shape)
    except RuntimeError:
        return False


def _finite(x: Tensor, where: str) -> Tensor:
    """Return ``x`` as float32, and raise an error if ``x`` is not finite."""
    validate.float_tensor(x, where)
    if not x.isfinite().all():
        count = int((~finite_rows(x.detach())).sum())
        raise ValueError(
            f"{where}: expected finite numbers, got NaN or infinity for {count} of {len(x)} images"
        )
    return _plain(x)


def _plain(x: Tensor) -> Tensor:
    """Return ``x`` as a float32 tensor that autograd accepts, also if it is an inference tensor."""
    return (x.clone() if x.is_inference() else x).float()


def _own(x: Tensor) -> Tensor:
    """Return a copy of a result, because the caller's object may reuse the memory of its results.

    Tensors with a gradient are not copied, because autograd notices when they are changed.
    """
    return x if x.requires_grad else x.clone()


class CheckedFunction(Called):
    """A function of images, such as features or a distance, that returns one row per image."""

    def __init__(self, function: Any, name: str, dims: int | None = None) -> None:
        super().__init__(validate.function(function, name), name)
        self.dims = dims

    def __call__(self, *images: Tensor) -> Tensor:
        return self._watched("", second_look.features_distance)(self._evaluate, *images)

    def _evaluate(self, *images: Tensor) -> Tensor:
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
        return _own(_finite(found, self.name).to(images[0].device))
