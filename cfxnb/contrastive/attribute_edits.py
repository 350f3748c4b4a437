"""Attribute edits: change one named attribute of a code.

There are two kinds. Linear edits step along the normal of a logistic regression until the code is
as far along the normal as codes with the wanted value are on average (Shen et al., 2020,
InterFaceGAN). Learned edits use a network that predicts a step for each code (Alipour et al., arXiv
2206.05257).
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from cfxnb.contrastive.contrasts import Contrasts, checked_contrasts
from cfxnb.contrastive.edit_network import TrainingOptions, train_edit_network
from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.contrastive.linear_steps import fit_linear_steps
from cfxnb.core import progress, validate, validate_results
from cfxnb.core.border import CheckedSpace
from cfxnb.core.driver import reconstruct_batch
from cfxnb.core.kept_work import checkpoint_path, digest
from cfxnb.core.modes import standard_modes, standard_numbers
from cfxnb.core.modules import eval_frozen
from cfxnb.core.saved import Result
from cfxnb.core.space_fit import SpaceFit, same_scale
from cfxnb.core.tensors import active_dims, standardise
from cfxnb.core.types import Code, LatentSpace
from cfxnb.core.weights_hash import weights_hash

N_RECONSTRUCTED = 32  # images that are reconstructed to see whether the space fits them


class AttributeEdits(Result):
    """Edits of named attributes, made by ``cfxnb.fit_attribute_edits``.

    Args:
        contrasts: Dict from each attribute to (baseline, value), the two values between which the
            attribute is edited.
        step_model: Module that maps standardised codes (b, dims) and targets (b, attributes) to
            steps in standard deviations, (b, dims). A target of 1 requests the value of the
            contrast, -1 requests the baseline, and 0 leaves the attribute unspecified.
        mean, std: Mean and standard deviation of the codes of the space.
        preserve_others: Whether the edits were fitted to leave all other attributes unchanged.
    """

    def __init__(
        self,
        contrasts: Contrasts,
        step_model: nn.Module,
        mean: Tensor,
        std: Tensor,
        preserve_others: bool,
    ) -> None:
        validate.instance(contrasts, Mapping, "contrasts", "a dict: factor -> (baseline, value)")
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

    @classmethod
    def _saved_fields(cls) -> tuple[str, ...]:
        return ("contrasts", "step_model", "mean", "std", "preserve_others")

    def _check_saved(self) -> None:
        self.step(self.mean[None], torch.zeros(1, len(self.names)))  # fails if they don't fit

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per attribute, and the columns ``baseline``, ``value``."""
        pairs = [list(pair) for pair in self.contrasts.values()]
        index = pd.Index(self.names, name="factor")
        return pd.DataFrame(pairs, index=index, columns=["baseline", "value"])

    @property
    def names(self) -> tuple[str, ...]:
        """The attributes that can be edited."""
        return tuple(self.contrasts)

    @property
    def module(self) -> nn.Module:
        """The step model."""
        return self.step_model

    @standard_numbers
    def edit(self, code: Code, name: str, value: Any) -> Code:
        """Return the codes with one attribute set to ``value``, on the device of ``code``.

        Args:
            code: Codes to edit, with z of shape (b, ...).
            name: Attribute to edit.
            value: The wanted value, one of the two values of the attribute: one for all codes, or
                one per code.

        Raises:
            ValueError, TypeError: For an unknown name or value, or for codes of another space.
        """
        validate_results.code(code, "code")
        pair = self.contrasts[validate.choice(name, "name", self.contrasts)]
        if isinstance(value, np.ndarray | pd.Series | pd.Index) or (
            isinstance(value, Tensor) and not value.is_meta and value.layout == torch.strided
        ):
            value = value.tolist()
        values = list(value) if isinstance(value, list | tuple) else [value] * len(code)
        known = all(validate.is_label(v) and v in pair for v in values)
        if len(values) != len(code) or not known:
            raise ValueError(
                f"value: expected {pair[0]!r} or {pair[1]!r}, one for all or one for each of the "
                f"{len(code)} codes, got {validate.describe(value)}"
            )
        validate.shape(code.z.shape[1:], self.mean.shape, "code", "codes of shape")
        target = torch.zeros(len(code), len(self.names))
        signs = [1.0 if v == pair[1] else -1.0 for v in values]
        target[:, self.names.index(name)] = torch.tensor(signs)
        return code.with_z(self.step(code.z, target))

    @standard_numbers
    @torch.no_grad()
    def step(self, z: Tensor, target: Tensor) -> Tensor:
        """Return the codes z (b, ...) after one step towards ``target``.

        Args:
            z: Codes, (b, ...).
            target: One number per code and attribute, (b, attributes): 1 requests the value, -1 the
                baseline, and 0 leaves the attribute unspecified.

        Raises:
            ValueError, TypeError: For a wrong argument, or if the step model returns steps that
                are not finite.
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
                f"step_model: expected it to return finite steps of shape {tuple(u.shape)}, got "
                f"other ones, of shape {tuple(step.shape)}"
            )
        return z + (step.view_as(z) * active_dims(self.std) * self.std).to(z)

    def __repr__(self) -> str:
        return (
            f"AttributeEdits({type(self.step_model).__name__}, "
            f"preserve_others={self.preserve_others!r}: {', '.join(self.names)})"
        )


@standard_modes
def fit_attribute_edits(
    space: LatentSpace,
    images: Tensor,
    factors: pd.DataFrame,
    *,
    contrasts: Mapping[str, Any] | None = None,
    reader: FactorReader | None = None,
    preserve_others: bool = True,
    l2_penalty: float = 1.0,
    linear_init: bool = True,
    hidden_dim: int = 512,
    steps: int = 2000,
    batch_size: int = 64,
    lr: float = 1e-3,
    length_weight: float = 0.05,
    code_noise: float = 0.1,
    checkpoint_dir: str | Path | None = None,
    seed: int = 0,
) -> AttributeEdits:
    """Fit edits that change one attribute of a code.

    If ``reader`` is None, all codes move along one straight line per attribute (linear edits). For
    linear edits, the function fits a logistic regression on the codes for each attribute, and an
    edit steps along the normal of the regression (Shen et al., 2020, InterFaceGAN). If a ``reader``
    is passed (a network that predicts the factors of an image), an edit network predicts the step
    of each code. The edit network is trained through the frozen generator, so that the reader finds
    the wanted value in the decoded image (Alipour et al., arXiv 2206.05257). Neither linear nor
    learned edits use the classifier that is to be explained.

    Differences from the paper: the edit network can start from the linear edits (``linear_init``),
    and can be trained to leave the other attributes unchanged (``preserve_others``). Each training
    step edits one attribute of each code, while the paper edits a random subset of the attributes.

    Args:
        space: Space whose codes are edited.
        images: Images in [0, 1], (n, c, h, w), on whose codes the edits are fitted.
        factors: The attributes of each image: one row per image, in the order of ``images``.
        contrasts: Dict from each attribute to (baseline, value), the two values between which the
            attribute is edited.
            Default: the two values of each column of ``factors``, in sorted order.
        reader: Frozen factor reader (a network that predicts the factors of an image) whose options
            contain the attributes and values of ``contrasts``. Use another factor reader as the
            judge of the edits.
        preserve_others: If True, the edit of one attribute is fitted to leave all others unchanged.
            If False, the fit ignores the other attributes, as in the paper.
        l2_penalty: Strength of the L2 penalty of the logistic regressions.
        linear_init: If True, the network starts from the linear edits and learns a correction. If
            False, the network starts from steps of length zero.
        hidden_dim: Width of the network's hidden layers (paper: 1024).
        steps: Training steps (paper: 100,000).
        batch_size: Codes per training step (paper: 8).
        lr: Learning rate (paper: 1e-4).
        length_weight: Weight of the mean step length, in standard deviations, in the loss
            (paper: 0.05).
        code_noise: Standard deviation of the noise that training adds to the codes, relative to the
            standard deviation of the codes (paper: 0.1).
        checkpoint_dir: Directory for checkpoints. Each combination of arguments, images and weights
            gets its own subdirectory of ``checkpoint_dir``, from which an interrupted training
            resumes. A subdirectory of checkpoints is refused if the space or the reader gives other
            outputs than before, or if another process uses the subdirectory.
        seed: Seed of the initial weights and of the training batches.

    Raises:
        ValueError, TypeError: For a wrong argument.
    """
    space = CheckedSpace(space)
    images = validate.images(images)
    contrasts = checked_contrasts(factors, contrasts, len(images))
    l2_penalty = validate.number(l2_penalty, "l2_penalty", 0.0, open_low=True)
    validate.flag(linear_init, "linear_init")
    options = TrainingOptions(
        hidden_dim=validate.count(hidden_dim, "hidden_dim", 1),
        steps=validate.count(steps, "steps", 1),
        batch_size=validate.count(batch_size, "batch_size", 1),
        lr=validate.number(lr, "lr", 0.0, open_low=True),
        length_weight=validate.number(length_weight, "length_weight", 0.0),
        code_noise=validate.number(code_noise, "code_noise", 0.0),
        preserve_others=validate.flag(preserve_others, "preserve_others"),
        seed=validate.seed(seed),
    )
    if reader is not None:
        check_reader(reader, contrasts, "reader")
    checkpoint_dir = None if checkpoint_dir is None else checkpoint_path(checkpoint_dir)
    with eval_frozen(space), torch.no_grad():
        batches = progress.each(images.split(256), "fit_attribute_edits")
        z = torch.cat([space.encode(chunk).z for chunk in batches])
    _check_fit(space, images)
    mean, std = space.mean.detach(), space.std.detach()
    u = standardise(z.to(mean) - mean, std).flatten(1)
    fit_linear = partial(fit_linear_steps, u, factors, contrasts, preserve_others, l2_penalty)
    if reader is None:
        return AttributeEdits(contrasts, fit_linear(), mean, std, preserve_others)
    record: dict[str, Any] = {}
    if checkpoint_dir is not None:
        record = {
            **vars(options),
            "linear_init": linear_init,
            "l2_penalty": l2_penalty,
            "weights": {"space": weights_hash(space), "reader": weights_hash(reader)},
            "contrasts": [[name, *map(_text, pair)] for name, pair in contrasts.items()],
            "options": [[name, *map(_text, values)] for name, values in reader.options.items()],
            "images": digest(images),
            "factors": [[str(n), digest(factors[n].tolist())] for n in factors.columns],
        }
        checkpoint_dir = checkpoint_dir / digest(record)
    start = fit_linear() if linear_init else None
    network = train_edit_network(
        space, u, reader, contrasts, start, options, checkpoint_dir, record
    )
    return AttributeEdits(contrasts, network, mean, std, preserve_others)


def _check_fit(space: CheckedSpace, images: Tensor) -> None:
    """Warn if the space reconstructs the first images badly.

    Raises:
        ValueError: If the space does not decode to finite images of the same shape.
    """
    images, fit = images[:N_RECONSTRUCTED], SpaceFit(space)
    with eval_frozen(space), torch.no_grad():
        _, reconstruction = reconstruct_batch(space, images)
    fit.add_images(images.to(reconstruction.device), reconstruction)
    fit.warn()


def _text(value: Any) -> str:
    """Return a value as text, which is the same for equal numbers of numpy and Python."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def check_reader(reader: Any, contrasts: Contrasts, name: str) -> None:
    """Check that a factor reader (a network) can read all values of the contrasts."""
    validate.instance(reader, FactorReader, name, "a cfx.FactorReader")
    for attribute, pair in contrasts.items():
        options = reader.options.get(attribute, ())
        if not set(pair) <= set(options):
            raise ValueError(
                f"{name}: expected a reader with the options {pair[0]!r} and {pair[1]!r} for "
                f"{attribute}, got one with {list(options) or list(reader.options)}"
            )


def checked_edits(value: Any, space: LatentSpace) -> AttributeEdits:
    """Check that edits and space have the same mean and standard deviation of codes."""
    kind = "edits from cfx.fit_attribute_edits"
    edits: AttributeEdits = validate.instance(value, AttributeEdits, "edits", kind)
    validate.shape(edits.mean.shape, space.mean.shape, "edits", "edits for codes of shape")
    same_scale(edits.mean, edits.std, space, "edits", "edits of this space")
    return edits
