"""Go on with smaller batches when the memory of a GPU or of the machine runs out."""

import gc
from collections.abc import Callable, Sized
from typing import Any, TypeVar

import torch

Chunk = TypeVar("Chunk", bound=Sized)
Part = TypeVar("Part")

#: What torch says if it cannot allocate memory, besides its OutOfMemoryError.
SAYINGS = ("out of memory", "DefaultCPUAllocator", "ALLOC_FAILED", "bad_alloc")


class RanOut:
    """Stands for the result of a batch that did not fit in memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there is too little memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in SAYINGS)


def within_memory(
    work: Callable[[Chunk], Part], chunk: Chunk, repeatable: bool = True
) -> Part | RanOut:
    """Return ``work(chunk)``, or a RanOut if memory ran out and a smaller chunk may fit.

    Args:
        work: Function that computes the result of some images.
        chunk: The images, or their positions.
        repeatable: Whether ``work`` may be repeated with a part of the images. Paid queries may
            not.

    Raises:
        torch.OutOfMemoryError: If memory ran out, and a smaller chunk is no remedy.
    """
    try:
        return work(chunk)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(chunk) == 1 or not repeatable:
            count = "one image" if len(chunk) == 1 else f"{len(chunk)} images"
            raise torch.OutOfMemoryError(
                f"batch_size: memory ran out with {count} at a time; pass a smaller batch_size if "
                f"it is above 1, or smaller images. {str(error)[:300]}"
            ) from error
    # The traceback of the error, which is gone here, has held the tensors of the batch.
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return RanOut()


def pieces(chunk: Any, limit: int | None) -> list[Any]:
    """Split images, or their positions, into pieces of at most ``limit``."""
    if limit is None or len(chunk) <= limit:
        return [chunk]
    return [chunk[at : at + limit] for at in range(0, len(chunk), limit)]
