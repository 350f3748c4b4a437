"""Readers of foreign checkpoints: nothing in a file is executed, and sizes are checked before use.

``diffusers_files`` and ``ldm_files`` read pipelines of diffusers, ``diffae_files`` official
diffusion autoencoders, ``stylegan2_files`` StyleGAN2. ``configs`` checks JSON configs.
``safe_pickle`` and ``safe_loading`` read pickled tensors without running them. ``hub`` fetches
from a model hub.
"""
