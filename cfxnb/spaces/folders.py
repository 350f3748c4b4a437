"""Parts of a model in a folder of diffusers: configs, and networks with their weights.

Weights come from safetensors alone, and only classes that the caller names are built. No code in a
folder is looked at.
"""

import contextlib
import json
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cfxnb import validate

STEM = "diffusion_pytorch_model"  # what diffusers calls files of weights
NAMES = ("*.json", "*.txt", *(f"{s}{e}" for s in (STEM, "model") for e in (
    ".safetensors", "-*-of-*.safetensors")))  # fmt: skip
REMEDY = "save it anew by save_pretrained(folder, safe_serialization=True)"


class Unfit(ValueError):
    """What is wrong with a part; ``told_of`` adds the path that was given."""


@contextlib.contextmanager
def told_of(path: str | os.PathLike, wanted: str) -> Iterator[None]:
    """What is unfit inside becomes a message about ``path``."""
    try:
        yield
    except Unfit as error:
        name = os.fspath(path)
        raise ValueError(f"path: expected {wanted}, got {name!r:.80}: {error}") from None


def folder(
    path: Any, revision: str | None, wanted: str, parts: Collection[str], remote: Any = None
) -> Path:
    """The folder that is meant, downloaded if it is one on the hub.

    Args:
        path: a folder, or ``owner/name`` on the hub.
        revision: the 40 digits of a commit, for the hub alone.
        wanted: what messages call the model.
        parts: subfolders to download.
        remote: what downloads, as ``huggingface_hub.snapshot_download``, the default.

    Raises:
        ValueError, TypeError: naming ``path`` or ``revision``.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path: expected {wanted}, got {type(path).__name__}")
    validate.optional(_commit, revision, "revision")
    name = os.fspath(path)
    if Path(path).is_dir():
        if revision is not None:
            raise ValueError(f"revision: expected None for a folder, got {revision!r}")
        return Path(path)
    if not isinstance(path, str) or not re.fullmatch(r"[\w.-]+/[\w.-]+", path):
        what = "a file" if Path(path).is_file() else "nothing there"
        raise ValueError(f"path: expected {wanted}, got {name!r:.80}: {what}")
    if revision is None:
        raise ValueError(
            f"revision: expected the 40 digits of a commit, since {path!r} is no folder here and "
            "what a name on the hub stands for can change, got None"
        )
    patterns = ["model_index.json", *(f"{part}/{each}" for part in parts for each in NAMES)]
    if remote is None:
        from huggingface_hub import snapshot_download as remote
    try:
        return Path(remote(path, revision=revision, allow_patterns=patterns))
    except Exception as error:  # many kinds: no connection, no such model, no permission
        raise ValueError(
            f"path: expected {wanted}, got {path!r} at {revision}, which is neither in the cache "
            f"nor to be had from the hub ({type(error).__name__}); connect, or give a folder"
        ) from None


def _commit(value: Any, name: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{40}", value):
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"{name}: expected the 40 digits of a commit, got {validate.told(value)}")
    return value


def config_of(found: Path, file: str) -> dict[str, Any]:
    """What a JSON file, such as ``unet/config.json``, says."""
    try:
        config = json.loads((found / file).read_text())
    except FileNotFoundError:
        raise Unfit(f"no {file} in it") from None
    except (OSError, ValueError) as error:
        raise Unfit(f"{file} is damaged ({str(error)[:80]})") from None
    if not isinstance(config, dict):
        raise Unfit(f"{file} is damaged (a {type(config).__name__})")
    return config


def network(found: Path, part: str, kinds: Collection[str]) -> Any:
    """A network of diffusers, in float32 on the CPU, with every weight from its file.

    Args:
        part: name of the subfolder.
        kinds: classes that it may be.
    """
    kind: Any = config_of(found, f"{part}/config.json").get("_class_name")
    if kind not in kinds:
        raise Unfit(f"{part} is a {kind!r:.60}, not {' or '.join(kinds)}")
    _sound(found, part, STEM)
    knobs: dict[str, Any] = {"torch_dtype": torch.float32, "low_cpu_mem_usage": False}
    import diffusers  # here, since importing it takes seconds

    return pretrained(getattr(diffusers, kind), found, part, **knobs)


def pretrained(kind: Any, found: Path, part: str, stem: str | None = None, **knobs: Any) -> Any:
    """What a class of diffusers or transformers makes of a subfolder, all of its weights found.

    Args:
        stem: beginning of the names of its files, which are then looked at first.
    """
    if stem is not None:
        _sound(found, part, stem)
    knobs |= {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    try:
        net, told = kind.from_pretrained(str(found / part), **knobs)
    except Exception as error:  # many kinds, all of them for a config that the weights don't fit
        reason = " ".join(str(error).split())[:160]
        raise Unfit(f"{part} can't be built ({type(error).__name__}: {reason})") from None
    for what in ("missing", "unexpected", "mismatched"):
        names = [str(key) for key in told.get(f"{what}_keys", ()) if "position_ids" not in str(key)]
        if names:
            raise Unfit(f"{part} has {len(names)} {what} tensors, such as {min(names)[:80]}")
    return whole(net, part).float()


def whole(net: nn.Module, part: str) -> nn.Module:
    """The same, unless it has a number that is none."""
    for name, value in net.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise Unfit(f"{part} has NaN or infinity in {name[:80]}")
    return net


def tensors(found: Path, part: str) -> dict[str, Tensor]:
    """What is in the file of weights of a subfolder."""
    (file,) = _sound(found, part, STEM)
    with safe_open(file, "pt") as opened:
        return {k: opened.get_tensor(k) for k in opened.keys()}  # noqa: SIM118 (not a dict)


def _sound(found: Path, part: str, stem: str) -> list[Path]:
    """The files of weights of a part, seen to be there and to open."""
    here, index = found / part, f"{stem}.safetensors.index.json"
    names = [f"{stem}.safetensors"]
    if not (here / names[0]).is_file() and (here / index).is_file():
        places = config_of(found, f"{part}/{index}").get("weight_map")
        names = sorted({str(n) for n in places.values()} if isinstance(places, dict) else [])
        if not names or any(Path(name).name != name for name in names):
            raise Unfit(f"{part}/{index} is damaged (no names of files)")
    for name in names:
        if not (here / name).is_file():
            others = sorted(f.name for f in here.glob("*") if f.suffix not in (".json", ".txt"))
            has = f"only {', '.join(others)[:120]}; {REMEDY}" if others else "nor anything like it"
            raise Unfit(f"no {part}/{name} in it, {has}")
        try:
            with safe_open(here / name, "pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            told = str(error)[:80]
            raise Unfit(f"{part}/{name} is damaged ({told}); get it again") from None
    return [here / name for name in names]
