"""Tiny latent diffusion models as diffusers saves them: random weights, a few kilobytes."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from safetensors.torch import save_file
from torch import Generator, nn

CLASSES = 3
WIDTHS = (8, 16)
TEXT = 12  # numbers a word


def settled(net, seed=0):
    """Weights that do not depend on anything else, none of them 0."""
    generator = Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in net.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim > 1:
                p.copy_(noise / p[0].numel() ** 0.5)
            else:  # of norms, 1 or 0 by themselves
                p.copy_(0.05 * noise + name.endswith("weight"))
    return net.eval()


def kl(**knobs):
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=WIDTHS,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        **knobs,
    )


def vq(**knobs):
    return VQModel(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=WIDTHS,
        latent_channels=3,
        num_vq_embeddings=32,
        norm_num_groups=4,
        **knobs,
    )


def tiny(**knobs):
    return AutoencoderTiny(
        encoder_block_out_channels=WIDTHS[:1] * 2,
        decoder_block_out_channels=WIDTHS[:1] * 2,
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=4,
        **knobs,
    )


def labelled(channels, **knobs):
    """Told the number of a class."""
    settings = {
        "sample_size": 8,
        "in_channels": channels,
        "out_channels": channels,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": WIDTHS,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 8,
        "num_class_embeds": CLASSES + 1,
    }
    return UNet2DModel(**settings | knobs)


def looking(channels, **knobs):
    """Told vectors."""
    settings = {
        "sample_size": 8,
        "in_channels": channels,
        "out_channels": channels,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "block_out_channels": WIDTHS,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "cross_attention_dim": TEXT,
    }
    return UNet2DConditionModel(**settings | knobs)


def table(rows=CLASSES + 1):
    return torch.randn(rows, TEXT, generator=Generator().manual_seed(5))


def write(folder, net, codec, scheduler=None, place="vae", vectors=None):
    """A folder with a net, an autoencoder and a schedule."""
    folder = Path(folder)
    settled(net).save_pretrained(folder / "unet", safe_serialization=True)
    settled(codec, 1).save_pretrained(folder / place, safe_serialization=True)
    (scheduler or DDIMScheduler(beta_schedule="scaled_linear")).save_pretrained(
        folder / "scheduler"
    )
    if vectors is not None:
        (folder / "class_embedder").mkdir()
        file = folder / "class_embedder" / "diffusion_pytorch_model.safetensors"
        save_file({"embedding.weight": vectors}, file)
    index = {"_class_name": "LDMPipeline", "_diffusers_version": "0.35.0"}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def add_texts(folder):
    """A text encoder, and a tokenizer that knows letters and few pairs of them."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = [chr(n) for n in range(33, 127)]
    merges = ["r e", "re d</w>", "b l", "bl u", "blu e</w>"]
    words = [*letters, *(f"{c}</w>" for c in letters), *(m.replace(" ", "") for m in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    words = list(dict.fromkeys(words))
    raw = Path(folder) / "raw"
    raw.mkdir()
    (raw / "vocab.json").write_text(json.dumps({w: n for n, w in enumerate(words)}))
    (raw / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    tokenizer = CLIPTokenizer(str(raw / "vocab.json"), str(raw / "merges.txt"), model_max_length=12)
    tokenizer.save_pretrained(folder / "tokenizer")
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=TEXT,
        intermediate_size=16,
        projection_dim=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=12,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
    )
    encoder = settled(CLIPTextModel(config), 2)
    encoder.save_pretrained(folder / "text_encoder", safe_serialization=True)
    return folder


def stable_diffusion(folder):
    return add_texts(write(folder, looking(4), kl(scaling_factor=0.18215)))


KINDS = {
    "labelled, vq": lambda f: write(f, labelled(3), vq(scaling_factor=0.5), place="vqvae"),
    "labelled, kl": lambda f: write(f, labelled(4), kl(scaling_factor=0.3, shift_factor=0.1)),
    "labelled, tiny": lambda f: write(f, labelled(4), tiny()),
    "vectors, kl": lambda f: write(f, looking(4), kl(), vectors=table()),
    "vectors, vq": lambda f: write(f, looking(3), vq(), vectors=table()),
}


class Judge(nn.Module):
    """A small smooth classifier of images of any size."""

    def __init__(self, classes=CLASSES):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, classes)
        settled(self, 7)

    def forward(self, images):
        return 20 * self.head(self.conv(images).tanh().mean((2, 3)))
