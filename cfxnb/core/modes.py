"""The modes of torch under which every method runs, whatever modes its caller has set."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

DEVICES = ("cpu", "cuda", "mps", "xpu")  # those that have an autocast of their own
_LOCK = threading.RLock()
_RANDOM = threading.RLock()
_users = 0
_default = torch.float32


def standard_modes(function: Callable[P, R]) -> Callable[P, R]:
    """Run a public function with gradients enabled, in float32, on the devices it names itself.

    Inside, these modes of the caller are off: ``torch.inference_mode``, ``torch.no_grad``,
    ``torch.autocast``, ``torch.set_default_dtype`` and ``torch.set_default_device``. They would
    change the numbers, or end the gradient. Afterwards they are as they were before.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with standard():
            return function(*args, **kwargs)

    return run


@contextlib.contextmanager
def standard() -> Iterator[None]:
    """The modes of ``standard_modes``, for the body of a ``with`` statement."""
    with contextlib.ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in DEVICES:
            if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(_float32())
        yield


@contextlib.contextmanager
def _float32() -> Iterator[None]:
    """The default dtype belongs to the whole process, so its users are counted, as of a network."""
    global _users, _default
    with _LOCK:
        if not _users:
            _default = torch.get_default_dtype()
        _users += 1
        if torch.get_default_dtype() is not torch.float32:
            torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            if not _users and torch.get_default_dtype() is not _default:
                torch.set_default_dtype(_default)


@contextlib.contextmanager
def own_random_numbers(seed: int) -> Iterator[None]:
    """Seed torch's global random numbers inside, and give them back as they were.

    Dropout and initial weights can draw from nowhere else.
    """
    with _RANDOM, torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
