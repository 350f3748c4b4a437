"""Files of results: ``Counterfactuals.save`` writes them, ``load`` reads and checks them.

Results are stored as safetensors files. Statuses and the record of the call are JSON in the header
of the file. The header also has a hash of the whole content, so that ``load`` refuses a file that
was altered after it was saved.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cfxnb.core import types, validate
from cfxnb.core.disk import cause, given_path, kind_of, parsed, shown, writing
from cfxnb.core.modes import standard_modes
from cfxnb.core.types import Code

ENDING = ".safetensors"
WANTED = "saved counterfactuals"
IMAGES = ("original", "image", "reconstruction")
LOGITS = ("logits_before", "logits_after")
TENSORS = (*IMAGES, *LOGITS, "target")
CODES = tuple(f"{name}.{part}" for name in ("code_before", "code_after") for part in ("z", "aux"))
# Files of version 0.1 have other names; they are read for one version more.
OLDER_TENSORS = {"before": "logits_before", "after": "logits_after"} | {
    f"{old}.{part}": f"{new}.{now}"
    for old, new in (("start", "code_before"), ("code", "code_after"))
    for part, now in (("z", "z"), ("rest", "aux"))
}
OLDER_STATUSES = {
    "exhausted": types.NOT_FOUND,
    "reconstruction_flips": types.RECONSTRUCTION_IS_TARGET,
}
GROUPS = ("cost", "trace")
DECIDED = (types.FLIPPED, types.ALREADY_TARGET, types.RECONSTRUCTION_IS_TARGET)
DEEPEST = 400  # how deep the JSON of a record may be nested; Python reads about 900
SLACK = 1e-4  # how far rounding may move images out of [0, 1]


def with_ending(path: Any, ending: str = ENDING) -> Path:
    """Return the path, with the ending added to the file name if it is missing.

    For example, ``cf_0.5`` becomes ``cf_0.5.safetensors``.
    """
    given = given_path(path)
    if str(os.fspath(path)).endswith("/"):
        raise ValueError(f"path: expected the name of a file, got the folder {shown(path)}")
    if given.name in ("", ".", ".."):
        raise ValueError(f"path: expected the name of a file, got {shown(path)}")
    return given if given.suffix == ending else given.with_name(given.name + ending)


@standard_modes
def write(fields: dict[str, Any], path: Any) -> Path:
    """Write the fields of a Counterfactuals to a file, and return the path of the file.

    Raises:
        ValueError, TypeError: If a field is not valid, or if the file cannot be written. The error
            message names the field or ``path``.
    """
    place = with_ending(path)
    if place.name != given_path(path).name and kind_of(given_path(path)) == "a folder":
        raise ValueError(
            f"path: expected a file, got the folder {shown(path)}; give a name in it, or one "
            f"that ends with {ENDING}"
        )
    check(fields)
    _check_decisions(fields)
    tensors = {name: fields[name] for name in TENSORS}
    for group in GROUPS:
        tensors |= {f"{group}.{name}": value for name, value in fields[group].items()}
    for name in ("code_before", "code_after"):
        if (code := fields[name]) is not None:
            tensors[f"{name}.z"] = code.z
            if code.aux is not None:
                tensors[f"{name}.aux"] = code.aux
    texts = {name: _json(fields[name], name) for name in ("status", "made_by")}
    ready = {name: plain_copy(value) for name, value in tensors.items()}
    with writing(place) as partial:
        save_file(ready, partial, metadata={**texts, "sha256": digest(ready, texts)})
    return place


@standard_modes
def read(path: Any) -> dict[str, Any]:
    """Read a results file, check all fields of its Counterfactuals, and return them.

    Raises:
        ValueError, TypeError: If the file or a field is missing, damaged or altered. The error
            message names ``path`` and the field.
    """
    place = with_ending(path)
    try:
        if (kind := kind_of(place)) != "a file":
            raise ValueError(kind)
        if not place.stat().st_size:
            raise ValueError("an empty file")
        with place.open("rb"):  # safetensors calls a file that cannot be read missing
            pass
        tensors, texts = _opened(place)
        fields = _fields(*_renamed(tensors, texts))
        check(fields)
        _check_decisions(fields)
        stated = texts.pop("sha256", None)  # results of earlier versions have none
        if stated is not None and stated != digest(tensors, texts):
            raise ValueError("it was altered after it was saved; restore it, or run it again")
        return fields
    except (ValueError, TypeError, SafetensorError, OSError, RuntimeError) as error:
        why = cause(error, 300)
        raise ValueError(f"path: expected {WANTED}, got {shown(place)}: {why}") from None


def check_layout(fields: dict[str, Any]) -> dict[str, Tensor]:
    """Check the types, rows and axes of the fields of a result, and return all of its tensors.

    Raises:
        ValueError, TypeError: If a field is not valid.
    """
    status = fields["status"]
    _must(isinstance(status, tuple), "status", "a list", type(status).__name__)
    named: dict[str, Any] = {name: fields[name] for name in TENSORS}
    for name in ("code_before", "code_after"):
        if (code := fields[name]) is not None:
            _must(isinstance(code, Code), name, "a Code or None", type(code).__name__)
            parts = {f"{name}.z": code.z, f"{name}.aux": code.aux}
            named |= {part: value for part, value in parts.items() if value is not None}
    for group in GROUPS:
        _must(isinstance(fields[group], dict), group, "a dict", type(fields[group]).__name__)
        for name, value in fields[group].items():
            _must(isinstance(name, str), group, "texts as names", f"{name!r:.40}")
            named[f"{group}.{name}"] = value
    for name, value in named.items():
        _must(isinstance(value, Tensor), name, "a torch tensor", type(value).__name__)
        wanted = f"{len(status)} rows, as many as statuses"
        _must(value.shape[:1] == (len(status),), name, wanted, f"shape {tuple(value.shape)}")
    for name in TENSORS:
        value, dims = fields[name], 4 if name in IMAGES else 2 if name in LOGITS else 1
        right = value.ndim == dims and value.layout == torch.strided
        right = right and value.is_floating_point() == (dims > 1)
        wanted = f"{'floats' if dims > 1 else 'int64'} with {dims} axes"
        _must(right, name, wanted, f"{value.dtype} of shape {tuple(value.shape)}")
    check_record(fields["made_by"])
    return named


def check(fields: dict[str, Any]) -> None:
    """Check that the fields of a result are valid and consistent.

    Raises:
        ValueError, TypeError: If a field is not valid.
    """
    for name, value in check_layout(fields).items():
        came = f"{value.dtype}, {value.layout} on {value.device}"
        _must(validate.is_plain(value), name, "a plain tensor with numbers", came)
    status, target = fields["status"], fields["target"]
    unknown = [each for each in status if not (isinstance(each, str) and each in types.STATUSES)]
    _must(not unknown, "status", f"some of {list(types.STATUSES)}", f"{unknown[:1]!r:.60}")
    for name in IMAGES:
        _check_images(fields[name], name, fields["original"], ~_has(status, types.NOT_FINITE))
    for name in LOGITS:
        _check_logits(fields[name], name, fields["logits_before"], _has(status, *DECIDED))
    _must(target.dtype == torch.int64, "target", "int64", target.dtype)
    classes = fields["logits_before"].shape[1]
    if len(target):
        low, high = target.min().item(), target.max().item()
        right = low >= 0 and high < classes
        _must(right, "target", f"classes from 0 to {classes - 1}", f"{low} to {high}")
    for name, value in fields["cost"].items():
        _must(value.ndim == 1, f"cost.{name}", f"shape ({len(status)},)", tuple(value.shape))
        # NaN is not at least 0 either.
        right = value.dtype != torch.bool and not value.is_complex() and bool((value >= 0).all())
        _must(right, f"cost.{name}", "numbers that are 0 or more", "others")


def check_record(value: Any, name: str = "made_by") -> None:
    """Check the entries of a record that are used later, for example when results are joined.

    Raises:
        ValueError, TypeError: If an entry is not valid.
    """
    if not isinstance(value, dict):
        raise TypeError(f"{name}: expected a dict, got {type(value).__name__}")
    made_by = value.get("function", "")
    _must(isinstance(made_by, str), f"{name}, function", "a text", f"{made_by!r:.40}")
    for entry in ("seconds", "first_row"):
        number = value.get(entry, 0)
        right = isinstance(number, Real) and not isinstance(number, bool)
        right = right and 0 <= number < math.inf
        _must(right, f"{name}, {entry}", "a number that is 0 or more", f"{number!r:.40}")
    parts = value.get("parts", [])
    _must(isinstance(parts, list), f"{name}, parts", "a list of records", type(parts).__name__)
    for i, part in enumerate(parts):
        _must(isinstance(part, dict), f"{name}, parts[{i}]", "a dict", type(part).__name__)
        check_record({k: v for k, v in part.items() if k != "parts"}, f"{name}, parts[{i}]")


def digest(tensors: dict[str, Tensor], texts: dict[str, str]) -> str:
    """Return one hash of all tensors and texts in a results file."""
    total = hashlib.sha256(json.dumps(sorted(texts.items())).encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode("utf-8", "replace"))
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _must(right: bool, name: str, wanted: str, came: Any) -> None:
    if not right:
        raise ValueError(f"{name}: expected {wanted}, got {came}")


def _check_images(value: Tensor, name: str, like: Tensor, sound: Tensor) -> None:
    """Check that images have the shape of ``like``, and are in [0, 1] where ``sound`` is True."""
    right = all(value.shape[1:]) and value.shape == like.shape
    wanted = "shape (n, c, h, w)" if name == "original" else f"shape {tuple(like.shape)}"
    _must(right, name, wanted, tuple(value.shape))
    pixels = value.detach()[sound.to(value.device)]
    if pixels.numel():
        low, high = pixels.min().item(), pixels.max().item()
        right = low >= -SLACK and high <= 1 + SLACK  # NaN makes both of them NaN
        came = "NaN" if math.isnan(low) else f"{low:.4g} to {high:.4g}"
        _must(right, name, "values in [0, 1]", came)


def _check_logits(value: Tensor, name: str, like: Tensor, decided: Tensor) -> None:
    """Check the shape of logits, and that they are not NaN or inf where ``decided`` is True."""
    right = value.shape[1] > 1 and value.shape == like.shape
    wanted = "(n, k) with k >= 2" if name == "logits_before" else tuple(like.shape)
    _must(right, name, f"shape {wanted}", tuple(value.shape))
    # Minus infinity is a probability of 0. Other infinite numbers allow no decision.
    values = value.detach()[decided.to(value.device)]
    broken = bool(values.isnan().any() or values.isposinf().any())
    _must(not broken, name, f"numbers where the status is one of {DECIDED}", "NaN or infinity")


def _check_decisions(fields: dict[str, Any]) -> None:
    """Check that each status agrees with the logits, because flip rates count statuses."""
    status = fields["status"]
    already, flipped = _has(status, types.ALREADY_TARGET), _has(status, types.FLIPPED)
    searched = ~_has(status, types.ALREADY_TARGET, types.STOPPED, types.NOT_FINITE)
    was, now = (_margin(fields[name], fields["target"]) for name in LOGITS)
    for wrong, wanted in (
        (
            already & (was < 0),
            f"{types.ALREADY_TARGET!r} only where logits_before predicts the target",
        ),
        (searched & (was > 0), f"{types.ALREADY_TARGET!r} where logits_before predicts the target"),
        (flipped & (now < 0), f"{types.FLIPPED!r} only where logits_after predicts the target"),
    ):
        if wrong.any():
            row = int(wrong.nonzero()[0])
            _must(False, "status", wanted, f"{status[row]!r} in row {row}")


def _has(status: Sequence[str], *names: str) -> Tensor:
    """Return which samples have one of the statuses ``names``, bool (n,) on the CPU."""
    return torch.tensor([each in names for each in status], dtype=torch.bool, device="cpu")


def _margin(logits: Tensor, target: Tensor) -> Tensor:
    """Return the target's logit minus the largest other logit, (n,) on the CPU."""
    own = torch.arange(logits.shape[1], device="cpu") == target.detach().cpu()[:, None]
    plain = logits.detach().cpu().double()
    others = plain.masked_fill(own, -torch.inf).amax(1)
    return plain.masked_fill(~own, -torch.inf).amax(1) - others


def _opened(place: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Check the names in a results file, and return its tensors and the texts of its header."""
    with safe_open(place, "pt") as file:
        texts, names = file.metadata() or {}, set(file.keys())
        kind = texts.get("kind", "Counterfactuals")
        _must(kind == "Counterfactuals", "kind", "counterfactuals", f"a saved {kind:.60}")
        today = {OLDER_TENSORS.get(name, name) for name in names}
        known = {*TENSORS, *CODES} | {n for n in today if n.split(".")[0] in GROUPS and "." in n}
        with_aux = [n for n in ("code_before", "code_after") if f"{n}.aux" in today]
        for name in (*TENSORS, *(f"{n}.z" for n in with_aux)):
            _must(name in today, name, "a tensor", "nothing of this name")
        for name in ("status", "made_by"):
            _must(name in texts, name, "JSON in the header", "nothing of this name")
        _must(today <= known, f"{min(today - known, default='')!r:.60}", "nothing", "a tensor")
        _must(len(today) == len(names), "tensors", "each once", "one under two names")
        return {name: file.get_tensor(name) for name in names}, texts


def _renamed(tensors: dict[str, Tensor], texts: dict[str, str]) -> tuple[dict, dict]:
    """Rename the tensors and statuses of a file that version 0.1 of cfxnb wrote."""
    if not OLDER_TENSORS.keys() & tensors.keys():
        return tensors, texts
    status = texts["status"]
    for old, new in OLDER_STATUSES.items():
        status = status.replace(f'"{old}"', f'"{new}"')
    tensors = {OLDER_TENSORS.get(name, name): value for name, value in tensors.items()}
    made_by = texts["made_by"].replace('{"method": "', '{"function": "')
    return tensors, texts | {"status": status, "made_by": made_by}


def _fields(tensors: dict[str, Tensor], texts: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {name: tensors[name] for name in TENSORS}
    for name in ("code_before", "code_after"):
        z, aux = tensors.get(f"{name}.z"), tensors.get(f"{name}.aux")
        try:
            found[name] = None if z is None else Code(z, aux)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}.{error}") from None
    for group in GROUPS:
        named = [name for name in tensors if name.startswith(f"{group}.")]
        found[group] = {name.removeprefix(f"{group}."): tensors[name] for name in named}
    for name in ("status", "made_by"):
        try:
            found[name] = parsed(texts[name], DEEPEST)
        except ValueError as error:
            raise ValueError(f"{name}: expected JSON, got {cause(error)}") from None
    if isinstance(found["status"], list):
        found["status"] = tuple(found["status"])
    return found


def _json(value: Any, name: str) -> str:
    """Return a value as JSON text, and check that the text can be read again."""
    try:
        text = json.dumps(value)
        parsed(text, DEEPEST)
        return text
    except TypeError as error:
        raise TypeError(f"{name}: expected what JSON can hold, got others: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: expected what JSON can hold, got others: {error}") from None


def plain_copy(value: Tensor) -> Tensor:
    """Return a contiguous copy on the CPU, because safetensors refuses tensors that share memory.

    Lazy conjugates and negations of torch are evaluated.
    """
    plain = value.detach().cpu().resolve_conj().resolve_neg()
    return plain.clone(memory_format=torch.contiguous_format)
