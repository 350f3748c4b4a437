"""Repair: train a classifier a little further, on counterfactuals or otherwise."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from cfxnb.core import validate
from cfxnb.core.classifiers import as_classifier
from cfxnb.core.copies import copied
from cfxnb.core.modes import own_random_numbers, standard_modes
from cfxnb.core.modules import own_state
from cfxnb.core.prediction import predict_logits
from cfxnb.core.tensors import hash_seed


@standard_modes
def fine_tune(
    classifier: Any,
    images: Tensor,
    labels: Tensor,
    *,
    sample_weight: Tensor | None = None,
    steps: int = 300,
    batch_size: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
) -> Any:
    """A copy of a classifier, trained further; the original stays as it is.

    Counterfactuals whose cause is unchanged, with their old labels, tell a classifier that what it
    went by is not what counts.

    Args:
        classifier: made by ``wrap``, or a torch module that gives logits.
        images, labels: (n, c, h, w) in [0, 1] and (n,).
        sample_weight: of each image in the loss, (n,), such as ``group_weights``; equal by default.
        steps: of AdamW; the rate falls from ``lr`` to 0 as a cosine.
        seed: of the order of the images, and of dropout.

    Layers with frozen parameters (``requires_grad`` False) stay as they are, batch statistics
    included. Networks in float16 or bfloat16 are trained in float32 and are then what they were. If
    every parameter is frozen, as in networks from ``cfx.load``, all are trained. Mode
    and ``requires_grad`` of the copy are those of the original.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; for a loss that is not finite, and
            for a network that can't be copied or trained.
    """
    whole = as_classifier(_with_module(validate.white_box(classifier)))
    images = validate.images(images)
    classes = predict_logits(whole, images[:1]).shape[1]
    names = getattr(whole, "class_names", None)
    labels = validate.labels(labels, len(images), classes, "labels", names).cpu()
    each = _weights(sample_weight, len(images))
    steps, size = validate.count(steps, "steps", 1), validate.count(batch_size, "batch_size", 1)
    peak = validate.number(lr, "lr", 0.0, 1e6, open_low=True)
    start = hash_seed(validate.seed(seed), 0)
    original = classifier if isinstance(classifier, nn.Module) else classifier.module
    modes, flags = own_state(original)
    tuned = copied(classifier)
    module = tuned if isinstance(tuned, nn.Module) else tuned.module
    parameters = list(module.parameters())
    everything = not any(flags)
    free = [
        p.is_floating_point() and (flag or everything)
        for p, flag in zip(parameters, flags, strict=True)
    ]
    if not any(free):
        raise ValueError(
            "classifier: expected a network with parameters of floats, got one without any"
        )
    dtypes = _in_float32(module)
    for p, yes in zip(parameters, free, strict=True):
        if p.is_floating_point():
            p.requires_grad_(yes)
    _train_what_is_free(module)
    answers = as_classifier(tuned)
    draw = Generator("cpu").manual_seed(start)
    with own_random_numbers(start), _failures_named():
        trained = [p for p, yes in zip(parameters, free, strict=True) if yes]
        optimiser = torch.optim.AdamW(trained, lr=peak, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for step in range(steps):
            rows = torch.randint(len(images), (size,), generator=draw)
            logits = answers(images[rows.to(images.device)])
            loss = F.cross_entropy(logits, labels[rows].to(logits.device), reduction="none")
            total = (loss * each[rows].to(loss)).mean()
            if not total.isfinite():
                raise _Refused(
                    f"lr: expected a rate at which the loss stays finite, got {peak} and a loss "
                    f"of {total.item()} in step {step + 1} of {steps}"
                )
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            schedule.step()
    for m, mode in zip(module.modules(), modes, strict=True):
        if hasattr(m, "training"):
            m.training = mode
    for tensor, dtype in dtypes:
        tensor.data = tensor.data.to(dtype)
    for p, flag in zip(parameters, flags, strict=True):
        p.grad = None
        if p.is_floating_point():
            p.requires_grad_(flag)
    return tuned


class _Refused(ValueError):
    """An error that says already what is wrong."""


@contextlib.contextmanager
def _failures_named() -> Iterator[None]:
    """Say whose fault it is if a network can't be trained: no gradient, batches too small, ..."""
    try:
        yield
    except _Refused:
        raise
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ValueError(
            "classifier: expected a network that can be trained with these images and this batch "
            f"size, got an error: {str(error)[:200]}"
        ) from error


def _in_float32(module: nn.Module) -> list[tuple[Tensor, torch.dtype]]:
    """Let short floats be float32, in which small steps are not lost; what they were before."""
    short = (torch.float16, torch.bfloat16)
    found = [(x, x.dtype) for x in (*module.parameters(), *module.buffers()) if x.dtype in short]
    for tensor, _ in found:
        tensor.data = tensor.data.float()
    return found


def _with_module(classifier: Any) -> Any:
    """A torch module, or what holds one."""
    module = classifier if isinstance(classifier, nn.Module) else getattr(classifier, "module", 0)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"classifier: expected a torch module or a wrapped one, got {type(classifier).__name__}"
        )
    return classifier


def _train_what_is_free(module: nn.Module) -> None:
    """Training mode, but for layers whose parameters are all frozen: their owner keeps them."""
    for layer in module.modules():
        if not hasattr(layer, "training"):
            continue  # a script that was frozen is in evaluation mode for good
        layer.training = True
        own = list(layer.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            layer.training = False


@standard_modes
def group_weights(groups: Any) -> Tensor:
    """Weights (n,) with mean 1 under which every group counts alike.

    Args:
        groups: the group of each image, (n,): numbers or names.

    Raises:
        ValueError, TypeError: if there are none, or it is no sequence.
    """
    names = validate.groups(groups, "groups")
    if not names:
        raise ValueError("groups: expected the group of each image, got none")
    counts = {name: names.count(name) for name in set(names)}
    return torch.tensor([len(names) / (len(counts) * counts[name]) for name in names])


def _weights(value: Any, count: int) -> Tensor:
    if value is None:
        return torch.ones(count)
    validate.instance(value, Tensor, "weights", "a torch tensor")
    if value.is_complex() or value.is_meta or value.layout != torch.strided:
        raise TypeError(f"weights: expected floats, got {value.dtype}, {value.layout}")
    each = value.detach().cpu().float()
    if each.shape != (count,) or not each.isfinite().all() or each.min() < 0:
        raise ValueError(
            f"weights: expected {count} finite numbers >= 0, got shape {tuple(each.shape)}"
        )
    return each
