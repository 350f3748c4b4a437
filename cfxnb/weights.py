"""Load the networks that cfxnb ships.

Each network is a safetensors file in half precision, with a card in JSON that describes it.
"""

import contextlib
import fnmatch
import hashlib
import importlib
import json
import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn

from cfxnb import spaces
from cfxnb.contrastive.attribute_edits import AttributeEdits
from cfxnb.contrastive.edit_network import EditNetwork
from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.core import locations as paths
from cfxnb.core import saved, validate
from cfxnb.core.classifiers import wrap
from cfxnb.core.disk import cause, given_path, kind_of, read_json, sha256, shown, writing
from cfxnb.core.model_folder import CARD_FILE, STATISTICS, WEIGHTS, is_model_folder
from cfxnb.core.modes import standard_modes
from cfxnb.core.types import Code
from cfxnb.data import files
from cfxnb.flows.velocity import FittedFlow, VelocityNet
from cfxnb.nets import NETS
from cfxnb.spaces.checkpoints import configs
from cfxnb.spaces.checkpoints.safe_loading import all_shapes, all_tensors

_NETS = {**NETS, "EditNetwork": EditNetwork, "VelocityNet": VelocityNet}
ERROR = "mean squared error of reconstructions"  # in "quality" of a card; used by methods
_RETRAINED = "_retrained_"  # in names of classifiers trained with other seeds
LARGEST_NUMBER = 1e15  # largest number in a card
WITHOUT_AUX = ("Autoencoder", "VAE")  # spaces whose codes have no aux
ADAPTERS = ("Autoencoder", "Diffusion", "DiffusionAutoencoder", "VAE")

#: Fields of every card, and additional fields of the cards of each kind.
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
    "flow": {"of": dict, "class_names": list},
    "reader": {"options": dict},
    "edits": {"contrasts": dict, "preserve_others": bool},
}


def list_names() -> list[str]:
    """Return the names of all shipped networks, such as ``"digits/vae"``."""
    listed = fnmatch.filter(sorted(files.manifest()), "weights/*.json")
    return [name.removeprefix("weights/").removesuffix(".json") for name in listed]


def read_card(name: str) -> dict[str, Any]:
    """Return the card of a shipped network, a dict that describes the network.

    Raises:
        ValueError, TypeError: if the name is unknown.
        DamagedFileError: if the card is missing, truncated or altered.
    """
    file = f"weights/{_known(name)}.json"
    path = files.verified_path(file)
    with files.reading(f"data/{file}"):
        return _checked_card(path)


def _checked_card(path: Path) -> dict[str, Any]:
    """Read a card, and check the type of its fields and the range of its numbers."""
    card: dict[str, Any] = read_json(path)
    for key, kind in {**CARD, **KINDS[card["kind"]]}.items():
        if type(card[key]) is not kind:
            raise ValueError(f"{key} {card[key]!r:.40} instead of a {kind.__name__}")
    for field, number in configs.named_numbers(card, ""):
        if not abs(number) <= LARGEST_NUMBER:
            raise ValueError(f"{field} {number!r:.40} instead of a finite number")
    error = card["quality"].get(ERROR, 1.0)
    if type(error) not in (int, float) or error <= 0:
        raise ValueError(f"quality, {ERROR} {error!r:.40} instead of a number above 0")
    return card


def cards() -> dict[str, dict[str, Any]]:
    """Return a dict with the card of each shipped network, by name."""
    return {name: read_card(name) for name in list_names()}


def available() -> pd.DataFrame:
    """Return a table with one row per shipped network: its purpose, size and measured quality.

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
def load(name: str | Path, device: str | torch.device | None = None) -> Any:
    """Load a shipped network, one that was saved in a folder, or a result that was saved in a file.

    Args:
        name: one of the names that ``cfx.available()`` lists, the path of a folder that
            ``cfx.train`` or ``save`` of a network has written, or the path of a file that ``save``
            of a result has written, which ends with ``.safetensors``.
        device: device to run on. Default: CUDA or MPS if available, else the CPU.

    Returns:
        A space (with ``encode`` and ``decode``), a classifier (images -> logits), a
        ``FactorReader``, the ``AttributeEdits`` of a space, a ``FittedFlow``, or a feature network
        (images -> feature maps by name). The field ``kind`` of the network's card says what the
        function returns. Spaces, classifiers and flows have their card as the attribute ``card``.
        For a file, the result, on the CPU.

    Raises:
        ValueError, TypeError: if the name is unknown, if the folder holds no model, or if the
            device is not available. The message for an unknown name suggests similar names.
        DamagedFileError: if a file of the network is missing, truncated or altered.
            DamagedFileError is a ValueError.
    """
    if isinstance(name, str | os.PathLike) and os.fspath(name).endswith(".safetensors"):
        return _load_result(given_path(name, name="name"))
    if (folder := _folder(name)) is not None:
        return _load_folder(folder, validate.device(device))
    card = read_card(_known(name))
    device = validate.device(device)
    path = files.verified_path(card["file"])
    with _fitting(f"data/{card['file']}", files.REMEDY):
        autoencoder = load(_autoencoder(card), device) if "autoencoder" in card else None
        return _built(card, path, device, autoencoder)


def _load_result(path: Path) -> Any:
    """Load a result of any class from a file."""
    package: Any = importlib.import_module("cfxnb")  # its names are imported when first used

    if (found := kind_of(path)) != "a file":
        raise ValueError(f"name: expected a file with a result, got {shown(path)}: {found}")
    kind = saved.kind_of_result(path) or ""
    if kind not in saved.KINDS and kind in (*package.__all__, *package.metrics.__all__):
        getattr(package if kind in package.__all__ else package.metrics, kind)  # imports the class
    if kind not in saved.KINDS or not issubclass(saved.KINDS[kind], saved.Result):
        raise ValueError(f"name: expected a file with a result, got {shown(path)} without one")
    return saved.KINDS[kind].load(path)


def _folder(name: Any) -> Path | None:
    """Return the folder that ``name`` means, or None if ``name`` means a shipped network."""
    if isinstance(name, str) and name in list_names():
        return None
    if not isinstance(name, str | os.PathLike):
        return None
    path = given_path(name, "a name that cfx.available() lists, or a folder", "name")
    if is_model_folder(path):
        return path
    if isinstance(name, os.PathLike) or kind_of(path) == "a folder":
        found = kind_of(path)
        if found == "a folder":
            found = f"a folder without {CARD_FILE}"
            if (path / "model_index.json").is_file():
                found += "; read a model of diffusers with cfx.spaces.load_diffusers"
        raise ValueError(
            f"name: expected a folder that cfx.train has written, got {shown(path)}: {found}"
        )
    return None


def _load_folder(folder: Path, device: torch.device) -> Any:
    """Load the network of a folder, after checking that its weights are those of its card."""
    remedy = "Save or train the network again."
    with _fitting(str(folder / WEIGHTS), remedy):
        card, path = _checked_card(folder / CARD_FILE), folder / WEIGHTS
        if kind_of(path) != "a file":
            raise ValueError(f"{WEIGHTS} is missing")
        if sha256(path) != card["sha256"]:
            raise ValueError(f"the weights are not those of {CARD_FILE}: damaged or altered")
        autoencoder = None
        if "autoencoder" in card:
            inner = folder / "autoencoder"
            other = _checked_card(inner / CARD_FILE)
            if other.get("adapter") != "Autoencoder" or "autoencoder" in other:
                raise ValueError(f"{inner} holds no autoencoder")
            autoencoder = _load_folder(inner, device)
        return _built(card, path, device, autoencoder)


@contextlib.contextmanager
def _fitting(file: str, remedy: str) -> Iterator[None]:
    """Turn every exception in the ``with`` block into a DamagedFileError that names ``file``."""
    try:
        yield
    except files.DamagedFileError:
        raise
    except Exception as error:  # many kinds, for a wrong card
        text = f"{type(error).__name__}: {cause(error)}"
        raise files.DamagedFileError(f"{file} does not fit its card ({text}). {remedy}") from None


def _built(card: dict[str, Any], path: Path, device: torch.device, autoencoder: Any) -> Any:
    """Return what a card describes, with the weights of a file, on a device."""
    _check_outputs(card)
    net, extra = _network(card, path)
    net.to(device)
    if card["kind"] == "features":
        return net
    if card["kind"] == "reader":
        return FactorReader(net, card["options"])
    if card["kind"] == "edits":
        contrasts = {name: tuple(pair) for name, pair in card["contrasts"].items()}
        extra = {name: tensor.to(device) for name, tensor in extra.items()}
        extra["preserve_others"] = card["preserve_others"]
        edits = AttributeEdits(contrasts, net, **extra)
        edits.step(edits.mean[None], torch.zeros(1, len(contrasts)))  # fails if they don't fit
        return edits
    if card["kind"] == "flow":
        mean, std = extra["mean"].to(device), extra["std"].to(device)
        found: Any = FittedFlow(net, mean, std, card["config"]["n_classes"])
    elif card["kind"] == "classifier":
        found = wrap(net, class_names=card["class_names"])
    else:
        found = _space(card, net, extra, device, autoencoder)
    found.card = card
    return found


def _space(
    card: dict[str, Any], net: nn.Module, extra: dict[str, Any], device: Any, autoencoder: Any
) -> Any:
    if autoencoder is not None:
        extra["autoencoder"] = autoencoder
    adapter = getattr(spaces, validate.choice(card["adapter"], "adapter", ADAPTERS))
    space = adapter(net, **extra, **card.get("space", {}))
    if (error := card["quality"].get(ERROR)) is not None:
        space.reconstruction_error = float(error)
    space = space.eval().requires_grad_(False).to(device)
    without_aux = card["adapter"] in WITHOUT_AUX
    if without_aux and not space.decode(Code(space.mean[None])).isfinite().all():
        raise ValueError("NaN or infinity in the image of the mean code")
    return space


def load_retrained(name: str, device: str | torch.device | None = None) -> list[Any]:
    """Load the classifiers that were trained like a shipped classifier, but with other seeds.

    No method has seen the retrained classifiers. ``cfx.metrics.transfer`` uses the retrained
    classifiers to test whether flips hold for more than one set of weights.

    Args:
        name: Name of the classifier: ``"digits/classifier"``, ``"sprites/honest"`` or
            ``"sprites/shortcut"``.
        device: Device to run on. Default: CUDA or MPS if available, else the CPU.

    Returns:
        Five classifiers, in the order of their seeds 1 to 5.

    Raises:
        ValueError, TypeError: If no retrained classifiers of this name are shipped, or if the
            device is not available. The message lists the names for which retrained classifiers are
            shipped.
        DamagedFileError: If a file is missing, truncated or altered.
    """
    every = [n for n in list_names() if _RETRAINED in n]
    known = sorted({n.partition(_RETRAINED)[0] for n in every})
    validate.choice(name, "name", known)
    return [load(n, device) for n in every if n.partition(_RETRAINED)[0] == name]


def _check_outputs(card: dict[str, Any]) -> None:
    """Check that a card has one class name, or one option, per output of the network."""
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
    """Return the frozen network that a card describes, and a dict of the other stored tensors.

    The other stored tensors are statistics of the codes, such as ``mean`` and ``std``. Before the
    function allocates memory, it checks that the network fits the file.
    """
    made, config = _NETS[card["net"]], card["config"]
    configs.check_fields(config, configs.declared(made), "config")
    for field, number in configs.named_numbers(config, "config"):
        if not abs(number) <= configs.LARGEST:
            raise ValueError(f"{field} {number!r:.40}, above {configs.LARGEST}")
    try:
        configs.check_fit(lambda: made(**config), all_shapes(path))
    except Exception as error:  # many kinds, if config and weights don't fit
        fields = configs.suspects(config, config, error)
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise ValueError(f"{kind}{cause(error)}; its config has {fields or 'nothing'}") from None
    held = all_tensors(path)
    if other := [key for key, value in held.items() if not value.is_floating_point()]:
        raise ValueError(f"{other[0]} holds {held[other[0]].dtype} instead of floats")
    state = {key: value.float() for key, value in held.items()}
    if broken := [key for key, value in state.items() if not value.isfinite().all()]:
        raise ValueError(f"NaN or infinity in {broken[0]}")
    extra: dict[str, Any] = {k: state.pop(k) for k in STATISTICS if k in state}
    # The random initialisation must not change the global state.
    with torch.random.fork_rng(devices=[]):
        net = made(**config)
    # The counters of batch normalisation are not stored. They have no effect after training.
    counters = {k: v for k, v in net.state_dict().items() if not v.is_floating_point()}
    net.load_state_dict(counters | state)
    return net.eval().requires_grad_(False), extra


def _autoencoder(card: dict[str, Any]) -> str:
    """Return the name of the autoencoder that a card refers to."""
    name = _known(card["autoencoder"])
    other = read_card(name)
    if other.get("adapter") != "Autoencoder" or "autoencoder" in other:
        raise ValueError(f"autoencoder {name!r} is no autoencoder")
    return name


def _known(name: Any) -> str:
    listed = list_names()
    wanted = "one that cfx.available() lists"
    if not isinstance(name, str):
        raise TypeError(f"name: expected {wanted}, got {validate.describe(name)}")
    if name not in listed:
        near = get_close_matches(name, listed, n=4, cutoff=0.0)
        raise ValueError(f"name: expected {wanted}, such as {', '.join(near)}, got {name!r:.80}")
    return name


def save(name: str, net: nn.Module, card: dict[str, Any], **extra: torch.Tensor) -> Path:
    """Write weights in half precision with their card, and add both to the manifest."""
    file = f"weights/{name}.safetensors"
    path = paths.data() / file
    state = {**net.state_dict(), **extra}
    # The integer counters of batch normalisation have no effect after training.
    kept = {k: v.half().contiguous() for k, v in state.items() if v.is_floating_point()}
    with writing(path, name) as partial:
        save_file(kept, partial)
    files.add_to_manifest(
        file, licence=card["licence"], source=[card["recipe"]], modification="trained"
    )
    write_card(name, net, card, file=file)
    return path


def write_card(name: str, net: nn.Module, card: dict[str, Any], *, file: str) -> None:
    """Write the card of a network whose weights are in ``file``, and add it to the manifest."""
    path = paths.weights() / f"{name}.json"
    full = {**card, "file": file, "parameters": sum(p.numel() for p in net.parameters())}
    with writing(path, name) as partial:
        partial.write_text(json.dumps(full, indent=1) + "\n", encoding="utf-8")
    own = f"weights/{name}.json"
    files.add_to_manifest(
        own, licence=card["licence"], source=[card["recipe"]], modification="card"
    )


def data_hash(prefix: str) -> str:
    """Return one hash of all entries of the manifest whose path begins with ``prefix``."""
    listed = files.manifest()
    lines = [f"{listed[k]['sha256']} {k}\n" for k in sorted(listed) if k.startswith(prefix)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
