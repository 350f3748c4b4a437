"""Ways in which a folder belongs to another question: none is taken for that of the first one."""

import contextlib

import numpy as np
import pytest
import torch
from kept_scenes import same
from safetensors.torch import load_file
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from torch import nn
from worlds import LinearNet, LinearSpace

import cfxnb as cfx

#: These spaces state no covariance of their codes.
pytestmark = pytest.mark.filterwarnings("ignore:space. expected axes and variances")


class Plain:
    """A space without a network, whose every part can be another one."""

    def __init__(self, *, bend=0.0, bright=0.0, offset=0.0, flip=False, turn=False, fine=0.0):
        g = torch.Generator().manual_seed(1)
        self.basis = torch.linalg.qr(torch.randn(48, 4, generator=g)).Q.T * 0.05
        self.fine = fine * (2 * torch.randint(2, (48,), generator=g) - 1)
        self.mean, self.std = torch.zeros(4), torch.ones(4)
        self.bend, self.bright, self.offset, self.flip, self.turn = bend, bright, offset, flip, turn

    def encode(self, images):
        flat = images.flatten(1) - 0.5
        return cfx.Code(flat @ torch.linalg.pinv(self.basis) + self.offset, images[:, :1, :1, :1])

    def decode(self, code):
        z = code.z + self.bend * code.z**3
        images = (0.5 + self.bright + z @ self.basis + self.fine).view(-1, 3, 4, 4)
        images = images.flip(3) if self.flip else images
        return images[:, [2, 1, 0]] if self.turn else images


SPACE = Plain()
W = 12 * torch.randn(3, 48, generator=torch.Generator().manual_seed(5))
Z = torch.randn(200, 4, generator=torch.Generator().manual_seed(2))
X = SPACE.decode(cfx.Code(Z))
FLAT = X.flatten(1).numpy()
SEEN = ((X.flatten(1) - 0.5) @ W.T).argmax(1).numpy()
NET, OTHER_NET = LinearNet(W), LinearNet(W + 0.01)


def score(images, row=0, lift=0.0):
    return (images.flatten(1) - 0.5) @ W[row] + lift


def soft(row=0, lift=0.0, scale=1.0):
    return lambda images: cfx.two_logits(scale * score(images, row, lift))


def hard(lift=0.0):
    return lambda images: cfx.two_logits(6.0 * (score(images, 0, lift) > 0).float() - 3.0)


def learnt(model, rows=slice(0, 150)):
    """A black box around a model of scikit-learn, trained on some of the images."""
    model.fit(FLAT[rows], SEEN[rows])

    def answer(images):
        told = model.predict_proba(images.flatten(1).numpy().astype(np.float64))
        return torch.from_numpy(np.log(np.maximum(told, 1e-3))).float()

    return answer


def chosen(model, rows=slice(0, 150)):
    """As before, but it tells its decisions alone."""
    model.fit(FLAT[rows], SEEN[rows])
    return lambda images: (
        4
        * nn.functional.one_hot(
            torch.from_numpy(model.predict(images.flatten(1).numpy())).long(), 3
        ).float()
    )


class Sharper(LinearNet):
    """The same weights, used otherwise."""

    def forward(self, images):
        return super().forward(images).tanh()


def random_answers(images):
    return cfx.two_logits(score(images) + torch.randn(len(images)))


def mean_square(a, b):
    return (a - b).square().mean((1, 2, 3))


def distance(power, scale=1.0):
    return lambda a, b: scale * (a - b).abs().pow(power).mean((1, 2, 3))


LATER = slice(50, 200)
FIRST = {"space": SPACE, "classifier": soft(), "images": X[:4], "target": 1}
FIRST |= {"max_queries": 140, "n_curvature": 1, "batch_size": 20, "validation_images": X[4:6]}
#: The search of the paper, around one image.
ONE_IMAGE = {"proxy": "ridge", "images": X[:1]}


def three(images):
    return (images.flatten(1) - 0.5) @ W.T


def only(part):
    return lambda images: cfx.two_logits(score(images[:, [part] * 3]))


#: name -> (what is changed in the first question, in the second one, what the message names)
FOREST = learnt(RandomForestClassifier(20, random_state=0))
CLASSIFIERS = {
    "another function": (soft(0), soft(1)),
    "its negative": (soft(), soft(scale=-1.0)),
    "classes in the other order": (soft(), lambda x: soft()(x).flip(1)),
    "another temperature": (soft(), soft(scale=1.02)),
    "another threshold of its logit": (soft(), soft(lift=0.05)),
    "another threshold of its decision": (hard(), hard(lift=0.3)),
    "clipped": (soft(), lambda x: soft()(x).clamp(-3, 3)),
    "a logarithm of probabilities": (soft(), lambda x: soft()(x).log_softmax(1)),
    "another channel": (only(0), only(1)),
    "colours in the other order": (soft(), lambda x: soft()(x.flip(1))),
    "mirrored": (soft(), lambda x: soft()(x.flip(3))),
    "blurred": (soft(), lambda x: soft()(nn.functional.avg_pool2d(x, 3, 1, 1))),
    "another normalisation": (cfx.wrap(NET), cfx.wrap(NET, mean=0.1, std=0.9)),
    "another mean alone": (cfx.wrap(NET, mean=0.1), cfx.wrap(NET, mean=0.12)),
    "shifted": (cfx.wrap(NET), lambda x: cfx.wrap(NET)(x.roll(1, 3))),
    "another label": (
        cfx.select_label(lambda x: x.flatten(1) @ W.T, 0),
        cfx.select_label(lambda x: x.flatten(1) @ W.T, 1),
    ),
    "another label of a net": (cfx.select_label(NET, 0), cfx.select_label(NET, 1)),
    "other weights": (cfx.wrap(NET), cfx.wrap(OTHER_NET)),
    "other weights in a function": (lambda x: NET(x), lambda x: OTHER_NET(x)),
    "the same weights in another network": (cfx.wrap(NET), cfx.wrap(Sharper(W))),
    "a black box of another": (cfx.BlackBox(soft(0)), cfx.BlackBox(soft(2))),
    "a logistic regression of others": (
        learnt(LogisticRegression()),
        learnt(LogisticRegression(), LATER),
    ),
    "another penalty": (learnt(LogisticRegression()), learnt(LogisticRegression(C=0.5))),
    "a forest of others": (
        learnt(RandomForestClassifier(20, random_state=0)),
        learnt(RandomForestClassifier(20, random_state=0), LATER),
    ),
    "a forest of another seed": (
        learnt(RandomForestClassifier(20, random_state=0)),
        learnt(RandomForestClassifier(20, random_state=1)),
    ),
    "other neighbours": (learnt(KNeighborsClassifier(5)), learnt(KNeighborsClassifier(9))),
    "decisions of another tree": (
        chosen(DecisionTreeClassifier(random_state=0)),
        chosen(DecisionTreeClassifier(max_depth=3, random_state=0)),
    ),
    "decisions of a tree of others": (
        chosen(DecisionTreeClassifier(random_state=0)),
        chosen(DecisionTreeClassifier(random_state=0), LATER),
    ),
    "another number of classes": (
        lambda x: (x.flatten(1) - 0.5) @ W[:2].T,
        lambda x: (x.flatten(1) - 0.5) @ W.T,
    ),
    "another third class": (
        lambda x: (x.flatten(1) - 0.5) @ W.T,
        lambda x: (x.flatten(1) - 0.5) @ (W * torch.tensor([[1.0], [1], [0.9]])).T,
    ),
    "never the same twice": (random_answers, random_answers),
}
SPACES = {
    "brighter": Plain(bright=0.002),
    "bent": Plain(bend=0.003),
    "mirrored": Plain(flip=True),
    "colours in the other order": Plain(turn=True),
    "another fine pattern": Plain(fine=0.001),
    "encodes otherwise": Plain(offset=0.01),
}
ARGUMENTS = {
    "target": {"target": 0},
    "contrast_class": {"contrast_class": 0},
    "max_queries": {"max_queries": 141},
    "radius": {"radius": 2.0},
    "saturation": {"saturation": None},
    "n_curvature": {"n_curvature": 2},
    "max_step": {"max_step": 2.0},
    "batch_size": {"batch_size": 22},
    "seed": {"seed": 1},
    "images": {"images": X[7:11]},
    "images, one of them": {"images": X[[0, 1, 2, 7]]},
    "images, one more": {"images": X[[0, 1, 2, 3, 7]]},
    "images, in another order": {"images": X[:4].flip(0)},
    "images, nearly the same": {"images": (X[:4] + 1e-3).clamp(0, 1)},
    "validation_images": {"validation_images": X[4:7]},
    "validation_images, in another order": {"validation_images": X[4:6].flip(0)},
    "validation_images, none": {"validation_images": None},
}
WAYS = {
    f"classifier: {name}": ({"classifier": a}, {"classifier": b}, "classifier")
    for name, (a, b) in CLASSIFIERS.items()
}
WAYS |= {f"space: {name}": ({}, {"space": other}, "space") for name, other in SPACES.items()}
WAYS |= {name: ({}, change, name.split(",")[0]) for name, change in ARGUMENTS.items()}
WAYS["proxy"] = ({"images": X[:1]}, ONE_IMAGE, "proxy")
WAYS["proxy: the paper's network"] = (ONE_IMAGE, ONE_IMAGE | {"proxy": "mlp"}, "proxy")
WAYS["images: around another image"] = (ONE_IMAGE, ONE_IMAGE | {"images": X[7:8]}, "images")
WAYS |= {
    f"around one image, {name}": (ONE_IMAGE | {"classifier": a}, {"classifier": b}, "classifier")
    for name, (a, b) in CLASSIFIERS.items()
    if "decision" in name or "threshold" in name
}
WAYS["against another class"] = (
    {"classifier": three, "contrast_class": 0},
    {"classifier": three, "contrast_class": 2},
    "contrast_class",
)
WAYS["distance: another power"] = ({"distance": distance(1)}, {"distance": distance(2)}, "distance")
WAYS["distance: another unit"] = (
    {"distance": distance(1)},
    {"distance": distance(1, 1.05)},
    "distance",
)
WAYS["distance: another name"] = ({}, {"distance": mean_square}, "distance")


def scaled(name, factor):
    space = Plain()
    setattr(space, name, factor(getattr(space, name)))
    return space


WAYS["space: another std"] = ({}, {"space": scaled("std", lambda s: 1.01 * s)}, "space")
WAYS["space: another mean"] = ({}, {"space": scaled("mean", lambda c: c + 0.01)}, "space")
WAYS["space: other weights"] = (
    {"space": LinearSpace(4), "images": LinearSpace(4).sample(4), "validation_images": None},
    {"space": LinearSpace(4, seed=1)},
    "space",
)


def ask(folder, **change):
    told = FIRST | change
    rest = {name: told[name] for name in told if name not in ("space", "classifier", "images")}
    parts = (told["space"], told["classifier"], told["images"], rest.pop("target"))
    return cfx.find_directions(*parts, checkpoint_dir=folder, **rest)


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


class Enough(Exception):
    pass


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "begun"])
@pytest.mark.parametrize("way", WAYS)
def test_another_question_is_refused(tmp_path, way, finished):
    """By name, leaving the folder as it was; the first question goes on there as if undisturbed."""
    first, second, name = WAYS[way]

    def stop(step):
        if step.number == 6 and not finished:
            raise Enough

    is_random = first.get("classifier") is random_answers

    def told():
        random = pytest.warns(UserWarning, match="random")
        return random if is_random else contextlib.nullcontext()

    try:
        with told():
            ask(tmp_path, **first, on_step=stop)
    except Enough:
        assert not finished
    before = contents(tmp_path)
    named = rf"checkpoint_dir: expected .*\b{name}|{name}: expected "
    with told(), pytest.raises(ValueError, match=named):
        ask(tmp_path, **(first | second))
    assert contents(tmp_path) == before
    if not is_random:
        assert same(ask(tmp_path, **first), ask(None, **first))


@pytest.mark.parametrize("setting", [{}, ONE_IMAGE], ids=["several images", "one image"])
def test_decisions_are_enough_if_a_stored_one_differs(tmp_path, setting):
    """Boxes that only decide are told apart exactly where one of the stored decisions differs."""
    boxes = [
        chosen(DecisionTreeClassifier(max_depth=depth, random_state=seed), rows)
        for depth, seed, rows in [(None, 0, slice(0, 150)), (3, 0, slice(0, 150)), (None, 0, LATER)]
    ]
    boxes += [chosen(KNeighborsClassifier(n)) for n in (1, 3)]
    told_apart = 0
    for number, box in enumerate(boxes):
        folder = tmp_path / str(number)
        ask(folder, **setting, classifier=box)
        stored = [load_file(file) for file in folder.glob("*.safetensors")]
        images = SPACE.decode(cfx.Code(torch.cat([each["z"] for each in stored])))
        decisions = box(images).argmax(1)
        for other in boxes:
            differs = not torch.equal(other(images).argmax(1), decisions)
            refused = pytest.raises(ValueError, match="classifier: expected the same one")
            with refused if differs else contextlib.nullcontext():
                ask(folder, **setting, classifier=other)
            told_apart += differs
    assert told_apart >= 16  # of 20 pairs of different boxes


@pytest.mark.parametrize("classifier", [soft(), hard(), cfx.wrap(NET), FOREST])
def test_rounding_is_no_other_question(tmp_path, classifier):
    """Another processor rounds otherwise: nothing is asked anew but to recognise it."""

    class Rounding(Plain):
        def encode(self, images):
            code = super().encode(images)
            return code.with_z(code.z * (1 + 1e-6))

        def decode(self, code):
            return super().decode(code) * (1 + 3e-7)

    first = ask(tmp_path, classifier=classifier)
    box = cfx.BlackBox(lambda x: classifier(x) * (1 + 1e-5))
    second = ask(tmp_path, classifier=box, space=Rounding())
    assert box.n_queries == second.made_by["compared"]
    # The codes of the images are part of the fit, and are rounded otherwise too.
    torch.testing.assert_close(first.vectors, second.vectors, rtol=1e-4, atol=1e-5)
    assert first.names == second.names
    assert first.n_queries == second.n_queries
