"""An explanation that runs in a process of its own, and may kill itself."""

import os
import signal
from pathlib import Path

import pandas as pd
import torch
from worlds import LinearSpace, code_classifier

import cfxnb as cfx
import cfxnb.explanation.explain  # for the server of processes, which imports it once

METHODS = {
    "latent_attack": {"restarts": 0, "steps": 6, "batch_size": 5},
    "follow_direction": {"batch_size": 5},
    "pixel_attack": {"steps": 5, "batch_size": 5},
    "random_change": {"batch_size": 5},
    "reconstruct": {"batch_size": 5},
}
COUNT = 17  # images, in shards of 5


def scene():
    """Return data, classifier and space."""
    space = LinearSpace()
    classifier = code_classifier(space, torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]]), 4.0)
    images = space.sample(260, 1)
    z = space.encode(images).z
    labels, height = (z[:, 0] < 0).long(), pd.DataFrame({"height": z[:, 0].numpy()})
    return cfx.data.ImageSet(images, labels, ("up", "down"), height), classifier, space


def explained(folder, methods=None):
    data, classifier, space = scene()
    return cfx.explain(
        data, classifier, space, judge=classifier, methods=methods or METHODS, n_images=COUNT,
        output_dir=folder,
    )  # fmt: skip


def explained_here(folder, log, rank=0, count=1, killed=0):
    """Explain, and write a line to the log for each shard of a method that is written.

    Args:
        rank, count: Number of this process, and of all.
        killed: If above 0, the process kills itself while it writes this shard, counted from 1.
    """
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count)}
    torch.set_num_threads(1)
    plain, written = cfx.Counterfactuals.save, 0

    def save(self, path):
        nonlocal written
        written += 1
        if written == killed:
            os.kill(os.getpid(), signal.SIGKILL)
        with Path(log).open("a") as file:
            file.write(f"{Path(path).parents[1].name}/{Path(path).stem}\n")
        return plain(self, path)

    cfx.Counterfactuals.save = save
    explained(folder)
