# %% [markdown]
# # 10 · Model errors: find, explain, repair
#
# **About 60 minutes · two CPU cores are enough · nothing is downloaded · [glossary](../docs/glossary.md)**
#
# A classifier is right nearly always. Who gets the wrong answer? And what would have to look
# different for it to be right? Diffusion counterfactuals towards the *true* class (arXiv 2310.06668)
# show what a classifier goes by when it errs. First in a world of figures where the reason is
# known, so that the explanation can be wrong in public. Then on real faces, where nobody knows, and
# where one has to be careful about what is claimed.
#
# ## What you will be able to do
#
# - **find** the group in which a classifier fails, with an interval
# - **explain** its errors, with the baseline beside every claim
# - **see** how what the diffusion model is told decides what can be found
# - **repair** a classifier with its own counterfactuals, and compare with cheaper ways
# - **tell apart** two kinds of errors that one accuracy hides
# - **say** what such an analysis can't claim about people
#
# Needed before: `04_known_truth`, `09_diffusion_counterfactuals`.

# %%
import numpy as np
import pandas as pd
import torch
from IPython.display import display

import cfxnb as cfx

cfx.doctor()

# %% tags=["parameters"]
profile: str = "cpu"  # ci, cpu or gpu: how much is computed
seed: int = 0  # of the figures, and of the noise

# %%
few = cfx.by_profile(profile, ci=4, cpu=10, gpu=60)  # errors that are explained
space = cfx.load("sprites/ldm", device="cpu")
judge = cfx.load("sprites/judge", device="cpu")
shortcut, honest = (cfx.load(f"sprites/{name}", device="cpu") for name in ("shortcut", "honest"))
planted = cfx.data.SPRITE_CLASSIFIERS["shortcut"]
print(planted.description)


def fraction(rows):
    """Of bools, as a number."""
    return float(rows.double().mean())


def drawn(world, count, split="test"):
    """Figures, whether their hair is red, and which hair goes with which top."""
    figures = cfx.data.sprites(world, count, split=split, seed=seed + 41)
    red = torch.tensor((figures.factors["hair"] == "red").tolist()).long()
    return figures, red, figures.factors["hair"] + ", " + figures.factors["top"]


old, old_red, old_groups = drawn(planted.world, cfx.by_profile(profile, ci=300, cpu=600, gpu=2000))
fair, red, groups = drawn("pairs", cfx.by_profile(profile, ci=300, cpu=600, gpu=2000))

# %% [markdown]
# ## Find
#
# The classifier says "gray" or "red", as if it looked at the hair. In the world that its training
# figures came from, red hair and armour nearly always go together. Here it is tested there, and in
# a **fair** world, in which hair and top have nothing to do with each other.

# %%
compare = cfx.predict_then_run(
    "It is nearly always right in its old world. How often, in the worst group of the fair one?",
    ["nearly always", "about half of the time", "nearly never"],
)

# %%
table_old = cfx.metrics.accuracy_by_group(shortcut, old.images, old_red, old_groups)
table_fair = cfx.metrics.accuracy_by_group(shortcut, fair.images, red, groups)
accuracy = table_fair["accuracy"].min()
names = {0: "nearly never", 1: "about half of the time", 2: "nearly always"}
print(compare(names[0 if accuracy < 0.2 else 1 if accuracy < 0.8 else 2]))
display(table_old.round(3))
cfx.bars(
    table_fair.rename(columns={"accuracy": "mean"}),
    xlabel="accuracy in the fair world",
    alt="Accuracy in each group of the fair world with its interval: near 1 where hair and top go "
    "together as in the old world, near 0 where they do not.",
)

# %% [markdown]
# In the old world, the last row of the table looks fine, and the groups that go wrong are so small
# that it hardly matters. That is why the worst group is asked for (Sagawa et al., 2020). An interval
# stands beside each: with a handful of figures, an accuracy of 0 says little.
#
# ### Exercise 1 · The worst group
#
# *Easy, 5 minutes.* From `right` (bool, one a figure) and `groups` (names), return the name of the
# group with the lowest accuracy and that accuracy, among groups with at least `min_size` figures.
#
# <details><summary>Hint 1</summary>
#
# One accuracy a group: the mean of `right` where the name is this one.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `np.unique(groups, return_counts=True)` gives names and sizes.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Collect them in a dict and take the key with the smallest value: `min(d, key=d.get)`.
#
# </details>


# %% tags=["exercise"]
def worst_group(right: np.ndarray, groups: np.ndarray, min_size: int) -> tuple[str, float]:
    """The group of at least this size with the lowest accuracy, and its accuracy."""
    ### BEGIN SOLUTION
    names, sizes = np.unique(groups, return_counts=True)
    large = {n: float(right[groups == n].mean()) for n in names[sizes >= min_size]}
    lowest = min(large, key=large.get)
    return lowest, large[lowest]
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb10.worst_group(worst_group)

# %%
# NBVAL_CHECK_OUTPUT
print("right in its old world, in more than 9 of 10:", table_old["accuracy"]["all"] > 0.9)
print("right in the worst group, in less than 2 of 10:", accuracy < 0.2)
fine = cfx.metrics.accuracy_by_group(honest, fair.images, red, groups)
print("the honest classifier, its worst group, in more than 9 of 10:", fine["accuracy"].min() > 0.9)

# %% [markdown]
# ## Explain
#
# Which figures are wrong is known now, why isn't. (Pretend that you haven't read the story.) Each
# error is run towards its **true** class: noise it a little, denoise it, and let the classifier's
# slope pull. What changes on the way is what the classifier wanted to see.
#
# Consensus guidance keeps the slope only where the diffusion model's own idea of the class points
# the same way. That idea comes from what the model is **told**. The class is called "red", so the
# hair is the natural thing to tell. Beside it: the top, told on a suspicion; no consensus at all;
# and the baseline, noise and denoising with nobody pulling. The honest classifier makes no errors
# to explain, so its right answers on the same figures are turned over: what does it look like if
# what is told *is* what counts?

# %%
HAIR = [{"hair": "gray"}, {"hair": "red"}]
TOP = [{"top": "white"}, {"top": "metal"}]
once = {"noise": "random", "strength": 0.3, "max_attempts": 1}
ways = {
    "told hair": {"conditions": HAIR},
    "told top": {"conditions": TOP},
    "no consensus": {"conditions": HAIR, "guidance": "classifier"},
    "noise alone": {"conditions": HAIR, "guidance": "none", **once},
}
train, train_red, train_groups = drawn(planted.world, 600, split="train")
wide, _, _ = drawn("pairs", cfx.by_profile(profile, ci=300, cpu=500, gpu=2000), split="train")
binary = {
    "red hair": ("hair", "red"),
    "metal top": ("top", "metal"),
    "metal shoes": ("shoes", "metal"),
}
factors = pd.DataFrame({n: (wide.factors[f] == v).astype(int) for n, (f, v) in binary.items()})
descriptors = cfx.fit_descriptors(space, wide.images, factors)
explained = {
    way: cfx.explain_errors(
        space,
        shortcut,
        fair.images,
        red,
        max_images=few,
        seed=seed,
        descriptors=descriptors,
        **options,
    )
    for way, options in ways.items()
}
results = {way: found.counterfactuals for way, found in explained.items()}
errors = fair[explained["told top"].rows.numpy()]
for name, conditions in {"honest, told hair": HAIR, "honest, told top": TOP}.items():
    other = 1 - cfx.predict_logits(honest, errors.images).argmax(1)
    results[name] = cfx.diffusion_counterfactual(
        space, honest, errors.images, other, conditions=conditions, seed=seed
    )
explained["told top"].table.round(2)

# %%
wanted = explained["told top"].counterfactuals.target
both = torch.cat([(wanted == c).nonzero()[:3, 0] for c in (0, 1)])  # errors of either kind
cfx.show(explained["told top"].counterfactuals[both], class_names=shortcut.class_names)

# %%
cfx.show(explained["told hair"].counterfactuals[both], class_names=shortcut.class_names)

# %% [markdown]
# Look before you count. Then count: an independent reader says which factors differ from the
# reconstruction. A flip without any readable change fooled the classifier and explains nothing.

# %%
rows = {}
for way, cf in results.items():
    changed = cfx.metrics.changed_factors(cf, judge)
    kinds = cfx.metrics.classify_flips(cf, judge, planted.causes, "hair")
    rows[way] = {
        "flipped": fraction(cf.flipped),
        "noise it took, median": cf.trace["strength"][cf.flipped].nanmedian().item(),
        "hair changed": changed["hair"].mean(),
        "top changed": changed["top"].mean(),
        "something else": changed.drop(columns=["hair", "top"]).any(axis=1).mean(),
        "flips with nothing to read": (kinds["kind"] == "adversarial").mean(),
        "kept, of positions": cf.trace["kept_fraction"].nanmean().item()
        if "kept_fraction" in cf.trace
        else np.nan,
        "by chance": cf.trace["chance_fraction"].nanmean().item(),
    }
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# What the model is told is a **hypothesis**, not a discovery. If the classifier goes by it, most
# flip with little noise, and the reader sees the told factor change: so it is with the honest
# classifier and the hair. If it doesn't, consensus takes away most of the slope, and hides the reason
# or makes it expensive: it takes more noise, or fails, and the told factor isn't what changes. Read
# the first rows so. (It need not: compare the last row. And 0.30 is the least noise that is tried.) "The class is called red, hence the hair" was a guess, and telling the model so
# doesn't make it true. Ask several questions, ask without consensus too, and hold each answer against
# noise alone, drawn at random at that least level.
#
# ### Exercise 2 · Suspect what changes more than by chance
#
# *Medium, 6 minutes.* `changed` and `baseline` say for each factor (column) and image (row) whether
# it changed, with and without the classifier pulling; they may have different numbers of rows.
# Return the factor whose share rises most above the baseline, and by how much.
#
# <details><summary>Hint 1</summary>
#
# `changed.mean()` gives one share a factor.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Subtract the baseline's shares, not its counts.
#
# </details>
# <details><summary>Hint 3</summary>
#
# A Series has `.idxmax()` and `.max()`.
#
# </details>


# %% tags=["exercise"]
def most_changed_factor(changed: pd.DataFrame, baseline: pd.DataFrame) -> tuple[str, float]:
    """The factor that changes most often beyond the baseline, and the difference of shares."""
    ### BEGIN SOLUTION
    excess = changed.mean() - baseline.mean()
    return excess.idxmax(), float(excess.max())
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb10.most_changed_factor(most_changed_factor)

# %%
alone = cfx.metrics.changed_factors(results["noise alone"], judge).mean()
beyond = {
    way: cfx.metrics.changed_factors(cf, judge).mean() - alone
    for way, cf in results.items()
    if way != "noise alone"
}
pd.DataFrame(beyond).round(2).sort_values("told top", ascending=False)

# %% [markdown]
# Shares below zero are no riddle: drawn noise repaints hair or body in many figures by itself, as the row
# of noise alone says. The others begin with the noise that each figure comes from, and change less.
#
# Where was something changed? The maps show the mean absolute change of all flips of one kind of
# error, each on its own scale. And what, in names: descriptors read the codes before and after.
# Beside them stands the **truth**, which this world has: the same figure, rendered again with the
# other top. (On the way to "gray" all signs are turned round.)

# %%
shown = {f"{way}:\n{kind}": m for way in ("told hair", "told top", "no consensus", "noise alone")
         for kind, m in explained[way].change_maps.items()}  # fmt: skip
maps = torch.stack(list(shown.values())) if shown else torch.zeros(1, 56, 32)
cfx.gallery(
    (maps / maps.amax((1, 2), keepdim=True).clamp_min(1e-6)).unsqueeze(1),
    list(shown) or ["nothing flipped"],
    n_columns=2,
    alt="Where errors were changed, bright is much, one map a way and kind of error: "
    + "; ".join(name.replace("\n", " ") for name in shown),
)

# %%
swapped = ["white" if top == "metal" else "metal" for top in errors.factors["top"]]
parts = [cfx.data.intervene(errors[[i]], top=top).images for i, top in enumerate(swapped)]
before = descriptors.log_odds(results["told top"].code_before.z)
after = {way: descriptors.log_odds(results[way].code_after.z) for way in ways}
after["truth: other top"] = descriptors.log_odds(space.encode(torch.cat(parts)).z)
towards = torch.where(red[explained["told top"].rows] == 1, 1.0, -1.0)[:, None]
changes = pd.DataFrame(
    {way: (towards * (read - before)).mean(0).tolist() for way, read in after.items()},
    index=descriptors.names,
).loc[list(descriptors.readable)]  # one that can't be read from codes tells nothing
display(descriptors.quality.round(2))
listed = changes.T.stack()
listed.index = [f"{way}: {name}" for way, name in listed.index]
cfx.bars(
    listed,
    sort=False,
    xlabel="mean change of the log odds towards “red”",
    alt="How much red hair, metal top and metal shoes changed in the codes on the way to “red”: "
    + "; ".join(f"{name} {value:+.1f}" for name, value in listed.items()),
)

# %% [markdown]
# Compare with the bar of the truth: nothing but the top has to change. What else moved, moved by
# leakage, or no more than noise alone moves it, and what moved less than the truth was enough to flip: a counterfactual is the least that
# convinces the *classifier*, and that can be a shirt of a colour that no figure wears.
#
# Turn over single figures:


# %%
def draw_error(way: str, error: int) -> cfx.Picture:
    return cfx.show(results[way][error : error + 1], class_names=shortcut.class_names)


cfx.explore(draw_error, way=list(results), error=(0, len(errors) - 1))

# %% [markdown]
# ## Repair
#
# The explanation suggests a remedy. If it is the top that flips the answer while the hair stays as it
# was, then these very counterfactuals, **with their old labels**, tell the classifier that the top
# doesn't count. Three things have to be known for it: the labels of the originals, that the cause
# (hair) is unchanged, which a reader has to see, and that hair *is* the cause, which no network knows.
#
# ### Exercise 3 · What to train on
#
# *Medium, 8 minutes.* Return all originals, followed by the counterfactuals that flipped while the
# cause did not change; and a label for each.
#
# <details><summary>Hint 1</summary>
#
# A mask of the rows wanted: two conditions, joined by `&`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Which label has a figure whose hair is as it was? Not the one that the classifier gives.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `torch.cat` joins images with images, and labels with the same rows of labels.
#
# </details>


# %% tags=["exercise"]
def training_set(
    images: torch.Tensor,
    labels: torch.Tensor,
    edited: torch.Tensor,
    flipped: torch.Tensor,
    cause_changed: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels to train on: what there was, and what teaches something new."""
    ### BEGIN SOLUTION
    keep = flipped & ~cause_changed
    return torch.cat([images, edited[keep]]), torch.cat([labels, labels[keep]])
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb10.training_set(training_set)

# %% [markdown]
# ### Exercise 4 · Weights by group
#
# *Easy, 5 minutes.* The cheaper rival needs no counterfactuals, only to know each figure's *group*.
# Return one weight a figure, so that all groups weigh the same in total and the mean is 1.
#
# <details><summary>Hint 1</summary>
#
# Count how often each name occurs.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A figure's weight falls with the size of its group.
#
# </details>
# <details><summary>Hint 3</summary>
#
# With n figures in k groups, a group of size s gets n / k in total, so each of its figures n / (k
# s).
#
# </details>


# %% tags=["exercise"]
def group_weights(groups: list[str]) -> torch.Tensor:
    """Weights (n,) with mean 1 under which every group counts alike."""
    ### BEGIN SOLUTION
    sizes = {name: groups.count(name) for name in set(groups)}
    return torch.tensor([len(groups) / (len(sizes) * sizes[name]) for name in groups])
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb10.group_weights(group_weights)

# %% [markdown]
# Now side by side, each trained on for the same number of steps. The figures at hand are those of the
# old world whose labels can be trusted: where hair and armour disagree, the list of uniforms was
# copied, so these few are set aside. More of the same; plain augmentation (mirrored, lighter or
# darker); weights by group; its own counterfactuals; and two ideals that cost something else:
# the exceptions, labelled once more by hand, and figures rendered anew with the other top.

# %%
edits = cfx.by_profile(profile, ci=12, cpu=32, gpu=400)  # figures that get a counterfactual
agree = np.isin(train_groups, ["gray, white", "red, metal"])
at_hand, apart = train[agree], train[~agree]
label, label_apart = train_red[torch.tensor(agree)], train_red[torch.tensor(~agree)]
some = at_hand[:edits]
target = 1 - cfx.predict_logits(shortcut, some.images).argmax(1)
edited = cfx.diffusion_counterfactual(
    space, shortcut, some.images, target, conditions=TOP, seed=seed
)
hair = torch.tensor(cfx.metrics.changed_factors(edited, judge)["hair"].tolist())
keep = edited.flipped & ~hair
tops = ["white" if top == "metal" else "metal" for top in some.factors["top"]]
anew = torch.cat([cfx.data.intervene(some[[i]], top=t).images for i, t in enumerate(tops)])
light = 0.2 * torch.rand(edits, 1, 1, 1, generator=torch.Generator().manual_seed(seed)) - 0.1
mirrored = (some.images.flip(3) + light).clamp(0, 1)
new = {
    "more of the same": (at_hand.images[:0], label[:0]),
    "plain augmentation": (mirrored, label[:edits]),
    "weights by group": (at_hand.images[:0], label[:0]),
    "its counterfactuals": (edited.image[keep], label[:edits][keep]),
    "exceptions, by hand": (apart.images[:edits], label_apart[:edits]),
    "rendered anew": (anew, label[:edits]),
}
repaired = {"before": shortcut}
for name, (images, theirs) in new.items():
    kinds = ["old"] * len(at_hand) + ["new"] * len(images)  # both count alike, however many
    if name == "weights by group":
        kinds = list(train_groups[agree])
    repaired[name] = cfx.fine_tune(
        shortcut,
        torch.cat([at_hand.images, images]),
        torch.cat([label, theirs]),
        sample_weight=cfx.group_weights(kinds),
        steps=cfx.by_profile(profile, ci=40, cpu=60, gpu=600),
        seed=seed,
    )

# %%
rows = {}
for name, net in repaired.items():
    by_group = cfx.metrics.accuracy_by_group(net, fair.images, red, groups)
    in_old = cfx.metrics.accuracy_by_group(net, old.images, old_red, old_groups)
    rows[name] = {
        "new figures": len(new[name][0]) if name in new else 0,
        "worst group, fair": by_group["accuracy"].min(),
        "mean": by_group["accuracy"].min(),
        "low": by_group.iloc[0]["low"],
        "high": by_group.iloc[0]["high"],
        "all, fair": by_group["accuracy"]["all"],
        "all, old world": in_old["accuracy"]["all"],
    }
repair = pd.DataFrame(rows).T
display(repair.drop(columns=["mean", "low", "high"]).round(3))
cfx.bars(
    repair[["mean", "low", "high"]],
    xlabel="accuracy of the worst group in the fair world",
    alt="Accuracy of the worst group in the fair world, by way of repair: "
    + "; ".join(f"{n} {v:.2f}" for n, v in repair["mean"].items()),
)

# %% [markdown]
# Read it against the rivals. More of the same, and varying what was never the matter, can teach
# nothing about the top: in the figures at hand it always goes with the hair. Weights can't either,
# for the groups that go wrong are **empty** there, and an empty group can't be weighted up. With a few
# exceptions labelled by hand the shortcut goes as well, and cheaper than by any counterfactual: if you
# can get them, do. Counterfactuals pay where there are none. Nobody had to list tops beforehand, though
# somebody had to *suspect* them, and to say that hair is what counts. Look also at the old world: a
# repair could cost accuracy where the shortcut was right. Here its exceptions were errors before, too.
#
# ## Faces: who gets the wrong answer?
#
# Now real photographs, 64×64 (FairFace). The people are real, so first, in plain words:
#
# - **smile** is here the opinion of a network on the large picture, not of anybody who was there
# - **gender** and **age group** are impressions of crowd workers, in the words of the data set: they
#   say how somebody is *perceived*, not who somebody is
# - nobody is identified, and nothing is said about any single person
#
# `faces/smile` was trained to copy that opinion. For whom does it differ? One accuracy hides that
# there are two kinds of errors: a smile that is **missed**, and a smile that is **invented**.
#
# ### Exercise 5 · Two kinds of errors
#
# *Medium, 6 minutes.* Of the images labelled 1, the share called 0; of those labelled 0, the share
# called 1. NaN where nobody has the label.
#
# <details><summary>Hint 1</summary>
#
# Choose rows by the *label*, then look at what is said of them.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `predicted[labels == 1]` are the answers where there should be a 1.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Compare, make it float, take the mean: of nothing it is NaN by itself.
#
# </details>


# %% tags=["exercise"]
def error_rates(labels: torch.Tensor, predicted: torch.Tensor) -> tuple[float, float]:
    """Share of missed ones, and share of invented ones."""
    ### BEGIN SOLUTION
    missed = (predicted[labels == 1] == 0).float().mean()
    invented = (predicted[labels == 0] == 1).float().mean()
    return float(missed), float(invented)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb10.error_rates(error_rates)

# %%
smile = cfx.load("faces/smile", device="cpu")
faces = cfx.data.faces("test")[: cfx.by_profile(profile, ci=200, cpu=1000, gpu=3380)]
called = cfx.predict_logits(smile, faces.images).argmax(1)


def error_rows(column):
    """Accuracy, and both kinds of errors with their intervals, by group."""
    for group in sorted(faces.factors[column].unique()):
        mine = torch.tensor((faces.factors[column] == group).tolist())
        row = {"faces": int(mine.sum()), "labelled smile": fraction(faces.labels[mine])}
        row["called smile"] = fraction(called[mine])
        row["accuracy"] = fraction((called == faces.labels)[mine])
        for kind, label in (("missed", 1), ("invented", 0)):
            among = called[mine & (faces.labels == label)] != label
            row[kind] = fraction(among)
            row[f"{kind} low"], row[f"{kind} high"] = cfx.wilson_interval(
                int(among.sum()), len(among)
            )
        yield f"perceived {column.replace('_', ' ')}: {group}", row


by_face = pd.DataFrame(dict(r for c in ("gender", "age_group") for r in error_rows(c))).T
display(by_face.round(2))
cfx.bars(
    by_face[["missed", "missed low", "missed high"]].set_axis(["mean", "low", "high"], axis=1),
    xlabel="share of labelled smiles that are missed",
    alt="Share of labelled smiles that the classifier misses, with intervals: "
    + "; ".join(f"{n} {v:.2f}" for n, v in by_face["missed"].items()),
)

# %% [markdown]
# Compare the columns. Accuracies can be alike while the two kinds of errors are not: who is smiling
# in the labels less often, is smiling in the answers less often still, or the other way round. Which
# kind matters depends on what the answer is used for, and that is no question of statistics. Where
# intervals overlap widely, this many faces can't tell. And remember whose opinion the label is: if
# the labelling network is itself worse for a group, this table measures both together.
#
# ## What would have to look different?
#
# A few errors, each run towards its label. The judge is the labelling network, at this size; another
# network reads perceived gender, before and after: is more than a smile changed?

# %%
world = cfx.load("faces/ldm", device="cpu")
readers = {
    "smile": cfx.load("faces/judge", device="cpu"),
    "gender": cfx.load("faces/gender", device="cpu"),
}
number = cfx.by_profile(profile, ci=2, cpu=5, gpu=60)
guidances = {
    "consensus": {},
    "no consensus": {"guidance": "classifier"},
    "noise alone": {"guidance": "none", **once},
}
mistaken = faces[(called != faces.labels).nonzero()[:number, 0].numpy()]
looked = {
    way: cfx.explain_errors(
        world, smile, mistaken.images, mistaken.labels, seed=seed, **options
    ).counterfactuals
    for way, options in guidances.items()
}
cfx.show(looked["consensus"], max_images=6, judge=readers["smile"], class_names=smile.class_names)

# %%
rows = {}
for way, cf in looked.items():
    seen = {
        name: [cfx.predict_logits(net, x).argmax(1) for x in (cf.reconstruction, cf.image)]
        for name, net in readers.items()
    }
    rows[way] = {
        "errors": len(cf),
        "flipped": fraction(cf.flipped),
        "judge reads the label: reconstruction": fraction(seen["smile"][0] == cf.target),
        "judge reads the label: after": fraction(seen["smile"][1] == cf.target),
        "reading of gender changed": fraction(seen["gender"][0] != seen["gender"][1]),
        "mean change": (cf.image - cf.reconstruction).abs().mean().item(),
    }
pd.DataFrame(rows).T.round(3)

# %% [markdown]
# Mind how few these are: they are pictures to think about, not shares to quote. The judge often agrees
# with the label *before* anything is changed (it is the labelling network, at a smaller size), so
# its agreement afterwards proves little; compare with the column before it and with noise alone. If the
# reading of gender changes with the smile, either the classifier mixes the two, or the diffusion
# model does, or the reader. Can the model be suspected? Tell it "smile" or "no smile", and nothing
# else, and read perceived gender off its samples:

# %%
each = cfx.by_profile(profile, ci=6, cpu=16, gpu=500)
real = cfx.data.faces("validation")
pictures = {}
for condition in ("smile", "no smile", None):
    code = world.sample([condition] * each, steps=10, seed=seed)
    pictures[f"samples told {condition or 'nothing'}"] = world.decode(code)
for label, name in enumerate(smile.class_names):
    pictures[f"photographs labelled {name}"] = real.images[real.labels == label]
rows = {}
for name, images in pictures.items():
    female = int((cfx.predict_logits(readers["gender"], images).argmax(1) == 1).sum())
    low, high = cfx.wilson_interval(female, len(images))
    rows[name] = {"n": len(images), "mean": female / len(images), "low": low, "high": high}
gendered = pd.DataFrame(rows).T
display(gendered.round(2))
bars = cfx.bars(
    gendered[["mean", "low", "high"]],
    xlabel="share read as female by faces/gender",
    alt="Share read as female by the gender reader, with intervals: "
    + "; ".join(f"{n} {v:.2f}" for n, v in gendered["mean"].items()),
)
display(bars)
shown = torch.cat([images[:6] for name, images in pictures.items() if "samples" in name])
cfx.gallery(
    shown,
    n_columns=6,
    row_labels=[name for name in pictures if "samples" in name],
    alt="Faces of nobody, made by the model: told smile, told no smile, told nothing, one row each.",
)

# %% [markdown]
# In the labels smiling and perceived gender go together (the column "labelled smile" above). A model
# of these pictures learns that as well. What it adds when told "smile" may then carry more than a
# smile, and consensus with such a model lets it through. How strongly, the three bars for samples
# say, beside those for photographs, with everything that the reader itself gets wrong in both.
#
# ## Limits
#
# - **No statement about persons.** Smile, gender and age are here readings of networks and impressions
#   of others. A table of errors by perceived group is about the classifier on these labels. It
#   doesn't say who is happy, nor who belongs where, and it must not be used to tell.
# - **Not a certificate of fairness.** Equal accuracies can hide unequal errors; equal errors on these
#   groups can hide unequal ones on others that nobody labelled, or on their crossings; and whether
#   equality of some rate is what justice asks for is not computed.
# - **Not a cause.** "With this change it would have been right" is a fact about classifier, diffusion
#   model and seed together. Only in the world of figures could we see whether it names the reason.
# - **Only what the model can draw.** What it was never told, or draws badly, is never found. An error
#   that isn't flipped is not explained away.
# - **A repair is local.** The worst group among those we listed became better. Others weren't asked.
# - Intervals cover the draw of images, not the noise of the labels.
#
# ## Summary
#
# Look at the worst group, not at the mean. Run errors towards the truth, several ways, with noise
# alone beside them; what the model is told is your hypothesis. Counterfactuals with their old labels
# can repair a shortcut, if somebody knows the cause; compare with weights. On faces, say whose
# opinion the labels are before you say anything else.
#
# **Questions to take along.** What would you tell the model if you had no suspicion at all? When
# would the repaired classifier be worse than the old one? Who should decide which of the two kinds of
# errors on faces weighs more?
#
# **References.** K. Farid et al., *Latent diffusion counterfactual explanations*, arXiv 2310.06668 ·
# S. Sagawa et al., *Distributionally robust neural networks for group shifts*, ICLR 2020 · M. Hardt, E.
# Price, N. Srebro, *Equality of opportunity in supervised learning*, 2016 · K. Kärkkäinen, J. Joo,
# *FairFace*, WACV 2021 (pictures CC BY 4.0, modified). Figures: sprites of the Liberated Pixel Cup, CC
# BY-SA 3.0 / GPL 3.0; artists in `data/sprites/LPC-AUTHORS.txt` and `ATTRIBUTION.md`.
