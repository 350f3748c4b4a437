"""The networks of a guided denoiser, with a count of their passes."""

from typing import Any

import torch
from torch import Tensor

from cfxnb.core.tensors import require_gradient
from cfxnb.core.types import Classifier, Code


class CountedNetworks:
    """U-Net, decoder and classifier; counts forward and backward passes per sample.

    Hooks on the outputs notice the backward passes.

    Attributes:
        cost: number of passes of ``unet``, ``decoder`` and ``classifier``, int64 (b,) each.
        counted: samples whose passes are counted, bool (b,). A sample whose guidance pauses is
            computed along with its batch, but nothing is counted for it: its cost must not depend
            on the other samples.
    """

    def __init__(self, space: Any, classifier: Classifier, count: int) -> None:
        self.space, self.classifier = space, classifier
        self.counted = torch.ones(count, dtype=torch.bool)
        parts = ("unet", "decoder", "classifier")
        self.cost = {part: torch.zeros(count, dtype=torch.int64) for part in parts}

    def eps(self, z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the noise that the U-Net predicts in ``z`` (b, c, h, w) at times ``t`` (b,)."""
        return self._watch("unet", self.space.predict_noise(z, t, condition))

    def decode(self, z: Tensor) -> Tensor:
        """Return the images of codes, not clamped to [0, 1]: a clamped pixel has no gradient."""
        return self._watch("decoder", self.space.decode(Code(z), clamp=False))

    def classify(self, images: Tensor) -> Tensor:
        """Return logits (b, k).

        Raises:
            TypeError: if the classifier passes no gradients.
        """
        logits = self._watch("classifier", self.classifier(images))
        require_gradient(logits)
        return logits

    def _watch(self, part: str, output: Tensor) -> Tensor:
        self._count(part)
        if output.requires_grad:
            output.register_hook(lambda _: self._count(part))
        return output

    def _count(self, part: str) -> None:
        self.cost[part] += self.counted
