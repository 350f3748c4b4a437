"""Recipes for sprites: classifiers with known causes, and networks that predict all factors.

All networks for sprites are trained on the "train" split only. The two networks that predict all
factors (factor readers) are trained on different samples; one is the judge. The judge has another
architecture than the other networks, so that it shares nothing with the networks that it judges.
"""

import dataclasses
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
from cfxnb.train.cards import RETRAINING_SEEDS, card_of, rounded
from cfxnb.train.losses import as_bytes, as_unit, cross_entropy
from cfxnb.train.train_classifier import classifier

N_FIGURES = 60_000
sprite_card = partial(card_of, source=SOURCE, files="sprites/")
N_OPTIONS = [len(options) for options in SPRITE_OPTIONS.values()]
IMAGES: dict[str, Any] = {"channels": 3, "size": (56, 32), "n_downsamplings": 3}
CLASSIFIER = {"outputs": len(CLASSES), **IMAGES, "width": 16}
RETRAINED = ("honest", "shortcut")  # planted classifiers that are shipped with five seeds more
READER = {"outputs": sum(N_OPTIONS), **IMAGES}


def noisy(images: Tensor, generator: Generator) -> Tensor:
    """Add noise of standard deviation 0 to 0.06, so that a network cannot rely on exact colours."""
    device = images.device
    level = 0.06 * torch.rand(len(images), 1, 1, 1, generator=generator, device=device)
    noise = torch.randn(images.shape, generator=generator, device=device)
    return (images + level * noise).clamp(0, 1)


def label_loss(model: nn.Module, batch: tuple[Tensor, ...], _: Generator) -> Tensor:
    """Return the cross-entropy on unchanged images, because the classifier need not be robust."""
    return cross_entropy(model, as_unit(batch[0]), batch[1])


def figures(seed: int) -> ImageSet:
    """Sample training figures whose factors are independent of each other."""
    return sprites("independent", N_FIGURES, split="train", seed=seed)


def rounded_figures(seed: int) -> ImageSet:
    """Return ``figures`` with all pixels rounded to bytes, which take a quarter of the memory."""
    train = figures(seed)
    return dataclasses.replace(train, images=as_unit(as_bytes(train.images)))


def test_figures(world: str) -> ImageSet:
    """Sample held-out figures."""
    return sprites(world, 2000, split="test", seed=11)


def reader(
    net: Net, loss: Loss, folder: Path, *, steps: int, seed: int, device: str = "cpu"
) -> Net:
    """Train a network to predict all factors, which takes two to seven minutes on two cores."""
    train = figures(seed)
    options = torch.stack([torch.as_tensor(c) for c in as_indices(train.factors).values()], 1)
    return fit(
        net,
        loss,
        (as_bytes(train.images), options),
        steps=steps,
        batch_size=128,
        lr=2e-3,
        checkpoint_dir=folder,
        seed=seed,
        device=device,
    )


def reader_loss(model: nn.Module, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
    """Return the cross-entropy of a factor reader on noisy images, summed over all factors."""
    return _reading_loss(model, noisy(batch[0].float() / 255, generator), batch[1])


def judge_loss(model: nn.Module, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
    """Return the cross-entropy of all factors, with half of the images attacked.

    The attacked images are tinted, noisy and changed along the sign of the gradient of the loss
    (Goodfellow et al., 2015). The judge has to decide whether an attack changed a factor or only
    fooled the attacked network. A judge of attacks must be harder to fool than the attacked
    network.
    """
    images, options = batch[0].float() / 255, batch[1]
    device = images.device
    level = torch.rand(3, len(images), 1, 1, 1, generator=generator, device=device)
    level[:, ::2] = 0
    coarse = torch.randn(len(images), 3, 7, 4, generator=generator, device=device)
    tint = F.interpolate(coarse, size=images.shape[-2:], mode="bilinear")
    noise = torch.randn(images.shape, generator=generator, device=device)
    point = (images + 0.05 * level[0] * tint + 0.04 * level[1] * noise).detach().requires_grad_()
    gradient = torch.autograd.grad(_reading_loss(model, point, options), point)[0]
    attacked = (point + 0.04 * level[2] * gradient.sign()).detach().clamp(0, 1)
    return _reading_loss(model, attacked, options)


def _reading_loss(model: nn.Module, images: Tensor, options: Tensor) -> Tensor:
    """Return the cross-entropy of predicted and true options, summed over the factors."""
    with autocast(images.device):
        logits = model(images)
    heads = zip(logits.float().split(N_OPTIONS, 1), options.T, strict=True)
    return torch.stack([F.cross_entropy(head, option) for head, option in heads]).sum()


def planted_labels(rule: PlantedClassifier, figures: ImageSet) -> Tensor:
    """Return the labels that a rule (``PlantedClassifier``) gives to figures, int64 (n,)."""
    return torch.tensor(rule.label(figures.factors).to_numpy(bool)).long()


def train_planted(
    rule: PlantedClassifier, folder: Path | None = None, device: str = "cpu", seed: int = 0
) -> PlainNet:
    """Train a classifier on figures that are labelled by a known rule.

    Args:
        rule: A rule from ``cfx.data.SPRITE_CLASSIFIERS``, a result of
            ``cfx.data.random_planted_classifier(seed)``, or your own PlantedClassifier.
        folder: Folder for checkpoints. If None, no checkpoints are written.
        device: Device to train on.
        seed: Seed of the initial weights and of the batches. All seeds use the same training
            figures.
    """
    train = sprites(rule.world, 8000, split="train", seed=5)
    test = sprites(rule.world, 200, split="test", seed=5)
    found = classifier(
        dataclasses.replace(train, labels=planted_labels(rule, train), class_names=CLASSES),
        config={"width": 16},
        loss=label_loss,
        balanced=False,
        held_out=dataclasses.replace(test, labels=planted_labels(rule, test), class_names=CLASSES),
        early_stopping=False,
        steps=600,
        batch_size=128,
        lr=2e-3,
        checkpoint_dir=folder,
        seed=seed,
        device=device,
    )
    return found.module


def make_classifier(name: str, folder: Path, device: str, seed: int = 0) -> None:
    """Train and save a classifier with known causes, which takes half a minute on two cores.

    The card of the classifier holds the true necessity and sufficiency of each factor. Seeds other
    than 0 give the retrained classifiers on which ``cfxnb.metrics.transfer`` tests flips. All seeds
    use the same training figures.
    """
    rule, test = SPRITE_CLASSIFIERS[name], test_figures("pairs")
    net = train_planted(rule, folder, device, seed).cpu()
    wrapped = wrap(net)
    with torch.no_grad():
        follows = wrapped(test.images).argmax(1) == planted_labels(rule, test)
    truth = {
        CLASSES[outcome]: {
            factor: {k: _number(row[k]) for k in ("value", "baseline", *_TRUE)}
            for factor, row in true_scores(
                test, wrapped, SPRITE_CONTRASTS, outcome
            ).table.iterrows()
        }
        for outcome in (0, 1)
    }
    card = sprite_card("classifier", f"says {CLASSES}", seed=seed)
    card |= {
        "net": "PlainNet",
        "config": CLASSIFIER,
        "summary": f"planted: reads {', '.join(rule.causes)}",
        "class_names": list(CLASSES),
        "causes": list(rule.causes),
        "description": rule.description,
        "quality": rounded(
            {"fraction of held-out figures decided by its planted rule": follows.double().mean()}
        ),
        "true scores on 2,000 held-out figures of 'pairs', by re-rendering": truth,
    }
    if name == "unknown":  # an exercise asks for its causes
        card["summary"] = "planted: find out what it reads"
    if seed:
        card["summary"] = f"sprites/{name} trained with seed {seed}, to test whether flips transfer"
    if seed or name == "unknown":
        secret = ("causes", "description", "true scores")
        card = {k: v for k, v in card.items() if not k.startswith(secret)}
    weights.save(f"sprites/{name}_retrained_{seed}" if seed else f"sprites/{name}", net, card)


_TRUE = tuple(f"{s}{e}" for s in ("necessity", "sufficiency", "pns") for e in ("", " n"))


def make_reader(folder: Path, device: str) -> None:
    """Train and save the factor reader with which attribute edits are trained."""
    torch.manual_seed(2)
    net = PlainNet(**READER)
    net = reader(net, reader_loss, folder, steps=2000, seed=2, device=device).cpu()
    _save_reader("reader", net, 2, "reads every factor; edits are trained with it")


def make_judge(folder: Path, device: str) -> None:
    """Train and save the judge, a factor reader that no method sees."""
    torch.manual_seed(1)
    net = JudgeNet(**READER)
    net = reader(net, judge_loss, folder, steps=6000, seed=1, device=device).cpu()
    _save_reader("judge", net, 1, "reads every factor; no method ever sees it")


def _save_reader(name: str, net: nn.Module, seed: int, summary: str) -> None:
    accuracy = reading_accuracy(FactorReader(net, SPRITE_OPTIONS), test_figures("independent"))
    card = sprite_card("reader", summary, seed=seed)
    card |= {
        "net": type(net).__name__,
        "config": READER,
        "options": {factor: list(options) for factor, options in SPRITE_OPTIONS.items()},
        "quality": {f"accuracy on held-out figures, {n}": v for n, v in accuracy.items()},
    }
    weights.save(f"sprites/{name}", net, card)


def reading_accuracy(
    reader: FactorReader, test: ImageSet, images: Tensor | None = None
) -> dict[str, float]:
    """Return the accuracy of a factor reader for each factor, by default on ``test.images``."""
    found = reader.read(test.images if images is None else images)
    return {n: round(float((found[n] == test.factors[n]).mean()), 4) for n in SPRITE_OPTIONS}


def _number(value: Any) -> Any:
    """Return a value of a table as a card stores it: rounded, or None for NaN."""
    if isinstance(value, str):
        return value
    if value != value:
        return None
    return int(value) if value == int(value) else round(float(value), 4)


RECIPES: dict[str, Recipe] = {
    **{f"sprites/{name}": partial(make_classifier, name) for name in SPRITE_CLASSIFIERS},
    "sprites/reader": make_reader,
    "sprites/judge": make_judge,
    **{
        f"sprites/{name}_retrained_{s}": partial(make_classifier, name, seed=s)
        for name in RETRAINED
        for s in RETRAINING_SEEDS
    },
}
