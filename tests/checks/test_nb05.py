"""Answers to the exercises of 05_contrastive_explanations."""

import numpy as np
import pandas as pd
import torch
from mutants import Answers, assert_accepted, assert_rejected, right_answers, wrong_answers

from cfxnb.checks import nb05

NAN = float("nan")


def scored(asked, hits):
    """Share of ``hits`` among those ``asked``, and their number."""

    def answer(has, before, after):
        among = asked(has, before, after)
        number = int(among.sum())
        return (float(hits(after)[among].mean()) if number else NAN), number

    return answer


def loses(after):
    return ~after


def gains(after):
    return after


def both(has, before, after):
    return has & before


def neither(has, before, after):
    return ~has & ~before


def in_a_loop(has, before, after):
    lost = [not a for h, b, a in zip(has, before, after, strict=True) if h and b]
    return (sum(lost) / len(lost) if lost else NAN), len(lost)


def by_filter(has, before, after):
    rows = pd.DataFrame({"has": has, "before": before, "after": after})
    rows = rows[~rows.has & ~rows.before]
    return rows.after.mean(), len(rows)


def in_single_precision(has, before, after):
    rest = torch.tensor(after[has & before])
    return (~rest).float().mean(), len(rest)


def reported(change, asked=both, hits=loses):
    """The right score and number, returned in another way."""

    def answer(has, before, after):
        return change(*scored(asked, hits)(has, before, after))

    return answer


def share_of_all(asked, hits):
    def answer(has, before, after):
        among = asked(has, before, after)
        score = float((hits(after) & among).mean()) if among.any() else NAN
        return score, int(among.sum())

    return answer


def share_of_those_with_it(has, before, after):
    score = float((~after & before & has).sum() / has.sum()) if has.any() else NAN
    return score, int((has & before).sum())


def count_of_hits(has, before, after):
    among = has & before
    return (float((~after)[among].sum()) if among.any() else NAN), int(among.sum())


def number_of_hits(has, before, after):
    among = has & before
    return (float((~after)[among].mean()) if among.any() else NAN), int((~after)[among].sum())


def one_value_for_nobody(has, before, after):
    if not (has & before).any():
        return NAN
    return scored(both, loses)(has, before, after)


def unguarded_loop(has, before, after):
    lost = [not a for h, b, a in zip(has, before, after, strict=True) if h and b]
    return sum(lost) / len(lost), len(lost)


def unit(v):
    return v / v.norm()


def basis(held):
    return torch.linalg.qr(held.T).Q


def part(normal, held):
    return basis(held) @ (basis(held).T @ normal)


def by_least_squares(normal, held):
    fit = torch.linalg.lstsq(held.T, normal[:, None]).solution
    return unit(normal - (held.T @ fit).squeeze(1))


def by_gram_schmidt(normal, held):
    orthogonal = []
    for h in [*held, normal]:
        for o in orthogonal:
            h = h - (h @ o) / (o @ o) * o
        orthogonal.append(h)
    return unit(orthogonal[-1])


def in_double_precision(normal, held):
    normal, held = normal.double(), held.double()
    return unit(normal - torch.linalg.pinv(held) @ (held @ normal))


def one_after_the_other(normal, held):
    for h in held:
        normal = normal - (normal @ h) / (h @ h) * h
    return unit(normal)


def as_if_orthogonal(normal, held):
    lengths = held / held.norm(dim=1, keepdim=True)
    return unit(normal - lengths.T @ (lengths @ normal))


def orthogonal_to_all(normal, held):
    return torch.linalg.svd(held).Vh[-1]


def mean_given(rows):
    return rows.groupby("c")["o"].mean()


def weighed(weights):
    """The strata's means among those with x, with ``weights(table, x)``."""

    def answer(table, x):
        return (mean_given(table[table["x"] == x]) * weights(table, x)).sum()

    return answer


def shares(rows):
    return rows["c"].value_counts(normalize=True)


def adjusted_in_a_loop(table, x):
    total = 0.0
    for c in table["c"].unique():
        stratum = table["c"] == c
        total += stratum.mean() * table[stratum & (table["x"] == x)]["o"].mean()
    return total


def by_inverse_propensity(table, x):
    with_x = table["x"] == x
    propensity = with_x.groupby(table["c"]).transform("mean")
    return (table["o"] * with_x / propensity).mean()


def averaged_over_all_rows(table, x):
    return float(table["c"].map(mean_given(table[table["x"] == x])).mean())


def of_strata_regardless(table, x):
    return (mean_given(table) * shares(table)).sum()


def out_of_order(table, x):
    means = mean_given(table[table["x"] == x])
    return (means.to_numpy() * shares(table).to_numpy()).sum()


def returned_in_the_loop(table, x):
    total = 0.0
    for c, share in shares(table).items():
        total += share * table[(table["x"] == x) & (table["c"] == c)]["o"].mean()
        return total


def table_filtered_first(table, x):
    table = table[table["x"] == x]
    return (mean_given(table) * shares(table)).sum()


def with_a_new_column(table, x):
    table["share"] = table["c"].map(shares(table))
    return weighed(lambda t, x: shares(t))(table, x)


def rows_dropped_in_place(table, x):
    weights = shares(table)
    table.drop(table.index[table["x"] != x], inplace=True)
    return (mean_given(table) * weights).sum()


def hits_of_all_rows(table, x):
    hits = table[(table["x"] == x) & table["o"]].groupby("c").size()
    return (hits / table.groupby("c").size() * shares(table)).sum()


def bounded(bound):
    """``bound`` behind the guard."""
    return lambda o, do, p: NAN if p == 0 else bound(o, do, p)


def bound_with_ifs(o, do, p):
    if p == 0:
        return NAN
    return (o - do) / p if o > do else 0.0


def zero_before_the_guard(o, do, p):
    if o <= do:
        return 0.0
    return (o - do) / p if p else NAN


TABLE = {
    "necessity": Answers(
        right={
            "mask": scored(both, loses),
            "loop": in_a_loop,
            "single precision": in_single_precision,
            "list": reported(lambda score, number: [score, number]),
        },
        wrong={
            "score only": (
                reported(lambda score, number: score),
                "expected the score and the number of figures, got float",
            ),
            "exchanged": (
                reported(lambda score, number: (number, score)),
                "a score is a fraction in [0, 1], got 15",
            ),
            "counted": (count_of_hits, "a score is a fraction in [0, 1], got 6"),
            "number of hits": (number_of_hits, "expected 15 figures, got 6"),
            "all with it": (
                scored(lambda h, b, a: h, loses),
                "expected 15 figures, got 20",
            ),
            "all with the outcome": (
                scored(lambda h, b, a: b, loses),
                "expected 15 figures, got 24",
            ),
            "outcome afterwards": (
                scored(lambda h, b, a: h & a, loses),
                "expected 15 figures, got 10",
            ),
            "either": (
                scored(lambda h, b, a: h | b, loses),
                "expected 15 figures, got 29",
            ),
            "everybody": (
                reported(lambda score, number: (score, 37)),
                "expected 15 figures, got 37",
            ),
            "sufficiency": (scored(neither, gains), "expected 15 figures, got 8"),
            "outcome kept": (scored(both, gains), "got 0.600, which is one minus it"),
            "divided by all": (share_of_all(both, loses), "expected 0.400, got 0.162"),
            "divided by those with it": (share_of_those_with_it, "expected 0.400, got 0.300"),
            "zero of nobody": (
                reported(lambda score, number: (score if number else 0.0, number)),
                "without any such figure expected NaN and 0, got 0 and 0",
            ),
            "one value for nobody": (
                one_value_for_nobody,
                "expected the score and the number of figures, got float",
            ),
            "one asked of nobody": (
                reported(lambda score, number: (score, max(number, 1))),
                "without any such figure expected NaN and 0, got nan and 1",
            ),
            "division by nobody": (unguarded_loop, "it raised ZeroDivisionError"),
        },
    ),
    "sufficiency": Answers(
        right={"mask": scored(neither, gains), "filter": by_filter},
        wrong={
            "necessity": (scored(both, loses), "expected 8 figures, got 15"),
            "all without it": (
                scored(lambda h, b, a: ~h, gains),
                "expected 8 figures, got 17",
            ),
            "all without the outcome": (
                scored(lambda h, b, a: ~b, gains),
                "expected 8 figures, got 13",
            ),
            "outcome forgotten to negate": (
                scored(lambda h, b, a: ~h & b, gains),
                "expected 8 figures, got 9",
            ),
            "not both": (
                scored(lambda h, b, a: ~(h & b), gains),
                "expected 8 figures, got 22",
            ),
            "losses": (scored(neither, loses), "got 0.375, which is one minus it"),
            "divided by all": (share_of_all(neither, gains), "expected 0.625, got 0.135"),
            "number only": (
                reported(lambda score, number: number, neither, gains),
                "expected the score and the number of figures, got int",
            ),
            "zero of nobody": (
                reported(lambda s, n: (s if n else 0.0, n), neither, gains),
                "without any such figure expected NaN and 0, got 0 and 0",
            ),
        },
    ),
    "project_out": Answers(
        right={
            "basis": lambda normal, held: unit(normal - part(normal, held)),
            "least squares": by_least_squares,
            "Gram-Schmidt": by_gram_schmidt,
            "double precision": in_double_precision,
        },
        wrong={
            "coefficients": (
                lambda normal, held: basis(held).T @ normal,
                "expected a vector of 6 numbers, got torch.Size([3])",
            ),
            "one vector a held normal": (
                lambda normal, held: normal - (held @ normal)[:, None] * held,
                "expected a vector of 6 numbers, got torch.Size([3, 6])",
            ),
            "held not used": (lambda normal, held: unit(normal), "nothing was removed"),
            "normal as it is": (lambda normal, held: normal, "nothing was removed"),
            "projection": (
                lambda normal, held: unit(part(normal, held)),
                "the part that must be removed",
            ),
            "one after the other": (one_after_the_other, "reading 1 of 3 still changes"),
            "as if orthogonal": (as_if_orthogonal, "reading 1 of 3 still changes"),
            "as if orthonormal": (
                lambda normal, held: unit(normal - held.T @ (held @ normal)),
                "reading 1 of 3 still changes",
            ),
            "only the first": (
                lambda normal, held: unit(normal - part(normal, held[:1])),
                "reading 2 of 3 still changes",
            ),
            "all but the last": (
                lambda normal, held: unit(normal - part(normal, held[:2])),
                "reading 3 of 3 still changes",
            ),
            "their mean": (
                lambda normal, held: unit(normal - part(normal, held.mean(0, keepdim=True))),
                "reading 1 of 3 still changes",
            ),
            "basis of the wrong space": (
                lambda normal, held: unit(
                    normal - torch.linalg.qr(held).Q @ (torch.linalg.qr(held).Q.T @ normal)
                ),
                "it raised RuntimeError",
            ),
            "no unit vector": (
                lambda normal, held: normal - part(normal, held),
                "expected a unit vector, got one of length",
            ),
            "divided by the normal's length": (
                lambda normal, held: (normal - part(normal, held)) / normal.norm(),
                "expected a unit vector, got one of length",
            ),
            "normalised too early": (
                lambda normal, held: unit(normal) - part(unit(normal), held),
                "expected a unit vector, got one of length",
            ),
            "nothing left": (
                lambda normal, held: torch.zeros(6),
                "expected a unit vector, got one of length 0.000",
            ),
            "other way round": (
                lambda normal, held: unit(part(normal, held) - normal),
                "it has the wrong sign",
            ),
            "any orthogonal vector": (orthogonal_to_all, "it is not the remainder of this normal"),
        },
    ),
    "adjusted": Answers(
        right={
            "weighed": weighed(lambda table, x: shares(table)),
            "loop": adjusted_in_a_loop,
            "average over all rows": averaged_over_all_rows,
            "inverse propensity": by_inverse_propensity,
        },
        wrong={
            "seen": (
                lambda table, x: table.loc[table["x"] == x, "o"].mean(),
                "that is P(o | x), observed without an intervention",
            ),
            "weights of those with x": (
                weighed(lambda table, x: shares(table[table["x"] == x])),
                "that is P(o | x), observed without an intervention",
            ),
            "filtered first": (
                table_filtered_first,
                "that is P(o | x), observed without an intervention",
            ),
            "x not selected": (of_strata_regardless, "that is P(o) over all values of x"),
            "not weighed": (
                lambda table, x: mean_given(table[table["x"] == x]).mean(),
                "that is the unweighted mean of the strata",
            ),
            "weights of the others": (
                weighed(lambda table, x: shares(table[table["x"] != x])),
                "for x = a expected 0.371, got",
            ),
            "joint weights": (
                weighed(lambda table, x: table[table["x"] == x]["c"].value_counts() / len(table)),
                "for x = a expected 0.371, got 0.258",
            ),
            "counts": (
                weighed(lambda table, x: table["c"].value_counts()),
                "for x = a expected 0.371, got 44.500",
            ),
            "out of order": (out_of_order, "for x = a expected 0.371, got 0.479"),
            "hits of all rows": (hits_of_all_rows, "for x = a expected 0.371, got 0.258"),
            "returned in the loop": (returned_in_the_loop, "for x = a expected 0.371, got 0.058"),
            "always the same x": (
                lambda table, x: adjusted_in_a_loop(table, "a"),
                "for x = b expected",
            ),
            "not summed": (
                lambda table, x: mean_given(table[table["x"] == x]) * shares(table),
                "it raised TypeError",
            ),
            "new column": (with_a_new_column, "the table was changed"),
            "rows dropped in place": (rows_dropped_in_place, "the table was changed"),
        },
    ),
    "lower_bound": Answers(
        right={
            "max": bounded(lambda o, do, p: max(0.0, (o - do) / p)),
            "cut before dividing": bounded(lambda o, do, p: max(0.0, o - do) / p),
            "ifs": bound_with_ifs,
            "clip": bounded(lambda o, do, p: np.clip((o - do) / p, 0, 1)),
        },
        wrong={
            "not divided": (
                bounded(lambda o, do, p: max(0.0, o - do)),
                "expected 0.75, got 0.300",
            ),
            "divided by the outcome": (
                bounded(lambda o, do, p: max(0.0, (o - do) / o)),
                "expected 0.75, got 0.600",
            ),
            "other way round": (
                bounded(lambda o, do, p: max(0.0, (do - o) / p)),
                "expected 0.75, got 0.000",
            ),
            "missing brackets": (
                bounded(lambda o, do, p: max(0.0, o - do / p)),
                "expected 0.75, got 0.000",
            ),
            "min instead of max": (
                bounded(lambda o, do, p: min(0.0, (o - do) / p)),
                "expected 0.75, got 0.000",
            ),
            "upper bound": (
                bounded(lambda o, do, p: min(1.0, (1 - do - (o - p)) / p)),
                "expected 0.75, got 1.000",
            ),
            "not cut": (
                bounded(lambda o, do, p: (o - do) / p),
                "the bound is never negative, expected 0, got -3.000",
            ),
            "absolute value": (
                bounded(lambda o, do, p: abs(o - do) / p),
                "the bound is never negative, expected 0, got 3.000",
            ),
            "zero of nobody": (
                lambda o, do, p: max(0.0, (o - do) / p) if p else 0.0,
                "if no figure has both x and o, expected NaN, got 0.0",
            ),
            "NaN lost in max": (
                lambda o, do, p: max(0.0, (o - do) / p if p else NAN),
                "if no figure has both x and o, expected NaN, got 0.0",
            ),
            "zero before the guard": (
                zero_before_the_guard,
                "if no figure has both x and o, expected NaN, got 0.0",
            ),
            "small number added": (
                lambda o, do, p: max(0.0, (o - do) / (p + 1e-9)),
                "if no figure has both x and o, expected NaN, got 0.0",
            ),
            "no guard": (
                lambda o, do, p: max(0.0, (o - do) / p),
                "it raised ZeroDivisionError",
            ),
        },
    ),
    "decisive_factors": Answers(
        right={
            "set": lambda: ({"top", "shoes"}, False),
            "list": lambda: (["shoes", "top"], np.bool_(False)),
            "index": lambda: (pd.Index(["top", "shoes"]), False),
        },
        wrong={
            "names only": (lambda: {"top", "shoes"}, "expected a set and True or False, got set"),
            "two names": (lambda: ("top", "shoes"), "True or False, got str, str"),
            "one name": (lambda: ("top", False), "True or False, got str, bool"),
            "exchanged": (lambda: (False, {"top", "shoes"}), "True or False, got bool, set"),
            "in words": (lambda: ({"top", "shoes"}, "no"), "True or False, got set, str"),
            "not said": (lambda: ({"top", "shoes"}, None), "True or False, got set, NoneType"),
            "one answer a factor": (
                lambda: ({"top", "shoes"}, pd.Series([False, False])),
                "True or False, got set, Series",
            ),
            "options": (lambda: ({"metal"}, False), "unknown factors: metal"),
            "capitals": (lambda: ({"Top", "Shoes"}, False), "unknown factors: Shoes, Top"),
            "classes": (lambda: ({"hair"}, True), "hardly any decision depends on hair"),
            "bystander too": (
                lambda: ({"top", "shoes", "hair"}, False),
                "hardly any decision depends on hair",
            ),
            "everything": (
                lambda: (set(nb05.SPRITE_CONTRASTS), False),
                "depends on body, bottom, direction, eyes, hair",
            ),
            "only the top": (lambda: ({"top"}, False), "another factor decides as well"),
            "only the shoes": (lambda: ({"shoes"}, True), "another factor decides as well"),
            "nothing": (lambda: (set(), True), "another factor decides as well"),
            "monotone": (
                lambda: ({"top", "shoes"}, True),
                "monotone = True is not what re-rendering shows",
            ),
        },
    ),
}


@right_answers(nb05, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb05, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)
