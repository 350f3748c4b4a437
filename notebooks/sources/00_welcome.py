# %% [markdown]
# # 00 · Welcome: change a decision
#
# **About 20 minutes · two CPU cores are enough · nothing is downloaded · [glossary](../docs/glossary.md)**
#
# Here is a handwritten 4. A neural network reads it as a 4, and we ask: *what would have to be
# different for it to read a 9?* The answer is another picture, a **counterfactual**. In five
# minutes you will have one; in twenty you will know how far to trust it.
#
# ## What you will be able to do
#
# - **make** a counterfactual of a real image with one call, and walk from one to the other
# - **tell** a counterfactual from an adversarial example, with the help of an independent judge
# - **measure** three things about counterfactuals: do they flip, does the judge agree, how far
#   did they go
# - **say** what a counterfactual explanation is, and what it is not
#
# You need some Python and to have seen a PyTorch tensor. You don't need to know any generative
# model: the next notebook begins there.
#
# ## Is everything in place?
#
# Every notebook starts with this cell. A ✘ comes with what to do about it.

# %%
import torch

import cfxnb as cfx

cfx.doctor()

# %% tags=["parameters"]
profile: str = "cpu"  # ci, cpu or gpu: how much is computed
row: int = 4  # which of the fours in the test set is changed

# %%
count = cfx.by_profile(profile, ci=20, cpu=60, gpu=500)
space = cfx.load("digits/vae")  # a generator of digits, with its inverse
classifier = cfx.load("digits/classifier")  # the network that is to be explained
judge = cfx.load("digits/judge")  # another network, trained by other people

# %% [markdown]
# ## One image, two readers
#
# `classifier` is the network we want to understand. `judge` is a second one, trained elsewhere by
# other people, that no method in this course ever gets to see. Both take images and return one
# number a class, the *logits*; the largest wins.

# %%
test = cfx.data.digits("test")
fours = test.select(4)
four = fours[row]
reading = int(classifier(four.images).argmax())
judged = int(judge(four.images).argmax())
cfx.gallery(
    four.images,
    [f"classifier: {reading}\njudge: {judged}"],
    alt=f"A handwritten 4; the classifier reads {reading}, the judge {judged}.",
)

# %% [markdown]
# ## Predict, then run
#
# Before you ask the machine, ask yourself. Which part of the picture will have to change?

# %%
compare = cfx.predict_then_run(
    "To become a 9, this 4 will mostly change ...",
    ["in its upper third", "in its middle", "in its lower third"],
)

# %% [markdown]
# Now the call. `target=9` is the decision we want to see; `space` says which images count as
# digits. In it every image has a **code**, twenty numbers from which the space draws it. The method
# looks for a code at which the classifier reads 9 with at least 99.5 % confidence, and then goes
# back as far as that allows. In the result, `start.z` is the code of the original and `code.z` that
# of the counterfactual.

# %%
counterfactual = cfx.latent_attack(space, classifier, four.images, 9)
cfx.show(counterfactual, judge=judge)

# %% [markdown]
# From left to right: the original, what the space makes of it without any change (a little is
# always lost), the counterfactual, and the difference between these two: purple got brighter,
# orange darker. We can count where:

# %%
change = (counterfactual.image - counterfactual.reconstruction)[0, 0].abs()
thirds = change[6:27].reshape(3, 7, 32).sum(dim=(1, 2))  # digits fill rows 6 to 26
places = ["in its upper third", "in its middle", "in its lower third"]
print(compare(places[int(thirds.argmax())]))
print("change of brightness:", {p: round(float(v), 1) for p, v in zip(places, thirds, strict=True)})

# %% [markdown]
# ## Walk the path
#
# Between the 4 and the 9 lies a path of images. Take the slider (click it, or tab to it and use
# the arrow keys) and walk: at which step would *you* say it has become a 9? The title tells what
# the two networks say.

# %%
steps = 9
weights = torch.linspace(0, 1, steps).unsqueeze(1)
codes = counterfactual.code_before.z + weights * (
    counterfactual.code_after.z - counterfactual.code_before.z
)
path = space.decode(cfx.Code(codes))
p_classifier = classifier(path).softmax(1)[:, 9]
p_judge = judge(path).softmax(1)[:, 9]


def draw_step(step: int) -> cfx.Picture:
    told = f"p(9): classifier {p_classifier[step]:.0%}, judge {p_judge[step]:.0%}"
    title = f"step {step}\n{told.replace(', ', chr(10))}"
    return cfx.gallery(path[step : step + 1], [title], alt=f"Step {step} of {steps - 1}. {told}.")


cfx.explore(draw_step, step=(0, steps - 1))

# %% [markdown]
# The whole walk at a glance, for pages on which nothing moves:

# %%
cfx.gallery(
    path,
    [f"{p:.0%}" for p in p_classifier],
    n_columns=steps,
    alt="Nine images from the 4 to the 9; above each, the classifier's probability of a 9: "
    + ", ".join(f"{p:.0%}" for p in p_classifier),
)

# %% [markdown]
# ### Exercise 1 · A path between two codes
#
# *Easy, 3 minutes.* Above, the path was made by mixing two codes. Write that down: `steps` codes
# from `start` to `end`, evenly spaced, both ends included.
#
# <details><summary>Hint 1</summary>
#
# At weight 0 the code is the start, at weight 1 the end.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.linspace(0, 1, steps)` makes the weights.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `weights.unsqueeze(1)` has shape (steps, 1); multiplied by a code of shape (dims,) it gives
# (steps, dims).
#
# </details>


# %% tags=["exercise"]
def straight_path(start: torch.Tensor, end: torch.Tensor, steps: int) -> torch.Tensor:
    """Codes from start to end, each (dims,): shape (steps, dims)."""
    ### BEGIN SOLUTION
    weights = torch.linspace(0, 1, steps).unsqueeze(1)
    return start + weights * (end - start)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb00.straight_path(straight_path)

# %% [markdown]
# ## Two opinions along the way
#
# A classifier that has learned what a 9 is changes its mind where people do. The judge is our
# stand-in for people: it never took part in the search.

# %%
cfx.curves(
    range(steps),
    {"classifier": p_classifier, "judge": p_judge},
    xlabel="step from the 4 to the 9",
    ylabel="probability of a 9",
    alt="Two rising curves: the probability of a 9 for classifier and judge, step by step. "
    f"At the end they reach {p_classifier[-1]:.2f} and {p_judge[-1]:.2f}.",
)

# %% [markdown]
# ### Exercise 2 · Where the decision flips
#
# *Easy, 4 minutes.* Given the probabilities along a path, return the first step at which the
# target is more likely than not (above one half), or -1 if that never happens.
#
# <details><summary>Hint 1</summary>
#
# `p > 0.5` gives True and False, one a step.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The argmax of `(p > 0.5).int()` is the first True ...
#
# </details>
# <details><summary>Hint 3</summary>
#
# ... but also 0 if there is none: ask `.any()` first.
#
# </details>


# %% tags=["exercise"]
def flip_point(p: torch.Tensor) -> int:
    """First step with p > 0.5, or -1."""
    ### BEGIN SOLUTION
    above = p > 0.5
    return int(above.int().argmax()) if above.any() else -1
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb00.flip_point(flip_point)

# %% [markdown]
# ## The impostor
#
# There is a much cheaper way to make the classifier say "9": change the *pixels*, each a little,
# in whatever way its gradient asks for. That is an **adversarial attack**. Same question, same
# confidence, no generator:

# %%
impostor = cfx.pixel_attack(classifier, four.images, 9)
cfx.show(impostor, judge=judge)

# %% [markdown]
# The classifier is just as sure. You and the judge are not: this is still a 4, with noise on it.
# **It fools the classifier; it explains nothing about fours and nines.** An impostor can't be told
# by the classifier's probability, only by somebody who wasn't part of the deal.
#
# ## From one image to many
#
# One picture proves little. The same two methods on many fours; for each we ask whether the
# decision flipped and whether the judge agrees.

# %%
batch = fours[:count]
latent = cfx.latent_attack(space, classifier, batch.images, 9)
pixel = cfx.pixel_attack(classifier, batch.images, 9)
random = cfx.random_change(space, classifier, latent)  # as far in the code, anywhere

# %%
# NBVAL_CHECK_OUTPUT
for name, result in {"latent": latent, "pixel": pixel, "random": random}.items():
    fraction = result.flipped.double().mean()
    print(f"{name}: more than nine in ten flipped: {bool(fraction > 0.9)}")

# %% [markdown]
# ### Exercise 3 · Does the judge agree?
#
# *Easy, 4 minutes.* Among the images that **flipped**, how often does the judge read the target?
# If nothing flipped the answer is NaN: a share of nothing is not 0.
#
# <details><summary>Hint 1</summary>
#
# `read == target` is True where the judge agrees.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A boolean tensor as index keeps the True rows: `read[flipped]`.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `.double().mean()` of an empty tensor is NaN by itself.
#
# </details>


# %% tags=["exercise"]
def judge_agreement(read: torch.Tensor, target: torch.Tensor, flipped: torch.Tensor) -> float:
    """Share of the flipped images, all (n,), that the judge reads as their target."""
    ### BEGIN SOLUTION
    return (read[flipped] == target[flipped]).double().mean().item()
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb00.judge_agreement(judge_agreement)

# %% [markdown]
# The package counts the same things, and more, in one table. The last row is the chance level:
# changes that are equally long *in the code*, in a random direction.

# %%
table = cfx.report(
    {"latent attack": latent, "pixel attack": pixel, "random direction": random},
    classifier=classifier,
    judge=judge,
)
table[["images", "flip rate", "judge agrees", "L2", "COUT"]].round(2)

# %% [markdown]
# Read it row by row. The pixel attack moves *less* (L2) and flips as often, so "small" and
# "flips" can't be all we ask of an explanation. The judge is what tells the two apart. A share of
# judge agreement counts for nothing where next to nothing flipped, as in the last row.
# (**COUT** asks whether a small part of the change does most of the work: 1 is best, -1 worst. It
# can't tell the two attacks apart here either.)
#
# ### Exercise 4 · The smallest successful change
#
# *Medium, 5 minutes.* Several searches gave several candidates for one image. Return the index of
# the **closest one that flipped**, or -1 if none did.
#
# <details><summary>Hint 1</summary>
#
# The closest of all may be one that failed.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Put infinity where it failed: `torch.where(flipped, distance, torch.inf)`.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Then `argmin`; but first ask `flipped.any()`.
#
# </details>


# %% tags=["exercise"]
def smallest_change(distance: torch.Tensor, flipped: torch.Tensor) -> int:
    """Index of the smallest distance among the flipped, both (n,); -1 if there is none."""
    ### BEGIN SOLUTION
    if not flipped.any():
        return -1
    return int(torch.where(flipped, distance, torch.inf).argmin())
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb00.smallest_change(smallest_change)

# %% [markdown]
# ## Your own classifier, in one line
#
# Any torch module becomes a classifier: `cfx.wrap(module)`. Here is one of your own, a single
# linear layer, trained in a few seconds. What does *it* want to see in a 9?

# %%
torch.manual_seed(0)
train = cfx.data.digits("train")[:6000]
layer = torch.nn.Linear(32 * 32, 10)
optimiser = torch.optim.Adam(layer.parameters(), lr=1e-2)
for _ in range(150):
    loss = torch.nn.functional.cross_entropy(layer(train.images.flatten(1)), train.labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
mine = cfx.wrap(torch.nn.Sequential(torch.nn.Flatten(), layer), class_names=list("0123456789"))
right = (cfx.predict_logits(mine, test.images).argmax(1) == test.labels).double().mean()
print(f"accuracy of the linear layer: {right:.1%}")

# %%
for_mine = cfx.latent_attack(space, mine, batch.images[:8], 9)
cfx.gallery(
    torch.cat([batch.images[:8], latent.image[:8], for_mine.image]),
    n_columns=8,
    alt="Eight fours; below them the nines that the convolutional classifier asked for; at the "
    "bottom the nines that the linear layer asked for.",
)

# %% [markdown]
# Originals, what the better classifier asked for, what yours asks for. The search is the same, the
# space is the same; what differs is the classifier, and that is what a counterfactual is about.
#
# ## What a counterfactual explanation is, and is not
#
# - It **is** a statement about a *classifier*: "you would have said 9 if the image had been this".
# - It is **not** a statement about the world, and not the only answer: there are many ways for a 4
#   to become a 9 (notebook 02 makes several).
# - It is only as good as the **space** it was searched in. What the space can't draw can't appear,
#   and an image that it redraws badly should not be explained with it: compare original and
#   reconstruction in the pictures above.
# - A flip **without a judge** proves nothing. The pixel attack flips too.
# - The judge is a network, not the truth. Where the truth is known, by construction, later
#   notebooks use it in the judge's place.
#
# ## Summary
#
# You changed a decision with one call, walked the path, met the impostor, and measured three
# things: flip rate, judge agreement, distance.
#
# **Questions to take along.** Why does a search in a space of digits end at a 9, when a search in
# pixels ends at noise? What if the space itself had never seen a 9? Who should be the judge for
# X-ray images?
#
# **Next:** `01_latent_spaces` opens the box called `space`.
#
# **References.** J. Goldwasser, G. Hooker, *Counterfactual Attacks*, arXiv 2504.15479 · S. Wachter,
# B. Mittelstadt, C. Russell, *Counterfactual explanations without opening the black box*, 2017 ·
# C. Szegedy et al., *Intriguing properties of neural networks*, 2014 · S. Khorram, L. Fuxin, *Cycle-consistent
# counterfactuals by latent transformations*, 2022 (COUT). Digits: MNIST, Y. LeCun,
# C. Cortes, C. J. C. Burges, CC BY-SA 3.0.
