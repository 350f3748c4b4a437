"""Tiny pipelines of every kind, as diffusers saves them: random weights, a few kilobytes."""

import json
from pathlib import Path

from diffusers import (
    AutoencoderDC,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    LDMPipeline,
)
from tiny_ldm import (
    CLASSES,
    kl,
    labelled,
    looking,
    settled,
    stable_diffusion,
    table,
    tiny,
    vq,
    write,
)

NAMES = ("red, scarlet", "blue", "old")


def dc(**knobs):
    """A deep compression autoencoder."""
    settings = {
        "in_channels": 3,
        "latent_channels": 4,
        "attention_head_dim": 8,
        "encoder_block_types": ("ResBlock", "EfficientViTBlock"),
        "decoder_block_types": ("ResBlock", "EfficientViTBlock"),
        "encoder_block_out_channels": (8, 16),
        "decoder_block_out_channels": (8, 16),
        "encoder_layers_per_block": (1, 1),
        "decoder_layers_per_block": (1, 1),
        "encoder_qkv_multiscales": ((), (5,)),
        "decoder_qkv_multiscales": ((), (5,)),
        "downsample_block_type": "Conv",
        "upsample_block_type": "interpolate",
        "scaling_factor": 0.4,
    }
    return AutoencoderDC(**settings | knobs)


def dit(**knobs):
    settings = {
        "num_attention_heads": 2,
        "attention_head_dim": 4,
        "in_channels": 4,
        "out_channels": 8,
        "num_layers": 1,
        "sample_size": 8,
        "patch_size": 2,
        "num_embeds_ada_norm": CLASSES,
        "norm_num_groups": 1,
    }
    return DiTTransformer2DModel(**settings | knobs)


def pixels(classes=None, variance=False, **knobs):
    """A U-Net of pixels, with a table of classes or without."""
    out = 6 if variance else 3
    return labelled(3, num_class_embeds=classes, out_channels=out, sample_size=16, **knobs)


def plain(folder, net, scheduler=None, pipeline=DDPMPipeline):
    """A pipeline of a U-Net of pixels."""
    pipeline(settled(net), scheduler or DDPMScheduler()).save_pretrained(folder)
    return Path(folder)


def unconditional_ldm(folder):
    net = labelled(3, num_class_embeds=None)
    LDMPipeline(settled(vq(), 1), settled(net), DDIMScheduler()).save_pretrained(folder)
    return Path(folder)


def transformer(folder, codec=None, net=None, scheduler=None):
    made = DiTPipeline(
        settled(net or dit()), settled(codec or kl(), 1), scheduler or DDIMScheduler()
    )
    made.save_pretrained(folder)
    add_index(folder, id2label={str(n): name for n, name in enumerate(NAMES)})
    return Path(folder)


def add_index(folder, **fields):
    file = Path(folder) / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def flat(folder):
    """As the oldest models on the hub: the network lies beside model_index.json."""
    plain(folder, pixels())
    folder = Path(folder)
    for part in ("unet", "scheduler"):
        for file in (folder / part).iterdir():
            file.rename(folder / file.name)
        (folder / part).rmdir()
    return folder


#: Conditional models with an unconditional prediction: all methods apply.
CONDITIONAL = {
    "Stable Diffusion": stable_diffusion,
    "LDM with classes, VQ": lambda f: write(f, labelled(3), vq(), place="vqvae"),
    "LDM with classes, KL": lambda f: write(f, labelled(4), kl(scaling_factor=0.3)),
    "LDM with class vectors": lambda f: write(f, looking(4), kl(), vectors=table()),
    "LDM with AutoencoderDC": lambda f: write(f, labelled(4), dc()),
    "LDM of flow matching": lambda f: write(
        f, labelled(4), kl(), FlowMatchEulerDiscreteScheduler(shift=3.0)
    ),
    "DiT": transformer,
    "DiT, x-prediction, learned variance": lambda f: transformer(
        f, scheduler=DDPMScheduler(prediction_type="sample", beta_schedule="squaredcos_cap_v2")
    ),
    "pixels with classes": lambda f: plain(f, pixels(CLASSES + 1)),
    "pixels with classes, v, zero SNR": lambda f: plain(
        f,
        pixels(CLASSES + 1),
        DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True),
        DDIMPipeline,
    ),
    "pixels with classes, EDM": lambda f: plain(f, pixels(CLASSES + 1), EDMEulerScheduler()),
}
#: Models that take no condition.
UNCONDITIONAL = {
    "DDPM": lambda f: plain(f, pixels()),
    "DDPM, learned variance": lambda f: plain(
        f, pixels(variance=True), DDPMScheduler(variance_type="learned_range")
    ),
    "DDIM": lambda f: plain(f, pixels(), DDIMScheduler(clip_sample=False), DDIMPipeline),
    "DDPM beside its index": flat,
    "EDM": lambda f: plain(f, pixels(), EDMEulerScheduler(prediction_type="v_prediction")),
    "flow of pixels": lambda f: plain(f, pixels(), FlowMatchEulerDiscreteScheduler()),
    "LDM": unconditional_ldm,
}
#: Every class embedding stands for a class.
WITHOUT_NULL = {
    "pixels with classes": lambda f: plain(f, pixels(CLASSES)),
    "LDM with classes": lambda f: write(f, labelled(4, num_class_embeds=CLASSES), kl()),
}
AUTOENCODERS = {"AutoencoderKL": kl, "VQModel": vq, "AutoencoderTiny": tiny, "AutoencoderDC": dc}


def autoencoder(folder, kind):
    settled(AUTOENCODERS[kind]()).save_pretrained(folder)
    return Path(folder)
