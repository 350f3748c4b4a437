"""Load any supported model of diffusers: find out its kind, and build the space of this kind.

``KINDS`` lists what is supported, one ``Kind`` for each. A new kind is one entry of this list.
"""

import dataclasses
import functools
import os
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cfxnb.core import validate
from cfxnb.core.disk import kind_of
from cfxnb.core.modes import standard_modes
from cfxnb.spaces.autoencoder import Autoencoder, downsample_factor_of
from cfxnb.spaces.checkpoints import diffusers_files, ldm_files, ldm_parts, memory, text_models
from cfxnb.spaces.checkpoints.building import AUTOENCODERS, diffusion_space
from cfxnb.spaces.checkpoints.diffusers_files import HERE, InvalidPart
from cfxnb.spaces.checkpoints.lora import LoRA, checked_lora
from cfxnb.spaces.checkpoints.refusals import refusal
from cfxnb.spaces.conditions import Conditions, Unconditional, checked_template
from cfxnb.spaces.diffusion import Diffusion
from cfxnb.spaces.precision import checked_precision

WANTED = "a model in a folder of diffusers, or owner/name on the hub"
#: Subfolders whose configs tell the kind of a model.
PARTS = ("unet", "transformer", "vae", "vqvae", "text_encoder", "text_encoder_2", "text_encoder_3",
         "class_embedder", "prior", "movq", "controlnet", "image_encoder")  # fmt: skip
DIT = ("DiTTransformer2DModel", "Transformer2DModel")


@dataclasses.dataclass(frozen=True)
class Model:
    """A model folder, as far as its small configs tell what it is.

    Attributes:
        found: the folder.
        pipeline: name of the pipeline in ``model_index.json``, or None.
        index: content of ``model_index.json``, or {}.
        configs: content of ``config.json`` of each part that has one. The part ``HERE`` stands for
            the folder itself.
    """

    found: Path
    pipeline: str | None
    index: Mapping[str, Any]
    configs: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, found: Path) -> "Model":
        """Read the configs of a folder, but no weights."""
        index: dict[str, Any] = {}
        if kind_of(found / "model_index.json") == "a file":
            index = diffusers_files.config_of(found, "model_index.json")
        configs = {
            part: diffusers_files.config_of(found, f"{part}/config.json")
            for part in (HERE, *PARTS)
            if kind_of(found / part / "config.json") == "a file"
        }
        name = index.get("_class_name")
        return cls(found, name if isinstance(name, str) else None, index, configs)

    def kind_of(self, part: str) -> str | None:
        """Return the class of a part, such as "UNet2DModel", or None if there is no such part."""
        config = self.configs.get(part, {})
        names = config.get("architectures") or [config.get("_class_name")]
        return str(names[0])[:80] if isinstance(names, list) and names[0] else None

    @property
    def denoiser(self) -> str | None:
        """The part that the denoising network is in, or None."""
        return next((part for part in ("unet", "transformer") if part in self.configs), None) or (
            HERE if self.kind_of(HERE) in ("UNet2DModel", *DIT) else None
        )

    @property
    def latent(self) -> bool:
        """Whether the model has an autoencoder."""
        return any((self.found / part).is_dir() for part in ("vae", "vqvae"))

    def described(self) -> str:
        """Return what the model is, for messages."""
        parts = {part: self.kind_of(part) for part in self.configs}
        listed = ", ".join(
            f"{kind}" if part == HERE else f"{part}: {kind}" for part, kind in parts.items()
        )
        if self.pipeline is None and not parts:
            return "a folder without model_index.json and without config.json"
        return f"a {self.pipeline or 'folder'} with {listed or 'no network'}"


@dataclasses.dataclass(frozen=True)
class Options:
    """The checked arguments of ``load_diffusers`` that the kinds of models use.

    An argument that the user did not pass is None.
    """

    conditions: Conditions | None
    null_class: bool | None
    template: str | None
    image_size: int | None
    lora: LoRA | None
    negative_prompt: str | None
    guidance_distilled: bool | None
    offload_text: bool | None
    name: str
    precision: str


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of models that ``load_diffusers`` can load.

    Attributes:
        title: what the kind is called in messages.
        fits: whether a model is of this kind, by its configs.
        parts: names of the subfolders that are needed.
        options: names of the ``Options`` that the kind uses, beside ``precision``.
        load: loads the model as a space on the CPU. It raises ``InvalidPart`` if a part can't be
            used.
        try_out: runs the networks of the space once on its device, if ``load`` does not do this.
    """

    title: str
    fits: Callable[[Model], bool]
    parts: Sequence[str]
    options: Sequence[str]
    load: Callable[[Model, Options], Any]
    try_out: Callable[[Any], None] | None = None


@standard_modes
def load_diffusers(
    path: str | os.PathLike,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    conditions: Conditions | None = None,
    null_class: bool | None = None,
    template: str | None = None,
    image_size: int | None = None,
    lora: str | os.PathLike | None = None,
    lora_scale: float = 1.0,
    negative_prompt: str | None = None,
    guidance_distilled: bool | None = None,
    offload_text: bool = False,
    gradient_checkpointing: bool = False,
    precision: str = "float32",
) -> Diffusion | Autoencoder:
    """Load a model of diffusers as a space, of any kind that this package supports.

    The function reads ``model_index.json`` and the configs of the parts. It refuses a model of an
    unsupported kind before it reads any weights, and names the supported kinds. Weights are read
    only from safetensors files. No code in the folder is executed. Check the licence of a model
    before you use it.

    The space of a diffusion model works with all methods. A model that takes no condition works
    with the methods that need none: ``cfx.maskdime``, ``cfx.fastdime``, ``cfx.dime`` and
    ``cfx.sce``. Codes have mean 0 and std 1 until ``space.autoencoder.fit(images)`` (or
    ``space.fit(images)`` for a bare autoencoder) measures mean and std, which
    ``cfx.latent_attack`` and ``cfx.find_directions`` use.

    Args:
        path: a local folder, or the name of a model on the Hugging Face hub, ``owner/name``. The
            folder is a pipeline, or the folder of one autoencoder.
        revision: hash of a commit on the hub, 40 digits, or None if ``path`` is a folder.
        device: device to run on. Default: CUDA or MPS if available, else the CPU.
        conditions: what the network can be conditioned on, such as ``EmbeddingConditions(table)``.
            Only for class-conditional models. Default: as the files say.
        null_class: whether the last class embedding stands for "no class", which most methods need.
            Only for class-conditional models. The files of most models don't say it. If
            ``null_class`` is None, the function assumes so, and warns.
        template: text in which the name of a class replaces "{}". Only for models of texts.
            Default: ``"a photo of a {}."``.
        image_size: height and width of the images in pixels. Only for a bare autoencoder, and for
            the models that take ``negative_prompt``. Codes get this size before ``fit``, and flows
            whose times depend on it are shifted for it. Default: the size in training.
        lora: a LoRA to merge into the weights: a safetensors file, or a folder with one. Default:
            no LoRA.
        lora_scale: factor for the change that the LoRA makes. Default: 1.
        negative_prompt: text for the prediction without a condition. Only for SDXL, SD3, Flux,
            PixArt and Sana. Default: the empty text, or zeros for SDXL.
        guidance_distilled: whether the model was distilled to need no classifier-free guidance,
            such as Flux or SDXL-turbo. Such a model has no real prediction without a condition, and
            methods that need one warn. Only for the models that take ``negative_prompt``. Default:
            True for Flux and for names such as "turbo".
        offload_text: whether the text encoders stay on the CPU, except while they read a new text.
            This saves up to 10 GB on a GPU. Only for the models that take ``negative_prompt``.
            Default: False.
        gradient_checkpointing: whether gradients through the networks compute activations twice
            instead of storing them. This saves memory, takes about 30 % longer, and does not change
            results. Default: False.
        precision: ``"float32"``, or ``"bfloat16"``, which is faster on some processors and GPUs.
            For the models that take ``negative_prompt``, denoiser and text encoders are also stored
            in bfloat16, which halves their memory.

    Returns:
        A ``Diffusion`` space, or an ``Autoencoder`` space for the folder of one autoencoder.

    Warns:
        UserWarning: if the model is class-conditional, and both ``null_class`` and ``conditions``
            are None.

    Raises:
        ImportError: if the model reads texts, and the package transformers is not installed.
        ValueError, TypeError: if an argument is wrong, or if the model is incomplete, damaged or of
            an unsupported kind.
    """
    options = _options(conditions, null_class, template, image_size, lora, lora_scale, precision)
    options = _text_options(options, negative_prompt, guidance_distilled, offload_text, path)
    validate.flag(gradient_checkpointing, "gradient_checkpointing")
    where = validate.device(device)
    found = diffusers_files.folder(path, revision, WANTED, ())
    with diffusers_files.naming_path(path, WANTED):
        model = Model.read(found)
        kind = _kind_of(model)
        for field in dataclasses.fields(options):
            name = field.name
            given = getattr(options, name) is not None and name not in ("precision", "name")
            if given and name not in kind.options:
                raise ValueError(f"{name}: expected None with a model of this kind ({kind.title})")
        if revision is not None:
            found = diffusers_files.folder(path, revision, WANTED, kind.parts)
            model = Model.read(found)
        space = memory.moved(kind.load(model, options), where)
        if gradient_checkpointing:
            memory.checkpoint(space)
        if kind.try_out is not None:
            kind.try_out(space)
        return space


def _options(
    conditions: Any,
    null_class: Any,
    template: Any,
    image_size: Any,
    path: Any,
    scale: Any,
    precision: Any,
) -> Options:
    """Check the arguments of ``load_diffusers`` that say how to load."""
    checked_precision(precision)
    validate.optional(validate.flag, null_class, "null_class")
    if template is not None:
        checked_template(template)
    if image_size is not None:
        image_size = validate.count(image_size, "image_size", 1, 2**14)
    if conditions is not None:
        wanted = "EmbeddingConditions or the like"
        validate.having(conditions, ("encode", "predict_noise"), "conditions", wanted)
        if null_class is not None:
            raise ValueError("null_class: expected None with conditions, which define it")
    added = checked_lora(path, scale)
    others = dict.fromkeys(("negative_prompt", "guidance_distilled", "offload_text"))
    return Options(
        conditions, null_class, template, image_size, added, **others, name="", precision=precision
    )


def _text_options(
    options: Options, negative_prompt: Any, guidance_distilled: Any, offload_text: Any, path: Any
) -> Options:
    """Check the arguments of ``load_diffusers`` for large models of texts."""
    if negative_prompt is not None:
        validate.instance(negative_prompt, str, "negative_prompt", "a text")
    return dataclasses.replace(
        options,
        negative_prompt=negative_prompt,
        guidance_distilled=validate.optional(
            validate.flag, guidance_distilled, "guidance_distilled"
        ),
        offload_text=validate.flag(offload_text, "offload_text") or None,
        name=os.fspath(path) if isinstance(path, str | os.PathLike) else "",
    )


def _kind_of(model: Model) -> Kind:
    for kind in KINDS:
        if kind.fits(model):
            return kind
    titles = "; ".join(kind.title for kind in KINDS)
    why = refusal(model.pipeline, model.configs) or "which is not supported"
    raise InvalidPart(f"{model.described()}, {why}. Supported are: {titles}")


# -- The kinds


def _stable_diffusion(model: Model, options: Options) -> Diffusion:
    template = options.template or "a photo of a {}."
    return ldm_files.stable_diffusion(model.found, template, options.precision, options.lora)


def _class_conditional(model: Model, options: Options) -> Diffusion:
    """Load a U-Net with class embeddings, or one that takes no condition, of latents or pixels."""
    part = model.denoiser or "unet"
    config = model.configs.get(part, {})
    kind = str(config.get("_class_name"))
    attends = kind == "UNet2DConditionModel"
    free = not attends and config.get("num_class_embeds") is None and options.conditions is None
    if free and options.null_class is not None:
        raise ValueError("null_class: expected None, because the network takes no class")
    if config.get("class_embed_type") is not None:
        text = f"class_embed_type {config['class_embed_type']!r:.40}"
        raise InvalidPart(f"{part}/config.json has {text}, not a table of class embeddings")
    names = _class_names(model.index)

    def known(net: Any) -> Conditions:
        if free:
            return Unconditional()
        if options.conditions is not None:
            return options.conditions
        return ldm_parts.classes(model.found, net, options.null_class, names)

    return diffusion_space(
        model.found,
        (kind,),
        known,
        options.precision,
        part=part,
        latent=model.latent,
        given=options.conditions is not None,
        added=options.lora,
    )


def _dit(model: Model, options: Options) -> Diffusion:
    names = _class_names(model.index)

    def known(net: Any) -> Conditions:
        if options.conditions is not None:
            return options.conditions
        return ldm_parts.classes(model.found, net, options.null_class, names)

    return diffusion_space(
        model.found,
        DIT,
        known,
        options.precision,
        part="transformer",
        given=options.conditions is not None,
        added=options.lora,
    )


def _autoencoder(model: Model, options: Options) -> Autoencoder:
    """Load the folder of one autoencoder as a space without a diffusion model."""
    config = model.configs[HERE]
    factor = downsample_factor_of(types.SimpleNamespace(config=config))
    size = options.image_size or config.get("sample_size")
    size = size[0] if isinstance(size, list) and size else size
    if type(size) is not int or size < 1 or size % factor:
        raise ValueError(
            f"image_size: expected the height of the images in pixels, divisible by {factor}, "
            f"got {size!r:.40}" + ("" if options.image_size else " in config.json")
        )
    codec = diffusers_files.network(model.found, HERE, AUTOENCODERS)()
    channels = codec.config["latent_channels"]
    shape = ldm_parts.code_shape(size // factor, channels)
    shift_factor, scaling_factor = ldm_parts.units(codec.config, channels, HERE)
    space = Autoencoder(
        codec,
        torch.zeros(shape),
        torch.ones(shape),
        shift_factor=shift_factor,
        scaling_factor=scaling_factor,
        precision=options.precision,
    )
    space.eval().requires_grad_(False)
    ldm_parts.try_out_autoencoder(space)
    return space


def _text_model(model: Model, options: Options) -> Diffusion:
    """Load a model of one of the families with several embeddings of a text."""
    family = text_models.family_of(model.pipeline)
    if family is None:
        raise InvalidPart(f"model_index.json has _class_name {model.pipeline!r:.60}")
    wanted = text_models.TextOptions(
        template=options.template or "a photo of a {}.",
        negative_prompt=options.negative_prompt,
        guidance_distilled=options.guidance_distilled,
        offload_text=bool(options.offload_text),
        image_size=options.image_size,
        precision=options.precision,
    )
    return text_models.load(model.found, model.index, family, wanted, options.name, options.lora)


def _class_names(index: Mapping[str, Any]) -> list[str] | None:
    """Return the names of the classes in ``model_index.json``, in their order, or None."""
    names = index.get("id2label")
    if not isinstance(names, dict) or not names:
        return None
    listed = [names.get(str(number)) for number in range(len(names))]
    texts = [name for name in listed if isinstance(name, str)]
    return texts if len(texts) == len(listed) else None


def _attends(model: Model) -> bool:
    return model.kind_of("unet") == "UNet2DConditionModel" and model.latent


def _is_of_family(family: text_models.Family, model: Model) -> bool:
    return model.pipeline in family.pipelines


def _is_stable_diffusion(model: Model) -> bool:
    texts = [part for part in model.configs if part.startswith("text_encoder")]
    return _attends(model) and texts == ["text_encoder"]


def _is_attending_to_classes(model: Model) -> bool:
    others = ("text_encoder", "image_encoder", "prior", "controlnet")
    return _attends(model) and not any(part.startswith(others) for part in model.configs)


def _is_plain(model: Model, latent: bool) -> bool:
    return model.kind_of(model.denoiser or "") == "UNet2DModel" and model.latent == latent


def _is_dit(model: Model) -> bool:
    config = model.configs.get("transformer", {})
    named = model.kind_of("transformer") in DIT
    return named and config.get("norm_type", "ada_norm_zero") == "ada_norm_zero"


CLASSES = ("conditions", "null_class", "lora")
TEXTS = ("template", "image_size", "lora", "negative_prompt", "guidance_distilled",
         "offload_text")  # fmt: skip
KINDS: list[Kind] = [
    *(
        Kind(
            family.title,
            functools.partial(_is_of_family, family),
            family.parts,
            TEXTS,
            _text_model,
            text_models.try_out,
        )
        for family in text_models.FAMILIES
    ),
    Kind(
        "Stable Diffusion 1 and 2",
        _is_stable_diffusion,
        ("vae", "unet", "scheduler", "tokenizer", "text_encoder"),
        ("template", "lora"),
        _stable_diffusion,
    ),
    Kind(
        "latent diffusion with cross-attention to class embeddings (UNet2DConditionModel)",
        _is_attending_to_classes,
        ("vae", "vqvae", "unet", "scheduler", "class_embedder"),
        CLASSES,
        _class_conditional,
    ),
    Kind(
        "latent diffusion with or without classes (UNet2DModel with an autoencoder)",
        lambda model: _is_plain(model, latent=True),
        ("vae", "vqvae", "unet", "scheduler"),
        CLASSES,
        _class_conditional,
    ),
    Kind(
        "diffusion of pixels with or without classes (UNet2DModel)",
        lambda model: _is_plain(model, latent=False),
        (HERE, "unet", "scheduler"),
        CLASSES,
        _class_conditional,
    ),
    Kind(
        "class-conditional diffusion transformers (DiT)",
        _is_dit,
        ("vae", "transformer", "scheduler"),
        CLASSES,
        _dit,
    ),
    Kind(
        f"the folder of one autoencoder ({', '.join(AUTOENCODERS)})",
        lambda model: not model.index and model.kind_of(HERE) in AUTOENCODERS,
        (HERE,),
        ("image_size",),
        _autoencoder,
    ),
]
