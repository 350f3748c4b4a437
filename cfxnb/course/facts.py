"""Count what authors of a notebook want to know: exercises, lines, pieces, open tasks."""

import ast
import re
from pathlib import Path
from typing import Any

import pandas as pd

from cfxnb.course.build import read_source
from cfxnb.course.solutions import BEGIN, END, pieces

MINUTES = re.compile(r"^\*(Easy|Medium|Hard), (\d+) minutes\.\*", re.MULTILINE)
HARD_MINUTES = 15


def facts(book: Any) -> dict[str, Any]:
    """Return counts of a notebook with solutions.

    Lines are lines of code: without blank lines, comments and docstrings. "share" is the fraction
    of all lines that learners write.
    """
    cells = [c for c in book.cells if c.cell_type == "code"]
    cells = [c for c in cells if "solution-only" not in c.metadata.get("tags", [])]
    exercises = [c for c in cells if "exercise" in c.metadata.get("tags", [])]
    defined = [names_of_exercise(cell) for cell in exercises]
    used = [names for names in defined if names & used_later(book, names)]
    minutes = [int(n) for c in book.cells for _, n in MINUTES.findall(c.source)]
    learner = sum(count_lines(region) for cell in cells for region in regions(cell.source))
    lines = sum(count_lines(cell.source) for cell in cells)
    hidden = sum(count_lines(cell.source) for cell in cells if _is_hidden(cell))
    return {
        "exercises": len(exercises),
        "used later": len(used),
        "pieces": len(pieces(book)),
        "hard": sum(n >= HARD_MINUTES for n in minutes),
        "open tasks": sum("open-task" in c.metadata.get("tags", []) for c in book.cells),
        "learner lines": learner,
        "lines": lines,
        "hidden lines": hidden,
        "share": learner / max(lines, 1),
    }


def table(sources: list[Path]) -> pd.DataFrame:
    """Return the counts of several notebooks, one row per notebook."""
    rows = {path.stem: facts(read_source(path)) for path in sources}
    return pd.DataFrame.from_dict(rows, orient="index")


def _is_hidden(cell: Any) -> bool:
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden", False))


def regions(source: str) -> list[str]:
    """Return the marked solutions of a cell."""
    return [part.split(END)[0] for part in source.split(BEGIN)[1:]]


def count_lines(source: str) -> int:
    """Return the number of lines of code, without blank lines, comments and docstrings."""
    lines = [line.strip() for line in source.split("\n")]
    text = re.sub(r'""".*?"""', "", "\n".join(lines), flags=re.DOTALL)
    return sum(bool(line) and not line.startswith("#") for line in text.split("\n"))


def names_of_exercise(cell: Any) -> set[str]:
    """Return the names that an exercise defines."""
    names: set[str] = set()
    for node in ast.parse(cell.source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            stored = (n for n in ast.walk(node) if isinstance(n, ast.Name))
            names |= {n.id for n in stored if isinstance(n.ctx, ast.Store)}
    return names


def used_later(book: Any, names: set[str]) -> set[str]:
    """Return which names are used outside of their exercise, its check, and ``piece``."""
    found: set[str] = set()
    for cell in book.cells:
        if cell.cell_type != "code" or "check" in cell.metadata.get("tags", []):
            continue
        tree = ast.parse("\n".join(x for x in cell.source.split("\n") if x[:1] not in ("%", "!")))
        own = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        if "exercise" in cell.metadata.get("tags", []) and names & own:
            continue
        inside = {id(n) for call in ast.walk(tree) if _is_piece(call) for n in ast.walk(call)}
        loaded = (n for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in inside)
        found |= {n.id for n in loaded if isinstance(n.ctx, ast.Load)}
    return names & found


def _is_piece(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "cfx.course.piece"
