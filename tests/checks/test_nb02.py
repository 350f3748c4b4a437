"""Answers to the exercises of 02_counterfactual_attacks."""

import math

import torch
from mutants import Answers, assert_accepted, assert_rejected, right_answers, wrong_answers
from torch.nn.functional import cross_entropy

from cfxnb.checks import nb02
from cfxnb.core.code_covariance import along_active_axes
from cfxnb.core.prediction import predict_logits
from cfxnb.core.tensors import norms, standardise
from cfxnb.core.types import Code
from cfxnb.solutions import nb02 as solutions


def chosen(logits, target):
    return logits.gather(1, target[:, None]).squeeze(1)


def others(logits, target):
    return logits.scatter(1, target[:, None], -torch.inf)


odds = solutions.log_odds


def odds_in_a_loop(logits, target):
    values = []
    for row, t in zip(logits, target.tolist(), strict=True):
        rest = torch.cat([row[:t], row[t + 1 :]])
        values.append(row[t] - rest.logsumexp(0))
    return torch.stack(values)


def odds_by_a_mask(logits, target):
    own = torch.nn.functional.one_hot(target, logits.shape[1]).bool()
    return logits[own] - torch.where(own, -torch.inf, logits).logsumexp(1)


def odds_of_probabilities(logits, target):
    p = chosen(logits.softmax(1), target)
    return (p / (1 - p)).log()


def move_by_parts(space, z0, u):
    change = along_active_axes(space, u) * space.std
    return change.add(z0)


def move_in_a_loop(space, z0, u):
    return torch.stack(
        [z0[i] + space.std * row for i, row in enumerate(along_active_axes(space, u))]
    )


def length(change):
    return (change**2).sum(1)


def loss_by_norms(o, u, start, proximity, prior):
    return proximity * norms(u) ** 2 + prior * norms(start + u) ** 2 - o


def loss_by_einsum(o, u, start, proximity, prior):
    after = start + u
    near, far = torch.einsum("ij,ij->i", u, u), torch.einsum("ij,ij->i", after, after)
    return proximity * near + prior * far - o


def evaluated(loss=None, point=None, detach=True, sign=1):
    """The answer to exercise 4, with another loss, or differentiated at another point."""

    def answer(space, classifier, z0, u, target):
        u = u.detach().clone().requires_grad_()
        z = solutions.move(space, z0, u)
        if point == "z":
            z = z.detach().requires_grad_()
        image = space.decode(Code(z))
        if point == "image":
            image = image.detach().requires_grad_()
        logits = classifier(image)
        o = odds(logits, target)
        start = standardise(z0 - space.mean, space.std)
        total = (loss or (lambda o, u, s, *_: solutions.objective(o, u, s).sum()))(
            o, u, start, logits, target
        )
        inputs = {"z": z, "image": image}.get(point, u)
        return o.detach() if detach else o, sign * torch.autograd.grad(total, inputs)[0]

    return answer


def evaluate_by_backward(space, classifier, z0, u, target):
    change = u.detach().clone()
    change.requires_grad = True
    o = odds(classifier(space.decode(Code(solutions.move(space, z0, change)))), target)
    loss = solutions.objective(o, change, standardise(z0 - space.mean, space.std))
    loss.sum().backward()
    with torch.no_grad():
        return o.clone().detach(), change.grad


def evaluate_image_by_image(space, classifier, z0, u, target):
    """Each image on its own, with the distances differentiated by hand."""
    start = standardise(z0 - space.mean, space.std)
    pairs = []
    for i in range(len(z0)):
        point = u[i : i + 1].detach().clone().requires_grad_()
        z = solutions.move(space, z0[i : i + 1], point)
        o = odds(classifier(space.decode(Code(z))), target[i : i + 1])
        slope = -torch.autograd.grad(o.sum(), point)[0]
        slope = slope + 0.2 * point.detach() + 0.6 * (start[i] + point.detach())
        pairs.append((o.detach(), slope))
    return tuple(torch.cat(part) for part in zip(*pairs, strict=True))


def evaluate_with_a_trace(space, classifier, z0, u, target):
    u.requires_grad_()
    o = odds(classifier(space.decode(Code(solutions.move(space, z0, u)))), target)
    loss = solutions.objective(o, u, standardise(z0 - space.mean, space.std))
    return o.detach(), torch.autograd.grad(loss.sum(), u)[0]


def evaluate_without_a_graph(space, classifier, z0, u, target):
    o = odds(classifier(space.decode(Code(solutions.move(space, z0, u)))), target)
    loss = solutions.objective(o, u, standardise(z0 - space.mean, space.std))
    return o.detach(), torch.autograd.grad(loss.sum(), u)[0]


def evaluate_before_the_change(space, classifier, z0, u, target):
    _, slope = solutions.evaluate(space, classifier, z0, u, target)
    return odds(classifier(space.decode(Code(z0))), target), slope


def searched(sign=1, freeze="rows", extra=1, fresh=False, alias=False, sgd=False, need=None):
    """The answer to exercise 5, with mistakes."""

    def answer(space, classifier, z0, target, steps=25, lr=0.3, confidence=0.995):
        u = torch.zeros_like(z0)
        found = u if alias else u.clone()
        reached = torch.zeros(len(z0), dtype=torch.bool)
        wanted = math.log(confidence / (1 - confidence)) if need is None else need
        kind = torch.optim.SGD if sgd else torch.optim.Adam
        optimiser = kind([u], lr=lr)
        for _ in range(steps + extra):
            if fresh:
                optimiser = kind([u], lr=lr)
            o, slope = solutions.evaluate(space, classifier, z0, u, target)
            u.grad = sign * slope
            now = o >= wanted
            if freeze == "rows":
                found[~reached] = u[~reached]
            reached = reached | now
            if freeze == "last":
                found = u.clone()
            if freeze == "any" and reached.any():
                return u.clone(), reached
            if reached.all():
                break
            optimiser.step()
        return (u.clone() if freeze in ("never", "any") else found), reached

    return answer


def search_with_a_mask(space, classifier, z0, target, steps=25, lr=0.3, confidence=0.995):
    """Another style: a parameter, zero_grad, and the first success by torch.where."""
    u = torch.nn.Parameter(torch.zeros_like(z0))
    optimiser = torch.optim.Adam([u], lr)
    reached = torch.zeros(len(z0)).bool()
    found = torch.zeros_like(z0)
    for step in range(steps + 1):
        o, slope = solutions.evaluate(space, classifier, z0, u, target)
        found = torch.where(reached[:, None], found, u.detach())
        reached = reached.logical_or(o.sigmoid() >= confidence)
        if step == steps or bool(reached.all()):
            return found, reached
        optimiser.zero_grad()
        u.grad = slope
        optimiser.step()


def search_that_is_its_own_adam(space, classifier, z0, target, steps=25, lr=0.3, confidence=0.995):
    u, mean, square = (torch.zeros_like(z0) for _ in range(3))
    found, reached = u.clone(), torch.zeros(len(z0), dtype=torch.bool)
    for step in range(1, steps + 2):
        o, slope = solutions.evaluate(space, classifier, z0, u, target)
        now = ~reached & (o >= math.log(confidence) - math.log(1 - confidence))
        found[now] = u[now]
        reached |= now
        if reached.all() or step == steps + 1:
            break
        mean = 0.9 * mean + 0.1 * slope
        square = 0.999 * square + 0.001 * slope**2
        u = u - lr * mean / (1 - 0.9**step) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
    found[~reached] = u[~reached]
    return found, reached


def shrunk(keep="high", swap=False, first=1.0, steps=0, shared=False):
    """The answer to exercise 6, with mistakes."""

    def answer(reaches, n, halvings=5):
        low, high = torch.zeros(n), torch.full((n,), first)
        for _ in range(halvings + steps):
            middle = (low + high) / 2
            works = reaches(middle)
            works = works.all().expand(n) if shared else works ^ swap
            low, high = torch.where(works, low, middle), torch.where(works, middle, high)
        return {"high": high, "low": low, "middle": (low + high) / 2, "last": middle}[keep]

    return answer


def shrink_by_masks(reaches, n, halvings=5):
    good, bad = torch.ones(n), torch.zeros(n)
    for _ in range(halvings):
        middle = 0.5 * (good + bad)
        works = reaches(middle)
        good[works] = middle[works]
        bad[~works] = middle[~works]
    return good


def shrink_by_width(reaches, n, halvings=5):
    fraction = torch.ones(n)
    for k in range(1, halvings + 1):
        lower = fraction - 0.5**k
        fraction = torch.where(reaches(lower), lower, fraction)
    return fraction


def shrink_image_by_image(reaches, n, halvings=5):
    result = torch.ones(n)
    for i in range(n):
        for k in range(1, halvings + 1):
            tried = result.clone()
            tried[i] -= 0.5**k
            if reaches(tried)[i]:
                result = tried
    return result


def randomly(normalise=True, mask=True, own_seed=False, order="right", scale=None, one=False):
    """The answer to exercise 8, with mistakes."""

    def answer(u, seed):
        g = torch.Generator().manual_seed(0 if own_seed else seed)
        noise = torch.randn(u.shape[1:] if one else u.shape, generator=g).expand(u.shape)
        used = u != 0 if mask else torch.ones_like(u)
        if order == "right":
            noise = noise * used
        wanted = torch.ones(len(u)) if scale else norms(u)
        if normalise:
            noise = noise * (wanted / norms(noise))[:, None]
        return noise * used

    return answer


def random_by_unit_vectors(u, seed):
    g = torch.Generator().manual_seed(seed)
    noise = torch.where(u == 0, 0.0, torch.randn(*u.shape, generator=g))
    return torch.nn.functional.normalize(noise, dim=1) * u.norm(dim=1, keepdim=True)


def random_row_by_row(u, seed):
    g = torch.Generator().manual_seed(seed)
    rows = []
    for row in u:
        noise = torch.randn(len(row), generator=g)
        noise[row == 0] = 0
        rows.append(noise / noise.norm() * row.norm())
    return torch.stack(rows)


def measured(over="flips", empty=None, swap=False):
    """The answer to exercise 9, with mistakes."""

    def answer(image, target, classifier, judge):
        flipped = predict_logits(classifier, image).argmax(1) == target
        agreed = predict_logits(judge, image).argmax(1) == target
        first = float(flipped.double().mean())
        if empty is not None and not flipped.any():
            return first, empty
        second = {
            "flips": agreed[flipped].double().mean(),
            "all": agreed.double().mean(),
            "both": (agreed & flipped).double().mean(),
        }[over]
        return (float(second), first) if swap else (first, float(second))

    return answer


def measure_by_counting(image, target, classifier, judge):
    flips = agreed = 0
    reads = [predict_logits(net, image).argmax(1).tolist() for net in (classifier, judge)]
    for c, j in zip(*reads, strict=True):
        flips += c == target
        agreed += c == target == j
    return flips / len(image), agreed / flips if flips else math.nan


def attack(need=None, shrink=True, decode="z", halvings=5, per_image=True, start=False):
    """The answer to exercise 7, with mistakes."""

    def answer(space, classifier, images, target, confidence=0.995):
        z0 = space.encode(images).z
        classes = torch.full((len(images),), target if per_image else (target + 1) % 10)
        u, reached = solutions.search(space, classifier, z0, classes, confidence=confidence)
        c = confidence if need is None else need
        wanted = math.log(c / (1 - c))

        def reaches(fraction):
            z = solutions.move(space, z0, fraction[:, None] * u)
            with torch.no_grad():
                return odds(classifier(space.decode(Code(z))), classes) >= wanted

        fraction = solutions.shrink(reaches, len(u), halvings) if shrink else torch.ones(len(u))
        z = solutions.move(space, z0, torch.where(reached, fraction, 1.0)[:, None] * u)
        image = space.decode(Code(z if decode == "z" else solutions.move(space, z0, u))).detach()
        return (image, z, reached)[: 3 - start]

    return answer


def attack_in_parts(space, classifier, images, target, confidence=0.995):
    """Another style: the step back for successes only, image by image."""
    code = space.encode(images)
    u, reached = solutions.search(
        space, classifier, code.z, torch.tensor([target] * len(images)), confidence=confidence
    )
    for i in reached.nonzero().squeeze(1).tolist():
        good, bad = 1.0, 0.0
        for _ in range(5):
            middle = (good + bad) / 2
            z = solutions.move(space, code.z[i : i + 1], middle * u[i : i + 1])
            p = classifier(space.decode(Code(z))).softmax(1)[0, target]
            good, bad = (middle, bad) if p >= confidence else (good, middle)
        u[i] *= good
    z = solutions.move(space, code.z, u)
    return [space.decode(Code(z)).clamp(0, 1), z, reached]


TABLE = {
    "log_odds": Answers(
        right={"solution": odds, "loop": odds_in_a_loop, "mask": odds_by_a_mask},
        wrong={
            "all classes": (
                lambda logits, target: logits - logits.logsumexp(1, keepdim=True),
                "expected one number per image, shape (4,), got torch.Size([4, 5])",
            ),
            "columns of all targets": (
                lambda logits, target: logits[:, target],
                "got torch.Size([4, 4])",
            ),
            "summed over the batch": (
                lambda logits, target: odds(logits, target).sum(),
                "got torch.Size([])",
            ),
            "sign": (lambda logits, target: -odds(logits, target), "the sign is wrong"),
            "target among the others": (
                lambda logits, target: chosen(logits.log_softmax(1), target),
                "not log(p / (1 - p))",
            ),
            "strongest rival": (
                lambda logits, target: chosen(logits, target) - others(logits, target).amax(1),
                "not log(p / (1 - p))",
            ),
            "of probabilities": (
                odds_of_probabilities,
                "for logits 60, 0, 0 expected about 59.3, got inf",
            ),
            "probability left in": (
                lambda logits, target: chosen(logits.softmax(1), target),
                "not log(p / (1 - p))",
            ),
        },
    ),
    "move": Answers(
        right={"solution": solutions.move, "parts": move_by_parts, "loop": move_in_a_loop},
        wrong={
            "no unit": (
                lambda space, z0, u: z0 + along_active_axes(space, u),
                "added without its unit",
            ),
            "unused coordinates": (
                lambda space, z0, u: z0 + space.std * u,
                "along an unused coordinate",
            ),
            "from the mean": (
                lambda space, z0, u: space.mean + space.std * along_active_axes(space, u),
                "starts at the mean",
            ),
            "divided": (
                lambda space, z0, u: z0 + along_active_axes(space, u) / space.std,
                "divided by the standard deviation",
            ),
            "change only": (
                lambda space, z0, u: space.std * along_active_axes(space, u),
                "not the original code plus the change",
            ),
            "backwards": (
                lambda space, z0, u: z0 - space.std * along_active_axes(space, u),
                "not the original code plus the change",
            ),
            "first only": (lambda space, z0, u: solutions.move(space, z0, u)[0], "(4, 4)"),
        },
    ),
    "objective": Answers(
        right={
            "solution": solutions.objective,
            "norms": loss_by_norms,
            "einsum": loss_by_einsum,
        },
        wrong={
            "averaged": (
                lambda *args: solutions.objective(*args).mean(),
                "expected one number per image, shape (2,), got torch.Size([])",
            ),
            "not summed": (
                lambda o, u, s, p, q: -o[:, None] + p * u**2 + q * (s + u) ** 2,
                "got torch.Size([2, 3])",
            ),
            "sign of the odds": (
                lambda o, u, s, p, q: solutions.objective(-o, u, s, p, q),
                "rises as the target becomes more likely",
            ),
            "no prior": (lambda o, u, s, p, q: -o + p * length(u), "distance to the mean costs"),
            "no proximity": (
                lambda o, u, s, p, q: -o + q * length(s + u),
                "distance to the original costs nothing",
            ),
            "prior of the change": (
                lambda o, u, s, p, q: -o + (p + q) * length(u),
                "prior weights the length of the change",
            ),
            "prior of the start": (
                lambda o, u, s, p, q: -o + p * length(u) + q * length(s),
                "prior weights the place of the original",
            ),
            "exchanged": (
                lambda o, u, s, p, q: solutions.objective(o, u, s, q, p),
                "proximity and prior are exchanged",
            ),
            "rewarded": (
                lambda o, u, s, p, q: solutions.objective(o, u, s, -p, -q),
                "the distances are rewarded",
            ),
            "sum over the batch": (
                lambda o, u, s, p, q: -o + p * (u**2).sum() + q * ((s + u) ** 2).sum(),
                "depends on the changes of all images",
            ),
            "not squared": (
                lambda o, u, s, p, q: -o + p * norms(u) + q * norms(s + u),
                "expected 0.40, got",
            ),
            "sum over samples": (
                lambda o, u, s, p, q: -o + p * (u**2).sum(0) + q * ((s + u) ** 2).sum(0),
                "it raised RuntimeError",
            ),
        },
    ),
    "evaluate": Answers(
        right={
            "solution": solutions.evaluate,
            "backward": evaluate_by_backward,
            "image by image": evaluate_image_by_image,
        },
        wrong={
            "gradient only": (
                lambda *args: solutions.evaluate(*args)[1][:1],
                "expected log odds and gradient, got Tensor",
            ),
            "exchanged": (
                lambda *args: solutions.evaluate(*args)[::-1],
                "expected log odds of shape (4,)",
            ),
            "at the image": (
                evaluated(lambda o, u, s, *_: -o.sum(), point="image"),
                "expected a gradient of the shape of u, (4, 4), got torch.Size([4, 5])",
            ),
            "at the code": (
                evaluated(
                    lambda o, u, s, *_: -o.sum(),
                    point="z",
                ),
                "the values are not the gradient of the objective",
            ),
            "trace left": (evaluate_with_a_trace, "now requires gradients"),
            "no graph": (evaluate_without_a_graph, "it raised RuntimeError"),
            "history": (evaluated(detach=False), "still carry the graph"),
            "not summed up": (
                evaluated(lambda o, u, s, *_: solutions.objective(o, u, s)),
                "it raised RuntimeError: grad can be implicitly",
            ),
            "sign": (evaluated(sign=-1), "the sign is reversed"),
            "odds only": (
                evaluated(lambda o, u, s, *_: -o.sum()),
                "the gradient contains no distances",
            ),
            "mean over the batch": (
                evaluated(lambda o, u, s, *_: solutions.objective(o, u, s).mean()),
                "divided by the number of images",
            ),
            "before the change": (evaluate_before_the_change, "not those of the changed code"),
            "cross entropy": (
                evaluated(lambda o, u, s, x, t: cross_entropy(x, t, reduction="sum")),
                "the values are not the gradient of the objective",
            ),
        },
    ),
    "search": Answers(
        right={
            "solution": solutions.search,
            "mask": search_with_a_mask,
            "own Adam": search_that_is_its_own_adam,
        },
        wrong={
            "changes only": (
                lambda *args, **kwargs: solutions.search(*args, **kwargs)[0],
                "expected the changes and which of them reach the target, got Tensor",
            ),
            "counts successes": (
                lambda *args, **kwargs: (
                    (s := solutions.search(*args, **kwargs))[0],
                    s[1].sum(),
                ),
                "expected one bool per image",
            ),
            "uphill": (searched(sign=-1), "moves away from the target"),
            "moves on": (searched(freeze="never"), "images that reached the target move on"),
            "keeps the last": (searched(freeze="last"), "images that reached the target move on"),
            "same tensor": (searched(alias=True), "images that reached the target move on"),
            "stops for all": (searched(freeze="any"), "expected reached = "),
            "confidence as log odds": (searched(need=0.9), "before it has reached the confidence"),
            "new optimiser each step": (searched(fresh=True), "not those of Adam"),
            "plain gradient steps": (searched(sgd=True), "not those of Adam"),
            "one step too few": (searched(extra=0), "expected 4 evaluations"),
            "one step too many": (searched(extra=2), "expected 4 evaluations"),
            "failures forgotten": (
                lambda *args, **kwargs: (
                    (s := solutions.search(*args, **kwargs))[0] * s[1][:, None],
                    s[1],
                ),
                "does not keep its last change",
            ),
            "no movement": (
                lambda space, f, z0, target, *_: (z0 * 0, torch.zeros(4, dtype=torch.bool)),
                "no image moves",
            ),
        },
    ),
    "shrink": Answers(
        right={
            "solution": solutions.shrink,
            "masks": shrink_by_masks,
            "width": shrink_by_width,
        },
        wrong={
            "one for all": (lambda *args: shrunk()(*args)[0], "expected one fraction per image"),
            "failing end": (shrunk(keep="low"), "only the full change reaches the target"),
            "middle": (shrunk(keep="middle"), "only the full change reaches the target"),
            "last tested": (shrunk(keep="last"), "only the full change reaches the target"),
            "wrong half": (shrunk(swap=True), "only the full change reaches the target"),
            "end below one": (shrunk(first=0.99), "only the full change reaches the target"),
            "nothing done": (lambda reaches, n, halvings: torch.ones(n), "within 2^-8"),
            "all images together": (shrunk(shared=True), "within 2^-8"),
            "one step missing": (shrunk(steps=-1), "within 2^-8"),
            "image by image": (shrink_image_by_image, "expected 8 calls"),
            "always half": (
                lambda reaches, n, halvings: torch.tensor([0.5, 0.5, 1.0]),
                "the fraction 0.5000 doesn't reach the target",
            ),
        },
    ),
    "random_change": Answers(
        right={
            "solution": solutions.random_change,
            "unit vectors": random_by_unit_vectors,
            "row by row": random_row_by_row,
        },
        wrong={
            "own length": (randomly(normalise=False), "the first change has length"),
            "unit length": (randomly(scale=1), "the first change has length"),
            "unused coordinates": (randomly(mask=False), "a coordinate changes that u does not"),
            "masked too late": (randomly(order="late"), "the first change has length"),
            "seed ignored": (randomly(own_seed=True), "another seed gives the same changes"),
            "no seed": (
                lambda u, seed: torch.randn_like(u) * (u != 0),
                "the same seed gives different changes",
            ),
            "one row": (lambda u, seed: randomly()(u, seed)[0], "the shape of u, (200, 4)"),
            "signs only": (
                lambda u, seed: (
                    u
                    * (
                        torch.rand(len(u), 1, generator=torch.Generator().manual_seed(seed)) - 0.5
                    ).sign()
                ),
                "the directions are not random",
            ),
        },
    ),
    "measure": Answers(
        right={
            "solution": solutions.measure,
            "masks": measured(),
            "counting": measure_by_counting,
        },
        wrong={
            "over all images": (measured("all"), "the judge's fraction is over all images"),
            "both": (measured("both"), "on which both networks read the target"),
            "exchanged": (measured(swap=True), "the fraction of flips is 0.50"),
            "zero for nothing": (measured(empty=0.0), "if no image flips expected NaN"),
            "one number": (lambda *args: measured()(*args)[0], "expected the two fractions"),
            "per image": (
                lambda image, target, f, g: (f(image).argmax(1) == target, torch.ones(5)),
                "expected two numbers",
            ),
            "disagreement": (
                lambda *args: (measured()(*args)[0], 1.2 - measured()(*args)[1]),
                "the judge agrees with 2 of the 4 flips, but the fraction is 0.70",
            ),
        },
    ),
    "my_latent_attack": Answers(
        right={
            "solution": solutions.my_latent_attack,
            "flags": attack(),
            "parts": attack_in_parts,
        },
        wrong={
            "two parts": (attack(start=True), "expected images, codes and which of them"),
            "no step back": (attack(shrink=False, decode="u"), "codes are those at the end of the"),
            "step back to one half": (attack(need=0.5), "standard deviations away"),
            "one halving": (attack(halvings=2), "standard deviations away"),
            "image before the step back": (attack(decode="u"), "images are not those of the codes"),
            "codes first": (
                lambda *args: (
                    (a := attack()(*args))[1],
                    a[0],
                    a[2],
                ),
                "expected images like the input",
            ),
            "no flips": (
                lambda space, f, x, target: (
                    x,
                    space.encode(x).z,
                    torch.zeros(len(x), dtype=torch.bool),
                ),
                "your attack 0",
            ),
        },
    ),
}


@right_answers(nb02, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb02, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)


def test_there_are_three_styles_of_each_right_answer():
    assert all(len(answers.right) >= 3 for answers in TABLE.values())
