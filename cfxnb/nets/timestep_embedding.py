"""Sinusoidal timestep embeddings (Vaswani et al., 2017)."""

import math

import torch
from torch import Tensor


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    """Return cos and sin of t at ``width // 2`` frequencies from 1 to 1/10,000, (b, width)."""
    half = width // 2
    frequency = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angle = t[:, None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], 1)
