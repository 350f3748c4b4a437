"""LPIPS, the learned perceptual image patch similarity, version 0.1.

Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric" (2018), section 3. LPIPS compares the features of two images in a convolutional
network. At each position the features are normalised to unit length over the channels. The
squared differences of the normalised features are weighted by learned non-negative weights,
averaged over positions and summed over layers. This module implements LPIPS in plain torch and
reads the weights of the ``lpips`` package.
"""

from collections import OrderedDict
from collections.abc import Mapping
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfxnb.core import validate


class Fire(nn.Module):
    """Fire module of SqueezeNet (Iandola et al., 2016)."""

    def __init__(self, in_channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


def _alex() -> list[list[nn.Module]]:
    """Return the layers of AlexNet up to the fifth convolution, as lists that end with a ReLU."""
    return [
        [nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU()],
        [nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()],
        [nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()],
    ]


def _squeeze() -> list[list[nn.Module]]:
    """Return the layers of SqueezeNet 1.1 as seven lists, one for each output that LPIPS uses."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return [
        [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU()],
        [pool(), Fire(64, 16, 64), Fire(128, 16, 64)],
        [pool(), Fire(128, 32, 128), Fire(256, 32, 128)],
        [pool(), Fire(256, 48, 192)],
        [Fire(384, 48, 192)],
        [Fire(384, 64, 256)],
        [Fire(512, 64, 256)],
    ]


SMALLEST = {
    "alex": 31,
    "squeeze": 17,
}  # pixels; smaller images have no output after the last pooling
NETS = {"alex": _alex, "squeeze": _squeeze}


class LPIPS(nn.Module):
    """Module that returns the LPIPS distances between two batches of images.

    Args:
        state_dict: Tensors with the names that the ``lpips`` package uses: ``net.sliceN.*`` (layers
            numbered through the whole network), ``linN.model.1.weight`` and ``scaling_layer.*``.
        net: ``"alex"`` or ``"squeeze"``. Default: ``"alex"``.

    Raises:
        ValueError, TypeError: If ``net`` is unknown, or keys, shapes or values of ``state_dict``
            are wrong.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, state_dict: Mapping[str, Tensor], net: str = "alex") -> None:
        super().__init__()
        slices = NETS[validate.choice(net, "net", tuple(NETS))]()
        self.net, self.weights = nn.Module(), nn.ParameterList()
        index = count()
        for i, layers in enumerate(slices, 1):
            part = nn.Sequential(OrderedDict((str(next(index)), layer) for layer in layers))
            self.net.add_module(f"slice{i}", part)
        validate.instance(state_dict, Mapping, "state_dict", "a dict: name -> tensor")
        for key, value in state_dict.items():
            name = f"state_dict[{validate.text(key, 'state_dict')[:60]!r}]"
            validate.instance(value, Tensor, name, "a torch tensor")
            if value.is_complex() or value.is_meta or value.layout != torch.strided:
                raise TypeError(f"{name}: expected real numbers, got {value.dtype} {value.layout}")
            if not value.isfinite().all():
                raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
        try:
            own = {k[4:]: v.float() for k, v in state_dict.items() if k.startswith("net.")}
            self.net.load_state_dict(own)
            lins = [state_dict[f"lin{i}.model.1.weight"] for i in range(len(slices))]
            self.register_buffer("shift", state_dict["scaling_layer.shift"].float())
            self.register_buffer("scale", state_dict["scaling_layer.scale"].float())
        except (KeyError, RuntimeError) as error:
            raise ValueError(
                f"state_dict: expected the tensors of LPIPS ({net}), got {str(error)[:200]}"
            ) from None
        self.weights.extend(nn.Parameter(w.float().clone()) for w in lins)
        self.smallest = SMALLEST[net]
        self.eval().requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the features of each layer of the network.

        Args:
            images: Gray or RGB images, (n, 1 or 3, h, w) in [0, 1].
        """
        images = self._checked(images, "images")
        x = (2 * images - 1 - self.shift) / self.scale
        maps = []
        for part in self.net.children():
            x = part(x)
            maps.append(x)
        return maps

    def _checked(self, value: Any, name: str) -> Tensor:
        """Return the images, after checking that they are large enough for the network."""
        x = validate.live_images(value, name)
        if x.shape[1] not in (1, 3) or min(x.shape[2:]) < self.smallest:
            raise ValueError(
                f"{name}: expected shape (n, 1 or 3, h, w) with h, w >= {self.smallest}, "
                f"got {tuple(x.shape)}"
            )
        return x

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the LPIPS distances between the images of ``a`` and ``b`` in the same row, (n,).

        LPIPS distances are at least 0, and equal images have the distance 0. A lower LPIPS distance
        means more similar images.

        Args:
            a, b: Gray or RGB images of equal shape, (n, 1 or 3, h, w) in [0, 1].
        """
        a, b = self._checked(a, "a"), self._checked(b, "b")
        if a.shape != b.shape:
            shapes = tuple(a.shape), tuple(b.shape)
            raise ValueError(f"a, b: expected equal shapes (n, 1 or 3, h, w), got {shapes}")
        total = a.new_zeros(len(a))
        for x, y, weight in zip(self.features(a), self.features(b), self.weights, strict=True):
            difference = (_unit(x) - _unit(y)).square()
            total = total + F.conv2d(difference, weight).mean((1, 2, 3))
        return total


def _unit(x: Tensor, eps: float = 1e-10) -> Tensor:
    return x / (x.norm(dim=1, keepdim=True) + eps)
