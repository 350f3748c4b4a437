# %% [markdown]
# # 04 · Known truth: a world in which explanations can be wrong
#
# **About 50 minutes · two CPU cores are enough · nothing is downloaded · [glossary](../docs/glossary.md)**
#
# Why did the network say *red hair*? On photographs nobody knows, so nobody can say whether an
# explanation is right. Here we know. Our figures are composited from layers; the true
# counterfactual of any factor is one swapped layer away. We plant a shortcut, watch an accurate
# classifier be right for the wrong reason, and ask who finds it out.
#
# ## What you will be able to do
#
# - **state** a structural causal model, and tell *seeing* from *doing*
# - **compute** the true effect of a factor on a decision, by re-rendering
# - **plant** a shortcut, and find the test that exposes it
# - **score** counterfactuals against the truth: causal, trivial, non-causal, adversarial
# - **judge** whether an attribution names the real cause
#
# Needed before: `00_welcome`, `02_counterfactual_attacks`.

# %%
import pandas as pd
import torch

import cfxnb as cfx

cfx.doctor()

# %% tags=["parameters"]
profile: str = "cpu"  # ci, cpu or gpu: how much is computed
seed: int = 0  # of the figures

# %%
count = cfx.by_profile(profile, ci=24, cpu=96, gpu=500)
space = cfx.load("sprites/vae", device="cpu")
judge = cfx.load("sprites/judge", device="cpu")
shortcut = cfx.load("sprites/shortcut", device="cpu")
names = cfx.data.SPRITE_CONTRASTS["hair"]
figures = cfx.data.sprites("independent", 20, split="test", seed=seed)
figures

# %% [markdown]
# ## Figures made of layers
#
# Body, eyes, trousers (`bottom`), top, shoes, hair, seen from three sides. Every factor is known
# exactly, and changing a layer touches the pixels of that layer only (a change of `direction` redraws
# them all).

# %%
cfx.gallery(
    figures.images,
    [f"{r.hair}\n{r.top}" for r in figures.factors.itertuples()],
    alt="Twenty pixel-art figures, labelled with the colour of their hair and their top.",
)

# %%
figures.factors.head()

# %% [markdown]
# The **exact counterfactual** of a figure: one layer swapped, everything else equal, pixel by pixel.

# %%
first = figures[:1]
twins = {"as it is": first}
twins |= {f"hair: {o}": cfx.data.intervene(first, hair=o) for o in ("gray", "red", "afro")}
twins |= {f"top: {o}": cfx.data.intervene(first, top=o) for o in ("white", "metal", "chain")}
cfx.gallery(
    torch.cat([twin.images for twin in twins.values()]),
    list(twins),
    alt="One figure, with three other hairs, and with three other tops. Nothing else changes.",
)

# %% [markdown]
# ## A world is a causal model
#
# A world states which factors exist, what causes what, and how probably:
#
#     cfx.data.World(
#         hair=["gray", "red"],                                    # a root: uniform
#         shoes={"brown": 0.7, "metal": 0.3},                      # a root with probabilities
#         eyes=cfx.data.given("hair", gray="blue", red=["red", "green"]),   # an effect of hair
#     )
#
# What a world doesn't mention is drawn uniformly.
#
# ### Exercise 1 · State a causal model
#
# *Easy, 6 minutes.* Hair is gray or red, equally often. Hair **causes** the top: the red-haired wear
# metal with probability 0.9 (else white), the gray-haired with probability 0.1 (else white).
#
# <details><summary>Hint 1</summary>
#
# Two factors, hair first: causes come before their effects.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `given("hair", gray=..., red=...)`, each case a dict of probabilities.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `top=cfx.data.given("hair", gray={"white": 0.9, "metal": 0.1}, red=...)`
#
# </details>


# %% tags=["exercise"]
def my_world() -> cfx.data.World:
    """Hair decides the top, nine times out of ten."""
    ### BEGIN SOLUTION
    return cfx.data.World(
        hair=["gray", "red"],
        top=cfx.data.given(
            "hair",
            gray={"white": 0.9, "metal": 0.1},
            red={"white": 0.1, "metal": 0.9},
        ),
    )
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb04.my_world(my_world)

# %% [markdown]
# ## Seeing is not doing
#
# In the ready-made world `confounded`, a hidden trade (knight or clerk) decides both hair and top:
# they go together though neither causes the other. `do=` sets a factor whatever its causes say,
# for the *same* figures: their random numbers stay.

# %%
world = cfx.data.SPRITE_WORLDS["confounded"]
print(world)
seen = world.sample(20_000, seed=seed)
rows = {}
for hair in names:
    done = world.sample(20_000, seed=seed, do={"hair": hair})
    rows[hair] = {
        "seen: P(metal | hair)": (seen.loc[seen.hair == hair, "top"] == "metal").mean(),
        "done: P(metal | do hair)": (done["top"] == "metal").mean(),
    }
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# Among the red-haired most wear metal. Dye everybody's hair, and nobody changes clothes. An
# explanation is a claim about *doing*.
#
# ## The truth about a decision
#
# Set a factor to one option, then to the other, and count how many decisions change. No generator,
# no approximation: re-rendering is the truth against which everything later is measured.
#
# ### Exercise 2 · The true effect of a factor
#
# *Medium, 6 minutes.* The share of figures whose decision is different under the two options.
#
# <details><summary>Hint 1</summary>
#
# `cfx.data.intervene(figures, **{factor: option})` gives the figures with the factor set.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Decisions are `classifier(images).argmax(1)`; compare the two sets figure by figure.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `(one != other).double().mean().item()`
#
# </details>


# %% tags=["exercise"]
def true_effect(classifier, figures, factor: str, pair: tuple[str, str]) -> float:
    """Share of figures, in [0, 1], whose decision depends on which of the two options they have."""
    ### BEGIN SOLUTION
    one, other = (
        classifier(cfx.data.intervene(figures, **{factor: option}).images).argmax(1)
        for option in pair
    )
    return (one != other).double().mean().item()
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb04.true_effect(true_effect)

# %% [markdown]
# ## Planting a shortcut
#
# The class is named after the hair. But in this training set nearly everybody with red hair wears
# armour, and the labels were copied from a list of uniforms. We train a small network on it, now.
# Predict first: it will be nearly perfect on held-out figures of its own world. How good will it be
# at *hair* in a world where hair and top don't go together?

# %%
compare = cfx.predict_then_run(
    "Where hair and top are independent, the network reads hair correctly in about ...",
    ["95 % of the figures", "75 %", "50 %, like a coin"],
)

# %%
planted = cfx.data.SPRITE_CLASSIFIERS["shortcut"]
train = cfx.data.sprites(planted.world, 3000, split="train", seed=5)
labels = torch.tensor(planted.label(train.factors).to_numpy()).long()
torch.manual_seed(seed)
network = torch.nn.Sequential(
    torch.nn.AvgPool2d(2),
    torch.nn.Conv2d(3, 16, 3, stride=2, padding=1),
    torch.nn.ReLU(),
    torch.nn.Flatten(),
    torch.nn.Linear(16 * 14 * 8, 2),
)
adam = torch.optim.Adam(network.parameters(), lr=3e-3)
for step in range(120):
    batch = torch.randint(len(train), (64,), generator=torch.Generator().manual_seed(step))
    loss = torch.nn.functional.cross_entropy(network(train.images[batch]), labels[batch])
    adam.zero_grad()
    loss.backward()
    adam.step()
mine = cfx.wrap(network, class_names=names)


# %%
def accuracy(classifier, world) -> float:
    held_out = cfx.data.sprites(world, 1000, split="test", seed=seed + 1)
    is_red = torch.tensor((held_out.factors["hair"] == "red").to_numpy())
    return (
        ((cfx.predict_logits(classifier, held_out.images).argmax(1) == 1) == is_red).double().mean()
    )


table = pd.DataFrame(
    {
        name: {
            "in its own world": float(accuracy(f, planted.world)),
            "hair and top independent": float(accuracy(f, "pairs")),
        }
        for name, f in {
            "yours, just trained": mine,
            "shipped shortcut": shortcut,
            "shipped honest": cfx.load("sprites/honest", device="cpu"),
        }.items()
    }
).T
table.round(3)

# %%
elsewhere = table.loc["yours, just trained", "hair and top independent"]
options = {0.95: "95 % of the figures", 0.75: "75 %", 0.5: "50 %, like a coin"}
print(compare(options[min(options, key=lambda value: abs(value - elsewhere))]))

# %% [markdown]
# Excellent in its own world, a coin outside: 0.95 is how often hair goes with the top there. Yours and
# the shipped one agree to the last digit because both read the top perfectly. (`pairs` is the
# ready-made world in which hair, top and shoes have two options each, and nothing goes with anything.)
# No held-out test set of that world would have told. A
# test that does tell looks where the two reasons **disagree**.
#
# ### Exercise 3 · Accuracy in conflict
#
# *Easy, 5 minutes.* The accuracy over those figures only whose label and shortcut disagree. NaN if
# there are none: no evidence is not a zero.
#
# <details><summary>Hint 1</summary>
#
# `conflict = label != shortcut` is a mask.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `conflict.any()` tells whether there is something to average.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `(predicted == label)[conflict].double().mean().item()`
#
# </details>


# %% tags=["exercise"]
def conflict_accuracy(predicted, label, shortcut) -> float:
    """Accuracy where label and shortcut disagree, NaN if they never do; int tensors (n,) each."""
    ### BEGIN SOLUTION
    conflict = label != shortcut
    if not conflict.any():
        return float("nan")
    return (predicted == label)[conflict].double().mean().item()
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb04.conflict_accuracy(conflict_accuracy)

# %% [markdown]
# ## The planted classifiers
#
# These are shipped, each with its true reasons in its card. The table is the true effect of every
# factor, by re-rendering: the share of figures whose decision depends on it.

# %%
pairs = cfx.data.sprites("pairs", 300, split="test", seed=seed + 2)
shipped = {n: cfx.load(f"sprites/{n}", device="cpu") for n in ("honest", "majority", "conjunction")}
shipped = {"shortcut": shortcut, **shipped}
effects = pd.DataFrame(
    {
        name: {
            factor: cfx.metrics.true_scores(pairs, f, {factor: pair}).pns[factor]
            for factor, pair in cfx.data.SPRITE_CONTRASTS.items()
        }
        for name, f in shipped.items()
    }
)
effects.round(2)

# %%
# NBVAL_CHECK_OUTPUT
for name, column in effects.items():
    strong = sorted(column[column > 0.1].index)
    print(f"{name}: reads {', '.join(strong)}")

# %% [markdown]
# Try it. For `shortcut` hair decides nothing, and armour everything:


# %%
def draw_figure(hair: str, top: str, shoes: str, seen_from: str) -> cfx.Picture:
    row = figures.factors.iloc[:1].assign(hair=hair, top=top, shoes=shoes, direction=seen_from)
    image = cfx.data.render_sprites(row)
    decisions = {n: names[int(f(image).argmax())] for n, f in shipped.items()}
    text = "\n".join(f"{n}: {d}" for n, d in decisions.items())
    return cfx.gallery(image, [text], alt=f"A figure with {hair} hair and {top} top. {text}.")


cfx.explore(
    draw_figure,
    hair=["red", "gray"],
    top=["white", "metal"],
    shoes=["brown", "metal"],
    seen_from=["front", "left", "right"],
)

# %% [markdown]
# ## Who finds it out?
#
# Three searches ask the shortcut classifier for the other class: the latent attack, the pixel attack,
# and a random direction of the same length. For each flip an independent **judge** reads which factors
# changed. A flip is
#
# - **trivial**: the meaning of the class changed (hair). The label itself would be another one, so the
#   flip can't tell a right reason from a wrong one, whatever else changed.
# - **causal**: not the meaning, but a factor that the classifier really uses. *This* exposes it.
# - **non-causal**: only bystanders changed.
# - **adversarial**: nothing readable changed.
#
# ### Exercise 4 · The kind of a flip
#
# *Medium, 6 minutes.* In this order: the first that applies.
#
# <details><summary>Hint 1</summary>
#
# One name a flip: "trivial", "causal", "non-causal" or "adversarial".
#
# </details>
# <details><summary>Hint 2</summary>
#
# A loop over `zip(cause, meaning, other)` is fine.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `if m: "trivial"` comes before `elif c: "causal"`.
#
# </details>


# %% tags=["exercise"]
def classify_flip(cause: list[bool], meaning: list[bool], other: list[bool]) -> list[str]:
    """What each flip changed, in one word."""
    ### BEGIN SOLUTION
    kinds = []
    for c, m, b in zip(cause, meaning, other, strict=True):
        if m:
            kinds.append("trivial")
        elif c:
            kinds.append("causal")
        elif b:
            kinds.append("non-causal")
        else:
            kinds.append("adversarial")
    return kinds
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb04.classify_flip(classify_flip)

# %%
held_out_pairs = cfx.data.sprites("pairs", count, split="test", seed=seed + 3)
target = 1 - cfx.predict_logits(shortcut, held_out_pairs.images).argmax(1)
latent = cfx.latent_attack(space, shortcut, held_out_pairs.images, target)
results = {
    "latent attack": latent,
    "pixel attack": cfx.pixel_attack(shortcut, held_out_pairs.images, target),
    "random direction": cfx.random_change(space, shortcut, latent),
}
kinds = {
    name: cfx.metrics.classify_flips(r, judge, causes=["top"], named_factor="hair")
    for name, r in results.items()
}
pd.DataFrame(
    {
        name: {
            "flips": len(k),
            "top changed": k["cause"].mean(),
            "hair changed": k["named_factor"].mean(),
            **{kind: (k["kind"] == kind).mean() for kind in cfx.metrics.FLIP_KINDS},
        }
        for name, k in kinds.items()
    }
).T.round(2)

# %%
shown = 8
cfx.gallery(
    torch.cat(
        [held_out_pairs.images[:shown], latent.image[:shown], results["pixel attack"].image[:shown]]
    ),
    n_columns=shown,
    alt="Eight figures; below them what the latent attack makes of them, most with another top; at "
    "the bottom the results of the pixel attack, which look like the originals.",
)

# %%
# NBVAL_CHECK_OUTPUT
causes = {name: k["cause"].mean() if len(k) else 0.0 for name, k in kinds.items()}
print("most latent flips change the top:", causes["latent attack"] > 0.5)
print("hardly any pixel flip does:", causes["pixel attack"] < 0.1)

# %% [markdown]
# The pixel attack flips everything and tells nothing: by the judge, the same figure stands there. The
# latent attack has to draw figures, so it has to draw the reason. Look at the third row, too: a random
# direction flips few figures, but where it does, it mostly went through the top. It is the *space*
# that makes a flip readable; the search makes it happen.
#
# ## Several explanations of one image
#
# `majority` is a vote of hair, top and shoes, two out of three. Many figures can be flipped in more
# than one way, and an explainer that shows several teaches more. Each seed is another random start.
# Two explanations are different if they changed different *causes*.

# %%
several = cfx.data.sprites(
    "pairs", cfx.by_profile(profile, ci=6, cpu=16, gpu=64), split="test", seed=9
)
other = 1 - cfx.predict_logits(shipped["majority"], several.images).argmax(1)
tries = [
    cfx.latent_attack(space, shipped["majority"], several.images, other, init_noise=0.7, seed=s)
    for s in range(4)
]
causes = cfx.data.SPRITE_CLASSIFIERS["majority"].causes
distinct = [
    int(cfx.metrics.distinct_explanations(tries[: k + 1], judge, causes).sum()) for k in range(4)
]
cfx.curves(
    range(1, 5),
    {"different sets of causes, mean": [d / len(several) for d in distinct]},
    xlabel="searches for each figure",
    ylabel="distinct explanations a figure",
    alt=f"Distinct successful explanations a figure over one to four searches: from "
    f"{distinct[0] / len(several):.2f} to {distinct[-1] / len(several):.2f}.",
)

# %% [markdown]
# ## Does the attribution name the cause?
#
# Count in how many flips each factor changed: that is an attribution, of each method. The truth is
# the table of effects above. Compared are the order of all factors (rank correlation), and whether
# the factor named **first** is a cause (of several that are equally first, the share that are causes).

# %%
truth = effects["shortcut"]
rows = {}
for name, result in results.items():
    changed = cfx.metrics.changed_factors(result, judge)[result.flipped.numpy()].mean()
    named = cfx.metrics.rank_agreement(changed.fillna(0), truth, causes=["top"])
    rows[name] = {**changed.round(2).to_dict(), **named}
pd.DataFrame(rows).T.round(2)

# %%
changed = cfx.metrics.changed_factors(latent, judge)[latent.flipped.numpy()].mean()
cfx.bars(
    changed,
    xlabel="share of latent flips in which the factor changed",
    alt="Share of the latent attack's flips in which each factor changed; longest: "
    f"{changed.idxmax()}, {changed.max():.2f}.",
)

# %% [markdown]
# Look at the bystanders, too. A latent attack changes more than it needs: its path runs through a
# space in which factors share directions. So *what changed* is a hint, and not yet *what was
# necessary*.
#
# ## Limits
#
# - The truth is known because the world is made. That a method passes here doesn't prove it on
#   photographs; that it fails here is a reason not to trust it there.
# - The judge is a network as well. On clean figures it makes next to no mistakes (`cfx.available()`
#   shows its card); on half-finished ones it has to choose one option of those it knows.
# - "Trivial" is a matter of the question. For a doctor, hair that changes with the class may be
#   the news.
# - The shortcut was planted cleanly. Real networks mix reasons, as `majority` does.
#
# ## Summary
#
# You stated a causal model, told seeing from doing, computed the true effect of a factor, planted a
# shortcut and exposed it, and you scored counterfactuals against the truth. The latent attack
# shows the planted cause; the pixel attack doesn't.
#
# **Questions to take along.** Could a test set from the classifier's own world ever have exposed the
# shortcut? What would the table look like for `honest`? Which of the four kinds would you show to a
# user?
#
# **Next:** `05_contrastive_explanations` asks whether a factor was *necessary*, and whether it would
# have been *sufficient*.
#
# **References.** *Evaluating Visual Counterfactual Explainers* (the BEx benchmark),
# github.com/dvd42/Bex · J. Pearl, *Causality*, 2009 · R. Geirhos et al., *Shortcut learning in deep
# neural networks*, 2020. Figures: sprites of the Liberated Pixel Cup, CC BY-SA 3.0 / GPL 3.0;
# artists in `data/sprites/LPC-AUTHORS.txt` and `ATTRIBUTION.md`.
