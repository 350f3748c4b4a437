"""Images as fewer, deeper pixels: the cheapest autoencoder there is, and the only exact one."""

import torch.nn.functional as F
from torch import Tensor, nn


class Fold(nn.Module):
    """Squares of ``side`` x ``side`` pixels become channels, and back; nothing is lost.

    Most of the cost of a small network is at full size, and noise that is independent in every
    pixel is so in every fold: a diffusion model of folded images is one of images.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def encode(self, images: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c side^2, h / side, w / side)."""
        return F.pixel_unshuffle(images, self.side)

    def decode(self, folded: Tensor) -> Tensor:
        """(b, c side^2, h, w) -> (b, c, h side, w side)."""
        return F.pixel_shuffle(folded, self.side)
