"""Read configs and networks from a model folder of the library diffusers.

Weights are read only from safetensors, and only classes that the caller names are built. No code in
a folder is executed.
"""

import contextlib
import os
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cfxnb.core import validate
from cfxnb.core.disk import NOTHING, cause, given_path, kind_of, read_json, shown
from cfxnb.spaces.checkpoints import hub, safe_loading
from cfxnb.spaces.checkpoints.configs import (
    check_fields,
    check_fit,
    declared,
    declared_defaults,
    suspects,
)

STEM = "diffusion_pytorch_model"  # name of the weight files of diffusers
HERE = "."  # part that stands for the folder itself, in which some models keep their network
NAMES = ("*.json", "*.txt", "spiece.model", "tokenizer.model", *(
    f"{s}{e}" for s in (STEM, "model") for e in (".safetensors", "-*-of-*.safetensors")
))  # fmt: skip
WRONG = ("missing", "unexpected", "mismatched")
REMEDY = "save it again with save_pretrained(folder, safe_serialization=True)"


class InvalidPart(ValueError):
    """Raised if a part of a model, such as its U-Net, can't be used.

    ``naming_path`` adds the path of the model to the error message.
    """


@contextlib.contextmanager
def naming_path(path: str | os.PathLike, wanted: str) -> Iterator[None]:
    """Return a context that turns an InvalidPart error into a ValueError that names ``path``."""
    try:
        yield
    except InvalidPart as error:
        raise ValueError(f"path: expected {wanted}, got {shown(path)}: {error}") from None


def folder(
    path: Any, revision: str | None, wanted: str, parts: Collection[str], remote: Any = None
) -> Path:
    """Return the folder of a model. If ``path`` is the name of a model on the hub, the model is
    downloaded first.

    Args:
        path: a local folder, or the name of a model on the Hugging Face hub, ``owner/name``.
        revision: hash of a commit on the hub, 40 digits, or None if ``path`` is a folder.
        wanted: description of the model in error messages.
        parts: names of the subfolders to download.
        remote: function that downloads a model. Default: ``huggingface_hub.snapshot_download``.

    Raises:
        ValueError, TypeError: if an argument is wrong.
    """
    place = given_path(path, wanted)
    validate.optional(_commit, revision, "revision")
    name, kind = os.fspath(path), kind_of(place)
    if kind == "a folder":
        if revision is not None:
            raise ValueError(f"revision: expected None for a folder, got {revision!r}")
        return place
    remote_name = isinstance(path, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", path)
    if kind not in NOTHING or not remote_name:
        raise ValueError(f"path: expected {wanted}, got {shown(name)}: {kind}")
    if revision is None:
        raise ValueError(
            f"revision: expected the 40 digits of a commit, since {path!r} is no folder here and "
            "the files under a name on the hub can change, got None"
        )
    here = [] if HERE not in parts else [each for each in NAMES if each != "*.txt"]
    within = [f"{part}/{each}" for part in parts if part != HERE for each in NAMES]
    patterns = ["model_index.json", "config.json", "*/config.json", *here, *within]
    try:
        return hub.download(name, revision, patterns, remote)
    except Exception as error:  # many kinds: no connection, no such model, no permission
        raise ValueError(
            f"path: expected {wanted}, got {path!r} at {revision}, which is neither in the cache "
            f"nor available from the hub ({cause(error)}); go online, or pass a folder"
        ) from None


def _commit(value: Any, name: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{40}", value):
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"{name}: expected the 40 digits of a commit, got {validate.describe(value)}")
    return value


def config_of(found: Path, file: str, plain: bool = False) -> dict[str, Any]:
    """Return the content of a JSON file, such as ``unet/config.json``.

    Args:
        plain: whether to refuse a byte order mark, which some editors write at the beginning of a
            file. diffusers and transformers can't read files with a byte order mark.
    """
    try:
        config = read_json(found / file)
        with (found / file).open("rb") as raw:
            if plain and raw.read(len(BOM_UTF8)) == BOM_UTF8:
                raise ValueError("a byte order mark at its beginning; save it as UTF-8 without it")
    except FileNotFoundError:
        raise InvalidPart(f"no {file} in it") from None
    except ValueError as error:
        raise InvalidPart(f"{file} is damaged ({cause(error, 80)})") from None
    if not isinstance(config, dict):
        raise InvalidPart(f"{file} is damaged (a {type(config).__name__})")
    return config


def network(
    found: Path, part: str, kinds: Collection[str], dtype: torch.dtype = torch.float32
) -> Callable[[], Any]:
    """Check that the config of a network of diffusers fits its weight files.

    Args:
        found: the folder of the model.
        part: name of the network's subfolder, such as "unet".
        kinds: names of the network classes that are allowed.
        dtype: type of the weights.

    Returns:
        A function that loads the network on the CPU.
    """
    config = config_of(found, f"{part}/config.json", plain=True)
    kind: Any = config.get("_class_name")
    if kind not in kinds:
        name = "the folder" if part == HERE else part
        raise InvalidPart(f"{name} is a {kind!r:.60}, not {' or '.join(kinds)}")
    if config.get("quantization_config") is not None:
        raise InvalidPart(
            f"{part}/config.json has a quantization_config; save it in float16 or float32"
        )
    files = weight_files(found, part, STEM)
    import diffusers  # not at the top, because the import takes seconds

    made = getattr(diffusers, kind)
    fields = declared(made)
    names = fitted(lambda: made.from_config(config), config, fields, files, part)
    if all(safe_loading.plain_name(name) == name for name in names):
        # With low_cpu_mem_usage, weights are never in memory twice, and never in another dtype.
        large = dtype != torch.float32
        kwargs: dict[str, Any] = {"torch_dtype": dtype, "low_cpu_mem_usage": large}
        return lambda: _float(pretrained(made, found, part, **kwargs), dtype)
    return lambda: _unwrapped(made, config, files, part).to(dtype)


def _float(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a network in float32. For another dtype, the library loads the network in ``dtype``,
    except for weights that it keeps in float32."""
    return net.float() if dtype == torch.float32 else net


def with_defaults(found: Path, part: str) -> dict[str, Any]:
    """Return the config of a network, with the defaults of its class for what it leaves out."""
    import diffusers  # not at the top, because the import takes seconds

    config = config_of(found, f"{part}/config.json", plain=True)
    return declared_defaults(getattr(diffusers, str(config.get("_class_name")))) | config


def unwrapped(files: list[Path]) -> dict[str, Tensor]:
    """Return all tensors of the files by name, without the prefixes of wrappers.

    Wrappers such as torch.compile add a prefix to the names of tensors.
    """
    held = {name: value for file in files for name, value in safe_loading.all_tensors(file).items()}
    return safe_loading.plain_names(held)


def _unwrapped(made: Any, config: dict[str, Any], files: list[Path], part: str) -> nn.Module:
    """Load a network from files in which a wrapper such as torch.compile changed the names."""
    with torch.random.fork_rng(devices=[]):
        net = made.from_config(config)
    text = net.load_state_dict(unwrapped(files), strict=False)
    _complete({"missing": text.missing_keys, "unexpected": text.unexpected_keys}, part)
    return require_finite(net, part)


def fitted(
    build: Callable[[], nn.Module],
    config: dict[str, Any],
    fields: dict[str, Any],
    files: list[Path],
    part: str,
) -> list[str]:
    """Check that a network can be built from its config, and that the files have its weights.

    Args:
        build: builds the network.
        fields: the type of each field of the config.

    Returns:
        The names of the tensors in the files.
    """
    file = f"{part}/config.json"
    checked_fields(config, fields, part)
    shapes: dict[str, tuple[int, ...]] = {}
    for each in files:
        shapes |= safe_loading.all_shapes(each)
    try:
        check_fit(build, safe_loading.plain_names(shapes))
    except Exception as error:  # many kinds, if config and weights don't fit
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        text = f"{kind}{cause(error)}; it has {suspects(config, fields, error)}"
        raise InvalidPart(f"{part} can't be built from {file} ({text})") from None
    return list(shapes)


def checked_fields(config: dict[str, Any], fields: dict[str, Any], part: str) -> None:
    """Check the types and ranges of the fields of a part's config, see ``configs.check_fields``."""
    try:
        check_fields(config, fields, f"{part}/config.json")
    except ValueError as error:
        raise InvalidPart(f"{part} can't be built: {error}") from None


def pretrained(
    kind: Any, found: Path, part: str, weights: dict[str, Tensor] | None = None, **kwargs: Any
) -> Any:
    """Load a network from a subfolder with ``from_pretrained``; check that no weight is missing.

    Args:
        kind: class of the network in diffusers or transformers.
        weights: tensors to use instead of those in the subfolder. Only classes of transformers
            accept ``weights``.
    """
    kwargs |= {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    if weights is not None:
        kwargs["state_dict"] = weights
    place = str(found / part) if weights is None else None
    try:
        net, text = kind.from_pretrained(place, **kwargs)
    except Exception as error:  # many kinds, if config and weights don't fit
        raise InvalidPart(
            f"{part} can't be built ({type(error).__name__}: {cause(error)})"
        ) from None
    _complete({what: text.get(f"{what}_keys", ()) for what in WRONG}, part)
    return require_finite(net, part)


def _complete(keys: dict[str, Any], part: str) -> None:
    for what, found in keys.items():
        names = [str(key) for key in found if "position_ids" not in str(key)]
        if names:
            raise InvalidPart(f"{part} has {len(names)} {what} tensors, such as {min(names)[:80]}")


def require_finite(net: nn.Module, part: str) -> nn.Module:
    """Return the network. Raise InvalidPart if a weight is NaN or infinite."""
    for name, value in net.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise InvalidPart(f"{part} has NaN or infinity in {name[:80]}")
    return net


def tensor(found: Path, part: str, name: str) -> Tensor | None:
    """Return one tensor of a subfolder in float32, or None if there is no such float tensor."""
    for file in weight_files(found, part, STEM):
        with safe_loading.opened(file) as content:
            for key in content.keys():  # noqa: SIM118 (not a dict)
                if safe_loading.plain_name(key) == name:
                    value = content.get_tensor(key)
                    return value.float() if value.is_floating_point() else None
    return None


def weight_files(found: Path, part: str, stem: str) -> list[Path]:
    """Return the paths of a part's weight files. Check that the files hold readable floats."""
    here, index = found / part, f"{stem}.safetensors.index.json"
    names = [f"{stem}.safetensors"]
    # If there are both an index and a file, diffusers reads the index, transformers the file.
    if kind_of(here / index) == "a file" and (stem == STEM or not (here / names[0]).is_file()):
        places = config_of(found, f"{part}/{index}").get("weight_map")
        names = sorted({str(n) for n in places.values()} if isinstance(places, dict) else [])
        if not names or any(Path(name).name != name for name in names):
            raise InvalidPart(f"{part}/{index} is damaged (no names of files)")
    for name in names:
        if (kind := kind_of(here / name)) in NOTHING:
            others = sorted(f.name for f in here.glob("*") if f.suffix not in (".json", ".txt"))
            has = (
                f"only {', '.join(others)[:120]}; {REMEDY}"
                if others
                else "nor any other weight file"
            )
            raise InvalidPart(f"no {part}/{name} in it, {has}")
        try:
            if kind != "a file":
                raise ValueError(kind)
            with safe_loading.opened(here / name) as content:
                for key in content.keys():  # noqa: SIM118 (not a dict)
                    dtype = str(content.get_slice(key).get_dtype())
                    if not dtype.startswith(("F", "BF")) and "position_ids" not in key:
                        raise ValueError(f"{key[:60]} holds {dtype} instead of floats")
        except (SafetensorError, ValueError, OSError) as error:
            raise InvalidPart(
                f"{part}/{name} is damaged ({cause(error, 80)}); download it again"
            ) from None
    return [here / name for name in names]
