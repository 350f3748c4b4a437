"""Texts for PixArt-alpha (Chen et al., 2023) and PixArt-Sigma (Chen et al., 2024)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.spaces.texts.text_conditions import TextConditions, TextEncoder


class PixArtConditions(TextConditions):
    """Conditions of PixArt: the tokens of T5, and the mask of those that belong to the text.

    PixArt-alpha for images of 1024 pixels also gets height, width and aspect ratio of the image.

    Args:
        encoders: a ``T5EncoderModel``.
        downsample_factor: height of an image divided by the height of its code.

    For the other arguments see ``TextConditions``.
    """

    lower_case = True

    def __init__(
        self, encoders: Sequence[TextEncoder], *, downsample_factor: int = 8, **kwargs: Any
    ) -> None:
        super().__init__(encoders, **kwargs)
        self.downsample_factor = validate.count(downsample_factor, "downsample_factor", 1)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        (t5,) = self.encoders
        return [(t5.length, t5.dims), (t5.length,)]

    def embed(self, text: str) -> Sequence[Tensor]:
        return self.encoders[0].masked(text)

    def predict_noise(self, net: Any, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        tokens, mask = self.unpack(condition, net)
        added: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if net.use_additional_conditions:
            height, width = (self.downsample_factor * side for side in x.shape[2:])
            numbers = torch.tensor([height, width, height / width], device=x.device)
            each = numbers.expand(len(x), 3)
            added = {"resolution": each[:, :2], "aspect_ratio": each[:, 2:]}
        return net(
            x.to(net.dtype),
            encoder_hidden_states=tokens,
            timestep=t,
            added_cond_kwargs=added,
            encoder_attention_mask=mask,
        ).sample
