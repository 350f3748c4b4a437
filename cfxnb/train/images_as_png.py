"""Write rows of images as one PNG file."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cfxnb.core.disk import writing

GAP = 2  # white pixels between images
SMALLEST_SIDE = 64  # pixels at which an image is drawn; smaller ones are enlarged


def write_rows(path: Path, rows: list[Tensor]) -> None:
    """Write rows of gray or RGB images (n, c, h, w) in [0, 1], one row below the other."""
    lines = []
    for row in rows:
        images = row.detach().float().cpu().clamp(0, 1)
        if images.shape[1] not in (1, 3):
            images = images.mean(1, keepdim=True)
        images = images.expand(-1, 3, -1, -1)
        scale = max(1, -(-SMALLEST_SIDE // images.shape[3]))
        images = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        padded = torch.nn.functional.pad(images, (0, GAP, 0, GAP), value=1.0)
        lines.append(torch.cat(list(padded), 2))
    width = max(line.shape[2] for line in lines)
    full = [torch.nn.functional.pad(x, (0, width - x.shape[2]), value=1.0) for x in lines]
    pixels = (torch.cat(full, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    with writing(path) as partial:
        Image.fromarray(np.ascontiguousarray(pixels)).save(partial, "png")
