"""Linear edits of attributes: steps along the normals of logistic regressions."""

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from cfxnb.contrastive.contrasts import Contrasts
from cfxnb.core import validate
from cfxnb.core.saved import saved_module, with_state


@saved_module
class LinearSteps(nn.Module):
    """Step along the normal of an attribute to the mean position of codes with the wanted value.

    Buffers:
        normals: Unit vector of each attribute, (attributes, dims).
        goals: Mean positions along the normal: of the codes with the baseline, and of the codes
            with the value, (attributes, 2).
    """

    normals: Tensor
    goals: Tensor

    def __init__(self, normals: Tensor, goals: Tensor) -> None:
        super().__init__()
        self.register_buffer("normals", normals)
        self.register_buffer("goals", goals)

    @staticmethod
    def from_state(state: dict[str, Tensor]) -> "LinearSteps":
        """Return the steps that have this state dict.

        Raises:
            ValueError: If the state dict is that of another network.
        """
        if {"normals", "goals"} != set(state) or state["goals"].shape[1:] != (2,):
            raise ValueError(f"weights: expected normals and goals, got {sorted(state)[:3]}")
        return with_state(LinearSteps(state["normals"], state["goals"]), state)

    def forward(self, u: Tensor, target: Tensor) -> Tensor:
        """Return the step of each standardised code u, (b, dims).

        Args:
            u: Standardised codes, (b, dims).
            target: As in ``EditNetwork.forward``.
        """
        goal = torch.where(target > 0, self.goals[:, 1], self.goals[:, 0])
        distance = torch.where(target == 0, 0.0, goal - u @ self.normals.T)
        return distance @ self.normals


def fit_linear_steps(
    u: Tensor, factors: pd.DataFrame, contrasts: Contrasts, preserve_others: bool, l2_penalty: float
) -> LinearSteps:
    """Fit one logistic regression per attribute (Shen et al., 2020, InterFaceGAN).

    Args:
        u: Codes in standard deviations, (n, dims).
        factors: Table of factors with one row per code, in the order of ``u``.
        contrasts: dict attribute -> (baseline, value), the two values of each attribute.
        preserve_others: If True, make each normal orthogonal to the normals of all other
            attributes.
        l2_penalty: Strength of the L2 penalty of the regressions (1 / C in scikit-learn).

    Raises:
        ValueError: If the codes do not depend on an attribute, or if the normal of an attribute
            lies in the span of the other normals.
    """
    factors = validate.table(factors, "factors")
    points = u.double().cpu().numpy()
    normals = np.stack(
        [_normal(points, factors[n], pair, l2_penalty) for n, pair in contrasts.items()]
    )
    if preserve_others:
        normals = np.stack([_orthogonal(normals, j, name) for j, name in enumerate(contrasts)])
    goals = [
        [(points[(factors[name] == value).to_numpy()] @ normal).mean() for value in pair]
        for normal, (name, pair) in zip(normals, contrasts.items(), strict=True)
    ]
    steps = LinearSteps(torch.tensor(normals).float(), torch.tensor(goals).float())
    return steps.to(u.device)


def _normal(points: np.ndarray, column: pd.Series, pair: tuple, l2_penalty: float) -> np.ndarray:
    """Return the unit normal of one attribute.

    The normal comes from a logistic regression on the codes that have one of the two values of the
    attribute.
    """
    rows = column.isin(pair).to_numpy()
    model = LogisticRegression(C=1 / l2_penalty, max_iter=1000)
    weights = model.fit(points[rows], (column == pair[1]).to_numpy()[rows]).coef_[0]
    if not (length := np.linalg.norm(weights)):
        raise ValueError(
            f"images: expected codes that depend on {column.name!r}, got codes that are all equal"
        )
    return weights / length


def _orthogonal(normals: np.ndarray, own: int, name: str) -> np.ndarray:
    """Return one attribute's normal, made orthogonal to the others (InterFaceGAN, section 2.3)."""
    others = np.delete(normals, own, 0)
    rest = normals[own] - others.T @ np.linalg.lstsq(others.T, normals[own], rcond=None)[0]
    if (length := np.linalg.norm(rest)) < 1e-6:
        raise ValueError(
            f"contrasts: expected factors with independent directions, got {name!r} in the span of "
            "the others. Use fewer contrasts, or preserve_others=False."
        )
    return rest / length
