"""Where the notebooks are."""

from cfxnb import build, paths

SOURCES = {path.stem: path for path in build.sources()}
FOLDER = paths.root() / "notebooks"
