"""Two classifiers of chest X-rays: the one that is explained, and the judge."""

from torch import Tensor, nn


def _normed(inside: int, outside: int) -> list[nn.Module]:
    return [nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.SiLU()]


class ChestNet(nn.Module):
    """X-rays (b, 1, 64, 64) in [0, 1] -> (b, outputs) logits."""

    def __init__(self, outputs: int = 2, width: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2),
            *_normed(4, width),
            nn.AvgPool2d(2),
            *_normed(width, 2 * width),
            nn.AvgPool2d(2),
            *_normed(2 * width, 4 * width),
            nn.AvgPool2d(2),
        )
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(4 * width * 16, outputs))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).flatten(1))


class ChestJudge(nn.Module):
    """X-rays (b, 1, 64, 64) in [0, 1] -> (b, outputs) logits.

    Strides for pooling, rectifiers, no normalisation, a hidden layer: what fools a ``ChestNet``
    has no reason to fool this.
    """

    def __init__(self, outputs: int = 2, width: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.Linear(2 * width * 16, 256), nn.ReLU(), nn.Linear(256, outputs)
        )

    def features(self, images: Tensor) -> Tensor:
        """The 256 features before the last layer, for distances between sets of images."""
        return self.head[:2](self.body(images).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.head[2](self.features(images))
