# %% [markdown]
# # 03 · What changed? Names for a difference, and how they can lie
#
# **About 50 minutes · two CPU cores are enough · nothing is downloaded · [glossary](../docs/glossary.md)**
#
# A counterfactual shows *that* something changed. People ask *what*: did the loop close, did the
# stroke get thicker, did it lean over? This notebook attaches names to the change, adds them up
# over many images, and then does what is usually left out: it tries to prove the result wrong.
#
# ## What you will be able to do
#
# - **read** measurable properties off codes, and say which can't be read
# - **attribute** a counterfactual's change to them, additively
# - **test** an attribution by ablation: does the classifier care?
# - **aggregate** over images with intervals, and **defend** the result against a permutation null
# - **recognise** a plausible bar chart that is wrong
#
# Needed before: `02_counterfactual_attacks`.

# %%
import numpy as np
import pandas as pd
import torch
from IPython.display import display

import cfxnb as cfx
from cfxnb.core.tensors import active_dims

cfx.doctor()

# %% tags=["parameters"]
profile: str = "cpu"  # ci, cpu or gpu: how much is computed
one: int = 4  # the two digits that are changed into each other
two: int = 9

# %%
count = cfx.by_profile(profile, ci=25, cpu=60, gpu=500)
space = cfx.load("digits/vae", device="cpu")
classifier = cfx.load("digits/classifier", device="cpu")
train = cfx.data.digits("train")[: cfx.by_profile(profile, ci=4000, cpu=10000, gpu=60000)]
test = cfx.data.digits("test")
forth = cfx.latent_attack(space, classifier, test.select(one)[:count].images, two)
back = cfx.latent_attack(space, classifier, test.select(two)[:count].images, one)
both = forth + back
both

# %% [markdown]
# ## The bar chart
#
# First the result, of the kind that papers print: what changes, on average, when a 4 becomes a 9?
# Each bar is the mean change of the log odds of a property (for slant: of leaning to the right).

# %%
descriptors = cfx.fit_descriptors(space, train.images, train.factors)
attribution = cfx.describe_change(both, descriptors)
flip = f"{one} to {two}"
chart = attribution.global_.loc[flip]
cfx.bars(
    chart,
    alt=f"Mean change of the log odds of seven properties for {flip}, with intervals: "
    + ", ".join(f"{k} {v:+.1f}" for k, v in chart["mean"].items()),
)

# %% [markdown]
# It looks convincing. Is it true? A bar chart can be wrong in at least four ways: the property
# can't be read from the code; two properties share one bar's worth of credit; the classifier
# doesn't care; or the numbers measure something other than a change. We take them in turn.
#
# ## Properties that can be measured
#
# These digits have known properties: `cfx.data.measure` measures every image (after Morpho-MNIST).
# The smallest and the largest of each:

# %%
strips = []
for name in test.factors.columns:
    order = test.factors[name].to_numpy().argsort()
    strips += [test.images[order[:5].tolist()], test.images[order[-5:].tolist()]]
cfx.gallery(
    torch.cat(strips),
    n_columns=10,
    alt="One row a property: " + ", ".join(test.factors.columns) + ". On the left the five test "
    "digits with the smallest value, on the right the five with the largest.",
)

# %%
test.factors.groupby(test.labels.numpy()).mean().round(1)

# %% [markdown]
# ## Can it be read from the code?
#
# For each property one regularised logistic regression on codes learns to tell "above the median"
# from "below". Its quality on images it has *not* seen decides whether we may use it. A control
# belongs to that: a coin that was tossed for every image.

# %%
with_coin = train.factors.assign(coin=np.random.default_rng(0).random(len(train)))
controlled = cfx.fit_descriptors(space, train.images, with_coin)
controlled.quality.round(3)

# %%
# NBVAL_CHECK_OUTPUT
print("readable:", ", ".join(sorted(controlled.readable)))
print("the coin can be read:", "coin" in controlled.readable)

# %% [markdown]
# The AUC is the probability that a reader ranks an image above the median higher than one below it;
# 0.5 is chance, `low` the lower end of its interval. `cut` is the median, and the calibration error
# tells how far stated probabilities are from observed frequencies. An unreadable property gets **no
# score** at all: a score of zero would be read as "it didn't change".
#
# ### Exercise 1 · The contribution of a descriptor
#
# *Easy, 4 minutes.* A linear reader gives log odds `weights @ (z / std) + bias`. By how much do
# they change from `start` to `end`? Codes (n, dims), result (n,).
#
# <details><summary>Hint 1</summary>
#
# The bias drops out of a difference.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The weights belong to codes divided by the spread.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `((end - start) / std) @ weights`, no sigmoid.
#
# </details>


# %% tags=["exercise"]
def contribution(
    weights: torch.Tensor, start: torch.Tensor, end: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """Change of the log odds of one property, (n,)."""
    ### BEGIN SOLUTION
    return ((end - start) / std) @ weights
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb03.contribution(contribution)

# %% [markdown]
# The paper subtracts *probabilities*. Those saturate: from 0.99 to 0.999 is a change of 0.009, as
# large a step in log odds as from 0.5 to 0.91. And they don't add up along a path. Log odds do.
#
# ## One image at a time
#
# Choose an image and see what the readers say has changed. (Positive: more area, a longer or thicker
# stroke, a lean to the right, a wider or higher digit, more loops.)


# %%
def draw_local(image: int) -> cfx.Picture:
    row = attribution.local.index[image]
    local = attribution.local.loc[row]
    return cfx.bars(
        local,
        xlabel=f"change of the log odds ({attribution.transition[row]}, "
        f"{attribution.unexplained[row]:.0%} unexplained)",
        alt=f"Image {row}, {attribution.transition[row]}: "
        + ", ".join(f"{k} {v:+.1f}" for k, v in local.items()),
    )


cfx.explore(draw_local, image=(0, len(attribution.local) - 1))

# %% [markdown]
# ## Do the readers tell the truth?
#
# Here, unlike on faces, we can simply *measure* the counterfactual and compare. The rank
# correlation between the reader's change and the measured change:

# %%
wins = both[both.flipped]
measured = cfx.data.measure_digits(wins.image) - cfx.data.measure_digits(wins.reconstruction)
read = attribution.local.reset_index(drop=True)
truth = pd.DataFrame(
    {
        "rank correlation": read.corrwith(measured, method="spearman"),
        "same sign": (np.sign(read) == np.sign(measured)).where(measured != 0).mean(),
    }
)
shuffled = measured.sample(frac=1, random_state=0).reset_index(drop=True)
chance = read.corrwith(shuffled, method="spearman").abs().mean()
print(f"mean rank correlation with somebody else's measurement (chance level): {chance:.2f}")
truth.astype(float).round(2)

# %% [markdown]
# ## What nobody described
#
# Seven names span at most seven directions of twenty. The rest of the change has no name, and an
# honest report says how much that is.
#
# ### Exercise 2 · The unexplained share
#
# *Hard, 8 minutes.* `change` is (n, dims), `weights` (d, dims). Which share of the squared length
# of the change lies **outside** the span of the weights? The weights are not orthogonal.
#
# <details><summary>Hint 1</summary>
#
# Make an orthonormal basis of the span first.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `basis, _ = torch.linalg.qr(weights.T)`: its columns are orthonormal.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `1 - (change @ basis).square().sum(1) / change.square().sum(1)`
#
# </details>


# %% tags=["exercise"]
def unexplained_fraction(change: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Share of the squared change outside the span of the weights, (n,)."""
    ### BEGIN SOLUTION
    basis, _ = torch.linalg.qr(weights.T)
    return 1 - (change @ basis).square().sum(1) / change.square().sum(1)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb03.unexplained_fraction(unexplained_fraction)

# %%
dims, named = int(active_dims(space.std).sum()), len(descriptors.readable)
print(f"unexplained here: {attribution.unexplained.mean():.0%}")
print(f"for a change in a random direction one expects {1 - named / dims:.0%}")

# %% [markdown]
# ## Who shares the credit?
#
# Compare the two numbers: names that hit the point would leave less unexplained than chance does.
#
# A long stroke has a large area. Two readers that answer to the same thing share the credit
# arbitrarily; readers that correlate with 0.7 or more, directly or through a third, are therefore
# read **jointly**:

# %%
print("groups:", attribution.groups)
descriptors.correlation.round(2)

# %% [markdown]
# ## Does the classifier care?
#
# So far the classifier had no say in the attribution at all! An **ablation** asks it: take a
# component out of the change, does the decision flip back? Apply the component alone, does it
# flip?
#
# ### Exercise 3 · Remove a component
#
# *Medium, 6 minutes.* Remove from each change (n, dims) its component along `direction` (dims,).
#
# <details><summary>Hint 1</summary>
#
# The direction need not have length 1: divide.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `change @ d` is how far each change goes along d.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `change - (change @ d)[:, None] * d`
#
# </details>


# %% tags=["exercise"]
def remove_component(change: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """The changes without their component along the direction, (n, dims)."""
    ### BEGIN SOLUTION
    d = direction / direction.norm()
    return change - (change @ d)[:, None] * d
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb03.remove_component(remove_component)

# %% [markdown]
# Predict before you look: the named properties together, or the nameless rest: which of them
# flips more decisions when it is applied alone?

# %%
compare = cfx.predict_then_run(
    "Applied alone, more decisions are flipped by ...", ["what has a name", "not described"]
)

# %%
# Only the flips in one direction, so that "the target" means one class.
tested = cfx.describe_change(forth, descriptors, space=space, classifier=classifier)
alone = tested.ablation["flips alone"]
print(
    compare(
        "what has a name" if alone["all descriptors"] > alone["not described"] else "not described"
    )
)
tested.ablation.round(2)

# %% [markdown]
# Now the chance levels. Compare *all descriptors* with *random subspace of equal size*: if the named
# properties were what this classifier looks at, removing them should undo clearly more flips than
# removing as many random directions does. It doesn't. The names describe *something* of the change,
# but what the classifier needs in order to see a 9 is mostly in what has no name yet.
# The bar chart above gave no hint of that.
#
# ## From many to one: global scores
#
# ### Exercise 4 · A global score that looks at each original
#
# *Easy, 4 minutes.* Readings before and after, arrays (n, d): the mean change of each property.
# It is one line; the point is which line. (The mean alone could not tell whose original is whose;
# the sections after this one can.)
#
# <details><summary>Hint 1</summary>
#
# Each counterfactual has its own original.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Subtract row by row, then average over rows.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `(after - before).mean(0)`
#
# </details>


# %% tags=["exercise"]
def global_score(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mean change of each property, (n, d), (n, d) -> (d,)."""
    ### BEGIN SOLUTION
    return (after - before).mean(0)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb03.global_score(global_score)

# %% [markdown]
# ## A chart that was wrong
#
# The figures released with the paper contain a slip: the loop over images reads each file's name,
# but indexes with a variable left over from an earlier cell. Every counterfactual is compared with
# **one and the same original**. Let us do that too, as the paper does: differences of
# probabilities, with the sign turned for the flips that go the other way.

# %%
names = list(descriptors.readable)
columns = [descriptors.names.index(n) for n in names]
before = torch.sigmoid(descriptors.log_odds(wins.code_before.z)[:, columns]).numpy()
after = torch.sigmoid(descriptors.log_odds(wins.code_after.z)[:, columns]).numpy()
sign = np.where(wins.target.numpy() == two, 1.0, -1.0)[:, None]
raised = slice(0, int((sign > 0).sum() + (sign < 0).sum() // 4))  # not balanced, as in the paper


def correct(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (sign[raised] * (after - before)).mean(0)


def slipped(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (sign[raised] * (after - before[3])).mean(0)  # index 3: left over from somewhere


right = correct(before[raised], after[raised])
wrong = slipped(before[raised], after[raised])
two_charts = pd.DataFrame({"own originals": right, "one fixed original": wrong}, index=names)
display(two_charts.round(2))
cfx.bars(
    pd.Series(wrong, index=names),
    xlabel="mean change of the probability (with the slip)",
    alt="A bar chart that looks as plausible as the first one: "
    + ", ".join(f"{k} {v:+.2f}" for k, v in zip(names, wrong, strict=True)),
)

# %% [markdown]
# Nothing in that picture says that it is wrong. Names and sizes look reasonable, and some signs agree
# with the correct ones. What would have caught it?
#
# ## The permutation null
#
# If a score measures *changes*, it must come out differently when every counterfactual is given
# **somebody else's original**. So shuffle the originals, many times, and look where the score lies
# among the shuffled ones.
#
# ### Exercise 5 · Shuffled scores
#
# *Medium, 6 minutes.* Return the score of `n_resamples` shufflings, (n_resamples, d). Whole originals
# move; nothing that was handed in may be changed.
#
# <details><summary>Hint 1</summary>
#
# `rng = np.random.default_rng(seed)`
#
# </details>
# <details><summary>Hint 2</summary>
#
# `rng.permutation(before)` returns a shuffled copy of the rows; `rng.shuffle` would work in
# place.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `np.stack([score(rng.permutation(before), after) for _ in range(n_resamples)])`
#
# </details>


# %% tags=["exercise"]
def shuffled_scores(score, before, after, n_resamples: int, seed: int) -> np.ndarray:
    """score(before, after) -> (d,), with the rows of before shuffled: (n_resamples, d)."""
    ### BEGIN SOLUTION
    rng = np.random.default_rng(seed)
    return np.stack([score(rng.permutation(before), after) for _ in range(n_resamples)])
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb03.shuffled_scores(shuffled_scores)

# %%
null_right = cfx.permutation_null(correct, before[raised], after[raised], names=tuple(names))
null_wrong = cfx.permutation_null(slipped, before[raised], after[raised], names=tuple(names))
both_p = pd.DataFrame({"p, own originals": null_right["p"], "p, with the slip": null_wrong["p"]})
display(both_p.round(3))
cfx.bars(
    pd.Series(wrong, index=names),
    null=null_wrong,
    xlabel="with the slip; gray: shuffled originals",
    alt="The wrong chart with a gray band for shuffled originals: "
    f"{int((null_wrong['p'] > 0.05).sum())} of {len(names)} bars lie inside their band.",
)

# %%
cfx.bars(
    pd.Series(right, index=names),
    null=null_right,
    xlabel="own originals; gray: shuffled originals",
    alt="The correct chart with the same kind of band: "
    f"{int((null_right['p'] <= 0.05).sum())} of {len(names)} bars lie outside their band.",
)

# %% [markdown]
# With the slip, the bars are what *any* original would have given: they lie inside their bands. Of
# the correct bars at least one leaves its band; only those may be called a difference between
# the two digits. The others changed in *both* directions of flip, or not at all: a sign-folded
# mean over both directions can't tell. So look at one direction at a time.
#
# Within a single direction the mean doesn't depend on the order of the originals at all; there
# `describe_change` shuffles a statistic that does (the mean over its standard error). In its table,
# `p (pairing)` says only that each reading belongs to its own original; whether a bar differs from
# 0 is told by its interval, `low` to `high`:

# %%
pairing = attribution.null["p"].rename("p (pairing)")
attribution.global_.join(pairing).loc[flip].round(3)

# %%
# NBVAL_CHECK_OUTPUT
undone = 1 - tested.ablation["flips without"]
named_do_more = undone["all descriptors"] > undone["random subspace of equal size"] + 0.2
print("the names undo clearly more flips than chance does:", bool(named_do_more))
print("slip caught: most bars lie inside the null:", bool((null_wrong["p"] > 0.05).mean() > 0.5))
print("correct chart: some bars leave the null:", bool((null_right["p"] <= 0.05).any()))

# %% [markdown]
# ## Limits
#
# - A descriptor is a *reader*, trained on correlations. If fours with open tops are also thin, a
#   reader of openness reads thinness. What it says moved need not be what the classifier used.
# - The ablation is linear, in one space. Directions that aren't spanned are not "unimportant",
#   they are unnamed.
# - Only what somebody thought of describing can show up.
# - Correlated groups are read jointly; nothing here can say which member matters.
#
# None of this says what *causes* a decision. For that we need a world in which the cause is known.
#
# ## Summary
#
# A chart of what changed needs five companions: readability on held-out images, the unexplained
# share, joint groups, an ablation through the classifier, and a null. Each has caught something.
#
# **Questions to take along.** Which property would you add to shrink the rest? If an ablation says
# "not necessary" and the bar says "changed a lot", whom do you believe? How would the slip have
# looked if all flips had gone one way?
#
# **References.** J. Goldwasser, G. Hooker, *Counterfactual Attacks*, arXiv 2504.15479, and the
# figures in its code repository · D. Castro et al., *Morpho-MNIST*, 2019. Digits: MNIST, Y. LeCun,
# C. Cortes, C. J. C. Burges, CC BY-SA 3.0.
