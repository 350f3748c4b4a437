"""Autoencoders and diffusion models as spaces, put together by hand."""

import pytest
import torch
from tiny_ldm import Judge, kl, labelled, settled, tiny, vq
from torch import nn

import cfxnb as cfx
from cfxnb.core import ddim
from cfxnb.nets import ConditionalUNet, TinyAutoencoder
from cfxnb.spaces import (
    AttributeConditions,
    Autoencoder,
    ClassConditions,
    Diffusion,
    EmbeddingConditions,
    PromptConditions,
)
from cfxnb.spaces.precision import autocast, checked_precision

OPTIONS = {"hair": ("red", "blue", "none"), "hat": ("none", "crown")}
IMAGES = torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(1))
NETS = {
    "own": lambda: settled(TinyAutoencoder(3, 4, 8, (1, 1), (1, 1))),
    "kl": lambda: settled(kl()),
    "vq": lambda: settled(vq()),
    "tiny": lambda: settled(tiny()),
}


def coder(name="own", **kwargs):
    net = NETS[name]()
    side = 4 if name == "own" else 2
    channels = 3 if name == "vq" else 4
    place = torch.zeros(channels, 16 // side, 24 // side)
    return Autoencoder(net, place, place + 1, **kwargs)


def unet(options=OPTIONS):
    return settled(ConditionalUNet(options, 4, (16, 32)))


def model(**kwargs):
    return Diffusion(kwargs.pop("net", None) or unet(), coder(), **kwargs).eval()


@pytest.mark.parametrize("name", NETS)
def test_codes_and_back(name):
    space = coder(name)
    side = 4 if name == "own" else 2
    assert space.downsample_factor == side
    with torch.no_grad():
        code = space.encode(IMAGES)
        assert code.z.shape == (3, len(space.mean), 16 // side, 24 // side)
        assert code.aux is None
        images = space.decode(code)
        assert images.shape == IMAGES.shape
        assert images.min() >= 0
        assert images.max() <= 1
        assert torch.equal(space.encode(IMAGES).z, code.z)
        torch.testing.assert_close(space.decode(code[1:2])[0], images[1], atol=1e-5, rtol=0)
        torch.testing.assert_close(space.encode(IMAGES[1:2]).z[0], code.z[1], atol=1e-5, rtol=0)
    assert torch.equal(space.encode(IMAGES[0]).z, space.encode(IMAGES[:1]).z)
    for wrong in (IMAGES[:, :1], IMAGES[..., :-1]):
        with pytest.raises(ValueError, match=rf"images: expected.*divisible by {side}, got"):
            space.encode(wrong)
    with pytest.raises(ValueError, match="code: expected z of shape"):
        space.decode(cfx.Code(code.z[:, :2]))


def test_units_of_codes():
    """z = (latents - shift) * scale, numbers or one a channel; the images are the same."""
    plain, shifts = coder(), [0.1, -0.2, 0.3, 0.0]
    moved = coder(shift_factor=shifts, scaling_factor=[2.0, 3.0, 4.0, 5.0])
    a, b = plain.encode(IMAGES).z, moved.encode(IMAGES).z
    scale = torch.tensor([2.0, 3.0, 4.0, 5.0])[:, None, None]
    torch.testing.assert_close(b, (a - torch.tensor(shifts)[:, None, None]) * scale)
    torch.testing.assert_close(plain.decode(cfx.Code(a)), moved.decode(cfx.Code(b)))


@pytest.mark.parametrize("name", NETS)
def test_gradients_through_decode(name):
    """Those of differences, but for the codebook, whose gradient passes straight through."""
    space = coder(name).requires_grad_(False)
    z = space.encode(IMAGES[:1]).z.requires_grad_()
    weights = torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(2))
    (slope,) = torch.autograd.grad((space.decode(cfx.Code(z), clamp=False) * weights).sum(), z)
    assert slope.isfinite().all()
    assert slope.abs().max() > 0
    if name == "vq":
        return
    step = 3e-3 * slope / slope.norm()
    there, back = (
        (space.decode(cfx.Code(z.detach() + s), clamp=False) * weights).sum() for s in (step, -step)
    )
    difference = (there - back).item() / 2
    assert (slope * step).sum().item() == pytest.approx(difference, rel=0.1)


def test_clamping_ends_the_gradient_and_can_be_left_out():
    space = coder()
    z = (100 * torch.ones(1, 4, 4, 6)).requires_grad_()
    images = space.decode(cfx.Code(z), clamp=False)
    outside = (images < 0) | (images > 1)
    assert outside.any()
    torch.testing.assert_close(images.clamp(0, 1), space.decode(cfx.Code(z)))


def test_fitting_measures_codes():
    space = coder()
    many = torch.rand(300, 3, 16, 24, generator=torch.Generator().manual_seed(4))
    assert space.fit(many) is space
    z = torch.cat([space.encode(part).z for part in many.split(100)])
    torch.testing.assert_close(space.mean, z.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(space.std, z.std(0), atol=1e-5, rtol=1e-3)
    mean = space.mean
    torch.testing.assert_close(coder().fit(iter(many.split(50))).mean, mean)


# -- noise, velocity, image


class Answer(nn.Module):
    """Says what it is told to say."""

    def __init__(self, says):
        super().__init__()
        self.says, self.attributes = says, OPTIONS

    def forward(self, x, t, told):
        return self.says


@pytest.mark.parametrize("times", [[0, 500, 999], [3, 3, 40]])
def test_every_prediction_is_the_same_noise(times):
    """From clean codes and noise all three are known; each must lead back to the noise."""
    generator = torch.Generator().manual_seed(5)
    clean, noise = (torch.randn(3, 4, 4, 6, generator=generator) for _ in range(2))
    t = torch.tensor(times)
    left = ddim.linear_alphas_cumprod()[t].float().view(-1, 1, 1, 1)
    noisy = left.sqrt() * clean + (1 - left).sqrt() * noise
    velocity = left.sqrt() * noise - (1 - left).sqrt() * clean
    for prediction_type, says in (
        ("epsilon", noise),
        ("v_prediction", velocity),
        ("sample", clean),
    ):
        space = model(net=Answer(says), prediction_type=prediction_type)
        found = space.predict_noise(noisy, t, space.encode_condition([None] * 3))
        torch.testing.assert_close(found, noise, atol=2e-3, rtol=0, msg=prediction_type)


def test_what_a_net_says_of_itself():
    assert model().prediction_type == "v_prediction"
    assert model(prediction_type="epsilon").prediction_type == "epsilon"
    assert (
        Diffusion(labelled(4), coder(), conditions=ClassConditions(4)).prediction_type == "epsilon"
    )


def test_draws_depend_on_seed_and_place_alone():
    space = model()
    asked = ["red", None, {"hair": "red", "hat": "crown"}]
    kwargs = {"steps": 4, "shape": (4, 8)}
    z = space.sample(asked, **kwargs).z
    assert z.shape == (3, 4, 4, 8)
    assert torch.equal(space.sample(asked, **kwargs).z, z)
    torch.testing.assert_close(space.sample(asked[:1], **kwargs).z, z[:1], atol=1e-5, rtol=0)
    other = space.sample(["blue", *asked[1:]], **kwargs).z
    assert not torch.allclose(other[0], z[0])
    torch.testing.assert_close(other[1:], z[1:], atol=1e-5, rtol=0)
    assert not torch.allclose(space.sample(asked, seed=1, **kwargs).z, z)
    assert space.sample([None], steps=4).z.shape == (1, 4, 4, 6)


def test_guidance_of_draws():
    """Of nothing told it makes no difference, and at 0 what is told makes none."""
    space = model()
    one, many = (space.sample([None, "red"], steps=4, guidance_scale=s).z for s in (1.0, 5.0))
    torch.testing.assert_close(one[0], many[0], atol=1e-4, rtol=0)
    assert not torch.allclose(one[1], many[1])
    zero = space.sample(["red", "blue"], steps=4, guidance_scale=0.0).z
    none = space.sample([None, None], steps=4, guidance_scale=7.0).z
    torch.testing.assert_close(zero, none, atol=1e-4, rtol=0)


def test_draws_of_a_gaussian_have_its_spread():
    class Ideal(nn.Module):
        attributes = OPTIONS

        def forward(self, x, t, told):
            a = ddim.linear_alphas_cumprod()[t].to(x).view(-1, 1, 1, 1)
            clean = 0.25 * a.sqrt() / (0.25 * a + 1 - a) * x
            return (x - a.sqrt() * clean) / (1 - a).sqrt()

    z = model(net=Ideal(), prediction_type="epsilon").sample([None] * 200, steps=100).z
    assert z.std().item() == pytest.approx(0.5, rel=0.03)
    assert z.mean().item() == pytest.approx(0.0, abs=0.01)


def test_a_space_of_ones_own_nets_finds_counterfactuals():
    space, judge = model(), cfx.wrap(Judge(3), class_names=("red", "blue", "crown"))
    cf = cfx.diffusion_counterfactual(space, judge, IMAGES, 1, steps=2, max_attempts=1)
    assert cf.image.isfinite().all()
    with pytest.raises(ValueError, match=r"images: expected.*divisible by 8"):
        space.encode(IMAGES[..., :12])  # the autoencoder's 4, halved once more by the net


# -- conditions


def test_attributes():
    told = AttributeConditions(OPTIONS)
    asked = [None, "red", {"hair": "none"}, {"hat": "crown", "hair": "blue"}, {}]
    assert told.encode(asked).tolist() == [[3, 2], [0, 2], [2, 2], [1, 1], [3, 2]]
    assert AttributeConditions({"digit": ("0", "1", "2")}).encode([2, "1", None]).tolist() == [
        [2],
        [1],
        [3],
    ]
    for wrong, what in (
        ("none", "hair and hat has"),
        ("green", "no attribute has"),
        ({"hair": "green"}, "conditions, hair: expected one of"),
        ({"shoe": "red"}, "conditions: expected one of"),
        (1, "conditions: expected a dict"),
    ):
        with pytest.raises((ValueError, TypeError), match=what):
            told.encode([wrong])


def test_what_attributes_are_asked_for_by_default():
    told = AttributeConditions(OPTIONS)
    assert told.defaults(2, ["red", "crown"]) == ["red", "crown"]
    for classes, labels in ((2, None), (2, ["red", "none"]), (2, ["red", "green"])):
        with pytest.raises(ValueError, match="conditions: expected one for each"):
            told.defaults(classes, labels)
    digits = AttributeConditions({"digit": ("zero", "one")})
    assert digits.defaults(2, None) == [0, 1]
    with pytest.raises(ValueError, match="conditions: expected one for each"):
        digits.defaults(2, ["a", "b"])  # by number they might be told the opposite
    assert digits.defaults(2, ["one", "zero"]) == ["one", "zero"]


@pytest.mark.parametrize(
    "kind", [lambda n: ClassConditions(n), lambda n: EmbeddingConditions(torch.zeros(n, 5))]
)
def test_classes(kind):
    told = kind(4)
    assert told.encode([0, 2, None]).tolist() == [0, 2, 3]
    assert told.defaults(3, None) == [0, 1, 2]
    for wrong in (3, -1, "red", 1.0, True):
        with pytest.raises((ValueError, TypeError), match="conditions: expected"):
            told.encode([wrong])
    for classes in (2, 4):
        with pytest.raises(ValueError, match="conditions: expected one for each"):
            told.defaults(classes, None)


def test_vectors_move_and_count_with_the_space():
    space = Diffusion(labelled(4), coder(), conditions=EmbeddingConditions(torch.ones(4, 5)))
    assert "conditions.table" in space.state_dict()
    for wrong in (torch.ones(4), torch.ones(1, 4), [1.0]):
        with pytest.raises((ValueError, TypeError), match=r"table|n_classes"):
            EmbeddingConditions(wrong)


@pytest.mark.parametrize("template", ["a photo", 3, None, "{} and {", "{name}", "{} or {}"])
def test_templates(template):
    with pytest.raises((ValueError, TypeError), match=r"template: expected a text with \{\}"):
        PromptConditions(None, None, template)


def test_templates_are_filled():
    prompts = PromptConditions(None, None, "a {} face")
    assert prompts.defaults(2, ["old", "young"]) == ["a old face", "a young face"]
    for labels in (None, ["old"]):
        with pytest.raises(ValueError, match="the classifier has no class names"):
            prompts.defaults(2, labels)


# -- precision


@pytest.mark.parametrize("fast", [True, False])
def test_precision_does_not_depend_on_the_processor(monkeypatch, fast):
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: fast)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: fast)
    assert coder().precision == "float32"
    assert torch.equal(coder().encode(IMAGES).z, coder(precision="float32").encode(IMAGES).z)
    with torch.autocast("cpu", torch.bfloat16):  # not even where the caller asks torch for it
        inside = coder().encode(IMAGES).z
    assert torch.equal(inside, coder().encode(IMAGES).z)


def test_precision_is_what_is_asked_for():
    cpu = torch.device("cpu")
    with autocast(cpu, "bfloat16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with autocast(cpu, "float32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    for wrong in (None, "half", "FLOAT32", 32, torch.float32):
        with pytest.raises((ValueError, TypeError), match="precision: expected one of"):
            checked_precision(wrong)


def test_low_precision_is_near_and_never_comes_out():
    sharp, rough = coder(), coder(precision="bfloat16")
    a, b = sharp.encode(IMAGES), rough.encode(IMAGES)
    assert a.z.dtype == b.z.dtype == rough.decode(b).dtype == torch.float32
    assert not torch.equal(a.z, b.z)
    torch.testing.assert_close(a.z, b.z, atol=0.05 * a.z.abs().max().item(), rtol=0)
    torch.testing.assert_close(sharp.decode(a), rough.decode(a), atol=0.05, rtol=0)
    space = Diffusion(unet(), rough)
    assert (
        space.predict_noise(b.z, torch.tensor([1, 2, 3]), space.encode_condition([None] * 3)).dtype
        == torch.float32
    )
