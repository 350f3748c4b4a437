"""Solutions of 05_contrastive_explanations, written by ``python -m cfxnb.build learner``."""

# ruff: noqa: I001
import math
import numpy as np
import pandas as pd
import torch
import cfxnb as cfx
from cfxnb.core.tensors import standardise


def by_hand() -> dict[str, tuple[int, int]]:
    """Return (k, n) of necessity, sufficiency and pns of red hair, counted in the table."""
    return {
        "necessity": (3, 5),
        "sufficiency": (1, 4),
        "pns": (4, 12),
    }


def count_units(has, before, after) -> dict[str, tuple[int, int]]:
    """Return (k, n) of each score: of n figures in the condition, k react as asked."""
    o_x = np.where(has, before, after)
    o_other = np.where(has, after, before)
    everyone = np.ones(len(has), dtype=bool)
    parts = {
        "necessity": (has & o_x, ~o_other),
        "sufficiency": (~has & ~o_other, o_x),
        "pns": (everyone, o_x & ~o_other),
        "monotonicity_violation": (everyone, ~o_x & o_other),
    }
    return {
        name: (int((among & event).sum()), int(among.sum()))
        for name, (among, event) in parts.items()
    }


def wilson(k: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the ends of the Wilson interval of k of n."""
    if n == 0:
        return math.nan, math.nan
    p, s = k / n, z**2 / n
    a, b, c = 1 + s, 2 * p + s, p**2
    root = math.sqrt(b**2 - 4 * a * c)
    return (b - root) / (2 * a), (b + root) / (2 * a)


def project_out(normal: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
    """Return the part of a normal that is orthogonal to all held normals, as a unit vector."""
    q = torch.linalg.qr(held.T).Q
    rest = normal - q @ (q.T @ normal)
    return rest / rest.norm()


def fit_directions(u, normals, factors, contrasts) -> dict[str, tuple]:
    """Return for each attribute its direction, (d,), and the goals of its two values, (2,)."""
    found = {}
    for attribute, pair in contrasts.items():
        held = torch.stack([n for other, n in normals.items() if other != attribute])
        direction = project_out(normals[attribute], held)
        place = u @ direction
        rows = [torch.tensor((factors[attribute] == v).to_numpy()) for v in pair]
        found[attribute] = direction, torch.stack([place[r].mean() for r in rows])
    return found


def set_attribute(space, z, direction, goal) -> torch.Tensor:
    """Return the codes, moved along the direction to their goals, (b, d)."""
    u = standardise(z - space.mean, space.std)
    distance = goal - u @ direction
    moved = u + distance[:, None] * direction
    return space.mean + space.std * moved


def twin(space, edits, images, attribute, has) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the reconstructions, and the images in which the attribute has its other value."""
    baseline, value = edits.contrasts[attribute]
    wanted = [baseline if h else value for h in has]
    with torch.no_grad():
        code = space.encode(images)
        edited = edits.edit(code, attribute, wanted)
        return space.decode(code), space.decode(edited)


def is_clean(before, after, own: int, wanted) -> np.ndarray:
    """Return whether the edit changed its attribute as wanted, and no other factor, bool (b,)."""
    changed = before != after
    took_effect = changed[:, own] & (after[:, own] == wanted)
    others = np.delete(changed, own, axis=1).any(axis=1)
    return took_effect & ~others


def my_contrastive_scores(space, classifier, images, factors, edits, judge, outcome: int = 1):
    """Return necessity, sufficiency, pns and violations of each attribute, with intervals."""

    def decide(images):
        return (cfx.predict_logits(classifier, images).argmax(1) == outcome).numpy()

    table = {}
    for attribute, (baseline, value) in edits.contrasts.items():
        rows = factors[attribute].isin([baseline, value]).to_numpy()
        has = (factors[attribute] == value).to_numpy()[rows]
        own = images[torch.tensor(rows)]
        pair = twin(space, edits, own, attribute, has)
        read = [judge.indices(part).numpy() for part in pair]
        options = judge.options[attribute]
        wanted = np.where(has, options.index(baseline), options.index(value))
        column = list(judge.options).index(attribute)
        before, after = (decide(part) for part in pair)
        used = is_clean(*read, column, wanted) & (decide(own) == before)
        has, before, after = has[used], before[used], after[used]
        with_value = np.where(has, before, after).sum()
        if np.where(has, after, before).sum() > with_value:
            has, value, baseline = ~has, baseline, value
        row = {"value": value, "baseline": baseline}
        for name, (k, n) in count_units(has, before, after).items():
            low, high = wilson(k, n)
            row[name] = k / n if n else math.nan
            row |= {f"{name} low": low, f"{name} high": high, f"{name} n": n}
        table[attribute] = row
    return pd.DataFrame.from_dict(table, orient="index")


def correlations(factors, has_outcome, contrasts) -> pd.Series:
    """Return the correlation of each attribute's value with the outcome."""
    found = {}
    for attribute, pair in contrasts.items():
        rows = factors[attribute].isin(pair).to_numpy()
        value = (factors[attribute] == pair[1]).to_numpy()
        found[attribute] = np.corrcoef(value[rows], has_outcome[rows])[0, 1]
    return pd.Series(found)


def adjusted(table: pd.DataFrame, x: str) -> float:
    """Return P(o | do x), adjusted for c."""
    total = 0.0
    for c, fraction in table["c"].value_counts(normalize=True).items():
        rows = table[(table["x"] == x) & (table["c"] == c)]
        total += fraction * rows["o"].mean()
    return float(total)


def lower_bound(p_outcome: float, p_outcome_do_other: float, p_both: float) -> float:
    """Return the least possible necessity, from P(o), P(o | do x') and P(o, x)."""
    if p_both == 0:
        return math.nan
    return max(0.0, (p_outcome - p_outcome_do_other) / p_both)


def decisive_factors(table: pd.DataFrame) -> tuple[set[str], bool]:
    """Return the factors that decide, and whether the effect of all of them is monotone."""
    deciding = set(table.index[table["pns low"] > 0.05])
    violations = table.loc[list(deciding), "monotonicity_violation low"]
    return deciding, bool((violations <= 0.05).all())
