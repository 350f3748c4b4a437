"""Training and test figures share no combination, and look alike in everything else."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import cfxnb as cfx
from cfxnb.core import locations as paths
from cfxnb.data import World, given, lpc, sprite_figures

EVERY = pd.DataFrame(
    [*itertools.product(*lpc.SPRITE_OPTIONS.values())],
    columns=list(lpc.SPRITE_OPTIONS),
    dtype=object,
)


@pytest.fixture(scope="module")
def parts():
    """Every combination of factors there is, 154,350 of them, dealt out."""
    return {s: sprite_figures._of_split(EVERY, s) for s in ("all", "train", "test")}


def test_no_combination_is_in_both_and_none_in_neither(parts):
    train, test = set(parts["train"].index), set(parts["test"].index)
    assert not train & test
    assert train | test == set(EVERY.index)
    assert len(parts["all"]) == len(EVERY) == 7 * 5 * 7 * 7 * 3 * 10 * 3
    assert len(test) == len(EVERY) / 5


def test_every_option_is_in_each_part_as_often_as_in_the_world(parts):
    """Exactly, over all combinations; and every pair of options within a tenth."""
    for name, part in parts.items():
        for factor, options in lpc.SPRITE_OPTIONS.items():
            counts = part[factor].value_counts()
            assert (counts == len(part) / len(options)).all(), (name, factor)
        for a, b in itertools.combinations(lpc.SPRITE_OPTIONS, 2):
            counts = part.groupby([a, b]).size()
            expected = len(part) / len(lpc.SPRITE_OPTIONS[a]) / len(lpc.SPRITE_OPTIONS[b])
            assert (abs(counts / expected - 1) < 0.1).all(), (name, a, b)


@pytest.mark.parametrize("change", lpc.SPRITE_OPTIONS)
def test_no_factor_alone_tells_the_part(parts, change):
    """One step in any factor leads to the other part or back: no factor is left out."""
    other = dict(itertools.pairwise(lpc.SPRITE_OPTIONS[change]))
    held = parts["test"][parts["test"][change].isin(list(other))]
    moved = held.assign(**{change: held[change].map(other)})
    assert len(sprite_figures._of_split(moved, "test")) == 0


LEAK = World(
    top=["white", "metal"],
    hair=given("top", white={"gray": 0.9, "red": 0.1}, metal={"gray": 0.1, "red": 0.9}),
)


@pytest.mark.parametrize("world", ["pairs", "confounded", "mediated", LEAK], ids=str)
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_worlds_frequencies_survive(world, split, monkeypatch):
    """Chi-square of every factor, and of hair with top, which may be dependent in the world."""
    monkeypatch.setattr(sprite_figures, "render_sprites", lambda f: torch.zeros(len(f), 3, 56, 32))
    figures = cfx.data.sprites(world, 3000, split=split, seed=1).factors
    own = world if isinstance(world, World) else cfx.data.SPRITE_WORLDS[world]
    stated = own.sample(200_000, seed=2)
    columns = [[c] for c in lpc.SPRITE_OPTIONS if c in stated] + [["hair", "top"]]
    for names in columns:
        share = stated.groupby(names).size() / len(stated)
        counts = figures.groupby(names).size().reindex(share.index, fill_value=0)
        square = ((counts - 3000 * share) ** 2 / (3000 * share)).sum()
        freedom = max(len(share) - 1, 1)
        assert square < freedom + 5 * np.sqrt(2 * freedom), names  # five standard deviations


def test_figures_of_a_part_belong_to_it():
    sets = {s: cfx.data.sprites("pairs", 150, split=s, seed=8) for s in ("all", "train", "test")}
    keys = {
        s: {*map(tuple, f.factors[list(lpc.SPRITE_OPTIONS)].to_numpy())} for s, f in sets.items()
    }
    assert not keys["train"] & keys["test"]
    assert keys["all"] & keys["train"]
    assert keys["all"] & keys["test"]
    for figures in sets.values():
        assert len(figures) == 150
        assert torch.equal(figures.images, cfx.data.render_sprites(figures.factors))
        assert figures.factors.index.tolist() == list(range(150))
        assert [figures.class_names[i] for i in figures.labels] == figures.factors["hair"].tolist()


@pytest.mark.parametrize("split", ["all", "train", "test"])
def test_a_longer_draw_begins_like_a_shorter_one(split):
    short, long = (cfx.data.sprites("mediated", n, split=split, seed=4) for n in (7, 90))
    assert short.factors.equals(long.factors[:7])
    assert torch.equal(short.images, long.images[:7])
    again = cfx.data.sprites("mediated", 90, split=split, seed=4)
    assert torch.equal(again.images, long.images)
    assert not cfx.data.sprites("mediated", 90, split=split, seed=5).factors.equals(long.factors)


def test_all_is_the_order_of_the_world():
    drawn = cfx.data.SPRITE_WORLDS["pairs"].sample(20, seed=3)
    assert cfx.data.sprites("pairs", 20, seed=3).factors[list(drawn)].equals(drawn)


def test_hidden_causes_are_kept_and_play_no_part():
    figures = cfx.data.sprites("confounded", 30, split="test", seed=1)
    assert set(figures.factors["_trade"]) == {"knight", "clerk"}


def test_a_world_without_figures_of_a_part_is_refused():
    """A single combination is either in one part or in the other."""
    first = {name: [options[0]] for name, options in lpc.SPRITE_OPTIONS.items()}
    only = World(**first)
    assert len(cfx.data.sprites(only, 3, split="test")) == 3
    with pytest.raises(ValueError, match=r"split: expected.*got 'train', which has 0 among"):
        cfx.data.sprites(only, 3, split="train")
    second = World(**first | {"eyes": ["gray"]})
    assert len(cfx.data.sprites(second, 3, split="train")) == 3
    with pytest.raises(ValueError, match=r"split: expected.*got 'test'"):
        cfx.data.sprites(second, 3, split="test")


@pytest.mark.parametrize("split", ["Test", "valid", None, 1])
def test_an_unknown_split_is_named(split):
    with pytest.raises((ValueError, TypeError), match=r"split: expected one of \['all'"):
        cfx.data.sprites("pairs", 3, split=split)


def test_top_layers_are_those_of_a_plain_look():
    """The last sheet that is at least half opaque at a pixel, by Pillow."""
    figures = cfx.data.sprites(n_samples=25, seed=6)
    top = lpc.top_layers(figures.factors)
    assert top.shape == (25, 56, 32)
    for layers, (_, row) in zip(top, figures.factors.iterrows(), strict=True):
        expected = np.zeros((56, 32))
        for number, (name, folder) in enumerate(lpc.FOLDERS.items(), 1):
            file = f"{lpc.SPRITE_OPTIONS[name].index(row[name])}.png"
            sheet = Image.open(paths.data() / "sprites" / folder / file).convert("RGBA")
            y = lpc.ROWS[row["direction"]] * 64 + 8
            alpha = np.asarray(sheet.crop((16, y, 48, y + 56)))[..., 3]
            expected[alpha >= 128] = number
        assert (layers.numpy() == expected).all()
    assert set(top.unique().tolist()) == set(range(7))
