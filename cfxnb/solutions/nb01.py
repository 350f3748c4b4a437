"""Solutions of 01_latent_spaces, written by ``python -m cfxnb.build learner``."""

# ruff: noqa: I001
import torch
import torch.nn.functional as F
from torch import nn
import cfxnb as cfx


def mix(a: torch.Tensor, b: torch.Tensor, n: int) -> torch.Tensor:
    """Return n points on the straight line from a to b, (n, ...)."""
    weights = torch.linspace(0, 1, n)
    return torch.stack([torch.lerp(a, b, w) for w in weights])


def certainty(judge, images: torch.Tensor) -> float:
    """Return the mean of the largest probability that the judge gives to a class."""
    probabilities = cfx.predict_logits(judge, images).softmax(1)
    largest = probabilities.amax(1)
    return float(largest.mean())


class LinearSpace:
    """A space of principal components, with the mean and std of codes, each (k,)."""

    def __init__(self, images: torch.Tensor, k: int) -> None:
        rows = images.flatten(1)
        self.m = rows.mean(0)
        self.v = torch.linalg.svd(rows - self.m, full_matrices=False).Vh[:k]
        z = self.encode(images).z
        self.mean, self.std = z.mean(0), z.std(0)

    def encode(self, images: torch.Tensor) -> cfx.Code:
        """Return the codes of images, (b, 1, 32, 32) -> z (b, k)."""
        centred = images.flatten(1) - self.m
        return cfx.Code(centred @ self.v.T)

    def decode(self, code: cfx.Code) -> torch.Tensor:
        """Return the images of codes, z (b, k) -> (b, 1, 32, 32) in [0, 1]."""
        rows = self.m + code.z @ self.v
        return rows.clamp(0, 1).view(-1, 1, 32, 32)


def make_networks(dims: int, hidden: int = 400) -> tuple[nn.Module, nn.Module]:
    """Return the encoder, (b, 1, 32, 32) -> (b, 2 dims), and the decoder, (b, dims) -> logits."""
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(32 * 32, hidden), nn.ReLU(), nn.Linear(hidden, 2 * dims)
    )
    decoder = nn.Sequential(
        nn.Linear(dims, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 32 * 32),
        nn.Unflatten(1, (1, 32, 32)),
    )
    return encoder, decoder


def sample_code(mean, log_variance, noise) -> torch.Tensor:
    """Return a code drawn from q(z | x) for each image, (b, dims)."""
    std = (0.5 * log_variance).exp()
    return mean + std * noise


def reconstruction_term(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return -log p(x | z) of each image, in nats, (b,)."""
    per_pixel = F.softplus(logits) - images * logits
    return per_pixel.flatten(1).sum(1)


def kl_term(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Return the KL divergence of q(z_j | x) from N(0, 1), in nats, (b, dims)."""
    variance = log_variance.exp()
    return 0.5 * (mean**2 + variance - 1 - log_variance)


def vae_loss(encoder, decoder, images, noise, beta: float = 1.0) -> torch.Tensor:
    """Return the negative evidence lower bound, averaged over images, in nats."""
    mean, log_variance = encoder(images).chunk(2, dim=1)
    logits = decoder(sample_code(mean, log_variance, noise))
    kl = kl_term(mean, log_variance).sum(1)
    return (reconstruction_term(logits, images) + beta * kl).mean()


def train(
    encoder, decoder, images, steps, dims=20, batch_size=128, lr=2e-3, beta=1.0, seed=0
) -> list[float]:
    """Train both networks, and return the loss of each step."""
    g = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=lr)
    losses = []
    for _ in steps:
        batch = images[torch.randint(len(images), (batch_size,), generator=g)]
        noise = torch.randn(batch_size, dims, generator=g)
        loss = vae_loss(encoder, decoder, batch, noise, beta)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return losses


class MySpace:
    """A space: encode, decode, and the statistics of codes (mean and std, each (dims,))."""

    def __init__(self, encoder, decoder, images: torch.Tensor) -> None:
        self.encoder, self.decoder = encoder, decoder
        z = self.encode(images).z
        self.mean, self.std = z.mean(0), z.std(0)

    def encode(self, images: torch.Tensor) -> cfx.Code:
        """Return the codes of images, (b, 1, 32, 32) -> z (b, dims)."""
        with torch.no_grad():
            mean, _ = self.encoder(images).chunk(2, dim=1)
        return cfx.Code(mean)

    def decode(self, code: cfx.Code) -> torch.Tensor:
        """Return the images of codes, z (b, dims) -> (b, 1, 32, 32) in [0, 1]."""
        return self.decoder(code.z).sigmoid()


def measure(space, classifier, judge, images, noise) -> tuple[float, float, float]:
    """Return squared error, fraction of decisions that survive, and certainty on random codes."""
    rebuilt = space.decode(space.encode(images)).detach()
    random = space.decode(cfx.Code(space.mean + space.std * noise)).detach()
    error = (rebuilt - images).square().mean()
    before = cfx.predict_logits(classifier, images).argmax(1)
    after = cfx.predict_logits(classifier, rebuilt).argmax(1)
    survive = (before == after).double().mean()
    return float(error), float(survive), certainty(judge, random)


def neighbour_average(space, images, known, k: int = 30) -> torch.Tensor:
    """Return the average of the k known images with the nearest codes, for each image."""
    codes = space.encode(images).z / space.std
    others = space.encode(known).z / space.std
    nearest = torch.cdist(codes, others).topk(k, largest=False).indices
    return known[nearest].mean(1)


def active_coordinates(encoder, images, threshold: float = 0.1):
    """Return the mean KL term of each coordinate, (dims,), and which are active, bool (dims,)."""
    with torch.no_grad():
        mean, log_variance = encoder(images).chunk(2, dim=1)
    price = kl_term(mean, log_variance).mean(0)
    return price, price > threshold


def traverse(space, z: torch.Tensor, j: int, moves: torch.Tensor) -> torch.Tensor:
    """Return images of codes in which only coordinate j differs from z, (n, 1, 32, 32)."""
    codes = z.repeat(len(moves), 1)
    codes[:, j] += moves * space.std[j]
    return space.decode(cfx.Code(codes)).detach()


def unfamiliar(space, images, familiar, level: float = 0.95) -> torch.Tensor:
    """Return which images the space draws worse than most familiar images, bool (b,)."""

    def errors(x):
        rebuilt = space.decode(space.encode(x)).detach()
        return (rebuilt - x).square().mean((1, 2, 3))

    return errors(images) > errors(familiar).quantile(level)
