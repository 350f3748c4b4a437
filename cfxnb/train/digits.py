"""Training of the networks for digits: the classifier that we explain, and the VAE.

The judge (LeNet-5) is not trained here. The judge was trained by others, and therefore shares no
weights, code or random numbers with the classifier.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from cfxnb import weights
from cfxnb.core import locations as paths
from cfxnb.core.classifiers import wrap
from cfxnb.core.prediction import predict_logits
from cfxnb.core.training import Recipe, autocast
from cfxnb.data import digits, measure_digits
from cfxnb.data.files import add_to_manifest, verified_path
from cfxnb.data.mnist import FACTORS, SOURCE, images_of
from cfxnb.nets import DigitNet, LeNet5
from cfxnb.spaces.vae import VAE
from cfxnb.train.cards import (
    RETRAINING_SEEDS,
    accuracy,
    card_of,
    rounded,
    same_decisions,
    ship,
)
from cfxnb.train.losses import as_unit, cross_entropy, kl_term, moved
from cfxnb.train.train_classifier import classifier
from cfxnb.train.train_space import space
from cfxnb.train.vae import VAELoss

BETA = 0.5  # weight of the KL term; 1 gives the evidence lower bound, less gives sharper images


def classifier_loss(model: DigitNet, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
    """Return the cross-entropy of the classifier on augmented images."""
    images, labels = as_unit(batch[0]), batch[1]
    with autocast(images.device):
        images = augment(images, generator)
    return cross_entropy(model, images, labels)


def augment(images: Tensor, generator: Generator) -> Tensor:
    """Shift each image by up to 2 pixels, rotate it by up to 10 degrees, scale it by up to 10 %."""
    noise = torch.rand(4, len(images), generator=generator, device=images.device) * 2 - 1
    return moved(images, noise * torch.tensor([[0.17], [0.1], [0.125], [0.125]]).to(noise))


def make_factors(folder: Path, device: str) -> None:
    """Measure and save the factors of all 70,000 digits, which takes about two minutes."""
    measured = {
        split: torch.tensor(measure_digits(images_of(split)).to_numpy()).half().contiguous()
        for split in ("train", "test")
    }
    save_file(measured, paths.data() / FACTORS)
    add_to_manifest(
        FACTORS,
        licence="CC-BY-SA-3.0",
        source=["computed from the images of this folder"],
        modification="measured by cfxnb.data.measure_digits",
    )


def make_classifier(folder: Path, device: str, seed: int = 0) -> None:
    """Train and save the classifier, which takes about two minutes on two cores.

    Seeds other than 0 give the retrained classifiers on which ``cfxnb.metrics.transfer`` tests
    flips.
    """
    found = classifier(
        digits("train"),
        net="DigitNet",
        loss=classifier_loss,
        steps=3000,
        batch_size=128,
        lr=2e-3,
        seed=seed,
        held_out=digits(),
        early_stopping=False,
        checkpoint_dir=folder,
        device=device,
    )
    name, summary = "digits/classifier", "the digit classifier that is explained"
    if seed:
        summary = f"{name} trained with seed {seed}, to test whether flips transfer"
        name = f"{name}_retrained_{seed}"
    ship(name, found, _card("classifier", summary, seed=seed) | _results(found.module))


def make_judge(folder: Path, device: str) -> None:
    """Write the card of the judge, which was trained by others."""
    net = judge()
    card = _card("classifier", "the independent judge; no method sees it")
    card |= {
        "net": "LeNet5",
        "config": {},
        "recipe": "none: csinva/gan-vae-pretrained-pytorch, LeNet-5",
        "licence": "MIT by the badge in the README of its source",
    }
    file = "oracles/mnist_lenet5.safetensors"
    weights.write_card("digits/judge", net, card | _results(net), file=file)


def _results(net: nn.Module) -> dict[str, Any]:
    """Return the fields of a classifier's card for the test accuracy and the classes."""
    quality = rounded({"accuracy on the 10,000 test digits": accuracy(wrap(net), digits())})
    return {"quality": quality, "class_names": list("0123456789")}


def judge() -> LeNet5:
    net = LeNet5()
    net.load_state_dict(load_file(verified_path("oracles/mnist_lenet5.safetensors")))
    return net.eval()


def make_vae(folder: Path, device: str) -> None:
    """Train the VAE for thirty epochs, which takes about ten minutes on two cores, and save it."""
    made = space(
        digits("train"),
        "vae",
        net={"dims": 20},
        loss=VAELoss(BETA, "bernoulli"),
        steps=14000,
        batch_size=128,
        lr=2e-3,
        held_out=digits(),
        early_stopping=False,
        quality=False,  # measured below
        checkpoint_dir=folder,
        device=device,
    ).cpu()
    card = _card("space", "variational autoencoder, codes (b, 20)")
    ship("digits/vae", made, card | {"quality": measure_vae(made)})


@torch.no_grad()
def measure_vae(space: VAE) -> dict[str, float]:
    """Return how well the VAE reconstructs test digits and samples new digits."""
    test = digits()
    explained, referee = weights.load("digits/classifier", "cpu"), wrap(judge())
    chunks = test.images.split(500)
    rebuilt = torch.cat([space.decode(space.encode(chunk)) for chunk in chunks])
    samples = space.decode(space.sample(2000))
    mean, log_variance = (torch.cat(t) for t in zip(*map(space.net.posterior, chunks), strict=True))
    noise = torch.rand(samples.shape, generator=Generator().manual_seed(0))

    def confidence(images: Tensor) -> float:
        return predict_logits(referee, images).softmax(1).amax(1).mean().item()

    measured = {
        "fraction of test decisions that survive reconstruction": same_decisions(
            explained, test.images, rebuilt
        ),
        "mean squared error of reconstructions": (rebuilt - test.images).square().mean().item(),
        "KL term, nats": kl_term(mean, log_variance).mean().item(),
        "judge's mean confidence on samples from the prior": confidence(samples),
        "judge's mean confidence on test digits": confidence(test.images),
        "judge's mean confidence on uniform noise": confidence(noise),
    }
    return rounded(measured)


_card = partial(card_of, source=SOURCE, files="digits/train-")

RECIPES: dict[str, Recipe] = {
    "digits/factors": make_factors,
    "digits/classifier": make_classifier,
    "digits/judge": make_judge,
    "digits/vae": make_vae,
    **{
        f"digits/classifier_retrained_{s}": partial(make_classifier, seed=s)
        for s in RETRAINING_SEEDS
    },
}
