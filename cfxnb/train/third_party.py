"""Cards of networks that others trained, such as networks that recognise smile, gender or age.

Nothing is trained here. The networks of others are measured on our faces, and the results compared
with the cards of the sources (``data/oracles/*.json``). The cards that we write repeat the cautions
of the source cards.
"""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from cfxnb import weights
from cfxnb.core.classifiers import wrap
from cfxnb.core.prediction import predict_logits
from cfxnb.data import ImageSet, faces
from cfxnb.data.fairface import AGE_GROUPS, FILE, SOURCE
from cfxnb.data.files import verified_path
from cfxnb.nets.face_nets import EXPRESSIONS, HAPPY, AgeGender, FaceExpression, SmileJudge
from cfxnb.nets.squeezenet import DISTANCE_LAYERS, SqueezeNet, perceptual_distance
from cfxnb.train.cards import card_of

GENDERS = ("male", "female")
SMILES = ("other", "smile")
# The labels of the data set come from the same network, so this doesn't measure accuracy.
OWN_OPINION = (
    "the labels of the data set (smile_score) are this very net's opinion on larger pictures: "
    "agreement with them says nothing on whether anybody smiles"
)


def restored(net: nn.Module, file: str) -> Any:
    """Load ``data/oracles/<file>.safetensors`` into ``net``, and return the frozen network."""
    net.load_state_dict(load_file(verified_path(f"oracles/{file}.safetensors")))
    return net.eval().requires_grad_(False)


def write(
    name: str, net: nn.Module, file: str, kind: str, summary: str, data: str, **facts: Any
) -> None:
    """Write a card for ``data/oracles/<file>.safetensors``, with cautions from its source."""
    theirs = json.loads(verified_path(f"oracles/{file}.json").read_text(encoding="utf-8"))
    card = card_of(kind, summary, source=f"{data}; measured on {SOURCE}", files=FILE)
    card |= {
        "net": type(net).__name__,
        "config": {},
        "recipe": f"none: {theirs['source']['repository']}",
        "licence": theirs["licence"],
        "caution": "; ".join([*theirs["cautions"], *facts.pop("cautions", [])]),
    }
    weights.write_card(name, net, card | facts, file=f"oracles/{file}.safetensors")


@functools.cache
def expressions() -> tuple[FaceExpression, ImageSet, Tensor]:
    """Return the expression network, the 3,380 test faces, and the logits for the faces."""
    net = restored(FaceExpression(), "face_expression")
    test = faces("test")
    return net, test, predict_logits(wrap(net), test.images, batch_size=32)


def make_expression(folder: Path, device: str) -> None:
    net, test, logits = expressions()
    counts = logits.argmax(1).bincount(minlength=len(EXPRESSIONS))
    write(
        "faces/expression",
        net,
        "face_expression",
        "classifier",
        "7 expressions, pretrained by others",
        "pictures that its source did not publish",
        class_names=list(EXPRESSIONS),
        quality=_smile_figures(test, logits.softmax(1)[:, HAPPY]),
        answers={
            f"on {len(test)} test faces": dict(zip(EXPRESSIONS, counts.tolist(), strict=True))
        },
        cautions=[OWN_OPINION],
    )


def make_smile(folder: Path, device: str) -> None:
    _, test, logits = expressions()
    write(
        "faces/judge",
        restored(SmileJudge(), "face_expression"),
        "face_expression",
        "classifier",
        "smile (happy) against the six other expressions, pretrained by others",
        "pictures that its source did not publish",
        class_names=list(SMILES),
        quality=_smile_figures(test, logits.softmax(1)[:, HAPPY]),
        cautions=[OWN_OPINION],
    )


def _smile_figures(part: ImageSet, happy: Tensor) -> dict[str, Any]:
    """Return how well p(happy) of n faces recognises smiles, as quality measures for a card.

    The first two quality measures come from the card of the source.
    """
    score = torch.tensor(part.factors["smile_score"].to_numpy())
    same = ((happy > 0.5) == (score > 0.5)).double().mean().item()
    return {
        "AUC of happy on 3,000 pictures of SMILEs with human labels, by the source's card": 0.906,
        "accuracy there, by the source's card (majority 0.713)": 0.857,
        f"fraction of {len(happy)} test faces on the same side of 0.5 as at 224x224": round(
            same, 4
        ),
        "correlation with what it says at 224x224": round(
            np.corrcoef(happy.double().numpy(), score.numpy())[0, 1], 4
        ),
    }


def make_gender(folder: Path, device: str) -> None:
    net = restored(AgeGender(), "age_gender")
    test = faces("test")
    with torch.no_grad():
        features = torch.cat([net.features(chunk) for chunk in test.images.split(32)])
        logits, years = net.fc["gender"](features), net.fc["age"](features).squeeze(1)
    male = (test.factors["gender"] == "male").to_numpy()
    right = (logits.argmax(1).numpy() == 0) == male
    table = test.factors.assign(right=right, years=years.double().numpy())
    order = [age for ages in AGE_GROUPS.values() for age in ages]
    groups = {
        "gender: accuracy by race": table.groupby("race")["right"].mean(),
        "gender: accuracy by age": table.groupby("age")["right"].mean()[order],
        "mean age in years by age": table.groupby("age")["years"].mean()[order],
    }
    write(
        "faces/gender",
        net,
        "age_gender",
        "classifier",
        "perceived gender, pretrained by others; its module's age() gives years",
        "pictures that its source did not publish",
        class_names=list(GENDERS),
        quality={
            f"accuracy on {len(test)} test faces": round(right.mean(), 4),
            "AUC there": round(roc_auc_score(male, (logits[:, 0] - logits[:, 1]).numpy()), 4),
            "accuracy on the source's own pictures, as its authors state it": 0.95,
            "mean error of ages there, as its authors state it, years": 4.54,
        },
        groups={name: values.round(4).to_dict() for name, values in groups.items()},
    )


def make_features(folder: Path, device: str) -> None:
    net = restored(SqueezeNet(), "squeezenet11_imagenet_features")
    images = faces("validation").images
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    changed = {
        "another face": images.roll(1, 0),
        "each pixel the mean of 3x3": blurred,
        "mirrored": images.flip(3),
        "noise of 0.02": (images + 0.02 * noise).clamp(0, 1),
        "noise of 0.05": (images + 0.05 * noise).clamp(0, 1),
    }
    quality = {
        "accuracy of a linear probe on CIFAR-10 at 112x112, fire9, by the source's card": 0.681,
        **{
            f"perceptual distance ({', '.join(DISTANCE_LAYERS)}) of a face, {what}": _mean_distance(
                net, images, other
            )
            for what, other in changed.items()
        },
    }
    write(
        "faces/features",
        net,
        "squeezenet11_imagenet_features",
        "features",
        "SqueezeNet 1.1 without its classifier, for distances, pretrained by others",
        "ImageNet",
        quality=quality,
        cautions=["its accuracy on ImageNet was not verified"],
    )


@torch.no_grad()
def _mean_distance(net: SqueezeNet, a: Tensor, b: Tensor) -> float:
    pairs = zip(a.split(128), b.split(128), strict=True)
    return round(torch.cat([perceptual_distance(net, x, y) for x, y in pairs]).mean().item(), 4)


RECIPES = {
    "faces/expression": make_expression,
    "faces/judge": make_smile,
    "faces/gender": make_gender,
    "faces/features": make_features,
}
