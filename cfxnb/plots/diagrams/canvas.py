"""A drawing of boxes, arrows, curves and labels, written as SVG.

Positions are pixels of a drawing that is 700 pixels wide. The origin is the upper left corner. The
background is transparent. Colours have names, and each name stands for one colour on light pages
and another one on dark pages. The colours are those of Okabe & Ito, which most colour-blind people
can distinguish. No drawing uses colour alone to carry information.

Labels have a small markup: ``*x*`` is a mathematical symbol, and ``_{t}`` and ``^{2}`` are lower
and upper indices.
"""

import html
import math
import random
import re
from collections.abc import Sequence
from typing import Any

Point = tuple[float, float]

WIDTH = 700
SMALLEST_TEXT = 12.0
#: Name of a colour -> its values on light and on dark pages.
COLOURS = {
    "ink": ("#1b1b1b", "#ececec"),
    "soft": ("#5f5f5f", "#a9a9a9"),
    "faint": ("#c4c4c4", "#555555"),
    "blue": ("#0072B2", "#56B4E9"),
    "orange": ("#B85000", "#F0A030"),
    "green": ("#00785A", "#2FC79B"),
    "purple": ("#9C4479", "#E29AC6"),
}
#: Fillings of boxes; opaque, so that text on them is readable on any page.
FILLS = {
    "ink": ("#f1f1f1", "#242424"),
    "soft": ("#f1f1f1", "#242424"),
    "faint": ("#f6f6f6", "#1d1d1d"),
    "blue": ("#dfeefa", "#12303f"),
    "orange": ("#fdebd3", "#3d2a0e"),
    "green": ("#d9f1e8", "#0e3328"),
    "purple": ("#f7e4ef", "#3a2231"),
}
PAPER = ("#ffffff", "#111111")
SANS = "'Helvetica Neue',Arial,'Liberation Sans',sans-serif"
SERIF = "'STIX Two Text','Times New Roman','Liberation Serif',serif"
#: Strokes of handwritten digits in a square of side 1. Both digits have as many points.
DIGITS: dict[str, list[list[Point]]] = {
    "3": [[(0.27, 0.22), (0.5, 0.12), (0.7, 0.28), (0.47, 0.46)],
          [(0.47, 0.46), (0.66, 0.5), (0.74, 0.66), (0.54, 0.87), (0.25, 0.78)]],
    "5": [[(0.33, 0.46), (0.35, 0.15), (0.53, 0.145), (0.71, 0.14)],
          [(0.33, 0.46), (0.56, 0.4), (0.74, 0.62), (0.54, 0.87), (0.26, 0.79)]],
}  # fmt: skip
TILE, CHALK = "#18222c", "#f5f5f5"
#: Parts of an index: words, single letters (the only part in italics), and everything else.
INDEX = re.compile(r"[^\W\d]{2,}|[^\W\d]|[\W\d]+")
MARKUP = re.compile(r"\*([^*]+)\*|([_^])\{([^}]*)\}")


def _style() -> str:
    def rules(theme: int) -> str:
        lines = [
            f".s-{n}{{stroke:{c[theme]}}}.f-{n}{{fill:{c[theme]}}}" for n, c in COLOURS.items()
        ]
        lines += [f".b-{n}{{fill:{c[theme]}}}" for n, c in FILLS.items()]
        return "".join(lines) + f".halo{{stroke:{PAPER[theme]}}}"

    return (
        f"text{{font-family:{SANS}}}.m,.r{{font-family:{SERIF}}}.m{{font-style:italic}}"
        ".l{fill:none;stroke-linecap:round;stroke-linejoin:round}"
        ".halo{paint-order:stroke;stroke-width:4px;stroke-linejoin:round}"
        f"{rules(0)}@media (prefers-color-scheme:dark){{{rules(1)}}}"
    )


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


class Canvas:
    """A drawing in the making.

    Attributes:
        title: Short name of the drawing.
        alt: Text that tells the idea of the drawing to readers who cannot see it.
        height: Height of the drawing, in pixels of a drawing that is 700 pixels wide.
        labels: All texts with their position: (text, x, y, size, anchor).
        strokes: All lines outside of image tiles, as lists of points. Labels must not touch them.
    """

    def __init__(self, title: str, alt: str, height: float) -> None:
        self.title, self.alt, self.height = title, alt, height
        self.labels: list[tuple[str, float, float, float, str]] = []
        self.strokes: list[list[Point]] = []
        self._parts: list[str] = []

    def svg(self) -> str:
        """Return the drawing as an SVG document."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {_n(self.height)}" '
            f'width="{WIDTH}" height="{_n(self.height)}" role="img" aria-labelledby="t d">'
            f'<title id="t">{html.escape(self.title)}</title>'
            f'<desc id="d">{html.escape(self.alt)}</desc><style>{_style()}</style>'
            + "".join(self._parts)
            + "</svg>"
        )

    def label(
        self,
        x: float,
        y: float,
        text: str,
        colour: str = "ink",
        *,
        size: float = 14,
        anchor: str = "middle",
        bold: bool = False,
        on_box: bool = False,
    ) -> None:
        """Write a line of text, centred vertically at ``y``.

        Args:
            x, y: The place. ``anchor`` says which part of the text is at ``x``.
            text: The text with its markup.
            colour: Name of a colour.
            size: Size of the letters. Symbols are a little larger.
            anchor: "start", "middle" or "end".
            bold: Whether the letters are bold.
            on_box: Whether the text stands on a filled box. Other text has an outline in the colour
                of the page, which keeps it readable beside lines.
        """
        self.labels.append((text, x, y, size, anchor))
        halo = "" if on_box else " halo"
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text class="f-{colour}{halo}" x="{_n(x)}" y="{_n(y + 0.35 * size)}" '
            f'font-size="{_n(size)}" text-anchor="{anchor}"{weight}>{spans(text, size)}</text>'
        )

    def lines(
        self, x: float, y: float, texts: Sequence[str], colour: str = "ink", **how: Any
    ) -> None:
        """Write several lines of text, the first one at ``y``."""
        for row, text in enumerate(texts):
            self.label(x, y + 1.3 * how.get("size", 14) * row, text, colour, **how)

    def box(
        self, x: float, y: float, width: float, height: float, colour: str = "soft", *,
        text: str = "", size: float = 14, dashed: bool = False, radius: float = 6,
    ) -> None:  # fmt: skip
        """Draw a filled box with a text in its middle. Its upper left corner is (x, y)."""
        self._parts.append(
            f'<rect class="s-{colour} b-{colour}" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" '
            f'height="{_n(height)}" rx="{_n(radius)}" stroke-width="1.6"{_dash(dashed)}/>'
        )
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)]
        self.strokes.append(corners)
        if text:
            self.label(x + width / 2, y + height / 2, text, size=size, on_box=True)

    def shape(self, points: Sequence[Point], colour: str = "soft", *, outline: bool = True) -> None:
        """Draw a filled polygon."""
        around = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
        kind = f"s-{colour} " if outline else ""
        self._parts.append(
            f'<polygon class="{kind}b-{colour}" points="{around}" stroke-width="1.6" '
            'stroke-linejoin="round"/>'
        )
        if outline:
            self.strokes.append([*points, points[0]])

    def ellipse(
        self, x: float, y: float, rx: float, ry: float | None = None, colour: str = "soft", *,
        text: str = "", size: float = 14, dashed: bool = False, filled: bool = True,
        outline: bool = True, turn: float = 0.0,
    ) -> None:  # fmt: skip
        """Draw an ellipse or a circle around (x, y), turned clockwise by ``turn`` degrees."""
        ry = rx if ry is None else ry
        kind = f"s-{colour} " * outline + (f"b-{colour}" if filled else "l")
        turned = f' transform="rotate({_n(turn)} {_n(x)} {_n(y)})"' if turn else ""
        self._parts.append(
            f'<ellipse class="{kind}" cx="{_n(x)}" cy="{_n(y)}" rx="{_n(rx)}" ry="{_n(ry)}" '
            f'stroke-width="1.6"{_dash(dashed)}{turned}/>'
        )
        if outline:
            c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
            angles = [math.tau * k / 40 for k in range(41)]
            round_ = [(rx * math.cos(a), ry * math.sin(a)) for a in angles]
            self.strokes.append([(x + c * p - s * q, y + s * p + c * q) for p, q in round_])
        if text:
            self.label(x, y, text, size=size, on_box=filled)

    def dot(
        self, x: float, y: float, colour: str = "ink", *, r: float = 5, hollow: bool = False
    ) -> None:
        """Draw a point. A hollow point has the colour of the page inside."""
        kind = f"s-{colour} l" if hollow else f"f-{colour}"
        width = ' stroke-width="2"' if hollow else ""
        self._parts.append(f'<circle class="{kind}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(r)}"{width}/>')
        self.strokes.append([(x - r, y), (x, y - r), (x + r, y), (x, y + r), (x - r, y)])

    def curve(
        self, points: Sequence[Point], colour: str = "ink", *, width: float = 2.0,
        dashed: bool = False, arrow: bool = False, corners: bool = False,
    ) -> None:  # fmt: skip
        """Draw a smooth line through points, or straight lines between them if ``corners``.

        The line has an arrowhead at its end if ``arrow``.
        """
        points = list(points)
        before = self._tangent(points[-2:] if corners else points)
        shown = points
        if arrow:  # the line ends inside the head
            size = 4.2 + 2.2 * width
            (x, y), (dx, dy) = points[-1], before
            foot = (x - 0.7 * size * dx, y - 0.7 * size * dy)
            shown = [*points[:-1], foot]
            back = (x - size * dx, y - size * dy)
            side = 0.42 * size
            wings = [(back[0] + side * dy * k, back[1] - side * dx * k) for k in (1, -1)]
            around = " ".join(f"{_n(a)},{_n(b)}" for a, b in [(x, y), *wings])
            head = f'<polygon class="f-{colour}" points="{around}"/>'
        self._parts.append(
            f'<path class="l s-{colour}" d="{_through(shown, corners)}" stroke-width="{_n(width)}"'
            f"{_dash(dashed)}/>" + (head if arrow else "")
        )
        self.strokes.append(points if corners else sampled(points))

    def arrow(self, *points: Point, colour: str = "ink", **how: Any) -> None:
        """Draw an arrow through points."""
        self.curve(points, colour, arrow=True, **how)

    @staticmethod
    def _tangent(points: Sequence[Point]) -> Point:
        """Direction in which a smooth line arrives at its last point."""
        (ax, ay), (bx, by) = sampled(points)[-4 if len(points) > 2 else 0], points[-1]
        length = math.hypot(bx - ax, by - ay)
        return (bx - ax) / length, (by - ay) / length

    def tile(
        self, x: float, y: float, side: float, digits: dict[str, float] | str = "", *,
        noise: float = 0.0, speckles: float = 0.0, gray: bool = False, seed: int = 0,
    ) -> None:  # fmt: skip
        """Draw a small image around (x, y).

        Args:
            x, y: Middle of the image.
            side: Side of the image.
            digits: The digit that it shows, or several digits with their opacity. "35" is a digit
                between a 3 and a 5, as a generator draws it.
            noise: Opacity of Gaussian noise over the image.
            speckles: Opacity of a faint pattern over the image, as attacks on pixels find it.
            gray: Whether the background is gray.
            seed: Of the noise.
        """
        left, top = x - side / 2, y - side / 2
        self._parts.append(
            f'<rect class="s-soft" x="{_n(left)}" y="{_n(top)}" width="{_n(side)}" '
            f'height="{_n(side)}" rx="3" fill="{"#7d7d7d" if gray else TILE}" stroke-width="1.2"/>'
        )
        if isinstance(digits, str):
            digits = {digits: 1.0} if digits else {}
        for digit, opacity in digits.items():
            strokes = [
                [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in zip(*pair, strict=True)]
                for pair in zip(DIGITS[digit[0]], DIGITS[digit[-1]], strict=True)
            ]
            d = " ".join(
                _through([(left + side * a, top + side * b) for a, b in stroke])
                for stroke in strokes
            )
            self._parts.append(
                f'<path class="l" d="{d}" stroke="{CHALK}" stroke-width="{_n(0.1 * side)}" '
                f'stroke-opacity="{opacity:.2f}"/>'
            )
        for opacity, fraction in ((noise, 1.0), (speckles, 0.3)):
            if opacity:
                self._parts.append(_pixels(left, top, side, opacity, fraction, seed))
        right, bottom = left + side, top + side
        self.strokes.append(
            [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        )


def spans(text: str, size: float) -> str:
    """Return the markup of a label as SVG, with indices that are at least 12 pixels high."""
    parts, shift, end = [], 0.0, 0

    def add(part: str, wanted: float, kind: str = "", height: float = 0.0) -> None:
        nonlocal shift
        if not part:
            return
        moved = f' dy="{_n(wanted - shift)}"' if wanted != shift else ""
        smaller = f' font-size="{_n(height)}"' if height else ""
        shift = wanted
        parts.append(f"<tspan{kind}{moved}{smaller}>{html.escape(part, quote=False)}</tspan>")

    for found in MARKUP.finditer(text):
        add(text[end : found.start()], 0.0)
        if found[1]:
            add(found[1], 0.0, ' class="m"', symbol_size(size))
        else:
            down = 0.28 if found[2] == "_" else -0.38
            for part in INDEX.findall(found[3]):
                kind = "m" if len(part) == 1 and part.isalpha() else "r"
                add(part, down * size, f' class="{kind}"', index_size(size))
        end = found.end()
    add(text[end:], 0.0)
    return "".join(parts)


def symbol_size(size: float) -> float:
    """Return the size of symbols in a label."""
    return 1.15 * size


def index_size(size: float) -> float:
    """Return the size of indices in a label."""
    return max(SMALLEST_TEXT, 0.85 * size)


def _through(points: Sequence[Point], corners: bool = False) -> str:
    """Return the SVG path of a smooth line through points (Catmull-Rom), or of straight lines."""
    start = f"M{_n(points[0][0])} {_n(points[0][1])}"
    if corners or len(points) == 2:
        return start + "".join(f"L{_n(x)} {_n(y)}" for x, y in points[1:])
    pieces = ("C" + " ".join(f"{_n(x)} {_n(y)}" for x, y in piece[1:]) for piece in beziers(points))
    return start + "".join(pieces)


def beziers(points: Sequence[Point]) -> list[tuple[Point, Point, Point, Point]]:
    """Return the cubic Bezier curves of a smooth line through points."""
    padded = [points[0], *points, points[-1]]
    found = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        first = (b[0] + (c[0] - a[0]) / 6, b[1] + (c[1] - a[1]) / 6)
        second = (c[0] - (d[0] - b[0]) / 6, c[1] - (d[1] - b[1]) / 6)
        found.append((b, first, second, c))
    return found


def sampled(points: Sequence[Point], per_piece: int = 12) -> list[Point]:
    """Return points on the smooth line through ``points``."""
    if len(points) == 2:
        return list(points)
    line = [points[0]]
    for piece in beziers(points):
        for step in range(1, per_piece + 1):
            line.append(_bezier(piece, step / per_piece))
    return line


def _bezier(p: Sequence[Point], t: float) -> Point:
    w = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    return (
        sum(k * x for k, (x, _) in zip(w, p, strict=True)),
        sum(k * y for k, (_, y) in zip(w, p, strict=True)),
    )


def _pixels(
    left: float, top: float, side: float, opacity: float, fraction: float, seed: int
) -> str:
    """Return the pixels of noise in a square."""
    draw, n = random.Random(seed), 10
    step = side / n
    paths: dict[str, list[str]] = {"#000000": [], "#6a6a6a": [], "#b5b5b5": [], CHALK: []}
    for row in range(n):
        for column in range(n):
            if draw.random() <= fraction:
                gray = list(paths)[draw.randrange(4)]
                x, y = left + step * column, top + step * row
                paths[gray].append(f"M{_n(x)} {_n(y)}h{_n(step)}v{_n(step)}h{_n(-step)}z")
    return "".join(
        f'<path d="{"".join(d)}" fill="{gray}" fill-opacity="{opacity:.2f}"/>'
        for gray, d in paths.items()
    )


def _dash(dashed: bool) -> str:
    return ' stroke-dasharray="6 5"' if dashed else ""
