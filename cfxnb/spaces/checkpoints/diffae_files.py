"""Checkpoints of diffusion autoencoders: the official ones, plain state dicts, safetensors.

- Lightning's ``.ckpt``, as the official code trains them (``last.ckpt`` of the autoencoder, and of
  its latent DDIM). Of the averaged and the last weights, the averaged ones are taken; optimisers,
  callbacks and settings are left alone;
- ``.pt`` with a state dict of ``DiffAE``, and ``.safetensors`` of one.

Nothing in a file is executed, and no class that it names is imported. The terms of a checkpoint's
licence are its user's to read.
"""

import os
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.nets.diffae import DiffAE
from cfxnb.spaces.checkpoints.diffae_config import architecture, network
from cfxnb.spaces.checkpoints.safe_loading import (
    LEGACY,
    all_tensors,
    checked,
    existing,
    plain_names,
    torch_load,
)
from cfxnb.spaces.diffae import DiffusionAutoencoder

LARGEST = 8 * 2**30  # bytes of a file: weights twice and an optimiser's, 2.5 GB for 256 pixels
WEIGHTS = 4 * 2**30  # bytes of what is taken from it; the largest known have 1 GB
FAR_OUT = 1e12  # codes and noise are about 1
TRAINERS = ("pytorch_lightning", "lightning", "lightning_fabric")
WANTED = "a diffusion autoencoder in Lightning's .ckpt, a state dict's .pt or .safetensors"
BESIDE = ("x_T", "conds_mean", "conds_std")
LATENT = "latent_net."


class Extra(NamedTuple):
    """What a checkpoint has besides the weights of the autoencoder.

    Attributes:
        latent: weights of the net that draws new codes, as in ``LatentNet``; empty if none.
        mean, std: mean and standard deviation of the codes it was trained on, (dims,).
        size: side of the images it was trained on.
        source: which weights were taken: ``"ema_model"``, the averaged ones; ``"model"``, the last
            ones, where there are no averaged ones; ``""`` from a file that has only one kind.
    """

    latent: dict[str, Tensor]
    mean: Tensor | None
    std: Tensor | None
    size: int | None
    source: str


def read_checkpoint(path: str | os.PathLike) -> tuple[dict[str, Tensor], Extra]:
    """The weights in a checkpoint, without running anything in it.

    Args:
        path: a file of at most 8 GiB; its kind is told by its first bytes, not by its name. What
            is not needed of it is not read.

    Returns:
        float32 tensors on the CPU under the names of ``DiffAE``, without those of its
        ``latent_net``; and an ``Extra``. Which tensors there must be depends on the network:
        ``load_diffae`` sees to it.

    Raises:
        ValueError, TypeError: if it is no such file, is damaged, or asks for anything to be
            imported or called; the message begins with ``path``.
    """
    file = existing(path, WANTED, LARGEST)
    try:
        with file.open("rb") as opened:
            begins = opened.read(16)
            if begins[6:9] == b"\0\0{":  # after a length, which may look like anything
                found: Any = all_tensors(file)
            elif begins.startswith((b"PK\x03\x04", LEGACY)):
                found = torch_load(opened, TRAINERS, file)
            else:
                text = f"a file that begins with {begins!r}" if begins else "an empty file"
                raise ValueError(text)
            return _sorted(found)
    except (ValueError, SafetensorError, OSError) as error:
        text = str(error)[:300]  # what a damaged file quotes may be as long as the file
        raise ValueError(f"path: expected {WANTED}, got {file.name}: {text}") from None


@standard_modes
def load_diffae(
    path: str | os.PathLike,
    *,
    device: str | torch.device | None = None,
    image_size: int | None = None,
    **kwargs: Any,
) -> DiffusionAutoencoder:
    """A diffusion autoencoder from a file, as a space.

    Nothing in the file is executed. Architecture and sizes are read off the weights' names and
    shapes. Autoencoders alone don't know where the codes of images lie: their space has center 0
    and spread 1 until ``space.fit(images)`` measures both. Files of a latent DDIM do know, and
    their space can ``sample``.

    Args:
        path: the checkpoint, at most 8 GiB: Lightning's ``.ckpt``, a state dict's ``.pt``, or
            ``.safetensors``.
        device: where it shall run; by default CUDA or MPS when there is one.
        image_size: side of the images it was trained on, where the file doesn't tell. It is only
            checked: the weights take images of any size that the levels can halve.
        **kwargs: of ``DiffusionAutoencoder``, such as ``steps``.

    Warns:
        UserWarning: if a training file has only the last weights, which draw worse than averages.

    Raises:
        ValueError, TypeError: for a wrong argument, and for a file that is damaged, is no such
            checkpoint, or asks for anything to be executed; the message names ``path``.
    """
    validate.optional(_side, image_size, "image_size")
    where = validate.device(device)
    state, extra = read_checkpoint(path)
    if image_size is not None and extra.size not in (None, image_size):
        raise ValueError(
            f"image_size: expected {extra.size}, as this file has it, got {image_size}"
        )
    try:
        config = architecture(state, image_size or extra.size, extra.latent)
        net = network(state, config, extra.latent)
        mean, std = _place(extra, net.dims)
        # Twice the smallest side: norms need more than one number.
        _try_out(net, 2 ** max(len(config["mult"]), len(config["encoder_mult"])))
    except ValueError as error:
        if image_size is not None and str(error).startswith("size: "):
            raise
        name = os.path.basename(path)
        raise ValueError(f"path: expected {WANTED}, got {name}: {error}") from None
    if extra.source == "model":
        warnings.warn(
            f"path: {os.path.basename(path)} has no averaged weights; took the last ones",
            stacklevel=3,
        )
    space = DiffusionAutoencoder(net, mean, std, **kwargs)
    return space.eval().requires_grad_(False).to(where)


def _side(value: Any, name: str) -> int:
    return validate.count(value, name, 1)


def _sorted(found: Any) -> tuple[dict[str, Tensor], Extra]:
    """Weights, those of the net of codes, and what is beside them."""
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__} instead of a dict of tensors")
    named = plain_names({str(key): value for key, value in found.items()})
    source, chosen = _chosen(named)
    beside = {key: named[key] for key in BESIDE if named.get(key) is not None}
    tensors = _floats(chosen | beside)
    x, *place = (tensors.pop(key, None) for key in BESIDE)
    mean, std = (None if value is None else value.flatten() for value in place)
    if x is not None and (x.ndim != 4 or x.shape[2] != x.shape[3] or 0 in x.shape):
        raise ValueError(f"x_T has shape {tuple(x.shape)}, not that of square images")
    latent = {k.removeprefix(LATENT): v for k, v in tensors.items() if k.startswith(LATENT)}
    state = {key: value for key, value in tensors.items() if not key.startswith(LATENT)}
    size = None if x is None else x.shape[-1]
    return state, Extra(_untied(latent), mean, std, size, source)


def _chosen(named: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The averaged weights, else the last ones; the prefix tells, and nothing within a name."""
    for source in ("ema_model", "model"):
        prefix = f"{source}."
        weights = {k.removeprefix(prefix): v for k, v in named.items() if k.startswith(prefix)}
        if weights:
            return source, weights
    return "", {key: value for key, value in named.items() if key not in BESIDE}


def _floats(found: Mapping[str, Any]) -> dict[str, Tensor]:
    """Every tensor checked, and then copied: what the file has is not kept."""
    total = 0
    for key, value in found.items():
        try:
            total += 4 * checked(value).numel()
            if not value.is_floating_point():
                raise ValueError(f"of type {value.dtype} instead of floats")
            if not value.numel():
                raise ValueError(f"empty, of shape {tuple(value.shape)}")
        except ValueError as error:
            raise ValueError(f"{key[:80]} is {error}") from None
        if total > WEIGHTS:
            raise ValueError(f"tensors of more than {WEIGHTS // 2**30} GiB together")
    tensors = {}
    for key, value in found.items():
        copy = torch.empty(value.shape, dtype=torch.float32).copy_(value.detach())
        if not copy.isfinite().all():
            raise ValueError(f"{key[:80]} has NaN or infinity")
        tensors[key] = copy
    return tensors


def _untied(latent: dict[str, Tensor]) -> dict[str, Tensor]:
    """One layer has two names; files that can hold a tensor only once have it under the first."""
    for key in [key for key in latent if ".linear_emb." in key]:
        twin = key.replace(".linear_emb.", ".cond_layers.1.")
        if not torch.equal(latent.setdefault(twin, latent[key]), latent[key]):
            raise ValueError(f"{LATENT}{key[:60]} and its second name {twin[:60]} differ")
    return latent


@torch.no_grad()
def _try_out(net: DiffAE, side: int) -> None:
    """Run the net once on a small input: weights that are too large show now, and not later."""
    x = torch.linspace(-1, 1, net.channels * side**2).view(1, net.channels, side, side)
    first = torch.tensor([0])
    z = net.encoder(x)
    given = {"encoder": z, "U-Net": net(x, first, z)}
    if hasattr(net, "latent_net"):
        given["latent_net"] = net.latent_net(torch.ones_like(z), first)
    for part, found in given.items():
        if not found.abs().max() < FAR_OUT:
            raise ValueError(
                f"numbers that are not finite, or above {FAR_OUT:g}, come out of its {part}: its "
                "weights are too large"
            )


def _place(extra: Extra, dims: int) -> tuple[Tensor, Tensor]:
    """Center and spread of the codes; 0 and 1 where nobody measured them."""
    found = {"conds_mean": extra.mean, "conds_std": extra.std}
    for name, value in found.items():
        if value is not None and value.shape != (dims,):
            raise ValueError(f"{name} has {len(value)} numbers, not {dims} as codes have")
    if (extra.mean is None) != (extra.std is None):
        raise ValueError("only one of conds_mean and conds_std")
    if extra.mean is None or extra.std is None:
        return torch.zeros(dims), torch.ones(dims)
    if (extra.std < 0).any() or not extra.std.any():
        raise ValueError("conds_std is negative, or nothing but 0")
    return extra.mean, extra.std
