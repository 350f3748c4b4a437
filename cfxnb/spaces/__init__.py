"""Spaces: one adapter a family of generators, each only encode and decode."""

from cfxnb.spaces.vae import VAE

__all__ = ["VAE"]
