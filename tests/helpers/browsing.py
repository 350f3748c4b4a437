"""Servers and browsers for the tests of what people see."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
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


def missing(what):
    """Skip, but not where the browser is promised: a test that never runs protects nothing."""
    reason = f"{what} is not installed: the notebook was not tried in a browser"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def served(command, folder, log, status):
    """Run a server in a folder until the block ends; ``status`` is an address that it answers."""
    with log.open("w") as out:
        server = subprocess.Popen(
            command,
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that a signal reaches the server behind make
        )
    try:
        began = time.monotonic()
        while not answers(status):
            assert server.poll() is None, f"the server ended:\n{log.read_text()[-3000:]}"
            assert time.monotonic() < began + SECONDS / 2, f"no answer:\n{log.read_text()[-3000:]}"
            time.sleep(0.3)
        yield
    finally:
        stop(server)


def answers(address):
    try:
        with urllib.request.urlopen(address, timeout=5) as reply:
            return reply.status == 200
    except urllib.error.HTTPError:
        return True  # a refusal is an answer: the server is up
    except (urllib.error.URLError, OSError):
        return False


def stop(server):
    """Ask the server to end, which ends its kernels; those of a killed one notice and end too."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
