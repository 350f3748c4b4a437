"""Attribute edits: change one named attribute of a code, and leave the others alone.

Two kinds in one shape. Linear: step along the normal of a regression until the code lies where
codes with the wanted value lie on average (Shen et al., 2020, InterFaceGAN); the normals of the
attributes to be held are projected out first. Learned: a network that proposes a step for each
code (Alipour et al., arXiv 2206.05257), see ``shift_predictor``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from cfxnb.core import validate, validate_results
from cfxnb.core.modes import standard_numbers
from cfxnb.core.space_fit import same_scale
from cfxnb.core.tensors import active_dims, standardise
from cfxnb.core.types import Code, LatentSpace

Contrasts = dict[str, tuple[Any, Any]]


class AttributeEdits:
    """Edits of named attributes; made by ``cfxnb.fit_attribute_edits``.

    Attributes:
        contrasts: name -> (instead, value), the two values between which it is edited.
        step_model: (codes in units of the spread (b, dims), target in {-1, 0, 1} (b, attributes))
            -> step in the same unit; 1 asks for the value, -1 for what is instead of it.
        mean, std: of the space.
        preserve_others: whether the attributes that are not edited were to stay as they are.
    """

    def __init__(
        self,
        contrasts: Contrasts,
        step_model: nn.Module,
        mean: Tensor,
        std: Tensor,
        preserve_others: bool,
    ) -> None:
        validate.instance(contrasts, Mapping, "contrasts", "a dict: factor -> (instead, value)")
        if not contrasts:
            raise ValueError("contrasts: expected at least one factor, got none")
        self.contrasts = {
            validate.text(name, "contrasts"): validate.pair(pair, f"contrasts[{name[:60]!r}]")
            for name, pair in contrasts.items()
        }
        validate.instance(step_model, nn.Module, "step_model", "a torch.nn.Module")
        self.mean, self.std = validate.place(mean, std)
        self.step_model = step_model.eval().requires_grad_(False)
        self.preserve_others = validate.flag(preserve_others, "preserve_others")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.contrasts)

    @property
    def module(self) -> nn.Module:
        return self.step_model

    @standard_numbers
    def edit(self, code: Code, name: str, value: Any) -> Code:
        """The codes with one attribute set, where the codes are.

        Args:
            code: z of shape (b, ...).
            name: of the attribute.
            value: one of its two values; the same for all, or one a row (b,).

        Raises:
            ValueError, TypeError: for an unknown name or value, or codes of another space.
        """
        validate_results.code(code, "code")
        pair = self.contrasts[validate.choice(name, "name", self.contrasts)]
        if isinstance(value, np.ndarray | pd.Series | pd.Index) or (
            isinstance(value, Tensor) and not value.is_meta and value.layout == torch.strided
        ):
            value = value.tolist()
        values = list(value) if isinstance(value, list | tuple) else [value] * len(code)
        if len(values) != len(code) or not all(_one_of(v, pair) for v in values):
            raise ValueError(
                f"value: expected {pair[0]!r} or {pair[1]!r}, one or one for each of "
                f"{len(code)} codes, got {validate.describe(value)}"
            )
        if code.z.shape[1:] != self.mean.shape:
            raise ValueError(
                f"code: expected codes of shape {tuple(self.mean.shape)}, "
                f"got {tuple(code.z.shape[1:])}"
            )
        sign = torch.zeros(len(code), len(self.names))
        sign[:, self.names.index(name)] = torch.tensor(
            [1.0 if v == pair[1] else -1.0 for v in values]
        )
        return code.with_z(self.step(code.z, sign))

    @standard_numbers
    @torch.no_grad()
    def step(self, z: Tensor, target: Tensor) -> Tensor:
        """Codes (b, ...) moved towards ``target`` (b, attributes) in {-1, 0, 1}.

        Raises:
            ValueError, TypeError: for a wrong argument, or a stepper whose steps are not finite.
        """
        validate.code_like(z, "z", tuple(self.mean.shape))
        validate.instance(target, Tensor, "target", "a torch tensor")
        plain = target.layout == torch.strided and not target.is_meta and not target.is_complex()
        if not plain or target.shape != (len(z), len(self.names)):
            raise ValueError(
                f"target: expected numbers of shape ({len(z)}, {len(self.names)}), got "
                f"{target.dtype} of shape {tuple(target.shape)}"
            )
        if not ((target == -1) | (target == 0) | (target == 1)).all():
            raise ValueError("target: expected -1, 0 and 1, got other numbers")
        u = standardise(z.to(self.mean) - self.mean, self.std).flatten(1)
        step = validate.instance(self.step_model(u, target.to(u)), Tensor, "step_model", "steps")
        if step.shape != u.shape or not step.isfinite().all():
            raise ValueError(
                f"step_model: expected finite steps of shape {tuple(u.shape)} from it, got others, of "
                f"shape {tuple(step.shape)}"
            )
        change = step.view_as(z)
        moved = change * active_dims(self.std) * self.std
        return z + moved.to(z)

    def __repr__(self) -> str:
        kind = type(self.step_model).__name__
        return f"AttributeEdits({kind}, preserve_others={self.preserve_others!r}: {', '.join(self.names)})"


def _one_of(value: Any, pair: tuple[Any, Any]) -> bool:
    """Whether it is one of two values; what can't be compared is none of them."""
    return validate.is_label(value) and value in pair


class LinearSteps(nn.Module):
    """One unit vector an attribute, and how far along it the codes with either value lie.

    Buffers: ``normals`` (k, dims); ``goals`` (k, 2), of the values (instead, value).
    """

    normals: Tensor
    goals: Tensor

    def __init__(self, normals: Tensor, goals: Tensor) -> None:
        super().__init__()
        self.register_buffer("normals", normals)
        self.register_buffer("goals", goals)

    def forward(self, u: Tensor, target: Tensor) -> Tensor:
        goal = torch.where(target > 0, self.goals[:, 1], self.goals[:, 0])
        distance = torch.where(target == 0, 0.0, goal - u @ self.normals.T)
        return distance @ self.normals


def fit_linear(
    u: Tensor, factors: pd.DataFrame, contrasts: Contrasts, preserve_others: bool, l2_penalty: float
) -> LinearSteps:
    """Normals of regularised logistic regressions, each orthogonal to the others if they are kept.

    Args:
        u: codes in units of the spread, (n, dims).
        factors: one row a code.

    Raises:
        ValueError: if codes say nothing about a factor, or nothing apart from the other factors.
    """
    factors = validate.table(factors, "factors")
    points = u.double().cpu().numpy()
    normals = np.stack(
        [_normal(points, factors[n], pair, l2_penalty) for n, pair in contrasts.items()]
    )
    if preserve_others:
        normals = np.stack([_apart(normals, j, name) for j, name in enumerate(contrasts)])
    goals = [
        [(points[(factors[name] == value).to_numpy()] @ normal).mean() for value in pair]
        for normal, (name, pair) in zip(normals, contrasts.items(), strict=True)
    ]
    return LinearSteps(torch.tensor(normals).float(), torch.tensor(goals).float())


def _normal(points: np.ndarray, column: pd.Series, pair: tuple, l2_penalty: float) -> np.ndarray:
    rows = column.isin(pair).to_numpy()
    model = LogisticRegression(C=1 / l2_penalty, max_iter=1000)
    weights = model.fit(points[rows], (column == pair[1]).to_numpy()[rows]).coef_[0]
    if not (length := np.linalg.norm(weights)):
        raise ValueError(f"images: expected codes that tell about {column.name!r}, got equal ones")
    return weights / length


def _apart(normals: np.ndarray, own: int, name: str) -> np.ndarray:
    """A normal without what lies in the span of all others (InterFaceGAN, section 2.3)."""
    held = np.delete(normals, own, 0)
    rest = normals[own] - held.T @ np.linalg.lstsq(held.T, normals[own], rcond=None)[0]
    if (length := np.linalg.norm(rest)) < 1e-6:
        raise ValueError(
            f"contrasts: expected factors whose directions can be told apart, got {name!r} within "
            "the span of the others; name fewer contrasts, or ask for preserve_others=False"
        )
    return rest / length


def checked_edits(value: Any, space: LatentSpace) -> AttributeEdits:
    """Edits made for this space, as far as center and spread of its codes tell."""
    what = "edits from cfx.fit_attribute_edits"
    edits: AttributeEdits = validate.instance(value, AttributeEdits, "edits", what)
    if edits.mean.shape != space.mean.shape:
        raise ValueError(
            f"directions: expected edits of this space's codes {tuple(space.mean.shape)}, got "
            f"those of another with codes {tuple(edits.mean.shape)}"
        )
    same_scale(edits.mean, edits.std, space, "edits", "edits of this space")
    return edits


def checked_factors(factors: Any, rows: int, names: Iterable[str] = ()) -> pd.DataFrame:
    """A table with one row an image and no column twice; those of ``names`` hold plain values."""
    table = validate.table(factors, "factors", rows)
    if wrong := [name for name in table.columns if not isinstance(name, str)]:
        raise TypeError(
            f"factors: expected texts as names of columns, got {validate.describe(wrong[0])}; "
            "name them by factors.columns = map(str, factors.columns)"
        )
    for name in names:
        if name in table:
            validate.discrete(table[name], "factors")
    return table


def two_values(factors: pd.DataFrame, contrasts: Mapping[str, Any] | None, rows: int) -> Contrasts:
    """Checked contrasts: those given, or the two values of every column that has two.

    Raises:
        ValueError, TypeError: if factors are no DataFrame with that many rows, a column is
            missing, a value doesn't occur, or a column has more values than two and no contrast.
    """
    factors = checked_factors(factors, rows)
    if contrasts is None:
        contrasts = {name: _all_values(factors[name]) for name in factors.columns.tolist()}
    validate.instance(contrasts, Mapping, "contrasts", "a dict: factor -> (instead, value)")
    checked: Contrasts = {}
    for name, pair in contrasts.items():
        validate.choice(name, "contrasts", factors.columns)
        try:
            values = validate.pair(pair, f"contrasts[{name!r}]")
        except ValueError as error:
            raise ValueError(f"{error}; name the two for a factor with more") from None
        validate.discrete(factors[name], "factors")
        for value in values:
            if not (factors[name] == value).any():
                raise ValueError(
                    f"contrasts[{name!r}]: expected values that occur, got {validate.describe(value)}"
                )
        checked[name] = values
    if not checked:
        raise ValueError("contrasts: expected at least one factor, got none")
    return checked


def _all_values(column: pd.Series) -> tuple[Any, ...]:
    """What a column holds, in sorted order if there is one."""
    if column.isna().any():
        raise ValueError(
            f"factors: expected a value in every row of {column.name!r}, got NaN; name its two "
            "values in contrasts, and rows without either are not asked"
        )
    values = validate.discrete(column, "factors").unique().tolist()
    try:
        return tuple(sorted(values))
    except TypeError:  # text beside numbers
        return tuple(values)
