"""The workbench in a browser: in JupyterLab, and as a page, with the keyboard alone."""

import re
import sys

import nbformat
import pytest
from browsing import ROOT, SECONDS, WAIT, free_port, served
from PIL import Image

NOTEBOOK = "workbench.ipynb"
CODE = """\
import cfxnb as cfx

space, f, judge = (cfx.load(f"digits/{name}") for name in ("vae", "classifier", "judge"))
images = cfx.data.digits("test").images[:20]
cfx.workbench(space, f, images, judge=judge)
"""

pytestmark = pytest.mark.timeout(SECONDS)


@pytest.fixture
def course(tmp_path):
    """A folder with one notebook, which makes a workbench."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)"}
    nbformat.write(book, folder / NOTEBOOK)
    return folder


@pytest.fixture
def picture_file(tmp_path):
    """An image file of a person."""
    Image.new("L", (40, 40), 200).save(tmp_path / "mine.png")
    return tmp_path / "mine.png"


def drop(page, place, file):
    """Drop a file on a place of the page, as a mouse does."""
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    mouse = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    for kind in ("dragEnter", "dragOver", "drop"):
        mouse.send("Input.dispatchDragEvent", {"type": kind, **where, "data": data})


def try_methods(page, shot, picture_file):
    """Change target and option, run, keep, run another method, compare, and drop a file."""
    from playwright.sync_api import expect

    expect.set_options(timeout=WAIT)
    run = page.get_by_role("button", name="Run", exact=True)
    run.wait_for()
    page.get_by_label("target").focus()
    page.keyboard.press("3")  # a list goes to the entry that begins with the key
    steps = page.get_by_label("steps", exact=True)
    steps.focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("30")
    page.keyboard.press("Tab")
    status = page.get_by_role("status")
    for method in ("latent_attack", "pixel_attack"):
        page.get_by_label("method").select_option(method)
        run.focus()
        page.keyboard.press("Enter")
        expect(status).to_have_text(re.compile(f"{method}: 1 of 1 flipped"))
        keep = page.get_by_role("button", name="Keep", exact=True)
        expect(keep).to_be_enabled()
        keep.focus()
        page.keyboard.press("Enter")
        expect(status).to_have_text(re.compile("kept as run_"))
    for name in ("Compare", "Show code"):
        page.get_by_role("button", name=name, exact=True).focus()
        page.keyboard.press("Enter")
    both = page.get_by_alt_text("Counterfactuals of run_1, run_2, one row per run")
    expect(both).to_be_visible()
    code = page.get_by_label("code", exact=True)
    expect(code).to_have_value(re.compile("run_1 = cfx.latent_attack.*'3'"))
    pictures = page.locator("img[src^='data:image/png']").all()
    assert len(pictures) >= 3
    assert all(picture.get_attribute("alt") for picture in pictures)
    page.get_by_label("goal", exact=True).select_option("probability at least")
    value = page.get_by_label("goal value")
    value.fill("0.8")
    value.press("Tab")
    page.get_by_label("method").select_option("latent_attack")
    run.focus()
    page.keyboard.press("Enter")
    expect(status).to_have_text(re.compile("latent_attack: 1 of 1 flipped"))
    expect(page.get_by_text("probability after")).to_be_visible()
    drop(page, page.get_by_text("or drop an image file here"), picture_file)
    expect(page.locator(".widget-readout").first).to_have_text("20")  # the image slider
    shot.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=shot, full_page=True)


def test_in_jupyterlab(page, lab, picture_file):
    page.goto(lab.replace("/?", f"/lab/tree/{NOTEBOOK}?"))
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    try_methods(page, ROOT / "build" / "browser" / "workbench_lab.png", picture_file)


def test_as_a_page(page, course, tmp_path, picture_file):
    pytest.importorskip("voila")
    port = free_port()
    base = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-m", "voila", NOTEBOOK, "--no-browser", f"--port={port}"]
    with served(command, course, tmp_path / "voila.log", f"{base}static/"):
        page.goto(base)
        try_methods(page, ROOT / "build" / "browser" / "workbench_page.png", picture_file)
