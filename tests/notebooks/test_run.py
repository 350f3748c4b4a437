"""Every notebook runs: as its solution, compared by nbval, and as the learner finds it."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
from books import FOLDER, SOURCES

from cfxnb.course import build
from cfxnb.course import run as course


def test_solution_runs_with_parameters(name, tmp_path, monkeypatch):
    """Papermill injects the profile; strict checks turn a failed exercise into an error."""
    monkeypatch.setenv("CFXNB_STRICT", "1")
    target = tmp_path / f"{name}.ipynb"
    course.run_one(SOURCES[name], target, "ci")
    executed = nbformat.read(target, as_version=4)
    injected = [c for c in executed.cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert [c.source.strip().split("\n")[-1] for c in injected] == ['profile = "ci"']
    page = target.with_suffix(".html").read_text()
    assert "<img" in page
    assert "No description has been provided" not in page


def test_solution_is_what_nbval_sees(name):
    """Only nbval notices an exception inside a widget; discrete facts are compared."""
    flags = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "300"]
    clean = Path(__file__).with_name("sanitize.cfg")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *flags]
    command += ["--nbval-sanitize-with", str(clean), f"solutions/{name}.ipynb"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_learner_notebook_runs_with_only_the_stubs_failing(name, learner):
    """Nothing stops "Run All": each check says that there is no answer yet, and goes on."""
    book = nbformat.from_dict(learner)
    for cell in book.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = cell.source.replace('"cpu"', '"ci"')
    executed = build.execute(book)
    checks = [c for c in executed.cells if "check" in c.metadata.get("tags", [])]
    told = [c.outputs[0].data["text/plain"] for c in checks]
    assert told
    assert all("no answer yet" in text for text in told), told


def test_course_reports_what_fails(tmp_path, monkeypatch, capsys):
    """One sound and one broken notebook: a line each, a page for the sound one, one failure."""
    monkeypatch.setenv("CFXNB_HOME", str(tmp_path))
    (tmp_path / "notebooks").mkdir()
    head = '# %% tags=["parameters"]\nprofile: str = "cpu"\n\n# %%\n'
    sources = []
    for stem, body in {"00_sound": "print(profile)\n", "01_broken": "raise KeyError(7)\n"}.items():
        sources.append(tmp_path / f"{stem}.py")
        sources[-1].write_text(head + body)
    assert course.run_course(sources, "ci") == 1
    told = capsys.readouterr().out
    assert "[1/2] 00_sound" in told
    assert "KeyError" in told
    assert "1 of 2 notebooks" in told
    assert (tmp_path / "build" / "course" / "00_sound.html").is_file()
    assert os.listdir(tmp_path / "notebooks") == []
