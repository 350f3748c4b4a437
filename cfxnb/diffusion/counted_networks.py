"""Run the networks of a guided denoiser, and count their forward and backward passes."""

from typing import Any

import torch
from torch import Tensor

from cfxnb.core.tensors import require_gradient
from cfxnb.core.types import Classifier, Code


class CountedNetworks:
    """Runs U-Net, decoder and classifier, and counts their passes per sample.

    Hooks on the outputs of the networks count the backward passes.

    Attributes:
        cost: number of passes of ``unet``, ``decoder`` and ``classifier``, int64 (b,) each.
        counted: samples whose passes are counted, bool (b,). Passes are not
            counted for a sample whose guidance pauses, although the networks still process the
            sample with its batch. The cost of a sample must not depend on the other samples.
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
        """Return images of codes, not clamped to [0, 1], since a clamped pixel has no gradient."""
        return self._watch("decoder", self.space.decode(Code(z), clamp=False))

    def classify(self, images: Tensor) -> Tensor:
        """Return the logits of images, (b, k), and count the passes of the classifier.

        Raises:
            TypeError: if no gradient can be taken through the classifier.
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
