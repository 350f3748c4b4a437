"""Tiny pipelines of diffusers that are conditioned on texts: random weights, some kilobytes each.

Each function of ``PIPELINES`` builds a pipeline with the classes of diffusers and transformers, as
they are on the hub, only much smaller. ``saved(kind, folder)`` writes one to a folder.
"""

import json
import tempfile
from pathlib import Path

import diffusers
import transformers
from tiny_ldm import settled

SIDE = 16  # pixels of an image
FACTOR = 2  # pixels of an image per number of its code
WORDS = ("photo", "red", "blue", "old", "square", "a", "of", ".")
CLIP_TOKENS, T5_TOKENS, GEMMA_TOKENS = 12, 10, 8
T5_DIMS, GEMMA_DIMS = 16, 12


def clip_tokenizer(length=CLIP_TOKENS, pad_token="<|endoftext|>"):
    """A tokenizer that knows letters and few pairs of them."""
    letters = [chr(n) for n in range(33, 127)]
    merges = ["r e", "re d</w>", "b l", "bl u", "blu e</w>"]
    words = [*letters, *(f"{c}</w>" for c in letters), *(m.replace(" ", "") for m in merges)]
    words = list(dict.fromkeys([*words, "<|startoftext|>", "<|endoftext|>"]))
    with tempfile.TemporaryDirectory() as raw:
        vocab, pairs = Path(raw) / "vocab.json", Path(raw) / "merges.txt"
        vocab.write_text(json.dumps({w: n for n, w in enumerate(words)}))
        pairs.write_text("\n".join(["#version: 0.2", *merges]) + "\n")
        return transformers.CLIPTokenizer(
            str(vocab), str(pairs), model_max_length=length, pad_token=pad_token
        )


def clip_config(dims, projection, act="quick_gelu", layers=2):
    return transformers.CLIPTextConfig(
        vocab_size=len(clip_tokenizer()),
        hidden_size=dims,
        intermediate_size=16,
        projection_dim=projection,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=CLIP_TOKENS,
        hidden_act=act,
        bos_token_id=len(clip_tokenizer()) - 2,
        eos_token_id=len(clip_tokenizer()) - 1,
    )


def clip(dims, projection, seed):
    return settled(transformers.CLIPTextModel(clip_config(dims, projection)), seed)


def clip_projected(dims, projection, seed):
    config = clip_config(dims, projection, "gelu")
    return settled(transformers.CLIPTextModelWithProjection(config), seed)


def t5_tokenizer(length=512):
    """A Unigram tokenizer: some words, and letters for all others."""
    letters = [chr(n) for n in range(33, 127)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces += [(f"\u2581{word}", -3.0) for word in WORDS] + [(c, -6.0) for c in letters]
    return transformers.T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=length)


def t5(seed, dims=T5_DIMS):
    config = transformers.T5Config(
        vocab_size=len(t5_tokenizer()),
        d_model=dims,
        d_kv=8,
        d_ff=16,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        relative_attention_num_buckets=8,
    )
    return settled(transformers.T5EncoderModel(config), seed)


def gemma_tokenizer():
    letters = [chr(n) for n in range(33, 127)]
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581", "\n", *letters]
    vocab = {word: n for n, word in enumerate(words)}
    return transformers.GemmaTokenizer(vocab=vocab, merges=[], add_bos_token=True)


def gemma(seed):
    config = transformers.Gemma2Config(
        vocab_size=len(gemma_tokenizer()),
        hidden_size=GEMMA_DIMS,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=64,
    )
    return settled(transformers.Gemma2Model(config), seed)


def kl(channels, **knobs):
    net = diffusers.AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=(8, 8),
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=SIDE,
        **knobs,
    )
    return settled(net, 1)


def dc(channels):
    net = diffusers.AutoencoderDC(
        in_channels=3,
        latent_channels=channels,
        attention_head_dim=4,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        scaling_factor=0.41,
    )
    return settled(net, 1)


def sdxl(**knobs):
    unet = diffusers.UNet2DConditionModel(
        sample_size=SIDE // FACTOR,
        in_channels=knobs.pop("in_channels", 4),
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=6 * 8 + 10,
        cross_attention_dim=8 + 12,
        **knobs,
    )
    return diffusers.StableDiffusionXLPipeline(
        vae=kl(4, scaling_factor=0.13025),
        text_encoder=clip(8, 8, 2),
        text_encoder_2=clip_projected(12, 10, 3),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(pad_token="!"),
        unet=settled(unet),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
        add_watermarker=False,
    )


def sd3(t5_too=True, shift=3.0):
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=SIDE // FACTOR,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=24,
        caption_projection_dim=16,
        pooled_projection_dim=8 + 10,
        pos_embed_max_size=20,
        qk_norm="rms_norm",
        dual_attention_layers=(0,),
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=settled(transformer),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=shift),
        vae=kl(4, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False,
               use_post_quant_conv=False),
        text_encoder=clip_projected(8, 8, 2),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_projected(12, 10, 3),
        tokenizer_2=clip_tokenizer(pad_token="!"),
        text_encoder_3=t5(4, 24) if t5_too else None,  # wider than both CLIPs
        tokenizer_3=t5_tokenizer(256) if t5_too else None,
    )  # fmt: skip


def flux(guidance_embeds=True, **schedule):
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * 4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=T5_DIMS,
        pooled_projection_dim=8,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(2, 2, 4),
    )
    shift = {"shift": 3.0, "use_dynamic_shifting": True} if guidance_embeds else {"shift": 1.0}
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**shift | schedule),
        vae=kl(4, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False,
               use_post_quant_conv=False),
        text_encoder=clip(8, 8, 2),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(3),
        tokenizer_2=t5_tokenizer(),
        transformer=settled(transformer),
    )  # fmt: skip


def _pixart(pipeline, sample_size, **knobs):
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=3,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        cross_attention_dim=24,
        sample_size=sample_size,
        caption_channels=T5_DIMS,
        norm_num_groups=4,
        **knobs,
    )
    return pipeline(
        tokenizer=t5_tokenizer(120),
        text_encoder=t5(2),
        vae=kl(4, scaling_factor=0.18215),
        transformer=settled(transformer),
        scheduler=diffusers.DPMSolverMultistepScheduler(),
    )


def pixart_alpha():
    """As large as the model for 1024 pixels, which takes resolution and aspect ratio."""
    return _pixart(diffusers.PixArtAlphaPipeline, 128)


def pixart_sigma():
    knobs = {"use_additional_conditions": False}
    return _pixart(diffusers.PixArtSigmaPipeline, SIDE // FACTOR, interpolation_scale=1, **knobs)


def sana():
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=GEMMA_DIMS,
        sample_size=SIDE // FACTOR,
        qk_norm="rms_norm_across_heads",
    )
    return diffusers.SanaPipeline(
        tokenizer=gemma_tokenizer(),
        text_encoder=gemma(2),
        vae=dc(4),
        transformer=settled(transformer),
        scheduler=diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )


PIPELINES = {
    "sdxl": sdxl,
    "sd3": sd3,
    "sd3 without t5": lambda: sd3(t5_too=False),
    "flux dev": flux,
    "flux schnell": lambda: flux(guidance_embeds=False),
    "pixart alpha": pixart_alpha,
    "pixart sigma": pixart_sigma,
    "sana": sana,
}


def saved(kind, folder):
    """Write the pipeline ``kind`` to a folder, and return the folder."""
    PIPELINES[kind]().save_pretrained(folder, safe_serialization=True)
    return Path(folder)
