"""Answers to the exercises of 09_diffusion_counterfactuals."""

import math

import torch
from mutants import Answers, assert_accepted, assert_rejected, right_answers, wrong_answers

from cfxnb.checks import nb09
from cfxnb.diffusion.consensus import apply_mask, consensus, match_norm


def mixed(eps, cond, uncond, scale):
    return lambda z, t: (1 - scale) * eps(z, t, uncond) + scale * eps(z, t, cond)


def in_one_batch(eps, cond, uncond, scale):
    def denoiser(z, t):
        both = eps(torch.cat([z, z]), torch.cat([t, t]), torch.cat([uncond, cond]))
        eps_uncond, eps_cond = both.chunk(2)
        return torch.lerp(eps_uncond, eps_cond, scale)

    return denoiser


def guidance(combine):
    """A wrapper with another last line, ``combine(free, loud, scale)``."""

    def answer(eps, cond, uncond, scale):
        return lambda z, t: combine(eps(z, t, uncond), eps(z, t, cond), scale)

    return answer


def at_once(eps, cond, uncond, scale):
    z, t = torch.zeros(2, 3, 4, 4), torch.tensor([0, 0])
    return eps(z, t, uncond) + scale * (eps(z, t, cond) - eps(z, t, uncond))


def called_outside(eps, cond, uncond, scale):
    z, t = torch.zeros(2, 3, 4, 4), torch.tensor([0, 0])
    eps_uncond = eps(z, t, uncond)
    return lambda z, t: eps_uncond + scale * (eps(z, t, cond) - eps_uncond)


def remembers(eps, cond, uncond, scale):
    kept = []

    def denoiser(z, t):
        if not kept:
            kept.append(eps(z, t, uncond))
        return kept[0] + scale * (eps(z, t, cond) - kept[0])

    return denoiser


def no_return(eps, cond, uncond, scale):
    def denoiser(z, t):
        eps(z, t, uncond) + scale * (eps(z, t, cond) - eps(z, t, uncond))

    return denoiser


def cosines(a, b):
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def turned(a, b):
    return torch.rad2deg(cosines(a, b).clamp(-1, 1).acos())


def by_cosine(a, b, degrees):
    return cosines(a, b).clamp(-1, 1) >= math.cos(math.radians(degrees)) - 1e-7


def in_loops(a, b, degrees):
    keep = torch.zeros(a.shape[0], a.shape[2], a.shape[3], dtype=torch.bool)
    for i, y, x in torch.ones_like(keep).nonzero().tolist():
        u, v = a[i, :, y, x].double(), b[i, :, y, x].double()
        if u.norm() > 0 and v.norm() > 0:
            cosine = max(-1.0, min(1.0, float(u @ v / (u.norm() * v.norm()))))
            keep[i, y, x] = math.degrees(math.acos(cosine)) <= degrees
    return keep


def not_clamped(a, b, degrees):
    return torch.rad2deg(cosines(a, b).acos()) <= degrees


def whole_images(a, b, degrees):
    angle = torch.cosine_similarity(a.flatten(1), b.flatten(1)).acos().rad2deg()
    return (angle <= degrees).view(-1, 1, 1).expand(-1, *a.shape[2:])


def of_rows(a, b, degrees):
    return torch.cosine_similarity(a, b, dim=3).clamp(-1, 1).acos().rad2deg() <= degrees


def safe_lengths(a, b, degrees):
    lengths = (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-12)
    return torch.rad2deg(((a * b).sum(1) / lengths).clamp(-1, 1).acos()) <= degrees


def packaged(direction, keep, like):
    return match_norm(apply_mask(direction, keep), like)


def image_by_image(direction, keep, like):
    out = torch.zeros_like(direction)
    for i in range(len(direction)):
        field = direction[i] * keep[i]
        if keep[i].any():
            out[i] = field / field.norm() * like[i].norm()
    return out


def multiplied(direction, keep, like):
    field = direction * keep[:, None]
    return field / norm(field).clamp_min(1e-30) * norm(like)


def norm(x):
    return x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def normed_first(direction, keep, like):
    return apply_mask(direction * norm(like) / norm(direction), keep)


def each_position(direction, keep, like):
    field = apply_mask(direction, keep)
    lengths = field.norm(dim=1, keepdim=True).clamp_min(1e-22)
    return match_norm(field / lengths, like)


def in_place(direction, keep, like):
    direction[~keep[:, None].expand_as(direction)] = 0
    return match_norm(direction, like)


def of_the_batch(direction, keep, like):
    field = apply_mask(direction, keep)
    return field * like.norm() / field.norm().clamp_min(1e-22)


def no_guard(direction, keep, like):
    field = apply_mask(direction, keep)
    return field * norm(like) / norm(field)


def bisection(flips, first, max_attempts):
    low, high, at = 0.0, math.inf, first
    for _ in range(max_attempts):
        if flips(at):
            high = at
        else:
            low = at
        at = (low + 1) / 2 if math.isinf(high) else (low + high) / 2
    return high


def with_lists(flips, first, max_attempts):
    good, bad, at = [], [0.0], first
    for _ in range(max_attempts):
        (good if flips(at) else bad).append(at)
        at = (max(bad) + min([*good, 1.0])) / 2
    return min(good, default=math.inf)


def recursive(flips, first, max_attempts, low=0.0, high=math.inf):
    if not max_attempts:
        return high
    low, high = (low, first) if flips(first) else (first, high)
    return recursive(flips, (low + min(1.0, high)) / 2, max_attempts - 1, low, high)


def search(step, result=lambda low, high, last: high, begin=None):
    """A loop with another rule ``step(low, high, at) -> next`` or another end."""

    def answer(flips, first, max_attempts):
        low, high, at = 0.0, math.inf, first if begin is None else begin
        for _ in range(max_attempts):
            last = at
            if flips(at):
                high = at
            else:
                low = at
            at = step(low, high, at)
        return result(low, high, last)

    return answer


def middle(low, high, at):
    return (low + min(high, 1.0)) / 2


def backwards(flips, first, max_attempts):
    return bisection(lambda s: not flips(s), first, max_attempts)


def called_twice(flips, first, max_attempts):
    low, high, at = 0.0, math.inf, first
    for _ in range(max_attempts):
        high = at if flips(at) else high
        low = at if not flips(at) else low
        at = middle(low, high, at)
    return high


def stops_at_a_flip(flips, first, max_attempts):
    at = first
    for _ in range(max_attempts):
        if flips(at):
            return at
        at = (at + 1) / 2
    return math.inf


def high_is_one(flips, first, max_attempts):
    low, high, at = 0.0, 1.0, first
    for _ in range(max_attempts):
        low, high = (low, at) if flips(at) else (at, high)
        at = (low + high) / 2
    return high


TABLE = {
    "classifier_free_guidance": Answers(
        right={
            "package": nb09.classifier_free_denoiser,
            "average": mixed,
            "one batch": in_one_batch,
        },
        wrong={
            "at once": (at_once, "expected a function, got Tensor"),
            "called outside": (called_outside, "evaluated before z and t are given"),
            "exchanged": (
                guidance(lambda eps_uncond, eps_cond, s: eps_cond + s * (eps_uncond - eps_cond)),
                "at scale 0 it isn't the unconditional noise",
            ),
            "no start": (
                guidance(lambda eps_uncond, eps_cond, s: s * (eps_cond - eps_uncond)),
                "at scale 0 it isn't the unconditional noise",
            ),
            "only the conditional": (
                guidance(lambda eps_uncond, eps_cond, s: s * eps_cond),
                "at scale 0 it isn't the unconditional noise",
            ),
            "scale off by one": (
                guidance(lambda eps_uncond, eps_cond, s: eps_cond + s * (eps_cond - eps_uncond)),
                "at scale 0 it isn't the unconditional noise",
            ),
            "difference reversed": (
                guidance(lambda eps_uncond, eps_cond, s: eps_uncond + s * (eps_uncond - eps_cond)),
                "at scale 1 it isn't the conditional noise",
            ),
            "sum": (
                guidance(lambda eps_uncond, eps_cond, s: eps_uncond + s * eps_cond),
                "at scale 1 it isn't the conditional noise",
            ),
            "capped": (
                guidance(
                    lambda eps_uncond, eps_cond, s: (
                        eps_uncond + min(s, 1.0) * (eps_cond - eps_uncond)
                    )
                ),
                "at scale 3 it isn't three times as far",
            ),
            "squared": (
                guidance(
                    lambda eps_uncond, eps_cond, s: eps_uncond + s**2 * (eps_cond - eps_uncond)
                ),
                "at scale 3 it isn't three times as far",
            ),
            "remembers": (remembers, "the noise is wrong for other z and t"),
            "no return": (no_return, "it raised AttributeError"),
        },
    ),
    "cone_mask": Answers(
        right={
            "angles": lambda a, b, d: turned(a, b) <= d,
            "cosines": by_cosine,
            "loops": in_loops,
            "package": lambda a, b, d: consensus(a, b, d)[1],
        },
        wrong={
            "angles returned": (lambda a, b, d: turned(a, b), "expected bools, got torch.float32"),
            "with channels": (
                lambda a, b, d: (turned(a, b) <= d)[:, None],
                "expected a tensor of shape (2, 3, 5), got torch.Size([2, 1, 3, 5])",
            ),
            "of rows": (of_rows, "expected a tensor of shape (2, 3, 5)"),
            "radians": (
                lambda a, b, d: torch.deg2rad(turned(a, b)) <= d,
                "must keep the first",
            ),
            "cosine as angle": (lambda a, b, d: cosines(a, b) <= d, "must keep the first"),
            "upside down": (lambda a, b, d: turned(a, b) >= d, "must keep the first"),
            "whole images": (whole_images, "must keep the first"),
            "no sign": (
                lambda a, b, d: torch.rad2deg(cosines(a, b).abs().clamp(-1, 1).acos()) <= d,
                "vectors with opposite directions agree",
            ),
            "not clamped": (not_clamped, "parallel vectors don't agree within 1°"),
            "smaller only": (
                lambda a, b, d: turned(a, b) < d,
                "parallel vectors don't agree within 1°, or opposite ones within 180°",
            ),
            "NaN kept": (lambda a, b, d: ~(turned(a, b) > d), "a vector of zeros agrees"),
            "zero is 90 degrees": (safe_lengths, "a vector of zeros agrees within 180°"),
            "torch's similarity": (
                lambda a, b, d: torch.cosine_similarity(a, b).clamp(-1, 1).acos().rad2deg() <= d,
                "a vector of zeros agrees within 180°",
            ),
            "longer vectors agree sooner": (
                lambda a, b, d: turned(a, b) / (1 + 0.1 * (b.norm(dim=1) > 2)) <= d,
                "other positions are kept",
            ),
            "no lengths": (
                lambda a, b, d: (
                    ((a * b).sum(1).clamp(-1, 1).acos().rad2deg() <= d)
                    & (a.norm(dim=1) > 0)
                    & (b.norm(dim=1) > 0)
                ),
                "parallel vectors don't agree within 1°",
            ),
        },
    ),
    "mask_and_rescale": Answers(
        right={"package": packaged, "loop": image_by_image, "product": multiplied},
        wrong={
            "not masked": (
                lambda direction, keep, like: match_norm(direction, like),
                "isn't zero where keep is False",
            ),
            "mask upside down": (
                lambda direction, keep, like: match_norm(apply_mask(direction, ~keep), like),
                "isn't zero where keep is False",
            ),
            "like returned": (
                lambda direction, keep, like: apply_mask(like, keep),
                "have another direction than in the input",
            ),
            "sign lost": (
                lambda direction, keep, like: match_norm(apply_mask(direction.abs(), keep), like),
                "have another direction than in the input",
            ),
            "all zero": (
                lambda direction, keep, like: torch.zeros_like(direction),
                "have another direction than in the input",
            ),
            "norm before the mask": (normed_first, "smaller than that of like"),
            "of the batch": (of_the_batch, "depends on the other images of the batch"),
            "not scaled": (
                lambda direction, keep, like: apply_mask(direction, keep),
                "expected norms",
            ),
            "length one": (
                lambda direction, keep, like: match_norm(
                    apply_mask(direction, keep), torch.ones(len(direction), 1)
                ),
                "expected norms",
            ),
            "upside down": (
                lambda direction, keep, like: (
                    apply_mask(direction, keep) * norm(apply_mask(direction, keep)) / norm(like)
                ),
                "expected norms",
            ),
            "each position": (each_position, "relative lengths of vectors have changed"),
            "in place": (in_place, "an input tensor has changed"),
            "no guard": (no_guard, "where nothing is kept, the field isn't zero"),
            "a norm": (
                lambda direction, keep, like: norm(apply_mask(direction, keep)),
                "expected a tensor of shape (3, 4, 3, 5)",
            ),
        },
    ),
    "min_strength": Answers(
        right={"loop": bisection, "lists": with_lists, "recursion": recursive},
        wrong={
            "halves always": (search(lambda low, high, at: at / 2), "after a failure half"),
            "up only": (search(lambda low, high, at: (at + 1) / 2), "after a success half"),
            "forgets failures": (
                search(lambda low, high, at: at / 2 if at == high else (at + 1) / 2),
                "between the highest failure and the lowest success",
            ),
            "forgets successes": (
                search(lambda low, high, at: (low + at) / 2 if at == high else (low + 1) / 2),
                "between the highest failure and the lowest success",
            ),
            "up to 2": (
                search(lambda low, high, at: (low + min(high, 2.0)) / 2),
                "after a failure half of the way up",
            ),
            "backwards": (backwards, "after a success half of the way down"),
            "begins at 0.5": (search(middle, begin=0.5), "it begins at first"),
            "stops at a flip": (stops_at_a_flip, "after a success half of the way down"),
            "called twice": (called_twice, "flips is called more than"),
            "last strength": (
                search(middle, lambda low, high, last: last),
                "expected 0.5, got 0.25",
            ),
            "highest failure": (search(middle, lambda low, high, last: low), "expected 0.3125"),
            "the next one": (
                search(middle, lambda low, high, last: middle(low, high, last)),
                "expected 0.3125, got 0.2812",
            ),
            "high begins at 1": (high_is_one, "where nothing flips, the answer isn't infinity"),
            "nothing": (search(middle, lambda *_: None), "expected a number, got NoneType"),
        },
    ),
}


@right_answers(nb09, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb09, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)


def test_guidance_uses_the_given_codes_and_times_and_ignores_what_else_comes():
    eps = lambda z, t, c: z * c + t.view(-1, 1)  # noqa: E731 (a formula)
    z, t = torch.tensor([[1.0], [2.0]]), torch.tensor([10, 20])
    denoiser = nb09.classifier_free_denoiser(eps, torch.tensor(5.0), torch.tensor(2.0), 3.0)
    # z (2 + 3 (5 - 2)) + t
    assert torch.equal(denoiser(z, t, "alpha_bar"), torch.tensor([[21.0], [42.0]]))
