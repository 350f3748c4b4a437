"""Interactive widgets.

Each widget also draws a still picture when it is created. Because of the still picture, tests
notice errors, and pages without a kernel show a picture.
"""

import html
import math
from collections.abc import Callable
from typing import Any

import ipywidgets
from IPython.display import display
from tqdm.auto import tqdm
from traitlets import TraitError

from cfxnb.core import validate
from cfxnb.core.types import OnStep, Step
from cfxnb.plots.pictures import Picture

MAX_CHOICES = 1000
Control = tuple[float, float] | tuple[float, float, float] | list | bool


def explore(draw: Callable[..., Picture], **controls: Control) -> None:
    """Show the picture of ``draw(...)`` with one control per argument.

    A page without a kernel shows the first picture. The controls can be used with the keyboard:
    press tab to select a control, the arrow keys to move a slider, space to open a list or tick a
    box.

    Args:
        draw: function that is called with one value per control, and returns a Picture.
        controls: one control per argument of ``draw``: a range, a list of choices or a bool. A
            range is ``(low, high)`` for integers, or ``(low, high, step)``. At first, a control has
            the value ``low`` or the first choice of the list.

    Raises:
        TypeError: if ``draw`` returns no Picture, or if a control is no range, list or bool.
        ValueError: if ``low`` of a range is greater than ``high``.
    """
    validate.function(draw, "draw")
    boxes = {name: _control(name, spec) for name, spec in controls.items()}

    def current() -> Picture:
        drawn = draw(**{name: box.value for name, box in boxes.items()})
        if not isinstance(drawn, Picture):
            raise TypeError(f"draw: expected it to return a Picture, got {type(drawn).__name__}")
        return drawn

    first = current()
    # The picture of the panel is a widget too. So it still follows the controls after the page was
    # loaded again, as long as the kernel lives.
    shown = ipywidgets.HTML(first.html())

    def redraw(_: Any) -> None:
        try:
            shown.value = current().html()
        except Exception as error:  # Jupyter doesn't show exceptions of callbacks
            shown.value = f"<pre>{html.escape(f'{type(error).__name__}: {error}')}</pre>"

    for box in boxes.values():
        box.observe(redraw, names="value")
    panel = ipywidgets.VBox([shown, *boxes.values()])
    panel.add_class("cfx-live")
    display(StillPicture(first))
    display(panel)


class StillPicture:
    """The first picture of a panel, for pages without a kernel.

    A style sheet hides the still picture beside a panel. If a panel has lost its kernel, the style
    sheet shows what to do.
    """

    STYLE = (
        "<style>"
        ".jp-OutputArea:has(.cfx-live) .cfx-still"
        "{display:none}"
        ".cfx-live.jupyter-widgets-disconnected::before"
        "{content:'The kernel was restarted. To use the controls, run this cell again.';"
        "font-family:sans-serif;font-size:14px;font-weight:bold;color:#D55E00}"
        "</style>"
    )

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.alt = picture.alt

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = self.picture._repr_mimebundle_()
        data["text/html"] = f"<div class='cfx-still'>{data['text/html']}</div>{self.STYLE}"
        return data, metadata


def _control(name: str, spec: Control) -> Any:
    words = name.replace("_", " ")
    common: dict[str, Any] = {"description": words, "style": {"description_width": "initial"}}
    if isinstance(spec, bool):
        return ipywidgets.Checkbox(value=spec, **common)
    if isinstance(spec, list) and 0 < len(spec) <= MAX_CHOICES:
        try:
            return ipywidgets.Dropdown(options=spec, **common)
        except TraitError as error:
            got = f"{validate.describe(spec)}: {error}"[:250]
            raise ValueError(f"{name}: expected distinguishable choices, got {got}") from None
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


class Reveal(str):
    """Text that a notebook shows as Markdown."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        return str(self)


def predict_then_run(question: str, choices: list[str]) -> Callable[..., Reveal]:
    """Ask for a prediction before the answer is computed.

    The function shows the question with one radio button per choice. At first none of the radio
    buttons is selected.

    Args:
        question: the question.
        choices: the answers from which the learner can choose, at least two.

    Returns:
        A function to call in a later cell with the computed answer, one of ``choices``. The
        returned function gives a text that compares the answer with the prediction. Its argument
        ``why`` is a text in Markdown that explains the answer. ``why`` follows the comparison.

    Raises:
        ValueError, TypeError: if the question is no text, or if there are fewer than two different
            choices.
    """
    if not validate.text(question, "question").strip():
        raise ValueError("question: expected a question, got nothing")
    choices = validate.texts(choices, "choices")
    if len(set(choices)) < max(2, len(choices)) or len(choices) > MAX_CHOICES:
        raise ValueError(
            f"choices: expected 2 to {MAX_CHOICES} different answers, "
            f"got {validate.describe(choices)}"
        )
    box = ipywidgets.RadioButtons(options=choices, value=None, layout={"width": "max-content"})
    display(ipywidgets.VBox([ipywidgets.Label(question), box]))

    def compare(answer: str, why: str = "") -> Reveal:
        if not isinstance(answer, str) or answer not in choices:
            raise ValueError(f"answer: expected one of {choices}, got {validate.describe(answer)}")
        reason = f"\n\n**Why?** {validate.text(why, 'why').strip()}" if why else ""
        if box.value is None:
            return Reveal(f"Computed: {answer}. (No guess was made above.){reason}")
        verdict = "as you guessed" if box.value == answer else f"you guessed: {box.value}"
        return Reveal(f"Computed: {answer} ({verdict}).{reason}")

    return compare


def progress() -> OnStep:
    """Return an ``on_step`` that draws a progress bar with the number of active samples."""
    bar = tqdm(desc="steps")

    def on_step(step: Step) -> None:
        bar.total = step.total
        bar.set_postfix(active=int(step.active.sum()))
        bar.update(1)

    return on_step
