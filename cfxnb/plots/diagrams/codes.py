"""Drawings about codes: autoencoder, attack, global direction, described change."""

import itertools

from cfxnb.plots.diagrams.canvas import Canvas


def autoencoder() -> Canvas:
    """Draw encoder, code and decoder of a variational autoencoder, with its loss."""
    c = Canvas(
        "Variational autoencoder",
        "An encoder turns an image x into a mean and a standard deviation. Noise is scaled by the "
        "standard deviation and added to the mean, which gives the code z. A decoder turns the "
        "code into a reconstruction of x. The loss has two terms: the reconstruction should equal "
        "the image, and the distribution of codes should stay near a standard normal distribution.",
        300,
    )
    for x, text in ((60, "image *x*"), (180, "encoder"), (360, "code"), (520, "decoder")):
        c.label(x, 22, text, bold=True)
    c.label(640, 22, "reconstruction", bold=True)
    y = 105
    c.tile(60, y, 88, "3")
    c.shape([(140, 55), (220, 80), (220, 130), (140, 155)], "blue")
    c.label(180, y, "*q*(*z* | *x*)", on_box=True)
    c.box(258, 62, 40, 36, "blue", text="*μ*", size=16)
    c.box(258, 112, 40, 36, "blue", text="*σ*", size=16)
    for k in range(5):
        c.box(347, 62 + 17.2 * k, 26, 17.2, "purple", radius=0)
    c.shape([(480, 80), (560, 55), (560, 155), (480, 130)], "green")
    c.label(520, y, "*p*(*x* | *z*)", on_box=True)
    c.tile(640, y, 88, {"3": 0.8})
    c.arrow((110, y), (135, y))
    c.arrow((224, 96), (252, 80))
    c.arrow((224, 114), (252, 130))
    c.arrow((303, 80), (341, 96))
    c.arrow((303, 130), (341, 114))
    c.arrow((379, y), (474, y), colour="purple")
    c.label(426, 88, "*z*", size=16)
    c.arrow((566, y), (590, y))
    c.arrow((360, 186), (360, 155))
    c.label(382, 199, "*z* = *μ* + *σε*,   *ε* ~ *N*(0, *I*)")
    c.label(185, 194, "KL term: codes stay", "blue")
    c.label(185, 213, "near *N*(0, *I*)", "blue")
    c.arrow((224, 181), (262, 155), colour="blue", dashed=True, width=1.6)
    c.curve([(60, 158), (60, 262), (205, 262)], "green", corners=True)
    c.curve([(640, 158), (640, 262), (495, 262)], "green", corners=True)
    c.label(350, 253, "reconstruction term:", "green")
    c.label(350, 272, "the decoded image should equal *x*", "green")
    return c


def latent_attack() -> Canvas:
    """Draw an attack in pixel space and the same attack in code space."""
    c = Canvas(
        "An attack in pixel space and in code space",
        "Left, pixel space: images of digits lie on a curved surface. The class boundary passes "
        "close to an image of a 3. The shortest way across the boundary leaves the surface and "
        "ends at an adversarial example, which still looks like a 3. The way along the surface is "
        "longer and ends at a 5, the counterfactual. Right, code space: the encoder flattens the "
        "surface, and an attack on the code walks from z to z' across the boundary. The decoder "
        "turns z' into the counterfactual.",
        410,
    )
    c.label(18, 20, "pixel space", bold=True, size=15, anchor="start")
    c.label(490, 20, "code space", bold=True, size=15, anchor="start")
    # Pixel space
    c.curve([(18, 330), (70, 283), (140, 250), (220, 238), (300, 236), (370, 252), (425, 290)],
            "blue", width=3)  # fmt: skip
    c.curve([(96, 62), (142, 140), (215, 178), (285, 212), (325, 275), (345, 345)], dashed=True)
    c.arrow((140, 250), (193, 126), colour="orange", width=2.6)
    c.arrow((150, 236), (215, 224), (296, 223), (360, 240), colour="green", width=2.6)
    c.dot(140, 250)
    c.dot(370, 252)
    c.dot(196, 119)
    c.tile(140, 298, 62, "3")
    c.tile(240, 87, 62, "3", speckles=0.75, seed=4)
    c.tile(398, 205, 62, "5")
    c.label(140, 342, "image *x*")
    c.label(240, 43, "adversarial example")
    c.label(380, 162, "counterfactual *x*′")
    c.label(58, 190, "pixel attack", "orange", bold=True)
    c.curve([(108, 192), (158, 200)], "orange", width=1.3)
    c.label(236, 280, "latent attack", "green", bold=True)
    c.curve([(236, 268), (250, 228)], "green", width=1.3)
    c.label(18, 108, "decision: 3", "soft", anchor="start")
    c.label(315, 108, "decision: 5", "soft", anchor="start")
    c.label(18, 385, "surface of realistic images", "blue", anchor="start")
    c.curve([(40, 373), (52, 306)], "blue", width=1.3)
    c.label(435, 385, "class boundary", anchor="end")
    c.curve([(365, 373), (348, 352)], width=1.3)
    # Code space
    for rx, ry in ((102, 112), (68, 76), (32, 38)):
        c.ellipse(586, 215, rx, ry, "faint", filled=False)
    c.curve([(566, 82), (582, 170), (608, 260), (604, 345)], dashed=True)
    steps = [(518, 262), (542, 244), (567, 229), (594, 219), (628, 213)]
    for a, b in itertools.pairwise(steps):
        c.arrow(a, b, colour="green", width=2.2)
    c.dot(518, 262)
    c.dot(634, 212)
    c.label(516, 282, "*z*", size=16)
    c.label(634, 190, "*z*′", size=16)
    c.label(548, 92, "3", "soft", anchor="end")
    c.label(584, 92, "5", "soft", anchor="start")
    c.label(586, 366, "steps along the gradient")
    c.label(586, 385, "of the log odds of 5")
    # Between
    c.arrow((428, 50), (484, 50))
    c.label(456, 34, "encode")
    c.arrow((484, 76), (428, 76))
    c.label(456, 94, "decode")
    return c


def global_direction() -> Canvas:
    """Draw probes around a code, the fitted score, and a step for many images."""
    c = Canvas(
        "A global direction",
        "Three panels. First, pairs of opposite random changes are added to one code, and a black "
        "box classifies the images of the changed codes. Second, a score is fitted to the answers, "
        "and its gradient is the direction g. Third, the codes of five other images take a step "
        "along the same g. Four of them cross the class boundary, one does not.",
        330,
    )
    titles = ("1  probe one code", "2  fit the score", "3  step along *g*")
    for k, text in enumerate(titles):
        c.label(20 + 236 * k, 20, text, bold=True, size=15, anchor="start")
        c.box(20 + 236 * k, 40, 188, 200, "faint")
    for k in (0, 1):
        c.arrow((211 + 236 * k, 140), (252 + 236 * k, 140))
    # Probes in opposite pairs; a filled one is classified as the target.
    probes = [(38, -14), (24, -44), (52, 30), (-8, -66), (74, 4), (58, -58), (-34, -36)]
    for dx, dy in probes:
        for sign in (1, -1):
            x, y = 114 + sign * dx, 140 + sign * dy
            c.curve(
                [(114, 140), (114 + 0.9 * sign * dx, 140 + 0.9 * sign * dy)], "faint", width=1.2
            )
            c.dot(x, y, "blue" if x - y > -12 else "orange", r=6, hollow=x - y <= -12)
    c.dot(114, 140)
    # The fitted score: level lines across its gradient.
    for shift, half in ((-84, 28), (-40, 40), (54, 40), (92, 20)):
        across, down = 350 + 0.5 * shift, 140 - 0.5 * shift
        c.curve([(across - half, down - half), (across + half, down + half)], "faint")
    c.curve([(300, 76), (414, 190)], dashed=True)
    c.arrow((350, 140), (414, 76), colour="purple", width=3)
    c.dot(350, 140)
    c.label(428, 82, "*g*", "purple", size=17, on_box=True)
    c.label(302, 226, "low score", "soft", on_box=True)
    c.label(400, 56, "high score", "soft", on_box=True)
    # The same step for five codes.
    c.curve([(524, 60), (556, 122), (600, 158), (664, 222)], dashed=True)
    for x, y in ((556, 156), (582, 186), (628, 224), (524, 118), (508, 208)):
        c.arrow((x, y), (x + 44, y - 44), colour="purple", width=2.2)
        c.dot(x, y)
    captions = (
        ("*z* + *δ* and *z* − *δ*, in pairs", "filled: target, hollow: not"),
        ("a proxy predicts the score,", "*g* is its gradient"),
        ("the same step for all images,", "4 of 5 reach the target"),
    )
    for k, texts in enumerate(captions):
        c.lines(114 + 236 * k, 262, texts, size=13)
    c.label(350, 312, "dashed: the class boundary, which the method does not know", "soft", size=13)
    return c


def described_change() -> Canvas:
    """Draw a change of a code, its part in the span of the descriptors, and the rest."""
    c = Canvas(
        "What a descriptor sees of a change",
        "Left, code space: a step u leads from the code z of an image to the code z' of its "
        "counterfactual, across the class boundary. The step is the sum of a part along the "
        "directions of the descriptors, and of a rest at right angles to them. Right: the part "
        "along the descriptors becomes a bar chart of named properties. The rest has no name.",
        300,
    )
    c.label(18, 20, "code space", bold=True, size=15, anchor="start")
    c.label(455, 20, "description", bold=True, size=15, anchor="start")
    c.box(18, 36, 372, 244, "faint")
    c.curve([(40, 100), (150, 92), (270, 104), (372, 92)], dashed=True)
    c.label(84, 80, "class boundary", "soft", size=13)
    c.curve([(40, 242), (376, 242)], "blue", width=1.2)
    c.label(308, 262, "span of descriptors", "blue", size=13)
    c.arrow((100, 242), (236, 242), colour="blue", width=3)
    c.arrow((240, 238), (240, 66), colour="orange", width=3, dashed=True)
    c.arrow((104, 237), (234, 64), colour="green", width=2.6)
    c.dot(100, 242)
    c.dot(240, 58)
    c.label(84, 228, "*z*", size=16)
    c.label(258, 58, "*z*′", size=16)
    c.label(128, 140, "change *u*", "green")
    c.label(168, 262, "part with names", "blue")
    c.label(300, 170, "rest: no name", "orange")
    c.tile(52, 200, 44, "3")
    c.tile(306, 66, 44, "5")
    c.arrow((396, 150), (444, 150))
    for k, (text, width) in enumerate((("slant", -74), ("thickness", -52), ("loops", 40))):
        y = 70 + 38 * k
        c.label(525, y, text, size=13, anchor="end")
        c.box(610 + min(width, 0), y - 11, abs(width), 22, "blue", radius=0)
    c.label(525, 184, "unexplained", "orange", size=13, anchor="end")
    c.box(536, 173, 118, 22, "orange", radius=0)
    c.curve([(610, 50), (610, 164)])
    c.lines(575, 224, ("log odds of each property,", "and the fraction without a name"), size=13)
    return c
