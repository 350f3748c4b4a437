# %% [markdown]
# # 05 · Contrastive explanations: was it necessary, was it sufficient?
#
# **About 110 minutes · two CPU cores are enough · nothing is downloaded · [glossary](../docs/glossary.md)**
#
# A network looks at a figure and says "red". Would it still say "red" if the hair were gray? Would red
# hair alone make it say "red" for other figures? The first question asks whether the hair was
# **necessary**, the second whether it is **sufficient**. *Contrastive explanations*
# ([Alipour et al., 2022](https://arxiv.org/abs/2206.05257)) answer both: they edit one attribute in the
# latent space of a generator, and ask the classifier again. In this chapter you write the method, from
# the counts to the edits. The truth is known here, so you also see when the method is right.
#
# ## What you will be able to do
#
# - **compute** necessity and sufficiency by hand, in code, and with confidence intervals
# - **edit** one attribute of a code, and leave the others as they are
# - **write** abduction, action and prediction as three lines of code
# - **compare** your scores with the library, with the truth, and with correlations
# - **explain** what a table of observations can tell about causes, and what it cannot
#
# Needed before: [01 Latent spaces](01_latent_spaces.ipynb), [04 Known truth](04_known_truth.ipynb).

# %%
import math

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression

import cfxnb as cfx
from cfxnb.core.tensors import standardise

cfx.doctor()

# %% tags=["parameters"]
profile: str = "cpu"  # ci, cpu or gpu: how much is computed
count: int = 0  # number of figures; 0: as many as the profile says
seed: int = 0  # of the figures

# %% jupyter={"source_hidden": true}
count = count or cfx.by_profile(profile, ci=150, cpu=300, gpu=2000)
space, judge, edits = (
    cfx.load(f"sprites/{name}", device="cpu") for name in ("vae", "judge", "edits_preserve")
)
planted = {
    name: cfx.load(f"sprites/{name}", device="cpu")
    for name in ("honest", "shortcut", "majority", "conjunction")
}
contrasts = cfx.data.SPRITE_CONTRASTS
figures = cfx.data.sprites("pairs", count, split="test", seed=seed + 11)
pd.set_option("display.max_colwidth", None)

# %% [markdown]
# ## Where we are going
#
# Our classifier is called `conjunction`. It says "red" if the figure has red hair **and** a metal top.
# We know this, because its training labels were made by this rule. The method does not know it.
#
# Each attribute has a [contrast](../docs/glossary.md#necessity-and-sufficiency): two values, such as gray and red hair. The picture shows one figure
# that the classifier calls red. In each column, one attribute has its other value. The decision stands
# below each figure, and bold means that it changed. Some figures have neither value of a contrast, such
# as yellow eyes. Then this attribute is left out.

# %% jupyter={"source_hidden": true}
hook = figures.factors.query("hair == 'red' and top == 'metal' and direction == 'front'").index[0]
cfx.edit_strip(
    space,
    planted["conjunction"],
    edits,
    figures.images[hook : hook + 1],
    figures.factors.iloc[hook : hook + 1],
    class_names=contrasts["hair"],
)

# %% [markdown]
# Without red hair, and without the metal top, the classifier no longer says "red". Both were necessary
# for this figure. But this is one figure only. We now turn the question into scores.
#
# ## Piece 1: three scores, by hand
#
# Let $X$ be the attribute, with the value $x$ and the **baseline** $x'$. Let $Y = 1$ if the classifier
# says "red": this is the **outcome**. A figure has two **potential outcomes**. $Y_x$ is its decision
# if the attribute is set to $x$, and $Y_{x'}$ is its decision if the attribute is set to $x'$. The
# picture shows the three probabilities of causation ([Tian and Pearl,
# 2000](https://arxiv.org/abs/1301.3898)).

# %% jupyter={"source_hidden": true}
cfx.diagram("necessity_sufficiency")

# %% [markdown]
# - [necessity](../docs/glossary.md#necessity-and-sufficiency):
#   $\mathrm{PN} = P(Y_{x'} = 0 \mid X = x,\, Y = 1)$. Of the figures with the value and the outcome,
#   which fraction loses the outcome?
# - sufficiency: $\mathrm{PS} = P(Y_x = 1 \mid X = x',\, Y = 0)$. Of the figures with neither, which
#   fraction gets the outcome?
# - $\mathrm{PNS} = P(Y_x = 1,\, Y_{x'} = 0)$. For which fraction of *all* figures does the attribute
#   decide, in the expected direction?
#
# The table has twelve figures, one per column. The last row shows what nobody can observe. It is the
# decision for the same figure with the other hair, and an edit can compute it.

# %%
hand = cfx.checks.nb05.hand_table()
hand.T

# %% [markdown]
# ### Exercise 1 · By hand
#
# *Easy, 6 minutes.* Take a pencil. The value is $x$ = red hair, the baseline is $x'$ = gray hair, and
# the outcome is the decision "red". Count in the table, and return what you counted.
#
# - output: a dict with the keys `"necessity"`, `"sufficiency"` and `"pns"`. Each entry is a pair
#   `(k, n)` of ints: `n` figures fulfil the condition, and `k` of them react as asked.
#
# <details><summary>Hint 1</summary>
#
# For necessity, mark the columns with red hair *and* the decision "red". How many of them have the
# decision "gray" with the other hair?
#
# </details>
# <details><summary>Hint 2</summary>
#
# For sufficiency, mark the columns with gray hair *and* the decision "gray".
#
# </details>
# <details><summary>Hint 3</summary>
#
# PNS has no condition, so `n` is the number of all figures. A figure with gray hair counts as well, if
# it would be "red" with red hair and is "gray" with its own.
#
# </details>


# %% tags=["exercise"]
def by_hand() -> dict[str, tuple[int, int]]:
    """Return (k, n) of necessity, sufficiency and pns of red hair, counted in the table."""
    ### BEGIN SOLUTION
    return {
        "necessity": (3, 5),
        "sufficiency": (1, 4),
        "pns": (4, 12),
    }
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.by_hand(by_hand)

# %% [markdown]
# ## Piece 2: the counts in code
#
# For each figure we know the decision `before` the edit, and the decision `after` the attribute got its
# other value. Which of them is $Y_x$? If the figure has the value, then nothing had to be set, and
# $Y_x$ is the decision before. This rule is called **consistency**:
#
# $$X = x \;\Rightarrow\; Y = Y_x, \qquad X = x' \;\Rightarrow\; Y = Y_{x'}.$$
#
# The other potential outcome is the decision after the edit. There is a fourth count. A figure with
# $Y_x = 0$ and $Y_{x'} = 1$ reacts the wrong way round: the value *removes* the outcome. The fraction
# of such figures is the **monotonicity violation**, $P(Y_x = 0,\, Y_{x'} = 1)$.
#
# ### Exercise 2 · Count units
#
# *Medium, 10 minutes.* Count for many figures what you have counted by hand.
#
# - `has`: whether the figure has the value $x$, bool (n,)
# - `before`: whether it has the outcome, bool (n,)
# - `after`: whether it has the outcome after the attribute got its other value, bool (n,)
# - output: a dict with the keys `"necessity"`, `"sufficiency"`, `"pns"` and
#   `"monotonicity_violation"`, in this order. Each entry is a pair of ints `(k, n)`.
#
# <details><summary>Hint 1</summary>
#
# First compute the two potential outcomes of every figure. `np.where(condition, a, b)` chooses
# per figure.
#
# </details>
# <details><summary>Hint 2</summary>
#
# With `&` and `~`, write one mask for each condition, and one for each event. The last two scores have
# no condition.
#
# </details>
# <details><summary>Hint 3</summary>
#
# $k$ counts figures in the condition *and* the event, and $n$ counts the condition. `int(mask.sum())`
# counts.
#
# </details>


# %% tags=["exercise"]
def count_units(has, before, after) -> dict[str, tuple[int, int]]:
    """Return (k, n) of each score: of n figures in the condition, k react as asked."""
    ### BEGIN SOLUTION
    o_x = np.where(has, before, after)
    o_other = np.where(has, after, before)
    everyone = np.ones(len(has), dtype=bool)
    parts = {
        "necessity": (has & o_x, ~o_other),
        "sufficiency": (~has & ~o_other, o_x),
        "pns": (everyone, o_x & ~o_other),
        "monotonicity_violation": (everyone, ~o_x & o_other),
    }
    return {
        name: (int((among & event).sum()), int(among.sum()))
        for name, (among, event) in parts.items()
    }
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.count_units(count_units)

# %% [markdown]
# The two must agree. Your function counts what you counted by hand, and the violations as well.

# %%
by_hand = cfx.course.piece("nb05.by_hand", by_hand)
count_units = cfx.course.piece("nb05.count_units", count_units)
has, red = hand["hair"] == "red", hand[["decision", "with the other hair"]] == "red"
in_code = count_units(has.to_numpy(), red.iloc[:, 0].to_numpy(), red.iloc[:, 1].to_numpy())
pd.DataFrame({"by hand": by_hand(), "in code": in_code})

# %% [markdown]
# ## Piece 3: how sure is a count?
#
# Three of five is 60 %, but five figures are few. Let $\hat p = k/n$ be the observed fraction, and $p$
# the probability behind it. For many figures, $\hat p$ is roughly normal with variance $p(1-p)/n$. So
# with a probability of 95 %,
#
# $$|\hat p - p| \le z \sqrt{p(1-p)/n}, \qquad z = 1.96.$$
#
# The textbook puts $\hat p$ into the root. For $k = 0$ the interval then has the width 0, although ten
# figures without a reaction do not prove that none ever reacts. Wilson (1927) keeps $p$ in the root,
# and solves for it. We square both sides and sort by powers of $p$:
#
# $$\Bigl(1 + \frac{z^2}{n}\Bigr)\,p^2 \;-\; \Bigl(2\hat p + \frac{z^2}{n}\Bigr)\,p \;+\; \hat p^2
# \;\le\; 0.$$
#
# The left side is a parabola that opens upwards. So the interval of all $p$ that agree with the data
# lies between its two roots.
#
# ### Exercise 3 · The Wilson interval
#
# *Medium, 8 minutes.* Return the two roots.
#
# - `k`, `n`: ints with $0 \le k \le n$
# - output: two floats, the lower and the upper end
# - special case: for $n = 0$ return NaN twice
#
# <details><summary>Hint 1</summary>
#
# Name the three coefficients of the parabola `a`, `b` and `c`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Use the formula for the roots of a quadratic equation. The smaller root is the lower end.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Check $k = 0$: then $c = 0$, and one root is 0. The other one is $z^2 / (n + z^2)$.
#
# </details>


# %% tags=["exercise"]
def wilson(k: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the ends of the Wilson interval of k of n."""
    ### BEGIN SOLUTION
    if n == 0:
        return math.nan, math.nan
    p, s = k / n, z**2 / n
    a, b, c = 1 + s, 2 * p + s, p**2
    root = math.sqrt(b**2 - 4 * a * c)
    return (b - root) / (2 * a), (b + root) / (2 * a)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.wilson(wilson)

# %% [markdown]
# The table shows what the interval says when no figure reacts, and how it shrinks with more figures.

# %%
wilson = cfx.course.piece("nb05.wilson", wilson)
pairs = [in_code["necessity"], in_code["sufficiency"], (0, 10), (0, 100), (60, 100)]
ends = [[f"{end:.2f}" for end in wilson(k, n)] for k, n in pairs]
pd.DataFrame(ends, index=[f"{k} of {n}" for k, n in pairs], columns=["low", "high"])

# %% [markdown]
# ## Piece 4: one attribute of a code
#
# Now we need the last row of the table, for real figures. The diagram shows how Pearl computes a
# counterfactual, in a **twin network**. On the left is the observed world. On the right is the world in
# which the attribute was set. Both share everything that we did not set.

# %% jupyter={"source_hidden": true}
cfx.diagram("twin_network")

# %% [markdown]
# In a space, the three steps are three calls. **Abduction** encodes the image: the code holds
# everything about this figure. **Action** changes one attribute of the code. **Prediction** decodes,
# and the classifier decides. Encoder, decoder and classifier are given. The action is what you write
# now.
#
# Let $u$ be a code in standard deviations. A logistic regression on codes finds the direction in which
# an attribute grows: its **normal** $n$. But the normals of two attributes are not orthogonal. A step
# along the normal of the hair also moves the code along the normal of the top. The remedy
# ([Shen et al., 2020](https://arxiv.org/abs/1907.10786)) is to remove from $n$ what lies in the span of
# the other normals. What remains is orthogonal to all of them, so a step along it changes none of the
# other predictions.

# %% [markdown]
# ### Exercise 4 · Project out the others
#
# *Medium, 8 minutes.* Remove from a normal its part in the span of the other normals.
#
# - `normal`: shape (d,)
# - `held`: the other normals, shape (k, d). They need not be orthogonal to each other.
# - output: a unit vector, shape (d,)
#
# <details><summary>Hint 1</summary>
#
# Subtracting one projection after the other is right only if the other normals are orthogonal.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.linalg.qr(matrix).Q` is an orthonormal basis of the span of the *columns* of a matrix.
#
# </details>
# <details><summary>Hint 3</summary>
#
# For an orthonormal basis $Q$, the part of $n$ in the span is $Q Q^\top n$.
#
# </details>


# %% tags=["exercise"]
def project_out(normal: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
    """Return the part of a normal that is orthogonal to all held normals, as a unit vector."""
    ### BEGIN SOLUTION
    q = torch.linalg.qr(held.T).Q
    rest = normal - q @ (q.T @ normal)
    return rest / rest.norm()
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.project_out(project_out)

# %% [markdown]
# How long is the step? Codes with the wanted value lie, on average, at some place along the direction.
# This place is the **goal**. For a direction $d$ and the codes $u_1, u_2, \dots$ of the figures with
# one value, the goal is the mean of the numbers $u_i^\top d$.
#
# ### Exercise 5 · Directions and goals
#
# *Medium, 10 minutes.* Use `project_out`.
#
# - `u`: codes in standard deviations, (m, d)
# - `normals`: a dict from each attribute to its normal, (d,)
# - `factors`: a table with one row per code and one column per attribute
# - `contrasts`: a dict from each attribute to its pair (baseline, value)
# - output: a dict from each attribute to a pair: its direction (d,), held against all *other* normals,
#   and its two goals (2,), that of the baseline first
#
# <details><summary>Hint 1</summary>
#
# `torch.stack` makes a matrix of the normals of all attributes but one.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `(factors[attribute] == value).to_numpy()` selects figures, and `torch.tensor` of it selects rows of
# `u`.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `u @ direction` has one number per code. Each goal is a mean over some of these numbers. Some figures
# have neither of the two values.
#
# </details>


# %% tags=["exercise"]
def fit_directions(u, normals, factors, contrasts) -> dict[str, tuple]:
    """Return for each attribute its direction, (d,), and the goals of its two values, (2,)."""
    ### BEGIN SOLUTION
    found = {}
    for attribute, pair in contrasts.items():
        held = torch.stack([n for other, n in normals.items() if other != attribute])
        direction = project_out(normals[attribute], held)
        place = u @ direction
        rows = [torch.tensor((factors[attribute] == v).to_numpy()) for v in pair]
        found[attribute] = direction, torch.stack([place[r].mean() for r in rows])
    return found
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.fit_directions(fit_directions)

# %% [markdown]
# ### Exercise 6 · Set an attribute
#
# *Easy, 5 minutes.* Move each code along the direction until it is at its goal.
#
# - `z`: codes, (b, d). The direction and the goal belong to *standardised* codes, so convert first:
#   `standardise(z - space.mean, space.std)` is the code in standard deviations.
# - `direction`: a unit vector, (d,)
# - `goal`: where each code shall be along the direction, (b,)
# - output: the moved codes, (b, d), in the units of `z`. Nothing changes orthogonal to the direction.
#
# <details><summary>Hint 1</summary>
#
# Where is a code along the direction now? The scalar product says it.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The length of the step is the goal minus the present place. Each code has its own length. A tensor of
# shape (b, 1) times a vector of shape (d,) has the shape (b, d).
#
# </details>
# <details><summary>Hint 3</summary>
#
# At the end, undo the standardisation: first the standard deviation, then the mean.
#
# </details>


# %% tags=["exercise"]
def set_attribute(space, z, direction, goal) -> torch.Tensor:
    """Return the codes, moved along the direction to their goals, (b, d)."""
    ### BEGIN SOLUTION
    u = standardise(z - space.mean, space.std)
    distance = goal - u @ direction
    moved = u + distance[:, None] * direction
    return space.mean + space.std * moved
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.set_attribute(set_attribute)

# %% [markdown]
# The next cell fits your edits on training figures. The class `MyEdits` calls your functions, and its
# method `edit` has the form that all edits have: codes, attribute, and the wanted value of each code.

# %%
project_out = cfx.course.piece("nb05.project_out", project_out)
fit_directions = cfx.course.piece("nb05.fit_directions", fit_directions)
set_attribute = cfx.course.piece("nb05.set_attribute", set_attribute)
train = cfx.data.sprites(
    "pairs", cfx.by_profile(profile, ci=600, cpu=2000, gpu=2000), split="train", seed=21
)
u = standardise(space.encode(train.images).z - space.mean, space.std)
normals = {}
for attribute, pair in contrasts.items():
    rows = train.factors[attribute].isin(pair).to_numpy()
    is_value = (train.factors[attribute] == pair[1])[rows]
    normal = LogisticRegression(max_iter=1000).fit(u.numpy()[rows], is_value).coef_[0]
    normals[attribute] = torch.tensor(normal).float()


class MyEdits:
    """Your linear edits, fitted on the training figures."""

    contrasts = contrasts
    found = fit_directions(u, normals, train.factors, contrasts)

    def edit(self, code: cfx.Code, attribute: str, wanted: list) -> cfx.Code:
        direction, goals = self.found[attribute]
        goal = goals[[self.contrasts[attribute].index(value) for value in wanted]]
        return code.with_z(set_attribute(space, code.z, direction, goal))


my_edits = MyEdits()

# %% [markdown]
# Do your edits agree with the library's? `cfx.fit_attribute_edits` fits linear edits if it gets no
# factor reader. We compare the codes after each edit, in standard deviations.

# %%
linear = cfx.fit_attribute_edits(space, train.images, train.factors, contrasts=contrasts)
code = space.encode(figures.images[:100])
apart = {}
for name, (_, value) in contrasts.items():
    pair = [e.edit(code, name, [value] * len(code)).z for e in (my_edits, linear)]
    apart[name] = float((standardise(pair[0] - pair[1], space.std)).norm(dim=1).max())
pd.Series(apart, name="largest distance (standard deviations)").map("{:.0e}".format).to_frame()

# %% [markdown]
# ## Piece 5: the twin of a figure
#
# Now the three steps. The library compares the edited image with the **reconstruction**, and not with
# the original. Both have passed through the generator, so they differ by the edit only.
#
# ### Exercise 7 · Abduction, action, prediction
#
# *Medium, 8 minutes.* Return each figure before and after the edit.
#
# - `edits.contrasts[attribute]` is the pair (baseline, value). `edits.edit(code, attribute, wanted)`
#   returns codes. `wanted` is a list with one value per code.
# - `images`: shape (b, 3, 56, 32); `has`: whether each figure has the value, bool (b,)
# - output: a pair of images like `images`, the reconstructions and their twins. In a twin, the
#   attribute has its *other* value.
#
# <details><summary>Hint 1</summary>
#
# `space.encode(images)` returns a code, and `space.decode(code)` returns images.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A figure with the value gets the baseline, and a figure with the baseline gets the value.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The reconstruction is the decoded code, before the edit. The networks need no gradients here, so
# `with torch.no_grad():` saves time.
#
# </details>


# %% tags=["exercise"]
def twin(space, edits, images, attribute, has) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the reconstructions, and the images in which the attribute has its other value."""
    ### BEGIN SOLUTION
    baseline, value = edits.contrasts[attribute]
    wanted = [baseline if h else value for h in has]
    with torch.no_grad():
        code = space.encode(images)
        edited = edits.edit(code, attribute, wanted)
        return space.decode(code), space.decode(edited)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.twin(twin)

# %% [markdown]
# The picture shows twins that your edits make, and twins of **learned** edits. There, a small network
# predicts the step of each code. It was trained through the generator until a factor reader found the
# attribute changed, and everything else as it was.

# %%
twin = cfx.course.piece("nb05.twin", twin)
some = figures.factors.query("hair == 'gray' and top == 'white'").index[:8]
baseline = np.zeros(len(some), dtype=bool)  # none of them has red hair or a metal top
shown, labels = [], []
for name in ("hair", "top"):
    for word, kind in (("your linear", my_edits), ("learned", edits)):
        before, after = twin(space, kind, figures.images[some], name, baseline)
        shown.append(after)
        labels.append(f"{name}: {contrasts[name][1]}\n{word} edit")

# %% jupyter={"source_hidden": true}
cfx.gallery(torch.cat([before, *shown]), n_columns=8, row_labels=["reconstruction", *labels])

# %% [markdown]
# The figures have gray hair and a white top. Below are their twins. Your edits of the hair work. Your
# edits of the top work for some figures only. For others, they draw another top, such as chain mail. The
# learned edits draw a metal top for all of them.
#
# ## Piece 6: which edits count
#
# A score is causal only if the edit did what it promised, and *nothing else*. A
# [judge](../docs/glossary.md#counterfactuals) checks this.
# It is a network that reads all factors of an image, and that no edit was trained with. An edit is
# **clean** if the judge reads the wanted option afterwards, read another one before, and reads all other
# factors as before.
#
# ### Exercise 8 · Clean edits
#
# *Medium, 6 minutes.* Say for each figure whether its edit was clean.
#
# - `before`, `after`: which option the judge reads for each factor, as indices, int (b, factors)
# - `own`: the column of the edited attribute, an int
# - `wanted`: the index of the wanted option of each figure, int (b,)
# - output: bool (b,)
#
# <details><summary>Hint 1</summary>
#
# `before != after` has one column per factor. It says which factors changed.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The edited attribute must change, and it must change to the wanted option.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `np.delete(table, own, axis=1)` leaves one column out. `.any(axis=1)` looks at each figure.
#
# </details>


# %% tags=["exercise"]
def is_clean(before, after, own: int, wanted) -> np.ndarray:
    """Return whether the edit changed its attribute as wanted, and no other factor, bool (b,)."""
    ### BEGIN SOLUTION
    changed = before != after
    took_effect = changed[:, own] & (after[:, own] == wanted)
    others = np.delete(changed, own, axis=1).any(axis=1)
    return took_effect & ~others
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.is_clean(is_clean)

# %% [markdown]
# ## Your contrastive scores
#
# You have all pieces. There are two more rules.
#
# - If the original and its reconstruction disagree about the outcome, the figure is left out. Then the
#   generator, and not the edit, changed the decision.
# - Which of the two values is called "value"? The one that favours the outcome: with it, the outcome is
#   at least as frequent as with the other one. If the baseline of the contrast favours the outcome, the
#   two change places. Every `has` turns around with them. `before` and `after` stay as they are.
#
# ### Exercise 9 · Assemble the scores
#
# *Hard, 25 minutes.* Use `twin`, `is_clean`, `count_units` and `wilson`.
#
# - `factors`: a table with one row per image. Skip figures with neither value of the contrast.
# - `cfx.predict_logits(classifier, images)` returns logits (b, k). The outcome is the class `outcome`.
# - `judge.indices(images)` returns the options that the judge reads, a tensor (b, factors).
#   `judge.options` is a dict from each factor, in the order of the columns, to the tuple of its options.
# - output: a DataFrame with one row per attribute, in the order of `edits.contrasts`. The columns are
#   `value` and `baseline`, and four for each score of `count_units`: for necessity they are
#   `necessity`, `necessity low`, `necessity high` and `necessity n`.
# - special case: a score with n = 0 is NaN
#
# The check runs your function on 50 figures, and compares it with `cfx.contrastive_scores`. All counts
# must be the same, and all scores within 0.001.
#
# <details><summary>Hint 1</summary>
#
# Write the loop over the attributes first, for one attribute at a time: select figures, make twins, ask
# the judge, ask the classifier. Define a small function inside that returns whether images have the
# outcome, as a numpy array.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The judge's options are indices. For a figure with the value, the wanted option is the index of the
# baseline. A figure counts if its edit is clean *and* its original agrees with its reconstruction.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Select the figures that count before you turn anything around. The potential outcomes are those of
# `count_units`. `pd.DataFrame.from_dict(rows, orient="index")` makes a table of a dict of rows.
#
# </details>


# %% tags=["exercise"]
def my_contrastive_scores(space, classifier, images, factors, edits, judge, outcome: int = 1):
    """Return necessity, sufficiency, pns and violations of each attribute, with intervals."""

    ### BEGIN SOLUTION
    def decide(images):
        return (cfx.predict_logits(classifier, images).argmax(1) == outcome).numpy()

    table = {}
    for attribute, (baseline, value) in edits.contrasts.items():
        rows = factors[attribute].isin([baseline, value]).to_numpy()
        has = (factors[attribute] == value).to_numpy()[rows]
        own = images[torch.tensor(rows)]
        pair = twin(space, edits, own, attribute, has)
        read = [judge.indices(part).numpy() for part in pair]
        options = judge.options[attribute]
        wanted = np.where(has, options.index(baseline), options.index(value))
        column = list(judge.options).index(attribute)
        before, after = (decide(part) for part in pair)
        used = is_clean(*read, column, wanted) & (decide(own) == before)
        has, before, after = has[used], before[used], after[used]
        with_value = np.where(has, before, after).sum()
        if np.where(has, after, before).sum() > with_value:
            has, value, baseline = ~has, baseline, value
        row = {"value": value, "baseline": baseline}
        for name, (k, n) in count_units(has, before, after).items():
            low, high = wilson(k, n)
            row[name] = k / n if n else math.nan
            row |= {f"{name} low": low, f"{name} high": high, f"{name} n": n}
        table[attribute] = row
    return pd.DataFrame.from_dict(table, orient="index")
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.my_contrastive_scores(my_contrastive_scores)

# %% [markdown]
# ## Your scores, the library's, and the truth
#
# Your function runs twice, with your linear edits and with the learned edits. The library does the same.
# The **truth** comes from another source. Our figures are drawn from layers, so each figure is drawn
# again with one layer exchanged. No generator takes part.

# %%
is_clean = cfx.course.piece("nb05.is_clean", is_clean)
my_contrastive_scores = cfx.course.piece("nb05.my_contrastive_scores", my_contrastive_scores)
f = planted["conjunction"]
asked = (space, f, figures.images, figures.factors)
mine = {
    "linear": my_contrastive_scores(*asked, my_edits, judge),
    "learned": my_contrastive_scores(*asked, edits, judge),
}
library = {
    name: cfx.contrastive_scores(*asked, 1, edits=kind, judge=judge)
    for name, kind in (("linear", linear), ("learned", edits))
}
truth = cfx.metrics.true_scores(figures, f, contrasts, 1)
columns = ["necessity", "sufficiency", "pns", "monotonicity_violation"]
both = {"your scores": mine["learned"][columns], "truth": truth.table[columns]}
pd.concat(both, axis=1).round(2)

# %% [markdown]
# The rows are attributes. On the left are your scores with the learned edits, and on the right the
# truth. Red hair and the metal top are necessary for every figure. Neither is always sufficient,
# because the other one may be missing. All other attributes are neither. The next cell states the
# agreement with the library, for both kinds of edits.

# %%
agreement = {}
for name, own in mine.items():
    other = library[name].table[own.columns]
    n = [column for column in own if column.endswith(" n")]
    exact = ["value", "baseline", *n]
    gap = own.drop(columns=exact).sub(other.drop(columns=exact)).abs()
    same = bool((own[exact] == other[exact]).all(axis=None))
    agreement[name] = {"same counts": same, "largest difference": float(gap.max(axis=None))}
pd.DataFrame.from_dict(agreement, orient="index")

# %% jupyter={"source_hidden": true}
# NBVAL_CHECK_OUTPUT
for name, row in agreement.items():
    close = row["largest difference"] < 0.001
    print(f"{name}: same counts {row['same counts']}, scores within 0.001 {close}")

# %% jupyter={"source_hidden": true}
cfx.score_bars(library["learned"], truth=truth, title="conjunction: learned edits")

# %% [markdown]
# The bars are the scores with their intervals, and the diamonds are the truth. Try single figures. What
# is necessary for one figure need not be necessary for another.

# %% jupyter={"source_hidden": true}
front = figures.factors.query("direction == 'front'").index[:20]


def draw_edit(classifier: str, figure: int, attribute: str) -> cfx.Picture:
    i = front[figure]
    baseline, value = contrasts[attribute]
    wanted = baseline if figures.factors[attribute].iloc[i] == value else value
    names = contrasts["hair"]
    image = figures.images[i : i + 1]
    return cfx.edit_picture(
        space, planted[classifier], edits, image, attribute, wanted, class_names=names
    )


attributes = ["hair", "top", "shoes", "body", "direction"]
cfx.explore(draw_edit, classifier=list(planted), figure=(0, len(front) - 1), attribute=attributes)

# %% [markdown]
# ## Who is left out?
#
# Look at the linear edits again. A figure counts only if its edit was clean. Many linear edits of the
# top are not, so these figures are missing in the score. Figures look to the front, to the left or to
# the right. Guess before you run the cell.

# %%
choices = ["about as often in all three views", "mostly from the front", "mostly in one side view"]
guess = cfx.predict_then_run("The linear edit from a white to a metal top is clean ...", choices)

# %%
clean = {}
for name, scores in library.items():
    tops = scores.units.query("factor == 'top' and value == 'white'")
    view = figures.factors["direction"].to_numpy()[tops["row"]]
    clean[f"clean, {name} edits"] = tops["clean"].groupby(view).mean()
clean = pd.DataFrame(clean)
clean.round(2)

# %%
rates = clean["clean, linear edits"]
even = rates.max() - rates.min() < 0.2
guess(
    choices[0 if even else 1 if rates.idxmax() == "front" else 2],
    why="A linear edit moves all codes in one direction, to one goal. A metal top has other pixels in "
    "each view. The step that draws it in one side view draws another top in the other views. The "
    "learned edits predict a step for each code, so they work in all views.",
)

# %% [markdown]
# So the linear score of the top is about figures in one view only. Here it hardly matters, because
# `conjunction` does not use the view. For a classifier that does, the score could be wrong. The interval
# would not show it, because an interval covers chance, and not selection.
#
# Report how many figures were left out, and compare with `edit_filter="all"`. The library's table
# has the columns `took effect` and `clean` for this.
#
# ## A baseline: correlation
#
# A simpler explanation needs no generator. Which attribute is *correlated* with the decision?
#
# ### Exercise 10 · The correlation baseline
#
# *Easy, 5 minutes.* Return the correlation of each attribute with the outcome.
#
# - `factors`: a table with one row per figure; `has_outcome`: bool (n,)
# - `contrasts`: a dict from each attribute to its pair (baseline, value)
# - output: a Series with one number in $[-1, 1]$ per attribute. Use only figures with one of the two
#   values. Positive means that the value goes together with the outcome.
#
# <details><summary>Hint 1</summary>
#
# A bool array counts as zeros and ones.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `np.corrcoef(a, b)` returns a matrix of shape (2, 2). The correlation is not on its diagonal.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Select the same rows of the attribute and of the outcome.
#
# </details>


# %% tags=["exercise"]
def correlations(factors, has_outcome, contrasts) -> pd.Series:
    """Return the correlation of each attribute's value with the outcome."""
    ### BEGIN SOLUTION
    found = {}
    for attribute, pair in contrasts.items():
        rows = factors[attribute].isin(pair).to_numpy()
        value = (factors[attribute] == pair[1]).to_numpy()
        found[attribute] = np.corrcoef(value[rows], has_outcome[rows])[0, 1]
    return pd.Series(found)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.correlations(correlations)

# %% [markdown]
# We ask the **honest** classifier, which uses the hair and nothing else. The figures come from another
# world. In `confounded`, a hidden trade causes both the hair and the top: knights often have red hair,
# and they wear metal. So hair and top go together, and neither causes the other.

# %%
correlations = cfx.course.piece("nb05.correlations", correlations)
honest = planted["honest"]
confounded = cfx.data.sprites("confounded", 2 * count, split="test", seed=seed + 3)
is_red = cfx.predict_logits(honest, confounded.images).argmax(1).numpy() == 1
edited = my_contrastive_scores(space, honest, confounded.images, confounded.factors, edits, judge)
exact = cfx.metrics.true_scores(confounded, honest, contrasts, 1)
columns = {
    "correlation": correlations(confounded.factors, is_red, contrasts),
    "PNS, your edits": edited["pns"],
    "PNS, truth": exact.pns,
}
baseline = pd.DataFrame(columns).astype(float)
baseline.round(2)

# %% jupyter={"source_hidden": true}
# NBVAL_CHECK_OUTPUT
print("the top is correlated:", bool(baseline.loc["top", "correlation"] > 0.3))
print("by edits, the top does nothing:", bool(baseline.loc["top", "PNS, your edits"] < 0.05))

# %% [markdown]
# The correlation names the top as the second cause. It is none. The edits say so, because they change
# the top of a figure and keep its hair.
#
# ## What a table can tell after all
#
# A table of factors and decisions can also be *adjusted*. If we know the common cause $c$, we compare
# figures with the same $c$. Then we average over $c$:
#
# $$P(Y = 1 \mid do(x)) = \sum_c P(Y = 1 \mid x, c)\, P(c).$$
#
# This is the **back-door formula**. The observed probability is
# $P(Y = 1 \mid x) = \sum_c P(Y = 1 \mid x, c)\, P(c \mid x)$. The two differ in one place only: the
# weights. Setting the attribute does not change $c$, so the weights are $P(c)$ of *all* figures.
#
# ### Exercise 11 · Adjust for a confounder
#
# *Medium, 7 minutes.* Return $P(Y = 1 \mid do(x))$.
#
# - `table`: a DataFrame with the columns `x`, `c` and `o` (bool). Every stratum $c$ has rows with `x`.
#   Do not change it.
# - `x`: the value that is set
# - output: a float
#
# <details><summary>Hint 1</summary>
#
# Which rows give the weights: those with `x`, or all of them?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `Series.value_counts(normalize=True)` returns the fraction of each value.
#
# </details>
# <details><summary>Hint 3</summary>
#
# For each stratum, the mean of `o` over the rows with this `x` and this `c` is $P(Y = 1 \mid x, c)$.
#
# </details>


# %% tags=["exercise"]
def adjusted(table: pd.DataFrame, x: str) -> float:
    """Return P(o | do x), adjusted for c."""
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
# Even $P(Y = 1 \mid do(x'))$ does not fix the necessity, because nobody sees both potential outcomes of
# one figure. But it gives a **bound**. We split the figures with the outcome by their other potential
# outcome:
#
# $$P(Y = 1) = P(Y = 1,\, Y_{x'} = 1) + P(Y = 1,\, Y_{x'} = 0).$$
#
# - The first term is at most $P(Y_{x'} = 1) = P(Y = 1 \mid do(x'))$.
# - In the second term $Y \ne Y_{x'}$. By consistency, this is possible only if $X = x$. So the second
#   term is $P(Y_{x'} = 0,\, X = x,\, Y = 1) = \mathrm{PN} \cdot P(X = x,\, Y = 1)$.
#
# Together, $P(Y = 1) \le P(Y = 1 \mid do(x')) + \mathrm{PN} \cdot P(X = x,\, Y = 1)$. Solve this for PN.
#
# ### Exercise 12 · The lower bound of necessity
#
# *Easy, 5 minutes.* Return the smallest PN that the inequality allows.
#
# - `p_outcome`: $P(Y = 1)$; `p_outcome_do_other`: $P(Y = 1 \mid do(x'))$; `p_both`:
#   $P(X = x,\, Y = 1)$
# - output: a float. A probability is never negative.
# - special case: NaN if no figure has both the value and the outcome
#
# <details><summary>Hint 1</summary>
#
# Bring PN to one side of the inequality.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The bound can be negative. What is the smallest value of a probability?
#
# </details>
# <details><summary>Hint 3</summary>
#
# Treat the special case before you divide.
#
# </details>


# %% tags=["exercise"]
def lower_bound(p_outcome: float, p_outcome_do_other: float, p_both: float) -> float:
    """Return the least possible necessity, from P(o), P(o | do x') and P(o, x)."""
    ### BEGIN SOLUTION
    if p_both == 0:
        return math.nan
    return max(0.0, (p_outcome - p_outcome_do_other) / p_both)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.lower_bound(lower_bound)

# %% [markdown]
# Both functions are used on the confounded figures. For the top, the hair is a sufficient adjustment:
# it blocks the path through the trade. `cfx.score_bounds` is the library's function for bounds. It also
# returns an upper bound.

# %%
adjusted = cfx.course.piece("nb05.adjusted", adjusted)
lower_bound = cfx.course.piece("nb05.lower_bound", lower_bound)
rows = {}
for name, stratum in (("hair", "top"), ("top", "hair")):
    seen = confounded.factors.rename(columns={name: "x", stratum: "c"}).assign(o=is_red)
    rate, do = seen.groupby("x")["o"].mean(), {v: adjusted(seen, v) for v in contrasts[name]}
    (x0, do0), (x1, do1) = do.items()
    known = cfx.score_bounds(seen, "x", "o", do_value=do1, do_baseline=do0, value=x1, baseline=x0)
    rows[name] = {
        "observed effect": rate[x1] - rate[x0],
        "adjusted effect": do1 - do0,
        "PN at least": lower_bound(is_red.mean(), do0, (is_red & (seen["x"] == x1)).mean()),
        "PN at least (library)": known.necessity[0],
        "PN at most (library)": known.necessity[1],
        "PN, your edits": edited.loc[name, "necessity"],
    }
bounds = pd.DataFrame(rows).T
bounds.round(2)

# %% jupyter={"source_hidden": true}
# NBVAL_CHECK_OUTPUT
print("the observed effect of the top is large:", bool(bounds.loc["top", "observed effect"] > 0.3))
print("adjusted, it is gone:", bool(abs(bounds.loc["top", "adjusted effect"]) < 0.05))
same = np.allclose(bounds["PN at least"], bounds["PN at least (library)"].clip(lower=0))
print("same bounds as the library:", same)

# %% [markdown]
# The effect is $P(Y = 1 \mid do(x)) - P(Y = 1 \mid do(x'))$. Adjusted for the hair, the effect of the
# top is gone. For the hair, the table settles the necessity. For the top it does not: everything between
# the two bounds is possible, unless we *assume* that the effect is monotone. The edits need neither this
# assumption nor the right column in the table. They need a good generator, and a judge.
#
# ## Leakage
#
# A score is causal only as far as the edit changed nothing else. [Leakage](../docs/glossary.md#necessity-and-sufficiency) is the fraction of edits of
# one attribute after which the judge reads another factor differently. We compare four kinds of edits:
# linear or learned, and with the other attributes held or ignored (as published).

# %%
choices = ["linear, others held", "linear, others ignored", "learned, others held"]
choices += ["learned, others ignored"]
guess = cfx.predict_then_run("Which kind of edit leaks most, on average?", choices)

# %%
loose = cfx.fit_attribute_edits(
    space, train.images, train.factors, contrasts=contrasts, preserve_others=False
)
kinds = dict(
    zip(choices, [linear, loose, edits, cfx.load("sprites/edits_free", "cpu")], strict=True)
)
asked = (space, honest, figures.images, figures.factors)
by_kind = {
    name: cfx.contrastive_scores(*asked, 1, edits=kind, judge=judge) for name, kind in kinds.items()
}
leaks = pd.DataFrame({name: scores.leakage.stack() for name, scores in by_kind.items()}).T
leaks = pd.DataFrame({"leakage, mean": leaks.mean(axis=1), "leakage, worst": leaks.max(axis=1)})
leaks["took effect, worst"] = [s.table["took effect"].min() for s in by_kind.values()]
leaks.round(3)

# %%
guess(
    leaks["leakage, mean"].idxmax(),
    why="These edits were rewarded for one attribute only, so the network took any step that the "
    "reader accepts. Such a step may exchange other parts of the figure as well. Linear edits "
    "often do not even change their own attribute, as the last column shows.",
)

# %% jupyter={"source_hidden": true}
cfx.leakage_map({n: by_kind[n] for n in ("learned, others held", "learned, others ignored")})

# %% [markdown]
# Each row is an edited factor, and each column a factor that changed with it, in percent of the edits.
#
# What does leakage do to a *score*? It depends on whether a cause is hit. We take a classifier that
# looks at the trousers only, and says whether they are bright. Was the *direction* of the figure
# necessary? The truth is 0. We count once all edits, and once only the clean ones.

# %%
reader = cfx.load("sprites/reader", device="cpu")
bright = torch.tensor([o in ("white", "golden", "red") for o in reader.options["bottom"]])


def trousers(images: torch.Tensor) -> torch.Tensor:
    """Return logits (b, 2): dark or bright trousers."""
    logits = reader(images)["bottom"]
    return torch.stack([logits[:, ~bright].logsumexp(1), logits[:, bright].logsumexp(1)], 1)


few = figures[: cfx.by_profile(profile, ci=100, cpu=200, gpu=2000)]
invented = {}
asked = (space, trousers, few.images, few.factors)
for name, kind in kinds.items():
    for which in ("all", "clean"):
        s = cfx.contrastive_scores(*asked, 1, edits=kind, judge=judge, edit_filter=which)
        invented[name, which] = s.table.loc["direction", ["necessity", "necessity n"]]
invented = pd.DataFrame(invented).T.unstack()
invented.round(2)

# %% jupyter={"source_hidden": true}
# NBVAL_CHECK_OUTPUT
unfiltered = invented["necessity", "all"]
print("edits that ignore the others invent a cause:", unfiltered["learned, others ignored"] > 0.05)
print("edits that hold the others do not:", unfiltered["learned, others held"] < 0.05)

# %% [markdown]
# Edits that ignore the other attributes invent a cause. Counting clean edits only repairs most of it, at
# a price: look how few figures are left.
#
# ## A classifier that nobody names
#
# `sprites/unknown` says "gray" or "red" too, and something else decides. First a guess, then the
# correlations, then your scores.

# %%
choices = ["correlations and scores", "only the correlations", "only the scores"]
guess = cfx.predict_then_run("What finds the factors that decide here?", choices)

# %%
planted["unknown"] = cfx.load("sprites/unknown", device="cpu")
tables = {
    name: my_contrastive_scores(space, g, figures.images, figures.factors, edits, judge)
    for name, g in planted.items()
}
is_red = cfx.predict_logits(planted["unknown"], figures.images).argmax(1).numpy() == 1
puzzle = tables["unknown"][["pns", "monotonicity_violation"]].copy()
puzzle.insert(0, "correlation", correlations(figures.factors, is_red, contrasts))
puzzle.astype(float).round(2)

# %% [markdown]
# ### Exercise 13 · Find the decisive factors
#
# *Medium, 6 minutes.* Read the factors that decide from *any* table of scores.
#
# - `table`: as returned by `my_contrastive_scores`
# - output: a pair, the set of the decisive factors, and a bool
# - A factor is decisive if it decides for more than 5 % of all figures, in the expected direction. Take
#   the lower end of the interval as this fraction, so that chance does not name a factor.
# - The bool says whether the effects of *all* decisive factors are monotone. An effect is not monotone if
#   more than 5 % of all figures react the wrong way round, again at the lower end.
#
# <details><summary>Hint 1</summary>
#
# Which of the four scores is about *all* figures, and in the expected direction?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `table.index[mask]` gives the names of the rows for which the mask is true.
#
# </details>
# <details><summary>Hint 3</summary>
#
# For the second part, look at the violations of the decisive factors only. `.any()` and `.all()` make one
# bool of many, and `bool(...)` makes it a bool of Python.
#
# </details>


# %% tags=["exercise"]
def decisive_factors(table: pd.DataFrame) -> tuple[set[str], bool]:
    """Return the factors that decide, and whether the effect of all of them is monotone."""
    ### BEGIN SOLUTION
    deciding = set(table.index[table["pns low"] > 0.05])
    violations = table.loc[list(deciding), "monotonicity_violation low"]
    return deciding, bool((violations <= 0.05).all())
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb05.decisive_factors(decisive_factors)

# %% [markdown]
# The next cell applies your rule to all five classifiers. The last column is the rule by which the
# training labels were made.

# %%
decisive_factors = cfx.course.piece("nb05.decisive_factors", decisive_factors)
rules = cfx.data.SPRITE_CLASSIFIERS
found = {name: decisive_factors(table) for name, table in tables.items()}
answers = pd.DataFrame(found, index=["found", "monotone"]).T
answers["planted"] = [set(rules[name].causes) for name in answers.index]
answers["rule"] = [rules[name].description for name in answers.index]
answers

# %%
by_scores = answers["found"]["unknown"] == answers["planted"]["unknown"]
by_correlation = puzzle["correlation"].abs()[list(rules["unknown"].causes)].min() > 0.2
guess(
    choices[0 if by_scores and by_correlation else 1 if by_correlation else 2],
    why="The label is red if exactly one of top and shoes is metal. Metal shoes turn the decision to "
    "red for one half of the figures, and to gray for the other half. In the correlation the two "
    "halves cancel. The scores ask each figure, so they see both.",
)

# %% jupyter={"source_hidden": true}
# NBVAL_CHECK_OUTPUT
print("planted causes found:", (answers["found"] == answers["planted"]).sum(), "of", len(answers))
print("not monotone:", list(answers.index[answers["monotone"] == False]))  # noqa: E712

# %% [markdown]
# ## Real generators
#
# The same calls run in the space of a StyleGAN2, which is the setting of the paper. You need its weights
# and a GPU. The file is read without executing anything that is in it.
#
# ```python
# space = cfx.spaces.load_stylegan2("ffhq.pkl", latent="w")
# with torch.no_grad():  # a few at a time: large images fill a memory quickly
#     faces = torch.cat([space.decode(space.sample(8, seed=s)) for s in range(25)])
# reader = cfx.FactorReader(my_attribute_net, {"smiling": (False, True), ...})
# table = reader.read(faces, batch_size=8)
# edits = cfx.fit_attribute_edits(space, faces, table, reader=reader)
# cfx.contrastive_scores(space, my_classifier, faces, table, 1, edits=edits, batch_size=8)
# ```
#
# Here the reader stands in for the true factors, so another network should be the judge. The last two
# calls find the code of each image by 300 steps of optimisation.
#
# ## Limits
#
# - The scores hold for the figures asked, and within the generator. A factor that the space cannot draw
#   cannot be edited.
# - The interval covers the random choice of the figures. It covers neither the selection of clean edits
#   nor a change that the judge does not see.
# - A score is an average. `context=(figures.factors["top"] == "metal")` asks some of the figures only,
#   and the score may be another one.
# - An edit holds the other factors fixed, also those that the attribute would cause in the world. So the
#   scores are about the classifier, and not about the world.

# %% [markdown] tags=["open-task"]
# ## Open task · A cause of your own
#
# *About 30 minutes.* Plant a cause. Write a classifier that uses the options of the reader, like
# `trousers` above, with a rule of your own. Predict necessity and sufficiency of each attribute by
# thinking, then measure them with `my_contrastive_scores`. Find one score that differs from your
# prediction or from the truth, and explain why.
#
# **Rubric**
#
# | points | what |
# |---|---|
# | 1 | The rule is stated, with predicted scores and a reason, written down before the first run. |
# | 2 | A table with scores, intervals and the truth (`cfx.metrics.true_scores`), and the correlations. |
# | 2 | One difference is explained by the rule, by the edits, by the selection, or by chance. |
# | 2 | One piece is changed (edits, filter, context), with the numbers before and after. |
# | 1 | A sentence that says what your numbers do *not* show. |

# %% [markdown] tags=["answer"]
# *Your text: the rule, the predictions, the difference and its cause.*

# %% tags=["answer"]
# Your code. For example: a figure is read as red if its shoes are metal or its hair is red.

# %% [markdown] tags=["solution-only"]
# *An example.* The rule is an *or*: red hair or metal shoes. Half of the figures have red hair, and half
# have metal shoes. A figure with red hair loses the outcome only if its shoes are brown, so we predict
# a necessity of 0.5 for both. A figure without the outcome has neither, so each attribute alone brings
# it about: we predict a sufficiency of 1. The measured scores agree within their intervals.


# %% tags=["solution-only"]
def either(images: torch.Tensor) -> torch.Tensor:
    """Return logits (b, 2) of the rule: red hair or metal shoes."""
    read = reader(images)
    options = {"hair": "red", "shoes": "metal"}
    p = [read[n].softmax(1)[:, reader.options[n].index(v)] for n, v in options.items()]
    return torch.stack([torch.full_like(p[0], 0.5), torch.maximum(*p)], 1).log()


own = my_contrastive_scores(space, either, few.images, few.factors, edits, judge)
exact = cfx.metrics.true_scores(few, either, contrasts, 1).table
pair = {"measured": own, "truth": exact}
columns = ["necessity", "sufficiency"]
pd.concat({name: t.loc[["hair", "shoes"], columns] for name, t in pair.items()}, axis=1).round(2)

# %% [markdown]
# ## Summary
#
# You have written contrastive explanations: counts of potential outcomes, Wilson intervals, edits along
# a direction that is orthogonal to the other attributes, twins of figures, and a filter of clean edits.
# Your scores are those of the library, and with good edits they are close to the truth. Correlations
# named a factor that does nothing, and missed two factors that decide. A table answers causal questions
# only with the right adjustment, and then often only within bounds.
#
# **Questions to think about.** Why may a factor be necessary and never sufficient? When would you trust
# the table more than the edits? What would the *judge* of a face classifier have to be?
#
# **Next:** [06 Diffusion autoencoders](06_diffusion_autoencoders.ipynb) brings a space with better
# images.
#
# **References.** K. Alipour et al., [Explaining image classifiers using contrastive counterfactuals in
# generative latent spaces](https://arxiv.org/abs/2206.05257), 2022 · S. Galhotra, R. Pradhan, B. Salimi,
# [Explaining black-box algorithms using probabilistic contrastive counterfactuals
# (LEWIS)](https://arxiv.org/abs/2103.11972), 2021 · J. Tian, J. Pearl, [Probabilities of causation:
# bounds and identification](https://arxiv.org/abs/1301.3898), 2000 · Y. Shen et al., [Interpreting the
# latent space of GANs for semantic face editing](https://arxiv.org/abs/1907.10786), 2020 · E. B. Wilson,
# [Probable inference, the law of succession, and statistical
# inference](https://doi.org/10.1080/01621459.1927.10502953), 1927. Figures: sprites of the Liberated
# Pixel Cup, CC BY-SA 3.0 / GPL 3.0; artists in `data/sprites/LPC-AUTHORS.txt` and `ATTRIBUTION.md`.
