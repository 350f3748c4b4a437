"""Drawings about causes: a shortcut, a twin network, necessity and sufficiency."""

from cfxnb.plots.diagrams.canvas import Canvas


def shortcut() -> Canvas:
    """Draw a causal graph in which one factor causes the label and another is only correlated."""
    c = Canvas(
        "A planted cause and a correlated factor",
        "A causal graph. A hidden trade causes both the hair and the top of a figure, so hair and "
        "top are correlated. Only the top causes the training label: it is the planted cause. A "
        "dashed line without arrowhead between hair and label says that they are correlated, "
        "without an effect. Interventions tell the two apart: setting the top changes the "
        "decision, setting the hair does not.",
        330,
    )
    c.ellipse(90, 120, 62, 30, "soft", text="trade (hidden)", dashed=True, size=13)
    c.box(220, 38, 110, 46, "soft", text="hair")
    c.box(220, 158, 110, 46, "orange", text="top")
    c.box(425, 158, 110, 46, "soft", text="label *y*")
    c.box(590, 158, 100, 46, "blue", text="classifier *f*")
    c.arrow((132, 95), (214, 66))
    c.arrow((132, 145), (214, 176))
    c.arrow((334, 181), (420, 181), colour="orange", width=3.4)
    c.arrow((539, 181), (586, 181), colour="blue")
    c.curve([(334, 62), (480, 62), (480, 152)], "soft", dashed=True, corners=True)
    c.label(424, 42, "correlated, not a cause", "soft")
    c.label(377, 160, "cause", "orange", bold=True)
    c.label(377, 222, "The labels follow the top:", size=13)
    c.label(377, 239, "the planted cause.", size=13)
    c.label(610, 222, "*f* learns", size=13)
    c.label(610, 239, "what predicts *y*.", size=13)
    c.curve([(20, 262), (680, 262)], "faint", width=1.4)
    rows = (("do(top = metal)", "the decision changes", "orange"),
            ("do(hair = red)", "the decision stays", "soft"))  # fmt: skip
    for k, (action, effect, colour) in enumerate(rows):
        y = 285 + 26 * k
        c.label(20, y, "Intervention:" if not k else "", "soft", anchor="start")
        c.label(270, y, action, colour, bold=True, anchor="end")
        c.arrow((284, y), (336, y), colour=colour)
        c.label(350, y, effect, colour, anchor="start")
    return c


def twin_network() -> Canvas:
    """Draw the three steps of a counterfactual as a twin network."""
    c = Canvas(
        "The three steps of a counterfactual",
        "A twin network: the observed world on the left and the counterfactual world on the right "
        "share the hidden causes U in the middle. Step 1, abduction: infer U from the observed "
        "attribute X and decision Y. Step 2, action: cut the causes of the attribute X* and set it "
        "to another value. Step 3, prediction: compute the decision Y* with the same U.",
        345,
    )
    c.box(15, 40, 200, 220, "faint")
    c.box(485, 40, 200, 220, "faint")
    c.label(115, 22, "observed", bold=True)
    c.label(350, 22, "shared", bold=True)
    c.label(585, 22, "counterfactual", bold=True)
    nodes = (
        (115, 100, "*X*", "soft"), (115, 205, "*Y*", "soft"),
        (585, 100, "*X*^{∗}", "orange"), (585, 205, "*Y*^{∗}", "green"),
    )  # fmt: skip
    for x, y, name, colour in nodes:
        c.ellipse(x, y, 26, colour=colour, text=name, size=16)
    c.ellipse(350, 100, 26, colour="purple", text="*U*_{X}", size=16)
    c.ellipse(350, 205, 26, colour="purple", text="*U*_{Y}", size=16)
    for x in (115, 585):
        c.arrow((x, 129), (x, 175))
    c.arrow((321, 100), (146, 100))
    c.arrow((321, 205), (146, 205))
    c.arrow((379, 205), (554, 205))
    c.curve([(379, 100), (552, 100)], "faint", dashed=True)
    for sign in (1, -1):
        c.curve([(442, 100 - 10 * sign), (460, 100 + 10 * sign)], "orange", width=2.8)
    c.label(115, 57, "attribute: gray hair", on_box=True)
    c.label(115, 246, "decision: “gray”", on_box=True)
    c.label(585, 57, "set to red hair", on_box=True)
    c.label(585, 246, "decision: “red”?", on_box=True)
    c.label(350, 152, "aux, other factors", "purple", size=13)
    steps = (
        (115, "1  abduction", "infer *U* from *X* and *Y*", "purple"),
        (350, "2  action", "cut *U*_{X} → *X*^{∗}, set *X*^{∗}", "orange"),
        (585, "3  prediction", "compute *Y*^{∗} with the same *U*", "green"),
    )
    for x, step, what, colour in steps:
        c.label(x, 300, step, colour, bold=True, size=15)
        c.label(x, 324, what, size=13)
    return c


def necessity_sufficiency() -> Canvas:
    """Draw the three probabilities of causation, counted on images."""
    c = Canvas(
        "Necessity and sufficiency",
        "Images as circles, which are filled if the outcome holds. Necessity, PN: six images with "
        "the value and the outcome; after the attribute is set to the baseline, the outcome "
        "disappears in four, so PN is 4 of 6. Sufficiency, PS: six images with neither; after the "
        "attribute is set to the value, the outcome appears in three, so PS is 3 of 6. PNS: eight "
        "images, each with the value and with the baseline; in four of them the outcome holds only "
        "with the value, so PNS is 4 of 8.",
        400,
    )

    def units(x: float, y: float, filled: str, colour: str) -> None:
        for k, mark in enumerate(filled):
            c.dot(x + 24 * k, y, colour, r=8, hollow=mark == "0")

    rows = (
        ("necessity", "PN", "value *x* and outcome", "111111", "set to baseline *x*′", "010010",
         "outcome gone: 4 of 6", "*P*(*Y*_{x′} = 0 | *X* = *x*, *Y* = 1)", "blue"),
        ("sufficiency", "PS", "baseline *x*′, no outcome", "000000", "set to value *x*", "101001",
         "outcome appears: 3 of 6", "*P*(*Y*_{x} = 1 | *X* = *x*′, *Y* = 0)", "orange"),
    )  # fmt: skip
    for k, (name, short, given, before, action, after, seen, formula, colour) in enumerate(rows):
        y = 22 + 130 * k
        c.label(20, y, f"{short}, {name}", colour, bold=True, size=15, anchor="start")
        c.label(680, y, f"{short} = {formula}", anchor="end", size=15)
        c.label(20, y + 36, given, anchor="start", size=13)
        units(30, y + 64, before, colour)
        c.arrow((185, y + 64), (345, y + 64))
        c.label(262, y + 46, action, size=13)
        units(372, y + 64, after, colour)
        c.label(515, y + 64, seen, colour, anchor="start", size=13)
        c.curve([(20, y + 100), (680, y + 100)], "faint", width=1.2)
    c.label(20, 282, "PNS, both", "green", bold=True, size=15, anchor="start")
    c.label(680, 282, "PNS = *P*(*Y*_{x} = 1, *Y*_{x′} = 0)", anchor="end", size=15)
    c.label(20, 318, "with value *x*", size=13, anchor="start")
    c.label(20, 350, "with baseline *x*′", size=13, anchor="start")
    for k in range(4):
        c.box(174 + 34 * k, 302, 28, 64, "green", radius=14)
    for k, (value, baseline) in enumerate(zip("11111100", "00001100", strict=True)):
        c.dot(188 + 34 * k, 318, "green", r=8, hollow=value == "0")
        c.dot(188 + 34 * k, 350, "green", r=8, hollow=baseline == "0")
    c.label(472, 334, "only with the value: 4 of 8", "green", anchor="start", size=13)
    c.label(350, 386, "filled: the outcome holds; hollow: it does not", "soft", size=13)
    return c
