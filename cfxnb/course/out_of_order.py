"""Say which cell to run first, if a cell uses a name that an earlier cell defines."""

import ast
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from cfxnb.core import locations as paths

UNDEFINED = re.compile(r"name '(\w+)' is not defined")


def install() -> None:
    """Let the running kernel, if there is one, explain names that are not defined yet."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:
        shell.set_custom_exc((NameError,), _show)


def _show(shell: Any, kind: Any, error: Any, trace: Any, tb_offset: int | None = None) -> None:
    """Show the traceback, and below it which cell to run first."""
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
    undefined = UNDEFINED.search(str(error))
    if undefined and (advice := cell_to_run(undefined[1], shell.user_ns.get("In", [""])[-1])):
        print(advice)


def cell_to_run(name: str, failed: str) -> str:
    """Return the advice which cell to run first, or "" if no earlier cell defines the name.

    Args:
        name: The name that is not defined.
        failed: Source of the cell that failed.
    """
    for path in _notebooks():
        cells = _cells(path)
        sources = [source for source, _ in cells]
        # An exercise that the learner has changed is not found. Then every cell counts as earlier.
        own = sources.index(failed.strip()) if failed.strip() in sources else None
        if own is None and os.environ.get("JPY_SESSION_NAME", "").split("/")[-1] != path.name:
            continue
        for source, heading in cells[:own]:
            if name in _defined(source):
                first = next(line for line in source.split("\n") if line and line[0] not in "#\"'@")
                return (
                    f"An earlier cell defines '{name}'. Run that cell first: it stands under "
                    f"'{heading}' and begins with\n    {first}\nTo run all cells above the "
                    "selected one, choose Run > Run All Above Selected Cell."
                )
    return ""


def _notebooks() -> list[Path]:
    """Return the notebooks of the course: first the one that the server says is open."""
    folder = paths.root() / "notebooks"
    opened = os.environ.get("JPY_SESSION_NAME", "").split("/")[-1]
    every = [*sorted(folder.glob("[0-9]*.ipynb")), *sorted(folder.glob("solutions/[0-9]*.ipynb"))]
    return sorted(every, key=lambda path: path.name != opened)


def _cells(path: Path) -> list[tuple[str, str]]:
    """Return source and heading of each code cell of a notebook. An unreadable file has none."""
    try:
        book = json.loads(path.read_text(encoding="utf-8"))
        cells = [(c["cell_type"], "".join(c["source"])) for c in book["cells"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    heading, found = "the title", []
    for kind, source in cells:
        if kind == "code":
            found.append((source.strip(), heading))
        for line in source.split("\n") if kind == "markdown" else ():
            if line.startswith("#"):
                heading = line.lstrip("# ")
    return found


def _defined(source: str) -> set[str]:
    """Return the names that a cell defines at its top level."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return set()
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(a.asname or a.name).split(".")[0] for a in node.names}
        else:
            stored = (n for n in ast.walk(node) if isinstance(n, ast.Name))
            names |= {n.id for n in stored if isinstance(n.ctx, ast.Store)}
    return names
