"""Two classifiers of digits: the explained classifier, and the judge, which checks flips."""

import torch.nn.functional as F
from torch import Tensor, nn


class DigitNet(nn.Module):
    """A small convolutional classifier: images (b, 1, 32, 32) in [0, 1] -> logits (b, 10)."""

    def __init__(self, width: int = 32, classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 5, stride=2, padding=2),
            nn.BatchNorm2d(width),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.SiLU(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.BatchNorm2d(4 * width),
            nn.SiLU(),
        )
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(4 * width * 16, classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).flatten(1))


class LeNet5(nn.Module):
    """The judge of digits, pretrained by others: images (b, 1, 32, 32) -> logits (b, 10).

    The network removes the zero padding of its input, and resizes the remaining 28x28 pixels to
    32x32, as in training. The weights come from
    github.com/csinva/gan-vae-pretrained-pytorch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.c3 = nn.Conv2d(6, 16, 5)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.f7 = nn.Linear(84, 10)

    def features(self, images: Tensor) -> Tensor:
        """Return the 84 features before the last layer, for distances between sets of images."""
        x = F.interpolate(images[..., 2:30, 2:30], size=(32, 32), mode="bilinear")
        x = F.max_pool2d(F.relu(self.c1(x)), 2)
        x = F.max_pool2d(F.relu(self.c3(x)), 2)
        return F.relu(self.f6(F.relu(self.c5(x)).flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        return self.f7(self.features(images))
