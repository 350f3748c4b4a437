"""Answers to the exercises of 02_counterfactual_attacks."""

import torch
from mutants import Answers, assert_accepted, assert_rejected, right_answers, wrong_answers
from torch.nn.functional import cross_entropy

from cfxnb.checks import nb02


def chosen(logits, target):
    return logits.gather(1, target[:, None]).squeeze(1)


def others(logits, target):
    return logits.scatter(1, target[:, None], -torch.inf)


def odds(logits, target):
    return chosen(logits, target) - others(logits, target).logsumexp(1)


def odds_in_a_loop(logits, target):
    values = []
    for row, t in zip(logits, target.tolist(), strict=True):
        rest = torch.cat([row[:t], row[t + 1 :]])
        values.append(row[t] - rest.logsumexp(0))
    return torch.stack(values)


def odds_of_probabilities(logits, target):
    p = chosen(logits.softmax(1), target)
    return (p / (1 - p)).log()


def length(change):
    return (change**2).sum(1)


def gradient(score):
    """Gradient of a number for the whole batch, with respect to the code."""

    def answer(decode, classifier, z, target):
        z = z.detach().clone().requires_grad_()
        return torch.autograd.grad(score(classifier(decode(z)), target), z)[0]

    return answer


def gradient_by_backward(decode, classifier, z, target):
    code = z.clone().requires_grad_()
    odds(classifier(decode(code)), target).sum().backward()
    return code.grad


def gradient_at_the_image(decode, classifier, z, target):
    image = decode(z).requires_grad_()
    return torch.autograd.grad(odds(classifier(image), target).sum(), image)[0]


def gradient_with_a_trace(decode, classifier, z, target):
    z.requires_grad_()
    return torch.autograd.grad(odds(classifier(decode(z)), target).sum(), z)[0]


def gradient_without_a_graph(decode, classifier, z, target):
    return torch.autograd.grad(odds(classifier(decode(z)), target).sum(), z)[0]


def bisect(reaches, steps):
    good, bad = 1.0, 0.0
    for _ in range(steps):
        middle = (good + bad) / 2
        if reaches(middle):
            good = middle
        else:
            bad = middle
    return good


def failing_end(reaches, steps):
    good, bad = 1.0, 0.0
    for _ in range(steps):
        middle = (good + bad) / 2
        if reaches(middle):
            good = middle
        else:
            bad = middle
    return bad


def middle_of_the_bracket(reaches, steps):
    return (bisect(reaches, steps) + failing_end(reaches, steps)) / 2


def tenths(reaches, steps):
    return next(i / steps for i in range(steps + 1) if reaches(i / steps))


def last_asked(reaches, steps):
    good, bad = 1.0, 0.0
    for _ in range(steps):
        middle = (good + bad) / 2
        if reaches(middle):
            good = middle
        else:
            bad = middle
    return middle


def wrong_half(reaches, steps):
    good, bad = 1.0, 0.0
    for _ in range(steps):
        middle = (good + bad) / 2
        if reaches(middle):
            bad = middle
        else:
            good = middle
    return good


def quarter_steps(reaches, steps):
    fraction = 1.0
    for _ in range(steps):
        if reaches(0.75 * fraction):
            fraction *= 0.75
    return fraction


def every_fraction(reaches, steps):
    for i in range(2**steps + 1):
        if reaches(i / 2**steps):
            return i / 2**steps
    return 1.0


def good_end_below_one(reaches, steps):
    good, bad = 0.99, 0.0
    for _ in range(steps):
        middle = (good + bad) / 2
        if reaches(middle):
            good = middle
        else:
            bad = middle
    return good


TABLE = {
    "log_odds": Answers(
        right={"logsumexp": odds, "loop": odds_in_a_loop},
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
    "objective": Answers(
        right={
            "as in the text": lambda o, c, p: -o + p * (c**2).sum(1),
            "norm squared": lambda o, c, p: p * c.norm(dim=1) ** 2 - o,
        },
        wrong={
            "averaged": (
                lambda o, c, p: (-o + p * length(c)).mean(),
                "expected one number per image, shape (2,), got torch.Size([])",
            ),
            "not summed": (
                lambda o, c, p: -o[:, None] + p * c**2,
                "got torch.Size([2, 3])",
            ),
            "sign of the odds": (
                lambda o, c, p: o + p * length(c),
                "rises as the target becomes more likely",
            ),
            "sign of the proximity": (
                lambda o, c, p: -o - p * length(c),
                "a longer change does not cost more",
            ),
            "no proximity": (lambda o, c, p: -o, "a longer change does not cost more"),
            "sum over the batch": (
                lambda o, c, p: -o + p * (c**2).sum(),
                "depends on the changes of all images",
            ),
            "sum over samples": (lambda o, c, p: -o + p * (c**2).sum(0), "it raised RuntimeError"),
            "not squared": (
                lambda o, c, p: -o + p * c.norm(dim=1),
                "expected -0.5, got -0.776",
            ),
            "mean of coordinates": (
                lambda o, c, p: -o + p * (c**2).mean(1),
                "expected -0.5, got -0.833",
            ),
            "sum squared": (
                lambda o, c, p: -o + p * c.sum(1) ** 2,
                "expected -0.5, got -0.100",
            ),
        },
    ),
    "code_gradient": Answers(
        right={
            "grad": gradient(lambda logits, target: odds(logits, target).sum()),
            "backward": gradient_by_backward,
        },
        wrong={
            "at the image": (gradient_at_the_image, "expected the shape of the code, (2, 3)"),
            "trace left": (gradient_with_a_trace, "now requires gradients"),
            "no graph": (gradient_without_a_graph, "it raised RuntimeError"),
            "not summed up": (gradient(odds), "it raised RuntimeError: grad can be implicitly"),
            "sign": (
                gradient(lambda logits, target: -odds(logits, target).sum()),
                "the sign is reversed",
            ),
            "loss": (
                gradient(lambda logits, target: cross_entropy(logits, target, reduction="sum")),
                "the sign is reversed",
            ),
            "logit": (
                gradient(lambda logits, target: chosen(logits, target).sum()),
                "differ from the gradient of each image's log odds",
            ),
            "mean over the batch": (
                gradient(lambda logits, target: odds(logits, target).mean()),
                "differ from the gradient of each image's log odds",
            ),
            "one class for all": (
                gradient(lambda logits, target: odds(logits, 0 * target).sum()),
                "differ from the gradient of each image's log odds",
            ),
        },
    ),
    "shrink_change": Answers(
        right={"bisection": bisect},
        wrong={
            "failing end": (failing_end, "doesn't reach the target"),
            "middle": (middle_of_the_bracket, "doesn't reach the target"),
            "tenths": (tenths, "expected a fraction within 2^-10"),
            "one step missing": (
                lambda reaches, steps: bisect(reaches, steps - 1),
                "expected 10 calls for 10 bisection steps, got 9",
            ),
            "last asked": (last_asked, "doesn't reach the target"),
            "wrong half": (wrong_half, "doesn't reach the target"),
            "full change": (lambda reaches, steps: 1.0, "expected a fraction within 2^-10"),
            "not halved": (quarter_steps, "expected a fraction within 2^-10"),
            "every fraction": (every_fraction, "expected 10 calls"),
            "good end below one": (good_end_below_one, "if only the full change reaches"),
        },
    ),
}


@right_answers(nb02, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb02, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)
