"""Checks of 02_counterfactual_attacks."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from cfxnb.checks.core import exercise, expect


@exercise("Log odds of the target")
def log_odds(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    g = Generator().manual_seed(5)
    logits, target = torch.randn(4, 5, generator=g), torch.tensor([0, 3, 4, 1])
    got = answer(logits, target)
    expect(
        isinstance(got, Tensor) and got.shape == (4,),
        f"expected one number per image, shape (4,), got {getattr(got, 'shape', type(got))}",
        cause="all classes are returned, or the batch is summed",
        hint="logits.gather(1, target[:, None]).squeeze(1) selects one logit per row",
    )
    p = logits.double().softmax(1).gather(1, target[:, None]).squeeze(1)
    naive = (p / (1 - p)).log().float()
    expect(
        not torch.allclose(got, -naive, atol=1e-3),
        "the sign is wrong: it must grow with the probability of the target",
        cause="the difference has the wrong order",
        hint="target minus others",
    )
    expect(
        torch.allclose(got, naive, atol=1e-3),
        "the values are not log(p / (1 - p))",
        cause="the target is among the other classes, or only the largest other logit is used",
        hint="logits.scatter(1, target[:, None], -torch.inf).logsumexp(1)",
    )
    far = answer(torch.tensor([[60.0, 0.0, 0.0]]), torch.tensor([0]))
    expect(
        bool(far.isfinite().all()) and float(far[0]) > 40,
        f"for logits 60, 0, 0 expected about 59.3, got {float(far[0]):.3g}",
        cause="probabilities saturate: p / (1 - p) divides by zero when p rounds to 1",
        hint="use logits only: the target's minus the logsumexp of the others",
    )


@exercise("The objective of a latent attack")
def objective(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    odds, change = torch.tensor([1.0, -2.0]), torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    got = answer(odds, change, 0.1)
    expect(
        isinstance(got, Tensor) and got.shape == (2,),
        f"expected one number per image, shape (2,), got {getattr(got, 'shape', type(got))}",
        cause="the batch is averaged, or the sum runs over samples and not over coordinates",
        hint="sum over dimension 1 only",
    )
    expect(
        float(answer(odds, change * 0, 0.1)[0]) < float(answer(odds - 1, change * 0, 0.1)[0]),
        "the objective rises as the target becomes more likely",
        cause="it will be minimised, so the log odds must come with a minus sign",
        hint="-odds + proximity * ...",
    )
    expect(
        float(got[0]) > float(answer(odds, change * 0, 0.1)[0]),
        "a longer change does not cost more",
        cause="the proximity term is missing or has the wrong sign",
        hint="+ proximity * (change ** 2).sum(1)",
    )
    expect(
        not torch.allclose(got, -odds + 1.4),
        "the loss of each image depends on the changes of all images",
        cause="the sum runs over the batch too",
        hint="(change ** 2).sum(1)",
    )
    expect(
        torch.allclose(got, torch.tensor([-0.5, 2.9])),
        f"for odds 1, change (1, 2, 0) and proximity 0.1 expected -0.5, got {float(got[0]):.3f}",
        cause="the length is not squared, is averaged, or is not multiplied by proximity",
        hint="proximity * (change ** 2).sum(1) is 0.1 * 5",
    )


@exercise("The gradient with respect to the code")
def code_gradient(answer: Callable[..., Tensor]) -> None:
    g = Generator().manual_seed(6)
    matrix, weights = torch.randn(3, 4, generator=g), torch.randn(4, 2, generator=g)

    def decode(z: Tensor) -> Tensor:
        return (z @ matrix).tanh()

    def classifier(images: Tensor) -> Tensor:
        return images @ weights

    z, target = torch.randn(2, 3, generator=g), torch.tensor([1, 0])
    frozen = z.clone()
    got = answer(decode, classifier, z, target)
    expect(
        isinstance(got, Tensor) and got.shape == z.shape,
        f"expected the shape of the code, (2, 3), got {getattr(got, 'shape', type(got))}",
        cause="the gradient is with respect to the image, as in the pixel attack",
        hint="torch.autograd.grad(odds.sum(), z): with respect to z, through decode",
    )
    expect(
        torch.equal(z, frozen) and not z.requires_grad,
        "the code that was handed in has changed, or now requires gradients",
        cause="requires_grad_() changes the argument itself",
        hint="z = z.detach().clone().requires_grad_()",
    )
    wanted = []
    for i in range(2):
        point = z[i : i + 1].clone().requires_grad_()
        logits = classifier(decode(point))
        odds = logits[0, target[i]] - logits[0, 1 - target[i]]
        wanted.append(torch.autograd.grad(odds, point)[0])
    exact = torch.cat(wanted)
    expect(
        bool(((got * exact).sum(1) > 0).any()),
        "the sign is reversed: this direction leads away from the target",
        cause="the gradient of the loss is returned, or that of the other class",
        hint="return the direction in which the log odds of the target increase",
    )
    expect(
        torch.allclose(got, exact, atol=1e-5),
        "the values differ from the gradient of each image's log odds",
        cause="a mean over the batch, or the gradient of a logit, a probability or a loss",
        hint="use the gradient of log_odds(logits, target).sum(); images do not affect each other",
    )


@exercise("Shrink the change")
def shrink_change(answer: Callable[[Callable[[float], bool], int], float]) -> None:
    calls: list[float] = []

    def reaches(fraction: float) -> bool:
        calls.append(float(fraction))
        return fraction >= 0.65

    got = float(answer(reaches, 10))
    expect(
        reaches(got),
        f"the fraction {got:.4f} doesn't reach the target: the boundary is at 0.65",
        cause="the failing end or the middle of the interval is returned",
        hint="return the smallest fraction that was seen to reach the target",
    )
    expect(
        got - 0.65 <= 2**-10 + 1e-9,
        f"expected a fraction within 2^-10 of 0.65, got {got:.4f}",
        cause="the interval is not halved, or the wrong half is kept",
        hint="if the middle reaches the target it is the new good end, else the new bad end",
    )
    expect(
        10 <= len(calls) - 1 <= 12,  # the last call was made here; both ends may be tested too
        f"expected 10 calls for 10 bisection steps, got {len(calls) - 1}",
        cause="all fractions are tested one after the other, or one step is missing",
        hint="bisection: each call halves the interval",
    )
    full = float(answer(lambda fraction: fraction >= 1.0, 5))
    expect(
        full == 1.0,
        f"if only the full change reaches the target expected 1.0, got {full:.4f}",
        cause="the good end does not start at 1",
        hint="good, bad = 1.0, 0.0",
    )
