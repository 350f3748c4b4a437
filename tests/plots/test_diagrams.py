"""Diagrams: well formed, described, and no label is cut off, crossed or too small."""

import itertools
import re
from xml.etree import ElementTree

import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

import cfxnb as cfx
from cfxnb.plots.diagrams.canvas import (
    COLOURS,
    FILLS,
    MARKUP,
    PAPER,
    SMALLEST_TEXT,
    WIDTH,
    Canvas,
    index_size,
    symbol_size,
)  # fmt: skip
from cfxnb.plots.diagrams.diagram import DIAGRAMS

SVG = "{http://www.w3.org/2000/svg}"
# These fonts are wider than those of most readers.
PLAIN, SYMBOLS = FontProperties("DejaVu Sans"), FontProperties("DejaVu Serif", style="italic")


def box(label):
    """Left, top, right and bottom of a label."""
    text, x, y, size, anchor = label
    width, end = 0.0, 0
    for found in [*MARKUP.finditer(text), None]:
        plain = text[end : found.start()] if found else text[end:]
        width += advance(plain, size, PLAIN)
        if found:
            part, height = (
                (found[1], symbol_size(size)) if found[1] else (found[3], index_size(size))
            )
            width += advance(part, height, SYMBOLS)
            end = found.end()
    left = x - {"start": 0, "middle": width / 2, "end": width}[anchor]
    return left, y - 0.55 * size, left + width, y + 0.5 * size


def advance(text, size, font):
    """Width of a text, with its spaces."""
    if not text:
        return 0.0
    marked = TextPath((0, 0), f"|{text}|", size=size, prop=font).get_extents().width
    return marked - TextPath((0, 0), "||", size=size, prop=font).get_extents().width


def crossed(area, stroke):
    """Whether a line passes through an area."""
    left, top, right, bottom = area
    for (ax, ay), (bx, by) in itertools.pairwise(stroke):
        n = max(1, int(max(abs(bx - ax), abs(by - ay))))
        for k in range(n + 1):
            x, y = ax + (bx - ax) * k / n, ay + (by - ay) * k / n
            if left < x < right and top < y < bottom:
                return True
    return False


def faults(canvas):
    """What is wrong with the labels of a drawing, in words."""
    areas = [(label[0], box(label)) for label in canvas.labels]
    found = []
    for text, (left, top, right, bottom) in areas:
        if left < 0 or top < 0 or right > WIDTH or bottom > canvas.height:
            found.append(f"{text!r} is cut off: {left:.0f} {top:.0f} {right:.0f} {bottom:.0f}")
        for stroke in canvas.strokes:
            if crossed((left, top, right, bottom), stroke):
                first = tuple(round(v) for v in stroke[0])
                found.append(f"{text!r} is crossed by the line that begins at {first}")
    for (one, a), (other, b) in itertools.combinations(areas, 2):
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]:
            found.append(f"{one!r} and {other!r} overlap")
    return found


@pytest.mark.parametrize("name", DIAGRAMS)
def test_labels_are_free(name):
    assert faults(DIAGRAMS[name]()) == []


@pytest.mark.parametrize("name", DIAGRAMS)
def test_document(name):
    drawn = cfx.diagram(name)
    root = ElementTree.fromstring(drawn.svg)
    assert root.find(f"{SVG}title").text == drawn.title
    assert root.find(f"{SVG}desc").text == drawn.alt
    assert root.get("viewBox").split()[:3] == ["0", "0", str(WIDTH)]
    sizes = [float(e.get("font-size", 99)) for e in root.iter() if e.tag.endswith(("text", "span"))]
    assert min(sizes) >= SMALLEST_TEXT
    words = "".join("".join(e.itertext()) for e in root.iter(f"{SVG}text"))
    assert not re.search(r"[*_^{}]", words), "markup that was not understood"
    assert "http" not in drawn.svg.replace('xmlns="http://www.w3.org/2000/svg"', "")
    used = set(re.findall(r'[" ][sfb]-(\w+)', drawn.svg))
    assert used <= set(COLOURS)
    assert len(drawn.svg) < 30_000


def test_alternative_texts():
    texts = {cfx.diagram(name).alt for name in DIAGRAMS}
    assert len(texts) == len(DIAGRAMS) >= 10
    for name in DIAGRAMS:
        drawn = cfx.diagram(name)
        assert len(drawn.alt) > 100
        assert drawn.alt.endswith(".")
        shown, _ = drawn._repr_mimebundle_()
        assert shown["text/plain"] == drawn.alt
        assert 'class="cfxnb-diagram" alt="' in shown["text/html"]
        assert f'"{name}"' in cfx.diagram.__doc__


def luminance(colour):
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_are_readable_on_both_pages():
    """Text at 4.5 to 1, as WCAG asks, on the page and on all boxes."""
    for theme in (0, 1):
        for name in set(COLOURS) - {"faint"}:
            assert contrast(COLOURS[name][theme], PAPER[theme]) >= 4.5, (name, theme)
        for name, colours in FILLS.items():
            assert contrast(COLOURS["ink"][theme], colours[theme]) >= 4.5, (name, theme)


def test_bad_drawings_are_found():
    canvas = Canvas("a title", "a text", 100)
    canvas.label(5, 50, "cut off")
    canvas.label(200, 50, "crossed")
    canvas.curve([(150, 50), (250, 50)])
    canvas.label(400, 50, "one")
    canvas.label(410, 55, "other")
    canvas.label(600, 50, "fine")
    found = faults(canvas)
    assert len(found) == 3
    assert not any("fine" in text for text in found)


def test_saved_and_refused(tmp_path):
    drawn = cfx.diagram("latent_attack")
    path = drawn.save(tmp_path / "new" / "attack.svg")
    assert path.read_text(encoding="utf-8") == drawn.svg
    with pytest.raises(ValueError, match=r"path: expected a name that ends with \.svg, got"):
        drawn.save(tmp_path / "attack.png")
    with pytest.raises(ValueError, match=r"name: expected one of .*latent_attack.*, got"):
        cfx.diagram("attack")
