"""Move large models to a device, and save memory in gradients."""

from typing import Any

import torch
from torch import nn

GIB = 2**30


def moved(space: Any, device: torch.device) -> Any:
    """Move a space to a device, and return it.

    Raises:
        ValueError: if the GPU has not enough free memory for the weights.
    """
    if device.type == "cuda":
        needed, free = bytes_to_move(space), torch.cuda.mem_get_info(device)[0]
        if needed > free:
            raise ValueError(
                f"device: expected {needed / GIB:.1f} GiB of free memory for the weights, got "
                f"{free / GIB:.1f} GiB on {device}; pass precision='bfloat16', offload_text=True "
                "or device='cpu'"
            )
    return space.to(device)


def bytes_to_move(space: nn.Module) -> int:
    """Return the size of all weights of a space that move to its device, in bytes.

    Text encoders that are offloaded stay on the CPU.
    """
    conditions = getattr(space, "conditions", None)
    stay: set[int] = set()
    if isinstance(conditions, nn.Module) and getattr(conditions, "offload", False):
        stay = {id(p) for p in conditions.parameters()}
    return sum(p.numel() * p.element_size() for p in space.parameters() if id(p) not in stay)


def checkpoint(space: Any) -> None:
    """Let gradients through the networks of a space compute activations twice.

    Raises:
        ValueError: if the denoising network does not support this.
    """
    net: Any = getattr(space, "net", None)
    if net is not None and not getattr(net, "_supports_gradient_checkpointing", False):
        raise ValueError(
            f"gradient_checkpointing: expected False, since {type(net).__name__} does not "
            "support it"
        )
    autoencoder = getattr(space, "autoencoder", space)
    codec: Any = getattr(getattr(autoencoder, "codec", None), "autoencoder", None)
    for each in (net, codec):
        if getattr(each, "_supports_gradient_checkpointing", False):
            each.enable_gradient_checkpointing()
