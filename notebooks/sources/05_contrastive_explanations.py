# %% [markdown]
# # 05 · Contrastive explanations: was it necessary, was it sufficient?
#
# **About 60 minutes · two CPU cores are enough · nothing is downloaded · [glossary](../docs/glossary.md)**
#
# A counterfactual shows *a* change that flips a decision. A cause is more: had this one attribute
# been different and nothing else, would the decision have fallen? Would the attribute alone have
# brought it about elsewhere? Contrastive explanations (arXiv 2206.05257) answer with edits in a
# generator's latent space, scored as **necessity** and **sufficiency**. Here the truth is known, so
# the answers are checked.
#
# ## What you will be able to do
#
# - **compute** necessity and sufficiency from unit-level counterfactuals, with intervals
# - **edit** one attribute of a code while the others are held
# - **measure** leakage: what else an edit changed
# - **explain** why observational scores mislead under confounding, and adjust them
# - **bound** what a table alone can't tell
# - **find** the planted reason of a classifier that nobody names
#
# Needed before: `01_latent_spaces`, `04_known_truth`.

# %%
import numpy as np
import pandas as pd
import torch
from IPython.display import display

import cfxnb as cfx

cfx.doctor()

# %% tags=["parameters"]
profile: str = "cpu"  # ci, cpu or gpu: how much is computed
seed: int = 0  # of the figures

# %%
count = cfx.by_profile(profile, ci=150, cpu=500, gpu=2000)
space = cfx.load("sprites/vae", device="cpu")
judge = cfx.load("sprites/judge", device="cpu")
planted = {
    n: cfx.load(f"sprites/{n}", device="cpu")
    for n in ("honest", "shortcut", "majority", "conjunction")
}
contrasts = cfx.data.SPRITE_CONTRASTS
classes = contrasts["hair"]  # every classifier says "gray" or "red"
train = cfx.data.sprites("pairs", 2000, split="train", seed=21)
figures = cfx.data.sprites("pairs", count, split="test", seed=seed + 11)
figures

# %% [markdown]
# ## The question, for one figure
#
# Each attribute has a contrast, such as *metal, not white*. Set it to its other value, hold
# everything else, decode, ask the classifier. Bold: the decision fell. (A figure is not asked about an
# attribute of which it has neither value, such as yellow eyes. The slight grain is the space's.)

# %%
edits = cfx.load("sprites/edits_preserve", device="cpu")
red = cfx.predict_logits(planted["conjunction"], figures.images).argmax(1).numpy() == 1
which = int(np.flatnonzero(red)[0])
cfx.edit_strip(
    space,
    planted["conjunction"],
    edits,
    figures.images[which : which + 1],
    figures.factors.iloc[which : which + 1],
    class_names=classes,
)

# %% [markdown]
# ## From one figure to a score
#
# With x the value of an attribute, x′ the other one, and o the outcome:
#
# - **necessity**: among figures *with* x and o, the share that loses o when x becomes x′
# - **sufficiency**: among figures with x′ and *not* o, the share that gets o when x′ becomes x
#
# Every figure is asked about itself: find its code (abduction), edit one attribute (action), ask the
# classifier about what is decoded (prediction). The conditions matter as much as the count.
#
# ### Exercise 1 · Necessity
#
# *Medium, 6 minutes.* From three arrays of bools: does the figure have x (`has`), did it have the
# outcome `before`, and `after` the edit to its other value? Return the score and the number of
# figures asked. With nobody to ask the score is NaN, and the number 0.
#
# <details><summary>Hint 1</summary>
#
# Asked are those with x and the outcome: `has & before`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Hits are those of them that have it no more: `~after`.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `float((~after)[among].mean())` if there are any.
#
# </details>


# %% tags=["exercise"]
def necessity(has: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[float, int]:
    """Share that loses the outcome without x, among those with both; and how many these are."""
    ### BEGIN SOLUTION
    among = has & before
    number = int(among.sum())
    score = float((~after)[among].mean()) if number else float("nan")
    return score, number
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.necessity(necessity)

# %% [markdown]
# ### Exercise 2 · Sufficiency
#
# *Easy, 4 minutes.* The mirror image: among figures with x′ and without the outcome, the share that
# gets it.
#
# <details><summary>Hint 1</summary>
#
# Asked are `~has & ~before`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Hits have the outcome `after` the edit.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The same three lines as above, with these two masks.
#
# </details>


# %% tags=["exercise"]
def sufficiency(has: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[float, int]:
    """Share that gets the outcome with x, among those with neither; and how many these are."""
    ### BEGIN SOLUTION
    among = ~has & ~before
    number = int(among.sum())
    score = float(after[among].mean()) if number else float("nan")
    return score, number
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.sufficiency(sufficiency)

# %% [markdown]
# ## How an edit is made
#
# A regression on codes gives each attribute a normal: the direction in which it grows. But normals
# of different attributes aren't orthogonal, and a step along one moves the readings of others. To
# **hold** the others, what lies in their span is projected out first. Then the code goes along what
# is left until it lies where codes with the wanted value lie on average: a *linear* edit. The edits
# loaded above begin there, and a small network adds a correction for each code; it was trained
# through the generator until a reader found the attribute changed and everything else as it was.
#
# ### Exercise 3 · Project out the others
#
# *Hard, 8 minutes.* Remove from a normal (dims,) its part in the span of the held normals
# (k, dims), which need not be orthogonal to each other. Return a unit vector.
#
# <details><summary>Hint 1</summary>
#
# Subtracting one projection after the other is right only if the held normals are orthogonal.
#
# </details>
# <details><summary>Hint 2</summary>
#
# An orthonormal basis of their span: `torch.linalg.qr(held.T).Q`, shape (dims, k).
#
# </details>
# <details><summary>Hint 3</summary>
#
# `rest = normal - q @ (q.T @ normal)`, then divide by its norm.
#
# </details>


# %% tags=["exercise"]
def project_out(normal: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
    """The part of a normal that changes none of the held readings, as a unit vector."""
    ### BEGIN SOLUTION
    q = torch.linalg.qr(held.T).Q
    rest = normal - q @ (q.T @ normal)
    return rest / rest.norm()
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.project_out(project_out)

# %% [markdown]
# ## The scores, and the truth beside them
#
# `cfx.contrastive_scores` does all this for each attribute. Only *clean* edits count unless you say
# otherwise: those in which an independent judge finds the attribute changed and nothing else. The black diamonds are the truth, by
# re-rendering. For the conjunction (red hair **and** a metal top) both are necessary, and neither
# is always sufficient.

# %%
scores, truth = {}, {}
for name, f in planted.items():
    scores[name] = cfx.contrastive_scores(
        space, f, figures.images, figures.factors, 1, edits=edits, judge=judge
    )
    truth[name] = cfx.metrics.true_scores(figures, f, contrasts, 1)
display(cfx.score_bars(scores["conjunction"], truth=truth["conjunction"], title="conjunction"))
cfx.score_bars(scores["majority"], truth=truth["majority"], title="majority: a vote of three")

# %%
rows = {}
for name in planted:
    wrong = cfx.metrics.score_errors(scores[name], truth[name])
    rows[name] = {
        "named first": scores[name].ranking[0],
        "planted": ", ".join(cfx.data.SPRITE_CLASSIFIERS[name].causes),
        "mean error, necessity": wrong.loc["necessity", "error"].mean(),
        "mean error, sufficiency": wrong.loc["sufficiency", "error"].mean(),
        "truth inside the interval": wrong["covered"].mean(),
        "monotonicity violation, at most": scores[name].monotonicity_violation.max(),
    }
pd.DataFrame(rows).T

# %%
# NBVAL_CHECK_OUTPUT
for name in planted:
    first = scores[name].ranking[0]
    print(
        f"{name}: {first} is a planted cause: {first in cfx.data.SPRITE_CLASSIFIERS[name].causes}"
    )

# %% [markdown]
# `monotonicity_violation` is the share of figures in which the value works the other way round. It is zero if the
# effect is **monotone**: something that has to be assumed where single figures can't be asked, and
# that we can see. Of the two values of a contrast, `value` is always the one that favours the outcome
# more often, so the order may change from one classifier to the next.
#
# Try it on single figures. What is necessary for one need not be for another:

# %%
few = figures[: cfx.by_profile(profile, ci=6, cpu=20, gpu=20)]


def draw_edit(classifier: str, figure: int, attribute: str) -> cfx.Picture:
    baseline, value = contrasts[attribute]
    now = few.factors[attribute].iloc[figure]
    return cfx.edit_picture(
        space,
        planted[classifier],
        edits,
        few.images[figure : figure + 1],
        attribute,
        baseline if now == value else value,
        class_names=classes,
    )


cfx.explore(
    draw_edit,
    classifier=list(planted),
    figure=(0, len(few) - 1),
    attribute=["hair", "top", "shoes", "body", "direction"],
)

# %% [markdown]
# ## Leakage
#
# A score is causal only as far as the edit changed *nothing else*. The judge, which no edit has ever
# seen, reads every edited figure. Four kinds of edits: linear, with the others held or not; learnt,
# told to keep the others or, as published, not to care. Which of the four changes most bystanders?

# %%
compare = cfx.predict_then_run(
    "Which kind of edit changes most bystanders?",
    ["linear, held", "linear, free", "learnt, kept", "learnt, free"],
)

# %%
kinds = {
    f"linear, {word}": cfx.fit_attribute_edits(
        space, train.images, train.factors, contrasts=contrasts, preserve_others=others
    )
    for word, others in (("held", True), ("free", False))
}
kinds |= {"learnt, kept": edits, "learnt, free": cfx.load("sprites/edits_free", device="cpu")}
by_kind = {
    name: cfx.contrastive_scores(
        space, planted["honest"], figures.images, figures.factors, 1, edits=d, judge=judge
    )
    for name, d in kinds.items()
}
leaks = pd.DataFrame(
    {
        name: {
            "took effect, worst": s.table["took effect"].min(),
            "leakage, mean": np.nanmean(s.leakage),
            "leakage, worst": np.nanmax(s.leakage),
        }
        for name, s in by_kind.items()
    }
).T
print(compare(leaks["leakage, mean"].idxmax()))
leaks.round(3)

# %%
cfx.leakage_map({n: by_kind[n] for n in ("learnt, kept", "learnt, free")})

# %% [markdown]
# What does leakage do to a *score*? It depends on whether what leaks is a cause. Take a classifier of
# bright trousers (white, golden or red), which reads nothing else, and ask whether the *direction* of
# the figure was necessary. The truth is 0. Once all edits count, once only those in which the judge
# finds nothing else changed:

# %%
reader = cfx.load("sprites/reader", device="cpu")
bright = torch.tensor([o in ("white", "golden", "red") for o in reader.options["bottom"]])


def trousers(images):
    """Logits (b, 2): dark or bright trousers."""
    logits = reader(images)["bottom"]
    return torch.stack([logits[:, ~bright].logsumexp(1), logits[:, bright].logsumexp(1)], 1)


rows = {}
for name, own in kinds.items():
    for only in ("all", "clean"):
        s = cfx.contrastive_scores(
            space, trousers, figures.images, figures.factors, 1,
            edits=own, judge=judge, edit_filter=only,
        )  # fmt: skip
        row = s.table.loc["direction"]
        rows.setdefault(name, {})[f"necessity, {only} edits"] = row["necessity"]
        rows[name][f"images, {only}"] = row["necessity n"]
exact = cfx.metrics.true_scores(figures, trousers, contrasts, 1).table.loc["direction"]
rows["truth"] = {"necessity, all edits": exact["necessity"], "images, all": exact["necessity n"]}
pd.DataFrame(rows).T.round(2)

# %%
# NBVAL_CHECK_OUTPUT
invented = {name: row["necessity, all edits"] for name, row in rows.items()}
print("edits that don't care invent a cause:", invented["learnt, free"] > 0.05)
print("edits that keep the others don't:", invented["learnt, kept"] < 0.05)

# %% [markdown]
# Counting clean edits only repairs most of it, at a price: look how few images are left.
#
# ## Why not just count?
#
# A table of factors and decisions needs no generator. LEWIS (Galhotra et al., 2021) estimates the same
# scores from it. In the
# `confounded` world hair and top share a hidden cause. Ask the **honest** classifier, which reads
# hair and nothing else: was the *top* necessary for "red"? The truth is 0.

# %%
confounded = cfx.data.sprites("confounded", 1500, split="test", seed=seed + 3)
is_red = cfx.predict_logits(planted["honest"], confounded.images).argmax(1).numpy() == 1
table = confounded.factors.assign(red=is_red)
naive = cfx.observed_scores(table, "top", "red", value="metal", baseline="white")
right = cfx.observed_scores(table, "top", "red", adjust=["hair"], value="metal", baseline="white")
edited = cfx.contrastive_scores(
    space, planted["honest"], confounded.images, confounded.factors, 1,
    edits=edits, judge=judge,
)  # fmt: skip
exact = cfx.metrics.true_scores(confounded, planted["honest"], contrasts, 1)
pd.DataFrame(
    {
        name: {"necessity of top": s[0], "sufficiency of top": s[1]}
        for name, s in {
            "table, as it is": (naive.necessity, naive.sufficiency),
            "table, adjusted for hair": (right.necessity, right.sufficiency),
            "edits in the space": (edited.necessity["top"], edited.sufficiency["top"]),
            "truth": (exact.necessity["top"], exact.sufficiency["top"]),
        }.items()
    }
).T.round(3)

# %%
# NBVAL_CHECK_OUTPUT
print("the bare table is far off:", naive.necessity > 0.3)
print("adjusted, it is right:", abs(right.necessity) < 0.05)
print("edits need no adjustment:", edited.necessity["top"] < 0.05)

# %% [markdown]
# Adjustment needs the right factors *in the table*. The edit needs none: it changes the top and holds
# the hair, whatever goes with what.
#
# ### Exercise 4 · Adjust for a confounder
#
# *Medium, 7 minutes.* The back-door formula: P(o | do x) is the sum over strata c of
# P(o | x, c) · P(c). `table` has the columns `x`, `c` and `o` (bool); every stratum has figures
# with x.
#
# <details><summary>Hint 1</summary>
#
# Weigh with P(c) of *all* rows, not of those with x: that is the whole point.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `table["c"].value_counts(normalize=True)` gives P(c).
#
# </details>
# <details><summary>Hint 3</summary>
#
# `rows = table[(table["x"] == x) & (table["c"] == c)]`, then `rows["o"].mean()`.
#
# </details>


# %% tags=["exercise"]
def adjusted(table: pd.DataFrame, x: str) -> float:
    """P(o | do x), adjusted for c."""
    ### BEGIN SOLUTION
    total = 0.0
    for c, fraction in table["c"].value_counts(normalize=True).items():
        rows = table[(table["x"] == x) & (table["c"] == c)]
        total += fraction * rows["o"].mean()
    return float(total)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.adjusted(adjusted)

# %% [markdown]
# ## What a table can't tell
#
# Even with the true effects P(o | do x), a table doesn't fix necessity: it only bounds it (Tian and
# Pearl, 2000), unless the effect is monotone. How wide are the bounds for the conjunction?

# %%
is_red = cfx.predict_logits(planted["conjunction"], figures.images).argmax(1).numpy() == 1
seen = figures.factors.assign(red=is_red)
rows = {}
for factor in ("hair", "top", "shoes"):
    baseline, value = contrasts[factor]
    done = {v: cfx.data.intervene(figures, **{factor: v}).images for v in (value, baseline)}
    effect = {
        v: float((cfx.predict_logits(planted["conjunction"], image).argmax(1) == 1).double().mean())
        for v, image in done.items()
    }
    bound = cfx.score_bounds(
        seen, factor, "red", do_value=effect[value], do_baseline=effect[baseline],
        value=value, baseline=baseline,
    )  # fmt: skip
    rows[factor] = {
        "necessity at least": bound.necessity[0],
        "at most": bound.necessity[1],
        "by edits": scores["conjunction"].necessity[factor],
        "truth": truth["conjunction"].necessity[factor],
    }
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# For hair and top the table settles it: without either, "red" never happens. For the shoes, which do
# nothing, the table allows everything from 0 to 1: half of the red ones wear metal shoes, and nothing
# in the table says that each of them would be red without. The edits ask each one.
#
# ### Exercise 5 · The lower bound of necessity
#
# *Medium, 5 minutes.* max(0, (P(o) − P(o | do x′)) / P(o, x)); NaN if nobody has both x and o.
#
# <details><summary>Hint 1</summary>
#
# The numerator: how much more often o happens than it would without x.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A share is never negative: `max(0.0, ...)`.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Guard `p_both == 0` before you divide.
#
# </details>


# %% tags=["exercise"]
def lower_bound(p_outcome: float, p_outcome_do_other: float, p_both: float) -> float:
    """Least possible necessity, from P(o), P(o | do x') and P(o, x)."""
    ### BEGIN SOLUTION
    if p_both == 0:
        return float("nan")
    return max(0.0, (p_outcome - p_outcome_do_other) / p_both)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.lower_bound(lower_bound)

# %% [markdown]
# ## A classifier that nobody names
#
# Now it is your turn. `sprites/unknown` says "gray" or "red", too, and something else decides.
# Use whatever you like: scores, strips, attacks. Look at `monotonicity_violation`, too.

# %%
unknown = cfx.load("sprites/unknown", device="cpu")
puzzle = cfx.contrastive_scores(
    space, unknown, figures.images, figures.factors, 1, edits=edits, judge=judge
)
puzzle.table[
    ["value", "baseline", "necessity", "sufficiency", "pns", "monotonicity_violation"]
].round(2)

# %% [markdown]
# ### Exercise 6 · Find the decisive factors
#
# *Medium, 10 minutes.* Return the factors that decide, as a set of names, and whether their effect
# is monotone: does the same value of a factor always push the same way? The check re-renders
# figures and sees for itself.
#
# <details><summary>Hint 1</summary>
#
# Which attributes have a necessity that isn't zero?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Harm above zero: with x′ the outcome is there, and with x it isn't.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `return {"..."}, True`, or False if some factor has harm.
#
# </details>


# %% tags=["exercise"]
def decisive_factors() -> tuple[set[str], bool]:
    """The factors that decide, and whether their effect is monotone."""
    ### BEGIN SOLUTION
    deciding = set(puzzle.table.index[puzzle.necessity > 0.1])
    return deciding, bool((puzzle.monotonicity_violation[list(deciding)] < 0.05).all())
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.decisive_factors(decisive_factors)

# %% [markdown]
# ## Real generators
#
# The same calls run in StyleGAN2's space, the published setting, for those who have its weights and
# a GPU. The file is read without executing anything that is in it:
#
#     space = cfx.spaces.load_stylegan2("ffhq.pkl", latent="w")
#     with torch.no_grad():  # a few at a time: large images fill a memory quickly
#         faces = torch.cat([space.decode(space.sample(8, seed=s)) for s in range(25)])
#     reader = cfx.FactorReader(my_attribute_net, {"smiling": (False, True), ...})
#     edits = cfx.fit_attribute_edits(space, faces, reader.read(faces, batch_size=8), reader=reader)
#     cfx.contrastive_scores(
#         space, my_classifier, faces, reader.read(faces, batch_size=8), 1, edits=edits, batch_size=8
#     )
#
# Mind the cost: this space finds the code of an image by 300 steps of optimisation, in each of the last
# two calls. The attribute net stands in for the truth here, so another one should be the judge.
#
# ## Limits
#
# - The scores hold for the figures asked, within the generator. A factor that the space can't draw
#   can't be edited; `reconstruction_agreement` and `took effect` tell.
# - The interval covers the draw of the figures. It doesn't cover an edit that changes something no
#   judge reads.
# - Keeping only clean edits may select figures. Compare with `edit_filter="all"`.
# - A score is an average over the figures asked. `context=(figures.factors["top"] == "metal")` asks
#   some of them only, and the score may be another one.
#
# ## Summary
#
# Edits answer causal questions one unit at a time; leakage is the price, and it can be measured;
# counting in a table answers them only with the right adjustment, and else within bounds.
#
# **Questions to take along.** Why may a factor be necessary and never sufficient? When would you
# trust the table more than the edits? What would a face classifier's *judge* have to be?
#
# **References.** K. Alipour et al., *Explaining image classifiers using contrastive
# counterfactuals in generative latent spaces*, arXiv 2206.05257 · S. Galhotra, R. Pradhan, B.
# Salimi, *Explaining black-box algorithms using probabilistic contrastive counterfactuals* (LEWIS),
# 2021 · J. Tian, J. Pearl, *Probabilities of causation*, 2000 · Y. Shen et al., *Interpreting the
# latent space of GANs* (InterFaceGAN), 2020. Figures: sprites of the Liberated Pixel Cup, CC BY-SA
# 3.0 / GPL 3.0; artists in `data/sprites/LPC-AUTHORS.txt` and `ATTRIBUTION.md`.
