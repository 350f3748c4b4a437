"""From a space and named factors to edits of single attributes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from cfxnb.contrastive.edit_network import train_predictor
from cfxnb.contrastive.edits import (
    AttributeEdits,
    Contrasts,
    LinearSteps,
    fit_linear,
    two_values,
)
from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.core import validate
from cfxnb.core.border import CheckedSpace
from cfxnb.core.driver import reconstruct_batch
from cfxnb.core.kept_work import digest, given_folder
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.space_fit import SpaceFit
from cfxnb.core.tensors import standardise
from cfxnb.core.types import Code, LatentSpace
from cfxnb.core.weights_hash import weights_hash

LOOKED_AT = 32  # images that are decoded to see whether the space knows them


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
    """Learn to edit one attribute of a code at a time.

    Without a reader the edits are linear: a logistic regression on codes for each attribute, made
    orthogonal to the other attributes' (Shen et al., 2020, InterFaceGAN). With a reader they
    depend on the code: a network is trained through the frozen generator until the reader finds
    the edited attribute changed (Alipour et al., arXiv 2206.05257). The classifier that will be
    explained plays no part in either.

    Args:
        space: whose codes are edited.
        images: (n, c, h, w) in [0, 1]; the edits are learnt on their codes.
        factors: one row an image, by position.
        contrasts: factor -> (instead, value), the two values between which it is edited.
            Default: the two values of each column, in sorted order.
        reader: a frozen attribute reader that has these factors and values among its options.
            Keep another one as the judge of the edits.
        preserve_others: Keep the attributes that are not edited as they are. False: ignore them, as
            in the paper.
        l2_penalty: of the regressions' weights.
        linear_init: the network begins at the linear edits and learns what to add; False: it begins at
            nothing (as published).
        hidden_dim, steps, batch_size, lr: of the network and its training (published: 1024, 100,000, 8,
            1e-4).
        length_weight: weight of the mean step length, in spreads (published: 0.05).
        code_noise: noise on the codes in training, in spreads (published: 0.1).
        checkpoint_dir: where checkpoints go, one folder in it for each question (weights of space and
            reader, images, factors, contrasts, all other arguments); training that was stopped
            goes on there. It is refused if space or reader answer otherwise than when it began,
            and while another process trains there.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    space = CheckedSpace(space)
    images = validate.images(images)
    validate.flag(preserve_others, "preserve_others")
    pairs = two_values(factors, contrasts, len(images))
    l2_penalty = validate.number(l2_penalty, "l2_penalty", 0.0, open_low=True)
    validate.flag(linear_init, "linear_init")
    knobs: dict[str, Any] = {
        "hidden": validate.count(hidden_dim, "hidden", 1),
        "steps": validate.count(steps, "steps", 1),
        "batch_size": validate.count(batch_size, "batch_size", 1),
        "lr": validate.number(lr, "lr", 0.0, open_low=True),
        "length": validate.number(length_weight, "length", 0.0),
        "code_noise": validate.number(code_noise, "code_noise", 0.0),
        "seed": validate.seed(seed),
    }
    _check_reader(reader, pairs)
    checkpoint_dir = None if checkpoint_dir is None else given_folder(checkpoint_dir)
    with eval_frozen(space), torch.no_grad():
        codes = [space.encode(chunk) for chunk in images.split(256)]
    validate.instance(codes[0], Code, "space.encode", "a cfx.Code")
    _check_fit(space, images)
    z = torch.cat([code.z for code in codes])
    mean, std = space.mean.detach(), space.std.detach()
    u = standardise(z.to(mean) - mean, std).flatten(1)

    def linear() -> LinearSteps:
        return fit_linear(u, factors, pairs, preserve_others, l2_penalty).to(mean.device)

    step_model: nn.Module
    if reader is None:
        step_model = linear()
    else:
        asked: dict[str, Any] = {}
        if checkpoint_dir is not None:
            asked = {
                **knobs,
                "preserve_others": preserve_others,
                "linear_init": linear_init,
                "l2_penalty": l2_penalty,
            }
            asked["weights"] = {"space": weights_hash(space), "reader": weights_hash(reader)}
            asked["contrasts"] = [[name, *map(_told, pair)] for name, pair in pairs.items()]
            asked["options"] = [[n, *map(_told, each)] for n, each in reader.options.items()]
            asked["images"] = digest(images)
            asked["factors"] = [[str(n), digest(factors[n].tolist())] for n in factors.columns]
            checkpoint_dir = checkpoint_dir / digest(asked)
        start = linear() if linear_init else None
        step_model = train_predictor(
            space,
            u,
            reader,
            pairs,
            preserve_others,
            start,
            checkpoint_dir=checkpoint_dir,
            asked=asked,
            **knobs,
        )
    return AttributeEdits(pairs, step_model, mean, std, preserve_others)


def _check_fit(space: CheckedSpace, images: Tensor) -> None:
    """Warn if the space doesn't know the images, as far as the first ones tell.

    Raises:
        ValueError: if it doesn't decode to images of that shape, with finite numbers.
    """
    few, fit = images[:LOOKED_AT], SpaceFit(space)
    with eval_frozen(space), torch.no_grad():
        _, made = reconstruct_batch(space, few)
    fit.see(few.to(made.device), made)
    fit.warn()


def _told(value: Any) -> str:
    """A value as text; a number of numpy's like one of Python's."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def _check_reader(reader: Any, pairs: Contrasts) -> None:
    if validate.optional(_a_reader, reader, "reader") is None:
        return
    for name, pair in pairs.items():
        known = reader.options.get(name, ())
        if not set(pair) <= set(known):
            raise ValueError(
                f"reader: expected one that reads {name} as {pair[0]!r} or {pair[1]!r}, got one "
                f"for {list(known) or list(reader.options)}"
            )


def _a_reader(value: Any, name: str) -> FactorReader:
    return validate.instance(value, FactorReader, name, "a cfx.FactorReader")
