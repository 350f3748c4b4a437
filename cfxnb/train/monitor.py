"""Watch a training: measure the loss on held-out images, and write pictures."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from cfxnb.core.training import Loss
from cfxnb.train.images_as_png import write_rows

PATIENCE = 6  # checks without improvement after which a training stops
logger = logging.getLogger("cfxnb.train")
Preview = Callable[[nn.Module], list[Tensor]]  # the network -> rows of images in [0, 1]


class HeldOutMonitor:
    """Measure the loss on held-out images, keep the best weights, and write previews.

    Args:
        loss: Loss function, as ``fit`` takes it.
        data: Tensors of the held-out images, one row per image. None measures no loss.
        batch_size: Images per call of ``loss``.
        preview: Function that returns rows of images, such as reconstructions.
        preview_dir: Folder for the previews. None writes no previews.
        n_checks: Number of checks in a whole training.
        device: Device of the network.
    """

    def __init__(
        self,
        loss: Loss,
        data: tuple[Any, ...] | None,
        *,
        batch_size: int,
        device: torch.device,
        preview: Preview | None = None,
        preview_dir: Path | None = None,
        n_checks: int = 25,
    ) -> None:
        self.loss, self.data, self.batch_size, self.device = loss, data, batch_size, device
        self.preview, self.preview_dir, self.n_checks = preview, preview_dir, n_checks
        self.losses: list[float] = []
        self.kept: dict[str, Tensor] | None = None

    def check(self, model: nn.Module, progress: float) -> bool:
        """Return True if the held-out loss has not improved for ``PATIENCE`` checks."""
        if self.preview is not None and self.preview_dir is not None:
            write_rows(self.preview_dir / "preview.png", self.preview(model))
        if self.data is None:
            return False
        value = self.held_out_loss(model)
        if not self.losses or value < min(self.losses):
            self.kept = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        self.losses.append(value)
        logger.info("%3.0f %%: held-out loss %.5g", 100 * min(progress, 1), value)
        return len(self.losses) - self.losses.index(min(self.losses)) > PATIENCE

    def held_out_loss(self, model: nn.Module) -> float:
        """Return the mean loss on the held-out images, with the same random numbers each time."""
        if self.data is None:
            return float("nan")
        total, n = 0.0, len(self.data[0])
        for start in range(0, n, self.batch_size):
            rows = torch.arange(start, min(start + self.batch_size, n))
            batch = tuple(part[rows].to(self.device) for part in self.data)
            generator = Generator(device=self.device).manual_seed(start)
            total += float(self.loss(model, batch, generator)) * len(rows)
        return total / n

    def best(self) -> dict[str, Tensor] | None:
        """Return the weights with the smallest held-out loss."""
        return self.kept

    def state(self) -> dict[str, Any]:
        return {"losses": self.losses, "kept": self.kept}

    def resume(self, state: dict[str, Any]) -> None:
        self.losses, self.kept = list(state["losses"]), state["kept"]
