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
    """None takes bfloat16 where it is faster: on CUDA, and on processors with matrix units."""
    fast = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_amx_tile_supported())
    low = asked == "bfloat16" or (asked is None and fast)
    return torch.autocast(device.type, torch.bfloat16, enabled=low)
