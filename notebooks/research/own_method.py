# %% [markdown]
# # Test your own method
#
# This notebook is a template for a new counterfactual method. It contains a small method, runs it
# beside the methods of the package, and measures what a paper would report: flips, agreement of an
# independent judge, size of the change, cost, and behaviour under other seeds. Replace the method
# by yours.
#
# papermill runs it with other parameters:
#
# ```sh
# papermill own_method.ipynb out.ipynb -p world digits -p n_images 200 -p steps 40
# ```

# %% tags=["parameters"]
world: str = "digits"  # digits or chest: a world with classifier, VAE or similar space, and judge
space: str = "digits/vae"  # the space in which the method searches
classifier: str = "digits/classifier"
judge: str = "digits/judge"
n_images: int = 100  # images that are explained
n_train: int = 1000  # images from which the method may learn
steps: int = 20  # of the bisection
confidence: float = 0.9  # probability of the target that is asked for
seed: int = 0

# %%
from functools import partial

import torch

import cfxnb as cfx
from cfxnb.core.driver import Edit, Run

# %% [markdown]
# ## The method
#
# A method is a function of space, classifier, images and target that returns
# `cfx.Counterfactuals`. `Run` checks the arguments, cuts the images into batches, encodes them,
# decides on the status of each image, and counts the evaluations. You write the function `edit`,
# which gets a batch and returns edited codes.
#
# The example moves each code along the line from the mean code of its class to the mean code of the
# target. A bisection finds the shortest step that reaches the target.


# %%
def towards_mean(space, classifier, images, target, *, means, steps=20, confidence=0.9, seed=0):
    """Move each code along the difference of two class means, as little as needed."""
    run = Run(classifier, images, target, space=space)

    @torch.no_grad()
    def edit(batch):
        centres = means.to(batch.target.device)
        direction = centres[batch.target] - centres[batch.logits_before.argmax(1)]
        low = torch.zeros_like(
            batch.target[:, None], dtype=torch.float32
        )  # does not reach the target
        high = torch.full_like(low, 2.0)  # the largest step that is tried
        for _ in range(steps):
            middle = (low + high) / 2
            images = run.space.decode(
                batch.code_before.with_z(batch.code_before.z + middle * direction)
            )
            chance = run.classifier(images).softmax(1).gather(1, batch.target[:, None])
            reached = chance >= confidence
            low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
        passes = torch.full_like(batch.target, steps)
        code = batch.code_before.with_z(batch.code_before.z + high * direction)
        return Edit(code=code, generator=passes, classifier=passes)

    return run.counterfactuals(edit, function="towards_mean", seed=seed)


# %% [markdown]
# ## The world
#
# The method learns from training images and is tested on others. The judge is never shown to it.

# %%
space_, f, judge_ = (cfx.load(name) for name in (space, classifier, judge))
sets = getattr(cfx.data, world)
train, test = sets("train"), sets("test")
train = train[torch.linspace(0, len(train) - 1, n_train).long()]
test = test[torch.linspace(0, len(test) - 1, n_images).long()]
logits = cfx.predict_logits(f, test.images)
target = logits.topk(2).indices[:, 1]  # the most probable other class

with torch.no_grad():
    codes = space_.encode(train.images).z
    decided = cfx.predict_logits(f, train.images).argmax(1)
    means = torch.stack([codes[decided == c].mean(0) for c in range(logits.shape[1])])

# %% [markdown]
# ## Results beside others
#
# `random_change` changes each code as far as your method does, in a random direction. If it flips
# as many images, your method has found nothing. `pixel_attack` shows what a flip alone is worth.

# %%
own = partial(towards_mean, space_, f, means=means, steps=steps, confidence=confidence)
methods = {
    "own": own,
    "latent attack": partial(cfx.latent_attack, space_, f),
    "pixel attack": partial(cfx.pixel_attack, f),
}
results = {name: method(test.images, target, seed=seed) for name, method in methods.items()}
results["random change"] = cfx.random_change(space_, f, results["own"], seed=seed)
table = cfx.report(results, judge=judge_, confidence_level=0.95)
columns = ["flip rate", "judge agrees", "effectiveness", "L2", "classifier passes per flip"]
table[[c + end for c in columns for end in ("", " low", " high") if c + end in table]].T

# %%
cfx.show(results["own"], max_images=8, judge=judge_)

# %% [markdown]
# ## Does it hold?
#
# With `methods=`, the report calls each method again: towards the class that is already predicted
# (composition), back from the counterfactual (reversibility), with other seeds and with a little
# noise (stability). This takes 15 calls per method.

# %%
few = slice(0, min(n_images, 24))
again = cfx.report({"own": own(test.images[few], target[few])}, methods={"own": own})
again[[c for c in again if any(k in c for k in ("composition", "back", "again", "similarity"))]].T

# %% [markdown]
# ## Where it fails
#
# The images that the method could not flip, beside what was tried.

# %%
failed = [i for i, status in enumerate(results["own"].status) if status == "not_found"]
(cfx.show(results["own"][failed[:8]]) if failed else "Every image was flipped.")
