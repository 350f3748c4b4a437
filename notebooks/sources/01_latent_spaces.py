# %% [markdown]
# # 01 · Latent spaces: build and train a variational autoencoder
#
# **About 120 minutes · two CPU cores are enough · nothing is downloaded · [glossary](../docs/glossary.md)**
#
# The methods of this course do not search among pixels. They search in a
# [space](../docs/glossary.md): an encoder turns an image into a short list of numbers, the
# [code](../docs/glossary.md), and a decoder draws the image of a code. In this chapter you build such
# a space. You write the loss of a variational autoencoder (VAE,
# [Kingma and Welling, 2014](https://arxiv.org/abs/1312.6114)), train a small one in less than a
# minute, and hand it to the library, which searches it for counterfactuals.
#
# ## What you will be able to do
#
# - **derive** the evidence lower bound and its two terms
# - **train** a VAE with your own loss and your own loop
# - **compare** your space with the library's, with an autoencoder and with principal components
# - **explain** why reconstructions are blurred, and why some coordinates are not used
# - **recognise** images that a space cannot represent
#
# Needed before: [00 Welcome](00_welcome.ipynb).

# %%
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from tqdm.auto import trange

import cfxnb as cfx
from cfxnb.train.vae import VAELoss

cfx.doctor()

# %% tags=["parameters"]
profile: str = "cpu"  # ci, cpu or gpu: how much is computed
first: int = 7  # the digit that a mixture begins with
last: int = 2  # the digit that it ends with
count: int = 0  # number of test images; 0: as many as the profile says
seed: int = 0

# %% jupyter={"source_hidden": true}
count = count or cfx.by_profile(profile, ci=300, cpu=1000, gpu=10000)
steps = cfx.by_profile(profile, ci=150, cpu=1500, gpu=20000)
space, classifier, judge = (
    cfx.load(f"digits/{name}", device="cpu") for name in ("vae", "classifier", "judge")
)
n_train = cfx.by_profile(profile, ci=5000, cpu=30000, gpu=60000)
train_images = cfx.data.digits("train")[:n_train].images
test = cfx.data.digits("test")[:count]

# %% [markdown]
# ## Where we are going
#
# What lies halfway between two digits? There are two ways to mix a digit $a$ with a digit $b$. We can
# mix the pixels, or we can mix the codes and draw the result. Both mixtures are points on a straight
# line:
#
# $$m(w) = (1 - w)\,a + w\,b, \qquad 0 \le w \le 1.$$
#
# ### Exercise 1 · A straight line
#
# *Easy, 4 minutes.* Return evenly spaced points on the straight line from `a` to `b`. The function
# serves images and codes, so it must accept any shape.
#
# - `a`, `b`: two tensors of the same shape, such as (d,) or (1, 32, 32)
# - `n`: number of points
# - output: shape (n, *shape of a). The first point is `a`, the last one is `b`.
#
# <details><summary>Hint 1</summary>
#
# `torch.linspace` gives evenly spaced weights.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Compute one point per weight in a list, and join the points with `torch.stack`.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `torch.lerp(a, b, w)` computes the point of the weight `w`.
#
# </details>


# %% tags=["exercise"]
def mix(a: torch.Tensor, b: torch.Tensor, n: int) -> torch.Tensor:
    """Return n points on the straight line from a to b, (n, ...)."""
    ### BEGIN SOLUTION
    weights = torch.linspace(0, 1, n)
    return torch.stack([torch.lerp(a, b, w) for w in weights])
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.mix(mix)

# %% [markdown]
# How do we see whether a mixture is a digit? We ask a second network, the
# [judge](../docs/glossary.md). It was trained by other people, and no method of this course sees it.
#
# ### Exercise 2 · How certain is the judge?
#
# *Easy, 4 minutes.* The certainty on one image is the *largest* of its ten probabilities. Return the
# mean certainty.
#
# - `judge`: `cfx.predict_logits(judge, images)` returns its logits, (b, 10)
# - `images`: shape (b, 1, 32, 32)
# - output: a float between 0.1 and 1
#
# <details><summary>Hint 1</summary>
#
# `Tensor.softmax` turns logits into probabilities. Over which dimension must they sum to 1?
#
# </details>
# <details><summary>Hint 2</summary>
#
# `Tensor.amax(dim)` returns the largest value along a dimension.
#
# </details>
# <details><summary>Hint 3</summary>
#
# First the largest probability of each image, and then the mean over images.
#
# </details>


# %% tags=["exercise"]
def certainty(judge, images: torch.Tensor) -> float:
    """Return the mean of the largest probability that the judge gives to a class."""
    ### BEGIN SOLUTION
    probabilities = cfx.predict_logits(judge, images).softmax(1)
    largest = probabilities.amax(1)
    return float(largest.mean())
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.certainty(certainty)

# %% [markdown]
# The next cells take your functions if they pass their checks. If not, they take the functions of the
# solution and say so. The rest of the notebook works in both cases.

# %%
choices = ["the mixture of pixels", "the mixture of codes"]
guess = cfx.predict_then_run("Halfway, the judge is more certain of what it sees in", choices)

# %%
mix = cfx.course.piece("nb01.mix", mix)
certainty = cfx.course.piece("nb01.certainty", certainty)
a, b = (cfx.data.digits("test").select(digit).images[0] for digit in (first, last))
z = space.encode(torch.stack([a, b])).z
pixel_mix, code_mix = mix(a, b, 9), space.decode(cfx.Code(mix(z[0], z[1], 9)))
different = test.labels != test.labels.roll(1)
x, y = test.images[different], test.images.roll(1, 0)[different]
pixels, codes = mix(x, y, 3)[1], mix(space.encode(x).z, space.encode(y).z, 3)[1]
halfway = [certainty(judge, images) for images in (pixels, space.decode(cfx.Code(codes)))]
pd.Series([*halfway, certainty(judge, x)], index=[*choices, "real digits"]).round(3)

# %%
guess(
    choices[int(halfway[1] > halfway[0])],
    why="A mixture of pixels shows both digits at half brightness. A mixture of codes is drawn by the "
    "decoder, which has learned to draw single strokes. The gap is not huge, because two codes can "
    "also have a point halfway that belongs to no digit.",
)

# %% jupyter={"source_hidden": true}
rows = ["pixels", "codes"]
cfx.explore(
    lambda step: cfx.gallery(torch.stack([pixel_mix[step], code_mix[step]]), rows), step=(0, 8)
)
cfx.gallery(torch.cat([pixel_mix, code_mix]), n_columns=9, row_labels=rows)

# %% [markdown]
# The upper row shows mixtures of pixels: one digit fades out while the other one fades in. The lower
# row shows mixtures of codes: each image is one stroke. This is what a search needs. A search passes
# through codes that belong to no image, and the decoder must draw something sensible there.
#
# ## A linear space
#
# The simplest space is linear. Let $m$ be the mean image, and let the $k$ rows of the matrix $V$ be
# orthonormal directions. The code of an image $x$ is $z = V(x - m)$, and the decoder draws
# $\hat x = m + V^\top z$. The squared error is, by Pythagoras,
#
# $$|x - \hat x|^2 = |x - m|^2 - |V(x - m)|^2.$$
#
# The first term does not depend on $V$. So the best directions are those along which images vary
# most. They are the **principal components**. The singular value decomposition
# $X = U S V^\top$ of the centred images holds them in the rows of $V^\top$, the largest first.
#
# A **space** of the library is any object with four parts. `encode` returns a `Code`, and `decode`
# returns images. `mean` and `std` are the mean and the standard deviation of each coordinate of the
# codes of real images. All lengths in this course are measured in units of this
# [std](../docs/glossary.md).
#
# ### Exercise 3 · A linear space
#
# *Medium, 12 minutes.* Complete the class.
#
# - `images`: real images, shape (n, 1, 32, 32). They decide the mean image $m$, the directions $V$, and
#   the `mean` and `std` of the codes.
# - `k`: number of directions
# - `encode(images)`: a `cfx.Code` whose `z` has the shape (b, k)
# - `decode(code)`: images of shape (b, 1, 32, 32), clamped to [0, 1]
#
# <details><summary>Hint 1</summary>
#
# `images.flatten(1)` has one row of 1024 pixels per image. `.view(-1, 1, 32, 32)` goes back.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.linalg.svd(matrix, full_matrices=False)` returns three parts. The third one is $V^\top$. The
# mean image must be subtracted *before* the decomposition.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `__init__` may call `self.encode`, as soon as the mean image and the directions are stored.
#
# </details>


# %% tags=["exercise"]
class LinearSpace:
    """A space of principal components, with the mean and std of codes, each (k,)."""

    def __init__(self, images: torch.Tensor, k: int) -> None:
        ### BEGIN SOLUTION
        rows = images.flatten(1)
        self.m = rows.mean(0)
        self.v = torch.linalg.svd(rows - self.m, full_matrices=False).Vh[:k]
        z = self.encode(images).z
        self.mean, self.std = z.mean(0), z.std(0)
        ### END SOLUTION

    def encode(self, images: torch.Tensor) -> cfx.Code:
        """Return the codes of images, (b, 1, 32, 32) -> z (b, k)."""
        ### BEGIN SOLUTION
        centred = images.flatten(1) - self.m
        return cfx.Code(centred @ self.v.T)
        ### END SOLUTION

    def decode(self, code: cfx.Code) -> torch.Tensor:
        """Return the images of codes, z (b, k) -> (b, 1, 32, 32) in [0, 1]."""
        ### BEGIN SOLUTION
        rows = self.m + code.z @ self.v
        return rows.clamp(0, 1).view(-1, 1, 32, 32)
        ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.LinearSpace(LinearSpace)

# %% [markdown]
# ## A model of images
#
# A VAE replaces the two matrices by networks. The diagram shows its parts.

# %% jupyter={"source_hidden": true}
cfx.diagram("autoencoder")

# %% [markdown]
# The encoder does not return one code. It returns a normal distribution of codes,
# $q(z \mid x) = N(\mu, \sigma^2)$, with one mean $\mu_j$ and one standard deviation $\sigma_j$ per
# coordinate. The network returns $\log\sigma_j^2$ instead of $\sigma_j$, because a network can return
# any number, and a standard deviation must be positive.
#
# The decoder returns one logit $\ell_i$ per pixel. The probability that the pixel is white is
# $\hat x_i = 1 / (1 + e^{-\ell_i})$.
#
# ### Exercise 4 · Two networks
#
# *Easy, 6 minutes.* Each network has one hidden layer with a ReLU.
#
# - `dims`: number of coordinates of a code; `hidden`: number of hidden units
# - output: a pair of modules, encoder and decoder
# - encoder: images (b, 1, 32, 32) → (b, 2 · dims). The first half is $\mu$, the second half
#   $\log\sigma^2$.
# - decoder: codes (b, dims) → logits of the pixels (b, 1, 32, 32)
#
# <details><summary>Hint 1</summary>
#
# `nn.Sequential` chains layers. `nn.Linear(inputs, outputs)` needs rows of numbers, and
# `nn.Flatten()` makes them.
#
# </details>
# <details><summary>Hint 2</summary>
#
# An image has 32 · 32 pixels. `nn.Unflatten(1, shape)` gives the shape of an image back.
#
# </details>
# <details><summary>Hint 3</summary>
#
# No activation follows the last layers: means and logits may be negative.
#
# </details>


# %% tags=["exercise"]
def make_networks(dims: int, hidden: int = 400) -> tuple[nn.Module, nn.Module]:
    """Return the encoder, (b, 1, 32, 32) -> (b, 2 dims), and the decoder, (b, dims) -> logits."""
    ### BEGIN SOLUTION
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(32 * 32, hidden), nn.ReLU(), nn.Linear(hidden, 2 * dims)
    )
    decoder = nn.Sequential(
        nn.Linear(dims, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 32 * 32),
        nn.Unflatten(1, (1, 32, 32)),
    )
    return encoder, decoder
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.make_networks(make_networks)

# %% [markdown]
# ## The evidence lower bound
#
# **Step 1: the model.** We say that an image arises in two steps. First, a code is drawn from the
# **prior** $p(z) = N(0, I)$. Then each pixel is drawn with the probability that the decoder gives it.
# We want images of the training set to be likely. So we maximise the **evidence**
#
# $$\log p(x) = \log \int p(x \mid z)\, p(z)\, dz.$$
#
# **Step 2: the problem.** The integral is an average over all codes. Almost all of them draw another
# image, so for almost all $z$ the probability $p(x \mid z)$ is practically 0. An average over random
# codes would need billions of them.
#
# **Step 3: look where it matters.** The encoder proposes codes that fit the image. We multiply and
# divide by $q(z \mid x)$, and the integral becomes an average over these codes:
#
# $$\log p(x) = \log \, \mathbb{E}_{z \sim q(z \mid x)} \left[ \frac{p(x \mid z)\, p(z)}{q(z \mid x)} \right].$$
#
# **Step 4: a bound.** The logarithm is concave, so the logarithm of an average is at least the average
# of the logarithms (Jensen's inequality):
#
# $$\log p(x) \;\ge\; \mathbb{E}_{q} \left[ \log \frac{p(x \mid z)\, p(z)}{q(z \mid x)} \right].$$
#
# The right side is the **evidence lower bound** (ELBO). If we raise the bound, the evidence must rise
# above it.
#
# **Step 5: two terms.** The logarithm of a product is a sum. We sort it into two parts, and change the
# sign, because an optimiser minimises:
#
# $$-\mathrm{ELBO} = \underbrace{\mathbb{E}_q\left[-\log p(x \mid z)\right]}_{\text{reconstruction term}}
# \;+\; \underbrace{\mathbb{E}_q\left[\log \frac{q(z \mid x)}{p(z)}\right]}_{\text{KL term}}.$$
#
# The **reconstruction term** is small if the decoder draws the image again. The **KL term** is the
# Kullback-Leibler divergence of $q(z \mid x)$ from the prior. It is small if the codes of the image
# look like draws from the prior. Both terms are measured in nats, the unit of the natural logarithm.
# You now write both terms, and first the sample $z \sim q$ that the average needs.
#
# ## Piece 1: a sample with a gradient
#
# We replace the average over $q$ by one random code per image. But how should a gradient flow through
# a random draw to $\mu$ and $\sigma$? The **reparametrisation** separates the randomness from the
# parameters. We draw $\varepsilon \sim N(0, I)$, and then compute
#
# $$z = \mu + \sigma \odot \varepsilon, \qquad
# \frac{\partial z_j}{\partial \mu_j} = 1, \qquad \frac{\partial z_j}{\partial \sigma_j} = \varepsilon_j.$$
#
# Now $z$ has the distribution $q$, and it is an ordinary function of $\mu$ and $\sigma$.
#
# ### Exercise 5 · Sample a code
#
# *Easy, 5 minutes.* Return one code per image.
#
# - `mean`, `log_variance`: $\mu$ and $\log\sigma^2$ of each image, shape (b, dims)
# - `noise`: $\varepsilon$, shape (b, dims). Use this noise, and draw none of your own.
# - output: shape (b, dims), with gradients to `mean` and `log_variance`
#
# <details><summary>Hint 1</summary>
#
# What is the standard deviation, if the network gives the logarithm of its square?
#
# </details>
# <details><summary>Hint 2</summary>
#
# $\log\sigma^2 = 2 \log\sigma$. Solve this for $\sigma$.
#
# </details>
# <details><summary>Hint 3</summary>
#
# A log variance of 0 means a standard deviation of 1.
#
# </details>


# %% tags=["exercise"]
def sample_code(mean, log_variance, noise) -> torch.Tensor:
    """Return a code drawn from q(z | x) for each image, (b, dims)."""
    ### BEGIN SOLUTION
    std = (0.5 * log_variance).exp()
    return mean + std * noise
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.sample_code(sample_code)

# %% [markdown]
# ## Piece 2: the reconstruction term
#
# The decoder draws each pixel independently: white with the probability $\hat x_i$, and black with the
# probability $1 - \hat x_i$. So the probability of an image of black and white pixels is
# $\prod_i \hat x_i^{\,x_i} (1 - \hat x_i)^{1 - x_i}$, and
#
# $$-\log p(x \mid z) = -\sum_i \bigl[ x_i \log \hat x_i + (1 - x_i) \log (1 - \hat x_i) \bigr].$$
#
# This is the binary cross-entropy, *summed* over the pixels. We use it for gray pixels between 0 and 1
# as well. Now we insert $\hat x_i = 1/(1 + e^{-\ell_i})$. The logarithms become
# $\log \hat x_i = \ell_i - \log(1 + e^{\ell_i})$ and $\log(1 - \hat x_i) = -\log(1 + e^{\ell_i})$, and
#
# $$-\log p(x \mid z) = \sum_i \bigl[ \log(1 + e^{\ell_i}) - x_i\,\ell_i \bigr].$$
#
# In this form, no logarithm of 0 can occur. The function $\log(1 + e^{\ell})$ is called softplus.
#
# ### Exercise 6 · The reconstruction term
#
# *Medium, 6 minutes.* Return the term of each image.
#
# - `logits`: logits of the pixels, shape (b, 1, h, w)
# - `images`: the originals, values in [0, 1], same shape
# - output: shape (b,), in nats
# - special case: logits of ±200 must not give infinity
#
# <details><summary>Hint 1</summary>
#
# `F.softplus` computes $\log(1 + e^{\ell})$ without overflow.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Sum over all dimensions except the first one. `Tensor.flatten(1)` makes one row per image.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Torch also has the whole sum ready: look for the binary cross-entropy *with logits*, and for its
# argument `reduction`.
#
# </details>


# %% tags=["exercise"]
def reconstruction_term(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return -log p(x | z) of each image, in nats, (b,)."""
    ### BEGIN SOLUTION
    per_pixel = F.softplus(logits) - images * logits
    return per_pixel.flatten(1).sum(1)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.reconstruction_term(reconstruction_term)

# %% [markdown]
# ## Piece 3: the KL term
#
# Both distributions are normal and factorise, so the term is a sum over coordinates. Take one
# coordinate. The logarithms of the two densities are
#
# $$\log q(z) = -\tfrac12 \log(2\pi\sigma^2) - \frac{(z - \mu)^2}{2\sigma^2}, \qquad
# \log p(z) = -\tfrac12 \log(2\pi) - \frac{z^2}{2}.$$
#
# In the difference, $2\pi$ cancels. Under $q$, the mean of $(z - \mu)^2$ is $\sigma^2$, and the mean
# of $z^2$ is $\mu^2 + \sigma^2$. So the average of the difference is
#
# $$\mathbb{E}_q[\log q(z) - \log p(z)]
# = -\tfrac12 \log\sigma^2 - \tfrac12 + \tfrac12\left(\mu^2 + \sigma^2\right)
# = \tfrac12\left(\mu^2 + \sigma^2 - 1 - \log\sigma^2\right).$$
#
# It is 0 if $\mu = 0$ and $\sigma = 1$, and positive otherwise.
#
# ### Exercise 7 · The KL term
#
# *Medium, 6 minutes.* Return the term of each coordinate. We sum later, because single coordinates
# are interesting, too.
#
# - `mean`, `log_variance`: shape (b, dims)
# - output: shape (b, dims), in nats
#
# <details><summary>Hint 1</summary>
#
# Mean 0 and log variance 0 must give 0.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Two of the four parts use `log_variance`: one needs the variance, the other its logarithm.
#
# </details>
# <details><summary>Hint 3</summary>
#
# No sum and no mean is needed here.
#
# </details>


# %% tags=["exercise"]
def kl_term(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Return the KL divergence of q(z_j | x) from N(0, 1), in nats, (b, dims)."""
    ### BEGIN SOLUTION
    variance = log_variance.exp()
    return 0.5 * (mean**2 + variance - 1 - log_variance)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.kl_term(kl_term)

# %%
sample_code = cfx.course.piece("nb01.sample_code", sample_code)
reconstruction_term = cfx.course.piece("nb01.reconstruction_term", reconstruction_term)
kl_term = cfx.course.piece("nb01.kl_term", kl_term)

# %% [markdown]
# ## The loss
#
# The loss is the negative ELBO, averaged over the images of a batch. We give the KL term a weight
# $\beta$ ([Higgins et al., 2017](https://openreview.net/forum?id=Sy2fzU9gl)):
#
# $$L = \frac1b \sum_{x} \Bigl[ -\log p(x \mid z_x) + \beta \sum_j \mathrm{KL}_j(x) \Bigr],
# \qquad z_x = \mu_x + \sigma_x \odot \varepsilon_x.$$
#
# For $\beta = 1$ it is the bound. A smaller $\beta$ gives sharper reconstructions, and codes that look
# less like draws from the prior. For $\beta = 0$ we get a plain autoencoder.
#
# ### Exercise 8 · The loss
#
# *Medium, 8 minutes.* Use `sample_code`, `reconstruction_term` and `kl_term`.
#
# - `encoder`, `decoder`: networks as in exercise 4
# - `images`: shape (b, 1, 32, 32); `noise`: shape (b, dims)
# - `beta`: the weight $\beta$
# - output: one number, a tensor without dimensions
#
# <details><summary>Hint 1</summary>
#
# `tensor.chunk(2, dim=1)` splits the output of the encoder into two halves.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The sum over coordinates gives one number per image. Then both terms have the shape (b,).
#
# </details>
# <details><summary>Hint 3</summary>
#
# Only the last step averages, over images. If you average over pixels or coordinates as well, the
# balance of the two terms changes.
#
# </details>


# %% tags=["exercise"]
def vae_loss(encoder, decoder, images, noise, beta: float = 1.0) -> torch.Tensor:
    """Return the negative evidence lower bound, averaged over images, in nats."""
    ### BEGIN SOLUTION
    mean, log_variance = encoder(images).chunk(2, dim=1)
    logits = decoder(sample_code(mean, log_variance, noise))
    kl = kl_term(mean, log_variance).sum(1)
    return (reconstruction_term(logits, images) + beta * kl).mean()
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.vae_loss(vae_loss)

# %% [markdown]
# The library trains its VAE with the loss `VAELoss`. The next cell puts the library's networks into
# *your* loss, with the same noise. Both losses must agree.

# %%
vae_loss = cfx.course.piece("nb01.vae_loss", vae_loss)


def library_encoder(images: torch.Tensor) -> torch.Tensor:
    return torch.cat(space.net.posterior(images), 1)


batch = test.images[:200]
noise = torch.randn(len(batch), 20, generator=torch.Generator().manual_seed(seed))
with torch.no_grad():
    mine = vae_loss(library_encoder, space.net.decode_logits, batch, noise)
    theirs = VAELoss(1.0, "bernoulli")(space.net, (batch,), torch.Generator().manual_seed(seed))
pd.Series({"your loss": float(mine), "library": float(theirs)}).round(3)

# %% jupyter={"source_hidden": true}
# NBVAL_CHECK_OUTPUT
print("your loss agrees with the library within 0.1 %:", bool((mine / theirs - 1).abs() < 1e-3))

# %% [markdown]
# ## The training loop
#
# ### Exercise 9 · Train
#
# *Hard, 20 minutes.* Each step draws random images and fresh noise, computes the loss, and moves *all*
# parameters of both networks against the gradient with the optimiser Adam.
#
# - `images`: training images, shape (n, 1, 32, 32)
# - `steps`: an iterable such as `range(1000)`. The loop does one step per item. So
#   `trange(1000)` shows a progress bar.
# - `dims`: number of coordinates of a code, which is the width of the noise
# - `batch_size`, `lr`, `beta`, `seed`: the same seed gives the same training
# - output: the loss of each step, a list of Python floats
#
# <details><summary>Hint 1</summary>
#
# `torch.optim.Adam(parameters, lr=lr)` takes a list. `[*a.parameters(), *b.parameters()]` joins two.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.Generator().manual_seed(seed)` makes a generator. `torch.randint(n, (k,), generator=g)` draws
# k rows, and `torch.randn` takes the same argument. Make the generator once, before the loop.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Gradients add up until they are cleared. Each step has five parts: draw, loss, clear, backward, step.
# `loss.item()` is a number without the graph.
#
# </details>


# %% tags=["exercise"]
def train(
    encoder, decoder, images, steps, dims=20, batch_size=128, lr=2e-3, beta=1.0, seed=0
) -> list[float]:
    """Train both networks, and return the loss of each step."""
    ### BEGIN SOLUTION
    g = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=lr)
    losses = []
    for _ in steps:
        batch = images[torch.randint(len(images), (batch_size,), generator=g)]
        noise = torch.randn(batch_size, dims, generator=g)
        loss = vae_loss(encoder, decoder, batch, noise, beta)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return losses
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.train(train)

# %% [markdown]
# Now train two pairs of networks with your loop: a VAE with $\beta = 1$, and a plain autoencoder with
# $\beta = 0$. They have the same layers, the same number of steps and the same first weights. So every
# difference between them is an effect of the KL term.

# %%
train = cfx.course.piece("nb01.train", train)
make_networks = cfx.course.piece("nb01.make_networks", make_networks)
networks, losses = {}, {}
for name, beta in {"VAE": 1.0, "autoencoder": 0.0}.items():
    torch.manual_seed(seed)
    networks[name] = make_networks(20)
    bar = trange(steps, desc=name)
    losses[name] = train(*networks[name], train_images, bar, beta=beta, seed=seed)

# %% jupyter={"source_hidden": true}
blocks = {name: torch.tensor(each).view(50, -1).mean(1) for name, each in losses.items()}
ticks = torch.arange(1, 51) * (steps // 50)
cfx.curves(ticks, blocks, xlabel="step", ylabel="loss, nats per image")

# %% [markdown]
# Both lines show averages of 2 % of the steps. The loss of the VAE is higher, because it also contains
# the KL term. It does not approach 0: pixels are gray, and even a perfect drawing of a gray pixel has
# a positive cross-entropy.
#
# ## Your space
#
# Now the two networks become a space, with the same four parts as the linear space.
#
# ### Exercise 10 · A space of your own
#
# *Medium, 8 minutes.* Complete the class.
#
# - `encoder`, `decoder`: trained networks
# - `images`: real images, on which `mean` and `std` are measured, shape (n, 1, 32, 32)
# - `encode(images)`: a `cfx.Code` whose `z` is the mean $\mu$ of $q(z \mid x)$. So the same image
#   always gets the same code.
# - `decode(code)`: images in [0, 1]. Gradients must flow from the images to `code.z`, because later
#   chapters need them.
#
# <details><summary>Hint 1</summary>
#
# `__init__` may call `self.encode`, as soon as the networks are stored.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The decoder returns logits. Which function turns logits into probabilities?
#
# </details>
# <details><summary>Hint 3</summary>
#
# `with torch.no_grad():` saves memory in `encode`. In `decode`, it would stop the gradients.
#
# </details>


# %% tags=["exercise"]
class MySpace:
    """A space: encode, decode, and the statistics of codes (mean and std, each (dims,))."""

    def __init__(self, encoder, decoder, images: torch.Tensor) -> None:
        ### BEGIN SOLUTION
        self.encoder, self.decoder = encoder, decoder
        z = self.encode(images).z
        self.mean, self.std = z.mean(0), z.std(0)
        ### END SOLUTION

    def encode(self, images: torch.Tensor) -> cfx.Code:
        """Return the codes of images, (b, 1, 32, 32) -> z (b, dims)."""
        ### BEGIN SOLUTION
        with torch.no_grad():
            mean, _ = self.encoder(images).chunk(2, dim=1)
        return cfx.Code(mean)
        ### END SOLUTION

    def decode(self, code: cfx.Code) -> torch.Tensor:
        """Return the images of codes, z (b, dims) -> (b, 1, 32, 32) in [0, 1]."""
        ### BEGIN SOLUTION
        return self.decoder(code.z).sigmoid()
        ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.MySpace(MySpace)

# %% [markdown]
# ## How good is a space?
#
# We measure three properties. The first is the mean squared error of the reconstructions. The second
# is the fraction of decisions that **survive**: the classifier assigns the image and its
# reconstruction to the same class. An explanation of a decision starts at the reconstruction, so the
# decision must survive. The third is the judge's certainty on images of *random* codes. They are drawn
# as $z = \bar z + \sigma \odot \varepsilon$ with the mean and the std of real codes, so that no space
# has an advantage by its scale.
#
# ### Exercise 11 · Measure a space
#
# *Medium, 10 minutes.* Return the three numbers. Use `certainty`.
#
# - `space`: an object with `mean`, `std`, `encode` and `decode`
# - `classifier`, `judge`: networks for `cfx.predict_logits(network, images)`
# - `images`: shape (b, 1, 32, 32)
# - `noise`: $\varepsilon$ for the random codes, shape (n, dims)
# - output: three floats, in the order above. True labels play no role.
#
# <details><summary>Hint 1</summary>
#
# `space.encode` returns what `space.decode` takes. Random codes must become a `cfx.Code` first.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The predicted class has the largest logit.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The mean of a bool tensor needs floating-point numbers: `.double()`.
#
# </details>


# %% tags=["exercise"]
def measure(space, classifier, judge, images, noise) -> tuple[float, float, float]:
    """Return squared error, fraction of decisions that survive, and certainty on random codes."""
    ### BEGIN SOLUTION
    rebuilt = space.decode(space.encode(images)).detach()
    random = space.decode(cfx.Code(space.mean + space.std * noise)).detach()
    error = (rebuilt - images).square().mean()
    before = cfx.predict_logits(classifier, images).argmax(1)
    after = cfx.predict_logits(classifier, rebuilt).argmax(1)
    survive = (before == after).double().mean()
    return float(error), float(survive), certainty(judge, random)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.measure(measure)

# %% [markdown]
# ## Four spaces side by side
#
# Now we compare your two trained spaces with the linear space and with the library's. All of them have
# codes of 20 numbers. The library's VAE has convolutions, and was trained for ten minutes with
# $\beta = 0.5$.

# %%
choices = ["principal components", "your VAE", "your autoencoder"]
guess = cfx.predict_then_run(
    "Codes drawn from N(0, I) give the most convincing digits with", choices
)

# %%
LinearSpace = cfx.course.piece("nb01.LinearSpace", LinearSpace)
MySpace = cfx.course.piece("nb01.MySpace", MySpace)
measure = cfx.course.piece("nb01.measure", measure)
some = train_images[:5000]
spaces = {"principal components": LinearSpace(some, 20)}
spaces |= {f"your {name}": MySpace(*pair, some) for name, pair in networks.items()}
spaces["library's VAE"] = space
noise = torch.randn(count, 20, generator=torch.Generator().manual_seed(seed))
rows = [measure(each, classifier, judge, test.images, noise) for each in spaces.values()]
columns = ["squared error", "decisions survive", "judge, scaled draws"]
table = pd.DataFrame(rows, index=list(spaces), columns=columns)
drawn = [each.decode(cfx.Code(noise)).detach() for each in spaces.values()]
table["judge, N(0, I)"] = [certainty(judge, images) for images in drawn]
table.round(4)

# %%
guess(
    choices[int(table["judge, N(0, I)"].iloc[:3].argmax())],
    why="The KL term makes the codes of real images look like draws from N(0, I). So such a draw lands "
    "where the decoder was trained. The autoencoder has no such term, and its codes are spread several "
    "times as wide. If we scale the draws to its codes, it comes close to the VAE.",
)

# %% jupyter={"source_hidden": true}
eight = test.images[:8]
rebuilt = [each.decode(each.encode(eight)).detach() for each in spaces.values()]
cfx.gallery(torch.cat([eight, *rebuilt]), n_columns=8, row_labels=["original", *spaces])

# %% [markdown]
# Rows: eight test digits, and their reconstructions in the four spaces. The next picture shows images
# of eight random codes from $N(0, I)$ in each space.

# %% jupyter={"source_hidden": true}
shown = torch.cat([images[:8] for images in drawn])
cfx.gallery(shown, n_columns=8, row_labels=list(spaces))

# %% [markdown]
# Compare your two trained spaces. The autoencoder has the smaller squared error, because nothing but
# the reconstruction counts in its loss. The VAE pays with a larger error. In return, we know where its
# good codes are. A draw from $N(0, I)$ gives clear strokes, some of which form a digit. The same draw
# gives almost nothing with the autoencoder. With draws that are scaled to the codes of each space, the
# two differ little. So the KL term does not make better digits by
# itself. It fixes *where* they are. Both are far from the library's VAE, which has a better network
# and a longer training. The linear space loses the most decisions.
#
# ## What a blurred image means
#
# The reconstructions of your VAE are blurred. This is not a fault of the networks alone. Assume that
# many images have almost the same code. Which gray value $\hat x_i$ should the decoder draw for all of
# them? Let $\bar x_i$ be the mean of pixel $i$ over these images. Their mean reconstruction term, and
# its derivative, are
#
# $$-\bar x_i \log \hat x_i - (1 - \bar x_i) \log(1 - \hat x_i), \qquad
# -\frac{\bar x_i}{\hat x_i} + \frac{1 - \bar x_i}{1 - \hat x_i}.$$
#
# The derivative is 0 at $\hat x_i = \bar x_i$. So the best image is the **average** of all images that
# the code cannot tell apart. A gray pixel in a reconstruction says: the code does not determine this
# pixel. We test this with your VAE. For each test digit, we average the training digits whose codes
# are nearest.
#
# ### Exercise 12 · The average of the neighbours
#
# *Medium, 8 minutes.* Return the average of the `k` known images whose codes are nearest to the code
# of each image.
#
# - `space`: a space with `encode` and `std`. Measure distances in units of `std`.
# - `images`: shape (b, 1, 32, 32); `known`: shape (n, 1, 32, 32)
# - output: shape (b, 1, 32, 32)
#
# <details><summary>Hint 1</summary>
#
# `torch.cdist(a, b)` returns all distances between the rows of `a` and the rows of `b`, (b, n).
#
# </details>
# <details><summary>Hint 2</summary>
#
# Divide both sets of codes by the std before you compute distances.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `Tensor.topk` finds the largest values of each row, and with one more argument the smallest.
# Its `indices` (b, k) select images: `known[indices]` has the shape (b, k, 1, 32, 32).
#
# </details>


# %% tags=["exercise"]
def neighbour_average(space, images, known, k: int = 30) -> torch.Tensor:
    """Return the average of the k known images with the nearest codes, for each image."""
    ### BEGIN SOLUTION
    codes = space.encode(images).z / space.std
    others = space.encode(known).z / space.std
    nearest = torch.cdist(codes, others).topk(k, largest=False).indices
    return known[nearest].mean(1)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.neighbour_average(neighbour_average)

# %%
neighbour_average = cfx.course.piece("nb01.neighbour_average", neighbour_average)
mine = spaces["your VAE"]
average = neighbour_average(mine, eight, train_images)

# %% jupyter={"source_hidden": true}
cfx.gallery(
    torch.cat([eight, rebuilt[1], average]),
    n_columns=8,
    row_labels=["original", "reconstruction", "average of 30 neighbours"],
)

# %% [markdown]
# The averages are more blurred than the reconstructions, because the 30 codes still differ a little.
# Both show what similar digits have in common, and lose what is special about one digit. A counterfactual cannot show what the code does not hold. So compare a counterfactual with the
# *reconstruction* of an image, and not with the image.
#
# ## Which coordinates are used?
#
# The KL term asks a price for each coordinate. If a coordinate does not improve the drawing by more
# than its price, the best choice is $\mu_j = 0$ and $\sigma_j = 1$ for every image. Then the
# coordinate costs nothing, and says nothing. We call the other coordinates **active**.
#
# ### Exercise 13 · Active coordinates
#
# *Easy, 5 minutes.* Return which coordinates are active: those with a mean KL term of more than
# `threshold` nats. Use `kl_term`.
#
# - `encoder`: images → (b, 2 · dims); `images`: shape (b, 1, 32, 32)
# - output: a pair, the mean KL term of each coordinate, float (dims,), and whether it is active, bool
#   (dims,). Both without gradients.
#
# <details><summary>Hint 1</summary>
#
# Split the output of the encoder as in the loss.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The mean runs over images, and not over coordinates.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `with torch.no_grad():`, or `.detach()` at the end.
#
# </details>


# %% tags=["exercise"]
def active_coordinates(encoder, images, threshold: float = 0.1):
    """Return the mean KL term of each coordinate, (dims,), and which are active, bool (dims,)."""
    ### BEGIN SOLUTION
    with torch.no_grad():
        mean, log_variance = encoder(images).chunk(2, dim=1)
    price = kl_term(mean, log_variance).mean(0)
    return price, price > threshold
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.active_coordinates(active_coordinates)

# %%
choices = ["fewer than 10", "10 to 19", "all 20"]
guess = cfx.predict_then_run("How many of its 20 coordinates does the library's VAE use?", choices)

# %%
active_coordinates = cfx.course.piece("nb01.active_coordinates", active_coordinates)
pairs = {"your VAE": networks["VAE"][0], "library's VAE": library_encoder}
prices = {name: active_coordinates(encoder, test.images) for name, encoder in pairs.items()}
numbers = {n: (int(on.sum()), *spaces[n].std.aminmax()) for n, (_, on) in prices.items()}
columns_of_std = ["active coordinates", "smallest std", "largest std"]
pd.DataFrame(numbers, index=columns_of_std).astype(float).round(3)

# %%
used = int(prices["library's VAE"][1].sum())
guess(
    choices[int(used >= 10) + int(used == 20)],
    why="A coordinate costs more nats, the more precisely it states something. The last few coordinates "
    "would improve the drawing by less than they cost. So their codes have almost no variance.",
)

# %% jupyter={"source_hidden": true}
ranked = {name: price.sort(descending=True).values for name, (price, _) in prices.items()}
cfx.curves(
    torch.arange(1, 21), ranked, xlabel="coordinate, by its KL term", ylabel="mean KL term, nats"
)

# %% [markdown]
# The table and the curves show that the library's VAE leaves coordinates unused. Their std is tiny, and
# the decoder ignores them. A change of one std along such a coordinate changes nothing in the image. So
# the methods of the library leave unused coordinates alone.
#
# ## Does it agree with the library?
#
# The library stores what it measured for its VAE on 10,000 test digits. The next cell measures the
# same with your functions. It also puts the library's networks into your class `MySpace`.

# %%
stored = cfx.weights.read_card("digits/vae")["quality"]
quality = {
    "fraction of test decisions that survive reconstruction": table.iloc[-1, 1],
    "mean squared error of reconstructions": table.iloc[-1, 0],
    "judge's mean confidence on samples from the prior": table.iloc[-1, 3],
    "KL term, nats": float(active_coordinates(library_encoder, test.images)[0].sum()),
}
agreement = pd.DataFrame({"your functions": quality, "stored": pd.Series(stored)[list(quality)]})
same = MySpace(library_encoder, space.net.decode_logits, some)
apart = (same.decode(same.encode(batch)) - space.decode(space.encode(batch))).abs().max()
print(f"largest difference of a pixel between MySpace and the library: {apart:.1e}")
agreement.round(4)

# %% jupyter={"source_hidden": true}
# NBVAL_CHECK_OUTPUT
gap = (agreement["your functions"] - agreement["stored"]).abs()
print("MySpace draws the library's images within 1e-4:", bool(apart < 1e-4))
print("fractions within 0.03:", bool((gap.iloc[:3] < 0.03).all()))
print("KL terms within 1 nat:", bool(gap.iloc[3] < 1))

# %% [markdown]
# ## What one coordinate does
#
# What does a coordinate control? We move one coordinate of a code, in steps of its std, and draw the
# results. Let $e_j$ be the unit vector of the coordinate $j$. Then the step $t$ gives
#
# $$z(t) = z + t\,\sigma_j\,e_j,$$
#
# where $\sigma_j$ is now the $j$-th entry of `space.std`.
#
# ### Exercise 14 · A traversal
#
# *Medium, 6 minutes.* Return the images along one coordinate.
#
# - `space`: a space with `std` and `decode`; `z`: the code of one image, shape (dims,)
# - `j`: the coordinate; `moves`: the steps $t$ in standard deviations, shape (n,)
# - output: images, shape (n, 1, 32, 32). Do not change `z` itself.
#
# <details><summary>Hint 1</summary>
#
# `z.repeat(n, 1)` makes n copies of a code, one per row.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Column `j` of the copies changes by `moves`, in the unit of this coordinate.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `decode` takes a `cfx.Code`, and not a tensor.
#
# </details>


# %% tags=["exercise"]
def traverse(space, z: torch.Tensor, j: int, moves: torch.Tensor) -> torch.Tensor:
    """Return images of codes in which only coordinate j differs from z, (n, 1, 32, 32)."""
    ### BEGIN SOLUTION
    codes = z.repeat(len(moves), 1)
    codes[:, j] += moves * space.std[j]
    return space.decode(cfx.Code(codes)).detach()
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.traverse(traverse)

# %%
traverse = cfx.course.piece("nb01.traverse", traverse)
order = prices["your VAE"][0].argsort(descending=True).tolist()
moves = torch.linspace(-3, 3, 9)
z = mine.encode(test.images[:10]).z
strips = torch.cat([traverse(mine, z[0], j, moves) for j in (*order[:3], order[-1])])

# %% jupyter={"source_hidden": true}
titles = [f"{move:+.1f} std" for move in moves]
cfx.explore(
    lambda rank, image: cfx.gallery(
        traverse(mine, z[image], order[rank], moves), titles, n_columns=9
    ),
    rank=(0, 19),
    image=(0, 9),
)
cfx.gallery(
    strips,
    titles * 4,
    n_columns=9,
    row_labels=["largest KL term", "second", "third", "smallest KL term"],
)

# %% [markdown]
# Rows: the three coordinates with the largest KL term, and the one with the smallest. Columns: steps
# of the coordinate. A coordinate mostly changes several things together, such as slant and width.
# Remember this when somebody gives a name to a coordinate.
#
# ## Limits: what a space cannot draw
#
# The space has never seen a digit that lies on its side. It draws something that it knows, and the
# reconstruction error shows this. So we can ask which images the space does not know.
#
# ### Exercise 15 · Unfamiliar images
#
# *Easy, 6 minutes.* An image is **unfamiliar** if its squared error is larger than that of 95 % of the
# familiar images. Return which images are unfamiliar.
#
# - `images`, `familiar`: two sets of images, shapes (b, 1, 32, 32) and (n, 1, 32, 32)
# - `level`: the fraction 0.95
# - output: bool (b,)
#
# <details><summary>Hint 1</summary>
#
# You need the mean squared error of each image, for both sets. A small inner function helps.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The mean runs over dimensions 1, 2 and 3.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `Tensor.quantile` returns the value below which a given fraction lies.
#
# </details>


# %% tags=["exercise"]
def unfamiliar(space, images, familiar, level: float = 0.95) -> torch.Tensor:
    """Return which images the space draws worse than most familiar images, bool (b,)."""

    ### BEGIN SOLUTION
    def errors(x):
        rebuilt = space.decode(space.encode(x)).detach()
        return (rebuilt - x).square().mean((1, 2, 3))

    return errors(images) > errors(familiar).quantile(level)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb01.unfamiliar(unfamiliar)

# %%
unfamiliar = cfx.course.piece("nb01.unfamiliar", unfamiliar)
turned = test.images.rot90(1, (2, 3))
strange = {"digits": test.images, "turned": turned, "noise": torch.rand_like(turned)}
found = {name: unfamiliar(mine, x, test.images).double().mean() for name, x in strange.items()}
pd.Series(found, name="fraction unfamiliar").astype(float).round(3)

# %% jupyter={"source_hidden": true}
cfx.gallery(
    torch.cat([turned[:8], mine.decode(mine.encode(turned[:8])).detach()]),
    n_columns=8,
    row_labels=["turned digit", "reconstruction"],
)

# %% [markdown]
# By definition, 5 % of the ordinary digits are unfamiliar. Not all turned digits are: a turned 0 is still
# a 0. Upper row: turned digits. Lower row: what
# the space makes of them.
#
# - A space **loses** things. Compare with the reconstruction, and not with the original.
# - A space **mixes** things: one coordinate changes several properties.
# - A space **invents** things: an image that it does not know becomes one that it knows. If this alone
#   changes a decision, the methods say so with the status `reconstruction_is_target`.
#
# ## Your space at work
#
# Any method of the library that needs a space accepts yours. Here `cfx.latent_attack` changes digits
# of the class 4 into a 9, once in your space and once in the library's. You write this method in the
# next chapter.

# %%
fours = test.select(4).images[:16]
runs = {
    name: cfx.latent_attack(spaces[name], classifier, fours, 9, restarts=0)
    for name in ("your VAE", "library's VAE")
}
cfx.report(runs, classifier=classifier, judge=judge)[["flip rate", "judge agrees"]].round(2)

# %% jupyter={"source_hidden": true}
cfx.gallery(
    torch.cat([fours[:8], *(run.image[:8] for run in runs.values())]),
    n_columns=8,
    row_labels=["original: 4", *(f"{name}: 9" for name in runs)],
)

# %% [markdown] tags=["open-task"]
# ## Open task · A better space in the same time
#
# *About 40 minutes.* Your VAE had less than a minute. Change *one* thing, and find out whether the
# space becomes better: the weight $\beta$, the number of coordinates, the layers, the learning rate.
# Say before you measure what *better* means to you. The two terms of the loss pull in opposite
# directions, so you will not improve every column.
#
# **Rubric**
#
# | points | what |
# |---|---|
# | 1 | One change, and a guess with a reason, written down before the training. |
# | 2 | A table with squared error, surviving decisions and the judge on samples, before and after. |
# | 2 | Both trainings with at least two seeds, so that the change can be compared with chance. |
# | 2 | A picture of samples or reconstructions, and an explanation by the two terms of the loss. |
# | 1 | A sentence that says what your numbers do *not* show. |

# %% [markdown] tags=["answer"]
# *Your text: the change, your guess, what came, and why.*

# %% tags=["answer"]
# Your code. For example: networks["small"] = make_networks(5)

# %% [markdown] tags=["solution-only"]
# *An example.* We use 5 coordinates instead of 20. We expect a larger squared error, because a code
# holds less, and better samples, because a space of 5 dimensions is easier to fill. We train both with
# a third of the steps, and only one seed. So small differences mean nothing here.

# %% tags=["solution-only"]
rows = {}
for dims in (5, 20):
    torch.manual_seed(seed)
    nets = make_networks(dims)
    train(*nets, train_images, trange(steps // 3), dims=dims, seed=seed)
    tried = MySpace(*nets, some)
    rows[dims] = measure(tried, classifier, judge, test.images, noise[:, :dims])
pd.DataFrame.from_dict(rows, orient="index", columns=columns).round(3)

# %% [markdown]
# ## Summary
#
# You have derived the evidence lower bound, written its two terms, and trained a VAE. The
# reconstruction term makes codes tell images apart. The KL term fixes where good codes are, and
# switches off coordinates that do not pay. Your loss agrees with the library's, and your space works
# in the library's methods.
#
# **Questions to think about.** What happens to samples and reconstructions if $\beta$ grows? Which
# images would *you* refuse to explain with this space? What would a decoder need to draw sharp images
# although the code does not determine them?
#
# **Next:** [02 Counterfactual attacks](02_counterfactual_attacks.ipynb) searches this space.
#
# **References.** D. P. Kingma, M. Welling,
# [Auto-encoding variational Bayes](https://arxiv.org/abs/1312.6114), 2014 · D. J. Rezende et al.,
# [Stochastic backpropagation](https://arxiv.org/abs/1401.4082), 2014 · I. Higgins et al.,
# [beta-VAE](https://openreview.net/forum?id=Sy2fzU9gl), 2017 · D. P. Kingma, J. Ba,
# [Adam](https://arxiv.org/abs/1412.6980), 2015. Digits: MNIST, Y. LeCun, C. Cortes, C. J. C. Burges,
# CC BY-SA 3.0.
