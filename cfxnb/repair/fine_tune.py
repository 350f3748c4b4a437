"""Train a classifier further, on counterfactuals or other images."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_sample_weight
from torch import Generator, Tensor, nn

from cfxnb.core import progress, validate
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
    """Train a copy of a classifier further, and return the copy.

    Fine-tuning can repair a classifier that uses a shortcut. To remove a shortcut, train on
    counterfactuals in which the true cause is unchanged, with the labels of the originals.
    Counterfactuals in which the shortcut changes, but not the label, teach the classifier that the
    shortcut does not count.

    Parameters that are frozen (``requires_grad`` is False) are not trained, and layers with only
    frozen parameters keep their batch statistics. If all parameters are frozen, as in networks from
    ``cfx.load``, all parameters are trained. Networks in float16 or bfloat16 are trained in float32
    and converted back. The copy has the same training mode and ``requires_grad`` as the original.

    Args:
        classifier: classifier made by ``cfx.wrap``, or a torch module that returns logits.
        images: training images, (n, c, h, w) in [0, 1].
        labels: class of each image, (n,), by number or name.
        sample_weight: weight of each image in the loss, (n,), for example from ``group_weights``.
            Default: equal weights.
        steps: number of steps of AdamW.
        batch_size: images per step, drawn with replacement.
        lr: learning rate of the first step. After the first step, the learning rate falls to 0
            along a cosine.
        seed: seed of the random batches and of dropout.

    Raises:
        ValueError, TypeError: if an argument is wrong, if the loss is not finite, or if the network
            cannot be copied or trained.
    """
    original = _module_of(validate.white_box(classifier))
    checked = as_classifier(classifier)
    images = validate.images(images)
    n_classes = predict_logits(checked, images[:1]).shape[1]
    names = getattr(checked, "class_names", None)
    labels = validate.labels(labels, len(images), n_classes, "labels", names).cpu()
    weight = _checked_weight(sample_weight, len(images))
    steps, size = validate.count(steps, "steps", 1), validate.count(batch_size, "batch_size", 1)
    lr = validate.number(lr, "lr", 0.0, 1e6, open_low=True)
    start = hash_seed(validate.seed(seed), 0)
    modes, flags = own_state(original)
    tuned = copied(classifier)
    module = _module_of(tuned)
    dtypes = _to_float32(module)
    trained = _unfreeze(module, flags)
    tuned_classifier = as_classifier(tuned)
    draw = Generator("cpu").manual_seed(start)
    with own_random_numbers(start), _failures_named():
        optimiser = torch.optim.AdamW(trained, lr=lr, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for step in progress.each(range(steps), "fine_tune"):
            rows = torch.randint(len(images), (size,), generator=draw)
            logits = tuned_classifier(images[rows.to(images.device)])
            loss = F.cross_entropy(logits, labels[rows].to(logits.device), reduction="none")
            total = (loss * weight[rows].to(loss)).mean()
            if not total.isfinite():
                raise _Refused(
                    f"lr: expected a rate at which the loss stays finite, got {lr} and a loss "
                    f"of {total.item()} in step {step + 1} of {steps}"
                )
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            schedule.step()
    for layer, mode in zip(module.modules(), modes, strict=True):
        if hasattr(layer, "training"):
            layer.training = mode
    for tensor, dtype in dtypes:
        tensor.data = tensor.data.to(dtype)
    for parameter, flag in zip(module.parameters(), flags, strict=True):
        parameter.grad = None
        if parameter.is_floating_point():
            parameter.requires_grad_(flag)
    return tuned


class _Refused(ValueError):
    """An error whose message already says what is wrong."""


@contextlib.contextmanager
def _failures_named() -> Iterator[None]:
    """Turn an error inside a network into a ValueError that names the argument ``classifier``."""
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


def _module_of(classifier: Any) -> nn.Module:
    """Return the torch module that a classifier is or wraps."""
    module = classifier if isinstance(classifier, nn.Module) else getattr(classifier, "module", 0)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"classifier: expected a torch module or a wrapped one, got {type(classifier).__name__}"
        )
    return module


def _to_float32(module: nn.Module) -> list[tuple[Tensor, torch.dtype]]:
    """Convert float16 and bfloat16 tensors of a network to float32, in place.

    In float16, small changes of a parameter would be rounded to 0.

    Returns:
        The converted tensors with their old dtypes.
    """
    short = (torch.float16, torch.bfloat16)
    found = [(x, x.dtype) for x in (*module.parameters(), *module.buffers()) if x.dtype in short]
    for tensor, _ in found:
        tensor.data = tensor.data.float()
    return found


def _unfreeze(module: nn.Module, flags: list[bool]) -> list[nn.Parameter]:
    """Prepare a network for training, and return the parameters to train.

    Args:
        flags: ``requires_grad`` of each parameter of the original network.
    """
    trained = []
    for parameter, flag in zip(module.parameters(), flags, strict=True):
        if parameter.is_floating_point():
            parameter.requires_grad_(flag or not any(flags))
            if parameter.requires_grad:
                trained.append(parameter)
    if not trained:
        raise ValueError(
            "classifier: expected a network with parameters of floats, got one without any"
        )
    for layer in module.modules():
        if hasattr(layer, "training"):  # a frozen TorchScript module always is in evaluation mode
            own = list(layer.parameters(recurse=False))
            layer.training = not own or any(p.requires_grad for p in own)
    return trained


@standard_modes
def group_weights(groups: Any) -> Tensor:
    """Return weights of n images, with mean 1, that give every group the same total weight.

    Args:
        groups: the group of each image, (n,), as numbers or names.

    Raises:
        ValueError, TypeError: if ``groups`` is empty or is not a sequence.
    """
    names = validate.groups(groups, "groups")
    if not names:
        raise ValueError("groups: expected the group of each image, got none")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    balanced = compute_sample_weight("balanced", [numbers[name] for name in names])
    return torch.tensor(balanced, dtype=torch.float32)


def _checked_weight(value: Any, count: int) -> Tensor:
    if value is None:
        return torch.ones(count)
    validate.instance(value, Tensor, "sample_weight", "a torch tensor")
    if value.is_complex() or value.is_meta or value.layout != torch.strided:
        raise TypeError(f"sample_weight: expected floats, got {value.dtype}, {value.layout}")
    weight = value.detach().cpu().float()
    if weight.shape != (count,) or not weight.isfinite().all() or weight.min() < 0:
        raise ValueError(
            f"sample_weight: expected {count} finite numbers >= 0, got shape {tuple(weight.shape)}"
        )
    return weight
