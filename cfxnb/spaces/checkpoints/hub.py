"""Download models from the Hugging Face hub.

Without a connection, the library ``huggingface_hub`` retries a download five times, which takes
half a minute. Before a download, we therefore send one request to the hub. If the request fails, we
look for the model only in the cache on this machine.
"""

import contextlib
import http.client
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cfxnb.core.disk import cause

TOO_MANY = 429  # HTTP status "too many requests"
TIMEOUT = 5.0  # seconds until a hub that doesn't answer counts as unreachable


def download(
    name: str, revision: str, patterns: list[str], remote: Callable[..., Any] | None = None
) -> Path:
    """Return the folder of a model from the cache or from the hub.

    Args:
        name: ``owner/name``.
        revision: hash of a commit, 40 digits.
        patterns: patterns of the files to download, such as ``unet/*.json``.
        remote: function that downloads. Default: ``huggingface_hub.snapshot_download``.

    Raises:
        ConnectionError: if the model is not in the cache, and the hub can't be reached or has no
            such model. The error message gives the reason.
    """
    if remote is None:
        from huggingface_hub import snapshot_download

        remote = snapshot_download
    problem = unreachable(f"/api/models/{name}/revision/{revision}")
    with _cache_alone() if problem else contextlib.nullcontext():
        try:
            return Path(remote(name, revision=revision, allow_patterns=patterns))
        except Exception as error:  # many kinds: no connection, no such model, no permission
            text = f"{type(error).__name__}: {problem or cause(error)}"
            raise ConnectionError(text) from None


def unreachable(page: str = "", seconds: float = TIMEOUT) -> str | None:
    """Return the reason why the hub can't be reached, or None if the hub answers.

    The function also returns None in offline mode, in which ``huggingface_hub`` itself raises an
    error.

    Args:
        page: path that is appended to the address of the hub.
        seconds: timeout.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return None
    found: list[str | None] = []
    request = threading.Thread(
        target=lambda: found.append(_problem(constants.ENDPOINT + page, seconds)), daemon=True
    )
    request.start()
    request.join(seconds)  # the DNS lookup has no timeout
    text = found[0] if found else f"no answer within {seconds:g} s"
    return text and f"{constants.ENDPOINT} can't be reached ({text})"


def _problem(address: str, seconds: float) -> str | None:
    from huggingface_hub import get_token

    try:
        with urllib.request.urlopen(address, timeout=seconds):
            return None
    except urllib.error.HTTPError as error:  # the hub answers
        error.close()
        # This request is anonymous. With a token, the library may send more requests.
        busy = error.code == TOO_MANY and get_token() is None
        return f"it answers with the error {error.code}" if busy or error.code >= 500 else None
    except urllib.error.URLError as error:
        # The library may accept certificates that Python doesn't.
        trusted = isinstance(error.reason, ssl.SSLCertVerificationError)
        return None if trusted else cause(OSError(str(error.reason)))
    except (OSError, ValueError, http.client.HTTPException) as error:
        return cause(error)


@contextlib.contextmanager
def _cache_alone() -> Iterator[None]:
    """Return a context in which ``huggingface_hub`` uses only its cache, as if offline."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
