"""Spaces: one adapter per family of generators.

A space turns images into codes (``encode``) and codes into images (``decode``). Start with ``vae``,
the shortest one. ``conditions`` defines what a diffusion model can be conditioned on, ``codecs``
what it works on instead of pixels. ``checkpoints`` reads model files from elsewhere.
"""

from cfxnb.spaces.autoencoder import Autoencoder
from cfxnb.spaces.checkpoints.diffae_files import load_diffae
from cfxnb.spaces.checkpoints.ldm_files import load_ldm, load_stable_diffusion
from cfxnb.spaces.codecs import LatentCodec, PixelUnshuffleCodec
from cfxnb.spaces.conditions import (
    AttributeConditions,
    ClassConditions,
    EmbeddingConditions,
    PromptConditions,
)
from cfxnb.spaces.diffae import DiffusionAutoencoder
from cfxnb.spaces.diffusion import Diffusion
from cfxnb.spaces.stylegan2 import StyleGAN2, load_stylegan2
from cfxnb.spaces.vae import VAE

__all__ = [
    "VAE",
    "AttributeConditions",
    "Autoencoder",
    "ClassConditions",
    "Diffusion",
    "DiffusionAutoencoder",
    "EmbeddingConditions",
    "LatentCodec",
    "PixelUnshuffleCodec",
    "PromptConditions",
    "StyleGAN2",
    "load_diffae",
    "load_ldm",
    "load_stable_diffusion",
    "load_stylegan2",
]  # fmt: skip
