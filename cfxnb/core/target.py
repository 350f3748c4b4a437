"""What methods take as ``target`` and as ``label``."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from cfxnb.core.goals import Goal
from cfxnb.core.streams import FromItem

Label = int | str | Sequence[int | str] | Tensor | FromItem
"""A class, by number or name: one for all images, or one per image. With a data set, ``from_item``
names the entry of each item that holds its class."""

Target = Label | Goal | Callable[[Tensor], Any]
"""A Label, a goal for a model of outcomes, or a function that maps the logits of the originals
(b, k) to one class per image, (b,)."""
