"""Measure seconds and peak memory of methods with a network of the size of Stable Diffusion XL.

The weights are random, so that nothing is downloaded, and the counterfactuals mean nothing. Only
time and memory are measured. Run it where there is a GPU::

    python -m benchmarks.large                       # SDXL, 1024 pixels, bfloat16
    python -m benchmarks.large --checkpointing --offload
    python -m benchmarks.large --size tiny --device cpu
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

import cfxnb as cfx
from cfxnb.core.weights_hash import weights_hash
from cfxnb.spaces.autoencoder import Autoencoder
from cfxnb.spaces.checkpoints.memory import bytes_to_move, checkpoint
from cfxnb.spaces.diffusion import Diffusion
from cfxnb.spaces.texts import SDXLConditions, TextEncoder

GIB = 2**30
#: For each size: the U-Net, the autoencoder, both text encoders, and pixels of an image.
SIZES: dict[str, dict[str, Any]] = {
    "sdxl": {
        "unet": {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "layers_per_block": 2,
            "norm_num_groups": 32,
            "addition_time_embed_dim": 256,
        },
        "down": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "vae": {
            "block_out_channels": (128, 256, 512, 512),
            "layers_per_block": 2,
            "norm_num_groups": 32,
        },
        "texts": (
            {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
             "num_attention_heads": 12, "projection_dim": 768, "hidden_act": "quick_gelu"},
            {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
             "num_attention_heads": 20, "projection_dim": 1280, "hidden_act": "gelu"},
        ),
        "pixels": 1024,
    },
    "tiny": {
        "unet": {
            "sample_size": 8,
            "block_out_channels": (8, 16, 16),
            "transformer_layers_per_block": (1, 1, 2),
            "attention_head_dim": (2, 2, 2),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "addition_time_embed_dim": 8,
        },
        "down": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "vae": {
            "block_out_channels": (8, 8, 8, 8),
            "layers_per_block": 1,
            "norm_num_groups": 4,
        },
        "texts": (
            {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2,
             "num_attention_heads": 2, "projection_dim": 8, "hidden_act": "quick_gelu"},
            {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 2,
             "num_attention_heads": 2, "projection_dim": 12, "hidden_act": "gelu"},
        ),
        "pixels": 64,
    },
}  # fmt: skip
#: Methods that are measured, with few steps.
METHODS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "consensus": (cfx.diffusion_counterfactual, {"steps": 3, "max_attempts": 1}),
    "consensus, no gradient through the U-Net": (
        cfx.diffusion_counterfactual,
        {"steps": 3, "max_attempts": 1, "backprop_diffusion": False},
    ),
    "flow walk": (cfx.flow_counterfactual, {"rounds": 3, "binary_search_steps": 0}),
    "maskdime": (cfx.maskdime, {"steps": 3, "scales": (1.0,)}),
    "latent attack": (cfx.latent_attack, {"steps": 3, "binary_search_steps": 0}),
}


class Brightest(nn.Module):
    """A classifier of two classes: dark and bright images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        light = images.mean((1, 2, 3))
        return torch.stack([0.5 - light, light - 0.5], 1)


def tokenizer() -> Any:
    """Return a tokenizer of CLIP that knows letters only."""
    import transformers

    letters = [chr(n) for n in range(33, 127)]
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        vocab, merges = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        vocab.write_text(json.dumps({word: n for n, word in enumerate(words)}))
        merges.write_text("#version: 0.2\n")
        return transformers.CLIPTokenizer(str(vocab), str(merges), model_max_length=77)


def space_of(
    size: str,
    device: torch.device,
    *,
    precision: str = "bfloat16",
    offload: bool = False,
    checkpointing: bool = False,
) -> Diffusion:
    """Return a space with random weights.

    Args:
        size: name of one of ``SIZES``.
        device: device on which the networks are made.
        precision: ``"float32"`` or ``"bfloat16"``.
        offload: whether the text encoders stay on the CPU.
        checkpointing: whether gradients compute activations twice.
    """
    with torch.device(device):
        unet, codec, texts = networks(size)
    made, dtype = SIZES[size], torch.bfloat16 if precision == "bfloat16" else torch.float32
    encoders = [TextEncoder(tokenizer(), each.to(dtype), 77) for each in texts]
    if offload:
        for each in texts:
            each.cpu()
    side = made["pixels"] // 8
    autoencoder = Autoencoder(
        codec,
        torch.zeros(4, side, side, device=device),
        torch.ones(4, side, side, device=device),
        scaling_factor=0.13025,
        precision=precision,
    )
    conditions = SDXLConditions(encoders, downsample_factor=8, offload=offload)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    space = Diffusion(
        unet.to(dtype), autoencoder, conditions=conditions, alphas_cumprod=(1 - betas).cumprod(0)
    )
    if checkpointing:
        checkpoint(space)
    return space.eval().requires_grad_(False).to(device)


def networks(size: str) -> tuple[Any, Any, tuple[Any, Any]]:
    """Return a U-Net, an autoencoder and two text encoders with random weights."""
    import diffusers
    import transformers

    made = SIZES[size]
    torch.manual_seed(0)
    first, second = (
        transformers.CLIPTextConfig(vocab_size=49408, **each) for each in made["texts"]
    )
    added = 6 * made["unet"]["addition_time_embed_dim"] + second.projection_dim
    unet = diffusers.UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        down_block_types=made["down"],
        up_block_types=tuple(name.replace("Down", "Up") for name in reversed(made["down"])),
        cross_attention_dim=first.hidden_size + second.hidden_size,
        use_linear_projection=True,
        addition_embed_type="text_time",
        projection_class_embeddings_input_dim=added,
        **made["unet"],
    )
    codec = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        **made["vae"],
    )
    texts = (
        transformers.CLIPTextModel(first),
        transformers.CLIPTextModelWithProjection(second),
    )
    return unet, codec, texts


@contextmanager
def measured(device: torch.device, found: dict[str, float]) -> Iterator[None]:
    """Store the seconds of the ``with`` block, and the peak of memory in GiB, in ``found``.

    On a GPU the peak is that of the block. On the CPU it is that of the whole process so far.
    """
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    yield
    if on_gpu:
        torch.cuda.synchronize(device)
    found["seconds"] = time.perf_counter() - started
    if on_gpu:
        found["GiB"] = torch.cuda.max_memory_allocated(device) / GIB
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        found["GiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def rows(
    size: str = "sdxl",
    device: str | None = None,
    *,
    n_images: int = 1,
    precision: str = "bfloat16",
    offload: bool = False,
    checkpointing: bool = False,
) -> list[dict[str, Any]]:
    """Run each method once on random images, and return one row per method.

    Args:
        size: name of one of ``SIZES``.
        device: device to run on. Default: CUDA if available, else the CPU.
        n_images: number of images in one batch.
        precision, offload, checkpointing: arguments of ``space_of``.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    space = space_of(size, where, precision=precision, offload=offload, checkpointing=checkpointing)
    side = SIZES[size]["pixels"]
    images = torch.rand(n_images, 3, side, side, generator=torch.Generator().manual_seed(1))
    classifier = cfx.wrap(Brightest().to(where), class_names=("dark", "bright"))
    target = 1 - classifier(images.to(where)).argmax(1).cpu()
    found: dict[str, float] = {}
    with measured(where, found):
        weights_hash(space)
    table: list[dict[str, Any]] = [{"method": "hash of the weights, once per call", **found}]
    for name, (method, options) in METHODS.items():
        with measured(where, found):
            method(space, classifier, images, target, confidence=0.999, **options)
        table.append({"method": name, **found})
    table.append({"method": "weights on the device", "GiB": bytes_to_move(space) / GIB})
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, and print its rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", choices=SIZES, default="sdxl")
    parser.add_argument("--device", help="default: CUDA if available, else the CPU")
    parser.add_argument("--images", type=int, default=1, help="images in one batch")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--offload", action="store_true", help="text encoders stay on the CPU")
    parser.add_argument("--checkpointing", action="store_true", help="compute activations twice")
    asked = parser.parse_args(arguments)
    for row in rows(
        asked.size,
        asked.device,
        n_images=asked.images,
        precision=asked.precision,
        offload=asked.offload,
        checkpointing=asked.checkpointing,
    ):
        seconds = f"{row['seconds']:8.2f} s" if "seconds" in row else " " * 10
        print(f"{row['method']:45} {seconds} {row['GiB']:8.2f} GiB")


if __name__ == "__main__":
    main()
