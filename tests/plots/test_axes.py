"""Every plot draws into the axes that it is given, in the style of matplotlib's rcParams."""

import inspect

import good
import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import cfxnb as cfx
from cfxnb.plots.pictures import CYCLE, Picture

FRAME = pd.DataFrame({"mean": [1.0, -0.5], "low": [0.5, -1.0], "high": [1.5, 0.0]}, ["a", "b"])


def shown():
    return good.counterfactuals()[:4]


def strip(axes=None):
    return cfx.edit_strip(
        good.space(), good.classifier(), good.edits(), good.images()[:1], good.factors()[:1],
        axes=axes,
    )  # fmt: skip


#: Plot -> (rows, columns, how it is called with axes).
PLOTS = {
    "bars": (1, 1, lambda ax: cfx.bars(FRAME, null=FRAME - 0.5, alt="bars", ax=ax)),
    "curves": (1, 1, lambda ax: cfx.curves([0, 1], {"a": [0, 1], "b": [1, 0]}, xlabel="x",
                                           ylabel="y", alt="curves", ax=ax)),
    "code_map": (1, 1, lambda ax: cfx.code_map(torch.rand(6, 2), torch.arange(6) % 2, ["a", "b"],
                                               alt="a map", ax=ax)),
    "flip_curves": (
        1, 1, lambda ax: cfx.flip_curves(good.space(), {"g": good.followed()}, ax=ax)
    ),
    "score_bars": (
        1, 1, lambda ax: cfx.score_bars(good.scores(), truth=good.scores(), title="t", ax=ax)
    ),
    "leakage_map": (
        1, 2, lambda ax: cfx.leakage_map({"a": good.scores(), "b": good.scores()}, axes=ax)
    ),
    "gallery": (2, 2, lambda ax: cfx.gallery(good.images()[:3], ["x"] * 3, n_columns=2,
                                             row_labels=["r", "s"], alt="images", axes=ax)),
    "show": (4, 4, lambda ax: cfx.show(shown(), axes=ax)),
    "heat_maps": (3, 2, lambda ax: cfx.heat_maps(good.attribution(), max_images=2, axes=ax)),
    "direction_strip": (
        1, 3, lambda ax: cfx.direction_strip(good.space(), good.classifier(), good.images()[:1],
                                             good.direction(), [-1.0, 1.0], axes=ax)
    ),
    "edit_strip": (1, 4, strip),
    "edit_picture": (
        1, 3, lambda ax: cfx.edit_picture(good.space(), good.classifier(), good.edits(),
                                          good.images()[:1], "up", "yes", axes=ax)
    ),
}  # fmt: skip
CHARTS = ("bars", "curves", "flip_curves", "score_bars")
each_plot = pytest.mark.parametrize("name", PLOTS)


def test_no_plot_is_forgotten():
    plots = {
        name for name in cfx.__all__
        if getattr(getattr(cfx, name), "__module__", "").startswith("cfxnb.plots")
        and inspect.isfunction(getattr(cfx, name))
    }  # fmt: skip
    assert plots - {"as_picture", "diagram"} == set(PLOTS)


def given(rows, columns):
    return Figure(figsize=(8, 8)).subplots(rows, columns)


def content(axes):
    return len(axes.images) + len(axes.lines) + len(axes.collections) + len(axes.patches)


@each_plot
def test_plots_draw_into_axes_and_return_them(name):
    rows, columns, call = PLOTS[name]
    axes = given(rows, columns)
    size = np.ravel(axes)[0].figure.get_size_inches().tolist()
    assert call(axes) is axes
    flat = list(np.ravel(axes))
    if name == "gallery":
        assert not flat.pop().axison, "a place without an image"
    assert all(content(each) for each in flat)
    assert flat[0].figure.get_size_inches().tolist() == size
    assert list(flat[0].figure.axes) == list(np.ravel(axes)), "no axes were added"
    listed = list(np.ravel(given(rows, columns)))
    assert call(listed if len(listed) > 1 else listed[0]) is not None


@each_plot
def test_without_axes_there_is_a_picture(name):
    picture = PLOTS[name][2](None)
    assert isinstance(picture, Picture)
    assert isinstance(picture.figure, Figure)
    assert picture.png.startswith(b"\x89PNG")


@each_plot
def test_other_axes_are_refused(name):
    rows, columns, call = PLOTS[name]
    panels = "one axes" if rows * columns == 1 else f"{rows} x {columns} axes"
    with pytest.raises(ValueError, match=rf"^ax(es)?: expected {panels}, got {rows * columns + 1}"):
        call(given(1, rows * columns + 1))
    for wrong in (Figure(), "here", [1, 2], 3):
        with pytest.raises(TypeError, match=r"^ax(es)?: expected axes of matplotlib"):
            call(wrong)


@each_plot
@pytest.mark.parametrize(
    ("ending", "begins"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("PNG", b"\x89P")]
)
def test_pictures_are_saved(name, ending, begins, tmp_path):
    picture = PLOTS[name][2](None)
    path = picture.save(tmp_path / "new" / f"x.{ending}")
    data = path.read_bytes()
    assert data.startswith(begins)
    if ending == "svg" and name in CHARTS:
        assert b"<image" not in data, "a chart has no pixels"
    assert picture.save(tmp_path / f"again.{ending}").read_bytes() == data or ending == "svg"


def width(path):
    return int.from_bytes(path.read_bytes()[16:20], "big")


def test_dots_per_inch(tmp_path):
    picture = PLOTS["bars"][2](None)
    small, large = (picture.save(tmp_path / f"{dpi}.png", dpi=dpi) for dpi in (50, 200))
    ratio = width(large) / width(small)
    assert 3.8 < ratio < 4.2


def test_a_picture_of_pixels_is_saved_as_pixels(tmp_path):
    picture = Picture(PLOTS["bars"][2](None).png, "bars")
    assert picture.save(tmp_path / "x.png").read_bytes() == picture.png
    for wrong in ({"path": tmp_path / "x.pdf"}, {"path": tmp_path / "x.png", "dpi": 300}):
        with pytest.raises(ValueError, match=r"path: expected a name that ends with \.png"):
            picture.save(**wrong)
    with pytest.raises(ValueError, match="path: expected a name that ends with"):
        PLOTS["bars"][2](None).save(tmp_path / "x.jpg")


@each_plot
def test_the_style_is_the_callers(name):
    """Fonts and colours of texts, and the ground, are those of rcParams."""
    with mpl.style.context("dark_background"), mpl.rc_context({"font.size": 20}):
        figure = PLOTS[name][2](None).figure
        figure.draw_without_rendering()
    texts = [t for t in figure.findobj(mpl.text.Text) if t.get_text().strip() and t.get_visible()]
    assert texts or name == "code_map"
    assert mpl.colors.to_hex(figure.get_facecolor()) == "#000000"
    inside = [t for t in texts if name != "leakage_map" or t.axes is None]
    assert all(mpl.colors.to_hex(t.get_color()) == "#ffffff" for t in inside)
    assert min((t.get_fontsize() for t in texts), default=20) > 10


def test_colours_follow_the_cycle_of_the_caller():
    def colours():
        return [line.get_color() for line in PLOTS["curves"][2](None).figure.axes[0].lines]

    assert colours() == list(CYCLE[:2])
    with mpl.rc_context({"axes.prop_cycle": mpl.cycler(color=["#123456", "lime"])}):
        assert colours() == ["#123456", "#00ff00"]


def test_settings_of_the_caller_win():
    with mpl.rc_context({"legend.fontsize": 17.0, "figure.figsize": (3.0, 2.0)}):
        figure = PLOTS["curves"][2](None).figure
    assert figure.axes[0].get_legend().get_texts()[0].get_fontsize() == 17
    assert figure.get_size_inches().tolist() == [3.0, 2.0]
