"""The guide's code for models of every kind runs, and the models are what they claim to be."""

import re
import sys
import types
from pathlib import Path

import onnxruntime
import pytest
import torch
from onnx_files import write_linear
from sklearn.linear_model import LogisticRegression
from torch import nn

import cfxnb as cfx
from cfxnb.core.types import STATUSES

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guide.md").read_text()
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def blocks(heading):
    """The Python code under one heading."""
    [_, rest] = GUIDE.split(f"\n## {heading}\n")
    return re.findall(r"```python\n(.*?)```", rest.split("\n## ")[0], re.DOTALL)


@pytest.fixture(scope="module")
def linear():
    train = cfx.data.digits("train")
    pixels, labels = train.images[:500].flatten(1).numpy(), train.labels[:500].numpy()
    return LogisticRegression(max_iter=100).fit(pixels, labels)


def weights(fitted):
    return torch.tensor(fitted.coef_).float(), torch.tensor(fitted.intercept_).float()


def test_an_onnx_file_written_by_hand(tmp_path, linear):
    weight, bias = weights(linear)
    file = write_linear(tmp_path / "model.onnx", weight, bias, (1, 32, 32))
    f = cfx.wrap(onnxruntime.InferenceSession(str(file)))
    x = cfx.data.digits("test").images[:5]
    torch.testing.assert_close(f(x), x.flatten(1) @ weight.T + bias, rtol=1e-3, atol=1e-3)


def vit(folder):
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=8, num_channels=3, id2label=dict(enumerate(WORDS)),
        label2id={word: number for number, word in enumerate(WORDS)},
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)


def stand_in(linear):
    """What the guide uses of timm."""
    weight, bias = weights(linear)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 1024, 10)).eval()
    with torch.no_grad():
        net[1].weight.copy_(weight.repeat(1, 3) / 3)
        net[1].bias.copy_(bias)
    timm = types.ModuleType("timm")
    timm.create_model = lambda name, num_classes, checkpoint_path: net
    config = {"input_size": (3, 32, 32), "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    timm.data = types.SimpleNamespace(resolve_data_config=lambda model: config)
    return timm


def test_models_of_every_kind(tmp_path, monkeypatch, linear):
    monkeypatch.chdir(tmp_path)
    write_linear(tmp_path / "model.onnx", *weights(linear), (1, 32, 32))
    vit(tmp_path / "my_vit")
    monkeypatch.setitem(sys.modules, "timm", stand_in(linear))
    names = {"cfx": cfx}
    first, *codes = blocks("Models of every kind: one image, and the whole data set")
    assert len(codes) == 5
    exec(first, names)
    reached = {}
    for code in codes:
        exec(code, names)
        local, direction = names["local"], names["direction"]
        assert len(local) == 4
        assert set(local.status) <= set(STATUSES)
        assert isinstance(direction, cfx.Directions)
        kind = re.search(r"import (\w+)", code)[1]
        reached[kind] = local.flipped.float().mean().item()
    # The random transformer has no decision to find; all others have.
    assert min(reached[k] for k in ("LogisticRegression", "onnxruntime", "timm", "Ridge")) >= 0.75
    assert names["local"].outcomes.attrs["units"] == "degrees"
    assert (names["tilted"].outcomes["distance"] == 0).mean() > 0.8


@pytest.mark.parametrize(
    "heading",
    ["No gradients, one image: a search by queries", "Regression: goals instead of classes"],
)
def test_queries_and_goals(heading, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"cfx": cfx}
    for code in blocks(heading):
        exec(code, names)
    assert names["cf"].flipped.float().mean() > 0.7
