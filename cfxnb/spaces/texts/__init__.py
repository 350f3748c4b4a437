"""Conditions that are texts, for large models that take several embeddings of a text.

Read ``text_conditions`` first: a condition is a text, and its embeddings are packed into one row of
a tensor. Each of the other files has one family of models: which encoders it has, what it keeps of
their outputs, and how its network is called. The files are ``sdxl``, ``sd3``, ``flux``, ``pixart``
and ``sana``. Stable Diffusion 1 and 2 have only one embedding; see ``spaces.conditions``.
"""

from cfxnb.spaces.texts.flux import FluxConditions
from cfxnb.spaces.texts.pixart import PixArtConditions
from cfxnb.spaces.texts.sana import SanaConditions
from cfxnb.spaces.texts.sd3 import SD3Conditions
from cfxnb.spaces.texts.sdxl import SDXLConditions
from cfxnb.spaces.texts.text_conditions import TextConditions, TextEncoder

__all__ = [
    "FluxConditions", "PixArtConditions", "SD3Conditions", "SDXLConditions", "SanaConditions",
    "TextConditions", "TextEncoder",
]  # fmt: skip
