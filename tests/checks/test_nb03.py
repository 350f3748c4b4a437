"""Answers to the exercises of 03_what_changed."""

import numpy as np
import pandas as pd
import torch
from mutants import Answers, assert_accepted, assert_rejected, right_answers, wrong_answers
from scipy.stats import rankdata, ttest_rel

from cfxnb.checks import nb03
from cfxnb.core.prediction import predict_logits
from cfxnb.core.tensors import standardise
from cfxnb.core.types import Code
from cfxnb.solutions import nb03 as solutions


def gradient(sign=1.0, penalty=1.0, bias=0.0, mean=False, linear=False):
    """The answer to exercise 1, with mistakes."""

    def answer(w, x, y, l2):
        p = x @ w if linear else (x @ w).sigmoid()
        keep = torch.ones_like(w)
        keep[-1] = bias
        fit = x.T @ (p - y)
        return sign * (fit / len(x) if mean else fit) + penalty * l2 * w * keep

    return answer


def gradient_by_autograd(w, x, y, l2):
    w = w.clone().requires_grad_()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(x @ w, y, reduction="sum")
    return torch.autograd.grad(loss + l2 / 2 * w[:-1].square().sum(), w)[0]


def gradient_by_loop(w, x, y, l2):
    total = torch.cat([l2 * w[:-1], torch.zeros(1)])
    for row, label in zip(x, y, strict=True):
        total = total + ((row * w).sum().sigmoid() - label) * row
    return total


def gradient_in_place(w, x, y, l2):
    p = (x @ w).sigmoid()
    w[-1] = 0
    return x.T @ (p - y) + l2 * w


def fitted(steps=10, penalty=1.0, bias=True, sign=1, flip=False, split=True):
    """The answer to exercise 2, with mistakes."""

    def answer(u, y, l2=1.0, own_steps=None):
        x = torch.cat([u, torch.ones(len(u), 1) * bias], 1).double()
        y = (~y if flip else y).double()
        w = torch.zeros(x.shape[1]).double()
        keep = torch.ones_like(w)
        keep[-1] = 0
        for _ in range(own_steps or steps):
            p = (x @ w).sigmoid()
            h = x.T @ (x * (p * (1 - p))[:, None]) + torch.diag(penalty * l2 * keep + 1e-9)
            w = w - sign * torch.linalg.solve(h, x.T @ (p - y) + penalty * l2 * keep * w)
        return (w[:-1], w[-1]) if split else w

    return answer


def fit_by_lbfgs(u, y, l2=1.0, steps=10):
    w = torch.zeros(u.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([w], max_iter=20 * steps, line_search_fn="strong_wolfe")

    def closure():
        search.zero_grad()
        odds = u.double() @ w[:-1] + w[-1]
        loss = torch.nn.functional.softplus(torch.where(y, -odds, odds)).sum()
        loss = loss + l2 / 2 * w[:-1].square().sum()
        loss.backward()
        return loss

    if steps > 1:
        search.step(closure)
    return w[:-1].detach(), w[-1].detach()


def auc_by_ranks(scores, y):
    ranks, n = rankdata(scores.numpy()), int(y.sum())
    return float((ranks[y.numpy()].sum() - n * (n + 1) / 2) / (n * (len(y) - n)))


def auc_by_loop(scores, y):
    wins = [(a > b) + 0.5 * (a == b) for a in scores[y].tolist() for b in scores[~y].tolist()]
    return sum(wins) / len(wins)


def pairs(compare, reduce="mean"):
    def answer(scores, y):
        won = compare(scores[y][:, None], scores[~y]).double()
        return float(won.mean() if reduce == "mean" else won.sum())

    return answer


def basis(weights):
    return torch.linalg.qr(weights.T).Q


def project_by_basis(change, weights):
    return change @ basis(weights) @ basis(weights).T


def project_by_pinv(change, weights):
    return change @ torch.linalg.pinv(weights) @ weights


def project_by_least_squares(change, weights):
    return (weights.T @ torch.linalg.lstsq(weights.T, change.T).solution).T


def project_in_place(change, weights):
    change -= change - project_by_basis(change, weights)
    return change


def unit(weights):
    return weights / weights.norm(dim=1, keepdim=True)


def described(rows="train", test="test", limit=True, sign=1, unexplained="rest", raw=False, n=3):
    """The answer to exercise 6, with mistakes."""

    def answer(space, s, labels, held_out, z0, z, min_auc=0.75):
        found, kept = {}, []
        fit = {"train": ~held_out, "all": held_out | True, "test": held_out}[rows]
        probe = {"test": held_out, "train": ~held_out}[test]
        for name in labels:
            y = torch.tensor(labels[name].to_numpy())
            w, b = solutions.fit_descriptor(s[fit], y[fit])
            quality = solutions.auc(s[probe] @ w + b, y[probe])
            if not limit or quality >= min_auc:
                change = (z - z0) if raw else standardise(z - z0, space.std)
                found[name] = (sign * change @ w).numpy()
                kept.append(w)
        w = torch.stack(kept)
        change = standardise(z - z0, space.std)
        part = solutions.project(change, w)
        fractions = {
            "rest": 1 - part.square().sum(1) / change.square().sum(1),
            "explained": part.square().sum(1) / change.square().sum(1),
            "lengths": (change - part).norm(dim=1) / change.norm(dim=1),
            "mean": (1 - part.square().sum(1) / change.square().sum(1)).mean(),
        }
        return (pd.DataFrame(found), fractions[unexplained], w)[:n]

    return answer


def described_in_columns(space, s, labels, held_out, z0, z, min_auc=0.75):
    """Fit all columns first, then choose."""
    fits = {}
    for name, column in labels.items():
        y = torch.from_numpy(column.to_numpy(copy=True))
        w, b = solutions.fit_descriptor(s[~held_out], y[~held_out])
        if auc_by_ranks(s[held_out] @ w + b, y[held_out]) >= min_auc:
            fits[name] = w
    w = torch.stack(list(fits.values()))
    change = standardise(z - z0, space.std)
    rest = change - project_by_basis(change, w)
    table = pd.DataFrame((change @ w.T).numpy(), columns=list(fits))
    return table, (rest.norm(dim=1) / change.norm(dim=1)) ** 2, w


def axes(generator="seed", ortho=True, keep="eye", place="own"):
    """The answer to exercise 7, with mistakes."""

    def answer(used, seed):
        g = torch.Generator().manual_seed({"seed": seed, "fixed": 0}.get(generator, 0))
        n = int(used.sum())
        noise = torch.randn(n, n, generator=None if generator == "none" else g)
        block = torch.linalg.qr(noise).Q if ortho else noise
        if keep == "cut":
            return block
        full = torch.eye(len(used)) if keep == "eye" else torch.zeros(len(used), len(used))
        places = used.nonzero().squeeze(1) if place == "own" else torch.arange(n)
        full[places[:, None], places] = block
        return full

    return answer


def axes_by_selection(used, seed):
    """Q = S^T block S + the rest of the identity, with a selection matrix S."""
    select = torch.eye(len(used))[used]
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(select), len(select), generator=g)
    left, _, right = torch.linalg.svd(noise)
    return select.T @ left @ right @ select + torch.diag((~used).float())


def axes_of_all(used, seed):
    g = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(len(used), len(used), generator=g)).Q


def ablated(unit="std", start=True, swap=False, wrong=False, each=False, one=False):
    """The answer to exercise 8, with mistakes."""

    def answer(space, classifier, z0, change, part, target):
        values = []
        for u in (change - part, part):
            step = u * space.std if unit == "std" else u
            read = classifier(space.decode(Code(z0 * start + step))).argmax(1)
            goal = torch.ones_like(target) if one else target
            hits = (read != goal) if wrong else (read == goal)
            values.append(hits if each else float(hits.double().mean()))
        return tuple(values[::-1]) if swap else tuple(values)

    return answer


def ablate_together(space, classifier, z0, change, part, target):
    both = torch.cat([change - part, part]) * space.std + z0.repeat(2, 1)
    read = predict_logits(classifier, space.decode(Code(both))).argmax(1).view(2, -1)
    return tuple((read == target).double().mean(1).tolist())


def pruned(passes=None, order="up", copy=True, back=True, keep=True, each=True):
    """The answer to exercise 9, with mistakes."""

    def answer(reaches, u):
        kept = u.clone() if copy else u
        rows = torch.arange(len(u))
        ranks = {
            "up": u.abs().argsort(1),
            "down": u.abs().argsort(1, descending=True),
            "signed": u.argsort(1),
            "place": torch.arange(u.shape[1]).expand_as(u),
        }[order]
        for _ in range(passes or 5):
            before = kept.clone()
            for column in ranks.T:
                trial = kept.clone()
                trial[rows, column] = 0
                works = reaches(trial)
                if not each:
                    works = works.all().expand(len(u))
                if not back:
                    works = torch.ones_like(works)
                if keep:
                    kept[works] = trial[works]
            if torch.equal(before, kept):
                break
        return kept

    return answer


def prune_by_masks(reaches, u):
    mask = torch.ones_like(u, dtype=torch.bool)
    order = u.abs().sort(dim=1).indices
    changed = True
    while changed:
        changed = False
        for k in range(u.shape[1]):
            trial = mask.scatter(1, order[:, k : k + 1], False)
            works = reaches(u * trial)[:, None]
            changed |= bool((works & (trial != mask) & (u != 0)).any())
            mask = torch.where(works, trial, mask)
    return u * mask


def prune_image_by_image(reaches, u):
    kept = u.clone()
    for _ in range(3):
        for i in range(len(u)):
            for j in u[i].abs().argsort():
                trial = kept.clone()
                trial[i, j] = 0
                if reaches(trial)[i]:
                    kept = trial
    return kept


def sparse(back=True, turn=True, ignore=False, level=None, unit=True, count="parts", sides=1):
    """The answer to exercise 10, with mistakes."""

    def answer(space, classifier, z0, change, target, axes, confidence=0.5):
        axes = torch.eye(len(axes)) if ignore else axes if turn else axes.T

        def reaches(parts):
            z = z0 + space.std * (parts @ axes.T) if unit else z0 + parts @ axes.T
            p = classifier(space.decode(Code(z))).softmax(1)[range(len(z)), target]
            return p >= (confidence if level is None else level)

        parts = solutions.prune(reaches, change @ axes)
        found = parts @ axes.T if back else parts
        n = (parts != 0).sum(1) if count == "parts" else (parts != 0).sum()
        return found * space.std if unit == "twice" else found, n

    return answer


def sparse_by_odds(space, classifier, z0, change, target, axes, confidence=0.5):
    need = np.log(confidence / (1 - confidence))

    def reaches(c):
        logits = classifier(space.decode(Code(z0 + (axes @ c.T).T * space.std)))
        log_p = logits.log_softmax(1).gather(1, target[:, None]).squeeze(1)
        return log_p - (1 - log_p.exp()).log() >= need

    c = solutions.prune(reaches, (axes.T @ change.T).T)
    return (axes @ c.T).T, c.count_nonzero(1)


def p_values(one=None, generator="loop", count="both", plus=1, seeded=True, about="mean"):
    """The answer to exercise 12, with mistakes."""

    def answer(score, before, after, n_resamples=1000, seed=0):
        rng = np.random.default_rng(seed if seeded else None)
        draws = []
        for _ in range(n_resamples):
            if generator == "new":
                rng = np.random.default_rng(seed)
            draws.append((one or shuffle_originals)(rng, score, before, after))
        draws, true = np.stack(draws), score(before, after)
        middle = draws.mean(0) if about == "mean" else 0.0
        as_far = np.abs(draws - middle) >= np.abs(true - middle)
        if count == "above":
            as_far = draws >= true
        if count == "nearer":
            as_far = ~as_far
        found = (plus + as_far.sum(0)) / (plus + n_resamples)
        return found * n_resamples if count == "number" else found

    return answer


def shuffle_originals(rng, score, before, after):
    return score(rng.permutation(before), after)


def shuffle_by_index(rng, score, before, after):
    return score(before[rng.permutation(len(before))], after)


def shuffle_by_sorting(rng, score, before, after):
    return score(before[rng.random(len(before)).argsort()], after)


def shuffle_in_place(rng, score, before, after):
    rng.shuffle(before)
    return score(before, after)


def shuffle_readings(rng, score, before, after):
    return score(rng.permuted(before, axis=0), after)


def draw_with_replacement(rng, score, before, after):
    return score(before[rng.integers(0, len(before), len(before))], after)


def no_shuffle(rng, score, before, after):
    return score(before, after)


def t_by_hand(before, after):
    d = after - before
    n = len(d)
    variance = ((d - d.mean(0)) ** 2).sum(0) / (n - 1)
    return d.mean(0) * np.sqrt(n / variance)


TABLE = {
    "loss_gradient": Answers(
        right={
            "solution": solutions.loss_gradient,
            "autograd": gradient_by_autograd,
            "loop": gradient_by_loop,
            "masks": gradient(),
        },
        wrong={
            "sign": (gradient(sign=-1), "this is the gradient of the likelihood"),
            "all signs": (gradient(sign=-1, penalty=-1.0), "all signs are reversed"),
            "bias penalised": (gradient(bias=1.0), "the bias is penalised"),
            "no penalty": (gradient(penalty=0.0), "there is no penalty"),
            "mean": (gradient(mean=True), "averaged over the images"),
            "no sigmoid": (gradient(linear=True), "log odds are compared"),
            "penalty twice": (gradient(penalty=2.0), "counts twice"),
            "in place": (gradient_in_place, "handed in have changed"),
            "per image": (
                lambda w, x, y, l2: x * ((x @ w).sigmoid() - y)[:, None],
                "one number per weight",
            ),
            "half": (gradient(penalty=0.5), "not the gradient of the loss"),
        },
    ),
    "fit_descriptor": Answers(
        right={
            "solution": solutions.fit_descriptor,
            "double": fitted(),
            "L-BFGS": fit_by_lbfgs,
        },
        wrong={
            "not split": (fitted(split=False), "expected weights and bias"),
            "uphill": (fitted(sign=-0.05), "the minimum is at"),
            "labels exchanged": (fitted(flip=True), "point the other way"),
            "no penalty": (fitted(penalty=0.0), "have no penalty"),
            "no bias": (fitted(bias=False), "without a bias"),
            "one step": (
                lambda u, y, l2=1.0, steps=10: fitted(steps=1)(u, y, l2),
                "after a single step",
            ),
            "too strong": (fitted(penalty=3.0), "the minimum is at"),
            "fixed penalty": (
                lambda u, y, l2=1.0, steps=10: fitted()(u, y, 1.0, steps),
                "with l2 = 20",
            ),
            "diverges": (
                lambda u, y, l2=1.0, steps=10: (u[0] * torch.nan, u[0, 0]),
                "not finite",
            ),
        },
    ),
    "auc": Answers(
        right={"solution": solutions.auc, "ranks": auc_by_ranks, "loop": auc_by_loop},
        wrong={
            "ties won": (pairs(torch.ge), "equal scores count as won"),
            "ties lost": (pairs(torch.gt), "equal scores count as lost"),
            "reversed": (lambda a, y: 1 - auc_by_ranks(a, y), "the other way round"),
            "accuracy": (
                lambda a, y: float(((a > 0) == y).double().mean()),
                "fraction of correct answers",
            ),
            "sum": (
                lambda a, y: auc_by_ranks(a, y) * int(y.sum()) * int((~y).sum()),
                "the pairs are counted",
            ),
            "matrix": (
                lambda a, y: (a[y][:, None] > a[~y]).double(),
                "expected one number",
            ),
            "all pairs": (
                lambda a, y: float((a[:, None] > a).double().mean()),
                "7.5 of 12 pairs",
            ),
        },
    ),
    "contribution": Answers(
        right={
            "solution": solutions.contribution,
            "change of the code": lambda w, s, e, std: ((e - s) / std) @ w,
            "difference of scores": lambda w, s, e, std: e / std @ w - s / std @ w,
        },
        wrong={
            "not summed up": (lambda w, s, e, std: (e - s) / std * w, "one number per image"),
            "over images": (lambda w, s, e, std: ((e - s) / std * w).sum(0), "one number per"),
            "start minus end": (lambda w, s, e, std: ((s - e) / std) @ w, "the sign is reversed"),
            "sigmoid": (
                lambda w, s, e, std: (e / std @ w).sigmoid() - (s / std @ w).sigmoid(),
                "no value exceeds 1",
            ),
            "no std": (lambda w, s, e, std: (e - s) @ w, "not in standard deviations"),
            "times std": (lambda w, s, e, std: ((e - s) * std) @ w, "multiplied by the standard"),
            "absolute": (lambda w, s, e, std: (((e - s) / std) @ w).abs(), "without its sign"),
            "end only": (lambda w, s, e, std: (e / std) @ w, "the reading after the change"),
        },
    ),
    "project": Answers(
        right={
            "solution": solutions.project,
            "basis": project_by_basis,
            "pseudoinverse": project_by_pinv,
            "least squares": project_by_least_squares,
        },
        wrong={
            "rest": (lambda u, w: u - project_by_basis(u, w), "this is the rest"),
            "not orthogonal": (lambda u, w: u @ unit(w).T @ unit(w), "count twice"),
            "no lengths": (lambda u, w: u @ w.T @ w, "as if they had length 1"),
            "first weight": (lambda u, w: project_by_basis(u, w[:1]), "its own part"),
            "coefficients": (lambda u, w: u @ torch.linalg.pinv(w), "the shape of the change"),
            "in place": (project_in_place, "was written to"),
            "everything": (lambda u, w: u.clone(), "perpendicular to all weights"),
        },
    ),
    "my_describe_change": Answers(
        right={
            "solution": solutions.my_describe_change,
            "flags": described(),
            "columns": described_in_columns,
        },
        wrong={
            "two parts": (described(n=2), "expected contributions, unexplained"),
            "coin": (described(limit=False), "the coin has a column"),
            "fit on tests": (described(rows="test"), "differs from the library's by"),
            "sign": (described(sign=-1), "the sign of all contributions"),
            "raw codes": (described(raw=True), "differs from the library's by"),
            "explained": (described(unexplained="explained"), "is the explained fraction"),
            "lengths": (described(unexplained="lengths"), "not squared lengths"),
            "one fraction": (described(unexplained="mean"), "one fraction per image"),
            "array": (
                lambda *a: (described()(*a)[0].to_numpy(), *described()(*a)[1:]),
                "expected a table",
            ),
            "one column less": (
                lambda *a: (described()(*a)[0].drop(columns="slant"), *described()(*a)[1:]),
                "readable properties are missing: slant",
            ),
            "weights of one": (
                lambda *a: (*described()(*a)[:2], described()(*a)[2][0]),
                "expected weights of shape",
            ),
        },
    ),
    "random_axes": Answers(
        right={
            "solution": solutions.random_axes,
            "places": axes(),
            "selection": axes_by_selection,
        },
        wrong={
            "small": (axes(keep="cut"), "a matrix of shape (6, 6)"),
            "zeros": (axes(keep="zeros"), "have no axis of their own"),
            "all mixed": (axes_of_all, "mix used and unused"),
            "first places": (axes(place="first"), "mix used and unused"),
            "not orthogonal": (axes(ortho=False), "not perpendicular"),
            "identity": (lambda used, seed: torch.eye(len(used)), "the coordinates themselves"),
            "no seed": (axes(generator="none"), "the same seed gives other axes"),
            "fixed seed": (axes(generator="fixed"), "another seed gives the same axes"),
        },
    ),
    "ablate_part": Answers(
        right={
            "solution": solutions.ablate_part,
            "loop": ablated(),
            "together": ablate_together,
        },
        wrong={
            "exchanged": (ablated(swap=True), "are exchanged"),
            "unit": (ablated(unit="none"), "the wrong unit"),
            "no original": (ablated(start=False), "the original is forgotten"),
            "others": (ablated(wrong=True), "of the other images"),
            "per image": (ablated(each=True), "expected two numbers"),
            "one number": (lambda *a: ablated()(*a)[0], "expected two fractions"),
            "class 1": (ablated(one=True), "target of the images is not used"),
            "whole change": (
                lambda space, f, z0, u, v, t: ablated()(space, f, z0, u + v, v, t),
                "without the part 3 of 5",
            ),
            "alone without": (
                lambda *a: (ablated()(*a)[0],) * 2,
                "with the part alone 1 of 5",
            ),
        },
    ),
    "prune": Answers(
        right={"solution": solutions.prune, "flags": pruned(), "masks": prune_by_masks},
        wrong={
            "one pass": (pruned(passes=1), "another part can be removed"),
            "largest first": (pruned(order="down"), "from the smallest to the largest"),
            "with sign": (pruned(order="signed"), "from the smallest to the largest"),
            "in place": (pruned(copy=False), "have been written to"),
            "all removed": (pruned(back=False), "does not reach the target any more"),
            "nothing": (pruned(keep=False), "nothing was removed"),
            "all images together": (pruned(each=False), "nothing was removed"),
            "counts": (lambda f, u: (pruned()(f, u) != 0).sum(1), "pruned changes of shape"),
            "halves": (lambda f, u: u * 1.5, "neither 0 nor the entry"),
            "image by image": (prune_image_by_image, "at most 24 calls"),
        },
    ),
    "sparse_counterfactual": Answers(
        right={
            "solution": solutions.sparse_counterfactual,
            "flags": sparse(),
            "log odds": sparse_by_odds,
        },
        wrong={
            "one part": (lambda *a: sparse()(*a)[0], "expected changes and numbers of parts"),
            "parts": (sparse(back=False), "the parts are returned"),
            "transposed": (sparse(turn=False), "turned the wrong way"),
            "axes ignored": (sparse(ignore=True), "the axes are ignored"),
            "unit of the code": (sparse(unit="twice"), "in units of the code"),
            "no unit": (sparse(unit=False), "only the first part"),
            "one count": (sparse(count="all"), "expected one part in each image"),
            "confidence ignored": (sparse(level=0.5), "with a confidence of 0.1"),
        },
    ),
    "paired_t": Answers(
        right={
            "solution": solutions.paired_t,
            "by hand": t_by_hand,
            "scipy": lambda before, after: ttest_rel(after, before).statistic,
        },
        wrong={
            "sign": (lambda b, a: t_by_hand(a, b), "the sign is reversed"),
            "mean": (lambda b, a: (a - b).mean(0), "without its standard error"),
            "no root": (
                lambda b, a: (a - b).mean(0) / (a - b).std(0, ddof=1),
                "divided by the standard deviation",
            ),
            "ddof": (
                lambda b, a: (a - b).mean(0) / (a - b).std(0) * len(a) ** 0.5,
                "computed with n",
            ),
            "unpaired": (
                lambda b, a: (
                    (a - b).mean(0) / np.sqrt((b.var(0, ddof=1) + a.var(0, ddof=1)) / len(a))
                ),
                "the pairing is not used",
            ),
            "over properties": (lambda b, a: t_by_hand(b.T, a.T), "one score per property"),
            "absolute": (
                lambda b, a: np.abs(t_by_hand(b, a)),
                "not the mean change divided by its standard error",
            ),
        },
    ),
    "p_values": Answers(
        right={
            "solution": solutions.p_values,
            "index": p_values(shuffle_by_index),
            "sorting": p_values(shuffle_by_sorting),
        },
        wrong={
            "in place": (p_values(shuffle_in_place), "are now shuffled"),
            "not shuffled": (p_values(no_shuffle), "different orders"),
            "generator in the loop": (p_values(generator="new"), "different orders"),
            "columns": (p_values(shuffle_readings), "complete rows must be shuffled"),
            "with replacement": (p_values(draw_with_replacement), "complete rows must be"),
            "no 1": (p_values(plus=0), "a p-value is 0"),
            "nearer": (p_values(count="nearer"), "depends on the pairing"),
            "number": (p_values(count="number"), "a p-value is larger than 1"),
            "from zero": (p_values(about="zero"), "depends on the pairing"),
            "no seed": (p_values(seeded=False), "the same seed gives other"),
            "one for all": (
                lambda *a: p_values()(*a).mean(),
                "one p-value per property",
            ),
        },
    ),
}


@right_answers(nb03, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb03, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)


def test_there_are_three_styles_of_each_right_answer():
    assert all(len(answers.right) >= 3 for answers in TABLE.values())
