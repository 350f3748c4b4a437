"""Answers to the exercises of 06_diffusion_autoencoders."""

import itertools
import math

import torch
from mutants import Answers, assert_accepted, assert_rejected, right_answers, wrong_answers

from cfxnb.checks import nb06
from cfxnb.core import ddim


def guessed(noisy, eps, alpha_bar):
    return ((noisy - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5).clamp(-1, 1)


def implied(noisy, image, alpha_bar):
    return (noisy - alpha_bar**0.5 * image) / (1 - alpha_bar) ** 0.5


def mixed(image, noise, alpha_bar_next):
    return alpha_bar_next**0.5 * image + (1 - alpha_bar_next) ** 0.5 * noise


def stepped(noisy, eps, alpha_bar, alpha_bar_next):
    image = guessed(noisy, eps, alpha_bar)
    return mixed(image, implied(noisy, image, alpha_bar), alpha_bar_next)


def by_the_package(noisy, eps, alpha_bar, alpha_bar_next):
    alphas = torch.tensor([alpha_bar_next, alpha_bar], dtype=torch.float64)
    return ddim.step(lambda *_: eps, noisy, alphas, 1, -1 if alpha_bar_next == 1 else 0)


def with_math(noisy, eps, alpha_bar, alpha_bar_next):
    image = (noisy - eps * math.sqrt(1 - alpha_bar)).div(math.sqrt(alpha_bar)).clip(-1, 1)
    ratio = math.sqrt((1 - alpha_bar_next) / (1 - alpha_bar))
    return math.sqrt(alpha_bar_next) * image + ratio * (noisy - math.sqrt(alpha_bar) * image)


def from_guess(guess):
    """A step with another guess of the image."""

    def answer(noisy, eps, alpha_bar, alpha_bar_next):
        image = guess(noisy, eps, alpha_bar)
        return mixed(image, implied(noisy, image, alpha_bar), alpha_bar_next)

    return answer


def last_line(mix):
    """A step with another last line, ``mix(image, noise, alpha_bar, alpha_bar_next)``."""

    def answer(noisy, eps, alpha_bar, alpha_bar_next):
        image = guessed(noisy, eps, alpha_bar)
        return mix(image, implied(noisy, image, alpha_bar), alpha_bar, alpha_bar_next)

    return answer


def eps_as_predicted(noisy, eps, alpha_bar, alpha_bar_next):
    return mixed(guessed(noisy, eps, alpha_bar), eps, alpha_bar_next)


def fresh_noise(noisy, eps, alpha_bar, alpha_bar_next):
    return mixed(guessed(noisy, eps, alpha_bar), torch.randn_like(eps), alpha_bar_next)


def in_place(noisy, eps, alpha_bar, alpha_bar_next):
    before = noisy.clone()
    noisy -= (1 - alpha_bar) ** 0.5 * eps
    noisy /= alpha_bar**0.5
    noisy.clamp_(-1, 1)
    return mixed(noisy, implied(before, noisy, alpha_bar), alpha_bar_next)


def clamped_at_the_end(noisy, eps, alpha_bar, alpha_bar_next):
    image = (noisy - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5
    return mixed(image, implied(noisy, image, alpha_bar), alpha_bar_next).clamp(-1, 1)


def walk(pairs):
    """Steps along ``pairs(times)``."""

    def answer(predict, x, alphas, times):
        for t, to in pairs(times):
            x = ddim.step(predict, x, alphas, t, to)
        return x

    return answer


def upwards(times):
    return zip(times, [*times[1:], None], strict=True)


def recursive(predict, x, alphas, times):
    to = times[1] if len(times) > 1 else None
    x = ddim.step(predict, x, alphas, times[0], to)
    return recursive(predict, x, alphas, times[1:]) if len(times) > 1 else x


def from_the_image_again(predict, x, alphas, times):
    for t, to in upwards(times):
        out = ddim.step(predict, x, alphas, t, to)
    return out


def all_steps(predict, x, alphas, times):
    way = [x]
    for t, to in upwards(times):
        way.append(ddim.step(predict, way[-1], alphas, t, to))
    return way


def times_popped(predict, x, alphas, times):
    while times:
        t = times.pop(0)
        x = ddim.step(predict, x, alphas, t, times[0] if times else None)
    return x


def never_asked(predict, x, alphas, times):
    return walk(upwards)(lambda x, t: torch.zeros_like(x), x, alphas, times)


def rendered(predict, x, alphas, times):
    return ddim.render(predict, x, alphas, times)


def fractions(read, of_z, of_aux):
    differ = of_z != of_aux
    return tuple(float((read == y)[differ].double().mean()) for y in (of_z, of_aux))


def in_a_loop(read, of_z, of_aux):
    rows = [(r, a, b) for r, a, b in zip(read, of_z, of_aux, strict=True) if a != b]
    if not rows:
        return math.nan, math.nan
    return sum(r == a for r, a, b in rows) / len(rows), sum(r == b for r, a, b in rows) / len(rows)


def reported(change):
    def answer(read, of_z, of_aux):
        return change(*fractions(read, of_z, of_aux))

    return answer


def no_mask(read, of_z, of_aux):
    return float((read == of_z).double().mean()), float((read == of_aux).double().mean())


def joined_masks(read, of_z, of_aux):
    differ = of_z != of_aux
    return no_mask_of((read == of_z) & differ, (read == of_aux) & differ)


def no_mask_of(*hits):
    return tuple(float(hit.double().mean()) for hit in hits)


def counted(read, of_z, of_aux):
    differ = of_z != of_aux
    return int((read == of_z)[differ].sum()), int((read == of_aux)[differ].sum())


def zero_of_nobody(read, of_z, of_aux):
    found = fractions(read, of_z, of_aux)
    return tuple(0.0 if math.isnan(fraction) else fraction for fraction in found)


def same_donors(read, of_z, of_aux):
    same = of_z == of_aux
    return no_mask_of((read == of_z)[same], (read == of_aux)[same])


def neither_counted(read, of_z, of_aux):
    differ = of_z != of_aux
    return no_mask_of((read != of_z)[differ], (read != of_aux)[differ])


def angles(a, b):
    cosine = torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)
    return cosine.acos().view(-1, 1, 1, 1)


def arc(angle, weight=torch.sin):
    """The formula with another angle or another function for the sine."""

    def answer(a, b, w):
        t = angle(a, b)
        return (weight((1 - w) * t) * a + weight(w * t) * b) / weight(t)

    return answer


def arc_in_a_loop(a, b, w):
    rows = []
    for x, y in zip(a, b, strict=True):
        t = math.acos(float((x * y).sum() / x.norm() / y.norm()))
        rows.append((math.sin((1 - w) * t) * x + math.sin(w * t) * y) / math.sin(t))
    return torch.stack(rows)


def of_the_batch(a, b):
    return torch.cosine_similarity(a.flatten(), b.flatten(), dim=0).acos()


def of_channels(a, b):
    return torch.cosine_similarity(a, b, dim=1).acos()[:, None]


def not_normalised(a, b):
    return (a.flatten(1) * b.flatten(1)).sum(1).acos().view(-1, 1, 1, 1)


def unshaped(a, b):
    return torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).acos()


def not_divided(a, b, w):
    t = angles(a, b)
    return ((1 - w) * t).sin() * a + (w * t).sin() * b


def ends_normalised(a, b, w):
    def unit(x):
        return x / x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    return arc(angles)(unit(a), unit(b), w)


def lerp_with_length(a, b, w):
    """The straight mix, stretched: no arc, though often close to one."""

    def length(x):
        return x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    mix = torch.lerp(a, b, w)
    return mix / length(mix) * torch.lerp(length(a), length(b), w)


def fair(draw, direction, std):
    return draw / draw.norm() * (direction / std).norm() * std


def scaled_afterwards(draw, direction, std):
    moved = draw * std
    return moved * (direction / std).norm() / (moved / std).norm()


def in_double(draw, direction, std):
    return fair(draw.double(), direction.double(), std.double())


TABLE = {
    "ddim_step": Answers(
        right={"steps": stepped, "package": by_the_package, "math": with_math},
        wrong={
            "eps as predicted": (eps_as_predicted, "the noise no longer fits the clamped image"),
            "not clamped": (
                from_guess(lambda x, e, a: (x - (1 - a) ** 0.5 * e) / a**0.5),
                "the predicted image leaves [-1, 1]",
            ),
            "clamped at the end": (clamped_at_the_end, "at alpha_bar_next = 0.64"),
            "clamped to [0, 1]": (
                from_guess(lambda x, e, a: ((x - (1 - a) ** 0.5 * e) / a**0.5).clamp(0, 1)),
                "with alpha_bar_next = 1 the result must be the predicted image",
            ),
            "no roots in the guess": (
                from_guess(lambda x, e, a: ((x - (1 - a) * e) / a).clamp(-1, 1)),
                "with alpha_bar_next = 1 the result must be the predicted image",
            ),
            "not divided": (
                from_guess(lambda x, e, a: (x - (1 - a) ** 0.5 * e).clamp(-1, 1)),
                "with alpha_bar_next = 1 the result must be the predicted image",
            ),
            "noise added": (
                from_guess(lambda x, e, a: ((x + (1 - a) ** 0.5 * e) / a**0.5).clamp(-1, 1)),
                "with alpha_bar_next = 1 the result must be the predicted image",
            ),
            "no roots at the end": (
                last_line(
                    lambda i, n, alpha_bar, alpha_bar_next: (
                        alpha_bar_next * i + (1 - alpha_bar_next) * n
                    )
                ),
                "at alpha_bar_next = 0.64",
            ),
            "back to where it was": (
                last_line(lambda i, n, alpha_bar, alpha_bar_next: mixed(i, n, alpha_bar)),
                "with alpha_bar_next = 1 the result must be the predicted image",
            ),
            "always the image": (
                last_line(lambda i, n, alpha_bar, alpha_bar_next: i),
                "at alpha_bar_next = 0.64",
            ),
            "image and noise": (
                last_line(lambda i, n, alpha_bar, alpha_bar_next: (i, n)),
                "expected a tensor of shape (2, 3, 4, 4), got tuple",
            ),
            "fresh noise": (fresh_noise, "gives another result when repeated"),
            "in place": (in_place, "an argument has been changed"),
        },
    ),
    "ddim_inversion": Answers(
        right={
            "loop": walk(upwards),
            "package": lambda predict, x, alphas, times: ddim.invert(predict, x, alphas, times),
            "recursion": recursive,
        },
        wrong={
            "rendered": (rendered, "the network was evaluated at times [750, 500, 250, 0]"),
            "ends at the image": (
                walk(lambda times: zip(times, [*times[1:], -1], strict=True)),
                "the result is an image",
            ),
            "last step left out": (
                walk(itertools.pairwise),
                "the network was evaluated at times [0, 250, 500]",
            ),
            "first step left out": (
                walk(lambda times: zip(times[1:], [*times[2:], None], strict=True)),
                "the network was evaluated at times [250, 500, 750]",
            ),
            "asked at the time to go to": (
                walk(lambda times: zip([*times[1:], times[-1]], [*times[1:], None], strict=True)),
                "the network was evaluated at times [250, 500, 750, 750]",
            ),
            "stays at its time": (
                walk(lambda times: zip(times, times, strict=True)),
                "differs from that of ddim.invert",
            ),
            "always to the end": (
                walk(lambda times: ((t, None) for t in times)),
                "differs from that of ddim.invert",
            ),
            "from the image again": (
                from_the_image_again,
                "differs from that of ddim.invert",
            ),
            "last to the end of time": (
                walk(lambda times: zip(times, [*times[1:], 999], strict=True)),
                "differs from that of ddim.invert",
            ),
            "one step too many": (
                walk(lambda times: [*upwards(times), (times[-1], -1)]),
                "the network was evaluated at times [0, 250, 500, 750, 750]",
            ),
            "all steps": (all_steps, "expected a tensor of shape (2, 1, 4, 4), got list"),
            "times popped": (times_popped, "the list of times has been changed"),
            "never asked": (never_asked, "the network was evaluated at times []"),
        },
    ),
    "code_or_noise": Answers(
        right={"masks": fractions, "loop": in_a_loop, "list": reported(lambda a, b: [a, b])},
        wrong={
            "exchanged": (reported(lambda a, b: (b, a)), "the two fractions are exchanged"),
            "one fraction": (reported(lambda a, b: a), "expected two fractions, got float"),
            "percent": (reported(lambda a, b: (100 * a, 100 * b)), "a fraction is at most 1"),
            "counted": (counted, "a fraction is at most 1, got 5 and 1"),
            "no mask": (no_mask, "pairs with donors of the same class are included"),
            "joined masks": (joined_masks, "hits are divided by the number of all pairs"),
            "donors of one class": (same_donors, "expected 0.714 and 0.143, got 1.000 and 1.000"),
            "what it isn't": (neither_counted, "expected 0.714 and 0.143, got 0.286 and 0.857"),
            "complement": (
                reported(lambda a, b: (a, 1 - a)),
                "expected 0.714 and 0.143, got 0.714 and 0.286",
            ),
            "zero of nobody": (zero_of_nobody, "without any pair of different classes"),
        },
    ),
    "slerp": Answers(
        right={
            "formula": arc(angles),
            "loop": arc_in_a_loop,
            "basis": nb06.spherical_interpolation,
        },
        wrong={
            "straight": (torch.lerp, "this is linear interpolation"),
            "from b to a": (lambda a, b, w: arc(angles)(b, a, w), "goes from b to a"),
            "not divided": (not_divided, "at w = 0 it isn't a"),
            "ends normalised": (ends_normalised, "at w = 0 it isn't a"),
            "cosines": (arc(angles, torch.cos), "at w = 0 it isn't a"),
            "one angle for all": (arc(of_the_batch), "depends on the other images of the batch"),
            "angle of channels": (arc(of_channels), "not on the arc between a and b"),
            "not normalised": (arc(not_normalised), "the result contains NaN"),
            "angle not spread": (arc(unshaped), "it raised RuntimeError"),
            "degrees": (
                arc(lambda a, b: angles(a, b) * 180 / math.pi),
                "not on the arc between a and b",
            ),
            "straight, stretched": (
                lerp_with_length,
                "not on the arc between a and b",
            ),
        },
    ),
    "matched_random_direction": Answers(
        right={"formula": fair, "afterwards": scaled_afterwards, "double": in_double},
        wrong={
            "the direction": (
                lambda draw, direction, std: direction,
                "it isn't parallel to the draw",
            ),
            "draw as it is": (lambda draw, direction, std: draw, "favours coordinates"),
            "length of codes": (
                lambda draw, direction, std: draw / draw.norm() * direction.norm(),
                "favours coordinates with a small standard deviation",
            ),
            "right length, wrong way": (
                lambda draw, direction, std: draw * (direction / std).norm() / (draw / std).norm(),
                "favours coordinates with a small standard deviation",
            ),
            "not back in codes": (
                lambda draw, direction, std: draw / draw.norm() * (direction / std).norm(),
                "favours coordinates with a small standard deviation",
            ),
            "divided by std": (
                lambda draw, direction, std: fair(draw, direction, std) / std**2,
                "in units of std it isn't parallel to the draw",
            ),
            "std twice": (
                lambda draw, direction, std: fair(draw, direction, std) * std,
                "in units of std it isn't parallel to the draw",
            ),
            "not normalised": (
                lambda draw, direction, std: draw * (direction / std).norm() * std,
                "expected length",
            ),
            "draw's own length": (
                lambda draw, direction, std: draw * std,
                "expected length",
            ),
            "length in units of codes": (
                lambda draw, direction, std: draw / draw.norm() * direction.norm() * std,
                "expected length",
            ),
            "same length in units of codes": (
                lambda draw, direction, std: draw * std / (draw * std).norm() * direction.norm(),
                "expected length",
            ),
            "other way": (
                lambda draw, direction, std: -fair(draw, direction, std),
                "in units of std it isn't parallel to the draw",
            ),
            "a length": (
                lambda draw, direction, std: (direction / std).norm(),
                "a tensor of shape (5,), got torch.Size([])",
            ),
        },
    ),
}


@right_answers(nb06, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb06, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)


def test_the_arc_of_the_package_has_equal_angles_and_keeps_lengths():
    a, b = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    third = nb06.spherical_interpolation(a, b, 1 / 3)
    wanted = torch.tensor([[3**0.5, 1.0], [1.5, 1.5 * 3**0.5]])
    assert torch.allclose(third, wanted, atol=1e-6)
