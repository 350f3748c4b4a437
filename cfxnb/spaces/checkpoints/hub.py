"""Folders of models from the Hugging Face hub.

The library of the hub tries five times, for half a minute, when there is no connection. Here one
short request comes first: if it fails, only the cache on this machine is searched.
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
    problem = unreachable()
    with _cache_alone() if problem else contextlib.nullcontext():
        try:
            return Path(remote(name, revision=revision, allow_patterns=patterns))
        except Exception as error:  # many kinds: no connection, no such model, no permission
            told = f"{type(error).__name__}: {problem or cause(error)}"
            raise ConnectionError(told) from None


def unreachable(seconds: float = PATIENCE) -> str | None:
    """Return why the hub can't be reached, or None if it answers.

    None, too, if the library is told to stay offline: it then says so itself, without waiting.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return None
    found: list[str | None] = []
    look = threading.Thread(
        target=lambda: found.append(_problem(constants.ENDPOINT, seconds)), daemon=True
    )
    look.start()
    look.join(seconds)  # looking up a name has no time limit of its own
    told = found[0] if found else f"no answer within {seconds:g} s"
    return told and f"{constants.ENDPOINT} can't be reached ({told})"


def _problem(address: str, seconds: float) -> str | None:
    try:
        request = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(request, timeout=seconds):
            return None
    except urllib.error.HTTPError as error:  # an answer, though not the one that was asked for
        error.close()
        return f"it answers with the error {error.code}" if error.code >= 500 else None
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
