"""The worlds, one module each. Every loader returns an ImageSet."""

from cfxnb.data.causal import World, given
from cfxnb.data.fairface import faces
from cfxnb.data.files import DamagedFileError
from cfxnb.data.imageset import ImageSet
from cfxnb.data.lpc import SPRITE_OPTIONS, render_sprites, layer_mask
from cfxnb.data.mnist import digits
from cfxnb.data.morphology import measure_digits
from cfxnb.data.sprite_classifiers import SPRITE_CONTRASTS, SPRITE_CLASSIFIERS
from cfxnb.data.sprite_figures import SPRITE_WORLDS, intervene, sprites
from cfxnb.data.xrays import chest

__all__ = [
    "SPRITE_CONTRASTS", "SPRITE_OPTIONS", "SPRITE_CLASSIFIERS", "SPRITE_WORLDS", "DamagedFileError", "ImageSet", "World", "chest",
    "digits", "faces", "given", "intervene", "layer_mask", "measure_digits", "render_sprites", "sprites",
]  # fmt: skip
