"""One training loop for every shipped network: AdamW, cosine schedule, EMA, resumable."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor, nn
from tqdm import tqdm

Net = TypeVar("Net", bound=nn.Module)
Loss = Callable[[Any, tuple[Tensor, ...], Generator], Tensor]
Recipe = Callable[[Path, str], None]  # (folder of checkpoints, device) -> ships a network
SAVE_EVERY_SECONDS = 60.0


def fit(
    model: Net,
    loss: Loss,
    data: tuple[Tensor, ...],
    *,
    steps: int,
    batch: int,
    lr: float,
    folder: Path | None,
    ema: float = 0.999,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Net:
    """Train ``model`` and return it with averaged weights, in evaluation mode.

    Args:
        model: trained in place.
        loss: ``loss(model, batch_tensors, generator) -> scalar``; all of its randomness comes
            from the generator, which is seeded anew at every step.
        data: tensors with one row a sample; batches are drawn without replacement.
        steps: optimiser steps in all. A run that was stopped continues at its last checkpoint
            in ``folder`` and gives the same result as one that was not. None keeps nothing.
        lr: peak learning rate; 2 % linear warm-up, then a cosine to zero.
        ema: decay of the exponential moving average of weights and buffers.

    The forward pass runs in bfloat16 and channels_last, which doubles the speed twice over on
    processors that have matrix units; weights and loss stay in float32.
    """
    device = torch.device(device)
    _layout(model.to(device), torch.channels_last).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4)
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    checkpoint = None if folder is None else folder / "checkpoint.pt"
    start = 0
    if checkpoint is not None and checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=True, map_location=device)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        average, start = saved["average"], saved["step"]

    def save(step: int) -> None:
        if checkpoint is None:
            return
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
        partial = checkpoint.with_suffix(".partial")
        torch.save({**state, "average": average, "step": step}, partial)
        partial.replace(checkpoint)  # a run killed while writing keeps the old checkpoint

    last_save = time.monotonic()
    for step in (bar := tqdm(range(start, steps), initial=start, total=steps, mininterval=5)):
        for group in optimiser.param_groups:
            group["lr"] = lr * _schedule(step / steps)
        rows = _rows(len(data[0]), batch, step, seed)
        generator = Generator(device=device).manual_seed(seed * 10**9 + step)
        value = loss(model, tuple(_to(t[rows], device) for t in data), generator)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        _blend(average, model.state_dict(), min(ema, (1 + step) / (10 + step)))
        if step % 50 == 0:
            bar.set_postfix(loss=f"{value.item():.4f}")
        if time.monotonic() - last_save > SAVE_EVERY_SECONDS:
            save(step + 1)
            last_save = time.monotonic()
    save(steps)
    model.load_state_dict(average)
    return _layout(model, torch.contiguous_format).eval()


def _layout(model: Net, layout: torch.memory_format) -> Net:
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return model


def autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16)


def _to(tensor: Tensor, device: torch.device) -> Tensor:
    moved = tensor.to(device)
    return moved.contiguous(memory_format=torch.channels_last) if moved.ndim == 4 else moved


def _schedule(progress: float) -> float:
    warm = min(1.0, progress / 0.02 + 0.01)
    return warm * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * progress)).item())


def _rows(count: int, batch: int, step: int, seed: int) -> Tensor:
    """The rows of one step: epoch by epoch a fresh shuffle that depends on nothing else."""
    epoch, position = divmod(step, count // batch)
    order = torch.randperm(count, generator=Generator().manual_seed(seed * 10**6 + epoch))
    return order[position * batch : (position + 1) * batch]


@torch.no_grad()
def _blend(average: dict[str, Tensor], state: dict[str, Tensor], decay: float) -> None:
    for key, value in state.items():
        if value.is_floating_point():
            average[key].lerp_(value, 1 - decay)
        else:
            average[key].copy_(value)
