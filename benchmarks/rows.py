"""The rows of a benchmark: what was measured, the bound that must be reached, and the verdict.

With ``--write`` a run replaces its part of ``docs/results.md``, so that no number there is typed.
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
    """Return the command line parser of one benchmark, with the options that all of them have."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc)
    parser.add_argument("--write", action="store_true", help="replace its part of docs/results.md")
    return parser


class Rows:
    """The measurements of one run, printed at once and kept for the page of results.

    Args:
        name: Name of the benchmark.
        setting: Sentence that says what was measured on which data.
        write: Whether to write the run to ``docs/results.md`` at the end.
        command: What was called, without "python -m benchmarks.". Default: the name.
    """

    def __init__(self, name: str, setting: str, write: bool = False, command: str = "") -> None:
        self.name, self.setting, self.write, self.command = name, setting, write, command or name
        self.short, self.bounds, self.runs = 0, 0, "in one run"
        self.parts: list[str] = []  # parts of the page, in Markdown
        self.lines: list[list[str]] = []  # rows of the current list

    def section(self, title: str) -> None:
        """Start a section with this title."""
        print(f"\n== {title}", flush=True)
        self._close_list()
        self.parts.append(f"### {title}")

    def add(self, name: str, value: float, bound: float, *, at_most: bool = False) -> None:
        """Add a row with a bound: it falls short unless value >= bound (<= with ``at_most``)."""
        reached = not math.isnan(value) and (value <= bound if at_most else value >= bound)
        self.short += not reached
        self.bounds += 1
        self._row(
            name,
            value,
            f"{'<=' if at_most else '>='} {bound:.4g}",
            "ok" if reached else "FALLS SHORT",
        )

    def say(self, name: str, value: float) -> None:
        """Add a row without a bound."""
        self._row(name, value, "", "reported")

    def table(self, title: str, table: pd.DataFrame | pd.Series, digits: int = 3) -> None:
        """Add a table of numbers."""
        frame = table.to_frame("value") if isinstance(table, pd.Series) else table
        print(f"{title}\n{frame.round(digits).to_string()}\n", flush=True)
        self._close_list()
        head = ["", *map(str, frame.columns)]
        body = [[str(name), *map(_figure, row)] for name, row in zip(frame.index, frame.to_numpy(),
                                                                     strict=True)]  # fmt: skip
        self.parts.append(f"{title}:\n\n{_markdown([head, *body])}")

    def tests(self, name: str, files: Sequence[str]) -> None:
        """Add a row for tests that must pass. They run in their own process."""
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", *files]
        code = subprocess.run(command, check=False).returncode
        self.add(f"{name}: exit code of the tests", code, 0, at_most=True)

    def close(self) -> int:
        """Write the page if ``--write`` was given, and return the exit code."""
        verdict = "Every row is reached." if not self.short else f"{self.short} rows fall short."
        verdict = verdict if self.bounds else "No row has a bound."
        print(verdict)
        self._close_list()
        if self.write:
            began, ended = f"<!-- {self.name} -->", f"<!-- end of {self.name} -->"
            machine = f"{commit()}, {platform.machine()}, torch {torch.__version__.split('+')[0]}"
            machine = machine.removeprefix(", ")
            title = self.name.replace("_", " ").capitalize()
            head = (
                f"## {title}\n\n{self.setting} Measured by "
                f"`python -m benchmarks.{self.command} --write`, {self.runs}, on "
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


def commit() -> str:
    """Return the measured commit, such as "commit 1a2b3c4", or "" outside of a clone."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    return f"commit {done.stdout.strip()}" if done.returncode == 0 else ""


def _figure(value: object) -> str:
    """Format a cell of a table: four digits, or nothing for NaN."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    """Format a table in Markdown. Its first line is the header."""
    head, *body = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *body])
