"""Network architectures that no library has.

``NETS`` maps the name of each architecture to its class. The card (JSON file) of each shipped
network names the architecture of the network.
"""

from cfxnb.nets.conditional_unet import ConditionalUNet
from cfxnb.nets.convnets import JudgeNet, PlainNet
from cfxnb.nets.diffae import DiffAE
from cfxnb.nets.digits import DigitNet, LeNet5
from cfxnb.nets.face_nets import AgeGender, FaceExpression, SmileJudge
from cfxnb.nets.squeezenet import SqueezeNet
from cfxnb.nets.tiny_autoencoder import TinyAutoencoder
from cfxnb.nets.vae import ConvVAE

NETS = {
    "DiffAE": DiffAE,
    "DigitNet": DigitNet,
    "LeNet5": LeNet5,
    "ConditionalUNet": ConditionalUNet,
    "ConvVAE": ConvVAE,
    "PlainNet": PlainNet,
    "JudgeNet": JudgeNet,
    "FaceExpression": FaceExpression,
    "SmileJudge": SmileJudge,
    "AgeGender": AgeGender,
    "SqueezeNet": SqueezeNet,
    "TinyAutoencoder": TinyAutoencoder,
}

__all__ = [
    "NETS", "AgeGender", "ConditionalUNet", "ConvVAE", "DiffAE", "DigitNet", "FaceExpression",
    "JudgeNet", "LeNet5", "PlainNet", "SmileJudge", "SqueezeNet", "TinyAutoencoder",
]  # fmt: skip
