"""The first notebook as a learner meets it: in JupyterLab, in a browser, with the keyboard."""

import re

import nbformat
import pytest
from browsing import ROOT, SECONDS, WAIT

NOTEBOOK = "00_welcome.ipynb"

# Tracebacks and warnings: JupyterLab shows both as this type.
ERRORS = "[data-mime-type$='jupyter.stderr']"
# All cells have a number, or one of them has failed, which stops the others.
ENDED = """() => document.querySelector("[data-mime-type$='jupyter.stderr']") ||
    [...document.querySelectorAll(".jp-CodeCell .jp-InputArea-prompt")].every(
        prompt => /\\d/.test(prompt.textContent))"""
PRESSES = 3

pytestmark = pytest.mark.timeout(SECONDS)


@pytest.fixture
def course(tmp_path):
    """A folder with the solutions of the first notebook, which run to the end; no outputs."""
    book = nbformat.read(ROOT / "notebooks" / "solutions" / NOTEBOOK, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(book, folder / NOTEBOOK)
    return folder


def test_the_slider_redraws_the_picture_with_arrow_keys(page, lab):
    from playwright.sync_api import expect

    expect.set_options(timeout=WAIT)
    page.goto(lab)
    expect(page).to_have_url(re.compile(rf"/lab/tree/{NOTEBOOK}"))
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    page.wait_for_function(ENDED)
    assert page.locator(ERRORS).all_text_contents() == []

    cell = page.locator(".jp-CodeCell").filter(has=page.get_by_role("slider")).first
    slider, picture = cell.get_by_role("slider").first, cell.locator(".cfx-live img").first
    expect(cell.locator(".cfx-still")).to_be_hidden()  # it is for pages without a kernel
    before, words = picture.get_attribute("src"), picture.get_attribute("alt")
    assert before.startswith("data:image/png")
    slider.focus()
    for _ in range(PRESSES):
        page.keyboard.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuenow", re.compile(rf"^{PRESSES}(\.0)?$"))
    expect(picture).not_to_have_attribute("src", before)
    expect(picture).not_to_have_attribute("alt", words)
    expect(slider).to_be_focused()  # redrawing must not take the keyboard away

    shot = ROOT / "build" / "browser" / "lab.png"
    shot.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=shot, full_page=True)

    assert page.locator(ERRORS).all_text_contents() == []
    pictures = page.locator(".jp-OutputArea-output img").all()
    assert len(pictures) > 1
    assert all(picture.get_attribute("alt") for picture in pictures)


SLIDER = """\
import torch
import cfxnb as cfx

images = torch.linspace(0, 1, 10).view(10, 1, 1, 1).expand(10, 1, 4, 4)
cfx.explore(lambda step: cfx.gallery(images[step][None], [f"step {step}"]), step=(0, 9))
"""


def test_the_slider_survives_a_reload_and_names_the_remedy_after_a_restart(page, lab, course):
    from playwright.sync_api import expect

    expect.set_options(timeout=WAIT)
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SLIDER)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3 (ipykernel)"}
    nbformat.write(book, course / "slider.ipynb")
    page.goto(lab.replace("/?", "/lab/tree/slider.ipynb?"))
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    panel = page.locator(".cfx-live")
    expect(panel.get_by_alt_text("step 0")).to_be_visible()
    page.keyboard.press("ControlOrMeta+s")
    page.wait_for_timeout(1500)

    page.reload()
    expect(panel.get_by_alt_text("step 0")).to_be_visible()
    page.get_by_role("slider").first.focus()
    page.keyboard.press("ArrowRight")
    expect(panel.get_by_alt_text("step 1")).to_be_visible()
    expect(page.locator(".cfx-still")).to_be_hidden()
    page.screenshot(path=ROOT / "build" / "browser" / "reloaded.png")

    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_text("Restart Kernel…", exact=True).click()
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.wait_for_timeout(2000)
    page.screenshot(path=ROOT / "build" / "browser" / "restarted.png")
    told = page.evaluate(
        "getComputedStyle(document.querySelector('.cfx-live'), '::before').content"
    )
    assert "run this cell again" in told
