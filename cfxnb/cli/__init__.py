"""The commands of ``python -m cfxnb``, one file each.

Each file has a docstring, which ``--help`` shows, and two functions: ``configure(parser)`` adds the
arguments, and ``run(chosen)`` does the work and returns the exit status. A new command is one file
and one line in ``COMMANDS``.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "data": "list the data sets and models that are included, or check a folder of images",
    "doctor": "check the installation",
    "evaluate": "score your own method, and compare it with baselines",
    "train": "train a classifier and a generator on a folder of images",
    "explain": "explain a classifier's decisions on a page, by all methods that apply",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 if all is well.

    A wrong argument (ValueError or TypeError) becomes one line on standard error and status 2.
    """
    parser = argparse.ArgumentParser(
        prog="python -m cfxnb",
        description="Counterfactual explanations of image classifiers with generative models.",
        epilog="'python -m cfxnb COMMAND --help' explains a command.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # Only the file of the chosen command is imported, so that help and errors come quickly.
    named = next((a for a in (sys.argv[1:] if arguments is None else arguments)), None)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == named:
            command = importlib.import_module(f"cfxnb.cli.{name}")
            sub.description = command.__doc__
            command.configure(sub)
    chosen = parser.parse_args(arguments)
    try:
        return int(importlib.import_module(f"cfxnb.cli.{chosen.command}").run(chosen))
    except (ValueError, TypeError) as error:
        print(f"{parser.prog} {chosen.command}: {error}", file=sys.stderr)
        return 2
