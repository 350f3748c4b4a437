"""Train a classifier, a judge and a space on a folder of images.

The folder has one subfolder of images per class, or is laid out in another way that
cfx.data.folder reads. Height and width must be divisible by 4; --size resizes the images. A tenth
of the images is held out, and everything is measured on it. If the folder states its splits
("train" and "test"), these are used.

What is trained is written to the output folder:

  classifier/          the classifier that is explained (unless --classifier names one)
  judge/               a second classifier of another size and seed, which no method sees
  space/               the generator, with pictures of reconstructions and samples
  counterfactuals.csv  how often the latent attack and, as a baseline, the pixel attack change the
                       classifier's decision, and how often the judge agrees
  counterfactuals.png  originals, reconstructions, and the counterfactuals of both

Each folder holds model.safetensors and card.json, and cfx.load(folder) reads it. If the command is
interrupted, the same command continues. On several GPUs, start it with
"accelerate launch -m cfxnb train ...".

Example:

  python -m cfxnb train pictures/ --output models/ --minutes 25
"""

import argparse
import logging
from pathlib import Path
from typing import Any

KINDS = ("vae", "ldm", "diffae", "autoencoder")
PARTS = {"classifier": 0.12, "judge": 0.16, "space": 0.62}  # of the time; the rest is for measuring
JUDGE = {"width": 24}  # another size, other weights, other images to stop by
N_MEASURED = 100  # held-out images that are attacked


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("folder", help="folder with one subfolder of images per class")
    parser.add_argument("--output", required=True, help="folder for what is trained")
    parser.add_argument("--kind", choices=KINDS, default="vae", help="kind of space, default: vae")
    parser.add_argument("--minutes", type=float, default=25.0, help="time budget, default: 25")
    parser.add_argument("--classifier", help="folder or name of a classifier to use, not to train")
    parser.add_argument("--mirror", action="store_true", help="also train on mirrored images")
    parser.add_argument("--size", type=int, help="resize images to this height and width")
    parser.add_argument("--device", help="cpu, cuda or mps; default: cuda or mps if there is one")
    parser.add_argument("--seed", type=int, default=0, help="seed, default: 0")


def run(chosen: argparse.Namespace) -> int:
    """Train, measure, and print where things are and how good they are."""
    from cfxnb import train, weights
    from cfxnb.core import validate
    from cfxnb.core.model_folder import is_model_folder
    from cfxnb.core.training_processes import Processes
    from cfxnb.train.training_data import opened

    processes = Processes()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    minutes = validate.number(chosen.minutes, "--minutes", 0.0, open_low=True)
    device, out = validate.device(chosen.device), Path(chosen.output).expanduser()
    options = {} if chosen.size is None else {"size": chosen.size}
    images, test = opened(chosen.folder, None, **options)
    shared = {"held_out": test, "mirror": chosen.mirror}
    shared |= {"device": device, "seed": chosen.seed}

    def say(text: str) -> None:
        if processes.is_first:
            print(text, flush=True)

    def checkpoints(name: str) -> Path:
        return out / "checkpoints" / name

    def trained(name: str, **given: object) -> object:
        """Train a classifier, or load it if an earlier run has finished it."""
        if is_model_folder(out / name):
            return weights.load(out / name, device)
        say(f"== {name}")
        time = PARTS[name] * minutes
        found = train.classifier(
            images, minutes=time, checkpoint_dir=checkpoints(name), **{**shared, **given}
        )
        if processes.is_first:
            found.save(out / name)
        return found

    if chosen.classifier is None:
        classifier = trained("classifier")
    else:
        classifier = weights.load(chosen.classifier, device)
    judge = trained("judge", config=JUDGE, seed=chosen.seed + 1)
    if is_model_folder(out / "space"):
        space = weights.load(out / "space", device)
    else:
        say("== space")
        space = train.space(
            images,
            chosen.kind,
            classifier=classifier,
            judge=judge,
            minutes=PARTS["space"] * minutes,
            checkpoint_dir=checkpoints("space"),
            output_dir=out / "space",
            **shared,
        )
    if not processes.is_first:
        return 0
    made: Any
    for name, made in (("classifier", classifier), ("judge", judge), ("space", space)):
        print(f"== {name}: {(made.card or {}).get('summary', chosen.classifier)}")
        for what, value in (made.card or {"quality": {}})["quality"].items():
            print(f"   {value:10.5g}  {what}")
    if chosen.kind != "autoencoder":
        _attack(test, space, classifier, judge, out)
    return 0


def _attack(held_out: Any, space: Any, classifier: Any, judge: Any, out: Path) -> None:
    """Write and print how latent attack and pixel attack do on held-out images."""
    import torch

    from cfxnb.attacks.latent_attack import latent_attack
    from cfxnb.attacks.pixel_attack import pixel_attack
    from cfxnb.core.prediction import predict_logits
    from cfxnb.metrics import report
    from cfxnb.train.images_as_png import write_rows
    from cfxnb.train.training_data import training_data

    data = training_data(held_out, "held_out", least=2)
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:N_MEASURED]
    test = data[rows].floats()
    logits = predict_logits(classifier, test)
    target = logits.topk(2).indices[:, 1]  # the second most probable class
    latent = latent_attack(space, classifier, test, target)
    pixel = pixel_attack(classifier, test, target)
    table = report({"latent_attack": latent, "pixel_attack": pixel}, judge=judge)
    table.to_csv(out / "counterfactuals.csv")
    shown = [test, latent.reconstruction, latent.image, pixel.image]
    write_rows(out / "counterfactuals.png", [row[:12] for row in shown])
    print(f"== counterfactuals of {len(test)} held-out images")
    print(table.T.to_string())
