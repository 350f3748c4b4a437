"""Folders of diffusers as spaces: every kind that is read, and what is wrong with others."""

import json
import math

import diffusers
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
)
from safetensors.torch import load_file, save_file
from tiny_ldm import (
    CLASSES,
    KINDS,
    TEXT,
    Judge,
    kl,
    labelled,
    looking,
    stable_diffusion,
    table,
    tiny,
    vq,
    write,
)

import cfxnb as cfx
from cfxnb.spaces import ClassConditions, EmbeddingConditions, load_ldm, load_stable_diffusion
from cfxnb.spaces.checkpoints.diffusers_files import folder
from cfxnb.spaces.checkpoints.ldm_files import WANTED
from cfxnb.spaces.checkpoints.schedulers import SCHEDULERS, parametrisation

pytestmark = pytest.mark.filterwarnings("ignore:null_class. the last of")

HERE = {"device": "cpu", "precision": "float32"}
IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
WIDE = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))
QUICK = {"steps": 2, "max_attempts": 1, "strength": 0.3}
STEM = "diffusion_pytorch_model"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folder of each kind, written when it is asked for."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = KINDS[kind](tmp_path_factory.mktemp("ldm"))
        return made[kind]

    return get


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return stable_diffusion(tmp_path_factory.mktemp("sd"))


@pytest.fixture
def judge():
    return cfx.wrap(Judge(), class_names=("red", "blue", "old"))


def others(judge, images):
    with torch.no_grad():
        return (judge(images).argmax(1) + 1) % CLASSES


each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_from_images_to_counterfactuals(folders, judge, kind):
    space = load_ldm(folders(kind), **HERE)
    assert not any(p.requires_grad or p.grad is not None for p in space.parameters())
    assert not space.training
    for images in (IMAGES, WIDE):
        target = others(judge, images)
        cf = cfx.diffusion_counterfactual(space, judge, images, target, **QUICK)
        assert cf.image.shape == images.shape
        assert cf.image.isfinite().all()
        shape = (len(images), len(space.mean), *(n // 2 for n in images.shape[2:]))
        assert cf.code_after.z.shape == shape
        assert cf.trace["masks"].shape == (len(images), 2, *shape[2:])
        assert cf.made_by["weights"]["space"]


@pytest.mark.parametrize("kind", ["labelled, vq", "labelled, kl", "vectors, kl"])
def test_one_alone_is_one_of_many(folders, judge, kind):
    space = load_ldm(folders(kind), **HERE)
    target = others(judge, IMAGES)
    many = cfx.diffusion_counterfactual(space, judge, IMAGES, target, **QUICK)
    alone = cfx.diffusion_counterfactual(space, judge, IMAGES[:1], target[:1], **QUICK)
    torch.testing.assert_close(alone.image, many.image[:1], atol=1e-4, rtol=0)
    halves = cfx.diffusion_counterfactual(space, judge, IMAGES, target, batch_size=3, **QUICK)
    torch.testing.assert_close(halves.image, many.image, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["labelled, vq", "vectors, kl"])
def test_as_published(folders, judge, kind):
    space = load_ldm(folders(kind), **HERE)
    knobs = {**cfx.PAPER_DIFFUSION, "steps": 10}
    target = others(judge, WIDE)
    cf = cfx.diffusion_counterfactual(space, judge, WIDE, target, **knobs)
    assert cf.trace["kept_fraction"].shape == (2, 3)
    assert (cf.cost["unet"] == 3 * 4).all()
    assert not torch.equal(cf.image, cf.reconstruction)


def test_codes_are_those_of_the_autoencoder(tmp_path):
    """Written out once more with diffusers alone, scaled and shifted."""
    codec = kl(scaling_factor=0.3, shift_factor=0.1)
    space = load_ldm(write(tmp_path, labelled(4), codec), **HERE)
    with torch.no_grad():
        mode = codec.encode(2 * IMAGES - 1).latent_dist.mode()
        z = (mode - 0.1) * 0.3
        torch.testing.assert_close(space.encode(IMAGES).z, z)
        images = (codec.decode(z / 0.3 + 0.1).sample + 1) / 2
        torch.testing.assert_close(space.decode(cfx.Code(z), clamp=False), images)
        torch.testing.assert_close(space.decode(cfx.Code(z)), images.clamp(0, 1))


def test_a_codebook_is_used_by_the_decoder_alone(tmp_path):
    codec = vq(scaling_factor=0.5)
    space = load_ldm(write(tmp_path, labelled(3), codec, place="vqvae"), **HERE)
    z = space.encode(IMAGES).z
    with torch.no_grad():
        torch.testing.assert_close(z, codec.encode(2 * IMAGES - 1).latents * 0.5)
        words = codec.quantize(z / 0.5)[0]
        assert (words - z / 0.5).abs().max() > 1e-3
        images = codec.decoder(codec.post_quant_conv(words))
        torch.testing.assert_close(space.decode(cfx.Code(z)), ((images + 1) / 2).clamp(0, 1))
    z.requires_grad_()
    space.decode(cfx.Code(z), clamp=False).sum().backward()
    assert z.grad.abs().min() > 0  # straight through the codebook


def test_one_number_a_channel(tmp_path):
    knobs = {"latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 4.0, 5.0]}
    codec = kl(scaling_factor=0.5, **knobs)
    space = load_ldm(write(tmp_path, labelled(4), codec), **HERE)
    with torch.no_grad():
        mode = codec.encode(2 * IMAGES - 1).latent_dist.mode()
    mean, std = (torch.tensor(v)[:, None, None] for v in knobs.values())
    torch.testing.assert_close(space.encode(IMAGES).z, (mode - mean) / std * 0.5)


def test_where_codes_lie_can_be_measured(folders):
    space = load_ldm(folders("labelled, kl"), **HERE)
    assert space.mean.shape == space.std.shape == (4, 8, 8)
    assert not space.mean.any()
    assert (space.std == 1).all()
    space.autoencoder.fit(IMAGES)
    z = space.encode(IMAGES).z
    torch.testing.assert_close(space.mean, z.mean(0))
    torch.testing.assert_close(space.std, z.std(0))


def test_a_net_can_be_told_its_classes_and_none(folders):
    space = load_ldm(folders("labelled, kl"), **HERE)
    assert space.encode_condition([0, 2, None]).tolist() == [0, 2, CLASSES]
    z = torch.randn(3, 4, 8, 8)
    t = torch.tensor([5, 500, 900])
    with torch.no_grad():
        eps = space.predict_noise(z, t, space.encode_condition([0, 2, None]))
        own = space.net(z, t, class_labels=torch.tensor([0, 2, CLASSES])).sample
        torch.testing.assert_close(eps, own)
        assert not torch.allclose(eps, space.predict_noise(z, t, space.encode_condition([1, 1, 1])))


def test_vectors_of_classes_come_from_the_folder_or_from_the_caller(folders, tmp_path):
    stored = load_ldm(folders("vectors, kl"), **HERE)
    assert torch.equal(stored.conditions.table, table())
    bare = write(tmp_path, looking(4), kl())
    with pytest.raises(ValueError, match=r"no class_embedder in it.*EmbeddingConditions"):
        load_ldm(bare, **HERE)
    given = load_ldm(bare, conditions=EmbeddingConditions(table()), **HERE)
    z, t = torch.randn(2, 4, 8, 8), torch.tensor([5, 900])
    with torch.no_grad():
        found = given.predict_noise(z, t, given.encode_condition([1, None]))
        own = given.net(z, t, encoder_hidden_states=table()[[1, 3]][:, None]).sample
    torch.testing.assert_close(found, own)


@pytest.mark.parametrize(
    ("scheduler", "prediction_type"),
    [
        (DDPMScheduler(), "epsilon"),
        (
            DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.0015, beta_end=0.0195),
            "epsilon",
        ),
        (EulerDiscreteScheduler(prediction_type="v_prediction"), "v_prediction"),
        (DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="sample"), "sample"),
        (DDPMScheduler(trained_betas=[0.1, 0.2, 0.4], num_train_timesteps=3), "epsilon"),
        (DDIMScheduler(rescale_betas_zero_snr=True), "epsilon"),
    ],
)
def test_schedules(tmp_path, scheduler, prediction_type):
    space = load_ldm(write(tmp_path, labelled(4), tiny(), scheduler), **HERE)
    assert space.prediction_type == prediction_type
    assert space.alphas_cumprod.dtype == torch.float64
    own = scheduler.alphas_cumprod.double()
    torch.testing.assert_close(space.alphas_cumprod, own, rtol=1e-4, atol=1e-6)
    assert (space.alphas_cumprod.diff() < 0).all()


def test_every_scheduler_has_the_betas_of_ddpm(tmp_path):
    """What a config leaves out is as the scheduler of that name has it."""
    place = write(tmp_path, labelled(4), tiny())
    file = place / "scheduler" / "scheduler_config.json"
    for name in SCHEDULERS:
        made = getattr(diffusers, name)
        file.write_text(json.dumps({"_class_name": name, "beta_schedule": "linear"}))
        alphas = parametrisation(place).alphas_cumprod
        try:
            own = made(beta_schedule="linear").alphas_cumprod.double()
        except ImportError:  # of a library that is not here
            continue
        torch.testing.assert_close(alphas, own, rtol=1e-4, atol=1e-6)


# -- Stable Diffusion


def test_texts_from_labels_or_given(texts, judge):
    space = load_stable_diffusion(texts, template="a {} thing", **HERE)
    target = others(judge, WIDE)
    told = cfx.diffusion_counterfactual(space, judge, WIDE, target, **QUICK)
    prompts = ["a red thing", "a blue thing", "a old thing"]
    same = cfx.diffusion_counterfactual(space, judge, WIDE, target, conditions=prompts, **QUICK)
    assert torch.equal(told.image, same.image)
    assert same.made_by["conditions"] == prompts
    prompts = ["night", "day", "noon"]
    other = cfx.diffusion_counterfactual(space, judge, WIDE, target, conditions=prompts, **QUICK)
    assert not torch.equal(told.image, other.image)
    paper = {**cfx.PAPER_DIFFUSION, "steps": 6}
    assert cfx.diffusion_counterfactual(space, judge, WIDE, target, **paper).image.isfinite().all()


SAME = [
    ["red", "red", "blue"],
    ["", "\n", "blue"],
    ["so many words red", "so many words blue", "old"],  # 12 tokens end before they differ
]


@pytest.mark.parametrize("labels", SAME, ids=str)
@pytest.mark.parametrize("given", [False, True])
def test_texts_that_the_model_can_not_tell_apart(texts, labels, given, recwarn):
    """Said once a call, whether they come from labels or from the caller."""
    space = load_stable_diffusion(texts, template="{}", **HERE)
    told = {"conditions": labels} if given else {}
    judge = cfx.wrap(Judge(), class_names=None if given else labels)
    cfx.diffusion_counterfactual(space, judge, WIDE, 2, **told, batch_size=1, **QUICK)
    (warned,) = [str(w.message) for w in recwarn if "conditions: classes 0" in str(w.message)]
    assert ("is cut, after 12 tokens" in warned) == (labels is SAME[2])


def test_texts_that_are_cut(texts, judge):
    """The model doesn't see their end, which is said even where they begin differently."""
    space = load_stable_diffusion(texts, template="{}", **HERE)
    prompts = ["red", "blue", "old and something more"]
    with pytest.warns(UserWarning, match="conditions: the end of 'old and something more' is cut"):
        cfx.diffusion_counterfactual(space, judge, WIDE, 1, conditions=prompts, **QUICK)


def test_one_text_alone_is_one_of_many(texts, judge):
    space = load_stable_diffusion(texts, template="{}", **HERE)
    target = others(judge, IMAGES)
    many = cfx.diffusion_counterfactual(space, judge, IMAGES, target, **QUICK)
    alone = cfx.diffusion_counterfactual(space, judge, IMAGES[:1], target[:1], **QUICK)
    torch.testing.assert_close(alone.image, many.image[:1], atol=1e-4, rtol=0)


def test_what_words_become(texts):
    space = load_stable_diffusion(texts, **HERE)
    told = space.encode_condition(["red", None, "blue", "red"])
    assert told.shape == (4, 12, TEXT)
    assert torch.equal(told[0], told[3])
    assert not torch.allclose(told[0], told[2])
    tokenizer, encoder = space.conditions.tokenizer, space.conditions.encoder
    ids = tokenizer(["", "red"], padding="max_length", max_length=12, return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(told[[1, 0]], encoder(ids).last_hidden_state)
    assert space.encode_condition(["red " * 99]).shape == (1, 12, TEXT)
    with pytest.raises(TypeError, match="conditions: expected texts"):
        space.encode_condition([3])


def test_texts_need_labels(texts):
    space = load_stable_diffusion(texts, **HERE)
    with pytest.raises(ValueError, match="conditions: expected one for each"):
        cfx.diffusion_counterfactual(space, cfx.wrap(Judge()), IMAGES, 1, **QUICK)


def test_the_encoder_goes_where_the_space_goes(texts):
    space = load_stable_diffusion(texts, **HERE)
    assert any(name.startswith("conditions.encoder") for name, _ in space.named_parameters())
    assert not any(p.requires_grad for p in space.conditions.encoder.parameters())
    assert next(space.to("meta").conditions.encoder.parameters()).is_meta


def test_without_transformers(texts, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ImportError, match="pip install transformers"):
        load_stable_diffusion(texts, **HERE)


# -- what is refused


def break_json(folder, file, **changes):
    config = json.loads((folder / file).read_text()) | changes
    (folder / file).write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def bin_only(folder):
    weights = folder / "unet" / f"{STEM}.safetensors"
    torch.save(load_file(weights), folder / "unet" / f"{STEM}.bin")
    weights.unlink()


def cut(folder):
    weights = folder / "vae" / f"{STEM}.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def garbage(folder):
    (folder / "unet" / f"{STEM}.safetensors").write_bytes(b"\xff" * 1000)


def without(part):
    def remove(folder):
        for file in (folder / part).iterdir():
            file.unlink()
        (folder / part).rmdir()

    return remove


def weights(part, change):
    def rewrite(folder):
        file = folder / part / f"{STEM}.safetensors"
        state = load_file(file)
        key = max(k for k in state if k.endswith("weight"))
        change(state, key)
        save_file(state, file)

    return rewrite


def config(file, **changes):
    return lambda folder: break_json(folder, file, **changes)


UNET, VAE, TIMES = "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"
WRONG = {
    "bin only": (bin_only, rf"no unet/{STEM}\.safetensors in it, only {STEM}\.bin; save it again"),
    "truncated": (cut, rf"vae/{STEM}\.safetensors is damaged.*download it again"),
    "garbage": (garbage, rf"unet/{STEM}\.safetensors is damaged"),
    "no unet": (without("unet"), r"no unet/config\.json in it"),
    "no vae": (without("vae"), r"no vae/config\.json in it"),
    "no scheduler": (without("scheduler"), r"no scheduler/scheduler_config\.json in it"),
    "no index": (lambda f: (f / "model_index.json").unlink(), r"no model_index\.json in it"),
    "no weights": (
        lambda f: (f / "vae" / f"{STEM}.safetensors").unlink(),
        rf"no vae/{STEM}\.safetensors in it, nor",
    ),
    "no JSON": (lambda f: (f / UNET).write_text("{"), r"unet/config\.json is damaged"),
    "no dict": (lambda f: (f / UNET).write_text("[]"), r"unet/config\.json is damaged \(a list"),
    "index of weights": (
        lambda f: (
            (f / "vae" / f"{STEM}.safetensors").unlink(),
            (f / "vae" / f"{STEM}.safetensors.index.json").write_text(
                json.dumps({"weight_map": {"a": "../unet/x.safetensors"}})
            ),
        ),
        "no names of files",
    ),
    "another net": (config(UNET, _class_name="PriorTransformer"), "unet is a 'PriorTransformer'"),
    "code": (config(UNET, _class_name="os.system"), "unet is a 'os.system'"),
    "no class": (config(UNET, _class_name=None), "unet is a None"),
    "another autoencoder": (config(VAE, _class_name="AsymmetricAutoencoderKL"), "vae is a 'Asymm"),
    "missing": (weights("unet", lambda s, k: s.pop(k)), "unet has 1 missing tensors"),
    "unknown": (
        weights("unet", lambda s, k: s.update(more=torch.zeros(1))),
        "unet has 1 unexpected tensors, such as more",
    ),
    "NaN": (weights("vae", lambda s, k: s[k].mul_(math.nan)), "vae has NaN or infinity in"),
    "shape": (weights("unet", lambda s, k: s.update({k: torch.zeros(3)})), "unet can't be built"),
    "widths": (config(UNET, block_out_channels=[8, 24]), "unet can't be built"),
    "told nothing": (config(UNET, num_class_embeds=None), r"unet (can't be told classes|has \d)"),
    "sample size": (config(UNET, sample_size=None), "sample_size None; write"),
    "flow in another's name": (config(TIMES, use_flow_sigmas=True), "has use_flow_sigmas"),
    "continuous times": (config(TIMES, timestep_type="continuous"), "has timestep_type 'cont"),
    "learned variance": (config(TIMES, variance_type="learned"), "has variance_type 'learned'"),
    "video": (config(TIMES, _class_name="CogVideoXDDIMScheduler"), "a 'CogVideoXDDIMScheduler'"),
    "none that is known": (config(TIMES, _class_name="FooScheduler"), "is a 'FooScheduler'"),
    "no scheduler's name": (config(TIMES, _class_name=["DDIMScheduler"]), "scheduler is a "),
    "prediction": (config(TIMES, prediction_type="flow"), "prediction_type 'flow'"),
    "schedule": (config(TIMES, beta_schedule="cubic"), "scheduler can't be built"),
    "betas": (config(TIMES, trained_betas=[0.1, -0.1, 0.1]), "alphas_cumprod doesn't decrease"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_named(folders, tmp_path, kind):
    broken = copied(folders("labelled, kl"), tmp_path / "broken")
    damage, told = WRONG[kind]
    damage(broken)
    with pytest.raises(ValueError, match=told) as caught:
        load_ldm(broken, **HERE)
    message = str(caught.value)
    assert message.startswith(f"path: expected {WANTED}, got ")
    assert "broken" in message
    assert len(message) < 600


def copied(folder, to):
    for file in folder.rglob("*"):
        if file.is_file():
            (to / file.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (to / file.relative_to(folder)).write_bytes(file.read_bytes())
    return to


TEXTS = {
    "no tokenizer": (without("tokenizer"), "no tokenizer in it"),
    "no words": (
        lambda f: [p.unlink() for p in (f / "tokenizer").iterdir() if "config" not in p.name],
        "tokenizer has neither",
    ),
    "no encoder": (without("text_encoder"), r"no text_encoder/config\.json"),
    "encoder's bin": (
        lambda f: (f / "text_encoder" / "model.safetensors").rename(
            f / "text_encoder" / "pytorch_model.bin"
        ),
        r"no text_encoder/model\.safetensors in it, only pytorch_model\.bin",
    ),
    "another encoder": (
        config("text_encoder/config.json", architectures=["T5EncoderModel"]),
        "text_encoder is a .*T5EncoderModel",
    ),
    "other code": (
        config("text_encoder/config.json", architectures=["Mine"], auto_map={"AutoModel": "x.Y"}),
        "text_encoder is a .*Mine",
    ),
    "larger": (
        config(UNET, addition_embed_type="text", addition_embed_type_num_heads=2),
        r"unet has .*(addition_embed_type|missing tensors)",
    ),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_what_is_wrong_with_texts_is_named(texts, tmp_path, kind):
    broken = copied(texts, tmp_path / "broken")
    damage, told = TEXTS[kind]
    damage(broken)
    with pytest.raises(ValueError, match=told) as caught:
        load_stable_diffusion(broken, **HERE)
    assert str(caught.value).startswith(f"path: expected {WANTED}, got ")


def test_parts_that_do_not_belong_together(tmp_path, texts):
    narrow = write(tmp_path / "narrow", labelled(4), vq())
    with pytest.raises(ValueError, match="unet has 4 in_channels for codes of 3 channels"):
        load_ldm(narrow, **HERE)
    wide = write(tmp_path / "wide", labelled(4, out_channels=5), kl())
    with pytest.raises(ValueError, match="unet has 5 out_channels"):
        load_ldm(wide, **HERE)
    vectors = write(tmp_path / "vectors", looking(4), kl(), vectors=table()[:, :5].contiguous())
    with pytest.raises(ValueError, match=rf"vectors of {TEXT} numbers.*got 5"):
        load_ldm(vectors, **HERE)
    flat = write(tmp_path / "flat", looking(4), kl(), vectors=table()[0])
    with pytest.raises(ValueError, match=r"no embedding\.weight of shape"):
        load_ldm(flat, **HERE)
    with pytest.raises(ValueError, match="unet is a 'UNet2DModel'"):
        load_stable_diffusion(narrow, **HERE)


def test_conditions_that_the_net_can_not_be_told(folders):
    for kind, wrong in (
        ("labelled, kl", ClassConditions(7)),
        ("labelled, kl", EmbeddingConditions(table())),
        ("vectors, kl", ClassConditions(CLASSES + 1)),
        ("vectors, kl", EmbeddingConditions(table()[:, :3])),
    ):
        with pytest.raises(ValueError, match=r"^conditions: expected"):
            load_ldm(folders(kind), conditions=wrong, **HERE)
    assert load_ldm(folders("labelled, kl"), conditions=ClassConditions(CLASSES + 1), **HERE)


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (1, 3, 18, 16), (1, 3, 16, 15)])
def test_images_that_do_not_fit(folders, shape):
    with pytest.raises(ValueError, match=r"images: expected shape \(b, 3, h, w\).*divisible by 4"):
        load_ldm(folders("labelled, kl"), **HERE).encode(torch.rand(shape))


# -- the hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_folder_on_the_hub(folders, monkeypatch):
    asked = {}

    def download(name, **knobs):
        asked.update(name=name, **knobs)
        return str(folders("labelled, kl"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert load_ldm("owner/model", revision=COMMIT, **HERE).mean.shape == (4, 8, 8)
    assert (asked["name"], asked["revision"]) == ("owner/model", COMMIT)
    assert set(asked) == {"name", "revision", "allow_patterns"}
    assert "unet/diffusion_pytorch_model.safetensors" in asked["allow_patterns"]
    assert not [p for p in asked["allow_patterns"] if p.endswith((".bin", ".py", "/*", ".pt"))]


def test_without_a_connection(monkeypatch):
    def download(name, **knobs):
        raise ConnectionError("a long story")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    for load in (load_ldm, load_stable_diffusion):
        with pytest.raises(ValueError, match=rf"^path: .*'owner/model' at {COMMIT}.*ConnectionErr"):
            load("owner/model", revision=COMMIT, **HERE)


@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:7], COMMIT.upper(), 3])
def test_the_hub_needs_a_commit(revision, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises((ValueError, TypeError), match=r"^revision: expected the 40 digits"):
        folder("owner/model", revision, WANTED, ("unet",))


def test_a_folder_needs_no_commit(folders):
    with pytest.raises(ValueError, match="revision: expected None for a folder"):
        load_ldm(folders("labelled, kl"), revision=COMMIT, **HERE)
