"""Things to touch. Each draws once at once, so that it fails in tests if it is broken, and
leaves a static picture for pages without a kernel."""

from collections.abc import Callable
from typing import Any

import ipywidgets
from IPython.display import display
from tqdm.auto import tqdm

from cfxnb.plots import Picture
from cfxnb.types import OnStep, Step

Control = tuple[float, float] | tuple[float, float, float] | list | bool


def explore(draw: Callable[..., Picture], **controls: Control) -> None:
    """Show ``draw(...)`` with a control for each of its arguments.

    The picture is an ordinary output that the controls redraw: it stays where there is no
    kernel. All controls work with the keyboard (tab, then arrow keys).

    Args:
        draw: called with one value a control; returns a Picture.
        controls: ``(low, high)`` of ints, ``(low, high, step)``, a list of choices, or a bool;
            the first choice or the low end is shown first.

    Raises:
        TypeError: if ``draw`` doesn't return a Picture, or a control is something else.
    """
    boxes = {name: _control(name, spec) for name, spec in controls.items()}

    def current() -> Picture:
        drawn = draw(**{name: box.value for name, box in boxes.items()})
        if not isinstance(drawn, Picture):
            raise TypeError(f"draw: expected it to return a Picture, got {type(drawn).__name__}")
        return drawn

    handle = display(current(), display_id=True)
    for box in boxes.values():
        box.observe(lambda _: handle.update(current()), names="value")
    display(ipywidgets.VBox(list(boxes.values())))


def _control(name: str, spec: Control) -> Any:
    words = name.replace("_", " ")
    common: dict[str, Any] = {"description": words, "style": {"description_width": "initial"}}
    if isinstance(spec, bool):
        return ipywidgets.Checkbox(value=spec, **common)
    if isinstance(spec, list) and spec:
        return ipywidgets.Dropdown(options=spec, **common)
    if isinstance(spec, tuple) and len(spec) in (2, 3):
        low, high, *step = spec
        common |= {"layout": {"width": "28em"}, "continuous_update": False}
        if all(isinstance(v, int) for v in spec):
            return ipywidgets.IntSlider(
                low, min=low, max=high, step=step[0] if step else 1, **common
            )
        size = step[0] if step else (high - low) / 20
        return ipywidgets.FloatSlider(low, min=low, max=high, step=size, **common)
    raise TypeError(
        f"{name}: expected (low, high), (low, high, step), a list or a bool, got {spec!r}"
    )


def predict_then_run(question: str, choices: list[str]) -> Callable[[str], str]:
    """Ask for a guess before the answer is computed; compare it afterwards.

    Shows the question with the choices as radio buttons; nothing is chosen at first.

    Returns:
        A function: call it with the computed answer, one of ``choices``, in a later cell. It
        says whether the guess was right.
    """
    box = ipywidgets.RadioButtons(options=choices, value=None, layout={"width": "max-content"})
    display(ipywidgets.VBox([ipywidgets.Label(question), box]))

    def compare(answer: str) -> str:
        if answer not in choices:
            raise ValueError(f"answer: expected one of {choices}, got {answer!r}")
        if box.value is None:
            return f"Computed: {answer}. (No guess was made above.)"
        verdict = "as you guessed" if box.value == answer else f"you guessed: {box.value}"
        return f"Computed: {answer} ({verdict})."

    return compare


def progress(total: int | None = None) -> OnStep:
    """An ``on_step`` that draws a progress bar: the share of samples that are finished."""
    bar = tqdm(total=total, desc="steps")

    def on_step(step: Step) -> None:
        bar.total = step.total
        bar.set_postfix(working=int(step.active.sum()))
        bar.update(1)

    return on_step
