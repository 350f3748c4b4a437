"""Training of the classifier of X-rays that we explain, and of the judge of explanations.

Classifier and judge are trained on the "train" split, and their settings were chosen on the
"validation" split. The judge has another architecture and another seed than the classifier, and is
trained with adversarial examples.
"""

from functools import partial
from pathlib import Path
from typing import Any

from sklearn.metrics import roc_auc_score

from cfxnb.core.classifiers import Wrapped
from cfxnb.core.prediction import predict_logits
from cfxnb.core.training import Recipe
from cfxnb.core.types import Classifier
from cfxnb.data import chest
from cfxnb.data.xrays import FILE, NAMES, SOURCE
from cfxnb.train.cards import card_of, rounded, ship
from cfxnb.train.train_classifier import classifier as train_classifier

EPSILON = 0.04  # largest change of a pixel in adversarial training of the judge
CAUTION = (
    "Not for diagnosis. The test part is known to differ from the parts for training and "
    "validation: accuracy on it is clearly lower, since many normal X-rays there are taken for "
    "pneumonia. Figures on validation say nothing about X-rays from elsewhere."
)


def measured(classifier: Classifier) -> dict[str, float]:
    """Return accuracy, sensitivity, specificity and AUC of a classifier on held-out X-rays.

    For sensitivity and specificity, class 1 (pneumonia) counts as positive.
    """
    found: dict[str, float] = {}
    for split in ("validation", "test"):
        part = chest(split)
        logits = predict_logits(classifier, part.images)
        predicted, ill = logits.argmax(1), part.labels == 1
        where = f"on {len(part)} {split} X-rays"
        found |= {
            f"accuracy {where}": (predicted == part.labels).double().mean().item(),
            f"sensitivity {where}": (predicted[ill] == 1).double().mean().item(),
            f"specificity {where}": (predicted[~ill] == 0).double().mean().item(),
            f"AUC {where}": float(roc_auc_score(part.labels, logits[:, 1] - logits[:, 0])),
        }
    return rounded(found)


def classifier(folder: Path | None, *, steps: int = 3000, device: str = "cpu") -> Wrapped:
    """Train the classifier, which takes two minutes on one core."""
    return _trained(folder, "PlainNet", steps=steps, device=device)


def judge(folder: Path | None, *, steps: int = 4000, device: str = "cpu") -> Wrapped:
    """Train the judge, which takes five minutes on one core.

    Half of its images are adversarial. The judge should be robust, because the judge decides
    whether an edit changed the lungs or only fooled a network.
    """
    given: dict[str, Any] = {"robust": EPSILON, "lr": 1e-3, "seed": 1}
    return _trained(folder, "JudgeNet", steps=steps, device=device, **given)


def _trained(folder: Path | None, net: str, **given: Any) -> Wrapped:
    settings = {"batch_size": 64, "lr": 2e-3, "early_stopping": False} | given
    data, held_out = chest("train"), chest("validation")
    return train_classifier(data, net=net, held_out=held_out, checkpoint_dir=folder, **settings)


def make_classifier(folder: Path, device: str) -> None:
    summary = "the X-ray classifier that is explained"
    _save("classifier", classifier(folder, device=device), summary)


def make_judge(folder: Path, device: str) -> None:
    summary = "judge of X-rays, adversarially trained; no method sees it"
    _save("judge", judge(folder, device=device), summary, seed=1)


def _save(name: str, found: Wrapped, summary: str, seed: int = 0) -> None:
    fields = {"class_names": list(NAMES), "quality": measured(found), "caution": CAUTION}
    ship(f"chest/{name}", found, _card("classifier", summary, seed=seed) | fields)


_card = partial(card_of, source=SOURCE, files=FILE)

RECIPES: dict[str, Recipe] = {"chest/classifier": make_classifier, "chest/judge": make_judge}
