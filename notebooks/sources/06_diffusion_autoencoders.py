# %% [markdown]
# # 06 · Diffusion autoencoders: from noise to image, and back
#
# **About 60 minutes · two CPU cores are enough · nothing is downloaded · [glossary](../docs/glossary.md)**
#
# A variational autoencoder loses details. A diffusion autoencoder (Preechakul et al., 2022) keeps
# them: its code has two parts. A **semantic** code of 64 numbers says what is drawn; a **stochastic**
# code, as large as the image, says how exactly. A network takes noise away step by step, and is
# told the semantic code all the while. Run backwards, the same steps find the noise that an image
# comes from. Global directions for counterfactuals, the topic of the next notebook, need just this.
#
# ## What you will be able to do
#
# - **write** a DDIM step, a sampler and its inversion in a few lines
# - **measure** what the semantic code holds, and what the stochastic code holds
# - **choose** a number of steps, knowing what it costs
# - **interpolate** in both parts of a code, and compare with a cross-fade
# - **edit** a semantic code, with a fair random direction beside it
# - **draw** new codes, and judge the images they give
#
# Needed before: `01_latent_spaces`.

# %%
import pandas as pd
import torch
from IPython.display import display

import cfxnb as cfx
from cfxnb.core import ddim
from cfxnb.core.tensors import noise_like

cfx.doctor()

# %% tags=["parameters"]
profile: str = "cpu"  # ci, cpu or gpu: how much is computed
seed: int = 0  # of all noise that is drawn

# %%
count = cfx.by_profile(profile, ci=24, cpu=60, gpu=500)  # images
few = cfx.by_profile(profile, ci=10, cpu=24, gpu=200)  # images where each costs more
space = cfx.load("digits/diffae", device="cpu")
classifier = cfx.load("digits/classifier", device="cpu")
judge = cfx.load("digits/judge", device="cpu")
test = cfx.data.digits("test")
train = cfx.data.digits("train")
images, labels = test.images[:count], test.labels[:count]


def seen(f, pictures: torch.Tensor) -> torch.Tensor:
    """The class that a classifier says, (n,)."""
    return cfx.predict_logits(f, pictures).argmax(1)


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).square().mean().item()


# %% [markdown]
# ## From image to noise
#
# Noise is added in 1000 small steps, but any time t can be reached at once.
# `space.alphas_cumprod[t]` is how much of the image's *variance* is left at time t:
#
#     noisy = √alpha · image + √(1 − alpha) · noise
#
# Images lie in [-1, 1] here. `space.codec` also folds each block of 2 × 2 pixels into 4 channels: a
# small network is quicker that way. Nothing is lost, and `decode` unfolds.

# %%
clean = space.codec.encode(images * 2 - 1)
noise = noise_like(clean, seed)
shown = [0, 100, 300, 500, 700, 999]
noisy = {}
for t in shown:
    alpha_bar = float(space.alphas_cumprod[t])
    noisy[t] = alpha_bar**0.5 * clean + (1 - alpha_bar) ** 0.5 * noise
strip = torch.cat([noisy[t][:1] for t in shown])
cfx.gallery(
    (space.codec.decode(strip) + 1) / 2,
    [f"t = {t}\nleft {float(space.alphas_cumprod[t]):.0%}" for t in shown],
    n_columns=len(shown),
    alt=f"One digit with more and more noise, at times {', '.join(map(str, shown))}: clear at "
    "first, a ghost in the middle, nothing but noise at the end.",
)

# %% [markdown]
# ## The network guesses the noise, told the code
#
# `space.predict_noise(noisy, t, z)` is the guess. From it follows a guess of the clean image. How good is that
# guess if the network is told the image's own code, the mean of all codes, or the code of another
# image? Where little of the image is left, the code is nearly all that it has.

# %%
z = space.encode_semantic(images[:few])
told = {
    "its own": z,
    "the mean": space.mean.expand_as(z),
    "another image's": z.roll(1, 0),
}
rows: dict[str, list[float]] = {}
for name, codes in told.items():
    for t in shown[1:]:
        alpha_bar = float(space.alphas_cumprod[t])
        with torch.no_grad():
            eps = space.predict_noise(noisy[t][:few], t, codes)
        guess = ((noisy[t][:few] - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5).clamp(-1, 1)
        rows.setdefault(name, []).append(error(guess, clean[:few]))
cfx.curves(
    shown[1:],
    rows,
    xlabel="time t",
    ylabel="squared error of the guess",
    alt="Error of the guessed image over time, told its own code, the mean code and another "
    f"image's. At the last time: {', '.join(f'{n} {v[-1]:.2f}' for n, v in rows.items())}.",
)

# %% [markdown]
# ## One step towards the image
#
# DDIM (Song et al., 2021) draws no fresh noise on the way. One step goes like this:
#
# 1. guess the clean image from the noise that the network predicts
# 2. keep it in [-1, 1]
# 3. work out which noise this image implies (another one, if 2 changed anything)
# 4. mix both again, as noisy as the time one goes to has it
#
# ### Exercise 1 · A step of DDIM
#
# *Medium, 8 minutes.* `eps` is the predicted noise, `alpha_bar` the alpha of the present time, `alpha_bar_next` that
# of the time to go to: 1 for the clean image.
#
# <details><summary>Hint 1</summary>
#
# Solve the formula at the top for the image, and then for the noise.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `image = ((noisy - ...) / alpha_bar**0.5).clamp(-1, 1)`; alphas are variances, so they come with
# a root.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The noise follows from `noisy` and the *clamped* image. Then the formula at the top once more,
# with `alpha_bar_next` in the place of `alpha_bar`.
#
# </details>


# %% tags=["exercise"]
def ddim_step(
    noisy: torch.Tensor, eps: torch.Tensor, alpha_bar: float, alpha_bar_next: float
) -> torch.Tensor:
    """From variance ``alpha_bar`` to variance ``alpha_bar_next``; all tensors (b, c, h, w)."""
    ### BEGIN SOLUTION
    image = ((noisy - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5).clamp(-1, 1)
    implied = (noisy - alpha_bar**0.5 * image) / (1 - alpha_bar) ** 0.5
    return alpha_bar_next**0.5 * image + (1 - alpha_bar_next) ** 0.5 * implied
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.ddim_step(ddim_step)

# %% [markdown]
# ## A sampler
#
# The package has this step as `ddim.step`. A whole sampler is a loop over it: the times of the space,
# last first; `to` is -1 for the clean image. That is all that `space.decode` does:

# %%
code = space.encode(images)


@torch.no_grad()
def sampler(z: torch.Tensor, x: torch.Tensor) -> list[torch.Tensor]:
    """What lies on the way from noise to image, in the codec's units."""
    way, times = [x], space.times[::-1]
    for i, t in enumerate(times):
        to = times[i + 1] if i + 1 < len(times) else -1
        way.append(
            ddim.step(
                lambda x, t: space.predict_noise(x, t, z), way[-1], space.alphas_cumprod, t, to
            )
        )
    return way


way = sampler(code.z[:3], code.aux[:3])
rebuilt = space.decode(code)
mine = ((space.codec.decode(way[-1]) + 1) / 2).clamp(0, 1)
picked = way[::2] if len(way) % 2 else way
cfx.gallery(
    ((space.codec.decode(torch.cat([x[:1] for x in picked])) + 1) / 2).clamp(0, 1),
    n_columns=len(picked),
    alt="From the noise of one image to the image, every second step: strokes come out of a gray "
    "field within a few steps.",
)

# %%
# NBVAL_CHECK_OUTPUT
print("network passes for an image:", len(way) - 1)
print(
    "the loop gives what space.decode gives:",
    (mine - space.decode(code[:3])).abs().max().item() < 0.02,
)

# %% [markdown]
# ## And back
#
# With nothing random on the way, the steps can be walked backwards: start at the image, go from time
# to time *up*, and end with nothing but noise. `to` is None there: alpha is 0.
#
# ### Exercise 2 · Inversion
#
# *Medium, 7 minutes.* `times` go up, such as 0, 100, ..., 900. Take a `ddim.step` from each to the
# next, and from the last to None. The clean image enters at the first time.
#
# <details><summary>Hint 1</summary>
#
# As many steps as there are times; each begins where the last one ended.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Pair each time with the next one, and the last one with None.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `ddim.step(predict, x, alphas_cumprod, t, to)`, in a loop over `zip(times, [*times[1:], None])`.
#
# </details>


# %% tags=["exercise"]
def ddim_inversion(
    predict: ddim.Predict, x: torch.Tensor, alphas_cumprod: torch.Tensor, times: list[int]
) -> torch.Tensor:
    """The noise that images x come from; predict(x, t) is their noise at time t."""
    ### BEGIN SOLUTION
    for t, to in zip(times, [*times[1:], None], strict=True):
        x = ddim.step(predict, x, alphas_cumprod, t, to)
    return x
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.ddim_inversion(ddim_inversion)

# %% [markdown]
# Is what comes out noise? The network was trained on Gaussian noise. Three measures, with real noise
# beside them: spread, how alike neighbours are (the correlation of a number with the one on its
# right), and how alike noise and image are. Then the same, apart for black pixels and the others.


# %%
def alike(a: torch.Tensor, b: torch.Tensor) -> float:
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


table = {}
for name, x in {"found": code.aux, "drawn at random": noise_like(code.aux, seed + 1)}.items():
    table[name] = {
        "mean": x.mean().item(),
        "std": x.std().item(),
        "alike: neighbours": alike(x[..., 1:], x[..., :-1]),
        "alike: noise and image": alike(x, clean),
    }
black = clean < -0.999
for name, x in {"found, black": code.aux[black], "found, not black": code.aux[~black]}.items():
    table[name] = {"mean": x.mean().item(), "std": x.std().item()}
display(pd.DataFrame(table).T.round(3))
cfx.gallery(
    torch.cat([images[:6], ((space.codec.decode(code.aux[:6]) + 2) / 4).clamp(0, 1)]),
    n_columns=6,
    alt="Six digits above, and below the noise that each was found to come from: gray fields in "
    "which the digit is still to be seen.",
)

# %% [markdown]
# So it is *not* Gaussian: too quiet where the image is black, and the digit still shines through. In
# part that is the price of few, long steps (the last column of the next table). Keep this in mind when
# somebody calls the stochastic code "just noise".
#
# ## How many steps?
#
# More steps rebuild better and cost more: one pass of the network each, there and back. Beside it the
# same semantic codes with noise *drawn at random*: what is lost without the inversion.

# %%
tried = cfx.by_profile(profile, ci=[2, 5, 10], cpu=[2, 5, 10, 20], gpu=[2, 5, 10, 20, 50, 100])
some, rows = images[:few], {}
for steps in tried:
    other = space.with_steps(steps)
    found = other.encode(some)
    drawn = cfx.Code(found.z, noise_like(found.aux, seed + 1))
    for name, c in {"found": found, "drawn": drawn}.items():
        made = other.decode(c)
        rows.setdefault(f"error, {name}", []).append(error(made, some))
        same = (seen(classifier, made) == seen(classifier, some)).double().mean().item()
        rows.setdefault(f"decision kept, {name}", []).append(same)
    rows.setdefault("spread of what was found", []).append(found.aux.std().item())
curve = pd.DataFrame(rows, index=pd.Index(tried, name="steps"))
curve.insert(0, "passes", [2 * s for s in tried])
display(curve.round(4))
errors = {"noise found": curve["error, found"], "noise drawn": curve["error, drawn"]}
cfx.curves(
    curve["passes"],
    errors,
    xlabel="network passes an image, there and back",
    ylabel="mean squared error",
    alt="Error of reconstructions over network passes. With the noise found by inversion it goes "
    f"from {curve['error, found'].iloc[0]:.4f} to {curve['error, found'].iloc[-1]:.4f}; with noise "
    f"drawn at random it ends at {curve['error, drawn'].iloc[-1]:.4f}.",
)

# %% [markdown]
# With the noise found, more steps come closer to the image. With noise drawn, they may even lead
# away from it: more steps draw more details, and these are not the image's own.
#
# ## Which part decides what?
#
# Take the semantic code of one digit and the stochastic code of another. Which of the two donors does
# the result belong to? Guess first:

# %%
compare = cfx.predict_then_run(
    "Which part of the code holds the digit's class?",
    ["the semantic code", "the stochastic code", "both alike"],
)

# %%
apart = (labels != labels.roll(1, 0)).nonzero()[:, 0]  # donors of different classes only
before = (apart - 1) % count
crossed = space.decode(cfx.Code(code.z[apart], code.aux[before]))
donors = {"the semantic code": apart, "the stochastic code": before}
table, by_judge = {}, {}
for name, rows_of in donors.items():
    table[f"donor of {name}"] = {
        f"{who} says its class": (seen(f, crossed) == labels[rows_of]).double().mean().item()
        for who, f in {"classifier": classifier, "judge": judge}.items()
    } | {"squared error to its image": error(crossed, images[rows_of])}
    by_judge[name] = table[f"donor of {name}"]["judge says its class"]
table["chance: any other image"] = {
    f"{who} says its class": (seen(f, crossed)[:, None] == labels).double().mean().item()
    for who, f in {"classifier": classifier, "judge": judge}.items()
} | {"squared error to its image": error(images[apart], images[before])}
table["both: reconstruction"] = {
    f"{who} says its class": (seen(f, rebuilt) == labels).double().mean().item()
    for who, f in {"classifier": classifier, "judge": judge}.items()
} | {"squared error to its image": error(rebuilt, images)}
print(compare(max(by_judge, key=lambda k: by_judge[k])))
display(pd.DataFrame(table).T.round(3))
cfx.gallery(
    torch.cat([images[apart[:8]], images[before[:8]], crossed[:8]]),
    n_columns=8,
    alt="Three rows of eight digits: donors of the semantic code, donors of the stochastic code, "
    "and below what both together give, which looks like the first row.",
)

# %%
# NBVAL_CHECK_OUTPUT
print("the semantic code decides the class:", by_judge["the semantic code"] > 0.7)
print("the stochastic code doesn't:", by_judge["the stochastic code"] < 0.2)

# %% [markdown]
# Donors differ in class here, so whoever loses falls *below* chance. Of the pixels, too, most follow the
# semantic code; what the right stochastic code adds is the difference to the last row.
#
# ### Exercise 3 · Who decides?
#
# *Easy, 5 minutes.* From the classes `read` off the crossed images, and those of both donors: return
# the share that has the class of the semantic donor, and the share that has the class of the other
# one. Donors of the same class say nothing: leave such pairs out. Two NaN if no pair is left.
#
# <details><summary>Hint 1</summary>
#
# First a mask of the pairs whose donors differ.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Average over these pairs only, not over all.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `float((read == of_z)[mask].double().mean())`: of nobody, torch's mean is NaN.
#
# </details>


# %% tags=["exercise"]
def code_or_noise(
    read: torch.Tensor, of_z: torch.Tensor, of_aux: torch.Tensor
) -> tuple[float, float]:
    """Shares of pairs read as the semantic donor's class, and as the other one's; all (n,)."""
    ### BEGIN SOLUTION
    differ = of_z != of_aux
    semantic = float((read == of_z)[differ].double().mean())
    stochastic = float((read == of_aux)[differ].double().mean())
    return semantic, stochastic
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.code_or_noise(code_or_noise)

# %% [markdown]
# What *does* the stochastic code hold, then? Keep one semantic code and draw the noise anew several
# times. What varies is what the semantic code leaves open.

# %%
again = cfx.by_profile(profile, ci=6, cpu=10, gpu=50)
kinds = images[:3]
drawn = torch.cat([noise_like(code.aux[:again], seed + 10 + i) for i in range(3)])
variants = space.decode(cfx.Code(code.z[:3].repeat_interleave(again, 0), drawn))
variants = variants.view(3, again, 1, 32, 32)
std = variants.std(1)
same_class = [test.select(int(y)).images[:200].std(0).mean().item() for y in labels[:3]]
print("spread of a pixel over draws of noise:", [round(s.mean().item(), 3) for s in std])
print("over real digits of the same class: ", [round(s, 3) for s in same_class])
cfx.gallery(
    torch.cat([torch.cat([kinds[i : i + 1], variants[i, :6], std[i : i + 1]]) for i in range(3)]),
    n_columns=8,
    alt="Three digits, one a row: the original, six redraws with noise drawn at random, and where "
    "the redraws differ: along the edges of the strokes.",
)

# %% [markdown]
# ## Between two digits
#
# Semantic codes are mixed straight. Noise isn't: halfway between two independent draws, the straight
# mix has only 1/√2 of their length, and the network never saw such quiet noise. So one walks along the
# arc (*spherical* interpolation). With the angle θ between a and b, in the whole tensor of each image:
#
#     sin((1 − w) θ) / sin θ · a  +  sin(w θ) / sin θ · b
#
# ### Exercise 4 · Along the arc
#
# *Medium, 7 minutes.* `a` and `b` are (n, c, h, w); each image has its own angle. No two are parallel.
#
# <details><summary>Hint 1</summary>
#
# `a.flatten(1)` has one row an image.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.cosine_similarity(..., dim=1).acos()` are the angles, (n,).
#
# </details>
# <details><summary>Hint 3</summary>
#
# `.view(-1, 1, 1, 1)` makes of them what multiplies images.
#
# </details>


# %% tags=["exercise"]
def slerp(a: torch.Tensor, b: torch.Tensor, w: float) -> torch.Tensor:
    """Spherical interpolation, a at w = 0 and b at w = 1."""
    ### BEGIN SOLUTION
    angle = torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).acos()
    angle = angle.view(-1, 1, 1, 1)
    return (((1 - w) * angle).sin() * a + (w * angle).sin() * b) / angle.sin()
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.slerp(slerp)

# %% [markdown]
# Does it matter here, where the noise was found and not drawn? Three ways from one digit to another;
# how sure is the judge of *something* on the way? (What follows uses `cfx.checks.nb06.spherical_interpolation`, so
# it runs without your answer.)

# %%
pairs = apart[: cfx.by_profile(profile, ci=5, cpu=12, gpu=100)]
one, two = code[pairs], code[before[: len(pairs)]]
weights = torch.linspace(0, 1, 7).tolist()
mix_z = [torch.lerp(one.z, two.z, w) for w in weights]
ways = {
    "cross-fade of pixels": torch.stack(
        [torch.lerp(images[pairs], images[before[: len(pairs)]], w) for w in weights]
    )
}
for name, mix in {
    "codes, arc": cfx.checks.nb06.spherical_interpolation,
    "codes, straight": torch.lerp,
}.items():
    rest = torch.cat([mix(one.aux, two.aux, w) for w in weights])
    drawn = space.decode(cfx.Code(torch.cat(mix_z), rest))
    ways[name] = drawn.view(len(weights), len(pairs), *drawn.shape[1:])
sure = {
    name: [cfx.predict_logits(judge, x).softmax(1).amax(1).mean().item() for x in drawn]
    for name, drawn in ways.items()
}
quiet = (one.aux + two.aux).flatten(1).norm(dim=1) / 2
quiet = quiet / (one.aux.flatten(1).norm(dim=1) + two.aux.flatten(1).norm(dim=1)) * 2
print(f"length of the straight mix of noise, halfway: {quiet.mean():.2f} of that of the ends")
strips = cfx.gallery(
    torch.cat([drawn[:, 0] for drawn in ways.values()]),
    n_columns=len(weights),
    alt="One digit becomes another, three rows: pixels fade out and in; codes with noise along "
    "the arc; codes with noise mixed straight. In the lower rows strokes bend.",
)
display(strips)
cfx.curves(
    weights,
    sure,
    xlabel="weight of the second digit",
    ylabel="judge's confidence",
    alt="Judge's mean confidence along three ways between two digits. Halfway: "
    f"{', '.join(f'{n} {v[len(weights) // 2]:.2f}' for n, v in sure.items())}.",
)

# %% [markdown]
# Two surprises, if you expected a lesson on arcs. The straight mix is quieter, as predicted, and it
# hardly matters: this network gets its class from the semantic code. And a judge's confidence in a
# cross-fade is not low, though no digit looks like that: confidence sees less than you do.
#
# ## An edit: from 4 to 9
#
# The simplest direction for a property is the difference of two class means, of codes of *training*
# images. As a baseline, random direction of equal length. Length of what? Coordinates differ in
# spread, so in units of the spread: a number per coordinate that `space.std` tells.
#
# ### Exercise 5 · A fair random direction
#
# *Medium, 6 minutes.* Make of Gaussian `draw` (dims,) a direction that is as long as `direction` in
# units of `std`. It must favour no coordinate in these units either.
#
# <details><summary>Hint 1</summary>
#
# `direction / std` is the direction in units of the spread.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Give `draw`, which is in these units already, the same norm.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Back in the units of codes: times `std`.
#
# </details>


# %% tags=["exercise"]
def matched_random_direction(
    draw: torch.Tensor, direction: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """A random direction as long as ``direction`` in units of ``std``; all (dims,)."""
    ### BEGIN SOLUTION
    length = (direction / std).norm()
    return draw / draw.norm() * length * std
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.matched_random_direction(matched_random_direction)

# %%
mean = {y: space.encode_semantic(train.select(y).images[:500]).mean(0) for y in (4, 9)}
direction = mean[9] - mean[4]
units = noise_like(space.mean[None], seed + 2)[0]
by_chance = space.std * units * ((direction / space.std).norm() / units.norm())
fours = space.encode(test.select(4).images[: cfx.by_profile(profile, ci=6, cpu=16, gpu=200)])
amounts = [0.0, 0.5, 1.0, 1.5, 2.0]
edited, fractions = {}, {}
for name, way_z in {"class means": direction, "random": by_chance}.items():
    edited[name] = torch.stack([space.decode(fours.with_z(fours.z + a * way_z)) for a in amounts])
    for who, f in {"classifier": classifier, "judge": judge}.items():
        hits = [seen(f, x) == 9 for x in edited[name]]
        fractions[f"{name}, {who}"] = [hit.double().mean().item() for hit in hits]
print(f"length of both: {(direction / space.std).norm():.1f} spreads")
cfx.curves(
    amounts,
    fractions,
    xlabel="how far, in differences of the means",
    ylabel='share seen as "9"',
    alt="Share of fours that are seen as nine, over the length of the edit. At twice the "
    f"difference: {', '.join(f'{n} {v[-1]:.2f}' for n, v in fractions.items())}.",
)


# %%
def draw_edit(four: int, amount: float) -> cfx.Picture:
    row = fours[four : four + 1]
    codes = torch.cat([row.z, row.z + amount * direction, row.z + amount * by_chance])
    drawn = space.decode(cfx.Code(codes, row.aux.expand(3, -1, -1, -1)))
    read = seen(judge, drawn).tolist()
    words = ["reconstruction", "class means", "random"]
    return cfx.gallery(
        drawn,
        [f"{w}\njudge: {r}" for w, r in zip(words, read, strict=True)],
        n_columns=3,
        alt=f"Four number {four}: rebuilt, moved {amount:.1f} differences of the means from 4 to "
        f"9, and as far in a random direction. The judge reads {read[0]}, {read[1]}, {read[2]}.",
    )


cfx.explore(draw_edit, four=(0, len(fours) - 1), amount=(1.0, 3.0, 0.5))

# %% [markdown]
# The stochastic code stayed the same in all of them. Note that the share may *fall* again when one
# goes too far: a direction is right near the images that it was measured on, and codes far out belong
# to none.
#
# ## New digits
#
# A second small diffusion model draws *semantic codes*; noise is drawn at random. Beside it: codes of
# independent Gaussians with the same means and spreads (what the second model is good for), and the
# prior samples of the variational autoencoder of `01_latent_spaces`. The set distance is the Fréchet
# distance in the judge's features (FID, though with another network than usual). With so few images it
# is far too large for all; compare it with that of two sets of real ones, and make nothing of small
# differences.

# %%
number = cfx.by_profile(profile, ci=50, cpu=200, gpu=1000)
vae = cfx.load("digits/vae", device="cpu")
fresh = space.sample(number, seed, shape=(1, 32, 32))
plain = space.mean + space.std * noise_like(fresh.z, seed + 3)
new = {
    "diffusion, codes by latent DDIM": space.decode(fresh),
    "diffusion, codes of Gaussians": space.decode(fresh.with_z(plain)),
    "VAE, prior": vae.decode(vae.sample(number, seed)),
    "real digits": test.images[2000 : 2000 + number],
}
real = judge.module.features(test.images[4000 : 4000 + number])
table = {
    name: {
        "judge's confidence": cfx.predict_logits(judge, x).softmax(1).amax(1).mean().item(),
        "set distance": cfx.metrics.fid(judge.module.features(x), real, allow_few=True),
        "classes that occur": len(seen(judge, x).unique()),
    }
    for name, x in new.items()
}
display(pd.DataFrame(table).T.round(2))
cfx.gallery(
    torch.cat([x[:10] for x in new.values()]),
    n_columns=10,
    alt="Four rows of ten digits that never were, and real ones: codes by latent DDIM, codes of "
    "Gaussians, the VAE's prior, and real digits at the bottom.",
)

# %% [markdown]
# Each coordinate of the Gaussian codes has the right mean and spread, and yet they draw scrawls: what
# counts is which values go together. That is what the second model has learned.
#
# ## The same with figures and X-rays
#
# These spaces have the same calls. Four rows each: originals, reconstructions, noise drawn at random,
# and the noise of the neighbour.

# %%
worlds = {
    "sprites": cfx.data.sprites("pairs", 6, split="test", seed=seed + 11).images,
    "chest": cfx.data.chest("test").images[:6],
}
table = {}
for world, real in worlds.items():
    other = cfx.load(f"{world}/diffae", device="cpu")
    found = other.encode(real)
    drawn = cfx.Code(found.z, noise_like(found.aux, seed + 5))
    crossed = cfx.Code(found.z, found.aux.roll(1, 0))
    made = [other.decode(c) for c in (found, drawn, crossed)]
    names = ("both parts", "noise drawn", "noise of the neighbour")
    table[world] = {n: error(v, real) for n, v in zip(names, made, strict=True)}
    table[world]["the neighbour itself"] = error(real, real.roll(1, 0))
    strips = cfx.gallery(
        torch.cat([real, *made]),
        n_columns=6,
        alt=f"Six images of the world {world}, four rows: originals, reconstructions, noise drawn at "
        "random, and the noise of the neighbour with each one's own semantic code.",
    )
    display(strips)
pd.DataFrame(table).T.round(4)

# %% [markdown]
# ## Official checkpoints
#
# The published networks, for faces and other photographs, have the same names of weights, and load as
# a space with the same methods. The file is read without executing anything that is in it:
#
#     space = cfx.spaces.load_diffae("last.ckpt")  # Lightning's file, as the official code trains it
#     space = space.with_steps(20, invert=250)     # as the authors do for reconstruction
#     space.fit(images)                            # where codes lie, unless the file knows
#
# Mind the cost: their networks are far larger than ours, and so are the images.
#
# ## Limits
#
# - Our networks are small, and differ from the published ones: they predict the *velocity*, a mix of
#   image and noise, from which `space.eps` works out the noise; and they see the code also as a
#   coarse sketch that is added at the entrance. Networks that predict the noise, as published, need
#   far more training before they listen to the code.
# - Few steps blur a little. The curve above says what more of them buy.
# - Inverted noise is not Gaussian, and holds part of the image. An edit of the semantic code leaves
#   that part as it was, and a large edit has to work against it.
# - "Semantic" is a name. The code was trained to help with taking noise away, without a label. What
#   it holds has to be measured, as above, for each space anew.
# - How much is left to the stochastic code differs from world to world. X-rays with noise drawn at
#   random come out grainy; with digits and figures it is easily overlooked.
# - The judge's confidence says that *something* was drawn, not that it looks real.
#
# ## Summary
#
# A diffusion autoencoder renders in steps, each of them a guess of the image. The semantic code
# decides what is drawn; the stochastic code fills in the rest, and inversion finds it. Methods edit
# the former and keep the latter.
#
# **Questions to take along.** Would more semantic numbers make the stochastic code superfluous? What
# would an edit of the *stochastic* code be good for? When would you trade steps for more images?
#
# **References.** K. Preechakul et al., *Diffusion autoencoders: toward a meaningful and decodable
# representation*, CVPR 2022 · J. Song, C. Meng, S. Ermon, *Denoising diffusion implicit models*,
# 2021 · J. Ho, A. Jain, P. Abbeel, *Denoising diffusion probabilistic models*, 2020 · T. Salimans,
# J. Ho, *Progressive distillation for fast sampling of diffusion models*, 2022 (the velocity) · M.
# Heusel et al., *GANs trained by a two time-scale update rule*, 2017 (the set distance). Digits:
# MNIST, Y. LeCun, C. Cortes, C. J. C. Burges, CC BY-SA 3.0. Figures: sprites of the Liberated
# Pixel Cup, CC BY-SA 3.0 / GPL 3.0; artists in `data/sprites/LPC-AUTHORS.txt` and
# `ATTRIBUTION.md`. X-rays: chest X-rays of children, D. Kermany, K. Zhang, M. Goldbaum, CC BY 4.0;
# not for diagnosis.
