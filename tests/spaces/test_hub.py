"""The hub: what can't be reached is told soon, and with the cause."""

import contextlib
import http.server
import socket
import threading
import time

import pytest
from huggingface_hub import constants

from cfxnb.spaces import load_ldm, load_stable_diffusion
from cfxnb.spaces.checkpoints import hub

pytestmark = pytest.mark.filterwarnings("ignore:null_class. the last of")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(http.server.BaseHTTPRequestHandler):
    status = 200

    front = None

    def do_HEAD(self):
        self.send_response(self.status if self.path != "/" else self.front or self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(status, front=None):
    """The address of a hub that answers with one status, and perhaps another at its front page."""
    handler = type("Handler", (Server,), {"status": status, "front": front})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def silent():
    """The address of one that takes calls and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def closed():
    """The address of a machine that refuses calls."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.mark.parametrize("status", [200, 301, 401, 404, 405])
def test_any_answer_will_do(monkeypatch, status):
    with serving(status) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        assert hub.unreachable() is None


def test_what_does_not_answer(monkeypatch):
    with serving(503) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        assert hub.unreachable() == f"{address} can't be reached (it answers with the error 503)"
    with silent() as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        began = time.perf_counter()
        assert hub.unreachable(seconds=0.3).startswith(f"{address} can't be reached (")
        assert time.perf_counter() - began < 10  # 0.3 on a machine that has nothing else to do
    for address, told in ((closed(), "refused"), ("nonsense", "unknown url"), ("http://", "")):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        assert told in hub.unreachable()


@pytest.mark.parametrize("load", [load_ldm, load_stable_diffusion])
def test_without_a_connection(monkeypatch, tmp_path, load):
    """The library alone tries for half a minute."""
    address = closed()
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(ValueError, match=rf"^path: expected .*'owner/model' at {COMMIT}") as caught:
        load("owner/model", revision=COMMIT, device="cpu")
    assert sum(slept) < 2
    assert f"{address} can't be reached" in str(caught.value)
    assert "refused" in str(caught.value)
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_whose_front_page_alone_answers(monkeypatch, tmp_path, status):
    with serving(status, front=200) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
        slept = []
        monkeypatch.setattr(time, "sleep", slept.append)
        with pytest.raises(ValueError, match=f"^path: expected .*answers with the error {status}"):
            load_ldm("owner/model", revision=COMMIT, device="cpu")
    assert sum(slept) < 2


def test_somebody_who_is_known_may_ask_more_often(monkeypatch):
    with serving(429) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        for token, reached in ((None, False), ("token", True)):
            monkeypatch.setattr("huggingface_hub.get_token", lambda token=token: token)
            assert (hub.unreachable() is None) == reached


def test_the_cache_is_used_without_a_connection(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "ENDPOINT", closed())
    seen = []

    def download(name, revision, allow_patterns):
        seen.append(constants.HF_HUB_OFFLINE)
        return str(tmp_path)

    assert hub.download("owner/model", COMMIT, ["a"], download) == tmp_path
    with serving(200) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        hub.download("owner/model", COMMIT, ["a"], download)
    assert seen == [True, False]
    assert constants.HF_HUB_OFFLINE is False


def test_a_hub_that_is_switched_off(monkeypatch, tmp_path):
    """Nothing is asked then, not even whether it is there."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(ValueError, match=r"^path: expected .*HF_HUB_OFFLINE|LocalEntryNotFound"):
        load_ldm("owner/model", revision=COMMIT, device="cpu")
    assert constants.HF_HUB_OFFLINE is True


def test_a_model_that_is_not_there(monkeypatch):
    def download(*_, **__):
        raise FileNotFoundError("404 Client Error, and much more" + " more" * 500)

    with serving(200) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        with pytest.raises(ConnectionError, match=r"^FileNotFoundError: 404 Client") as caught:
            hub.download("owner/model", COMMIT, ["a"], download)
    assert len(str(caught.value)) < 300
