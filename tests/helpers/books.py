"""Where the notebooks are."""

from cfxnb.core import locations as paths
from cfxnb.course import build

SOURCES = {path.stem: path for path in build.sources()}
FOLDER = paths.root() / "notebooks"
