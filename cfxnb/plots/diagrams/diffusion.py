"""Drawings about diffusion: the DDIM chain, guidance, consensus."""

import math

from cfxnb.plots.diagrams.canvas import Canvas


def ddim() -> Canvas:
    """Draw the chain of DDIM in both directions, with the code that conditions each step."""
    c = Canvas(
        "DDIM, forwards and backwards",
        "Five images from left to right, from an image of a 3, x_0, to pure noise, x_T. Arrows to "
        "the right are DDIM inversion, which adds the predicted noise step by step. Arrows to the "
        "left are DDIM sampling, which removes it. One denoiser predicts the noise of every step. "
        "An encoder gives it the code z of the image. The code z says what is drawn, and x_T holds "
        "the details.",
        340,
    )
    c.label(20, 18, "DDIM inversion: add the predicted noise", "orange", bold=True, anchor="start")
    c.label(680, 18, "sampling: remove the predicted noise", "green", bold=True, anchor="end")
    places = (50, 200, 350, 500, 650)
    shown = ((1.0, 0.0), (0.9, 0.35), (0.7, 0.6), (0.4, 0.8), (0.0, 1.0))
    names = ("*x*_{0}", "*x*_{t−1}", "*x*_{t}", "*x*_{t+1}", "*x*_{T}")
    for k, (x, (digit, noise), name) in enumerate(zip(places, shown, names, strict=True)):
        c.tile(x, 84, 80, {"3": digit}, noise=noise, seed=k)
        c.label(x, 142, name, size=15)
    for left in (93, 243, 393, 543):
        dashed = left in (93, 543)
        c.arrow((left + 6, 70), (left + 58, 70), colour="orange", dashed=dashed)
        c.arrow((left + 58, 98), (left + 6, 98), colour="green", dashed=dashed)
        c.arrow((left + 32, 188), (left + 32, 114), colour="soft", width=1.6)
    c.box(104, 192, 586, 44, "soft", text="denoiser *ε*_{θ}(*x*_{t}, *t*, *z*)", size=16)
    c.box(8, 192, 70, 44, "purple", text="encoder", size=13)
    c.arrow((43, 158), (43, 188), colour="purple")
    c.arrow((81, 214), (101, 214), colour="purple")
    c.label(91, 197, "*z*", "purple", size=15)
    c.shape([(104, 252), (690, 290), (104, 290)], "soft")
    c.label(98, 273, "signal", size=13, anchor="end")
    c.label(146, 271, "*ᾱ*_{0} = 1", size=13, on_box=True)
    c.label(652, 265, "*ᾱ*_{T} ≈ 0", size=13)
    c.label(20, 318, "*z*, the semantic code: what is drawn", "purple", anchor="start")
    c.label(680, 318, "*x*_{T}, the stochastic code (aux): the details", anchor="end")
    return c


def guidance() -> Canvas:
    """Draw the difference of two predictions as a classifier, and how guidance uses it."""
    c = Canvas(
        "Guidance as an implicit classifier",
        "A denoiser predicts the noise of a noisy image x_t twice: conditioned on the class 5, and "
        "without a class. By Bayes' rule, the difference of the two predictions is proportional to "
        "the negative gradient of log p(class | x_t), the log probability of an implicit "
        "classifier. Guidance starts at the prediction without a class and walks s times the "
        "difference, beyond the prediction with the class.",
        340,
    )
    c.tile(52, 140, 74, {"3": 0.55}, noise=0.65, seed=2)
    c.label(52, 194, "*x*_{t}", size=16)
    for y, condition, text in ((78, "class 5", "cond"), (202, "no class", "uncond")):
        c.arrow((94, 140), (134, y), width=1.8)
        c.box(138, y - 24, 88, 48, "soft", text="denoiser")
        c.arrow((230, y), (252, y), width=1.8)
        c.label(258, y, f"*ε*_{{{text}}}", size=16, anchor="start")
        c.label(182, y - 38 if y < 140 else y + 40, condition, "purple", bold=True)
    c.ellipse(306, 140, 15, colour="blue", text="−", size=18)
    c.arrow((290, 96), (300, 120), width=1.8)
    c.arrow((290, 184), (300, 160), width=1.8)
    c.label(330, 140, "implicit", "blue", bold=True, anchor="start")
    c.label(330, 158, "classifier", "blue", bold=True, anchor="start")
    origin, u, v, w = (432, 236), (506, 84), (560, 120), (668, 192)
    c.arrow(origin, u)
    c.arrow(origin, v)
    c.arrow(origin, w, colour="green", width=2.8)
    c.curve([v, (654, 182.7)], "blue", dashed=True, width=2.4)
    c.arrow(u, v, colour="blue", width=3.2)
    c.dot(*origin)
    c.label(500, 66, "*ε*_{uncond}", size=16)
    c.label(566, 104, "*ε*_{cond}", size=16, anchor="start")
    c.label(628, 140, "× *s*", "blue", anchor="start")
    c.label(690, 226, "guided *ε*", "green", size=16, anchor="end")
    c.label(350, 282, "guided *ε* = *ε*_{uncond} + *s* (*ε*_{cond} − *ε*_{uncond})", size=16)
    bayes = (
        "Bayes:  ∇ log *p*(*c* | *x*_{t}) = ∇ log *p*(*x*_{t} | *c*) − ∇ log *p*(*x*_{t})"
        "  ∝  −(*ε*_{cond} − *ε*_{uncond})"
    )
    c.label(350, 318, bayes)
    return c


def consensus() -> Canvas:
    """Draw the cone in which a classifier's gradient is used."""
    c = Canvas(
        "The consensus cone",
        "Left: at one position of the code, an arrow shows the direction of the implicit "
        "classifier, in the middle of a cone. A gradient of the classifier in the cone is kept. "
        "A gradient outside the cone is replaced by 0. Right: the same test at 16 positions. The "
        "gradient is kept at the 10 positions where the two directions agree.",
        356,
    )
    c.label(20, 20, "at one position", bold=True, size=15, anchor="start")
    c.label(424, 20, "at every position", bold=True, size=15, anchor="start")

    def at(degrees: float, length: float, x: float = 60, y: float = 262) -> tuple[float, float]:
        turn = math.radians(degrees)
        return x + length * math.cos(turn), y - length * math.sin(turn)

    axis, half = 40, 30
    rim = [at(axis + a, 240) for a in range(-half, half + 1, 5)]
    c.shape([at(0, 0), *rim], "blue", outline=False)
    for side in (-half, half):
        c.curve([at(0, 0), at(axis + side, 240)], "blue", width=1.4)
    c.arrow(at(0, 0), at(axis, 262), colour="blue", width=3.2)
    c.arrow(at(0, 0), at(axis + 17, 178), colour="green", width=2.8)
    c.arrow(at(0, 0), at(-22, 150), colour="orange", width=2.8, dashed=True)
    c.curve([at(a, 90) for a in range(axis - half, axis + 1, 5)], "blue", width=1.4)
    c.dot(*at(0, 0))
    c.label(206, 203, "cone angle", on_box=True, size=13)
    c.label(270, 82, "implicit classifier", "blue", bold=True, anchor="start")
    c.label(270, 102, "*ε*_{cond} − *ε*_{uncond}", "blue", anchor="start")
    c.label(20, 74, "gradient in the", "green", bold=True, anchor="start")
    c.label(20, 93, "cone: kept", "green", bold=True, anchor="start")
    c.curve([(84, 104), (118, 160)], "green", width=1.3)
    c.label(210, 320, "gradient outside the cone:", "orange", bold=True, anchor="start")
    c.label(210, 339, "replaced by 0", "orange", bold=True, anchor="start")
    turns = (22, -20, 95, 17, -24, 18, 27, -130, 70, -18, 25, -25, 150, -80, 21, 110)
    for k, turn in enumerate(turns):
        middle = (450 + 64 * (k % 4), 76 + 64 * (k // 4))
        c.box(middle[0] - 26, middle[1] - 26, 52, 52, "faint", radius=3)
        way = 40 + 25 * math.sin(1.7 * k)
        kept = abs(turn) <= half
        own, other = at(way, 30, 0, 0), at(way + turn, 24, 0, 0)
        x, y = (m - (min(0, a, b) + max(0, a, b)) / 2
                for m, a, b in zip(middle, own, other, strict=True))  # fmt: skip
        c.arrow((x, y), (x + own[0], y + own[1]), colour="blue", width=2)
        c.arrow((x, y), (x + other[0], y + other[1]), width=2, dashed=not kept,
                colour="green" if kept else "orange")  # fmt: skip
    c.label(546, 322, "10 of 16 gradients are kept")
    return c
