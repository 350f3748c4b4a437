"""The first notebook as a learner meets it: in JupyterLab, in a browser, with the keyboard."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "00_welcome.ipynb"
TOKEN = "test"
SECONDS, WAIT = 240, 150_000  # the machine may be busy; Playwright counts milliseconds
CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

# Tracebacks and warnings: JupyterLab shows both as this type.
ERRORS = "[data-mime-type$='jupyter.stderr']"
# All cells have a number, or one of them has failed, which stops the others.
ENDED = """() => document.querySelector("[data-mime-type$='jupyter.stderr']") ||
    [...document.querySelectorAll(".jp-CodeCell .jp-InputArea-prompt")].every(
        prompt => /\\d/.test(prompt.textContent))"""
PRESSES = 3

pytestmark = pytest.mark.timeout(SECONDS)


def missing(what):
    """Skip, but not where the browser is promised: a test that never runs protects nothing."""
    reason = f"{what} is not installed: the notebook was not tried in a browser"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


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


@pytest.fixture
def lab(course, tmp_path):
    """Address that ``make lab`` opens; the folder it runs in has only the notebook."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["make", "-f", str(ROOT / "Makefile"), "--old-file=.venv/installed", "lab"]
    command += [f"RUN={shlex.quote(sys.executable)}", f"PORT={port}"]
    command += [f"LAB_OPTIONS=--no-browser --IdentityProvider.token={TOKEN}"]
    log = tmp_path / "lab.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            command,
            cwd=course.parent,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that a signal reaches the server behind make
        )
    try:
        began = time.monotonic()
        base = f"http://127.0.0.1:{port}"
        while not answers(f"{base}/api/status?token={TOKEN}"):
            assert server.poll() is None, f"JupyterLab ended:\n{log.read_text()[-3000:]}"
            assert time.monotonic() < began + SECONDS / 2, f"no answer:\n{log.read_text()[-3000:]}"
            time.sleep(0.3)
        yield f"{base}/?token={TOKEN}"
    finally:
        stop(server)


def answers(address):
    try:
        with urllib.request.urlopen(address, timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


def stop(server):
    """Ask the server to end, which ends its kernels; those of a killed one notice and end too."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)


@pytest.fixture
def page():
    """A blank page of a browser that calls nobody."""
    executable = shutil.which("chromium")
    if executable is None:
        missing("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable, args=list(CHROMIUM))
        try:
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.set_default_timeout(WAIT)
            yield page
        finally:
            browser.close()


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
    slider, picture = cell.get_by_role("slider").first, cell.locator(".jp-OutputArea img").first
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
