"""Train a classifier, a judge and a space on a folder of images.

The folder has one subfolder of images per class, or is laid out in another way that cfx.data.folder
reads. Height and width must be divisible by 4 and at least 16. For --kind diffae, images of more
than 32 pixels must be divisible by 8 and at least 32. --size resizes the images. The command holds
out a tenth of the images, and measures all networks on them. If the folder has splits of its own
("train" and "test"), the command uses them.

To explain your own classifier, name it with --classifier. The command then trains only the judge
and the space. The classes of the classifier must be the subfolders, in the order of their names.
--classifier takes what 'python -m cfxnb explain' takes:

  a name                      that 'python -m cfxnb data' lists
  a folder                    that this command or cfx.train has written
  a file                      in TorchScript (.pt) or ONNX (.onnx)
  "package.module:function"   a function of yours without arguments that returns a torch module; the
                              module is imported from the present folder

The classifier gets images in [0, 1]. If it needs a normalisation or gives probabilities, write a
mapping in YAML with options of cfx.wrap: mean, std, size, channels, class_names, probabilities.

What is trained is written to the output folder:

  classifier/          the classifier that is explained (unless --classifier names one)
  judge/               a second classifier of another size and seed, which no method sees
  space/               the generator, with pictures of reconstructions and samples
  counterfactuals.csv  how often the latent attack and, as a baseline, the pixel attack change the
                       classifier's decision, and how often the judge agrees
  counterfactuals.png  originals, reconstructions, and the counterfactuals of both

At the end, the command says in words whether the space is good enough to explain with.

Each folder holds model.safetensors and card.json, and cfx.load(folder) reads it. If the command is
interrupted, run it again: it continues where it stopped. On several GPUs, start it with
"accelerate launch -m cfxnb train ...".

Examples:

  python -m cfxnb train pictures/ --output models/ --minutes 25
  python -m cfxnb train pictures/ --output models/ --size 64 --classifier mine.pt
  python -m cfxnb train pictures/ --output models/ --size 64 \\
      --classifier "{load: 'my_package.nets:load_net', mean: 0.5, std: 0.25}"
"""

import argparse
import dataclasses
import logging
import math
import textwrap
from pathlib import Path
from typing import Any

KINDS = ("vae", "ldm", "diffae", "autoencoder")
MINUTES = 25.0  # enough for a few thousand images of up to 64 pixels, on two cores
PARTS = {"classifier": 0.12, "judge": 0.16, "space": 0.62}  # of the time; the rest is for measuring
JUDGE = {"width": 24}  # another size, other weights, other images to stop by
N_MEASURED = 100  # held-out images that are attacked
FEW = 0.5  # of the images: if the latent attack flips fewer, the command says so
AGREED = 0.9  # of the flips: if the judge agrees with fewer, the command says what it means
ENOUGH = 50  # held-out images, below which the verdict calls its percentages rough
SHARPER = ("autoencoder", "diffae")  # kinds that lose less of an image than a VAE


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("folder", help="folder with one subfolder of images per class")
    parser.add_argument("--output", required=True, help="folder for the trained networks")
    parser.add_argument("--kind", choices=KINDS, default="vae", help="kind of space, default: vae")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help=f"time budget, default: {MINUTES:g}"
    )
    parser.add_argument(
        "--classifier",
        metavar="CLASSIFIER",
        help="classifier to explain, instead of training one: a name, a folder, a file, "
        "'package.module:function', or a mapping in YAML with options of cfx.wrap, see above",
    )
    parser.add_argument("--mirror", action="store_true", help="also train on the mirror images")
    parser.add_argument("--size", type=int, help="resize images to this height and width")
    parser.add_argument("--device", help="cpu, cuda or mps; default: cuda or mps if there is one")
    parser.add_argument("--seed", type=int, default=0, help="seed, default: 0")


def run(chosen: argparse.Namespace) -> int:
    """Train, measure, and print where things are and how good they are."""
    from cfxnb.core.model_folder import is_model_folder
    from cfxnb.core.training_processes import Processes

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    first = Processes().is_first
    asked = _checked(chosen)
    classifier = asked.given or _classifier(asked, "classifier", first)
    judge = _classifier(asked, "judge", first, config=JUDGE, seed=chosen.seed + 1)
    new = not is_model_folder(asked.out / "space")
    space = _space(asked, classifier, judge, first)
    if not first:
        return 0
    made: Any
    for name, made in (("classifier", classifier), ("judge", judge), ("space", space)):
        card = getattr(made, "card", None) or {}
        print(f"== {name}: {card.get('summary', chosen.classifier)}")
        for what, value in card.get("quality", {}).items():
            print(f"   {value:10.5g}  {what}")
    _judge_space(asked, space, classifier, judge, same=new or asked.given is None)
    return 0


@dataclasses.dataclass(frozen=True)
class _Asked:
    """The checked arguments of one command.

    Attributes:
        images, held_out: Images to train on, and to measure with.
        given: The classifier that the user named, or None.
        kind, minutes: Kind of the space, and the time budget of all networks.
        out: Folder for what is trained.
        shared: Arguments that all trainings share.
    """

    images: Any
    held_out: Any
    given: Any
    kind: str
    minutes: float
    out: Path
    shared: dict[str, Any]

    def options(self, name: str) -> dict[str, Any]:
        """Return the arguments of the training of one network."""
        own = {"minutes": PARTS[name] * self.minutes}
        return self.shared | own | {"checkpoint_dir": self.out / "checkpoints" / name}


def _checked(chosen: argparse.Namespace) -> _Asked:
    """Open the images, load the classifier that is named, and check everything else."""
    from cfxnb.core import processes, validate
    from cfxnb.train.train_space import check_size
    from cfxnb.train.training_data import opened

    minutes = validate.number(chosen.minutes, "--minutes", 0.0, open_low=True)
    device, out = validate.device(chosen.device), Path(chosen.output).expanduser()
    options = {} if chosen.size is None else {"size": chosen.size}
    images, test = opened(chosen.folder, None, **options)
    first = images[0:1].images
    try:
        check_size(tuple(first.shape[1:]), chosen.kind)
    except ValueError as error:
        raise ValueError(f"{error} The option --size resizes them.") from None
    given = None
    if chosen.classifier is not None:
        given = _given_classifier(chosen.classifier, device, first, images.class_names)
        if processes.is_main():
            print(textwrap.fill(accuracy_in_words(given, test), 100), flush=True)
    shared = {"held_out": test, "mirror": chosen.mirror, "device": device, "seed": chosen.seed}
    return _Asked(images, test, given, chosen.kind, minutes, out, shared)


def _classifier(asked: _Asked, name: str, first: bool, **own: Any) -> Any:
    """Train a classifier, or load it if an earlier run has finished it."""
    from cfxnb import train, weights
    from cfxnb.core.model_folder import is_model_folder

    if is_model_folder(asked.out / name):
        return weights.load(asked.out / name, asked.shared["device"])
    if first:
        print(f"== {name}", flush=True)
    found = train.classifier(asked.images, **asked.options(name) | own)
    if first:
        found.save(asked.out / name)
    return found


def _space(asked: _Asked, classifier: Any, judge: Any, first: bool) -> Any:
    """Train the space, or load it if an earlier run has finished it."""
    from cfxnb import train, weights
    from cfxnb.core.model_folder import is_model_folder

    place = asked.out / "space"
    if is_model_folder(place):
        return weights.load(place, asked.shared["device"])
    if first:
        print("== space", flush=True)
    options = asked.options("space") | {"classifier": classifier, "judge": judge}
    return train.space(asked.images, asked.kind, output_dir=place, **options)


def _judge_space(asked: _Asked, space: Any, classifier: Any, judge: Any, same: bool) -> None:
    """Attack held-out images, and print whether the space is good enough.

    Args:
        same: Whether the card of the space was measured with this classifier.
    """
    from cfxnb.core.prediction import predict_logits
    from cfxnb.explanation.methods import passes_gradients
    from cfxnb.train.quality import SURVIVE

    sample, flips, agrees = _sample(asked.held_out), None, None
    known = space.card["quality"].get(SURVIVE) if same else None
    survival = _survival(sample, space, classifier) if known is None else known
    if asked.kind != "autoencoder" and passes_gradients(classifier, sample):
        latent = _attack(sample, space, classifier, judge, asked.out)
        flips = int(latent.flipped.sum()), int(latent.eligible.sum())
        seen = predict_logits(judge, latent.image).argmax(1).cpu()
        agrees = int((seen == latent.target.cpu())[latent.flipped.cpu()].sum())
    elif asked.kind != "autoencoder":
        print(
            "== no counterfactuals: the attacks need gradients, which the classifier does not give"
        )
    print("== verdict")
    for text in verdict(asked.kind, survival, len(asked.held_out), flips, agrees):
        print(textwrap.fill(text, 100))


def _given_classifier(text: str, device: Any, image: Any, class_names: Any) -> Any:
    """Load the classifier that the user named, and try it on one image."""
    import yaml

    from cfxnb.core.prediction import predict_logits
    from cfxnb.explanation.parts import load_classifier

    name = "--classifier"
    value: Any = text
    if text.lstrip().startswith("{"):
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"{name}: expected a mapping in YAML, got {text!r:.200}") from None
    found = load_classifier(value, name, device)
    try:
        count = predict_logits(found, image).shape[1]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: expected a classifier of the images, got {error}") from None
    names = tuple(class_names)
    if count != len(names):
        raise ValueError(
            f"{name}: expected {len(names)} classes, one per subfolder, got {count} logits"
        )
    own = getattr(found, "class_names", None)
    if own is not None and tuple(own) != names and sorted(own) == sorted(names):
        raise ValueError(
            f"{name}: expected the classes in the order {', '.join(names)}, as the subfolders, got "
            f"{', '.join(own)}"
        )
    return found


def accuracy_in_words(classifier: Any, images: Any) -> str:
    """Return how often a classifier is right on labelled images, before time is spent on it."""
    from cfxnb.core.prediction import predict_logits
    from cfxnb.explanation.findings import share
    from cfxnb.explanation.selection import spread

    part = images[spread(len(images), N_MEASURED)]
    right = int((predict_logits(classifier, part.images).argmax(1).cpu() == part.labels).sum())
    text = f"== your classifier is right on {share(right, len(part))} of the held-out images"
    if right < FEW * len(part):
        text += (
            ". Warning: that is less than half. It may need another normalisation (mean, std) or "
            "size, or has its classes in another order than the subfolders."
        )
    return text


def _sample(held_out: Any) -> Any:
    """Return some held-out images, floats (n, c, h, w)."""
    import torch

    from cfxnb.train.training_data import training_data

    data = training_data(held_out, "held_out", least=2)
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:N_MEASURED]
    return data[rows].floats()


def _survival(images: Any, space: Any, classifier: Any) -> float:
    """Return the fraction of images whose predicted class survives reconstruction."""
    import torch

    from cfxnb.core.prediction import predict_logits

    device = space.mean.device
    with torch.no_grad():
        parts = [space.decode(space.encode(part.to(device))).cpu() for part in images.split(100)]
    before, after = (predict_logits(classifier, x).argmax(1) for x in (images, torch.cat(parts)))
    return (before == after).double().mean().item()


def _attack(images: Any, space: Any, classifier: Any, judge: Any, out: Path) -> Any:
    """Run both attacks, write and print their report, and return the latent attack's result."""
    from cfxnb.attacks.latent_attack import latent_attack
    from cfxnb.attacks.pixel_attack import pixel_attack
    from cfxnb.core.prediction import predict_logits
    from cfxnb.metrics import report
    from cfxnb.train.images_as_png import write_rows

    target = predict_logits(classifier, images).topk(2).indices[:, 1]  # the second most probable
    latent = latent_attack(space, classifier, images, target)
    pixel = pixel_attack(classifier, images, target)
    table = report({"latent_attack": latent, "pixel_attack": pixel}, judge=judge)
    table.to_csv(out / "counterfactuals.csv")
    shown = [images, latent.reconstruction, latent.image, pixel.image]
    write_rows(out / "counterfactuals.png", [row[:12] for row in shown])
    print(f"== counterfactuals of {len(images)} held-out images")
    print(table.T.to_string())
    return latent


def verdict(
    kind: str,
    survival: float,
    n_images: int,
    flips: tuple[int, int] | None = None,
    agrees: int | None = None,
) -> list[str]:
    """Return in words whether a space is good enough to explain a classifier with.

    Args:
        kind: Kind of the space, one of ``KINDS``.
        survival: Fraction of the decisions that survive reconstruction.
        n_images: Number of held-out images.
        flips: Number of images that the latent attack flipped, and number of images that it tried.
            None if the attack was not run.
        agrees: Number of flipped images in which the judge sees the target, or None.
    """
    from cfxnb.explanation.findings import SURVIVAL, share

    # A latent diffusion model reconstructs as its autoencoder does.
    others = [k for k in SHARPER if k != kind and (kind, k) != ("ldm", "autoencoder")]
    advice = (
        f"Train longer (--minutes), or try --kind {' or '.join(others)}. Name another --output, "
        "because an existing space is not trained again."
    )
    percent = (
        f"{math.floor(1000 * survival + 1e-6) / 10:g} % of the decisions survive reconstruction"
    )
    good = survival >= SURVIVAL
    if good:
        found = [f"{percent}: at least nine of ten, which is enough to explain decisions with."]
    else:
        found = [
            f"{percent}: fewer than nine of ten, so explanations in this space say little about "
            f"the classifier. {advice}"
        ]
    if flips is not None and flips[0] < FEW * flips[1]:
        found.append(
            f"The latent attack changes only {share(*flips)} of the decisions. For the other "
            "images this space shows no counterfactual, or only a search with more steps finds one."
            f"{f' {advice}' if good else ''}"
        )
    elif flips is not None:
        found.append(f"The latent attack changes {share(*flips)} of the decisions.")
    if flips is not None and agrees is not None and flips[0]:
        text = f"The judge agrees with {share(agrees, flips[0])} of these changes."
        if agrees < AGREED * flips[0]:
            text += " Images with which it disagrees do not show the target to another network."
        found.append(text)
    if n_images < ENOUGH:
        found.append(
            f"Only {n_images} images were held out, so these percentages are rough. Add images."
        )
    return found
