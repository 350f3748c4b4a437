"""Counterfactuals by queries alone: budgets, logs, decisions without scores, closed forms."""

import functools

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import one_hot
from worlds import LinearSpace, code_classifier, linear_world, other_class

import cfxnb as cfx
from cfxnb.attacks.query_attack import CodeEvolution
from cfxnb.core.types import ALREADY_TARGET, FLIPPED, NOT_FOUND, RECONSTRUCTION_IS_TARGET

SPACE, F, X = linear_world(3)
TARGET = other_class(F, X)
attack = functools.partial(cfx.query_attack, SPACE)


class Counted:
    """A classifier that counts how often it is asked about each image, and may fail."""

    def __init__(self, inner=F, fatal=None):
        self.inner, self.fatal, self.calls, self.sizes = inner, fatal, 0, []

    def __call__(self, images):
        self.calls += 1
        if self.calls == self.fatal:
            raise OSError("the line is dead")
        self.sizes.append(len(images))
        return self.inner(images)


def test_flips_without_gradients():
    cf = attack(cfx.BlackBox(F), X, TARGET)
    assert set(cf.status) <= {FLIPPED, ALREADY_TARGET, RECONSTRUCTION_IS_TARGET}
    assert cf.flipped.sum() >= 5
    assert (cf.confidence[cf.flipped] >= 0.995 - 1e-4).all()
    torch.testing.assert_close(cf.image, SPACE.decode(cf.code_after))


def test_the_bisection_ends_at_the_boundary():
    """With a linear classifier the log odds along a change are known."""
    cf = attack(F, X, TARGET, binary_search_steps=12)
    odds = torch.logit(cf.confidence[cf.flipped])
    assert (odds - torch.logit(torch.tensor(0.995)) < 0.05).all()


@pytest.mark.parametrize("budget", [28, 40, 57, 100])
def test_the_budget_is_never_exceeded(budget):
    far = code_classifier(SPACE, torch.randn(3, 4, generator=torch.Generator().manual_seed(3)), 0.3)
    asked = Counted(far)
    cf = attack(asked, X, TARGET, max_queries=budget, batch_size=32)
    queries = cf.cost["classifier"]
    assert queries.max() <= budget
    assert queries.sum() == sum(asked.sizes) == cf.made_by["queries"]
    assert max(asked.sizes) <= 32
    if budget < 100:
        assert NOT_FOUND in cf.status


def test_one_image_alone_has_the_same_answer():
    every = attack(F, X, TARGET)
    alone = attack(F, X[2:3], TARGET[2:3], first_row=2)
    torch.testing.assert_close(alone.image[0], every.image[2])
    split = attack(F, X, TARGET, batch_size=16)
    torch.testing.assert_close(split.image, every.image)
    assert torch.equal(split.cost["classifier"], every.cost["classifier"])


def test_answers_are_paid_for_once(tmp_path):
    first = Counted()
    cf = attack(first, X, TARGET, checkpoint_dir=tmp_path / "log")
    again = Counted()
    same = attack(again, X, TARGET, checkpoint_dir=tmp_path / "log")
    assert sum(again.sizes) == same.made_by["compared"] == 4
    assert torch.equal(same.image, cf.image)
    assert same.status == cf.status
    assert torch.equal(same.cost["classifier"], cf.cost["classifier"])


@pytest.mark.parametrize("fatal", [1, 2, 3, 5, 8])
def test_a_dead_line_loses_one_call(tmp_path, fatal):
    paid = attack(Counted(), X, TARGET)
    broken = Counted(fatal=fatal)
    with pytest.raises(OSError, match="the line is dead"):
        attack(broken, X, TARGET, checkpoint_dir=tmp_path / "log")
    rest = Counted()
    cf = attack(rest, X, TARGET, checkpoint_dir=tmp_path / "log")
    assert torch.equal(cf.image, paid.image)
    lost = cf.made_by["lost"]
    compared = cf.made_by["compared"]
    assert 0 < lost <= 7 * 20
    assert sum(broken.sizes) + sum(rest.sizes) - compared == paid.made_by["queries"]
    assert (cf.cost["classifier"] >= paid.cost["classifier"]).all()
    assert cf.cost["classifier"].max() <= 500


def test_another_question_is_refused(tmp_path):
    folder = tmp_path / "log"
    attack(F, X, TARGET, checkpoint_dir=folder)
    with pytest.raises(ValueError, match=r"checkpoint_dir.*images"):
        attack(F, X.flip(0), TARGET, checkpoint_dir=folder)
    with pytest.raises(ValueError, match=r"checkpoint_dir.*target"):
        attack(F, X, TARGET.flip(0), checkpoint_dir=folder)
    with pytest.raises(ValueError, match=r"checkpoint_dir.*seed"):
        attack(F, X, TARGET, seed=1, checkpoint_dir=folder)
    turned = cfx.wrap(lambda x: F(x).flip(1))
    with pytest.raises(ValueError, match=r"classifier.*other answers"):
        attack(turned, X, TARGET, checkpoint_dir=folder)


def test_a_damaged_answer_is_refused(tmp_path):
    attack(F, X, TARGET, checkpoint_dir=tmp_path)
    file = sorted(tmp_path.rglob("call*"))[2]
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"checkpoint_dir.*altered"):
        attack(F, X, TARGET, checkpoint_dir=tmp_path)


def test_decisions_without_scores():
    labels = cfx.wrap(lambda x: one_hot(F(x).argmax(1), 3).float(), probabilities=True)
    cf = attack(labels, X, TARGET)
    assert set(cf.status) <= {FLIPPED, ALREADY_TARGET, RECONSTRUCTION_IS_TARGET}
    assert cf.trace["decisions_only"][cf.flipped].all()
    far = attack(labels, X, TARGET, refinements=0)
    assert cf.cost["classifier"].max() <= 500

    def length(found):
        return (found.code_after.z - found.code_before.z)[found.flipped].norm(dim=1)

    assert length(cf).mean() < length(far).mean()
    assert not attack(F, X, TARGET).trace["decisions_only"].any()


def test_a_scikit_learn_estimator():
    many = SPACE.sample(200, 1)
    rows, labels = many.flatten(1).numpy(), F(many).argmax(1).numpy()
    fitted = LogisticRegression(C=1e4, max_iter=500).fit(rows, labels)
    cf = attack(fitted, X, TARGET, confidence=0.9)
    assert cf.flipped.sum() >= 4
    assert set(cf.status) <= {FLIPPED, ALREADY_TARGET, RECONSTRUCTION_IS_TARGET}


def test_the_search_follows_the_covariance():
    """A direction in which real codes do not vary is never changed."""
    space = LinearSpace(std=torch.tensor([1.0, 1.0, 1.0, 1e-4]))
    f = code_classifier(space, torch.tensor([[1.0, 0.0, 0.0, 5.0]]), 4.0)
    x = space.sample(4, 1)
    cf = cfx.query_attack(space, f, x, 1 - f(x).argmax(1))
    change = (cf.code_after.z - cf.code_before.z).abs()
    assert cf.flipped.all()
    assert change[:, 3].max() == 0


def test_a_planted_bug_is_caught(monkeypatch):
    """A search that does not follow the better changes needs more queries."""
    right = attack(F, X, TARGET, sigma=0.2).cost["classifier"].sum()
    monkeypatch.setattr(CodeEvolution, "_move", lambda *_: None)
    assert attack(F, X, TARGET, sigma=0.2).cost["classifier"].sum() > 2 * right


def test_a_stop_keeps_what_was_found():
    seen = []
    cf = attack(F, X, TARGET, sigma=0.05, on_step=lambda step: seen.append(step) or len(seen) == 2)
    assert len(seen) == 2
    assert "stopped" in cf.status


def test_goals():
    model = cfx.wrap_regression(lambda x: 100 * x.mean((1, 2, 3)), names="ink", units="%")
    cf = attack(cfx.BlackBox(model), X, cfx.lower_by(0.2))
    assert set(cf.status) == {FLIPPED}
    assert (cf.outcomes["distance"] == 0).all()
    assert cf.cost["classifier"].max() <= 500


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"max_queries": 27}, "max_queries.*at least 28"),
        ({"population": 7}, "population.*even"),
        ({"population": 2}, "population"),
        ({"sigma": 0}, "sigma"),
        ({"checkpoint_dir": 3}, "checkpoint_dir"),
    ],
)
def test_refused_before_any_query(kwargs, message):
    box = cfx.BlackBox(F)
    with pytest.raises((ValueError, TypeError), match=message):
        attack(box, X, TARGET, **kwargs)
    assert box.n_queries == 0


def test_a_space_without_axes_has_its_coordinates_as_axes():
    """The axes that LinearSpace states are its coordinates, so the answers are the same."""
    space = LinearSpace(std=torch.tensor([1.0, 1e-4, 1.0, 1.0]))
    f = code_classifier(space, torch.tensor([[1.0, 0.0, 0.7, -0.5]]), 4.0)
    x = space.sample(4, 1)
    stated = cfx.query_attack(space, f, x, 1 - f(x).argmax(1))
    space.axes = space.variances = None
    plain = cfx.query_attack(space, f, x, 1 - f(x).argmax(1))
    torch.testing.assert_close(plain.image, stated.image)
    assert stated.flipped.all()
