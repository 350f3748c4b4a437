"""What the card of every network trained here begins with."""

from typing import Any

from cfxnb import weights


def card_of(
    kind: str,
    net: str,
    config: dict[str, Any],
    summary: str,
    *,
    source: str,
    files: str,
    seed: int = 0,
) -> dict[str, Any]:
    """The frame of a card; the recipe adds measured quality and what is special.

    Args:
        kind, net, config: what ``cfxnb.load`` needs to build it.
        source: attribution of the data.
        files: beginning of the names of the data files, whose common hash is stored.
        seed: of the training.
    """
    return {
        "kind": kind,
        "net": net,
        "config": config,
        "summary": summary,
        "data": source,
        "data sha256": weights.data_hash(files),
        "recipe": "python -m cfxnb.train",
        "seed": seed,
        "licence": "Apache-2.0",
    }
