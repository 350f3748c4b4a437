"""Read latent scale, classes and text encoder of a latent diffusion model.

Most functions of this module read one part of a model folder of diffusers. If a part can't be used,
the function raises ``InvalidPart`` with the names of the file and the field.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cfxnb.core.disk import cause
from cfxnb.core.types import Code
from cfxnb.spaces.autoencoder import downsample_factor_of
from cfxnb.spaces.checkpoints import diffusers_files, text_encoders
from cfxnb.spaces.checkpoints.diffusers_files import InvalidPart
from cfxnb.spaces.conditions import (
    ClassConditions,
    Conditions,
    EmbeddingConditions,
    PromptConditions,
)

MAX_CODE = 2**22  # numbers in a code; the largest known codes have 2**16


def code_shape(size: Any, channels: int, part: str = "unet") -> tuple[int, int, int]:
    """Return the shape of codes (c, h, w), from the ``sample_size`` of a network."""
    sides = (size, size) if isinstance(size, int) else tuple(size or ())
    stated = f"{part}/config.json has sample_size {size!r:.40}"
    if len(sides) != 2 or min(sides) < 1:
        raise InvalidPart(f"{stated}; write the height of codes there")
    if channels * sides[0] * sides[1] > MAX_CODE:
        raise InvalidPart(f"{stated}, more than {MAX_CODE} numbers per code")
    return channels, *sides


def units(config: Any, channels: int, part: str) -> tuple[Any, Any]:
    """Return shift_factor and scaling_factor of the latents from the config of an autoencoder."""
    scale, shift = config.get("scaling_factor"), config.get("shift_factor")
    scale, shift = 1.0 if scale is None else scale, shift or 0.0
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None and std is None:
        return shift, scale
    if mean is None or std is None or not len(mean) == len(std) == channels:
        raise InvalidPart(
            f"{part}/config.json has latents_mean {mean!r:.60} and latents_std {std!r:.60}, not "
            f"{channels} numbers each, one for each channel of the latents"
        )
    return mean, [scale / each for each in std]


def classes(
    found: Path, net: Any, null: bool | None, class_names: Sequence[str] | None = None
) -> Conditions:
    """Return the conditions of a class-conditional network.

    Args:
        null: whether the last class embedding stands for "no class". If ``null`` is None, the
            function assumes that the last embedding stands for "no class", and warns. In a DiT the
            last embedding always stands for "no class".
        class_names: names of the classes, if the folder states them.
    """
    if "cross_attention_dim" not in net.config or "num_embeds_ada_norm" in net.config:
        count = embeddings(net)
        if not count:
            raise InvalidPart(
                "unet can't be conditioned on classes: its config has no num_class_embeds"
            )
        if "num_embeds_ada_norm" not in net.config:
            _warn_of_the_last(count, null)
        names = class_names if len(class_names or ()) == count - (null is not False) else None
        return ClassConditions(count, null is not False, names)
    if not (found / "class_embedder").is_dir():
        raise InvalidPart(
            "no class_embedder in it, for classes; pass conditions=EmbeddingConditions(table)"
        )
    table = diffusers_files.tensor(found, "class_embedder", "embedding.weight")
    if table is None or table.ndim != 2 or len(table) < 2 or not table.isfinite().all():
        raise InvalidPart("class_embedder has no embedding.weight of shape (classes + 1, dims)")
    _warn_of_the_last(len(table), null)
    return EmbeddingConditions(table, null is not False)


def embeddings(net: Any) -> int:
    """Return the number of class embeddings of a network, or 0 if it has none."""
    table = getattr(net, "class_embedding", None)
    if "num_embeds_ada_norm" in net.config:  # a DiT, with one table per block
        tables = (m for n, m in net.named_modules() if n.endswith("class_embedder.embedding_table"))
        table = next(tables, None)
    return table.num_embeddings if isinstance(table, nn.Embedding) else 0


def _warn_of_the_last(count: int, null: bool | None) -> None:
    if null is None:
        warnings.warn(
            f"null_class: the last of {count} class embeddings was taken for 'no class'; pass "
            "null_class=True if this is right, and False if it is an ordinary class",
            stacklevel=4,
        )


def texts(found: Path, template: str) -> PromptConditions:
    """Return the text encoder and tokenizer in a model folder as ``PromptConditions``."""
    part, kind = "text_encoder", "CLIPTextModel"
    setting = text_encoders.settings(found, part, kind)
    encoder = text_encoders.encoder(found, part, kind)
    tokenizer = text_encoders.tokenizer(found, "tokenizer", kind, setting)
    return PromptConditions(tokenizer, encoder(), template)


def mismatch(conditions: Conditions, net: Any) -> str | None:
    """Return the reason why ``net`` can't be conditioned on ``conditions``, or None if it can."""
    dims = net.config.get("cross_attention_dim")
    wanted = set(dims) if isinstance(dims, list | tuple) else {dims}
    if isinstance(conditions, EmbeddingConditions | PromptConditions):
        if isinstance(conditions, EmbeddingConditions):
            width = conditions.table.shape[1]
        else:
            width = conditions.encoder.config.hidden_size
        if wanted != {width}:
            return f"expected vectors of {dims} numbers, as unet takes, got {width}"
    elif isinstance(conditions, ClassConditions):
        count = embeddings(net)
        if (dims is not None and not count) or count != conditions.n_classes:
            return f"expected {count} classes, as unet has, got {conditions.n_classes}"
    return None


@torch.no_grad()
def try_out(space: Any, given: bool, side: int | None = None) -> None:
    """Run all networks of a space once on a small code, to find wrong configs early.

    Args:
        given: whether the user passed the conditions. If ``given`` is True, messages on wrong
            conditions begin with "conditions:".
        side: height and width of the small code. Default: the smallest that the network takes.
    """
    side = downsample_factor_of(space.net) if side is None else side
    z = torch.zeros(1, len(space.mean), side, side)
    try_out_autoencoder(space, z)
    try:
        with _works("the condition of unet"):
            one = None if getattr(space.conditions, "null", True) else 0
            condition = space.encode_condition([one])
            _finite(condition.float())
        with _works("unet"):
            t = torch.tensor([len(space.alphas_cumprod) - 1])
            _finite(space.predict_noise(z, t, condition), z.shape)
    except InvalidPart as error:
        if not given:
            raise
        text = f"conditions: expected conditions that unet takes, got: {error}"
        raise ValueError(text) from None


@torch.no_grad()
def try_out_autoencoder(space: Any, z: Tensor | None = None) -> None:
    """Run an autoencoder once on a small code, to find wrong configs early."""
    z = torch.zeros(1, len(space.mean), 1, 1) if z is None else z
    with _works("the autoencoder"):
        images = _finite(space.decode(Code(z)))
        _finite(space.encode(images).z, z.shape)


@contextlib.contextmanager
def _works(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of any kind, for a wrong config
        text = f"{type(error).__name__}: {cause(error)}"
        raise InvalidPart(f"{what} fails on a small code ({text}); see its config.json") from None


def _finite(value: Tensor, shape: torch.Size | None = None) -> Tensor:
    if shape is not None and value.shape != shape:
        raise ValueError(f"shape {tuple(value.shape)} instead of {tuple(shape)}")
    if not value.isfinite().all():
        raise ValueError("NaN or infinity comes out")
    return value
