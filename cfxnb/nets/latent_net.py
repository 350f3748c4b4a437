"""The denoising network of the latent DDIM (Preechakul et al., 2022, appendix)."""

import torch
from torch import Tensor, nn

from cfxnb.nets.timestep_embedding import timestep_embedding


class Layer(nn.Module):
    """A linear layer whose output is scaled by a function of the time, and then normalised.

    If ``last`` is True, the layer has neither scaling nor normalisation.
    """

    def __init__(self, inside: int, outside: int, time_dim: int, last: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inside, outside)
        self.last = last
        if not last:
            self.linear_emb = nn.Linear(time_dim, outside)
            # Official checkpoints contain this layer under two names.
            self.cond_layers = nn.Sequential(nn.SiLU(), self.linear_emb)
            self.norm = nn.LayerNorm(outside)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.linear(x)
        if self.last:
            return h
        return nn.functional.silu(self.norm(h * (1 + self.cond_layers(time))))


class LatentNet(nn.Module):
    """Predict the noise of noisy codes (b, dims) at times from 0 to 999, (b,).

    Each layer but the first gets the noisy code as an additional input.

    Args:
        dims: dimension of the codes.
        hidden_dim: width of the hidden layers.
        layers: number of layers.
        time_channels: dimension of the sinusoidal timestep embedding.
    """

    def __init__(
        self, dims: int, hidden_dim: int = 256, layers: int = 6, time_channels: int = 64
    ) -> None:
        super().__init__()
        self.time_channels = time_channels
        self.time_embed = nn.Sequential(
            nn.Linear(time_channels, dims), nn.SiLU(), nn.Linear(dims, dims)
        )
        widths = [dims, *[hidden_dim] * (layers - 1)]
        self.layers = nn.ModuleList(
            Layer(
                width + dims * (number > 0),
                dims if number == layers - 1 else hidden_dim,
                dims,
                number == layers - 1,
            )
            for number, width in enumerate(widths)
        )

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        time = self.time_embed(timestep_embedding(t, self.time_channels))
        h = z
        for number, layer in enumerate(self.layers):
            h = layer(torch.cat([h, z], 1) if number else h, time)
        return h
