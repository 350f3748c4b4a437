"""The worlds, one module each. Every loader returns an ImageSet."""

from cfxnb.data.causal import World, given
from cfxnb.data.fairface import faces
from cfxnb.data.files import DamagedFile
from cfxnb.data.imageset import ImageSet
from cfxnb.data.lpc import OPTIONS, render, visible
from cfxnb.data.mnist import digits
from cfxnb.data.morphology import measure
from cfxnb.data.sprite_classifiers import CONTRASTS, PLANTED
from cfxnb.data.sprite_figures import WORLDS, intervene, sprites
from cfxnb.data.xrays import chest

__all__ = [
    "CONTRASTS", "OPTIONS", "PLANTED", "WORLDS", "DamagedFile", "ImageSet", "World", "chest",
    "digits", "faces", "given", "intervene", "measure", "render", "sprites", "visible",
]  # fmt: skip
