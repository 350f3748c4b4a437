"""One training: its images, settings, time budget and folders."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cfxnb.core.training import Loss, Net, fit
from cfxnb.train.monitor import HeldOutMonitor, Preview
from cfxnb.train.training_data import Parts

OVERHEAD = 0.1  # of the time budget, for reading, measuring and writing


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of an optimiser. Each kind of network has its own default.

    Attributes:
        steps: Largest number of optimiser steps.
        batch_size: Images per step.
        lr: Highest learning rate.
        ema: Decay of the average of weights.
    """

    steps: int
    batch_size: int
    lr: float
    ema: float = 0.999

    def changed(self, **given: Any) -> "Settings":
        """Return settings with the values of ``given`` that are not None."""
        return dataclasses.replace(self, **{k: v for k, v in given.items() if v is not None})


@dataclasses.dataclass(frozen=True)
class Task:
    """Settings of one training.

    Attributes:
        parts: The images.
        given: Settings that the caller named: ``steps``, ``batch_size``, ``lr``, ``ema``.
        minutes: Time budget, or None.
        device: Device to train on.
        checkpoint_dir: Folder for checkpoints, or None.
        preview_dir: Folder for pictures, or None.
        seed: Seed of initial weights and batches.
        options: Further arguments of the kind of network.
    """

    parts: Parts
    given: dict[str, Any]
    minutes: float | None
    device: torch.device
    checkpoint_dir: Path | None
    preview_dir: Path | None
    seed: int
    options: dict[str, Any]
    log: dict[str, Any] = dataclasses.field(default_factory=dict)

    def start(self) -> None:
        """Set torch's seed, from which initial weights are drawn."""
        torch.manual_seed(self.seed)

    def fit(
        self,
        net: Net,
        loss: Loss,
        train: tuple[Any, ...],
        stop: tuple[Any, ...] | None,
        default: Settings,
        *,
        stage: str = "",
        share: float = 1.0,
        held_out_loss: Loss | None = None,
        preview: Preview | None = None,
    ) -> Net:
        """Train a network with the settings of this task, and return it on the CPU.

        Args:
            net: Network, trained in place.
            loss: Loss function, as ``cfxnb.core.training.fit`` takes it.
            train: Tensors of the training images, one row per image.
            stop: Tensors of the images for early stopping, or None.
            default: Settings for which the caller gave no value.
            stage: Name of this stage, if a kind has several.
            share: Fraction of the time budget.
            held_out_loss: Loss on ``stop``. Default: ``loss``.
            preview: Function that returns pictures, such as reconstructions.
        """
        settings = default.changed(**(self.given if not stage else {}))
        settings = settings.changed(batch_size=min(settings.batch_size, len(train[0])))
        seconds = None if self.minutes is None else 60 * self.minutes * (1 - OVERHEAD) * share
        monitor = None
        if stop is not None or (preview is not None and self.preview_dir is not None):
            monitor = HeldOutMonitor(
                held_out_loss or loss,
                stop,
                batch_size=settings.batch_size,
                device=self.device,
                preview=preview,
                preview_dir=self.preview_dir,
            )
        folder = self.checkpoint_dir
        if folder is not None and stage:
            folder = folder / stage
        trained = fit(
            net,
            loss,
            train,
            **dataclasses.asdict(settings),
            checkpoint_dir=folder,
            seed=self.seed,
            device=self.device,
            config={
                "data": self.parts.train.id,
                "rows": [len(t) for t in train],
                "loss options": _options_of(loss),
            },
            seconds=seconds,
            monitor=monitor,
        ).cpu()
        record: dict[str, Any] = {**dataclasses.asdict(settings), "loss": _name(loss)}
        if seconds is not None:
            record["seconds at most"] = round(seconds)
        if monitor is not None and monitor.losses:
            record["held-out losses"] = [round(x, 6) for x in monitor.losses]
        self.log[stage or "training"] = record
        return trained


def _name(loss: Any) -> str:
    return getattr(loss, "__qualname__", type(loss).__name__)


def _options_of(loss: Any) -> dict[str, Any]:
    """Return the numbers and texts that a loss holds, such as the weights of its terms."""
    held = getattr(loss, "__dict__", {})
    return {k: v for k, v in held.items() if isinstance(v, bool | int | float | str)}


def epochs(n_images: int, batch_size: int, n_epochs: float, low: int, high: int) -> int:
    """Return the number of steps of some epochs, at least ``low`` and at most ``high``."""
    return int(min(high, max(low, n_epochs * n_images / batch_size)))


def levels_of(side: int, most: int, smallest: int = 4) -> int:
    """Return how often a side can be halved, so that at least ``smallest`` pixels are left."""
    count = 0
    while count < most and side % 2 == 0 and side // 2 >= smallest:
        side //= 2
        count += 1
    return count


def halvings(shape: tuple[int, ...], most: int, least: int) -> int:
    """Return how often height and width of images (c, h, w) are halved by a network.

    Raises:
        ValueError: If they can't be halved ``least`` times.
    """
    count = min(levels_of(side, most) for side in shape[1:])
    if count < least:
        unit = 2**least
        near = [max(4 * unit, round(side / unit) * unit) for side in shape[1:]]
        raise ValueError(
            f"data: expected images whose height and width are divisible by {unit} and at least "
            f"{4 * unit}, got {shape[1]}x{shape[2]}. Resize them, for example to "
            f"{near[0]}x{near[1]}."
        )
    return count


def frozen(net: nn.Module) -> nn.Module:
    """Return a network in evaluation mode whose weights need no gradients."""
    return net.eval().requires_grad_(False)
