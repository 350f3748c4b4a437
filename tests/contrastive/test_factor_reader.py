"""Factor readers: which logit means which option."""

import pandas as pd
import pytest
import torch
from bits import ALL, images_of
from torch import nn

import cfxnb as cfx
from cfxnb.data.files import manifest
from cfxnb.weights import cards

OPTIONS = {"colour": ("red", "green", "blue"), "size": ("small", "large")}


class Logits(nn.Module):
    """Images (b, 1, 1, n) as the n logits themselves."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, images):
        return self.scale * images.flatten(1)


def test_logits_are_split_in_the_order_of_the_options():
    rows = torch.tensor([[0.1, 0.9, 0.2, 0.4, 0.3], [0.8, 0.1, 0.7, 0.0, 1.0]])[:, None, None]
    reader = cfx.FactorReader(Logits(), OPTIONS)
    heads = reader(rows)
    assert list(heads) == ["colour", "size"]
    assert torch.equal(heads["colour"], rows[:, 0, 0, :3])
    assert torch.equal(heads["size"], rows[:, 0, 0, 3:])
    assert reader.indices(rows).tolist() == [[1, 0], [0, 1]]
    expected = pd.DataFrame({"colour": ["green", "red"], "size": ["small", "large"]})
    assert reader.read(rows).equals(expected)
    assert reader.indices(rows).dtype == torch.int64
    assert "colour, size" in repr(reader)


def test_one_logit_a_factor_is_the_log_odds_of_the_second_option():
    bits = dict.fromkeys("ABC", ("no", "yes"))
    heads = cfx.FactorReader(Shifted(), bits)(images_of(ALL))
    for j, head in enumerate(heads.values()):
        odds = head.softmax(1)[:, 1].logit()
        torch.testing.assert_close(odds, images_of(ALL)[:, 0, 0, j] - 0.5)
    reader = cfx.FactorReader(Shifted(), bits)
    assert reader.indices(images_of(ALL)).tolist() == ALL.tolist()


class Shifted(nn.Module):
    def forward(self, images):
        return images.flatten(1) - 0.5


def test_options_need_not_be_text_and_results_keep_their_kind():
    reader = cfx.FactorReader(Shifted(), {"A": (0, 1), "B": [False, True], "C": range(2)})
    read = reader.read(images_of(ALL))
    assert read["A"].tolist() == ALL[:, 0].tolist()
    assert read["B"].dtype == bool


def test_batches_do_not_matter_and_gradients_pass():
    reader = cfx.FactorReader(Logits(2.0), OPTIONS)
    images = torch.rand(11, 1, 1, 5)
    assert torch.equal(reader.indices(images), reader.indices(images, batch_size=3))
    assert reader.read(images).equals(reader.read(images, batch_size=1))
    assert not reader.indices(images).requires_grad
    images.requires_grad_()
    reader(images)["colour"][:, 1].sum().backward()
    assert (images.grad.flatten(1).sum(0) != 0).tolist() == [False, True, False, False, False]


def test_outputs_with_logits_are_unpacked():
    class Output:
        def __init__(self, logits):
            self.logits = logits

    class Hugging(nn.Module):
        def forward(self, images):
            return Output(images.flatten(1))

    images = torch.rand(4, 1, 1, 5)
    plain = cfx.FactorReader(nn.Flatten(), OPTIONS).read(images)
    assert cfx.FactorReader(Hugging(), OPTIONS).read(images).equals(plain)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: cfx.FactorReader("net", OPTIONS), r"module: .*got str"),
        (lambda: cfx.FactorReader(nn.Flatten(), ["red"]), r"options: .*got list"),
        (lambda: cfx.FactorReader(nn.Flatten(), {}), r"options: .*got none"),
        (lambda: cfx.FactorReader(nn.Flatten(), {"size": "large"}), r"size.*got str 'large'"),
        (lambda: cfx.FactorReader(nn.Flatten(), {"size": 2}), r"size.*got int 2"),
        (lambda: cfx.FactorReader(nn.Flatten(), {"size": ["s"]}), r"size.*got \('s',\)"),
        (
            lambda: cfx.FactorReader(nn.Flatten(), {"size": ["s", "s"]}),
            r"size.*got \('s', 's'\)",
        ),
        (lambda: read(torch.rand(2, 1, 1, 4)), r"module: .*\(2, 5\).*colour.*got \(2, 4\)"),
        # Two logits for a factor of three and one of two could be anything.
        (lambda: read(torch.rand(2, 1, 1, 2)), r"module: .*got \(2, 2\)"),
        (lambda: read(255 * torch.rand(2, 1, 1, 5)), r"images: .*\[0, 1\]"),
        (lambda: read(torch.rand(2, 5, 5)), r"images: .*got \(2, 5, 5\)"),
        (lambda: read(torch.rand(2, 1, 1, 5), batch_size=0), r"batch_size: .*got 0"),
        (lambda: read(torch.rand(2, 1, 1, 5), Pair()), r"module: .*tensor, got tuple"),
    ],
)
def test_wrong_readers_say_what_is_wrong(make, named):
    with pytest.raises((ValueError, TypeError), match=named) as caught:
        make()
    assert "expected" in str(caught.value)


def read(images, module=None, **kwargs):
    return cfx.FactorReader(module or nn.Flatten(), OPTIONS).read(images, **kwargs)


class Pair(nn.Module):
    def forward(self, images):
        return images.flatten(1), None


READERS = ["sprites/reader", "sprites/judge"]


@pytest.mark.parametrize("name", READERS)
def test_shipped_readers_read_held_out_figures(name):
    """As well as their card says; judge and reader are different networks."""
    reader = cfx.load(name, device="cpu")
    assert isinstance(reader, cfx.FactorReader)
    figures = cfx.data.sprites("independent", 300, split="test", seed=77)
    read = reader.read(figures.images)
    card = cards()[name]
    assert card["kind"] == "reader"
    assert not reader.module.training
    assert not any(p.requires_grad for p in reader.module.parameters())
    for factor, options in reader.options.items():
        right = (read[factor] == figures.factors[factor]).mean()
        told = card["quality"][f"accuracy on held-out figures, {factor}"]
        assert right == pytest.approx(told, abs=0.01), factor
        # Eyes are five pixels, and a judge that is hard to fool gives some of them away.
        assert right > 0.98, factor
        assert set(figures.factors[factor]) <= set(options)
    assert f"weights/{name}.safetensors" in manifest()


def test_reader_and_judge_share_nothing():
    a, b = (cfx.load(name, device="cpu") for name in READERS)
    assert type(a.module) is not type(b.module)
    assert a.options == b.options


def test_reading_and_predicting_leave_a_module_in_training_as_it_is():
    """Batch normalisation and dropout would make two readings differ, and learn from them."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 4)
    ).train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    images = torch.rand(6, 3, 2, 2)
    reader = cfx.FactorReader(module, {"a": ("no", "yes"), "b": ("no", "yes")})
    assert reader.read(images).equals(reader.read(images))
    assert torch.equal(*(cfx.predict_logits(cfx.wrap(module), images) for _ in range(2)))
    assert module.training
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


class Sigmoids(nn.Module):
    def forward(self, images):
        return (images.flatten(1) - 0.5).sigmoid()


class Softmaxes(nn.Module):
    def forward(self, images):
        rows = images.flatten(1)
        return torch.cat([rows[:, :3].softmax(1), rows[:, 3:].softmax(1)], 1)


def test_probabilities_are_noticed():
    bits = dict.fromkeys("ABC", ("no", "yes"))
    for reader, images in (
        (cfx.FactorReader(Sigmoids(), bits), images_of(ALL)),
        (cfx.FactorReader(Softmaxes(), OPTIONS), torch.rand(2, 1, 1, 5)),
    ):
        for _ in range(2):
            with pytest.warns(UserWarning, match=r"module: its outputs look like probabilities"):
                reader.read(images)
    cfx.FactorReader(Shifted(), bits).read(images_of(ALL))  # logits pass in silence


def test_a_call_reads_images_as_the_methods_do():
    reader = cfx.FactorReader(Shifted(), dict.fromkeys("ABC", ("no", "yes")))
    pixels = (255 * images_of(ALL)).to(torch.uint8)
    torch.testing.assert_close(reader(pixels)["A"], reader(images_of(ALL))["A"])
    with pytest.raises(ValueError, match="images: expected values in"):
        reader(2 * images_of(ALL) - 1)
