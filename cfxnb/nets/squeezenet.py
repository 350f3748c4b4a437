"""SqueezeNet 1.1 without its classifier, pretrained by others, and a distance in its features.

The architecture is version 1.1 of Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer, "SqueezeNet:
AlexNet-level accuracy with 50x fewer parameters" (2016). The weights come from
github.com/DeepCognition/keras-squeezenet, not from torchvision. The linear weights of LPIPS were
fitted to the network of torchvision, and cannot be used with the weights from keras-squeezenet.
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
POOLED = ("conv1", "fire3", "fire5")  # layers that are followed by pooling
DISTANCE_LAYERS = ("conv1", "fire3", "fire5", "fire7")  # at 64x64: 31, 15, 7 and 3 pixels wide
SMALLEST = 31  # smallest height of images, which gives one position in the last layers
MEAN_BGR = (103.939, 116.779, 123.68)


class Fire(nn.Module):
    """A block that reduces the channels, and then applies 1x1 and 3x3 convolutions in parallel."""

    def __init__(self, inside: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(inside, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze1x1(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1: images (b, 3, h, w), RGB in [0, 1] -> dict of feature maps by layer."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        for name, channels in FIRES.items():
            self.add_module(name, Fire(*channels))
        mean = torch.tensor(MEAN_BGR).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, images: Tensor, layers: Sequence[str] = LAYERS) -> dict[str, Tensor]:
        """Return the feature maps of some layers, after their ReLU.

        Args:
            images: (b, 3, h, w) or, for gray images, (b, 1, h, w), in [0, 1]. Height and width must
                be at least 31.
            layers: names of the layers, from ``LAYERS``. Layers after the last named layer
                are not computed.

        Returns:
            A dict from the name of each layer to its feature map (b, channels, height, width), in
            the order of the network. For 64x64 images, feature maps are 31 pixels wide in conv1, 15
            in fire2 and fire3, 7 in fire4 and fire5, and 3 in fire6 to fire9.

        Raises:
            ValueError, TypeError: if the images have the wrong shape, or if a layer is unknown.
        """
        _images(images, "images")
        wanted = _check_layers(layers)
        # The network was trained on BGR in 0..255, minus the mean of each channel.
        x = images.to(self.mean).expand(-1, 3, -1, -1).flip(1) * 255 - self.mean
        found = {}
        for name in LAYERS[: max(map(LAYERS.index, wanted)) + 1]:
            layer = self.get_submodule(name)
            x = F.relu(layer(x)) if name == "conv1" else layer(x)
            if name in wanted:
                found[name] = x
            if name in POOLED:
                x = F.max_pool2d(x, 3, 2)
        return found

    def features(self, images: Tensor) -> Tensor:
        """Return fire9 averaged over positions, (b, 512), for distances between sets of images.

        A Frechet distance of SqueezeNet features is not FID, so name the features in reports.
        """
        return self(images, ("fire9",))["fire9"].mean((2, 3))


def perceptual_distance(
    net: SqueezeNet, a: Tensor, b: Tensor, *, layers: Sequence[str] = DISTANCE_LAYERS
) -> Tensor:
    """Return the distance of two image batches in SqueezeNet features, which is not LPIPS.

    As in LPIPS (Zhang et al., 2018, section 3), the features at each position are normalised to
    unit length. The squared differences of the normalised features are averaged over positions.
    Unlike LPIPS, the distance has no learned weights: it sums over channels and averages over
    layers.

    Args:
        net: ``cfx.load("faces/features")``.
        a, b: images (n, 3, h, w) or (n, 1, h, w) in [0, 1], of equal shapes. The distance is
            differentiable with respect to ``a`` and ``b``.
        layers: names of the layers, from ``LAYERS``.

    Returns:
        Distances (n,) in [0, 2], 0 for equal images.

    Raises:
        ValueError, TypeError: if the images have unequal or wrong shapes, or a layer is unknown.
    """
    validate.instance(net, SqueezeNet, "net", "a SqueezeNet")
    validate.floats(a, "a")
    validate.floats(b, "b")
    layers = validate.listed(layers, "layers", "layers")
    if _images(a, "a").shape != _images(b, "b").shape:
        raise ValueError(f"a, b: expected equal shapes, got {tuple(a.shape)}, {tuple(b.shape)}")
    per_layer = [
        (_unit(x) - _unit(y)).square().sum(1).mean((1, 2))
        for x, y in zip(net(a, layers).values(), net(b, layers).values(), strict=True)
    ]
    distance = torch.stack(per_layer).mean(0).to(a.device)
    if not distance.isfinite().all():
        raise ValueError("net, a, b: expected finite images and features, got NaN or infinity")
    return distance


def _unit(x: Tensor, eps: float = 1e-10) -> Tensor:
    x = x.float()  # features reach 1,000, whose squares overflow half precision
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
    names = validate.names(value, "layers")
    if not names:
        raise ValueError(f"layers: expected some of {list(LAYERS)}, got none")
    return tuple(validate.choice(name, "layers", LAYERS) for name in names)
