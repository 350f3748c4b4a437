"""A space of one's own is checked where it is called; wrong ones are named."""

import pandas as pd
import pytest
import torch
from gaussians import GaussianSpace
from methods_here import DIRECTION, SPACE, X, net, other
from torch import nn
from worlds import LinearSpace

import cfxnb as cfx
from cfxnb.core import validate

F = net()
TARGET = other(F)
NAN = torch.nan


class Own:
    """No module: a plain object, parts of which can be replaced by wrong ones."""

    def __init__(self, **wrong):
        self.mean, self.std = SPACE.mean.clone(), SPACE.std.clone()
        self.wrong = wrong
        for name in ("mean", "std"):
            if name in wrong:
                setattr(self, name, wrong[name])

    def encode(self, images):
        code = SPACE.encode(images)
        return self.wrong["encode"](code) if "encode" in self.wrong else code

    def decode(self, code):
        images = SPACE.decode(code)
        return self.wrong["decode"](images) if "decode" in self.wrong else images


def with_one(value):
    """The tensor with another number in its first row."""

    def change(x):
        x = x.clone()
        x[0].view(-1)[0] = value
        return x

    return change


WRONG = {
    "mean of another shape": ({"mean": torch.zeros(3)}, r"space\.std: expected the shape"),
    "mean is a number": ({"mean": 0.0}, r"space\.mean: expected a torch tensor"),
    "mean is whole": ({"mean": torch.zeros(4, dtype=torch.int64)}, r"space\.mean: expected fl"),
    "mean is complex": ({"mean": torch.zeros(4) * 1j}, r"space\.mean: expected floats"),
    "mean has no axis": ({"mean": torch.tensor(0.0)}, r"space\.mean: .*shape of one code"),
    "std is 0": ({"std": torch.zeros(4)}, r"space\.std: expected numbers >= 0"),
    "std is negative": ({"std": -torch.ones(4)}, r"space\.std: expected numbers >= 0"),
    "std is NaN": ({"std": torch.full((4,), NAN)}, r"space\.std: expected finite"),
    "codes are tensors": ({"encode": lambda c: c.z}, r"space\.encode: expected a cfx\.Code"),
    "codes of numpy": ({"encode": lambda c: cfx.Code(c.z.numpy())}, r"z: expected a torch tensor"),
    "too few codes": (
        {"encode": lambda c: c[:1]},
        r"space\.encode: expected codes of shape \(8, 4",
    ),
    "codes of another length": (
        {"encode": lambda c: cfx.Code(c.z[:, :3])},
        r"space\.encode: expected codes of shape \(8, 4\)",
    ),
    "codes with a NaN": (
        {"encode": lambda c: cfx.Code(with_one(NAN)(c.z))},
        r"space\.encode: expected finite numbers, got NaN or infinity for 1 of 8",
    ),
    "whole codes": ({"encode": lambda c: cfx.Code(c.z.long())}, r"z: expected floats"),
    "too little rest": (
        {"encode": lambda c: cfx.Code(c.z, c.z[:2])},
        r"aux: expected one row per image, got shape \(2, 4\)",
    ),
    "nothing decoded": ({"decode": lambda x: None}, r"space\.decode: expected images"),
    "numpy decoded": ({"decode": lambda x: x.numpy()}, r"space\.decode: expected images"),
    "too few images": (
        {"decode": lambda x: x[:1]},
        r"space\.decode: expected floats of shape \(8,",
    ),
    "images without channels": (
        {"decode": lambda x: x[:, 0]},
        r"space\.decode: expected floats of",
    ),
    "images of another size": ({"decode": lambda x: x[..., :5]}, r"space\.decode: .*the images"),
    "bytes": ({"decode": lambda x: (255 * x).byte()}, r"space\.decode: expected floats of shape"),
    "above 1": ({"decode": with_one(1.5)}, r"space\.decode: expected values in \[0, 1\], got"),
    "below 0": ({"decode": lambda x: 2 * x - 1}, r"space\.decode: expected values in \[0, 1\]"),
    "NaN": ({"decode": with_one(NAN)}, r"space\.decode: expected finite numbers"),
}
CALLS = {
    "latent_attack": lambda s: cfx.latent_attack(s, F, X, TARGET, restarts=0, steps=3),
    "follow": lambda s: cfx.follow_direction(s, F, X, DIRECTION, TARGET),
    "reconstruct": lambda s: cfx.reconstruct(s, F, X, TARGET),
    "latent_integrated_gradients": lambda s: cfx.latent_integrated_gradients(s, F, X, DIRECTION, 1),
    "contrastive_scores": lambda s: cfx.contrastive_scores(
        s, F, X, pd.DataFrame({"a": [0, 1] * 4}), 1
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("call", CALLS)
def test_wrong_spaces_are_named(wrong, call):
    change, told = WRONG[wrong]
    with pytest.raises((ValueError, TypeError), match=told):
        CALLS[call](Own(**change))


@pytest.mark.parametrize("call", ["find_directions", "fit_descriptors", "fit_attribute_edits"])
@pytest.mark.parametrize(
    "wrong", ["codes are tensors", "codes of another length", "codes with a NaN"]
)
def test_wrong_codes_are_named_by_all_who_encode(wrong, call):
    space = Own(**WRONG[wrong][0])
    calls = {
        "find_directions": lambda: cfx.find_directions(
            space, F, X[0], 1, max_queries=200, validation_images=X
        ),
        "fit_descriptors": lambda: cfx.fit_descriptors(space, X, pd.DataFrame({"a": [0, 1] * 4})),
        "fit_attribute_edits": lambda: cfx.fit_attribute_edits(
            space, X, pd.DataFrame({"a": [0, 1] * 4})
        ),
    }
    with pytest.raises((ValueError, TypeError), match=r"space\.encode"):
        calls[call]()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_space_in_another_dtype(dtype):
    class Typed:
        mean, std = SPACE.mean.to(dtype), SPACE.std.to(dtype)

        def encode(self, images):
            assert images.dtype == dtype
            return cfx.Code(SPACE.encode(images.float()).z.to(dtype))

        def decode(self, code):
            assert code.z.dtype == dtype
            return SPACE.decode(cfx.Code(code.z.float())).clamp(0, 1).to(dtype)

    free = {"restarts": 0, "prior": 0.0, "proximity": 0.0, "steps": 100, "confidence": 0.9}
    found = cfx.latent_attack(Typed(), F, X, TARGET, **free)
    assert found.image.dtype == found.code_after.z.dtype == torch.float32
    assert found.flipped.any()


def test_a_space_that_changes_what_it_is_given():
    class Rude(Own):
        def encode(self, images):
            return SPACE.encode(images.clamp_(0.1, 0.9))

        def decode(self, code):
            code.z.mul_(1.0).add_(0.0)
            return SPACE.decode(cfx.Code(code.z.add_(0.01)))

    x = X.clone()
    with pytest.warns(UserWarning, match="space: changes its input in place"):
        found = cfx.latent_attack(Rude(), F, x, TARGET, restarts=0)
    assert torch.equal(x, X)
    assert torch.equal(found.original, X)
    torch.testing.assert_close(found.code_before.z, SPACE.encode(X.clamp(0.1, 0.9)).z)


def test_dropout_in_a_space_without_a_module():
    drop = nn.Dropout(0.5).train()

    class Hidden(Own):
        def decode(self, code):
            return SPACE.decode(cfx.Code(drop(code.z)))

    first, second = (cfx.follow_direction(Hidden(), F, X, DIRECTION, TARGET) for _ in range(2))
    assert torch.equal(first.image, second.image)
    assert drop.training


def test_codes_of_larger_images_in_a_diffusion_space_alone():
    space = GaussianSpace()
    wide = torch.full((1, 3, 4, 6), 0.5)
    assert cfx.reconstruct(space, lambda x: x.mean((2, 3)), wide, 1)
    space.mean = space.std = torch.ones(3, 2, 2)
    assert cfx.reconstruct(space, lambda x: x.mean((2, 3)), wide, 1)
    with pytest.raises(ValueError, match=r"space\.encode: expected codes of shape \(1, 3, 2, 2\)"):
        cfx.latent_attack(space, lambda x: x.mean((2, 3)), wide, 1)


class Blurred(LinearSpace):
    """Forgets nearly everything about an image."""

    def encode(self, images):
        return cfx.Code(0.05 * super().encode(images).z)


FIT_CALLS = {
    "latent_attack": lambda s: cfx.latent_attack(s, F, X, TARGET, restarts=0, steps=2),
    "follow": lambda s: cfx.follow_direction(s, F, X, DIRECTION, TARGET),
    "reconstruct": lambda s: cfx.reconstruct(s, F, X, TARGET),
    "contrastive_scores": lambda s: cfx.contrastive_scores(
        s, F, X, pd.DataFrame({"a": [0, 1] * 4}), 1
    ),
}


@pytest.mark.parametrize("call", FIT_CALLS)
def test_a_space_that_does_not_know_the_images_is_told_once_with_the_figures(call):
    space = Blurred(shape=(1, 8, 8), scale=0.05)
    with pytest.warns(UserWarning, match=r"space: it does not know .* decides [0-4] of 8") as told:
        FIT_CALLS[call](space)
    assert len([w for w in told if "does not know" in str(w.message)]) == 1


def test_reconstructions_far_from_the_images_are_told():
    """Everything survives, but the space's own error is a hundred times smaller."""
    space = LinearSpace(shape=(1, 8, 8), scale=0.05)
    far = (X + 0.003 * torch.randn(X.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    own = cfx.reconstruct(space, F, far, TARGET)
    space.reconstruction_error = float((own.image - far).square().mean())
    cfx.reconstruct(space, F, far, TARGET)
    space.reconstruction_error /= 100
    with pytest.warns(UserWarning, match=r"mean squared error is .*own test images"):
        cfx.reconstruct(space, F, far, TARGET)


def test_shipped_spaces_know_their_own_images_and_no_others():
    space, f = cfx.load("digits/vae", device="cpu"), cfx.load("digits/classifier", device="cpu")
    digits = cfx.data.digits("test")[:40]
    assert space.reconstruction_error == 0.0039
    cfx.reconstruct(space, f, digits.images, 0)
    with pytest.warns(UserWarning, match="space: it does not know these images"):
        cfx.reconstruct(space, f, 1 - digits.images, 0)


def in_inference_mode():
    with torch.inference_mode():
        return Own()


def test_a_space_without_gradients_is_named_and_not_the_classifier():
    cut = Own(decode=lambda x: x.detach())
    for space in (cut, Own(decode=lambda x: torch.from_numpy(x.detach().numpy()))):
        with pytest.raises(TypeError, match=r"space\.decode: expected images that pass gradients"):
            cfx.latent_attack(space, F, X, TARGET)
    assert len(cfx.follow_direction(cut, F, X, DIRECTION, TARGET)) == 8


@pytest.mark.parametrize("change", [lambda x: x.to("meta"), lambda x: x.to_sparse()])
def test_images_without_ordinary_numbers_are_named(change):
    with pytest.raises(TypeError, match=r"space\.decode: expected images as ordinary tensors"):
        cfx.follow_direction(Own(decode=change), F, X, DIRECTION, TARGET)


def test_a_mean_from_inference_mode_is_taken():
    found = cfx.follow_direction(in_inference_mode(), F, X, DIRECTION, TARGET)
    torch.testing.assert_close(
        found.image, cfx.follow_direction(Own(), F, X, DIRECTION, TARGET).image
    )
    assert len(cfx.latent_attack(in_inference_mode(), F, X, TARGET, steps=2)) == 8


@pytest.mark.parametrize("device", ["cuda:0", "gpu", lambda: "cpu", torch.device("cpu")])
def test_an_attribute_called_device_may_be_anything(device):
    def f(x):
        return F(x)

    f.device = device
    found = cfx.pixel_attack(f, X, TARGET, steps=2)
    torch.testing.assert_close(found.image, cfx.pixel_attack(F, X, TARGET, steps=2).image)


def test_old_names_of_a_space_are_refused_with_the_new_ones():
    """Spaces were written with other names once; the message says what to rename."""

    class Old:
        center, spread = torch.zeros(2), torch.ones(2)
        alphas = torch.tensor([0.9, 0.5])

        def encode(self, images):
            return images

        decode = eps = tell = encode

    with pytest.raises(TypeError, match="rename its center to mean; rename its spread to std"):
        validate.space(Old())
    Old.mean, Old.std = Old.center, Old.spread
    with pytest.raises(TypeError, match="its alphas to alphas_cumprod; rename its eps to predict_"):
        validate.diffusion(Old())
