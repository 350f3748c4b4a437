"""Train and measure the shipped networks again: ``python -m cfxnb.train [name ...]``.

If no names are given, the recipes of all networks run in order. If a run is interrupted, the next
run resumes the training where it stopped.
"""

import argparse

from cfxnb.core import locations as paths
from cfxnb.train.chest import RECIPES as CHEST
from cfxnb.train.diffae_recipes import RECIPES as DIFFAE
from cfxnb.train.digits import RECIPES as DIGITS
from cfxnb.train.faces import RECIPES as FACES
from cfxnb.train.flows import RECIPES as FLOWS
from cfxnb.train.ldm_recipes import RECIPES as LDM
from cfxnb.train.sprites import RECIPES as SPRITES
from cfxnb.train.sprites_space import RECIPES as SPRITES_SPACE
from cfxnb.train.third_party import RECIPES as ORACLES

RECIPES = {
    **DIGITS, **SPRITES, **SPRITES_SPACE, **CHEST, **ORACLES, **FACES, **DIFFAE, **LDM, **FLOWS
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cfxnb.train", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(RECIPES)}")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.names if name not in RECIPES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(RECIPES)}")
    for name in chosen.names or RECIPES:
        print(f"== {name}", flush=True)
        RECIPES[name](paths.runs() / name, chosen.device)


if __name__ == "__main__":
    main()
