"""The command train: classifiers of one's own, sizes, and the verdict at the end."""

import pytest
import torch
from PIL import Image
from torch import nn

from cfxnb.cli import main
from cfxnb.cli.train import verdict

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
