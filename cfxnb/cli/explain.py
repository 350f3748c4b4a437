"""Explain a classifier's decisions, and write one page that can be read and passed on.

The settings are a file in YAML that names the images, the classifier, the generator and the
methods. 'python -m cfxnb explain --example' prints such a file with comments. The result is a
folder with index.html, which needs no other file and no internet, and with all numbers, images and
results as files.

An option such as --n-images replaces the value in the file. Start the command with
'accelerate launch -m cfxnb explain ...' to share the images among several GPUs or machines.

The exit status is 0, also if the page holds warnings about the results.
"""

import argparse
import dataclasses
import sys

from cfxnb.explanation.config import EXAMPLE, checked, read_config
from cfxnb.explanation.config import run as explained

SHOWN = ("images", "flip rate", "judge agrees", "L2", "sparsity")  # columns that are printed


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="the file of settings (YAML)")
    parser.add_argument("--example", action="store_true", help="print settings with comments")
    parser.add_argument("--check", action="store_true", help="check the settings, run nothing")
    parser.add_argument("--output-dir", metavar="FOLDER", help="folder for the page")
    parser.add_argument("--n-images", metavar="N", help="number of images to explain, or all")
    parser.add_argument("--device", help="device to run on, such as cpu or cuda")


def run(chosen: argparse.Namespace) -> int:
    """Print the example, check the settings, or write the page."""
    if chosen.example:
        print(EXAMPLE, end="")
        return 0
    if chosen.config is None:
        raise ValueError("CONFIG: expected a file of settings; --example prints one")
    config = read_config(chosen.config)
    replaced = {
        "output_dir": chosen.output_dir,
        "n_images": _number(chosen.n_images),
        "device": chosen.device,
    }
    new = {key: value for key, value in replaced.items() if value is not None}
    config = checked(dataclasses.asdict(config) | new)
    if chosen.check:
        print(f"{chosen.config}: all settings can be used")
        return 0
    explanation = explained(config)
    columns = [c for c in SHOWN if c in explanation.table]
    print(explanation.table[columns].round(3).to_string())
    for text in explanation.warnings:
        print(f"warning: {text}", file=sys.stderr)
    print(f"{config.output_dir}/index.html")
    return 0


def _number(text: str | None) -> int | str | None:
    if text is None or text == "all":
        return text
    if not text.isdigit():
        raise ValueError(f"--n-images: expected a whole number or all, got {text!r:.40}")
    return int(text)
