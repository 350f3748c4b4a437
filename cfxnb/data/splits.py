"""Divide a data set by a hash of each image, so that the split of an image never changes."""

import hashlib
from collections.abc import Sequence
from typing import Any

from cfxnb.core import validate

SPLITS = ("train", "validation", "test")


def digest(content: bytes | str) -> bytes:
    """Return 16 bytes that depend on the content only, on every machine and in every version."""
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return hashlib.blake2b(raw, digest_size=16).digest()


def split_of(key: bytes, fractions: Sequence[float]) -> str:
    """Return the split of an image whose digest is ``key``.

    Equal keys have the same split. Adding or removing images moves no other image.

    Args:
        key: Result of ``digest``.
        fractions: Expected fraction of images in each of ``SPLITS``. They sum to 1.
    """
    position, below = int.from_bytes(key[:8], "big") / 2**64, 0.0
    for name, fraction in zip(SPLITS, fractions, strict=True):
        below += fraction
        if position < below:
            return name
    return next(name for name, f in zip(SPLITS[::-1], fractions[::-1], strict=True) if f)


def check_fractions(value: Any, name: str = "fractions") -> tuple[float, ...]:
    """Return three numbers >= 0 that sum to 1."""
    given = [validate.number(each, name, 0, 1) for each in validate.listed(value, name, "numbers")]
    if len(given) != len(SPLITS) or abs(sum(given) - 1) > 1e-6:
        raise ValueError(
            f"{name}: expected three numbers that sum to 1, for {', '.join(SPLITS)}, got {given}"
        )
    return tuple(given)
