"""The panel of the workbench: widgets around a space, a classifier and images.

The panel only collects arguments and shows results. A run happens in a thread of its own, so that
the buttons work meanwhile. Every widget has a visible label and can be used with the keyboard.
"""

import html
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets
import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier, CheckedSpace
from cfxnb.core.directions import checked_direction
from cfxnb.core.disk import given_path, writing
from cfxnb.core.goals import Goal
from cfxnb.core.modules import eval_frozen
from cfxnb.core.outcomes import outcomes_of, unit_of
from cfxnb.core.prediction import predict_logits
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import Classifier, LatentSpace, Step
from cfxnb.data.read_image import ImageFormat, opened, read_bytes, to_tensor
from cfxnb.flows.velocity import check_flow
from cfxnb.interactive.methods import CHOICES, Method, methods_for
from cfxnb.interactive.runs import Run, code_of, compare
from cfxnb.interactive.targets import (
    CLASS,
    OUTCOME_GOALS,
    PROBABILITY_GOALS,
    Target,
    class_target,
    outcome_target,
    probability_target,
)
from cfxnb.plots.charts import curves
from cfxnb.plots.pictures import gallery, names_of, show

MAX_AT_ONCE = 8  # images per run, as many as one picture shows
MAX_PIXELS = 2**26  # of a file
SECONDS_BETWEEN_UPDATES = 0.1
DEFAULT = "default"
GIVES_DROPPED = "cfxnb-gives-dropped"  # class of the panel in the page
# FileUpload takes no dropped files, but it opens a file input when its button is clicked. The
# handler clicks the button, and gives the dropped files to this input instead of opening it.
ON_DROP = f"""
event.preventDefault(); event.stopPropagation();
const files = event.dataTransfer.files, inputs = HTMLInputElement.prototype;
inputs.click = function () {{ this.files = files; this.dispatchEvent(new Event('change')); }};
try {{ this.closest('.{GIVES_DROPPED}').querySelector('.widget-upload').click(); }}
finally {{ delete inputs.click; }}
"""
DROP_ZONE = (
    f'<div ondragover="event.preventDefault()" ondrop="{ON_DROP}" style="border: 1px dashed gray; '
    'padding: 0.5em; text-align: center">or drop an image file here</div>'
)


def workbench(
    space: LatentSpace,
    classifier: Classifier,
    images: Tensor,
    *,
    judge: Classifier | None = None,
    flow: Any = None,
    direction: Any = None,
    methods: Mapping[str, Callable[..., Counterfactuals]] | None = None,
    class_names: Sequence[str] | None = None,
) -> "Workbench":
    """Return a panel for trying methods on single images, in Jupyter or as a page with voila.

    Choose images or drop an image file on the panel. Then choose a target, a method and its
    options, and press "Run". The target is a class, or a goal: a probability of the class for a
    classifier, an outcome for a regression model. The panel shows originals, counterfactuals,
    differences, the decision of the judge and the log odds. "Keep" keeps a run, to compare it with
    others. "Show code" writes the kept runs as Python code that makes them again. Every control can
    be reached with the tab key.

    Args:
        space: Generator with ``encode`` and ``decode``.
        classifier: Classifier to explain, or a regression model from ``cfx.wrap_regression``. A
            BlackBox gets only the methods without gradients.
        images: Images (n, c, h, w) in [0, 1], or what the methods accept as images.
        judge: Independent classifier with the same classes, which reads the counterfactuals. For a
            regression model, another regression model with the same outcomes.
        flow: Conditional flow from ``cfx.fit_flow``, which adds ``flow_counterfactual``. For goals
            the flow needs the two classes of ``cfx.select_goal``.
        direction: Result of ``cfx.find_directions``, which adds ``follow_direction``.
        methods: Dict from names to own methods (space, classifier, images, target, **options) ->
            Counterfactuals. Keyword arguments with simple defaults become controls.
        class_names: Names of the classes. Default: those of the classifier, else their numbers.

    Returns:
        A Workbench, which Jupyter displays. ``runs`` holds the kept runs, ``code()`` their code.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    return Workbench(space, classifier, images, judge, flow, direction, methods, class_names)


class Workbench:
    """The panel that ``cfx.workbench`` returns.

    Attributes:
        panel: The ipywidgets panel.
        runs: Dict from the name of each kept run to the run.
        last: The latest run, or None.
    """

    def __init__(
        self,
        space: Any,
        classifier: Any,
        images: Any,
        judge: Any = None,
        flow: Any = None,
        direction: Any = None,
        methods: Any = None,
        class_names: Any = None,
    ) -> None:
        CheckedSpace(space)
        self.space, self.classifier, self.judge = space, classifier, judge
        self._outcomes = outcomes_of(classifier)
        self._images = validate.images(images)
        self._codes = [f"images[{i}:{i + 1}]" for i in range(len(self._images))]
        self._n_given = len(self._images)
        self._logits = self._read(self._images)
        n_classes = self._logits.shape[1]
        if self._outcomes is None:
            known = CheckedClassifier(classifier).class_names
        else:
            known = self._outcomes.names
        known = known if class_names is None else class_names
        self.class_names = names_of(known, n_classes)
        self._named = known is not None
        if judge is not None:
            self._check_judge(n_classes)
        if flow is not None:
            check_flow(flow, space, n_classes if self._outcomes is None else 2)
        if direction is not None:
            checked_direction(space, direction, 1)
        self.methods = methods_for(space, classifier, flow, direction, methods)
        self.runs: dict[str, Run] = {}
        self.last: Run | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._boxes: dict[str, Any] = {}
        self._build()

    def _read(self, images: Tensor) -> Tensor:
        """Return logits, or the outcomes of a regression model, (n, k), on the CPU."""
        if self._outcomes is None:
            return predict_logits(self.classifier, images).cpu()
        return _outcomes_of(self.classifier, images)

    def _check_judge(self, n_classes: int) -> None:
        if self._outcomes is None:
            first = CheckedClassifier(self.judge, "judge")
            validate.same_classes(first, self._images[:1], n_classes, "judge", None)
        elif outcomes_of(self.judge) is None:
            raise TypeError(
                "judge: expected a regression model, because the explained model is one, got "
                f"{validate.describe(self.judge)}; cfx.wrap_regression makes one"
            )
        elif (count := _outcomes_of(self.judge, self._images[:1]).shape[1]) != n_classes:
            raise ValueError(f"judge: expected {n_classes} outcomes as classifier, got {count}")

    # What Jupyter and voila display.
    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.panel._repr_mimebundle_(**kwargs)

    def __repr__(self) -> str:
        return f"Workbench({len(self._images)} images, methods: {', '.join(self.methods)})"

    def code(self) -> str:
        """Return a Python script that makes the kept runs again, or the latest if none is kept."""
        kept = self.runs or ({} if self.last is None else {"run_1": self.last})
        return code_of(kept)

    def wait(self) -> Counterfactuals | None:
        """Wait until the present run has ended, and return the latest result, if there is one."""
        if self._thread is not None:
            self._thread.join()
        return None if self.last is None else self.last.result

    def add_image(self, file: Any, title: str = "image") -> int:
        """Add the image of a file to the images of the panel, and return its position.

        The image is scaled and cropped in the centre to the size of the other images.

        Args:
            file: Path of the file, or its bytes.
            title: Name of the file, for the code.

        Raises:
            ValueError: If the file is no image.
        """
        validate.text(title, "title")
        image = read_image(file, self._images)
        self._images = torch.cat([self._images, image.to(self._images)])
        self._logits = torch.cat([self._logits, self._read(image)])
        self._codes.append(f"cfx.read_image({title!r}, images)")
        self._image.max = len(self._images) - 1
        self._image.value = self._image.max
        return self._image.value

    def _build(self) -> None:
        wide = {"description_width": "11em"}
        room = {"width": "25em"}
        narrow = {"width": "8em"}
        top = len(self._images) - 1
        self._image = ipywidgets.IntSlider(
            0, min=0, max=top, description="image", style=wide, layout=room, continuous_update=False
        )
        self._count = ipywidgets.BoundedIntText(
            1, min=1, max=MAX_AT_ONCE, description="number of images", style=wide, layout=room
        )
        self._upload = ipywidgets.FileUpload(
            accept="image/*", description="Add an image file", layout=room
        )
        names = list(zip(self.class_names, range(len(self.class_names)), strict=True))
        is_classifier = self._outcomes is None
        self._target = ipywidgets.Dropdown(
            options=names,
            description="target" if is_classifier else "outcome",
            style=wide,
            layout=room,
        )
        goals = [CLASS, *PROBABILITY_GOALS] if is_classifier else list(OUTCOME_GOALS)
        self._goal = ipywidgets.Dropdown(options=goals, description="goal", style=wide, layout=room)
        self._goal_value = ipywidgets.Text(
            "0.9" if is_classifier else "",
            placeholder="a number",
            description="goal value",
            style=wide,
            layout=room,
            continuous_update=False,
            disabled=is_classifier,
        )
        self._method = ipywidgets.Dropdown(
            options=list(self.methods), description="method", style=wide, layout=room
        )
        self._options = ipywidgets.VBox()
        self._run = ipywidgets.Button(description="Run", button_style="primary", layout=narrow)
        self._halt = ipywidgets.Button(description="Stop", disabled=True, layout=narrow)
        self._keep = ipywidgets.Button(description="Keep", disabled=True, layout=narrow)
        self._bar = ipywidgets.FloatProgress(
            0, min=0, max=1, description="progress", style=wide, layout=room
        )
        self._status = ipywidgets.HTML()
        self._preview, self._picture, self._log = (ipywidgets.HTML() for _ in range(3))
        self._table, self._compared = ipywidgets.HTML(), ipywidgets.HTML()
        self._kept = ipywidgets.SelectMultiple(description="kept runs", layout={"width": "100%"})
        self._compare = ipywidgets.Button(description="Compare", disabled=True, layout=narrow)
        self._forget = ipywidgets.Button(description="Forget", disabled=True, layout=narrow)
        self._show_code = ipywidgets.Button(description="Show code", disabled=True, layout=narrow)
        self._code = ipywidgets.Textarea(
            description="code", rows=8, layout={"width": "100%", "display": "none"}
        )

        self._image.observe(lambda _: self._show_image(), names="value")
        self._count.observe(lambda _: self._show_image(), names="value")
        self._upload.observe(self._uploaded, names="value")
        self._goal.observe(lambda _: self._show_goal(), names="value")
        self._method.observe(lambda _: self._show_options(), names="value")
        for button, action in (
            (self._run, self.run), (self._halt, self.stop), (self._keep, self.keep),
            (self._compare, self.compare), (self._forget, self.forget),
            (self._show_code, self.show_code),
        ):  # fmt: skip
            button.on_click(lambda _, action=action: self._reported(action))
        left = ipywidgets.VBox(
            [
                self._image, self._count, self._upload, ipywidgets.HTML(DROP_ZONE, layout=room),
                self._preview, self._target, self._goal, self._goal_value, self._method,
                self._options, ipywidgets.HBox([self._run, self._halt, self._keep]), self._bar,
                self._status,
            ],
            layout={"min_width": "26em"},
        )  # fmt: skip
        buttons = ipywidgets.HBox([self._compare, self._forget, self._show_code])
        right = ipywidgets.VBox(
            [
                self._picture, self._table, self._log, self._kept, buttons, self._compared,
                self._code,
            ],
            layout={"flex": "1 1 30em", "min_width": "0"},
        )  # fmt: skip
        self.panel = ipywidgets.HBox([left, right], layout={"flex_flow": "row wrap"})
        self.panel.add_class(GIVES_DROPPED)
        self._picture.value = "<p>The results of a run appear here.</p>"
        if self._outcomes is None:
            self._target.value = self._runner_up()
        else:
            self._target.observe(lambda _: self._show_image(), names="value")
        self._show_image()
        self._show_options()

    def _rows(self) -> range:
        first = self._image.value
        return range(first, min(first + self._count.value, len(self._images)))

    def _show_image(self) -> None:
        """Show the chosen images with their classes, and propose a target."""
        rows = list(self._rows())
        logits = self._logits[rows]
        seen = logits.argmax(1)
        if self._outcomes is None:
            names = [self.class_names[i] for i in seen.tolist()]
            sure = logits.softmax(1).amax(1)
            titles = [f"{n} ({p:.0%})" for n, p in zip(names, sure, strict=True)]
            alt = f"The chosen images, classified as {', '.join(titles)}"
        else:
            number = self._target.value
            unit = unit_of(self._outcomes, number)
            titles = [f"{value:.4g} {unit}".rstrip() for value in logits[:, number].tolist()]
            alt = f"The chosen images, with the outcomes {', '.join(titles)}"
        picture = gallery(self._images[rows], titles, n_columns=4, alt=alt)
        self._preview.value = picture.html()
        if self._goal.value == CLASS and (seen == self._target.value).all():
            self._target.value = self._runner_up()

    def _runner_up(self) -> int:
        """Return the second most probable class of the first chosen image: it is easy to reach."""
        return int(self._logits[self._image.value].topk(2).indices[1])

    def _show_goal(self) -> None:
        self._goal_value.disabled = self._goal.value == CLASS
        if "between" in self._goal.value:
            self._goal_value.placeholder = "two numbers, such as 0.2, 0.4"
        else:
            self._goal_value.placeholder = "a number"

    def _chosen_target(self) -> Target:
        kind, text, number = self._goal.value, self._goal_value.value, self._target.value
        f, judge, name = self.classifier, self.judge, self.class_names[number]
        if kind == CLASS:
            known = name if self._named else None
            return class_target(number, known, self.class_names, f, judge)
        if self._outcomes is None:
            return probability_target(kind, text, number, name, f, judge)
        return outcome_target(kind, text, number, f, judge)

    def _show_options(self) -> None:
        method = self.methods[self._method.value]
        self._boxes = {name: _control(name, value) for name, value in method.defaults.items()}
        self._options.children = tuple(self._boxes.values())

    def _uploaded(self, change: Any) -> None:
        for file in change["new"] or ():
            self._reported(partial(self.add_image, bytes(file["content"]), file["name"]))

    def _reported(self, action: Callable[[], Any]) -> None:
        """Call ``action``, and show its error: Jupyter does not show exceptions of callbacks."""
        try:
            action()
        except Exception as error:
            self._say(f"{type(error).__name__}: {error}", wrong=True)

    def _say(self, text: str, wrong: bool = False) -> None:
        mark = "⚠ " if wrong else ""
        self._status.value = f'<div role="status">{mark}{html.escape(text)}</div>'

    def run(self) -> None:
        """Run the chosen method in a thread. ``wait`` returns when the run has ended."""
        if self._thread is not None and self._thread.is_alive():
            raise ValueError("run: expected no run that is under way, got one; press Stop first")
        method, rows = self.methods[self._method.value], list(self._rows())
        options, target = self._chosen_options(method), self._chosen_target()
        self._stop.clear()
        self._bar.value, self._bar.max = 0, 1
        self._run.disabled, self._halt.disabled = True, not method.takes_on_step
        self._say(f"{method.name} runs")
        given = (method, rows, target, options)
        self._thread = threading.Thread(target=self._work, args=given, daemon=True)
        self._thread.start()

    def _chosen_options(self, method: Method) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        chosen = {}
        for name, default in method.defaults.items():
            value = _value(name, self._boxes[name].value, default)
            if value != default:
                chosen[name] = value
        return chosen

    def _work(
        self,
        method: Method,
        rows: list[int],
        target: Target,
        options: dict[str, Any],
    ) -> None:
        heard: list[float] = []
        last = 0.0

        def on_step(step: Step) -> bool:
            nonlocal last
            p = step.probability.double().clamp(1e-12, 1 - 1e-12)
            heard.append(float(p.logit().mean()))
            if time.monotonic() - last > SECONDS_BETWEEN_UPDATES:
                last = time.monotonic()
                self._bar.max, self._bar.value = max(step.total, step.number), step.number
            return self._stop.is_set()

        try:
            told = {"on_step": on_step} if method.takes_on_step else {}
            images = self._images[rows]
            cf = method.call(target.model, images, target.value, **options, **told)
            judged = target.judged(cf)
            self.last = Run(method, self._code_of(rows), target, options, cf, judged, heard)
            self._show_run(self.last)
        except Exception as error:
            self._say(f"{type(error).__name__}: {error}", wrong=True)
        except KeyboardInterrupt:
            self._say("stopped before an image was finished")
        finally:
            self._bar.value = self._bar.max
            self._run.disabled, self._halt.disabled = False, True

    def _code_of(self, rows: list[int]) -> str:
        """Return the code of the chosen images: a slice, or a list with the added files."""
        if rows[-1] < self._n_given:
            return f"images[{rows[0]}:{rows[-1] + 1}]"
        if len(rows) == 1:
            return self._codes[rows[0]]
        return f"torch.cat([{', '.join(self._codes[i] for i in rows)}])"

    def _show_run(self, run: Run) -> None:
        cf = run.result
        try:
            # The judge of a goal stands in the table, because it is no classifier.
            judge = None if isinstance(run.target.value, Goal) else self.judge
            shown = show(cf, judge=judge, class_names=run.target.class_names)
            self._picture.value = shown.html()
        except ValueError:  # nothing was finished
            self._picture.value = ""
        table = run.table()
        self._table.value = table.to_html(border=0)
        self._log.value = ""
        if len(run.log_odds) > 1:
            steps = list(range(1, len(run.log_odds) + 1))
            alt = f"Log odds of the target, from {run.log_odds[0]:.1f} to {run.log_odds[-1]:.1f}"
            lines = {"mean over the images": run.log_odds}
            drawn = curves(
                steps, lines, xlabel="evaluation", ylabel="log odds of the target", alt=alt
            )
            self._log.value = drawn.html()
        self._keep.disabled = self._show_code.disabled = False
        self._say(f"{run.method.name}: {int(cf.flipped.sum())} of {len(cf)} flipped")

    def stop(self) -> None:
        """End the present run after its next step.

        Images that were not finished get the status "stopped".
        """
        self._stop.set()
        self._say("stopping")

    def keep(self) -> str:
        """Keep the latest run, and return its name."""
        if self.last is None:
            raise ValueError("keep: expected a run, got none so far; press Run first")
        name = next(n for i in range(1, 10**6) if (n := f"run_{i}") not in self.runs)
        self.runs[name] = self.last
        self._list_runs()
        self._say(f"kept as {name}")
        return name

    def forget(self) -> None:
        """Remove the selected runs from the kept ones."""
        for name in self._kept.value:
            self.runs.pop(name, None)
        self._list_runs()
        self._compared.value = ""

    def _list_runs(self) -> None:
        labels = []
        for name, run in self.runs.items():
            extra = ", ".join(f"{k}={v}" for k, v in run.options.items())
            labels.append((f"{name}: {run.method.name} → {run.target.text} {extra}".strip(), name))
        self._kept.options = labels
        self._compare.disabled = self._forget.disabled = not self.runs
        self._show_code.disabled = not self.runs and self.last is None

    def compare(self) -> None:
        """Show the selected runs side by side (all kept runs if none is selected)."""
        chosen = {n: self.runs[n] for n in self._kept.value or self.runs}
        if not chosen:
            raise ValueError("compare: expected kept runs, got none; press Keep first")
        # At least four columns, because few images are drawn large.
        rows, columns = [], max(4, *(len(run.result) for run in chosen.values()))
        for run in chosen.values():
            blank = run.result.image.new_ones(columns - len(run.result), *self._images.shape[1:])
            rows.append(torch.cat([run.result.image, blank]).cpu())
        alt = f"Counterfactuals of {', '.join(chosen)}, one row per run"
        drawn = gallery(torch.cat(rows), n_columns=columns, row_labels=list(chosen), alt=alt)
        self._compared.value = drawn.html() + compare(chosen).to_html(border=0)

    def show_code(self) -> None:
        """Show the code of the kept runs below the results."""
        self._code.value = self.code()
        self._code.layout.display = "flex"

    def save(self, output_dir: str | Path) -> Path:
        """Write the kept runs to a folder: one result file each, and ``runs.py`` with the code.

        Returns:
            The folder.
        """
        place = given_path(output_dir, name="output_dir")
        with writing(place / "runs.py", "output_dir") as partial_file:
            partial_file.write_text(self.code(), encoding="utf-8")
        for name, run in self.runs.items():
            run.result.save(place / name)
        return place


def _outcomes_of(model: Any, images: Tensor) -> Tensor:
    """Return the outcomes of a regression model, (n, k), on the CPU."""
    with eval_frozen(model), torch.no_grad():
        return torch.cat([model(part) for part in images.split(512)]).cpu()


def _control(name: str, default: Any) -> Any:
    common: dict[str, Any] = {
        "description": name.replace("_", " "),
        "style": {"description_width": "11em"},
        "layout": {"width": "25em"},
    }
    if isinstance(default, bool):
        return ipywidgets.Checkbox(default, indent=False, **common)
    if isinstance(default, str) and name in CHOICES:
        return ipywidgets.Dropdown(options=CHOICES[name], value=default, **common)
    shown = "" if default is None else str(default)
    return ipywidgets.Text(shown, placeholder=DEFAULT, continuous_update=False, **common)


def _value(name: str, shown: Any, default: Any) -> Any:
    """Return the value of a control: text fields hold numbers, and empty ones the default."""
    if not isinstance(shown, str) or (isinstance(default, str) and shown):
        return shown
    if not shown.strip():
        return default
    try:
        return int(shown) if isinstance(default, int) else float(shown)
    except ValueError:
        kind = "an integer" if isinstance(default, int) else "a number"
        raise ValueError(f"{name}: expected {kind}, got {shown!r:.40}") from None


def read_image(file: Any, like: Tensor) -> Tensor:
    """Read an image file, and return it with the channels and size of other images, (1, c, h, w).

    The image is rotated as its EXIF data says, scaled, and cropped in the centre. Transparent parts
    become white.

    Args:
        file: Path of the file, or its bytes.
        like: Images (n, c, h, w) with the wanted number of channels, height and width.

    Raises:
        ValueError, TypeError: If the file cannot be read as an image.
    """
    channels, height, width = validate.images(like, "like").shape[1:]
    if channels not in (1, 3):
        raise ValueError(f"like: expected images with 1 or 3 channels, got {channels}")
    path = None if isinstance(file, bytes) else given_path(file, name="file")
    wanted = ImageFormat((height, width), channels, "crop", None, MAX_PIXELS)
    try:
        content = file if path is None else read_bytes(path)
        with opened(content, MAX_PIXELS) as (picture, _):
            return to_tensor(picture, wanted)[None]
    except ValueError as error:
        raise ValueError(f"file: expected an image file, got {error}") from None
