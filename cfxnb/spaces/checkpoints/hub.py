"""Folders of models from the Hugging Face hub.

The library of the hub tries five times, for half a minute, when there is no connection or when the
hub fails. Here its first request comes first, once: if that fails, only the cache on this machine
is searched.
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

TOO_MANY = 429  # the status of an answer to somebody who asks too often
PATIENCE = 5.0  # seconds until a hub that doesn't answer counts as unreachable


def download(
    name: str, revision: str, patterns: list[str], remote: Callable[..., Any] | None = None
) -> Path:
    """Return the folder of a model, from the cache or from the hub.

    Args:
        name: ``owner/name``.
        revision: the 40 digits of a commit.
        patterns: names of files that are wanted.
        remote: what downloads; by default ``huggingface_hub.snapshot_download``.

    Raises:
        ConnectionError: if it is not in the cache, and the hub can't be reached or has no such
            model; the message says why.
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


def unreachable(page: str = "", seconds: float = PATIENCE) -> str | None:
    """Return why the hub can't be reached, or None if it answers.

    None, too, if the library is told to stay offline: it then says so itself, without waiting.

    Args:
        page: what is asked for, after the address of the hub.
        seconds: how long to wait.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return None
    found: list[str | None] = []
    look = threading.Thread(
        target=lambda: found.append(_problem(constants.ENDPOINT + page, seconds)), daemon=True
    )
    look.start()
    look.join(seconds)  # looking up a name has no time limit of its own
    text = found[0] if found else f"no answer within {seconds:g} s"
    return text and f"{constants.ENDPOINT} can't be reached ({text})"


def _problem(address: str, seconds: float) -> str | None:
    from huggingface_hub import get_token

    try:
        with urllib.request.urlopen(address, timeout=seconds):
            return None
    except urllib.error.HTTPError as error:  # an answer, though not the one that was asked for
        error.close()
        # Who is known to the hub may ask more often than this request, which tells no name.
        busy = error.code == TOO_MANY and get_token() is None
        return f"it answers with the error {error.code}" if busy or error.code >= 500 else None
    except urllib.error.URLError as error:
        # The library may trust certificates that Python doesn't.
        trusted = isinstance(error.reason, ssl.SSLCertVerificationError)
        return None if trusted else cause(OSError(str(error.reason)))
    except (OSError, ValueError, http.client.HTTPException) as error:
        return cause(error)


@contextlib.contextmanager
def _cache_alone() -> Iterator[None]:
    """Let the library look into its cache alone, as under HF_HUB_OFFLINE=1."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
