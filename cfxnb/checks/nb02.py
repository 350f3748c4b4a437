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
        f"expected one number a sample, shape (4,), got {getattr(got, 'shape', type(got))}",
        cause="all classes are returned, or the batch is summed up",
        hint="logits.gather(1, target[:, None]).squeeze(1) picks one a row",
    )
    p = logits.double().softmax(1).gather(1, target[:, None]).squeeze(1)
    naive = (p / (1 - p)).log().float()
    expect(
        not torch.allclose(got, -naive, atol=1e-3),
        "the sign is wrong: it must grow with the probability of the target",
        cause="the difference is taken the other way round",
        hint="target minus others",
    )
    expect(
        torch.allclose(got, naive, atol=1e-3),
        "the values are not log(p / (1 - p))",
        cause="the target itself is among 'the others', or only the strongest rival is",
        hint="logits.scatter(1, target[:, None], -torch.inf).logsumexp(1)",
    )
    far = answer(torch.tensor([[60.0, 0.0, 0.0]]), torch.tensor([0]))
    expect(
        bool(far.isfinite().all()) and float(far[0]) > 40,
        f"for logits 60, 0, 0 expected about 59.3, got {float(far[0]):.3g}",
        cause="probabilities saturate: p / (1 - p) divides by zero when p rounds to 1",
        hint="stay with logits: the target's minus the logsumexp of the others",
    )


@exercise("The objective of a latent attack")
def objective(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    odds, change = torch.tensor([1.0, -2.0]), torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    got = answer(odds, change, 0.1)
    expect(
        isinstance(got, Tensor) and got.shape == (2,),
        f"expected one number a sample, shape (2,), got {getattr(got, 'shape', type(got))}",
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
        "a longer change is not dearer",
        cause="the proximity term is missing or has the wrong sign",
        hint="+ proximity * (change ** 2).sum(1)",
    )
    expect(
        not torch.allclose(got, -odds + 1.4),
        "each sample pays for the changes of all samples",
        cause="the sum runs over the batch too",
        hint="(change ** 2).sum(1)",
    )
    expect(
        torch.allclose(got, torch.tensor([-0.5, 2.9])),
        f"for odds 1, change (1, 2, 0) and proximity 0.1 expected -0.5, got {float(got[0]):.3f}",
        cause="the length is not squared, is averaged, or isn't multiplied by proximity",
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
        cause="the gradient is taken at the image: that is the pixel attack",
        hint="torch.autograd.grad(odds.sum(), z): with respect to z, through decode",
    )
    expect(
        torch.equal(z, frozen) and not z.requires_grad,
        "the code that was handed in has changed, or now requires gradients",
        cause="requires_grad_() on the argument itself leaves a trace",
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
        "the sign is turned round: this direction leads away from the target",
        cause="the gradient of the loss is returned, or the other class is asked for",
        hint="return the direction in which the log odds of the target grow",
    )
    expect(
        torch.allclose(got, exact, atol=1e-5),
        "the values differ from the gradient of each sample's log odds",
        cause="a mean over the batch, or not the log odds but a logit, a probability or a loss",
        hint="the gradient of log_odds(logits, target).sum(): each sample's is then its own",
    )


@exercise("The step back")
def step_back(answer: Callable[[Callable[[float], bool], int], float]) -> None:
    calls: list[float] = []

    def passes(share: float) -> bool:
        calls.append(float(share))
        return share >= 0.65

    got = float(answer(passes, 10))
    expect(
        passes(got),
        f"the share {got:.4f} doesn't pass: the boundary is at 0.65",
        cause="the failing end or the middle of the bracket is returned",
        hint="return the share that was last seen to pass",
    )
    expect(
        got - 0.65 <= 2**-10 + 1e-9,
        f"expected a share within 2^-10 of 0.65, got {got:.4f}",
        cause="the bracket isn't halved, or the wrong half is kept",
        hint="middle passes: it is the new good end; else it is the new bad end",
    )
    expect(
        10 <= len(calls) - 1 <= 12,  # the last was asked here; both ends may be asked as well
        f"expected 10 questions for 10 halvings, got {len(calls) - 1}",
        cause="every share is tried in turn, or one halving is missing",
        hint="bisection: one question halves what is left",
    )
    whole = float(answer(lambda share: share >= 1.0, 5))
    expect(
        whole == 1.0,
        f"if only the whole change passes expected 1.0, got {whole:.4f}",
        cause="the good end doesn't begin at 1",
        hint="good, bad = 1.0, 0.0",
    )
