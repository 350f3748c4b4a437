"""Data sets and calls for the tests of streams and folders of results."""

import os
import signal
import time
from pathlib import Path

import torch
from methods_here import DIRECTION, SPACE, net
from torch.utils.data import DataLoader, Dataset, IterableDataset

import cfxnb as cfx

F = net()
IMAGES = SPACE.sample(22, 7)
with torch.no_grad():
    TARGET = 1 - F(IMAGES).argmax(1)
#: Noise, so that a wrong row would be seen; and few steps, with which half of the images flip.
OPTIONS = {"init_noise": 0.3, "steps": 4, "restarts": 1, "confidence": 0.5, "lr": 1.0}
SHARD = 4  # images; the last shard has two
COUNT = len(IMAGES)


class Pairs(Dataset):
    """Items (image, target), which counts how often it is read."""

    def __init__(self, images=IMAGES, target=TARGET):
        self.images, self.target, self.reads = images, target, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        self.reads += 1
        return self.images[row], int(self.target[row])


class Dicts(Pairs):
    def __getitem__(self, row):
        image, target = super().__getitem__(row)
        return {"pixel_values": image, "wanted": target}


class Endless(IterableDataset):
    """Has no length."""

    def __iter__(self):
        return iter(zip(IMAGES, TARGET.tolist(), strict=True))


def attack(images, target=TARGET, **more):
    return cfx.latent_attack(SPACE, F, images, target, **{"batch_size": SHARD} | OPTIONS | more)


def follow(images, target=TARGET, **more):
    return cfx.follow_direction(
        SPACE, F, images, DIRECTION, target, **{"batch_size": SHARD, "noise_seed": 3} | more
    )


def loader(**more):
    return DataLoader(Pairs(), **{"batch_size": 5} | more)


def slowly(folder: Path, log: Path, wait: float = 0.0, rank: int = 0, count: int = 1):
    """An attack that writes a line for each shard that it begins. Run in a process of its own."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count)}

    class Slow(Pairs):
        def __getitem__(self, row):
            if row % SHARD == 0:
                with log.open("a") as file:
                    file.write(f"{row}\n")
                time.sleep(wait)
            return super().__getitem__(row)

    found = attack(Slow(), cfx.from_item(1), output_dir=folder)
    return len(found), found.complete, found[:].status, found[:].image


def killed_within(folder: Path, log: Path, shard: int):
    """The same, killed while it works on one of the shards."""
    plain = cfx.Counterfactuals.save

    def save(self, path):
        if Path(path).stem == f"{shard:06d}":
            Path(path).with_name(f".{Path(path).name}.00.partial").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, path)

    cfx.Counterfactuals.save = save
    return slowly(folder, log)
