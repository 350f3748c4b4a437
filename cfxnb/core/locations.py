"""The folders of data, weights and outputs, independent of the working directory."""

import os
from pathlib import Path

from cfxnb.core.disk import given_path


def root() -> Path:
    """Return the project's folder, which holds ``data/`` and ``notebooks/``.

    The environment variable ``CFXNB_HOME`` names another folder, for an installation outside of the
    clone. ``~`` in ``CFXNB_HOME`` stands for the home folder.
    """
    named = os.environ.get("CFXNB_HOME")
    return given_path(named, name="CFXNB_HOME") if named else Path(__file__).resolve().parents[2]


def data() -> Path:
    return root() / "data"


def weights() -> Path:
    return data() / "weights"


def runs() -> Path:
    """Return the folder for checkpoints of unfinished training, which git ignores."""
    return root() / "runs"
