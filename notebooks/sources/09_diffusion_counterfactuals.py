# %% [markdown]
# # 09 · Counterfactuals by diffusion: guidance, and when to listen to a classifier
#
# **About 75 minutes · two CPU cores are enough · nothing is downloaded · [glossary](../docs/glossary.md)**
#
# A conditional diffusion model can be told what to draw. Noise an image a little, denoise it, and
# steer on the way: out comes the same image, changed. Who steers? A classifier alone finds changes
# that only it can see. *Latent Diffusion Counterfactual Explanations* (Farid et al., 2023) ask the
# model, too: it has its own idea of the target, and the classifier is listened to only where the two
# **agree**. You write the parts, and then measure what agreement is worth.
#
# ## What you will be able to do
#
# - **write** classifier-free guidance and consensus guidance as wrappers around a denoiser
# - **explain** why the slope of a classifier misleads in a space that can draw nearly anything
# - **compare** how many positions agree with how many would by chance
# - **compare** consensus with four baselines, with the help of an independent judge
# - **find** the least noise that flips an image, and leave all other pixels exactly as they were
# - **test** explanations where the truth is known, and talk about faces with care
#
# Needed before: `02_counterfactual_attacks`, `06_diffusion_autoencoders`.

# %%
import pandas as pd
import torch
from IPython.display import display
from matplotlib.figure import Figure

import cfxnb as cfx
from cfxnb.core.ddim import add_noise, denoise, even_schedule, predict_x0
from cfxnb.core.decisions import log_odds
from cfxnb.core.tensors import noise_like
from cfxnb.diffusion.composite import composite_edit, edit_mask
from cfxnb.diffusion.consensus import angles, chance_level, consensus, match_norm

cfx.doctor()

# %% tags=["parameters"]
profile: str = "cpu"  # ci, cpu or gpu: how much is computed
seed: int = 0  # of all noise that is drawn

# %%
count = cfx.by_profile(profile, ci=5, cpu=10, gpu=200)  # images
few = cfx.by_profile(profile, ci=3, cpu=4, gpu=50)  # images where each costs more
space = cfx.load("digits/ldm", device="cpu")
classifier, judge = (cfx.load(f"digits/{n}", device="cpu") for n in ("classifier", "judge"))
nearest_digit = torch.tensor(
    [6, 7, 7, 5, 9, 3, 0, 9, 3, 4]
)  # for each digit one that looks like it
test = cfx.data.digits("test")
images, target = test.images[:count], nearest_digit[test.labels[:count]]


def fraction(hits: torch.Tensor) -> float:
    return hits.double().mean().item()


def sees(f, pictures: torch.Tensor, wanted: torch.Tensor) -> float:
    """Share of pictures in which a classifier sees what is wanted."""
    return fraction(cfx.predict_logits(f, pictures).argmax(1) == wanted)


print(f"a digit of {images[0].numel()} pixels has a code of {space.mean.numel()} numbers:")
print(f"{space.mean.shape[0]} at each of {space.mean[0].numel()} positions")

# %% [markdown]
# ## Told a class, or told nothing
#
# An autoencoder turns an image into a small field of vectors. On such fields, not on pixels, a network
# was trained to see noise: `space.predict_noise(z, t, cond)` is the noise in noisy codes z at times t. `cond`
# comes from `space.encode_condition([3, None])`: a class, or nothing. It was trained with both, so one network
# knows digits in general and each kind of digit. The *difference* of its two answers is what being
# told changes. **Classifier-free guidance** (Ho & Salimans, 2021) exaggerates that difference: at
# scale 0 the answer is the one told nothing, at 1 the one told the class, and above 1 beyond it.
# `space.sample` does this inside a sampler as in `06_diffusion_autoencoders`; after the exercise, each
# column begins with the same noise, and is told its digit at three scales.
#
# ### Exercise 1 · Classifier-free guidance
#
# *Easy, 5 minutes.* Guidance is a function that takes a denoiser and returns another one. Return a
# function of `z` and `t`.
#
# <details><summary>Hint 1</summary>
#
# Define a function inside the function, and return it without calling it.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Inside, ask `eps` twice: once with `uncond`, once with `cond`.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Start at the answer to `uncond`, and add `scale` times the way from there to the other one.
#
# </details>


# %% tags=["exercise"]
def classifier_free_guidance(eps, cond: torch.Tensor, uncond: torch.Tensor, scale: float):
    """A denoiser (z, t) -> noise, made of eps(z, t, condition)."""
    ### BEGIN SOLUTION

    def denoiser(z, t):
        eps_uncond = eps(z, t, uncond)
        return eps_uncond + scale * (eps(z, t, cond) - eps_uncond)

    return denoiser
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb09.classifier_free_guidance(classifier_free_guidance)

# %%
wanted = torch.arange(10).repeat(cfx.by_profile(profile, ci=1, cpu=2, gpu=20))
scales, drawn = [0.0, 1.0, 3.0], {}
for scale in scales:
    codes = space.sample(wanted.tolist(), guidance_scale=scale, steps=20, seed=seed)
    drawn[scale] = space.decode(codes)
display(
    pd.DataFrame(
        {
            f"scale {scale:.0f}": {
                "judge reads the digit told": sees(judge, x, wanted),
                "judge's confidence": cfx.predict_logits(judge, x).softmax(1).amax(1).mean().item(),
            }
            for scale, x in drawn.items()
        }
    ).T.round(2)
)
cfx.gallery(
    torch.cat([x[:10] for x in drawn.values()]),
    n_columns=10,
    row_labels=[f"scale {scale:.0f}" for scale in scales],
    alt="Three rows of ten digits that never were, told 0 to 9 at scales 0, 1 and 3. In the first "
    "row nothing is told, and any digit appears; in the others mostly the digit told.",
)

# %% [markdown]
# ## Noise a little, denoise, tell another class
#
# A counterfactual starts at an image, not at noise. So noise its code only a part of the way; this
# share of all times is the **strength**. Then denoise. First row: nothing told. Second row: the target
# told, twice as loud (`cfx.checks.nb09.classifier_free_denoiser` is the exercise's solution, whatever became of yours).
# With little noise everything stays; with much, nothing of the image is left but the class. (`alpha_bar`,
# here and below, is the share of the clean code's variance that is left at a time: how clean it still is.)


# %%
def noise_and_denoise(z, noise, strength: torch.Tensor, denoiser, steps: int = 10):
    """Codes (b, ...) after ``strength`` (b,) of all times; denoiser(z, times, alpha_bar) -> noise."""
    schedule = even_schedule(space.alphas_cumprod, strength, steps)
    with torch.no_grad():
        return denoise(denoiser, add_noise(z, noise, schedule.start), schedule)


code = space.encode(images).z
noise = noise_like(code, seed)
shown = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
same = [x[:1].expand(len(shown), -1, -1, -1) for x in (code, noise)]
rows = []
for condition in (None, int(target[0])):
    cond, uncond = (space.encode_condition([c] * len(shown)) for c in (condition, None))
    plain = cfx.checks.nb09.classifier_free_denoiser(space.predict_noise, cond, uncond, 2.0)
    rows.append(space.decode(cfx.Code(noise_and_denoise(*same, shown, plain))))
reads = [cfx.predict_logits(classifier, x).argmax(1).tolist() for x in rows]
cfx.gallery(
    torch.cat([images[:1], rows[0], images[:1], rows[1]]),
    [
        f"{name}\nread as {r}"
        for row in reads
        for name, r in zip(
            ["original", *(f"strength {s:.0%}" for s in shown.tolist())],
            [int(test.labels[0]), *row],
            strict=True,
        )
    ],
    n_columns=1 + len(shown),
    alt=f"One digit after more and more noise and denoising. Nothing told: read as {reads[0]}; "
    f"told {int(target[0])}: read as {reads[1]}.",
)

# %% [markdown]
# Telling the target makes images of the target. But nobody asked the **classifier**: whichever network
# we want to explain, the same images come out. They are no explanation of it, however good they look.
#
# ## The slope of a classifier alone
#
# So take the classifier's slope: which change of the code raises the target fastest? In
# `02_counterfactual_attacks` this worked, in a space of few numbers where everything that can be drawn
# is nearly a digit. Codes of diffusion models are larger: they have to hold every detail. Follow the
# bare slope in both spaces, and ask the same judge. (Bare: the attack of notebook 02 also stays near to
# where the codes of real images lie; that is left out, and shown in a row of its own.)

# %%
compare = cfx.predict_then_run(
    "In which space will the judge see the target in fewer of the flipped images?",
    ["in the small one", "in the large one", "no clear difference"],
)

# %%
number = cfx.by_profile(profile, ci=10, cpu=40, gpu=500)
many, goal = test.images[:number], nearest_digit[test.labels[:number]]
spaces = {"small: VAE": cfx.load("digits/vae", device="cpu"), "large: diffusion": space}
attacked = {n: cfx.latent_attack(s, classifier, many, goal, prior=0) for n, s in spaces.items()}
attacked["large: near real codes"] = cfx.latent_attack(space, classifier, many, goal)
attacked["large: random change"] = cfx.random_change(
    space, classifier, attacked["large: diffusion"]
)
attacked["pixels"] = cfx.pixel_attack(classifier, many, goal)
table = cfx.report(attacked, judge=judge)[["flip rate", "judge agrees", "L2 edit"]]
sizes = [s.mean.numel() for s in spaces.values()]
table.insert(0, "numbers a code", [*sizes, sizes[1], sizes[1], many[0].numel()])
small, large = (table.loc[name, "judge agrees"] for name in spaces)
close = abs(small - large) < 0.1
answer = "no clear difference" if close else f"in the {'small' if small < large else 'large'} one"
print(compare(answer))
display(table.round(2))
cfx.gallery(
    torch.cat([many[:8], *(attacked[n].image[:8] for n in (*spaces, "pixels"))]),
    n_columns=8,
    row_labels=["original", *spaces, "pixels"],
    alt="Eight digits, and below them what flips the classifier: by the VAE, whole other digits; by "
    "the large space, broken strokes and smudges; by pixels, the same digits with faint noise.",
)

# %% [markdown]
# The more a space can draw, the more of what a slope finds means nothing to anybody else. Staying near
# real codes helps: that is some knowledge of what digits look like. But the *autoencoder* of a diffusion
# model can draw nearly anything. What knows digits is the *denoiser*: ask it.
#
# ## Two directions at each position
#
# At a noisy code there are two directions, each a field of small vectors, both as changes of the noise:
#
# - the **implicit classifier**: noise when told the target, minus noise when told nothing
# - the **classifier's wish**: minus the slope of the target's log odds, taken at the guess of the
#   clean image (to get there, noise has to *shrink* that way)
#
# **Consensus**: keep the wish at a position if it lies in a cone around the implicit classifier's
# vector, within so many degrees; drop it elsewhere.
#
# ### Exercise 2 · The cone
#
# *Medium, 8 minutes.* `implicit` and `direction` are (b, c, h, w): the c channels of a position are one
# vector. Return a mask of bools (b, h, w): is their angle at most `cone_angle` (0 to 180)? A vector of
# zeros has no direction, and agrees with nothing.
#
# <details><summary>Hint 1</summary>
#
# The cosine of an angle is the product of two vectors, summed over the channels, over both
# lengths.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Rounding takes a cosine beyond 1, where `acos` is NaN: clamp first. And `acos` gives radians.
#
# </details>
# <details><summary>Hint 3</summary>
#
# 0 / 0 is NaN, and NaN is not smaller than anything: ask for "at most", not for "not above".
# `torch.cosine_similarity` makes 0 of it, which is 90°.
#
# </details>


# %% tags=["exercise"]
def cone_mask(implicit: torch.Tensor, direction: torch.Tensor, cone_angle: float) -> torch.Tensor:
    """Where two fields of vectors lie within a cone, bool (b, h, w)."""
    ### BEGIN SOLUTION
    lengths = implicit.norm(dim=1) * direction.norm(dim=1)
    cosine = (implicit * direction).sum(1) / lengths
    return torch.rad2deg(cosine.clamp(-1, 1).acos()) <= cone_angle
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb09.cone_mask(cone_mask)

# %% [markdown]
# How many agree? Vectors of a few numbers agree by chance rather often. The share of a sphere that a
# cone cuts out is the **chance level**, and every share of kept positions should be seen beside it.


# %%
def two_directions(z, times, alpha_bar, wanted):
    """Noise if nothing is told, the guess of the clean code, and both directions as noise."""
    cond, uncond = space.encode_condition(wanted.tolist()), space.encode_condition([None] * len(z))
    with torch.enable_grad():
        point = z.detach().requires_grad_()
        eps_uncond = space.predict_noise(point, times, uncond)
        guess = predict_x0(point, eps_uncond, alpha_bar)
        odds = log_odds(classifier(space.decode(cfx.Code(guess), clamp=False)), wanted)
        direction = -torch.autograd.grad(odds.sum(), point)[0]
    eps_uncond = eps_uncond.detach()
    return (
        eps_uncond,
        guess.detach(),
        space.predict_noise(z, times, cond).detach() - eps_uncond,
        direction,
    )


half = even_schedule(space.alphas_cumprod, torch.full((count,), 0.5), 10)
noisy = add_noise(code, noise, half.start)
eps_uncond, guess, implicit, direction = two_directions(
    noisy, half.times[0], half.alpha_bar[0], target
)
theta = angles(implicit, direction)  # degrees, (b, h, w)
cones = [15, 30, 45, 60, 90, 120, 150]
channels = code.shape[1]
kept = {
    "the classifier's wish": [fraction(theta <= d) for d in cones],
    "a random field": [
        fraction(angles(implicit, noise_like(direction, seed + 1)) <= d) for d in cones
    ],
    "chance level": [chance_level(channels, d) for d in cones],
}
cfx.curves(
    cones,
    kept,
    xlabel="half the opening of the cone, degrees",
    ylabel="share of positions kept",
    alt="Share of positions within the cone over its opening. At 45 degrees: "
    + ", ".join(f"{name} {values[2]:.2f}" for name, values in kept.items()) + ".",
)  # fmt: skip

# %% [markdown]
# ## A mask that concentrates
#
# Slopes have no natural length, so guidance needs a norm. The paper takes the implicit classifier's: of
# each image's whole field, *after* the mask. Think about what that means before you go on: is a
# classifier that is mostly masked a quiet one?
#
# ### Exercise 3 · Keep, and re-normalise
#
# *Medium, 7 minutes.* Set `direction` to zero where `keep` is False; then scale each image's whole field to
# the norm of the same image in `like`. Where nothing is kept, the field stays zero (no NaN).
#
# <details><summary>Hint 1</summary>
#
# `keep` is (b, h, w), `direction` has channels: `keep[:, None]`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# One norm an image: `.flatten(1).norm(dim=1)`, and `.view(-1, 1, 1, 1)` to multiply fields by it.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Divide by the norm of what is left, not of all of `direction`; a `clamp_min` with a tiny number
# saves you from 0 / 0.
#
# </details>


# %% tags=["exercise"]
def mask_and_rescale(
    direction: torch.Tensor, keep: torch.Tensor, like: torch.Tensor
) -> torch.Tensor:
    """What is kept of each (b, c, h, w), with the norm of ``like``."""
    ### BEGIN SOLUTION
    field = torch.where(keep[:, None], direction, 0.0)
    length = field.flatten(1).norm(dim=1).clamp_min(1e-22)
    factor = like.flatten(1).norm(dim=1) / length
    return field * factor.view(-1, 1, 1, 1)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb09.mask_and_rescale(mask_and_rescale)

# %%
table = {}
for cone_angle in (180, 90, 60, 45, 30):
    left_over, keep = consensus(implicit, direction, cone_angle)
    whole, part = match_norm(direction, implicit), match_norm(left_over, implicit)
    some = keep.flatten(1).any(1)
    table[cone_angle] = {
        "positions kept": fraction(keep),
        "norm of the whole field": (part[some].norm() / implicit[some].norm()).item(),
        "a kept vector grows by": (direction[some].flatten(1).norm(dim=1)
                                   / left_over[some].flatten(1).norm(dim=1)).mean().item(),
        "cosine with the implicit classifier": torch.cosine_similarity(
            part[some].flatten(1), implicit[some].flatten(1)
        ).mean().item(),
    }  # fmt: skip
print(
    f"without any cone, cosine: {torch.cosine_similarity(whole.flatten(1), implicit.flatten(1)).mean():.2f}"
)
pd.DataFrame(table).T.rename_axis("cone angle").round(2)

# %% [markdown]
# The mask does **not** weaken the classifier. What it takes away at one place it adds at the others.
# Draw it: in the middle each line is a position, its length that of the wish, its angle that to the
# implicit classifier (a half circle, since an angle has no sign). Move the cone. At 180° all is kept.


# %%
def draw_cone(cone_angle: int, image: int) -> cfx.Picture:
    keep, turn = theta[image] <= cone_angle, torch.deg2rad(theta[image]).flatten()
    length = direction[image].norm(dim=0).flatten()
    x, y = length * turn.cos() / length.max(), length * turn.sin() / length.max()
    figure = Figure(figsize=(8.4, 2.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 2, 1])
    wide = keep.float()[None, None]
    wide = torch.nn.functional.interpolate(wide, images.shape[2:])[0, 0]
    picture = space.decode(cfx.Code(guess[image : image + 1]))[0, 0]
    left.imshow(images[image, 0], cmap="gray")
    right.imshow(picture, cmap="gray")
    right.imshow(torch.ones_like(wide), cmap="Wistia", vmin=0, vmax=1, alpha=0.6 * wide)
    arc = torch.deg2rad(torch.linspace(0, cone_angle, 60))
    middle.fill([0, *arc.cos().tolist()], [0, *arc.sin().tolist()], color="#E69F00", alpha=0.2)
    for i, inside in enumerate(keep.flatten().tolist()):
        colour, width = ("#0072B2", 1.6) if inside else ("#999999", 0.7)
        middle.plot([0, x[i]], [0, y[i]], color=colour, lw=width)
    middle.plot([0, 1.05], [0, 0], color="black", lw=1.2)
    middle.set(xlim=(-1.05, 1.08), ylim=(-0.05, 1.05), aspect="equal", xticks=[], yticks=[])
    middle.set_title("the model's direction points to the right", fontsize=9)
    left.set_title("original", fontsize=9)
    right.set_title("guess, kept places", fontsize=9)
    for place in (left, right):
        place.set(xticks=[], yticks=[])
    by_chance = chance_level(channels, cone_angle)
    figure.suptitle(
        f"{cone_angle}°: kept {fraction(keep):.0%}, by chance {by_chance:.0%}", fontsize=10
    )
    return cfx.as_picture(
        figure,
        f"Image {image}, cone of {cone_angle} degrees: of {keep.numel()} positions {int(keep.sum())} "
        f"are kept; {by_chance * keep.numel():.0f} would be by chance.",
    )


cfx.explore(draw_cone, cone_angle=(30, 180, 15), image=(0, count - 1))

# %% [markdown]
# ## Guidance is a wrapper
#
# Now the whole method: at each step the noise when nothing is told, plus `classifier_scale` times the masked wish,
# plus `distance_scale` times a way back to the original's code, each with the implicit classifier's norm. (6.9
# and 0.9 are the paper's numbers for its runs on ImageNet: a scale of 3, times 2.3 and 0.3.) Note
# what is *not* added: the implicit classifier itself. It only votes.


# %%
def guided(original, wanted, cone_angle=45.0, classifier_scale=6.9, distance_scale=0.9):
    """A denoiser (z, times, alpha_bar) -> noise, guided where classifier and model agree."""

    def denoiser(z, times, alpha_bar):
        eps_uncond, guess, implicit, direction = two_directions(z, times, alpha_bar, wanted)
        direction, _ = consensus(implicit, direction, cone_angle)
        back = guess - original
        return (
            eps_uncond
            + classifier_scale * match_norm(direction, implicit)
            + distance_scale * match_norm(back, implicit)
        )

    return denoiser


space.autoencoder.precision = "float32"  # to compare: rounding would turn masks at their edges
begin = space.encode(images[:few]).z
mine = noise_and_denoise(
    begin, noise[:few], torch.full((few,), 0.5), guided(begin, target[:few]), steps=8
)
single = {
    "cone_angle": 45.0,
    "classifier_scale": 6.9,
    "distance_scale": 0.9,
    "strength": 0.5,
    "steps": 8,
    "max_attempts": 1,
}
# Nothing but the equations above: noise drawn, no pauses; the first three are defaults, spelt out.
exact = {
    "guidance_scale": 0.0,
    "distance_space": "code",
    "backprop_diffusion": True,
    "pause_when_reached": False,
    "noise": "random",
}
theirs = cfx.diffusion_counterfactual(
    space, classifier, images[:few], target[:few], **single, **exact, seed=seed
)
space.autoencoder.precision = None  # as before: what is fast on this machine
cfx.show(theirs, judge=judge)

# %%
# NBVAL_CHECK_OUTPUT
distance = (mine - theirs.code_after.z)[theirs.eligible].abs().max().item()
print("a few lines by hand give what the package gives:", distance < 1e-3)
print(
    f"chance level of vectors of {channels} numbers at 45 degrees: {chance_level(channels, 45):.1%}"
)

# %% [markdown]
# ## The trace
#
# By default the package does more. It doesn't draw noise, but *finds* the very noise that an image comes
# from, by inversion as in `06_diffusion_autoencoders`: without guidance, nothing changes. It pauses where
# the guess already shows the target, and it tries a few strengths. Every result tells its way,
# such as the share of positions kept at each step. Is it more than chance?

# %%
results = {"consensus": cfx.diffusion_counterfactual(space, classifier, images, target, seed=seed)}
trace = results["consensus"].trace
steps = range(1, trace["kept_fraction"].shape[1] + 1)
by_step = {
    "positions kept": trace["kept_fraction"].nanmean(0).tolist(),
    "chance level": trace["chance_fraction"].mean().expand(len(steps)).tolist(),
    "p(target) of the guess": trace["probability"].nanmean(0).tolist(),
}
display(
    cfx.curves(
        steps, by_step, xlabel="step, from noise to image", ylabel="share, probability",
        alt="Mean share of kept positions over the steps, beside the chance level, and the "
        "probability of the target. First step: "
        + ", ".join(f"{n} {v[0]:.2f}" for n, v in by_step.items()) + ".",
    )
)  # fmt: skip
masks = trace["masks"][:2].float().flatten(0, 1)[:, None]  # (images, steps, h, w)
cfx.gallery(
    masks,
    [f"step {s}" for s in steps] * len(trace["masks"][:2]),
    n_columns=len(steps),
    alt="Kept positions of two images, one row each, step by step, white: patches that change from "
    "step to step; black where guidance paused.",
)

# %% [markdown]
# ## Is it the consensus?
#
# Five others, on the same images:
#
# - **consensus, drawn**: with drawn noise, as published
# - **classifier**: no cone at all (180°)
# - **random**: at each step a random mask with as many positions as agree
# - **told only**: classifier-free guidance towards the target; the classifier is never asked
# - **none**: drawn noise and denoise, without any guidance
#
# **COUT** pastes the changed pixels into the original, the most changed first, and is high (at most 1) if
# few of them already do it; `evaluations` are passes of networks for each flip. L2 and COUT are means over
# all images, flipped or not. The column `flipped and confirmed` is what counts in the end: of all images, those that flip
# the classifier *and* in which the judge sees the target.

# %%
variants = {"consensus, drawn": {"noise": "random"}, "classifier": {"guidance": "classifier"},
       "random_mask": {"guidance": "random_mask"}, "told only": {"guidance": "classifier_free", "guidance_scale": 3.0},
       "none": {"guidance": "none", "noise": "random"}}  # fmt: skip
for name, options in variants.items():
    results[name] = cfx.diffusion_counterfactual(
        space, classifier, images, target, seed=seed, **options
    )
table = cfx.report(results, classifier=classifier, judge=judge)
columns = ["flip rate", "judge agrees", "L2 edit", "COUT", "generator passes per flip"]
table = table[columns].assign(
    strength=[r.trace["strength"].nanmean().item() for r in results.values()]
)
for name, cf in results.items():
    among = cf.eligible
    both = cf.flipped & (cfx.predict_logits(judge, cf.image).argmax(1) == cf.target)
    ends = cfx.wilson_interval(int(both.sum()), int(among.sum()))
    table.loc[name, "flipped and confirmed"] = fraction(both[among])
    table.loc[name, "interval"] = "{:.2f} to {:.2f}".format(*ends)
display(table.round(2))
part = min(count, 10)
cfx.gallery(
    torch.cat([images[:part], *(cf.image[:part] for cf in results.values())]),
    n_columns=part,
    row_labels=["original", *results],
    alt="Digits in the first row; below, one row each: consensus, the same with drawn noise, the "
    "classifier alone, a random mask, told only, and noise alone.",
)

# %% [markdown]
# Read the intervals first: with so few images, neighbours in this table can't be told apart. Then note
# who wins what. *Told only* can look best of all by the judge, and it says nothing about the classifier.
#
# ## As little noise as possible
#
# Less noise, smaller edit. But with too little the classifier can't be flipped. So the package looks
# for a low strength, image by image. *Flipped* means p(target) of at least 0.99 here, the
# default `confidence`: a picture may be read as the target before, and still not count.
#
# ### Exercise 4 · Bisection
#
# *Medium, 8 minutes.* `flips(strength)` tries once, and is expensive. Begin at `first`. After a success
# go half of the way down to the highest strength that failed (0 if none did). After a failure go half
# of the way up to the lowest that flipped (1 if none did). After `max_attempts` calls return the lowest
# strength that flipped, or infinity.
#
# <details><summary>Hint 1</summary>
#
# Remember two numbers: `low`, the highest failure so far, and `high`, the lowest success so far.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `high` begins at `float("inf")`; for the middle, take 1 in its place as long as it is.
#
# </details>
# <details><summary>Hint 3</summary>
#
# In the loop: one call, one of the two numbers becomes the strength just tried, then the new
# strength is their mean.
#
# </details>


# %% tags=["exercise"]
def min_strength(flips, first: float, max_attempts: int) -> float:
    """The lowest strength that was seen to flip."""
    ### BEGIN SOLUTION
    low, high, strength = 0.0, float("inf"), first
    for _ in range(max_attempts):
        if flips(strength):
            high = strength
        else:
            low = strength
        strength = (low + min(high, 1.0)) / 2
    return high
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb09.min_strength(min_strength)

# %%
grid = [0.2, 0.4, 0.6, 0.8, 0.95]
ones = [
    cfx.diffusion_counterfactual(
        space, classifier, images[:few], target[:few], strength=s, max_attempts=1, seed=seed
    )
    for s in grid
]
names = [f"strength {s:.0%}" for s in grid]
found = {**dict(zip(names, ones, strict=True)), "search": results["consensus"][:few]}
table = cfx.report(found, judge=judge)[
    ["flip rate", "judge agrees", "L2 edit", "generator passes per flip"]
]
table["mean strength"] = [r.trace["strength"].nanmean().item() for r in found.values()]
display(table.round(2))
outcomes = ["no flip", "flips"]
sure = [r.logits_after.softmax(1).gather(1, r.target[:, None])[:, 0] for r in ones]
cfx.gallery(
    torch.cat(
        [torch.cat([images[i : i + 1], *(r.image[i : i + 1] for r in ones)]) for i in (0, 1)]
    ),
    [
        title
        for i in (0, 1)
        for title in (
            "original",
            *(
                f"{n}\n{outcomes[r.flipped[i]]}, p {p[i]:.2f}"
                for n, r, p in zip(names, ones, sure, strict=True)
            ),
        )
    ],
    n_columns=len(grid) + 1,
    alt="Two digits after consensus guidance at strengths "
    + ", ".join(f"{s:.0%}" for s in grid)
    + ". "
    + "; ".join(f"image {i}: " + ", ".join(outcomes[r.flipped[i]] for r in ones) for i in (0, 1)),
)

# %% [markdown]
# How low should one go? The package stops at 0.3 (`min_strength`). The smallest edit isn't the best
# explanation: with next to no noise the model has no say any more, and what is left is an attack. The
# figures below will show it, where the truth is known.
#
# ## Every other pixel exactly as it was
#
# An autoencoder changes pixels even without an edit, if only a little (black stays black, so digits are a
# mild case). A reader can't tell that from the edit. **Compositing** (as ACE does, Jeanneret et al., 2023) puts the original's pixels back wherever
# the counterfactual differs little from the *reconstruction*. The share is of the largest change.

# %%
base = results["consensus"]
table = {}
alone = {"reconstruction only": base.reconstruction, "as it was drawn": base.image}
for threshold in (0.05, 0.15, 0.4):
    alone[f"composite {threshold}"] = composite_edit(
        base.original, base.reconstruction, base.image, threshold
    )
for name, pictures in alone.items():
    same = (pictures == base.original).all(1)
    now = cfx.predict_logits(classifier, pictures).argmax(1) == base.target
    table[name] = {"pixels exactly as they were": fraction(same), "still the target": fraction(now)}
display(pd.DataFrame(table).T.round(2))
mask = edit_mask(base.reconstruction, base.image, 0.15)
cfx.gallery(
    torch.cat(
        [x[:part].float() for x in (base.original, base.image, mask, alone["composite 0.15"])]
    ),
    n_columns=part,
    row_labels=["original", "as drawn", "mask", "composite 0.15"],
    alt="Four rows: originals, counterfactuals as drawn, masks of the edits, and the edits on the "
    "originals.",
)

# %%
# NBVAL_CHECK_OUTPUT
outside = ~mask.expand_as(base.image)
print(
    "outside of the mask every pixel is exactly the original's:",
    bool((alone["composite 0.15"] == base.original)[outside].all()),
)
rates = {name: fraction(cf.flipped) for name, cf in results.items()}
print("consensus flips more than noise alone:", rates["consensus"] > rates["none"])
first = by_step["positions kept"][0], by_step["chance level"][0]
print("at the first step more agree than by chance:", first[0] > first[1])

# %% [markdown]
# `composite_threshold=0.15` does this inside the method, and keeps the whole image where the paste doesn't flip.
#
# ## Several answers, and what they cost
#
# Noise that is found is always the same. With *drawn* noise another seed is another counterfactual. How
# different are the answers for one image? Beside it: how far two real digits of the target lie apart. And
# the price, in network passes an image, beside the **paper's own settings** (many small steps, one
# strength, no search).

# %%
seeds = [
    cfx.diffusion_counterfactual(
        space, classifier, images[:3], target[:3], noise="random", seed=seed + s
    )
    for s in range(cfx.by_profile(profile, ci=2, cpu=3, gpu=10))
]
stack = torch.stack([r.image for r in seeds])
apart = cfx.metrics.diversity(seeds)  # NaN where fewer than two flipped
real = [test.select(int(t)).images[:20].flatten(1) for t in target[:3]]
others = [torch.cdist(x, x).sum().item() / (20 * 19) for x in real]
print("L2 between answers:", [round(v, 1) for v in apart.tolist()])
print("between real digits of the target:", [round(v, 1) for v in others])
paper = cfx.PAPER_DIFFUSION | {"steps": cfx.by_profile(profile, ci=50, cpu=500, gpu=500)}
paid = cfx.by_profile(profile, ci=1, cpu=1, gpu=50)
both = {"ours": base[:paid], f"paper, {paper['strength']:.1%} of {paper['steps']} steps":
        cfx.diffusion_counterfactual(space, classifier, images[:paid], target[:paid], **paper)}  # fmt: skip
prices = {n: {k: int(v.double().mean()) for k, v in r.cost.items()} for n, r in both.items()}
display(pd.DataFrame(prices).T)
cfx.gallery(
    torch.cat([torch.cat([images[i : i + 1], stack[:, i]]) for i in range(3)]),
    ["original", *(f"seed {seed + s}" for s in range(len(seeds)))] * 3,
    n_columns=1 + len(seeds),
    alt="Three digits, one a row: the original, and a counterfactual for each seed.",
)

# %% [markdown]
# ## Figures: what did the flips change?
#
# With sprites the reason is known: `honest` reads the hair, `shortcut` says "gray" or "red" and reads
# the *top*. The model has to be told something for each class, `conditions`: that is a guess of the
# reason, made by you. What if the guess is wrong? The first columns count all figures; the kinds are those
# of `04_known_truth`, of the flips (for `honest` the meaning *is* the reason, so "trivial" is right).

# %%
figures = cfx.data.sprites(
    "pairs", cfx.by_profile(profile, ci=3, cpu=8, gpu=100), split="test", seed=3
)
drawing = cfx.load("sprites/ldm", device="cpu")
reader = cfx.load("sprites/judge", device="cpu")
pair = cfx.data.SPRITE_CONTRASTS
conditions = {name: [{name: option} for option in pair[name]] for name in ("hair", "top")}
cfg = {"guidance": "classifier_free", "guidance_scale": 3.0}
runs = {
    "honest: consensus, told hair": ("honest", "hair", {}),
    "honest: told only, hair": ("honest", "hair", cfg),
    "shortcut: told only, hair": ("shortcut", "hair", cfg),
    "shortcut: consensus, told hair": ("shortcut", "hair", {}),
    "shortcut: consensus, told top": ("shortcut", "top", {}),
    "the same, least noise": ("shortcut", "top", {"min_strength": 0.0, "max_attempts": 6}),
}
found, rows = {}, {}
for name, (which, of, options) in runs.items():
    f = cfx.load(f"sprites/{which}", device="cpu")
    other = 1 - cfx.predict_logits(f, figures.images).argmax(1)
    found[name] = cfx.diffusion_counterfactual(
        drawing, f, figures.images, other, conditions=conditions[of], seed=seed, **options
    )
    changed = cfx.metrics.changed_factors(found[name], reader)
    causes = {"honest": ["hair"], "shortcut": ["top"]}[which]
    kinds = cfx.metrics.classify_flips(found[name], reader, causes=causes, named_factor="hair")
    rows[name] = {"figures": len(figures), "flips": len(kinds)}
    rows[name] |= {f"{factor} changed": changed[factor].sum() for factor in ("hair", "top")}
    rows[name] |= {kind: (kinds["kind"] == kind).sum() for kind in cfx.metrics.FLIP_KINDS}
    rows[name]["mean strength"] = found[name].trace["strength"].nanmean().item()
display(pd.DataFrame(rows).T.round(2))
cfx.gallery(
    torch.cat([figures.images, *(cf.image for cf in found.values())]),
    n_columns=len(figures),
    row_labels=["original", *found],
    alt="Figures in the first row; below, in the order of the table: "
    + "; ".join(f"{n}, {r['flips']} flips" for n, r in rows.items()) + ".",
)  # fmt: skip

# %% [markdown]
# *Told only* recolours the hair (unless it is right already), whoever is asked: fine pictures, and no
# explanation of `shortcut`, which doesn't even notice. Consensus has the classifier's slope, and the slope lies on the top: see how often the top
# changes, even where the model is told of hair. But the cone keeps what fits *your* guess: compare
# conditions before you believe one. In the last row nothing stops the search for less noise. Compare it
# with the row above: edits are smaller, and in how many of the flips has the cause really changed?
# Distance alone is no measure of an explanation.
#
# ## Faces: the paper's task
#
# The classifier says "smile" or "no smile" about small photographs of real people. Such labels are
# **perceived**: here they are the opinion of another network, which is the judge as well, not what anybody felt. A result says
# what *this classifier* reacts to; it says nothing about the person. One more reader, of perceived gender, watches
# for bystanders: what else did the edit change?

# %%
people = cfx.data.faces("test")[: cfx.by_profile(profile, ci=2, cpu=4, gpu=50)]
faces, smile = (cfx.load(f"faces/{n}", device="cpu") for n in ("ldm", "smile"))
watch = {n: cfx.load(f"faces/{n}", device="cpu") for n in ("judge", "gender")}
other = 1 - cfx.predict_logits(smile, people.images).argmax(1)
smiles = {
    guidance: cfx.diffusion_counterfactual(
        faces, smile, people.images, other, guidance=guidance, seed=seed
    )
    for guidance in ("consensus", "classifier")
}
table = cfx.report(smiles, judge=watch["judge"])
table = table[
    ["flip rate", "judge agrees", "L2 reconstruction", "L2 edit", "generator passes per flip"]
]
before = cfx.predict_logits(watch["gender"], people.images).argmax(1)
for name, cf in smiles.items():
    after = cfx.predict_logits(watch["gender"], cf.image).argmax(1)
    table.loc[name, "perceived gender changed"] = fraction(after != before)
after = cfx.predict_logits(watch["gender"], smiles["consensus"].reconstruction).argmax(1)
table.loc["reconstruction only", "perceived gender changed"] = fraction(after != before)
display(table.round(2))
cfx.show(smiles["consensus"], judge=watch["judge"], class_names=people.class_names)

# %% [markdown]
# Look at the row of differences: is it the mouth alone? The autoencoder blurs, too (`L2 reconstruction`); what
# is already lost in the reconstruction is not the edit.
#
# ## Limits
#
# - What agrees need not be the classifier's reason. The cone keeps what fits the model's idea of the
#   *condition*; what a classifier does with anything else may be dropped.
# - The model's idea is learnt, too, with all the biases of its data. Consensus of two networks is no proof.
# - The judge is one more network. And a handful of images has wide intervals: the table shows them.
# - A strength that fails may succeed with other noise; bisection assumes that more noise flips more.
# - Compositing cuts along a mask, and an edit that is faint everywhere is cut away.
# - Ours departs from the paper, see `cfx.PAPER_DIFFUSION`: fewer steps, found noise, a stronger pull, distance
#   in codes, pauses, several strengths, and a flip counts from p = 0.99 on. Our networks are small, and so are the images.
#
# ## Summary
#
# Guidance is a wrapper around a denoiser. Told a class it draws the class; told by a classifier alone it
# may draw what fools. Consensus listens where both point the same way, and gives these places the whole
# voice. What it is worth has to be measured: against chance, against baselines, by a judge.
#
# **Questions to take along.** What would you tell the model for a classifier whose classes have no names?
# Why is the chance level lower for longer vectors? What could a composite hide?
#
# **References.** K. Farid, S. Schrodi, M. Argus, T. Brox, *Latent diffusion counterfactual explanations*,
# arXiv 2310.06668, 2023 · J. Ho, T. Salimans, *Classifier-free diffusion guidance*, 2021 · R. Rombach et
# al., *High-resolution image synthesis with latent diffusion models*, CVPR 2022 · G. Jeanneret et al.,
# *Adversarial counterfactual visual explanations* (ACE), CVPR 2023 · J. Song, C. Meng, S. Ermon,
# *Denoising diffusion implicit models*, 2021 · S. Khorram, L. Fuxin, *Cycle-consistent counterfactuals by
# latent transformations* (COUT), CVPR 2022. Digits: MNIST, Y. LeCun, C. Cortes, C. J. C. Burges, CC
# BY-SA 3.0. Figures: sprites of the Liberated Pixel Cup, CC BY-SA 3.0 / GPL 3.0; artists in
# `data/sprites/LPC-AUTHORS.txt` and `ATTRIBUTION.md`. Faces: FairFace, K. Kärkkäinen, J. Joo, WACV 2021,
# CC BY 4.0, modified; labels are perceived.
