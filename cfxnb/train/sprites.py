"""Recipes of the sprites world: the planted classifiers and the two factor readers.

All have seen figures of the "train" split only. The readers are trained on draws of their own,
and the judge has another architecture, so that it shares nothing with what it judges.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from cfxnb import weights
from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.core.classifiers import wrap
from cfxnb.core.training import Loss, Net, Recipe, autocast, fit
from cfxnb.data.imageset import ImageSet
from cfxnb.data.lpc import SOURCE, SPRITE_OPTIONS, as_indices
from cfxnb.data.sprite_classifiers import (
    CLASSES,
    SPRITE_CLASSIFIERS,
    SPRITE_CONTRASTS,
    PlantedClassifier,
)
from cfxnb.data.sprite_figures import sprites
from cfxnb.metrics.ground_truth import true_scores
from cfxnb.nets import JudgeNet, PlainNet
from cfxnb.train.cards import card_of

FIGURES = 60_000
sprite_card = partial(card_of, source=SOURCE, files="sprites/")
SIZES = [len(options) for options in SPRITE_OPTIONS.values()]
IMAGES: dict[str, Any] = {"channels": 3, "size": (56, 32), "n_downsamplings": 3}
CLASSIFIER = {"outputs": len(CLASSES), **IMAGES, "width": 16}
READER = {"outputs": sum(SIZES), **IMAGES}


def noisy(images: Tensor, generator: Generator) -> Tensor:
    """Pixel noise of up to 0.06, so that a net doesn't live on the last bit of flat colours."""
    device = images.device
    level = 0.06 * torch.rand(len(images), 1, 1, 1, generator=generator, device=device)
    noise = torch.randn(images.shape, generator=generator, device=device)
    return (images + level * noise).clamp(0, 1)


def planted(name: str, folder: Path, *, seed: int = 0, device: str = "cpu") -> PlainNet:
    """Half a minute on two cores."""
    reason: PlantedClassifier = SPRITE_CLASSIFIERS[name]
    train = sprites(reason.world, 8000, split="train", seed=5)
    labels = torch.tensor(reason.label(train.factors).to_numpy(bool)).long()
    torch.manual_seed(seed)
    return fit(
        PlainNet(**CLASSIFIER),
        label_loss,
        (train.images, labels),
        steps=600,
        batch_size=128,
        lr=2e-3,
        checkpoint_dir=folder,
        seed=seed,
        device=device,
    )


def label_loss(model: nn.Module, batch: tuple[Tensor, ...], _: Generator) -> Tensor:
    """Plain training: what comes of it is as easily fooled as such networks are."""
    images, labels = batch
    with autocast(images.device):
        logits = model(images)
    return F.cross_entropy(logits.float(), labels)


def figures(seed: int) -> ImageSet:
    return sprites("independent", FIGURES, split="train", seed=seed)


def test_figures(world: str) -> ImageSet:
    return sprites(world, 2000, split="test", seed=11)


def as_bytes(images: Tensor) -> Tensor:
    return (images * 255).round().to(torch.uint8)


def reader(
    net: Net, loss: Loss, folder: Path, *, steps: int, seed: int, device: str = "cpu"
) -> Net:
    """Two minutes on two cores, the judge seven."""
    train = figures(seed)
    numbers = torch.stack([torch.as_tensor(c) for c in as_indices(train.factors).values()], 1)
    return fit(
        net,
        loss,
        (as_bytes(train.images), numbers),
        steps=steps,
        batch_size=128,
        lr=2e-3,
        checkpoint_dir=folder,
        seed=seed,
        device=device,
    )


def reader_loss(model: nn.Module, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
    return _misread(model, noisy(batch[0].float() / 255, generator), batch[1])


def judge_loss(model: nn.Module, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
    """Half of the figures as they are, half under attack (Goodfellow et al., 2015), tinted, noisy.

    What is to judge whether an attack changed a factor, or only fooled a network, must not be
    fooled as easily itself.
    """
    images, numbers = batch[0].float() / 255, batch[1]
    device = images.device
    level = torch.rand(3, len(images), 1, 1, 1, generator=generator, device=device)
    level[:, ::2] = 0
    coarse = torch.randn(len(images), 3, 7, 4, generator=generator, device=device)
    tint = F.interpolate(coarse, size=images.shape[-2:], mode="bilinear")
    noise = torch.randn(images.shape, generator=generator, device=device)
    point = (images + 0.05 * level[0] * tint + 0.04 * level[1] * noise).detach().requires_grad_()
    slope = torch.autograd.grad(_misread(model, point, numbers), point)[0]
    return _misread(model, (point + 0.04 * level[2] * slope.sign()).detach().clamp(0, 1), numbers)


def _misread(model: nn.Module, images: Tensor, numbers: Tensor) -> Tensor:
    """Cross-entropy, summed over the factors."""
    with autocast(images.device):
        logits = model(images)
    heads = zip(logits.float().split(SIZES, 1), numbers.T, strict=True)
    return torch.stack([F.cross_entropy(head, option) for head, option in heads]).sum()


def make_classifier(name: str, folder: Path, device: str) -> None:
    net = planted(name, folder, device=device).cpu()
    test = test_figures("pairs")
    classifier = wrap(net)
    reason = SPRITE_CLASSIFIERS[name]
    rule = torch.tensor(reason.label(test.factors).to_numpy(bool)).long()
    with torch.no_grad():
        follows = classifier(test.images).argmax(1) == rule
    truth = {
        CLASSES[outcome]: {
            factor: {k: _number(row[k]) for k in ("value", "instead", *_TRUE)}
            for factor, row in true_scores(
                test, classifier, SPRITE_CONTRASTS, outcome
            ).table.iterrows()
        }
        for outcome in (0, 1)
    }
    told = sprite_card("classifier", "PlainNet", CLASSIFIER, f"says {CLASSES}")
    told |= {
        "summary": f"planted: reads {', '.join(reason.causes)}",
        "class_names": list(CLASSES),
        "causes": list(reason.causes),
        "description": reason.description,
        "quality": {"fraction of held-out figures decided by its planted rule": share(follows)},
        "true scores on 2,000 held-out figures of 'pairs', by re-rendering": truth,
    }
    if name == "unnamed":  # an exercise asks for its reason
        told["summary"] = "planted: find out what it reads"
        secret = ("causes", "description", "true scores")
        told = {k: v for k, v in told.items() if not k.startswith(secret)}
    weights.save(f"sprites/{name}", net, told)


_TRUE = tuple(f"{s}{e}" for s in ("necessity", "sufficiency", "both") for e in ("", " n"))


def make_reader(folder: Path, device: str) -> None:
    """The one that edits are trained with."""
    torch.manual_seed(2)
    net = PlainNet(**READER)
    net = reader(net, reader_loss, folder, steps=2000, seed=2, device=device).cpu()
    _save_reader("reader", net, 2, "reads every factor; edits are trained with it")


def make_judge(folder: Path, device: str) -> None:
    torch.manual_seed(1)
    net = JudgeNet(**READER)
    net = reader(net, judge_loss, folder, steps=6000, seed=1, device=device).cpu()
    _save_reader("judge", net, 1, "reads every factor; no method ever sees it")


def _save_reader(name: str, net: nn.Module, seed: int, summary: str) -> None:
    right = read_right(FactorReader(net, SPRITE_OPTIONS), test_figures("independent"))
    told = sprite_card("reader", type(net).__name__, READER, summary, seed=seed)
    told |= {
        "options": {factor: list(options) for factor, options in SPRITE_OPTIONS.items()},
        "quality": {f"accuracy on held-out figures, {n}": v for n, v in right.items()},
    }
    weights.save(f"sprites/{name}", net, told)


def read_right(read: FactorReader, test: Any, images: Tensor | None = None) -> dict[str, float]:
    """Share of figures whose factor is read as it is, a factor."""
    found = read.read(test.images if images is None else images)
    return {n: round(float((found[n] == test.factors[n]).mean()), 4) for n in SPRITE_OPTIONS}


def share(hits: Tensor) -> float:
    return round(hits.double().mean().item(), 4)


def _number(value: Any) -> Any:
    """For a card: rounded; None where nothing was asked."""
    if isinstance(value, str):
        return value
    if value != value:
        return None
    return int(value) if value == int(value) else round(float(value), 4)


RECIPES: dict[str, Recipe] = {
    **{f"sprites/{name}": partial(make_classifier, name) for name in SPRITE_CLASSIFIERS},
    "sprites/reader": make_reader,
    "sprites/judge": make_judge,
}
