"""The rows of a benchmark: what was measured, what must be reached, and the verdict."""

import math
import subprocess
import sys
from collections.abc import Sequence


class Rows:
    def __init__(self) -> None:
        self.short = 0

    def add(self, name: str, value: float, bound: float, *, most: bool = False) -> None:
        """Print one row; it falls short unless value >= bound (<= bound with ``most``)."""
        reached = not math.isnan(value) and (value <= bound if most else value >= bound)
        self.short += not reached
        sign = "<=" if most else ">="
        verdict = "ok" if reached else "FALLS SHORT"
        print(f"{name:<68} {value:>10.4g}   {sign} {bound:<8.4g} {verdict}", flush=True)

    def say(self, name: str, value: float) -> None:
        print(f"{name:<68} {value:>10.4g}   reported", flush=True)

    def tests(self, name: str, files: Sequence[str]) -> None:
        """One row for tests that must pass; in a process of their own, as pytest wants it."""
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", *files]
        code = subprocess.run(command, check=False).returncode
        self.add(f"{name}: exit code of the tests", code, 0, most=True)

    def close(self) -> int:
        """The exit code."""
        print("every row reached" if not self.short else f"{self.short} rows fall short")
        return int(self.short > 0)
