"""Several processes that torchrun starts, as ``accelerate launch`` does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from stream_scenes import COUNT, IMAGES, SHARD, F, attack

import cfxnb as cfx

SCRIPT = Path(__file__).parents[1] / "helpers" / "several_processes.py"
ROOT = Path(__file__).parents[2]


def launch(folder, *killed, processes=2):
    options = ["--nproc-per-node", str(processes), "--standalone"]
    command = [sys.executable, "-m", "torch.distributed.run", *options]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, str(SCRIPT), str(folder), *killed],
        env=env, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_a_worker_is_killed_and_the_next_launch_goes_on(tmp_path):
    """The first launch ends with its worker. The second one has the numbers of one process."""
    folder = tmp_path / "out"
    first = launch(folder, "killed")
    assert first.returncode != 0, first.stdout
    kept = [seal.number for seal in cfx.open(folder).seals]
    assert kept
    second = launch(folder)
    assert second.returncode == 0, second.stderr[-2000:]
    lines = second.stdout.splitlines()
    assert lines[0] == f"2 processes, {COUNT} images, True"
    whole = attack(IMAGES, batch_size=64)
    rate = cfx.report({"attack": whole}, judge=F)["flip rate"].iloc[0]
    assert lines[1:] == [f"flip rate {rate:.6f}"]  # the main process alone has printed
    found = cfx.open(folder)
    assert [len(part) for part in found] == [SHARD] * 5 + [2]
    torch.testing.assert_close(found[:].image, whole.image)


def test_without_a_launcher_there_is_one_process(monkeypatch):
    from cfxnb.core import processes

    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert (processes.index(), processes.count(), processes.is_main()) == (0, 1, True)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert (processes.index(), processes.count(), processes.is_main()) == (3, 8, False)
    if not torch.cuda.is_available():
        assert processes.device() == torch.device("cpu")
    for wrong in ("", "-1", "x"):
        monkeypatch.setenv("RANK", wrong)
        assert processes.index() == 0


@pytest.mark.parametrize("shown", [True, False])
def test_bars_are_shown_by_the_main_process(monkeypatch, capfd, shown):
    from cfxnb.core import progress

    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setenv("CFXNB_PROGRESS", "1")
    monkeypatch.setenv("RANK", str(int(not shown)))
    attack(IMAGES[:8], 1, steps=1)  # a call without a data set, too
    attack(iter(IMAGES[:8]), 1, steps=1)
    assert ("latent_attack" in capfd.readouterr().err) == shown
