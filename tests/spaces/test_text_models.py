"""SDXL, SD3, Flux, PixArt and Sana: predictions as in the pipelines of diffusers, and methods.

The reference is the pipeline itself: it denoises for two steps, and a hook records what it passes
to its network and what the network returns.
"""

import json
import math
import shutil
import warnings
from pathlib import Path

import diffusers
import pytest
import tiny_text_models as tiny
import torch
from safetensors.torch import load_file, save_file

import cfxnb as cfx
from benchmarks import large
from cfxnb.core.ddim import ddim_step
from cfxnb.spaces import load_diffusers
from cfxnb.spaces.checkpoints import diffusers_files, text_models
from cfxnb.spaces.texts import flux

PROMPT = "a Red square."
NAMES = ("red", "blue", "old")
LOAD = {"device": "cpu", "image_size": tiny.SIDE, "template": "a {}"}
QUICK = {"steps": 2, "max_attempts": 1, "strength": 0.3}
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
VELOCITIES = ("sd3", "sd3 without t5", "flux dev", "flux schnell", "sana")
DISTILLED = ("flux dev", "flux schnell")

each_kind = pytest.mark.parametrize("kind", tiny.PIPELINES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folder of each kind, written when it is asked for."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = tiny.saved(kind, tmp_path_factory.mktemp("text") / kind.replace(" ", "-"))
        return made[kind]

    return get


@pytest.fixture(scope="module")
def spaces(folders):
    """Space of each kind, loaded when it is asked for."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = load_diffusers(folders(kind), **LOAD)
        return made[kind]

    return get


@pytest.fixture
def changed(folders, tmp_path):
    """Copy a folder of a kind, change fields of a config, and return the copy."""

    def get(kind, part="", **fields):
        copy = tmp_path / "copy"
        shutil.copytree(folders(kind), copy)
        file = copy / part / ("config.json" if part else "model_index.json")
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))
        return copy

    return get


class Brightest(torch.nn.Module):
    """The class of an image is its brightest channel."""

    def forward(self, images):
        return 20 * images.mean((2, 3))


@pytest.fixture
def judge():
    return cfx.wrap(Brightest(), class_names=NAMES)


def targets(judge, space):
    """Classes that are neither predicted for the images nor for their reconstructions."""
    with torch.no_grad():
        both = [
            judge(each).argmax(1).tolist() for each in (IMAGES, space.decode(space.encode(IMAGES)))
        ]
    return torch.tensor([min({0, 1, 2} - set(pair)) for pair in zip(*both, strict=True)])


def recorded(kind, height=32, width=64):
    """Denoise with a pipeline. Return (codes, times, output) of each call of its network.

    Images are not square, so that an exchange of height and width shows. For Flux, the codes and
    the times are given as for the other networks.
    """
    pipe = tiny.PIPELINES[kind]()
    pipe.set_progress_bar_config(disable=True)
    net = getattr(pipe, "unet", None) or pipe.transformer
    calls = []
    hook = net.register_forward_hook(
        lambda _, args, kwargs, out: calls.append((args, kwargs, out[0])), with_kwargs=True
    )
    own = {}
    if kind.startswith(("pixart", "sana")):
        own["use_resolution_binning"] = False
    if kind.startswith("flux"):
        own |= {"negative_prompt": "", "true_cfg_scale": 2.0}
    if kind == "flux schnell":
        own["max_sequence_length"] = 256
    generator = torch.Generator().manual_seed(0)
    size = {"height": height, "width": width, "num_inference_steps": 2}
    pipe(PROMPT, generator=generator, output_type="latent", **size, **own)
    hook.remove()
    found = []
    for args, kwargs, out in calls:
        x = args[0] if args else kwargs["hidden_states"]
        t = args[1] if len(args) > 1 else kwargs["timestep"]
        if kind.startswith("flux"):
            x, out = (pipe._unpack_latents(v, height, width, tiny.FACTOR) for v in (x, out))
            t = 1000 * t
        found.append((x, t.expand(len(x)), out))
    if kind.startswith("flux"):  # two calls per step, the prompt first; elsewhere it is last
        pairs = zip(found[1::2], found[::2], strict=True)
        found = [tuple(torch.cat(each) for each in zip(*pair, strict=True)) for pair in pairs]
    return found


def network_outputs(space, calls):
    condition = space.encode_condition([None, PROMPT])
    with torch.no_grad():
        return [space.conditions.predict_noise(space.net, x, t, condition) for x, t, _ in calls]


@pytest.mark.filterwarnings("ignore:space. Flux.1 was distilled")
@each_kind
def test_networks_are_called_as_the_pipelines_call_them(spaces, kind):
    calls = recorded(kind)
    assert len(calls) == 2
    for found, (_, _, output) in zip(network_outputs(spaces(kind), calls), calls, strict=True):
        assert output.abs().max() > 0.1
        torch.testing.assert_close(found, output, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:space. Flux.1 was distilled")
def test_exchanged_rows_and_columns_are_caught(spaces, monkeypatch):
    """The comparison with the pipeline sees a planted bug."""
    places = flux._places
    monkeypatch.setattr(flux, "_places", lambda h, w: places(h, w)[:, [0, 2, 1]])
    calls = recorded("flux dev")
    (found, *_), (_, _, output) = network_outputs(spaces("flux dev"), calls), calls[0]
    assert (found - output).abs().max() > 1e-3


@each_kind
def test_noise_follows_from_the_output_of_the_network(spaces, kind):
    """Written out once more, with the formulas of DDPM and of flow matching."""
    space = spaces(kind)
    z = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(3))
    condition = space.encode_condition([PROMPT, "blue"])
    for index in (100, 700):
        t = torch.full((2,), index)
        alpha_bar = float(space.alphas_cumprod[index])
        time = space.parametrisation.times[t].float()
        with torch.no_grad():
            found = space.predict_noise(z, t, condition)
            if kind not in VELOCITIES:
                assert time.tolist() == [index, index]
                output = space.conditions.predict_noise(space.net, z, t, condition)
                torch.testing.assert_close(found, output[:, :4])  # without a learned variance
                continue
            s = float(time[0]) / 1000
            c = math.sqrt((1 - s) ** 2 + s**2)
            assert alpha_bar == pytest.approx((1 - s) ** 2 / c**2, rel=1e-5)
            v = space.conditions.predict_noise(space.net, c * z, time, condition)
            torch.testing.assert_close(found, c * z + (1 - s) * v, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:space. Flux.1 was distilled")
@pytest.mark.parametrize("kind", ["sdxl", "pixart sigma", "sd3", "sana", "flux schnell"])
def test_denoising_is_that_of_the_pipelines(spaces, kind):
    """Four steps with classifier-free guidance: DDIM in the coordinates that methods see, and the
    schedulers of diffusers in those of the network."""
    space, pipe = spaces(kind), tiny.PIPELINES[kind]()
    pipe.set_progress_bar_config(disable=True)
    steps, scale, flows = [999, 749, 499, 249], 3.0, kind in VELOCITIES
    own = {"use_resolution_binning": False} if kind in ("pixart sigma", "sana") else {}
    levels = (space.parametrisation.times[steps] / 1000).double()
    if flows:  # the same times, before the scheduler shifts them
        shift = 1.0 if kind == "flux schnell" else 3.0
        pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
        own |= {"sigmas": (levels / (shift - (shift - 1) * levels)).tolist()}
    else:
        like = pipe.scheduler.config
        options = {"timestep_spacing": "trailing", "set_alpha_to_one": True, "clip_sample": False}
        pipe.scheduler = diffusers.DDIMScheduler.from_config(like, **options)
    if kind == "sana":
        own["complex_human_instruction"] = space.conditions.instruction.split("\n")
    x = latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    if kind == "flux schnell":
        own |= {"negative_prompt": "", "true_cfg_scale": scale, "max_sequence_length": 256}
        latents = pipe._pack_latents(x, *x.shape)
    pixels = {"height": 32, "width": 32, "num_inference_steps": 4, "output_type": "latent"}
    wanted = pipe("a red", latents=latents.clone(), guidance_scale=scale, **pixels, **own).images
    if kind == "flux schnell":
        wanted = pipe._unpack_latents(wanted, 32, 32, tiny.FACTOR)
    z = x / ((1 - levels[0]) ** 2 + levels[0] ** 2).sqrt().float() if flows else x
    condition, none = space.encode_condition(["a red", None]).split(1)
    alpha_bar = [float(space.alphas_cumprod[t]) for t in steps] + [1.0]
    with torch.no_grad():
        for i, t in enumerate(steps):
            eps, eps_cond = (
                space.predict_noise(z, torch.tensor([t]), each) for each in (none, condition)
            )
            z = ddim_step(z, eps + scale * (eps_cond - eps), *alpha_bar[i : i + 2])
    torch.testing.assert_close(z, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_times_of_flows_are_shifted_as_in_the_pipelines(folders):
    shifted = {"sd3": 3.0, "flux schnell": 1.0, "sana": 3.0}
    for kind, shift in shifted.items():
        times = load_diffusers(folders(kind), **LOAD).parametrisation.times / 1000
        assert float(times[499]) == pytest.approx(shift * 0.5 / (1 + (shift - 1) * 0.5))
    for size in (16, 64):  # for larger images, Flux.1-dev sees more noise
        space = load_diffusers(folders("flux dev"), **LOAD | {"image_size": size})
        tokens = (size // tiny.FACTOR // 2) ** 2
        factor = math.exp(0.5 + (1.15 - 0.5) / (4096 - 256) * (tokens - 256))
        times = space.parametrisation.times / 1000
        assert float(times[499]) == pytest.approx(factor / (factor + 1), rel=1e-5)


@each_kind
def test_codes_are_those_of_the_autoencoder(spaces, kind):
    space = spaces(kind)
    codec = tiny.PIPELINES[kind]().vae
    config = codec.config
    with torch.no_grad():
        encoded = codec.encode(2 * IMAGES - 1)
        latents = encoded.latent if kind == "sana" else encoded.latent_dist.mode()
        z = (latents - (config.get("shift_factor") or 0)) * config.scaling_factor
        torch.testing.assert_close(space.encode(IMAGES).z, z)
        images = codec.decode(z / config.scaling_factor + (config.get("shift_factor") or 0)).sample
        torch.testing.assert_close(space.decode(cfx.Code(z), clamp=False), (images + 1) / 2)


@pytest.mark.filterwarnings("ignore:space. Flux.1 was distilled", "ignore:conditions. the end of")
@pytest.mark.parametrize(
    ("kind", "guidance"),
    [(kind, "consensus") for kind in tiny.PIPELINES]
    + [(kind, name) for kind in ("sdxl", "flux dev") for name in ("classifier", "classifier_free")],
)
def test_diffusion_counterfactual(spaces, judge, kind, guidance):
    space, target = spaces(kind), targets(judge, spaces(kind))
    cf = cfx.diffusion_counterfactual(
        space, judge, IMAGES, target, guidance=guidance, confidence=0.5, **QUICK
    )
    assert cf.image.isfinite().all()
    assert not torch.equal(cf.image, cf.reconstruction)
    assert cf.made_by["conditions"] == ["a red", "a blue", "a old"]
    if guidance != "consensus":
        return
    alone = cfx.diffusion_counterfactual(
        space, judge, IMAGES[:1], target[:1], guidance=guidance, confidence=0.5, **QUICK
    )
    torch.testing.assert_close(alone.image, cf.image[:1], atol=1e-3, rtol=0)


@pytest.mark.filterwarnings("ignore:space. Flux.1 was distilled", "ignore:conditions. the end of")
@each_kind
def test_other_methods(spaces, judge, kind):
    space, target = spaces(kind), targets(judge, spaces(kind))
    cf = cfx.flow_counterfactual(space, judge, IMAGES, target, rounds=2, confidence=0.5)
    assert (cf.cost["unet"] > 0).all()
    cf = cfx.latent_attack(space, judge, IMAGES, target, steps=30, confidence=0.5)
    assert cf.flipped.any()
    for method, options in ((cfx.maskdime, {"scales": (1.0,)}), (cfx.sce, {})):
        cf = method(space, judge, IMAGES, target, steps=2, **options)
        assert cf.image.isfinite().all()
        assert (cf.cost["unet"] > 0).all()


@pytest.mark.parametrize("kind", DISTILLED)
def test_distilled_models_are_told_apart(folders, spaces, judge, kind):
    target = targets(judge, spaces(kind))
    with pytest.warns(UserWarning, match=r"Flux.1 was distilled .* 'the empty text'") as seen:
        cfx.diffusion_counterfactual(spaces(kind), judge, IMAGES, target, batch_size=1, **QUICK)
    assert len([each for each in seen if "distilled" in str(each.message)]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cfx.flow_counterfactual(spaces(kind), judge, IMAGES, target, rounds=1)
        space = load_diffusers(folders(kind), guidance_distilled=False, **LOAD)
        cfx.diffusion_counterfactual(space, judge, IMAGES, target, **QUICK)


def test_names_tell_that_a_model_was_distilled(folders, tmp_path):
    shutil.copytree(folders("pixart sigma"), tmp_path / "some-Turbo")
    space = load_diffusers(tmp_path / "some-Turbo", **LOAD)
    with pytest.warns(UserWarning, match="the name 'some-Turbo' tells that the model was dist"):
        space.encode_condition(["red", None])
    with pytest.warns(UserWarning, match="'ugly' stands in"):
        load_diffusers(
            folders("sdxl"), guidance_distilled=True, negative_prompt="ugly", **LOAD
        ).encode_condition([None])


def test_the_negative_prompt_is_what_no_condition_stands_for(folders, spaces):
    space = load_diffusers(folders("sd3"), negative_prompt="old", **LOAD)
    none, old, empty = space.encode_condition([None, "old", ""])
    assert torch.equal(none, old)
    assert not torch.equal(none, empty)
    assert torch.equal(*spaces("sd3").encode_condition([None, ""]))
    assert not spaces("sdxl").encode_condition([None]).any()  # zeros
    space = load_diffusers(folders("sdxl"), negative_prompt="old", **LOAD)
    assert torch.equal(*space.encode_condition([None, "old"]))


def test_sana_has_an_instruction_before_each_text(spaces):
    conditions = spaces("sana").conditions
    told = conditions.encode(["red", None])
    assert "Enhanced prompt" in conditions.instruction
    before, conditions.instruction = conditions.instruction, ""
    try:
        plain = conditions.encode(["red", None, ""])
    finally:
        conditions.instruction = before
    assert not torch.equal(told[0], plain[0])
    assert torch.equal(told[1], plain[1])
    assert torch.equal(plain[1], plain[2])


def test_texts_that_become_the_same_tokens(spaces, judge):
    same = ["a red", "A RED ", "blue"]  # PixArt reads texts in lower case
    with pytest.warns(UserWarning, match="classes 0 .* and 1 .* become the same tokens"):
        cfx.flow_counterfactual(
            spaces("pixart sigma"), judge, IMAGES, [0, 0], conditions=same, rounds=1
        )
    with pytest.raises(TypeError, match=r"^conditions: expected texts"):
        spaces("sd3").encode_condition([3])


@pytest.mark.parametrize("kind", ["sdxl", "sd3", "flux schnell", "sana"])
def test_bfloat16(folders, spaces, kind):
    space = load_diffusers(folders(kind), precision="bfloat16", **LOAD)
    nets = [space.net, *(each.net for each in space.conditions.encoders)]
    assert {p.dtype for net in nets for p in net.parameters()} == {torch.bfloat16}
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    t = torch.tensor([500])
    found, exact = (
        each.predict_noise(z, t, each.encode_condition([PROMPT])) for each in (space, spaces(kind))
    )
    assert found.dtype == torch.float32
    error = (found - exact).square().mean().sqrt() / exact.std()
    assert 1e-5 < error < 0.1


def test_offloaded_encoders_stay_and_read_each_text_once(folders, spaces):
    space = load_diffusers(folders("flux schnell"), offload_text=True, **LOAD)
    count = []
    for each in space.conditions.encoders:
        each.net.register_forward_hook(lambda *_: count.append(1))
    with torch.no_grad():
        first = space.encode_condition(["red", "blue", "red"])
        assert torch.equal(first, space.encode_condition(["red", "blue", "red"]))
        assert len(count) == 2 * 2
        wanted = spaces("flux schnell").encode_condition(["red", "blue", "red"])
        torch.testing.assert_close(first, wanted)
        next(space.conditions.encoders[0].parameters()).mul_(2)  # other weights: read again
        assert not torch.equal(space.encode_condition(["red"])[0], first[0])
    space.double()
    assert next(space.conditions.encoders.parameters()).dtype == torch.float32
    assert next(space.net.parameters()).dtype == torch.float64


@pytest.mark.parametrize("kind", ["sdxl", "sd3", "flux schnell", "pixart sigma", "sana"])
def test_gradient_checkpointing_changes_no_gradient(folders, spaces, kind):
    space = load_diffusers(folders(kind), gradient_checkpointing=True, **LOAD)
    assert space.net.is_gradient_checkpointing
    grads = []
    for each in (space, spaces(kind)):
        z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3)).requires_grad_()
        noise = each.predict_noise(z, torch.tensor([500]), each.encode_condition([PROMPT]))
        each.decode(cfx.Code(noise), clamp=False).sum().backward()
        grads.append(z.grad)
    assert grads[0].abs().max() > 0
    torch.testing.assert_close(*grads, atol=1e-5, rtol=1e-4)


def test_sizes_of_images(folders, spaces):
    for kind, unit in (("sdxl", 2), ("sd3", 4), ("flux dev", 4), ("pixart sigma", 4), ("sana", 2)):
        spaces(kind).encode(torch.rand(1, 3, 4 * unit, 2 * unit))
        with pytest.raises(ValueError, match=rf"images: expected .* divisible by {unit}"):
            spaces(kind).encode(torch.rand(1, 3, 16, 16 + unit // 2))
        space = load_diffusers(folders(kind), **LOAD | {"image_size": 24})
        assert space.mean.shape == (4, 12, 12)
    with pytest.raises(ValueError, match="at most 80 pixels"):  # a table of 20 x 20 positions
        spaces("sd3").encode(torch.rand(1, 3, 16, 84))
    with pytest.raises(ValueError, match=r"image_size: expected .* divisible by 4, got 18"):
        load_diffusers(folders("sd3"), **LOAD | {"image_size": 18})


def test_a_lora_changes_denoiser_and_both_text_encoders(folders, spaces, tmp_path):
    space, factors = spaces("sdxl"), {}
    wanted = {
        "unet": next(n for n, _ in space.net.named_parameters() if n.endswith("to_q.weight")),
        "text_encoder": "text_model.encoder.layers.0.self_attn.q_proj.weight",
        "text_encoder_2": "text_model.encoder.layers.1.self_attn.v_proj.weight",
    }
    nets = {"unet": space.net} | {
        f"text_encoder{end}": each.net
        for end, each in zip(("", "_2"), space.conditions.encoders, strict=True)
    }
    for part, net in nets.items():
        names = dict(net.named_parameters())
        name = next(n for n in names if wanted[part].removeprefix("text_model.") in n)
        rows, columns = names[name].shape
        place = f"{part}.{name.removesuffix('.weight')}"
        factors[f"{place}.lora_A.weight"] = torch.ones(1, columns)
        factors[f"{place}.lora_B.weight"] = torch.ones(rows, 1)
        wanted[part] = name
    save_file(factors, tmp_path / "lora.safetensors")
    merged = load_diffusers(folders("sdxl"), lora=tmp_path / "lora.safetensors", **LOAD)
    changed = {"unet": merged.net} | {
        f"text_encoder{end}": each.net
        for end, each in zip(("", "_2"), merged.conditions.encoders, strict=True)
    }
    for part, net in nets.items():
        before, after = (dict(n.named_parameters())[wanted[part]] for n in (net, changed[part]))
        torch.testing.assert_close(after, before + 1)


@pytest.mark.parametrize("kind", ["sdxl", "sd3", "flux dev"])
def test_weights_with_the_prefix_of_a_wrapper(folders, spaces, tmp_path, kind):
    """Such as torch.compile adds."""
    copy = tmp_path / "copy"
    shutil.copytree(folders(kind), copy)
    for file in copy.glob("text_encoder*/model.safetensors"):
        save_file({f"_orig_mod.{n}": v for n, v in load_file(file).items()}, file)
    space = load_diffusers(copy, **LOAD)
    wanted = spaces(kind).encode_condition([PROMPT])
    torch.testing.assert_close(space.encode_condition([PROMPT]), wanted)


#: (kind, part, fields of its config, what the message says)
REFUSED = [
    ("sdxl", "unet", {"in_channels": 9}, "9 in_channels .* inpainting"),
    ("sdxl", "unet", {"in_channels": 8}, "8 in_channels .* edit an image"),
    ("flux dev", "transformer", {"in_channels": 96}, "96 in_channels .* inpainting"),
    ("flux dev", "transformer", {"in_channels": 32}, "32 in_channels .* follow another one"),
    ("sdxl", "unet", {"time_cond_proj_dim": 256}, "time_cond_proj_dim 256, not None, unlike"),
    ("sana", "transformer", {"guidance_embeds": True}, "guidance_embeds True, not None or False"),
    ("sd3", "", {"_class_name": "StableDiffusion3ControlNetPipeline"}, "follows a control image"),
    ("sdxl", "", {"requires_aesthetics_score": True}, "a refiner of Stable Diffusion XL"),
    ("flux dev", "", {"_class_name": "FluxFillPipeline"}, "a model for inpainting"),
    ("flux dev", "", {"_class_name": "FluxKontextPipeline"}, "edits an image"),
    ("sana", "", {"_class_name": "SanaSprintPipeline"}, "a consistency model"),
    ("sana", "", {"_class_name": "SanaVideoPipeline"}, "a model of videos"),
    ("sana", "", {"_class_name": "SomethingNew"}, "not supported. Supported are: Stable Diff"),
    ("sdxl", "text_encoder_2", {"hidden_size": 16}, "text_encoder_2 .*|takes 20 .* have 24"),
    ("sd3", "text_encoder_3", {"d_model": 32}, "takes 24 numbers per token .* have 32"),
    ("flux dev", "text_encoder", {"architectures": ["BertModel"]}, "is a .*BertModel.*, not CLIP"),
    ("flux dev", "text_encoder_2", {"quantization_config": {}}, "has a quantization_config"),
    ("pixart alpha", "transformer", {"caption_channels": 8}, "takes 8 numbers per token"),
    ("sana", "text_encoder", {"num_hidden_layers": 4000}, "text_encoder can't be built"),
    ("sd3", "transformer", {"_class_name": "FluxTransformer2DModel"}, "not SD3Transformer2DModel"),
    ("sd3", "transformer", {"sample_size": 7}, "sample_size 7, not divisible by 2"),
]


@pytest.mark.parametrize(("kind", "part", "fields", "words"), REFUSED)
def test_refused_before_anything_is_loaded(changed, monkeypatch, kind, part, fields, words):
    def loads(*_, **__):
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(diffusers_files, "pretrained", loads)
    folder = changed(kind, part, **fields)
    with pytest.raises(ValueError, match=words) as error:
        load_diffusers(folder, device="cpu")
    assert str(error.value).startswith("path: expected a model in a folder of diffusers")


@pytest.mark.parametrize("part", ["text_encoder_2", "tokenizer_2", "vae", "unet", "scheduler"])
def test_missing_parts(changed, monkeypatch, part):
    monkeypatch.setattr(diffusers_files, "pretrained", lambda *_, **__: 1 / 0)
    folder = changed("sdxl")
    shutil.rmtree(folder / part)
    with pytest.raises(ValueError, match=f"no {part}"):
        load_diffusers(folder, device="cpu")


@pytest.mark.parametrize("part", ["text_encoder_2", "transformer"])
def test_pickled_weights_are_refused(changed, part):
    folder = changed("flux dev")
    for file in (folder / part).glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    with pytest.raises(ValueError, match=f"no {part}/.*safetensors in it, only .*bin"):
        load_diffusers(folder, device="cpu")


def test_a_tokenizer_that_needs_sentencepiece(changed):
    folder = changed("pixart alpha")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"neither tokenizer.json nor spiece.model"):
        load_diffusers(folder, device="cpu")
    (folder / "tokenizer" / "spiece.model").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="sentencepiece"):
        load_diffusers(folder, device="cpu")


def test_an_old_name_of_the_network_of_pixart(changed, spaces):
    space = load_diffusers(
        changed("pixart sigma", "transformer", _class_name="Transformer2DModel"), **LOAD
    )
    t, z = torch.tensor([500]), IMAGES[:1, :1, :8, :8].expand(1, 4, 8, 8)
    first, second = (
        each.predict_noise(z, t, each.encode_condition([PROMPT]))
        for each in (space, spaces("pixart sigma"))
    )
    torch.testing.assert_close(first, second)


def test_options_of_other_kinds_are_refused(folders):
    for name, value in (("null_class", True), ("conditions", cfx.spaces.ClassConditions(3))):
        with pytest.raises(ValueError, match=f"^{name}: expected None with a model of this kind"):
            load_diffusers(folders("sd3"), **{name: value}, **LOAD)
    with pytest.raises(TypeError, match=r"^offload_text: expected True or False"):
        load_diffusers(folders("sd3"), offload_text="yes", **LOAD)
    with pytest.raises(TypeError, match=r"^negative_prompt: expected a text"):
        load_diffusers(folders("sd3"), negative_prompt=3, **LOAD)


def test_the_code_of_the_guide(folders, judge, tmp_path, monkeypatch):
    guide = (Path(__file__).resolve().parents[2] / "docs" / "guide.md").read_text()
    code = guide.split("### Large models of texts")[1].split("```python")[1].split("```")[0]
    shutil.copytree(folders("sd3"), tmp_path / "folder")
    monkeypatch.chdir(tmp_path)
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) / 3
    names = {"cfx": cfx, "images": images, "classifier": large.Brightest()}
    exec(code, names)
    assert names["cf"].made_by["function"] == "flow_counterfactual"


def test_the_benchmark_runs():
    table = large.rows("tiny", "cpu", offload=True, checkpointing=True)
    assert all(row["GiB"] > 0 for row in table)
    assert {*large.METHODS} < {row["method"] for row in table}


class Sizes:
    """The sizes that the config of a text encoder states."""

    def __init__(self, hidden_size, projection_dim=None):
        self.hidden_size, self.projection_dim = hidden_size, projection_dim


CLIP_L, CLIP_G, T5_XXL, GEMMA = Sizes(768, 768), Sizes(1280, 1280), Sizes(4096), Sizes(2304)
KL_16 = {"latent_channels": 16, "block_out_channels": [128, 256, 512, 512], "sample_size": 1024}
KL_4 = KL_16 | {"latent_channels": 4}
DC_32 = {"latent_channels": 32, "encoder_block_out_channels": [128, 256, 512, 512, 1024, 1024]}
#: Sizes of the published models: pipeline -> network, autoencoder, texts, shape of the codes.
PUBLISHED = {
    "StableDiffusionXLPipeline": (
        {"in_channels": 4, "out_channels": 4, "sample_size": 128, "cross_attention_dim": 2048,
         "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
         "projection_class_embeddings_input_dim": 2816},
        KL_4, (CLIP_L, CLIP_G), (4, 128, 128),
    ),
    "StableDiffusion3Pipeline": (
        {"in_channels": 16, "out_channels": 16, "sample_size": 128, "patch_size": 2,
         "joint_attention_dim": 4096, "pooled_projection_dim": 2048},
        KL_16, (CLIP_L, CLIP_G, T5_XXL), (16, 128, 128),
    ),
    "FluxPipeline": (
        {"in_channels": 64, "patch_size": 1, "joint_attention_dim": 4096,
         "pooled_projection_dim": 768, "guidance_embeds": True},
        KL_16, (CLIP_L, T5_XXL), (16, 128, 128),
    ),
    "PixArtAlphaPipeline": (
        {"in_channels": 4, "out_channels": 8, "sample_size": 128, "patch_size": 2,
         "caption_channels": 4096},
        KL_4, (T5_XXL,), (4, 128, 128),
    ),
    "SanaPipeline": (
        {"in_channels": 32, "out_channels": 32, "sample_size": 32, "patch_size": 1,
         "caption_channels": 2304},
        DC_32, (GEMMA,), (32, 32, 32),
    ),
}  # fmt: skip


@pytest.mark.parametrize("pipeline", PUBLISHED)
def test_sizes_of_the_published_models_fit(pipeline):
    network, codec, texts, shape = PUBLISHED[pipeline]
    family = text_models.family_of(pipeline)
    text_models.check_network(family, network, codec)
    assert text_models.code_shape(family, network, codec, None) == shape
    assert text_models.code_shape(family, network, codec, 512)[1] == shape[1] // 2
    for _, takes, gets in family.widths(network, texts):
        assert takes == gets
