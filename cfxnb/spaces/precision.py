"""The numerical precision of the networks of a space."""

from contextlib import AbstractContextManager
from typing import Any

import torch

from cfxnb.core import validate


def checked_precision(value: Any, name: str = "precision") -> str:
    """Check that ``value`` is "float32" or "bfloat16", and return it."""
    return validate.choice(value, name, ("float32", "bfloat16"))


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Return a context in which networks run in ``precision``.

    bfloat16 is used only if the user asks for it, so that results don't depend on the machine. The
    context also overrides an autocast context of the caller.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
