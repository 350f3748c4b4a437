"""Latent Diffusion Counterfactual Explanations (LDCE; Farid et al., arXiv 2310.06668).

Read ``guidance`` first: its function ``_guided_eps`` is the method of the paper. At each denoising
step the method predicts the clean image and takes the gradient of the classifier. The method keeps
this gradient only at positions where it agrees with the implicit classifier, and adds it to the
predicted noise.

- ``diffusion_counterfactual``: the public function, and the settings of the paper.
- ``options``: checks the options of ``diffusion_counterfactual``.
- ``consensus``: finds where two fields of vectors agree, and how often random vectors would agree.
- ``strength_search``: looks for the smallest amount of noise with which each image flips.
- ``inversion_path``: one DDIM inversion per image, from which all attempts start.
- ``best_attempt``: stores the best attempt of each image so far.
- ``counted_networks``: counts forward and backward passes, to keep this out of ``guidance``.
- ``composite``: restores the original pixels where an edit changed little.

Three older and newer methods take the gradient of the classifier at a clean image instead, so that
no gradient passes through the U-Net. They need no condition. Read ``maskdime`` first.

- ``maskdime``: changes only the positions with the largest gradients (MaskDiME).
- ``fastdime``: restores the positions that changed little (FastDiME).
- ``dime``: takes the gradient at completely denoised images (DiME).
- ``guided_ddpm``: the guided steps that these three methods share, and their options.
- ``scale_ladder``: tries growing scales of the classifier's gradient until each image flips.

SCE searches on images that are noised and denoised again, and gives several answers per image, in
regions that do not overlap. Read ``sce`` first.

- ``sce``: the search, with our repairs. ``sce_as_published``: the search of the official code.
- ``smooth_relu``: smooth gradients of a ReLU network, without training.
- ``distill_classifier``: trains a smooth copy of a black box on its answers.
- ``diverse_counterfactuals``: runs any method again, on pixels that it has not yet changed.

The DDIM steps are in ``core.ddim``, and the DDPM steps in ``core.ddpm``.
"""
