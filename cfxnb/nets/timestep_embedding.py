"""Sinusoidal timestep embeddings (Vaswani et al., 2017)."""

import math

import torch
from torch import Tensor


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    """Return cos(f t) and sin(f t), (b, width), for ``width // 2`` frequencies f.

    The frequencies fall geometrically from 1 to about 1/10,000.
    """
    half = width // 2
    frequency = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angle = t[:, None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], 1)
