"""Readers of model files from other projects.

No reader executes code in a file. Each reader checks the sizes of tensors before it allocates
memory. ``pipelines`` loads models of diffusers of any kind; start there. ``diffusers_files`` reads
their networks, ``schedulers`` their noise schedules, and ``text_encoders`` their tokenizers and
text encoders. ``building``, ``ldm_files`` and ``ldm_parts`` put most kinds together, and
``text_models`` the large models that are conditioned on texts. ``lora`` merges a LoRA into the
weights. ``refusals`` says why a model is not supported. ``memory`` moves large models to a GPU.
``diffae_files`` and ``diffae_config`` read official diffusion autoencoders. ``stylegan2_files``
reads StyleGAN2. ``configs`` checks JSON configs. ``safe_pickle`` and ``safe_loading`` read pickled
tensors without executing the pickle. ``hub`` downloads from a model hub.
"""
