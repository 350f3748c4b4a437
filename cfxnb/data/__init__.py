"""The data sets ``digits``, ``sprites``, ``faces`` and ``chest``, and data sets of your own.

``folder`` reads a folder of images, and ``from_dataset`` a data set of PyTorch or of Hugging Face.
``sprites`` samples figures from a causal model (``World``), so every factor of an image is known.
"""

from cfxnb.data.causal import World, given
from cfxnb.data.fairface import faces
from cfxnb.data.files import DamagedFileError
from cfxnb.data.folder import folder
from cfxnb.data.from_dataset import from_dataset
from cfxnb.data.imageset import ImageSet
from cfxnb.data.lazy_imageset import LazyImageSet
from cfxnb.data.lpc import SPRITE_OPTIONS, layer_mask, render_sprites
from cfxnb.data.mnist import digits
from cfxnb.data.morphology import measure_digits
from cfxnb.data.sprite_classifiers import (
    SPRITE_CLASSIFIERS,
    SPRITE_CONTRASTS,
    random_planted_classifier,
)
from cfxnb.data.sprite_figures import SPRITE_WORLDS, intervene, sprites
from cfxnb.data.xrays import chest

__all__ = [
    "SPRITE_CLASSIFIERS",
    "SPRITE_CONTRASTS",
    "SPRITE_OPTIONS",
    "SPRITE_WORLDS",
    "DamagedFileError",
    "ImageSet",
    "LazyImageSet",
    "World",
    "chest",
    "digits",
    "faces",
    "folder",
    "from_dataset",
    "given",
    "intervene",
    "layer_mask",
    "measure_digits",
    "random_planted_classifier",
    "render_sprites",
    "sprites",
]  # fmt: skip
