"""Train a space on images: a generator with which classifiers of such images are explained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.classifiers import as_classifier
from cfxnb.core.disk import given_path
from cfxnb.core.kept_work import checkpoint_path
from cfxnb.core.model_folder import check_free, write_model
from cfxnb.core.modes import standard_modes
from cfxnb.core.training import Loss
from cfxnb.core.training_processes import Processes
from cfxnb.spaces import Autoencoder
from cfxnb.train import autoencoder as autoencoders
from cfxnb.train import diffae, flow, ldm, vae
from cfxnb.train.images_as_png import write_rows
from cfxnb.train.quality import MEASURED, measure, own_card
from cfxnb.train.task import Task, halvings
from cfxnb.train.train_classifier import checked_minutes, checked_settings
from cfxnb.train.train_classifier import classifier as train_classifier
from cfxnb.train.training_data import Parts, opened, split, training_data

MINUTES = 20.0
CLASSIFIER_SHARE = 0.25  # of the time budget, if a classifier has to be trained too
KINDS = {
    "vae": (vae.train, "variational autoencoder"),
    "autoencoder": (autoencoders.train, "autoencoder for latent diffusion"),
    "ldm": (ldm.train, "latent diffusion model"),
    "diffae": (diffae.train, "diffusion autoencoder"),
    "flow": (flow.train, "flow on codes"),
}
OPTIONS = {  # the kinds that have an option
    "loss": ("vae", "autoencoder", "ldm", "diffae"),
    "extra": ("vae",),
    "perceptual": ("autoencoder", "ldm"),
    "attributes": ("ldm",),
    "autoencoder": ("ldm",),
    "space": ("flow",),
    "fold": ("diffae",),
    "ddim_steps": ("diffae",),
    "statistics_images": ("diffae",),
}


@standard_modes
def space(
    data: Any,
    kind: str = "vae",
    *,
    classifier: Any = None,
    judge: Any = None,
    minutes: float | None = None,
    held_out: Any = None,
    early_stopping: bool = True,
    mirror: bool = False,
    net: Mapping[str, Any] | None = None,
    loss: Loss | None = None,
    # options of some kinds only
    extra: Sequence[Tensor] = (),
    perceptual: float | None = None,
    attributes: Mapping[str, Sequence[str]] | None = None,
    autoencoder: Autoencoder | None = None,
    space: Any = None,
    fold: int | None = None,
    ddim_steps: int | None = None,
    statistics_images: int | None = None,
    # the optimiser
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    ema: float | None = None,
    # what is measured and stored
    quality: bool = True,
    distances: Mapping[str, Any] | None = None,
    checkpoint_dir: str | Path | None = None,
    output_dir: str | Path | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
) -> Any:
    """Train a space on images, and measure how good it is.

    A tenth of the images is held out for early stopping, and another tenth for measuring the
    quality. The size of the network depends on the size of the images. The length of the training
    depends on the time budget. Matrix products are computed in bfloat16 on GPUs, and on processors
    that support bfloat16. With ``accelerate launch``, several processes share each batch.

    Args:
        data: An ``ImageSet``, a set from ``cfx.data.folder``, the path of a folder, images
            (n, c, h, w), or a pair of images and labels (n,). A few thousand images are enough.
        kind: ``"vae"`` (default), for most methods. ``"ldm"``, a conditional latent diffusion
            model, for ``diffusion_counterfactual``; needs labels or ``attributes``. ``"diffae"``,
            a diffusion autoencoder, which is sharper and slower than a VAE. ``"flow"``, a flow on
            the codes of ``space``, for ``flow_counterfactual``. ``"autoencoder"``, the first half
            of an ``"ldm"``.
        classifier: Classifier whose decisions should survive reconstruction. If there is none and
            the data has labels, a classifier is trained in a quarter of the time.
        judge: Another classifier, which is measured like ``classifier``.
        minutes: Time budget, which includes measuring. Default: 20, or no limit if ``steps`` is
            given.
        held_out: Images on which the quality is measured. Default: a tenth of ``data``.
        early_stopping: Whether to hold out a tenth of ``data``, to stop when its loss no longer
            falls, and to keep the best weights.
        mirror: Whether to train on mirrored images, too. Wrong for letters.
        net: Further arguments of the network, in place of those that follow from the images. For a
            VAE, ``{"dims": 32}`` gives codes without places in the image. Codes without places need
            more images and time, and give better samples.
        loss: Loss function ``loss(model, batch, generator)``, which replaces the loss of the kind.
        extra: For ``"vae"``, further tensors with one row per image of ``data``, which ``loss``
            gets after the images.
        perceptual: For ``"autoencoder"`` and ``"ldm"``, weight of the perceptual distance in the
            loss of the autoencoder. Default: 0.1, or 0 if the images have fewer than 31 pixels per
            side.
        attributes: For ``"ldm"``, a dict from each attribute to its options. An attribute is a
            column of ``data.factors``. Any other name stands for the label. Default: the label.
        autoencoder: For ``"ldm"``, the space in whose codes the diffusion model works. Default: it
            is trained in two fifths of the time.
        space: For ``"flow"``, the space in whose codes the flow moves.
        fold: For ``"diffae"``, side of the squares of pixels that become channels. Default: 2 up to
            32 pixels, 4 above.
        ddim_steps: For ``"diffae"``, number of steps of decoding and of inversion. Default: 20.
        statistics_images: For ``"diffae"``, number of images on which the statistics of codes are
            measured. Default: 10,000.
        steps, batch_size, lr, ema: Settings of the optimiser: most steps, images per step, highest
            learning rate, and decay of averaged weights. Defaults follow from kind and images.
        quality: Whether to measure the quality of the space. If there is no ``classifier``, one is
            trained for the measurement.
        distances: Further distances for the card, by name, such as
            ``{"LPIPS": cfx.metrics.LPIPS(state_dict)}``.
        checkpoint_dir: Folder for checkpoints, from which an interrupted training resumes.
        output_dir: Folder in which the space is saved, with pictures of reconstructions and
            samples. During the training, ``preview.png`` shows the present state of the network.
        device: Device to train on. Default: CUDA or MPS if available, else the CPU.
        seed: Seed of the initial weights, of the batches, and of the images for early stopping.

    Returns:
        A space as ``cfx.load`` gives it (for ``"flow"``, a ``FittedFlow``). ``card`` holds how it
        was trained and its measured quality: the fraction of decisions that survive reconstruction,
        errors of reconstructions, and how samples compare with images. ``save(folder)``, or
        ``output_dir`` for a flow, keeps it, and ``cfx.load(folder)`` gives it back.

    Raises:
        ValueError, TypeError: If an argument is wrong, does not fit the images, or belongs to
            another kind.
    """
    validate.choice(kind, "kind", tuple(KINDS))
    own = {
        "loss": loss,
        "extra": None if extra == () else extra,
        "perceptual": perceptual,
        "attributes": attributes,
    }
    own |= {"autoencoder": autoencoder, "space": space, "fold": fold, "ddim_steps": ddim_steps}
    _check_kind(kind, own | {"statistics_images": statistics_images})
    given = checked_settings(steps, batch_size, lr, ema)
    minutes = checked_minutes(minutes, steps, MINUTES)
    early_stopping = validate.flag(early_stopping, "early_stopping")
    quality, mirror = validate.flag(quality, "quality"), validate.flag(mirror, "mirror")
    processes = Processes()
    device, seed = processes.device(validate.device(device)), validate.seed(seed)
    checkpoints = None if checkpoint_dir is None else checkpoint_path(checkpoint_dir)
    out = None if output_dir is None else given_path(output_dir, name="output_dir")
    if out is not None:
        check_free(out, "output_dir")
    out = out if processes.is_first else None  # one process writes
    options = _options(kind, net, loss, perceptual, attributes, autoencoder, space)
    options |= {"mirror": mirror, "extra": tuple(extra)}
    for name, value in (("fold", fold), ("ddim_steps", ddim_steps)):
        options[name] = None if value is None else validate.count(value, name, 1)
    options["statistics_images"] = validate.optional(
        lambda v, n: validate.count(v, n, 2), statistics_images, "statistics_images"
    )
    known = None if classifier is None else as_classifier(classifier)
    judge = None if judge is None else as_classifier(judge, "judge")
    named = _distances(distances)
    if extra and (held_out is None or early_stopping):
        raise ValueError(
            "extra: expected none unless all of data is trained on, got some. Pass held_out= and "
            "early_stopping=False."
        )

    data, held_out = opened(data, held_out)
    images = training_data(data)
    parts = split(images, held_out, early_stopping, seed)
    if net is None and autoencoder is None:
        check_size(images.shape, kind, fold)
    if known is None and quality and images.labels is not None and kind != "flow":
        known = _own_classifier(parts, minutes, checkpoints, device, seed)
        minutes = None if minutes is None else minutes * (1 - CLASSIFIER_SHARE)
    task = Task(
        parts, given, minutes, device, checkpoints, out, seed, {**options, "classifier": known}
    )
    train: Any
    train, summary = KINDS[kind]
    made, fields = train(task)
    card = own_card("flow" if kind == "flow" else "space", "", {}, summary, task, images) | fields
    if kind == "flow":
        made.card = card
    else:
        made = made.eval().requires_grad_(False).to(device)
        card["quality"] = _measured(made, kind, parts, known, judge, named, out) if quality else {}
        _set_card(made, card)
    if out is not None:
        write_model(made, out)
    return made


def _check_kind(kind: str, given: Mapping[str, Any]) -> None:
    """Raise ValueError if an option is given that the kind does not have."""
    for name, value in given.items():
        if value is not None and kind not in OPTIONS[name]:
            raise ValueError(
                f"{name}: expected with kind={' or '.join(map(repr, OPTIONS[name]))}, got it with "
                f"kind={kind!r}"
            )


def check_size(shape: tuple[int, ...], kind: str, fold: int | None = None) -> None:
    """Raise ValueError if the default network of a kind can't take images of a size.

    Args:
        shape: Shape of one image, (c, h, w).
        kind: Kind of space.
        fold: For a diffusion autoencoder, side of the squares of pixels that become channels.
    """
    if kind == "diffae":
        diffae.check_size(shape, fold or diffae.default_fold(shape))
    elif kind != "flow":
        halvings(shape, 2, 2)


def _options(
    kind: str, net: Any, loss: Any, perceptual: Any, attributes: Any, autoencoder: Any, space: Any
) -> dict[str, Any]:
    """Return the arguments of a kind, after checking them."""
    if net is not None:
        validate.instance(net, Mapping, "net", "a dict of arguments of the network")
    if attributes is not None:
        validate.instance(attributes, Mapping, "attributes", "a dict: attribute -> its options")
        attributes = {
            validate.text(k, "attributes"): validate.texts(v, "attributes")
            for k, v in attributes.items()
        }
    if autoencoder is not None:
        validate.instance(autoencoder, Autoencoder, "autoencoder", "an Autoencoder space")
    if kind == "flow":
        validate.space(space)
    return {
        "net": dict(net or {}),
        "loss": validate.optional(validate.function, loss, "loss"),
        "perceptual": None
        if perceptual is None
        else validate.number(perceptual, "perceptual", 0.0),
        "attributes": attributes,
        "autoencoder": autoencoder,
        "space": space,
    }


def _distances(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    validate.instance(value, Mapping, "distances", "a dict: name -> distance")
    return {
        validate.text(k, "distances"): validate.function(v, "distances") for k, v in value.items()
    }


def _own_classifier(
    parts: Parts, minutes: float | None, checkpoints: Path | None, device: Any, seed: int
) -> Any:
    """Train a classifier on the images of a training, and measure it on the held-out ones."""
    train = parts.train
    if train.labels is None or len(train.labels.unique()) < 2:
        return None
    known = parts.test if parts.test.labels is not None else None
    return train_classifier(
        train,
        held_out=known,
        early_stopping=parts.stop is not None,
        minutes=None if minutes is None else CLASSIFIER_SHARE * minutes,
        checkpoint_dir=None if checkpoints is None else checkpoints / "classifier",
        device=device,
        seed=seed,
    )


def _measured(
    made: Any,
    kind: str,
    parts: Parts,
    classifier: Any,
    judge: Any,
    distances: dict[str, Any],
    out: Path | None,
) -> dict[str, float]:
    """Measure a space on held-out images, and write pictures."""
    device = made.mean.device
    images = parts.test.floats(MEASURED).to(device)
    samples = _samples(made, kind, parts, len(images))
    found, rebuilt = measure(made, images, classifier, judge, samples, distances)
    if out is not None:
        write_rows(out / "reconstructions.png", [images[:12], rebuilt[:12]])
        if samples is not None:
            write_rows(out / "samples.png", list(samples[:48].split(12)))
        (out / "preview.png").unlink(missing_ok=True)
    return found


@torch.no_grad()
def _samples(made: Any, kind: str, parts: Parts, count: int) -> Tensor | None:
    """Return images of codes from the prior, or None for an autoencoder, which has none."""
    if kind == "autoencoder":
        return None
    if kind == "ldm":
        conditions: Any = [None] * min(count, 96)
        chunks = [conditions[i : i + 48] for i in range(0, len(conditions), 48)]
        drawn = [made.sample(part, seed=i) for i, part in enumerate(chunks)]
    elif kind == "diffae":
        drawn = [made.sample(min(count, 96), shape=parts.test.shape)]
    else:
        drawn = [made.sample(count)]
    return torch.cat([made.decode(code) for code in drawn])


def _set_card(made: Any, card: dict[str, Any]) -> None:
    """Set the card of a space, and of the autoencoder inside an ldm."""
    made.card = card
    inner = getattr(made, "autoencoder", None)
    if inner is not None and "quality" not in (inner.card or {"quality": {}}):
        inner.card = {**card, **inner.card, "quality": card["quality"]}
        inner.card["summary"] = card["summary"].replace(KINDS["ldm"][1], KINDS["autoencoder"][1])
