"""The training loop of all shipped networks, which uses AdamW and averages weights."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor, nn

from cfxnb.core.kept_work import TOLERANCE, CheckpointDir, differ, digest, other_part, sketch
from cfxnb.core.modes import own_random_numbers
from cfxnb.core.progress import Progress

Net = TypeVar("Net", bound=nn.Module)
Loss = Callable[[Any, tuple[Tensor, ...], Generator], Tensor]
Recipe = Callable[[Path, str], None]  # (checkpoint folder, device): trains and ships a network
SAVE_EVERY_SECONDS = 60.0
CHECKPOINT, BEGUN = "checkpoint.pt", "begun.safetensors"
LOSS_TOLERANCE = 0.02  # of the first loss: bfloat16 rounding depends on the processor


def fit(
    model: Net,
    loss: Loss,
    data: tuple[Tensor, ...],
    *,
    steps: int,
    batch_size: int,
    lr: float,
    checkpoint_dir: Path | None,
    ema: float = 0.999,
    seed: int = 0,
    device: str | torch.device = "cpu",
    config: Mapping[str, Any] | None = None,
    answers: Mapping[str, Tensor] | None = None,
) -> Net:
    """Train ``model`` and return it with averaged weights, in evaluation mode.

    The forward pass runs in bfloat16 and channels_last, which is up to four times as fast on
    processors with matrix units. Weights and loss stay in float32.

    Args:
        model: trained in place.
        loss: ``loss(model, batch_tensors, generator) -> scalar``. All randomness of the loss must
            come from the generator, which gets a new seed at every step.
        data: tensors with one row per sample. Batches are drawn without replacement.
        steps: number of optimiser steps. A stopped run continues at its last checkpoint, with the
            same result as without a stop.
        batch_size: samples per step.
        lr: highest learning rate: linear warm-up in the first 2 % of the steps, then a cosine to 0.
        checkpoint_dir: folder of this training, locked while it runs. The folder of another
            training is refused. If ``checkpoint_dir`` is None, no checkpoints are stored.
        ema: decay of the exponential moving average of weights and buffers.
        seed: seed of the batches and of the generator.
        config: JSON values that say where data and model come from. A folder with another
            ``config`` is refused. If ``config`` is None, a hash of the data identifies the data.
        answers: dict from the name of each further network that the loss uses to its outputs (n,
            ...) for n fixed inputs. If outputs differ from those in the folder by more than
            rounding, the folder is refused.

    Raises:
        ValueError: if ``checkpoint_dir`` belongs to another training, is in use, or was altered.
    """
    device = torch.device(device)
    _layout(model.to(device), torch.channels_last).train()
    with contextlib.ExitStack() as stack:
        kept = None
        if checkpoint_dir is not None:
            task: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "lr": lr, "ema": ema}
            task |= {"seed": seed, "device": device.type}
            task |= {"loss": _name(loss), "model": _name(type(model))}
            task |= {"data": digest(*data)} if config is None else config
            kept = stack.enter_context(CheckpointDir(checkpoint_dir, "training.json", task))
            rows = tuple(_to(t[_rows(len(data[0]), batch_size, 0, seed)], device) for t in data)
            _check_begun(kept, dict(answers or {}) | _begun(model, loss, rows))
        return _train(model, loss, data, steps, batch_size, lr, ema, seed, device, kept)


def _train(
    model: Net,
    loss: Loss,
    data: tuple[Tensor, ...],
    steps: int,
    batch_size: int,
    lr: float,
    ema: float,
    seed: int,
    device: torch.device,
    kept: CheckpointDir | None,
) -> Net:
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4)
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    start = 0
    if kept is not None and kept.has(CHECKPOINT):
        saved = kept.read(CHECKPOINT, "delete it and run again: training starts from the beginning")
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        average = {k: v.to(device) for k, v in saved["average"].items()}
        start = saved["step"]

    def save(step: int) -> None:
        if kept is None:
            return
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
        kept.write(CHECKPOINT, {**state, "average": average, "step": step})

    last_save = time.monotonic()
    for step, bar in _with_bar(start, steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * _schedule(step / steps)
        rows = _rows(len(data[0]), batch_size, step, seed)
        generator = Generator(device=device).manual_seed(seed * 10**9 + step)
        with _kept_if_interrupted(model, save, step) if kept else contextlib.nullcontext():
            value = loss(model, tuple(_to(t[rows], device) for t in data), generator)
            optimiser.zero_grad()
            value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        _blend(average, model.state_dict(), min(ema, (1 + step) / (10 + step)))
        if step % 50 == 0:
            bar.within(0, loss=f"{value.item():.4f}")
        if time.monotonic() - last_save > SAVE_EVERY_SECONDS:
            save(step + 1)
            last_save = time.monotonic()
    save(steps)
    model.load_state_dict(average)
    return _layout(model, torch.contiguous_format).eval()


def _with_bar(start: int, steps: int) -> Iterator[tuple[int, Progress]]:
    """Yield the numbers of the steps, each with the progress bar."""
    with Progress(steps, "training", initial=start) as bar:
        for step in range(start, steps):
            bar.begin(1)
            yield step, bar
            bar.end()


@contextlib.contextmanager
def _kept_if_interrupted(
    model: nn.Module, save: Callable[[int], None], step: int
) -> Iterator[None]:
    """Save the state before a step if the step is interrupted in the loss.

    The loss can only change buffers of the model, and these buffers are restored.
    """
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    except BaseException:
        with torch.no_grad(), contextlib.suppress(ValueError):  # the interruption matters more
            for buffer, old in zip(model.buffers(), before, strict=True):
                buffer.copy_(old)
            save(step)
        raise


def _begun(model: nn.Module, loss: Loss, rows: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Return the initial weights as sketches (16 numbers each), and the loss of the first batch."""
    state = model.state_dict()
    found = {f"model {i}": sketch(x.flatten()[None]) for i, x in enumerate(state.values())}
    before = {name: value.clone() for name, value in state.items()}
    # Dropout in the model uses torch's global random state.
    with own_random_numbers(0):
        first = loss(model, rows, Generator(device=rows[0].device).manual_seed(0))
    model.load_state_dict(before)  # batch norm statistics may have changed
    return {**found, "loss": first.detach().float().reshape(1, 1)}


def _check_begun(kept: CheckpointDir, found: dict[str, Tensor]) -> None:
    """Store the result of ``_begun`` in the folder, or compare it with the result stored there."""
    remedy = f"delete it and {CHECKPOINT}, and run again: training starts from the beginning"
    if kept.has(BEGUN):
        before = kept.read(BEGUN, remedy)
        for name in [*found, *before]:
            tolerance = LOSS_TOLERANCE if name == "loss" else TOLERANCE
            here, there = found.get(name), before.get(name)
            if here is None or there is None or differ(here.cpu(), there, tolerance=tolerance):
                raise other_part(name.split()[0], kept.folder)
    elif kept.has(CHECKPOINT):
        raise ValueError(
            f"checkpoint_dir: expected {BEGUN} beside {CHECKPOINT}, got {kept.folder} without it; "
            f"delete {CHECKPOINT} and run again: training starts from the beginning"
        )
    else:
        kept.write(BEGUN, found)


def _name(part: Any) -> str:
    kind = part if hasattr(part, "__qualname__") else type(part)
    return f"{kind.__module__}.{kind.__qualname__}"


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


def _rows(count: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Return the rows of one batch. The order of the rows in an epoch depends only on (seed,
    epoch)."""
    epoch, position = divmod(step, count // batch_size)
    order = torch.randperm(count, generator=Generator().manual_seed(seed * 10**6 + epoch))
    return order[position * batch_size : (position + 1) * batch_size]


@torch.no_grad()
def _blend(average: dict[str, Tensor], state: dict[str, Tensor], decay: float) -> None:
    for key, value in state.items():
        if value.is_floating_point():
            average[key].lerp_(value, 1 - decay)
        else:
            average[key].copy_(value)
