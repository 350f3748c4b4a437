"""A JupyterLab server, and a browser that calls nobody else."""

import shlex
import shutil
import sys

import pytest
from browsing import CHROMIUM, ROOT, TOKEN, WAIT, free_port, missing, served


@pytest.fixture
def lab(course, tmp_path):
    """Address that ``make lab`` opens, in the folder above ``course``."""
    port = free_port()
    command = ["make", "-f", str(ROOT / "Makefile"), "--old-file=.venv/installed", "lab"]
    command += [f"RUN={shlex.quote(sys.executable)}", f"PORT={port}"]
    command += [f"LAB_OPTIONS=--no-browser --IdentityProvider.token={TOKEN}"]
    base = f"http://127.0.0.1:{port}"
    status = f"{base}/api/status?token={TOKEN}"
    with served(command, course.parent, tmp_path / "lab.log", status):
        yield f"{base}/?token={TOKEN}"


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
