"""The templates for researchers run with other parameters, and are what their sources say."""

import os

import nbformat
import papermill
import pytest
from books import FOLDER

from cfxnb.course import build

RESEARCH = FOLDER / "research"
#: Parameters with which each template takes little time.
SMALL = {
    "own_classifier": {"n_images": 3, "space": "", "output_dir": "page"},
    "own_method": {"n_images": 4, "n_train": 100, "steps": 3},
    "compare_methods": {
        "n_images": 4,
        "seeds": [0],
        "spaces": {"vae": "digits/vae"},
        "methods": ["latent_attack vae", "pixel_attack"],
        "options": {"latent_attack": {"restarts": 0}},
    },
}


def test_each_template_is_known():
    assert {path.stem for path in build.research_sources()} == SMALL.keys()


@pytest.mark.parametrize("name", SMALL)
def test_the_template_is_current(name):
    fresh = build.read_source(RESEARCH / f"{name}.py")
    stored = nbformat.read(RESEARCH / f"{name}.ipynb", as_version=4)
    assert [dict(c) for c in stored.cells] == [dict(c) for c in fresh.cells]


@pytest.mark.parametrize("name", SMALL)
def test_the_template_runs_with_parameters(name, tmp_path, monkeypatch):
    # The kernel works in a folder of its own, and finds the package that is tested.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER.parent), *os.sys.path]))
    papermill.execute_notebook(
        RESEARCH / f"{name}.ipynb",
        tmp_path / "out.ipynb",
        parameters=SMALL[name],
        cwd=str(tmp_path),
        kernel_name="python3",
        progress_bar=False,
        extra_arguments=build.QUIET,
    )
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    outputs = [o for c in executed.cells for o in c.get("outputs", [])]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert pictures
    assert all(len(o.metadata["image/png"]["alt"]) > 20 for o in pictures)
    assert not [o for o in outputs if o.get("name") == "stderr"]
