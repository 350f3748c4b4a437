"""Check whether results are random, or depend on the other images of the batch."""

import contextlib
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfxnb.core.modules import first_time, warned_before
from cfxnb.core.tensors import standardise
from cfxnb.core.types import Code

#: Differences larger than rounding. The rounding of bfloat16 depends on the batch size.
SAME_BATCH, OTHER_BATCH = 0.01, 0.02
PROBABILITY = 0.02  # the same for probabilities of many images, with any batch size
LATER = 8  # number of the call at which the first comparison is repeated


class SecondLook:
    """Calls a function, and warns once if its results are random or depend on the batch.

    During the first call, the object notices whether random numbers of torch, numpy or Python are
    drawn. After the first call with several images, one of these images is evaluated alone, and
    evaluated again a few calls later. The image with the largest norm is chosen, because a black
    image shows few differences. A black box is evaluated again only if it drew random numbers,
    because its queries are counted.

    Args:
        name: Name of the object, for the warning.
        distance: Maps two results to their distance. Two results with a distance above
            ``SAME_BATCH`` count as different.
        again: If False, a call is repeated only if random numbers were drawn.
    """

    def __init__(
        self, name: str, distance: Callable[[Any, Any], float], again: bool = True
    ) -> None:
        self.name, self.distance, self.again = name, distance, again
        self.calls, self.drew, self.compared = 0, False, False
        # One call with one image: the function, its inputs, and its result.
        self.seen: tuple[Callable[..., Any], tuple[Any, ...], Any] | None = None

    def __call__(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """Return ``function(*inputs)``, and check the result.

        When one image is evaluated alone, only its row of each input is passed to the function.
        """
        self.calls += 1
        state = _random_state() if self.calls == 1 else None
        answer = function(*inputs)
        self.drew |= state is not None and state != _random_state()
        if not self.compared:
            wanted = self.drew or (self.again and len(inputs[0]) > 1)
            if wanted and inputs[0].any():
                self.compared = True
                with torch.no_grad():
                    self._compare(function, inputs, answer)
        elif self.seen is not None and self.calls == LATER and self.again:
            with torch.no_grad():
                same_ask, row, before = self.seen  # with the options of that call
                far = self.distance(before, same_ask(*row))
            if far > SAME_BATCH:
                _warn_of_randomness(self.name, far)
        return answer

    def _compare(self, function: Callable[..., Any], inputs: Any, answer: Any) -> None:
        rows = len(inputs[0])
        size = inputs[0].detach().flatten(1).float().norm(dim=1).nan_to_num()
        place = int(size.argmax())
        alone = tuple(_rows(x, rows, [place]) for x in inputs)
        try:
            other = function(*alone)
        except (OSError, MemoryError):
            raise  # not caused by the batch size
        except Exception:  # batch normalisation over the batch, or a network for one batch size
            with contextlib.suppress(Exception):
                twice = function(*(_rows(x, rows, [place, place]) for x in inputs))
                if (far := self.distance(answer[[place]], twice)) > OTHER_BATCH:
                    self._warn_of_batch(far)
            return
        self.seen = function, alone, other
        far = self.distance(answer[[place]], other)
        if far <= (SAME_BATCH if self.drew else OTHER_BATCH):
            return
        if self.drew or self.distance(other, function(*alone)) > SAME_BATCH:
            _warn_of_randomness(self.name, far)
        else:
            self._warn_of_batch(far)

    def _warn_of_batch(self, far: float) -> None:
        if first_time(f"{self.name} differs"):
            warnings.warn(
                f"{self.name}: what it answers for an image depends on the other images of the "
                f"batch (without them the answer differs by {far:.2g}), as with a normalisation "
                "over the batch; results change with the batch size",
                stacklevel=6,
            )


def warn_of_randomness(first: Tensor, second: Tensor, name: str = "classifier") -> None:
    """Warn if the logits of two calls on the same images differ by more than rounding.

    No warning of randomness is given after another warning in the same call of a method, because
    the difference may have the same cause."""
    if not len(first) or warned_before():
        return
    far = (first.softmax(1) - second.to(first).softmax(1)).abs().nan_to_num().max().item()
    if far > PROBABILITY:
        _warn_of_randomness(name, far)


def _warn_of_randomness(name: str, far: float) -> None:
    if first_time(f"{name} differs"):
        warnings.warn(
            f"{name}: two calls on the same images gave answers that differ by {far:.2g}; is a "
            "network in training mode, or something random, inside?",
            stacklevel=6,
        )


def logits_distance(a: Tensor, b: Tensor) -> float:
    """Return the largest difference between the first rows of logits ``a`` and ``b``.

    The function compares the probabilities as well as the logits. Differences of large logits are
    divided by the largest logit.
    """
    a, b = a.detach()[0], b.detach()[0].to(a)
    if not (a.isfinite().all() and b.isfinite().all()):
        return 0.0
    size = max(1.0, float(a.abs().max()))
    return max(float((a.softmax(0) - b.softmax(0)).abs().max()), float((a - b).abs().max()) / size)


def features_distance(a: Tensor, b: Tensor) -> float:
    """Return the root mean squared difference of the first rows, relative to the size of ``a``."""
    return _mean_distance(a, b) / max(1e-6, float(a.detach()[0].square().mean().sqrt()))


def noise_distance(a: Tensor, b: Tensor) -> float:
    """Return the root mean squared difference of the first rows of noise."""
    return _mean_distance(a, b)


def images_distance(a: Tensor, b: Tensor) -> float:
    """Return the root mean squared difference of the first images, times 5.

    A distance of 1 means a fifth of the range from black to white.
    """
    return 5 * _mean_distance(a, b)


def codes_distance(std: Tensor) -> Callable[[Code, Code], float]:
    """Return a function for the root mean squared difference of codes, in units of ``std``."""

    def distance(a: Code, b: Code) -> float:
        change = a.z.detach()[:1] - b.z.detach()[:1].to(a.z)
        return _mean_distance(standardise(change, std), torch.zeros_like(change))

    return distance


def _mean_distance(a: Tensor, b: Tensor) -> float:
    """Return the root mean squared difference (RMS) of the first rows, or 0 if not finite."""
    a, b = a.detach()[0], b.detach()[0].to(a)
    if a.shape != b.shape or not (a.isfinite().all() and b.isfinite().all()):
        return 0.0
    return float((a - b).square().mean().sqrt())


def _rows(x: Any, rows: int, which: list[int]) -> Any:
    """Select rows of a tensor that has one row per image, and return other values unchanged."""
    is_rows = isinstance(x, Tensor) and x.ndim and len(x) == rows
    return x.detach()[which] if is_rows else x


def _random_state() -> tuple[Any, ...]:
    """Return the state of the global random numbers of torch (CPU and GPU), numpy and Python."""
    gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    on_gpu = torch.cuda.get_rng_state().numpy().tobytes() if gpu else b""
    numbers: Any = np.random.get_state()  # noqa: NPY002
    on_cpu = torch.get_rng_state().numpy().tobytes()
    return on_cpu, on_gpu, numbers[1].tobytes(), numbers[2:], random.getstate()
