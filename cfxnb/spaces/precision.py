"""In which precision a space's network runs."""

from contextlib import AbstractContextManager
from typing import Any

import torch

from cfxnb.core import validate


def checked_precision(value: Any, name: str = "precision") -> str:
    """``"float32"`` or ``"bfloat16"``, checked."""
    return validate.choice(value, name, ("float32", "bfloat16"))


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """bfloat16 where it was asked for, and nowhere else: numbers must not depend on the machine.

    Inside, autocast of the caller is off.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
