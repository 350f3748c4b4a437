"""The command train, alone and before explain: own classifiers, sizes, refusals, the verdict."""

import re

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

import cfxnb as cfx
from cfxnb.cli import main
from cfxnb.cli.train import accuracy_in_words, verdict

SIZE = 16


def pictures(folder, size=SIZE, n=60):
    """Write gray images: class "left" has a bright left half, class "right" a bright right half."""
    generator = torch.Generator().manual_seed(0)
    for i in range(n):
        x = torch.randint(0, 60, (size, size), generator=generator)
        name = ("left", "right")[i % 2]
        half = slice(0, size // 2) if i % 2 == 0 else slice(size // 2, size)
        x[:, half] += 150
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(x.byte().numpy()).save(folder / name / f"{i}.png")
    return str(folder)


class Halves(nn.Module):
    """The difference in brightness of the halves decides."""

    def forward(self, x):
        half = x.shape[3] // 2
        left, right = x[..., :half].mean((1, 2, 3)), x[..., half:].mean((1, 2, 3))
        return 20 * torch.stack([left, right], 1)


@pytest.fixture
def forbidden(monkeypatch):
    """Any training is an error: what is refused must be refused before."""

    def no(*args, **kwargs):
        raise AssertionError("something was trained")

    monkeypatch.setattr("cfxnb.core.training.fit", no)
    monkeypatch.setattr("cfxnb.train.task.fit", no)


@pytest.mark.filterwarnings("ignore:space. it does not know", "ignore:.*torch.jit")
def test_a_space_is_trained_for_a_torchscript_classifier(tmp_path, capsys):
    net = tmp_path / "mine.pt"
    torch.jit.script(Halves()).save(str(net))
    given = ["train", pictures(tmp_path / "pictures"), "--output", str(tmp_path / "out")]
    given += ["--device", "cpu", "--minutes", "0.05"]
    text = f"{{load: {str(net)!r}, mean: 0.5, std: 0.25}}"
    assert main([*given, "--classifier", text]) == 0
    told = capsys.readouterr().out
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"judge", "space"}
    assert not (tmp_path / "out" / "classifier").exists()
    assert "== your classifier is right on 100 %" in told
    assert "== verdict" in told
    assert "of the decisions survive reconstruction" in told
    assert "The latent attack changes" in told
    assert "Only 5 images were held out" in told


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        ("nowhere.pt", "--classifier: expected a name"),
        ("{load: [", "--classifier: expected a mapping in YAML"),
        ("{load: digits/classifier, men: 0.5}", "--classifier: expected keys out of mean"),
        ("digits/vae", "--classifier: expected a classifier"),
        ("digits/classifier", "--classifier: expected"),  # ten classes
    ],
)
def test_wrong_classifiers_are_refused_before_anything_is_trained(
    classifier, message, tmp_path, capsys, forbidden
):
    given = ["train", pictures(tmp_path / "pictures"), "--output", str(tmp_path / "out")]
    assert main([*given, "--device", "cpu", "--classifier", classifier]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_classes_in_another_order_are_refused(tmp_path, capsys, forbidden):
    torch.jit.script(Halves()).save(str(tmp_path / "mine.pt"))
    text = f"{{load: {str(tmp_path / 'mine.pt')!r}, class_names: [right, left]}}"
    given = ["train", pictures(tmp_path / "pictures"), "--output", str(tmp_path / "out")]
    assert main([*given, "--device", "cpu", "--classifier", text]) == 2
    assert "in the order left, right" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "kind", "unit"), [(18, "vae", 4), (18, "ldm", 4), (36, "diffae", 8)]
)
def test_sizes_that_no_network_takes_are_refused_before_anything_is_trained(
    size, kind, unit, tmp_path, capsys, forbidden
):
    given = ["train", pictures(tmp_path / "pictures", size), "--output", str(tmp_path / "out")]
    assert main([*given, "--device", "cpu", "--kind", kind]) == 2
    told = capsys.readouterr().err
    assert f"divisible by {unit}" in told
    assert "--size" in told


def test_the_verdict_says_what_to_do():
    bad = " ".join(verdict("vae", 0.76, 100, (60, 100)))
    assert bad.startswith("76 % of the decisions survive reconstruction: fewer than nine of ten")
    assert "--kind autoencoder or diffae" in bad
    assert "--minutes" in bad
    assert verdict("ldm", 0.5, 100)[0].count("--kind diffae") == 1
    good = verdict("vae", 0.9, 100, (99, 100))
    assert "at least nine of ten" in good[0]
    assert "--minutes" not in " ".join(good)
    assert "89.9 %" in verdict("vae", 0.8999, 100)[0]  # never rounded up to what it is not
    few = " ".join(verdict("vae", 0.97, 100, (10, 100)))
    assert "only 10 % (10 of 100)" in few
    assert "--minutes" in few
    told = verdict("vae", 0.97, 100, (80, 100), 40)[-1]
    assert told.startswith("The judge agrees with 50 % (40 of 80) of these changes.")
    assert "do not show the target" in told
    assert verdict("vae", 0.97, 100, (80, 100), 79)[-1].endswith("of these changes.")


@pytest.mark.parametrize(("order", "right"), [((0, 1), 6), ((1, 0), 0)])
def test_a_classifier_that_is_wrong_is_noticed_before_the_training(order, right):
    images = torch.zeros(6, 1, 4, 4)
    images[3:] = 1.0
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    part = cfx.data.ImageSet(images, labels, ("dark", "bright"), pd.DataFrame(index=range(6)))
    bright = lambda x: 9 * (2 * x.mean((1, 2, 3)) - 1)  # noqa: E731
    f = cfx.wrap(lambda x: torch.stack([-bright(x), bright(x)], 1)[:, list(order)])
    told = accuracy_in_words(f, part)
    assert f"({right} of 6) of the held-out images" in told
    assert ("Warning: that is less than half" in told) == (right == 0)


# --- explain, with a folder of networks -----------------------------------------------------------


def write_settings(tmp_path, **settings):
    place = tmp_path / "mine.yaml"
    place.write_text(yaml.safe_dump(settings))
    return ["explain", str(place), "--device", "cpu", "--output-dir", str(tmp_path / "page")]


@pytest.mark.filterwarnings("ignore:space. it does not know", "ignore:.*torch.jit")
def test_explain_trains_what_the_file_does_not_name(tmp_path, capsys, monkeypatch):
    net, data = tmp_path / "mine.pt", pictures(tmp_path / "pictures")
    torch.jit.script(Halves()).save(str(net))
    classifier = {"load": str(net), "class_names": ["left", "right"]}
    call = write_settings(tmp_path, data=data, classifier=classifier, methods=["reconstruct"])
    call += ["--models", str(tmp_path / "models"), "--minutes", "0.05"]
    assert main([*call, "--check"]) == 0
    assert "First, judge, space will be trained." in capsys.readouterr().out
    assert not (tmp_path / "models").exists()
    assert main(call) == 0
    assert {p.name for p in (tmp_path / "models").iterdir()} >= {"judge", "space"}
    assert not (tmp_path / "models" / "classifier").exists()
    assert (tmp_path / "page" / "index.html").exists()
    # The page explains images on which no network was trained.
    stored = yaml.safe_load((tmp_path / "page" / "settings.yaml").read_text())
    assert stored["data"] == {"path": data, "split": "test"}
    monkeypatch.setattr("cfxnb.cli.train.run", None)
    assert main(call) == 0  # nothing is missing now


@pytest.mark.parametrize(
    ("settings", "more", "message"),
    [
        ({"data": "digits"}, ["--models", "models"], "data: expected a folder of images"),
        (
            {"data": {"path": "pictures", "channels": 1}},
            ["--models", "models"],
            "path, split, size",
        ),
        ({"data": "pictures", "space": "digits/vae"}, ["--models", "models"], "names a space"),
        ({"data": "pictures"}, ["--minutes", "3"], "--minutes: expected together with --models"),
        ({"data": "digits"}, ["--size", "32"], "--size: expected a folder of images"),
        ({"data": "nowhere"}, ["--models", "models"], "data: .*nothing there"),
        ({"data": "pictures", "taget": 1}, ["--models", "models"], "did you mean 'target'"),
        ({"data": "pictures"}, ["--models", "models", "--minutes", "0"], "--minutes: expected"),
    ],
)
def test_explain_refuses_before_anything_is_trained(
    settings, more, message, tmp_path, capsys, forbidden, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "pictures")
    assert main([*write_settings(tmp_path, **settings), *more]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_explain_of_a_folder_needs_a_place_for_networks(tmp_path, capsys, forbidden):
    folder = pictures(tmp_path / "pictures")
    assert main(["explain", folder]) == 2
    assert "--models" in capsys.readouterr().err
    assert main(["explain", folder, "--models", str(tmp_path / "models"), "--check"]) == 0
    assert "First, classifier, judge, space will be trained." in capsys.readouterr().out
    assert main(["explain", folder, "--data", folder]) == 2
    assert "--data: expected no second folder" in capsys.readouterr().err
