"""A denoising network for latents, conditioned on attributes."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn


class ConditionalUNet(nn.Module):
    """``UNet2DModel`` of diffusers, with one learned embedding per option of each attribute.

    The embeddings are added to the timestep embedding. An attribute can also be left open (not
    conditioned on): the network then uses a further embedding of this attribute. One network
    therefore models images given all attributes, some attributes, or none.

    Args:
        attributes: dict from the name of each attribute to the names of its options.
        channels: number of channels of the latents.
        widths: number of feature maps at each resolution. Each resolution has half the height and
            width of the resolution before.
        attention: whether the network has self-attention, for each resolution.
        blocks: number of residual blocks at each resolution.
    """

    prediction_type = "v_prediction"

    def __init__(
        self,
        attributes: Mapping[str, Sequence[str]],
        channels: int = 4,
        widths: Sequence[int] = (64, 128),
        attention: Sequence[bool] = (False, True),
        blocks: int = 1,
    ) -> None:
        super().__init__()
        # Not at the top, because the import takes seconds, and most users don't need it.
        from diffusers import UNet2DModel
        from diffusers.models.attention_processor import Attention, AttnProcessor

        self.attributes = {name: tuple(options) for name, options in attributes.items()}
        down = ["AttnDownBlock2D" if a else "DownBlock2D" for a in attention]
        up = ["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)]
        self.unet: Any = UNet2DModel(
            in_channels=channels,
            out_channels=channels,
            block_out_channels=tuple(widths),
            layers_per_block=blocks,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            norm_num_groups=16,
            attention_head_dim=32,
            class_embed_type="identity",
        )
        # On the CPU, training with torch's fused attention is slow. The results are the same.
        for part in self.modules():
            if isinstance(part, Attention):
                part.set_processor(AttnProcessor())
        sizes = [len(options) for options in self.attributes.values()]
        self.condition_embeddings = nn.ModuleList(
            nn.Embedding(size + 1, 4 * widths[0]) for size in sizes
        )

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the predicted velocity of noisy latents.

        Args:
            x: noisy latents, (b, c, h, w).
            t: times, (b,).
            condition: index of the option of each attribute, int64 (b, attributes). The index of
                an attribute that is left open is the number of its options.
        """
        vectors = [table(condition[:, i]) for i, table in enumerate(self.condition_embeddings)]
        return self.unet(x, t, class_labels=sum(vectors)).sample
