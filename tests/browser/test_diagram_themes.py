"""A diagram in JupyterLab: readable in the light and in the dark theme, also without trust."""

import io

import nbformat
import pytest
from browsing import SECONDS, WAIT
from PIL import Image

import cfxnb as cfx
from cfxnb.course.build import KERNEL
from cfxnb.plots.diagrams.canvas import COLOURS

pytestmark = pytest.mark.timeout(SECONDS)


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder with a notebook whose output comes from somewhere else: JupyterLab cleans it."""
    data, metadata = cfx.diagram("consensus")._repr_mimebundle_()
    output = nbformat.v4.new_output("display_data", data, metadata=metadata)
    book = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL})
    cell = nbformat.v4.new_code_cell("import cfxnb as cfx\ncfx.diagram('consensus')")
    cell.outputs = [output]
    book.cells = [cell]
    monkeypatch.setenv("JUPYTERLAB_SETTINGS_DIR", str(tmp_path / "settings"))  # the theme is kept
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(book, folder / "00_welcome.ipynb")
    return folder


def blue_of(picture):
    """Number of pixels in the blue of light pages, and in that of dark pages."""
    shot = Image.open(io.BytesIO(picture.screenshot())).convert("RGB")
    counts = dict.fromkeys(COLOURS["blue"], 0)
    for count, pixel in shot.getcolors(shot.width * shot.height):
        for colour in counts:
            wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
            if max(abs(a - b) for a, b in zip(pixel, wanted, strict=True)) <= 3:
                counts[colour] += count
    return tuple(counts.values())


def test_the_diagram_follows_the_theme(page, lab):
    from playwright.sync_api import expect

    expect.set_options(timeout=WAIT)
    page.emulate_media(color_scheme="light")
    page.goto(lab)
    picture = page.locator(".jp-OutputArea-output img")
    expect(picture).to_be_visible()
    # Kept from elsewhere, not yet run: JupyterLab removes styles, and the picture stays.
    assert picture.get_attribute("alt") == cfx.diagram("consensus").alt
    light, dark = blue_of(picture)
    assert light > 3 * dark

    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    page.locator(".jp-InputArea-prompt", has_text="[1]").first.wait_for()
    for name, dark_theme in (("JupyterLab Dark", True), ("JupyterLab Light", False)):
        page.get_by_role("menuitem", name="Settings", exact=True).click()
        page.get_by_text("Theme", exact=True).click()
        page.get_by_text(name, exact=True).click()
        flag = "false" if dark_theme else "true"
        page.locator(f"body[data-jp-theme-light='{flag}']").wait_for(state="attached")
        expect(picture).to_have_css("color-scheme", "dark" if dark_theme else "light")
        page.wait_for_timeout(500)
        light, dark = blue_of(picture)
        one, other = (dark, light) if dark_theme else (light, dark)
        assert one > 3 * other, name
