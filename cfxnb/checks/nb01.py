"""Checks of 01_latent_spaces."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from cfxnb import data, weights
from cfxnb.checks.core import (
    exercise,
    expect,
    expect_none_of,
    expect_pair,
    expect_tensor,
    near,
    same,
)
from cfxnb.core.types import Code

ONE_PER_IMAGE = "is the batch averaged or summed, or is there no sum over the other dimensions?"


def _generator(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def _exact_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the KL divergence from N(0, 1) of each image, (b, dims), (b, dims) -> (b,)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)


# Mixtures


@exercise("A straight line")
def mix(answer: Callable[[Tensor, Tensor, int], Tensor]) -> None:
    a, b = torch.tensor([0.0, 10.0]), torch.tensor([4.0, 2.0])
    got = answer(a, b, 5)
    expect_tensor(
        got,
        (5, 2),
        "is there one point per weight, each with the shape of a?",
        "torch.stack joins a list of points along a new first dimension",
        "5 points, shape (5, 2)",
    )
    expect(
        not same(got, answer(b, a, 5)) and not (same(got[0], b) and same(got[-1], a)),
        "the line runs from b to a",
        cause="which end has the weight 0?",
        hint="the weight w belongs to b, and 1 - w to a",
    )
    expect(
        same(got[0], a) and same(got[-1], b),
        f"the line runs from {got[0].tolist()} to {got[-1].tolist()}, and not from a to b",
        cause="do the weights run from 0 to 1, and are both ends included?",
        hint="torch.linspace(0, 1, n) includes both ends",
    )
    steps = got.diff(dim=0)
    expect(
        same(steps, steps[:1].expand_as(steps)),
        "the points are not evenly spaced on a straight line",
        cause="is each point the weighted sum of the two ends, with evenly spaced weights?",
        hint="torch.lerp(a, b, w) for each w of torch.linspace(0, 1, n)",
    )
    expect_tensor(
        answer(torch.zeros(3, 1, 4, 4), torch.ones(3, 1, 4, 4), 2),
        (2, 3, 1, 4, 4),
        "does the function work for codes only?",
        "compute one point per weight, and join them with torch.stack",
        "two points of the shape (3, 1, 4, 4)",
    )


@exercise("How certain is the judge?")
def certainty(answer: Callable[[Any, Tensor], float]) -> None:
    logits = torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-2.0, 0.0, 5.0], [0.0, 0.0, 0.0]])
    p = logits.softmax(1)
    got = answer(lambda images: logits[: len(images)], torch.zeros(4, 1, 2, 2))
    expect(
        isinstance(got, float | int) or (isinstance(got, Tensor) and got.numel() == 1),
        f"expected one number, got {getattr(got, 'shape', type(got).__name__)}",
        cause="is the mean over images taken?",
        hint="the mean of the largest probabilities, as float",
    )
    wrong = {
        "the mean is that of the logits": (
            float(logits.amax(1).mean()),
            "the network returns logits. How do they become probabilities?",
        ),
        "the mean runs over all classes": (
            float(p.mean()),
            "which of the probabilities of an image counts?",
        ),
        "only the most certain image counts": (
            float(p.max()),
            "is there one largest probability per image, or one for all images?",
        ),
        "only the first image counts": (float(p[0].max()), "does the mean run over all images?"),
        "the probabilities of all images sum to 1, and not those of one image": (
            float(logits.softmax(0).amax(1).mean()),
            "over which dimension does the softmax run?",
        ),
    }
    hint = "softmax over dimension 1, amax over dimension 1, mean, float"
    expect_none_of(wrong, lambda w: near(float(got), w), hint=hint)
    exact = float(p.amax(1).mean())
    expect(
        near(float(got), exact),
        f"expected {exact:.3f}, got {float(got):.3f}",
        cause="is it the mean of the largest probability of each image?",
        hint=hint,
    )


# Spaces


def _expect_code(got: Any, shape: tuple[int, ...]) -> Tensor:
    expect(
        isinstance(got, Code),
        f"encode: expected a cfx.Code, got {type(got).__name__}",
        cause="the methods of the library read code.z. Is the tensor wrapped?",
        hint="return cfx.Code(z)",
    )
    expect_tensor(
        got.z,
        shape,
        "has z one row per image, and one column per coordinate of the code?",
        "compare the shape of z with that in the task",
        f"z of shape {shape}",
    )
    return got.z.detach()


def _expect_statistics(space: Any, z: Tensor) -> None:
    """Raise ``Wrong`` if a space does not state the mean and std of its codes ``z``."""
    for name, exact in (("mean", z.mean(0)), ("std", z.std(0))):
        stated: Any = getattr(space, name, None)
        expect_tensor(
            stated,
            tuple(exact.shape),
            f"does __init__ store {name} as an attribute, with one number per coordinate?",
            "z.mean(0) and z.std(0) have one number per coordinate",
            f"an attribute {name} of shape {tuple(exact.shape)}",
        )
        expect(
            same(stated.detach(), exact, rtol=0.02, atol=1e-3),
            f"{name} is not that of the codes of the images",
            cause="are the images encoded first, and is the statistic taken over images?",
            hint="z = self.encode(images).z, and then the statistic over dimension 0",
        )


@exercise("A linear space")
def LinearSpace(answer: Callable[[Tensor, int], Any]) -> None:
    g = _generator(4)
    turn, _ = torch.linalg.qr(torch.randn(1024, 4, generator=g))
    size = torch.tensor([4.0, 2.0, 1.0, 0.1])
    rows = 0.4 + (torch.randn(80, 4, generator=g) * size) @ turn.T * 0.5
    images = rows.view(-1, 1, 32, 32)
    space = answer(images, 3)
    z = _expect_code(space.encode(images), (80, 3))
    centred = rows - rows.mean(0)
    v = torch.linalg.svd(centred, full_matrices=False).Vh[:3]
    exact = centred @ v.T
    expect(
        float(z.mean(0).abs().max()) < 0.05,
        "the codes of the images do not have mean 0",
        cause="is the mean image subtracted, in the decomposition and in encode?",
        hint="images.flatten(1) - self.m",
    )
    cosine = F.cosine_similarity(z, exact, dim=0).abs()
    order = "are the directions the first rows of the third part, after centring?"
    expect(
        bool((cosine > 0.99).all()),
        "the coordinates are not those of largest variance, the largest first",
        cause=order,
        hint="torch.linalg.svd(rows - mean, full_matrices=False).Vh[:k]",
    )
    expect(
        same(z.std(0), exact.std(0), rtol=0.02),
        "the codes are stretched: their lengths are not those of the projections",
        cause="is z the product with the directions, and nothing else?",
        hint="centred @ self.v.T",
    )
    _expect_statistics(space, z)
    drawn = space.decode(Code(z))
    expect_tensor(
        drawn,
        (80, 1, 32, 32),
        "are the rows of pixels turned into images again?",
        ".view(-1, 1, 32, 32)",
        "decode: images of shape (80, 1, 32, 32)",
    )
    far = space.decode(Code(100 * torch.ones(1, 3)))
    expect(
        bool((far >= 0).all() and (far <= 1).all()),
        "a pixel lies outside [0, 1]",
        cause="a linear function has no bounds. Are pixels clamped?",
        hint="Tensor.clamp(0, 1)",
    )
    expect(
        not same(drawn, (exact @ v).view_as(drawn).clamp(0, 1), atol=1e-3),
        "the decoded images lack the mean image",
        cause="encode subtracts the mean image. What does decode do with it?",
        hint="self.m + code.z @ self.v",
    )
    expect(
        same(drawn, (rows.mean(0) + exact @ v).view_as(drawn).clamp(0, 1), atol=1e-3),
        "the decoded images are not the mean image plus the sum of the directions",
        cause="is each direction multiplied by its coordinate of the code?",
        hint="self.m + code.z @ self.v",
    )


@exercise("A space of your own")
def MySpace(answer: Callable[..., Any]) -> None:
    encoder, decoder = _toy_networks()
    images = torch.rand(50, 1, 4, 4, generator=_generator(8))
    with torch.no_grad():
        mean, log_variance = encoder(images).chunk(2, 1)
    space = answer(encoder, decoder, images)
    code = space.encode(images)
    expect(
        not isinstance(code, Code) or code.z.shape != (50, 6),
        "z has the shape (50, 6), but a code has 3 coordinates",
        cause="the encoder returns two things for each coordinate. Which of them is the code?",
        hint="split with chunk(2, dim=1), and take the first half",
    )
    z = _expect_code(code, (50, 3))
    expect(
        same(z, space.encode(images).z.detach()),
        "the same image gets two different codes",
        cause="encode must not draw noise. Which code of the distribution is the best guess?",
        hint="z is the mean of q(z | x)",
    )
    expect(
        not same(z, log_variance),
        "the codes are the log variances",
        cause="which half of the output of the encoder holds the means?",
        hint="the first half",
    )
    expect(
        same(z, mean),
        "the codes are not the means that the encoder returns",
        cause="is the first half of the output of the encoder used as it is?",
        hint="mean, _ = self.encoder(images).chunk(2, dim=1)",
    )
    _expect_statistics(space, z)
    point = z.clone().requires_grad_()
    drawn = space.decode(Code(point))
    expect_tensor(
        drawn,
        (50, 1, 4, 4),
        "does decode return what the decoder makes of code.z?",
        "self.decoder takes the tensor code.z",
        "images of shape (50, 1, 4, 4)",
    )
    expect(
        bool((drawn >= 0).all() and (drawn <= 1).all()),
        f"decode returns pixels between {drawn.detach().min():.1f} and {drawn.detach().max():.1f}",
        cause="what does the decoder return: pixels or logits?",
        hint="Tensor.sigmoid turns logits into probabilities",
    )
    expect(
        drawn.requires_grad,
        "no gradient flows from the images to the code",
        cause="is decode inside torch.no_grad(), or is its result detached?",
        hint="in decode, neither no_grad nor detach",
    )
    expect(
        same(drawn.detach(), decoder(z).sigmoid().detach()),
        "the images are not the probabilities of the pixels",
        cause="which function turns logits into probabilities?",
        hint="Tensor.sigmoid",
    )
    library: Any = weights.load("digits/vae", device="cpu")
    digits = data.digits("test")[:40].images
    own = answer(
        lambda x: torch.cat(library.net.posterior(x), 1), library.net.decode_logits, digits
    )
    with torch.no_grad():
        apart = (own.decode(own.encode(digits)) - library.decode(library.encode(digits))).abs()
    expect(
        float(apart.max()) < 1e-4,
        f"with the library's networks, a pixel differs by {float(apart.max()):.2g} from the "
        "library's reconstruction",
        cause="do encode and decode use the networks that __init__ got, and nothing else?",
        hint="encode: the first half; decode: the sigmoid of the logits",
    )


# The networks and the loss


def _toy_networks(dims: int = 3) -> tuple[nn.Module, nn.Module]:
    """Return a linear encoder and decoder for images of 4x4 pixels, always the same."""
    g = _generator(9)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 2 * dims))
    decoder = nn.Sequential(nn.Linear(dims, 16), nn.Unflatten(1, (1, 4, 4)))
    with torch.no_grad():
        for p in [*encoder.parameters(), *decoder.parameters()]:
            p.copy_(0.7 * torch.randn(p.shape, generator=g))
    return encoder, decoder


@exercise("Two networks")
def make_networks(answer: Callable[[int, int], tuple[nn.Module, nn.Module]]) -> None:
    got = expect_pair(answer(7, 33), "encoder and decoder", "return encoder, decoder")
    expect(
        all(isinstance(net, nn.Module) for net in got),
        f"expected two modules, got {type(got[0]).__name__} and {type(got[1]).__name__}",
        cause="are both parts networks that torch can train?",
        hint="nn.Sequential(...) is a module",
    )
    encoder, decoder = got
    images = torch.rand(5, 1, 32, 32, generator=_generator(1))
    out = encoder(images)
    expect(
        not isinstance(out, Tensor) or out.shape != (5, 7),
        "the encoder returns 7 numbers per image for codes of 7 coordinates",
        cause="each coordinate has a mean and a log variance. How many numbers is that?",
        hint="the last layer of the encoder has 2 * dims outputs",
    )
    expect_tensor(
        out,
        (5, 14),
        "what does the last layer of the encoder return?",
        "the last layer of the encoder has 2 * dims outputs",
        "encoder: shape (5, 14) for dims = 7",
    )
    drawn = decoder(torch.randn(5, 7, generator=_generator(2)))
    expect_tensor(
        drawn,
        (5, 1, 32, 32),
        "does the decoder return images?",
        "nn.Unflatten(1, (1, 32, 32)) is the last layer",
        "decoder: shape (5, 1, 32, 32)",
    )
    pixels = torch.cat([decoder(9 * torch.randn(40, 7, generator=_generator(3))).flatten()])
    for name, values in (("encoder", encoder(20 * images - 10)), ("decoder", pixels)):
        expect(
            bool((values < 0).any()),
            f"the {name} never returns a negative number",
            cause=f"does an activation follow the last layer of the {name}?",
            hint="means, log variances and logits may be negative: end with a linear layer",
        )
        expect(
            bool((values > 1).any()),
            f"the {name} never returns a number above 1",
            cause=f"does an activation follow the last layer of the {name}?",
            hint="means, log variances and logits have no bounds: end with a linear layer",
        )
    for name, net, inputs in (
        ("encoder", encoder, images),
        ("decoder", decoder, torch.randn(5, 7, generator=_generator(2))),
    ):
        zero, one, two = net(0 * inputs), net(inputs), net(-inputs)
        expect(
            not same(one + two, 2 * zero, atol=1e-5),
            f"the {name} is a linear function",
            cause="without an activation between them, two linear layers are one linear layer",
            hint="nn.ReLU() between the two linear layers",
        )
    sizes = [p.shape for p in [*encoder.parameters(), *decoder.parameters()]]
    expect(
        any(33 in size for size in sizes),
        "no layer has 33 hidden units",
        cause="is the argument hidden used?",
        hint="the first linear layer has hidden outputs",
    )


@exercise("Sample a code")
def sample_code(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    mean = torch.tensor([[1.0, -2.0]], requires_grad=True)
    log_variance = torch.tensor([[0.0, 2.0]], requires_grad=True)
    noise = torch.tensor([[0.5, -1.0]])
    got = answer(mean, log_variance, noise)
    expect_tensor(
        got,
        (1, 2),
        "is there one code per image?",
        "return a tensor of the shape of mean",
        "codes of shape (1, 2)",
    )
    expect(
        torch.equal(got, answer(mean, log_variance, noise)),
        "the same noise gives another result",
        cause="is noise drawn inside, although it is an argument?",
        hint="use the argument noise",
    )
    m, v = mean.detach(), log_variance.detach()
    wrong = {
        "the noise keeps its standard deviation of 1": (
            m + noise,
            "which standard deviation does the distribution of each coordinate have?",
        ),
        "the noise is multiplied by the variance": (
            m + v.exp() * noise,
            "is the variance a standard deviation?",
        ),
        "the noise is multiplied by a logarithm": (
            m + v * noise,
            "what does the network return: a standard deviation, or a logarithm?",
        ),
        "the noise is multiplied by half of a logarithm": (
            m + 0.5 * v * noise,
            "how does the logarithm of a number become the number?",
        ),
        "the noise is subtracted": (m - (0.5 * v).exp() * noise, "which sign does the noise have?"),
        "the mean is missing": ((0.5 * v).exp() * noise, "around which point lie the codes?"),
    }
    hint = "half the log variance is the log of the standard deviation; exp gives the deviation"
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    exact = m + (0.5 * v).exp() * noise
    expect(
        same(got, exact),
        f"for mean -2, log variance 2 and noise -1 expected {float(exact[0, 1]):.3f}, "
        f"got {float(got.detach()[0, 1]):.3f}",
        cause="which standard deviation belongs to a log variance of 2?",
        hint=hint,
    )
    slopes: tuple[Tensor | None, ...] = (None, None)
    if got.requires_grad:
        slopes = torch.autograd.grad(got.sum(), (mean, log_variance), allow_unused=True)
    expect(
        all(slope is not None for slope in slopes),
        "no gradient flows to the mean or to the log variance",
        cause="is a part computed inside torch.no_grad(), detached, or turned into a number?",
        hint="use plain arithmetic with tensors",
    )


@exercise("The reconstruction term")
def reconstruction_term(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    g = _generator(2)
    logits = 2 * torch.randn(3, 1, 4, 4, generator=g)
    images = torch.rand(3, 1, 4, 4, generator=g)
    got = answer(logits, images)
    expect_tensor(
        got,
        (3,),
        ONE_PER_IMAGE,
        "flatten(1), and then the sum over dimension 1",
        "one number per image, shape (3,)",
    )
    each = F.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1)
    p = logits.sigmoid()
    wrong = {
        "the sign is wrong: the term must be small for likely images": (
            -each.sum(1),
            "is it the log probability, or its negative?",
        ),
        "the term is averaged over pixels": (
            each.mean(1),
            "the logarithm of a product of probabilities is a sum. Is anything divided?",
        ),
        "only white pixels count": (
            -(images * p.log()).flatten(1).sum(1),
            "where is the part of the black pixels?",
        ),
        "the term is the squared error": (
            ((p - images) ** 2).flatten(1).sum(1),
            "pixels are drawn as black or white. What is the probability of an image?",
        ),
        "the logits count as probabilities of pixels": (
            ((logits - images) ** 2).flatten(1).sum(1),
            "the decoder returns logits. Which function takes logits?",
        ),
        "the softplus of the logits alone": (
            F.softplus(logits).flatten(1).sum(1),
            "the term must depend on the image. Where does it appear?",
        ),
        "the sign of the second part is wrong": (
            (F.softplus(logits) + images * logits).flatten(1).sum(1),
            "does a large logit make a white pixel more likely or less likely?",
        ),
    }
    hint = "per pixel: softplus(logit) - x * logit, or F.binary_cross_entropy_with_logits"
    expect_none_of(wrong, lambda w: same(got.detach(), w, rtol=1e-4), hint=hint)
    expect(
        same(got, each.sum(1), rtol=1e-4),
        f"for the first image expected {float(each[0].sum()):.3f}, got {float(got[0]):.3f}",
        cause="is every pixel summed, with the formula of the last step of the derivation?",
        hint=hint,
    )
    far = answer(torch.full((1, 1, 2, 2), 200.0), torch.zeros(1, 1, 2, 2))
    expect(
        bool(far.isfinite().all()) and near(float(far) / 800, 1.0),
        f"for four black pixels with the logit 200 expected 800, got {float(far):.3g}",
        cause="is there a logarithm of a probability that rounds to 0 or 1, or a huge exponential?",
        hint="F.softplus does not overflow; log(1 + exp(...)) does",
    )


@exercise("The KL term")
def kl_term(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    g = _generator(3)
    mean, log_variance = torch.randn(4, 3, generator=g), torch.randn(4, 3, generator=g)
    got = answer(mean, log_variance)
    expect_tensor(
        got,
        (4, 3),
        "the task asks for each coordinate. Is there a sum or a mean?",
        "return the formula without a sum",
        "one number per image and coordinate, shape (4, 3)",
    )
    m, v = mean, log_variance
    exact = 0.5 * (m**2 + v.exp() - 1 - v)
    wrong = {
        "a negative value: a divergence cannot be negative": (-exact, "is a sign reversed?"),
        "the factor one half is missing": (
            2 * exact,
            "compare with the last line of the derivation",
        ),
        "the standard deviation stands where the variance should be": (
            0.5 * (m**2 + (0.5 * v).exp() - 1 - v),
            "which of the two does the formula contain: the standard deviation, or its square?",
        ),
        "the variance and its logarithm cancel": (
            0.5 * (m**2 - 1),
            "the formula contains the variance and its logarithm. Are they different in your code?",
        ),
        "the log variance has the wrong sign": (
            0.5 * (m**2 + v.exp() - 1 + v),
            "compare the signs with the last line of the derivation",
        ),
        "the mean is not squared": (0.5 * (m + v.exp() - 1 - v), "what is the mean of z squared?"),
        "the mean does not count": (0.5 * (v.exp() - 1 - v), "where does the mean appear?"),
    }
    hint = "0.5 * (mean**2 + variance - 1 - log_variance) with variance = log_variance.exp()"
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    zero = float(answer(torch.zeros(1, 1), torch.zeros(1, 1)).flatten()[0])
    expect(
        near(zero, 0.0),
        f"for mean 0 and variance 1 expected 0, got {zero:.3f}",
        cause="this is the prior itself. Which of the four parts is missing?",
        hint=hint,
    )
    expect(
        same(got, exact),
        f"expected {float(exact[0, 0]):.3f} in the first coordinate, got {float(got[0, 0]):.3f}",
        cause="compare each of the four parts with the last line of the derivation",
        hint=hint,
    )


@exercise("The loss")
def vae_loss(answer: Callable[..., Tensor]) -> None:
    encoder, decoder = _toy_networks()
    images = torch.rand(5, 1, 4, 4, generator=_generator(5))
    noise = torch.randn(5, 3, generator=_generator(6))
    got = answer(encoder, decoder, images, noise, 0.3)
    expect_tensor(
        got,
        (),
        "is one number returned, the average over the images of the batch?",
        "end with .mean()",
        "one number, shape ()",
    )
    m, v = encoder(images).detach().chunk(2, 1)

    def error(z: Tensor, x: Tensor = images) -> Tensor:
        logits = decoder(z).detach()
        return F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)

    z, kl = m + (0.5 * v).exp() * noise, _exact_kl(m, v)
    swapped = v + (0.5 * m).exp() * noise
    wrong = {
        "the KL term has the weight 1 instead of beta": (
            (error(z) + kl).mean(),
            "is the argument beta used?",
        ),
        "the KL term is missing": (error(z).mean(), "the loss has two terms"),
        "the reconstruction term is missing": (0.3 * kl.mean(), "the loss has two terms"),
        "the KL term is rewarded": (
            (error(z) - 0.3 * kl).mean(),
            "both terms are prices. Which sign do they have?",
        ),
        "beta weights the reconstruction term": (
            (0.3 * error(z) + kl).mean(),
            "which of the two terms has the weight?",
        ),
        "the code is the mean, without noise": (
            (error(m) + 0.3 * kl).mean(),
            "is the code sampled?",
        ),
        "mean and log variance are exchanged": (
            (error(swapped) + 0.3 * _exact_kl(v, m)).mean(),
            "which half of the output of the encoder holds the means?",
        ),
        "the KL term is averaged over coordinates": (
            (error(z) + 0.3 * kl / 3).mean(),
            "the divergence of an image is a sum over coordinates",
        ),
        "the terms are summed over the images": (
            (error(z) + 0.3 * kl).sum(),
            "a loss that grows with the batch needs another learning rate for each batch size",
        ),
    }
    hint = "chunk, sample_code, decoder, then the mean of reconstruction + beta * kl.sum(1)"
    expect_none_of(wrong, lambda w: same(got.detach(), w), hint=hint)
    exact = (error(z) + 0.3 * kl).mean()
    expect(
        same(got.detach(), exact),
        f"expected {float(exact):.3f}, got {float(got.detach()):.3f}",
        cause="compare each part with the formula above the exercise",
        hint=hint,
    )
    expect(
        got.requires_grad,
        "the loss has no gradient",
        cause="is a part computed inside torch.no_grad(), or turned into a number?",
        hint="return the tensor itself",
    )
    own, twin = (encoder, decoder), _toy_networks()
    mean, log_variance = twin[0](images).chunk(2, 1)
    logits = twin[1](mean + (0.5 * log_variance).exp() * noise)
    reconstruction = F.binary_cross_entropy_with_logits(logits, images, reduction="sum") / 5
    (reconstruction + 0.3 * _exact_kl(mean, log_variance).mean()).backward()
    got.backward()
    for name, net, other in zip(("encoder", "decoder"), own, twin, strict=True):
        pairs = zip(net.parameters(), other.parameters(), strict=True)
        expect(
            all(
                p.grad is not None and q.grad is not None and same(p.grad, q.grad, rtol=1e-3)
                for p, q in pairs
            ),
            f"not all of the gradient reaches the {name}",
            cause="is a part detached, or computed inside torch.no_grad()?",
            hint="use the outputs of the networks as they are",
        )


# The training loop


class Watched:
    """Toy networks that record what a training loop does with them."""

    def __init__(self) -> None:
        self.encoder, self.decoder = _toy_networks()
        self.images: list[Tensor] = []
        self.encoded: list[Tensor] = []
        self.codes: list[Tensor] = []
        self.drawn: list[Tensor] = []
        self.weights: list[Tensor] = []  # of the encoder, before each step
        self.added_up = False
        self.before = self.parameters()
        self.encoder.register_forward_hook(self._encode)
        self.decoder.register_forward_hook(self._decode)
        self._gradient: dict[int, Tensor] = {}
        for p in [*self.encoder.parameters(), *self.decoder.parameters()]:
            p.register_hook(lambda gradient, p=p: self._gradient.update({id(p): gradient.clone()}))
            p.register_post_accumulate_grad_hook(self._compare)

    def parameters(self) -> tuple[Tensor, Tensor]:
        """Return the numbers of both networks, each as one vector."""
        encoder, decoder = (
            torch.cat([p.detach().flatten() for p in net.parameters()])
            for net in (self.encoder, self.decoder)
        )
        return encoder, decoder

    def _encode(self, _: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        self.weights.append(self.parameters()[0].clone())
        self.images.append(inputs[0].detach().clone())
        self.encoded.append(output.detach().clone())

    def _decode(self, _: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        self.codes.append(inputs[0].detach().clone())
        self.drawn.append(output.detach().clone())

    def _compare(self, p: Tensor) -> None:
        total = torch.zeros_like(p) if p.grad is None else p.grad
        self.added_up |= not same(total, self._gradient[id(p)])

    def noise(self) -> Tensor:
        """Return the noise of each step, (steps, b, dims)."""
        means, logs = torch.stack(self.encoded).chunk(2, -1)
        return (torch.stack(self.codes) - means) / (0.5 * logs).exp()


def _expect_draws(seen: Watched, pool: Tensor) -> None:
    """Raise ``Wrong`` if the batches or the noise of a training are not random."""
    expect(
        all(len(batch) == 8 for batch in seen.images),
        f"expected batches of 8 images, got {len(seen.images[0])}",
        cause="how many images does each step use?",
        hint="torch.randint(len(images), (batch_size,), generator=g) draws the rows of a batch",
    )
    brightness = torch.stack([batch.flatten(1).mean(1).sort().values for batch in seen.images])
    expect(
        not same(brightness, brightness[:1].expand_as(brightness), atol=1e-6),
        "every step uses the same images",
        cause="are the images drawn inside the loop, and is the generator made before the loop?",
        hint="make the generator once; draw rows in each step",
    )
    n_seen = len(torch.unique((brightness * 1e5).round()))
    expect(
        n_seen > 30,
        f"only {n_seen} of the {len(pool)} images are ever used",
        cause="from how many rows is a batch drawn?",
        hint="torch.randint(len(images), ...)",
    )
    noise = seen.noise()
    expect(
        bool(noise.abs().max() > 1e-3),
        "the codes are the means: there is no noise",
        cause="which noise does the loss get?",
        hint="torch.randn(batch_size, dims, generator=g)",
    )
    expect(
        not same(noise, noise[:1].expand_as(noise), atol=1e-3),
        "every step uses the same noise",
        cause="is the noise drawn inside the loop, and is the generator made before the loop?",
        hint="make the generator once; draw noise in each step",
    )
    expect(
        not same(noise, noise[:, :1].expand_as(noise), atol=1e-3),
        "all images of a batch get the same noise",
        cause="how many rows does the noise have?",
        hint="torch.randn(batch_size, dims, generator=g)",
    )
    mean, std = float(noise.mean()), float(noise.std())
    expect(
        abs(mean) < 0.2 and 0.85 < std < 1.15,
        f"the noise has mean {mean:.2f} and standard deviation {std:.2f}",
        cause="from which distribution is the noise drawn?",
        hint="torch.randn draws from N(0, 1), torch.rand does not",
    )


@exercise("Train")
def train(answer: Callable[..., list[float]]) -> None:
    g = _generator(7)
    images = torch.rand(40, 1, 4, 4, generator=g).round() * 0.8 + 0.2 * torch.rand(
        40, 1, 4, 4, generator=g
    )

    def run(steps: int, beta: float = 1.0, seed: int = 0) -> tuple[Any, Watched]:
        seen = Watched()
        nets, pool = (seen.encoder, seen.decoder), images.clone()
        return answer(*nets, pool, range(steps), 3, 8, 0.01, beta, seed), seen

    losses, seen = run(60)
    expect(
        isinstance(losses, list | tuple) and len(losses) == 60,
        f"for 60 steps expected a list of 60 losses, got "
        f"{len(losses) if isinstance(losses, list | tuple) else type(losses).__name__}",
        cause="is one loss stored in each step, and is the list returned after the loop?",
        hint="losses.append(loss.item()) in the loop, return losses after it",
    )
    expect(
        all(isinstance(each, float) for each in losses),
        f"expected Python floats, got {type(losses[0]).__name__}",
        cause="a tensor keeps the graph of its step in memory",
        hint="loss.item() is a number without the graph",
    )
    _expect_draws(seen, images)
    for name, before, after in zip(
        ("encoder", "decoder"), seen.before, seen.parameters(), strict=True
    ):
        expect(
            not torch.equal(before, after),
            f"the {name} does not change",
            cause="which parameters did the optimiser get, and does it take a step?",
            hint="torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=lr)",
        )
    expect(
        not seen.added_up,
        "the gradients of several steps add up",
        cause="backward adds to the gradients that are there. What must happen before it?",
        hint="adam.zero_grad() before loss.backward()",
    )
    first, last = sum(losses[:15]) / 15, sum(losses[-15:]) / 15
    expect(
        last < first,
        f"the loss does not fall: {first:.1f} in the first steps, {last:.1f} in the last",
        cause="does the step go against the gradient of the loss, after backward?",
        hint="zero_grad, backward, step, in this order, with the loss itself",
    )
    way = torch.stack(seen.weights)
    moved = way.diff(dim=0).abs()
    expect(
        0.8 < float(moved[0].max() / 0.01) < 1.2,
        f"with lr=0.01, the first step moves a parameter by {float(moved[0].max()):.3g}. "
        "The first step of Adam moves it by 0.01",
        cause="is the optimiser Adam, with the learning rate lr?",
        hint="torch.optim.Adam(parameters, lr=lr)",
    )
    expect(
        not same(moved[20:30], moved[20:30].clamp_min(0.0099), atol=1e-5),
        "every parameter moves by lr in every step",
        cause="Adam remembers earlier gradients. Is there one optimiser for all steps?",
        hint="make the optimiser once, before the loop",
    )
    mean, log_variance = seen.encoded[0].chunk(2, 1)
    error = F.binary_cross_entropy_with_logits(seen.drawn[0], seen.images[0], reduction="sum") / 8
    exact = float(error + _exact_kl(mean, log_variance).mean())
    expect(
        abs(losses[0] - exact) < 1e-3 * exact,
        f"the loss of the first step is {exact:.2f}, but the list begins with {losses[0]:.2f}",
        cause="which number is stored in each step?",
        hint="losses.append(loss.item())",
    )
    expect(
        run(3, beta=50.0)[0][0] > 1.5 * losses[0],
        "beta=50 gives the same loss as beta=1",
        cause="does the loss get the argument beta?",
        hint="vae_loss(encoder, decoder, batch, noise, beta)",
    )
    expect(
        list(run(10)[0]) == list(losses[:10]),
        "the same seed gives other losses",
        cause="do rows and noise come from one generator with this seed?",
        hint="g = torch.Generator().manual_seed(seed), and generator=g in both draws",
    )
    expect(
        list(run(10, seed=1)[0]) != list(losses[:10]),
        "another seed gives the same losses",
        cause="is the argument seed used?",
        hint="torch.Generator().manual_seed(seed)",
    )


# Measures


class ToySpace:
    """A space of two coordinates, whose decoder draws the code as two gray halves."""

    def __init__(self) -> None:
        self.mean = torch.tensor([0.4, 0.6])
        self.std = torch.tensor([0.1, 0.3])

    def encode(self, images: Tensor) -> Code:
        rows = images.flatten(1)
        n = rows.shape[1] // 2
        return Code(torch.stack([rows[:, :n].mean(1), rows[:, n:].mean(1)], 1))

    def decode(self, code: Code) -> Tensor:
        return code.z.clamp(0, 1).repeat_interleave(8, 1).view(-1, 1, 4, 4)


def _toy_images(n: int, seed: int = 11) -> Tensor:
    return torch.rand(n, 1, 4, 4, generator=_generator(seed))


@exercise("Measure a space")
def measure(answer: Callable[..., tuple[float, float, float]]) -> None:
    space, images = ToySpace(), _toy_images(40)
    noise = torch.randn(30, 2, generator=_generator(12))

    def classifier(x: Tensor) -> Tensor:  # reads single pixels, which reconstructions lose
        return torch.stack([x[:, 0, 0, 0], x[:, 0, 3, 3], x[:, 0, 1, 1]], 1)

    def judge(x: Tensor) -> Tensor:
        return 4 * torch.stack([x[:, 0, 0, 0], x[:, 0, 3, 3]], 1)

    got = answer(space, classifier, judge, images, noise)
    expect(
        isinstance(got, tuple | list) and len(got) == 3,
        f"expected three numbers, got {type(got).__name__}",
        cause="are all three numbers returned?",
        hint="return error, survive, certain",
    )
    expect(
        all(isinstance(x, float | int) or (isinstance(x, Tensor) and x.numel() == 1) for x in got),
        f"expected three numbers, got shapes {[tuple(getattr(x, 'shape', ())) for x in got]}",
        cause="is the mean over all images taken?",
        hint="float(tensor.mean())",
    )
    error, survive, certain = (float(x) for x in got)
    rebuilt = space.decode(space.encode(images))
    squared = (rebuilt - images).square()
    before, after = classifier(images).argmax(1), classifier(rebuilt).argmax(1)
    hint = "((rebuilt - images) ** 2).mean()"
    wrong_error: dict[str, tuple[Any, str]] = {
        "the squared error is a sum over pixels": (
            float(squared.flatten(1).sum(1).mean()),
            "is it the mean over all pixels of all images?",
        ),
        "the error is not squared": (float((rebuilt - images).abs().mean()), "which error?"),
        "the error is a root": (float(squared.mean().sqrt()), "which error?"),
    }
    expect_none_of(wrong_error, lambda w: near(error, w), hint=hint)
    exact = float(squared.mean())
    expect(
        near(error, exact),
        f"the mean squared error is {exact:.4f}, but the first number is {error:.4f}",
        cause="are the images compared with their reconstructions, and is the error the first?",
        hint=hint,
    )
    kept = float((before == after).double().mean())
    expect(
        not near(survive, 1 - kept),
        "the second number is the fraction of decisions that change",
        cause="is it the decisions that are equal, or those that differ?",
        hint="(before == after).double().mean()",
    )
    expect(
        near(survive, kept),
        f"{int(kept * 40)} of 40 decisions survive, but the second number is {survive:.3f}",
        cause="which two classes are compared: those of an image and of its reconstruction?",
        hint="the argmax of the classifier's logits, for images and for rebuilt",
    )

    def sure(z: Tensor) -> float:
        return float(judge(space.decode(Code(z))).softmax(1).amax(1).mean())

    wrong_sure = {
        "the random codes have standard deviation 1 and mean 0": (
            sure(noise),
            "which mean and which std do codes of real images have?",
        ),
        "the random codes have mean 0": (
            sure(space.std * noise),
            "where lie codes of real images?",
        ),
        "the random codes have standard deviation 1": (
            sure(space.mean + noise),
            "how far do codes of real images spread?",
        ),
        "the judge sees the reconstructions": (
            float(judge(rebuilt).softmax(1).amax(1).mean()),
            "the third number is about images of random codes",
        ),
        "the judge sees the original images": (
            float(judge(images).softmax(1).amax(1).mean()),
            "the third number is about images of random codes",
        ),
        "the classifier is asked, and not the judge": (
            float(
                classifier(space.decode(Code(space.mean + space.std * noise)))
                .softmax(1)
                .amax(1)
                .mean()
            ),
            "which of the two networks gives the third number?",
        ),
    }
    hint = "space.decode(cfx.Code(space.mean + space.std * noise)), and certainty of the judge"
    expect_none_of(wrong_sure, lambda w: near(certain, w), hint=hint)
    exact = sure(space.mean + space.std * noise)
    expect(
        near(certain, exact),
        f"the judge's certainty on random codes is {exact:.4f}, but the third number is "
        f"{certain:.4f}",
        cause="which images does the judge see, and is its certainty computed by certainty?",
        hint=hint,
    )


@exercise("The average of the neighbours")
def neighbour_average(answer: Callable[..., Tensor]) -> None:
    space, images, known = ToySpace(), _toy_images(5), _toy_images(60, 13)
    space.std = torch.tensor([0.01, 0.3])
    got = answer(space, images, known, 4)
    expect_tensor(
        got,
        (5, 1, 4, 4),
        "is the average taken over the k neighbours of each image?",
        "known[indices] has the shape (b, k, 1, h, w): average over dimension 1",
        "one image per image, shape (5, 1, 4, 4)",
    )
    a, b = (space.encode(x).z for x in (images, known))
    far = torch.cdist(a / space.std, b / space.std)
    pixels = torch.cdist(images.flatten(1), known.flatten(1))

    def average(distance: Tensor, largest: bool = False, k: int = 4) -> Tensor:
        return known[distance.topk(k, largest=largest).indices].mean(1)

    wrong = {
        "the images are the farthest, and not the nearest": (
            average(far, True),
            "does topk return the largest distances or the smallest?",
        ),
        "the distances are not measured in standard deviations": (
            average(torch.cdist(a, b)),
            "in which unit are the distances of codes?",
        ),
        "the distances are measured between pixels": (
            average(pixels),
            "the task asks for the nearest codes",
        ),
        "the number of neighbours is not k": (average(far, k=30), "is the argument k used?"),
        "the reconstructions are averaged": (
            space.decode(Code(b))[far.topk(4, largest=False).indices].mean(1),
            "which images are averaged: the known ones, or their reconstructions?",
        ),
    }
    hint = "torch.cdist of the codes divided by std, topk(k, largest=False), known[indices].mean(1)"
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    expect(
        same(got, average(far)),
        "the result is not the average of the k known images with the nearest codes",
        cause="which images are selected, and over which dimension is the average?",
        hint=hint,
    )


@exercise("Active coordinates")
def active_coordinates(answer: Callable[..., tuple[Tensor, Tensor]]) -> None:
    g = _generator(15)
    mean = torch.randn(30, 4, generator=g) * torch.tensor([2.0, 0.0, 1.0, 0.6])
    log_variance = torch.tensor([-3.0, 0.0, -1.0, 0.0]).expand(30, 4)
    frozen = nn.Parameter(torch.ones(()))

    def encoder(images: Tensor) -> Tensor:
        return torch.cat([mean, log_variance], 1)[: len(images)] * frozen

    price = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
    got = expect_pair(answer(encoder, torch.zeros(30, 1, 4, 4), 0.5), "KL terms and active ones")
    expect_tensor(
        got[0],
        (4,),
        "does the mean run over images, so that one number per coordinate is left?",
        "the mean over dimension 0",
        "one KL term per coordinate, shape (4,)",
    )
    expect(
        not got[0].requires_grad,
        "the KL terms carry the graph of the gradient",
        cause="nothing is trained here. Which context saves memory?",
        hint="with torch.no_grad():",
    )
    exact = price.mean(0)
    wrong = {
        "the KL terms are sums over images": (price.sum(0), "the task asks for the mean"),
        "mean and log variance are exchanged": (
            (0.5 * (log_variance**2 + mean.exp() - 1 - mean)).mean(0),
            "which half of the output of the encoder holds the means?",
        ),
        "the numbers are standard deviations of codes": (
            mean.std(0),
            "the task asks for the mean KL term",
        ),
    }
    hint = "chunk the output of the encoder, kl_term, mean over dimension 0"
    expect_none_of(wrong, lambda w: same(got[0], w), hint=hint)
    expect(
        same(got[0], exact),
        f"the mean KL term of the first coordinate is {float(exact[0]):.2f}, "
        f"got {float(got[0][0]):.2f}",
        cause="are the terms of all images averaged, coordinate by coordinate?",
        hint=hint,
    )
    active = got[1]
    expect(
        isinstance(active, Tensor) and active.dtype == torch.bool and active.shape == (4,),
        f"expected one bool per coordinate, got {getattr(active, 'dtype', type(active).__name__)}",
        cause="is the second part a comparison, one per coordinate?",
        hint="price > threshold",
    )
    expect(
        not torch.equal(active, exact <= 0.5),
        "the second part marks the unused coordinates",
        cause="are active coordinates above or below the threshold?",
        hint="price > threshold",
    )
    expect(
        torch.equal(active, exact > 0.5),
        f"with the threshold 0.5 expected {(exact > 0.5).tolist()}, got {active.tolist()}",
        cause="with what are the mean KL terms compared?",
        hint="price > threshold",
    )


@exercise("A traversal")
def traverse(answer: Callable[..., Tensor]) -> None:
    space, z = ToySpace(), torch.tensor([0.5, 0.4])
    space.std = torch.tensor([0.1, 0.15])
    moves, before = torch.tensor([-1.0, 0.0, 2.0, 3.0]), z.clone()
    got = answer(space, z, 0, moves)
    expect(
        torch.equal(z, before),
        "the code that was handed in has changed",
        cause="is z changed in place, or do copies share its memory?",
        hint="z.repeat(len(moves), 1) makes a copy for each step",
    )
    expect_tensor(
        got,
        (4, 1, 4, 4),
        "is there one decoded image per step?",
        "space.decode(cfx.Code(codes)), with one row of codes per step",
        "one image per step, shape (4, 1, 4, 4)",
    )
    codes = space.encode(got.detach()).z

    def along(change: Tensor) -> Tensor:
        return torch.stack([z[0] + change, z[1].expand(4)], 1)

    wrong = {
        "all coordinates move": (
            z + moves[:, None] * space.std,
            "only column j of the copies may change",
        ),
        "another coordinate moves": (
            torch.stack([z[0].expand(4), z[1] + moves * space.std[1]], 1),
            "which column of the copies changes?",
        ),
        "the steps are not measured in standard deviations": (
            along(moves).clamp(0, 1),
            "what is the unit of a step?",
        ),
        "the coordinate is replaced by the step": (
            torch.stack([moves * space.std[0], z[1].expand(4)], 1).clamp(0, 1),
            "the step is added to the coordinate",
        ),
        "the coordinate moves in the opposite direction": (
            along(-moves * space.std[0]),
            "which sign do the steps have?",
        ),
        "the steps add up": (
            along((moves * space.std[0]).cumsum(0)),
            "does each step start at z, or at the result of the step before?",
        ),
    }
    hint = "codes = z.repeat(len(moves), 1), then codes[:, j] += moves * space.std[j]"
    expect_none_of(wrong, lambda w: same(codes, w), hint=hint)
    expect(
        same(codes, along(moves * space.std[0])),
        f"with z = 0.5 and std = 0.1, two steps lead to 0.7, got {float(codes[2, 0]):.2f}",
        cause="is each step added to coordinate j of a copy of z, in units of its std?",
        hint=hint,
    )


@exercise("Unfamiliar images")
def unfamiliar(answer: Callable[..., Tensor]) -> None:
    space, familiar = ToySpace(), _toy_images(50, 21)
    contrast = torch.linspace(0, 1.7, 34).view(-1, 1, 1, 1)
    images = (0.5 + contrast * (_toy_images(34, 22) - 0.5)).clamp(0, 1)
    got = answer(space, images, familiar, 0.8)

    def errors(x: Tensor) -> Tensor:
        return (space.decode(space.encode(x)) - x).square().mean((1, 2, 3))

    exact = errors(images) > errors(familiar).quantile(0.8)
    expect(
        isinstance(got, Tensor) and got.dtype == torch.bool and got.shape == exact.shape,
        f"expected one bool per image, shape (34,), got "
        f"{getattr(got, 'dtype', type(got).__name__)} of shape {tuple(getattr(got, 'shape', ()))}",
        cause="is the error of each image compared with one limit?",
        hint="errors(images) > limit",
    )
    wrong = {
        "the familiar images are marked": (~exact, "is the error above or below the limit?"),
        "the limit comes from the images themselves": (
            errors(images) > errors(images).quantile(0.8),
            "which set of images decides about the limit?",
        ),
        "the argument level is not used": (
            errors(images) > errors(familiar).quantile(0.95),
            "which fraction of the familiar images lies below the limit?",
        ),
        "the limit is the mean error": (
            errors(images) > errors(familiar).mean(),
            "which fraction of the familiar images lies below the limit?",
        ),
        "the limit is the largest error": (
            errors(images) > errors(familiar).max(),
            "which fraction of the familiar images lies below the limit?",
        ),
        "the limit leaves the wrong side": (
            errors(images) > errors(familiar).quantile(0.2),
            "which fraction of the familiar images lies below the limit?",
        ),
    }
    hint = "errors(images) > errors(familiar).quantile(level)"
    expect_none_of(wrong, lambda w: torch.equal(got, w), hint=hint)
    expect(
        torch.equal(got, exact),
        f"{int(exact.sum())} of the images are unfamiliar, got {int(got.sum())}",
        cause="is the error the mean square over the pixels of one image?",
        hint="square().mean((1, 2, 3)), and the quantile of the familiar images",
    )
