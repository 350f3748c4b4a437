"""Build notebooks from their sources: ``python -m cfxnb.build notebooks | learner | course``.

Each file in ``notebooks/sources`` is a notebook with solutions, written as a Python file (percent
format of jupytext). Two notebooks are built from each source file: one for learners, without
solutions, and an executed one with solutions. Solutions are marked as in nbgrader, so that
instructors can use nbgrader. The lines of a solution stand between the marks ``### BEGIN SOLUTION``
and ``### END SOLUTION``. Cells that are only a solution have the tag ``solution-only``. Exercises
that later cells use (``cfx.course.piece``) are also written to ``cfxnb/solutions``.
"""

import copy
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cfxnb.core import locations as paths
from cfxnb.course.solutions import BEGIN, END, write_solution_module

STUB = ("# YOUR CODE HERE", "raise NotImplementedError()")
WIDGET = "application/vnd.jupyter.widget-view+json"
# Hides a warning on encryption, which a local kernel doesn't need.
QUIET = ["--IPKernelApp.log_level=ERROR"]
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def sources(names: Sequence[str] = ()) -> list[Path]:
    """Return the source files of some notebooks, given numbers such as "02". Default: all.

    Raises:
        ValueError: if a number is unknown.
    """
    every = sorted((paths.root() / "notebooks" / "sources").glob("[0-9]*.py"))
    known = [path.stem[:2] for path in every]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"names: expected some of {known}, got {unknown}")
    return [path for path in every if not names or path.stem[:2] in names]


def read_source(path: Path) -> Any:
    """Read a notebook with solutions from its source file, without executing the notebook.

    The id of a cell depends only on the position of the cell.
    """
    import jupytext

    book = jupytext.read(path)
    for number, cell in enumerate(book.cells):
        cell["id"] = f"{path.stem[:2]}-{number:03d}"
    book.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    book.nbformat, book.nbformat_minor = 4, 5
    return book


def solution(path: Path) -> Any:
    """Return a notebook with solutions, not executed, with links to docs that fit its folder."""
    book = read_source(path)
    for cell in book.cells:
        cell.source = cell.source.replace("](../docs/", "](../../docs/")
    return book


def learner(book: Any) -> Any:
    """Return a copy of a notebook in which stubs replace the solutions, without outputs."""
    book = copy.deepcopy(book)
    book.cells = [c for c in book.cells if "solution-only" not in c.metadata.get("tags", [])]
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.source = cut_solutions(cell.source)
            cell.outputs, cell.execution_count = [], None
    return book


def cut_solutions(source: str) -> str:
    """Replace each marked solution by a stub with the same indentation.

    Raises:
        ValueError: if a mark ``### BEGIN SOLUTION`` or ``### END SOLUTION`` has no partner.
    """

    def stub(solution: re.Match) -> str:
        return "\n".join(solution["indent"] + line for line in STUB)

    region = rf"^(?P<indent>[ \t]*){BEGIN}[ \t]*$.*?^[ \t]*{END}[ \t]*$"
    cut, n_cut = re.subn(region, stub, source, flags=re.DOTALL | re.MULTILINE)
    if not source.count(BEGIN) == source.count(END) == n_cut:
        raise ValueError(f"'{BEGIN}' and '{END}' do not form pairs in:\n{source}")
    return cut


def execute(book: Any, timeout: int = 300) -> Any:
    """Run all cells of a notebook in a new kernel, and stop at the first exception.

    The outputs of widgets are removed, because a page without a kernel can't show widgets. The
    static picture that each widget draws remains.
    """
    from nbclient import NotebookClient

    client = NotebookClient(
        book,
        timeout=timeout,
        kernel_name="python3",
        store_widget_state=False,
        extra_arguments=QUIET,
        resources={"metadata": {"path": str(paths.root() / "notebooks")}},
    )
    client.execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if WIDGET not in o.get("data", {})]
            for output in cell.outputs:
                _keep_one_picture(output)
    return book


def _keep_one_picture(output: Any) -> None:
    """Remove the HTML of a Picture from an output, and keep its PNG, which every page can show."""
    data = output.get("data", {})
    if "image/png" in data and data.get("text/html", "").startswith(("<img ", "<div class='cfx-")):
        del data["text/html"]


def write(book: Any, path: Path) -> None:
    import nbformat

    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)


def build_learner(names: Sequence[str] = ()) -> None:
    for source in sources(names):
        book = read_source(source)
        write_solution_module(book, source)
        write(learner(book), paths.root() / "notebooks" / f"{source.stem}.ipynb")


def research_sources() -> list[Path]:
    """Return the source files of the templates for researchers, which lie beside the notebooks."""
    return sorted((paths.root() / "notebooks" / "research").glob("*.py"))


def build_research() -> None:
    """Write the templates for researchers as notebooks, not executed."""
    for source in research_sources():
        write(read_source(source), source.with_suffix(".ipynb"))


def build_notebooks(names: Sequence[str] = ()) -> None:
    build_learner(names)
    folder = paths.root() / "notebooks" / "solutions"
    for source in sources(names):
        began = time.perf_counter()
        write(execute(solution(source)), folder / f"{source.stem}.ipynb")
        print(f"{source.stem}: {time.perf_counter() - began:.0f} s", flush=True)
