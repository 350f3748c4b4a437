"""Fields and measures for the cards (JSON files that describe networks) of trained networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfxnb import weights
from cfxnb.core.prediction import predict_logits
from cfxnb.core.types import Classifier
from cfxnb.data import ImageSet
from cfxnb.metrics import fid

RETRAINING_SEEDS = (1, 2, 3, 4, 5)  # of the classifiers that test whether flips transfer


def card_of(
    kind: str,
    summary: str,
    *,
    source: str,
    files: str,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the fields that all cards have. Each recipe adds measured quality and other fields.

    Args:
        kind: kind of the network, one of ``cfxnb.weights.KINDS``.
        summary: short description of the network, which ``cfxnb.available`` shows.
        source: authors and licence of the training data.
        files: prefix of the names of the data files, whose joint hash the card stores.
        seed: seed of the training.
    """
    return {
        "kind": kind,
        "summary": summary,
        "data": source,
        "data sha256": weights.data_hash(files),
        "recipe": "python -m cfxnb.train",
        "seed": seed,
        "licence": "Apache-2.0",
    }


def ship(name: str, made: Any, card: dict[str, Any]) -> Path:
    """Save a network from ``cfxnb.train`` as a shipped network.

    Args:
        name: Name of the network, such as ``"digits/vae"``.
        made: The space, flow or classifier.
        card: The fields of its card. Class and arguments of the network are added.
    """
    net, extra, _ = made._stored()
    built = {k: made.card[k] for k in ("net", "config", "adapter", "space") if k in made.card}
    stated = {k: v for k, v in extra.items() if v is not None}
    return weights.save(name, net.cpu(), {**built, **card}, **stated)


def accuracy(classifier: Classifier, part: ImageSet) -> float:
    """Return the fraction of images for which a classifier predicts the label."""
    return _fraction(predict_logits(classifier, part.images).argmax(1) == part.labels)


def same_decisions(classifier: Classifier, images: Tensor, others: Tensor) -> float:
    """Return the fraction of rows in which ``images`` and ``others`` get the same decision."""
    first, second = (predict_logits(classifier, x).argmax(1) for x in (images, others))
    return _fraction(first == second)


def _fraction(hits: Tensor) -> float:
    return hits.double().mean().item()


def rounded(values: Mapping[str, Any]) -> dict[str, float]:
    """Return values rounded to four decimal places, as the card of a network stores them."""
    return {name: round(float(value), 4) for name, value in values.items()}


def frechet_distances(name: str, images: Tensor, others: dict[str, Tensor]) -> dict[str, float]:
    """Return the Frechet distance of each batch in ``others`` to ``images``, as fields of a card.

    Args:
        name: shipped network whose method ``features`` gives the features.
    """
    net: Any = weights.load(name, "cpu")

    def features(batch: Tensor) -> Tensor:
        return torch.cat([getattr(net, "module", net).features(part) for part in batch.split(250)])

    return {
        f"Frechet distance in the features of {name}, {other}": fid(
            features(made), features(images), allow_few=True
        )
        for other, made in others.items()
    }
