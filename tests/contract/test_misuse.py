"""Slips that run without complaint elsewhere: each must be told, by the name of what is wrong."""

import dataclasses

import pandas as pd
import pytest
import torch
from torch import nn
from worlds import LinearSpace, code_classifier

import cfxnb as cfx

AXIS = torch.tensor([[1.0, 0.0, 0.0, 0.0]])


@pytest.fixture
def world():
    space = LinearSpace()
    images = space.decode(cfx.Code(torch.tensor([[-1.0, 0, 0, 0], [-2.0, 1, 0, 0]])))
    return space, code_classifier(space, AXIS, 8.0), images


def test_probabilities_in_the_place_of_logits_are_noticed(world):
    space, f, x = world
    with pytest.warns(UserWarning, match="look like probabilities"):
        cfx.latent_attack(space, lambda images: f(images).softmax(1), x, 1, steps=2, restarts=0)


def test_a_module_for_other_images_is_refused_by_name_and_shape():
    f = cfx.wrap(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.LazyLinear(2)))
    f.module(torch.zeros(1, 3, 8, 8))
    with pytest.raises(
        ValueError, match=r"images: .* takes, got \(5, 1, 8, 8\), torch.float32: .*3 chan"
    ):
        cfx.predict_logits(f, torch.zeros(5, 1, 8, 8))


def test_other_faults_of_a_module_are_not_blamed_on_images():
    class Broken(nn.Module):
        def forward(self, x):
            raise torch.OutOfMemoryError("no memory left")

    with pytest.raises(torch.OutOfMemoryError, match="no memory left"):
        cfx.wrap(Broken())(torch.zeros(5, 1, 8, 8))


def test_a_judge_with_other_classes_is_refused(world):
    space, f, x = world
    result = cfx.latent_attack(space, f, x, 1)
    judge = cfx.wrap(nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 5)))
    with pytest.raises(ValueError, match=r"judge: expected the 2 classes.*got 5"):
        cfx.report({"latent": result}, judge=judge)
    with pytest.raises(ValueError, match=r"classifier: expected the 2 classes.*got 5"):
        cfx.report({"latent": result}, classifier=judge)
    with pytest.raises(ValueError, match=r"judge: expected the 2 classes"):
        cfx.show(result, judge=judge)


def test_a_space_that_gives_tensors_is_refused(world):
    space, f, x = world
    plain = type("Plain", (), {})()
    plain.mean, plain.std = space.mean, space.std
    plain.encode, plain.decode = lambda images: space.encode(images).z, space.decode
    with pytest.raises(TypeError, match=r"space\.encode: expected a cfx\.Code, got Tensor"):
        cfx.latent_attack(plain, f, x, 1)
    plain.encode, plain.decode = space.encode, lambda code: 3 * space.decode(code)
    with pytest.raises(ValueError, match=r"space\.decode: expected values in \[0, 1\]"):
        cfx.latent_attack(plain, f, x, 1)
    plain.decode, plain.std = space.decode, 1.0
    with pytest.raises(TypeError, match=r"space\.std: expected a torch tensor, got float"):
        cfx.latent_attack(plain, f, x, 1)


def test_images_of_another_size_are_refused_by_the_space():
    space = cfx.load("digits/vae", device="cpu")
    with pytest.raises(ValueError, match=r"images: expected shape \(b, 1, 32, 32\).*28, 28"):
        space.encode(torch.zeros(2, 1, 28, 28))


def test_codes_of_another_space_are_refused(world):
    space, f, x = world
    other = LinearSpace(dims=3)
    images = other.sample(200)
    factors = pd.DataFrame({"up": (other.encode(images).z[:, 0] > 0).float().numpy()})
    readers = cfx.fit_descriptors(other, images, factors)
    result = cfx.latent_attack(space, f, x, 1)
    with pytest.raises(ValueError, match=r"descriptors: expected.*4 numbers, got those for 3"):
        cfx.describe_change(result, readers)
    with pytest.raises(ValueError, match=r"like: expected codes of this space"):
        cfx.random_change(other, f, result)


def test_half_an_ablation_is_refused(world):
    space, f, x = world
    images = space.sample(200)
    factors = pd.DataFrame({"up": (space.encode(images).z[:, 0] > 0).float().numpy()})
    readers = cfx.fit_descriptors(space, images, factors)
    with pytest.raises(ValueError, match=r"space, classifier: expected both or neither"):
        cfx.describe_change(cfx.latent_attack(space, f, x, 1), readers, space=space)


def test_a_handful_of_images_proves_nothing(world):
    space, _, _ = world
    images = space.sample(40)
    factors = pd.DataFrame({"up": (space.encode(images).z[:, 0] > 0).float().numpy()})
    readers = cfx.fit_descriptors(space, images, factors)
    assert readers.quality.loc["up", "AUC"] > 0.9
    assert readers.readable == ()


def test_a_failure_is_written_over_the_picture(world, monkeypatch):
    space, f, x = world
    titles = []
    monkeypatch.setattr(
        "cfxnb.plots.pictures.draw", lambda axes, image, title="": titles.append(title)
    )
    result = cfx.latent_attack(space, f, x, 1)
    failed = dataclasses.replace(result, status=("not_found", "flipped"))
    cfx.show(failed)
    assert ["not found" in t for t in titles if "seen as 1" in t] == [True, False]


def test_saving_makes_the_folder(world, tmp_path):
    space, f, x = world
    result = cfx.latent_attack(space, f, x, 1)
    path = result.save(tmp_path / "new" / "folder" / "result")
    assert torch.equal(cfx.Counterfactuals.load(path).image, result.image)
