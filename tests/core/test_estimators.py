"""Estimators of scikit-learn: decisions are their own, or they are refused with the remedy."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LinearRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from worlds import LinearSpace

import cfxnb as cfx

SPACE = LinearSpace(shape=(1, 8, 8), scale=0.05)
X = SPACE.sample(60, 5)
ROWS = X.flatten(1).numpy()
THREE = np.digitize(ROWS.mean(1), np.quantile(ROWS.mean(1), [0.33, 0.66]))
TWO = (THREE > 0).astype(int)

RIGHT = {
    "pipeline": make_pipeline(StandardScaler(), SVC()),
    "grid": GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [1, 10]}, cv=2),
    "one against one": OneVsOneClassifier(LinearSVC()),
    "one against the rest": OneVsRestClassifier(LinearSVC()),
    "ridge": RidgeClassifier(),
    "forest": RandomForestClassifier(5, random_state=0),
    "vote": VotingClassifier([("a", GaussianNB())], voting="soft"),
}


@pytest.mark.parametrize("classes", [THREE, TWO, THREE.astype(float), TWO.astype(bool)])
@pytest.mark.parametrize("kind", RIGHT)
def test_decisions_are_those_of_the_estimator(kind, classes):
    made = RIGHT[kind].fit(ROWS, classes)
    read = made.classes_[cfx.predict_logits(made, X).argmax(1).numpy()]
    assert np.array_equal(read, made.predict(ROWS))


def ovo(classes=THREE):
    return SVC(decision_function_shape="ovo").fit(ROWS, classes)


class PairsInDisguise:
    """What a pair's scores look like where nothing tells what they are."""

    def __init__(self):
        self.inner = ovo()
        self.classes_ = self.inner.classes_

    def decision_function(self, rows):
        return self.inner.decision_function(rows)

    def predict(self, rows):
        return self.inner.predict(rows)


class Odd:
    """An estimator of one's own, with anything as classes and probabilities."""

    def __init__(self, classes, answer):
        self.classes_, self.answer = classes, answer

    def predict_proba(self, rows):
        return self.answer(len(rows))


def half(k):
    return lambda n: np.full((n, k), 1 / k)


SEVERAL = np.c_[TWO, THREE > 1].astype(int)
REFUSED = {
    "pairs": (ovo, "ovr"),
    "pairs in a pipeline": (
        lambda: make_pipeline(StandardScaler(), SVC(decision_function_shape="ovo")).fit(
            ROWS, THREE
        ),
        "ovr",
    ),
    "pairs of four": (lambda: ovo(THREE + (ROWS[:, 0] > ROWS[:, 0].mean())), "ovr"),
    "pairs in disguise": (PairsInDisguise, "contradict predict"),
    "classes from 1": (lambda: GaussianNB().fit(ROWS, THREE + 1), r"class_names=\['1', '2', '3'\]"),
    "even classes": (lambda: GaussianNB().fit(ROWS, 2 * TWO), r"class_names=\['0', '2'\]"),
    "one class": (lambda: GaussianNB().fit(ROWS, 0 * TWO), "two classes or more"),
    "several outputs": (
        lambda: MultiOutputClassifier(GaussianNB()).fit(ROWS, SEVERAL),
        "one estimator for each output",
    ),
    "forest of several outputs": (
        lambda: RandomForestClassifier(5).fit(ROWS, SEVERAL),
        "one estimator for each output",
    ),
    "several labels": (
        lambda: OneVsRestClassifier(GaussianNB()).fit(ROWS, SEVERAL),
        "cfx.select_label",
    ),
    "several labels of a network": (
        lambda: MLPClassifier((4,), max_iter=2000, random_state=0).fit(ROWS, SEVERAL),
        "cfx.select_label",
    ),
    "no classes": (lambda: Odd(None, half(2)), "classes_"),
    "too few columns": (lambda: Odd([0, 1, 2], half(2)), r"of shape \(60, 3\).*got \(60, 2\)"),
    "too few columns, named": (lambda: Odd(list("abc"), half(2)), r"of shape \(60, 3\)"),
    "percent": (lambda: Odd([0, 1], lambda n: np.full((n, 2), 50.0)), r"outputs in \[0, 1\]"),
    "other pixels": (lambda: GaussianNB().fit(ROWS[:, :50], TWO), "expecting 50 features"),
    "not fitted": (GaussianNB, "call fit first"),
    "regressor": (lambda: LinearRegression().fit(ROWS, TWO), "no regressor"),
    "hard votes": (
        lambda: VotingClassifier([("a", GaussianNB())], voting="hard").fit(ROWS, TWO),
        "voting='soft'",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_the_remedy(kind):
    make, told = REFUSED[kind]
    made = make()
    for call in (lambda: cfx.predict_logits(made, X), lambda: cfx.wrap(made)(X)):
        with pytest.raises((ValueError, TypeError), match=rf"^\w+: expected.*{told}"):
            call()


def test_classes_that_are_other_numbers_get_names():
    made = GaussianNB().fit(ROWS, THREE + 1)
    f = cfx.wrap(made, class_names=["1", "2", "3"])
    read = made.classes_[cfx.predict_logits(f, X).argmax(1).numpy()]
    assert np.array_equal(read, made.predict(ROWS))
    found = cfx.follow_direction(SPACE, f, X[:4], torch.ones(4), "3")
    assert set(found.target.tolist()) == {2}
    with pytest.raises(ValueError, match=r"target: expected a name of a class.*got 2"):
        cfx.follow_direction(SPACE, f, X[:4], torch.ones(4), 2)


def test_probabilities_that_decide_otherwise_are_told():
    class Calibrated(Odd):
        def predict(self, rows):
            return 1 - self.answer(len(rows)).argmax(1)

    with pytest.warns(UserWarning, match="contradict predict for 32 of 32 images"):
        cfx.predict_logits(Calibrated([0, 1], lambda n: np.tile([0.7, 0.3], (n, 1))), X)


def test_methods_that_need_gradients_say_so():
    made = GaussianNB().fit(ROWS, TWO)
    for call in (
        lambda: cfx.latent_attack(SPACE, made, X, 1),
        lambda: cfx.pixel_attack(made, X, 1),
        lambda: cfx.integrated_gradients(made, cfx.straight_path(X), 1),
        lambda: cfx.pixel_attack(cfx.wrap(made), X, 1),
    ):
        with pytest.raises(TypeError, match=r"classifier: expected one that passes gradients.*got"):
            call()
