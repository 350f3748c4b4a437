"""Shipped weights: half-precision safetensors with a JSON card beside them."""

import hashlib
import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn

from cfxnb import spaces
from cfxnb.contrastive.edit_network import EditNetwork
from cfxnb.contrastive.attribute_edits import AttributeEdits
from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.core import locations as paths
from cfxnb.core import validate
from cfxnb.core.classifiers import wrap
from cfxnb.core.disk import cause, read_json, writing
from cfxnb.core.modes import standard_modes
from cfxnb.core.types import Code
from cfxnb.data.files import REMEDY, DamagedFileError, checked, manifest, record, whole
from cfxnb.nets import NETS
from cfxnb.spaces.checkpoints.configs import (
    LARGEST,
    check_fields,
    check_fit,
    declared,
    named_numbers,
    suspects,
)
from cfxnb.spaces.checkpoints.safe_loading import all_shapes, all_tensors

_NETS = {**NETS, "EditNetwork": EditNetwork}
ERROR = "mean squared error of reconstructions"  # in "quality"; methods compare with it
LARGEST_NUMBER = 1e15  # in a card
ALONE = ("Autoencoder", "VAE")  # spaces whose codes have no part beside ``mean``
ADAPTERS = ("Autoencoder", "Diffusion", "DiffusionAutoencoder", "VAE")

#: What every card has, and what the cards of each kind have besides.
CARD = {
    "kind": str,
    "net": str,
    "config": dict,
    "file": str,
    "summary": str,
    "parameters": int,
    "quality": dict,
    "licence": str,
}
KINDS: dict[str, dict[str, type]] = {
    "space": {"adapter": str},
    "classifier": {"class_names": list},
    "features": {},
    "reader": {"options": dict},
    "edits": {"contrasts": dict, "preserve_others": bool},
}


def names() -> list[str]:
    """Every shipped network by name, such as ``"digits/vae"``: those whose card is listed."""
    listed = sorted(manifest())
    return [
        name.removeprefix("weights/").removesuffix(".json")
        for name in listed
        if name.startswith("weights/") and name.endswith(".json")
    ]


def read_card(name: str) -> dict[str, Any]:
    """The card of one network.

    Raises:
        ValueError, TypeError: for an unknown name.
        DamagedFileError: if it is missing, truncated or altered.
    """
    file = f"weights/{_known(name)}.json"
    path = checked(file)
    with whole(f"data/{file}"):
        card = read_json(path)
        for key, kind in {**CARD, **KINDS[card["kind"]]}.items():
            if type(card[key]) is not kind:
                raise ValueError(f"{key} {card[key]!r:.40} instead of a {kind.__name__}")
        for field, number in named_numbers(card, ""):
            if not abs(number) <= LARGEST_NUMBER:
                raise ValueError(f"{field} {number!r:.40} instead of a finite number")
        error = card["quality"].get(ERROR, 1.0)
        if type(error) not in (int, float) or error <= 0:
            raise ValueError(f"quality, {ERROR} {error!r:.40} instead of a number above 0")
        return card


def cards() -> dict[str, dict[str, Any]]:
    """The card of every shipped network by name."""
    return {name: read_card(name) for name in names()}


def available() -> pd.DataFrame:
    """One row a shipped network: what it is, how large, and its measured quality.

    Raises:
        DamagedFileError: if a card is missing, truncated or altered.
    """
    rows = {
        name: {
            "kind": card["kind"],
            "what": card["summary"],
            "parameters": card["parameters"],
            "quality": "; ".join(f"{k} {v}" for k, v in card["quality"].items()),
            "licence": card["licence"],
        }
        for name, card in cards().items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


@standard_modes
def load(name: str, device: str | torch.device | None = None) -> Any:
    """A shipped network, ready to use, on ``device`` (default: the best there is).

    Returns:
        By its card's kind: a space (``encode``, ``decode``), a classifier (images -> logits), a
        ``FactorReader``, the ``AttributeEdits`` of a space, or a module that gives features
        (images -> maps by name).

    Raises:
        ValueError, TypeError: for an unknown name (the message tells the nearest), or a device
            that is not there.
        DamagedFileError: (a ValueError) if a file is missing, truncated or altered.
    """
    card = read_card(_known(name))
    where = validate.device(device)
    path = checked(card["file"])
    try:
        _check_outputs(card)
        net, extra = _network(card, path)
        net.to(where)
        if card["kind"] == "features":
            return net
        if card["kind"] == "reader":
            return FactorReader(net, card["options"])
        if card["kind"] == "edits":
            contrasts = {name: tuple(pair) for name, pair in card["contrasts"].items()}
            place = {name: tensor.to(where) for name, tensor in extra.items()}
            edits = AttributeEdits(contrasts, net, **place, preserve_others=card["preserve_others"])
            edits.step(edits.mean[None], torch.zeros(1, len(contrasts)))  # do they fit?
            return edits
        if card["kind"] == "classifier":
            return wrap(net, class_names=card["class_names"])
        if "autoencoder" in card:
            extra["autoencoder"] = load(_autoencoder(card), where)
        adapter = getattr(spaces, validate.choice(card["adapter"], "adapter", ADAPTERS))
        space = adapter(net, **extra, **card.get("space", {}))
        if (error := card["quality"].get(ERROR)) is not None:
            space.reconstruction_error = float(error)
        space = space.eval().requires_grad_(False).to(where)
        if card["adapter"] in ALONE and not space.decode(Code(space.mean[None])).isfinite().all():
            raise ValueError("NaN or infinity in the image of the mean code")
        return space
    except DamagedFileError:
        raise
    except Exception as error:  # a card can be wrong in many ways
        told = f"{type(error).__name__}: {cause(error)}"
        raise DamagedFileError(
            f"data/{card['file']} does not fit its card ({told}). {REMEDY}"
        ) from None


def _check_outputs(card: dict[str, Any]) -> None:
    """Names of classes or options are as many as the outputs that the config states, if it does."""
    outputs = card["config"].get("outputs")
    if card["kind"] == "classifier":
        count = len(card["class_names"])
        if count < 2 or outputs not in (None, count):
            raise ValueError(f"{count} class names for {outputs or 'two or more'} outputs")
    if card["kind"] == "reader":
        sizes = [len(options) for options in card["options"].values()]
        if outputs not in (None, sum(sizes), len(sizes) if set(sizes) == {2} else None):
            raise ValueError(f"{sum(sizes)} options for {outputs} outputs")


def _network(card: dict[str, Any], path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The frozen network of a card with its weights, and the tensors beside them.

    Nothing is allocated before the network is known to fit the file.
    """
    made, config = _NETS[card["net"]], card["config"]
    check_fields(config, declared(made), "config")
    for field, number in named_numbers(config, "config"):
        if not abs(number) <= LARGEST:
            raise ValueError(f"{field} {number!r:.40}, above {LARGEST}")
    try:
        check_fit(lambda: made(**config), all_shapes(path))
    except Exception as error:  # many kinds, for a config that the weights don't fit
        told = suspects(config, config, error)
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise ValueError(f"{kind}{cause(error)}; its config has {told or 'nothing'}") from None
    held = all_tensors(path)
    if other := [key for key, value in held.items() if not value.is_floating_point()]:
        raise ValueError(f"{other[0]} holds {held[other[0]].dtype} instead of floats")
    state = {key: value.float() for key, value in held.items()}
    if broken := [key for key, value in state.items() if not value.isfinite().all()]:
        raise ValueError(f"NaN or infinity in {broken[0]}")
    extra: dict[str, Any] = {k: state.pop(k) for k in ("mean", "std") if k in state}
    with torch.random.fork_rng(devices=[]):  # weights are drawn before they are read
        net = made(**config)
    # Only the counters of batch normalisation, which play no role any more, are not stored.
    counters = {k: v for k, v in net.state_dict().items() if not v.is_floating_point()}
    net.load_state_dict(counters | state)
    return net.eval().requires_grad_(False), extra


def _autoencoder(card: dict[str, Any]) -> str:
    """The name of the space that a card builds on, which itself builds on no other."""
    name = _known(card["autoencoder"])
    other = read_card(name)
    if other.get("adapter") != "Autoencoder" or "autoencoder" in other:
        raise ValueError(f"autoencoder {name!r} is none")
    return name


def _known(name: Any) -> str:
    listed = names()
    wanted = "one that cfx.available() lists"
    if not isinstance(name, str):
        raise TypeError(f"name: expected {wanted}, got {validate.describe(name)}")
    if name not in listed:
        near = get_close_matches(name, listed, n=4, cutoff=0.0)
        raise ValueError(f"name: expected {wanted}, such as {', '.join(near)}, got {name!r:.80}")
    return name


def save(name: str, net: nn.Module, card: dict[str, Any], **extra: torch.Tensor) -> Path:
    """Write weights in half precision with their card, and list both in the manifest."""
    file = f"weights/{name}.safetensors"
    path = paths.data() / file
    state = {**net.state_dict(), **extra}
    # The counters of batch normalisation are whole numbers and play no role after training.
    kept = {k: v.half().contiguous() for k, v in state.items() if v.is_floating_point()}
    with writing(path, name) as partial:
        save_file(kept, partial)
    record(file, licence=card["licence"], source=[card["recipe"]], modification="trained")
    write_card(name, net, card, file=file)
    return path


def write_card(name: str, net: nn.Module, card: dict[str, Any], *, file: str) -> None:
    """Write the card of ``name``, whose weights lie in ``file``, and list it in the manifest."""
    path = paths.weights() / f"{name}.json"
    full = {**card, "file": file, "parameters": sum(p.numel() for p in net.parameters())}
    with writing(path, name) as partial:
        partial.write_text(json.dumps(full, indent=1) + "\n", encoding="utf-8")
    own = f"weights/{name}.json"
    record(own, licence=card["licence"], source=[card["recipe"]], modification="card")


def data_hash(prefix: str) -> str:
    """One hash of all manifest entries whose path begins with ``prefix``."""
    listed = manifest()
    lines = [f"{listed[k]['sha256']} {k}\n" for k in sorted(listed) if k.startswith(prefix)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
