"""Load data, classifiers and spaces that a file names. No file is ever unpickled."""

import importlib
import inspect
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cfxnb import weights
from cfxnb.core import goals, validate
from cfxnb.core.classifiers import Wrapped, wrap, wrapping_options
from cfxnb.core.disk import cause, given_path, kind_of, shown
from cfxnb.core.regression import wrap_regression
from cfxnb.data.fairface import faces
from cfxnb.data.folder import folder
from cfxnb.data.mnist import digits
from cfxnb.data.sprite_figures import sprites
from cfxnb.data.xrays import chest
from cfxnb.explanation.methods import nearest
from cfxnb.spaces.checkpoints.diffae_files import load_diffae
from cfxnb.spaces.checkpoints.pipelines import load_diffusers
from cfxnb.spaces.stylegan2 import load_stylegan2

#: Goals that may stand in place of a target.
GOALS: dict[str, Any] = {
    "raise_to": goals.raise_to,
    "lower_to": goals.lower_to,
    "raise_by": goals.raise_by,
    "lower_by": goals.lower_by,
    "between": goals.between,
    "score": goals.score,
}
SHIPPED = {"digits": digits, "sprites": sprites, "faces": faces, "chest": chest}
TORCHSCRIPT = (".pt", ".pth", ".ts", ".torchscript")
ONNX = (".onnx",)
CARD_FILE = "card.json"  # in a folder that cfx.train has written; other folders are of diffusers
DIFFAE = (".ckpt",)
STYLEGAN = (".pkl", ".pt")
FUNCTION = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")  # package.module:function
WRAPPING = ("mean", "std", "size", "channels", "transform", "dtype", "processor")


def options_of(function: Any, given: Mapping[str, Any], name: str, without: tuple = ()) -> None:
    """Raise ValueError if a mapping has a key that is no argument of a function."""
    known = [key for key in inspect.signature(function).parameters if key not in without]
    for key in given:
        if key not in known:
            raise ValueError(
                f"{name}: expected keys out of {', '.join(known)}, got {key!r:.80}"
                f"{nearest(key, known)}"
            )


def check_data(value: Any, name: str = "data") -> tuple[Any, dict[str, Any]]:
    """Return the function that loads the data, and its arguments, after checking both.

    Args:
        value: Name of a shipped set, a path, or a mapping with ``name`` or ``path`` and options.
        name: Name of the key, for messages.
    """
    given = {"path": value} if isinstance(value, str | os.PathLike) else value
    if not isinstance(given, Mapping) or not {"name", "path"} & given.keys():
        raise TypeError(
            f"{name}: expected the name of a data set, a path, or a mapping with 'name' or 'path', "
            f"got {validate.describe(value)}"
        )
    given = dict(given)
    place = given.pop("path", None)
    if place in SHIPPED and kind_of(Path(str(place))) == "nothing there":
        given["name"], place = place, None
    if place is None:
        own = given.pop("name")
        if own not in SHIPPED:
            raise ValueError(
                f"{name}: expected one of {', '.join(SHIPPED)} or a path, got {own!r:.80}"
                f"{nearest(own, SHIPPED)}"
            )
        function = SHIPPED[own]
        options_of(function, given, name)
        default = {} if own == "sprites" else {"split": "test"}
        return function, {**default, **given}
    path = given_path(place, name=name)
    if kind_of(path) not in ("a folder", "a file"):
        raise ValueError(
            f"{name}: expected a folder, a table, or one of {', '.join(SHIPPED)}, got "
            f"{shown(path)}: {kind_of(path)}{nearest(place, SHIPPED)}"
        )
    options_of(folder, given, name, ("path",))
    return folder, {"path": path, **given}


def load_data(value: Any, name: str = "data") -> Any:
    """Return the data set that a file names."""
    function, options = check_data(value, name)
    try:
        return function(**options)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{name}: {error}") from None


def check_model(value: Any, name: str, suffixes: tuple[str, ...]) -> tuple[str, Any, dict]:
    """Return the kind of a model ("shipped", "folder", "function", "file"), its source and options.

    Args:
        value: A name, a path, "package.module:function", or a mapping with ``load`` and options.
        name: Name of the key, for messages.
        suffixes: Endings of the files that can be read.
    """
    given = {"load": value} if isinstance(value, str | os.PathLike) else value
    if not isinstance(given, Mapping) or "load" not in given:
        raise TypeError(
            f"{name}: expected a name, a path, 'package.module:function', or a mapping with "
            f"'load', got {validate.describe(value)}"
        )
    options = {key: each for key, each in given.items() if key != "load"}
    what = given["load"]
    known = weights.list_names()
    if what in known:
        return "shipped", what, options
    path = given_path(what, name=name)
    kind = kind_of(path)
    if kind == "a folder":
        return "folder", path, options
    if kind == "a file":
        if path.suffix.lower() not in suffixes:
            raise ValueError(
                f"{name}: expected a file that ends with {' or '.join(suffixes)}, got {shown(path)}"
            )
        return "file", path, options
    text = str(what)
    if FUNCTION.fullmatch(text) and not text.endswith(suffixes):
        return "function", text, options
    raise ValueError(
        f"{name}: expected a name that 'python -m cfxnb data' lists, a path, or "
        f"'package.module:function', got {text!r:.200}, which is {kind}{nearest(text, known)}"
    )


def check_classifier(value: Any, name: str) -> tuple[str, Any, dict]:
    """Return what ``check_model`` returns, after checking all options of ``cfx.wrap``.

    With the key ``regression``, they are the options of ``cfx.wrap_regression``. A module that the
    settings name is imported. No weights are loaded.
    """
    how, what, options = check_model(value, name, TORCHSCRIPT + ONNX)
    regression = is_regression(value, name)
    options.pop("regression", None)
    options_of(wrap_regression if regression else wrap, options, name, ("module",))
    try:
        wrapping_options(*(options.get(key) for key in WRAPPING))
        for key in ("names", "units"):
            if not isinstance(options.get(key), str):
                validate.optional(validate.texts, options.get(key), key)
        validate.optional(validate.class_names, options.get("class_names"), "class_names")
    except (ValueError, TypeError) as error:
        raise type(error)(f"{name}.{error}") from None
    if how == "shipped" and (kind := weights.read_card(what)["kind"]) != "classifier":
        raise ValueError(f"{name}: expected a classifier, got {what!r}, which is a {kind}")
    if how == "function":
        _find_object(what, name)
    return how, what, options


def is_regression(value: Any, name: str) -> bool:
    """Return whether settings say that a model is a regression model."""
    found = value.get("regression", False) if isinstance(value, Mapping) else False
    if not isinstance(found, bool):
        raise TypeError(f"{name}.regression: expected true or false, got {found!r:.40}")
    return found


def check_target(value: Any) -> Any:
    """Return the target of settings. A mapping with the name of a goal is turned into the goal.

    Goals are ``{raise_to: 0.8}``, ``{lower_by: 2, output: age}``, ``{between: [1, 2]}`` and
    ``{score: "package.module:function", at_least: 0.5}``. The module of a score is imported.
    """
    chosen = [key for key in GOALS if isinstance(value, Mapping) and key in value]
    if not chosen:
        return value
    if len(chosen) > 1:
        raise ValueError(f"target: expected one goal, got {' and '.join(chosen)}")
    kind = chosen[0]
    function, options = GOALS[kind], {k: v for k, v in value.items() if k != kind}
    first = list(inspect.signature(function).parameters)[: 2 if kind == "between" else 1]
    options_of(function, options, f"target.{kind}", tuple(first))
    given = [value[kind]]
    if kind == "between":
        given = list(value[kind]) if isinstance(value[kind], list | tuple) else given
        if len(given) != 2:
            raise ValueError(f"target.between: expected [low, high], got {value[kind]!r:.80}")
    if kind == "score":
        text = value[kind]
        if not isinstance(text, str) or not FUNCTION.fullmatch(text):
            raise ValueError(f"target.score: expected 'package.module:function', got {text!r:.80}")
        given = [_find_object(text, "target.score")]
    try:
        return function(*given, **options)
    except (ValueError, TypeError) as error:
        raise type(error)(f"target.{kind}: {error}") from None


def stated_names(value: Any, name: str) -> tuple[str, ...] | None:
    """Return the names of the classes that settings or card of a classifier state, or None."""
    how, what, options = check_model(value, name, TORCHSCRIPT + ONNX)
    if is_regression(value, name):
        return None
    if options.get("class_names") is not None:
        return validate.class_names(options["class_names"], name)
    if options:
        return None
    if how == "shipped":
        return tuple(weights.read_card(what)["class_names"])
    if how == "folder" and kind_of(what / CARD_FILE) == "a file":
        try:
            listed = json.loads((what / CARD_FILE).read_text(encoding="utf-8")).get("classes")
        except (OSError, ValueError, AttributeError):
            return None  # loading tells what is wrong
        return tuple(map(str, listed)) if isinstance(listed, list) and listed else None
    return None


def load_classifier(value: Any, name: str, device: torch.device) -> Any:
    """Return the classifier that a file names."""
    how, what, options = check_classifier(value, name)
    if how in ("shipped", "folder"):
        found = weights.load(what, device)
        if not callable(found) or hasattr(found, "decode"):
            raise ValueError(f"{name}: expected a classifier, got {what!s:.200}, which is another")
    elif how == "function":
        found = named_object(what, name)
    else:
        found = _of_file(what, name, device)
    ready = how == "shipped" or isinstance(found, Wrapped)  # a second wrapper would hide its card
    if is_regression(value, name):
        return wrap_regression(found, **options)
    return found if ready and not options else wrap(found, **options)


def named_object(text: str, name: str) -> Any:
    """Import "package.module:function", and return the classifier or space that it makes.

    A function or class without required arguments is called, and its result is used.
    """
    found = _find_object(text, name)
    if isinstance(found, torch.nn.Module) or not callable(found):
        return found
    try:
        needed = [
            p
            for p in inspect.signature(found).parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
    except (TypeError, ValueError):  # functions without a signature
        return found
    return found if needed else found()


def _find_object(text: str, name: str) -> Any:
    """Import the module of "package.module:function", and return what the text names."""
    module, _, attribute = text.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{name}: expected a module that can be imported from {here}, got {module!r:.100}: "
            f"{cause(error)}"
        ) from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [key for key in vars(found) if not key.startswith("_")]
            raise ValueError(
                f"{name}: expected a name of the module {module}, got {part!r:.80}"
                f"{nearest(part, known)}"
            )
        found = getattr(found, part)
    return found


def _of_file(path: Path, name: str, device: torch.device) -> Any:
    """Return a classifier in TorchScript or ONNX."""
    if path.suffix.lower() in ONNX:
        try:
            ort = importlib.import_module("onnxruntime")
        except ModuleNotFoundError:
            raise ValueError(
                f"{name}: expected the package onnxruntime, which reads {path.name}, got none; "
                "pip install onnxruntime"
            ) from None
        try:
            return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # the errors of onnxruntime have no common class
            raise ValueError(
                f"{name}: expected a model in ONNX, got {shown(path)}: {cause(error)}"
            ) from None
    try:
        # TorchScript is read and run by its own interpreter, which knows no Python objects.
        return torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError, EOFError) as error:
        raise ValueError(
            f"{name}: expected TorchScript (torch.jit.save), got {shown(path)}: {cause(error)}. A "
            "file of torch.save is a pickle, which may run any code, and is not read. Name a "
            "function that builds the network and loads its weights: 'package.module:function'"
        ) from None


def check_space(value: Any, name: str) -> tuple[str, Any, dict, Any]:
    """Return the kind of a space, its source, its options, and the reader of its file or None.

    A module that the settings name is imported. No weights are loaded.
    """
    how, what, options = check_model(value, name, DIFFAE + STYLEGAN)
    if how == "shipped" and (kind := weights.read_card(what)["kind"]) != "space":
        raise ValueError(f"{name}: expected a space, got {what!r}, which is a {kind}")
    if how == "function":
        _find_object(what, name)
    reader: Any = None
    if how == "folder" and kind_of(what / CARD_FILE) != "a file":
        reader = load_diffusers
    elif how == "file":
        reader = load_diffae if what.suffix.lower() in DIFFAE else load_stylegan2
    if reader is not None:
        options_of(reader, options, name)
    elif options:
        raise ValueError(f"{name}: expected no options for {what!s:.200}, got {', '.join(options)}")
    return how, what, options, reader


def load_space(value: Any, name: str, device: torch.device) -> Any:
    """Return the space that a file names."""
    how, what, options, reader = check_space(value, name)
    if reader is not None:
        return reader(what, **{"device": device, **options})
    found = named_object(what, name) if how == "function" else weights.load(what, device)
    return validate.space(found, name)
