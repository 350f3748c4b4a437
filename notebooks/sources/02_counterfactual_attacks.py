# %% [markdown]
# # 02 · Counterfactual attacks: search in the space
#
# **About 90 minutes · two CPU cores are enough · nothing is downloaded · [glossary](../docs/glossary.md)**
#
# An attack on pixels changes a decision by adding noise. The *same* attack on the
# [code](../docs/glossary.md) of the image draws another digit. This is the idea of *Counterfactual
# Attacks* ([Goldwasser and Hooker, 2025](https://arxiv.org/abs/2504.15479)). In this chapter you
# write the method in small functions. At the end you have a latent attack of your own. It
# finds the same counterfactuals as `cfx.latent_attack`, and you have seen where it fails.
#
# ## What you will be able to do
#
# - **write** a latent attack: log odds, objective, gradient, search, step back
# - **explain** why the search uses log odds and not the probability
# - **compare** your attack with the library, with a pixel attack, and with a random direction
# - **choose** the confidence, and say what it costs
# - **report** failures as failures
#
# Needed before: [00 Welcome](00_welcome.ipynb), [01 Latent spaces](01_latent_spaces.ipynb).

# %%
import math

import pandas as pd
import torch

import cfxnb as cfx
from cfxnb.core.code_covariance import along_active_axes
from cfxnb.core.tensors import norms, standardise

cfx.doctor()

# %% tags=["parameters"]
profile: str = "cpu"  # ci, cpu or gpu: how much is computed
source: int = 4  # the digit that is explained
target: int = 9  # the decision that we want
count: int = 0  # number of images; 0: as many as the profile says
seed: int = 0

# %% jupyter={"source_hidden": true}
count = count or cfx.by_profile(profile, ci=16, cpu=40, gpu=500)
space, classifier, judge = (
    cfx.load(f"digits/{name}", device="cpu") for name in ("vae", "classifier", "judge")
)
pool = cfx.data.digits("test").select(source)[: 2 * count]
certain = cfx.predict_logits(classifier, pool.images).softmax(1)[:, source] > 0.99
images = pool.images[certain][:count]
wanted = torch.full((len(images),), target)

# %% [markdown]
# ## Where we are going
#
# We explain images that the classifier recognises as the digit `source` with more than 99 %. All of
# them are clear cases. The **judge** is a second network, which no method sees.
#
# The picture shows three rows. The first row shows the originals. The second row shows what the
# latent attack makes of them, and the third row what the pixel attack makes of them. The classifier
# reads the digit `target` in both lower rows. You see it in the second row only. By the end of this
# chapter, you will have written the method of the second row.

# %% jupyter={"source_hidden": true}
latent = cfx.latent_attack(space, classifier, images, target, restarts=0)
pixel = cfx.pixel_attack(classifier, images, target)
cfx.gallery(
    torch.cat([images[:8], latent.image[:8], pixel.image[:8]]),
    n_columns=8,
    row_labels=[f"original: {source}", f"latent attack: {target}", f"pixel attack: {target}"],
)

# %% [markdown]
# ## One attack in two spaces
#
# The diagram shows both attacks, for a 3 that shall become a 5. The pixel attack moves the image itself, and ends beside the images
# of digits. The latent attack moves the code $z$. The generator $G$ then draws an image from the
# code, so the search stays among the images that $G$ can draw.

# %% jupyter={"source_hidden": true}
cfx.diagram("latent_attack")

# %% [markdown]
# ## Piece 1: what to increase
#
# We want the target class $t$ to become likely. Let $\ell_1, \dots, \ell_k$ be the logits of the
# classifier. The probability of the target is
#
# $$p = \frac{e^{\ell_t}}{\sum_j e^{\ell_j}}.$$
#
# Why not increase $p$ itself? Let $o = \log\frac{p}{1-p}$ be the **log odds** of the target. Then
# $p = 1 / (1 + e^{-o})$, and its derivative is
#
# $$\frac{dp}{do} = p\,(1-p).$$
#
# For a clear image of another digit, $p$ is close to 0. Then $p\,(1-p)$ is close to 0 too, and the
# gradient of $p$ almost vanishes. The log odds do not have this problem, because their derivative
# with respect to $o$ is 1 everywhere.
#
# Now we write $o$ in terms of the logits. In $\frac{p}{1-p}$ the common denominator cancels:
#
# $$o = \log\frac{p}{1-p} = \log\frac{e^{\ell_t}}{\sum_{j \ne t} e^{\ell_j}}
# = \ell_t - \log\sum_{j \ne t} e^{\ell_j}.$$
#
# ### Exercise 1 · Log odds of the target
#
# *Medium, 8 minutes.* Return the log odds of each image's target, as in the last formula.
#
# - `logits`: the logits, shape (b, k)
# - `target`: the target class of each image, shape (b,)
# - output: shape (b,)
# - special case: $p$ may round to 1. Use logits only, so that nothing is divided by $1-p$.
#
# <details><summary>Hint 1</summary>
#
# `Tensor.gather` picks one entry of each row. It needs an index of shape (b, 1).
#
# </details>
# <details><summary>Hint 2</summary>
#
# `Tensor.logsumexp` computes $\log\sum_j e^{\ell_j}$ without overflow.
#
# </details>
# <details><summary>Hint 3</summary>
#
# $e^{-\infty} = 0$: an entry of $-\infty$ adds nothing to the sum. `Tensor.scatter` can put it there.
#
# </details>


# %% tags=["exercise"]
def log_odds(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return log(p / (1 - p)) of the target, (b, k), (b,) -> (b,)."""
    ### BEGIN SOLUTION
    chosen = logits.gather(1, target[:, None]).squeeze(1)
    others = logits.scatter(1, target[:, None], -torch.inf).logsumexp(1)
    return chosen - others
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb02.log_odds(log_odds)

# %% [markdown]
# The next cell takes your function if it passes the check. If not, it takes the function of the
# solution and says so. The rest of the notebook works in both cases.
#
# The plot uses `log_odds` on the way from one original to its counterfactual. It shows how much $p$
# and the log odds change from step to step. Both lines are divided by their largest value. The
# probability hardly changes at the beginning, where the search starts.

# %%
log_odds = cfx.course.piece("nb02.log_odds", log_odds)
way = torch.linspace(0, 1, 21)[:, None]
line = torch.lerp(latent.code_before.z[:1], latent.code_after.z[:1], way)
odds = log_odds(classifier(space.decode(cfx.Code(line))).detach(), wanted[:1].expand(21))
slopes = {"probability": odds.sigmoid().diff().abs(), "log odds": odds.diff().abs()}

# %% jupyter={"source_hidden": true}
cfx.curves(
    way[1:, 0],
    {name: slope / slope.max() for name, slope in slopes.items()},
    xlabel="fraction of the way from original to counterfactual",
    ylabel="change per step (largest = 1)",
)

# %% [markdown]
# ## Piece 2: how a code moves
#
# The search changes the code $z_0$ of the image. We measure each coordinate of the change in
# standard deviations of the codes of real images, and call this change $u$:
#
# $$z = z_0 + \sigma \odot u,$$
#
# where $\sigma$ is `space.std` and $\odot$ multiplies coordinate by coordinate. A change of
# $|u| = 1$ is then a typical change in every space.
#
# This generator does not use three of its 20 coordinates. Real codes do not vary along them, so the
# search must not use them either. `along_active_axes(space, u)` sets them to 0.
#
# ### Exercise 2 · A step in code space
#
# *Easy, 3 minutes.* Return the changed codes $z$.
#
# - `z0`: codes of the originals, shape (b, d)
# - `u`: changes in standard deviations, shape (b, d)
# - output: codes, shape (b, d). Unused coordinates keep the value of `z0`.
#
# <details><summary>Hint 1</summary>
#
# `space.std` has the shape (d,), and multiplies every row.
#
# </details>
# <details><summary>Hint 2</summary>
#
# First remove the part of the change along unused coordinates. Then change the unit.
#
# </details>
# <details><summary>Hint 3</summary>
#
# If `u` is 0, the result must be `z0`.
#
# </details>


# %% tags=["exercise"]
def move(space, z0: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Return the codes z0 + std * u, (b, d), (b, d) -> (b, d)."""
    ### BEGIN SOLUTION
    return z0 + space.std * along_active_axes(space, u)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb02.move(move)

# %% [markdown]
# ## Piece 3: what a change costs
#
# Many changes reach the target. We want a *small* one, and we want a code that is *typical* of real
# images. Let $s = (z_0 - \bar z) / \sigma$ be the original code in standard deviations from the mean
# code $\bar z$. After the change, the code is at $s + u$. We minimise
#
# $$L(u) = -\,o(u) + \lambda\,|u|^2 + \mu\,|s + u|^2.$$
#
# The first term makes the target likely. The second term is the distance to the original, and its
# weight $\lambda$ is called `proximity`. The third term is the distance to the mean code, and its
# weight $\mu$ is called `prior`. If codes of real images are normally distributed, then $|s + u|^2$
# is, up to a constant, twice their negative log density.
#
# ### Exercise 3 · The objective
#
# *Easy, 5 minutes.* Return $L$, one number per image.
#
# - `odds`: log odds of the target, shape (b,)
# - `u`, `start`: the change $u$ and the start $s$, shape (b, d)
# - output: shape (b,)
#
# <details><summary>Hint 1</summary>
#
# $|u|^2$ is the sum of the squares over the coordinates of one image.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Dimension 0 counts images. Do not sum over it.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Write one line per term, then add the three terms. Only one of them has a minus sign.
#
# </details>


# %% tags=["exercise"]
def objective(odds, u, start, proximity: float = 0.1, prior: float = 0.3) -> torch.Tensor:
    """Return the loss of each image, which the search minimises, (b,)."""
    ### BEGIN SOLUTION
    change = (u**2).sum(1)
    from_mean = ((start + u) ** 2).sum(1)
    return -odds + proximity * change + prior * from_mean
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb02.objective(objective)

# %%
move = cfx.course.piece("nb02.move", move)
objective = cfx.course.piece("nb02.objective", objective)

# %% [markdown]
# ## Piece 4: which way to go
#
# A pixel attack computes the gradient of the loss with respect to the image. Here the gradient
# passes through the generator, to the change $u$ of the code. By the chain rule,
#
# $$\frac{\partial o}{\partial u} = \sigma \odot
# \left(\frac{\partial G}{\partial z}\right)^{\!\top} \frac{\partial o}{\partial x}.$$
#
# The matrix $\partial G / \partial z$ has one row per pixel and one column per coordinate of the
# code. So all changes of pixels that the generator cannot draw are removed from the gradient. This is
# the whole difference between the two attacks. You do not need to compute the matrix: autograd
# applies it.
#
# ### Exercise 4 · The gradient through the decoder
#
# *Medium, 8 minutes.* Use `move`, `log_odds` and `objective`.
#
# - `space.decode(cfx.Code(z))` draws images from codes, and `classifier` returns their logits
# - `z0`, `u`: original codes and changes, shape (b, d). Do not modify `u`.
# - `target`: shape (b,)
# - output: a pair, the log odds (b,) without gradient history, and the gradient of the objective
#   with respect to `u`, (b, d)
#
# `standardise(z0 - space.mean, space.std)` is the start $s$.
#
# <details><summary>Hint 1</summary>
#
# Autograd needs a tensor that collects gradients. `requires_grad_()` would change the argument
# itself, so make a copy of `u` first.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Autograd differentiates one number. Images do not affect each other, so the gradient of the *sum*
# of all losses holds the gradient of each image in its own row.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `torch.autograd.grad(number, tensor)` returns a tuple with one gradient.
#
# </details>


# %% tags=["exercise"]
def evaluate(space, classifier, z0, u, target) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log odds at the change u, (b,), and the gradient of the objective, (b, d)."""
    ### BEGIN SOLUTION
    u = u.detach().clone().requires_grad_()
    start = standardise(z0 - space.mean, space.std)
    logits = classifier(space.decode(cfx.Code(move(space, z0, u))))
    odds = log_odds(logits, target)
    loss = objective(odds, u, start).sum()
    return odds.detach(), torch.autograd.grad(loss, u)[0]
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb02.evaluate(evaluate)

# %%
evaluate = cfx.course.piece("nb02.evaluate", evaluate)

# %% [markdown]
# ## Piece 5: the search
#
# The search starts at $u = 0$. In each step it evaluates all images, and then moves every image
# against its gradient with the optimiser Adam. An image has reached the target as soon as the
# probability of the target is at least the `confidence` $c$. In log odds this reads
#
# $$o \ge \log\frac{c}{1-c}.$$
#
# The result of an image is its change at the *first* step that reaches the target. Later steps of
# the other images must not move it, because the result of an image would then depend on the batch.
#
# ### Exercise 5 · The search
#
# *Hard, 20 minutes.* Write the loop with `evaluate`.
#
# - evaluate at most `steps + 1` times: once at $u = 0$, and once after each step
# - stop early when all images have reached the target
# - output: a pair, the changes `found` (b, d), and `reached`, bool (b,)
# - special case: an image that never reaches the target keeps its last change in `found`
#
# `torch.optim.Adam([u], lr=lr)` moves the tensor `u` itself. It reads the gradient from `u.grad`,
# which you set in each step.
#
# <details><summary>Hint 1</summary>
#
# You need four things before the loop: `u`, the optimiser, `found` and `reached`. Be careful: `found`
# must not be the same tensor as `u`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# In each step there are images that reach the target *now*, for the first time: their log odds are
# high enough, and `reached` is still False. Copy their rows of `u` to `found`.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Images that have not reached the target can be copied in every step. Then the last copy is right.
# Do the copy before the optimiser moves `u`.
#
# </details>


# %% tags=["exercise"]
def search(space, classifier, z0, target, steps=25, lr=0.3, confidence=0.995):
    """Return the change at the first success, (b, d), and which images succeed, bool (b,)."""
    ### BEGIN SOLUTION
    u = torch.zeros_like(z0)
    found = u.clone()
    reached = torch.zeros(len(z0), dtype=torch.bool)
    need = math.log(confidence / (1 - confidence))
    adam = torch.optim.Adam([u], lr=lr)
    for _ in range(steps + 1):
        odds, u.grad = evaluate(space, classifier, z0, u, target)
        found[~reached] = u[~reached]
        reached |= odds >= need
        if reached.all():
            break
        adam.step()
    return found, reached
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb02.search(search)

# %% [markdown]
# Watch your search: the slider goes through the steps of the first image. The film uses smaller steps
# than the attack (`lr=0.03`), so that you can follow the change. Nothing happens to the decision for
# some steps, and then it changes within a few.

# %%
search = cfx.course.piece("nb02.search", search)
z0 = space.encode(images).z
film = [search(space, classifier, z0[:1], wanted[:1], n, lr=0.03)[0] for n in range(16)]
film = torch.cat(film)
frames = space.decode(cfx.Code(move(space, z0[:1], film)))
film_p = classifier(frames).softmax(1)[:, target]

# %% jupyter={"source_hidden": true}
titles = [f"step {n}: {p:.0%}" for n, p in enumerate(film_p)]
cfx.explore(lambda step: cfx.gallery(frames[step][None], [titles[step]]), step=(0, 15))
cfx.gallery(frames, [title.replace(": ", "\n") for title in titles], n_columns=8)

# %% [markdown]
# ## Piece 6: the step back
#
# Gradient steps are long, so the search ends beyond the border between the classes. We go back along
# the straight line to the original, as far as the decision allows. A **bisection** finds the place:
# each call of the classifier halves the interval.
#
# ### Exercise 6 · The step back
#
# *Medium, 8 minutes.* Find one fraction per image, for all images at the same time.
#
# - `reaches(fraction)`: takes fractions of shape (n,), and returns for each image whether this
#   fraction of its change reaches the target, bool (n,)
# - every image reaches the target at 1, and not at 0
# - `halvings`: how often each interval is halved. Call `reaches` once per halving.
# - output: the smallest fractions that were *seen* to reach the target, shape (n,)
#
# <details><summary>Hint 1</summary>
#
# Keep two tensors: `low`, where the target is not reached, and `high`, where it is.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Each image has its own answer. `torch.where(condition, a, b)` chooses per image.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The middle of the last interval was perhaps never tested. One of the two ends was.
#
# </details>


# %% tags=["exercise"]
def shrink(reaches, n: int, halvings: int = 5) -> torch.Tensor:
    """Return the smallest tested fraction of each change that reaches the target, (n,)."""
    ### BEGIN SOLUTION
    low, high = torch.zeros(n), torch.ones(n)
    for _ in range(halvings):
        middle = (low + high) / 2
        works = reaches(middle)
        low = torch.where(works, low, middle)
        high = torch.where(works, middle, high)
    return high
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb02.shrink(shrink)

# %% [markdown]
# ## Your latent attack
#
# You have all pieces. Now put them together.
#
# ### Exercise 7 · Assemble the attack
#
# *Hard, 15 minutes.* Encode the images, search, step back, and decode. Use `search`, `shrink`,
# `move` and `log_odds`.
#
# - `images`: shape (b, 1, 32, 32); `target`: one class for all images, an int
# - output: three parts, the changed images, their codes `z` (b, d), and `reached`, bool (b,)
# - special case: an image that did not reach the target keeps its full change
#
# The check runs your attack on eight digits, and compares it with `cfx.latent_attack`. The flips must
# be the same. Each code may be at most 0.02 standard deviations away. The judge must read the target
# more often than after a pixel attack.
#
# <details><summary>Hint 1</summary>
#
# `space.encode(images).z` are the codes. `search` and `log_odds` need one target per image.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `shrink` needs a function of the fraction. Define it inside your function. It moves the codes by
# this fraction of `u`, decodes and classifies them, and compares the log odds with those of the
# confidence 0.995.
#
# </details>
# <details><summary>Hint 3</summary>
#
# A fraction has the shape (b,), and a change (b, d): `fraction[:, None]` has one number per row. The
# step back needs no gradients, so `with torch.no_grad():` saves time.
#
# </details>


# %% tags=["exercise"]
def my_latent_attack(space, classifier, images, target: int, confidence: float = 0.995):
    """Return counterfactual images, their codes, and which of them reach the target."""
    ### BEGIN SOLUTION
    z0 = space.encode(images).z
    classes = torch.full((len(images),), target)
    u, reached = search(space, classifier, z0, classes, confidence=confidence)
    need = math.log(confidence / (1 - confidence))

    def reaches(fraction):
        z = move(space, z0, fraction[:, None] * u)
        with torch.no_grad():
            return log_odds(classifier(space.decode(cfx.Code(z))), classes) >= need

    fraction = torch.where(reached, shrink(reaches, len(u)), 1.0)
    z = move(space, z0, fraction[:, None] * u)
    return space.decode(cfx.Code(z)).detach(), z, reached
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb02.my_latent_attack(my_latent_attack)

# %% [markdown]
# ## A baseline: a random direction
#
# Is it the *direction* of your change that flips the decision, or only its length? A fair baseline
# has the same length and a random direction.
#
# ### Exercise 8 · A random direction of the same length
#
# *Easy, 5 minutes.* Return a random change for each row of `u`.
#
# - `u`: changes of your attack, shape (b, d)
# - `seed`: the same seed gives the same changes
# - output: shape (b, d). Each row has a random direction and the length of its row of `u`.
#   Coordinates that are 0 in `u` stay 0.
#
# <details><summary>Hint 1</summary>
#
# `torch.randn(shape, generator=g)` draws from the generator `g = torch.Generator()`, which has the
# method `manual_seed`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `norms(u)` returns the length of each row, shape (b,).
#
# </details>
# <details><summary>Hint 3</summary>
#
# First set the unused coordinates of the noise to 0, and then change its length. The other order
# gives rows that are too short.
#
# </details>


# %% tags=["exercise"]
def random_change(u: torch.Tensor, seed: int) -> torch.Tensor:
    """Return random changes with the lengths of the rows of u, (b, d) -> (b, d)."""
    ### BEGIN SOLUTION
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn(u.shape, generator=g) * (u != 0)
    return noise * (norms(u) / norms(noise))[:, None]
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb02.random_change(random_change)

# %% [markdown]
# ## How to measure
#
# A counterfactual has to convince two readers. The classifier must read the target: this is a
# **flip**. The judge should read it too. We ask the judge about flips only, because an image that did
# not flip is no counterfactual.
#
# ### Exercise 9 · Flips, and what the judge thinks of them
#
# *Easy, 6 minutes.* `cfx.predict_logits(network, image)` returns logits, (b, k).
#
# - `image`: changed images, (b, 1, 32, 32); `target`: an int
# - output: two floats, the fraction of images that flip, and the fraction *of the flips* in which the
#   judge reads the target
# - special case: if nothing flips, the second number is NaN
#
# <details><summary>Hint 1</summary>
#
# The class that a network reads is the one with the largest logit.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A bool tensor selects rows of another tensor.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The mean needs floating-point numbers: `.double()`.
#
# </details>


# %% tags=["exercise"]
def measure(image, target: int, classifier, judge) -> tuple[float, float]:
    """Return the fraction of flips, and the fraction of flips with which the judge agrees."""
    ### BEGIN SOLUTION
    flipped = cfx.predict_logits(classifier, image).argmax(1) == target
    read = cfx.predict_logits(judge, image).argmax(1)
    agreed = read[flipped] == target
    return float(flipped.double().mean()), float(agreed.double().mean())
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb02.measure(measure)

# %% [markdown]
# ## Your attack on real images
#
# Now your attack changes all images. Three others run beside it: the library's latent attack, the
# pixel attack, and your random direction. First make a guess.

# %%
choices = ["almost never", "about half of the time", "almost always"]
guess = cfx.predict_then_run(
    "After a flip by the pixel attack, the judge reads the target", choices
)

# %%
shrink = cfx.course.piece("nb02.shrink", shrink)
my_latent_attack = cfx.course.piece("nb02.my_latent_attack", my_latent_attack)
random_change = cfx.course.piece("nb02.random_change", random_change)
measure = cfx.course.piece("nb02.measure", measure)
mine, z, reached = my_latent_attack(space, classifier, images, target)
u = standardise(z - z0, space.std)
random = space.decode(cfx.Code(move(space, z0, random_change(u, seed))))
methods = ["your attack", "library", "pixel attack", "random direction"]
found = [mine, latent.image, pixel.image, random]
rows = [measure(image, target, classifier, judge) for image in found]
table = pd.DataFrame(rows, index=methods, columns=["flipped", "judge agrees"])
table.round(2)

# %%
agreed = table.loc["pixel attack", "judge agrees"]
guess(
    choices[int(agreed > 0.2) + int(agreed > 0.8)],
    why="The pixel attack may change each pixel alone. A small pattern of noise is enough to move the "
    "logits of this one classifier. The judge has other weights, so the pattern means nothing to it.",
)

# %% jupyter={"source_hidden": true}
shown = torch.cat([images[:8], *(image[:8] for image in found)])
cfx.gallery(shown, n_columns=8, row_labels=["original", *methods])

# %% [markdown]
# Rows: the originals, and four methods. Your attack and the library give the same digits. The pixel
# attack leaves the digit as it is and adds faint noise. A random change of the same length changes the
# handwriting, and sometimes the digit, but hardly ever to the target. So the direction matters, and
# not only the length.
#
# The next cell states the agreement in numbers: the same flips, and the largest distance of two codes
# in standard deviations.

# %%
apart = norms(standardise(z - latent.code_after.z, space.std))
same_flips = reached.tolist() == [status == "flipped" for status in latent.status]
pd.Series({"same flips": same_flips, "largest distance of two codes": f"{apart.max():.4f}"})

# %% jupyter={"source_hidden": true}
# NBVAL_CHECK_OUTPUT
print("same flips as the library:", same_flips)
print("codes within 0.02 standard deviations:", bool(apart.max() < 0.02))

# %% [markdown]
# ## What does each piece contribute?
#
# The paper maximises the probability itself. It measures the change in raw coordinates, without the
# two distances and without a step back, and stops at a confidence of one half. `cfx.PAPER_ATTACK`
# holds these settings. All ten digits are now changed to the next digit.

# %%
choices = ["almost never", "about half of the time", "almost always"]
guess = cfx.predict_then_run("After a flip with the paper's settings, the judge agrees", choices)

# %%
mixed = cfx.data.digits("test")[: 2 * count]
following = (mixed.labels + 1) % 10
paper = {**cfx.PAPER_ATTACK, "steps": cfx.by_profile(profile, ci=60, cpu=150, gpu=5000)}
without = {"binary_search_steps": 0, "prior": 0.0, "proximity": 0.0}
settings = {"all pieces": {}, **{f"{k} = 0": {k: v} for k, v in without.items()}, "paper": paper}
runs = {
    name: cfx.latent_attack(space, classifier, mixed.images, following, **options)
    for name, options in settings.items()
}
report = cfx.report(runs, classifier=classifier, judge=judge, code_std=space.std)
report[["flip rate", "judge agrees", "code distance", "generator passes per flip"]].round(2)

# %%
agreed = report.loc["paper", "judge agrees"]
guess(
    choices[int(agreed > 0.2) + int(agreed > 0.8)],
    why="At a confidence of one half, the search stops right behind the border. There, the classifier "
    "and the judge often disagree. Without the prior, codes can also leave the region of real codes.",
)

# %% [markdown]
# Compare each row with the first one. Without the prior, the judge agrees less often, and the search
# needs more passes through the generator. Without the step back (`binary_search_steps = 0`), the judge agrees more often, but
# the change is longer. The paper's settings also differ in the confidence, so this row compares two
# goals and not only two methods. The next section looks at the confidence alone.
#
# ## Which confidence?
#
# Your attack has the argument `confidence`. A higher confidence costs a longer change. What do we get
# for it? The next cell runs *your* attack with five levels.

# %%
levels = [0.6, 0.9, 0.95, 0.99, 0.995]
rows = []
for level in levels:
    image, code, _ = my_latent_attack(space, classifier, images, target, level)
    distance = norms(standardise(code - z0, space.std)).mean()
    rows.append((*measure(image, target, classifier, judge), float(distance)))
columns = ["flipped", "judge agrees", "code distance"]
by_level = pd.DataFrame(rows, columns=columns, index=pd.Index(levels, name="confidence"))
by_level.round(2)

# %% jupyter={"source_hidden": true}
cfx.curves(
    by_level["code distance"],
    {"your attack": by_level["judge agrees"]},
    xlabel="code distance (standard deviations), for confidence 0.6 to 0.995",
    ylabel="judge agrees",
)

# %% [markdown]
# At a confidence of 0.6 the judge often disagrees. Near the border there are images that only *this*
# classifier reads as the target. A higher confidence moves the image further into the class, and the
# change becomes longer. Compare two methods at the same agreement of the judge, and not at the same
# confidence.
#
# ## Many answers to one question
#
# A counterfactual is *one* small change that flips the decision, and there are others. The library
# can start at a random change (`init_noise`, in standard deviations). The seed decides where the
# search starts, and so where it ends.

# %%
answers = [
    cfx.latent_attack(space, classifier, images[:1], target, init_noise=1.0, seed=seed + k)
    for k in range(6)
]
cfx.gallery(
    torch.cat([images[:1], *(a.image for a in answers)]),
    ["original", *(f"seed {seed + k}" for k in range(6))],
)

# %% [markdown]
# ## Where it fails
#
# A method that never reports failures hides them. The library gives each image a **status**. Here
# the budget is much too small on purpose, and in the second column the target is the digit itself.

# %%
hurried = cfx.latent_attack(space, classifier, images, target, steps=4, restarts=0)
own = cfx.latent_attack(space, classifier, images, source, steps=4, restarts=0)
statuses = {"4 steps": hurried.status, "target = own digit": own.status}
pd.DataFrame({k: pd.Series(v).value_counts() for k, v in statuses.items()}).fillna(0).astype(int)

# %% [markdown]
# - `not_found`: the budget is used up. More steps may help, or the space holds no such image.
# - `already_target`: the classifier reads the target already, so there is nothing to explain.
# - `reconstruction_is_target`: encoding and decoding alone change the decision. Then a change of the
#   code explains nothing.
# - `no_gradient`: the gradient is zero, for example behind a saturated sigmoid. Log odds avoid this.

# %% jupyter={"source_hidden": true}
# NBVAL_CHECK_OUTPUT
print("statuses are known:", set(hurried.status + own.status) <= set(cfx.types.STATUSES))
print("own digit is already the target:", set(own.status) == {"already_target"})

# %% [markdown]
# ## Limits
#
# - The result is a statement about classifier **and** space together. Another space gives other
#   counterfactuals.
# - The step back finds the smallest change along a straight line. This is not the smallest change of
#   all.
# - The gradient passes through the classifier. `cfx.latent_attack` therefore refuses a `BlackBox`.
#   [07 Global directions](07_global_directions.ipynb) needs queries only.
# - The judge was trained on the same digits as the classifier, so both can make the same mistakes.

# %% [markdown] tags=["open-task"]
# ## Open task · Your own pair of digits
#
# *About 30 minutes.* Choose a digit and a target that you expect to be *hard*, and run your attack.
# Find one image where the result does not convince you, and explain why. Then change one piece of
# your attack, and measure whether this helps.
#
# **Rubric**
#
# | points | what |
# |---|---|
# | 1 | The pair is named, with a reason why it is hard, written down before the first run. |
# | 2 | A table with flips, agreement of the judge and code distance, of your attack and one baseline. |
# | 2 | A picture of one failure, and an explanation that names the piece that causes it. |
# | 2 | One changed piece, measured on at least 20 images, with the numbers before and after. |
# | 1 | A sentence that says what your numbers do *not* show. |

# %% [markdown] tags=["answer"]
# *Your text: the pair, the failure and its cause, the changed piece and its effect.*

# %% tags=["answer"]
# Your code. For example: ones = cfx.data.digits("test").select(1).images[:40]

# %% [markdown] tags=["solution-only"]
# *An example.* A 1 has one stroke, and an 8 has two loops, so we expect long changes. We double the
# weight of the prior and measure again. With 40 images, the flips rise from 95 % to 100 %, and the
# agreement of the judge falls from 93 % to 90 %. These differences are two images and one image, so
# they do not show that one setting is better.

# %% tags=["solution-only"]
ones = cfx.data.digits("test").select(1).images[:count]
for prior in (0.3, 0.6):
    eights = cfx.latent_attack(space, classifier, ones, 8, prior=prior, restarts=0)
    read = cfx.predict_logits(judge, eights.image).argmax(1) == 8
    length = norms(standardise(eights.code_after.z - eights.code_before.z, space.std))
    print(
        f"prior {prior}: flipped {eights.flipped.double().mean():.2f}, "
        f"judge {read.double().mean():.2f}, code distance {length.mean():.2f}"
    )
cfx.gallery(
    torch.cat([ones[:8], eights.image[:8]]), n_columns=8, row_labels=["original", "to an 8"]
)

# %% [markdown]
# ## Summary
#
# You have written a counterfactual attack: log odds, a change in standard deviations, an objective
# with two distances, a gradient through the generator, a search, and a step back. Your attack finds
# the same counterfactuals as the library. The pixel attack convinces only the classifier, and a
# random direction of the same length hardly ever reaches the target.
#
# **Questions to think about.** Why does the distance to the mean code help the judge? What would a
# pixel attack need to become a counterfactual? When is the closest counterfactual the wrong one to
# show?
#
# **Next:** [03 What changed](03_what_changed.ipynb) gives names to the changes.
#
# **References.** J. Goldwasser, G. Hooker,
# [Counterfactual Attacks](https://arxiv.org/abs/2504.15479), 2025 · A.-K. Dombrowski et al.,
# [Diffeomorphic counterfactuals with generative models](https://arxiv.org/abs/2206.05075), 2022 · A.
# Madry et al., [Towards deep learning models resistant to adversarial
# attacks](https://arxiv.org/abs/1706.06083), 2018 · D. P. Kingma, J. Ba,
# [Adam](https://arxiv.org/abs/1412.6980), 2015. Digits: MNIST, Y. LeCun, C. Cortes, C. J. C. Burges,
# CC BY-SA 3.0.
