"""In which precision a space's network runs."""

from contextlib import AbstractContextManager
from typing import Any

import torch

from cfxnb import validate


def checked_precision(value: Any, name: str = "precision") -> str | None:
    """``"float32"``, ``"bfloat16"`` or None, checked."""
    allowed = ("float32", "bfloat16")
    return None if value is None else validate.choice(value, name, allowed)


def autocast(device: torch.device, asked: str | None) -> AbstractContextManager:
    """None takes bfloat16 where it is faster: on CUDA, and on processors that multiply in it."""
    fast = device.type == "cuda" or (device.type == "cpu" and _multiplies())
    low = asked == "bfloat16" or (asked is None and fast)
    return torch.autocast(device.type, torch.bfloat16, enabled=low)


def _multiplies() -> bool:
    """Whether this processor has products of bfloat16: AMX, or AVX-512 with BF16."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
