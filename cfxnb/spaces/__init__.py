"""Spaces: adapters that give all families of generators the same methods.

A space turns images into codes (``encode``) and codes into images (``decode``). To read the code,
start with ``vae``, the shortest module. ``conditions`` defines what a diffusion model can be
conditioned on, and ``texts`` does this for large models of texts. ``parametrisation`` converts what
a network predicts to noise. ``codecs`` turns images into rearranged pixels or latents for diffusion
autoencoders. ``checkpoints`` reads model files of other projects.
"""

from cfxnb.spaces.autoencoder import Autoencoder
from cfxnb.spaces.checkpoints.diffae_files import load_diffae
from cfxnb.spaces.checkpoints.ldm_files import load_ldm, load_stable_diffusion
from cfxnb.spaces.checkpoints.pipelines import load_diffusers
from cfxnb.spaces.codecs import LatentCodec, PixelUnshuffleCodec
from cfxnb.spaces.conditions import (
    AttributeConditions,
    ClassConditions,
    EmbeddingConditions,
    PromptConditions,
    Unconditional,
)
from cfxnb.spaces.diffae import DiffusionAutoencoder
from cfxnb.spaces.diffusion import Diffusion
from cfxnb.spaces.parametrisation import Parametrisation
from cfxnb.spaces.stylegan2 import StyleGAN2, load_stylegan2
from cfxnb.spaces.vae import VAE

__all__ = [
    "VAE", "AttributeConditions", "Autoencoder", "ClassConditions", "Diffusion",
    "DiffusionAutoencoder", "EmbeddingConditions", "LatentCodec", "Parametrisation",
    "PixelUnshuffleCodec", "PromptConditions", "StyleGAN2", "Unconditional", "load_diffae",
    "load_diffusers", "load_ldm", "load_stable_diffusion", "load_stylegan2",
]  # fmt: skip
