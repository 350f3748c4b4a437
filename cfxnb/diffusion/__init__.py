"""Latent Diffusion Counterfactual Explanations (LDCE; Farid et al., arXiv 2310.06668).

Read ``guidance`` first: its function ``_guided_eps`` is the method of the paper. At each denoising
step the method predicts a clean image, and takes the gradient of the classifier at this prediction.
The method keeps the gradient only at positions where it agrees with the implicit classifier, which
is the diffusion model's own direction towards the target. The kept gradient is added to the
predicted noise.

- ``diffusion_counterfactual``: the public function, and the settings of the paper.
- ``options``: checks the options of ``diffusion_counterfactual``.
- ``consensus``: finds where two fields of vectors agree, and how often random vectors would agree.
- ``strength_search``: looks for the smallest amount of noise with which each image flips.
- ``inversion_path``: one DDIM inversion per image, from which all attempts start.
- ``best_attempt``: stores the best attempt of each image so far.
- ``counted_networks``: counts forward and backward passes of the networks.
- ``composite``: restores the original pixels where an edit changed little.

DiME, FastDiME and MaskDiME take the gradient of the classifier at a clean image, so that no
gradient passes through the U-Net. They need no condition. Read ``maskdime`` first.

- ``maskdime``: changes only the positions with the largest gradients (MaskDiME).
- ``fastdime``: restores the positions that changed little (FastDiME).
- ``dime``: takes the gradient at completely denoised images (DiME).
- ``guided_ddpm``: the guided steps that MaskDiME, FastDiME and DiME share, and their options.
- ``scale_ladder``: tries growing scales of the classifier's gradient until each image flips.

SCE takes the classifier's gradient at images that are noised and denoised again. SCE can give
several counterfactuals per image, in regions that do not overlap. Read ``sce`` first.

- ``sce``: SCE with repairs. ``sce_as_published``: SCE as in its official code.
- ``smooth_relu``: smooth gradients of a ReLU network, without training.
- ``distill_classifier``: trains a smooth network to imitate a black box.
- ``diverse_counterfactuals``: runs any method several times, each time on pixels that are still
  unchanged.

The DDIM steps are in ``core.ddim``, and the DDPM steps in ``core.ddpm``.
"""
