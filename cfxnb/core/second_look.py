"""A second look at one image: are answers random, or do they depend on its batch mates?"""

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

#: Differences that no rounding makes. That of bfloat16 depends on the size of the batch.
SAME_BATCH, OTHER_BATCH = 0.01, 0.02
PROBABILITY = 0.02  # the same for probabilities of many images, whatever the batch
LATER = 8  # the call after which that image is looked at once more


class SecondLook:
    """Calls a function, and warns once if its answers are random or depend on batch mates.

    The first call is watched: does it draw from the random numbers of torch, numpy or Python?
    After the first call with several rows, one of them is asked for alone, and once more after a
    few calls. It is the one that is farthest from 0: a black image tells little. A black box is
    asked again only if it drew random numbers, as queries are counted.

    Args:
        name: whom a warning names.
        apart: (answer, answer) -> how far apart they are, in a unit in which rounding is small.
        again: False if only random numbers are to make it ask again.
    """

    def __init__(self, name: str, apart: Callable[[Any, Any], float], again: bool = True) -> None:
        self.name, self.apart, self.again = name, apart, again
        self.calls, self.drew, self.looked = 0, False, False
        # One call with one row: what was called, its inputs, and the answer.
        self.seen: tuple[Callable[..., Any], tuple[Any, ...], Any] | None = None

    def __call__(self, ask: Callable[..., Any], *inputs: Any) -> Any:
        """``ask(*inputs)``; inputs have one row per image, or are passed on as they are."""
        self.calls += 1
        state = _random_state() if self.calls == 1 else None
        answer = ask(*inputs)
        self.drew |= state is not None and not _equal(state, _random_state())
        if not self.looked:
            wanted = self.drew or (self.again and len(inputs[0]) > 1)
            if wanted and inputs[0].any():
                self.looked = True
                with torch.no_grad():
                    self._compare(ask, inputs, answer)
        elif self.seen is not None and self.calls == LATER and self.again:
            with torch.no_grad():
                same_ask, row, before = self.seen  # with the options of that call
                far = self.apart(before, same_ask(*row))
            if far > SAME_BATCH:
                _warn_of_randomness(self.name, far)
        return answer

    def _compare(self, ask: Callable[..., Any], inputs: Any, answer: Any) -> None:
        rows = len(inputs[0])
        size = inputs[0].detach().flatten(1).float().norm(dim=1).nan_to_num()
        place = int(size.argmax())
        alone = tuple(_rows(x, rows, [place]) for x in inputs)
        try:
            other = ask(*alone)
        except (OSError, MemoryError):
            raise  # no matter of the number of rows
        except Exception:  # batch normalisation over the batch, or a network for one batch size
            with contextlib.suppress(Exception):
                far = self.apart(
                    answer[[place]], ask(*(_rows(x, rows, [place, place]) for x in inputs))
                )
                if far > OTHER_BATCH:
                    self._mates(far)
            return
        self.seen = ask, alone, other
        far = self.apart(answer[[place]], other)
        if far <= (SAME_BATCH if self.drew else OTHER_BATCH):
            return
        if self.drew or self.apart(other, ask(*alone)) > SAME_BATCH:
            _warn_of_randomness(self.name, far)
        else:
            self._mates(far)

    def _mates(self, far: float) -> None:
        if first_time(f"{self.name} differs"):
            warnings.warn(
                f"{self.name}: what it answers for an image depends on the other images of the "
                f"batch (without them the answer differs by {far:.2g}), as with a normalisation "
                "over the batch; results change with the batch size",
                stacklevel=6,
            )


def warn_of_randomness(first: Tensor, second: Tensor, name: str = "classifier") -> None:
    """Warn if the logits of two calls on the same images differ by more than rounding.

    If something else was found to be random in this call, the difference may come from it.
    """
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


def logits_apart(a: Tensor, b: Tensor) -> float:
    """Of the first rows: difference of probabilities, or of logits in their own unit."""
    a, b = a.detach()[0], b.detach()[0].to(a)
    if not (a.isfinite().all() and b.isfinite().all()):
        return 0.0
    size = max(1.0, float(a.abs().max()))
    return max(float((a.softmax(0) - b.softmax(0)).abs().max()), float((a - b).abs().max()) / size)


def features_apart(a: Tensor, b: Tensor) -> float:
    """Of the first rows, in the size of the first one."""
    return _mean_distance(a, b) / max(1e-6, float(a.detach()[0].square().mean().sqrt()))


def noise_apart(a: Tensor, b: Tensor) -> float:
    """Of the first rows, in standard deviations of noise, 1."""
    return _mean_distance(a, b)


def images_apart(a: Tensor, b: Tensor) -> float:
    """Of the first rows: 1 is a fifth of the range from black to white."""
    return 5 * _mean_distance(a, b)


def codes_apart(std: Tensor) -> Callable[[Code, Code], float]:
    """Of the first rows, in spreads of the codes."""

    def apart(a: Code, b: Code) -> float:
        change = a.z.detach()[:1] - b.z.detach()[:1].to(a.z)
        return _mean_distance(standardise(change, std), torch.zeros_like(change))

    return apart


def _mean_distance(a: Tensor, b: Tensor) -> float:
    """Root of the mean squared difference of the first rows; 0 where one is not finite."""
    a, b = a.detach()[0], b.detach()[0].to(a)
    if a.shape != b.shape or not (a.isfinite().all() and b.isfinite().all()):
        return 0.0
    return float((a - b).square().mean().sqrt())


def _rows(x: Any, rows: int, which: list[int]) -> Any:
    """Some rows of a tensor that has one per image; anything else as it is."""
    is_rows = isinstance(x, Tensor) and x.ndim and len(x) == rows
    return x.detach()[which] if is_rows else x


def _random_state() -> tuple[Any, ...]:
    """The global random numbers' state: torch on the CPU and on a GPU in use, numpy, Python."""
    gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    numbers: Any = np.random.get_state()  # noqa: NPY002
    return (
        torch.get_rng_state(),
        torch.cuda.get_rng_state() if gpu else None,
        numbers[1],
        numbers[2:],
        random.getstate(),
    )


def _equal(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return all(_same(x, y) for x, y in zip(a, b, strict=True))


def _same(x: Any, y: Any) -> bool:
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return torch.equal(x, y)
    if isinstance(x, np.ndarray):
        return bool(np.array_equal(x, y))
    return bool(x == y)
