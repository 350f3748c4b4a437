"""Build and run notebooks: ``python -m cfxnb.build notebooks | learner | research | course``.

``python -m cfxnb.build facts`` counts the exercises, lines and open tasks of the notebooks.
"""

import argparse
import sys

from cfxnb.course.build import build_learner, build_notebooks, build_research, sources
from cfxnb.course.facts import table
from cfxnb.course.run import run_course


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cfxnb.build", description=__doc__)
    parser.add_argument("what", choices=["notebooks", "learner", "research", "course", "facts"])
    parser.add_argument("names", nargs="*", help="numbers of notebooks, such as 02; all by default")
    parser.add_argument("--profile", default="cpu", help="for 'course': ci, cpu or gpu")
    chosen = parser.parse_args()
    try:
        sources(chosen.names)
    except ValueError as error:
        parser.error(str(error))
    if chosen.what == "learner":
        build_learner(chosen.names)
    elif chosen.what == "research":
        build_research()
    elif chosen.what == "facts":
        print(table(sources(chosen.names)).round(2).to_string())
    elif chosen.what == "notebooks":
        build_notebooks(chosen.names)
    else:
        sys.exit(run_course(sources(chosen.names), chosen.profile))


if __name__ == "__main__":
    main()
