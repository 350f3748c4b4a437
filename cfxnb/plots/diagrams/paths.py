"""Drawings about paths: integrated gradients, and flows between classes."""

import itertools

from cfxnb.plots.diagrams.canvas import Canvas


def integrated_gradients() -> Canvas:
    """Draw the straight path of integrated gradients and a path through codes."""
    c = Canvas(
        "Two paths for integrated gradients",
        "Images of digits lie on a curved surface in pixel space. The straight path begins at a "
        "gray image, leaves the surface, and passes through images in which the digit is faint. "
        "The path through codes stays on the surface: it begins at a 5 and passes through digits "
        "between a 5 and a 3. Both paths end at the explained image, a 3. Gradients at points of "
        "the path, multiplied by the steps, add up to the change of the output f along the path.",
        390,
    )
    c.curve([(30, 130), (130, 96), (240, 84), (360, 92), (470, 122), (580, 180), (650, 236)],
            "blue", width=3)  # fmt: skip
    straight = [(90 + 460 * k / 5, 300 - 138 * k / 5) for k in range(6)]
    c.curve([straight[0], straight[-1]], "orange", dashed=True, width=2.4)
    for x, y in straight[:-1]:
        c.dot(x, y, "orange", r=4.5)
        c.arrow((x, y), (x + 14, y - 30), colour="orange", width=1.7)
    codes = [(200, 86), (272, 85), (345, 91), (418, 106), (484, 128)]
    for x, y in codes:
        c.dot(x, y, "green", r=4.5)
        c.arrow((x, y), (x + 12, y + 30), colour="green", width=1.7)
    c.dot(550, 162, r=6)
    c.tile(608, 130, 60, "3")
    c.tile(200, 40, 60, "5")
    c.tile(345, 45, 60, "35")
    c.tile(50, 334, 60, gray=True)
    c.tile(310, 294, 60, {"3": 0.35}, gray=True)
    c.label(608, 84, "image *x*")
    c.label(20, 262, "gradients of *f*", "soft", anchor="start")
    c.label(90, 334, "baseline: a gray image", anchor="start")
    c.label(158, 40, "baseline: a 5", anchor="end")
    c.label(490, 44, "path through codes", "green", bold=True)
    c.curve([(490, 58), (452, 108)], "green", width=1.3)
    c.label(470, 232, "straight path", "orange", bold=True, anchor="start")
    c.label(470, 252, "in pixel space", "orange", bold=True, anchor="start")
    c.label(30, 160, "surface of", "blue", anchor="start")
    c.label(30, 178, "realistic images", "blue", anchor="start")
    c.label(690, 334, "Σ gradient · step  ≈  *f*(*x*) − *f*(baseline)", size=15, anchor="end")
    c.label(690, 366, "completeness: the heat map adds up to the change of *f*", "soft", size=13,
            anchor="end")  # fmt: skip
    return c


def flow() -> Canvas:
    """Draw lift and land, and the walk along the difference of two flows."""
    c = Canvas(
        "Counterfactuals by flow matching",
        "Left, lift and land: the flow of the present class, run backwards, lifts the code z of a "
        "3 to noise. The flow of the target class lands the same noise at z', the code of a 5. "
        "Right, the difference walk: at one code, the velocity of the target and the velocity of "
        "the present class have a common part. It cancels in their difference, and the walk takes "
        "small steps along the difference until the classifier answers with the target.",
        400,
    )
    c.label(20, 20, "lift and land", bold=True, size=15, anchor="start")
    c.label(405, 20, "difference walk", bold=True, size=15, anchor="start")
    c.ellipse(195, 84, 96, 34, "soft")
    c.ellipse(95, 300, 66, 40, "blue")
    c.ellipse(295, 300, 66, 40, "green")
    c.arrow((95, 300), (88, 215), (120, 150), (190, 92), colour="blue", width=2.8)
    c.arrow((200, 92), (270, 150), (302, 215), (295, 292), colour="green", width=2.8)
    c.dot(95, 302)
    c.dot(195, 86)
    c.dot(295, 301)
    c.label(120, 306, "*z*", size=16, on_box=True)
    c.label(322, 308, "*z*′", size=16, on_box=True)
    c.label(195, 66, "noise", on_box=True)
    c.label(380, 84, "*t* = 0", anchor="end")
    c.label(382, 252, "*t* = 1", anchor="end")
    c.label(195, 166, "lift, backwards:", "blue")
    c.label(195, 185, "*v*(*u*, present, *t*)", "blue")
    c.label(195, 216, "land, forwards:", "green")
    c.label(195, 235, "*v*(*u*, target, *t*)", "green")
    c.label(95, 360, "codes of 3", "blue")
    c.label(295, 360, "codes of 5", "green")
    u, present, target = (440, 258), (462, 118), (560, 144)
    c.arrow(u, present, colour="blue", width=2.8)
    c.arrow(u, target, colour="green", width=2.8)
    c.arrow(present, target, colour="purple", width=2.8)
    c.label(462, 100, "*v*(*u*, present, *t*)", "blue")
    c.label(568, 158, "*v*(*u*, target, *t*)", "green", anchor="start")
    c.label(528, 118, "difference", "purple", bold=True, anchor="start")
    walk = [(440 + 54 * k, 258 + 14.3 * k) for k in range(5)]
    for a, b in itertools.pairwise(walk):
        c.arrow(a, b, colour="purple", width=2.2)
    c.curve([(612, 186), (622, 250), (604, 330)], dashed=True)
    c.lines(634, 232, ["class", "boundary"], size=13, anchor="start")
    c.dot(*u)
    c.dot(walk[-1][0] + 5, walk[-1][1] + 1)
    c.label(432, 280, "*z*", size=16)
    c.label(668, 296, "*z*′", size=16)
    c.label(545, 360, "step: *γ* · mean difference over *t*,", "purple")
    c.label(545, 380, "until the classifier answers 5")
    return c
