"""The rows of a benchmark: what was measured, what must be reached, and the verdict.

With ``--write`` a whole run replaces its part of ``docs/results.md``, so that no figure there is
typed by hand.
"""

import argparse
import datetime
import math
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results.md"


def arguments(name: str, doc: str | None) -> argparse.ArgumentParser:
    """The command line of one benchmark, with what all of them take."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc)
    parser.add_argument("--write", action="store_true", help="replace its part of docs/results.md")
    return parser


class Rows:
    """What one run measured, printed as it comes, and kept for the page of results.

    Args:
        name: of the benchmark.
        setting: what was measured on, in a sentence.
        write: whether to put the run into ``docs/results.md`` at the end.
    """

    def __init__(self, name: str, setting: str, write: bool = False) -> None:
        self.name, self.setting, self.write = name, setting, write
        self.short = 0
        self.parts: list[str] = []  # of the page, in Markdown
        self.lines: list[list[str]] = []  # of the list of rows that is being filled

    def section(self, title: str) -> None:
        """What follows is about this."""
        print(f"\n== {title}", flush=True)
        self._close_list()
        self.parts.append(f"### {title}")

    def add(self, name: str, value: float, bound: float, *, most: bool = False) -> None:
        """One row; it falls short unless value >= bound (<= bound with ``most``)."""
        reached = not math.isnan(value) and (value <= bound if most else value >= bound)
        self.short += not reached
        self._row(
            name, value, f"{'<=' if most else '>='} {bound:.4g}", "ok" if reached else "FALLS SHORT"
        )

    def say(self, name: str, value: float) -> None:
        """One row without a bound."""
        self._row(name, value, "", "reported")

    def table(self, title: str, table: pd.DataFrame | pd.Series, digits: int = 3) -> None:
        """A table of figures."""
        frame = table.to_frame("value") if isinstance(table, pd.Series) else table
        print(f"{title}\n{frame.round(digits).to_string()}\n", flush=True)
        self._close_list()
        head = ["", *map(str, frame.columns)]
        body = [[str(name), *map(_figure, row)] for name, row in zip(frame.index, frame.to_numpy(),
                                                                     strict=True)]  # fmt: skip
        self.parts.append(f"{title}:\n\n{_markdown([head, *body])}")

    def tests(self, name: str, files: Sequence[str]) -> None:
        """One row for tests that must pass; in a process of their own, as pytest wants it."""
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", *files]
        code = subprocess.run(command, check=False).returncode
        self.add(f"{name}: exit code of the tests", code, 0, most=True)

    def close(self) -> int:
        """The exit code; the page is written if that was asked for."""
        verdict = "Every row is reached." if not self.short else f"{self.short} rows fall short."
        print(verdict)
        self._close_list()
        if self.write:
            began, ended = f"<!-- {self.name} -->", f"<!-- end of {self.name} -->"
            machine = f"{_commit()}{platform.machine()}, torch {torch.__version__.split('+')[0]}"
            head = (
                f"## {self.name.capitalize()}\n\n{self.setting} Measured by "
                f"`python -m benchmarks.{self.name} --write`, in one run, on "
                f"{datetime.date.today().isoformat()} ({machine}, "
                f"{torch.get_num_threads()} threads). {verdict}"
            )
            part = "\n\n".join([began, head, *self.parts, ended])
            page = RESULTS.read_text(encoding="utf-8")
            pattern = re.compile(re.escape(began) + ".*?" + re.escape(ended), re.DOTALL)
            if not pattern.search(page):
                raise ValueError(f"{RESULTS}: expected a part between {began} and {ended}")
            RESULTS.write_text(pattern.sub(lambda _: part, page), encoding="utf-8")
        return int(self.short > 0)

    def _row(self, name: str, value: float, bound: str, verdict: str) -> None:
        print(f"{name:<68} {value:>10.4g}   {bound:<11} {verdict}", flush=True)
        self.lines.append([name, f"{value:.4g}", bound, verdict])

    def _close_list(self) -> None:
        if self.lines:
            head = ["measured", "value", "must be", ""]
            self.parts.append(_markdown([head, *self.lines]))
        self.lines = []


def _commit() -> str:
    """The commit that was measured, for the page; nothing outside of a clone."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    return f"commit {done.stdout.strip()}, " if done.returncode == 0 else ""


def _figure(value: object) -> str:
    """A cell of a table: a number with four digits, nothing where there is none."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, whose first line is its head."""
    head, *body = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *body])
