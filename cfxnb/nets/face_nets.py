"""Two pretrained networks for images of one face: expression, and perceived gender and age.

Architectures and weights: V. Mühler, github.com/justadudewhohacks/face-api.js (MIT). The
descriptions (cards) of the two networks are ``data/oracles/face_expression.json`` and
``age_gender.json``. The output of a network says how the network classifies the image, and is not a
property of the person. The predictions of age and gender are less accurate for some groups of
people than for others.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfxnb.core import validate

SIZE = 112
MEAN_RGB = (122.782, 117.001, 104.298)
EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
HAPPY = EXPRESSIONS.index("happy")


def pad_same(x: Tensor, kernel: int, stride: int, fill: float = 0.0) -> Tensor:
    """Pad images so that a convolution or pooling turns n pixels into ceil(n / stride) pixels.

    If the number of added pixels is odd, the extra pixel is at the right or at the bottom.
    """
    sides = []
    for n in (x.shape[3], x.shape[2]):
        total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides, value=fill)


def enlarged(images: Tensor) -> Tensor:
    """Pad images (b, 3, h, w) with zeros to squares, and resize them to (b, 3, 112, 112).

    Resizing is bilinear with half-pixel centres, without antialiasing. If the number of added
    pixels is odd, the extra pixel is at the right or at the bottom.

    Raises:
        ValueError, TypeError: if the images are not a batch of floats with three channels.
    """
    validate.instance(images, Tensor, "images", "a torch tensor")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        raise ValueError(f"images: expected shape (b, 3, h, w), got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise TypeError(f"images: expected float32 in [0, 1], got {images.dtype}")
    high, wide = images.shape[2:]
    side = max(high, wide)
    left, above = (side - wide) // 2, (side - high) // 2
    square = F.pad(images, (left, side - wide - left, above, side - high - above))
    return F.interpolate(square, size=(SIZE, SIZE), mode="bilinear", align_corners=False)


class Same(nn.Conv2d):
    """A convolution that first applies ``pad_same``: n pixels give ceil(n / stride) outputs."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(pad_same(input, self.kernel_size[0], self.stride[0]))


class Separable(nn.Module):
    """A depthwise 3x3 convolution, then a 1x1 convolution, without activations."""

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = Same(inside, inside, 3, stride=stride, groups=inside, bias=False)
        self.pointwise = nn.Conv2d(inside, outside, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(outside))

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x)) + self.bias.view(1, -1, 1, 1)


class Dense(nn.Module):
    """Four convolutions, the first of which has stride 2.

    The input of each later convolution is the sum of the outputs of all earlier convolutions.
    """

    def __init__(self, inside: int, outside: int, first: bool = False) -> None:
        super().__init__()
        kind = Same(inside, outside, 3, stride=2) if first else Separable(inside, outside, 2)
        self.conv0 = kind
        self.conv1 = Separable(outside, outside)
        self.conv2 = Separable(outside, outside)
        self.conv3 = Separable(outside, outside)

    def forward(self, x: Tensor) -> Tensor:
        total = F.relu(self.conv0(x))
        for layer in (self.conv1, self.conv2, self.conv3):
            # In the first pass the ReLU changes nothing.
            total = total + layer(F.relu(total))
        return F.relu(total)


class FaceExpression(nn.Module):
    """A network: faces (b, 3, h, w), RGB in [0, 1] -> logits (b, 7) of the ``EXPRESSIONS``."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.dense0 = Dense(3, 32, first=True)
        self.dense1 = Dense(32, 64)
        self.dense2 = Dense(64, 128)
        self.dense3 = Dense(128, 256)
        self.fc = nn.Linear(256, len(EXPRESSIONS))
        mean = torch.tensor(MEAN_RGB).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """Return the 256 features before the last layer, (b, 256).

        Raises:
            ValueError, TypeError: if the images are not a batch of floats with three channels.
        """
        x = (enlarged(images) * 255 - self.mean) / 255
        for block in (self.dense0, self.dense1, self.dense2, self.dense3):
            x = block(x)
        return x.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images))


class SmileJudge(FaceExpression):
    """The expression network with logits (b, 2) of two classes: "other" and "smile" ("happy").

    The logit of "other" is the logsumexp of the six other logits. The probability of "smile" is
    therefore exactly that of "happy" among the seven expressions.
    """

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        others = torch.cat([logits[:, :HAPPY], logits[:, HAPPY + 1 :]], 1)
        return torch.stack([others.logsumexp(1), logits[:, HAPPY]], 1)


class Reduction(nn.Module):
    """A residual block that halves height and width: two convolutions and max pooling."""

    def __init__(self, inside: int, outside: int, rectify: bool = True) -> None:
        super().__init__()
        self.rectify = rectify
        self.separable_conv0 = Separable(inside, outside)
        self.separable_conv1 = Separable(outside, outside)
        self.expansion_conv = nn.Conv2d(inside, outside, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.separable_conv0(F.relu(x) if self.rectify else x)
        y = self.separable_conv1(F.relu(y))
        # The padding never is the maximum.
        y = F.max_pool2d(pad_same(y, 3, 2, -torch.inf), 3, 2)
        return y + self.expansion_conv(x)


class Main(nn.Module):
    """A residual block of three convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.separable_conv0 = Separable(channels, channels)
        self.separable_conv1 = Separable(channels, channels)
        self.separable_conv2 = Separable(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in (self.separable_conv0, self.separable_conv1, self.separable_conv2):
            y = layer(F.relu(y))
        return x + y


class AgeGender(nn.Module):
    """Faces (b, 3, h, w), RGB in [0, 1] -> logits (b, 2) of perceived gender: 0 male, 1 female."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.entry_flow = nn.ModuleDict(
            {
                "conv_in": Same(3, 32, 3, stride=2),
                # Its input is already rectified after conv_in.
                "reduction_block_0": Reduction(32, 64, rectify=False),
                "reduction_block_1": Reduction(64, 128),
            }
        )
        self.middle_flow = nn.ModuleDict({"main_block_0": Main(128), "main_block_1": Main(128)})
        self.exit_flow = nn.ModuleDict(
            {"reduction_block": Reduction(128, 256), "separable_conv": Separable(256, 512)}
        )
        self.fc = nn.ModuleDict({"age": nn.Linear(512, 1), "gender": nn.Linear(512, 2)})
        mean = torch.tensor(MEAN_RGB).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """Return the 512 features before the last layers, (b, 512).

        Raises:
            ValueError, TypeError: if the images are not a batch of floats with three channels.
        """
        x = (enlarged(images) * 255 - self.mean) / 256
        x = F.relu(self.entry_flow["conv_in"](x))
        x = self.entry_flow["reduction_block_0"](x)
        x = self.entry_flow["reduction_block_1"](x)
        x = self.middle_flow["main_block_0"](x)
        x = self.middle_flow["main_block_1"](x)
        x = self.exit_flow["reduction_block"](x)
        return F.relu(self.exit_flow["separable_conv"](x)).mean((2, 3))

    def age(self, images: Tensor) -> Tensor:
        """Return the predicted age in years of each face, (b,)."""
        return self.fc["age"](self.features(images)).squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc["gender"](self.features(images))
