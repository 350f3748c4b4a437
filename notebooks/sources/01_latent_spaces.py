# %% [markdown]
# # 01 · Latent spaces: what `space` is
#
# **About 40 minutes · two CPU cores are enough · nothing is downloaded · [glossary](../docs/glossary.md)**
#
# A counterfactual was searched "in a space of digits". This notebook opens that box. A generator
# turns twenty numbers into a digit, and an encoder turns a digit into twenty numbers. Between two
# such lists lie digits; between two lists of pixels lies a double exposure.
#
# ## What you will be able to do
#
# - **encode, decode and interpolate**, and say what reconstruction loses
# - **derive** the two ingredients of a variational autoencoder: reparameterisation and KL term
# - **test** whether a prior is filled, with a judge and with baselines
# - **read** a space: traversals of coordinates, principal components of codes
# - **recognise** images that a space can't represent
#
# Needed before: `00_welcome`.

# %%
import pandas as pd
import torch
import torch.nn.functional as F

import cfxnb as cfx
from cfxnb.core.tensors import standardise

cfx.doctor()

# %% tags=["parameters"]
profile: str = "cpu"  # ci, cpu or gpu: how much is computed
first: int = 7  # the digit that an interpolation begins with
last: int = 2  # the digit that it ends with

# %%
count = cfx.by_profile(profile, ci=300, cpu=1000, gpu=10000)
ae_steps = cfx.by_profile(profile, ci=100, cpu=300, gpu=3000)
space = cfx.load("digits/vae", device="cpu")
judge = cfx.load("digits/judge", device="cpu")
test = cfx.data.digits("test")
train = cfx.data.digits("train")[:10000]

# %% [markdown]
# ## Two ways to mix two digits
#
# Mix the pixels, or mix the codes. Predict first: what lies halfway between a 7 and a 2?

# %%
compare = cfx.predict_then_run(
    "Halfway between two digits, the judge is surer of what it sees in ...",
    ["the mix of pixels", "the mix of codes"],
)

# %%
ends = torch.cat([test.select(first).images[:1], test.select(last).images[:1]])
z = space.encode(ends).z
weights = torch.linspace(0, 1, 9)
pixel_mix = torch.stack([torch.lerp(ends[0], ends[1], w) for w in weights])
code_mix = space.decode(cfx.Code(torch.stack([torch.lerp(z[0], z[1], w) for w in weights])))


def draw_mix(step: int) -> cfx.Picture:
    pair = torch.stack([pixel_mix[step], code_mix[step]])
    return cfx.gallery(
        pair,
        ["pixels", "codes"],
        alt=f"Step {step} of 8 from a {first} to a {last}: the mix of pixels on the left, "
        "the mix of codes on the right.",
    )


cfx.explore(draw_mix, step=(0, 8))

# %%
cfx.gallery(
    torch.cat([pixel_mix, code_mix]),
    n_columns=9,
    alt=f"Two rows of nine images from a {first} to a {last}. Above, pixels: one digit fades "
    "out while the other fades in. Below, codes: every image is one stroke.",
)

# %% [markdown]
# One pair proves little. On many pairs of different digits we ask the judge how sure it is of
# *something* halfway (its largest probability):

# %%
pairs = test[:count]
other = pairs.images.roll(1, 0)
different = pairs.labels != pairs.labels.roll(1, 0)
codes, other_codes = space.encode(pairs.images).z, space.encode(other).z
half_pixels = ((pairs.images + other) / 2)[different]
half_codes = space.decode(cfx.Code((codes + other_codes) / 2))[different]


def confidence(images: torch.Tensor) -> float:
    return cfx.predict_logits(judge, images).softmax(1).amax(1).mean().item()


sure = {"the mix of pixels": confidence(half_pixels), "the mix of codes": confidence(half_codes)}
print(compare(max(sure, key=lambda k: sure[k])))
print({k: round(v, 3) for k, v in sure.items()}, "real digits:", round(confidence(pairs.images), 3))

# %% [markdown]
# The gap is there, and it is not huge: a double exposure often resembles *some* digit, and a point
# halfway between two codes may lie between the clusters. Keep that in mind when somebody says
# "the manifold": a space is a model of it.
#
# ## Encode, decode, and what gets lost
#
# `encode` gives a `Code`; its `z` is the list of numbers that methods edit. `decode` draws it.
# Let us look at the digits that survive worst.

# %%
code = space.encode(pairs.images)
rebuilt = space.decode(code)
error = ((rebuilt - pairs.images) ** 2).mean(dim=(1, 2, 3))
worst = error.argsort(descending=True)[:10]
print(
    "code of one image:", tuple(code.z[0].shape), "numbers for", pairs.images[0].numel(), "pixels"
)
cfx.gallery(
    torch.cat([pairs.images[worst], rebuilt[worst]]),
    n_columns=10,
    alt="The ten worst reconstructions: originals above, reconstructions below. Loops close, "
    "ornaments vanish, strokes get straighter.",
)

# %% [markdown]
# ### Exercise 1 · What reconstruction loses
#
# *Easy, 3 minutes.* The mean squared error of **each image**: shape (n, c, h, w) in, (n,) out.
#
# <details><summary>Hint 1</summary>
#
# Square the differences before averaging.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `.mean(dim=...)` takes several dimensions.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `((a - b) ** 2).mean(dim=(1, 2, 3))`
#
# </details>


# %% tags=["exercise"]
def reconstruction_error(images: torch.Tensor, rebuilt: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each image, (n,)."""
    ### BEGIN SOLUTION
    return ((images - rebuilt) ** 2).mean(dim=(1, 2, 3))
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.reconstruction_error(reconstruction_error)

# %% [markdown]
# ## Three autoencoders
#
# The simplest pair of encoder and decoder is linear: **PCA**. A network in its place, trained only
# to rebuild, is an **autoencoder**. Neither says anything about codes that belong to no image. A
# **variational autoencoder** (VAE) adds exactly that: its codes are a cloud with a known shape.
#
# A plain autoencoder trains here in seconds, with the same layers as the shipped VAE:

# %%
torch.manual_seed(0)
plain = type(space.net)(dims=20)  # the same network, untrained
optimiser = torch.optim.Adam(plain.parameters(), lr=2e-3)
for _ in range(ae_steps):
    batch = train.images[torch.randint(len(train), (64,))]
    loss = F.binary_cross_entropy_with_logits(plain.decode_logits(plain.posterior(batch)[0]), batch)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
plain.eval()
print(f"loss after {ae_steps} steps: {loss.item():.3f} nats a pixel")

# %%
flat = train.images.flatten(1)
mean = flat.mean(0)
directions = torch.linalg.svd(flat - mean, full_matrices=False).Vh[:20]


def pca_encode(images: torch.Tensor) -> torch.Tensor:
    return (images.flatten(1) - mean) @ directions.T


def pca_decode(z: torch.Tensor) -> torch.Tensor:
    return (z @ directions + mean).clamp(0, 1).view(-1, 1, 32, 32)


with torch.no_grad():
    plain_codes = plain.posterior(train.images)[0]
    trio = {
        "PCA": (pca_encode, pca_decode, pca_encode(train.images)),
        "autoencoder": (lambda x: plain.posterior(x)[0], plain.decode, plain_codes),
        "VAE": (lambda x: space.encode(x).z, space.net.decode, space.encode(train.images).z),
    }

# %% [markdown]
# ## Is there anything between the codes?
#
# Draw a random code with the mean and spread of the real ones, decode it, and ask the judge. A
# filled space gives digits; an empty one gives something between digits and smears.

# %%
g = torch.Generator().manual_seed(0)
rows, drawn = {}, []
with torch.no_grad():
    for name, (encode, decode, real) in trio.items():
        samples = decode(real.mean(0) + real.std(0) * torch.randn(count, 20, generator=g))
        drawn.append(samples[:10])
        loss_here = ((decode(encode(pairs.images)) - pairs.images) ** 2).mean().item()
        rows[name] = {"reconstruction error": loss_here, "judge on samples": confidence(samples)}
rows["real digits"] = {"reconstruction error": 0.0, "judge on samples": confidence(pairs.images)}
noise = torch.rand(count, 1, 32, 32, generator=g)
rows["uniform noise"] = {"judge on samples": confidence(noise)}
pd.DataFrame.from_dict(rows, orient="index").round(4)

# %%
cfx.gallery(
    torch.cat(drawn),
    n_columns=10,
    alt="Random codes, decoded. First row PCA: blurred smears. Second row autoencoder: strokes "
    "that are hardly digits. Third row VAE: digits, some of them between two classes.",
)

# %% [markdown]
# The VAE's samples satisfy the judge most. Part of that is training: the autoencoder had seconds,
# the VAE ten minutes, so this table doesn't isolate the KL term (give the autoencoder more steps and
# look again). What it does show is what a counterfactual search needs: it wanders through codes
# that belong to no image, and the space must be filled there.
#
# ## The two ingredients of a VAE
#
# The encoder doesn't give a point but a small cloud: mean and log variance of a Gaussian. The
# decoder sees a random point of it:
#
#     z = μ + σ · ε,    ε ~ N(0, 1),    σ = exp(½ log σ²)
#
# Written like this, gradients flow through μ and σ: the **reparameterisation trick**.
#
# ### Exercise 2 · Reparameterise
#
# *Easy, 3 minutes.* Return the random point z for given mean, log variance and noise.
#
# <details><summary>Hint 1</summary>
#
# Noise has spread 1; it must get the spread of the cloud.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The network predicts the log of the *variance*.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `(0.5 * log_variance).exp()` is the standard deviation.
#
# </details>


# %% tags=["exercise"]
def reparameterise(
    mean: torch.Tensor, log_variance: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """A point of the cloud; all tensors (b, dims)."""
    ### BEGIN SOLUTION
    return mean + (0.5 * log_variance).exp() * noise
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.reparameterise(reparameterise)

# %% [markdown]
# The second ingredient is a price: each cloud pays for its distance from the prior N(0, 1),
#
#     KL = ½ Σⱼ (μⱼ² + σⱼ² − 1 − log σⱼ²)
#
# in nats. Without it the clouds shrink to points and drift apart, and what lies between them is
# nobody's business.
#
# ### Exercise 3 · The KL term
#
# *Medium, 5 minutes.* Return the KL term of each image, one number each.
#
# <details><summary>Hint 1</summary>
#
# A posterior equal to the prior, mean 0 and log variance 0, must cost nothing.
#
# </details>
# <details><summary>Hint 2</summary>
#
# σ² is `log_variance.exp()`.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Sum over the coordinates, not over the batch.
#
# </details>


# %% tags=["exercise"]
def kl_term(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL divergence from N(0, 1), in nats, (b, dims), (b, dims) -> (b,)."""
    ### BEGIN SOLUTION
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.kl_term(kl_term)

# %% [markdown]
# Which coordinates carry anything? Coordinate by coordinate, the price that the shipped VAE pays:

# %%
with torch.no_grad():
    mean, log_variance = space.net.posterior(pairs.images)
paid = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean(0)
table = pd.Series(paid.numpy(), index=[f"coordinate {j}" for j in range(len(paid))])
used = int((paid > 0.1).sum())
cfx.bars(
    table,
    xlabel="mean KL term, nats",
    alt=f"One bar a coordinate, sorted: {used} of {len(paid)} pay more than 0.1 nats, "
    f"the largest {paid.max():.1f}.",
)

# %%
# NBVAL_CHECK_OUTPUT
print("coordinates:", len(paid), "- some of them unused:", used < len(paid))
print("the KL term is real (more than 10 nats):", bool(paid.sum() > 10))

# %% [markdown]
# Coordinates that pay nothing say nothing: the decoder learned to ignore them. Their codes hardly
# vary. `space.std` is the standard deviation of every coordinate over real images; distances in
# this course are measured **in units of the spread**, and coordinates with (nearly) none are left
# alone and count nothing.
#
# ## Traversals: turn one knob
#
# ### Exercise 4 · Traverse one coordinate
#
# *Medium, 5 minutes.* From the code `z` (dims,) of one image make one code a step, in which
# coordinate `dim` is moved by that many *spreads* and everything else stays.
#
# <details><summary>Hint 1</summary>
#
# `z.repeat(len(steps), 1)` makes a copy for each step.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Add to the coordinate; don't replace it.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `codes[:, dim] += steps * std[dim]`
#
# </details>


# %% tags=["exercise"]
def traverse(z: torch.Tensor, dim: int, steps: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Codes (len(steps), dims) in which only coordinate dim differs from z (dims,)."""
    ### BEGIN SOLUTION
    codes = z.repeat(len(steps), 1)
    codes[:, dim] += steps * std[dim]
    return codes
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.traverse(traverse)

# %% [markdown]
# Choose a coordinate (by its rank: 0 pays the most) and an image. What does it control? Usually
# several things at once: slant *and* width, thickness *and* shape. Remember that when somebody
# names a coordinate.

# %%
ranked = paid.argsort(descending=True).tolist()
moves = torch.linspace(-3, 3, 9)


def draw_traversal(rank: int, image: int) -> cfx.Picture:
    codes = code.z[image].repeat(9, 1)
    codes[:, ranked[rank]] += moves * space.std[ranked[rank]]
    return cfx.gallery(
        space.decode(cfx.Code(codes)),
        [f"{m:+.1f}" for m in moves],
        n_columns=9,
        alt=f"Test image {image} with coordinate {ranked[rank]} moved from -3 to +3 spreads.",
    )


cfx.explore(draw_traversal, rank=(0, used - 1), image=(0, 20))

# %%
strips = []
for rank in range(4):
    codes_here = code.z[0].repeat(9, 1)
    codes_here[:, ranked[rank]] += moves * space.std[ranked[rank]]
    strips.append(space.decode(cfx.Code(codes_here)))
cfx.gallery(
    torch.cat(strips),
    n_columns=9,
    alt="The first test image under the four coordinates that carry most, one row each, from -3 "
    "to +3 spreads; each changes slant, width, thickness or even the class, several at once.",
)

# %% [markdown]
# ## A map of the codes
#
# ### Exercise 5 · Principal components
#
# *Medium, 6 minutes.* Project codes (n, dims) on their `k` directions of largest variance.
#
# <details><summary>Hint 1</summary>
#
# Take the mean off first.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.linalg.svd(centred, full_matrices=False)` gives U, S, Vh; rows of Vh are the directions,
# largest first.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `centred @ Vh[:k].T`
#
# </details>


# %% tags=["exercise"]
def principal_components(codes: torch.Tensor, k: int) -> torch.Tensor:
    """Coordinates (n, k) of the codes (n, dims) along their main directions."""
    ### BEGIN SOLUTION
    centred = codes - codes.mean(0)
    directions = torch.linalg.svd(centred, full_matrices=False).Vh
    return centred @ directions[:k].T
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.principal_components(principal_components)

# %%
centred = standardise(code.z - code.z.mean(0), space.std)
components = torch.linalg.svd(centred, full_matrices=False)
kept = (components.S[:2] ** 2).sum() / (components.S**2).sum()
cfx.code_map(
    centred @ components.Vh[:2].T,
    pairs.labels,
    pairs.class_names,
    alt=f"Codes of {count} test digits on two principal components, which keep {kept:.0%} of the "
    "variance: the classes form overlapping clouds.",
)

# %% [markdown]
# Two components (of codes in units of the spread) keep only a small part of what there is: clouds
# that overlap on this map need not overlap in the space. The VAE never saw a label; where classes
# keep together it is because their digits look alike.
#
# ## Limits: what a space can't draw
#
# Turn a digit by ninety degrees and the space, which has never seen such a thing, redraws it as
# something it knows. The reconstruction error gives it away; noise is caught too.

# %%
turned = pairs.images.rot90(1, (2, 3))
strange = {"digits": pairs.images, "turned by 90 degrees": turned, "noise": noise}
with torch.no_grad():
    errors = {
        name: ((space.decode(space.encode(x)) - x) ** 2).mean(dim=(1, 2, 3))
        for name, x in strange.items()
    }
threshold = errors["digits"].quantile(0.95)
for name, values in errors.items():
    above = (values > threshold).double().mean()
    print(f"{name}: mean error {values.mean():.4f}; above the digits' 95th percentile: {above:.0%}")

# %%
cfx.gallery(
    torch.cat([turned[:8], space.decode(space.encode(turned[:8]))]),
    n_columns=8,
    alt="Digits turned by ninety degrees above; below, what the space makes of them: blurred "
    "shapes that resemble other digits.",
)

# %% [markdown]
# - A space **loses** things. Compare the reconstruction, not the original, with the counterfactual.
# - A space **confuses** things: coordinates mix properties, and properties that go together in the
#   data go together in the code.
# - A space **makes up** things: for an image that it doesn't know it draws one that it knows. If
#   that alone changes a decision, the methods say so (status `reconstruction_is_target`).
#
# ## Summary
#
# A space is an encoder and a decoder; a VAE's is filled, because its codes pay for leaving the
# prior. Distances count in units of the spread. Reconstruction is the floor of every distance to the original.
#
# **Questions to take along.** How would the table of samples change with a heavier KL term? Which
# images would *you* refuse to explain with this space? Where would a GAN differ?
#
# **Next:** `02_counterfactual_attacks` searches this space.
#
# **References.** D. Kingma, M. Welling, *Auto-encoding variational Bayes*, 2014 · I. Higgins et
# al., *beta-VAE*, 2017 · D. Castro et al., *Morpho-MNIST*, 2019. Digits: MNIST, Y. LeCun,
# C. Cortes, C. J. C. Burges, CC BY-SA 3.0.
