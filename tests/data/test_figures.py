"""Figures are what their factors say, and an intervention changes nothing else."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import cfxnb as cfx
from cfxnb.core import locations as paths
from cfxnb.data import lpc


@pytest.fixture(scope="module")
def figures():
    return cfx.data.sprites(n_samples=60, seed=3)


def by_pillow(row):
    """The same figure by Pillow's own compositing of the whole sheets, one layer at a time."""
    top = lpc.ROWS[row["direction"]] * 64
    box = (16, top + 8, 48, top + 64)
    canvas = Image.new("RGBA", (32, 56), (*[round(lpc.BACKGROUND * 255)] * 3, 255))
    for name, folder in lpc.FOLDERS.items():
        number = lpc.SPRITE_OPTIONS[name].index(row[name])
        sheet = Image.open(paths.data() / "sprites" / folder / f"{number}.png").convert("RGBA")
        canvas.alpha_composite(sheet.crop(box))
    return torch.from_numpy(np.asarray(canvas.convert("RGB")).copy()).permute(2, 0, 1) / 255


def test_figures_equal_a_plain_compositing(figures):
    for image, (_, row) in zip(figures.images, figures.factors.iterrows(), strict=True):
        # Pillow rounds to bytes after every layer, and the background to the nearest byte.
        assert (image - by_pillow(row)).abs().max() < 0.01


def test_options_are_named_as_in_the_sheets():
    listed = json.loads((paths.data() / "sprites" / "layers.json").read_text())
    assert listed["layer_order"] == list(lpc.FOLDERS.values())
    for name, folder in lpc.FOLDERS.items():
        assert len(lpc.SPRITE_OPTIONS[name]) == listed["layers"][folder]["count"]
        assert len(set(lpc.SPRITE_OPTIONS[name])) == len(lpc.SPRITE_OPTIONS[name])


@pytest.mark.parametrize("layer", lpc.LAYERS)
@pytest.mark.parametrize("option", [0, 2])
def test_an_intervention_touches_only_the_pixels_of_its_layer(figures, layer, option):
    twin = cfx.data.intervene(figures, **{layer: lpc.SPRITE_OPTIONS[layer][option]})
    changed = (twin.images != figures.images).any(1)
    old = cfx.data.layer_mask(figures.factors, layer)
    new = cfx.data.layer_mask(twin.factors, layer)
    assert not (changed & ~old & ~new).any()
    others = [c for c in figures.factors if c != layer]
    assert twin.factors[others].equals(figures.factors[others])
    same = torch.tensor((figures.factors[layer] == lpc.SPRITE_OPTIONS[layer][option]).tolist())
    assert torch.equal(twin.images[same], figures.images[same])
    if not same.all():
        assert changed[~same].flatten(1).any(1).all()


def test_an_intervention_and_back_is_the_figure_itself(figures):
    one = figures[:1]
    hair = one.factors["hair"].iloc[0]
    away = cfx.data.intervene(one, hair="pink" if hair != "pink" else "red")
    assert torch.equal(cfx.data.intervene(away, hair=hair).images, one.images)


def test_figures_fit_into_the_picture():
    """Nothing is cut off: the cells hold no opaque pixel outside."""
    for name, folder in lpc.FOLDERS.items():
        for number in range(len(lpc.SPRITE_OPTIONS[name])):
            file = paths.data() / "sprites" / folder / f"{number}.png"
            alpha = np.asarray(Image.open(file).convert("RGBA"))[..., 3]
            for row in lpc.ROWS.values():
                cell = alpha[row * 64 : row * 64 + 64, :64]
                assert cell.sum() == cell[8:, 16:48].sum()


def test_the_same_seed_gives_the_same_figures_and_labels_follow():
    a = cfx.data.sprites("mediated", 40, class_factor="top", seed=5)
    b = cfx.data.sprites("mediated", 40, class_factor="top", seed=5)
    assert torch.equal(a.images, b.images)
    assert a.factors.equals(b.factors)
    assert [a.class_names[i] for i in a.labels] == a.factors["top"].tolist()
    c = cfx.data.sprites("mediated", 40, class_factor="top", seed=6)
    assert not torch.equal(a.images, c.images)


def test_artists_are_named(figures):
    assert "CC BY-SA" in repr(figures)
    assert "LPC-AUTHORS.txt" in figures.source


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda s: cfx.data.sprites("flat"), "world"),
        (lambda s: cfx.data.sprites(n_samples=-1), "n_samples"),
        (lambda s: cfx.data.sprites(class_factor="age"), "class_factor"),
        (lambda s: cfx.data.sprites(cfx.data.World(hair=["bald"]), 3), "hair"),
        (lambda s: cfx.data.intervene(s), "changes"),
        (lambda s: cfx.data.intervene(s, hair="bald"), "hair"),
        (lambda s: cfx.data.intervene(s, age="old"), "changes"),
        (lambda s: cfx.data.intervene(s.images, hair="red"), "figures"),
        (lambda s: cfx.data.render_sprites(s.factors.drop(columns="eyes")), "eyes"),
        (lambda s: cfx.data.layer_mask(s.factors, "direction"), "layer"),
    ],
)
def test_wrong_calls_name_the_argument(figures, call, named):
    with pytest.raises((ValueError, TypeError), match=named) as error:
        call(figures)
    assert "expected" in str(error.value)
    assert "got" in str(error.value)


def test_a_damaged_sheet_is_a_clear_error(tmp_path, monkeypatch):
    shutil.copytree(paths.data() / "sprites", tmp_path / "data" / "sprites")
    shutil.copy(paths.data() / "MANIFEST.json", tmp_path / "data")
    monkeypatch.setenv("CFXNB_HOME", str(tmp_path))
    sheet = tmp_path / "data" / "sprites" / "hair" / "3.png"
    sheet.write_bytes(sheet.read_bytes()[:2000])
    lpc._layer.cache_clear()
    try:
        with pytest.raises(cfx.data.DamagedFileError, match=r"sprites/hair/3\.png.*truncated"):
            cfx.data.sprites(n_samples=2)
    finally:
        lpc._layer.cache_clear()
