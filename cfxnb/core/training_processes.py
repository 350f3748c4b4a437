"""The processes that ``accelerate launch`` started, as a training sees them.

One process alone needs no communication, and computes what it always computed.
"""

import os
from typing import Any

import torch
from torch import Tensor, nn


class Processes:
    """The processes of a training: which one this is, and what they tell each other.

    Attributes:
        rank, count: Number of this process, and number of all processes.
    """

    def __init__(self) -> None:
        self._state: Any = None
        self.rank, self.count = 0, 1
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState  # not at the top, because the import takes seconds

            self._state = PartialState()
            self.rank, self.count = self._state.process_index, self._state.num_processes

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def device(self, wanted: torch.device) -> torch.device:
        """Return the device of this process: on a machine with several GPUs, its own one."""
        own = None if self._state is None else self._state.device
        return own if own is not None and own.type == wanted.type else wanted

    def part(self, rows: Tensor) -> Tensor:
        """Return the rows of a batch that this process computes."""
        return rows[self.rank :: self.count]

    def from_first(self, value: Any) -> Any:
        """Return the value that the first process has."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        held = [value]
        broadcast_object_list(held)
        return held[0]

    def average_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its mean over all processes."""
        if self.count == 1:
            return
        from accelerate.utils import reduce

        own = [p.grad for p in model.parameters() if p.grad is not None]
        joined: Tensor = reduce(torch.cat([g.flatten() for g in own]), "mean")
        for gradient, part in zip(own, joined.split([g.numel() for g in own]), strict=True):
            gradient.copy_(part.view_as(gradient))
