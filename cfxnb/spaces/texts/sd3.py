"""Texts for Stable Diffusion 3 and 3.5 (Esser et al., 2024)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cfxnb.core import validate
from cfxnb.spaces.texts.text_conditions import TextConditions, TextEncoder

T5_LENGTH = 256  # tokens that the T5 encoder reads in the pipeline of diffusers


class SD3Conditions(TextConditions):
    """Conditions of Stable Diffusion 3: the tokens of two CLIP encoders and of T5, and a vector.

    The tokens of both CLIP encoders are joined side by side, and filled with zeros to the width of
    T5. The tokens of T5 follow.

    Args:
        encoders: two ``CLIPTextModelWithProjection``, and a ``T5EncoderModel`` unless it was left
            out to save memory. Without T5 its tokens are zeros.
        joint_dims: numbers per token that the network takes.

    For the other arguments see ``TextConditions``.
    """

    def __init__(self, encoders: Sequence[TextEncoder], *, joint_dims: int, **kwargs: Any) -> None:
        super().__init__(encoders, **kwargs)
        self.joint_dims = validate.count(joint_dims, "joint_dims", 1)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        first, second, *rest = self.encoders
        count = first.length + (rest[0].length if rest else T5_LENGTH)
        width = first.net.config.projection_dim + second.net.config.projection_dim
        return [(count, self.joint_dims), (width,)]

    def embed(self, text: str) -> Sequence[Tensor]:
        first, second, *rest = self.encoders
        both = [each(text, output_hidden_states=True) for each in (first, second)]
        clip = torch.cat([each.hidden_states[-2] for each in both], -1)
        clip = F.pad(clip, (0, self.joint_dims - clip.shape[-1]))
        t5 = rest[0](text)[0] if rest else clip.new_zeros(1, T5_LENGTH, self.joint_dims)
        tokens = torch.cat([clip, t5.to(clip.dtype)], 1)
        return tokens, torch.cat([each.text_embeds for each in both], -1)

    def predict_noise(self, net: Any, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        tokens, vector = self.unpack(condition, net)
        return net(
            hidden_states=x.to(net.dtype),
            timestep=t,
            encoder_hidden_states=tokens,
            pooled_projections=vector,
        ).sample
