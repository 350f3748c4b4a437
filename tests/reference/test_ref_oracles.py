"""The nets that others trained, against values computed in float64 from their sources."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

import cfxnb as cfx
from cfxnb.core import locations as paths
from cfxnb.nets import AgeGender, FaceExpression, SmileJudge, SqueezeNet
from cfxnb.nets.face_nets import EXPRESSIONS, MEAN_RGB, Same, enlarged, pad_same
from cfxnb.nets.squeezenet import LAYERS, SMALLEST
from cfxnb.weights import cards

ORACLES = paths.data() / "oracles"
FILES = {
    "faces/expression": "face_expression",
    "faces/judge": "face_expression",
    "faces/gender": "age_gender",
    "faces/features": "squeezenet11_imagenet_features",
}


def restored(net, file):
    net.load_state_dict(load_file(ORACLES / f"{file}.safetensors"))
    return net.eval().requires_grad_(False)


def stored(file):
    return load_file(ORACLES / f"{file}.check.safetensors")


def told(file):
    return json.loads((ORACLES / f"{file}.json").read_text())


@pytest.fixture(scope="module")
def expression():
    return restored(FaceExpression(), "face_expression"), stored("face_expression")


@pytest.fixture(scope="module")
def gender():
    return restored(AgeGender(), "age_gender"), stored("age_gender")


@pytest.fixture(scope="module")
def squeeze():
    file = "squeezenet11_imagenet_features"
    return restored(SqueezeNet(), file), stored(file), stored("face_expression")["images"]


def close(ours, theirs, atol=1e-4):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@torch.no_grad()
def test_expression(expression):
    net, check = expression
    close(net.features(check["images"]), check["features"])
    close(net(check["images"]), check["logits"])


@torch.no_grad()
def test_gender_and_age(gender):
    net, check = gender
    close(net.features(check["images"]), check["features"])
    close(net(check["images"]), check["gender_logits"])
    close(net.age(check["images"]), check["age"])
    assert net.age(check["images"]).shape == (16,)


@pytest.mark.parametrize(("file", "divisor"), [("face_expression", 255), ("age_gender", 256)])
def test_what_the_nets_are_fed(file, divisor):
    check = stored(file)
    mean = torch.tensor(MEAN_RGB).view(3, 1, 1)
    ours = (enlarged(check["images"][:2]) * 255 - mean) / divisor
    close(ours, check["input_112"], 1e-6)


@torch.no_grad()
def test_the_smile_judge_has_the_probability_of_happy(expression):
    _, check = expression
    judge = restored(SmileJudge(), "face_expression")
    p = judge(check["images"]).softmax(1)
    close(p[:, 1], check["probabilities"][:, EXPRESSIONS.index("happy")], 1e-5)
    assert 3 < (p[:, 1] > 0.5).sum() < 13  # or a constant could pass


@torch.no_grad()
def test_squeezenet_taps(squeeze):
    """Relative to 1 + |value|, as its card asks for."""
    net, check, images = squeeze
    maps = net(images)
    assert tuple(maps) == LAYERS
    for name, found in maps.items():
        theirs = check[f"{name}_mean"]
        apart = (found.mean((2, 3)) - theirs).abs() / (1 + theirs.abs())
        assert apart.max() < 1e-4, name
    theirs = check["fire9_image0"]
    assert ((maps["fire9"][:1] - theirs).abs() / (1 + theirs.abs())).max() < 1e-4
    torch.testing.assert_close(net.features(images), maps["fire9"].mean((2, 3)))


@torch.no_grad()
def test_squeezenet_sizes_and_parts(squeeze):
    net, _, images = squeeze
    sizes = {name: len(found[0, 0]) for name, found in net(images[:1]).items()}
    assert sizes == {"conv1": 31} | dict.fromkeys(["fire2", "fire3"], 15) | dict.fromkeys(
        ["fire4", "fire5"], 7
    ) | dict.fromkeys(["fire6", "fire7", "fire8", "fire9"], 3)
    part = net(images[:1], ("fire5", "conv1"))
    assert list(part) == ["conv1", "fire5"]
    assert torch.equal(part["fire5"], net(images[:1])["fire5"])
    gray = images[:1, :1]
    assert torch.equal(net.features(gray), net.features(gray.repeat(1, 3, 1, 1)))
    assert net(images[..., :SMALLEST, :SMALLEST])["fire9"].shape[2:] == (1, 1)


def naive_same(x, kernel, stride, worth):
    """Every window one by one, cells outside left out; ``worth`` makes a number of the rest."""
    high, wide = x.shape
    rows = []
    for i in range(-(-high // stride)):
        row = []
        for j in range(-(-wide // stride)):
            start = []
            for n, at in ((high, i), (wide, j)):
                total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
                start.append(at * stride - total // 2)
            window = {
                (a, b): x[start[0] + a, start[1] + b].item()
                for a in range(kernel)
                for b in range(kernel)
                if 0 <= start[0] + a < high and 0 <= start[1] + b < wide
            }
            row.append(worth(window))
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(6, 6), (7, 7), (5, 8), (8, 5), (1, 2)])
def test_padding_same_by_single_windows(shape, stride):
    x = torch.randn(shape)
    layer = Same(1, 1, 3, stride=stride, bias=False).requires_grad_(False)
    w = layer.weight[0, 0]
    summed = naive_same(x, 3, stride, lambda c: sum(v * w[k].item() for k, v in c.items()))
    close(layer(x[None, None])[0, 0], summed, 1e-5)
    # All are negative: an outside filled with 0 would win.
    x = -x.abs() - 1
    pooled = F.max_pool2d(pad_same(x[None, None], 3, stride, -torch.inf), 3, stride)[0, 0]
    close(pooled, naive_same(x, 3, stride, lambda c: max(c.values())), 0)


def test_even_sides_get_their_padding_after():
    x = torch.ones(1, 1, 56, 7)
    padded = pad_same(x, 3, 2)
    assert padded.shape == (1, 1, 57, 9)
    assert padded[0, 0, :56, 1:8].all()
    assert padded.sum() == x.sum()


def naive_enlarged(image, size=112):
    """One channel (h, w): into the middle of a black square, then bilinear, pixel by pixel."""
    high, wide = image.shape
    side = max(high, wide)
    square = np.zeros((side, side))
    top, left = (side - high) // 2, (side - wide) // 2
    square[top : top + high, left : left + wide] = image
    at = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, None)
    low = np.floor(at).astype(int)
    near, share = np.minimum(low + 1, side - 1), at - low
    out = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            above = (1 - share[j]) * square[low[i], low[j]] + share[j] * square[low[i], near[j]]
            below = (1 - share[j]) * square[near[i], low[j]] + share[j] * square[near[i], near[j]]
            out[i, j] = (1 - share[i]) * above + share[i] * below
    return out


@pytest.mark.parametrize("shape", [(64, 64), (40, 64), (64, 41), (130, 7), (112, 112)])
def test_resize_and_padding_pixel_by_pixel(shape):
    images = torch.rand(1, 3, *shape)
    ours = enlarged(images)
    assert ours.shape == (1, 3, 112, 112)
    for channel in range(3):
        expected = torch.from_numpy(naive_enlarged(images[0, channel].numpy()))
        close(ours[0, channel].double(), expected, 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("which", ["expression", "gender"])
def test_pictures_that_are_not_square(which, request):
    """As if somebody had padded them, the odd rest below or right."""
    net, check = request.getfixturevalue(which)
    flat = check["images"][:2, :, 5:46]
    close(net(flat), net(F.pad(flat, (0, 0, 11, 12))), 1e-6)
    slim = check["images"][:2, ..., 5:46]
    close(net.features(slim), net.features(F.pad(slim, (11, 12))), 1e-6)


@pytest.mark.parametrize("which", ["expression", "gender", "smile", "squeeze"])
def test_gradients_are_those_of_small_steps(which, expression):
    net = {
        "expression": lambda: restored(FaceExpression(), "face_expression"),
        "smile": lambda: restored(SmileJudge(), "face_expression"),
        "gender": lambda: restored(AgeGender(), "age_gender"),
        "squeeze": lambda: restored(SqueezeNet(), "squeezenet11_imagenet_features"),
    }[which]().double()
    image = expression[1]["images"][:1].double()
    noise, step = torch.randn(2, *image.shape, generator=torch.Generator().manual_seed(1)).double()
    image = image + 0.01 * noise  # in even areas many cells are the largest of their pool

    def value(x):
        return net.features(x).sum() if which == "squeeze" else net(x)[0, 1]

    point = image.clone().requires_grad_()
    slope = torch.autograd.grad(value(point), point)[0]
    h = 1e-8
    with torch.no_grad():
        measured = (value(image + h * step) - value(image - h * step)) / (2 * h)
    assert measured.abs() > 1e-3
    assert (slope * step).sum().item() == pytest.approx(measured.item(), rel=1e-4)


@torch.no_grad()
def test_the_shipped_nets_are_these(expression, gender, squeeze):
    images = expression[1]["images"]
    f = cfx.load("faces/expression", "cpu")
    assert f.class_names == EXPRESSIONS == tuple(told("face_expression")["classes"])
    close(f(images), expression[1]["logits"])
    judge = cfx.load("faces/judge", "cpu")
    assert judge.class_names == ("other", "smile")
    close(judge(images).softmax(1)[:, 1], expression[1]["probabilities"][:, 1], 1e-5)
    g = cfx.load("faces/gender", "cpu")
    assert g.class_names == tuple(told("age_gender")["classes"]["gender"])
    close(g(images), gender[1]["gender_logits"])
    close(g.module.age(images), gender[1]["age"])
    features = cfx.load("faces/features", "cpu")
    assert isinstance(features, SqueezeNet)
    assert not features.training
    assert torch.equal(features.features(images), squeeze[0].features(images))


def test_the_check_images_are_test_faces(expression, gender, test_faces):
    assert torch.equal(expression[1]["images"], gender[1]["images"])
    for image in expression[1]["images"]:
        assert (test_faces.images == image).flatten(1).all(1).sum() == 1


@pytest.mark.parametrize(("name", "file"), FILES.items())
def test_cards_repeat_what_their_sources_say(name, file):
    ours, theirs = cards()[name], told(file)
    for caution in theirs["cautions"]:
        assert caution in ours["caution"]
    assert theirs["source"]["repository"] in ours["recipe"]
    assert ours["licence"] == theirs["licence"]
    assert ours["parameters"] == theirs["parameters"]


def test_what_was_measured_here_is_what_the_sources_cards_say():
    """Two implementations, the same 3,380 faces."""
    theirs = told("age_gender")["verified"]["fairface_validation_3380_faces_at_64px"]
    ours = cards()["faces/gender"]
    assert ours["quality"]["accuracy on 3380 test faces"] == pytest.approx(
        theirs["gender_accuracy"], abs=6e-4
    )
    assert ours["quality"]["AUC there"] == pytest.approx(theirs["gender_auc"], abs=6e-4)
    for group, value in theirs["gender_accuracy_by_race_label"].items():
        found = ours["groups"]["gender: accuracy by race"][group]
        assert found == pytest.approx(value, abs=6e-4)
    for group, value in theirs["mean_predicted_age_by_age_label"].items():
        found = ours["groups"]["mean age in years by age"][group]
        assert found == pytest.approx(value, abs=0.06)
    for name in ("faces/expression", "faces/judge"):
        told_ = cards()[name]["quality"]
        same = told_["fraction of 3380 test faces on the same side of 0.5 as at 224x224"]
        assert same == pytest.approx(0.974, abs=6e-4)


def test_state_of_each_net_is_that_of_its_file():
    """The mean that is subtracted belongs to no file."""
    for net, file in ((FaceExpression(), "face_expression"), (AgeGender(), "age_gender")):
        shapes = {k: list(v.shape) for k, v in net.state_dict().items()}
        assert shapes == told(file)["tensors"]
        assert isinstance(net, nn.Module)
