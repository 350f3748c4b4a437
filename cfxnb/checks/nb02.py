"""Checks of 02_counterfactual_attacks."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb import data, weights
from cfxnb.attacks.latent_attack import latent_attack
from cfxnb.attacks.pixel_attack import pixel_attack
from cfxnb.checks.core import (
    exercise,
    expect,
    expect_none_of,
    expect_pair,
    expect_tensor,
    near,
    same,
)
from cfxnb.core.code_covariance import along_active_axes
from cfxnb.core.decisions import log_odds as exact_log_odds
from cfxnb.core.prediction import predict_logits
from cfxnb.core.tensors import norms, standardise
from cfxnb.core.types import Code

PROXIMITY, PRIOR = 0.1, 0.3
#: Largest difference of two codes that count as the same, in standard deviations.
TOLERANCE = 0.02


class Toy:
    """A space of four coordinates, of which the last one is not used, for quick checks."""

    def __init__(self) -> None:
        g = Generator().manual_seed(6)
        self.matrix = torch.randn(4, 5, generator=g)
        self.weights = 2 * torch.randn(5, 3, generator=g)
        self.mean = torch.tensor([0.5, -0.5, 0.2, 0.0])
        self.std = torch.tensor([1.0, 0.5, 2.0, 0.001])
        self.z0 = self.mean + self.std * torch.randn(4, 4, generator=g)
        self.target = torch.tensor([0, 1, 2, 1])

    def decode(self, code: Code) -> Tensor:
        return (code.z @ self.matrix).tanh()

    def classify(self, images: Tensor) -> Tensor:
        return images @ self.weights

    def code(self, u: Tensor) -> Tensor:
        return self.z0 + self.std * along_active_axes(self, u)

    def odds(self, u: Tensor) -> Tensor:
        return exact_log_odds(self.classify(self.decode(Code(self.code(u)))), self.target)

    def distances(self, u: Tensor) -> Tensor:
        start = standardise(self.z0 - self.mean, self.std)
        return PROXIMITY * (u**2).sum(1) + PRIOR * ((start + u) ** 2).sum(1)

    def gradient(self, loss: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
        point = u.detach().clone().requires_grad_()
        return torch.autograd.grad(loss(point).sum(), point)[0]


@exercise("Log odds of the target")
def log_odds(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    g = Generator().manual_seed(5)
    logits, target = torch.randn(4, 5, generator=g), torch.tensor([0, 3, 4, 1])
    got = answer(logits, target)
    expect_tensor(
        got,
        (4,),
        "do you return all classes, or the sum over the batch?",
        "gather(1, target[:, None]) selects one logit per row; squeeze(1) drops the second axis",
        "one number per image, shape (4,)",
    )
    p = logits.double().softmax(1).gather(1, target[:, None]).squeeze(1)
    exact = (p / (1 - p)).log().float()
    expect(
        not torch.allclose(got, -exact, atol=1e-3),
        "the sign is wrong: the value must grow with the probability of the target",
        cause="which of the two terms comes first?",
        hint="target minus others",
    )
    expect(
        torch.allclose(got, exact, atol=1e-3),
        "the values are not log(p / (1 - p))",
        cause="is the target itself among the other classes, or is only the largest other used?",
        hint="put -inf at the target (scatter), then take the logsumexp of the row",
    )
    far = answer(torch.tensor([[60.0, 0.0, 0.0]]), torch.tensor([0]))
    expect(
        bool(far.isfinite().all()) and float(far[0]) > 40,
        f"for logits 60, 0, 0 expected about 59.3, got {float(far[0]):.3g}",
        cause="does your formula divide by 1 - p, which rounds to 0?",
        hint="use logits only: the target's minus the logsumexp of the others",
    )


@exercise("A step in code space")
def move(answer: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
    toy, u = Toy(), torch.tensor([[1.0, -2.0, 0.5, 3.0]]).repeat(4, 1)
    got = answer(toy, toy.z0, u)
    expect_tensor(
        got,
        (4, 4),
        "is one code returned for each row of z0?",
        "return one tensor of the shape of z0",
        "codes of shape (4, 4)",
    )
    wrong = {
        "the change is added without its unit": (
            toy.z0 + along_active_axes(toy, u),
            "in which unit is u given, and in which unit are codes?",
        ),
        "the code changes along an unused coordinate": (
            toy.z0 + toy.std * u,
            "was the part of u along unused coordinates removed?",
        ),
        "the change starts at the mean": (
            toy.mean + toy.std * along_active_axes(toy, u),
            "where does the search start: at the mean code, or at the code of the image?",
        ),
        "the change is divided by the standard deviation": (
            toy.z0 + along_active_axes(toy, u) / toy.std,
            "one unit of u is one standard deviation. Is that a product or a quotient?",
        ),
    }
    hint = "along_active_axes(space, u) is the useful part of u; space.std is the size of one unit"
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    expect(
        same(got, toy.code(u)),
        "the code is not the original code plus the change",
        cause="compare with the formula above the exercise: which symbol is missing?",
        hint=hint,
    )


@exercise("The objective of a latent attack")
def objective(answer: Callable[..., Tensor]) -> None:
    odds = torch.tensor([1.0, -2.0])
    u = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    start = torch.tensor([[0.0, -1.0, 1.0], [2.0, 0.0, 0.0]])
    got = answer(odds, u, start, 0.1, 0.3)
    expect_tensor(
        got,
        (2,),
        "is the batch averaged, or does the sum run over images?",
        "sum over dimension 1 only",
        "one number per image, shape (2,)",
    )
    close = -odds + 0.1 * (u**2).sum(1)
    far = ((start + u) ** 2).sum(1)
    expect(
        float(answer(odds + 1, u, start, 0.1, 0.3)[0]) < float(got[0]),
        "the objective rises as the target becomes more likely",
        cause="the objective will be minimised. Which sign do the log odds need?",
        hint="the log odds come with a minus sign",
    )
    length = "is every length squared, summed over the coordinates, and multiplied by its weight?"
    wrong = {
        "the distance to the original costs nothing": (-odds + 0.3 * far, "where is proximity?"),
        "the distance to the mean costs nothing": (close, "where is prior?"),
        "prior weights the length of the change": (
            close + 0.3 * (u**2).sum(1),
            "how far is the changed code from the mean, if the original one is at `start`?",
        ),
        "prior weights the place of the original": (
            close + 0.3 * (start**2).sum(1),
            "the original does not move. How far is the changed code from the mean?",
        ),
        "proximity and prior are exchanged": (
            -odds + 0.3 * (u**2).sum(1) + 0.1 * far,
            "which weight belongs to which distance?",
        ),
        "the distances are rewarded": (-odds - 0.1 * (u**2).sum(1) - 0.3 * far, length),
        "the loss of each image depends on the changes of all images": (
            -odds + 0.1 * (u**2).sum() + 0.3 * ((start + u) ** 2).sum(),
            "over which dimension does the sum run?",
        ),
    }
    hint = "three terms: minus odds, proximity times |u|^2, prior times |start + u|^2"
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    exact = close + 0.3 * far
    expect(
        same(got, exact),
        f"for odds 1, u (1, 2, 0) and start (0, -1, 1) expected {float(exact[0]):.2f}, "
        f"got {float(got[0]):.2f}",
        cause=length,
        hint=hint,
    )


@exercise("The gradient through the decoder")
def evaluate(answer: Callable[..., tuple[Tensor, Tensor]]) -> None:
    toy = Toy()
    u = torch.linspace(-1, 1, 16).view(4, 4)
    frozen = u.clone()
    got = expect_pair(answer(toy, toy.classify, toy.z0, u, toy.target), "log odds and gradient")
    expect_tensor(
        got[0],
        (4,),
        "is the first part the log odds, and the second part the gradient?",
        "return odds, gradient",
        "log odds of shape (4,)",
    )
    expect_tensor(
        got[1],
        (4, 4),
        "the gradient is taken with respect to what: the image, or the change u?",
        "torch.autograd.grad of the summed loss with respect to the copy of u",
        "a gradient of the shape of u, (4, 4)",
    )
    expect(
        torch.equal(u, frozen) and not u.requires_grad,
        "the change that was handed in has changed, or now requires gradients",
        cause="requires_grad_() changes the tensor itself. Did you make a copy first?",
        hint="u.detach().clone() makes a copy that is free of history",
    )
    expect(
        not got[0].requires_grad,
        "the log odds still carry the graph of the gradient",
        cause="the loop only compares the log odds with a number. Does it need their gradient?",
        hint="odds.detach()",
    )
    expect(
        same(got[0], toy.odds(u).detach()),
        "the log odds are not those of the changed code",
        cause="are decoder and classifier applied to the code after the change?",
        hint="move, then decode, then classify, then log_odds",
    )
    exact = toy.gradient(lambda v: -toy.odds(v) + toy.distances(v), u)
    odds_only = toy.gradient(lambda v: -toy.odds(v), u)
    used = torch.tensor([1.0, 1.0, 1.0, 0.0])
    wrong = {
        "the sign is reversed: a step against this gradient leads away from the target": (
            -exact,
            "is it the gradient of the objective, which is minimised?",
        ),
        "the gradient contains no distances": (
            odds_only,
            "is the gradient that of the whole objective?",
        ),
        "the gradient is divided by the number of images": (
            exact / 4,
            "is the loss summed or averaged over the batch? Images must not affect each other",
        ),
        "the gradient is that with respect to z": (
            exact / torch.where(used > 0, toy.std, 1.0),
            "the search moves u, not z. Which tensor collects gradients?",
        ),
    }
    hint = (
        "copy u, requires_grad_(), compute the objective, and call torch.autograd.grad on its sum"
    )
    expect_none_of(wrong, lambda w: same(got[1] * used, w * used), hint=hint)
    expect(
        same(got[1] * used, exact * used),
        "the values are not the gradient of the objective",
        cause="which function does your code differentiate, and with respect to which tensor?",
        hint=hint,
    )


def _way(toy: Toy, steps: int, lr: float, sign: int = 1) -> Tensor:
    """Return the changes before each of the steps and after the last one, (steps + 1, 4, 4)."""
    u = torch.zeros_like(toy.z0)
    adam = torch.optim.Adam([u], lr=lr)
    way = [u.clone()]
    for _ in range(steps):
        u.grad = sign * toy.gradient(lambda v: -toy.odds(v) + toy.distances(v), u)
        adam.step()
        way.append(u.clone())
    return torch.stack(way)


@exercise("The search")
def search(answer: Callable[..., tuple[Tensor, Tensor]]) -> None:
    toy, confidence = Toy(), 0.9
    need = math.log(confidence / (1 - confidence))

    def ask(steps: int) -> list[Any]:
        got = answer(toy, toy.classify, toy.z0, toy.target, steps, 0.3, confidence)
        return expect_pair(got, "the changes and which of them reach the target")

    u, reached = ask(20)
    expect_tensor(
        u,
        (4, 4),
        "is the first part the change u of each image?",
        "return found, reached",
        "changes of shape (4, 4)",
    )
    expect(
        isinstance(reached, Tensor) and reached.shape == (4,) and reached.dtype == torch.bool,
        f"expected one bool per image, got {getattr(reached, 'dtype', type(reached).__name__)} "
        f"of shape {tuple(getattr(reached, 'shape', ()))}",
        cause="is the second part a tensor that says for each image whether it reached the target?",
        hint="start with torch.zeros(len(z0), dtype=torch.bool)",
    )
    u = u.detach()
    expect(
        bool(u.abs().sum() > 0),
        "no image moves",
        cause="does the optimiser change the tensor whose gradient was computed?",
        hint="torch.optim.Adam([u], lr=lr), u.grad = gradient, adam.step()",
    )
    expect(
        not any(same(u, each, atol=1e-2) for each in _way(toy, 21, 0.3, sign=-1)[1:]),
        "the search moves away from the target",
        cause="Adam goes against u.grad. Is u.grad the gradient of the objective?",
        hint="u.grad is the gradient that evaluate returns, with its sign",
    )
    way = _way(toy, 21, 0.3)
    success = torch.stack([toy.odds(each) >= need for each in way[:21]])
    truth, first = success.any(0), success.int().argmax(0)
    for row in (truth & reached).nonzero().squeeze(1).tolist():
        (places,) = (norms(way[:, row] - u[row]) < 1e-2).nonzero(as_tuple=True)
        expect(
            not len(places) or int(places[0]) <= int(first[row]),
            "images that reached the target move on",
            cause="what is kept of an image at the first step that reaches the target?",
            hint="copy rows of u to found as long as the image has not reached the target",
        )
        expect(
            not len(places) or int(places[-1]) >= int(first[row]),
            "an image counts as finished before it has reached the confidence",
            cause="the confidence is a probability. With what are the log odds compared?",
            hint="the confidence c is reached if the log odds are at least log(c / (1 - c))",
        )
    expect(
        torch.equal(reached, truth),
        f"expected reached = {truth.tolist()}, got {reached.tolist()}",
        cause="are the log odds of each image compared with those of the confidence in each step?",
        hint="the confidence c is reached if the log odds are at least log(c / (1 - c))",
    )
    exact = way[torch.where(truth, first, 20), torch.arange(4)]
    expect(
        same(u[truth], exact[truth], atol=1e-3),
        "the changes at the first success are not those of Adam",
        cause="is there one optimiser for the whole search, with the learning rate lr, from u = 0?",
        hint="create Adam before the loop; in the loop set u.grad and call step() once",
    )
    n_calls = 0

    def counting(images: Tensor) -> Tensor:
        nonlocal n_calls
        n_calls += 1
        return toy.classify(images)

    answer(toy, counting, toy.z0, toy.target, 3, 1e-6, 0.999)
    expect(
        n_calls == 4,
        f"for 3 steps expected 4 evaluations of the classifier, got {n_calls}",
        cause="the result of the last step must be classified too, and no code twice",
        hint="the loop runs steps + 1 times",
    )
    expect(
        same(u[~truth], exact[~truth], atol=1e-3),
        "an image that does not reach the target does not keep its last change",
        cause="what does `found` hold for an image that never reaches the target?",
        hint="the change at the last evaluation",
    )


@exercise("The step back")
def shrink(answer: Callable[..., Tensor]) -> None:
    border, calls = torch.tensor([0.65, 0.2, 1.0]), []

    def reaches(fraction: Tensor) -> Tensor:
        calls.append(fraction)
        return fraction >= border

    got = answer(reaches, 3, 8)
    expect_tensor(
        got,
        (3,),
        "is there one interval per image?",
        "torch.zeros(n) and torch.ones(n) are the ends of all intervals",
        "one fraction per image, shape (3,)",
    )
    n_calls = len(calls)
    expect(
        float(got[2]) == 1.0,
        f"if only the full change reaches the target expected 1.0, got {float(got[2]):.4f}",
        cause="where does the end start that is known to reach the target?",
        hint="high starts at 1, and moves only to fractions that reach the target",
    )
    expect(
        bool((got >= border).all()),
        f"the fraction {float(got[0]):.4f} doesn't reach the target: the border is at 0.65",
        cause="which end of the interval is known to reach the target?",
        hint="return the end that was seen to reach the target, not the middle",
    )
    expect(
        bool((got - border <= 2**-8 + 1e-6).all()),
        f"expected fractions within 2^-8 of 0.65 and 0.2, got {float(got[0]):.4f} and "
        f"{float(got[1]):.4f}",
        cause="is each interval halved, each image by its own answer?",
        hint="torch.where(works, middle, high) and torch.where(works, low, middle)",
    )
    expect(
        8 <= n_calls <= 10,
        f"expected 8 calls for 8 bisection steps, got {n_calls}",
        cause="does one call serve all images?",
        hint="one call of reaches per halving, with all middles at once",
    )


@exercise("A random direction of the same length")
def random_change(answer: Callable[[Tensor, int], Tensor]) -> None:
    u = torch.tensor([[3.0, 4.0, 0.5, 0.0], [1.0, 1.0, -1.0, 0.0]]).repeat(100, 1)
    got = answer(u, 3)
    expect_tensor(
        got,
        (200, 4),
        "is there one direction per image?",
        "draw noise of the shape of u",
        "changes of the shape of u, (200, 4)",
    )
    expect(
        same(got, answer(u, 3)),
        "the same seed gives different changes",
        cause="does the noise come from a generator with this seed?",
        hint="torch.Generator().manual_seed(seed)",
    )
    expect(
        not same(got, answer(u, 4)),
        "another seed gives the same changes",
        cause="is the argument `seed` used?",
        hint="torch.Generator().manual_seed(seed)",
    )
    expect(
        bool((got[:, 3] == 0).all()),
        "a coordinate changes that u does not change",
        cause="which coordinates of u are 0, and what should the noise be there?",
        hint="multiply the noise by (u != 0)",
    )
    expect(
        torch.allclose(norms(got), norms(u), atol=1e-4),
        f"the first change has length {float(norms(got)[0]):.2f}, expected "
        f"{float(norms(u)[0]):.2f}",
        cause="is each row divided by its own length, and multiplied by the length of u's row?",
        hint="norms(x) returns one length per row; norms(x)[:, None] divides rows",
    )
    cosine = (got * u).sum(1) / norms(u) ** 2
    expect(
        float(cosine.abs().mean()) < 0.75 and float(got.std(0).max()) > 0,
        "the directions are not random: they resemble u",
        cause="is the noise normally distributed, with both signs, and different for each row?",
        hint="torch.randn(u.shape, generator=...)",
    )


@exercise("Flips, and what the judge thinks of them")
def measure(answer: Callable[..., tuple[float, float]]) -> None:
    def reads(*classes: int) -> Callable[[Tensor], Tensor]:
        """A network that reads these classes, whatever the images are."""
        return lambda images: 9 * torch.eye(3)[list(classes)[: len(images)]] - 4

    images = torch.zeros(5, 1, 2, 2)
    got = expect_pair(
        answer(images, 2, reads(2, 2, 2, 2, 0), reads(2, 0, 1, 2, 2)), "the two fractions"
    )
    try:
        flipped, agreed = float(got[0]), float(got[1])
    except (TypeError, ValueError, RuntimeError):
        flipped, agreed = math.nan, math.nan
    expect(
        math.isfinite(flipped) and math.isfinite(agreed),
        "expected two numbers",
        cause="is the mean over all images taken, and turned into a float?",
        hint="the mean of a bool tensor needs .double() first",
    )
    expect(
        near(flipped, 0.8),
        f"4 of 5 images are read as the target, but the fraction of flips is {flipped:.2f}",
        cause="is the first number the fraction of images that the classifier reads as the target?",
        hint="compare the classifier's argmax over classes with the target",
    )
    wrong = {
        "the judge's fraction is over all images": (
            3 / 5,
            "the judge's opinion is asked for flips only. Which images are counted?",
        ),
        "the fraction is that of images on which both networks read the target": (
            2 / 5,
            "by how many images is the number of agreements divided?",
        ),
    }
    hint = "select the flipped images first: read[flipped]"
    expect_none_of(wrong, lambda w: near(agreed, w), hint=hint)
    expect(
        near(agreed, 0.5),
        f"the judge agrees with 2 of the 4 flips, but the fraction is {agreed:.2f}",
        cause="which images are counted, and with what is the judge's class compared?",
        hint=hint,
    )
    none = expect_pair(answer(images, 2, reads(0, 0, 0, 0, 0), reads(*[2] * 5)), "two numbers")
    expect(
        math.isnan(float(none[1])),
        f"if no image flips expected NaN for the judge, got {float(none[1]):.2f}",
        cause="what is the mean of no numbers?",
        hint="torch gives NaN for the mean of an empty tensor: no special case is needed",
    )


_known: dict[str, Any] = {}


def _digits() -> dict[str, Any]:
    """Return networks, a few clear fours, and what the library makes of the fours."""
    if _known:
        return _known
    space, classifier, judge = (
        weights.load(f"digits/{name}", device="cpu") for name in ("vae", "classifier", "judge")
    )
    fours = data.digits("test").select(4)[:16]
    clear = predict_logits(classifier, fours.images).softmax(1)[:, 4] > 0.99
    images = fours.images[clear][:8]
    attack = functools.partial(latent_attack, space, classifier, images, 9, restarts=0)
    _known.update(
        space=space,
        classifier=classifier,
        judge=judge,
        images=images,
        library=attack(),
        unshrunk=attack(binary_search_steps=0),
        pixel=pixel_attack(classifier, images, 9).image,
    )
    return _known


@exercise("Your latent attack")
def my_latent_attack(answer: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
    digits = _digits()
    space, images = digits["space"], digits["images"]
    library, unshrunk = digits["library"], digits["unshrunk"]
    got = answer(space, digits["classifier"], images, 9)
    expect(
        isinstance(got, tuple | list) and len(got) == 3,
        f"expected images, codes and which of them reach the target, got {type(got).__name__}",
        cause="are all three parts returned?",
        hint="return image, z, reached",
    )
    image, z, reached = got
    hint = "encode, search, shrink, move, decode"
    expect_tensor(
        image,
        tuple(images.shape),
        "is the first part the decoded image?",
        hint,
        "images like the input",
    )
    expect_tensor(
        z,
        tuple(library.code_after.z.shape),
        "is the second part the tensor of codes after the change?",
        hint,
        "codes of shape (8, 20)",
    )
    flips = torch.tensor([status == "flipped" for status in library.status])
    expect(
        isinstance(reached, Tensor) and torch.equal(reached.cpu(), flips),
        f"the library flips {int(flips.sum())} of {len(flips)} images, your attack "
        f"{int(torch.as_tensor(reached).sum())}",
        cause="does the search get the target as one class per image, and its own defaults?",
        hint="torch.full((len(images),), target)",
    )
    apart = norms(standardise(z.detach() - library.code_after.z, space.std)).max()
    full = norms(standardise(z.detach() - unshrunk.code_after.z, space.std)).max()
    expect(
        not float(full) < TOLERANCE < float(apart),
        "the codes are those at the end of the search",
        cause="is the change multiplied by the fraction that shrink returns?",
        hint="fraction[:, None] * u",
    )
    expect(
        float(apart) <= TOLERANCE,
        f"a code is {float(apart):.2f} standard deviations away from the library's",
        cause="which confidence does the condition of the step back use? And how many halvings?",
        hint="confidence 0.995 in the search and in the step back, 5 halvings",
    )
    drawn = space.decode(Code(z.detach()))
    expect(
        torch.allclose(drawn, image.detach(), atol=1e-4),
        "the images are not those of the codes",
        cause="is the image decoded after the step back?",
        hint="decode the code that you return",
    )
    both = (image.detach(), digits["pixel"])
    read = [predict_logits(digits["judge"], x).argmax(1) == 9 for x in both]
    expect(
        int(read[0].sum()) > int(read[1].sum()),
        "the judge accepts no more of these images than of the pixel attack's",
        cause="is the code changed, or the image?",
        hint=hint,
    )
