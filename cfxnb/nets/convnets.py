"""Two networks for small images: ``PlainNet``, and ``JudgeNet`` for independent checks."""

from torch import Tensor, nn


class PlainNet(nn.Module):
    """A convolutional network: images (b, channels, *size) in [0, 1] -> logits (b, outputs).

    Args:
        outputs: number of logits.
        channels, size: number of channels, and (height, width), of the images.
        n_downsamplings: how often height and width are halved before the last layer, 1 to 4.
        width: number of feature maps of the first of three convolutions. Each later convolution
            has twice as many feature maps as the one before.
    """

    def __init__(
        self,
        *,
        outputs: int,
        channels: int,
        size: tuple[int, int],
        n_downsamplings: int,
        width: int = 32,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        inside = 4 * channels
        for number, outside in enumerate((width, 2 * width, 4 * width), start=2):
            layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.SiLU()]
            if number <= n_downsamplings:
                layers.append(nn.AvgPool2d(2))
            inside = outside
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(inside * _cells(size, n_downsamplings), outputs)
        )

    def features(self, images: Tensor) -> Tensor:
        """Return the feature maps of the last convolution, averaged over positions."""
        return self.body(images).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).flatten(1))


class JudgeNet(nn.Module):
    """The network of judges: images (b, channels, *size) in [0, 1] -> logits (b, outputs).

    Unlike ``PlainNet``, ``JudgeNet`` has strides instead of pooling, ReLU instead of SiLU, no
    normalisation, and a hidden layer. We make ``JudgeNet`` different from ``PlainNet`` so that an
    adversarial example for one network does not always fool the other.

    Args:
        outputs: number of logits.
        channels, size: number of channels, and (height, width), of the images.
        n_downsamplings: number of convolutions, 2 or more. Each convolution halves height and
            width.
        width: number of feature maps of the first convolution. All other convolutions have twice
            as many feature maps.
    """

    def __init__(
        self,
        *,
        outputs: int,
        channels: int,
        size: tuple[int, int],
        n_downsamplings: int,
        width: int = 32,
    ) -> None:
        super().__init__()
        layers = [
            nn.Conv2d(channels, width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 5, stride=2, padding=2),
            nn.ReLU(),
        ]
        for _ in range(2, n_downsamplings):
            layers += [nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(2 * width * _cells(size, n_downsamplings), 256),
            nn.ReLU(),
            nn.Linear(256, outputs),
        )

    def features(self, images: Tensor) -> Tensor:
        """Return the 256 features before the last layer, for distances between sets of images."""
        return self.head[:2](self.body(images).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.head[2](self.features(images))


def _cells(size: tuple[int, int], n_downsamplings: int) -> int:
    return (size[0] >> n_downsamplings) * (size[1] >> n_downsamplings)
