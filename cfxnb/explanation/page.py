"""The page: one HTML text with all images inside, which needs no script and no other file."""

import base64
import html
import importlib
import io
import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from cfxnb.core.image_files import pixels, signed_map
from cfxnb.core.outcomes import OUTCOMES
from cfxnb.core.result_folder import ResultFolder
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import predicted
from cfxnb.core.types import (
    ALREADY_TARGET,
    FLIPPED,
    NO_GRADIENT,
    NOT_FINITE,
    NOT_FOUND,
    RECONSTRUCTION_IS_TARGET,
    STOPPED,
)
from cfxnb.explanation import findings as say
from cfxnb.explanation.files import stored_as

LARGEST = 256  # pixels per side of an image on the page
STATUS = {
    FLIPPED: "decision changed",
    NOT_FOUND: "decision not changed",
    NO_GRADIENT: "no gradient",
    ALREADY_TARGET: "not changed: the original already is the target",
    RECONSTRUCTION_IS_TARGET: "not counted: encoding and decoding alone gave the target",
    STOPPED: "stopped",
    NOT_FINITE: "no finite output",
}
#: Columns of the report that the page shows: heading, whether it is a fraction, explanation.
COLUMNS = {
    "flip rate": (
        "decision changed",
        True,
        "to the target with the required confidence, of the images that were not the target before",
    ),
    "judge agrees": ("judge agrees", True, "of the images whose decision changed"),
    "effectiveness": ("judge sees target", True, "of all images that were not the target before"),
    "outcome change": ("change of the outcome", False, "mean, in the units of the outcome"),
    "distance to goal": ("distance to the goal", False, "mean, in the units of the outcome"),
    "L2": ("distance (L2)", False, "mean distance of the pixels from the original"),
    "sparsity": ("pixels unchanged", True, "mean fraction of pixels that stay the same"),
    "classifier passes per flip": ("classifier passes", False, "per changed decision"),
    "seconds per flip": ("seconds", False, "per changed decision, on this machine"),
}
#: Headings of the columns that the page adds, which hold the same threshold for all methods.
ASKED = (
    "<th>required confidence<small>of the target, for a changed decision; none: the predicted class"
    "</small></th><th>target predicted<small>with any confidence, the same measure for all methods"
    "</small></th>"
)
STYLE = """
:root { --ink: #1b1b1b; --soft: #595959; --line: #d0d0d0; --warn: #8a4b00; --warnback: #fff4e0;
        --noteback: #f0f4f8; --bar: #9cc7e6; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink);
       background: #fff; margin: 0 auto; max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
p, li { max-width: 44rem; }
.soft { color: var(--soft); }
.finding { border-left: .3rem solid #6b8cae; background: var(--noteback); padding: .5rem .8rem;
           margin: .5rem 0; max-width: 46rem; overflow-wrap: anywhere; }
.finding.warning { border-color: #d98200; background: var(--warnback); }
.finding b { display: block; color: var(--soft); font-size: .85rem; }
.finding.warning b { color: var(--warn); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: .35rem .6rem; text-align: left; vertical-align: top;
         border-bottom: 1px solid var(--line); }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
td small, th small { display: block; color: var(--soft); font-weight: normal; }
.bar { display: block; height: .4rem; background: #e8e8e8; width: 7rem; }
.bar span { display: block; height: 100%; background: var(--bar); }
.card { border: 1px solid var(--line); border-radius: .4rem; padding: .7rem; margin: .8rem 0; }
.card h3 { font-size: 1rem; margin: 0 0 .5rem; font-weight: 600; overflow-wrap: anywhere; }
.strip { display: flex; flex-wrap: wrap; gap: .8rem; }
figure { margin: 0; width: 8rem; font-size: .82rem; line-height: 1.3; }
figure img { width: 8rem; height: auto; display: block; border: 1px solid var(--line);
             margin-bottom: .2rem; }
img.small { image-rendering: pixelated; }
figcaption { overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; max-width: 46rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 34rem) {
  body { padding: .6rem; } figure, figure img { width: 6.2rem; } .strip { gap: .5rem; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; }
}
@media print {
  body { max-width: none; font-size: 10.5pt; padding: 0; }
  .card, .finding, tr { break-inside: avoid; }
  .scroll { overflow: visible; } figure, figure img { width: 6rem; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""


def page(explanation: Any) -> str:
    """Return the page as one HTML text."""
    title = html.escape(explanation.title)
    cfxnb = importlib.import_module("cfxnb")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="cfxnb {html.escape(cfxnb.__version__)}">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{_opening(explanation)}
<h2>In short</h2>
{_short(explanation)}
<h2>What to be careful about</h2>
{_findings(explanation)}
<h2>Methods and baselines</h2>
{_table(explanation)}
{_changes(explanation)}
<h2>The images</h2>
{_images(explanation)}
<h2>How this page was made</h2>
{_about(explanation)}
</main>
</body>
</html>
"""


def summary(explanation: Any) -> str:
    """Return the part of the page that a notebook shows: the summary, findings and the table."""
    return (
        f'<style>{_scoped(STYLE)}</style><div class="cfxnb-explanation">'
        f"<h3>{html.escape(explanation.title)}</h3>{_short(explanation)}{_findings(explanation)}"
        f"{_table(explanation)}</div>"
    )


def _scoped(style: str) -> str:
    """Return the rules for findings and tables, for one part of a notebook only."""
    wanted = (".finding", ".scroll", ".bar", "td small", ".soft")
    lines = [line for line in style.splitlines() if line.startswith(wanted) and line.endswith("}")]
    root = ".cfxnb-explanation { --soft: #595959; --bar: #9cc7e6; --warn: #8a4b00; }"
    return root + "".join(f".cfxnb-explanation {line}" for line in lines)


def _opening(explanation: Any) -> str:
    about = dict(explanation.about)
    return (
        f"<p>This page explains decisions of a classifier by <b>counterfactuals</b>: images that "
        f"are changed until the classifier decides otherwise. The change shows what the decision "
        f"depends on, if it is one that people can see and that other networks agree with.</p>"
        f'<p class="soft">{html.escape(about["images"])}. '
        f"Target: {html.escape(about['target'])}.</p>"
    )


def _short(explanation: Any) -> str:
    lines = [
        say.sentence(name, cf, explanation.judged.get(name))
        for name, cf in explanation.brief.items()
        if explanation.jobs[name].method != "reconstruct"
    ]
    return "<ul>" + "".join(f"<li>{html.escape(_capital(line))}</li>" for line in lines) + "</ul>"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _findings(explanation: Any) -> str:
    if not explanation.findings:
        return "<p>Nothing was found that needs care.</p>"
    heads = {say.WARNING: "Warning", say.NOTE: "Note"}
    return "".join(
        f'<div class="finding {each.kind}"><b>{heads[each.kind]}</b>{html.escape(each.text)}</div>'
        for each in explanation.findings
    )


def _table(explanation: Any) -> str:
    table = explanation.table
    columns = [c for c in COLUMNS if c in table]
    head = "".join(f"<th>{COLUMNS[c][0]}<small>{COLUMNS[c][2]}</small></th>" for c in columns)
    rows = ""
    for name in table.index:
        job = explanation.jobs[name]
        kind = "baseline: " if job.baseline else ""
        cells = "".join(_cell(table, name, column) for column in columns)
        rows += (
            f"<tr><th>{html.escape(_capital(name))}"
            f"<small>{kind}{html.escape(job.words)}</small></th>"
            f"{_required(explanation.brief[name])}{cells}</tr>"
        )
    return (
        f'<div class="scroll"><table><thead><tr><th>method</th>{ASKED}{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        '<p class="soft">In parentheses: 95 % intervals over the images. "–" means that a number '
        "is not defined, for example because no decision changed.</p>"
    )


def _required(cf: Counterfactuals) -> str:
    """Return the cells of the required confidence, and of the images that reach the target."""
    need = say.required_confidence(cf)
    text = "none" if need is None else f"{html.escape(say.percent(need))}"
    reached, eligible = int(say.reaches(cf, None).sum()), int(cf.eligible.sum())
    share = f"{100 * reached / eligible:.0f} %" if eligible else "–"
    return f'<td class="number">{text}</td><td class="number">{share}</td>'


def _cell(table: pd.DataFrame, name: str, column: str) -> str:
    value = float(table[column].astype(float)[name])
    fraction = COLUMNS[column][1]
    if not math.isfinite(value):
        return '<td class="number">–</td>'
    text = f"{100 * value:.0f} %" if fraction else f"{value:.3g}"
    low, high = (table.get(f"{column} {end}") for end in ("low", "high"))
    interval = ""
    if low is not None and high is not None and math.isfinite(low[name] + high[name]):
        ends = (
            f"{100 * low[name]:.0f}–{100 * high[name]:.0f} %"
            if fraction
            else f"{low[name]:.3g}–{high[name]:.3g}"
        )
        interval = f"<small>({ends})</small>"
    bar = (
        f'<span class="bar"><span style="width:{100 * value:.0f}%"></span></span>'
        if fraction
        else ""
    )
    return f'<td class="number">{text}{bar}{interval}</td>'


def _changes(explanation: Any) -> str:
    if explanation.changes is None:
        return ""
    local = explanation.changes.local
    if local.empty:
        return ""
    mean = local.mean().sort_values(key=np.abs, ascending=False)
    rows = "".join(
        f"<tr><th>{html.escape(str(name))}</th><td class='number'>{value:+.2f}</td>"
        f"<td>{'more' if value > 0 else 'less'} in "
        f"{int((np.sign(local[name]) == np.sign(value)).sum())} of {len(local)} images</td></tr>"
        for name, value in mean.items()
    )
    outside = float(explanation.changes.unexplained.mean())
    return (
        "<h2>What changed, by name</h2>"
        "<p>The data names some properties of its images. Linear models read these properties off "
        "the codes. The table shows how much the log odds of each property changed on average, "
        f"over {len(local)} changed images of the first method.</p>"
        f'<div class="scroll"><table><thead><tr><th>property</th><th>mean change</th><th>direction'
        f"</th></tr></thead><tbody>{rows}</tbody></table></div>"
        f"<p>{100 * outside:.0f} % of the change of the codes lies outside of what these "
        "properties describe. A property can also change because another one did.</p>"
    )


def _images(explanation: Any) -> str:
    count = len(explanation.shown)
    originals = explanation.images[explanation.shown]
    text = (
        "<p>Each box shows one image, its counterfactuals by each method, and below them the "
        "difference: <b>purple</b> pixels became brighter, <b>orange</b> pixels became darker. The "
        "difference is taken from the reconstruction, so it shows only what the method changed. "
    )
    if explanation.heat_maps is not None:
        text += (
            "The heat map shows which pixels carry the change of the first method (integrated "
            "gradients along the line from the counterfactual to the original): purple pixels "
            "speak for the original class, orange pixels for the target. "
        )
    if count < len(explanation.images):
        text += (
            f"The page shows {count} of {len(explanation.images):,} images, evenly spread. The "
            "numbers above are over all of them. "
        )
    cards = "".join(_card(explanation, originals, row) for row in range(count))
    return f"{text}</p>{cards}"


def _card(explanation: Any, images: Any, row: int) -> str:
    """Return the box of one image.

    Args:
        images: The originals on the page.
        row: Position of the image among them.
    """
    names = explanation.class_names
    first = next(iter(explanation.samples.values()))
    before = int(predicted(first.logits_before)[row])
    target = names[int(first.target[row])]
    read = names[before] if before >= 0 else "undefined"
    if (outcome := _outcome(first, row, "before")) is not None:
        read = outcome
    label = (
        f", label {images.class_names[int(images.labels[row])]}"
        if len(images.class_names) > 1
        else ""
    )
    place = f"{images.factors.index[row]}"
    figures = [
        _figure(
            images.images[row],
            f"original, classified as {read}",
            f"Original<br>{html.escape(read)}",
        )
    ]
    # The reconstruction stands beside the original.
    kinds = {name: explanation.jobs[name].method for name in explanation.samples}
    for name in sorted(kinds, key=lambda each: kinds[each] != "reconstruct"):
        cf = explanation.samples[name]
        figures.append(_method_figure(explanation, name, cf, row, read, target))
    if explanation.heat_maps is not None:
        heat = explanation.heat_maps.attributions[row].sum(0)
        if heat.isfinite().all() and bool(heat.any()):
            alt = f"heat map of the change from {read} to {target}"
            figures.append(_figure(_signed(heat), alt, "Heat map<br>of the first method"))
    return (
        f'<div class="card"><h3>Image {html.escape(place)}{html.escape(label)}: '
        f"{html.escape(read)} &rarr; {html.escape(target)}</h3>"
        f'<div class="strip">{"".join(figures)}</div></div>'
    )


def _method_figure(
    explanation: Any, name: str, cf: Counterfactuals, row: int, read: str, target: str
) -> str:
    names = explanation.class_names
    after = int(predicted(cf.logits_after)[row])
    now = names[after] if after >= 0 else "undefined"
    outcome = _outcome(cf, row, "after")
    now = now if outcome is None else outcome
    status = _status(cf, row)
    seen = explanation.judged.get(name)
    judge = (
        ""
        if seen is None
        else f"<br>judge: {'sees' if seen[explanation.shown[row]] else 'does not see'} "
        f"{html.escape(target)}"
    )
    chance = float(cf.confidence[row])
    sure = f" ({100 * chance:.0f} % {html.escape(target)})" if math.isfinite(chance) else ""
    sure = sure if outcome is None else ""
    alt = f"{name}: {status}, classified as {now}"
    caption = f"<b>{html.escape(_capital(name))}</b><br>{html.escape(now)}{sure}{judge}"
    if cf.status[row] != FLIPPED and explanation.jobs[name].method != "reconstruct":
        caption += f"<br><i>{html.escape(status)}</i>"
    change = (cf.image[row] - cf.reconstruction[row]).mean(0)
    below = ""
    if bool(change.isfinite().all()) and explanation.jobs[name].method != "reconstruct":
        below = _image(_signed(change), f"difference of {name} from its reconstruction")
    return f"<figure>{_image(cf.image[row], alt)}{below}<figcaption>{caption}</figcaption></figure>"


def _outcome(cf: Counterfactuals, row: int, when: str) -> str | None:
    """Return the outcome of a regression model, such as "41.2 years", or None for a class."""
    if not set(OUTCOMES) <= cf.trace.keys():
        return None
    table = cf.outcomes
    return f"{table[when].iloc[row]:.4g} {table.attrs['units']}".strip()


def _status(cf: Counterfactuals, row: int) -> str:
    """Return the status of an image in words, which depend on its class after the change."""
    status = cf.status[row]
    if bool(say.nearly(cf)[row]):
        return f"target reached, {say.less(cf)}"
    before, after = (int(predicted(x[row : row + 1])) for x in (cf.logits_before, cf.logits_after))
    if status == NOT_FOUND and after not in (before, -1):
        return "decision changed, but not to the target"
    return STATUS.get(status, status)


def _signed(values: Tensor) -> np.ndarray:
    """Return signed values (h, w) as colours (h, w, 3), with a scale that few pixels exceed."""
    flat = values.abs().flatten()
    top = flat.kthvalue(max(1, math.ceil(0.995 * len(flat)))).values
    return signed_map(values, float(top))


def _figure(image: Tensor | np.ndarray, alt: str, caption: str) -> str:
    return f"<figure>{_image(image, alt)}<figcaption>{caption}</figcaption></figure>"


def _image(image: Tensor | np.ndarray, alt: str) -> str:
    """Return an image (c, h, w), or colours (h, w, 3), as an HTML element that holds its pixels."""
    picture = Image.fromarray(pixels(image) if isinstance(image, Tensor) else image)
    if max(picture.size) > LARGEST:
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    source = base64.b64encode(buffer.getvalue()).decode()
    kind = ' class="small"' if max(picture.size) < 100 else ""
    return f'<img{kind} alt="{html.escape(alt)}" src="data:image/png;base64,{source}">'


def _about(explanation: Any) -> str:
    cfxnb = importlib.import_module("cfxnb")
    pairs = [
        *explanation.about,
        ("software", f"cfxnb {cfxnb.__version__}, torch {torch.__version__}"),
    ]
    listed = "".join(f"<dt>{html.escape(a)}</dt><dd>{html.escape(b)}</dd>" for a, b in pairs)
    saved = ", ".join(stored_as(name, each) for name, each in explanation.results.items())
    folders = any(isinstance(each, ResultFolder) for each in explanation.results.values())
    reader = "cfx.open" if folders else "cfx.Counterfactuals.load"
    return (
        f"<dl>{listed}</dl><p>The folder of this page holds the same in files: the tables "
        "methods.csv, images.csv (one row per image and method) and findings.csv, the images of "
        f"this page as PNG files in images, and the results of all images ({html.escape(saved)}), "
        f"which {reader} reads.</p>"
    )
