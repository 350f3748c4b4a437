"""Any callable a person has is a classifier; whatever is inside, answers and state are right."""

import copy
import functools
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from worlds import LinearSpace

import cfxnb as cfx
from cfxnb.core import weights_hash as weights_module
from cfxnb.core.modules import modules_of
from cfxnb.core.weights_hash import weights_hash

SPACE = LinearSpace(shape=(1, 8, 8), scale=0.05)
X = SPACE.sample(8, 5)


def net(seed=3, last=2):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, last))
    with torch.no_grad():
        made[-1].weight *= 30
        made[-1].bias -= made(X).mean(0)
    return made.eval()


NET = net()
ATTACK = {"confidence": 0.9, "restarts": 0, "prior": 0.0, "proximity": 0.0, "steps": 100}
TARGET = 1 - NET(X).argmax(1)


class InPlace(nn.Module):
    """Normalises the very tensor that it is given."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.sub_(0.2).div_(0.5))


class Extra(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)

    def get_extra_state(self):
        return {"version": 1, "vocabulary": {"a": 1}}

    def set_extra_state(self, state):
        pass


class Output(dict):
    """What transformers return."""

    @property
    def logits(self):
        return self["logits"]


class Unpacked(Extra):
    def forward(self, x):
        return Output(logits=self.inner(x))


def made_in_inference_mode():
    with torch.inference_mode():
        return net()


def weight_normed():
    made = net()
    made[1] = nn.utils.parametrizations.weight_norm(made[1])
    return made


def quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to move it
        return torch.ao.quantization.quantize_dynamic(net(), {nn.Linear}, dtype=torch.qint8)


def traced():
    with pytest.warns(DeprecationWarning, match="jit"):
        return torch.jit.trace(net(), X)


def frozen_script():
    with pytest.warns(DeprecationWarning, match="jit"):
        return torch.jit.freeze(torch.jit.script(net()))


class Thing:
    """An object of one's own, with a network behind a method."""

    def __init__(self, inner):
        self.hidden = [{"net": inner}]

    def __call__(self, x):
        return self.hidden[0]["net"](x)

    def ask(self, x):
        return self(x)


class ToNumpy(nn.Module):
    def forward(self, x):
        return x.detach().numpy()


def closed_over(f):
    return lambda x: f(x)


KINDS = {
    "module": net,
    "half": lambda: net().half(),
    "bfloat16": lambda: net().bfloat16(),
    "double": lambda: net().double(),
    "in place": lambda: InPlace(nn.Sequential(net())),
    "extra state": lambda: Extra(net()),
    "logits attribute": lambda: Unpacked(net()),
    "weight norm": weight_normed,
    "quantised": quantised,
    "traced": traced,
    "frozen script": frozen_script,
    "data parallel": lambda: nn.DataParallel(net()),
    "function": lambda: closed_over(net()),
    "partial": lambda: functools.partial(lambda f, x: f(x), net()),
    "object": lambda: Thing(net()),
    "bound method": lambda: Thing(net()).ask,
    "numpy inside": lambda: closed_over(nn.Sequential(net(), ToNumpy())),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
@pytest.mark.filterwarnings("ignore:classifier. changes its input in place")
def test_every_kind_is_predicted_explained_and_left_alone(kind):
    f = KINDS[kind]()
    images, before = X.clone(), weights_hash(f)
    logits = cfx.predict_logits(f, images)
    assert logits.shape == (8, 2)
    assert logits.dtype == torch.float32
    found = cfx.follow_direction(SPACE, f, images, torch.tensor([1.0, 2.0, -1.0, 0.5]))
    assert torch.equal(images, X)
    assert torch.equal(found.original, X)
    torch.testing.assert_close(found.logits_before, logits, rtol=1e-4, atol=1e-3)
    assert weights_hash(f) == before
    if kind != "in place":
        near = {"half": 0.1, "bfloat16": 1.0, "quantised": 1.0}.get(kind, 1e-4)
        torch.testing.assert_close(logits, NET(X).detach(), rtol=0.05, atol=near)


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("numpy inside", "quantised")])
@pytest.mark.filterwarnings("ignore:classifier. changes its input in place")
def test_gradients_pass_through_every_kind(kind):
    f = KINDS[kind]()
    found = cfx.latent_attack(SPACE, f, X, TARGET, **ATTACK)
    if kind == "in place":
        fresh = cfx.latent_attack(SPACE, lambda x: f.inner((x - 0.2) / 0.5), X, TARGET, **ATTACK)
        torch.testing.assert_close(found.image, fresh.image)
    else:
        assert found.flipped[found.eligible].all()
        after = cfx.predict_logits(NET, found.image)
        assert (after.argmax(1) == TARGET).float().mean() > 0.8


def test_a_network_from_inference_mode_predicts_and_tells_that_no_gradient_passes():
    f = made_in_inference_mode()
    torch.testing.assert_close(cfx.predict_logits(f, X), NET(X).detach())
    assert cfx.follow_direction(SPACE, f, X, torch.ones(4)).original.is_inference() is False
    for call in (
        lambda: cfx.latent_attack(SPACE, f, X, TARGET),
        lambda: cfx.pixel_attack(cfx.wrap(f), X, TARGET),
        lambda: cfx.integrated_gradients(f, cfx.straight_path(X), 1),
        lambda: cfx.pixel_attack(lambda x: f(x), X, TARGET),
    ):
        with pytest.raises((ValueError, TypeError), match=r"classifier.*inference_mode"):
            call()


def test_a_function_that_changes_its_input_is_told_once():
    def rude(x):
        return NET(x.mul_(0.5))

    with pytest.warns(UserWarning, match="classifier: changes its input in place") as told:
        found = cfx.latent_attack(SPACE, rude, X, TARGET, restarts=0)
    assert len(told) == 1
    assert torch.equal(found.original, X)


def test_dropout_hidden_in_a_function_is_switched_off_and_on_again():
    hidden = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(1), net())
    hidden.train()
    state = copy.deepcopy(hidden.state_dict())
    for f in (
        lambda x: hidden(x),
        functools.partial(hidden),
        Thing(hidden),
        Thing(hidden).ask,
        cfx.BlackBox(lambda x: hidden(x)).classifier,
    ):
        first, second = (cfx.latent_attack(SPACE, f, X, TARGET, **ATTACK) for _ in range(2))
        assert torch.equal(first.logits_after, second.logits_after)
        assert torch.equal(first.logits_after[first.flipped].argmax(1), TARGET[first.flipped])
        assert hidden.training
        assert all(m.training for m in hidden.modules())
        assert all(p.requires_grad for p in hidden.parameters())
    for name, value in hidden.state_dict().items():
        assert torch.equal(value, state[name]), name


GLOBAL = nn.Dropout(0.5).train()


def names_a_global(x):
    return NET(GLOBAL(x))


class NamesAGlobal:
    def __call__(self, x):
        return NET(GLOBAL(x))


@pytest.mark.parametrize("f", [names_a_global, NamesAGlobal(), lambda x: names_a_global(x)])
def test_networks_in_global_variables_are_found(f):
    assert GLOBAL in modules_of(f)
    torch.testing.assert_close(cfx.predict_logits(f, X), NET(X).detach())
    assert GLOBAL.training


@pytest.mark.filterwarnings("ignore:space. it does not know these images")
def test_randomness_that_cannot_be_switched_off_is_told():
    generator = torch.Generator().manual_seed(0)

    def noisy(x):
        return NET(x) + 3 * torch.randn(len(x), 2, generator=generator)

    with pytest.warns(UserWarning, match="two calls on the same images"):
        found = cfx.latent_attack(SPACE, noisy, X, TARGET, confidence=0.6)
    seen = found.logits_after[found.flipped].argmax(1)
    assert torch.equal(seen, found.target[found.flipped])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_decide_nothing(value):
    """Row 0 has the target already; rows 1 and 2 get no finite logits."""
    brightest = X.flatten(1).sum(1)

    def broken(x):
        logits = NET(x)
        bad = (x.flatten(1).sum(1)[:, None] - brightest[1:3]).abs().min(1).values < 1e-4
        return torch.where(bad[:, None], value, logits)

    with pytest.raises(ValueError, match=r"classifier: expected finite logits.*2 of 8"):
        cfx.predict_logits(broken, X)
    # Only the originals are hit: reconstructions in this space differ by rounding.
    found = cfx.pixel_attack(broken, X, TARGET)
    assert found.status[1:3] == ("not_finite",) * 2
    assert not found.flipped[1:3].any()
    assert not found.eligible[1:3].any()
    assert found.image.isfinite().all()
    alone = cfx.pixel_attack(NET, X, TARGET)
    for i in (0, 3, 4, 5, 6, 7):
        assert found.status[i] == alone.status[i]
        torch.testing.assert_close(found.image[i], alone.image[i])


def test_a_classifier_that_is_never_finite_is_an_error():
    def broken(x):
        return NET(x) * torch.nan

    for call in (
        lambda: cfx.latent_attack(SPACE, broken, X, TARGET),
        lambda: cfx.pixel_attack(broken, X, TARGET),
        lambda: cfx.follow_direction(SPACE, broken, X, torch.ones(4), 1),
        lambda: cfx.reconstruct(SPACE, broken, X, 1),
        lambda: cfx.find_directions(SPACE, broken, X[0], 1, max_queries=64),
    ):
        with pytest.raises(ValueError, match=r"classifier: expected finite logits"):
            call()


def test_a_broken_judge_never_agrees():
    found = cfx.latent_attack(SPACE, NET, X, TARGET, restarts=0)
    with pytest.raises(ValueError, match="judge: expected finite logits"):
        cfx.report({"latent": found}, judge=lambda x: NET(x) * torch.nan)


def test_sigmoids_and_softmaxes_are_noticed_and_undone():
    single = nn.Sequential(net(last=1), nn.Sigmoid())
    double = nn.Sequential(net(), nn.Softmax(1))
    for module in (single, double):
        with pytest.warns(UserWarning, match=r"look like probabilities.*probabilities=True"):
            cfx.wrap(module)(X)
        logits = cfx.wrap(module, probabilities=True)(X)
        p = module(X).detach()
        p = torch.cat([1 - p, p], 1) if p.shape[1] == 1 else p
        torch.testing.assert_close(logits.softmax(1).detach(), p, atol=1e-5, rtol=1e-4)
    with pytest.warns(UserWarning, match="look like probabilities"):
        cfx.find_directions(SPACE, cfx.BlackBox(double), X[0], 1, max_queries=200)
    with pytest.warns(UserWarning, match="look like probabilities"):
        cfx.select_label(nn.Sequential(net(), nn.Sigmoid()), 1)(X)


def test_a_probability_of_zero_stays_finite():
    sure = cfx.wrap(lambda x: torch.eye(2)[torch.zeros(len(x), dtype=int)], probabilities=True)
    assert sure(X).isfinite().all()
    with pytest.raises(ValueError, match="probabilities: expected outputs in"):
        cfx.wrap(net(), probabilities=True)(X)


def test_estimators_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    rows, classes = X.flatten(1).numpy(), NET(X).argmax(1).numpy()
    for made in (LogisticRegression(), LinearSVC()):
        made.fit(rows, np.array(["cat", "dog"])[classes])
        f = cfx.wrap(made)
        assert f.class_names == ("cat", "dog")
        assert np.array_equal(
            np.array(f.class_names)[cfx.predict_logits(made, X).argmax(1)], made.predict(rows)
        )
        found = cfx.follow_direction(SPACE, made, X, torch.ones(4), "dog")
        assert set(found.target.tolist()) == {1}


class FakeSession:
    """What an ONNX Runtime session looks like."""

    class _Input:
        name, type = "pixels", "tensor(float)"

    def get_inputs(self):
        return [self._Input()]

    def get_outputs(self):
        return [self._Input()]

    def run(self, names, feed):
        assert feed["pixels"].dtype == np.float32
        return [NET(torch.from_numpy(feed["pixels"])).detach().numpy()]


def test_sessions_of_onnx_runtime():
    torch.testing.assert_close(cfx.predict_logits(FakeSession(), X), NET(X).detach())
    torch.testing.assert_close(cfx.wrap(FakeSession())(X), NET(X).detach())


def test_labels_come_from_configs_and_dicts():
    class Config:
        def __init__(self):
            self.id2label = {1: "dog", 0: "cat"}

    model = Unpacked(net())
    model.config = Config()
    assert cfx.wrap(model).class_names == ("cat", "dog")
    model.config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
    assert cfx.wrap(model).class_names is None
    for given in (
        {"1": "dog", "0": "cat"},
        {"dog": 1, "cat": 0},
        ("cat", "dog"),
        np.array(["cat", "dog"]),
    ):
        assert cfx.wrap(net(), class_names=given).class_names == ("cat", "dog")
    for wrong in ({0: "cat", 2: "dog"}, {"cat", "dog"}, {}, "cat", {0: 1, 1: 0, 2: 2.5}):
        with pytest.raises((ValueError, TypeError), match="class_names: expected"):
            cfx.wrap(net(), class_names=wrong)
    with pytest.raises(ValueError, match="class_names: expected 2 names"):
        cfx.wrap(net(), class_names=["cat", "dog", "cow"])(X)


def test_channels_are_made_to_fit():
    seen = []
    f = cfx.wrap(lambda x: seen.append(x) or x.flatten(1)[:, :2] - 1, channels=3)
    f(X)
    assert seen[-1].shape == (8, 3, 8, 8)
    assert torch.equal(seen[-1][:, 2], X[:, 0])
    gray = cfx.wrap(lambda x: seen.append(x) or x.flatten(1)[:, :2] - 1, channels=1)
    gray(torch.rand(2, 3, 8, 8))
    assert seen[-1].shape == (2, 1, 8, 8)
    with pytest.raises(ValueError, match="images: expected 3 channels"):
        f(torch.rand(2, 4, 8, 8))
    with pytest.raises(ValueError, match="images: expected 3 channels, as mean has"):
        cfx.wrap(net(), mean=[0.1, 0.2, 0.3])(X)


def test_fingerprints_of_large_networks(monkeypatch):
    """Each number and its place count. Chunks, dtypes and the order of rows in memory do not."""
    f = nn.Linear(37, 5).to(torch.bfloat16)
    plain = weights_hash(f)
    monkeypatch.setattr(weights_module, "LARGE", 100)
    known = weights_hash(f)
    assert known != plain
    for size in (7, 64):
        monkeypatch.setattr(weights_module, "CHUNK", size)
        assert weights_hash(f) == weights_hash(f.float()) == known
    with torch.no_grad():
        f.weight.set_(f.weight.T.contiguous().T)
        assert weights_hash(f) == known
        f.weight[2, [30, 31]] = f.weight[2, [31, 30]].clone()
        exchanged = weights_hash(f)
        f.bias[1] += 1e-3
        assert len({known, exchanged, weights_hash(f)}) == 3


def test_fingerprints_never_fail_and_tell_networks_apart():
    prints = {kind: weights_hash(make()) for kind, make in KINDS.items()}
    assert prints["module"] == prints["function"] == prints["object"] == prints["partial"]
    assert prints["module"] != weights_hash(net(seed=4))
    assert prints["half"] != prints["module"]
    assert weights_hash(lambda x: x) == ""
    assert weights_hash(Extra(net())) == weights_hash(Extra(net()))

    class Grumpy(nn.Module):
        def state_dict(self, *a, **k):
            raise RuntimeError("no")

    assert isinstance(weights_hash(Grumpy()), str)
