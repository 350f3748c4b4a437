# %% [markdown]
# # Compare methods
#
# This notebook is a template for a comparison: several methods, with several settings and seeds, on
# the same images, with intervals. Results are kept in a folder. If you run the notebook again, or
# after an interruption, finished results are read from the folder.
#
# papermill runs it with other parameters:
#
# ```sh
# papermill compare_methods.ipynb out.ipynb -p n_images 500 -p seeds "[0, 1, 2]"
# ```

# %% tags=["parameters"]
world: str = "digits"  # digits, faces or chest
classifier: str = "digits/classifier"
judge: str = "digits/judge"
spaces: dict = {"vae": "digits/vae", "ldm": "digits/ldm"}  # name -> what cfx.load reads
methods: list = ["latent_attack vae", "diffusion_counterfactual ldm", "pixel_attack"]
options: dict = {}  # method -> options, such as {"latent_attack": {"steps": 50}}
n_images: int = 40
seeds: list = [0, 1]
output_dir: str = "comparison"

# %%
from pathlib import Path

import pandas as pd
import torch

import cfxnb as cfx

# %% [markdown]
# ## Images and targets
#
# All methods get the same images, evenly spread over the test split, and the same target: the most
# probable other class.

# %%
f, judge_ = cfx.load(classifier), cfx.load(judge)
test = getattr(cfx.data, world)("test")
test = test[torch.linspace(0, len(test) - 1, n_images).long()]
target = cfx.predict_logits(f, test.images).topk(2).indices[:, 1]
loaded = {name: cfx.load(what) for name, what in spaces.items()}

# %% [markdown]
# ## Run
#
# An entry "latent_attack vae" means the function `cfx.latent_attack` with the space "vae". Each
# result has a folder of its own, see `cfx.open`.

# %%
results = {}
for entry in methods:
    name, *space = entry.split()
    before = [loaded[each] for each in space]
    for seed in seeds:
        results[entry, seed] = getattr(cfx, name)(
            *before,
            f,
            test.images,
            target,
            seed=seed,
            output_dir=Path(output_dir) / f"{entry} seed {seed} n {n_images}".replace(" ", "_"),
            **options.get(name, {}),
        )[:]

# %% [markdown]
# ## Table
#
# One row per method, with 95 % intervals over the images, for the first seed.

# %%
first = {entry: results[entry, seeds[0]] for entry in methods}
for entry in methods:
    _, *space = entry.split()
    if space:
        change = cfx.random_change(loaded[space[0]], f, first[entry], seed=seeds[0])
        first[f"random change {space[0]}"] = change
table = cfx.report(first, judge=judge_, confidence_level=0.95)
columns = ["flip rate", "judge agrees", "effectiveness", "L2", "sparsity", "seconds per flip"]
table[[c + end for c in columns for end in ("", " low", " high") if c + end in table]].T

# %% [markdown]
# ## Seeds
#
# The same table for each seed. If a number differs more between seeds than between methods, the
# comparison says nothing about the methods.

# %%
parts = {seed: cfx.report({e: results[e, seed] for e in methods}, judge=judge_) for seed in seeds}
by_seed = pd.concat(parts, names=["seed", "method"])[["flip rate", "judge agrees", "L2"]]
by_seed.swaplevel().sort_index()

# %% [markdown]
# ## Pair by pair
#
# The methods saw the same images, so their answers can be compared image by image. The table counts
# the images on which the judge sees the target for one method and not for the other.

# %%
sees = {
    entry: cfx.predict_logits(judge_, results[entry, seeds[0]].image).argmax(1) == target
    for entry in methods
}
pd.DataFrame(
    {b: {a: int((sees[a] & ~sees[b]).sum()) for a in methods} for b in methods}
).rename_axis(index="sees the target", columns="does not see it")

# %% [markdown]
# ## Pictures
#
# The first images of the test split, and below them the counterfactuals of each method.

# %%
count = min(8, n_images)
cfx.gallery(
    torch.cat([test.images[:count], *(results[e, seeds[0]].image[:count] for e in methods)]),
    n_columns=count,
    row_labels=["original", *methods],
    alt=f"{count} images of {world}, and below them their counterfactuals by {', '.join(methods)}.",
)

# %%
table.to_csv(Path(output_dir) / "methods.csv")
Path(output_dir) / "methods.csv"
