"""Spaces: one adapter a family of generators, each only encode and decode."""

from cfxnb.spaces.stylegan2 import StyleGAN2, load_stylegan2
from cfxnb.spaces.vae import VAE

__all__ = ["VAE", "StyleGAN2", "load_stylegan2"]
