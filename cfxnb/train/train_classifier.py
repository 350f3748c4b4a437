"""Train a classifier on labelled images."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from cfxnb.core import validate
from cfxnb.core.classifiers import Wrapped, wrap
from cfxnb.core.kept_work import checkpoint_path
from cfxnb.core.modes import standard_modes
from cfxnb.core.prediction import predict_logits
from cfxnb.core.training import Loss
from cfxnb.core.training_processes import Processes
from cfxnb.nets import NETS
from cfxnb.train.losses import as_unit, augment, cross_entropy, mirrored
from cfxnb.train.quality import own_card
from cfxnb.train.task import Settings, Task, epochs, frozen, halvings
from cfxnb.train.training_data import TrainingData, opened, split, training_data

MINUTES = 5.0
CLASSIFIERS = ("PlainNet", "JudgeNet", "DigitNet")


@standard_modes
def classifier(
    data: Any,
    *,
    net: str = "PlainNet",
    config: Mapping[str, Any] | None = None,
    robust: float = 0.0,
    mirror: bool = False,
    balanced: bool = True,
    loss: Loss | None = None,
    held_out: Any = None,
    early_stopping: bool = True,
    minutes: float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    ema: float | None = None,
    checkpoint_dir: str | Path | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
) -> Wrapped:
    """Train a classifier of images, to explain it or to use it as a judge.

    A tenth of the images is held out for early stopping, and another tenth for measuring the
    accuracy. During the training, small random changes are made to the images: shift, rotation,
    scale, brightness and contrast.

    Args:
        data: An ``ImageSet``, a set from ``cfx.data.folder``, the path of a folder with one
            subfolder per class, or a pair of images (n, c, h, w) and labels (n,).
        net: ``"PlainNet"`` (default), ``"JudgeNet"``, another architecture, for a judge, or
            ``"DigitNet"``, for gray images of 32x32.
        config: Further arguments of the network, such as ``{"width": 48}``.
        robust: Largest change of a pixel in adversarial training, such as 0.04. A judge should be
            harder to fool than the classifier. Default: 0, no adversarial training.
        mirror: Whether to mirror half of the images. Mirroring is wrong for letters, and for
            classes that depend on left and right.
        balanced: Whether all classes get the same weight, however many images they have.
        loss: Loss function ``loss(model, (images, labels), generator)``, in place of the
            cross-entropy. The images are uint8 if nothing is lost by it.
        held_out: Labelled images on which the accuracy is measured. Default: a tenth of ``data``.
        early_stopping: Whether to hold out a tenth of ``data``, to stop when its loss no longer
            falls, and to keep the best weights.
        minutes: Time budget. Default: 5, or no limit if ``steps`` is given.
        steps, batch_size, lr, ema: Settings of the optimiser: most steps, images per step, highest
            learning rate, and decay of averaged weights. Defaults follow from the images.
        checkpoint_dir: Folder for checkpoints, from which an interrupted training resumes.
        device: Device to train on. Default: CUDA or MPS if available, else the CPU.
        seed: Seed of the initial weights, of the batches, and of the images for early stopping.

    Returns:
        A classifier as ``cfx.load`` gives it. Its ``card`` holds the accuracy on the images that
        are held out, and ``save(folder)`` keeps it.

    Raises:
        ValueError, TypeError: If an argument is wrong, or if there are no labels.
    """
    validate.choice(net, "net", CLASSIFIERS)
    robust = validate.number(robust, "robust", 0.0, 1.0)
    mirror, balanced = validate.flag(mirror, "mirror"), validate.flag(balanced, "balanced")
    early_stopping = validate.flag(early_stopping, "early_stopping")
    given = checked_settings(steps, batch_size, lr, ema)
    minutes = checked_minutes(minutes, steps, MINUTES)
    device, seed = Processes().device(validate.device(device)), validate.seed(seed)
    folder = None if checkpoint_dir is None else checkpoint_path(checkpoint_dir)
    validate.optional(validate.function, loss, "loss")
    if config is not None:
        validate.instance(config, Mapping, "config", "a dict of arguments of the network")
    data, held_out = opened(data, held_out)
    images = training_data(data, labelled=True)
    parts = split(images, held_out, early_stopping, seed)
    if parts.test.labels is None:
        raise ValueError("held_out: expected labelled images, got images without labels")
    task = Task(parts, given, minutes, device, folder, None, seed, {})
    train = parts.train
    made: dict[str, Any] = _config(train, net) | dict(config or {})
    task.start()
    built = NETS[net](**made)
    weight = class_weights(train) if balanced else None
    plain = partial(_plain_loss, weight=weight)
    if loss is None:
        loss = ClassifierLoss(weight, robust, mirror)
    default = Settings(epochs(len(train), 64, 60, 1500, 30_000), 64, 2e-3 if robust == 0 else 1e-3)
    stop = None if parts.stop is None else (parts.stop.images, parts.stop.labels)
    trained = task.fit(
        built, loss, (train.images, train.labels), stop, default, held_out_loss=plain
    )
    found = wrap(frozen(trained).to(device), class_names=train.class_names)
    summary = f"classifier of {len(train.class_names)} classes"
    quality = _quality(found, parts.test)
    extra = {"class_names": list(train.class_names), "quality": quality}
    found.card = own_card("classifier", net, made, summary, task, images) | extra
    return found


def checked_settings(steps: Any, batch_size: Any, lr: Any, ema: Any) -> dict[str, Any]:
    """Return the settings of the optimiser that the caller named, after checking them."""
    return {
        "steps": None if steps is None else validate.count(steps, "steps", 1),
        "batch_size": None if batch_size is None else validate.count(batch_size, "batch_size", 2),
        "lr": None if lr is None else validate.number(lr, "lr", 0.0, open_low=True),
        "ema": None if ema is None else validate.number(ema, "ema", 0.0, 1.0),
    }


def checked_minutes(minutes: Any, steps: Any, default: float) -> float | None:
    """Return the time budget: ``minutes``, else None if ``steps`` is given, else ``default``."""
    if minutes is None:
        return default if steps is None else None
    return validate.number(minutes, "minutes", 0.0, open_low=True)


def _config(data: TrainingData, net: str) -> dict[str, Any]:
    channels, height, width = data.shape
    if net == "DigitNet":
        return {"classes": len(data.class_names)}
    least = 1 if net == "PlainNet" else 2
    return {
        "outputs": len(data.class_names),
        "channels": channels,
        "size": [height, width],
        "n_downsamplings": halvings(data.shape, 4, least),
    }


def class_weights(data: TrainingData) -> Tensor:
    """Return one weight per class, inverse to its number of images, with mean 1 over images."""
    labels: Any = data.labels
    counts = torch.bincount(labels, minlength=len(data.class_names)).float()
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts.clamp_min(1)), 0.0)


class ClassifierLoss:
    """Weighted cross-entropy on augmented images. With ``robust``, half of them are adversarial.

    An adversarial example is made from a noisy image by one step along the sign of the gradient
    (Goodfellow et al., 2015).

    Args:
        weight: One weight per class, or None.
        robust: Largest change of a pixel, or 0 for no adversarial examples.
        mirror: Whether to mirror half of the images.
    """

    def __init__(self, weight: Tensor | None, robust: float = 0.0, mirror: bool = False) -> None:
        self.weight, self.robust, self.mirror = weight, robust, mirror

    def __call__(self, model: nn.Module, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
        images, labels = augment(as_unit(batch[0]), generator), batch[1]
        if self.mirror:
            images = mirrored(images, generator)
        weight = None if self.weight is None else self.weight.to(images.device)
        if self.robust:
            images = attacked(model, images, labels, weight, self.robust, generator)
        return cross_entropy(model, images, labels, weight)


def attacked(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    epsilon: float,
    generator: Generator,
) -> Tensor:
    """Return the images, half of them as adversarial examples of up to ``epsilon`` per pixel."""
    device = images.device
    level = torch.rand(2, len(images), 1, 1, 1, generator=generator, device=device)
    level[:, ::2] = 0
    noise = torch.randn(images.shape, generator=generator, device=device)
    point = (images + epsilon * level[0] * noise).detach().requires_grad_()
    gradient = torch.autograd.grad(cross_entropy(model, point, labels, weight), point)[0]
    return (point + epsilon * level[1] * gradient.sign()).detach().clamp(0, 1)


def _plain_loss(
    model: nn.Module, batch: tuple[Tensor, ...], _: Generator, weight: Tensor | None
) -> Tensor:
    """Return the cross-entropy on unchanged images, by which the training stops early."""
    images = as_unit(batch[0])
    return cross_entropy(
        model, images, batch[1], None if weight is None else weight.to(images.device)
    )


def _quality(found: Wrapped, test: TrainingData) -> dict[str, float]:
    """Return the accuracy on held-out images: of all, and of the class that is recognised least."""
    labels: Any = test.labels
    right = (predict_logits(found, test.floats()).argmax(1).cpu() == labels).double()
    by_class = [right[labels == c].mean().item() for c in labels.unique()]
    return {
        f"accuracy on {len(right)} held-out images": round(right.mean().item(), 4),
        "accuracy of the class with the lowest": round(min(by_class), 4),
    }
