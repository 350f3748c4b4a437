"""Say in words why a model of diffusers is not supported."""

import re
from collections.abc import Mapping
from typing import Any

#: Part of the name of a pipeline -> why it is not supported. The first match counts.
REASONS = (
    ("ControlNet|T2IAdapter|Adapter", "a model that also follows a control image, such as an edge "
     "map; use the model that it was built on"),
    ("Inpaint|Fill", "a model for inpainting, whose network also takes a masked image; use the "
     "model that it was built on"),
    ("Video|Animate|CogVideoX|Wan|LTX|Mochi|Allegro|SkyReels|Cosmos|I2V", "a model of videos"),
    ("Audio|Music|AceStep", "a model of sound"),
    ("Kontext|Edit|Pix2Pix|Redux|Omni|Control", "a model that edits an image or follows another "
     "image, which its network also takes"),
    ("Refiner", "a refiner, which only improves images of another model"),
    ("Upscale|SuperResolution|X4|X2", "a model that enlarges images"),
    ("Sprint|LatentConsistency|Consistency", "a consistency model, which predicts clean images in "
     "one or two steps and has no noise prediction at all times"),
    ("Cascade|Wuerstchen|Kandinsky|UnCLIP|Prior", "a model of several stages, the first of which "
     "generates embeddings of images"),
    ("DeepFloyd|^IF|ShapE|Marigold", "a model of several stages or of something else than images"),
)  # fmt: skip


def refusal(pipeline: str | None, configs: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return why a model is not supported, such as "which is a model of videos", or None.

    Args:
        pipeline: name of the pipeline in ``model_index.json``.
        configs: the configs of the parts.
    """
    if "controlnet" in configs:
        return f"which is {REASONS[0][1]}"
    for words, why in REASONS:
        if pipeline and re.search(words, pipeline):
            return f"which is {why}"
    return None


def of_channels(into: Any, wanted: int) -> str:
    """Return what kind of model takes ``into`` channels instead of ``wanted``, or "" if unknown.

    Args:
        into: number of channels that the network takes.
        wanted: number of channels of noisy codes.
    """
    if type(into) is not int or into < 2 * wanted:
        return ""
    if into == 2 * wanted:
        what = "models that edit an image or follow another one, which they also take"
    else:
        what = "models for inpainting, which also take a masked image"
    return f", as {what}; such models are not supported"
