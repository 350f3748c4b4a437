"""Read StyleGAN2 checkpoints of three formats as one state dict.

- NVIDIA's ``.pkl`` (StyleGAN2-ADA, PyTorch). This package uses the same names of weights as
  StyleGAN2-ADA.
- The ``.pt`` of rosinality's code on GitHub, which has other names for the weights.
- ``.safetensors`` with the state dict of ``cfxnb.nets.stylegan2.Generator``.

No code in a file is executed. Check the licence of a checkpoint before you use it.
"""

import os
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from cfxnb.nets.stylegan2 import Generator
from cfxnb.spaces.checkpoints import safe_loading
from cfxnb.spaces.checkpoints.configs import at_most
from cfxnb.spaces.checkpoints.safe_pickle import MODULE, Call, read_pickle

SIDES = [4 * 2**i for i in range(10)]
MODULES = 1000  # largest number of modules; known generators have about sixty
WIDEST = 8192  # largest dimension of z and w; known generators have 512
OPTIONAL = ("mapping.w_avg", ".noise_const")  # can be computed or drawn again
WANTED = "a StyleGAN2 generator in NVIDIA's .pkl, rosinality's .pt or .safetensors"

#: Ends of names in rosinality's files -> ends of names here.
PARTS = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "activate.bias": "bias",
    "bias": "bias",
    "noise.weight": "noise_strength",
    "conv.blur.kernel": "resample_filter",
    "upsample.kernel": "resample_filter",
}


def read_checkpoint(path: str | os.PathLike) -> dict[str, Tensor]:
    """Return the weights of the averaged generator in a checkpoint, without executing its code.

    Args:
        path: a file of at most 2 GiB. The first bytes of the file, not its name, decide which
            format is read.

    Returns:
        float32 tensors on the CPU with the names and shapes of ``Generator``. The tensors
        ``mapping.w_avg`` and ``noise_const`` are missing if they are not in the file, as in
        rosinality's training files.

    Raises:
        ValueError, TypeError: if the file is not a StyleGAN2 checkpoint, is damaged, or would
            execute code. The error message begins with "path:".
    """
    with safe_loading.weight_file(path, WANTED) as (file, content, kind):
        found: Iterable[tuple[str, Any]]
        if kind == "safetensors":
            found = safe_loading.all_tensors(file).items()
        elif kind == "torch":
            found = _from_rosinality(safe_loading.torch_load(content))
        else:
            found = _from_nvidia(read_pickle(content))
        return _fitted(_named(found))


def architecture(state: dict[str, Tensor]) -> dict[str, Any]:
    """Return the arguments of the ``Generator`` that fits the weights.

    Raises:
        ValueError: if no ``Generator`` fits the weights.
    """
    widths = []
    try:
        for side in SIDES:
            if f"synthesis.b{side}.conv1.weight" in state:
                widths.append(state[f"synthesis.b{side}.conv1.weight"].shape[-4])
        layers = 0
        while f"mapping.fc{layers}.weight" in state:
            layers += 1
        w_dim, z_dim = state["mapping.fc0.weight"].shape
        colours = state["synthesis.b4.torgb.weight"].shape[-4]
    except (KeyError, IndexError, ValueError):
        names = sorted({key.split(".")[0] for key in state})[:8]
        raise ValueError(f"another network, with parts {names}") from None
    if max(z_dim, w_dim) > WIDEST:
        raise ValueError(f"latent spaces of {z_dim} and {w_dim} numbers, more than {WIDEST}")
    sizes = {"z_dim": z_dim, "w_dim": w_dim, "mapping_layers": layers, "colours": colours}
    return {"channels": widths, **sizes}


def _from_rosinality(read: Any) -> Iterable[tuple[str, Any]]:
    state = _part(read, "g_ema")
    for key, value in state.items():
        yield _renamed(safe_loading.plain_name(str(key))), value
    if isinstance(read.get("latent_avg"), Tensor):
        yield "mapping.w_avg", read["latent_avg"]


def _renamed(key: str) -> str:
    """Translate rosinality's name of a weight into the name that ``Generator`` uses.

    Unknown names are returned unchanged. ``_fitted`` refuses such names.
    """
    if dense := re.fullmatch(r"style\.([1-9]\d?)\.(weight|bias)", key):
        return f"mapping.fc{int(dense[1]) - 1}.{dense[2]}"
    if key == "input.input":
        return "synthesis.b4.const"
    if noise := re.fullmatch(r"noises\.noise_(\d\d?)", key):
        i = int(noise[1]) + 1  # as if 4x4 had two layers, like every other resolution
        return f"synthesis.b{4 << i // 2}.conv{i % 2}.noise_const"
    parts = "|".join(map(re.escape, PARTS))
    layer = re.fullmatch(rf"(conv1|to_rgb1|convs\.(\d\d?)|to_rgbs\.(\d\d?))\.({parts})", key)
    if layer is None:
        return key
    name, conv, rgb, part = layer.groups()
    if conv is not None:
        block, inner = 1 + int(conv) // 2, f"conv{int(conv) % 2}"
    elif rgb is not None:
        block, inner = 1 + int(rgb), "torgb"
    else:
        block, inner = 0, "conv1" if name == "conv1" else "torgb"
    return f"synthesis.b{4 << block}.{inner}.{PARTS[part]}"


def _from_nvidia(read: Any) -> Iterable[tuple[str, Any]]:
    waiting = [("", _part(read, "G_ema", Call))]
    for _ in range(MODULES):
        if not waiting:
            return
        prefix, module = waiting.pop()
        tensors, parts = _inside(module)
        for name, note in tensors.items():
            if note is not None:
                yield f"{prefix}{name}", safe_loading.tensor(note)
        waiting += [(f"{prefix}{name}.", part) for name, part in parts.items()]
        if len(waiting) > MODULES or len(prefix) > MODULES:
            break
    # A module may contain itself, or occur a thousand times.
    raise ValueError(f"a network of more than {MODULES} modules")


def _inside(module: Any) -> tuple[dict, dict]:
    """Return the tensors and the submodules of one pickled module."""
    match module:
        case Call(
            name=str(name),
            args=(
                {
                    "state": {
                        "_parameters": dict(parameters),
                        "_buffers": dict(buffers),
                        "_modules": dict(parts),
                    }
                },
            ),
        ) if name == MODULE:
            return {**parameters, **buffers}, parts
    raise ValueError("an entry that is no module")


def _part(read: Any, name: str, kind: type = dict) -> Any:
    if not isinstance(read, dict):
        raise ValueError(f"a {type(read).__name__} instead of a dict with {name!r}")
    if not isinstance(read.get(name), kind):
        raise ValueError(f"no {name!r} in it, only {[str(key)[:40] for key in read][:8]}")
    return read[name]


def _named(found: Iterable[tuple[str, Any]]) -> dict[str, Tensor]:
    """Check each tensor, and convert it to float32.

    Resampling filters are checked and then dropped, because all supported generators use the same
    filter.
    """
    state: dict[str, Tensor] = {}
    total = 0
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    for key, value in ((safe_loading.plain_name(key), value) for key, value in found):
        try:
            if not safe_loading.checked(value).is_floating_point():
                raise ValueError(f"of type {value.dtype} instead of floats")
            value = value.detach().float()
        except ValueError as error:
            raise ValueError(f"{key[:80]} is {error}") from None
        total += value.numel() * value.element_size()
        if total > safe_loading.LARGEST:
            raise ValueError(f"tensors of more than {safe_loading.LARGEST // 2**30} GiB together")
        if not value.isfinite().all():
            raise ValueError(f"{key[:80]} has NaN or infinity")
        if key.startswith("mapping.embed."):
            raise ValueError("a class-conditional generator, which is not supported")
        if not key.endswith(".resample_filter"):
            if key in state:
                raise ValueError(f"two tensors that are called {key[:80]}")
            state[key] = value
        elif value.shape != (4, 4) or (value / value.sum() - line.outer(line)).abs().max() > 1e-4:
            raise ValueError(f"{key[:80]} is another filter than [1, 3, 3, 1]")
    return state


def _fitted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Reshape the tensors of a file to the shapes in ``Generator``.

    Tensors in files may have more or fewer axes of length 1. Other differences are refused.
    """
    with at_most(len(state)):  # shapes without memory
        wanted = Generator(**architecture(state)).state_dict()
    missing, unknown = set(wanted) - set(state), set(state) - set(wanted)
    for end in OPTIONAL:  # all or none: a file with only some of them is damaged
        kept = {key for key in wanted if key.endswith(end)}
        missing -= kept if kept <= missing else set()
    for text, names in (("lacks", missing), ("has unknown", unknown)):
        if names:
            shown = ", ".join(name[:60] for name in sorted(names)[:3])
            raise ValueError(f"it {text} {len(names)} of the generator's tensors, such as {shown}")
    for key, value in state.items():
        got, expected = ([n for n in t.shape if n != 1] for t in (value, wanted[key]))
        if got != expected:
            raise ValueError(
                f"{key} has shape {tuple(value.shape)}, not {tuple(wanted[key].shape)}"
            )
    return {key: value.reshape(wanted[key].shape).contiguous() for key, value in state.items()}
