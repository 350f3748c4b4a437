"""The nearest real image of the target class, against a slow loop."""

import pytest
import torch
from torch import nn

import cfxnb as cfx

POOL = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(1))
X = torch.rand(9, 1, 4, 4, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def f():
    """Each class is predicted for about a third of the images."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        net[1].bias -= net(POOL).mean(0)
    return net


def test_it_is_the_loop(f):
    target = (cfx.predict_logits(f, X).argmax(1) + 1) % 3
    classes = cfx.predict_logits(f, POOL).argmax(1)
    found = cfx.nearest_neighbour(f, X, target, pool=POOL, batch_size=4)
    for x, image, t in zip(X, found.image, target, strict=True):
        those = POOL[classes == t]
        lengths = [(x - one).norm().item() for one in those]
        assert torch.equal(image, those[lengths.index(min(lengths))])
    assert found.flipped.all()
    assert found.made_by["shared"] == {"classifier": 60}


def test_a_class_that_no_real_image_has(f):
    seen = cfx.predict_logits(f, POOL).argmax(1)
    only = POOL[seen == seen[0]]
    missing = (int(seen[0]) + 1) % 3
    found = cfx.nearest_neighbour(f, X, missing, pool=only)
    there = cfx.predict_logits(f, X).argmax(1) == missing
    assert [s == "already_target" for s in found.status] == there.tolist()
    assert {s for s, yes in zip(found.status, there, strict=True) if not yes} == {"not_found"}
    assert torch.equal(found.image, X)


def test_images_of_another_size_are_refused(f):
    with pytest.raises(ValueError, match=r"^pool: expected images of shape \(1, 4, 4\)"):
        cfx.nearest_neighbour(f, X, 1, pool=torch.rand(5, 1, 8, 8))
