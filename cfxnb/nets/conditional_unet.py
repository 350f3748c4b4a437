"""A denoiser of latents that is told attributes, any of which may be left open."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn


class ConditionalUNet(nn.Module):
    """diffusers' ``UNet2DModel``, with one learned vector for each option of each attribute.

    The vectors of what is told are added to that of the time. An attribute may be left open: this,
    too, has a vector, so that the net knows the images of every partial description, and of none.

    Args:
        attributes: options of each attribute by its name.
        channels: of the latents.
        widths: feature maps at each size; the sides are halved in between.
        attention: at which of the sizes every position looks at every other one.
        blocks: residual blocks at each size.
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
        # Here, since importing it takes seconds that most uses of the package don't need.
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
        # torch's fused attention is slow to train on a processor; the result is the same.
        for part in self.modules():
            if isinstance(part, Attention):
                part.set_processor(AttnProcessor())
        sizes = [len(options) for options in self.attributes.values()]
        self.condition_embeddings = nn.ModuleList(
            nn.Embedding(size + 1, 4 * widths[0]) for size in sizes
        )

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """The velocity of noisy latents (b, c, h, w) at times (b,).

        Args:
            condition: number of the option of each attribute, int64 (b, attributes); one more than
                the last where it is left open.
        """
        vectors = [table(condition[:, i]) for i, table in enumerate(self.condition_embeddings)]
        return self.unet(x, t, class_labels=sum(vectors)).sample
