"""What ``wrap`` promises, computed by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from worlds import LinearNet

import cfxnb as cfx


class Sum(nn.Module):
    """Logits that show what reached the module: its channel means, as (b, c)."""

    def forward(self, x):
        return x.mean((2, 3))


def test_two_class_keeps_the_probability():
    logit = 4 * torch.randn(50)
    for shaped in (logit, logit[:, None]):
        p = cfx.two_logits(shaped).softmax(1)
        torch.testing.assert_close(p[:, 1], torch.sigmoid(logit))
        torch.testing.assert_close(p.sum(1), torch.ones(50))


@pytest.mark.parametrize("flat", [True, False])
def test_single_logits_are_widened(flat):
    net = LinearNet(torch.randn(1, 12))
    x = torch.rand(5, 3, 2, 2)

    class Flat(nn.Module):
        def forward(self, images):
            return net(images)[:, 0] if flat else net(images)

    logits = cfx.wrap(Flat())(x)
    assert logits.shape == (5, 2)
    torch.testing.assert_close(logits.softmax(1)[:, 1], net(x)[:, 0].sigmoid())


def test_one_image_with_one_logit():
    """(1, 1) is one logit of one image, not two classes of none."""
    assert cfx.wrap(LinearNet(torch.randn(1, 4)))(torch.rand(1, 1, 2, 2)).shape == (1, 2)


def test_mean_and_std_a_channel():
    x = torch.rand(4, 3, 5, 5)
    mean, std = [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
    expected = (x.mean((2, 3)) - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(cfx.wrap(Sum(), mean=mean, std=std)(x), expected)
    one = (x.mean((2, 3)) - 0.4) / 0.25
    torch.testing.assert_close(cfx.wrap(Sum(), mean=0.4, std=0.25)(x), one)
    torch.testing.assert_close(cfx.wrap(Sum(), std=0.25)(x), x.mean((2, 3)) / 0.25)


@pytest.mark.parametrize(("size", "shape"), [(3, (3, 3)), ((2, 4), (2, 4))])
def test_size(size, shape):
    class Shape(nn.Module):
        def forward(self, x):
            assert x.shape[-2:] == shape
            return x.flatten(1)[:, :2]

    x = torch.rand(2, 1, 6, 6)
    expected = F.interpolate(x, size=shape, mode="bilinear", antialias=True).flatten(1)[:, :2]
    torch.testing.assert_close(cfx.wrap(Shape(), size=size)(x), expected)


def test_logits_attribute_is_unpacked():
    class Output:
        def __init__(self, logits):
            self.logits = logits

    class Net(nn.Module):
        def forward(self, x):
            return Output(x.flatten(1)[:, :3])

    assert cfx.wrap(Net())(torch.rand(2, 1, 2, 2)).shape == (2, 3)


def test_gradients_pass_through():
    weight = torch.randn(2, 4)
    x = torch.rand(3, 1, 2, 2, requires_grad=True)
    f = cfx.wrap(LinearNet(weight), mean=0.1, std=0.5)
    f(x)[:, 1].sum().backward()
    torch.testing.assert_close(x.grad.flatten(1), (weight[1] / 0.5).expand(3, 4))


def test_predict_is_the_classifier_in_pieces():
    f = cfx.wrap(LinearNet(torch.randn(3, 4)))
    x = torch.rand(10, 1, 2, 2)
    box = cfx.BlackBox(f)
    torch.testing.assert_close(cfx.predict_logits(box, x, batch_size=3), f(x).detach())
    assert box.n_queries == 10


def test_labels_are_kept():
    assert cfx.wrap(Sum(), class_names=["a", "b"]).class_names == ("a", "b")


def test_mean_std_and_size_are_in_the_units_of_images():
    for wrong in ({"mean": 123.7}, {"std": 58.4}, {"mean": [0.5, 0.5, 130]}, {"mean": -0.5}):
        with pytest.raises(ValueError, match=r"expected numbers in units of \[0, 1\].*by 255"):
            cfx.wrap(Sum(), **wrong)
    for wrong in (100000, 0, (3, -1), 2.0, True, "8"):
        with pytest.raises(ValueError, match="size: expected a positive int or two"):
            cfx.wrap(Sum(), size=wrong)
    assert cfx.wrap(Sum(), size=np.int64(8)).size == (8, 8)
    assert cfx.wrap(Sum(), size=(np.int32(3), 4)).size == (3, 4)
    assert cfx.wrap(Sum(), std=1 / 255).std is not None  # for a network that takes bytes


@pytest.mark.parametrize("labels", [{1: 2.5}, torch.ones(2), 3, Sum().forward, None, "cat", b"x"])
def test_an_attribute_labels_that_names_no_classes_is_none(labels):
    def f(images):
        return images.flatten(1)[:, :2] - 1

    f.class_names = labels
    x = torch.rand(2, 1, 2, 2)
    assert cfx.BlackBox(f).class_names is None
    assert cfx.wrap(f).class_names is None
    assert cfx.pixel_attack(f, x, 1, steps=1).made_by.get("labels") is None
    f.class_names = ["cat", "dog"]
    assert cfx.wrap(f).class_names == cfx.BlackBox(f).class_names == ("cat", "dog")


@pytest.mark.parametrize("error", [IndexError, KeyError, AssertionError, TypeError, ValueError])
def test_what_a_network_raises_is_told_of_the_images(error):
    class Broken(nn.Module):
        def forward(self, x):
            raise error("no such shape")

    with pytest.raises(ValueError, match=r"^images: expected such as Broken takes.*no such shape"):
        cfx.predict_logits(Broken(), torch.rand(2, 1, 2, 2))

    def broken(x):
        raise error("my own")

    with pytest.raises(error, match="my own"):
        cfx.predict_logits(cfx.wrap(broken), torch.rand(2, 1, 2, 2))


def test_no_caller_s_image_is_handed_out():
    def rude(x):
        return x.mul_(0.5).flatten(1)[:, :2] - 1

    x = torch.rand(2, 1, 2, 2)
    before = x.clone()
    for f in (cfx.BlackBox(rude), cfx.select_label(rude, 1), cfx.wrap(rude)):
        f(x)
        assert torch.equal(x, before)
