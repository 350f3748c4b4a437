"""Which of several processes this one is, if a script was started in several processes at once.

``accelerate launch`` and ``torchrun`` start one process per GPU, and tell each process its number
in environment variables. Without these variables there is one process, the main process.

The processes of one call share a folder, see ``core.streamed``. They need no other connection, so a
process that dies does not hold up the others.
"""

import os

import torch


def index() -> int:
    """Return the number of this process, from 0."""
    return _number("RANK", 0)


def count() -> int:
    """Return the number of processes."""
    return max(1, _number("WORLD_SIZE", 1))


def is_main() -> bool:
    """Return whether this is the main process, which alone prints and shows progress bars."""
    return index() == 0


def device() -> torch.device:
    """Return the device of this process: its own GPU if there are GPUs, otherwise the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", _number("LOCAL_RANK", 0) % torch.cuda.device_count())


def _number(name: str, default: int) -> int:
    """Return a whole number from an environment variable."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default
