"""A trained network in a folder: weights in ``model.safetensors``, and a card in ``card.json``.

The card is a dict that says how the network is built, what it was trained on, and how good it is.
``cfxnb.load`` builds the network of a folder again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from cfxnb.core.disk import NOTHING, given_path, kind_of, sha256, shown, writing

WEIGHTS, CARD_FILE = "model.safetensors", "card.json"
#: Statistics of codes, stored beside the weights.
STATISTICS = ("mean", "std", "axes", "variances", "latent_mean")


class Carded:
    """What has a card, and can be saved in a folder.

    Attributes:
        card: Dict that says how the network is built, what it was trained on, and its measured
            quality. None if the network was neither trained nor loaded by cfxnb.
    """

    card: dict[str, Any] | None = None

    def _stored(self) -> tuple[nn.Module, Mapping[str, Tensor | None], Mapping[str, "Carded"]]:
        """Return the network, tensors beside its weights, and networks that belong to it."""
        raise NotImplementedError

    def save(self, path: str | Path) -> Path:
        """Save weights and card in a folder, which ``cfx.load(path)`` reads.

        Args:
            path: The folder. It is made if it does not exist. A model that the folder already holds
                is replaced. A folder with other files than pictures is refused.

        Returns:
            The folder.

        Raises:
            ValueError, TypeError: If there is no card, or if the folder can't be written.
        """
        return write_model(self, given_path(path))


def write_model(model: Any, folder: Path) -> Path:
    """Write weights and card of a space, classifier or flow into a folder, and return the folder.

    Raises:
        ValueError: If there is no card, or if the folder can't be written.
    """
    if model.card is None:
        raise ValueError(
            f"{type(model).__name__}: expected a network with a card, got one without. Networks "
            "from cfx.train and cfx.load have cards. For others, keep their own files."
        )
    check_free(folder)
    net, extra, parts = model._stored()
    tensors = {**net.state_dict(), **{k: v for k, v in extra.items() if v is not None}}
    # The integer counters of batch normalisation have no effect after training.
    floats = {
        k: v.detach().float().cpu().clone().contiguous()
        for k, v in tensors.items()
        if v.is_floating_point()
    }
    with writing(folder / WEIGHTS) as partial:
        save_file(floats, partial)
    count = sum(p.numel() for p in net.parameters())
    card = {**model.card, "file": WEIGHTS, "parameters": count}
    card["sha256"] = sha256(folder / WEIGHTS)
    for name, part in parts.items():
        write_model(part, folder / name)
        card[name] = name
    with writing(folder / CARD_FILE) as partial:
        partial.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return folder


def is_model_folder(path: Path) -> bool:
    """Return whether a folder holds a card."""
    return kind_of(path / CARD_FILE) == "a file"


def check_free(folder: Path, name: str = "path") -> None:
    """Raise ValueError if a folder holds no model, and other files than pictures."""
    kind = kind_of(folder)
    if kind == "a folder":
        others = [path for path in folder.iterdir() if path.suffix != ".png"]
        if is_model_folder(folder) or not others:
            return
    if kind not in NOTHING:
        found = "a folder with other files" if kind == "a folder" else kind
        raise ValueError(f"{name}: expected a new folder, got {shown(folder)}: {found}")
