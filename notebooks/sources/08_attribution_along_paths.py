# %% [markdown]
# # 08 · Attribution along paths: heat maps that add up, and where they lie
#
# **About 60 minutes · two CPU cores are enough · nothing is downloaded · [glossary](../docs/glossary.md)**
#
# A heat map colours the pixels that "made" a decision. There are dozens of ways to draw one, all look
# plausible, and most can't be checked. This notebook checks them. A map should **add up** to what it
# explains, it should depend on what the net has **learnt**, and on figures whose reason was planted it
# should lie on that **reason**. The path along which gradients are added up decides more than the
# formula: straight from a gray image, or along a walk through the codes of a generator.
#
# ## What you will be able to do
#
# - **integrate** gradients along a path and check completeness by hand
# - **show** how the baseline changes the answer
# - **walk** along a direction of a code to an image that is decided otherwise, and explain the walk
# - **explain** a black box by shares, and tell why a published rule without gradients fails
# - **test** a map against forgotten weights, random heat and the known truth
#
# Needed before: `01_latent_spaces`, `04_known_truth`.

# %%
import pandas as pd
import torch
from IPython.display import display

import cfxnb as cfx

cfx.doctor()

# %% tags=["parameters"]
profile: str = "cpu"  # ci, cpu or gpu: how much is computed
seed: int = 0  # of the figures

# %% [markdown]
# ## A gradient is not a reason
#
# Two classifiers say "gray" or "red", as if they read the hair. `honest` does. `shortcut` was trained
# on labels that followed the *top*: metal is "red". Where the top can be seen, pixel by pixel, is
# known exactly. Let us ask why `shortcut` says "red", by the oldest map there is, the gradient times
# the image. Purple speaks for "red", orange against it.

# %%
count = cfx.by_profile(profile, ci=3, cpu=10, gpu=100)
names = cfx.data.SPRITE_CONTRASTS["hair"]  # gray, red
layers = {"shortcut": "top", "honest": "hair"}  # what each of them looks at
nets = {name: cfx.load(f"sprites/{name}", device="cpu") for name in layers}
pool = cfx.data.sprites("pairs", 8 * count, split="test", seed=seed + 11)
asked, where = {}, {}
for name, f in nets.items():
    red = (cfx.predict_logits(f, pool.images).argmax(1) == 1).nonzero()[:count, 0]
    asked[name] = pool[red]
    where[name] = cfx.data.layer_mask(asked[name].factors, layers[name])
f, x, top = nets["shortcut"], asked["shortcut"].images, where["shortcut"]
plain = cfx.captum_attribution("input_x_gradient", f, x, 1)
display(cfx.heat_maps(plain, max_images=4, class_names=names))
cfx.metrics.relevance_mass(plain, top).mean().round(3)

# %% [markdown]
# The metal speaks *against* "red", says this map, and hair and face for it. Nothing is broken: the
# gradient is right about tiny changes. The decision isn't tiny. `area` is the share of the image that the
# top fills, which is what a map that knows nothing would get. The map's sum misses what it explains by
# the *gap* above it.
#
# ## Integrated gradients
#
# The number explained is f, the lead of the logit "red" over "gray". Along any path from a baseline to the
# image, f changes by the sum of gradient times step. Write that sum pixel by pixel, and you have a map
# that adds up to f(image) − f(baseline): this is **completeness**, and it can be checked.
#
# ### Exercise 1 · Completeness by hand
#
# *Medium, 7 minutes.* Take `n_points` evenly spaced images on the straight line, both ends among them.
# Between two neighbours use the mean of their two gradients (trapezoid rule), times the step. `gradient`
# takes images (b, c, h, w) and gives gradients of the same shape. Return the map (c, h, w).
#
# <details><summary>Hint 1</summary>
#
# The images: `torch.lerp(baseline, image, t)` with t from `torch.linspace(0, 1, n_points)`,
# shaped (n_points, 1, 1, 1).
#
# </details>
# <details><summary>Hint 2</summary>
#
# One gradient an image; of each and the next, the mean: `(g[1:] + g[:-1]) / 2`, which has
# n_points − 1 rows.
#
# </details>
# <details><summary>Hint 3</summary>
#
# All steps are equal: (image − baseline) / (n_points − 1). So the sum is the *mean* of those
# rows, times the whole difference.
#
# </details>


# %% tags=["exercise"]
def straight_ig(gradient, image, baseline, n_points):
    """The map (c, h, w) of the straight path, which should add up to f(image) - f(baseline)."""
    ### BEGIN SOLUTION
    t = torch.linspace(0, 1, n_points).view(-1, 1, 1, 1)
    slopes = gradient(baseline + t * (image - baseline))
    middles = 0.5 * (slopes[1:] + slopes[:-1])
    return (image - baseline) * middles.mean(0)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb08.straight_ig(straight_ig)

# %% [markdown]
# How many points does it take? Gap: (sum of the map − change of f) / |change of f|, at its worst over the
# figures. Three rules on the same line: the trapezoid rule (`"trapezoid"`), Gauss's points, and the plain
# average of all gradients, which is how it is mostly done.

# %%
path = cfx.straight_path(x, 0.7)  # from the gray of the background
counts = [3, 5, 9, 17, 33]
deltas = {
    method: [
        float(
            cfx.integrated_gradients(f, path, 1, method=method, n_points=n, max_points=n)
            .relative_delta.abs()
            .max()
        )
        for n in counts
    ]
    for method in ("trapezoid", "gausslegendre", "mean_gradient")
}
display(pd.DataFrame(deltas, index=pd.Index(counts, name="n_points")).map("{:.2%}".format))
cfx.curves(
    range(len(counts)),
    deltas,
    tick_labels=[str(n) for n in counts],
    xlabel="points on the path",
    ylabel="worst relative delta",
    alt="Worst relative delta over the number of points, for three rules of integration: "
    "all shrink; the trapezoid and Gauss rules sooner than the plain average.",
)

# %% [markdown]
# Left to itself, `cfx.integrated_gradients` halves the worst pieces until the gap is below one percent,
# and its `status` says whether it got there.
#
# ## The baseline is half of the answer
#
# "What if this pixel weren't there?" needs an image of nothing. Black is the custom. The same net, the same
# figures, the same rule:

# %%
black = cfx.integrated_gradients(f, cfx.straight_path(x, 0.0), 1)
gray = cfx.integrated_gradients(f, path, 1)
display(cfx.heat_maps(black, max_images=4, class_names=names))
display(cfx.heat_maps(gray, max_images=4, class_names=names))
pd.DataFrame(
    {
        name: {
            "change of f": float(a.output_change.mean()),
            "share of |heat| on the top": cfx.metrics.relevance_mass(a, top)["inside"].mean(),
            "hottest pixel on the top": float(cfx.metrics.pointing_game(a, top).double().mean()),
        }
        for name, a in {"black": black, "gray": gray}.items()
    }
).T.round(3)

# %%
# NBVAL_CHECK_OUTPUT
theirs = cfx.captum_attribution("integrated_gradients", f, x, 1, baseline=0.7, n_points=200)
size = gray.heat_map.abs().sum()
points = {n: cfx.metrics.pointing_game(a, top) for n, a in {"plain": plain, "gray": gray}.items()}
print("gradient x input ever points at the top:", bool(points["plain"].any()))
print("straight from gray, it mostly does:", bool(points["gray"].double().mean() > 0.5))
print("black and gray agree:", bool((black.heat_map - gray.heat_map).abs().sum() < 0.1 * size))
print("captum's map is ours:", bool((theirs.heat_map - gray.heat_map).abs().sum() < 0.05 * size))
print("both are complete:", set(black.status) | set(gray.status) == {"complete"})

# %% [markdown]
# Both maps add up. To this net black is nearly as "red" as metal, so there is hardly anything to
# explain, and what little there is lies elsewhere. Completeness is necessary, not sufficient.
#
# ## A path of figures
#
# Neither black nor gray is a figure, and nothing between them and a figure is one. A generative model
# offers another baseline: *this* figure, changed along a direction of its code until the decision is
# another one. Here the model is a diffusion autoencoder, and the direction comes from a search that only
# asks the classifier (GCD, notebook 07): `BlackBox` hides the gradients. Each figure walks along it until
# "red" has less than one percent. The baselines below wear another top; almost all else stays.
#
# The cell after that takes the walks apart, frame by frame: from the baseline back to the figure's
# reconstruction, and in a last step to the figure itself. The frames are kept, so that maps along
# these walks need no more rendering. (`method="proportional"` only because it is the cheapest way to get the
# walk; see below.)

# %%
space = cfx.load("sprites/diffae", device="cpu")
queries = cfx.by_profile(profile, ci=120, cpu=512, gpu=2048)
boxes = {name: cfx.BlackBox(net) for name, net in nets.items()}
found = {
    name: cfx.find_directions(
        space, boxes[name], asked[name].images[0], 1, max_queries=queries, n_curvature=2, seed=seed
    )
    for name in nets
}
latent = cfx.latent_integrated_gradients(space, f, x[:4], found["shortcut"].g, 1, max_points=65)
print(latent, "· the walks are", [f"{w:+.1f}" for w in latent.baseline_step.tolist()], "std long")
cfx.heat_maps(latent, class_names=names)


# %%
def find_baseline_step(f, figures, direction):
    """Step along the direction at which f changes its decision, in std, (b,)."""
    return cfx.latent_integrated_gradients(
        space, f, figures, direction, 1, method="proportional", n_points=2
    ).baseline_step


def film(figures, direction, baseline_step, frames=13):
    """Images (b, frames + 1, c, h, w) from the baselines to the figures."""
    way = cfx.direction_path(space, space.encode(figures), direction, baseline_step)
    rows = torch.arange(len(figures)).repeat_interleave(frames)
    t = torch.linspace(0, 1, frames).repeat(len(figures))
    with torch.no_grad():
        seen = way.at(rows, t).unflatten(0, (len(figures), frames))
    return torch.cat([seen, figures[:, None]], 1)


films, baseline_step = {}, {}
for name, net in nets.items():
    baseline_step[name] = find_baseline_step(net, asked[name].images, found[name].g)
    films[name] = film(asked[name].images, found[name].g, baseline_step[name])
shown = films["shortcut"][:2, [0, 1, 2, 3, 5, 9, 13]].flatten(0, 1)
said = cfx.predict_logits(f, shown).softmax(1)[:, 1]
cfx.gallery(
    shown,
    [f"{p:.0%} red" for p in said.tolist()],
    n_columns=7,
    alt="Two walks, one a row, from a figure in another top on the left, seen as gray, to the "
    "figure in metal on the right, seen as red; above each frame the probability of red.",
)

# %% [markdown]
# ### Exercise 2 · The line integral
#
# *Medium, 6 minutes.* This path is curved: each pixel moves at its own, changing pace, and may go there
# and back. So no common difference can be drawn out of the sum. From the images (m, c, h, w) in their
# order and the gradients at each of them, return the map (c, h, w) by the trapezoid rule.
#
# <details><summary>Hint 1</summary>
#
# Each piece has its own step: `images.diff(dim=0)` has m − 1 rows.
#
# </details>
# <details><summary>Hint 2</summary>
#
# As before, the mean of the gradients at the two ends of a piece.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Multiply these two, elementwise, then add up the pieces: `.sum(0)`, no mean.
#
# </details>


# %% tags=["exercise"]
def path_ig(gradients, images):
    """The map (c, h, w) of a path through the images, for gradients of the same shape."""
    ### BEGIN SOLUTION
    steps = images[1:] - images[:-1]
    means = 0.5 * (gradients[1:] + gradients[:-1])
    return (means * steps).sum(0)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb08.path_ig(path_ig)

# %% [markdown]
# The published sum for latent paths draws the difference out all the same: (end − start) times the mean
# gradient, as if the path were straight. What that costs, we shall see in a moment.
#
# ## Without gradients
#
# If the classifier is a black box, only f at each frame is known. The published way out replaces the gradient
# by a secant: the change of f from one image to the next, divided by each pixel's own change.
#
# ### Exercise 3 · The secant rule
#
# *Medium, 7 minutes.* With values f_i (m,) and images x_i (m, c, h, w): slope_i = (f_{i+1} − f_i) /
# (x_{i+1} − x_i), elementwise, and 0 where a pixel doesn't move. The map is (x_last − x_first) times the
# mean of the m − 1 slopes. Before you run the check: what does it give on a *straight* path?
#
# <details><summary>Hint 1</summary>
#
# `values.diff()` has shape (m − 1,); it needs three more dimensions: `.view(-1, 1, 1, 1)`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.where` still divides by zero, which gives infinity and is then thrown away; that is fine
# without gradients.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The *mean* over pieces counts those with slope 0, too: `slopes.mean(0)`.
#
# </details>


# %% tags=["exercise"]
def secant_attribution(values, images):
    """The published map (c, h, w) without gradients."""
    ### BEGIN SOLUTION
    moved = images[1:] - images[:-1]
    rise = (values[1:] - values[:-1]).view(-1, 1, 1, 1)
    slopes = torch.where(moved == 0, 0.0, rise / moved)
    return (images[-1] - images[0]) * slopes.mean(0)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb08.secant_attribution(secant_attribution)

# %% [markdown]
# On a straight path every pixel that moves gets the *whole* change, whatever the classifier looks at: a
# silhouette. On a curved one, pixels that hardly move have tiny denominators and huge heat. Both are
# measured below.
#
# ### Exercise 4 · Shares
#
# *Medium, 6 minutes.* What a black box does tell: how much f changed from one image to the next. Share that
# amount out among the pixels, in proportion to how far each one moved (|x_{i+1} − x_i|, channels apart).
# Add up the pieces. Where nothing moves at all, nothing is shared out.
#
# <details><summary>Hint 1</summary>
#
# `size = images.diff(dim=0).abs()`; its total for each piece: `size.sum((1, 2, 3),
# keepdim=True)`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# In each piece the shares `size / total` add up to one, so the map adds up to the change of f,
# whatever f is.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Against 0 / 0: `total.clamp_min(1e-12)`.
#
# </details>


# %% tags=["exercise"]
def proportional_attribution(values, images):
    """A map (c, h, w) without gradients, complete by construction."""
    ### BEGIN SOLUTION
    moved = (images[1:] - images[:-1]).abs()
    whole = moved.sum((1, 2, 3), keepdim=True).clamp_min(1e-12)
    rise = (values[1:] - values[:-1]).view(-1, 1, 1, 1)
    return (rise * moved / whole).sum(0)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb08.proportional_attribution(proportional_attribution)

# %%
compare = cfx.predict_then_run(
    "Three rules on the same walks. Which map adds up to the change of f?",
    ["average gradient (published)", "secant (published)", "proportional"],
)

# %%
curve = cfx.piecewise_linear_path(films["shortcut"])
rules = {
    "line": cfx.integrated_gradients(f, curve, 1),
    "average gradient (published)": cfx.integrated_gradients(
        f, curve, 1, method="mean_gradient", n_points=14
    ),
    "secant (published)": cfx.integrated_gradients(
        boxes["shortcut"], curve, 1, method="secant", n_points=14
    ),
    "proportional": cfx.integrated_gradients(
        boxes["shortcut"], curve, 1, method="proportional", n_points=14
    ),
}
typical = pd.Series({name: float(a.relative_delta.abs().median()) for name, a in rules.items()})
print(compare(typical.drop("line").idxmin()))
line = cfx.piecewise_linear_path(
    torch.stack([torch.lerp(gray.baseline, x, t / 8) for t in range(9)], 1)
)
secant = cfx.integrated_gradients(boxes["shortcut"], line, 1, method="secant", n_points=9)
moves = (secant.image - secant.baseline).abs() > 0.02
ratio = (secant.attributions / secant.output_change.view(-1, 1, 1, 1))[moves]
whole = float(((ratio - 1).abs() < 0.02).double().mean())
print(
    f"Secants on a straight path: {whole:.1%} of moving pixels get the whole change each;", end=" "
)
print(f"the sum is {float((secant.relative_delta + 1).mean()):,.0f} times too large.")
for name in ("average gradient (published)", "secant (published)", "proportional"):
    display(cfx.heat_maps(rules[name], max_images=4, class_names=names))
sizes = [f"{d:.2%}" if d < 10 else f"{d:,.0f} times the change of f" for d in typical]
pd.DataFrame({"median |relative delta|": sizes}, index=typical.index)

# %%
# NBVAL_CHECK_OUTPUT
print("the line integral is complete:", bool(typical["line"] < 0.01))
average = typical["average gradient (published)"]
print("the average gradient misses more than a tenth:", bool(average > 0.1))
print("the secant's sum is off by more than the whole:", bool(typical["secant (published)"] > 1))
print("shares are complete:", bool(typical["proportional"] < 1e-5))

# %% [markdown]
# `proportional` is complete *because of how it is made*. That says nothing about where its heat lies: whatever moves
# along with the reason gets its share as well.
#
# ## Where does the heat lie?
#
# Now the truth. `shortcut` looks at the top and `honest` at the hair, and both can be found to the pixel.
#
# ### Exercise 5 · Better than chance
#
# *Easy, 5 minutes.* For one signed map (h, w) and a mask of bools: the share of |heat| inside the mask,
# divided by the mask's share of the image. 1 is what a map that knows nothing gets. NaN for a map of
# zeros.
#
# <details><summary>Hint 1</summary>
#
# Heat against the label is heat, too: take `heat_map.abs()` first.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A mask selects: `size[mask].sum()`. Its share of the image: `mask.float().mean()`.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Look whether the total is 0 before you divide by it.
#
# </details>


# %% tags=["exercise"]
def relevance_ratio(heat_map, mask):
    """How many times more |heat| than chance the mask holds."""
    ### BEGIN SOLUTION
    mass = heat_map.abs()
    if mass.sum() == 0:
        return float("nan")
    return float(mass[mask].sum() / mass.sum() / mask.double().mean())
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb08.relevance_ratio(relevance_ratio)

# %% [markdown]
# All maps of both nets, with three to measure them by: random heat; how far each pixel moves on the
# walk, without any gradient; and a walk of the same length along a random direction, of which the net
# was never asked. `straight to it` takes the walk's own baseline, but a straight line of pixels to it.

# %%
rows = {}
chance = torch.Generator().manual_seed(seed)
aimless = space.std * torch.randn(space.mean.shape, generator=chance)
for name, net in nets.items():
    x_, mask, curve_ = asked[name].images, where[name], cfx.piecewise_linear_path(films[name])
    begin = films[name][:, 0]
    stroll = film(x_, aimless, baseline_step[name])
    maps = {
        "random heat": torch.randn(mask.shape, generator=chance),
        "how far pixels move": (x_ - begin).abs().sum(1),
        "gradient x input": cfx.captum_attribution("input_x_gradient", net, x_, 1),
        "straight, from black": cfx.integrated_gradients(net, cfx.straight_path(x_, 0.0), 1),
        "straight, from gray": cfx.integrated_gradients(net, cfx.straight_path(x_, 0.7), 1),
        "occlusion by gray": cfx.captum_attribution("occlusion", net, x_, 1, baseline=0.7),
        "walk, line (latent IG)": cfx.integrated_gradients(net, curve_, 1),
        "straight to it": cfx.integrated_gradients(net, cfx.straight_path(x_, begin), 1),
        "random walk, line": cfx.integrated_gradients(net, cfx.piecewise_linear_path(stroll), 1),
        "walk, shares (black box)": cfx.integrated_gradients(
            boxes[name], curve_, 1, method="proportional", n_points=14
        ),
        "walk, secant (black box)": cfx.integrated_gradients(
            boxes[name], curve_, 1, method="secant", n_points=14
        ),
    }
    for kind, a in maps.items():
        inside = cfx.metrics.relevance_mass(a, mask)
        row = rows.setdefault(kind, {})
        row[name, f"on the {layers[name]}"] = inside["inside"].mean()
        row[name, "hottest is"] = float(cfx.metrics.pointing_game(a, mask).double().mean())
        row[name, "area"] = inside["area"].mean()
truth = pd.DataFrame(rows).T
truth.round(2)

# %%
above = truth["shortcut", "on the top"] - truth["shortcut", "area"]
cfx.bars(
    above,
    xlabel="share of |heat| on the top, minus chance (shortcut)",
    alt="Share of heat on the top for each kind of map, minus the top's area: "
    + "; ".join(f"{name} {value:+.2f}" for name, value in above.items())
    + ".",
)

# %%
# NBVAL_CHECK_OUTPUT
share = truth["shortcut", "on the top"]
ours = share["walk, line (latent IG)"]
half = share["walk, shares (black box)"] / 2
print("latent IG beats straight IG from gray:", ours > share["straight, from gray"])
print("latent IG beats how far pixels move:", ours > share["how far pixels move"])
secants = share["walk, secant (black box)"]
print("the secant rule finds less than half of what shares find:", secants < half)
print("the curve matters less than its baseline:", abs(ours - share["straight to it"]) < 0.1)

# %% [markdown]
# Read it with care. The walk helps because of where it *starts*: the straight line to the same baseline does
# about as well. (These figures change their top at once, within a step or two of the frames, and between
# frames the film cross-fades. On a slower walk the two may differ more.) `proportional` maps are not far above how far
# pixels move, which asks no classifier at all. And the direction was found by asking this very
# classifier; a random one is far worse.
#
# ## Sanity checks
#
# **Forget.** Replace the net's weights, layer by layer, by random ones: a map that stays the same wasn't
# about what the net has learnt (Adebayo et al., 2018). The paths are kept, so only the net changes. The
# numbers are rank correlations with the map of the trained net: of the signed map, and of |heat|.

# %%
few = slice(0, 3)
kept = cfx.piecewise_linear_path(films["shortcut"][few])
line_gray = cfx.straight_path(x[few], 0.7)
states = []


def remembered(net):
    """The straight map; each state of the net leaves its own behind."""
    states.append(cfx.integrated_gradients(net, line_gray, 1, n_points=17, max_points=17).heat_map)
    return states[-1]


explained = {
    "gradient x input": lambda c: cfx.captum_attribution("input_x_gradient", c, x[few], 1),
    "straight": remembered,
    "walk, line": lambda c: cfx.integrated_gradients(c, kept, 1, n_points=14, max_points=14),
    "walk, shares": lambda c: cfx.integrated_gradients(
        c, kept, 1, n_points=14, method="proportional"
    ),
}
forgets = {name: cfx.metrics.parameter_randomisation(f, how) for name, how in explained.items()}
for sort in ("signed", "absolute"):
    table = {name: each[sort].tolist() for name, each in forgets.items()}
    word = {"signed": "signed", "absolute": "|heat|"}[sort]
    display(
        cfx.curves(
            range(len(forgets["straight"])), table, tick_labels=list(forgets["straight"].index),
            xlabel="forgotten down to this layer", ylabel=f"rank correlation, {word}",
            alt=f"Rank correlation of {word} maps with those of the trained net, while layers are "
            "forgotten from the output on: "
            + "; ".join(f"{name} ends at {v[-1]:.2f}" for name, v in table.items()) + ".",
        )
    )  # fmt: skip
sizes = torch.stack([states[0].abs(), states[-1].abs()], 1).flatten(0, 1)[:, None]
cfx.gallery(
    sizes / sizes.flatten(1).quantile(0.99, dim=1).view(-1, 1, 1, 1),
    ["trained", "forgot all"] * len(x[few]),
    alt="Sizes of heat on a straight path, in pairs: of the trained net, and of the same net with "
    "random weights. The outline of the figure is to be seen in both.",
)

# %% [markdown]
# The sizes of straight maps hardly notice that everything was forgotten: they are multiplied by image −
# baseline, and so show the *image*. `proportional` maps are movement, and the net only weighs the pieces, so
# that their signed maps jump between agreeing and disagreeing as a whole. Signed maps with gradients do
# forget. A pretty outline is no evidence.
#
# **Insert and delete.** Paste the hottest pixels of the image into the baseline: does the label come back
# soon (large area)? Paste the baseline over them: does it go (small area)? Random heat is the measure.

# %%
maps = {
    "random heat": torch.randn(top.shape, generator=chance),
    "gradient x input": plain,
    "straight, from gray": gray,
    "walk, line": rules["line"],
    "walk, shares": rules["proportional"],
    "walk, secant": rules["secant (published)"],
}
pasted = {
    name: cfx.metrics.insertion_deletion(f, x, films["shortcut"][:, 0], a, 1, n_chunks=25)
    for name, a in maps.items()
}
display(
    pd.DataFrame(
        {
            name: {
                "insertion AUC": float(c.insertion_auc.mean()),
                "deletion AUC": float(c.deletion_auc.mean()),
            }
            for name, c in pasted.items()
        }
    ).T.round(3)
)
cfx.curves(
    pasted["walk, line"].fraction.tolist(),
    {name: c.deletion.mean(0).tolist() for name, c in pasted.items()},
    xlabel="share of pixels replaced by the baseline's",
    ylabel="probability of red",
    alt="Deletion: probability of red while the hottest pixels of each map are replaced. It falls "
    "at once for maps of walks, and late for random heat.",
)

# %% [markdown]
# These curves ask the classifier about pasted images that nobody has ever seen, and the baseline is the
# walk's own, which favours its maps. They are a test of order, not of truth.
#
# ## A direction that the net doesn't look at
#
# The direction of `honest` changes the hair. `shortcut` doesn't mind, however far we go. Then there is no
# decision to explain, and the result says so: no baseline. The map of the way to the lowest place is
# drawn all the same. Shares can't lie anywhere but on what moves, the hair, and it looks as convincing as
# any. So read the status first, and how little f has changed.

# %%
idle = cfx.latent_integrated_gradients(
    space, f, x[:4], found["honest"].g, 1, method="proportional", n_points=5, grid_steps=8,
    max_step=2 * float(baseline_step["honest"].abs().max()),
)  # fmt: skip
display(cfx.heat_maps(idle, class_names=names))
pd.DataFrame({"status": idle.status, "change of f": idle.output_change.tolist()}).round(2)

# %%
# NBVAL_CHECK_OUTPUT
print(
    "baselines found for the other net's direction:", len(idle) - idle.status.count("no_baseline")
)

# %% [markdown]
# ## Fours and nines
#
# No planted truth here, but eyes can judge: what makes a 4 a 4, and no 9? The slider moves the baseline: from the
# far end of the walk (0) towards the digit. The sum of the map is the change of f from there.

# %%
digits, reader = (cfx.load(f"digits/{n}", device="cpu") for n in ("diffae", "classifier"))
fours = cfx.data.digits("test").select(4)[: cfx.by_profile(profile, ci=2, cpu=5, gpu=20)].images
nine = cfx.find_directions(
    digits, cfx.BlackBox(reader), fours[0], 9, contrast_class=4, n_curvature=0,
    max_queries=cfx.by_profile(profile, ci=120, cpu=256, gpu=2048),
).g  # fmt: skip
why = cfx.latent_integrated_gradients(
    digits, reader, fours, nine, 4, contrast_class=9, max_points=65
)
display(cfx.heat_maps(why))
places = torch.linspace(0, 1, 9).repeat(len(fours))
way = cfx.direction_path(digits, digits.encode(fours), nine, why.baseline_step)
with torch.no_grad():
    seen = way.at(torch.arange(len(fours)).repeat_interleave(9), places)
frames = torch.cat([seen.unflatten(0, (len(fours), 9)), fours[:, None]], 1)


def draw_map(digit: int, start: int) -> cfx.Picture:
    part = cfx.piecewise_linear_path(frames[digit : digit + 1, start:])
    return cfx.heat_maps(cfx.integrated_gradients(reader, part, 4, contrast_class=9))


cfx.explore(draw_map, digit=(0, len(fours) - 1), start=(0, 7))

# %% [markdown]
# ## Limits
#
# - Heat is not cause. A map shares out one number among pixels that act together; only intervening tells
#   what would happen without them.
# - The map explains f along *one* path. Another direction, another baseline: another complete map.
# - The direction is part of the answer. A walk that changes skin along with the top will show skin where
#   the net reacts to it, and `proportional` shows it even where the net doesn't.
# - The masks are those of the figure's own layer. Another top has other sleeves: some heat beside the
#   mask is right.
# - One planted reason at a time, small figures, small nets. Elsewhere nobody hands you the mask.
#
# ## Summary
#
# A gradient answers for tiny changes. Integrated along a path it adds up, on a curve only with the curve's
# own steps. The baseline decides what is explained. Without gradients, shares add up and the published
# secants don't. Check sums, forget weights, compare with random heat, and where you can, with the truth.
#
# **Questions to take along.** Why can a complete map lie? When would you prefer `proportional` to a surrogate with
# gradients? What would have to hold for |heat| to forget along with the net?
#
# **References.** M. Sundararajan, A. Taly, Q. Yan, *Axiomatic attribution for deep networks*, 2017 ·
# B. Sobieski, P. Biecek, *Global counterfactual directions*, arXiv 2404.12488 · K. Preechakul et al.,
# *Diffusion autoencoders*, 2022 · J. Adebayo et al., *Sanity checks for saliency maps*, 2018 ·
# V. Petsiuk, A. Das, K. Saenko, *RISE*, 2018 · J. Zhang et al., *Top-down neural attention by excitation
# backprop* (pointing game), 2018 · N. Kokhlikyan et al., *Captum*, 2020. Figures: sprites of the Liberated
# Pixel Cup, CC BY-SA 3.0 / GPL 3.0; artists in `data/sprites/LPC-AUTHORS.txt` and `ATTRIBUTION.md`.
# Digits: MNIST, Y. LeCun, C. Cortes, C. J. C. Burges, CC BY-SA 3.0.
