"""Probabilities where logits are expected: noticed in every form; logits are left in peace."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from worlds import LinearSpace

import cfxnb as cfx

SPACE = LinearSpace(shape=(1, 8, 8), scale=0.05)
X = SPACE.sample(8, 5)
LIKE = "look like probabilities"


def net(last, size=8.0, seed=0):
    """Logits of both signs, about ``size`` of them apart."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = nn.Sequential(nn.Flatten(), nn.Linear(64, last))
    with torch.no_grad():
        made[1].bias -= made(X).mean(0)
        scale = size / made(X).std(0)
        made[1].weight *= scale[:, None]
        made[1].bias *= scale
    return made.eval()


ONE, THREE = net(1, size=0.3), net(3, size=0.5)  # narrow: no probability comes near to 0 or 1


def hidden(function):
    """Without a gradient: through numpy, as in many a service."""
    return lambda x: torch.from_numpy(function(x).detach().numpy().copy())


class Own(torch.autograd.Function):
    """A sigmoid of which torch knows nothing."""

    @staticmethod
    def forward(ctx, x):
        return x.sigmoid()

    @staticmethod
    def backward(ctx, slope):
        return slope


def softmax(x):
    return THREE(x).softmax(1)


NOTICED = {
    "sigmoid module": nn.Sequential(ONE, nn.Sigmoid()),
    "sigmoid function": cfx.wrap(lambda x: ONE(x).sigmoid()),
    "sigmoid without gradient": cfx.wrap(hidden(lambda x: ONE(x).sigmoid())),
    "sigmoid, flat": cfx.wrap(lambda x: ONE(x).sigmoid()[:, 0]),
    "two_class of a sigmoid": lambda x: cfx.two_logits(ONE(x).sigmoid()),
    "two_class without gradient": hidden(lambda x: cfx.two_logits(ONE(x).sigmoid())),
    "both of a sigmoid": lambda x: torch.cat([1 - ONE(x).sigmoid(), ONE(x).sigmoid()], 1),
    "written out": lambda x: cfx.two_logits(1 / (1 + (-ONE(x)).exp())),
    "softmax, written out": lambda x: THREE(x).exp() / THREE(x).exp().sum(1, keepdim=True),
    "a step of one's own": lambda x: cfx.two_logits(Own.apply(ONE(x))),
    "softmax module": nn.Sequential(THREE, nn.Softmax(1)),
    "softmax in half": lambda x: softmax(x).bfloat16(),
    "softmax without gradient": hidden(softmax),
    "two decimals": hidden(lambda x: softmax(x).mul(100).round().div(100)),
    "bfloat16 without gradient": hidden(lambda x: softmax(x).bfloat16().float()),
    "smoothed": hidden(lambda x: 0.95 * softmax(x)),
    "in percent": hidden(lambda x: 100 * softmax(x)),
    "slightly negative": hidden(lambda x: softmax(x) - 1e-8),
    "a class left out": lambda x: softmax(x)[:, :2],
    "a class left out, without gradient": hidden(lambda x: softmax(x)[:, :2]),
    "sigmoids of labels": nn.Sequential(THREE, nn.Sigmoid()),
    "mean of two": lambda x: (softmax(x) + THREE(1 - x).softmax(1)) / 2,
    "one label of sigmoids": cfx.select_label(nn.Sequential(THREE, nn.Sigmoid()), 1),
    "one label, without gradient": cfx.select_label(hidden(lambda x: THREE(x).sigmoid()), 1),
}
CALLS = {
    "predict": lambda f: cfx.predict_logits(f, X[:4]),
    "box": lambda f: cfx.predict_logits(cfx.BlackBox(f), X[:4]),
    "find_directions": lambda f: cfx.find_directions(SPACE, f, X[0], 1, max_queries=200),
    "follow": lambda f: cfx.follow_direction(SPACE, f, X[:4], torch.ones(4), 1),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", NOTICED)
@pytest.mark.filterwarnings("ignore:space. it does not know these images")
def test_probabilities_are_noticed_once_in_each_call(kind, call):
    for _ in range(2):  # the second call warns as well
        with pytest.warns(UserWarning, match=LIKE) as told:
            CALLS[call](NOTICED[kind])
        assert len([w for w in told if LIKE in str(w.message)]) == 1


def gate(x):
    """A last layer that is scaled by a sigmoid is none."""
    return 0.3 + THREE(x) * THREE(x).sigmoid() * 1e-2


LEFT = {
    "logits": THREE,
    "one logit": ONE,
    "logits without gradient": hidden(THREE),
    "log_softmax": lambda x: THREE(x).log_softmax(1),
    "logits within [0, 1]": lambda x: 0.4 + 0.01 * THREE(x),
    "one logit within [0, 1]": cfx.wrap(lambda x: 0.4 + 0.01 * ONE(x)),
    "a gate": gate,
    "pixels": lambda x: x.flatten(1)[:, :2] / 2,
    "product of pixels": lambda x: cfx.two_logits(x[:, 0, 0, 0] * x[:, 0, 1, 1]),
    "declared": cfx.wrap(nn.Sequential(THREE, nn.Softmax(1)), probabilities=True),
    "box of declared": cfx.BlackBox(cfx.wrap(nn.Sequential(ONE, nn.Sigmoid()), probabilities=True)),
    "one label of declared": cfx.select_label(
        cfx.wrap(nn.Sequential(THREE, nn.Sigmoid()), probabilities=True), 1
    ),
}


@pytest.mark.parametrize("kind", LEFT)
def test_logits_pass_in_silence(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cfx.predict_logits(LEFT[kind], X[:4])
        cfx.find_directions(SPACE, LEFT[kind], X[0], 1, max_queries=200)


def test_margins_of_an_estimator_are_no_probabilities():
    from sklearn.svm import LinearSVC

    rows = X.flatten(1).numpy()
    classes = (rows.mean(1) > np.median(rows.mean(1))).astype(int)
    made = LinearSVC(C=1e-3).fit(rows, classes)
    inside = X[(made.decision_function(rows) > 0) & (made.decision_function(rows) < 1)]
    assert len(inside) >= 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cfx.predict_logits(made, inside)


def test_logits_that_leave_the_range_are_not_asked_again():
    asked = []
    f = cfx.wrap(lambda x: asked.append(len(x)) or THREE(x) - 2)
    f(X)
    assert asked == [8]


PROBABILITIES = THREE(X).sigmoid().detach()


def estimator():
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    rows, labels = X.flatten(1).numpy(), (PROBABILITIES > 0.5).int().numpy()
    return OneVsRestClassifier(LogisticRegression(C=100.0)).fit(rows, labels)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_one_label_has_the_probability_of_the_label(label):
    sigmoids = nn.Sequential(THREE, nn.Sigmoid())
    exclusive = nn.Sequential(THREE, nn.Softmax(1))
    several = estimator()
    told = torch.from_numpy(several.predict_proba(X.flatten(1).numpy()))
    for classifier, p in (
        (THREE, PROBABILITIES),
        (cfx.wrap(sigmoids, probabilities=True), PROBABILITIES),
        (cfx.BlackBox(cfx.wrap(sigmoids, probabilities=True)), PROBABILITIES),
        (cfx.wrap(exclusive, probabilities=True), softmax(X)),
        (several, told),
        (cfx.wrap(several), told),
    ):
        found = cfx.predict_logits(cfx.select_label(classifier, label), X).softmax(1)[:, 1]
        torch.testing.assert_close(found, p[:, label].float().detach(), atol=1e-5, rtol=1e-4)


def test_one_label_passes_gradients_of_probabilities_even_where_they_are_0_or_1():
    x = X.clone().requires_grad_()
    f = cfx.wrap(
        lambda x: torch.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0] + 1], 1), probabilities=True
    )
    for label in (0, 1):
        logits = cfx.select_label(f, label)(x)
        assert logits.isfinite().all()
        (slope,) = torch.autograd.grad(logits.sum(), x)
        assert slope.isfinite().all()


def test_one_label_refuses_what_has_no_logit_for_each_label():
    for f in (lambda x: THREE(x).log_softmax(1), lambda x: softmax(x).log()):
        with pytest.raises(
            ValueError, match=r"classifier: expected one logit for each.*logarithms"
        ):
            cfx.predict_logits(cfx.select_label(f, 1), X)
    assert torch.equal(cfx.select_label(ONE, 1)(X), cfx.wrap(ONE)(X))
    with pytest.raises(ValueError, match=r"label: expected 1, as the classifier has a single"):
        cfx.predict_logits(cfx.select_label(ONE, 0), X)


def test_one_label_takes_a_name():
    f = cfx.wrap(THREE, class_names=["cat", "dog", "cow"])
    assert torch.equal(cfx.select_label(f, "dog")(X), cfx.select_label(f, 1)(X))
    with pytest.raises(ValueError, match="label: expected class numbers, or names out of"):
        cfx.select_label(f, "horse")
    with pytest.raises(ValueError, match=r"label: expected class numbers.*class_names="):
        cfx.select_label(THREE, "dog")
