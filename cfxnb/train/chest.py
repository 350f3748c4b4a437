"""Training of the classifier of X-rays that we explain, and of the judge of explanations.

Classifier and judge are trained on the "train" split, and their settings were chosen on the
"validation" split. The judge has another architecture and another seed than the classifier, and is
trained with adversarial examples.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import roc_auc_score
from torch import Generator, Tensor, nn

from cfxnb import weights
from cfxnb.core.classifiers import wrap
from cfxnb.core.prediction import predict_logits
from cfxnb.core.training import Loss, Net, Recipe, fit
from cfxnb.core.types import Classifier
from cfxnb.data import chest
from cfxnb.data.xrays import FILE, NAMES, SOURCE
from cfxnb.nets import JudgeNet, PlainNet
from cfxnb.train.cards import card_of, rounded
from cfxnb.train.losses import cross_entropy, moved

NET: dict[str, Any] = {"outputs": len(NAMES), "channels": 1, "size": (64, 64), "n_downsamplings": 4}
EPSILON = 0.04  # largest change of a pixel in adversarial training of the judge
CAUTION = (
    "Not for diagnosis. The test part is known to differ from the parts for training and "
    "validation: accuracy on it is clearly lower, since many normal X-rays there are taken for "
    "pneumonia. Figures on validation say nothing about X-rays from elsewhere."
)


def trained(
    net: Net,
    loss: Loss,
    folder: Path | None,
    *,
    steps: int,
    lr: float = 2e-3,
    seed: int = 0,
    device: str = "cpu",
) -> Net:
    train = chest("train")
    return fit(
        net,
        loss,
        (train.images, train.labels),
        steps=steps,
        batch_size=64,
        lr=lr,
        checkpoint_dir=folder,
        seed=seed,
        device=device,
    )


def augment(images: Tensor, generator: Generator) -> Tensor:
    """Augment images: shift by up to 3 pixels, rotate by up to 5 degrees, scale by up to 10 %.

    ``augment`` also changes brightness and contrast. Border pixels fill the margins, because black
    margins would tell something about the class in the chest data set.
    """
    noise = torch.rand(6, len(images), generator=generator, device=images.device) * 2 - 1
    limits = torch.tensor([[0.09], [0.1], [0.09], [0.09], [0.2], [0.1]]).to(noise)
    *change, contrast, brightness = noise * limits
    placed = moved(images, torch.stack(change), "border")
    lit = (placed - 0.5) * (1 + contrast).view(-1, 1, 1, 1) + 0.5 + brightness.view(-1, 1, 1, 1)
    return lit.clamp(0, 1)


def classifier_loss(model: nn.Module, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
    """Return the weighted cross-entropy on augmented images, without adversarial examples."""
    return _weighted_cross_entropy(model, augment(batch[0], generator), batch[1])


def judge_loss(model: nn.Module, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
    """Return the weighted cross-entropy on adversarial examples and unchanged images, half of each.

    An adversarial example is made from a noisy image by one step along the sign of the gradient
    (Goodfellow et al., 2015). The judge should be robust, because the judge decides whether an edit
    changed the lungs or only fooled a network.
    """
    images, labels = augment(batch[0], generator), batch[1]
    device = images.device
    level = torch.rand(2, len(images), 1, 1, 1, generator=generator, device=device)
    level[:, ::2] = 0
    noise = torch.randn(images.shape, generator=generator, device=device)
    point = (images + EPSILON * level[0] * noise).detach().requires_grad_()
    gradient = torch.autograd.grad(_weighted_cross_entropy(model, point, labels), point)[0]
    attacked = (point + EPSILON * level[1] * gradient.sign()).detach().clamp(0, 1)
    return _weighted_cross_entropy(model, attacked, labels)


def _weighted_cross_entropy(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy, with the same total weight for each of the two classes."""
    return cross_entropy(model, images, labels, class_weights().to(images.device))


def class_weights() -> Tensor:
    """Return one weight per class, inverse to the number of training images of the class."""
    counts = torch.tensor([1207.0, 3488.0])  # normal, pneumonia
    return counts.sum() / (2 * counts)


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


def classifier(folder: Path | None, *, steps: int = 3000, device: str = "cpu") -> PlainNet:
    """Train the classifier, which takes two minutes on one core."""
    torch.manual_seed(0)
    return trained(PlainNet(**NET), classifier_loss, folder, steps=steps, device=device)


def judge(folder: Path | None, *, steps: int = 4000, device: str = "cpu") -> JudgeNet:
    """Train the judge, which takes five minutes on one core."""
    torch.manual_seed(1)
    net = JudgeNet(**NET)
    return trained(net, judge_loss, folder, steps=steps, lr=1e-3, seed=1, device=device)


def make_classifier(folder: Path, device: str) -> None:
    net = classifier(folder, device=device).cpu()
    card = _card("classifier", "PlainNet", NET, "the X-ray classifier that is explained")
    _save("classifier", net, card)


def make_judge(folder: Path, device: str) -> None:
    net = judge(folder, device=device).cpu()
    summary = "judge of X-rays, adversarially trained; no method sees it"
    _save("judge", net, _card("classifier", "JudgeNet", NET, summary, seed=1))


def _save(name: str, net: nn.Module, card: dict[str, Any]) -> None:
    fields = {"class_names": list(NAMES), "quality": measured(wrap(net)), "caution": CAUTION}
    weights.save(f"chest/{name}", net, card | fields)


_card = partial(card_of, source=SOURCE, files=FILE)

RECIPES: dict[str, Recipe] = {"chest/classifier": make_classifier, "chest/judge": make_judge}
