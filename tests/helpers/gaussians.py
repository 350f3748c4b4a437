"""A world of Gaussian classes, in which the ideal denoiser is a formula."""

import torch
from torch import Generator, Tensor, nn

import cfxnb as cfx
from cfxnb.core import ddim

SHAPE = (3, 4, 6)  # of codes, and of images: not square
GAP = 3  # columns in which the classes differ


class GaussianSpace(nn.Module):
    """Pixels are 0.5 + 0.05 z; codes of class k are N(means[k], 0.5^2), all classes as frequent.

    The class shows in the first columns alone: everywhere else the classes are the same.
    """

    def __init__(self, classes: int = 2, shape: tuple[int, ...] = SHAPE) -> None:
        super().__init__()
        means = torch.randn(classes, *shape, generator=Generator().manual_seed(1))
        means[..., GAP:] = 0
        self.register_buffer("means", means)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))
        self.alphas_cumprod = ddim.linear_alphas_cumprod()
        self.conditions = cfx.spaces.ClassConditions(classes + 1)
        self.rows: list[int] = []  # how many samples each look at noisy codes was about

    def encode(self, images: Tensor) -> cfx.Code:
        return cfx.Code((images - 0.5) / 0.05)

    def decode(self, code: cfx.Code, clamp: bool = True) -> Tensor:
        images = 0.5 + 0.05 * code.z
        return images.clamp(0, 1) if clamp else images

    def encode_condition(self, asked) -> Tensor:
        return self.conditions.encode(asked)

    def predict_noise(self, z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """(z - sqrt(a) E[clean | z]) / sqrt(1 - a), over the told class or all of them."""
        self.rows.append(len(z))
        a = self.alphas_cumprod[t].to(z).view(-1, 1, 1, 1, 1)
        total = 0.25 * a + 1 - a  # variance of noisy codes of a class
        off = z[:, None] - a.sqrt() * self.means
        clean = self.means + 0.25 * a.sqrt() / total * off
        odds = -(off**2).sum((2, 3, 4)) / (2 * total.view(-1, 1))
        one = nn.functional.one_hot(condition, len(self.means) + 1)[:, :-1].bool()
        odds = odds.masked_fill(~one & one.any(1, keepdim=True), -torch.inf)
        clean = (odds.softmax(1)[:, :, None, None, None] * clean).sum(1)
        a = a[:, 0]
        return (z - a.sqrt() * clean) / (1 - a).sqrt()

    def sample(self, labels: Tensor, seed: int = 0) -> Tensor:
        """An image of each of the classes ``labels`` (n,)."""
        noise = torch.randn(len(labels), *self.mean.shape, generator=Generator().manual_seed(seed))
        return self.decode(cfx.Code(self.means[labels] + 0.5 * noise))


class Bayes(nn.Module):
    """The best classifier of codes, and with ``cheat`` one that looks at the last column too."""

    def __init__(self, space: GaussianSpace, cheat: float = 0.0) -> None:
        super().__init__()
        self.means = nn.Parameter(space.means.clone())
        self.cheat, self.rows, self.backward = cheat, 0, 0

    def forward(self, images: Tensor) -> Tensor:
        self.rows += len(images)
        z = (images - 0.5) / 0.05
        logits = -2 * ((z[:, None] - self.means) ** 2).sum((2, 3, 4))
        trick = self.cheat * z[..., -1].sum((1, 2))[:, None]
        logits = logits + trick * torch.arange(len(self.means))
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, slope: Tensor) -> None:
        self.backward += len(slope)


def gaussian_world(classes: int = 2, count: int = 5, cheat: float = 0.0):
    """Space, classifier, images, and a target for each that is not its class."""
    space = GaussianSpace(classes)
    labels = torch.arange(count) % classes
    images = space.sample(labels)
    f = cfx.wrap(Bayes(space, cheat))
    with torch.no_grad():
        target = (f(images).argmax(1) + 1) % classes
    return space, f, images, target
