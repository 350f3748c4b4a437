"""Read, check and run a file of settings, which names data, classifier and space."""

import dataclasses
import logging
import os
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from cfxnb import weights
from cfxnb.core import processes, validate
from cfxnb.core.disk import cause, given_path, kind_of, shown
from cfxnb.core.goals import Goal
from cfxnb.explanation.explain import Question, explain_named
from cfxnb.explanation.files import PAGE, SETTINGS, checked_place
from cfxnb.explanation.methods import check_methods, nearest
from cfxnb.explanation.parts import (
    check_classifier,
    check_data,
    check_space,
    check_target,
    is_regression,
    load_classifier,
    load_data,
    load_space,
    stated_names,
)
from cfxnb.explanation.result import Explanation
from cfxnb.explanation.selection import TARGETS

LARGEST_FILE = 2**20  # bytes of a file of settings
MUST = ("data", "classifier")
log = logging.getLogger("cfxnb")
SAME_PAGE = ("output_dir", "device", "title")  # may differ without changing the results

EXAMPLE = """\
# Settings of 'python -m cfxnb explain'. Save this as explain.yaml and run:
#
#     python -m cfxnb explain explain.yaml
#
# The page is then in explanation/index.html. Lines that begin with # are comments.

title: Why does this classifier read a digit like this?

# The images: digits, sprites, faces or chest; or a folder of images (one folder per class, or a
# table metadata.csv). A mapping takes the options of cfx.data.folder:
#
#     data: {path: photos, split: test, size: 64}
data: digits

# The classifier: a name that 'python -m cfxnb data' lists, a folder that cfx.train has written,
# a file in TorchScript (.pt) or ONNX (.onnx), or a function in a module of yours, which is imported
# from the present folder. A mapping takes the options of cfx.wrap:
#
#     classifier: {load: "my_package.nets:load_net", mean: 0.5, std: 0.25, class_names: [cat, dog]}
classifier: digits/classifier

# The generator: a name, a folder that cfx.train or diffusers has written, a checkpoint (.ckpt of a
# diffusion autoencoder, .pkl of StyleGAN2), or a function. Several in a list. Leave it out to see
# only methods without a generator. 'python -m cfxnb train' trains one on your images.
space: [digits/vae, digits/ldm]

# An independent classifier with the same classes. It tells whether a counterfactual really shows
# the target. Leave it out if you have none.
judge: digits/judge

# The class to reach: second (the most probable other class of each image), next, a class, or a
# mapping from predicted class to target.
#
# A model that predicts numbers, such as an age, has a goal in place of a class:
#
#     classifier: {load: "my_package.nets:load_net", regression: true, names: age, units: years}
#     target: {lower_by: 5}      # or raise_by, {raise_to: 80}, lower_to, {between: [20, 30]};
#                                # {lower_by: 5, output: age} if there are several outcomes
#
# A score of your own is a function in a module. It maps the outputs of the model (b, k) to (b,):
#
#     target: {score: "my_package.scores:margin", at_least: 0.5}
target: second

# The methods: auto for all that apply, a list of names, or a mapping from name to options.
methods:
  latent_attack: {}
  flow_counterfactual: {flow: digits/flow}
  diffusion_counterfactual: {}
  pixel_attack: {}
  random_change: {}
  reconstruct: {}

# How many images are explained: a number; all for the whole data set, with constant memory; or auto
# for 24, or fewer if they would take longer than max_minutes. The page shows at most 24 images, and
# its numbers are over all of them.
n_images: 16
# max_minutes: 10     # limits the images if n_images is auto, and the methods if methods is auto
output_dir: explanation
seed: 0
# device: cuda        # default: a GPU if there is one
# reference: {name: digits, split: train}   # images for fitting; default: images not explained
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one explanation. The names are the keys of the file.

    Attributes:
        data, classifier, space, judge, reference: What to load, see ``cfxnb.explanation.parts``.
        target, methods, n_images, max_minutes, title, seed: See ``cfxnb.explain``.
        output_dir: Folder for the page and all data.
        device: Device to run on, or None for the best.
    """

    data: Any
    classifier: Any
    space: Any = None
    judge: Any = None
    reference: Any = None
    target: Any = "second"
    methods: Any = "auto"
    n_images: Any = "auto"
    max_minutes: float = 10.0
    title: str = "Why does the classifier decide like this?"
    output_dir: str = "explanation"
    seed: int = 0
    device: str | None = None


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of settings in YAML. ``checked`` checks the settings.

    Raises:
        ValueError, TypeError: If the file cannot be read, or does not hold keys and values.
    """
    place = given_path(path)
    if (kind := kind_of(place)) != "a file":
        raise ValueError(f"path: expected a file of settings, got {shown(place)}: {kind}")
    if place.stat().st_size > LARGEST_FILE:
        raise ValueError(f"path: expected a file of settings, got {shown(place)}: too large")
    try:
        value = yaml.safe_load(place.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, OSError, UnicodeError) as error:
        raise ValueError(f"path: expected YAML, got {shown(place)}: {cause(error, 300)}") from None
    if not isinstance(value, Mapping):
        raise TypeError(f"path: expected keys and values, got {validate.describe(value)}")
    return dict(value)


def checked(value: Mapping[str, Any], later: Collection[str] = ()) -> Config:
    """Return the settings in a mapping, checked without loading anything.

    Args:
        value: Values by key.
        later: Keys of networks that will be trained first, and that do not exist yet.

    Raises:
        ValueError, TypeError: If a key is unknown, or if a value names something that does not
            exist. The error message begins with the key of the setting.
    """
    known = [field.name for field in dataclasses.fields(Config)]
    for key in value:
        if key not in known:
            raise ValueError(
                f"{key}: expected one of the keys {', '.join(known)}, got {key!r:.80}"
                f"{nearest(key, known)}"
            )
    for key in MUST:
        if value.get(key) is None:
            raise ValueError(f"{key}: expected in the settings, got none; see --example")
    config = Config(**{key: each for key, each in value.items() if each is not None})
    for key in ("title", "output_dir"):
        validate.text(getattr(config, key), key)
    validate.seed(config.seed)
    if config.n_images not in ("all", "auto"):
        validate.count(config.n_images, "n_images", 1)
    validate.number(config.max_minutes, "max_minutes", 0.0, open_low=True)
    validate.device(config.device)
    for key in ("data", "reference"):
        if getattr(config, key) is not None:
            check_data(getattr(config, key), key)
    for key in ("classifier", "judge"):
        if getattr(config, key) is not None and key not in later:
            check_classifier(getattr(config, key), key)
    for name, each in spaces_of(None if "space" in later else config.space).items():
        check_space(each, f"space {name}")
    check_methods(config.methods)
    if "classifier" not in later:
        _check_target(config)
    return config


def _check_target(config: Config) -> None:
    """Check that the classes in ``target`` are classes of the classifier, if it has names."""
    names, value = stated_names(config.classifier, "classifier"), check_target(config.target)
    if isinstance(value, Goal):
        if value.kind != "score" and names is not None:
            raise ValueError(
                f"target: expected a class, got the goal {value.kind}, which needs a model of "
                "numbers; say regression: true in classifier"
            )
        return
    if is_regression(config.classifier, "classifier"):
        raise ValueError(
            "target: expected a goal such as {raise_to: 0.8}, because classifier is a regression "
            f"model, got {value!r:.80}"
        )
    if names is None or (isinstance(value, str) and value in TARGETS):
        return
    if isinstance(value, Mapping):
        classes = [*value.keys(), *value.values()]
    else:
        classes = value if isinstance(value, list) else [value]
    for each in classes:
        number = isinstance(each, int) and not isinstance(each, bool)
        if not (0 <= each < len(names) if number else each in names):
            raise ValueError(
                f"target: expected 'second', 'next', or a class out of {str(list(names))[:200]}, "
                f"got {each!r:.80}{nearest(each, [*TARGETS, *names])}"
            )


def target_is_checked(config: Config) -> bool:
    """Return whether the names in the target could be compared with names of classes."""
    if isinstance(config.target, str) and config.target in TARGETS:
        return True
    if isinstance(check_target(config.target), Goal):
        return True
    return stated_names(config.classifier, "classifier") is not None


def check_place(config: Config) -> None:
    """Refuse a folder with a page that other settings have made.

    A call with the same settings may replace its page, and continues an interrupted call.
    """
    place = checked_place(config.output_dir)
    if kind_of(place / PAGE) != "a file":
        return
    try:
        stored = yaml.safe_load((place / SETTINGS).read_text(encoding="utf-8"))
        now = _plain(dataclasses.asdict(config))
        differ = [k for k in now if k not in SAME_PAGE and stored.get(k) != now[k]]
        if not differ:
            return
        why = f"other settings ({', '.join(differ)})"
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        why = f"unknown settings (it has no readable {SETTINGS})"
    raise ValueError(
        f"output_dir: expected a folder without a page of other settings, got {shown(place)}, "
        f"which holds a page of {why}; name another folder, or pass --replace to replace the page"
    )


def _plain(value: Any) -> Any:
    """Return settings as values that a YAML file can hold."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _called(config: Config) -> dict[str, str]:
    """Return the names that the settings give to the networks."""
    every = {f"space {name}": each for name, each in spaces_of(config.space).items()}
    every |= {"classifier": config.classifier, "judge": config.judge}
    return {
        key: str(each["load"] if isinstance(each, Mapping) else each)
        for key, each in every.items()
        if each is not None
    }


def spaces_of(value: Any) -> dict[str, Any]:
    """Return the spaces of the settings by name."""
    if value is None:
        return {}
    several = value if isinstance(value, list) else [value]
    found: dict[str, Any] = {}
    for each in several:
        what = each.get("load") if isinstance(each, Mapping) else each
        name = Path(str(what)).stem.rpartition(":")[2] or "space"
        while name in found:
            name += " 2"
        found[name] = each
    return found


def run(config: Config, tell: Callable[[str], Any] = log.info) -> Explanation:
    """Load everything that the settings name, explain, and write the page.

    Args:
        tell: Function that gets the estimate of the time as a text, before the work.
    """
    several = processes.count() > 1 and config.device is None
    device = processes.device() if several else validate.device(config.device)
    spaces = {
        name: load_space(each, f"space {name}", device)
        for name, each in spaces_of(config.space).items()
    }
    judge = None if config.judge is None else load_classifier(config.judge, "judge", device)
    question = Question(
        load_data(config.data),
        load_classifier(config.classifier, "classifier", device),
        spaces or None,
        target=check_target(config.target),
        judge=judge,
        methods=_methods(config.methods, device),
        reference=_reference(config),
        n_images=config.n_images,
        max_minutes=config.max_minutes,
        output_dir=config.output_dir,
        title=config.title,
        seed=config.seed,
        named_as=_called(config),
        tell=tell,
    )
    explanation = explain_named(question)
    if processes.is_main():
        text = yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=False)
        (checked_place(config.output_dir) / SETTINGS).write_text(text, encoding="utf-8")
    return explanation


def _reference(config: Config) -> Any:
    """Return the images for fitting: those of the settings, or the training part of the data."""
    if config.reference is not None:
        return load_data(config.reference, "reference")
    function, options = check_data(config.data)
    if options.get("split") != "test":
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is skipped was told for the data
            return function(**{**options, "split": "train"})
    except ValueError:  # no image is in the training part
        return None


def _methods(value: Any, device: Any) -> Any:
    """Return the methods with their options. Names of flows are replaced by the flows."""
    named = check_methods(value)
    if named is None:
        return None
    for method, options in named.items():
        if isinstance(options.get("flow"), str):
            try:
                options["flow"] = weights.load(options["flow"], device)
            except ValueError as error:
                raise ValueError(f"methods.{method}.flow: {error}") from None
    return named
