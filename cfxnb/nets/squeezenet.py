"""SqueezeNet 1.1 up to its last feature map, pretrained by others, and a distance in its features.

Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer, "SqueezeNet: AlexNet-level accuracy with 50x
fewer parameters" (2016); the sizes of version 1.1. Weights: github.com/DeepCognition/
keras-squeezenet; they are not torchvision's and nothing that was fitted to those goes with them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfxnb.core import validate

# Name -> input channels, squeezed channels, channels of each of the two expansions.
FIRES = {
    "fire2": (64, 16, 64),
    "fire3": (128, 16, 64),
    "fire4": (128, 32, 128),
    "fire5": (256, 32, 128),
    "fire6": (256, 48, 192),
    "fire7": (384, 48, 192),
    "fire8": (384, 64, 256),
    "fire9": (512, 64, 256),
}
LAYERS = ("conv1", *FIRES)
POOLED = ("conv1", "fire3", "fire5")  # what is pooled before it goes on
DISTANCE_LAYERS = ("conv1", "fire3", "fire5", "fire7")  # at 64x64: 31, 15, 7 and 3 pixels wide
SMALLEST = 31  # pixels a side, for one cell in the last layers
MEAN_BGR = (103.939, 116.779, 123.68)


class Fire(nn.Module):
    """Few channels, then 1x1 and 3x3 convolutions side by side."""

    def __init__(self, inside: int, few: int, each: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(inside, few, 1)
        self.expand1x1 = nn.Conv2d(few, each, 1)
        self.expand3x3 = nn.Conv2d(few, each, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze1x1(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


class SqueezeNet(nn.Module):
    """Images (b, 3, h, w), RGB in [0, 1] -> feature maps by the names in ``LAYERS``."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        for name, channels in FIRES.items():
            self.add_module(name, Fire(*channels))
        mean = torch.tensor(MEAN_BGR).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, images: Tensor, layers: Sequence[str] = LAYERS) -> dict[str, Tensor]:
        """The outputs of the layers in ``layers``, after their rectifiers, none of them negative.

        Args:
            images: (b, 3, h, w) in [0, 1], or (b, 1, h, w), gray; h and w at least 31.
            layers: which of ``LAYERS``; nothing beyond the last of them is computed.

        Returns:
            Name -> (b, channels, height, width), from the first layer to the last. For 64x64
            images conv1 is 31 pixels wide, fire2-3 15, fire4-5 7, fire6-9 3.

        Raises:
            ValueError, TypeError: for images of another shape, or unknown layers.
        """
        _images(images, "images")
        asked = _check_layers(layers)
        # The source was trained on BGR in 0..255 minus the mean of each channel.
        x = images.to(self.mean).expand(-1, 3, -1, -1).flip(1) * 255 - self.mean
        found = {}
        for name in LAYERS[: max(map(LAYERS.index, asked)) + 1]:
            layer = self.get_submodule(name)
            x = F.relu(layer(x)) if name == "conv1" else layer(x)
            if name in asked:
                found[name] = x
            if name in POOLED:
                x = F.max_pool2d(x, 3, 2)
        return found

    def features(self, images: Tensor) -> Tensor:
        """Mean over the positions of fire9, (b, 512), for distances between sets of images.

        Call a Frechet distance of these "with SqueezeNet features"; it is not FID.
        """
        return self(images, ("fire9",))["fire9"].mean((2, 3))


def perceptual_distance(
    net: SqueezeNet, a: Tensor, b: Tensor, *, layers: Sequence[str] = DISTANCE_LAYERS
) -> Tensor:
    """Distance of two image batches in SqueezeNet features; this is not LPIPS.

    As in LPIPS (Zhang et al., 2018, section 3) the features are normalised to unit length over
    the channels at each position, subtracted, squared and averaged over the positions. There are
    no learned weights: channels are summed, and the layers count alike.

    Args:
        net: ``cfx.load("faces/features")``.
        a, b: (n, 3, h, w) or (n, 1, h, w) in [0, 1], of equal shapes; gradients pass to both.
        layers: which of ``LAYERS``.

    Returns:
        (n,) in [0, 2], 0 if equal; the mean over the layers.

    Raises:
        ValueError, TypeError: for images of unequal or other shapes, or unknown layers.
    """
    validate.instance(net, SqueezeNet, "net", "a SqueezeNet")
    validate.floats(a, "a")
    validate.floats(b, "b")
    layers = validate.listed(layers, "layers", "layers")
    if _images(a, "a").shape != _images(b, "b").shape:
        raise ValueError(f"a, b: expected equal shapes, got {tuple(a.shape)}, {tuple(b.shape)}")
    apart = [
        (_unit(x) - _unit(y)).square().sum(1).mean((1, 2))
        for x, y in zip(net(a, layers).values(), net(b, layers).values(), strict=True)
    ]
    far = torch.stack(apart).mean(0).to(a.device)
    if not far.isfinite().all():
        raise ValueError("net, a, b: expected finite images and features, got NaN or infinity")
    return far


def _unit(x: Tensor, eps: float = 1e-10) -> Tensor:
    x = x.float()  # features reach 1,000: squares would overflow half precision
    return x / (x.norm(dim=1, keepdim=True) + eps)


def _images(value: Tensor, name: str) -> Tensor:
    validate.instance(value, Tensor, name, "a torch tensor")
    shape = tuple(value.shape)
    if value.ndim != 4 or shape[1] not in (1, 3) or min(shape[2:]) < SMALLEST:
        least = f"(b, 1 or 3, h, w) with h, w >= {SMALLEST}"
        raise ValueError(f"{name}: expected shape {least}, got {shape}")
    if not value.is_floating_point():
        raise TypeError(f"{name}: expected float32 in [0, 1], got {value.dtype}")
    return value


def _check_layers(value: Sequence[str]) -> tuple[str, ...]:
    asked = validate.names(value, "layers")
    if not asked:
        raise ValueError(f"layers: expected some of {list(LAYERS)}, got none")
    return tuple(validate.choice(name, "layers", LAYERS) for name in asked)
