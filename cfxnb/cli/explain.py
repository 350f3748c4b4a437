"""Explain a classifier's decisions, and write one page that can be read and passed on.

The settings are a file in YAML that names the images, the classifier, the generator and the
methods. 'python -m cfxnb explain --example' prints such a file with comments. The result is a
folder. Its page index.html needs no other file and no internet. The folder also holds all numbers,
images and results as files.

Without a file, --data names the images, and --models a folder that 'python -m cfxnb train' has
written. With --minutes, classifier, judge and generator are trained first if they are missing:

  python -m cfxnb explain --data photos --size 64 --models models --minutes 25

--output-dir, --n-images, --max-minutes and --device also work beside a file, and replace its
values. --data, --size, --models and --minutes stand for a file, so they can't be combined with one.
To train a generator for your own classifier, run 'python -m cfxnb train --classifier ...', and name
both in the file.

Before the work, the command prints how long it will take. By default it explains 24 images, or
fewer if they would take longer than 10 minutes (--max-minutes). The page says what was left out.
If the command is interrupted or killed, run it again: it continues where it stopped. The command
refuses a folder that holds a page with other settings, unless --replace is given.
To share the images among several GPUs, run 'accelerate launch -m cfxnb explain ...'.

The exit status is 0, even if the page holds warnings about the results.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from cfxnb.cli import train
from cfxnb.core import processes, validate
from cfxnb.core.disk import kind_of
from cfxnb.explanation.config import (
    EXAMPLE,
    Config,
    check_place,
    checked,
    read_config,
    target_is_checked,
)
from cfxnb.explanation.config import run as explained

SHOWN = ("images", "flip rate", "judge agrees", "L2", "sparsity")  # columns that are printed
PARTS = ("classifier", "judge", "space")  # folders that 'python -m cfxnb train' writes


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="the file of settings (YAML)")
    parser.add_argument("--example", action="store_true", help="print settings with comments")
    parser.add_argument("--check", action="store_true", help="only check the settings")
    parser.add_argument(
        "--data", metavar="FOLDER", help="images to explain, in place of a file of settings"
    )
    parser.add_argument(
        "--size", type=int, help="height and width to which the images of --data are resized"
    )
    parser.add_argument(
        "--models",
        metavar="FOLDER",
        help="folder with classifier, judge and space, in place of a file of settings",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help="minutes for training the networks that are missing in --models",
    )
    parser.add_argument("--output-dir", metavar="FOLDER", help="folder for the page")
    parser.add_argument(
        "--replace", action="store_true", help="replace a page that was made with other settings"
    )
    parser.add_argument("--n-images", metavar="N", help="number of images to explain, all, or auto")
    parser.add_argument(
        "--max-minutes", type=float, help="minutes for the page, which limit images and methods"
    )
    parser.add_argument("--device", help="device to run on, such as cpu or cuda")


def run(chosen: argparse.Namespace) -> int:
    """Print the example, check the settings, or write the page."""
    if chosen.example:
        print(EXAMPLE, end="")
        return 0
    replaced = {
        "output_dir": chosen.output_dir,
        "n_images": _number(chosen.n_images),
        "max_minutes": chosen.max_minutes,
        "device": chosen.device,
    }
    new = {key: value for key, value in replaced.items() if value is not None}
    config = checked(_settings(chosen, new) | new)
    if not chosen.replace:
        check_place(config)
    if chosen.check:
        print("All settings can be used.")
        if not target_is_checked(config):
            print(
                "The class in target was not checked, because the settings state no class_names of "
                "the classifier."
            )
        return 0
    explanation = explained(config, _tell)
    if not processes.is_main():
        return 0
    columns = [c for c in SHOWN if c in explanation.table]
    print(explanation.table[columns].round(3).to_string())
    for text in explanation.warnings:
        print(f"warning: {text}", file=sys.stderr)
    print(f"{config.output_dir}/index.html")
    return 0


def _tell(text: str) -> None:
    """Print the estimate of the time."""
    if processes.is_main():
        print(text, file=sys.stderr, flush=True)


def _settings(chosen: argparse.Namespace, new: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the file, or those that --data and --models stand for."""
    if chosen.config is not None:
        for name in ("data", "models", "minutes", "size"):
            if getattr(chosen, name) is not None:
                raise ValueError(
                    f"--{name}: expected either this option or a file of settings, got both; "
                    "name images and models in the file, and train with 'python -m cfxnb train'"
                )
        config: Config = read_config(chosen.config)
        return dataclasses.asdict(config)
    if chosen.data is None or chosen.models is None:
        raise ValueError(
            "CONFIG: expected a file of settings (--example prints one), or --data and --models"
        )
    models = Path(chosen.models).expanduser()
    missing = [part for part in PARTS if kind_of(models / part / "card.json") != "a file"]
    if missing and chosen.minutes is None:
        raise ValueError(
            f"--models: expected a folder that 'python -m cfxnb train' has written, got "
            f"{chosen.models!r} without {', '.join(missing)}; --minutes trains them first"
        )
    data = {"path": chosen.data, "split": "test"}
    data |= {} if chosen.size is None else {"size": chosen.size}
    settings: dict[str, Any] = {"data": data}
    settings |= {part: models / part for part in PARTS}
    if missing and not chosen.check:
        if not chosen.replace:
            check_place(Config(**settings | new))
        _train(chosen, models)
    return settings


def _train(chosen: argparse.Namespace, models: Path) -> None:
    """Train classifier, judge and space, as 'python -m cfxnb train' does."""
    parser = argparse.ArgumentParser()
    train.configure(parser)
    minutes = validate.number(chosen.minutes, "--minutes", 0, open_low=True)
    given = [str(chosen.data), "--output", str(models), "--minutes", str(minutes)]
    for name in ("size", "device"):
        if getattr(chosen, name) is not None:
            given += [f"--{name}", str(getattr(chosen, name))]
    train.run(parser.parse_args(given))


def _number(text: str | None) -> int | str | None:
    if text in (None, "all", "auto"):
        return text
    if not text.isdigit():
        raise ValueError(f"--n-images: expected a whole number, all or auto, got {text!r:.40}")
    return int(text)
