"""Networks are in evaluation mode while a call runs, wherever they are; afterwards as before."""

import collections
import types
import weakref

import numpy as np
import pytest
import torch
from methods_here import METHODS, SPACE, X
from torch import nn

import cfxnb as cfx
from cfxnb.core import modules
from cfxnb.core.modules import eval_frozen, modules_of, within_call


def training_net(seed=3):
    """Dropout, and statistics that would move."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 2)
        )
    with torch.no_grad():
        made[-1].weight *= 10
        made[-1].bias -= made.eval()(X).mean(0)
    return made.train()


def class_attribute(m):
    return type("Own", (), {"net": m, "__call__": lambda self, x: self.net(x)})()


def class_method(m):
    return type("Own", (), {"run": classmethod(lambda cls, x: m(x))}).run


def in_a_namespace(m):
    space = types.ModuleType("models")
    space.net = m
    return lambda x: space.net(x)


def in_an_array(m):
    array = np.empty(1, object)
    array[0] = m
    return lambda x: array[0](x)


def in_a_long_list(m):
    items = [None] * 300 + [m]
    return lambda x: items[-1](x)


def deep(m):
    inner = m
    for _ in range(12):
        inner = [inner]

    def call(x):
        part = inner
        while isinstance(part, list):
            part = part[0]
        return part(x)

    return call


def weak(m):
    reference = weakref.ref(m)
    return lambda x: reference()(x)


def in_a_generator(m):
    return (lambda nets: lambda x: next(nets)(x))(m for _ in range(10**6))


PLACES = {
    "class attribute": class_attribute,
    "class method": class_method,
    "namespace": in_a_namespace,
    "deque": lambda m: (lambda d: lambda x: d[0](x))(collections.deque([m])),
    "object array": in_an_array,
    "long list": in_a_long_list,
    "deep": deep,
    "weak reference": weak,
    "generator": in_a_generator,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("method", ["predict", "follow", "latent_attack", "captum"])
@pytest.mark.filterwarnings("ignore:space. it does not know these images")
def test_a_network_that_is_hidden_is_held_when_it_is_called(place, method):
    hidden, plain = training_net(), training_net().eval()
    f = PLACES[place](hidden)
    target = 1 - plain(X).argmax(1)
    found, right = METHODS[method](f, X, target), METHODS[method](plain, X, target)
    for a, b in zip(found, right, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)
    assert all(m.training for m in hidden.modules())
    assert all(p.requires_grad for p in hidden.parameters())
    assert hidden[2].num_batches_tracked == 0
    assert not modules._MODULES
    assert not nn.modules.module._global_forward_pre_hooks


def test_a_hidden_network_of_a_space_is_held():
    norm = nn.BatchNorm1d(4).train()
    kept = collections.deque([norm])

    class Own:
        mean, std = SPACE.mean, SPACE.std

        def encode(self, images):
            return cfx.Code(kept[0](SPACE.encode(images).z))

        def decode(self, code):
            return SPACE.decode(code)

    cfx.reconstruct(Own(), training_net(), X, 1)
    assert norm.num_batches_tracked == 0
    assert norm.training


def test_a_mode_that_the_code_itself_sets_is_left():
    """Monte Carlo dropout: the function asks for training mode, and is told to be random."""
    net = training_net().eval()

    def sampled(x):
        net[3].train()
        return net(x)

    with pytest.warns(UserWarning, match="classifier: two calls on the same images"):
        cfx.predict_logits(sampled, X)


def test_a_network_that_a_callback_trains_stays_in_training_mode():
    other, seen = nn.Sequential(nn.Linear(3, 3), nn.Dropout()).train(), []
    net = training_net()

    def watch(step):
        other(torch.ones(2, 3))
        seen.append(other.training and other[1].training and other[0].weight.requires_grad)

    cfx.pixel_attack(net, X, 1, steps=2, on_step=watch)
    assert seen
    assert all(seen)


model = nn.Linear(3, 3)  # named like an attribute below


class Holder:
    def __init__(self, net):
        self.model = net


HOLDER = Holder(training_net())


def asks_the_holder(x):
    return HOLDER.model(x)


def test_an_attribute_is_no_global_variable():
    assert model not in modules_of(asks_the_holder)
    assert HOLDER.model in modules_of(asks_the_holder)


class FixedMode(nn.Module):
    """Refuses another mode once it is made."""

    def __init__(self):
        super().__init__()
        self.net = training_net()

    @property
    def training(self):
        return True

    @training.setter
    def training(self, value):
        if "net" in self.__dict__.get("_modules", {}):
            raise RuntimeError("the mode is fixed")

    def forward(self, x):
        return self.net(x)


def adapted():
    """A weight that is the result of a computation, as in meta-learning."""
    net = training_net()
    weight = net[1].weight
    net[1]._parameters["weight"] = weight - 0.01 * torch.ones_like(weight)
    return net


@pytest.mark.parametrize("make", [FixedMode, adapted])
def test_what_can_not_be_held_is_left_and_everything_else_comes_back(make):
    net = make()
    flags = [p.requires_grad for p in net.parameters()]
    assert cfx.predict_logits(net, X).shape == (8, 2)
    assert all(m.training for m in net.modules())
    assert [p.requires_grad for p in net.parameters()] == flags
    assert not modules._MODULES
    assert not modules._PARAMETERS


def test_only_calls_of_handed_over_code_are_watched():
    net = training_net()
    with eval_frozen():
        net(X)
        assert net.training
        with within_call():
            net(X)
        assert not net.training
    assert net.training


@pytest.mark.filterwarnings("error")
def test_compiled_networks_are_called_without_a_warning():
    cfx.predict_logits(torch.compile(training_net(), backend="eager"), X)


@pytest.mark.parametrize("hidden", [False, True])
def test_lazy_networks_are_named_before_they_draw_their_weights(hidden):
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    f = (lambda x: lazy(x)) if hidden else lazy
    for call in (
        lambda: cfx.predict_logits(f, X),
        lambda: cfx.follow_direction(SPACE, f, X, torch.ones(4), 1),
        lambda: cfx.pixel_attack(f, X, 1),
    ):
        with pytest.raises(ValueError, match=r"classifier: expected a network with weights.*lazy"):
            call()
    lazy(X)
    assert cfx.predict_logits(f, X).shape == (8, 2)


def test_networks_without_numbers_are_named():
    with pytest.raises(ValueError, match=r"classifier: expected .*meta device"):
        cfx.predict_logits(training_net().to("meta"), X)
