"""The shipped diffusion models draw what they are asked for, and their guidance flips decisions."""

import pytest
import torch

import cfxnb as cfx

HAIR = [{"hair": "gray"}, {"hair": "red"}]
ASKED = {
    "digits": [str(d) for d in range(10)],
    "sprites": HAIR * 4,
    "faces": ["no smile", "smile"] * 4,
}
FLOOR = {"digits": 0.002, "sprites": 0.004, "faces": 0.002}  # squared error of reconstructions


def read(world, images):
    """What an independent judge reads of what was asked for."""
    if world == "sprites":
        judge = cfx.load("sprites/judge", "cpu")
        hair = judge.options["hair"]
        numbers = judge.indices(images)[:, list(judge.options).index("hair")]
        return (numbers == list(hair).index("red")).long()
    name = "digits/judge" if world == "digits" else "faces/judge"
    return cfx.predict_logits(cfx.load(name, "cpu"), images).argmax(1)


def held_out(world, count=8):
    if world == "sprites":
        return cfx.data.sprites("pairs", count, split="test")
    loaded = cfx.data.digits() if world == "digits" else cfx.data.faces()
    return loaded[:count]


@pytest.fixture(params=list(ASKED))
def world(request):
    return request.param


def test_samples_are_what_was_asked_for(world):
    space = cfx.load(f"{world}/ldm", "cpu")
    images = space.decode(space.sample(ASKED[world], seed=3))
    wanted = torch.arange(len(ASKED[world])) % (10 if world == "digits" else 2)
    assert (read(world, images) == wanted).double().mean() >= 0.8


def test_the_autoencoder_keeps_images(world):
    space, images = cfx.load(f"{world}/autoencoder", "cpu"), held_out(world).images
    rebuilt = space.decode(space.encode(images))
    assert (rebuilt - images).square().mean() < FLOOR[world]
    z = cfx.load(f"{world}/ldm", "cpu").encode(images).z
    torch.testing.assert_close(z, space.encode(images).z)
    assert 0.5 < z.std() < 1.6  # latents have a spread of about 1


def test_decisions_flip(world):
    names = {"digits": "digits/classifier", "sprites": "sprites/honest", "faces": "faces/smile"}
    f, images = cfx.load(names[world], "cpu"), held_out(world, 6).images
    said = f(images).argmax(1)
    target = (said + 1) % 10 if world == "digits" else 1 - said
    space = cfx.load(f"{world}/ldm", "cpu")
    told = {"conditions": HAIR} if world == "sprites" else {}
    cf = cfx.diffusion_counterfactual(space, f, images, target, **told)
    assert cf.flipped.sum() >= 5
    assert (f(cf.image).argmax(1) == target)[cf.flipped].all()


#: Of samples, the share in which the judge must read what was asked for.
SHARES = {"digits": {"digit": 0.95}, "sprites": {"hair": 0.95}, "faces": {"smile": 0.85}}


def test_the_card_says_that_samples_are_as_asked(world):
    card = cfx.weights.read_card(f"{world}/ldm")
    for name, least in SHARES[world].items():
        told = f"samples in which a judge reads the {name} asked for"
        assert card["quality"][told] >= least
    assert card["autoencoder"] == f"{world}/autoencoder"
