"""Texts for Flux.1 (Black Forest Labs, 2024)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cfxnb.core import validate
from cfxnb.spaces.texts.text_conditions import TextConditions, TextEncoder

PATCH = 2  # side of the squares of a code that become one token of the network
TIME_SCALE = 1000  # the network multiplies its time by this number again


class FluxConditions(TextConditions):
    """Conditions of Flux: the tokens of T5, and the pooled vector of CLIP.

    The network takes codes as a list of squares of 2 x 2 numbers, and the place of each square.

    Args:
        encoders: a ``CLIPTextModel`` and a ``T5EncoderModel``.
        embedded_guidance: guidance scale that the network itself gets, if it was distilled to
            imitate classifier-free guidance (Flux.1-dev). 1 stands for no guidance. Default: 3.5,
            as in diffusers. Ignored by networks without such an input (Flux.1-schnell).

    For the other arguments see ``TextConditions``.
    """

    patch = PATCH

    def __init__(
        self, encoders: Sequence[TextEncoder], *, embedded_guidance: float = 3.5, **kwargs: Any
    ) -> None:
        super().__init__(encoders, **kwargs)
        self.embedded_guidance = validate.number(embedded_guidance, "embedded_guidance", 0.0, 1e3)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        clip, t5 = self.encoders
        return [(t5.length, t5.dims), (clip.dims,)]

    def embed(self, text: str) -> Sequence[Tensor]:
        clip, t5 = self.encoders
        return t5(text)[0], clip(text).pooler_output

    def predict_noise(self, net: Any, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        tokens, vector = self.unpack(condition, net)
        height, width = (side // PATCH for side in x.shape[2:])
        guided = net.config.guidance_embeds
        guidance = torch.full((len(x),), self.embedded_guidance, device=x.device)
        # Each square of a code is a column of ``unfold``, with the channels outside.
        squares = net(
            hidden_states=F.unfold(x, PATCH, stride=PATCH).mT.to(net.dtype),
            timestep=t / TIME_SCALE,
            guidance=guidance if guided else None,
            encoder_hidden_states=tokens,
            pooled_projections=vector,
            txt_ids=x.new_zeros(tokens.shape[1], 3),
            img_ids=_places(height, width).to(x),
        ).sample
        return F.fold(squares.mT.float(), x.shape[2:], PATCH, stride=PATCH)


def _places(height: int, width: int) -> Tensor:
    """Return the place of each square, (height * width, 3): 0, its row and its column."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], -1).view(-1, 3)
