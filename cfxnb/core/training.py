"""The training loop of all shipped networks, which uses AdamW and averages weights."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Generator, Tensor, nn

from cfxnb.core.kept_work import TOLERANCE, CheckpointDir, differ, digest, other_part, sketch
from cfxnb.core.modes import own_random_numbers
from cfxnb.core.progress import Progress
from cfxnb.core.training_processes import Processes

Net = TypeVar("Net", bound=nn.Module)
Loss = Callable[[Any, tuple[Tensor, ...], Generator], Tensor]
Recipe = Callable[[Path, str], None]  # (checkpoint folder, device): trains and ships a network
SAVE_EVERY_SECONDS = 60.0
CHECKPOINT, BEGUN = "checkpoint.pt", "begun.safetensors"
RANK_SEED = 10**15  # distance of the seeds of two processes, above those of all steps
LOSS_TOLERANCE = 0.02  # of the first loss: bfloat16 rounding depends on the processor


class Rows(Protocol):
    """Rows that are read when a batch needs them: what ``fit`` needs of its data."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor) -> Tensor: ...


class Monitor(Protocol):
    """Looks at a training now and then, and may end it early.

    Attributes:
        n_checks: How many checks are made in a whole training, evenly spaced.
    """

    n_checks: int

    def check(self, model: nn.Module, progress: float) -> bool:
        """Look at the model with averaged weights, in evaluation mode. Return True to stop."""

    def best(self) -> dict[str, Tensor] | None:
        """Return the weights to keep, or None for those at the end."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold: tensors, numbers, lists and dicts."""

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a state."""


def fit(
    model: Net,
    loss: Loss,
    data: tuple[Tensor | Rows, ...],
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
    seconds: float | None = None,
    monitor: Monitor | None = None,
) -> Net:
    """Train ``model`` and return it with averaged weights, in evaluation mode.

    The forward pass runs in channels_last and, on devices that have it, in bfloat16, which is up
    to four times as fast on processors with matrix units. Weights and loss stay in float32.

    If ``accelerate launch`` started several processes, each of them computes its part of every
    batch, and gradients are averaged. The first process writes checkpoints and asks ``monitor``.

    Args:
        model: trained in place.
        loss: ``loss(model, batch_tensors, generator) -> scalar``. All randomness of the loss must
            come from the generator, which gets a new seed at every step.
        data: tensors with one row per sample, or ``Rows``. Batches are drawn without replacement.
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
        seconds: time limit. The learning rate then falls with the time, if time runs out before
            ``steps``. Time before an interruption counts. Default: no limit.
        monitor: looks at the model now and then, and may end the training early.

    Raises:
        ValueError: if ``checkpoint_dir`` belongs to another training, is in use, or was altered.
    """
    processes = Processes()
    device = processes.device(torch.device(device))
    _layout(model.to(device), torch.channels_last).train()
    with contextlib.ExitStack() as stack:
        kept = None
        if checkpoint_dir is not None and processes.is_first:
            task: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "lr": lr, "ema": ema}
            task |= {"seed": seed, "device": device.type}
            task |= {"loss": _name(loss), "model": _name(type(model))}
            task |= {} if seconds is None else {"seconds": seconds}
            task |= {"data": digest(*data)} if config is None else config
            kept = stack.enter_context(CheckpointDir(checkpoint_dir, "training.json", task))
            rows = tuple(_to(t[_rows(len(data[0]), batch_size, 0, seed)], device) for t in data)
            _check_begun(kept, dict(answers or {}) | _begun(model, loss, rows))
        plan = (steps, batch_size, lr, ema, seed, seconds)
        return _train(model, loss, data, *plan, device, kept, monitor, processes)


def _train(
    model: Net,
    loss: Loss,
    data: tuple[Tensor | Rows, ...],
    steps: int,
    batch_size: int,
    lr: float,
    ema: float,
    seed: int,
    seconds: float | None,
    device: torch.device,
    kept: CheckpointDir | None,
    monitor: Monitor | None,
    processes: Processes,
) -> Net:
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4)
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    start, used, done = 0, 0.0, False
    saved: dict[str, Any] | None = None
    if kept is not None and kept.has(CHECKPOINT):
        saved = kept.read(CHECKPOINT, "delete it and run again: training starts from the beginning")
    if (saved := processes.from_first(saved)) is not None:
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        average = {k: v.to(device) for k, v in saved["average"].items()}
        start, used, done = saved["step"], saved.get("used", 0.0), saved.get("done", False)
        if monitor is not None:
            monitor.resume(saved["monitor"])

    def save(step: int) -> None:
        if kept is None:
            return
        state: dict[str, Any] = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
        if monitor is not None:
            state["monitor"] = monitor.state()
        state |= {"used": clock(), "done": done}
        kept.write(CHECKPOINT, {**state, "average": average, "step": step})

    def clock() -> float:
        return used + time.monotonic() - begun

    def progress(step: int) -> float:
        """Return the finished fraction: of the steps, or of the time if that is larger."""
        return max(step / steps, processes.from_first(clock()) / seconds if seconds else 0.0)

    step, begun = start, time.monotonic()
    here, last_save = progress(start), begun
    with _Bar(here, steps) as bar:
        while not done and (here := progress(step)) < 1:
            for group in optimiser.param_groups:
                group["lr"] = lr * _schedule(here)
            rows = processes.part(_rows(len(data[0]), batch_size, step, seed))
            own_seed = seed * 10**9 + step + processes.rank * RANK_SEED
            generator = Generator(device=device).manual_seed(own_seed)
            with _kept_if_interrupted(model, save, step) if kept else contextlib.nullcontext():
                value = loss(model, tuple(_to(t[rows], device) for t in data), generator)
                optimiser.zero_grad()
                value.backward()
            processes.average_gradients(model)
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            _blend(average, model.state_dict(), min(ema, (1 + step) / (10 + step)))
            notes = {"loss": f"{value.item():.4f}"} if step % 50 == 0 else {}
            step += 1
            bar.move_to(progress(step), **notes)
            if monitor is not None and _marks(progress(step), monitor) > _marks(here, monitor):
                stop = processes.is_first and _checked(model, average, monitor, progress(step))
                done = processes.from_first(stop)
            if time.monotonic() - last_save > SAVE_EVERY_SECONDS:
                save(step)
                last_save = time.monotonic()
    done = True
    save(step)
    chosen = None if monitor is None else monitor.best()
    model.load_state_dict(processes.from_first(average if chosen is None else chosen))
    return _layout(model, torch.contiguous_format).eval()


class _Bar(Progress):
    """The progress bar of a training, in steps or, if time is shorter, in parts of the time."""

    def __init__(self, begun: float, steps: int) -> None:
        super().__init__(steps, "training", initial=begun * steps)
        self.begun = min(begun, 1.0)
        self.begin((1 - self.begun) * steps)

    def move_to(self, progress: float, **notes: Any) -> None:
        """Move the bar to a finished fraction of the whole training."""
        self.within((progress - self.begun) / max(1 - self.begun, 1e-9), **notes)


def _marks(progress: float, monitor: Monitor) -> int:
    return int(min(progress, 1.0) * monitor.n_checks + 1e-9)


def _checked(
    model: nn.Module, average: dict[str, Tensor], monitor: Monitor, progress: float
) -> bool:
    """Show the model with averaged weights to the monitor, and return whether to stop."""
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(average)
    try:
        with torch.no_grad():
            return monitor.check(model.eval(), progress)
    finally:
        model.load_state_dict(own)
        model.train()


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
    """Return a context in which products are computed in bfloat16, where that is fast."""
    return torch.autocast(device.type, torch.bfloat16, enabled=_has_bfloat16(device.type))


@functools.cache
def _has_bfloat16(kind: str) -> bool:
    """Return whether devices of a kind compute in bfloat16. Others only emulate it, slowly."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return True
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    checks = [getattr(torch.cpu, name, None) for name in names]
    return any(check() for check in checks if check is not None)


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
