"""Shipped spaces state the mean and the standard deviation of the codes of real images."""

import functools

import pytest
import torch

import cfxnb as cfx

COUNT = 200
FAR = 5.0  # largest deviation of one coordinate, in standard errors
TYPICAL = 2.0  # largest root mean square over coordinates: 1 for independent normal coordinates
SPACES = [name for name, card in cfx.weights.cards().items() if card["kind"] == "space"]
WITH_PRIOR = [name for name in SPACES if cfx.weights.read_card(name)["config"].get("latent")]


@functools.cache
def real_images(world):
    """Random images of the distribution on which the statistics were measured."""
    if world == "sprites":
        return cfx.data.sprites("independent", COUNT, split="train", seed=1).images
    images = getattr(cfx.data, world)("train").images
    # At random, because files of MNIST have a periodic order: every 300th image is a biased set.
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:COUNT]]


@functools.cache
def real_codes(name):
    space = cfx.load(name, device="cpu")
    images = real_images(name.partition("/")[0])
    with torch.no_grad():
        if hasattr(space, "encode_semantic"):  # without the inversion, which is slow
            return space, space.encode_semantic(images)
        return space, space.encode(images).z


def deviations(z, mean, std):
    """Return how far the mean and the std of codes z are from those stated, in standard errors."""
    kurtosis = (z - z.mean(0)).pow(4).mean(0) / z.var(0).square()
    mean_error = z.std(0) / len(z) ** 0.5
    std_error = z.std(0) * ((kurtosis - 1) / (4 * len(z))).sqrt()
    return (z.mean(0) - mean) / mean_error, (z.std(0) - std) / std_error


def typical(errors):
    return float(errors.square().mean().sqrt())


@pytest.mark.parametrize("name", SPACES)
def test_mean_and_std_are_those_of_real_codes(name):
    space, z = real_codes(name)
    found = deviations(z, space.mean, space.std)
    for what, errors in zip(("mean", "std"), found, strict=True):
        assert errors.abs().max() < FAR, what
        assert typical(errors) < TYPICAL, what
    # The bounds are narrow enough: they refuse the std in place of the mean, and a std that is 30 %
    # too large.
    std_as_mean, _ = deviations(z, space.std, space.std)
    _, too_large = deviations(z, space.mean, 1.3 * space.std)
    assert std_as_mean.abs().max() > 2 * FAR
    assert typical(std_as_mean) > 2 * TYPICAL
    assert typical(too_large) > 2 * TYPICAL


@pytest.mark.parametrize("name", WITH_PRIOR)
def test_the_latent_ddim_samples_codes_around_the_mean(name):
    """A wrong centre would move all sampled codes by more than one standard deviation."""
    space, _ = real_codes(name)
    shape = tuple(real_images(name.partition("/")[0]).shape[1:])
    sampled = space.sample(1000, seed=4, shape=shape).z
    assert typical((sampled.mean(0) - space.mean) / space.std) < 0.1
