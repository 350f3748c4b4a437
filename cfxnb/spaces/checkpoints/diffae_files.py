"""Read checkpoints of diffusion autoencoders.

- ``.ckpt`` files of Lightning from the official code, of an autoencoder or of its latent DDIM. We
  use the averaged (EMA) weights and ignore optimisers, callbacks and settings.
- ``.pt`` and ``.safetensors`` files with a state dict of ``DiffAE``.

No code in a file is executed, and no class that a file names is imported. Check the licence of a
checkpoint before you use it.
"""

import os
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.nets.diffae import DiffAE
from cfxnb.spaces.checkpoints import safe_loading
from cfxnb.spaces.checkpoints.diffae_config import architecture, network
from cfxnb.spaces.diffae import DiffusionAutoencoder

LARGEST = 8 * 2**30  # bytes of a file; a training file for 256 pixels has 2.5 GB
WEIGHTS = 4 * 2**30  # bytes of the weights used; the largest known have 1 GB
FAR_OUT = 1e12  # limit for codes and noise, which are about 1
TRAINERS = ("pytorch_lightning", "lightning", "lightning_fabric")
WANTED = "a diffusion autoencoder in Lightning's .ckpt, a state dict's .pt or .safetensors"
BESIDE = ("x_T", "conds_mean", "conds_std")
LATENT = "latent_net."


class Extra(NamedTuple):
    """Contents of a checkpoint besides the weights of the autoencoder.

    Attributes:
        latent: weights of the latent DDIM, named as in ``LatentNet``. ``latent`` is empty if the
            checkpoint has no latent DDIM.
        mean, std: mean and standard deviation of the training codes, (dims,), or None if unknown.
        size: height of the training images in pixels, or None if unknown.
        source: which weights were read: ``"ema_model"`` for averaged weights, ``"model"`` for the
            weights of the last training step, ``""`` if the file has only one set of weights.
    """

    latent: dict[str, Tensor]
    mean: Tensor | None
    std: Tensor | None
    size: int | None
    source: str


def read_checkpoint(path: str | os.PathLike) -> tuple[dict[str, Tensor], Extra]:
    """Return the weights in a checkpoint file without executing code in the file.

    Args:
        path: a file of at most 8 GiB. The first bytes of the file, not its name, decide which
            format is read. Only the necessary parts of the file are read.

    Returns:
        The weights of ``DiffAE`` without ``latent_net``, as float32 tensors on the CPU, and an
        ``Extra``. ``load_diffae`` checks that the weights are complete. ``read_checkpoint``
        doesn't.

    Raises:
        ValueError, TypeError: if the file is not a checkpoint of a diffusion autoencoder, is
            damaged, or would execute code. The error message begins with "path:".
    """
    with safe_loading.weight_file(path, WANTED, LARGEST) as (file, content, kind):
        if kind == "pickle":
            raise ValueError(f"a file that begins with {content.read(16)!r}")
        whole = (
            safe_loading.all_tensors(file)
            if kind == "safetensors"
            else safe_loading.torch_load(content, TRAINERS, file)
        )
        return _sorted(whole)


@standard_modes
def load_diffae(
    path: str | os.PathLike,
    *,
    device: str | torch.device | None = None,
    image_size: int | None = None,
    **kwargs: Any,
) -> DiffusionAutoencoder:
    """Load a checkpoint of a diffusion autoencoder as a space.

    No code in the file is executed. The architecture follows from the names and shapes of the
    weights. A checkpoint with a latent DDIM also contains the mean and standard deviation of the
    codes, and its space can ``sample``. Without a latent DDIM, the space has mean 0 and std 1 until
    ``space.fit(images)`` measures mean and std.

    Args:
        path: the checkpoint, at most 8 GiB: Lightning's ``.ckpt``, or a state dict as ``.pt`` or
            ``.safetensors``.
        device: device to run on. Default: CUDA or MPS if available, else the CPU.
        image_size: height of the training images in pixels. ``image_size`` is only used to check
            the checkpoint. The network takes images of any size that its levels can halve.
        **kwargs: arguments of ``DiffusionAutoencoder``, such as ``steps``.

    Warns:
        UserWarning: if a training file has no averaged weights. Without averaged weights, the
            function uses the weights of the last training step, which give worse images.

    Raises:
        ValueError, TypeError: if an argument is wrong, or if the file is damaged, is not a
            checkpoint of a diffusion autoencoder, or would execute code. Error messages about the
            file begin with "path:".
    """
    if image_size is not None:
        validate.count(image_size, "image_size", 1)
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
        # Twice the smallest height, because normalisation needs more than one number.
        _try_out(net, 2 ** max(len(config["mult"]), len(config["encoder_mult"])))
    except ValueError as error:
        if image_size is not None and str(error).startswith("image_size: "):
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


def _sorted(found: Any) -> tuple[dict[str, Tensor], Extra]:
    """Separate the weights of the autoencoder from the other contents of a checkpoint."""
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__} instead of a dict of tensors")
    named = safe_loading.plain_names({str(key): value for key, value in found.items()})
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
    """Return the averaged weights of a checkpoint, or the weights of the last training step.

    Names of averaged weights begin with "ema_model.", names of other weights with "model.".
    """
    for source in ("ema_model", "model"):
        prefix = f"{source}."
        weights = {k.removeprefix(prefix): v for k, v in named.items() if k.startswith(prefix)}
        if weights:
            return source, weights
    return "", {key: value for key, value in named.items() if key not in BESIDE}


def _floats(found: Mapping[str, Any]) -> dict[str, Tensor]:
    """Check that all tensors hold finite floats, and return float32 copies of them."""
    total = 0
    for key, value in found.items():
        try:
            total += 4 * safe_loading.checked(value).numel()
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
    """Add the second name of each shared layer, because safetensors stores such a layer once."""
    for key in [key for key in latent if ".linear_emb." in key]:
        twin = key.replace(".linear_emb.", ".cond_layers.1.")
        if not torch.equal(latent.setdefault(twin, latent[key]), latent[key]):
            raise ValueError(f"{LATENT}{key[:60]} and its second name {twin[:60]} differ")
    return latent


@torch.no_grad()
def _try_out(net: DiffAE, side: int) -> None:
    """Run the network on a small input, so that weights that are too large are found early."""
    x = torch.linspace(-1, 1, net.channels * side**2).view(1, net.channels, side, side)
    first = torch.tensor([0])
    z = net.encoder(x)
    outputs = {"encoder": z, "U-Net": net(x, first, z)}
    if hasattr(net, "latent_net"):
        outputs["latent_net"] = net.latent_net(torch.ones_like(z), first)
    for part, found in outputs.items():
        if not found.abs().max() < FAR_OUT:
            raise ValueError(
                f"numbers that are not finite, or above {FAR_OUT:g}, come out of its {part}: its "
                "weights are too large"
            )


def _place(extra: Extra, dims: int) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the codes, or 0 and 1 if both are unknown."""
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
