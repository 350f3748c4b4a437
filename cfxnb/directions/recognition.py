"""Whether kept answers came from the same space, classifier and distance as there are now."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from cfxnb.core.kept_work import TOLERANCE, differ, refuse
from cfxnb.core.tensors import active_dims, standardise
from cfxnb.core.types import Code
from cfxnb.directions.query_log import Answers, stamp

NEAR, SIZES = 4, 3  # answers asked for anew: nearest to the decision on each side; small to large
NEAR_DECISIONS = 24  # as NEAR, where answers are decisions alone: each of these tells less
NEAR_OTHERS, SIZES_OTHERS = 16, 18  # where the weights are others: the answers must tell alone
MOST = 2000  # answers among which they are chosen
PARTS = {"view": "space", "logits": "classifier", "score": "classifier", "distance": "distance"}


def recognise(ask: Any, pictures: Tensor) -> int:
    """Ask a few of the kept questions anew, compare, and return about how many images.

    Weights don't tell who answered: a function has none, and a label, a normalisation or a
    threshold may be another one. Who gives the same answers is taken for the same, also if the
    weights differ, as those of the same network in another format do; more is asked then.

    Args:
        pictures: the images whose codes were changed, (m, c, h, w).

    Raises:
        ValueError: if the space, the classifier or the distance answers otherwise.
    """
    ledger, kept = ask.ledger, ask.ledger.answers
    if ledger.kept is None or not kept:
        return 0
    folder = ledger.kept.folder
    names = ("logits", "distance", "view", "key")
    whole = {name: torch.cat([each[name] for each in kept.values()]) for name in names}
    whole |= ask.read(whole)
    ask.classes = whole["logits"].shape[1]
    places = [(name, row) for name, each in kept.items() for row in range(len(each["key"]))]
    chosen = telling(whole, ledger.same_weights)
    if not chosen:
        return 0
    starts = {
        name: _start(ask, kept[name], pictures, folder)
        for name in sorted({places[i][0] for i in chosen})
    }
    parts = []
    for some in torch.tensor(chosen).split(ask.knobs["batch_size"]):
        here = [places[i] for i in some.tolist()]
        z = torch.stack([ledger.codes(name)[row] for name, row in here])
        auxs = [r for r in (starts[name].aux for name, _ in here) if r is not None]
        images = ask.draw(z.to(ask.code.z), torch.cat(auxs) if auxs else None)
        found = ask.answer(images)
        parts.append({part: value.cpu() for part, value in found.items()})
    anew = {part: torch.cat([each[part] for each in parts]) for part in parts[0]}
    anew |= ask.read(anew)
    for part, who in PARTS.items():
        before = whole[part].view(len(places), -1)
        if differ(anew[part].view(len(chosen), -1), before[chosen], before):
            raise refuse(who, folder)
    return len(chosen)


def _start(ask: Any, answers: Answers, pictures: Tensor, folder: Path) -> Code:
    """The code of the image that answers are about; refused if the space encodes it otherwise."""
    [picture, *_] = [p[None] for p in pictures if torch.equal(stamp(p[None]), answers["source"])]
    code = ask.encode(picture.to(ask.image.device))
    base, std = answers["base"].to(code.z), ask.space.std
    gap = standardise(code.z - base, std)[:, active_dims(std)]
    if not gap.square().mean().sqrt() <= TOLERANCE:  # NaN is another one, too
        raise refuse("space", folder)
    return code


def telling(answers: Answers, same_weights: bool = True) -> list[int]:
    """Choose the rows of answers that another classifier would hardly give as well.

    Those are the least expected ones: on each side of the decision, the answers that lie farthest
    towards the other side by what all others predict. There a decision turns first if a threshold
    or a label is another one. Some more are of all sizes of change, from none to the largest.

    Args:
        answers: with logits (n, k), score (n,), seen (n,), distance (n,), view (n, l), key (n, m).
        same_weights: False: about fifty rows, not a dozen.
    """
    score, distance = answers["score"].double(), answers["distance"].double()
    numbers = (score[:, None], distance[:, None], answers["logits"], answers["view"])
    fine = np.flatnonzero(torch.cat(numbers, 1).isfinite().all(1).numpy())
    rows = fine[np.linspace(0, len(fine) - 1, min(MOST, len(fine))).round().astype(int)]
    if not len(rows):
        return []
    graded = len(np.unique(score.numpy()[rows].round(4))) > len(rows) / 2
    near, sizes = (NEAR, SIZES) if same_weights else (NEAR_OTHERS, SIZES_OTHERS)
    near = near if graded else NEAR_DECISIONS
    seen = answers["seen"].numpy()[rows]
    features = torch.cat([answers["view"], answers["key"]], 1).double().numpy()[rows]
    order = np.argsort(_expected(features, np.tanh(score.numpy()[rows])), kind="stable")
    chosen = [*order[seen[order]][:near], *order[~seen[order]][::-1][:near]]
    left = [i for i in np.argsort(distance.numpy()[rows], kind="stable") if i not in chosen]
    places = np.linspace(0, len(left) - 1, min(sizes, len(left))).round().astype(int)
    return [int(rows[i]) for i in [*chosen, *(left[place] for place in places)]]


def _expected(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What kernel ridge regression on all others predicts for each row, (n,)."""
    features = (features - features.mean(0)) / (features.std(0) + 1e-12)
    apart = cdist(features, features, "sqeuclidean")
    kernel = np.exp(-apart / max(float(np.median(apart)), 1e-12))
    inverse = np.linalg.inv(kernel + 0.1 * np.eye(len(kernel)))
    return values - inverse @ (values - values.mean()) / np.diag(inverse)
