"""Calls of everything public: the good ones, and each of them with one argument replaced."""

import dataclasses
import inspect
import re
import typing
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import good
import odd
import verdict
from surface import Callee

#: Arguments in which any text is right.
FREE_TEXT = {"alt", "key", "parent", "question", "source", "template", "title", "xlabel", "ylabel"}
#: Arguments that messages call by another name, too.
ALIASES = {
    "goal": {"output"},  # a part of the goal, which only the model can check
    "asked": {"conditions"},  # which is what the methods call it
    "other": {"parts"},  # a sum joins parts
}
#: Where results may hold NaN, as the docstrings say: function -> place. Regular expressions.
UNDEFINED = {
    "cfx.adjusted_effect": "result",  # a value that some stratum never shows
    "cfx.observed_scores|cfx.score_bounds": "result.*",  # a score of nobody
    "cfx.contrastive_scores|cfx.metrics.true_scores": r"result.table.*",  # nobody asked, no judge
    "cfx.data.measure_digits": "result.*",  # no stroke, nothing to be measured
    # Where nothing was guided.
    "cfx.(diffusion_counterfactual|maskdime|fastdime|dime)": r"result.trace.*",
    "cfx.explain_errors": r"result.counterfactuals.trace.*|result.table\['flipped'\]",
    # Of the steps that flipped, and of images on each side of the decision, if there are any.
    "cfx.find_directions": r"result.table\['(length|towards|away)'\]",
    "cfx.metrics.(flip_rate|mnac)": "result",  # of no images
    "cfx.metrics.(reversibility|stability|transfer)": "result.*",  # of what did not flip
    "cfx.metrics.minimality": "result.*",  # of a class without reference images
    "cfx.metrics.relevance_mass": "result.*",  # a map of zeros
    "cfx.metrics.parameter_randomisation": "result.*",  # constant maps have no ranks
    "cfx.metrics.rank_agreement": r"result\['rank correlation'\]",  # one factor has no ranks
    # What is joined stays as it was.
    "cfx.(Attribution|ContrastiveScores|Counterfactuals).(concatenate|__add__)": "result.*",
    "cfx.spaces.*.decode": "result",  # what is far out, though finite, may overflow
    "cfx.explain": "result.table.*",  # as of cfx.report
    "cfx.report": "result.*",  # what cannot be said is NaN, never 0
    "cfx.*(integrated_gradients|captum_attribution)": "result.relative_delta",  # no change
}
#: Taken though it looks wrong: (function, argument, kind of value) -> why that is right.
RIGHT = {
    ("cfx.metrics.parameter_randomisation", "explain", "returns too (few|many) rows"):
        "how many images are explained is only known to who explains",
    ("cfx.metrics..*", "causes", "dict of NaN"): "names of factors are taken from any collection",
    ("cfx.bars", "table", ".*a NaN in it|series of NaN"): "a row of NaN has no bar",
    ("cfx.curves", "lines", ".*NaN.*"): "NaN leaves a gap",
    (".*", "on_step", "returns None"): "it asks for nothing",
    ("cfx.find_directions", "distance", "returns an? (NaN|infinity)"): "such answers are left out",
    ("cfx.find_directions", "distance", "returns a dimension more"): "(1, n) is one for each pair",
    ("cfx.Code.with_z", "z", ".*(NaN|infinity|meta).*"): "a code holds what it is given",
    ("cfx.spaces.(PixelUnshuffleCodec|LatentCodec).(en|de)code", ".*", ".*(NaN|infinity).*"):
        "parts of spaces, which searches look through far out",
    ("cfx.two_logits", "logit", ".*(NaN|infinity).*"):
        "it stays so, and whoever decides by it looks",
    ("cfx.data.from_dataset", "dataset", ".*(NaN|infinity|meta).*"):
        "broken items are skipped, with a warning",
    ("cfx.evaluate", "method", "returns .*"): "the failure is in the table, with a warning",
    ("cfx.by_profile", "ci|cpu|gpu", ".*"): "any value is passed through",
    ("cfx.(raise_to|lower_to|raise_by|lower_by|between)", "output", ".*text.*"):
        "a name of an outcome, which only the model knows",
}  # fmt: skip


def known(callee: Callee, name: str, parameter: inspect.Parameter) -> Any:
    """The good value, or ``good.DEFAULT``."""
    elsewhere = good.ELSEWHERE.get(callee.label, {})
    if name in elsewhere:
        value = elsewhere[name]
        return value if value is good.DEFAULT else value()
    made = good.OBJECTS.get(callee.makes.__name__) if callee.makes else None
    if made and hasattr(made(), name) and not inspect.ismethod(getattr(made(), name)):
        return getattr(made(), name)
    must = parameter.default is inspect.Parameter.empty
    if name in good.NAMES_OF and (must or parameter.default is not None):
        return good.NAMES_OF[name]()
    if must and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
        raise LookupError(f"{callee.label}: no good value for {name}; add one to good.NAMES_OF")
    return good.DEFAULT


def base(callee: Callee) -> dict[str, Any]:
    """Good arguments."""
    found = {n: known(callee, n, p) for n, p in callee.parameters.items()}
    return {n: value for n, value in found.items() if value is not good.DEFAULT}


def example(callee: Callee, name: str, arguments: dict[str, Any]) -> Any:
    """What odd values are made of: the good value, the default, or what the name says."""
    if name in arguments:
        return arguments[name]
    default = callee.parameters[name].default
    if default is None or default is inspect.Parameter.empty:
        return good.NAMES_OF[name]() if name in good.NAMES_OF else None
    return default


def owner(callee: Callee, surface: list[Callee]) -> Any:
    """The object whose method it is."""
    kind = callee.owner
    if callee.label in good.OWNERS:
        return good.OWNERS[callee.label]()
    if kind.__name__ in good.OBJECTS:
        return good.OBJECTS[kind.__name__]()
    constructor = next(c for c in surface if c.makes is kind)
    return call(constructor, base(constructor), None)()


def call(callee: Callee, arguments: dict[str, Any], this: Any) -> Callable[[], Any]:
    """Ready to run."""
    positional: list[Any] = [] if callee.owner is None else [this]
    named: dict[str, Any] = {}
    for name, value in arguments.items():
        kind = callee.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            positional += list(value)
        elif kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        elif kind is inspect.Parameter.POSITIONAL_ONLY:
            positional.append(value)
        else:
            named[name] = value
    return lambda: callee.function(*positional, **named)


def replaced(callee: Callee, arguments: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    kind = callee.parameters[name].kind
    if kind is inspect.Parameter.VAR_POSITIONAL:
        value = (value,)
    elif kind is inspect.Parameter.VAR_KEYWORD:
        value = {next(iter(arguments[name])): value}
    return {**arguments, name: value}


def hints(callee: Callee) -> dict[str, Any]:
    function = callee.function.__init__ if callee.makes else callee.function
    try:
        return typing.get_type_hints(function)
    except NameError:
        return {}


def customary(callee: Callee) -> tuple[type[Exception], ...]:
    """What Python's own containers raise."""
    return (IndexError, KeyError) if callee.label.endswith(("__getitem__", ".subset")) else ()


def judged(callee: Callee, surface: list[Callee]) -> Iterator[tuple[str, odd.Odd, verdict.Verdict]]:
    """Each argument replaced by each odd value: name, value, verdict."""
    arguments = base(callee)
    this = None if callee.owner is None else owner(callee, surface)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a good call may warn of, tests elsewhere tell
        usual = verdict.not_finite(call(callee, arguments, this)())
    annotated = hints(callee)
    places = [place for label, place in UNDEFINED.items() if re.fullmatch(label, callee.label)]
    undefined = re.compile("|".join(places) or "(?!)")
    names, record = set(callee.parameters), dataclasses.is_dataclass(callee.makes)
    for name, parameter in callee.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD and name in arguments:
            names |= set(arguments[name])
    for name, parameter in callee.parameters.items():
        one = example(callee, name, arguments)
        whole = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if whole:
            if not one:
                continue
            one = next(iter(one.values() if isinstance(one, dict) else one))
        also = ALIASES.get(name, frozenset())
        for each in odd.values(one):
            try:
                value = each.make()
            except Exception:  # no such value can be made of the good one
                continue
            if record:  # it holds what it is given, if that is of the right type
                each = dataclasses.replace(each, wrong=False)
            hint, free = annotated.get(name, Any), name in FREE_TEXT
            fit = verdict.fits(one, parameter, hint, value, free, record)
            run = call(callee, replaced(callee, arguments, name, value), this)
            found = verdict.judge(
                run, each, parameter, names | also, fit, usual, undefined,
                finite=not record, errors=customary(callee),
            )  # fmt: skip
            right = listed(RIGHT, callee.label, name, each.kind)
            if found.kind == verdict.ACCEPTED and right:
                found = verdict.Verdict(verdict.FINE)
            yield name, each, found


def listed(known: dict[tuple[str, str, str], str], *found: str) -> bool:
    return any(
        all(re.fullmatch(pattern, text) for pattern, text in zip(entry, found, strict=True))
        for entry in known
    )
