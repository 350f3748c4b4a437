"""Check the installation: Python, packages, memory, data files and models.

The exit status is 0 if everything is in place, and 1 if something needs attention. Each line that
is marked ✘ says how to repair what is wrong.
"""

import argparse

from cfxnb.course.doctor import doctor


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, of which there are none."""


def run(chosen: argparse.Namespace) -> int:
    """Print the diagnosis, and return 0 if everything is in place."""
    diagnosis = doctor()
    print(diagnosis)
    return 0 if diagnosis.ok else 1
