"""List the data sets and the trained models that are in the box."""

import argparse

from cfxnb import weights


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, of which there are none yet."""


def run(chosen: argparse.Namespace) -> int:
    """Print one line per model: its name and its summary."""
    table = weights.available()
    print(table.to_string())
    return 0
