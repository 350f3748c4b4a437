"""A batch that does not fit in memory: smaller ones give the same answers, or words say why not."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from methods_here import DIRECTION, SPACE
from stream_scenes import IMAGES, TARGET, F, Pairs, attack
from torch import nn

import cfxnb as cfx
from cfxnb.core.memory import is_out_of_memory

CPU = "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"
ERRORS = {
    "GPU": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    "CPU": lambda: RuntimeError(CPU),
    "cuBLAS": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling x"),
    "numpy": lambda: MemoryError("Unable to allocate 20. GiB"),
}


class Small(nn.Module):
    """A classifier whose machine has memory for ``room`` images."""

    def __init__(self, room, error=ERRORS["GPU"]):
        super().__init__()
        self.net, self.room, self.error, self.failed = F, room, error, []

    def forward(self, x):
        if len(x) > self.room:
            self.failed.append(len(x))
            raise self.error()
        return self.net(x)


class SmallSpace(nn.Module):
    """A space that decodes at most ``room`` images at a time."""

    def __init__(self, room):
        super().__init__()
        self.inner, self.room = SPACE, room
        self.mean, self.std = SPACE.mean, SPACE.std

    def encode(self, images):
        return self.inner.encode(images)

    def decode(self, code):
        if len(code) > self.room:
            raise ERRORS["CPU"]()
        return self.inner.decode(code)


def call(classifier, images=IMAGES, space=SPACE, **more):
    options = {"init_noise": 0.3, "steps": 4, "restarts": 1, "confidence": 0.5, "lr": 1.0}
    return cfx.latent_attack(space, classifier, images, TARGET, **options | more)


@pytest.fixture(scope="module")
def whole():
    return attack(IMAGES, batch_size=64)


def same(found, whole):
    assert found.status == whole.status
    for name in ("original", "image", "reconstruction", "logits_after", "target"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name))
    assert {k: v.tolist() for k, v in found.cost.items()} == {
        k: v.tolist() for k, v in whole.cost.items()
    }


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("room", [1, 5])
def test_smaller_batches_give_the_answers_of_one_batch(kind, room, whole):
    small = Small(room, ERRORS[kind])
    with pytest.warns(UserWarning, match="batch_size: memory ran out with 22 images at a time"):
        found = call(small)
    same(found, whole)
    assert small.failed == sorted(small.failed, reverse=True)  # no size is tried twice
    assert len(set(small.failed)) == len(small.failed) <= 5


def test_it_may_be_the_space(whole):
    with pytest.warns(UserWarning, match="with 22 images at a time, so batches of 3 were used"):
        found = call(F, space=SmallSpace(4))
    same(found, whole)


def test_reconstructions_count_once():
    """The warning about a space that does not know the images states how many they are."""
    noise = torch.rand(22, *IMAGES.shape[1:], generator=torch.Generator().manual_seed(0))
    said = []
    for f in (F, Small(6)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cfx.latent_attack(SPACE, f, noise, 1, steps=1, restarts=0)
        said.append([str(w.message) for w in caught if "does not know" in str(w.message)])
    assert said[0] == said[1]


def test_one_image_that_does_not_fit_is_refused_in_words():
    for error in (ERRORS["GPU"], ERRORS["CPU"]):
        with pytest.raises(torch.OutOfMemoryError, match="batch_size: memory ran out with one im"):
            call(Small(0, error))


def test_other_errors_stay_what_they_are():
    def broken(x):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises((ValueError, RuntimeError), match="shapes cannot be multiplied"):
        cfx.pixel_attack(broken, IMAGES, 1, steps=1)
    assert not is_out_of_memory(ValueError("out of memory"))
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


def test_paid_queries_are_not_repeated(tmp_path):
    counted = cfx.BlackBox(Small(100))
    with pytest.raises(torch.OutOfMemoryError, match="batch_size: memory ran out with 12 images"):
        cfx.query_attack(SPACE, counted, IMAGES, TARGET, batch_size=240, max_queries=60)


@pytest.mark.parametrize("place", [None, "out"])
def test_a_data_set_learns_it_once(place, tmp_path, whole):
    """Later shards begin with the size that fits, and one warning says so."""
    small, folder = Small(3), place and tmp_path / place
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = call(small, Pairs(), batch_size=8, output_dir=folder)
    assert len([w for w in caught if "memory ran out" in str(w.message)]) == 1
    assert small.failed == [8, 4]
    same(found[:] if folder else found, whole)
    if folder:
        assert [len(part) for part in found] == [8, 8, 6]  # the shards stay


def test_a_stop_between_the_halves_keeps_the_first_one(whole):
    with pytest.warns(UserWarning, match="memory ran out"):
        found = call(Small(11), on_step=lambda step: int(step.rows.min()) >= 11)
    assert "stopped" in found.status[11:]
    assert found.status[:11] == whole.status[:11]
    torch.testing.assert_close(found.image[:11], whole.image[:11])


@pytest.mark.filterwarnings("ignore:batch_size. memory ran out")
def test_black_boxes_attributions_and_scores():
    followed = [cfx.follow_direction(SPACE, f, IMAGES, DIRECTION, TARGET) for f in (F, Small(20))]
    same(*followed)
    maps = [
        cfx.integrated_gradients(f, cfx.straight_path(IMAGES, 0.0), TARGET, batch_size=512)
        for f in (F, Small(200))
    ]
    torch.testing.assert_close(maps[1].attributions, maps[0].attributions)
    images = SPACE.sample(60, 3)
    z = SPACE.encode(images).z.numpy()
    factors = pd.DataFrame({"up": np.where(z[:, 0] > 0, "yes", "no")})
    edits = cfx.fit_attribute_edits(SPACE, images, factors)
    scores = [
        cfx.contrastive_scores(SPACE, f, images, factors, edits=edits) for f in (F, Small(17))
    ]
    pd.testing.assert_frame_equal(scores[0].table, scores[1].table)
