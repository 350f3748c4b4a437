"""Where data, weights and outputs live, whatever the working directory is."""

import os
from pathlib import Path

from cfxnb.core.disk import given_path


def root() -> Path:
    """The project's folder: the one that holds ``data/`` and ``notebooks/``.

    ``CFXNB_HOME`` overrides it, for an installation away from the clone; ``~`` in it stands for the
    home folder.
    """
    named = os.environ.get("CFXNB_HOME")
    return given_path(named, name="CFXNB_HOME") if named else Path(__file__).resolve().parents[2]


def data() -> Path:
    return root() / "data"


def weights() -> Path:
    return data() / "weights"


def runs() -> Path:
    """Checkpoints of unfinished training runs; not under version control."""
    return root() / "runs"
