"""Measure data sets of any size: ``python -m benchmarks.scale``.

Small images (digits, 1x8x8, each with noise of its own) and small networks (a linear space with 16
dimensions, a classifier with random features), so that 100,000 images take minutes. Each run is a
process of its own with one thread. Exits with 1 if a row falls short.

``--processes-only`` compares two processes with one, in about four minutes. Seconds on the clock
mean something only if nothing else runs on the machine. So the speed of two processes that share
nothing stands beside it. No way of sharing the work can be faster.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset, Subset

import cfxnb as cfx
from benchmarks.rows import Rows, arguments

DIMS, FEATURES, NOISE = 16, 128, 0.02
BATCH = 256
METHODS = ("latent_attack", "follow_direction")
#: Images with which processes are compared: about 40 seconds for one process.
COMPARED = {"latent_attack": 30_000, "follow_direction": 120_000}


class SmallDigits(Dataset):
    """Items (image, target). Row i is test digit i modulo their number, with noise from seed i."""

    def __init__(self, images: Tensor, labels: Tensor, count: int) -> None:
        self.images, self.labels, self.count = images, labels, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        image = self.images[row % len(self.images)]
        noise = torch.randn(image.shape, generator=Generator().manual_seed(row))
        target = (int(self.labels[row % len(self.images)]) + 1) % 10
        return (image + NOISE * noise).clamp(0, 1), target


class LinearSpace(nn.Module):
    """The principal components of images."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        flat = images.flatten(1)
        _, values, axes = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
        self.shape = images.shape[1:]
        self.axes, self.center = axes[:DIMS], flat.mean(0)
        self.mean, self.std = torch.zeros(DIMS), values[:DIMS] / len(flat) ** 0.5

    def encode(self, images: Tensor) -> cfx.Code:
        return cfx.Code((images.flatten(1) - self.center) @ self.axes.T)

    def decode(self, code: cfx.Code) -> Tensor:
        return (code.z @ self.axes + self.center).view(-1, *self.shape).clamp(0, 1)


class RandomFeatures(nn.Module):
    """A classifier with one hidden layer of random weights. The output layer is fitted."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        super().__init__()
        g = Generator().manual_seed(0)
        self.hidden = torch.randn(images[0].numel(), FEATURES, generator=g)
        h = self._features(images)
        wanted = 10 * F.one_hot(labels, 10).float()
        eye = torch.eye(FEATURES)
        self.out = torch.linalg.solve(h.T @ h + eye, h.T @ wanted)

    def _features(self, images: Tensor) -> Tensor:
        return torch.tanh(images.flatten(1) @ self.hidden / 2)

    def forward(self, images: Tensor) -> Tensor:
        return self._features(images) @ self.out


def world(count: int) -> tuple[Dataset, LinearSpace, nn.Module]:
    """Return the data set, the space and the classifier, the same ones in every process."""
    digits = cfx.data.digits()
    images = F.avg_pool2d(digits.images, 4)
    data = SmallDigits(images, digits.labels, count)
    return data, LinearSpace(images).eval(), RandomFeatures(images, digits.labels).eval()


def work(method: str, count: int, folder: str, ready: str) -> None:
    """Explain the data set, and print what it took as JSON.

    Args:
        ready: Folder in which all processes say that they have begun, or "".
    """
    torch.set_num_threads(1)
    data, space, classifier = world(count)
    if ready:
        few = Subset(data, range(BATCH))  # a first batch imports what is imported late
        explain(method, few, space, classifier, f"{folder}-warm-{os.getpid()}")
        wait_for_others(Path(ready))
    began, cpu = time.time(), time.process_time()
    explain(method, data, space, classifier, folder)
    end = time.time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    took = {"cpu": time.process_time() - cpu, "wall": end - began, "peak": peak}
    print(json.dumps({**took, "began": began, "end": end}))


def wait_for_others(ready: Path) -> None:
    """Wait until as many processes as there are have come here."""
    (ready / str(os.getpid())).touch()
    while len(list(ready.iterdir())) < int(ready.name):
        time.sleep(0.01)


def explain(
    method: str, data: Dataset, space: LinearSpace, classifier: nn.Module, folder: str
) -> None:
    """Write the results of a method to a folder."""
    options: dict[str, Any] = {"batch_size": BATCH, "output_dir": folder}
    target: Any = cfx.from_item(1)
    if method == "latent_attack":
        cfx.latent_attack(space, classifier, data, target, confidence=0.5, **options)
    else:
        direction = torch.ones(DIMS)
        cfx.follow_direction(space, cfx.BlackBox(classifier), data, direction, target, **options)


def start(
    method: str,
    count: int,
    folder: Path,
    rank: int = 0,
    processes: int = 1,
    ready: Path | None = None,
) -> Any:
    """Start a process that explains the data set."""
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    env = os.environ | one | {"RANK": str(rank), "WORLD_SIZE": str(processes)}
    command = [sys.executable, "-m", "benchmarks.scale", "--work", method, str(count)]
    command += [str(folder), "" if ready is None else str(ready)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def ended(process: Any) -> dict[str, float]:
    """Wait for a process, and return what it measured."""
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"a process ended with {process.returncode}")
    took: dict[str, float] = json.loads(out.splitlines()[-1])
    return took


def kill_at(process: Any, folder: Path, shards: int) -> int:
    """Kill a process when the folder has so many finished shards. Return how many it has then."""
    place = folder / "shards"
    while process.poll() is None and len(list(place.glob("*.json"))) < shards:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return len(list(place.glob("*.json")))


def same_answers(a: Path, b: Path) -> float:
    """Return the fraction of images with the same status, code and image in two folders."""
    same, count = 0, 0
    for one, other in zip(cfx.open(a), cfx.open(b), strict=True):
        codes = torch.isclose(one.code_after.z, other.code_after.z, atol=1e-5).all(1)
        images = torch.isclose(one.image, other.image, atol=1e-5).flatten(1).all(1)
        status = torch.tensor([x == y for x, y in zip(one.status, other.status, strict=True)])
        same, count = same + int((codes & images & status).sum()), count + len(one)
    return same / count


def main() -> int:
    parser = arguments("scale", __doc__)
    parser.add_argument("--images", type=int, default=100_000, help="size of the largest data set")
    parser.add_argument(
        "--processes-only",
        action="store_true",
        help="only compare two processes with one, on a machine without other work",
    )
    parser.add_argument("--work", nargs=4, metavar=("METHOD", "COUNT", "FOLDER", "READY"),
                        help=argparse.SUPPRESS)  # fmt: skip
    chosen = parser.parse_args()
    if chosen.work:
        work(chosen.work[0], int(chosen.work[1]), *chosen.work[2:])
        return 0
    sizes = [chosen.images // 100, chosen.images // 10, chosen.images]
    load = os.getloadavg()[0]
    setting = (
        f"Digits of 1x8x8 with noise, up to {chosen.images:,} of them; a linear space of {DIMS} "
        f"dimensions; one thread per process; batches of {BATCH}; load of the machine at the "
        f"beginning {load:.1f} on {os.cpu_count()} cores. CPU seconds do not depend on the load."
    )
    if chosen.processes_only:
        rows = Rows("processes", setting, chosen.write, "scale --processes-only")
    else:
        rows = Rows("scale", setting, chosen.write)
    with tempfile.TemporaryDirectory() as scratch:
        for method in METHODS:
            place = Path(scratch) / method
            if not chosen.processes_only:
                measure(rows, method, sizes, place)
            share = 1.0 if chosen.processes_only else 0.5
            count = int(share * COMPARED[method] * min(1.0, chosen.images / 100_000))
            compare_processes(rows, method, count, place / "processes")
    return rows.close()


def measure(rows: Rows, method: str, sizes: list[int], scratch: Path) -> None:
    rows.section(f"{method}")
    took = {n: ended(start(method, n, scratch / str(n))) for n in sizes}
    table = pd.DataFrame(took).T
    table["images per CPU second"] = table.index / table["cpu"]
    table["images per second"] = table.index / table["wall"]
    table = table.rename(columns={"cpu": "CPU seconds", "wall": "seconds", "peak": "peak MB"})
    rows.table("One row per number of images", table)
    small, large = took[sizes[0]], took[sizes[-1]]
    growth = (large["cpu"] / sizes[-1]) / (took[sizes[1]]["cpu"] / sizes[1])
    rows.add("CPU seconds per image, largest against a tenth", growth, 1.2, at_most=True)
    peaks = large["peak"] / small["peak"]
    rows.add("peak memory, largest against a hundredth", peaks, 1.5, at_most=True)

    count, whole, killed = sizes[-1], scratch / str(sizes[-1]), scratch / "killed"
    shards, found = -(-count // BATCH), []
    for part in (1 / 4, 1 / 2):
        found.append(kill_at(start(method, count, killed, 0, 1), killed, int(part * shards)))
    rest = ended(start(method, count, killed))
    rows.say("killed twice: shards finished at the first kill", found[0])
    rows.say("killed twice: shards finished at the second kill", found[1])
    rows.add("killed twice: images in the folder", len(cfx.open(killed)), count)
    spent = rest["cpu"] / (large["cpu"] * (shards - found[1]) / shards)
    rows.add("CPU seconds of the last launch, against the rest's share", spent, 1.2, at_most=True)
    rows.add("killed twice: the same answers", same_answers(whole, killed), 1.0)


def compare_processes(rows: Rows, method: str, count: int, scratch: Path) -> None:
    """Compare two processes that share the work with one process, and with two that share nothing.

    The processes of a comparison begin at the same moment, after a first batch of their own. So
    imports do not count.
    """
    rows.section(f"{method}: two processes against one, {count:,} images")

    def run(name: str, jobs: list[tuple[int, Path, int, int]]) -> list[dict[str, float]]:
        ready = scratch / f"{name}-ready" / str(len(jobs))
        ready.mkdir(parents=True)
        return [ended(p) for p in [start(method, *job, ready) for job in jobs]]

    one = run("one", [(count, scratch / "one", 0, 1)])
    two = run("two", [(count, scratch / "two", rank, 2) for rank in range(2)])
    half = run("apart", [(count // 2, scratch / f"half{i}", 0, 1) for i in range(2)])
    table = {"one": one, "two that share": two, "two with half of the images each": half}
    seconds = {k: max(t["end"] for t in v) - min(t["began"] for t in v) for k, v in table.items()}
    cpu = {k: sum(t["cpu"] for t in v) for k, v in table.items()}
    busier = {k: max(t["cpu"] for t in v) for k, v in table.items()}
    columns = {"seconds": seconds, "CPU seconds": cpu, "CPU seconds of the busier": busier}
    rows.table("One row per way to work", pd.DataFrame(columns))
    fast, apart = (seconds["one"] / seconds[name] for name in list(table)[1:])
    rows.add("two processes against one: times as fast", fast, 1.8)
    rows.say("two processes that share nothing: times as fast as one", apart)
    more = cpu["two that share"] / cpu["one"]
    rows.add("CPU seconds of two processes together, against one", more, 1.1, at_most=True)
    same = same_answers(scratch / "one", scratch / "two")
    rows.add("two processes: the same answers", same, 1.0)


if __name__ == "__main__":
    sys.exit(main())
