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

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "00_welcome.ipynb"
TOKEN = "test"
SECONDS = 240
CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

pytestmark = pytest.mark.timeout(SECONDS + 60)


def missing(what):
    """Skip, but not where the browser is promised: a test that never runs protects nothing."""
    reason = f"{what} is not installed: the notebook was not tried in a browser"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def deadline():
    return time.monotonic() + SECONDS


@pytest.fixture
def course(tmp_path):
    """A folder with the solutions of the first notebook, which run to the end; no outputs."""
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.read(ROOT / "notebooks" / "solutions" / NOTEBOOK, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(book, folder / NOTEBOOK)
    return folder


@pytest.fixture
def lab(course, tmp_path, deadline):
    """Address of the notebook in a JupyterLab started as ``make lab`` does, settings apart."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    apart = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
        "MPLCONFIGDIR": "matplotlib",
    }
    recipe = re.search(r"^lab:.*\n\t(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    options = f"--no-browser --IdentityProvider.token={TOKEN}"
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options += " --allow-root"
    for name, value in (("RUN", "python"), ("PORT", str(port)), ("LAB_OPTIONS", options)):
        recipe = recipe.replace(f"$({name})", value)
    command = [sys.executable, *shlex.split(recipe)[1:]]
    log = tmp_path / "lab.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            command,
            cwd=course.parent,
            env=os.environ | {k: str(tmp_path / v) for k, v in apart.items()},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its kernels die with it, whatever happens
        )
    try:
        base = f"http://127.0.0.1:{port}"
        while not answers(f"{base}/api/status?token={TOKEN}"):
            assert server.poll() is None, f"JupyterLab ended:\n{log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"no answer:\n{log.read_text()[-3000:]}"
            time.sleep(0.3)
        yield f"{base}/lab/tree/{NOTEBOOK}?token={TOKEN}"
    finally:
        stop(server)


def answers(address):
    try:
        with urllib.request.urlopen(address, timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


def stop(server):
    """Ask the server to end, which ends its kernels; then end what is left of its session."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.terminate()
        server.wait(15)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait(15)
