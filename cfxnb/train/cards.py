"""Common fields of the cards of all networks trained here."""

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
    """Return the fields that all cards share. The recipe adds measured quality and other fields.

    Args:
        kind, net, config: needed by ``cfxnb.load`` to build the network.
        summary: what the network is, for ``cfxnb.available``.
        source: attribution of the data.
        files: prefix of the names of the data files, whose joint hash the card stores.
        seed: seed of the training.
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
