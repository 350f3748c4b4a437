"""Decide whether stored answers come from the present space, classifier and distance."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from cfxnb.core.kept_work import TOLERANCE, differ, other_part
from cfxnb.core.tensors import active_dims, standardise
from cfxnb.core.types import Code
from cfxnb.directions.query_log import Answers, image_digest

# Numbers of answers that are compared:
NEAR_BORDER, SIZES = 4, 3  # nearest to the decision on each side; from small to large changes
NEAR_BORDER_DECISIONS = 24  # if the answers are decisions without degrees, which say less
NEAR_BORDER_OTHER, SIZES_OTHER = 16, 18  # if the weights differ
MAX_ANSWERS = 2000  # they are chosen among this many
PARTS = {"view": "space", "logits": "classifier", "score": "classifier", "distance": "distance"}


def recognise(probe: Any, images: Tensor) -> int:
    """Query some stored codes again, compare the answers, and return how many were compared.

    Weights alone do not identify a classifier. A plain function has no weights, and classifiers
    with equal weights may differ in a label, a normalisation or a threshold. A classifier with
    equal answers counts as the same even if its weights differ, for example if the network is
    stored in another format. If the weights differ, more answers are compared.

    Args:
        probe: the ``BlackBoxProbe``.
        images: the images whose codes were changed, (m, c, h, w).

    Raises:
        ValueError: if the space, the classifier or the distance gives other answers.
    """
    log, stored = probe.log, probe.log.answers
    if log.kept is None or not stored:
        return 0
    folder = log.kept.folder
    names = ("logits", "distance", "view", "key")
    before = {name: torch.cat([each[name] for each in stored.values()]) for name in names}
    before |= probe.interpret(before)
    probe.n_classes = before["logits"].shape[1]
    places = [(name, row) for name, each in stored.items() for row in range(len(each["key"]))]
    chosen = choose_answers(before, log.same_weights)
    if not chosen:
        return 0
    codes = {
        name: _encode_again(probe, stored[name], images, folder)
        for name in sorted({places[i][0] for i in chosen})
    }
    parts = []
    for rows in torch.tensor(chosen).split(probe.config.batch_size):
        here = [places[i] for i in rows.tolist()]
        z = torch.stack([log.codes(name)[row] for name, row in here])
        auxs = [aux for aux in (codes[name].aux for name, _ in here) if aux is not None]
        rendered = probe.render(z.to(probe.code.z), torch.cat(auxs) if auxs else None)
        parts.append({part: value.cpu() for part, value in probe.classify(rendered).items()})
    now = {part: torch.cat([each[part] for each in parts]) for part in parts[0]}
    now |= probe.interpret(now)
    for part, who in PARTS.items():
        every = before[part].view(len(places), -1)
        if differ(now[part].view(len(chosen), -1), every[chosen], every):
            raise other_part(who, folder)
    return len(chosen)


def _encode_again(probe: Any, answers: Answers, images: Tensor, folder: Path) -> Code:
    """Encode the image of stored answers again. Raise ValueError if the code has changed."""
    [image, *_] = [x[None] for x in images if torch.equal(image_digest(x[None]), answers["source"])]
    code: Code = probe.encode(image.to(probe.image.device))
    std = probe.space.std
    change = standardise(code.z - answers["z_start"].to(code.z), std)[:, active_dims(std)]
    if not change.square().mean().sqrt() <= TOLERANCE:  # also if it is NaN
        raise other_part("space", folder)
    return code


def choose_answers(answers: Answers, same_weights: bool = True) -> list[int]:
    """Return the rows of the answers that best distinguish one classifier from another.

    The most surprising answers distinguish best. For each answer we predict the score from all
    other answers. On each side of the decision we take the answers whose predicted score lies
    farthest towards the other side. Surprising answers near the decision change first if a
    threshold or a label differs. We add some answers about small, medium and large changes of the
    image. The answers with the lowest and the highest score are compared too, because a classifier
    whose logits are clipped or saturated differs only there.

    Args:
        answers: a dict with ``logits`` (n, k), ``score`` (n,), ``is_target`` (n,) and ``distance``
            (n,). ``view`` (n, l) holds a short vector per rendered image, and ``key`` (n, m) a
            short vector per changed code.
        same_weights: if False, choose about 50 rows instead of about 14.
    """
    score, distance = answers["score"].double(), answers["distance"].double()
    numbers = (score[:, None], distance[:, None], answers["logits"], answers["view"])
    finite = np.flatnonzero(torch.cat(numbers, 1).isfinite().all(1).numpy())
    places = np.linspace(0, len(finite) - 1, min(MAX_ANSWERS, len(finite))).round().astype(int)
    rows = finite[places]
    if not len(rows):
        return []
    graded = len(np.unique(score.numpy()[rows].round(4))) > len(rows) / 2
    near, sizes = (NEAR_BORDER, SIZES) if same_weights else (NEAR_BORDER_OTHER, SIZES_OTHER)
    near = near if graded else NEAR_BORDER_DECISIONS
    is_target = answers["is_target"].numpy()[rows]
    features = torch.cat([answers["view"], answers["key"]], 1).double().numpy()[rows]
    order = np.argsort(_leave_one_out(features, np.tanh(score.numpy()[rows])), kind="stable")
    chosen = [*order[is_target[order]][:near], *order[~is_target[order]][::-1][:near]]
    extremes = {int(score.numpy()[rows].argmin()), int(score.numpy()[rows].argmax())}
    chosen += sorted(extremes.difference(chosen)) if graded else []
    left = [i for i in np.argsort(distance.numpy()[rows], kind="stable") if i not in chosen]
    places = np.linspace(0, len(left) - 1, min(sizes, len(left))).round().astype(int)
    return [int(rows[i]) for i in [*chosen, *(left[place] for place in places)]]


def _leave_one_out(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Predict each value from all others by kernel ridge regression, (n,)."""
    features = (features - features.mean(0)) / (features.std(0) + 1e-12)
    squared = cdist(features, features, "sqeuclidean")
    kernel = np.exp(-squared / max(float(np.median(squared)), 1e-12))
    inverse = np.linalg.inv(kernel + 0.1 * np.eye(len(kernel)))
    return values - inverse @ (values - values.mean()) / np.diag(inverse)
