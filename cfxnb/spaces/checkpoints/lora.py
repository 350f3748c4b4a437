"""Merge a LoRA into the weights of networks (low-rank adaptation; Hu et al., 2022).

A LoRA changes a weight W to W + scale * alpha / rank * up @ down, where ``down`` has ``rank`` rows
and ``up`` has ``rank`` columns. The file holds both factors per weight, and perhaps alpha. Three
ways to name them are read: those of peft and diffusers (``unet.MODULE.lora_A.weight``), the older
ones of diffusers (``unet.MODULE.lora.down.weight``), and those of kohya's scripts
(``lora_unet_MODULE.lora_down.weight``, with "_" for "."). Only safetensors files are read.
"""

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cfxnb.core import validate
from cfxnb.core.disk import cause, given_path, kind_of, read_json
from cfxnb.spaces.checkpoints import diffusers_files, safe_loading
from cfxnb.spaces.checkpoints.diffusers_files import STEM, InvalidPart

WANTED = "a LoRA as a safetensors file, or a folder with one"
FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
KOHYA = {"unet": "unet", "te": "text_encoder", "te1": "text_encoder", "te2": "text_encoder_2",
         "transformer": "transformer"}  # fmt: skip
PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2")
#: End of a name -> the factor that it is.
ROLES = {
    ".lora_A.weight": "down", ".lora_B.weight": "up",
    ".lora_A.default.weight": "down", ".lora_B.default.weight": "up",
    ".lora.down.weight": "down", ".lora.up.weight": "up",
    "_lora.down.weight": "down", "_lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down", ".lora_linear_layer.up.weight": "up",
    ".lora_down.weight": "down", ".lora_up.weight": "up",
    ".alpha": "alpha",
}  # fmt: skip
SHAPES = "shapes {} and {}, which don't fit the weight {} of shape {}"


class LoRA:
    """The factors of a LoRA in a file. Reading its header is enough until ``merge``.

    Args:
        path: a safetensors file, or a folder that holds one.
        scale: factor for the change of the weights. 0 changes nothing.

    Raises:
        ValueError, TypeError: if the file can't be read, or holds something else than a LoRA. The
            message begins with "lora:".
    """

    def __init__(self, path: str | os.PathLike, scale: float = 1.0) -> None:
        self.scale = scale
        self.file, self.config = _file_of(path)
        #: (part, name of the module) -> {"down": name of the tensor, "up": ..., "alpha": ...}
        self.factors: dict[tuple[str, str], dict[str, str]] = {}
        try:
            with safe_loading.opened(self.file) as content:
                self.metadata: Mapping[str, str] = content.metadata() or {}
            self.shapes = safe_loading.all_shapes(self.file)
        except (SafetensorError, ValueError, OSError) as error:
            raise _wrong(f"{self.file.name} is damaged ({cause(error, 80)})") from None
        for name in self.shapes:
            part, module, role = _parsed(name)
            self.factors.setdefault((part, module), {})[role] = name
        if not self.factors:
            raise _wrong(f"{self.file.name} holds no tensors")
        for (_, module), names in self.factors.items():
            if not {"down", "up"} <= names.keys():
                raise _wrong(f"{self.file.name} lacks a factor of {module:.80}")
        self._alphas = self._read_alphas()

    def check(self, found: Path, denoiser: str) -> None:
        """Check that all factors fit weights of a model folder, by the headers of its files.

        Args:
            found: the folder.
            denoiser: the part that the denoising network is in.
        """
        weights: dict[str, dict[str, tuple[int, ...]]] = {}
        for (part, module), names in self.factors.items():
            place = denoiser if part in ("", "unet", "transformer") else part
            if place not in weights:
                weights[place] = _weights_of(found, place)
            self._fit(part, module, names, weights[place])

    def merge(self, networks: Mapping[str, nn.Module | None]) -> None:
        """Add the changes to the weights of networks.

        Args:
            networks: the networks by part. The part of the denoising network is "unet",
                "transformer" or ``HERE``.
        """
        tensors = safe_loading.all_tensors(self.file)
        if broken := [name for name, value in tensors.items() if not value.isfinite().all()]:
            raise _wrong(f"{self.file.name} has NaN or infinity in {broken[0]:.80}")
        denoiser = next(iter(set(networks) - {"text_encoder", "text_encoder_2"}))
        for (part, module), names in self.factors.items():
            net = networks.get(denoiser if part in ("", "unet", "transformer") else part)
            if net is None:
                raise _wrong(f"{self.file.name} changes {part}, which this model doesn't have")
            held = {name: tuple(p.shape) for name, p in net.named_parameters()}
            weight = net.get_parameter(self._fit(part, module, names, held))
            down, up = (tensors[names[role]].float().flatten(1) for role in ("down", "up"))
            factor = self.scale * self._alpha(part, names, tensors, len(down)) / len(down)
            with torch.no_grad():
                weight.add_((factor * (up @ down)).view(weight.shape).to(weight))

    def _alpha(
        self, part: str, names: dict[str, str], tensors: Mapping[str, Tensor], rank: int
    ) -> float:
        if "alpha" in names:
            return float(tensors[names["alpha"]].flatten()[0])
        alpha = self._alphas.get(part or "unet", self._alphas.get("", float(rank)))
        return alpha * math.sqrt(rank) if self.config.get("use_rslora") else alpha

    def _fit(
        self, part: str, module: str, names: dict[str, str], held: Mapping[str, tuple[int, ...]]
    ) -> str:
        """Return the name of the weight that a pair of factors changes. Check the shapes."""
        weight = _weight_of(module, held)
        if weight is None:
            raise _wrong(
                f"{self.file.name} changes {module:.80}, which {part or 'the network'} of this "
                "model doesn't have; it was made for another model, or has names of another program"
            )
        down, up = (self.shapes[names[role]] for role in ("down", "up"))
        shape = held[weight]
        fits = len(down) > 1 and len(up) > 1 and math.prod(up[2:]) == 1 and down[0] == up[1]
        fits = fits and up[0] == shape[0] and math.prod(down[1:]) == math.prod(shape[1:])
        if not fits or not down[0]:
            raise _wrong(f"{self.file.name} has {SHAPES.format(down, up, weight[:80], shape)}")
        return weight

    def _read_alphas(self) -> dict[str, float]:
        """Return alpha per part, from the header of the file or from the config of peft."""
        found: dict[str, float] = {}
        known: dict[str, Any] = dict(self.config)
        try:
            known |= json.loads(self.metadata.get("lora_adapter_metadata", "{}"))
        except (ValueError, TypeError):
            raise _wrong(f"{self.file.name} has damaged metadata") from None
        for name, value in known.items():
            part, _, field = name.rpartition(".")
            if field == "lora_alpha":
                if type(value) not in (int, float) or not math.isfinite(value):
                    raise _wrong(f"{self.file.name} has lora_alpha {value!r:.40}")
                found[part] = float(value)
            elif field in ("rank_pattern", "alpha_pattern", "use_dora") and value:
                raise _wrong(f"{self.file.name} has {field}, which is not supported")
        return found


def _file_of(path: Any) -> tuple[Path, dict[str, Any]]:
    """Return the file of a LoRA, and the config of peft that lies beside it or {}."""
    place = given_path(path, WANTED, "lora") if not isinstance(path, Path) else path
    kind = kind_of(place)
    config: dict[str, Any] = {}
    if kind == "a folder":
        files = [place / name for name in FILES if (place / name).is_file()]
        files = files or sorted(place.glob("*.safetensors"))
        if len(files) != 1:
            raise _wrong(f"a folder with {len(files)} safetensors files")
        if (place / "adapter_config.json").is_file():
            try:
                config = read_json(place / "adapter_config.json")
            except ValueError as error:
                raise _wrong(f"adapter_config.json is damaged ({cause(error, 80)})") from None
            if not isinstance(config, dict):
                raise _wrong("adapter_config.json is damaged")
        place = files[0]
    elif kind != "a file":
        raise _wrong(kind)
    if place.suffix != ".safetensors":
        raise _wrong(f"{place.name}, which is no safetensors file")
    if place.stat().st_size > safe_loading.LARGEST:
        raise _wrong(f"{place.name} of more than {safe_loading.LARGEST // 2**30} GiB")
    return place, config


def _parsed(name: str) -> tuple[str, str, str]:
    """Return the part, the module and the role of a tensor in a LoRA."""
    end = next((end for end in ROLES if name.endswith(end)), None)
    if end is None:
        raise _wrong(
            f"it has {name:.80}, which is no factor of a LoRA (LoHa, LoKr and DoRA are not read)"
        )
    module, role = name.removesuffix(end), ROLES[end]
    if kohya := re.fullmatch(rf"lora_({'|'.join(KOHYA)})_(.+)", module):
        return KOHYA[kohya[1]], kohya[2], role
    module = module.removeprefix("base_model.model.")
    part, _, rest = module.partition(".")
    if part not in PARTS:
        part, rest = "", module
    # Older names have the layers in a "processor", with the output layer as "to_out".
    rest = rest.replace(".processor.", ".")
    return part, re.sub(r"\.to_out$", ".to_out.0", rest), role


def _weight_of(module: str, held: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return the name of the weight of a module, or None if there is no such weight."""
    for name in (module, f"text_model.{module}", module.removeprefix("text_model.")):
        if f"{name}.weight" in held:
            return f"{name}.weight"
    flat = {name.removesuffix(".weight").replace(".", "_"): name for name in held}
    for name in (module, module.removeprefix("text_model_"), f"text_model_{module}"):
        if name in flat:
            return flat[name]
    return None


def _weights_of(found: Path, part: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights of a part of a model, by name."""
    stem = "model" if part.startswith("text_encoder") else STEM
    try:
        files = diffusers_files.weight_files(found, part, stem)
    except InvalidPart:
        raise _wrong(f"it changes {part}, which this model doesn't have") from None
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        shapes |= safe_loading.plain_names(safe_loading.all_shapes(file))
    return shapes


def _wrong(text: str) -> ValueError:
    return ValueError(f"lora: expected {WANTED}, got: {text}")


def checked_lora(path: Any, scale: Any) -> LoRA | None:
    """Return the LoRA of the arguments ``lora`` and ``lora_scale`` of a loader, or None."""
    scale = validate.number(scale, "lora_scale", -1e6)
    return None if path is None else LoRA(path, scale)
