"""Check the installation. The first cell of every notebook calls ``doctor``."""

import dataclasses
import html
import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import psutil
import torch

from cfxnb.core import locations as paths
from cfxnb.core import validate
from cfxnb.core.disk import kind_of
from cfxnb.course import out_of_order
from cfxnb.data import files

MIN_MEMORY_GB = 2.0
SETUP = "run 'make lab' in the project's folder and open the notebook from there"


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Result of ``doctor``: one line per check with the checked part, the finding and the remedy.

    The remedy of a check that found nothing wrong is "".
    """

    lines: tuple[tuple[str, str, str], ...]

    @property
    def ok(self) -> bool:
        return not any(remedy for _, _, remedy in self.lines)

    def __repr__(self) -> str:
        texts = [
            f"{'✘' if remedy else '✔'} {part}: {found}" + (f". Remedy: {remedy}" if remedy else "")
            for part, found, remedy in self.lines
        ]
        return "\n".join([*texts, self.verdict])

    @property
    def verdict(self) -> str:
        if self.ok:
            return "Everything is in place."
        return "Something needs attention: see the lines marked ✘."

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{'✘' if remedy else '✔'}</td><td>{html.escape(part)}</td>"
            f"<td style='text-align:left'>{html.escape(found)}"
            f"{'<br><b>' + html.escape(remedy) + '</b>' if remedy else ''}</td></tr>"
            for part, found, remedy in self.lines
        )
        return f"<table>{rows}</table><p>{self.verdict}</p>"


def doctor() -> Diagnosis:
    """Check kernel, widgets, torch, memory, data and weights, and suggest remedies.

    In a notebook, ``doctor`` also lets errors about undefined names say which cell to run first.
    """
    out_of_order.install()
    return Diagnosis((_kernel(), _widgets(), _torch(), _memory(), *_files()))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _kernel() -> tuple[str, str, str]:
    found = f"Python {platform.python_version()}, cfxnb {_version('cfxnb') or 'not installed'}"
    own = paths.root() / ".venv"
    if kind_of(own) == "a folder" and Path(sys.prefix).resolve() != own.resolve():
        return "kernel", f"{found}, not from this project's .venv", SETUP
    return "kernel", found, ""


def _widgets() -> tuple[str, str, str]:
    kernel, lab = _version("ipywidgets"), _version("jupyterlab_widgets")
    found = f"ipywidgets {kernel}, jupyterlab_widgets {lab}"
    if kernel is None or lab is None:
        return "widgets", found, f"sliders will not show: {SETUP}"
    if (int(kernel.split(".")[0]), int(lab.split(".")[0])) != (8, 3):
        return "widgets", found, f"the two don't match (8.x goes with 3.x): {SETUP}"
    return "widgets", found, ""


def _torch() -> tuple[str, str, str]:
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    work = f"threads: {threads}, cores: {cores}, device: {validate.device(None)}"
    found = f"torch {torch.__version__}, {work}"
    remedy = f"call torch.set_num_threads({cores}): more threads than cores are slow"
    return "torch", found, remedy if threads > cores else ""


def _memory() -> tuple[str, str, str]:
    free = psutil.virtual_memory().available / 1e9
    low = free < MIN_MEMORY_GB
    remedy = "close other notebooks: right-click one in the file list, Shut Down Kernel"
    return "memory", f"{free:.1f} GB free", remedy if low else ""


def _files() -> list[tuple[str, str, str]]:
    try:
        names = sorted(files.manifest())
    except files.DamagedFileError as error:
        return [("data", str(error), files.REMEDY)]
    problems = [found for name in names if (found := files.problem(name)) is not None]
    if problems:
        return [("data and weights", found, files.REMEDY) for found in problems]
    return [("data and weights", f"{len(names)} files, all checksums right", "")]
