"""Explain a classifier's decisions, and write one page that can be read and passed on.

The settings are a file in YAML that names the images, the classifier, the generator and the
methods. 'python -m cfxnb explain --example' prints such a file with comments. The result is a
folder. Its page index.html needs no other file and no internet. The folder also holds all numbers,
images and results as files.

Without a file, name a folder of images, and with --models a folder for the networks. If you have
no classifier or generator, the command trains them first on the images, and writes them to this
folder. A later call uses them:

  python -m cfxnb explain photos --size 64 --models models

The page then explains images on which no network was trained. The training takes up to 25 minutes.
--minutes changes this.

With a file, --models gives what the file does not name: classifier, judge and space. The command
trains what is missing in the folder. To train a generator for your own classifier, name the
classifier and the images in the file, and no space:

  python -m cfxnb explain mine.yaml --models models --minutes 25

--data, --size, --output-dir, --n-images, --max-minutes and --device replace the values of a file.

Before the work, the command prints how long it will take. By default it explains 24 images, or
fewer if they would take longer than 10 minutes (--max-minutes). The page says what was left out.
If the command is interrupted or killed, run it again: it continues where it stopped. The command
refuses a folder that holds a page with other settings, unless --replace is given.
To share the images among several GPUs, run 'accelerate launch -m cfxnb explain ...'.

The exit status is 0, even if the page holds warnings about the results.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from cfxnb.cli import train
from cfxnb.core import processes, validate
from cfxnb.core.disk import kind_of
from cfxnb.data.folder import folder
from cfxnb.explanation.config import (
    EXAMPLE,
    Config,
    check_place,
    checked,
    read_settings,
    target_is_checked,
)
from cfxnb.explanation.config import run as explained
from cfxnb.explanation.parts import check_data

SHOWN = ("images", "flip rate", "judge agrees", "L2", "sparsity")  # columns that are printed
DATA_KEYS = ("path", "split", "size")  # of the images, if networks are trained on them
PARTS = ("classifier", "judge", "space")  # folders that 'python -m cfxnb train' writes


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "config", nargs="?", metavar="CONFIG", help="file of settings (YAML), or folder of images"
    )
    parser.add_argument("--example", action="store_true", help="print settings with comments")
    parser.add_argument("--check", action="store_true", help="only check the settings")
    parser.add_argument("--data", metavar="FOLDER", help="images to explain")
    parser.add_argument("--size", type=int, help="height and width to which images are resized")
    parser.add_argument(
        "--models",
        metavar="FOLDER",
        help="folder with classifier, judge and space. What is missing there is trained",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help=f"minutes for training what --models lacks, default: {train.MINUTES:g}",
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
    if chosen.minutes is not None:
        validate.number(chosen.minutes, "--minutes", 0, open_low=True)
    settings = _settings(chosen) | new
    missing = _missing(chosen, settings)
    config = checked(settings, later=missing)
    if not chosen.replace:
        check_place(config)
    if chosen.check:
        _print_checked(config, missing)
        return 0
    if missing:
        _train(chosen, settings, missing)
        config = checked(settings)
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


def _settings(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of the file, with what --data, --size and --models give."""
    place, settings = chosen.config, {}
    data = chosen.data
    if place is not None and kind_of(Path(place).expanduser()) == "a folder":
        if data is not None:
            raise ValueError(f"--data: expected no second folder of images, got {data!r}")
        place, data = None, place
    if place is not None:
        settings = read_settings(place)
    elif data is None or chosen.models is None:
        raise ValueError(
            "CONFIG: expected a file of settings (--example prints one), or a folder of images and "
            "--models, a folder for classifier, judge and space"
        )
    if data is not None:
        settings["data"] = {"path": data}
    if chosen.models is None:
        if chosen.minutes is not None:
            raise ValueError(
                "--minutes: expected together with --models, the folder for what is trained"
            )
        return _with_size(settings, chosen.size)
    models = Path(chosen.models).expanduser()
    for part in PARTS:
        if settings.get(part) is None:
            settings[part] = models / part
    settings = _with_size(settings, chosen.size)
    given = settings.get("data")
    if given is not None and check_data(given)[0] is folder:
        # The networks were trained on the other part.
        settings["data"] = {"split": "test", **_as_mapping(given)}
    return settings


def _with_size(settings: dict[str, Any], size: int | None) -> dict[str, Any]:
    """Return the settings with another size of the images."""
    if size is None or settings.get("data") is None:
        return settings
    if check_data(settings["data"])[0] is not folder:
        raise ValueError("--size: expected a folder of images as data, got a data set of cfx.data")
    return settings | {"data": {**_as_mapping(settings["data"]), "size": size}}


def _as_mapping(data: Any) -> dict[str, Any]:
    return {"path": data} if isinstance(data, str | os.PathLike) else dict(data)


def _missing(chosen: argparse.Namespace, settings: dict[str, Any]) -> list[str]:
    """Return the networks of --models that have to be trained, and check that they can be."""
    if chosen.models is None:
        return []
    models = Path(chosen.models).expanduser()
    wanted = [part for part in PARTS if settings[part] == models / part]
    missing = [part for part in wanted if kind_of(models / part / "card.json") != "a file"]
    if not missing:
        return []
    if "space" not in wanted:
        raise ValueError(
            f"--models: expected a folder with {', '.join(missing)}, because the file names a "
            f"space, got {chosen.models!r}; without a space in the file, all are trained"
        )
    given = _as_mapping(settings["data"]) if settings.get("data") is not None else {}
    if given and (check_data(given)[0] is not folder or given.keys() - DATA_KEYS):
        raise ValueError(
            f"data: expected a folder of images with no other options than "
            f"{', '.join(DATA_KEYS)}, to train {', '.join(missing)} on, got {given!r:.200}; run "
            "'python -m cfxnb train' first, or cfx.train in Python"
        )
    return missing


def _print_checked(config: Config, missing: list[str]) -> None:
    print("All settings can be used.")
    if missing:
        print(f"First, {', '.join(missing)} will be trained.")
    elif not target_is_checked(config):
        print(
            "The class in target was not checked, because the settings state no class_names of "
            "the classifier."
        )


def _train(chosen: argparse.Namespace, settings: dict[str, Any], missing: list[str]) -> None:
    """Train classifier, judge and space, as 'python -m cfxnb train' does."""
    parser = argparse.ArgumentParser()
    train.configure(parser)
    minutes = train.MINUTES if chosen.minutes is None else chosen.minutes
    data = settings["data"]
    given = [str(data["path"]), "--output", str(chosen.models), "--minutes", str(minutes)]
    if data.get("size") is not None:
        given += ["--size", str(data["size"])]
    if settings.get("device") is not None:
        given += ["--device", str(settings["device"])]
    classifier = settings["classifier"]
    if classifier != Path(chosen.models).expanduser() / "classifier":
        named = isinstance(classifier, str | os.PathLike)
        given += ["--classifier", str(classifier) if named else json.dumps(classifier)]
    if processes.is_main():
        print(
            f"{', '.join(missing)}: not yet in {chosen.models}. Training takes up to {minutes:g} "
            "minutes (--minutes).",
            flush=True,
        )
    train.run(parser.parse_args(given))


def _number(text: str | None) -> int | str | None:
    if text in (None, "all", "auto"):
        return text
    if not text.isdigit():
        raise ValueError(f"--n-images: expected a whole number, all or auto, got {text!r:.40}")
    return int(text)
