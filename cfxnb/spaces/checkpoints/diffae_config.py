"""Infer the architecture of a diffusion autoencoder from the names and shapes of its tensors.

An official checkpoint doesn't contain its architecture, which is part of the training code. The
names and shapes of the tensors determine the whole architecture except the number of attention
heads. We assume one head.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cfxnb.nets.diffae import DiffAE
from cfxnb.spaces.checkpoints.configs import at_most

SHOWN = 3  # names of tensors in a message
Ends = tuple[int, bool]  # of a block: its number of output channels, whether it has attention


def architecture(
    state: Mapping[str, Tensor],
    image_size: int | None = None,
    latent: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Return the arguments of the ``DiffAE`` that fits the weights.

    Args:
        state: weights of the autoencoder, named as in the official code, without a prefix. Only the
            shapes of the weights are used.
        image_size: height of the images in pixels (by default 256, or more if the network has more
            than nine levels). ``DiffAE`` identifies the levels with attention by the heights of
            their feature maps, which follow from ``image_size``.
        latent: weights of the latent DDIM, named as in ``LatentNet``. If the checkpoint has no
            latent DDIM, ``latent`` is None or empty.

    Raises:
        ValueError: if no ``DiffAE`` fits the weights.
    """
    try:
        base, channels = state["input_blocks.0.0.weight"].shape[:2]
        dims = state["time_embed.time_embed.2.weight"].shape[0]
        levels, blocks = _climb(state)
        within = [(base, False), *_ends(state, "encoder.")]
        unet = _descent([(base, False), *_ends(state, "")], blocks)
        if unet is None or len(unet) != levels:
            raise KeyError("input_blocks")
    except (KeyError, IndexError, ValueError, ZeroDivisionError):
        parts = sorted({key.split(".")[0][:40] for key in state})[:8]
        raise ValueError(f"another network, with parts {parts}") from None
    encoder, encoder_blocks = _encoder(within, blocks)

    deepest = max(len(unet), len(encoder))
    halved, smallest = 2 ** (len(unet) - 1), 2 ** (deepest - 1)  # the encoder also takes odd sides
    if image_size is None:
        image_size = max(256, smallest)
    if image_size % halved or image_size < smallest:
        raise ValueError(
            f"image_size: expected a multiple of {halved}, at least {smallest}, for a net of "
            f"{len(unet)} levels with an encoder of {len(encoder)}, got {image_size}"
        )
    sides = [image_size // 2**level for level in range(deepest)]
    for level, (mine, other) in enumerate(zip(unet, encoder, strict=False)):
        if mine[1] != other[1]:
            name = "encoder" if other[1] else "U-Net"
            raise ValueError(f"a net in which only the {name} has attention at side {sides[level]}")
    attends = [
        any(ends[1] for ends in (*unet[n : n + 1], *encoder[n : n + 1])) for n in range(deepest)
    ]
    return {
        "size": image_size,
        "channels": channels,
        "base": base,
        "mult": _factors(unet, base),
        "dims": dims,
        "attention": [side for side, attend in zip(sides, attends, strict=True) if attend],
        "blocks": blocks,
        "encoder_mult": _factors(encoder, base),
        "encoder_blocks": encoder_blocks,
        "latent": _latent(latent) if latent else None,
    }


def network(
    state: Mapping[str, Tensor], config: dict[str, Any], latent: Mapping[str, Tensor]
) -> DiffAE:
    """Build the ``DiffAE`` of ``config`` with the weights ``state`` and ``latent``, without copying
    them.

    Raises:
        ValueError: if tensors are missing, unknown or of the wrong shape. The error message has the
            number of wrong tensors and up to three names.
    """
    given = {**state, **{f"latent_net.{key}": value for key, value in latent.items()}}
    with at_most(len(given)):  # shapes without memory
        net = DiffAE(**config)
    wanted = net.state_dict()
    both = wanted.keys() & given.keys()
    wrong = {
        f"{key} {tuple(given[key].shape)}, not {tuple(wanted[key].shape)}"
        for key in both
        if given[key].shape != wanted[key].shape
    }
    kinds = {
        "lacks": wanted.keys() - given.keys(),
        "has unknown": given.keys() - wanted.keys(),
        "has misshapen": wrong,
    }
    problems = []
    for kind, names in kinds.items():
        if names:
            shown = ", ".join(name[:80] for name in sorted(names)[:SHOWN])
            problems.append(f"{kind} {len(names)} (such as {shown})")
    if problems:
        raise ValueError(f"of the tensors of a DiffAE it {'; it '.join(problems)}")
    net.load_state_dict(given, assign=True)
    return net.eval().requires_grad_(False)


def _ends(state: Mapping[str, Tensor], prefix: str) -> list[Ends]:
    """Return (output channels, has attention) of each block of the contracting path.

    The first convolution of the path is not included.
    """
    ends: list[Ends] = []
    while (block := f"{prefix}input_blocks.{len(ends) + 1}") + ".0.in_layers.2.weight" in state:
        width = state[f"{block}.0.in_layers.2.weight"].shape[0]
        ends.append((width, f"{block}.1.qkv.weight" in state))
    return ends


def _climb(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return the number of levels of the U-Net and the number of blocks per level.

    Levels and blocks are counted on the expanding path, where the names of upsampling blocks differ
    from those of other blocks. On the contracting path a downsampling block has the same names as
    other blocks.
    """
    count = ups = 0
    while f"output_blocks.{count}.0.in_layers.2.weight" in state:
        ups += any(f"output_blocks.{count}.{n}.in_layers.2.weight" in state for n in (1, 2))
        count += 1
    levels = ups + 1
    if count % levels:
        raise ValueError("levels of different lengths")
    return levels, count // levels - 1


def _descent(stages: list[Ends], blocks: int) -> list[Ends] | None:
    """Return the last block of each level of a contracting path.

    The result is None if a level doesn't have ``blocks`` blocks after its first one.

    A level begins with a downsampling block (the first level with a convolution). The first block
    of a level keeps the number of channels and has no attention. All blocks of a
    level after the first block have the same width, and either all or none of them have attention.
    """
    each, width, levels = blocks + 1, stages[0][0], []
    for start in range(0, len(stages), each):
        head, *rest = stages[start : start + each]
        if head != (width, False) or len(rest) != blocks or len(set(rest)) != 1:
            return None
        width = rest[0][0]
        levels.append(rest[0])
    return levels


def _encoder(stages: list[Ends], blocks: int) -> tuple[list[Ends], int]:
    """Return the levels of the encoder and its number of blocks per level.

    If the U-Net's number of blocks per level (``blocks``) fits the encoder, the function returns
    ``blocks``. If ``blocks`` doesn't fit, the function returns the only number that fits, and
    raises ValueError if no number or several numbers fit.
    """
    fits = {n: levels for n in range(1, len(stages)) if (levels := _descent(stages, n))}
    if blocks in fits:
        return fits[blocks], blocks
    if len(fits) != 1:
        text = f"blocks per level may be any of {list(fits)}" if fits else "levels are irregular"
        raise ValueError(f"an encoder whose {text}")
    ((number, levels),) = fits.items()
    return levels, number


def _factors(levels: list[Ends], base: int) -> list[int]:
    if any(width % base for width, _ in levels):
        widths = [width for width, _ in levels]
        raise ValueError(f"levels of widths {widths}, which are not multiples of the first, {base}")
    return [width // base for width, _ in levels]


def _latent(state: Mapping[str, Tensor]) -> dict[str, int]:
    layers = 0
    while f"layers.{layers}.linear.weight" in state:
        layers += 1
    try:
        hidden_dim = state["layers.0.linear.weight"].shape[0]
        time_channels = state["time_embed.0.weight"].shape[1]
    except (KeyError, IndexError):
        parts = sorted({key.split(".")[0][:40] for key in state})[:8]
        raise ValueError(f"another latent_net, with parts {parts}") from None
    return {"hidden_dim": hidden_dim, "layers": layers, "time_channels": time_channels}
