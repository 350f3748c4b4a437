"""Train a smooth network to imitate a classifier, from the classifier's predictions alone."""

import itertools
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.classifiers import wrap
from cfxnb.core.kept_work import checkpoint_path
from cfxnb.core.modes import own_random_numbers, standard_modes
from cfxnb.core.prediction import finite_predict_logits
from cfxnb.core.tensors import hash_seed, per_sample
from cfxnb.core.training import fit
from cfxnb.core.types import Classifier
from cfxnb.diffusion.smooth_relu import leaky_softplus

HELD_OUT = 10  # each tenth image only measures the agreement
MIXUP = 10.0  # parameter alpha of mixup, as published: mixtures of nearly equal parts
LABEL_SMOOTHING = 0.05  # as published
NOISE = 0.05  # standard deviation of noise on the pixels


class SmoothNet(nn.Module):
    """A small smooth network: images (b, channels, h, w) in [0, 1] -> logits (b, outputs).

    Args:
        outputs: number of logits.
        channels: number of channels of the images.
        width: number of feature maps of the first convolution.

    Attributes:
        agreement: fraction of held-out images on which the network and the imitated classifier
            predict the same class, or NaN.
    """

    def __init__(self, *, outputs: int, channels: int, width: int = 32) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, b) for b in widths[1:])
        self.head = nn.Linear(16 * widths[-1], outputs)
        self.agreement = float("nan")

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = leaky_softplus(norm(convolution(x)))
        return self.head(F.adaptive_avg_pool2d(x, 4).flatten(1))


@standard_modes
def distill_classifier(
    classifier: Classifier,
    images: Tensor,
    *,
    width: int = 32,
    steps: int = 500,
    batch_size: int = 64,
    lr: float = 2e-3,
    checkpoint_dir: str | Path | None = None,
    seed: int = 0,
) -> Any:
    """Return a small smooth network that imitates a classifier, for gradients of a black box.

    The classifier is queried once about each image. The network learns the classifier's
    probabilities, on mixtures of two images (mixup, Zhang et al., 2018) with a little noise. Pass
    the network to ``cfx.sce`` as ``gradient_classifier``.

    Differences from the paper (SCE, arXiv 2506.14698): the network is small and not a ResNet-18.
    The network learns probabilities instead of predicted classes. The network is trained on noisy
    images, not on adversarial images.

    Args:
        classifier: images (b, c, h, w) -> logits (b, k). A ``BlackBox`` is possible.
        images: unlabelled images (n, c, h, w) in [0, 1]. Each class should be predicted for some of
            the images.
        width: number of feature maps of the first of three convolutions.
        steps: training steps.
        batch_size: images per training step.
        lr: highest learning rate.
        checkpoint_dir: folder for checkpoints, from which an interrupted training resumes. If
            ``checkpoint_dir`` is None, no checkpoints are stored.
        seed: seed of the initial weights and of the batches.

    Returns:
        A classifier with gradients. ``.module.agreement`` is the fraction of held-out images (every
        tenth image) for which the network and the classifier predict the same class. With fewer
        than ten images, the agreement is NaN.

    Raises:
        ValueError, TypeError: if an argument is wrong. The error message names the argument.
    """
    checked = CheckedClassifier(classifier)
    images = validate.images(images)
    width, steps = validate.count(width, "width", 1), validate.count(steps, "steps", 1)
    batch_size = validate.count(batch_size, "batch_size", 1)
    lr = validate.number(lr, "lr", 0.0, 1e6, open_low=True)
    seed = validate.seed(seed)
    folder = None if checkpoint_dir is None else checkpoint_path(checkpoint_dir)
    logits = finite_predict_logits(checked, images)
    held_out = torch.arange(len(images)) % HELD_OUT == HELD_OUT - 1
    data = images[~held_out], logits.softmax(1)[~held_out]
    with own_random_numbers(hash_seed(seed, 0)):
        net = SmoothNet(outputs=logits.shape[1], channels=images.shape[1], width=width)
        fit(
            net,
            mixup_loss,
            data,
            steps=steps,
            batch_size=min(batch_size, len(data[0])),
            lr=lr,
            checkpoint_dir=folder,
            ema=0.99,
            seed=seed,
            device=images.device,
        )
    if held_out.any():
        own = finite_predict_logits(CheckedClassifier(net), images[held_out])
        net.agreement = float((own.argmax(1) == logits[held_out].argmax(1)).float().mean())
    return wrap(net, class_names=checked.class_names)


def mixup_loss(net: nn.Module, rows: tuple[Tensor, ...], generator: Generator) -> Tensor:
    """Return the cross-entropy on mixed images, with targets mixed in the same proportion."""
    images, answers = rows
    order = torch.randperm(len(images), generator=generator, device=images.device)
    ones = torch.full((len(images),), MIXUP, device=images.device)
    # The ratio of two Gamma variables has a Beta distribution.
    first, second = (torch._standard_gamma(ones, generator=generator) for _ in range(2))
    part = first / (first + second)
    mixed = per_sample(part, images) * images + per_sample(1 - part, images) * images[order]
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    wanted = part[:, None] * answers + (1 - part[:, None]) * answers[order]
    wanted = (1 - LABEL_SMOOTHING) * wanted + LABEL_SMOOTHING / wanted.shape[1]
    return F.cross_entropy(net(mixed + NOISE * noise), wanted)
