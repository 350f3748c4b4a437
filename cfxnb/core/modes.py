"""The modes of torch under which every method runs, whatever modes its caller has set."""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=Callable[..., Any])

DEVICES = ("cpu", "cuda", "mps", "xpu")  # those that have an autocast of their own
_LOCK = threading.RLock()
_RANDOM = threading.RLock()
_users = 0
_before: "_Settings | None" = None


def standard_modes(function: Function) -> Function:
    """Decorate a public function, so that it runs with gradients and in float32.

    The decorated function ignores ``torch.inference_mode``, ``torch.no_grad``, ``torch.autocast``,
    ``torch.set_default_dtype`` and ``torch.set_default_device`` of the caller, because these modes
    would change results or prevent gradients. Matrix products have full float32 precision, without
    TF32 or bfloat16. When the function returns, all modes are restored.

    The default dtype and the precision of matrix products are settings of the whole process. While
    a decorated function runs, the float32 dtype and full precision apply to other threads too.
    """

    return standard()(function)


def standard_numbers(function: Function) -> Function:
    """Decorate a method as ``standard_modes`` does, but leave gradients on or off as they are."""
    return float32()(function)


@contextlib.contextmanager
def standard() -> Iterator[None]:
    """Set the modes of ``standard_modes`` inside a ``with`` block."""
    with contextlib.ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(float32())
        yield


@contextlib.contextmanager
def float32() -> Iterator[None]:
    """Set the modes of ``standard_numbers`` inside a ``with`` block."""
    with contextlib.ExitStack() as stack:
        for device in DEVICES:
            if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(_exact())
        yield


@contextlib.contextmanager
def _exact() -> Iterator[None]:
    """Set full float32 precision in the whole process during the ``with`` block."""
    global _users, _before
    with _LOCK:
        if not _users:
            _before = _Settings.now()
            EXACT.apply(_before)
        _users += 1
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            if not _users and _before is not None:
                _before.apply(_Settings.now())


def _parts() -> tuple[Any, ...]:
    """Return torch's backends for float32 products: those of NVIDIA, and those of Intel."""
    cudnn: Any = torch.backends.cudnn
    onednn: Any = torch.backends.mkldnn
    return (
        cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul, onednn.matmul, onednn.conv, onednn.rnn,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Settings:
    """Settings of the process that change the results of computations.

    torch has two interfaces for the precision of float32 products. The fields ``cudnn`` and
    ``products`` belong to the old interface, and ``precisions`` to the new one. ``cudnn`` or
    ``products`` is None if torch cannot read the setting, because the new interface has another
    value."""

    dtype: torch.dtype
    cudnn: bool | None
    products: str | None
    precisions: tuple[str, ...]

    @staticmethod
    def now() -> "_Settings":
        cudnn = products = None
        with contextlib.suppress(RuntimeError):
            cudnn = torch.backends.cudnn.allow_tf32
        with contextlib.suppress(RuntimeError):
            products = torch.get_float32_matmul_precision()
        precisions = tuple(part.fp32_precision for part in _parts())
        return _Settings(torch.get_default_dtype(), cudnn, products, precisions)

    def apply(self, now: "_Settings") -> None:
        """Set those settings that differ from ``now``.

        torch's old interface is set before the new one, because setting the old interface changes
        the new one.
        """
        if self == now:
            return
        if self.dtype is not now.dtype:
            torch.set_default_dtype(self.dtype)
        if self.cudnn is not None and self.cudnn != now.cudnn:
            torch.backends.cudnn.allow_tf32 = self.cudnn
        if self.products is not None and self.products != now.products:
            torch.set_float32_matmul_precision(self.products)
        for part, wanted in zip(_parts(), self.precisions, strict=True):
            exact = wanted == "ieee" and part.fp32_precision == "none"
            if part.fp32_precision != wanted and not exact:
                part.fp32_precision = wanted


EXACT = _Settings(torch.float32, False, "highest", ("ieee",) * 6)


@contextlib.contextmanager
def own_random_numbers(seed: int) -> Iterator[None]:
    """Seed torch's global random generators inside the ``with`` block, and restore them afterwards.

    Dropout and the initialisation of weights can use no other generator than the global ones.
    """
    with _RANDOM, torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
