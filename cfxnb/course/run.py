"""Run every notebook with papermill, and measure time and memory (``make course``)."""

import threading
import time
from pathlib import Path
from typing import Any

import psutil

from cfxnb.core import locations as paths
from cfxnb.course.build import QUIET, read_source, write

SECONDS_PER_NOTEBOOK = 90.0
PEAK_GB = 2.0


class PeakMemory(threading.Thread):
    """Measures the peak, in GB, of the total resident memory of all child processes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0
        self._stopped = threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self._stopped.wait(0.2):
            total = 0
            for child in me.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.Error:  # the process has ended
                    continue
            self.peak = max(self.peak, total / 1e9)

    def stop(self) -> float:
        self._stopped.set()
        self.join()
        return self.peak


def run_course(sources: list[Path], profile: str) -> int:
    """Execute the notebooks with solutions, and return how many notebooks failed."""
    out = paths.root() / "build" / "course"
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    began = time.perf_counter()
    for number, source in enumerate(sources, 1):
        print(f"[{number}/{len(sources)}] {source.stem} ...", end=" ", flush=True)
        start, memory = time.perf_counter(), PeakMemory()
        memory.start()
        try:
            run_one(source, out / f"{source.stem}.ipynb", profile)
            verdict = "ok"
        except Exception as error:  # go on with the other notebooks
            verdict = f"FAILED: {error}"
        seconds, peak = time.perf_counter() - start, memory.stop()
        if verdict == "ok" and profile != "gpu":
            slow, large = seconds > SECONDS_PER_NOTEBOOK, peak > PEAK_GB
            verdict = "FAILED: over its budget" if slow or large else verdict
        failed += verdict != "ok"
        print(f"{seconds / 60:.1f} min, {peak:.2f} GB, {verdict}", flush=True)
    minutes = (time.perf_counter() - began) / 60
    print(f"{len(sources) - failed} of {len(sources)} notebooks in {minutes:.1f} min: {out}")
    return failed


def run_one(source: Path, target: Path, profile: str) -> None:
    """Execute one notebook, and write the executed notebook and its HTML page."""
    import papermill
    from nbconvert import HTMLExporter

    plain = target.with_suffix(".source.ipynb")
    write(read_source(source), plain)
    try:
        executed: Any = papermill.execute_notebook(
            plain,
            target,
            parameters={"profile": profile},
            kernel_name="python3",
            cwd=paths.root() / "notebooks",
            progress_bar=False,
            execution_timeout=600,
            extra_arguments=QUIET,
        )
    finally:
        plain.unlink()
    for cell in executed.cells:  # nbconvert has its own mark for cells without source
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata["transient"] = {"remove_source": True}
    page, _ = HTMLExporter().from_notebook_node(executed)
    target.with_suffix(".html").write_text(page, encoding="utf-8")
