"""Readers of model files from other projects.

No reader executes code in a file. Each reader checks the sizes of tensors before it allocates
memory. ``diffusers_files``, ``ldm_files`` and ``ldm_parts`` read pipelines of diffusers.
``diffae_files`` and ``diffae_config`` read official diffusion autoencoders. ``stylegan2_files``
reads StyleGAN2. ``configs`` checks JSON configs. ``safe_pickle`` and ``safe_loading`` read pickled
tensors without executing the pickle. ``hub`` downloads from a model hub.
"""
