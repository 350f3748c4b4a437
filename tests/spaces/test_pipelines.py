"""Every kind of model of diffusers, from its folder to counterfactuals by each method."""

import json

import pytest
import torch
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler
from tiny_ldm import CLASSES, Judge, kl, looking, table, write
from tiny_pipelines import (
    AUTOENCODERS,
    CONDITIONAL,
    NAMES,
    UNCONDITIONAL,
    WITHOUT_NULL,
    add_index,
    autoencoder,
    dc,
    dit,
    pixels,
    plain,
    transformer,
)

import cfxnb as cfx
from cfxnb.spaces import ClassConditions, EmbeddingConditions, load_diffusers
from cfxnb.spaces.checkpoints import diffusers_files, hub

pytestmark = pytest.mark.filterwarnings(
    "ignore:null_class. the last of", "ignore:.*space", "ignore:.*reconstruct"
)

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
FOLDERS = {**CONDITIONAL, **UNCONDITIONAL, **{f"{k}, no null": v for k, v in WITHOUT_NULL.items()}}
NULL = {f"{kind}, no null": False for kind in WITHOUT_NULL}
F = cfx.wrap(Judge(), class_names=("red", "blue", "old"))
BOX = cfx.BlackBox(F)


def target(images=IMAGES):
    with torch.no_grad():
        return (F(images).argmax(1) + 1) % CLASSES


#: Methods that need no condition.
FREE = {
    "maskdime": lambda space: cfx.maskdime(space, F, IMAGES, target(), steps=2, scales=(1.0,)),
    "fastdime": lambda space: cfx.fastdime(space, F, IMAGES, target(), steps=2, scales=(1.0,)),
    "dime": lambda space: cfx.dime(space, F, IMAGES, target(), steps=2, scales=(1.0,)),
    "sce": lambda space: cfx.sce(space, F, IMAGES, target(), steps=2, denoising_steps=2),
}
#: Methods that condition the model on the classes.
TOLD = {
    "consensus": lambda space, **kw: cfx.diffusion_counterfactual(
        space, F, IMAGES, target(), steps=2, max_attempts=1, **kw
    ),
    "classifier_free": lambda space, **kw: cfx.diffusion_counterfactual(
        space, F, IMAGES, target(), steps=2, max_attempts=1, guidance="classifier_free", **kw
    ),
    "as published": lambda space, **kw: cfx.diffusion_counterfactual(
        space, F, IMAGES, target(), **{**cfx.PAPER_DIFFUSION, "steps": 6}, **kw
    ),
}
FLOW = lambda space: cfx.flow_counterfactual(space, F, IMAGES, target(), rounds=2)  # noqa: E731
#: Methods of codes, which don't use the diffusion model.
CODES = {
    "latent_attack": lambda space: cfx.latent_attack(space, F, IMAGES, target(), steps=2),
    "reconstruct": lambda space: cfx.reconstruct(space, F, IMAGES, target()),
}


@pytest.fixture(scope="module")
def spaces(tmp_path_factory):
    """Space of each kind, loaded when it is asked for."""
    made = {}

    def get(kind):
        if kind not in made:
            folder = FOLDERS[kind](tmp_path_factory.mktemp("model"))
            template = "a {}" if kind == "Stable Diffusion" else None
            made[kind] = load_diffusers(
                folder, device="cpu", null_class=NULL.get(kind), template=template
            )
        return made[kind]

    return get


def check(cf):
    assert cf.image.shape == IMAGES.shape
    assert cf.image.isfinite().all()
    assert cf.code_after.z.isfinite().all()
    assert cf.made_by["weights"]["space"]


@pytest.mark.parametrize("kind", FOLDERS)
def test_spaces_are_frozen_and_their_codes_fit(spaces, kind):
    space = spaces(kind)
    assert not space.training
    assert not any(p.requires_grad for p in space.parameters())
    code = space.encode(IMAGES)
    assert code.z.shape[1:] == space.mean.shape
    t = torch.tensor([0, len(space.alphas_cumprod) - 1])
    cond = space.encode_condition([0, 1] if kind in NULL else [None, None])
    eps, fraction = space.predict_noise_and_variance(code.z, t, cond)
    assert eps.shape == code.z.shape
    assert eps.isfinite().all()
    assert (fraction is not None) == (kind.startswith("DiT") or "variance" in kind)


@pytest.mark.parametrize("kind", [*CONDITIONAL, *UNCONDITIONAL])
def test_methods_without_a_condition(spaces, kind):
    space = spaces(kind)
    for run in (*FREE.values(), *CODES.values()):
        check(run(space))


@pytest.mark.parametrize("kind", CONDITIONAL)
def test_methods_with_a_condition(spaces, kind):
    space = spaces(kind)
    for run in TOLD.values():
        check(run(space))
    check(FLOW(space))


@pytest.mark.parametrize("kind", UNCONDITIONAL)
def test_what_can_not_be_told_classes_is_refused_before_anything_is_computed(spaces, kind):
    space = spaces(kind)
    for run in (*TOLD.values(), FLOW):
        with pytest.raises(ValueError, match=r"space: .*takes no condition\. Use cfx\.maskdime"):
            run(space)
    with pytest.raises(ValueError, match=r"space: .*takes no condition"):
        cfx.explain_errors(space, F, IMAGES, target())


@pytest.mark.parametrize("kind", [f"{kind}, no null" for kind in WITHOUT_NULL])
def test_without_a_null_embedding(spaces, kind):
    """Told apart: what compares with no condition is refused, and the rest works."""
    space = spaces(kind)
    for run in (*FREE.values(), *TOLD.values()):
        with pytest.raises(ValueError, match=r"space: .*without a condition.*flow_counterfactual"):
            run(space)
    check(FLOW(space))
    for run in CODES.values():
        check(run(space))
    assert space.sample([0, 2], steps=4, guidance_scale=1).z.isfinite().all()
    with pytest.raises(ValueError, match="no class"):
        space.sample([0, 2], steps=4)


def test_directions_in_a_code_of_pixels(spaces):
    space = spaces("DDPM")
    images = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    space.autoencoder.fit(images)
    found = cfx.find_directions(space, BOX, images, 1, max_queries=600)
    cf = cfx.follow_direction(space, BOX, images[:2], found[0], target=1)
    assert cf.image.isfinite().all()


@pytest.mark.parametrize("kind", ["DiT", "pixels with classes, EDM", "LDM of flow matching"])
def test_one_alone_is_one_of_many(spaces, kind):
    space = spaces(kind)
    for run in (cfx.diffusion_counterfactual, cfx.maskdime):
        told = {"max_attempts": 1} if run is cfx.diffusion_counterfactual else {"scales": (1.0,)}
        many = run(space, F, IMAGES, target(), steps=2, **told)
        alone = run(space, F, IMAGES[1:], target()[1:], steps=2, first_row=1, **told)
        torch.testing.assert_close(alone.image, many.image[1:], atol=1e-4, rtol=0)


def test_bfloat16_is_near_float32(tmp_path):
    place = transformer(tmp_path)
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    t = torch.tensor([100, 900])
    found = []
    for precision in ("float32", "bfloat16"):
        space = load_diffusers(place, device="cpu", precision=precision)
        found.append(space.predict_noise(z, t, space.encode_condition([0, None])))
    assert found[1].dtype == torch.float32
    assert 0 < (found[0] - found[1]).abs().max() < 0.05


# -- what the network gets and predicts


def test_the_network_gets_what_its_pipeline_would_give_it(tmp_path):
    """Codes, times and classes, as in a loop of diffusers."""
    space = load_diffusers(
        plain(tmp_path, pixels(CLASSES + 1), EDMEulerScheduler()), device="cpu", null_class=True
    )
    scheduler = EDMEulerScheduler()
    scheduler.set_timesteps(1000)
    sigma = scheduler.sigmas[500]
    x = 3 * torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    scheduler.is_scale_input_called = False
    with torch.no_grad():
        scaled = scheduler.scale_model_input(x, scheduler.timesteps[500])
        out = space.net(scaled, scheduler.timesteps[500], class_labels=torch.tensor([1])).sample
        clean = scheduler.precondition_outputs(x, out, sigma)
        z = x / (1 + sigma**2).sqrt()
        t = torch.tensor([499])  # from the cleanest on
        eps = space.predict_noise(z, t, space.encode_condition([1]))
    torch.testing.assert_close(space.alphas_cumprod[499], 1 / (1 + sigma.double() ** 2))
    torch.testing.assert_close(eps, (x - clean) / sigma, rtol=1e-3, atol=1e-4)


def test_a_flow_gets_shifted_times(tmp_path):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    space = load_diffusers(plain(tmp_path, pixels(), scheduler), device="cpu")
    s = scheduler.sigmas.flip(0).double()[:-1]
    a = (1 - s) ** 2 / ((1 - s) ** 2 + s**2)
    torch.testing.assert_close(space.alphas_cumprod[:-1], a, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(
        space.parametrisation.times[:-1], scheduler.timesteps.flip(0)[:-1], rtol=1e-5, atol=1e-4
    )
    dynamic = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    dynamic.save_pretrained(tmp_path / "scheduler")
    space = load_diffusers(tmp_path, device="cpu")
    dynamic.set_timesteps(1000, mu=0.5)
    times = space.parametrisation.times[1:-1]
    torch.testing.assert_close(times, dynamic.timesteps.flip(0)[1:-1], rtol=1e-3, atol=1e-2)


def test_a_dit_has_classes_by_name_and_a_null(tmp_path):
    space = load_diffusers(transformer(tmp_path), device="cpu")
    assert space.conditions.null
    assert space.conditions.classes == CLASSES
    rows = space.encode_condition(["red", "Scarlet", "red, scarlet", 1, "old", None])
    assert rows.tolist() == [0, 0, 0, 1, 2, CLASSES]
    with pytest.raises(ValueError, match=r"conditions: .*'green', which no class has"):
        space.encode_condition(["green"])
    two = cfx.wrap(lambda x: F(x)[:, :2], class_names=("old", "scarlet"))
    cf = cfx.diffusion_counterfactual(space, two, IMAGES, "old", steps=2, max_attempts=1)
    assert cf.made_by["conditions"] == ["old", "scarlet"]
    add_index(tmp_path, id2label={str(n): "crane" for n in range(CLASSES)})
    space = load_diffusers(tmp_path, device="cpu")
    with pytest.raises(ValueError, match=r"'crane', which the classes \[0, 1, 2\] have"):
        space.encode_condition(["crane"])


def test_the_range_of_pixels_is_that_of_the_scheduler(spaces):
    assert spaces("DDPM").clip_sample_range == 1
    assert spaces("DDIM").clip_sample_range is None
    codes = spaces("DDPM").sample([None] * 2, steps=4, guidance_scale=0)
    assert codes.z.abs().max() <= 1
    with pytest.raises(ValueError, match=r"images: expected shape \(b, 3, h, w\).*divisible by 2"):
        spaces("DDPM").encode(IMAGES[:, :1])
    with pytest.raises(ValueError, match=r"images: .*divisible by 2"):
        spaces("DDPM").encode(IMAGES[..., :15])


# -- autoencoders


@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_the_folder_of_one_autoencoder(tmp_path, kind):
    place = autoencoder(tmp_path, kind)
    space = load_diffusers(place, device="cpu", image_size=16)
    codec = AUTOENCODERS[kind].__call__
    codec = codec().from_pretrained(place)
    with torch.no_grad():
        out = codec.encode(2 * IMAGES - 1)
        if kind == "AutoencoderKL":
            latents = out.latent_dist.mode()
        else:
            latents = out.latent if kind == "AutoencoderDC" else out.latents
        scale = codec.config.get("scaling_factor", 1.0)
        torch.testing.assert_close(space.encode(IMAGES).z, latents * scale)
        images = codec.decode(latents).sample
        again = space.decode(cfx.Code(latents * scale), clamp=False)
        torch.testing.assert_close(again, (images + 1) / 2)
    check(cfx.latent_attack(space, F, IMAGES, target(), steps=2))
    space.fit(IMAGES)
    check(cfx.latent_attack(space, F, IMAGES, target(), steps=2))
    with pytest.raises((TypeError, ValueError), match="space: expected a Diffusion space"):
        cfx.maskdime(space, F, IMAGES, target(), steps=2)


def test_the_size_of_an_autoencoder_is_in_its_config_or_given(tmp_path):
    place = autoencoder(tmp_path / "kl", "AutoencoderKL")
    assert load_diffusers(place, device="cpu").mean.shape == (4, 8, 8)
    assert load_diffusers(place, device="cpu", image_size=32).mean.shape == (4, 16, 16)
    place = autoencoder(tmp_path / "dc", "AutoencoderDC")
    with pytest.raises(ValueError, match=r"image_size: expected the height.*None in config"):
        load_diffusers(place, device="cpu")
    with pytest.raises(ValueError, match=r"image_size: .*divisible by 2, got 15"):
        load_diffusers(place, device="cpu", image_size=15)


# -- what is refused


def changed(folder, file, **changes):
    config = json.loads((folder / file).read_text()) | changes
    (folder / file).write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))
    return folder


def no_weights(folder):
    """So that reading them would fail."""
    for file in folder.rglob("*.safetensors"):
        file.write_bytes(b"")
    return folder


UNKNOWN = {
    "video": ("WanPipeline", {"transformer": "WanTransformer3DModel"}),
    "text to pixels": ("IFPipeline", {"unet": "UNet2DConditionModel", "text_encoder": "T5"}),
    "prior": ("StableCascadePriorPipeline", {"prior": "StableCascadeUNet"}),
    "nothing": ("FooPipeline", {}),
    "variations": (
        "StableDiffusionImageVariationPipeline",
        {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "image_encoder": "CLIPVision"},
    ),
    "no classes": ("XPipeline", {"transformer": "Transformer2DModel"}),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_unknown_kinds_are_refused_with_a_list_of_what_is_known(tmp_path, kind):
    pipeline, parts = UNKNOWN[kind]
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    for part, name in parts.items():
        (tmp_path / part).mkdir()
        config = {"_class_name": name, "norm_type": "layer_norm"}
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"path: .*a {pipeline} with .*Supported are: .*DiT") as e:
        load_diffusers(tmp_path, device="cpu")
    assert all(name in str(e.value) for name in parts.values())


REFUSED = {
    "class_embed_type": (
        lambda f: changed(plain(f, pixels()), "unet/config.json", class_embed_type="timestep"),
        "class_embed_type 'timestep', not a table",
    ),
    "scheduler": (
        lambda f: changed(
            plain(f, pixels()), "scheduler/scheduler_config.json", _class_name="ScoreSdeVeScheduler"
        ),
        "scheduler is a 'ScoreSdeVeScheduler', not DDPMScheduler, Flow",
    ),
    "consistency": (
        lambda f: changed(
            plain(f, pixels()),
            "scheduler/scheduler_config.json",
            _class_name="CMStochasticIterativeScheduler",
        ),
        "scheduler is a 'CMStochasticIterativeScheduler', not",
    ),
    "sigmas": (
        lambda f: changed(
            plain(f, pixels(), EDMEulerScheduler()),
            "scheduler/scheduler_config.json",
            sigma_max=0.001,
        ),
        "not 0 < sigma_min < sigma_max",
    ),
    "shift": (
        lambda f: changed(
            plain(f, pixels(), FlowMatchEulerDiscreteScheduler()),
            "scheduler/scheduler_config.json",
            shift=-1.0,
        ),
        r"has shift -1\.0, not above 0",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_wrong_configs_are_named_before_weights_are_read(tmp_path, kind):
    build, message = REFUSED[kind]
    with pytest.raises(ValueError, match=f"path: .*{message}"):
        load_diffusers(no_weights(build(tmp_path)), device="cpu")


def test_a_network_of_other_channels_is_refused(tmp_path, monkeypatch):
    """Such as one for inpainting, which gets a mask and a masked image, too."""
    place = write(tmp_path, looking(4, in_channels=9), kl(), vectors=table())
    monkeypatch.setattr(diffusers_files, "pretrained", None)  # before weights are read
    with pytest.raises(ValueError, match="unet has 9 in_channels for codes of 4 channels"):
        load_diffusers(place, device="cpu")


def test_a_network_that_was_distilled_with_guidance_is_refused(tmp_path):
    place = changed(CONDITIONAL["Stable Diffusion"](tmp_path), "unet/config.json",
                    time_cond_proj_dim=8)  # fmt: skip
    with pytest.raises(ValueError, match="unet has time_cond_proj_dim, unlike Stable Diffusion"):
        load_diffusers(no_weights(place), device="cpu")


def test_load_tells_who_reads_a_pipeline(tmp_path):
    with pytest.raises(ValueError, match=r"read a model of diffusers with cfx\.spaces\.load_diff"):
        cfx.load(plain(tmp_path, pixels()))


def test_options_belong_to_a_kind(tmp_path):
    place = plain(tmp_path, pixels())
    for name, value in (("template", "a {}"), ("image_size", 16)):
        with pytest.raises(ValueError, match=f"{name}: expected None with a model of this kind"):
            load_diffusers(place, device="cpu", **{name: value})
    with pytest.raises(ValueError, match="null_class: expected None, because the network takes no"):
        load_diffusers(place, device="cpu", null_class=True)
    with pytest.raises(ValueError, match="null_class: expected None with conditions"):
        load_diffusers(place, device="cpu", null_class=True, conditions=ClassConditions(3))
    with pytest.raises(ValueError, match="lora_scale: "):
        load_diffusers(place, device="cpu", lora_scale=float("nan"))
    with pytest.raises(ValueError, match=r"conditions: expected .*unet"):
        load_diffusers(place, device="cpu", conditions=EmbeddingConditions(table()))


def test_only_what_a_kind_needs_is_downloaded(tmp_path, monkeypatch):
    """First the small configs, and the weights of a model only if its kind is known."""
    asked = []

    def download(name, revision, patterns, remote):
        asked.append(patterns)
        return folder

    monkeypatch.setattr(hub, "download", download)
    folder = plain(tmp_path / "known", pixels())
    load_diffusers("some/model", revision="0" * 40, device="cpu")
    assert not [p for p in asked[0] if p.endswith("safetensors")]
    assert [p for p in asked[1] if p.startswith("unet/") and p.endswith("safetensors")]
    asked.clear()
    folder = tmp_path / "unknown"
    folder.mkdir()
    (folder / "model_index.json").write_text('{"_class_name": "FooPipeline"}')
    with pytest.raises(ValueError, match="FooPipeline"):
        load_diffusers("some/model", revision="0" * 40, device="cpu")
    assert len(asked) == 1


def test_a_dit_takes_squares_of_other_sizes(tmp_path):
    space = load_diffusers(transformer(tmp_path), device="cpu")
    large = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(6))
    cf = cfx.diffusion_counterfactual(space, F, large, target(large), steps=2, max_attempts=1)
    assert cf.image.shape == large.shape
    with pytest.raises(ValueError, match=r"images: .*divisible by 4"):
        space.encode(large[..., :22, :22])
    with pytest.raises(ValueError, match="images: expected squares"):
        space.encode(large[..., :16])


def test_a_dit_under_its_former_name(tmp_path):
    """As the published models have it, with fields that DiT doesn't use."""
    place = transformer(tmp_path)
    changed(
        place,
        "transformer/config.json",
        _class_name="Transformer2DModel",
        norm_type="ada_norm_zero",
        cross_attention_dim=None,
        num_vector_embeds=None,
        norm_num_groups=32,
    )
    space = load_diffusers(place, device="cpu")
    assert space.conditions.classes == CLASSES
    check(TOLD["classifier_free"](space))


def test_levels_without_layers(tmp_path):
    """As in some published autoencoders."""
    codec = dc(encoder_layers_per_block=(0, 1), decoder_layers_per_block=(0, 1),
               downsample_block_type="pixel_unshuffle")  # fmt: skip
    codec.save_pretrained(tmp_path)
    space = load_diffusers(tmp_path, device="cpu", image_size=16)
    assert space.encode(IMAGES).z.isfinite().all()


def test_a_dit_without_use_of_its_null(tmp_path):
    space = load_diffusers(transformer(tmp_path), device="cpu", null_class=False)
    assert space.conditions.classes == CLASSES + 1
    assert dit().config.num_embeds_ada_norm == CLASSES == len(NAMES)
