"""Answers to the exercises of 05_contrastive_explanations."""

import math

import numpy as np
import pandas as pd
import torch
from mutants import Answers, assert_accepted, assert_rejected, right_answers, wrong_answers
from scipy.stats import binomtest

from cfxnb.checks import nb05
from cfxnb.core.prediction import predict_logits
from cfxnb.core.tensors import standardise
from cfxnb.solutions import nb05 as solutions

NAN = float("nan")
RIGHT = {"necessity": (3, 5), "sufficiency": (1, 4), "pns": (4, 12)}


def outcomes(has, before, after):
    """The potential outcomes with the value and with the baseline."""
    return np.where(has, before, after), np.where(has, after, before)


def counted(change=lambda pairs: pairs, masks=None, **other):
    """The answer to exercise 2, with other pairs (condition, event) for some scores."""

    def answer(has, before, after):
        x, y = outcomes(has, before, after)
        everyone = np.ones(len(has), dtype=bool)
        parts = {
            "necessity": (has & before, ~after),
            "sufficiency": (~has & ~before, after),
            "pns": (everyone, x & ~y),
            "monotonicity_violation": (everyone, ~x & y),
        }
        parts |= {name: part(has, before, after) for name, part in other.items()}
        return change({n: (int((a & e).sum()), int(a.sum())) for n, (a, e) in parts.items()})

    return answer


def count_in_a_loop(has, before, after):
    counts = {name: [0, 0] for name in nb05.SCORES}
    for h, b, a in zip(has.tolist(), before.tolist(), after.tolist(), strict=True):
        with_value, without = (b, a) if h else (a, b)
        events = {
            "necessity": (h and b, not a),
            "sufficiency": (not h and not b, a),
            "pns": (True, with_value and not without),
            "monotonicity_violation": (True, without and not with_value),
        }
        for name, (condition, event) in events.items():
            counts[name][0] += condition and event
            counts[name][1] += condition
    return counts


def count_by_a_table(has, before, after):
    rows = pd.DataFrame({"has": has, "before": before, "after": after})
    n = rows.value_counts().reindex(
        pd.MultiIndex.from_product([[False, True]] * 3), fill_value=0
    ).astype(float)  # fmt: skip
    return {
        "necessity": (n[True, True, False], n[True, True, False] + n[True, True, True]),
        "sufficiency": (n[False, False, True], n[False, False, True] + n[False, False, False]),
        "pns": (n[True, True, False] + n[False, False, True], n.sum()),
        "monotonicity_violation": (n[True, False, True] + n[False, True, False], n.sum()),
    }


def wilson_centre(k, n, z=1.959964):
    if not n:
        return NAN, NAN
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return centre - half, centre + half


def wilson_by_numpy(k, n, z=1.959964):
    if n == 0:
        return [NAN, NAN]
    return sorted(np.roots([1 + z**2 / n, -(2 * k / n + z**2 / n), (k / n) ** 2]).real)


def wilson_by_scipy(k, n):
    found = binomtest(k, n).proportion_ci(method="wilson") if n else None
    return (found.low, found.high) if n else (NAN, NAN)


def roots(a=lambda s: 1 + s, b=lambda p, s: 2 * p + s, c=lambda p: p**2, over=None, flip=False):
    """The answer to exercise 3, with mistakes."""

    def answer(k, n, z=1.959964):
        if n == 0:
            return NAN, NAN
        p, s = k / n, z**2 / n
        a_, b_, c_ = a(s), b(p, s), c(p)
        root = math.sqrt(abs(b_**2 - 4 * a_ * c_))
        divisor = 2 * a_ if over is None else over
        ends = (b_ - root) / divisor, (b_ + root) / divisor
        return ends[::-1] if flip else ends

    return answer


def textbook(k, n, z=1.959964):
    if n == 0:
        return NAN, NAN
    p = k / n
    half = z * math.sqrt(p * (1 - p) / n)
    return p - half, p + half


def wilson_without_a_guard(k, n, z=1.959964):
    return solutions.wilson(k, n) if n else 1 / n


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


def mask_of(factors, name, value):
    return torch.tensor((factors[name] == value).to_numpy())


def directions(hold="others", own=None, order=1, place=None, rows=None, swap=False):
    """The answer to exercise 5, with mistakes."""

    def answer(u, normals, factors, contrasts):
        found = {}
        for name, pair in contrasts.items():
            others = [n for other, n in normals.items() if other != name]
            held = torch.stack(others if hold == "others" else others[:1])
            direction = solutions.project_out(normals[name], held)
            if own == "normal":
                direction = normals[name]
            if own == "flipped":
                direction = -direction
            along = u @ (normals[name] if place == "normal" else direction)
            masks = [mask_of(factors, name, value) for value in pair]
            if rows == "rest":
                masks = [masks[0], ~masks[0]]
            goals = torch.stack([along[m].mean() for m in masks])
            if rows == "sum":
                goals = torch.stack([along[m].sum() for m in masks])
            found[name] = (direction, goals[::order] if order == 1 else goals.flip(0))
            if swap:
                found[name] = found[name][::-1]
        return found

    return answer


def directions_by_comprehension(u, normals, factors, contrasts):
    names = list(contrasts)
    matrix = torch.stack([normals[n] for n in names])
    result = {}
    for j, name in enumerate(names):
        held = torch.cat([matrix[:j], matrix[j + 1 :]])
        d = by_least_squares(matrix[j], held)
        result[name] = [d, torch.tensor([
            float((u[mask_of(factors, name, v)] @ d).mean()) for v in contrasts[name]
        ])]  # fmt: skip
    return result


def directions_by_groups(u, normals, factors, contrasts):
    result = {}
    for name, (low, high) in contrasts.items():
        d = by_gram_schmidt(normals[name], [v for k, v in normals.items() if k != name])
        means = pd.Series((u @ d).numpy()).groupby(factors[name].to_numpy()).mean()
        result[name] = d, torch.tensor([means[low], means[high]])
    return result


def only_the_last(u, normals, factors, contrasts):
    found = solutions.fit_directions(u, normals, factors, contrasts)
    return {name: found[name] for name in list(found)[-1:]}


def moved(change=None, back=True, before=True):
    """The answer to exercise 6, with mistakes."""

    def answer(space, z, direction, goal):
        u = standardise(z - space.mean, space.std) if before else z
        step = (goal - u @ direction)[:, None] * direction
        new = (change or (lambda u, step, d, g: u + step))(u, step, direction, goal)
        return space.mean + space.std * new if back else new

    return answer


def moved_row_by_row(space, z, direction, goal):
    rows = []
    for code, aim in zip(z, goal, strict=True):
        u = (code - space.mean) / space.std
        rows.append((u + (aim - (u * direction).sum()) * direction) * space.std + space.mean)
    return torch.stack(rows)


def moved_by_replacing(space, z, direction, goal):
    u = (z - space.mean) / space.std
    rest = u - torch.outer(u @ direction, direction)
    return space.mean + (rest + torch.outer(goal, direction)) * space.std


def moved_by_einsum(space, z, direction, goal):
    place = torch.einsum("bd,d->b", standardise(z - space.mean, space.std), direction)
    return z + torch.einsum("b,d,d->bd", goal - place, direction, space.std)


def moved_in_place(space, z, direction, goal):
    z += solutions.set_attribute(space, z, direction, goal) - z
    return z


def twins(wanted=None, first="reconstruction", second="edited", swap=False):
    """The answer to exercise 7, with mistakes."""

    def answer(space, edits, images, attribute, has):
        baseline, value = edits.contrasts[attribute]
        other = [baseline if h else value for h in has]
        values = (wanted or (lambda h, b, v: other))(has, baseline, value)
        code = space.encode(images)
        edited = edits.edit(code, attribute, values)
        parts = {
            "reconstruction": space.decode(code),
            "edited": space.decode(edited),
            "original": images,
            "codes": edited.z,
        }
        pair = parts[first], parts[second]
        return pair[::-1] if swap else pair

    return answer


def twins_by_numpy(space, edits, images, attribute, has):
    pair = np.array(edits.contrasts[attribute])
    with torch.no_grad():
        code = space.encode(images)
        other = edits.edit(code, attribute, pair[1 - has.astype(int)])
        return [space.decode(part) for part in (code, other)]


def twins_figure_by_figure(space, edits, images, attribute, has):
    low, high = edits.contrasts[attribute]
    before, after = [], []
    for i in range(len(images)):
        code = space.encode(images[i : i + 1])
        before.append(space.decode(code))
        after.append(space.decode(edits.edit(code, attribute, [low if has[i] else high])))
    return torch.cat(before), torch.cat(after)


def clean_in_a_loop(before, after, own, wanted):
    found = []
    for b, a, w in zip(before, after, wanted, strict=True):
        others = all(x == y for j, (x, y) in enumerate(zip(b, a, strict=True)) if j != own)
        found.append(bool(others and a[own] == w and b[own] != w))
    return np.array(found)


def clean_by_equality(before, after, own, wanted):
    ideal = before.copy()
    ideal[:, own] = wanted
    return (after == ideal).all(axis=1) & (before[:, own] != wanted)


def clean_by_counting(before, after, own, wanted):
    changed = before != after
    return (changed.sum(1) == 1) & changed[:, own] & (after[:, own] == wanted)


def scored(
    keep="clean", agree=True, orient=True, turn="has", start="reconstruction", wanted="other",
    rate=None, ends=True, per_value=False, first=True, skip=True,
):  # fmt: skip
    """The answer to exercise 9, with mistakes."""

    def answer(space, classifier, images, factors, edits, judge, outcome=1):
        def decide(x):
            target = outcome if first else 1
            return (predict_logits(classifier, x).argmax(1) == target).numpy()

        table = {}
        for name, (low, high) in edits.contrasts.items():
            rows = factors[name].isin([low, high]).to_numpy()
            has = (factors[name] == high).to_numpy()[rows]
            own = images[torch.tensor(rows)]
            pair = solutions.twin(space, edits, own, name, has)
            read = [judge.indices(x).numpy() for x in pair]
            options, column = judge.options[name], list(judge.options).index(name)
            goal = np.where(has, options.index(low), options.index(high))
            if wanted == "own":
                goal = np.where(has, options.index(high), options.index(low))
            used = solutions.is_clean(*read, column, goal)
            if keep == "took effect":
                used = (read[0] != read[1])[:, column] & (read[1][:, column] == goal)
            if keep == "all":
                used = np.ones(len(has), bool)
            before, after = (decide(x) for x in pair)
            if agree:
                used &= decide(own) == before
            if start == "swapped":
                before, after = after, before
            has, before, after = has[used], before[used], after[used]
            value, baseline = high, low
            o_x, o_other = outcomes(has, before, after)
            if orient and o_other.sum() > o_x.sum():
                value, baseline = low, high
                has = ~has if turn == "has" else has
                if turn == "outcomes":
                    before, after = after, before
            if not orient and per_value == "always":
                value, baseline, has = low, high, ~has
            row = {"value": value, "baseline": baseline}
            for score, (k, n) in solutions.count_units(has, before, after).items():
                bounds = solutions.wilson(k, n)
                row[score] = (rate or (lambda k, n: k / n if n else NAN))(k, n)
                row |= {f"{score} n": n, f"{score} low": bounds[not ends]}
                row[f"{score} high"] = bounds[ends]
            table[name] = row
        return pd.DataFrame(table).T if skip else pd.DataFrame(table)

    return answer


def scores_from_units(space, classifier, images, factors, edits, judge, outcome=1):
    """Another style: one code for all attributes, one table of units, then groups."""
    with torch.no_grad():
        code = space.encode(images)
        rebuilt = space.decode(code)
    start = predict_logits(classifier, rebuilt).argmax(1).numpy() == outcome
    same = start == (predict_logits(classifier, images).argmax(1).numpy() == outcome)
    seen, names, lines = judge.indices(rebuilt).numpy(), list(judge.options), []
    for name, pair in edits.contrasts.items():
        at = pd.Index(pair).get_indexer(pd.Index(factors[name]))
        i = np.flatnonzero((at >= 0) & same)
        others = [pair[1 - a] for a in at[i]]
        with torch.no_grad():
            image = space.decode(edits.edit(code[torch.tensor(i)], name, others))
        ideal = seen[i].copy()
        ideal[:, names.index(name)] = [judge.options[name].index(v) for v in others]
        clean = (judge.indices(image).numpy() == ideal).all(1) & (ideal != seen[i]).any(1)
        after = predict_logits(classifier, image).argmax(1).numpy() == outcome
        has, x, y = (part[clean] for part in (at[i] == 1, start[i], after))
        effect = (x[has].sum() + y[~has].sum()) - (y[has].sum() + x[~has].sum())
        value, baseline = pair[::-1] if effect >= 0 else pair
        line = {"value": value, "baseline": baseline}
        for score, (k, n) in count_in_a_loop(has if effect >= 0 else ~has, x, y).items():
            line[f"{score} low"], line[f"{score} high"] = wilson_centre(k, n)
            line[score], line[f"{score} n"] = (k / n if n else NAN), n
        lines.append(line)
    return pd.DataFrame(lines, index=list(edits.contrasts))


def correlated(rows="pair", change=lambda r: r, of=None):
    """The answer to exercise 10, with mistakes."""

    def answer(factors, has_outcome, contrasts):
        found = {}
        for name, pair in contrasts.items():
            mask = factors[name].isin(pair).to_numpy() if rows == "pair" else slice(None)
            value = (factors[name] == pair[1]).to_numpy()[mask]
            out = has_outcome[mask]
            found[name] = change((of or (lambda v, o: np.corrcoef(v, o)[0, 1]))(value, out))
        return pd.Series(found)

    return answer


def correlated_by_pandas(factors, has_outcome, contrasts):
    table = factors.reset_index(drop=True).assign(_o=has_outcome.astype(float))
    found = {}
    for name, (low, high) in contrasts.items():
        x = table[name].map({low: 0.0, high: 1.0})
        found[name] = x.corr(table["_o"])
    return pd.Series(found)


def correlated_by_hand(value, out):
    v, o = value - value.mean(), out - out.mean()
    return (v * o).mean() / (v.std() * o.std())


def table_answer(column="pns low", least=0.05, violation="monotonicity_violation low", how=all,
                 among="deciding", above=True):  # fmt: skip
    """The answer to exercise 13, with mistakes."""

    def answer(table):
        deciding = {n for n in table.index if (table[column][n] > least) == above}
        names = deciding if among == "deciding" else table.index
        return deciding, how(table[violation][n] <= 0.05 for n in names)

    return answer


def deciding_by_a_query(table):
    rows = table.query("`pns low` > 0.05")
    return list(rows.index), not (rows["monotonicity_violation low"] > 0.05).any()


def deciding_with_an_index(table):
    rows = table[table["pns low"].gt(0.05)]
    return rows.index, np.bool_(rows["monotonicity_violation low"].le(0.05).all())


TABLE = {
    "by_hand": Answers(
        right={
            "tuples": lambda: RIGHT,
            "lists": lambda: {name: list(pair) for name, pair in RIGHT.items()},
            "floats": lambda: {name: (float(k), float(n)) for name, (k, n) in RIGHT.items()},
        },
        wrong={
            "fractions": (
                lambda: {n: k / m for n, (k, m) in RIGHT.items()},
                "expected a pair (k, n)",
            ),
            "no dict": (lambda: list(RIGHT.values()), "expected a dict of pairs, got list"),
            "names": (lambda: {"PN": (3, 5), "PS": (1, 4), "PNS": (4, 12)}, "there is no entry"),
            "swapped": (lambda: RIGHT | {"necessity": (5, 3)}, "the two numbers are swapped"),
            "all with the value": (
                lambda: RIGHT | {"necessity": (3, 6)},
                "necessity: expected n = 5 figures in the condition, got 6",
            ),
            "all with the baseline": (
                lambda: RIGHT | {"sufficiency": (1, 6)},
                "sufficiency: expected n = 4 figures in the condition, got 6",
            ),
            "those that stay": (
                lambda: RIGHT | {"necessity": (2, 5)},
                "k = 2 figures do not react as asked",
            ),
            "pns of those with the value": (
                lambda: RIGHT | {"pns": (3, 6)},
                "pns: expected n = 12 figures in the condition, got 6",
            ),
            "pns without the baseline": (
                lambda: RIGHT | {"pns": (3, 12)},
                "pns: k = 3 figures are counted",
            ),
            "pns as any flip": (
                lambda: RIGHT | {"pns": (6, 12)},
                "pns: k = 6 figures are counted",
            ),
            "one half each": (
                lambda: RIGHT | {"sufficiency": (0.25, 1)},
                "expected two whole numbers",
            ),
        },
    ),
    "count_units": Answers(
        right={
            "solution": solutions.count_units,
            "masks": counted(),
            "loop": count_in_a_loop,
            "table": count_by_a_table,
        },
        wrong={
            "fractions": (
                counted(lambda pairs: {n: k / max(m, 1) for n, (k, m) in pairs.items()}),
                "expected a pair (k, n) for necessity",
            ),
            "three scores": (
                counted(lambda pairs: {n: pairs[n] for n in RIGHT}),
                "there is no entry 'monotonicity_violation'",
            ),
            "list": (counted(lambda pairs: list(pairs.values())), "expected a dict of pairs"),
            "swapped": (
                counted(lambda pairs: {n: pair[::-1] for n, pair in pairs.items()}),
                "necessity: the two numbers are swapped",
            ),
            "all with the value": (
                counted(necessity=lambda h, b, a: (h, b & ~a)),
                "necessity: expected n = 15",
            ),
            "either": (
                counted(necessity=lambda h, b, a: (h | b, ~a)),
                "necessity: expected n = 15",
            ),
            "outcome afterwards": (
                counted(necessity=lambda h, b, a: (h & a, ~b)),
                "necessity: expected n = 15",
            ),
            "those that stay": (
                counted(necessity=lambda h, b, a: (h & b, a)),
                "figures do not react as asked",
            ),
            "condition not negated": (
                counted(sufficiency=lambda h, b, a: (~h & b, a)),
                "sufficiency: expected n = 8",
            ),
            "neither misread": (
                counted(sufficiency=lambda h, b, a: (~(h & b), a)),
                "sufficiency: expected n = 8",
            ),
            "sufficiency of losses": (
                counted(sufficiency=lambda h, b, a: (~h & ~b, ~a)),
                "sufficiency: k = 3 figures do not react as asked",
            ),
            "pns of before and after": (
                counted(pns=lambda h, b, a: (h | ~h, b & ~a)),
                "pns counts figures that lose the outcome by the edit",
            ),
            "pns of those with the value": (
                counted(pns=lambda h, b, a: (h, b & ~a)),
                "pns: expected n = 37",
            ),
            "any flip": (
                counted(pns=lambda h, b, a: (h | ~h, b != a)),
                "pns: k =",
            ),
            "violations as pns": (
                counted(
                    monotonicity_violation=lambda h, b, a: (h | ~h, np.where(h, b & ~a, ~b & a))
                ),
                "monotonicity_violation: k =",
            ),
            "at least one": (
                counted(lambda pairs: {n: (k, max(m, 1)) for n, (k, m) in pairs.items()}),
                "if no figure is in the condition expected (0, 0), got (0, 1)",
            ),
        },
    ),
    "wilson": Answers(
        right={
            "solution": solutions.wilson,
            "centre": wilson_centre,
            "numpy": wilson_by_numpy,
            "scipy": wilson_by_scipy,
        },
        wrong={
            "textbook": (textbook, "this is the interval of the textbook"),
            "swapped": (roots(flip=True), "the two ends are swapped"),
            "one end": (
                lambda k, n: wilson_centre(k, n)[0],
                "expected the lower and the upper end",
            ),
            "not divided by a": (roots(over=2), "the roots are divided by 2 only"),
            "not divided": (roots(over=1), "the roots are not divided by twice"),
            "a without s": (roots(a=lambda s: 1), "for 3 of 10 expected 0.108 to 0.603"),
            "b without s": (roots(b=lambda p, s: 2 * p), "for 3 of 10 expected"),
            "b negative": (roots(b=lambda p, s: -(2 * p + s)), "for 3 of 10 expected"),
            "c not squared": (roots(c=lambda p: p), "for 3 of 10 expected"),
            "half the width": (lambda k, n: wilson_centre(k, n, 1.0), "for 3 of 10 expected"),
            "90 percent": (lambda k, n: wilson_centre(k, n, 1.645), "for 3 of 10 expected"),
            "no guard": (wilson_without_a_guard, "it raised ZeroDivisionError"),
            "zero of nobody": (
                lambda k, n: wilson_centre(k, n) if n else (0.0, 1.0),
                "for 0 of 0 expected NaN and NaN",
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
    "fit_directions": Answers(
        right={
            "solution": solutions.fit_directions,
            "matrix": directions_by_comprehension,
            "groups": directions_by_groups,
        },
        wrong={
            "own normal": (directions(own="normal"), "still changes another attribute"),
            "held against one": (directions(hold="first"), "still changes another attribute"),
            "flipped": (directions(own="flipped"), "is not that of its own normal"),
            "goals swapped": (directions(order=-1), "the goals are in the wrong order"),
            "places along the normal": (
                directions(place="normal"),
                "the goals are places along the normal",
            ),
            "the rest": (directions(rows="rest"), "eyes: a goal uses figures with neither"),
            "sums": (directions(rows="sum"), "expected goals"),
            "parts swapped": (directions(swap=True), "expected a vector (5,)"),
            "only the last": (only_the_last, "expected a dict with the keys"),
            "a list": (
                lambda *a: list(solutions.fit_directions(*a).values()),
                "expected a dict with the keys",
            ),
        },
    ),
    "set_attribute": Answers(
        right={
            "solution": solutions.set_attribute,
            "rows": moved_row_by_row,
            "replaced": moved_by_replacing,
            "einsum": moved_by_einsum,
        },
        wrong={
            "still standardised": (moved(back=False), "the codes are still standardised"),
            "whole goal": (
                moved(lambda u, step, d, g: u + g[:, None] * d),
                "the step is as long as the goal",
            ),
            "away": (moved(lambda u, step, d, g: u - step), "move away from their goals"),
            "only the place": (
                moved(lambda u, step, d, g: g[:, None] * d),
                "only the place along the direction is left",
            ),
            "not standardised": (
                moved(before=False, back=False),
                "the codes were not standardised",
            ),
            "no unit": (
                lambda space, z, d, g: z + moved(lambda u, s, *_: s, back=False)(space, z, d, g),
                "added to the codes without its unit",
            ),
            "no mean": (
                lambda space, z, d, g: solutions.set_attribute(space, z, d, g) - space.mean,
                "the mean is missing",
            ),
            "one step for all": (
                moved(lambda u, step, d, g: u + step.mean(0)),
                "the codes are not at their goals",
            ),
            "in place": (moved_in_place, "the codes that were passed were changed"),
            "wrong axis": (
                lambda space, z, d, g: z + (g - z @ d) * d,
                "it raised RuntimeError",
            ),
        },
    ),
    "twin": Answers(
        right={
            "solution": solutions.twin,
            "numpy": twins_by_numpy,
            "one by one": twins_figure_by_figure,
        },
        wrong={
            "original": (twins(first="original"), "the first part is the original"),
            "swapped": (twins(swap=True), "the two parts are swapped"),
            "own value": (
                twins(lambda has, b, v: [v if h else b for h in has]),
                "set to the value that the figure has already",
            ),
            "always the baseline": (
                twins(lambda has, b, v: [b] * len(has)),
                "every figure gets the value 'gray'",
            ),
            "always the value": (
                twins(lambda has, b, v: [v] * len(has)),
                "every figure gets the value 'red'",
            ),
            "codes": (twins(second="codes"), "expected images like the input"),
            "only the twin": (
                lambda *a: solutions.twin(*a)[1],
                "expected two sets of images, got Tensor",
            ),
            "no edit": (
                lambda space, edits, images, name, has: (
                    space.decode(space.encode(images)),
                    space.decode(space.encode(images)),
                ),
                "no code was edited",
            ),
            "twin not edited": (
                twins(second="reconstruction"),
                "the images are not the reconstruction and its twin",
            ),
            "one value": (
                twins(lambda has, b, v: [v]),
                "it raised ValueError",
            ),
        },
    ),
    "is_clean": Answers(
        right={
            "solution": solutions.is_clean,
            "loop": clean_in_a_loop,
            "equality": clean_by_equality,
            "counting": clean_by_counting,
        },
        wrong={
            "took effect": (
                lambda b, a, own, w: (b != a)[:, own] & (a[:, own] == w),
                "edits that changed another factor count as clean",
            ),
            "another option": (
                lambda b, a, own, w: (b != a)[:, own] & ((b != a).sum(1) == 1),
                "an edit that reached another option counts",
            ),
            "had it already": (
                lambda b, a, own, w: (a[:, own] == w) & ~np.delete(b != a, own, axis=1).any(axis=1),
                "a figure that had the wanted option before",
            ),
            "nothing may change": (
                lambda b, a, own, w: (b != a)[:, own] & ~(b != a).any(1),
                "no edit that changes its own attribute can be clean",
            ),
            "negated": (
                lambda *a: ~solutions.is_clean(*a),
                "the answers are those of the edits that are not clean",
            ),
            "per factor": (lambda b, a, own, w: b != a, "expected one bool per figure"),
            "numbers": (
                lambda *a: solutions.is_clean(*a).astype(int),
                "expected one bool per figure, got int",
            ),
            "all instead of any": (
                lambda b, a, own, w: (
                    (b != a)[:, own] & (a[:, own] == w) & ~np.delete(b != a, own, 1).all(1)
                ),
                "count as clean",
            ),
            "wrong column": (
                lambda b, a, own, w: solutions.is_clean(b, a, 0, w),
                "expected [True, False",
            ),
        },
    ),
    "my_contrastive_scores": Answers(
        right={
            "solution": solutions.my_contrastive_scores,
            "with options": scored(),
            "table of units": scores_from_units,
        },
        wrong={
            "all edits": (scored(keep="all"), "edits that are not clean count as well"),
            "took effect": (
                scored(keep="took effect"),
                "edits that are not clean count as well",
            ),
            "own option": (scored(wanted="own"), "figures count, in the library"),
            "not oriented": (scored(orient=False), "value and baseline are those of the contrast"),
            "always swapped": (
                scored(orient=False, per_value="always"),
                "value and baseline are those of the contrast",
            ),
            "only names swapped": (scored(turn="names"), "n is"),
            "outcomes swapped": (scored(turn="outcomes"), "n is"),
            "after as before": (scored(start="swapped"), "before and after the edit are swapped"),
            "outcome fixed": (scored(first=False), "the outcomes 0 and 1 have the same scores"),
            "counts": (scored(rate=lambda k, n: k), ", in the library"),
            "zero of nobody": (scored(rate=lambda k, n: k / n if n else 0.0), "in the library nan"),
            "ends swapped": (scored(ends=False), "low is"),
            "not transposed": (scored(skip=False), "expected the rows"),
            "no table": (lambda *a, **k: {}, "expected a DataFrame, got dict"),
        },
    ),
    "correlations": Answers(
        right={
            "solution": solutions.correlations,
            "pandas": correlated_by_pandas,
            "by hand": correlated(of=correlated_by_hand),
        },
        wrong={
            "all figures": (
                correlated(rows="all"),
                "figures with neither of the two values are counted",
            ),
            "sign": (correlated(change=lambda r: -r), "the sign is wrong"),
            "absolute": (correlated(change=abs), "the sign is missing"),
            "differences": (
                correlated(of=lambda v, o: o[v].mean() - o[~v].mean()),
                "these are differences of probabilities",
            ),
            "diagonal": (correlated(of=lambda v, o: np.corrcoef(v, o)[0, 0]), "for the eyes"),
            "squared": (correlated(change=lambda r: r**2), "for the eyes"),
            "covariance": (correlated(of=lambda v, o: np.cov(v, o)[0, 1]), "for the eyes"),
            "dict": (
                lambda *a: dict(solutions.correlations(*a)),
                "expected a Series with the index",
            ),
            "rows not selected": (
                lambda f, o, c: pd.Series(
                    {n: np.corrcoef((f[n] == p[1])[f[n].isin(p)], o)[0, 1] for n, p in c.items()}
                ),
                "it raised ValueError",
            ),
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
            "solution": solutions.decisive_factors,
            "query": deciding_by_a_query,
            "index": deciding_with_an_index,
            "loop": table_answer(),
        },
        wrong={
            "names only": (
                lambda table: set(table.index[table["pns low"] > 0.05]),
                "expected a set and True or False, got set",
            ),
            "swapped": (
                lambda table: solutions.decisive_factors(table)[::-1],
                "True or False, got bool, set",
            ),
            "not said": (
                lambda table: (solutions.decisive_factors(table)[0], None),
                "True or False, got set, NoneType",
            ),
            "one answer per factor": (
                lambda table: (
                    solutions.decisive_factors(table)[0],
                    table["monotonicity_violation low"] <= 0.05,
                ),
                "True or False, got set, Series",
            ),
            "score": (table_answer("pns"), "may be chance, because the interval reaches below"),
            "upper end": (table_answer("pns high"), "expected ["),
            "necessity": (table_answer("necessity low"), "expected ["),
            "sufficiency": (table_answer("sufficiency low"), "expected ["),
            "the others": (table_answer(above=False), "expected ["),
            "above zero": (table_answer(least=0.0), "expected ["),
            "always monotone": (
                table_answer(how=lambda parts: True),
                "two causes, not monotone: monotone = True is wrong",
            ),
            "any": (table_answer(how=any), "monotone = True is wrong"),
            "upper end of violations": (
                table_answer(violation="monotonicity_violation high"),
                "monotone = False is wrong",
            ),
            "violations themselves": (
                table_answer(violation="monotonicity_violation"),
                "a rare violation: monotone = False is wrong",
            ),
            "negated": (
                table_answer(how=lambda parts: not all(parts)),
                "monotone = False is wrong",
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
