"""Score your own counterfactual method, and compare it with baselines.

The method is a function in a module that Python can import from the current folder:

    python -m cfxnb evaluate my_package.my_module:my_method --worlds digits sprites

The method is called as my_method(space, classifier, images, target), and returns Counterfactuals or
edited images. The output is a table with one row per world and method. The columns state how many
images flip, whether an independent judge agrees, whether only the planted cause changed, the
distance, and the cost. Rates and means have 95 % intervals. The exit status is 1 if a method failed
on a task.
"""

import argparse
import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

from cfxnb.evaluation.evaluate import BASELINES, SPACES, evaluate
from cfxnb.evaluation.methods import METHODS
from cfxnb.evaluation.tasks import WORLDS


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("method", metavar="MODULE:FUNCTION", help="the method, in a module")
    parser.add_argument(
        "--worlds", nargs="+", default=["digits", "sprites"], choices=WORLDS, metavar="WORLD",
        help=f"some of {', '.join(WORLDS)} (default: digits sprites)",
    )  # fmt: skip
    parser.add_argument(
        "--baselines", nargs="*", default=list(BASELINES), metavar="NAME",
        help=f"methods for comparison: {', '.join(METHODS)} (default: {', '.join(BASELINES)})",
    )  # fmt: skip
    parser.add_argument(
        "--space", default="vae", choices=SPACES,
        help="space that the method gets: vae, or ldm for methods that denoise (default: vae)",
    )  # fmt: skip
    parser.add_argument(
        "--images",
        type=int,
        default=24,
        help="images per task (default: 24); more images take longer",
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="number of seeds, each with other images (default: 1)"
    )
    parser.add_argument("--csv", type=Path, help="also write the table to this file")


def run(chosen: argparse.Namespace) -> int:
    """Score the method, print the table, and return 0 if the method failed on no task."""
    method = {chosen.method.split(":")[-1]: imported(chosen.method)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* runs failed")  # the table says it
        found = evaluate(
            method,
            worlds=chosen.worlds,
            baselines=chosen.baselines,
            space=chosen.space,
            n_images=chosen.images,
            seeds=chosen.seeds,
        )
    print(found)
    if chosen.csv is not None:
        print(found.to_csv(chosen.csv))
    return 1 if len(found.failures) else 0


def imported(text: str) -> Any:
    """Return the function that ``module:function`` names. The current folder is searched first.

    Raises:
        ValueError: If there is no such module or function.
    """
    module, _, name = text.partition(":")
    if not module or not name:
        raise ValueError(f"method: expected MODULE:FUNCTION, got {text!r}")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"method: expected a function to import, got {text!r}: {error}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    return found
