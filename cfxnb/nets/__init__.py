"""Networks that no library carries. A card names one by its key in ``NETS``."""

from cfxnb.nets.chest import ChestJudge, ChestNet
from cfxnb.nets.diffae import DiffAE
from cfxnb.nets.digits import DigitNet, LeNet5
from cfxnb.nets.sprites import SpriteJudge, SpriteNet
from cfxnb.nets.vae import ConvVAE

NETS = {
    "DiffAE": DiffAE,
    "DigitNet": DigitNet,
    "LeNet5": LeNet5,
    "ConvVAE": ConvVAE,
    "SpriteNet": SpriteNet,
    "SpriteJudge": SpriteJudge,
    "ChestNet": ChestNet,
    "ChestJudge": ChestJudge,
}

__all__ = [
    "NETS", "ChestJudge", "ChestNet", "ConvVAE", "DiffAE", "DigitNet", "LeNet5", "SpriteJudge",
    "SpriteNet",
]  # fmt: skip
