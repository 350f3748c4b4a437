"""Run the networks of a guided denoiser, and count their forward and backward passes."""

from typing import Any

import torch
from torch import Tensor

from cfxnb.core.tensors import require_gradient
from cfxnb.core.types import Classifier, Code


class CountedNetworks:
    """Runs U-Net, decoder and classifier, and counts their passes per sample.

    Every sample that a network computes is counted, forward and backward, whether the result is
    used or not. Hooks on the outputs of the networks count the backward passes.

    Attributes:
        cost: number of passes of ``unet``, ``decoder`` and ``classifier``, int64 (b,) each.
    """

    def __init__(self, space: Any, classifier: Classifier, count: int) -> None:
        self.space, self.classifier = space, classifier
        parts = ("unet", "decoder", "classifier")
        self.cost = {part: torch.zeros(count, dtype=torch.int64) for part in parts}

    def eps(self, rows: Tensor, z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the noise that the U-Net predicts.

        Args:
            rows: positions of the n samples in the batch, (n,), on the CPU.
            z: noisy codes of the n samples, (n, c, h, w).
            t: times, (n,).
            condition: encoded conditions, one per sample.
        """
        return self._watch("unet", rows, self.space.predict_noise(z, t, condition))

    def decode(self, rows: Tensor, z: Tensor) -> Tensor:
        """Return images of codes, not clamped to [0, 1], since a clamped pixel has no gradient."""
        return self._watch("decoder", rows, self.space.decode(Code(z), clamp=False))

    def classify(self, rows: Tensor, images: Tensor) -> Tensor:
        """Return the logits of images, (n, k).

        Raises:
            TypeError: if gradients are enabled, but the classifier has no gradients.
        """
        logits = self._watch("classifier", rows, self.classifier(images))
        if torch.is_grad_enabled():
            require_gradient(logits)
        return logits

    def _watch(self, part: str, rows: Tensor, output: Tensor) -> Tensor:
        self._count(part, rows)
        if output.requires_grad:
            output.register_hook(lambda _: self._count(part, rows))
        return output

    def _count(self, part: str, rows: Tensor) -> None:
        self.cost[part][rows] += 1
