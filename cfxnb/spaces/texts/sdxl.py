"""Texts for Stable Diffusion XL (Podell et al., 2023)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.spaces.texts.text_conditions import TextConditions, TextEncoder


class SDXLConditions(TextConditions):
    """Conditions of Stable Diffusion XL: the tokens of two CLIP encoders, and a pooled vector.

    The network also gets the size of the original image before cropping, the corner of the crop,
    and the size of the image. The corner is (0, 0).

    Args:
        encoders: a ``CLIPTextModel`` and a ``CLIPTextModelWithProjection``.
        downsample_factor: height of an image divided by the height of its code.
        zeros_for_nothing: whether the condition None stands for zeros, and not for the embeddings
            of the empty text. Ignored with ``negative_prompt``.
        original_size: height and width of the original image before any resizing, which the
            network was told in training. Default: the size of the image.

    For the other arguments see ``TextConditions``.
    """

    def __init__(
        self,
        encoders: Sequence[TextEncoder],
        *,
        downsample_factor: int = 8,
        zeros_for_nothing: bool = True,
        original_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoders, **kwargs)
        self.downsample_factor = validate.count(downsample_factor, "downsample_factor", 1)
        self.zeros_for_nothing = validate.flag(zeros_for_nothing, "zeros_for_nothing")
        self.original_size = original_size and validate.sizes(
            original_size, "original_size", "(h, w)"
        )

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        first, second = self.encoders
        return [(first.length, first.dims + second.dims), (second.net.config.projection_dim,)]

    def embed(self, text: str) -> Sequence[Tensor]:
        first, second = (each(text, output_hidden_states=True) for each in self.encoders)
        tokens = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1)
        return tokens, second.text_embeds

    def embed_nothing(self) -> Sequence[Tensor]:
        if self.zeros_for_nothing and self.negative_prompt is None:
            return [torch.zeros_like(each) for each in self.embed("")]
        return super().embed_nothing()

    def predict_noise(self, net: Any, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        tokens, vector = self.unpack(condition, net)
        size = [self.downsample_factor * side for side in x.shape[2:]]
        numbers = [*(self.original_size or size), 0, 0, *size]
        time_ids = torch.tensor(numbers, dtype=torch.float32, device=x.device).expand(len(x), 6)
        added = {"text_embeds": vector, "time_ids": time_ids}
        return net(x.to(net.dtype), t, encoder_hidden_states=tokens, added_cond_kwargs=added).sample
