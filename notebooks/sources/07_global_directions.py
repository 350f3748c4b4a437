# %% [markdown]
# # 07 · Global directions: from one image's answers to the whole world
#
# **About 60 minutes · two CPU cores are enough · nothing is downloaded · [glossary](../docs/glossary.md)**
#
# So far a counterfactual was sought for each image, mostly with gradients. Here the classifier is a
# **black box**: it is asked, and it answers, that is all. Global Counterfactual Directions (arXiv
# 2404.12488) changes the code of *one* image at random, asks about every picture that comes out, and
# reads from the answers the direction in which the decision turns. The surprise: the direction
# serves other images, too. How many, and better than which baseline? That is measured here.
#
# ## What you will be able to do
#
# - **ask** a black box about changes of one code, within a budget of queries
# - **split** answers to opposite changes into slope and curvature
# - **estimate** a gradient by least squares, and say how far to trust it
# - **follow** one direction on a whole data set, to the smallest step that flips
# - **compare** g-directions, h-directions and random ones of equal length
# - **judge** what a direction changes in chest X-rays, and what this doesn't say
#
# The space is a **diffusion autoencoder**: an encoder gives a code of 64 numbers, `z`; a diffusion
# model draws the picture, told `z`, out of noise that belongs to the image, `aux`. Methods change `z`
# and leave `aux` alone. One picture costs ten passes of the network, so we count pictures.
#
# Needed before: `01_latent_spaces`, `02_counterfactual_attacks`.

# %%
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from sklearn.linear_model import Ridge

import cfxnb as cfx
from cfxnb.core.tensors import norms, standardise
from cfxnb.directions.mlp_proxy import mlp
from cfxnb.directions.probing import rms
from cfxnb.directions.proxies import Probes, ridge

cfx.doctor()

# %% tags=["parameters"]
profile: str = "cpu"  # ci, cpu or gpu: how much is computed
seed: int = 0  # of the changes


# %%
count = cfx.by_profile(profile, ci=10, cpu=20, gpu=200)  # images of each digit
queries = cfx.by_profile(profile, ci=256, cpu=512, gpu=2048)
space = cfx.load("digits/diffae", device="cpu")
f = cfx.load("digits/classifier", device="cpu")
judge = cfx.load("digits/judge", device="cpu")  # never asked by any method
test = cfx.data.digits("test")
seen = cfx.predict_logits(f, test.images).argmax(1)
fours = test.images[(test.labels == 4) & (seen == 4)]
nines = test.images[(test.labels == 9) & (seen == 9)]
source, others = fours[:1], torch.cat([fours[1 : count + 1], nines[:count]])
target = torch.tensor([9] * count + [4] * count)
code = space.encode(source)


def changes(pairs: int, radius: float) -> torch.Tensor:
    """Opposite changes side by side, (2 pairs, 64), in std."""
    draw = torch.Generator().manual_seed(seed)
    sphere = torch.nn.functional.normalize(torch.randn(pairs, 64, generator=draw), dim=1)
    delta = radius * torch.rand(pairs, 1, generator=draw) * sphere
    return torch.stack([delta, -delta], 1).flatten(0, 1)


@torch.no_grad()
def render(delta: torch.Tensor) -> torch.Tensor:
    """Render the changed source."""
    aux = code.aux.expand(len(delta), -1, -1, -1)
    return space.decode(cfx.Code(code.z + space.std * delta, aux))


def nine_not_four(logits: torch.Tensor) -> torch.Tensor:
    """The score that we watch: log odds of 9 against 4."""
    return logits[:, 9] - logits[:, 4]


# %% [markdown]
# ## One 4, and a box that answers
#
# `cfx.BlackBox(f)` lets no gradient through and counts. All changes are in **spreads**: 1 is the
# standard deviation of a coordinate among real images. `changes` draws a direction from the unit
# sphere and a length up to `radius`, and each change comes with its opposite: first δ, then −δ. (The
# paper draws single changes, no longer than 1 in the codes' own units; why pairs are better you'll see
# at once.)

# %%
box = cfx.BlackBox(f)
radius = 5.5  # about half of the typical distance between the codes of two images
delta = changes(queries // 2, radius)
home = float(nine_not_four(box(render(torch.zeros(1, 64)))))
pictures = render(delta)
logits = box(pictures)
score = nine_not_four(logits)
print(f"{box.n_queries} pictures asked about; at home the score is {home:.1f}")
strip = cfx.gallery(
    torch.cat([source, pictures[:9]]),
    ["source", *[f"{s:+.1f}" for s in score[:9]]],
    alt="A four and what becomes of it by random changes of its code, with the score 9 against 4.",
)
display(strip)
order = (score[::2] - score[1::2]).argsort()
cfx.curves(
    np.arange(len(order)),
    {
        "score of δ": score[::2][order],
        "score of −δ": score[1::2][order],
        "no change": np.full(len(order), home),
    },
    xlabel="pairs of opposite changes, sorted",
    ylabel="9 against 4, log odds",
    alt="Scores of opposite changes mirror each other about the score without a change, roughly.",
)

# %% [markdown]
# The two clouds cross like a pair of scissors: where δ raises the score, −δ lowers it. That is
# the **odd** part, a slope if it grows with δ. Where both lie on the same side of the line, it is not:
# that is curvature. (Sorted as they are, pairs of any answers would cross; whether there is a slope in
# it, the prediction of *other* pairs will tell.)
#
# ### Exercise 1 · Odd and even
#
# *Easy, 5 minutes.* Take the answers apart. Of a pair with the scores a (of δ) and b (of −δ), the
# **odd** part is half of a − b; the **even** part is the mean of a and b, less the score at home.
# Scores lie side by side: δ first, then −δ. Return both parts, one number a pair.
#
# <details><summary>Hint 1</summary>
#
# Every second score, beginning with the first, belongs to δ: slice with a step of two.
#
# </details>
# <details><summary>Hint 2</summary>
#
# For a score that is a straight line the odd part is the slope times δ, and the even part is 0.
# Try it.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Don't forget to take `home` away from the mean.
#
# </details>


# %% tags=["exercise"]
def odd_even(score: torch.Tensor, home: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Odd and even part of the answers to m pairs, (2 m,) -> (m,), (m,)."""
    ### BEGIN SOLUTION
    there, back = score[::2], score[1::2]
    return (there - back) / 2, (there + back) / 2 - home
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb07.odd_even(odd_even)

# %% [markdown]
# Why it pays: curvature disturbs the estimate of a slope, and in the odd part it cancels exactly.
# The even part tells the curvature, and there no slope disturbs.
#
# ## A gradient without gradients
#
# The odd part is, to first order, δ · slope. Many pairs, 64 unknown numbers: least squares. With few
# pairs a penalty on large slopes (*ridge*) keeps the noise down.
#
# ### Exercise 2 · The slope by least squares
#
# *Medium, 7 minutes.* Find the slope (d,) that makes the sum of (odd − δ · slope)² plus
# `penalty` times the squared length of the slope as small as possible. There is no intercept: no
# change, no odd part.
#
# <details><summary>Hint 1</summary>
#
# Set the derivative to zero: (DᵀD + penalty · 1) slope = Dᵀ odd, with D the changes (m, d).
#
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.linalg.solve(A, b)` solves A x = b; an inverse isn't needed.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The matrix 1 is `torch.eye` with d rows, not m.
#
# </details>


# %% tags=["exercise"]
def ridge_slope(delta: torch.Tensor, odd: torch.Tensor, penalty: float) -> torch.Tensor:
    """Ridge without an intercept: (m, d), (m,) -> (d,)."""
    ### BEGIN SOLUTION
    gram = delta.T @ delta + penalty * torch.eye(delta.shape[1]).to(delta)
    return torch.linalg.solve(gram, delta.T @ odd)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb07.ridge_slope(ridge_slope)

# %% [markdown]
# ### Exercise 3 · How much does it predict?
#
# *Easy, 5 minutes.* A fit always looks good on what it was fitted to. So keep some answers aside, and
# say how much of *their* variation is predicted: R² = 1 − (sum of squared misses) / (sum of squared
# deviations from their mean). It is 1 if every answer is hit, 0 for always telling the mean, and
# below 0 for worse than that.
#
# <details><summary>Hint 1</summary>
#
# Misses: what was seen, less what was told.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Deviations: what was seen, less its own mean. What was told plays no part there.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Neither a square root, nor a cut at 0.
#
# </details>


# %% tags=["exercise"]
def r_squared(observed: torch.Tensor, predicted: torch.Tensor) -> float:
    """Fraction of the variance of the observed scores that the predictions explain."""
    ### BEGIN SOLUTION
    errors = (observed - predicted).square().sum()
    return float(1 - errors / (observed - observed.mean()).square().sum())
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb07.r_squared(r_squared)

# %%
odd, even = cfx.checks.nb07.parts(score, home)
near = delta[::2].norm(dim=1) < radius / 2
sizes = pd.DataFrame(
    {
        "mean size, odd part": [float(odd[some].abs().mean()) for some in (near, ~near)],
        "mean size, even part": [float(even[some].abs().mean()) for some in (near, ~near)],
    },
    index=["short changes", "long changes"],
)
display(sizes.round(2))
D = delta[::2]
held = len(D) // 4  # the last quarter of the pairs is not learnt from
sizes_tried = [n for n in (16, 32, 64, 96, 128, 192, 384) if n <= len(D) - held]
lines = {}
for name, penalty in (("next to no penalty", 1e-3), ("penalty 10", 10.0), ("penalty 300", 300.0)):
    fits = [Ridge(penalty, fit_intercept=False).fit(D[:n], odd[:n]) for n in sizes_tried]
    lines[name] = [fit.score(D[-held:], odd[-held:]) for fit in fits]
cfx.curves(
    sizes_tried,
    {name: np.maximum(line, -1) for name, line in lines.items()},
    xlabel="pairs that were learnt from",
    ylabel="R² on others (cut at −1)",
    alt="Held-out R² over the number of pairs: without a penalty it fails near 64 pairs.",
)

# %% [markdown]
# Without a penalty, about as many pairs as unknowns are the worst of all worlds: everything is fitted,
# nothing is learnt. Cross-validation finds a fitting penalty, and that is what the package does.
#
# ## The same in one call
#
# `cfx.find_directions` asks, fits, and proposes directions: **g** along the gradient, **h1, h2, …**
# along axes of strong curvature. Then it *tries* each on the source, both ways, and ranks them: of
# eighteen axes (of fewer, if the budget is small) it keeps the six that do most, whose names still
# tell how strong their curvature was. ("g with distance" is the paper's second gradient, of a score that
# also counts how far the picture moves.) The flip rate in the first table is that of the source alone,
# at two lengths; other images come below. The budget is a hard limit on all of it. Mind the difference:
# g is 64 unknown numbers, the curvature 64 · 65 / 2 = 2,080. With so few answers h is little more than a
# guess, and slightly other answers give another one.
#
# Two things differ from the fit by hand. What is to hold for a data set is asked about far and wide:
# changes are twice as long as ours. And out there log odds grow without end; a few pictures of which the
# box is *very* sure would outweigh all those that tell where the decision turns. So for the slope log odds
# **saturate**: beyond 5, a probability of 99 %, they hardly count for more. (With 1,500 queries and ten
# training digits as sources: 87 % of other digits flip along g, instead of 82 % with log odds as they are.)
#
# One image's slope is one image's. Hand over a few others as `validation_images=`, and directions are tried on
# these, within the same budget. Their answers are worth more than a ranking: the trial walks each of
# them along g and along the axes of curvature, and where the score bends, the slope differs from image
# to image *along just these axes*. So what they answered **corrects** g. `corrected` below is given
# three 4s and three 9s, and half of the budget may go to them: the more images, the fewer axes are tried.
# Mind what that is: no longer a direction found with a single image.
#
# So far this is the search around one image, `proxy="ridge"`. The **default** search goes one step
# further. It takes all images at once, `images=`, without labels. Changes are not the same in all 64
# coordinates: they have the covariance of the codes of real digits, which vary along only 20 axes. The
# log odds of each class against all others are fitted linearly to the *whole* code, so that differences
# between images count too. `joint` below is found with the source and the same six digits.
#
# Does the package find the direction that was found by hand, from other answers? `expected_cosine` says how
# alike two such runs are to be expected, from one run alone, by comparing its halves.

# %%
box = cfx.BlackBox(f)
options = {"contrast_class": 4, "max_queries": queries, "seed": seed + 1}
alone = {"proxy": "ridge", **options}  # the search around one image
found = cfx.find_directions(space, box, source, 9, **alone)
train = cfx.data.digits("train")
known = cfx.predict_logits(f, train.images[:300]).argmax(1)
few = [train.images[:300][known == digit][:3] for digit in (4, 9)]
tried = torch.stack(few, 1).flatten(0, 1)  # 4, 9, 4, 9, 4, 9
corrected = cfx.find_directions(space, cfx.BlackBox(f), source, 9, validation_images=tried, **alone)
joint = cfx.find_directions(space, cfx.BlackBox(f), torch.cat([source, tried]), 9, **options)
display(found, corrected, joint)

# %%
# NBVAL_CHECK_OUTPUT
by_hand = torch.from_numpy(Ridge(10.0, fit_intercept=False).fit(D, odd).coef_).to(D)
own = found.g / space.std  # in spreads again
alike = float(torch.cosine_similarity(own, by_hand, dim=0))
print(
    "budget kept:",
    box.n_queries <= queries,
    "· the count is right:",
    found.n_queries == box.n_queries,
)
print("by hand and by the package, about the same direction:", alike > 0.5)

# %% [markdown]
# ## From one writer's digit to the world
#
# Now the question: does a direction found with one 4 turn the 4s and 9s of *other* writers?
# `cfx.follow_direction` walks each code along it, both ways, until the target has a probability of 0.99
# (`confidence=`), and bisects to the smallest step that does. By default it goes half as far as the codes
# of two images typically lie apart.
# One baseline is indispensable: **random directions, walked as far**, one an image. Far enough along
# anything, a digit becomes another one. For g with others' answers there is a second one, which asks for
# nothing but six labels: the difference between the mean codes of these 4s and 9s.

# %%
compare = cfx.predict_then_run(
    "Of 100 digits of other writers, how many flip along g, found with a single 4?",
    ["fewer than 25", "25 to 50", "50 to 75", "more than 75"],
)

# %%
draw = torch.Generator().manual_seed(seed + 2)
chance = space.std * torch.randn(len(others), 64, generator=draw)  # one an image
with torch.no_grad():
    at = space.encode(tried).z
means = at[1::2].mean(0) - at[::2].mean(0)  # nines minus fours
directions = {
    "g": found.g,
    "g, corrected": corrected.g,
    "g, joint": joint.g,
    "h, best": found.h[0],
    "difference of means": means,
    "random": chance,
}
quick = {"grid_steps": cfx.by_profile(profile, ci=4, cpu=6, gpu=8), "binary_search_steps": 3}
moved = {
    n: cfx.follow_direction(space, f, others, d, target, **quick) for n, d in directions.items()
}
length = {
    n: norms(standardise(r.code_after.z - r.code_before.z, space.std)) for n, r in moved.items()
}
fraction = float(moved["g"].flipped.double().mean())
answer = ["fewer than 25", "25 to 50", "50 to 75", "more than 75"][min(3, int(fraction * 4))]
print(compare(answer), f"In numbers: {fraction:.0%} of {len(others)}.")
display(cfx.flip_curves(space, moved))
rows = {}
for name, r in moved.items():
    with torch.no_grad():
        agrees = judge(r.image).argmax(1) == r.target
    rows[name] = {
        "4 to 9": r.flipped[:count].double().mean(),
        "9 to 4": r.flipped[count:].double().mean(),
        "flips": r.flipped.sum(),
        "median length of flips": length[name][r.flipped].median(),
        "judge agrees, of flips": agrees[r.flipped].double().mean(),
    }
with torch.no_grad():
    rows["reconstruction only"] = {
        "4 to 9": (f(moved["g"].reconstruction).argmax(1) == target)[:count].double().mean(),
        "9 to 4": (f(moved["g"].reconstruction).argmax(1) == target)[count:].double().mean(),
    }
pd.DataFrame(rows).T.astype(float).round(2)

# %%
g = moved["g"]
cfx.gallery(
    torch.cat([g.original[:10], g.image[:10], g.original[count:][:10], g.image[count:][:10]]),
    [""] * 10
    + [f"→ {int(c)}" for c in g.logits_after[:10].argmax(1)]
    + [""] * 10
    + [f"→ {int(c)}" for c in g.logits_after[count:][:10].argmax(1)],
    alt="Ten fours with what they become along g below them, and ten nines with theirs.",
)

# %% [markdown]
# Compare the first three rows and the fifth, and mind how few images these are: a difference of two or
# three flips says nothing. The page of results (docs/results.md) has more images, and other sources: there
# the correction hardly helps with test digits, and much with training digits that the net is very sure of.
#
# Where the judge, another network, doesn't see the target in a flipped picture, one net is right and
# the other wrong, or the picture is neither a 4 nor a 9: such flips may be **adversarial**. Mind that
# a walk does not end at the border, where judges often differ, but where the target has a probability of
# 0.99. That holds for all rows alike.
#
# ### Exercise 4 · The smallest step
#
# *Medium, 7 minutes.* `flips(length)` asks the box about one length. At `low` it doesn't flip, at
# `high` it does. Halve the stretch `binary_search_steps` times, with one question each, and return a length that
# was *seen* to flip (and never the middle of what is left, of which nobody knows).
#
# <details><summary>Hint 1</summary>
#
# Look at the middle. If it flips, it becomes the new far end; if not, the new near end.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Ask once a turn, and not about `low` or `high`: those answers are known.
#
# </details>
# <details><summary>Hint 3</summary>
#
# What is returned is the far end.
#
# </details>


# %% tags=["exercise"]
def smallest_step(flips, low: float, high: float, binary_search_steps: int) -> float:
    """A length that flips, at most (high - low) / 2**binary_search_steps beyond one that doesn't."""
    ### BEGIN SOLUTION
    for _ in range(binary_search_steps):
        middle = (low + high) / 2
        if flips(middle):
            high = middle
        else:
            low = middle
    return high
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb07.smallest_step(smallest_step)

# %% [markdown]
# ## The sign of an eigenvector means nothing
#
# If v is an eigenvector of the curvature, so is −v, and a library returns one of them. The published
# code negates it where the eigenvalue is positive; but the eigenvalue is the same for v and −v, so it
# can't tell them apart, as the first two lines show.
#
# A slope at *one* image names a sense for that image. Does it hold for the others? `follow_direction` tried
# both. Of the flips along each direction, how many went the way that the source's slope says?

# %%
values, axes = torch.linalg.eigh(found.proxy_fit.hessian.double())
strongest = values.abs().argmax()
v, bend = axes[:, strongest], values[strongest]
for axis in (v, -v):
    miss = float((found.proxy_fit.hessian.double() @ axis - bend * axis).norm())
    rise = float(axis @ found.proxy_fit.gradient.double())
    print(f"eigenvalue {bend:.2f}, H v = λ v up to {miss:.0e}; slope along it {rise:+.2f}")
rows = {}
for name, r in moved.items():
    step = standardise(r.code_after.z - r.code_before.z, space.std)
    along = (step * directions[name] / space.std).sum(1)
    wanted = torch.where(target == 9, 1.0, -1.0)
    as_told = (along.sign() == wanted)[r.flipped]
    rows[name] = {"flips": len(as_told), "in the sense told": float(as_told.double().mean())}
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# ### Exercise 5 · Orient
#
# *Easy, 5 minutes.* Give each axis the sign in which the score rises: after that, `axis · gradient` is
# never negative. Neither the length of an axis nor their order changes. (An axis at a right angle to
# the gradient may stay as it is: there only trying both senses helps.)
#
# <details><summary>Hint 1</summary>
#
# `axes @ gradient` has one number an axis.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Negate rows where it is below zero. `sign()` is 0 at 0, which would wipe out an axis.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `torch.where(condition[:, None], ..., ...)` chooses row by row.
#
# </details>


# %% tags=["exercise"]
def orient(axes: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Axes (n, d), each in the sense in which the score rises or stays."""
    ### BEGIN SOLUTION
    falls = axes @ gradient < 0
    return torch.where(falls[:, None], -axes, axes)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb07.orient(orient)

# %% [markdown]
# ## How many questions does it take?
#
# The paper's proxy is a network with three hidden layers, trained afresh on all answers for at most
# 1,024 epochs; it stops at the first one whose held-out loss exceeds the mean of the five before it.
# Least squares sees the same answers. For once we look inside the box: the true gradient through
# classifier and decoder at the source's code. The cosine with it says which proxy needs fewer
# questions. Chance: in 64 dimensions two random directions have a cosine of about 1/8 in size.

# %%
z = code.z.clone().requires_grad_()
inside = nine_not_four(f(space.decode(cfx.Code(z, code.aux)))).sum()
true = torch.autograd.grad(inside, z)[0][0] * space.std  # white-box, to compare only
probes = Probes(delta, score, logits, rms(pictures, source.expand_as(pictures)), home)
nine, four = torch.tensor([9]), torch.tensor([4])
proxies = {
    "least squares": ridge,
    "the paper's network": lambda p: mlp(p, nine, four, stop="paper"),
}
budgets = [b for b in (64, 128, 256, 512, 2048) if b <= queries]
cosines = {
    name: [
        float(torch.cosine_similarity(fit(probes.first(b)).gradient, true, dim=0)) for b in budgets
    ]
    for name, fit in proxies.items()
}
cfx.curves(
    budgets,
    {**cosines, "chance, in size": [1 / 8] * len(budgets)},
    xlabel="queries",
    ylabel="cosine with the true gradient",
    alt="Cosine with the true gradient over queries, for least squares and the paper's network: "
    + "; ".join(f"{n}: {v[-1]:.2f} in the end" for n, v in cosines.items()),
)

# %% [markdown]
# No cosine need reach 1. The answers come from changes up to a radius, and what they tell is a mean
# slope over this ball, not the slope at its centre. For steps as long as those that flip, the mean
# slope may even be the better guide.
#
# ## Diversity: another noise, or another direction?
#
# Several counterfactuals of one image say more than one, if they differ. Two ways: the same direction
# with other stochastic codes (`noise_seed=`), or other directions with the image's own. How far
# apart do the pictures lie, by the root mean squared difference of pixels, where both flipped? Beside
# it: how far the reconstruction moves by another noise alone.

# %%
each = cfx.by_profile(profile, ci=2, cpu=3, gpu=20)
few = torch.cat([torch.arange(each), count + torch.arange(each)])
images, wanted = others[few], target[few]


def apart(results: list) -> tuple[float, int]:
    """Mean distance of two counterfactuals of an image, and the number of pairs."""
    far = []
    for i in range(len(results)):
        for j in range(i):
            both = results[i].flipped & results[j].flipped
            far.append(rms(results[i].image, results[j].image)[both])
    far = torch.cat(far)
    return float(far.mean()), len(far)


noises = [
    cfx.follow_direction(space, f, images, found.g, wanted, noise_seed=s, **quick) for s in range(3)
]
several = [moved[n][few] for n in ("g", "h, best")]
several.append(cfx.follow_direction(space, f, images, found.h[1], wanted, **quick))
plain = torch.stack([r.reconstruction for r in noises])
rows = {
    "g, three noises": apart(noises),
    "g and two h, own noise": apart(several),
    "reconstructions, two noises": (float(rms(plain[0], plain[1]).mean()), len(few)),
}
display(pd.DataFrame(rows, index=["mean distance", "pairs"]).T.round(3))
walks = [*noises, *several]
names = ["g, noise 0", "g, noise 1", "g, noise 2", "g", "h, best", "h, next"]
cfx.gallery(
    torch.cat([r.image[:1] for r in walks]),
    [f"{n}\n→ {int(r.logits_after[0].argmax())}" for n, r in zip(names, walks, strict=True)],
    alt="Six counterfactuals of one four: along g with three noises, along g, and along two h.",
)

# %% [markdown]
# Compare the first row of the table with the last: how much of the distance between noises is there
# before anything is changed? That part shows other ways to draw the same digit, not other reasons.
#
# ## Walk by yourself
#
# Choose an image and a direction. Where does the decision turn, and does it turn once only?


# %%
def walk(image: int, direction: str, step: float) -> cfx.Picture:
    steps_along = [step * k for k in (-3, -2, -1, 0, 1, 2, 3)]
    d = directions[direction]
    d = d[image] if d.ndim == 2 else d  # each image has a random direction of its own
    return cfx.direction_strip(space, f, others[image : image + 1], d, steps_along)


cfx.explore(walk, image=(0, len(others) - 1), direction=list(directions), step=(1.5, 3.5, 0.5))

# %% [markdown]
# ## Chest X-rays
#
# Now without an answer that we know beforehand: a net that tells normal X-rays of children from those
# with pneumonia. **This is not for diagnosis**, neither the net nor anything found here. Its card
# warns of more:

# %%
steps = cfx.by_profile(profile, ci=10, cpu=20, gpu=20)
lungs = cfx.load("chest/diffae", device="cpu").with_steps(steps)
net = cfx.load("chest/classifier", device="cpu")
second = cfx.load("chest/judge", device="cpu")
card = cfx.weights.read_card("chest/classifier")
print(card["caution"])
display(pd.Series(card["quality"]))
rays = cfx.data.chest("test")
said = cfx.predict_logits(net, rays.images).argmax(1)
right = said == rays.labels
mixed = torch.randperm(len(said), generator=torch.Generator().manual_seed(seed))
each = cfx.by_profile(profile, ci=4, cpu=8, gpu=100)
sick, well = (mixed[(right & (said == c))[mixed]] for c in (1, 0))
chosen = torch.cat([well[1 : each + 1], sick[:each]])
xrays, wanted = rays.images[chosen], 1 - said[chosen]
box = cfx.BlackBox(net)
ray = cfx.find_directions(
    lungs, box, rays.images[well[:1]], 1, max_queries=queries // 2, n_curvature=2, seed=seed
)
display(ray)
aside = lungs.std * torch.randn(len(xrays), 64, generator=draw)
turned = {
    n: cfx.follow_direction(lungs, net, xrays, d, wanted, grid_steps=4, binary_search_steps=2)
    for n, d in {"g": ray.g, "random": aside}.items()
}
display(cfx.flip_curves(lungs, turned))
cfx.show(turned["g"][[0, each, each + 1]], class_names=net.class_names, judge=second)

# %% [markdown]
# What does it change, and *where*? If a net reads markers, tubes or the black margin, a counterfactual
# may tell: then much of the change lies outside the lungs. We have no outlines of lungs, so we ask
# something coarser: which share of the change lies in the outer **frame** of the picture, against the
# share of the area that the frame has? The baseline has to move as far: each X-ray by the length that
# g needed, along its random direction.
#
# ### Exercise 6 · The share of the frame
#
# *Medium, 7 minutes.* `change` is (h, w), of either sign. Which share of its absolute values lies
# within `width` pixels of an edge, and which share of the pixels does? Return both.
#
# <details><summary>Hint 1</summary>
#
# The inside is `[width:-width, width:-width]`; the frame is all the rest.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Absolute values first: else light and dark cancel.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The area of the frame is 1 − (h − 2·width)(w − 2·width) / (h·w).
#
# </details>


# %% tags=["exercise"]
def frame_fraction(change: torch.Tensor, width: int) -> tuple[float, float]:
    """Fraction of the change, and of the area, in the outer frame."""
    ### BEGIN SOLUTION
    inside = torch.zeros_like(change, dtype=torch.bool)
    inside[width:-width, width:-width] = True
    size = change.abs()
    return float(size[~inside].sum() / size.sum()), float((~inside).double().mean())
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb07.frame_fraction(frame_fraction)

# %%
g = turned["g"]
done = g.flipped
far = norms(standardise(g.code_after.z - g.code_before.z, lungs.std))
unit = torch.nn.functional.normalize(aside / lungs.std, dim=1) * lungs.std
with torch.no_grad():
    by_chance = lungs.decode(g.code_before.with_z(g.code_before.z + far[:, None] * unit))
where = {
    "g": (g.image - g.reconstruction)[done].abs().mean((0, 1)),
    "random, as far": (by_chance - g.reconstruction)[done].abs().mean((0, 1)),
}
towards = done & (g.target == 1)
added = (g.image - g.reconstruction)[towards].mean((0, 1))
top = float(max(w.max() for w in where.values()))
bound = float(added.abs().max())
cfx.gallery(
    torch.stack(
        [g.reconstruction[done].mean((0, 1)), *[w / top for w in where.values()],
         0.5 + 0.5 * added / bound]
    )[:, None],
    ["mean X-ray", "size of\nchange, g", "size, at\nrandom", "g towards\npneumonia"],
    n_columns=4,
    alt="Mean X-ray; where g and a random direction of equal length change it; and the mean signed "
    "change towards pneumonia, brighter or darker than mid-gray.",
)  # fmt: skip

# %%
rows = {}
for name, change in where.items():
    fraction, area = cfx.checks.nb07.framed(change, 8)
    rows[name] = {"change in the frame": fraction, "its area": area, "mean change": change.mean()}
with torch.no_grad():
    agrees = second(g.image).argmax(1) == g.target
rows["g"]["flipped"] = g.flipped.double().mean()
rows["random, as far"]["flipped"] = (net(by_chance).argmax(1) == g.target).double().mean()
rows["g"]["judge agrees, of flips"] = agrees[done].double().mean()
pd.DataFrame(rows).T.astype(float).round(2)

# %% [markdown]
# Read it with care. The pictures say what turns *this net's* decision, as far as *this space* can draw
# it. They don't say what pneumonia looks like, and the last column says how often a second net, trained
# to resist attacks, goes along. A share of the frame near its area speaks neither for lungs nor for
# margins; at 64 pixels the frame holds shoulders and parts of the lungs, too. Brightness that spreads
# over the whole chest may be disease, exposure, or another machine: in a data set whose test part is
# known to differ from its training part, a net may have learnt any of them, and a direction follows
# whatever it has learnt.
#
# ## Limits
#
# - A direction is global as far as it was measured: on these digits, on these X-rays.
# - Walking both ways to the first flip favours *every* direction, random ones too. Compare curves,
#   never one flip rate.
# - The space limits what is found. What it can't draw, no direction shows.
# - One source image was used. Another may give another direction; `validation_images=` corrects it by others'
#   answers, and then several images were used.
# - A budget counts pictures. A service that charges or locks out may count otherwise.
#
# ## Summary
#
# A few hundred answers about one image give a direction; opposite pairs and least squares make the
# most of them; its worth is the flip rate beside random directions of equal length, and what an
# independent judge sees.
#
# **Questions to take along.** Opposite pairs cancel curvature; what would it take to tell a slope from
# a term of third order? When would a network beat least squares? Which X-rays would you need to find
# out whether the net reads exposure?
#
# **References.** B. Sobieski, P. Biecek, *Global Counterfactual Directions*, ECCV 2024, arXiv
# 2404.12488 · K. Preechakul et al., *Diffusion Autoencoders*, CVPR 2022 · digits: MNIST, Y. LeCun,
# C. Cortes, C. J. C. Burges, CC BY-SA 3.0 · X-rays: D. Kermany, K. Zhang, M. Goldbaum, Mendeley
# Data, v2, doi 10.17632/rscbjbr9sj.2, CC BY 4.0.
