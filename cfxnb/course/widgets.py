"""Things to touch. Each draws once at once, so that it fails in tests if it is broken, and
leaves a static picture for pages without a kernel."""

import html
import math
from collections.abc import Callable
from typing import Any

import ipywidgets
from IPython.display import HTML, display
from tqdm.auto import tqdm
from traitlets import TraitError

from cfxnb.core import validate
from cfxnb.core.types import OnStep, Step
from cfxnb.plots.pictures import Picture

MOST = 1000  # choices of a list
Control = tuple[float, float] | tuple[float, float, float] | list | bool


def explore(draw: Callable[..., Picture], **controls: Control) -> None:
    """Show ``draw(...)`` with a control for each of its arguments.

    The picture is an ordinary output that the controls redraw: it stays where there is no
    kernel. All controls work with the keyboard: tab, then arrow keys on a slider; space opens a
    list or ticks a box.

    Args:
        draw: called with one value a control; returns a Picture.
        controls: ``(low, high)`` of ints, ``(low, high, step)``, a list of choices, or a bool;
            the first choice or the low end is shown first.

    Raises:
        TypeError: if ``draw`` doesn't return a Picture, or a control is something else.
        ValueError: if a range has its low end above its high end.
    """
    validate.function(draw, "draw")
    boxes = {name: _control(name, spec) for name, spec in controls.items()}

    def current() -> Picture:
        drawn = draw(**{name: box.value for name, box in boxes.items()})
        if not isinstance(drawn, Picture):
            raise TypeError(f"draw: expected it to return a Picture, got {type(drawn).__name__}")
        return drawn

    handle = display(current(), display_id=True)

    def redraw(_: Any) -> None:
        try:
            handle.update(current())
        except Exception as error:  # a callback's exception would be seen by nobody
            told = html.escape(f"{type(error).__name__}: {error}")
            handle.update(HTML(f"<pre>{told}</pre>"))

    for box in boxes.values():
        box.observe(redraw, names="value")
    display(ipywidgets.VBox(list(boxes.values())))


def _control(name: str, spec: Control) -> Any:
    words = name.replace("_", " ")
    common: dict[str, Any] = {"description": words, "style": {"description_width": "initial"}}
    if isinstance(spec, bool):
        return ipywidgets.Checkbox(value=spec, **common)
    if isinstance(spec, list) and 0 < len(spec) <= MOST:
        try:
            return ipywidgets.Dropdown(options=spec, **common)
        except TraitError as error:
            raise ValueError(
                f"{name}: expected choices that can be told apart, got {validate.describe(spec)}: "
                f"{error}"[:300]
            ) from None
    if isinstance(spec, tuple) and len(spec) in (2, 3):
        return _slider(name, spec, common)
    raise TypeError(
        f"{name}: expected (low, high), (low, high, step), a list or a bool, got "
        f"{validate.describe(spec)}"
    )


def _slider(name: str, spec: tuple[float, ...], common: dict[str, Any]) -> Any:
    for value in spec:
        validate.number(value, name, -math.inf)
    low, high, *step = spec
    if low > high or (step and step[0] <= 0):
        raise ValueError(
            f"{name}: expected low <= high and a positive step, got {validate.describe(spec)}"
        )
    common = common | {"layout": {"width": "28em"}, "continuous_update": False}
    if all(isinstance(v, int) for v in spec):
        return ipywidgets.IntSlider(low, min=low, max=high, step=step[0] if step else 1, **common)
    size = step[0] if step else (high - low) / 20
    return ipywidgets.FloatSlider(low, min=low, max=high, step=size, **common)


def predict_then_run(question: str, choices: list[str]) -> Callable[[str], str]:
    """Ask for a guess before the answer is computed; compare it afterwards.

    Shows the question with the choices as radio buttons; nothing is chosen at first.

    Returns:
        A function: call it with the computed answer, one of ``choices``, in a later cell. It
        says whether the guess was right.

    Raises:
        ValueError, TypeError: for a question that is no text, or fewer than two different choices.
    """
    if not validate.text(question, "question").strip():
        raise ValueError("question: expected a question, got nothing")
    choices = validate.texts(choices, "choices")
    if len(set(choices)) < max(2, len(choices)) or len(choices) > MOST:
        raise ValueError(
            f"choices: expected 2 to {MOST} different answers, got {validate.describe(choices)}"
        )
    box = ipywidgets.RadioButtons(options=choices, value=None, layout={"width": "max-content"})
    display(ipywidgets.VBox([ipywidgets.Label(question), box]))

    def compare(answer: str) -> str:
        if not isinstance(answer, str) or answer not in choices:
            raise ValueError(f"answer: expected one of {choices}, got {validate.describe(answer)}")
        if box.value is None:
            return f"Computed: {answer}. (No guess was made above.)"
        verdict = "as you guessed" if box.value == answer else f"you guessed: {box.value}"
        return f"Computed: {answer} ({verdict})."

    return compare


def progress() -> OnStep:
    """An ``on_step`` that draws a progress bar, with the number of samples still worked on."""
    bar = tqdm(desc="looks")

    def on_step(step: Step) -> None:
        bar.total = step.total
        bar.set_postfix(working=int(step.active.sum()))
        bar.update(1)

    return on_step
