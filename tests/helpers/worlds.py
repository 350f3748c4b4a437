"""Tiny worlds in which the truth is known, shared by all tests."""

import torch
from torch import Generator, Tensor, nn

import cfxnb as cfx
from cfxnb.core.classifiers import Wrapped
from cfxnb.core.tensors import active_dims
from cfxnb.nets import ConvVAE


class LinearSpace(nn.Module):
    """x = 0.5 + scale * z @ basis with orthonormal rows: encode inverts decode exactly.

    The scale keeps codes of ordinary length well inside [0, 1], so nothing is ever clamped.
    """

    def __init__(
        self,
        dims: int = 4,
        shape: tuple[int, ...] = (3, 4, 4),
        std: Tensor | None = None,
        seed: int = 0,
        scale: float = 0.04,
    ) -> None:
        super().__init__()
        self.shape, self.scale = shape, scale
        pixels = torch.Size(shape).numel()
        noise = torch.randn(pixels, dims, generator=Generator().manual_seed(seed))
        self.register_buffer("basis", torch.linalg.qr(noise).Q.T.contiguous())
        self.register_buffer("mean", torch.zeros(dims))
        self.register_buffer("std", torch.ones(dims) if std is None else std)
        active = active_dims(self.std)
        self.axes = torch.eye(dims)[active]
        self.variances = torch.ones(int(active.sum()))
        self.dims = dims

    def encode(self, images: Tensor) -> cfx.Code:
        return cfx.Code((images.flatten(1) - 0.5) / self.scale @ self.basis.T)

    def decode(self, code: cfx.Code) -> Tensor:
        return (0.5 + self.scale * (code.z @ self.basis)).view(-1, *self.shape)

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """Images of codes ~ N(center, spread^2)."""
        z = torch.randn(count, self.dims, generator=Generator().manual_seed(seed))
        return self.decode(cfx.Code(self.mean + self.std * z))


class LinearNet(nn.Module):
    """logits = (x - 0.5) @ weight.T + bias; a weight with one row gives a single logit."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(torch.zeros(len(weight)) if bias is None else bias.clone())

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - 0.5) @ self.weight.T + self.bias


class TinyNet(nn.Module):
    """A smooth convolutional net, spread out so that ``images`` get decided logits."""

    def __init__(self, classes: int, images: Tensor, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(images.shape[1], 6, 3, stride=2, padding=1)
            self.drop = nn.Dropout(0.5)  # evaluation mode must be on, or results are random
            self.head = nn.Linear(6 * 4 * 4, classes)
        with torch.no_grad():
            hidden = self.conv(images).tanh().flatten(1)
            logits = self.head(hidden)
            self.head.weight /= logits.std(0, keepdim=True).T / 2
            self.head.bias -= (self.head(hidden)).mean(0)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.drop(self.conv(images).tanh().flatten(1)))


def code_classifier(space: LinearSpace, directions: Tensor, gain: float = 1.0) -> Wrapped:
    """Logits ``gain * directions @ z``: linear in the code and blind to everything else."""
    return cfx.wrap(LinearNet(gain / space.scale * directions @ space.basis))


def linear_world(classes: int) -> tuple[LinearSpace, Wrapped, Tensor]:
    """Space, classifier (``classes`` = 2: a widened single logit) and seven images."""
    space = LinearSpace()
    rows = 1 if classes == 2 else classes
    directions = torch.randn(rows, space.dims, generator=Generator().manual_seed(3))
    noise = torch.randn(7, *space.shape, generator=Generator().manual_seed(4))
    # Off the span of the basis too: real images are never reconstructed exactly.
    return space, code_classifier(space, directions, 2.0), space.sample(7, 5) + 0.002 * noise


def vae_world(classes: int) -> tuple[cfx.spaces.VAE, Wrapped, Tensor]:
    """A random convolutional VAE with a random convolutional classifier, and seven images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ConvVAE(dims=4, size=8, widths=(4, 8))
        settle(net, torch.randn(64, 4))
        with torch.no_grad():
            images = net.decode(torch.randn(64, 4))
            mean, _ = net.posterior(images)
            net.mean.weight /= mean.std(0)[:, None]
            net.mean.bias.copy_((net.mean.bias - mean.mean(0)) / mean.std(0))
    space = cfx.spaces.VAE(net, *code_statistics(4)).eval()
    f = cfx.wrap(TinyNet(1 if classes == 2 else classes, images).eval())
    with torch.no_grad():
        seen, rebuilt = f(images).argmax(1), f(space.decode(space.encode(images))).argmax(1)
    # Mostly images whose class survives reconstruction, and some whose class does not.
    kept = (seen == rebuilt).nonzero()[:5, 0]
    lost = (((seen + 1) % classes) == rebuilt).nonzero()[:1, 0]
    return space, f, images[torch.cat([kept, lost, kept[:1] + 1])]


def code_statistics(dims: int) -> tuple[Tensor, ...]:
    """Mean 0, std 1, no covariances: mean, std, axes and variances of a space."""
    return torch.zeros(dims), torch.ones(dims), torch.eye(dims), torch.ones(dims)


@torch.no_grad()
def settle(net: ConvVAE, codes: Tensor) -> None:
    """Give an untrained net the batch statistics that training would, or it hardly answers."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain average of what is seen
            module.weight *= 2
    net.train()
    net.posterior(net.decode(codes))
    net.decoder[-2].weight *= 8
    net.eval()


WORLDS = {
    "linear, one logit": lambda: linear_world(2),
    "linear, three classes": lambda: linear_world(3),
    "vae, one logit": lambda: vae_world(2),
    "vae, three classes": lambda: vae_world(3),
}


def other_class(classifier: Wrapped, images: Tensor) -> Tensor:
    """A target for each image that is not its class, except that the last one's is."""
    with torch.no_grad():
        logits = classifier(images)
    seen = logits.argmax(1)
    target = (seen + 1) % logits.shape[1]
    target[-1] = seen[-1]
    return target


class Faulty(nn.Module):
    """Raises at its call number ``fatal``."""

    def __init__(self, inner, fatal):
        super().__init__()
        self.inner, self.fatal, self.calls = inner, fatal, 0

    def forward(self, images):
        self.calls += 1
        if self.calls == self.fatal:
            raise OSError("the net is gone")
        return self.inner(images)
