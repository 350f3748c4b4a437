"""Checks of 01_latent_spaces."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from cfxnb.checks.core import exercise, expect


@exercise("What reconstruction loses")
def reconstruction_error(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    g = Generator().manual_seed(2)
    a, b = torch.rand(3, 2, 4, 4, generator=g), torch.rand(3, 2, 4, 4, generator=g)
    got = answer(a, b)
    expect(
        isinstance(got, Tensor) and got.shape == (3,),
        f"expected one number per image, shape (3,), got {getattr(got, 'shape', type(got))}",
        cause="the mean runs over the batch as well",
        hint="average over dimensions 1, 2 and 3 only",
    )
    naive = torch.stack([((a[i] - b[i]) ** 2).sum() / 32 for i in range(3)])
    expect(
        bool((got >= 0).all()) and not torch.allclose(got, naive * 32),
        "these are not means",
        cause="differences without a square cancel; a sum grows with the size of the image",
        hint="square first, then .mean(dim=(1, 2, 3))",
    )
    expect(
        torch.allclose(got, naive, atol=1e-6),
        "the values differ from the mean squared error",
        cause="not the square of each pixel's difference, or divided by a fixed number of pixels",
        hint="((a - b) ** 2).mean(dim=(1, 2, 3))",
    )


@exercise("The reparameterisation trick")
def reparameterise(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    mean = torch.tensor([[1.0, -2.0]], requires_grad=True)
    log_variance = torch.tensor([[0.0, 2.0]], requires_grad=True)
    noise = torch.tensor([[0.5, -1.0]])
    got = answer(mean, log_variance, noise)
    wanted = torch.tensor([[1.5, -2.0 - 2.718281828]])
    expect(
        torch.allclose(got, wanted, atol=1e-4) or not torch.allclose(got, mean + noise),
        "the noise is not scaled at all",
        cause="the standard deviation is missing",
        hint="noise has standard deviation 1: multiply it by exp(0.5 * log_variance)",
    )
    expect(
        torch.equal(got, answer(mean, log_variance, noise)),
        "the same noise gives another result",
        cause="noise is drawn inside, and the argument noise is not used",
        hint="multiply the argument noise by the standard deviation",
    )
    expect(
        torch.allclose(got, wanted, atol=1e-4),
        f"for log variance 2 and noise -1 the change is {got[0, 1].item() + 2:.3f}, not -2.718",
        cause="the variance or its logarithm is used as standard deviation, or the mean is missing",
        hint="the standard deviation is exp(0.5 * log_variance)",
    )
    expect(
        got.requires_grad,
        "no gradient flows to mean and log_variance",
        cause=".detach(), .item() or torch.no_grad() cuts the graph, so nothing can be learned",
        hint="use plain tensor arithmetic",
    )
    slopes = torch.autograd.grad(got.sum(), (mean, log_variance), allow_unused=True)
    expect(
        all(slope is not None for slope in slopes),
        "the gradient reaches only one of mean and log_variance",
        cause=".detach() or torch.no_grad() around a part of it",
        hint="use plain tensor arithmetic",
    )


@exercise("The KL term")
def kl_term(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    zero = answer(torch.zeros(2, 3), torch.zeros(2, 3))
    expect(
        isinstance(zero, Tensor) and zero.shape == (2,),
        f"expected one number per image, shape (2,), got {getattr(zero, 'shape', type(zero))}",
        cause="the sum runs over the batch too, or over nothing",
        hint="sum over dimension 1, the coordinates of the code",
    )
    expect(
        torch.allclose(zero, torch.zeros(2), atol=1e-6),
        f"a posterior equal to the prior must cost 0, got {zero[0].item():.3f}",
        cause="the terms -1 and -log_variance don't balance the others",
        hint="0.5 * (mean^2 + variance - 1 - log_variance)",
    )
    g = Generator().manual_seed(3)
    mean, log_variance = torch.randn(4, 3, generator=g), torch.randn(4, 3, generator=g)
    naive = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    got = answer(mean, log_variance)
    expect(
        bool((got >= -1e-6).all()),
        "a negative value: a divergence cannot be negative",
        cause="a sign is reversed, or the mean is not squared",
        hint="0.5 * (mean^2 + variance - 1 - log_variance), summed",
    )
    expect(
        torch.allclose(got, naive, atol=1e-4),
        "the values differ from the closed form for Gaussians",
        cause="the factor 0.5 is missing, or exp() of the log variance, or it is a mean",
        hint="0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)",
    )


@exercise("Traversal of one coordinate")
def traverse(answer: Callable[[Tensor, int, Tensor, Tensor], Tensor]) -> None:
    z, std = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 0.5, 2.0])
    steps = torch.tensor([-2.0, 0.0, 1.0])
    before = z.clone()
    got = answer(z, 1, steps, std)
    expect(
        torch.equal(z, before),
        "the code that was handed in has changed",
        cause="z is changed in place, or expanded without a copy",
        hint="codes = z.repeat(len(steps), 1) makes a copy for each step",
    )
    expect(
        isinstance(got, Tensor) and got.shape == (3, 3),
        f"expected one code per step, shape (3, 3), got {getattr(got, 'shape', type(got))}",
        cause="a single code is changed instead of one per step",
        hint="codes = z.repeat(len(steps), 1)",
    )
    expect(
        torch.allclose(got[:, [0, 2]], z[[0, 2]].expand(3, 2)),
        "other coordinates move too",
        cause="the steps are added to whole codes",
        hint="codes[:, dim] += ...",
    )
    expect(
        torch.allclose(got[1], z),
        "step 0 doesn't give the code itself",
        cause="the coordinate is set to the step, or the steps add up, or all rows are one tensor",
        hint="add to the coordinate, don't replace it",
    )
    expect(
        torch.allclose(got[:, 1], torch.tensor([1.0, 2.0, 2.5])),
        f"with std 0.5, two std below 2 is 1; got {got[0, 1].item():.2f}",
        cause="the steps are not measured in standard deviations",
        hint="steps * std[dim]",
    )


@exercise("Principal components of codes")
def principal_components(answer: Callable[[Tensor, int], Tensor]) -> None:
    g = Generator().manual_seed(4)
    scale = torch.tensor([5.0, 2.0, 0.3])
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=g))
    codes = torch.randn(500, 3, generator=g) * scale @ turn + torch.tensor([30.0, -20.0, 10.0])
    got = answer(codes, 2)
    expect(
        isinstance(got, Tensor) and got.shape == (500, 2),
        f"expected the codes in two coordinates, (500, 2), got {getattr(got, 'shape', type(got))}",
        cause="the directions are returned instead of the projected codes",
        hint="(codes - mean) @ directions.T",
    )
    expect(
        bool(got.mean(0).abs().max() < 0.1),
        "the projected codes are not centred",
        cause="the mean was not subtracted: the first component then points to the mean",
        hint="first codes = codes - codes.mean(0)",
    )
    centred = codes - codes.mean(0)
    _, _, v = torch.linalg.svd(centred, full_matrices=False)
    wanted = centred @ v[:2].T
    same = got * (got * wanted).sum(0).sign()  # the sign of a direction is arbitrary
    cosine = (got * wanted).sum(0).abs() / (got.norm(dim=0) * wanted.norm(dim=0)).clamp_min(1e-9)
    expect(
        bool((cosine < 0.999).any()) or torch.allclose(same, wanted, atol=0.05),
        "the coordinates are stretched: distances between codes are not kept",
        cause="only U was used, or the codes were divided by their standard deviation",
        hint="centred @ Vh[:k].T, which is U * S",
    )
    expect(
        torch.allclose(same, wanted, atol=0.05),
        "the coordinates are not those of largest variance, in descending order",
        cause="the components are in ascending order, or from the wrong side of the SVD",
        hint="U, S, Vh = torch.linalg.svd(centred, full_matrices=False); rows of Vh, largest first",
    )
