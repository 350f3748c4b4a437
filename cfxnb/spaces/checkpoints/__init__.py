"""Readers of checkpoints from elsewhere.

No reader executes code in a file, and each checks the sizes before it allocates memory.
``diffusers_files``, ``ldm_files`` and ``ldm_parts`` read pipelines of diffusers, ``diffae_files``
and ``diffae_config`` official diffusion autoencoders, ``stylegan2_files`` StyleGAN2. ``configs``
checks JSON configs. ``safe_pickle`` and ``safe_loading`` read pickled tensors without running them.
``hub`` downloads from a model hub.
"""
