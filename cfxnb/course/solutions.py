"""Write the modules of ``cfxnb.solutions`` from the sources of the notebooks."""

import ast
import re
from pathlib import Path
from typing import Any

from cfxnb.core import locations as paths

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
PIECE = re.compile(r"""cfx\.course\.piece\(\s*["']nb(\d+)\.(\w+)["']""")
DEFINITION = ast.FunctionDef | ast.ClassDef


def pieces(book: Any) -> list[str]:
    """Return the names of the exercises on which other cells build by ``cfx.course.piece``."""
    text = "\n".join(cell.source for cell in book.cells if cell.cell_type == "code")
    return list(dict.fromkeys(name for _, name in PIECE.findall(text)))


def solution_module(book: Any, stem: str) -> str:
    """Return the source of the module with the solutions of a notebook.

    The module holds the functions that ``cfx.course.piece`` names, the functions of exercises that
    they call, and the imports of the notebook that they need.

    Raises:
        ValueError: If ``cfx.course.piece`` names no function of an exercise.
    """
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    trees = [ast.parse(_without_magics(cell.source)) for cell in cells]
    definitions: dict[str, str] = {}
    for cell, tree in zip(cells, trees, strict=True):
        if "exercise" in cell.metadata.get("tags", []):
            for node in tree.body:
                if isinstance(node, DEFINITION):
                    definitions[node.name] = _lines(cell.source, node)
    wanted = pieces(book)
    if missing := [name for name in wanted if name not in definitions]:
        raise ValueError(f"{stem}: piece names {missing[0]!r}, which no exercise defines")
    needed = set(wanted)
    while more := {n for d in needed for n in _names(definitions[d])} & definitions.keys() - needed:
        needed |= more
    used = {name for definition in needed for name in _names(definitions[definition])}
    imports = [line for tree in trees for line in _imports(tree, used)]
    head = f'"""Solutions of {stem}, written by ``python -m cfxnb.build learner``."""'
    head += "\n\n# ruff: noqa: I001"
    parts = [head, "\n".join(dict.fromkeys(imports))]
    parts += [definitions[name] for name in definitions if name in needed]
    return "\n\n\n".join(part for part in parts if part).replace("I001\n\n\n", "I001\n", 1) + "\n"


def write_solution_module(book: Any, source: Path) -> None:
    """Write the module of a notebook that builds on its exercises."""
    if pieces(book):
        path = paths.root() / "cfxnb" / "solutions" / f"nb{source.stem[:2]}.py"
        path.write_text(solution_module(book, source.stem), encoding="utf-8")


def _without_magics(source: str) -> str:
    return "\n".join("" if line.startswith(("%", "!")) else line for line in source.split("\n"))


def _lines(source: str, node: Any) -> str:
    """Return the lines of a definition, with its decorators, without the marks of solutions."""
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    lines = source.split("\n")[first - 1 : node.end_lineno]
    # The mark of the end comes after the last statement of the function.
    return "\n".join(line for line in lines if line.strip() not in (BEGIN, END))


def _names(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


def _imports(tree: ast.Module, used: set[str]) -> list[str]:
    """Return the import statements of a cell that bind one of the used names."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [a for a in node.names if (a.asname or a.name).split(".")[0] in used]
            if node.names:
                found.append(ast.unparse(node))
    return found
