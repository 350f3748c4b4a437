"""The four worlds, one module each. Every loader returns an ImageSet."""

from cfxnb.data.files import DamagedFile
from cfxnb.data.imageset import ImageSet
from cfxnb.data.mnist import digits
from cfxnb.data.morphology import measure

__all__ = ["DamagedFile", "ImageSet", "digits", "measure"]
