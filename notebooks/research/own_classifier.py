# %% [markdown]
# # Explain your own classifier
#
# This notebook is a template. Copy it, set the parameters below, and run all cells. It explains a
# classifier on a data set by all methods that apply, compares the methods with baselines, and
# writes a page that you can pass on. With the default parameters it explains a shipped classifier
# of digits.
#
# papermill runs it with other parameters:
#
# ```sh
# papermill own_classifier.ipynb out.ipynb -p data photos -p size 64 -p classifier my_package.nets:load_net
# ```

# %% tags=["parameters"]
data: str = "digits"  # digits, faces or chest; or a folder of images, or a table of file names
size: int = 0  # height and width of the images of a folder; 0 keeps the size of the files
classifier: str = (
    "digits/classifier"  # a name, a folder of cfx.train, .pt, .onnx, package.module:function
)
space: str = "digits/vae"  # a name, a folder of cfx.train or of diffusers; "" for none
judge: str = "digits/judge"  # an independent classifier; "" for none
target: str = "second"  # second, next, or the name of a class
n_images: int = 24  # how many images are explained
output_dir: str = "explanation"  # folder for the page and all data
seed: int = 0

# %%
import cfxnb as cfx
from cfxnb.explanation.config import checked, run

# %% [markdown]
# ## The data
#
# A folder is read when its images are used, and files that cannot be used are listed. The split
# "test" is decided by the content of each image, so it stays the same if you add images.
# `python -m cfxnb data FOLDER` prints a longer check.

# %%
settings = {
    "data": {"path": data, "split": "test"} | ({"size": size} if size else {}),
    "classifier": classifier,
    "space": space or None,
    "judge": judge or None,
    "target": target,
    "n_images": n_images,
    "output_dir": output_dir,
    "seed": seed,
}
config = checked(settings)  # says in words what is wrong, before anything is loaded

# %% [markdown]
# ## Explain
#
# The page is written to `output_dir/index.html`. If you interrupt this cell and run it again, it
# continues.

# %%
page = run(config)
page

# %% [markdown]
# Read the warnings first. A method whose flips the judge does not share has found adversarial
# examples. If few decisions survive the space, no method in this space can explain the others.
#
# ## Counterfactuals of one method
#
# Original, reconstruction, counterfactual and difference. Purple pixels became brighter, orange
# pixels became darker.

# %%
name = next(iter(page.results))
cf = page.results[name][:]
cfx.show(cf, max_images=6, class_names=page.class_names)

# %% [markdown]
# ## Where the change matters
#
# Integrated gradients along the line from the counterfactual to the original. Purple pixels speak
# for the original class, orange pixels for the target.

# %%
if page.heat_maps is not None:
    shown = page.heat_maps[cf.flipped]
    display(cfx.heat_maps(shown, max_images=6, class_names=page.class_names))

# %% [markdown]
# ## What changed, by name
#
# If the data has factors (columns of a table, or measured properties), linear models read them off
# the codes. The table shows the mean change of the log odds for each transition of classes.

# %%
page.changes.global_.head(12) if page.changes is not None else "The data has no factors."

# %% [markdown]
# ## Your own question
#
# `page.results` holds the counterfactuals of every method, `page.to_frame()` one row per image and
# method. For example: which transitions are hard?

# %%
rows = page.to_frame()
rows[rows["method"] == name].groupby(["before", "target"])["status"].value_counts().head(12)
