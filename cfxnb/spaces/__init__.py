"""Spaces: one adapter a family of generators, each only encode and decode."""

from cfxnb.spaces.diffae import DiffusionAutoencoder
from cfxnb.spaces.diffae_files import load_diffae
from cfxnb.spaces.folding import Fold, Latents
from cfxnb.spaces.stylegan2 import StyleGAN2, load_stylegan2
from cfxnb.spaces.vae import VAE

__all__ = [
    "VAE", "DiffusionAutoencoder", "Fold", "Latents", "StyleGAN2", "load_diffae", "load_stylegan2",
]  # fmt: skip
