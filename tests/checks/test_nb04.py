"""Answers to the exercises of 04_known_truth."""

import numpy as np
from mutants import Answers, assert_accepted, assert_rejected, right_answers, wrong_answers

import cfxnb as cfx
from cfxnb.checks import nb04

MOSTLY_WHITE = {"white": 0.9, "metal": 0.1}
MOSTLY_METAL = {"white": 0.1, "metal": 0.9}


def world(gray=MOSTLY_WHITE, red=MOSTLY_METAL, hair=("gray", "red"), **others):
    """A world in which hair decides the top."""
    return cfx.data.World(hair=hair, top=cfx.data.given("hair", gray=gray, red=red), **others)


def world_of_another_arrow():
    hair = cfx.data.given("top", white={"gray": 0.9, "red": 0.1}, metal={"gray": 0.1, "red": 0.9})
    return cfx.data.World(top=["white", "metal"], hair=hair)


def world_of_a_hidden_cause():
    return cfx.data.World(
        _trade=["clerk", "knight"],
        hair=cfx.data.given("_trade", clerk="gray", knight="red"),
        top=cfx.data.given("_trade", clerk=MOSTLY_WHITE, knight=MOSTLY_METAL),
    )


def world_of_black_hair():
    top = cfx.data.given("hair", black=MOSTLY_WHITE, red=MOSTLY_METAL)
    return cfx.data.World(hair=["black", "red"], top=top)


def world_with_effects_first():
    return cfx.data.World(
        top=cfx.data.given("hair", gray=MOSTLY_WHITE, red=MOSTLY_METAL), hair=["gray", "red"]
    )


def world_of_another_name():
    top = cfx.data.given("colour", gray=MOSTLY_WHITE, red=MOSTLY_METAL)
    return cfx.data.World(colour=["gray", "red"], top=top)


def set_to(figures, factor, option):
    return cfx.data.intervene(figures, **{factor: option}).images


def decide(f, figures, factor, option):
    return f(set_to(figures, factor, option)).argmax(1)


def compared(summary):
    """``summary`` of the decisions under the first and under the second option."""

    def answer(f, figures, factor, pair):
        return summary(*(decide(f, figures, factor, option) for option in pair))

    return answer


def against_as_it_is(which):
    def answer(f, figures, factor, pair):
        as_it_is = f(figures.images).argmax(1)
        return (as_it_is != decide(f, figures, factor, pair[which])).double().mean().item()

    return answer


def effect_in_a_loop(f, figures, factor, pair):
    changed = 0
    for i in range(len(figures)):
        one, other = (decide(f, figures[i], factor, option).item() for option in pair)
        changed += one != other
    return changed / len(figures)


def effect_by_predict(f, figures, factor, pair):
    said = [
        cfx.predict_logits(f, set_to(figures, factor, option)).argmax(1).numpy() for option in pair
    ]
    return np.mean(said[0] != said[1])


def effect_of_logits(f, figures, factor, pair):
    one, other = (f(set_to(figures, factor, option)) for option in pair)
    return (one != other).double().mean().item()


def difference_of_logits(f, figures, factor, pair):
    one, other = (f(set_to(figures, factor, option)) for option in pair)
    return (one - other).abs().mean().item()


def effect_of_the_usual_pair(f, figures, factor, pair):
    return compared(differ)(f, figures, factor, cfx.data.SPRITE_CONTRASTS[factor])


def effect_of_the_top(f, figures, factor, pair):
    return compared(differ)(f, figures, "top", ("white", "chain"))


def effect_where_it_occurs(f, figures, factor, pair):
    rows = np.flatnonzero(figures.factors[factor].isin(pair))
    return compared(differ)(f, figures[rows], factor, pair)


def effect_of_the_word_factor(f, figures, factor, pair):
    one, other = (f(cfx.data.intervene(figures, factor=v).images).argmax(1) for v in pair)
    return differ(one, other)


def differ(one, other):
    return (one != other).double().mean().item()


def hits(predicted, label, where):
    return (predicted == label)[where].double().mean().item()


def hits_in_a_loop(predicted, label, shortcut):
    found = [p == y for p, y, s in zip(predicted, label, shortcut, strict=True) if y != s]
    return sum(found) / len(found) if found else float("nan")


def hits_without_a_guard(predicted, label, shortcut):
    conflict = label != shortcut
    return ((predicted == label) & conflict).sum().item() / conflict.sum().item()


def zero_of_none(predicted, label, shortcut):
    conflict = label != shortcut
    return hits(predicted, label, conflict) if conflict.any() else 0.0


def kinds(one):
    """``one(cause, meaning, bystander)`` for each flip."""

    def answer(cause, meaning, bystander):
        return [one(c, m, b) for c, m, b in zip(cause, meaning, bystander, strict=True)]

    return answer


def kind(c, m, b):
    return "trivial" if m else "causal" if c else "non-causal" if b else "adversarial"


def kinds_with_select(cause, meaning, bystander):
    names = ["trivial", "causal", "non-causal"]
    return np.select([meaning, cause, bystander], names, "adversarial").tolist()


def kinds_overwritten(cause, meaning, bystander):
    names = ["adversarial"] * len(cause)
    for told, name in ((bystander, "non-causal"), (cause, "causal"), (meaning, "trivial")):
        for i, changed in enumerate(told):
            if changed:
                names[i] = name
    return names


def kinds_with_independent_ifs(cause, meaning, bystander):
    names = []
    for c, m, b in zip(cause, meaning, bystander, strict=True):
        if m:
            names.append("trivial")
        if c:
            names.append("causal")
        if b:
            names.append("non-causal")
        if not (c or m or b):
            names.append("adversarial")
    return names


def kinds_without_else(cause, meaning, bystander):
    names = []
    for c, m, b in zip(cause, meaning, bystander, strict=True):
        if m:
            names.append("trivial")
        elif c:
            names.append("causal")
        elif b:
            names.append("non-causal")
    return names


def kinds_returned_in_the_loop(cause, meaning, bystander):
    names = []
    for c, m, b in zip(cause, meaning, bystander, strict=True):
        names.append(kind(c, m, b))
        return names


TABLE = {
    "my_world": Answers(
        right={
            "as in the text": world,
            "probabilities of the root": lambda: world(hair={"red": 0.5, "gray": 0.5}),
            "other order": lambda: world({"metal": 0.1, "white": 0.9}, hair=["red", "gray"]),
            "more factors": lambda: world(shoes="brown"),
        },
        wrong={
            "no world": (
                lambda: {"hair": ["gray", "red"], "top": MOSTLY_METAL},
                "expected a cfx.data.World, got dict",
            ),
            "figures": (lambda: world().sample(10), "expected a cfx.data.World, got DataFrame"),
            "another name": (world_of_another_name, "does not contain hair"),
            "no top": (lambda: cfx.data.World(hair=["gray", "red"]), "does not contain top"),
            "effect before its cause": (
                world_with_effects_first,
                "it raised ValueError: top: expected a cause that is listed before it",
            ),
            "cases without given": (
                lambda: cfx.data.World(hair=["gray", "red"], top={"gray": MOSTLY_WHITE}),
                "it raised TypeError: top: expected a number",
            ),
            "rest left out": (
                lambda: world({"metal": 0.1}, {"metal": 0.9}),
                "expected probabilities that add up to 1",
            ),
            "independent": (
                lambda: cfx.data.World(hair=["gray", "red"], top=["white", "metal"]),
                "expected the single edge hair -> top, got []",
            ),
            "other arrow": (world_of_another_arrow, "got [('top', 'hair')]"),
            "hidden cause": (world_of_a_hidden_cause, "got [('_trade', 'hair'), ('_trade'"),
            "black hair": (world_of_black_hair, "expected hair to be gray or red, got black, red"),
            "third top": (
                lambda: world({"white": 0.8, "metal": 0.1, "chain": 0.1}),
                "expected top to be metal or white, got chain, metal, white",
            ),
            "misspelt top": (
                lambda: world({"white": 0.9, "mettal": 0.1}, {"white": 0.1, "mettal": 0.9}),
                "expected top to be metal or white, got mettal, white",
            ),
            "rare red": (
                lambda: world(hair={"gray": 0.9, "red": 0.1}),
                "equally often, got a fraction of 0.10 red",
            ),
            "cases exchanged": (
                lambda: world(MOSTLY_METAL, MOSTLY_WHITE),
                "P(metal | red) should be 0.9, got 0.10",
            ),
            "certain": (lambda: world("white", "metal"), "P(metal | red) should be 0.9, got 1.00"),
            "same case twice": (
                lambda: world(MOSTLY_METAL),
                "P(metal | gray) should be 0.1, got 0.9",
            ),
            "equally likely": (
                lambda: world(["white", "metal"]),
                "P(metal | gray) should be 0.1, got 0.50",
            ),
        },
    ),
    "true_effect": Answers(
        right={
            "compared": compared(differ),
            "single precision": compared(lambda a, b: (a != b).float().mean().item()),
            "tensor": compared(lambda a, b: (a != b).sum() / len(a)),
            "xor": compared(lambda a, b: (a ^ b).double().mean()),
            "predict": effect_by_predict,
            "loop": effect_in_a_loop,
        },
        wrong={
            "not averaged": (compared(lambda a, b: a != b), "got Tensor of shape (40,)"),
            "list": (compared(lambda a, b: (a != b).tolist()), "expected one number, got list"),
            "counted": (
                compared(lambda a, b: (a != b).sum().item()),
                "a fraction is in [0, 1], got 25",
            ),
            "per cent": (
                compared(lambda a, b: 100 * differ(a, b)),
                "a fraction is in [0, 1], got 62.5",
            ),
            "difference of logits": (difference_of_logits, "a fraction is in [0, 1]"),
            "difference with a sign": (
                compared(lambda a, b: (a - b).double().mean().item()),
                "a fraction is in [0, 1], got -0.275",
            ),
            "second against as it is": (
                against_as_it_is(1),
                "unchanged figures were compared with figures whose factor was set",
            ),
            "first against as it is": (
                against_as_it_is(0),
                "unchanged figures were compared with figures whose factor was set",
            ),
            "difference of averages": (
                compared(lambda a, b: (a.double().mean() - b.double().mean()).abs().item()),
                "this is the difference of two averages",
            ),
            "average of differences": (
                compared(lambda a, b: (b - a).double().mean().item()),
                "this is the difference of two averages",
            ),
            "equal decisions": (
                compared(lambda a, b: (a == b).double().mean().item()),
                "the fraction that keeps its decision",
            ),
            "logits": (effect_of_logits, "for top expected 0.625, got 0.500"),
            "share of a class": (
                compared(lambda a, b: b.double().mean().item()),
                "for top expected 0.625, got 0.450",
            ),
            "only in one direction": (
                compared(lambda a, b: (b > a).double().mean().item()),
                "for top expected 0.625, got 0.450",
            ),
            "usual pair": (effect_of_the_usual_pair, "for top expected 0.625"),
            "always the top": (effect_of_the_top, "for bottom expected 0.450"),
            "only where it occurs": (effect_where_it_occurs, "for top expected 0.625"),
            "factor as a keyword": (effect_of_the_word_factor, "it raised ValueError"),
        },
    ),
    "conflict_accuracy": Answers(
        right={
            "mask": lambda p, y, s: hits(p, y, y != s),  # the mean of nothing is NaN
            "single precision": lambda p, y, s: (p == y)[y != s].float().mean(),
            "loop": hits_in_a_loop,
        },
        wrong={
            "all figures": (
                lambda p, y, s: (p == y).double().mean().item(),
                "the accuracy over all figures",
            ),
            "agreement": (
                lambda p, y, s: hits(p, y, y == s),
                "the accuracy where label and shortcut agree",
            ),
            "shortcut followed": (
                lambda p, y, s: hits(p, s, y != s),
                "how often the prediction follows the shortcut",
            ),
            "mistakes": (
                lambda p, y, s: (p != y)[y != s].float().mean().item(),
                "how often the prediction follows the shortcut",
            ),
            "product of masks": (
                lambda p, y, s: ((p == y) & (y != s)).double().mean().item(),
                "divided by all figures",
            ),
            "counted": (
                lambda p, y, s: (p == y)[y != s].sum().item(),
                "expected 1 of 3, got 1.000",
            ),
            "conflict of the prediction": (
                lambda p, y, s: hits(p, y, p != s),
                "expected 1 of 3, got 0.500",
            ),
            "one kind of conflict": (
                lambda p, y, s: hits(p, y, (y == 0) & (s == 1)),
                "expected 1 of 3, got 1.000",
            ),
            "not averaged": (
                lambda p, y, s: (p == y)[y != s],
                "expected one number, got Tensor of shape (3,)",
            ),
            "average of truth values": (
                lambda p, y, s: (p == y)[y != s].mean().item(),
                "it raised RuntimeError",
            ),
            "zero of none": (zero_of_none, "without any conflict expected NaN, got 0"),
            "division by none": (hits_without_a_guard, "it raised ZeroDivisionError"),
            "nothing for none": (
                lambda p, y, s: hits(p, y, y != s) if (y != s).any() else None,
                "expected one number, got NoneType",
            ),
        },
    ),
    "classify_flip": Answers(
        right={
            "in order": kinds(kind),
            "select": kinds_with_select,
            "overwritten": kinds_overwritten,
        },
        wrong={
            "one name": (lambda c, m, b: "trivial", "expected a list of names, got str"),
            "generator": (
                lambda c, m, b: map(kind, c, m, b),
                "expected a list of names, got map",
            ),
            "array": (
                lambda c, m, b: np.array(kinds_with_select(c, m, b)),
                "expected a list of names, got ndarray",
            ),
            "ifs without else": (kinds_with_independent_ifs, "8 flips, got 13"),
            "no else": (kinds_without_else, "expected 8 names for 8 flips, got 7"),
            "returned in the loop": (kinds_returned_in_the_loop, "8 flips, got 1"),
            "nothing for the rest": (
                kinds(lambda c, m, b: kind(c, m, b) if c or m or b else None),
                "unknown names: None",
            ),
            "misspelt": (
                kinds(lambda c, m, b: kind(c, m, b).replace("-", "")),
                "unknown names: noncausal",
            ),
            "cause first": (
                kinds(lambda c, m, b: "causal" if c else kind(c, m, b)),
                "cause True, meaning True, other False: expected trivial, got causal",
            ),
            "bystander first": (
                kinds(lambda c, m, b: "non-causal" if b else kind(c, m, b)),
                "meaning True, other True: expected trivial, got non-causal",
            ),
            "bystander before cause": (
                kinds(lambda c, m, b: kind(c and not b, m, b)),
                "cause True, meaning False, other True: expected causal, got non-causal",
            ),
            "trivial if nothing else changed": (
                kinds(lambda c, m, b: kind(c, m and not c, b)),
                "cause True, meaning True, other False: expected trivial, got causal",
            ),
            "last two exchanged": (
                kinds(lambda c, m, b: kind(c, m, not b)),
                "expected adversarial, got non-causal",
            ),
            "bystander is adversarial": (
                kinds(lambda c, m, b: kind(c, m, False)),
                "expected non-causal, got adversarial",
            ),
        },
    ),
}


@right_answers(nb04, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb04, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)
