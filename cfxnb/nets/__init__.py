"""Networks that no library carries. A card names one by its key in ``NETS``."""

from cfxnb.nets.digits import DigitNet, LeNet5
from cfxnb.nets.sprites import SpriteJudge, SpriteNet
from cfxnb.nets.vae import ConvVAE

NETS = {
    "DigitNet": DigitNet,
    "LeNet5": LeNet5,
    "ConvVAE": ConvVAE,
    "SpriteNet": SpriteNet,
    "SpriteJudge": SpriteJudge,
}

__all__ = ["NETS", "ConvVAE", "DigitNet", "LeNet5", "SpriteJudge", "SpriteNet"]
