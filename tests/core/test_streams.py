"""A data set in place of images: the answers are those of one call."""

import numpy as np
import pandas as pd
import pytest
import torch
from methods_here import DIRECTION, SPACE
from PIL import Image
from stream_scenes import (
    IMAGES,
    SHARD,
    TARGET,
    Dicts,
    Endless,
    F,
    Pairs,
    attack,
    follow,
    loader,
)

import cfxnb as cfx

LAST = len(IMAGES)


def image_set():
    factors = pd.DataFrame({"wanted": TARGET.numpy()})
    return cfx.data.ImageSet(IMAGES, TARGET, ("a", "b"), factors)


STREAMS = {
    "pairs": (Pairs, cfx.from_item(1)),
    "pairs, targets apart": (Pairs, TARGET),
    "targets as a list": (Pairs, TARGET.tolist()),
    "dicts": (Dicts, cfx.from_item("wanted")),
    "no length": (Endless, cfx.from_item(1)),
    "loader": (loader, cfx.from_item(1)),
    "loader of single items": (lambda: loader(batch_size=None), cfx.from_item(1)),
    "loader of dicts": (
        lambda: torch.utils.data.DataLoader(Dicts(), batch_size=5), cfx.from_item("wanted")
    ),
    "iterator of images": (lambda: iter(IMAGES), TARGET),
    "iterator of batches": (lambda: iter(IMAGES.split(7)), TARGET),
    "set, labels": (image_set, cfx.from_item("label")),
    "set, a factor": (image_set, cfx.from_item("wanted")),
    "function of the logits": (Pairs, lambda logits: 1 - logits.argmax(1)),
}  # fmt: skip


def same(found, whole):
    assert found.status == whole.status
    for name in ("original", "image", "logits_after", "target"):
        torch.testing.assert_close(getattr(found, name), getattr(whole, name))
    records = [{k: v for k, v in cf.made_by.items() if k != "seconds"} for cf in (found, whole)]
    assert records[0] == records[1]


@pytest.fixture(scope="module")
def whole():
    return attack(IMAGES, batch_size=64)


@pytest.mark.parametrize("kind", STREAMS)
def test_answers_are_those_of_one_call(kind, whole):
    make, target = STREAMS[kind]
    same(attack(make(), target), whole)


@pytest.mark.parametrize("kind", ["pairs", "loader"])
def test_black_box_methods(kind):
    make, target = STREAMS[kind]
    same(follow(make(), target), follow(IMAGES, batch_size=64))


def test_attributions():
    whole = cfx.latent_integrated_gradients(SPACE, F, IMAGES, DIRECTION, TARGET, threshold=0.4)
    found = cfx.latent_integrated_gradients(
        SPACE, F, Pairs(), DIRECTION, cfx.from_item(1), threshold=0.4, batch_size=SHARD
    )
    assert found.status == whole.status
    torch.testing.assert_close(found.attributions, whole.attributions)
    whole = cfx.integrated_gradients(F, cfx.straight_path(IMAGES, 0.0), TARGET)
    found = cfx.integrated_gradients(F, Pairs(), TARGET, batch_size=SHARD)
    torch.testing.assert_close(found.attributions, whole.attributions)
    whole = cfx.captum_attribution("input_x_gradient", F, IMAGES, TARGET)
    found = cfx.captum_attribution("input_x_gradient", F, loader(), TARGET, batch_size=SHARD)
    torch.testing.assert_close(found.attributions, whole.attributions)


def test_first_row_counts_from_where_the_data_set_begins(whole):
    later = attack(Pairs(), TARGET, first_row=5)
    same(later, attack(IMAGES, batch_size=64, first_row=5))
    assert not torch.equal(later.image, whole.image)


def test_pictures_and_bytes():
    pictures = [Image.fromarray((255 * x[0].numpy()).astype(np.uint8)) for x in IMAGES]
    found, whole = attack(iter(pictures)), attack(pictures, batch_size=64)
    same(found, whole)


def test_a_function_of_the_logits_without_a_data_set(whole):
    found = attack(IMAGES, lambda logits: 1 - logits.argmax(1), batch_size=64)
    same(found, whole)
    with pytest.raises(ValueError, match=r"target: expected shape \(22,\), got \(2,\)"):
        attack(IMAGES, lambda logits: logits.argmax(0), batch_size=64)


def test_what_is_no_image_is_refused():
    for wrong, match in (
        (iter([1, 2]), "images: expected a data set whose items are images.* got int 1"),
        (iter([{"label": 1}]), "images: expected a data set.* got a dict of .'label'"),
        (iter([]), "images: expected at least one image"),
        (iter([[IMAGES[0], IMAGES[1]]]), "got a list of 2 images; stack them"),
        (iter([IMAGES[0], IMAGES[0, :, :4, :4]]), "images: expected images of one shape"),
        (iter([IMAGES[0], 3 * IMAGES[1]]), r"images \(from row 1\): expected values in"),
    ):
        with pytest.raises((ValueError, TypeError), match=match):
            attack(wrong, 1)


def test_targets_must_fit():
    with pytest.raises(ValueError, match="target: expected one for all images or one for each of "):
        attack(Pairs(), TARGET[:-1])
    with pytest.raises(ValueError, match=r"target: expected one for all images.* at least 22"):
        attack(iter(IMAGES), TARGET[:-1])
    with pytest.raises(ValueError, match=r"target: expected an entry of the items .*\['1'\]"):
        attack(Pairs(), cfx.from_item(2))
    with pytest.raises(ValueError, match=r"target: expected a value, got cfx\.from_item"):
        attack(IMAGES, cfx.from_item(1))
    with pytest.raises(TypeError, match="key: expected a position or a name"):
        cfx.from_item(1.5)


def test_a_stop_ends_the_data_set(whole):
    calls = []

    def stop(step):
        calls.append(int(step.rows.min()))
        return calls[-1] >= 2 * SHARD

    found = attack(Pairs(), TARGET, on_step=stop)
    assert 2 * SHARD <= len(found) <= 3 * SHARD
    torch.testing.assert_close(found.image[: 2 * SHARD], whole.image[: 2 * SHARD])


def test_one_infinite_shard_is_a_status_and_not_an_error():
    def broken(x):
        return torch.where((x == IMAGES[1]).flatten(1).all(1)[:, None], torch.nan, F(x))

    found = attack_with(broken, Pairs())
    assert found.status[1] == "not_finite"
    with pytest.raises(ValueError, match=r"classifier: expected finite logits.* all 22 images"):
        attack_with(lambda x: F(x) * torch.nan, Pairs())


def attack_with(classifier, images):
    return cfx.latent_attack(SPACE, classifier, images, TARGET, batch_size=1, steps=2, restarts=0)


def test_networks_are_hashed_once(monkeypatch):
    from cfxnb.core import weights_hash

    hashed = []
    plain = weights_hash._hash
    monkeypatch.setattr(weights_hash, "_hash", lambda tops: hashed.append(tops) or plain(tops))
    attack(Pairs())
    assert len(hashed) == 2  # the classifier and the space


def test_a_pool_is_classified_once():
    counted = cfx.BlackBox(F)
    found = cfx.nearest_neighbour(counted, Pairs(), TARGET, pool=IMAGES, batch_size=SHARD)
    same(found, cfx.nearest_neighbour(F, IMAGES, TARGET, pool=IMAGES))
    assert counted.n_queries <= len(IMAGES) * 3
