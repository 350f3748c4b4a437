"""Answers that are random, that depend on batch mates, or whose memory is used again."""

import random
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from gaussians import GaussianSpace, gaussian_world
from methods_here import DIRECTION, FACTORS, METHODS, SPACE, X, net, other
from torch import nn

import cfxnb as cfx
from cfxnb.core.modules import first_time

#: These spaces state no covariance of their codes.
pytestmark = pytest.mark.filterwarnings("ignore:space. expected axes and variances")

NET = net()
TARGET = other(NET)
RANDOM = "two calls on the same images"
NOISE = torch.Generator().manual_seed(0)


def drops(x):
    """The default of F.dropout is to drop, whatever the mode of a network."""
    return NET(F.dropout(x, 0.5))


class OwnMode(nn.Module):
    """A flag of its own, which only ``train`` would change."""

    def __init__(self):
        super().__init__()
        self.net, self.noisy = net(), True

    def train(self, mode=True):
        self.noisy = mode
        return super().train(mode)

    def forward(self, x):
        return self.net(x) + (torch.randn(len(x), 2) if self.noisy else 0)


def numpy_noise(x):
    return NET(x) + torch.from_numpy(np.random.randn(len(x), 2)).float()  # noqa: NPY002


def python_noise(x):
    return NET(x) + torch.tensor([0.0, random.gauss(0, 3)])


def own_generator(x):
    return NET(x) + 3 * torch.randn(len(x), 2, generator=NOISE)


SOURCES = {
    "dropout": lambda: drops,
    "a flag of its own": OwnMode,
    "numpy": lambda: numpy_noise,
    "python": lambda: python_noise,
    "a generator of its own": lambda: own_generator,
}
ASKING = [m for m in METHODS if m not in ("fine_tune", "descriptors")]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("method", ["predict", "reconstruct", "scores", "directions", "captum"])
@pytest.mark.filterwarnings("ignore:space. it does not know these images")
def test_random_classifiers_are_named(source, method):
    with pytest.warns(UserWarning, match=f"classifier: {RANDOM}"):
        METHODS[method](SOURCES[source](), X, TARGET)


@pytest.mark.parametrize("method", ASKING)
@pytest.mark.filterwarnings("ignore:space. it does not know these images")
def test_every_method_notices_dropout(method):
    with pytest.warns(UserWarning, match=RANDOM):
        METHODS[method](drops, X, TARGET)


def test_a_call_warns_once_of_a_random_classifier():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        cfx.pixel_attack(drops, X, TARGET, steps=10)
    assert len([w for w in told if RANDOM in str(w.message)]) == 1
    assert first_time("out of a call")
    assert first_time("out of a call")


def test_random_black_boxes_are_named_and_others_are_asked_no_more_than_before():
    with pytest.warns(UserWarning, match=f"classifier: {RANDOM}"):
        cfx.predict_logits(cfx.BlackBox(drops), X)
    box = cfx.BlackBox(NET)
    cfx.predict_logits(box, X)
    assert box.n_queries == len(X)


def test_judges_and_features_are_named():
    like = cfx.reconstruct(SPACE, NET, X, TARGET)
    with pytest.warns(UserWarning, match=f"judge: {RANDOM}"):
        cfx.report({"a": like}, judge=drops)
    flat = {"f": lambda x: F.dropout(x, 0.5).flatten(1)[:, :3]}
    with pytest.warns(UserWarning, match=rf"features\['f'\]: {RANDOM}"):
        cfx.report({"a": cfx.pixel_attack(NET, X, TARGET)}, features=flat)


def test_a_classifier_that_changes_during_a_call_is_named():
    calls = []

    def drifts(x):
        calls.append(1)
        return NET(x) + torch.tensor([0.0, 0.02 * len(calls)])

    with pytest.warns(UserWarning, match=f"classifier: {RANDOM}"):
        cfx.pixel_attack(drifts, X, TARGET, steps=10, confidence=0.999)


def lazily_made():
    made = []

    def call(x):
        if not made:
            torch.randn(3)  # initial weights, which are overwritten by loaded ones
            made.append(net())
        return made[0](x)

    return call


def seeded(x):
    torch.manual_seed(0)
    return NET(x) + 0.1 * torch.randn(2)


RIGHT = {
    "made at the first call": lazily_made,
    "the same numbers at each call": lambda: seeded,
    "bfloat16": lambda: net().bfloat16(),
    "half": lambda: net().half(),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_right_classifiers_pass_silently(kind):
    with torch.random.fork_rng():
        cfx.predict_logits(RIGHT[kind](), X)
        cfx.pixel_attack(RIGHT[kind](), X, TARGET, steps=10)


def test_a_network_for_one_batch_size_passes_silently():
    def fixed(x):
        if len(x) != 8:
            raise ValueError("made for 8 images")
        return NET(x)

    torch.testing.assert_close(cfx.predict_logits(fixed, X), NET(X).detach())


class Centred(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        logits = 20 * self.net(x)
        return logits - logits.mean(0)


def batch_norm():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8, track_running_stats=False),
            nn.Linear(8, 2),
        )  # fmt: skip


@pytest.mark.parametrize("make", [Centred, batch_norm])
@pytest.mark.parametrize("method", ["predict", "pixel_attack", "scores"])
@pytest.mark.filterwarnings("ignore:space. it does not know these images")
def test_answers_that_depend_on_batch_mates_are_named(make, method):
    with pytest.warns(UserWarning, match=r"classifier: .*depends on the other images"):
        METHODS[method](make(), X, TARGET)


class Own:
    """A space of one's own, parts of which may be replaced."""

    mean, std = SPACE.mean, SPACE.std

    def encode(self, images):
        return SPACE.encode(images)

    def decode(self, code):
        return SPACE.decode(code)


class DrawsCodes(Own):
    def encode(self, images):
        z = SPACE.encode(images).z
        return cfx.Code(z + 0.2 * torch.randn_like(z))


class DrawsImages(Own):
    def decode(self, code):
        images = SPACE.decode(code)
        return (images + 0.05 * torch.randn(images.shape, generator=NOISE)).clamp(0, 1)


SPACE_CALLS = {
    "latent_attack": lambda s: cfx.latent_attack(s, NET, X, TARGET, steps=3, restarts=0),
    "reconstruct": lambda s: cfx.reconstruct(s, NET, X, TARGET),
    "follow": lambda s: cfx.follow_direction(s, NET, X, DIRECTION, TARGET),
    "latent_integrated": lambda s: cfx.latent_integrated_gradients(s, NET, X, DIRECTION, TARGET),
    "directions": lambda s: cfx.find_directions(s, NET, X[0], 1, max_queries=200, n_curvature=1),
    "scores": lambda s: cfx.contrastive_scores(s, NET, X, FACTORS, 1),
}


@pytest.mark.parametrize("call", SPACE_CALLS)
@pytest.mark.filterwarnings("ignore:space. it does not know these images")
@pytest.mark.filterwarnings("ignore:validation")
def test_random_spaces_are_named(call):
    for kind, name in ((DrawsCodes, r"space\.encode"), (DrawsImages, r"space\.decode")):
        with pytest.warns(UserWarning, match=f"{name}: {RANDOM}"):
            SPACE_CALLS[call](kind())


class Reuses(Own):
    """Gives out the same memory each time."""

    def __init__(self):
        self.z, self.images = torch.zeros(600, 4), torch.zeros(600, 1, 8, 8)

    def encode(self, images):
        self.z[: len(images)] = SPACE.encode(images).z
        return cfx.Code(self.z[: len(images)])

    def decode(self, code):
        if code.z.requires_grad:
            return SPACE.decode(code)
        self.images[: len(code)] = SPACE.decode(code)
        return self.images[: len(code)]


def reuses():
    memory = torch.zeros(600, 2)

    def call(x):
        if x.requires_grad:
            return NET(x)
        memory[: len(x)] = NET(x).detach()
        return memory[: len(x)]

    return call


def test_memory_that_is_used_again_changes_nothing():
    for method in ("predict", "follow", "random_change", "directions", "scores"):
        found, right = METHODS[method](reuses(), X, TARGET), METHODS[method](NET, X, TARGET)
        for a, b in zip(found, right, strict=True):
            np.testing.assert_allclose(np.array(a), np.array(b), atol=1e-5)
    torch.testing.assert_close(
        cfx.predict_logits(reuses(), X, batch_size=2), cfx.predict_logits(NET, X, batch_size=2)
    )
    for call in (
        lambda s: cfx.follow_direction(s, NET, X, DIRECTION, TARGET, batch_size=2),
        lambda s: cfx.reconstruct(s, NET, X, TARGET, batch_size=2),
    ):
        found, right = call(Reuses()), call(Own())
        for name in ("image", "reconstruction", "logits_before", "logits_after"):
            torch.testing.assert_close(getattr(found, name), getattr(right, name))
        torch.testing.assert_close(found.code_before.z, right.code_before.z)
    codes = pd.DataFrame({"a": (SPACE.encode(X).z[:, 0] > 0).int().numpy()})
    found, right = (cfx.fit_attribute_edits(s, X, codes).step_model for s in (Reuses(), Own()))
    torch.testing.assert_close(found.normals, right.normals)


SPACE_D, F_D, X_D, TARGET_D = gaussian_world()


def diffuse(space):
    return cfx.diffusion_counterfactual(space, F_D, X_D, TARGET_D, noise="random", steps=3)


def changed(**parts):
    made = type("Changed", (GaussianSpace,), parts)()
    return made


def writes(self, z, t, condition):
    found = GaussianSpace.predict_noise(self, z.clone(), t, condition)
    for part in (z, t, condition):
        part.zero_()
    return found


def reused(self, z, t, condition):
    found = GaussianSpace.predict_noise(self, z, t, condition)
    if found.requires_grad:
        return found
    if not hasattr(self, "memory"):
        self.memory = torch.zeros(50, *found.shape[1:])
    self.memory[: len(found)] = found
    return self.memory[: len(found)]


def noisy(self, z, t, condition):
    return GaussianSpace.predict_noise(self, z, t, condition) + 0.3 * torch.randn_like(z)


def broken(self, z, t, condition):
    found = GaussianSpace.predict_noise(self, z, t, condition)
    found[0] = torch.nan
    return found


def test_a_diffusion_space_gets_copies_and_hands_out_copies():
    right = diffuse(SPACE_D).image
    with pytest.warns(UserWarning, match="space: changes its input in place"):
        torch.testing.assert_close(diffuse(changed(predict_noise=writes)).image, right)
    torch.testing.assert_close(diffuse(changed(predict_noise=reused)).image, right)


def test_a_random_diffusion_space_is_named():
    with pytest.warns(UserWarning, match=rf"space\.predict_noise: {RANDOM}"):
        diffuse(changed(predict_noise=noisy))


def with_alphas(change):
    space = GaussianSpace()
    space.alphas_cumprod = change(space.alphas_cumprod)
    return space


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: changed(predict_noise=broken),
            r"space\.predict_noise: expected finite numbers.* 1 of 5",
        ),
        (
            lambda: changed(encode_condition=lambda s, a: SPACE_D.encode_condition(a)[:1]),
            r"space\.encode_condition: expected 5 rows",
        ),
        (
            lambda: changed(encode_condition=lambda s, a: [1] * len(a)),
            r"space\.encode_condition: expected a torch tensor",
        ),
        (lambda: with_alphas(lambda a: a.flip(0)), r"space\.alphas_cumprod: expected .* falling"),
        (lambda: with_alphas(torch.zeros_like), r"space\.alphas_cumprod: expected numbers between"),
        (lambda: with_alphas(list), r"space\.alphas_cumprod: expected a torch tensor"),
    ],
)
def test_wrong_parts_of_a_diffusion_space_are_named(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        diffuse(make())
