# %% [markdown]
# # 06 · Diffusion autoencoders: from noise to image, and back
#
# **About 150 minutes · two CPU cores are enough · nothing is downloaded · [glossary](../docs/glossary.md)**
#
# A variational autoencoder loses details. A **diffusion autoencoder** keeps them ([Preechakul et
# al., 2022](https://arxiv.org/abs/2111.15640)). Its code has two parts. The *semantic code* says
# what is drawn. The *stochastic code* holds the details.
#
# Everything in this chapter follows from one formula, which mixes an image with noise. You derive
# the loss and the sampler from it, and train a tiny diffusion autoencoder in less than a minute.
# Then *your* functions run the large network that comes with this package, and give the same images
# as the library.
#
# ## What you will be able to do
#
# - **derive** the diffusion loss and the DDIM step from one formula
# - **write** a training loop, a sampler and its inversion, and **train** a tiny network with them
# - **assemble** a diffusion autoencoder that agrees with the library
# - **measure** what the semantic code holds, and what the stochastic code holds
# - **edit** an image by its semantic code, beside a fair random direction
#
# Needed before: [01 Latent spaces](01_latent_spaces.ipynb).

# %%
import functools

import pandas as pd
import torch
from torch import nn

import cfxnb as cfx
from cfxnb.core.progress import each
from cfxnb.core.tensors import noise_like

cfx.doctor()

# %% tags=["parameters"]
profile: str = "cpu"  # ci, cpu or gpu: how much is computed
count: int = 0  # number of images; 0: as many as the profile says
seed: int = 0  # of all noise that is drawn

# %% jupyter={"source_hidden": true}
count = count or cfx.by_profile(profile, ci=16, cpu=48, gpu=500)
names = ("diffae", "vae", "classifier", "judge")
space, vae, classifier, judge = (cfx.load(f"digits/{name}", device="cpu") for name in names)
digits, test = cfx.data.digits("train"), cfx.data.digits("test")
certain = cfx.predict_logits(classifier, test.images[: 2 * count]).softmax(1).amax(1) > 0.99
images, labels = (part[: 2 * count][certain][:count] for part in (test.images, test.labels))
few = slice(0, 8)
mean = {y: space.encode_semantic(digits.select(y).images[:500]).mean(0) for y in (4, 9)}
fours = test.select(4).images[: cfx.by_profile(profile, ci=8, cpu=16, gpu=200)]

# %% [markdown]
# ## Where we are going
#
# The first row of the picture shows digits. The second row is what the variational autoencoder of
# chapter 01 makes of them, and the third row what a diffusion autoencoder makes of them. For the
# last row, we moved the semantic code from "4" to "9" and kept the stochastic code. So the digit
# changes, and the thickness and the slant of the handwriting stay.

# %% jupyter={"source_hidden": true}
code = space.encode(fours[few])
nines = space.decode(code.with_z(code.z + mean[9] - mean[4]))
shown = [fours[few], vae.decode(vae.encode(fours[few])), space.decode(code), nines]
made_by = ["original", "variational autoencoder", "diffusion autoencoder", "edited: 4 to 9"]
cfx.gallery(torch.cat(shown), n_columns=8, row_labels=made_by)

# %% [markdown]
# ## The idea in one picture
#
# Noise is added to the image $x_0$ step by step, until only noise $x_T$ is left. A network, the
# **denoiser** $\epsilon_\theta$, predicts the noise in an image. It also gets the semantic code $z$
# of the image. With this prediction we can walk in both directions: from the noise to the image
# (*sampling*), and from the image to the noise that it comes from (*inversion*).

# %% jupyter={"source_hidden": true}
cfx.diagram("ddim")

# %% [markdown]
# ## Piece 1: one formula
#
# One small step adds noise $\varepsilon_t$ of variance $\beta_t$, and makes the image a little
# fainter:
#
# $$x_t = \sqrt{1-\beta_t}\; x_{t-1} + \sqrt{\beta_t}\; \varepsilon_t.$$
#
# The noise is drawn from the normal distribution with mean 0 and variance 1. The two factors are
# chosen so that a variance of 1 stays 1, because $(1-\beta_t) + \beta_t = 1$.
#
# What do two steps do? We insert the first step into the second one:
#
# $$x_2 = \sqrt{(1-\beta_1)(1-\beta_2)}\; x_0
# + \sqrt{(1-\beta_2)\,\beta_1}\; \varepsilon_1 + \sqrt{\beta_2}\; \varepsilon_2.$$
#
# The sum of two independent normal variables is normal, and their variances add up:
#
# $$(1-\beta_2)\,\beta_1 + \beta_2 = 1 - (1-\beta_1)(1-\beta_2).$$
#
# So two steps are *one* step with other factors. The same holds for $t$ steps. Let $\bar\alpha_t$
# be the fraction of the image's variance that is left after $t$ steps. Then, with one noise
# $\epsilon$,
#
# $$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1-\bar\alpha_t}\; \epsilon. \tag{1}$$
#
# We never need the small steps: every time $t$ is reached with one draw of noise.
#
# ### Exercise 1 · The noise schedule
#
# *Easy, 4 minutes.* Return $\bar\alpha$ for all times. The variances $\beta$ rise evenly from `first`
# to `last`.
#
# - `steps`: number of times
# - output: shape (steps,), in double precision. At the first times, $1-\bar\alpha$ is a small
#   difference of two numbers near 1.
#
# <details><summary>Hint 1</summary>
#
# `torch.linspace` returns evenly spaced numbers, and has the argument `dtype`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Look at $x_2$: which factor does $x_0$ have after two steps, and which one after three?
#
# </details>
# <details><summary>Hint 3</summary>
#
# `Tensor.cumprod(0)` returns the products of the first 1, 2, 3, ... entries.
#
# </details>


# %% tags=["exercise"]
def noise_schedule(first: float, last: float, steps: int) -> torch.Tensor:
    """Return alpha_bar at each time, float64 (steps,)."""
    ### BEGIN SOLUTION
    beta = torch.linspace(first, last, steps, dtype=torch.float64)
    return (1 - beta).cumprod(0)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.noise_schedule(noise_schedule)

# %% [markdown]
# ### Exercise 2 · Add noise
#
# *Easy, 4 minutes.* Write formula (1) for a batch of images, each at its own time.
#
# - `x0`, `eps`: images and noise, shape (b, c, h, w)
# - `alpha_bar`: $\bar\alpha_t$ of each image, shape (b,)
# - output: noisy images $x_t$, shape (b, c, h, w)
#
# <details><summary>Hint 1</summary>
#
# $\bar\alpha_t$ is a fraction of the variance. What multiplies the image is a root.
#
# </details>
# <details><summary>Hint 2</summary>
#
# One number per image must multiply all pixels of its image. Give it more dimensions first.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `alpha_bar.view(-1, 1, 1, 1)` has the shape (b, 1, 1, 1).
#
# </details>


# %% tags=["exercise"]
def add_noise(x0: torch.Tensor, eps: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """Return noisy images x_t, (b, c, h, w), with one alpha_bar per image, (b,)."""
    ### BEGIN SOLUTION
    alpha_bar = alpha_bar.view(-1, 1, 1, 1)
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.add_noise(add_noise)

# %% [markdown]
# The next cell takes your functions if they pass their checks. If not, it takes those of the
# solution, and says so. The picture shows one digit at six times. Images lie in $[-1, 1]$ here.

# %%
noise_schedule = cfx.course.piece("nb06.noise_schedule", noise_schedule)
add_noise = cfx.course.piece("nb06.add_noise", add_noise)
alphas_cumprod = noise_schedule(1e-4, 0.02, 1000)
shown_times = [0, 100, 300, 500, 700, 999]
alpha_bar = alphas_cumprod[shown_times].float()
one = images[:1] * 2 - 1
noisy = add_noise(one.expand(6, -1, -1, -1), noise_like(one, seed).expand(6, -1, -1, -1), alpha_bar)

# %% jupyter={"source_hidden": true}
titles = [f"t = {t}\nsignal {a:.0%}" for t, a in zip(shown_times, alpha_bar, strict=True)]
cfx.gallery((noisy + 1) / 2, titles, n_columns=6)

# %% [markdown]
# The signal is $\bar\alpha_t$, the fraction of the image's variance that is left.
#
# ## Piece 2: the loss
#
# If we knew the noise $\epsilon$ in $x_t$, we could solve formula (1) for the image. So we train a
# network to predict the noise. Its loss is the mean squared error:
#
# $$L = \mathbb E\,\big\|\epsilon_\theta(x_t, t, z) - \epsilon\big\|^2.$$
#
# The mean runs over images $x_0$, times $t$ and noise $\epsilon$, which are all drawn at random.
#
# What does this loss teach the network? Fix one noisy image $x_t$. Many pairs of image and noise
# give the same $x_t$, so the network cannot know the noise. Let it predict a constant $c$. The
# derivative of $\mathbb E\|\epsilon - c\|^2$ with respect to $c$ is $2\,(c - \mathbb E[\epsilon])$,
# and it is zero at
#
# $$c = \mathbb E[\epsilon \mid x_t].$$
#
# So the best prediction is the *mean* of all possible noises. With the code $z$, fewer images are
# possible, and the mean comes closer to the true noise. Therefore the loss falls if $z$ tells the
# network what it cannot see in $x_t$. The **encoder** that computes $z$ from the image is trained
# by the same loss. No label says what the code should store.
#
# [Ho et al., 2020](https://arxiv.org/abs/2006.11239) show that $-L$ is the evidence lower bound of
# [01 Latent spaces](01_latent_spaces.ipynb), up to a constant and with other weights of the times.
#
# ### Exercise 3 · The diffusion loss
#
# *Medium, 8 minutes.* Return the loss of a batch. Use `add_noise`.
#
# - `denoiser(x_t, t, z)` returns the predicted noise, shape (b, c, h, w)
# - `x0`, `eps`: images and noise, shape (b, c, h, w); `z`: their codes, shape (b, d)
# - `t`: the time of each image, integers of shape (b,)
# - `alphas_cumprod`: $\bar\alpha$ of all times, shape (1000,)
# - output: one number, the mean over images *and* pixels
#
# <details><summary>Hint 1</summary>
#
# A tensor of integers selects entries of another tensor.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The network never sees the noise `eps` alone. It sees the noisy image.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Three steps: make the noisy images, predict, compare the prediction with what you have added.
#
# </details>


# %% tags=["exercise"]
def diffusion_loss(denoiser, x0, z, t, eps, alphas_cumprod) -> torch.Tensor:
    """Return the mean squared error of the predicted noise, one number."""
    ### BEGIN SOLUTION
    noisy = add_noise(x0, eps, alphas_cumprod[t])
    predicted = denoiser(noisy, t, z)
    return (predicted - eps).square().mean()
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.diffusion_loss(diffusion_loss)

# %% [markdown]
# ### Exercise 4 · What the denoiser sees
#
# *Easy, 6 minutes.* We train on digits of 8 × 8 pixels, with a network of four linear layers. It needs
# one row of numbers per image: the pixels, the time, and the code.
#
# A single number for the time, from 0 to 999, is hard to use for a linear layer. So the time is
# given as sines and cosines with 16 frequencies, which fall evenly on a logarithmic scale from 1 to
# $10^{-4}$. High frequencies separate neighbouring times, and low frequencies separate the
# beginning from the end.
#
# - `x`: noisy images, shape (b, 1, 8, 8); `t`: times, shape (b,); `z`: codes, shape (b, 16)
# - output: shape (b, 112). In this order: 64 pixels, 16 sines of frequency times $t$, 16 cosines, 16
#   numbers of the code
#
# <details><summary>Hint 1</summary>
#
# `torch.logspace(0, -4, 16)` returns the frequencies.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `t[:, None]` has the shape (b, 1). Multiplied by a tensor of shape (16,), it gives (b, 16).
#
# </details>
# <details><summary>Hint 3</summary>
#
# `torch.cat(list_of_tensors, 1)` puts rows side by side. `flatten(1)` keeps one row per image.
#
# </details>


# %% tags=["exercise"]
def network_input(x: torch.Tensor, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return one row of numbers per image: pixels, sines, cosines, code, (b, 112)."""
    ### BEGIN SOLUTION
    frequencies = torch.logspace(0, -4, 16)
    angle = t[:, None] * frequencies
    parts = [x.flatten(1), angle.sin(), angle.cos(), z]
    return torch.cat(parts, 1)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.network_input(network_input)

# %% [markdown]
# ### Exercise 5 · Train with your loss
#
# *Medium, 12 minutes.* Write the training loop. In each step, draw images, times and noise, compute
# the code, and take one step of Adam.
#
# - `images`: all images, (n, c, h, w); each step uses `batch_size` of them, drawn at random
# - each image of a batch gets its own time, and every time is equally likely
# - `seed`: the same seed gives the same losses. Draw everything with one generator.
# - output: a list with the loss of each step, as plain numbers
#
# `torch.randint(high, (b,), generator=g)` draws integers below `high`. `each(range(steps),
# "training")` counts the steps and shows a progress bar.
#
# <details><summary>Hint 1</summary>
#
# Encoder and denoiser are trained together. The optimiser needs the parameters of both.
#
# </details>
# <details><summary>Hint 2</summary>
#
# There are three random things in a step: the rows of `images`, the times, and the noise.
#
# </details>
# <details><summary>Hint 3</summary>
#
# After the loss come the three lines of every training loop: delete the old gradients, compute the
# new ones, step. `loss.item()` is a plain number.
#
# </details>


# %% tags=["exercise"]
def train(encoder, denoiser, images, alphas_cumprod, steps, batch_size=128, lr=3e-3, seed=0):
    """Train encoder and denoiser together, and return the loss of each step."""
    ### BEGIN SOLUTION
    g = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam([*encoder.parameters(), *denoiser.parameters()], lr=lr)
    losses = []
    for _ in each(range(steps), "training"):
        x0 = images[torch.randint(len(images), (batch_size,), generator=g)]
        t = torch.randint(len(alphas_cumprod), (batch_size,), generator=g)
        eps = torch.randn(x0.shape, generator=g)
        loss = diffusion_loss(denoiser, x0, encoder(x0), t, eps, alphas_cumprod)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return losses
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.train(train)

# %% [markdown]
# ## Train a tiny diffusion autoencoder
#
# The encoder has two linear layers, and makes a code of 16 numbers. Encoder and denoiser are
# trained on all 60,000 training digits, each reduced to 8 × 8 pixels.

# %%
diffusion_loss = cfx.course.piece("nb06.diffusion_loss", diffusion_loss)
network_input = cfx.course.piece("nb06.network_input", network_input)
train = cfx.course.piece("nb06.train", train)


class TinyDenoiser(nn.Module):
    def __init__(self):
        super().__init__()
        hidden = [nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU()]
        self.net = nn.Sequential(nn.Linear(112, 256), *hidden, nn.Linear(256, 64))

    def forward(self, x, t, z):
        return self.net(network_input(x, t, z)).view_as(x)


torch.manual_seed(seed)
encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.SiLU(), nn.Linear(256, 16))
denoiser = TinyDenoiser()
training = nn.functional.avg_pool2d(digits.images, 4) * 2 - 1
n_steps = cfx.by_profile(profile, ci=300, cpu=3000, gpu=10000)
losses = train(encoder, denoiser, training, alphas_cumprod.float(), n_steps, seed=seed)

# %% jupyter={"source_hidden": true}
blocks = torch.tensor(losses).view(30, -1).mean(1)
lines = {"your network": blocks, "no prediction (all 0)": torch.ones(30)}
at = torch.arange(1, 31) * (n_steps // 30)
cfx.curves(at, lines, xlabel="training step", ylabel="diffusion loss")

# %% [markdown]
# A network that always predicts 0 has a loss of 1, because this is the variance of the noise. Your
# network falls far below this line within a few hundred steps.
#
# ## Piece 3: from the predicted noise to the predicted image
#
# ### Exercise 6 · The predicted image
#
# *Easy, 5 minutes.* Solve formula (1) for $x_0$, and insert the predicted noise. Pixels of real images
# lie in $[-1, 1]$, so limit the result to this interval.
#
# - `x`: noisy images $x_t$; `eps`: their predicted noise, both of shape (b, c, h, w)
# - `alpha_bar`: $\bar\alpha_t$, one float for all images
# - output: predicted images $\hat x_0$, shape (b, c, h, w). Do not change the arguments.
#
# <details><summary>Hint 1</summary>
#
# First bring the noise to the other side, then divide by the factor of the image.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The root of a float is `alpha_bar**0.5`.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `Tensor.clamp` limits values. Do it at the end.
#
# </details>


# %% tags=["exercise"]
def predict_x0(x: torch.Tensor, eps: torch.Tensor, alpha_bar: float) -> torch.Tensor:
    """Return the predicted images in [-1, 1], (b, c, h, w)."""
    ### BEGIN SOLUTION
    image = (x - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5
    return image.clamp(-1, 1)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.predict_x0(predict_x0)

# %% [markdown]
# ### Exercise 7 · How good is the predicted image?
#
# *Medium, 8 minutes.* Return the mean squared error of the predicted image at several times. Use
# `add_noise` and `predict_x0`.
#
# - `predict(x, t)`: returns the predicted noise in `x` at the time `t`, an int
# - `x0`, `eps`: images and the noise to add, shape (b, c, h, w); `alphas_cumprod`: float64, (1000,)
# - `times`: a list of integers
# - output: a list with one float per time, the mean over images and pixels
#
# <details><summary>Hint 1</summary>
#
# At each time: add noise, predict it, compute the image, and compare it with the true one.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `add_noise` needs one value per image: `alpha_bar.float().expand(len(x0))`. `predict_x0` needs a
# float.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `predict` gets the noisy images, and not the clean ones.
#
# </details>


# %% tags=["exercise"]
def image_errors(predict, x0, eps, alphas_cumprod, times: list[int]) -> list[float]:
    """Return the squared error of the predicted image at each time."""
    ### BEGIN SOLUTION
    errors = []
    for t in times:
        alpha_bar = alphas_cumprod[t]
        x = add_noise(x0, eps, alpha_bar.float().expand(len(x0)))
        image = predict_x0(x, predict(x, t), float(alpha_bar))
        errors.append((image - x0).square().mean().item())
    return errors
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.image_errors(image_errors)

# %% [markdown]
# We give your tiny network the code of each image, and then the code of another image.

# %%
predict_x0 = cfx.course.piece("nb06.predict_x0", predict_x0)
image_errors = cfx.course.piece("nb06.image_errors", image_errors)
small = nn.functional.avg_pool2d(images, 4) * 2 - 1
tiny_z, noise = encoder(small).detach(), noise_like(small, seed)
other_z = tiny_z.roll(-1, 0)


def conditioned(z):
    """Return the function predict(x, t) of the tiny denoiser, given the codes z."""
    return lambda x, t: denoiser(x, torch.full((len(x),), t), z).detach()


errors = {}
for name, z in {"code of the image": tiny_z, "code of another image": other_z}.items():
    errors[name] = image_errors(conditioned(z), small, noise, alphas_cumprod, shown_times[1:])

# %% jupyter={"source_hidden": true}
cfx.curves(shown_times[1:], errors, xlabel="time t", ylabel="error of the predicted image")

# %% [markdown]
# With the right code the predicted image is better at all times. But towards the end it is useless
# with both codes. Your formula for $\hat x_0$ divides by $\sqrt{\bar\alpha_t}$, which is less than
# 0.01 at the end. So it multiplies every error of the predicted noise by more than 100. We come
# back to this problem below, because the shipped network solves it.
#
# ## Piece 4: the DDIM step
#
# We could take the predicted image as the result. But it is a mean of many images, so it is
# blurred. DDIM ([Song et al., 2021](https://arxiv.org/abs/2010.02502)) goes only a short way, and
# then predicts again. Formula (1) says how. Both $x_t$ and the less noisy $x_s$ consist of the
# *same* image and the *same* noise:
#
# $$x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1-\bar\alpha_t}\; \epsilon, \qquad
# x_s = \sqrt{\bar\alpha_s}\; x_0 + \sqrt{1-\bar\alpha_s}\; \epsilon.$$
#
# Only the factors differ. So a step has three parts:
#
# 1. Predict the image $\hat x_0$, limited to $[-1, 1]$.
# 2. Find the noise that belongs to $x_t$ and $\hat x_0$. If the limit has changed the image, this is
#    no longer the noise that the network predicted.
# 3. Mix both with the factors of time $s$.
#
# No new noise is drawn, so the step is deterministic. It also works in the other direction, to a
# time $s$ with *more* noise.
#
# ### Exercise 8 · A step of DDIM
#
# *Medium, 8 minutes.* Use `predict_x0`.
#
# - `x`: noisy images $x_t$; `eps`: their predicted noise, both of shape (b, c, h, w)
# - `alpha_bar`, `alpha_bar_next`: $\bar\alpha_t$ and $\bar\alpha_s$, floats
# - output: $x_s$, shape (b, c, h, w). For `alpha_bar_next=1` this is the predicted image.
#
# <details><summary>Hint 1</summary>
#
# For part 2, solve formula (1) for $\epsilon$.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Part 2 uses the time of `x`. Part 3 uses the next time.
#
# </details>
# <details><summary>Hint 3</summary>
#
# After part 1 you do not need `eps` again.
#
# </details>


# %% tags=["exercise"]
def ddim_step(
    x: torch.Tensor, eps: torch.Tensor, alpha_bar: float, alpha_bar_next: float
) -> torch.Tensor:
    """Return the images at the next time, (b, c, h, w)."""
    ### BEGIN SOLUTION
    image = predict_x0(x, eps, alpha_bar)
    implied = (x - alpha_bar**0.5 * image) / (1 - alpha_bar) ** 0.5
    return alpha_bar_next**0.5 * image + (1 - alpha_bar_next) ** 0.5 * implied
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.ddim_step(ddim_step)

# %%
ddim_step = cfx.course.piece("nb06.ddim_step", ddim_step)

# %% [markdown]
# ## Piece 5: a chain of steps
#
# The sampler starts with noise at the last time. It takes one step from each time to the time
# before. From the first time, it steps to the clean image.
#
# ### Exercise 9 · The sampler
#
# *Medium, 8 minutes.* Use `ddim_step`.
#
# - `predict(x, t)`: returns the predicted noise in `x` at the time `t`, an int
# - `x`: noise at the last time, shape (b, c, h, w)
# - `times`: rising integers, for example `[0, 250, 500, 750]`. Do not change the list.
# - output: images in $[-1, 1]$, shape (b, c, h, w)
# - special case: a clean image has no time in the list. Which $\bar\alpha$ does it have?
#
# <details><summary>Hint 1</summary>
#
# There are as many steps as times. Each step starts where the last one ended.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `times[::-1]` is a reversed copy. Make a second list that holds $\bar\alpha$ after each step.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `zip` goes through two lists at the same time. `float(alphas_cumprod[t])` is a float.
#
# </details>


# %% tags=["exercise"]
def render(predict, x: torch.Tensor, alphas_cumprod: torch.Tensor, times: list[int]):
    """Return the images in [-1, 1] to which the chain of steps leads, (b, c, h, w)."""
    ### BEGIN SOLUTION
    down = times[::-1]
    following = [float(alphas_cumprod[t]) for t in down[1:]] + [1.0]
    for t, alpha_bar_next in zip(down, following, strict=True):
        x = ddim_step(x, predict(x, t), float(alphas_cumprod[t]), alpha_bar_next)
    return x
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.render(render)

# %% [markdown]
# ## Piece 6: the chain backwards
#
# The predicted noise changes little between two neighbouring times. So we can also step from the
# image to *more* noise, with the same function. The noise $x_T$ at the end is the **stochastic
# code** of the image: the sampler turns it back into (nearly) this image. This is called **DDIM
# inversion**.
#
# The inversion takes the image as if it were $x_t$ at the first time. This is a small error,
# because the first time has almost no noise. The prediction is made at the *earlier* time of each
# step.
#
# ### Exercise 10 · Inversion
#
# *Medium, 8 minutes.* Use `ddim_step`.
#
# - `x`: clean images in $[-1, 1]$, shape (b, c, h, w)
# - `predict`, `alphas_cumprod`, `times`: as in exercise 9
# - output: the noise $x_T$, shape (b, c, h, w)
# - special case: the last step leads to pure noise, which has no time in the list
#
# <details><summary>Hint 1</summary>
#
# Compare with the sampler. What is the first time now, and which step is the last one?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Pure noise contains nothing of the image. Which fraction of the variance is left?
#
# </details>
# <details><summary>Hint 3</summary>
#
# Each time is paired with the *next* one. `times[1:]` is a copy without the first entry.
#
# </details>


# %% tags=["exercise"]
def ddim_inversion(predict, x: torch.Tensor, alphas_cumprod: torch.Tensor, times: list[int]):
    """Return the noise that the sampler turns into the images x, (b, c, h, w)."""
    ### BEGIN SOLUTION
    following = [float(alphas_cumprod[t]) for t in times[1:]] + [0.0]
    for t, alpha_bar_next in zip(times, following, strict=True):
        x = ddim_step(x, predict(x, t), float(alphas_cumprod[t]), alpha_bar_next)
    return x
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.ddim_inversion(ddim_inversion)

# %% [markdown]
# Your tiny diffusion autoencoder is complete. The next cell inverts test images with 20 steps, and
# draws them in three ways: from the noise that was found, from new noise, and from the noise that
# was found with the code of the next image.

# %%
render = cfx.course.piece("nb06.render", render)
ddim_inversion = cfx.course.piece("nb06.ddim_inversion", ddim_inversion)
every = list(range(0, 1000, 50))
found = ddim_inversion(conditioned(tiny_z), small, alphas_cumprod, every)
drawn = {
    "own code, noise found": render(conditioned(tiny_z), found, alphas_cumprod, every),
    "own code, new noise": render(conditioned(tiny_z), noise, alphas_cumprod, every),
    "code of the next image": render(conditioned(other_z), found, alphas_cumprod, every),
}
pd.Series({name: float((x - small).square().mean()) for name, x in drawn.items()}).round(4)

# %% jupyter={"source_hidden": true}
tiles = torch.cat([(x[few] + 1) / 2 for x in (small, *drawn.values())])
cfx.gallery(tiles, n_columns=8, row_labels=["original", *drawn])

# %% [markdown]
# The numbers are squared errors to the original. With the noise that was found, the image comes
# back. With new noise, the digit stays and its details change. With the code of the next image, the
# *next* digit appears. So your encoder has learned what is drawn, without any label.
#
# ## From the tiny network to the shipped one
#
# The shipped network is larger, and differs in two points. First, it works on
# `space.codec.encode(x)`, which turns each square of 2 × 2 pixels into 4 channels.
# `space.codec.decode` undoes this. Nothing is lost. Second, it does not predict the noise but the
# **velocity** ([Salimans and Ho, 2022](https://arxiv.org/abs/2202.00512)):
#
# $$v = \sqrt{\bar\alpha_t}\; \epsilon - \sqrt{1-\bar\alpha_t}\; x_0.$$
#
# Near $t = 0$ this is the noise, and near the end it is the negative image. So the network always
# predicts what is hard to see in $x_t$. At the end, nothing is divided by a small number any more.
# Together with formula (1), we have two equations and two unknowns, $x_0$ and $\epsilon$.
#
# ### Exercise 11 · The noise from the velocity
#
# *Medium, 8 minutes.* Solve the two equations for $\epsilon$ on paper. Then write the result as code.
#
# - `x`: noisy images $x_t$; `v`: their velocity, both of shape (b, c, h, w)
# - `alpha_bar`: $\bar\alpha_t$, a float
# - output: the noise, shape (b, c, h, w)
#
# <details><summary>Hint 1</summary>
#
# Find a combination of the two equations in which $x_0$ cancels.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Multiply each equation by the factor that $\epsilon$ has in it. Then add both.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The factor of $\epsilon$ in the sum is $\bar\alpha_t + (1-\bar\alpha_t)$. What remains on the
# other side?
#
# </details>


# %% tags=["exercise"]
def noise_from_velocity(x: torch.Tensor, v: torch.Tensor, alpha_bar: float) -> torch.Tensor:
    """Return the noise in x, (b, c, h, w)."""
    ### BEGIN SOLUTION
    return alpha_bar**0.5 * v + (1 - alpha_bar) ** 0.5 * x
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.noise_from_velocity(noise_from_velocity)

# %% [markdown]
# ## Your diffusion autoencoder
#
# You have all pieces. Now put them together, around the weights of the shipped network.
#
# ### Exercise 12 · Assemble the diffusion autoencoder
#
# *Hard, 20 minutes.* Return two functions, `encode` and `decode`. Use `noise_from_velocity`,
# `ddim_inversion` and `render`.
#
# - `encode(images)`: takes images in $[0, 1]$, and returns the pair of `z` and the noise $x_T$
# - `decode(z, noise)`: returns images in $[0, 1]$
# - `space.net.encoder(x)` returns semantic codes, and `space.net(x, time, z)` velocities. The `time`
#   is a tensor of shape (1,). Both work on `space.codec.encode` of images in $[-1, 1]$.
# - `space.inversion_times` and `space.times` are the times of both chains
# - special case: neither function needs gradients
#
# The check runs your functions on four digits. Compared with the library, codes may differ by 0.001
# standard deviations, the noise by 0.02, and pixels by 0.002.
#
# <details><summary>Hint 1</summary>
#
# Both chains need a function `predict(x, t)`. It depends on the code, so write a function that
# takes `z` and returns `predict`, as `conditioned` does.
#
# </details>
# <details><summary>Hint 2</summary>
#
# In `predict`: the network, then the noise from its velocity. The chain passes an int as time.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Images change twice before the network: to $[-1, 1]$, then by the codec. Undo both at the end of
# `decode`, in the opposite order, and clamp.
#
# </details>


# %% tags=["exercise"]
def my_diffae(space, alphas_cumprod: torch.Tensor):
    """Return the functions encode(images) -> (z, noise) and decode(z, noise) -> images."""

    ### BEGIN SOLUTION
    def conditioned(z):
        def predict(x, t):
            v = space.net(x, torch.tensor([t]), z)
            return noise_from_velocity(x, v, float(alphas_cumprod[t]))

        return predict

    @torch.no_grad()
    def encode(images):
        x = space.codec.encode(images * 2 - 1)
        z = space.net.encoder(x)
        return z, ddim_inversion(conditioned(z), x, alphas_cumprod, space.inversion_times)

    @torch.no_grad()
    def decode(z, noise):
        x = render(conditioned(z), noise, alphas_cumprod, space.times)
        return ((space.codec.decode(x) + 1) / 2).clamp(0, 1)

    return encode, decode
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.my_diffae(my_diffae)

# %% [markdown]
# ## Your autoencoder on real images
#
# The table compares four reconstructions of the same images: yours, the library's, yours with new
# noise, and that of the variational autoencoder. The **judge** is a second classifier, which no
# method sees. The judge agrees if it reads the true digit in a reconstruction.

# %%
noise_from_velocity = cfx.course.piece("nb06.noise_from_velocity", noise_from_velocity)
my_diffae = cfx.course.piece("nb06.my_diffae", my_diffae)
encode, decode = my_diffae(space, alphas_cumprod)
z, x_T = encode(images)
code = space.encode(images)
new_noise = noise_like(x_T, seed + 1)
made = {
    "yours": decode(z, x_T),
    "library": space.decode(code),
    "yours, new noise": decode(z, new_noise),
    "variational autoencoder": vae.decode(vae.encode(images)),
}


def read_by(network, x):
    """Return the class that a network reads, (n,)."""
    return cfx.predict_logits(network, x).argmax(1)


rows = [
    [(x - images).square().mean(), (read_by(judge, x) == labels).double().mean()]
    for x in made.values()
]
pd.DataFrame(rows, list(made), ["squared error", "judge agrees"]).astype(float).round(4)

# %% jupyter={"source_hidden": true}
tiles = torch.cat([x[few] for x in (images, *made.values())])
cfx.gallery(tiles, n_columns=8, row_labels=["original", *made])

# %%
differences = [(z - code.z) / space.std, x_T - code.aux, made["yours"] - made["library"]]
apart = [float(difference.abs().max()) for difference in differences]
parts = ["semantic code (standard deviations)", "noise", "pixels"]
pd.Series([f"{value:.1e}" for value in apart], parts, name="largest difference to the library")

# %% jupyter={"source_hidden": true}
# NBVAL_CHECK_OUTPUT
for part, value, tolerance in zip(parts, apart, (1e-3, 0.02, 0.002), strict=True):
    print(f"{part}: within {tolerance} of the library: {value < tolerance}")

# %% [markdown]
# ## When does the code matter?
#
# We repeat the experiment with the shipped network. It gets the code of the image itself, the mean
# of all codes, or the code of another image.

# %%
choices = ["with little noise (t = 100)", "in the middle (t = 500)", "at the end (t = 999)"]
guess = cfx.predict_then_run("When does the right code improve the predicted image most?", choices)

# %%
clean = space.codec.encode(images * 2 - 1)
given = {"code of the image": z, "mean code": space.mean.expand_as(z), "other code": z.roll(-1, 0)}
errors = {}
for name, codes in given.items():
    predict = functools.partial(space.predict_noise, z=codes)
    errors[name] = image_errors(predict, clean, new_noise, alphas_cumprod, shown_times[1:])

# %% jupyter={"source_hidden": true}
cfx.curves(shown_times[1:], errors, xlabel="time t", ylabel="error of the predicted image")

# %%
gain = torch.tensor(errors["other code"]) - torch.tensor(errors["code of the image"])
guess(
    choices[int(gain[[0, 2, 4]].argmax())],
    why="With little noise, the image itself shows what it is. With almost pure noise, nearly nothing "
    "of the image is left. Then the code is all that the network can use.",
)

# %% [markdown]
# ## How many steps?
#
# More steps cost more: each step is one pass through the network, there and back. What do they
# gain?
#
# ### Exercise 13 · Errors by number of steps
#
# *Medium, 8 minutes.* Run your autoencoder with different numbers of steps, with both kinds of noise.
#
# - `space.with_steps(n)`: the same space with `n` steps in both chains
# - `noise_like(x_T, seed)` draws noise of the shape of `x_T`
# - output: two lists of floats, with one mean squared error per entry of `steps`. The first list
#   belongs to the noise from inversion, the second one to drawn noise.
#
# <details><summary>Hint 1</summary>
#
# `my_diffae` takes any space, so also one with other steps.
#
# </details>
# <details><summary>Hint 2</summary>
#
# For each number of steps: encode once, decode twice.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `.square().mean().item()` turns a difference of images into one float.
#
# </details>


# %% tags=["exercise"]
def errors_by_steps(space, images, alphas_cumprod, steps: list[int], seed: int):
    """Return the squared errors with noise found, and with noise drawn: two lists."""
    ### BEGIN SOLUTION
    found, drawn = [], []
    for n in steps:
        encode, decode = my_diffae(space.with_steps(n), alphas_cumprod)
        z, noise = encode(images)
        found.append((decode(z, noise) - images).square().mean().item())
        noise = noise_like(noise, seed)
        drawn.append((decode(z, noise) - images).square().mean().item())
    return found, drawn
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.errors_by_steps(errors_by_steps)

# %%
errors_by_steps = cfx.course.piece("nb06.errors_by_steps", errors_by_steps)
n_tried = cfx.by_profile(profile, ci=[2, 5, 10], cpu=[2, 5, 10, 20], gpu=[2, 5, 10, 20, 50, 100])
results = errors_by_steps(space, images[: count // 3], alphas_cumprod, n_tried, seed + 1)

# %% jupyter={"source_hidden": true}
lines = dict(zip(["noise found", "new noise"], results, strict=True))
cfx.curves(n_tried, lines, xlabel="steps in each direction", ylabel="squared error")

# %% [markdown]
# With the noise that was found, more steps come closer to the image. With new noise they do not
# help. They may even lead away from the image, because they draw more details, and these details
# are not those of the image.
#
# ## Is the noise noise?
#
# The network was trained on normal noise. Does inversion find such noise? The table compares the
# noise that was found with noise that was drawn. The columns are the standard deviation, the
# correlation of each number with its right neighbour, and the correlation with the image.

# %%
rows = []
for x in (x_T, new_noise):
    pairs = [(x[..., 1:], x[..., :-1]), (x, clean)]
    rows.append([torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] for a, b in pairs])
    rows[-1].insert(0, x.std())
kinds, columns = ["noise found", "new noise"], ["standard deviation", "neighbour", "image"]
pd.DataFrame(rows, kinds, columns).astype(float).round(2)

# %% jupyter={"source_hidden": true}
tiles = [images[few], *((space.codec.decode(x[few]) + 2) / 4 for x in (x_T, new_noise))]
cfx.gallery(torch.cat(tiles), n_columns=8, row_labels=["original", *kinds])

# %% [markdown]
# The noise that was found is *not* normal noise. Its standard deviation is too small, and you can
# still see the digit. So the stochastic code is more than noise: it holds a part of the image.
#
# ## Which part decides the class?
#
# We take the semantic code of one digit and the stochastic code of another one. Which of the two
# donors does the result look like?

# %%
choices = ["the semantic code", "the stochastic code", "both to the same degree"]
guess = cfx.predict_then_run("Which part of the code holds the class of a digit?", choices)

# %% [markdown]
# ### Exercise 14 · Code or noise?
#
# *Easy, 5 minutes.* Return how often a mixed image is read as each of its two donors. Donors of the
# same class say nothing, so leave such pairs out.
#
# - `read`: the class that a network reads in each mixed image, shape (n,)
# - `of_z`, `of_noise`: the classes of the two donors, shape (n,)
# - output: two floats, the fraction of pairs read as the donor of the semantic code, and the fraction
#   read as the donor of the noise
# - special case: if no pair is left, both are NaN
#
# <details><summary>Hint 1</summary>
#
# A comparison of two tensors is a mask, a tensor of bools. A mask selects rows of another tensor.
#
# </details>
# <details><summary>Hint 2</summary>
#
# First select, then average. The order matters.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The mean needs floating-point numbers: `.double()`. The mean of an empty tensor is NaN.
#
# </details>


# %% tags=["exercise"]
def code_or_noise(read, of_z, of_noise) -> tuple[float, float]:
    """Return the fractions of pairs that are read as the donor of the code, and of the noise."""
    ### BEGIN SOLUTION
    differ = of_z != of_noise
    semantic = float((read == of_z)[differ].double().mean())
    stochastic = float((read == of_noise)[differ].double().mean())
    return semantic, stochastic
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.code_or_noise(code_or_noise)

# %%
code_or_noise = cfx.course.piece("nb06.code_or_noise", code_or_noise)
mixed = decode(z, x_T.roll(1, 0))
of_z, of_noise = labels, labels.roll(1, 0)
shares = [code_or_noise(read_by(f, mixed), of_z, of_noise) for f in (classifier, judge)]
donors = ["donor of the code", "donor of the noise"]
pd.DataFrame(shares, ["classifier reads", "judge reads"], donors).round(2)

# %%
semantic, stochastic = shares[1]
guess(
    choices[0 if semantic > stochastic + 0.2 else 1 if stochastic > semantic + 0.2 else 2],
    why="The encoder sees the clean image, and the loss rewards it for what the noisy image hides. At "
    "most times the class is hidden. So the class is worth storing in the semantic code.",
)

# %% jupyter={"source_hidden": true}
tiles = torch.cat([images[few], images.roll(1, 0)[few], mixed[few]])
cfx.gallery(tiles, n_columns=8, row_labels=[*donors, "mixed"])

# %% jupyter={"source_hidden": true}
# NBVAL_CHECK_OUTPUT
print("the semantic code decides the class:", semantic > 0.7)
print("the stochastic code does not:", stochastic < 0.2)

# %% [markdown]
# What *does* the stochastic code hold? We keep one semantic code, and draw new noise six times.
# What changes from image to image is what the semantic code leaves open.

# %% jupyter={"source_hidden": true}
variants = [decode(z[:4], noise_like(x_T[:4], seed + 10 + k)) for k in range(6)]
titles = ["original", *(f"new noise {k}" for k in range(1, 7))] * 4
cfx.gallery(torch.stack([images[:4], *variants], 1).flatten(0, 1), titles, n_columns=7)

# %% [markdown]
# ## From one digit to another
#
# To go from one image to another, we mix both parts of the code. Semantic codes are mixed along a
# straight line. Is a straight line good for noise, too? Let $a$ and $b$ be independent noises of
# length $r$. In many dimensions they are almost perpendicular, so by Pythagoras
#
# $$\Big\|\frac{a + b}{2}\Big\| \approx \frac{r}{\sqrt 2}.$$
#
# The mixture is too short: the network has never seen such weak noise. **Spherical interpolation**
# (slerp) walks along the arc instead. With the angle $\theta$ between $a$ and $b$,
#
# $$\operatorname{slerp}(a, b, w) = \frac{\sin((1-w)\,\theta)}{\sin\theta}\, a
# + \frac{\sin(w\,\theta)}{\sin\theta}\, b.$$
#
# ### Exercise 15 · Spherical interpolation
#
# *Medium, 7 minutes.* Write `slerp` for a batch.
#
# - `a`, `b`: noise, shape (b, c, h, w). No pair is parallel.
# - `w`: one float; 0 gives `a`, and 1 gives `b`
# - output: shape (b, c, h, w). Each image has its own angle.
#
# <details><summary>Hint 1</summary>
#
# `a.flatten(1)` has one row per image. The angle is that between two rows.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.cosine_similarity(..., dim=1)` returns the cosine of each angle, and `acos` the angle.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Give the angles the shape (b, 1, 1, 1) before they multiply images.
#
# </details>


# %% tags=["exercise"]
def slerp(a: torch.Tensor, b: torch.Tensor, w: float) -> torch.Tensor:
    """Return the spherical interpolation, (b, c, h, w): a at w = 0, and b at w = 1."""
    ### BEGIN SOLUTION
    angle = torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).acos()
    angle = angle.view(-1, 1, 1, 1)
    first = ((1 - w) * angle).sin() * a
    return (first + (w * angle).sin() * b) / angle.sin()
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.slerp(slerp)

# %% [markdown]
# Does it matter here, where the noise was found and not drawn? We go from each of six images to the
# next one in three ways: by a cross-fade of pixels, and by codes with the noise on the arc or on
# the line. Semantic codes are mixed along a straight line in both cases.

# %%
slerp = cfx.course.piece("nb06.slerp", slerp)
weights = torch.linspace(0, 1, 7).tolist()
first, second = ([x[rows] for x in (images, z, x_T)] for rows in (slice(0, 6), slice(1, 7)))
ways = {"pixels": [torch.lerp(first[0], second[0], w) for w in weights]}
for name, mix in {"codes, arc": slerp, "codes, line": torch.lerp}.items():
    codes = [(torch.lerp(first[1], second[1], w), mix(first[2], second[2], w)) for w in weights]
    ways[name] = [decode(*code) for code in codes]
    print(f"{name}: halfway, the noise has a standard deviation of {codes[3][1].std():.2f}")
sure = [cfx.predict_logits(judge, way[3]).softmax(1).amax(1).mean() for way in ways.values()]
pd.Series(sure, list(ways), dtype=float, name="confidence of the judge, halfway").round(2)

# %% jupyter={"source_hidden": true}
titles = [f"weight {w:.2f}" for w in weights] * 3
tiles = torch.stack([x[0] for way in ways.values() for x in way])
cfx.gallery(tiles, titles, n_columns=7, row_labels=list(ways))

# %% [markdown]
# The table shows how confident the judge is in its own decision, halfway between the images. There
# are two surprises. The noise on the line is weaker, as predicted, but this hardly matters. This
# network takes the class from the semantic code. And the judge is still rather confident about a
# cross-fade, although no digit looks like that. So confidence does not say that an image is
# realistic.
#
# ## An edit: from 4 to 9
#
# The simplest direction for a class is the difference of two mean codes. We need a baseline: a
# random direction of the same length. But which length? Coordinates of a code have different
# standard deviations, so we measure each coordinate in its own standard deviation.
#
# ### Exercise 16 · A fair random direction
#
# *Medium, 6 minutes.* Turn normal noise into a direction that is as long as `direction`, measured in
# standard deviations.
#
# - `draw`: normal noise, in standard deviations, shape (d,)
# - `direction`: the direction to compare with, in units of the code, shape (d,)
# - `std`: standard deviation of each coordinate, shape (d,)
# - output: a direction in units of the code, shape (d,). In standard deviations it is parallel to `draw`.
#
# <details><summary>Hint 1</summary>
#
# `direction / std` is the direction in standard deviations.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The noise has these units already. Give it the right length first.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Change the unit at the end. Then ask yourself: is that a product or a quotient?
#
# </details>


# %% tags=["exercise"]
def matched_random_direction(draw, direction, std) -> torch.Tensor:
    """Return a random direction that is as long as ``direction`` in units of std, (d,)."""
    ### BEGIN SOLUTION
    length = (direction / std).norm()
    return draw / draw.norm() * length * std
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.matched_random_direction(matched_random_direction)

# %% [markdown]
# ### Exercise 17 · Flips along a direction
#
# *Easy, 6 minutes.* Return the fraction of images that a network reads as the target, for edits of
# different length.
#
# - `decode(z, noise)`: returns images; `z`, `noise`: codes, shape (b, d) and (b, c, h, w)
# - `direction`: shape (d,); `amounts`: floats, the multiples of the direction to try
# - `network`: a classifier. `cfx.predict_logits(network, x)` returns its logits, (b, k).
# - `target`: a class, an int
# - output: a list with one float per amount
#
# <details><summary>Hint 1</summary>
#
# An edit adds a multiple of the direction to every semantic code. The noise stays.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The class that a network reads is the one with the largest logit.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The mean needs floating-point numbers, and a list of floats needs `.item()`.
#
# </details>


# %% tags=["exercise"]
def flip_fractions(decode, z, noise, direction, network, amounts, target=9) -> list[float]:
    """Return the fraction of images that are read as the target, for each amount."""
    ### BEGIN SOLUTION
    fractions = []
    for amount in amounts:
        edited = decode(z + amount * direction, noise)
        read = cfx.predict_logits(network, edited).argmax(1)
        fractions.append((read == target).double().mean().item())
    return fractions
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb06.flip_fractions(flip_fractions)

# %%
matched_random_direction = cfx.course.piece(
    "nb06.matched_random_direction", matched_random_direction
)
flip_fractions = cfx.course.piece("nb06.flip_fractions", flip_fractions)
direction = mean[9] - mean[4]
draw = noise_like(space.mean[None], seed + 2)[0]
by_chance = matched_random_direction(draw, direction, space.std)
z4, noise4 = encode(fours)
amounts = [0.0, 0.5, 1.0, 1.5, 2.0]
plans = [(direction, classifier), (direction, judge), (by_chance, judge)]
fractions = [flip_fractions(decode, z4, noise4, *plan, amounts) for plan in plans]

# %% jupyter={"source_hidden": true}
length = "length of the edit (1 = difference of the class means)"
names = ["class means, classifier", "class means, judge", "random direction, judge"]
lines = dict(zip(names, fractions, strict=True))
cfx.curves(amounts, lines, xlabel=length, ylabel="fraction of fours read as 9")

# %% [markdown]
# Choose a four and the length of the edit. The stochastic code is the same in all three images.

# %% jupyter={"source_hidden": true}


def draw_edit(four: int, amount: float) -> cfx.Picture:
    codes = torch.stack([z4[four] + amount * way for way in (0 * direction, direction, by_chance)])
    edited = decode(codes, noise4[four].expand(3, -1, -1, -1))
    names = zip(["reconstruction", "class means", "random"], read_by(judge, edited), strict=True)
    return cfx.gallery(edited, [f"{name}\njudge reads {y}" for name, y in names], n_columns=3)


cfx.explore(draw_edit, four=(0, len(fours) - 1), amount=(1.5, 3.0, 0.5))

# %% [markdown]
# The difference of the class means turns fours into nines. A random direction of the same length
# hardly ever does. The fraction may *fall* again if the edit is too long: a direction was measured
# near real codes, and far from them it means little.
#
# ## New digits
#
# A second small diffusion model draws new *semantic codes*, and the noise is drawn at random. We
# compare it with codes from independent normal distributions that have the same means and standard
# deviations, and with the variational autoencoder. The set distance is the [Fréchet
# distance](https://arxiv.org/abs/1706.08500) in the features of the judge; lower is better. With so
# few images it is far too large, so compare it with the distance of real digits.

# %%
number = cfx.by_profile(profile, ci=50, cpu=120, gpu=1000)
fresh = space.sample(number, seed, shape=(1, 32, 32))
normal = space.mean + space.std * noise_like(fresh.z, seed + 3)
drawn = {
    "codes from diffusion": decode(fresh.z, fresh.aux),
    "independent codes": decode(normal, fresh.aux),
    "variational autoencoder": vae.decode(vae.sample(number, seed)),
    "real digits": test.images[2000 : 2000 + number],
}
real = judge.module.features(test.images[4000 : 4000 + number])
features = [judge.module.features(x) for x in drawn.values()]
distances = [cfx.metrics.fid(x, real, allow_few=True) for x in features]
pd.Series(distances, list(drawn), name="set distance").round(1)

# %% jupyter={"source_hidden": true}
cfx.gallery(torch.cat([x[few] for x in drawn.values()]), n_columns=8, row_labels=list(drawn))

# %% [markdown]
# Each coordinate of the independent codes has the right mean and the right standard deviation. They
# give scrawls nevertheless, because it matters which values occur *together*. The second model has
# learned this.
#
# ## Figures and X-rays
#
# Your functions also run the shipped networks for other images. The table shows squared errors.
# Rows of the pictures: originals, your reconstructions, and your images with new noise. In the
# X-rays, the fine lines of the ribs are fainter after ten steps, and new noise makes the image
# grainy.

# %%
figures = cfx.data.sprites("pairs", 6, split="test", seed=seed + 11).images
rows, errors = {}, {}
for world, x in {"sprites": figures, "chest": cfx.data.chest("test").images[:6]}.items():
    other = cfx.load(f"{world}/diffae", device="cpu")
    encode_x, decode_x = my_diffae(other, alphas_cumprod)
    z_x, noise_x = encode_x(x)
    rows[world] = [x, decode_x(z_x, noise_x), decode_x(z_x, noise_like(noise_x, seed + 5))]
    errors[world] = [float((y - x).square().mean()) for y in rows[world][1:]]
pd.DataFrame(errors, kinds).T.round(4)

# %% jupyter={"source_hidden": true}
cfx.gallery(torch.cat(rows["sprites"]), n_columns=6, row_labels=["original", *kinds])

# %% jupyter={"source_hidden": true}
cfx.gallery(torch.cat(rows["chest"]), n_columns=6, row_labels=["original", *kinds])

# %% [markdown]
# ## Official checkpoints
#
# The published networks, for faces and other photographs, load as a space with the same methods.
# The file is read without executing anything in it.
#
# ```python
# space = cfx.spaces.load_diffae("last.ckpt")  # the file that the official code writes
# space = space.with_steps(20, inversion_steps=250)  # as the authors do for reconstruction
# space.fit(images)  # measures mean and standard deviation of codes, if the file has none
# ```
#
# These networks are far larger than ours, and so are the images.
#
# ## Limits
#
# - Our shipped networks are small, and differ from the published ones. They predict the velocity, and
#   they also see the code as a coarse sketch that is added to their input. A large network that
#   predicts the noise, as published, needs far more training before it uses the code.
# - Few steps blur the image a little. The curve above shows what more steps gain.
# - Noise from inversion is not normal, and holds a part of the image. An edit of the semantic code
#   leaves this part unchanged, and a large edit has to work against it.
# - "Semantic" is only a name. The encoder was trained to help with denoising, without labels. What a
#   code holds has to be measured, as above, for each space.
# - How much is left to the noise differs between data sets. X-rays with new noise look grainy. In
#   digits and figures the difference is easily overlooked.

# %% [markdown] tags=["open-task"]
# ## Open task · What does inversion hide?
#
# *About 30 minutes.* Choose an edit of your own, for example from 3 to 8, or from thin to thick
# strokes. Perform it twice: with the noise from inversion, and with new noise. State which of the
# two flips more often, which one keeps more of the original, and why.
#
# **Rubric**
#
# | points | what |
# |---|---|
# | 1 | The edit is named, with an expectation and its reason, written down before the first run. |
# | 2 | A table with flips and distance to the original for both kinds of noise, on at least 20 images. |
# | 2 | The baseline: the same numbers for a random direction of the same length. |
# | 2 | A picture of one failure, and an explanation that names the part of the code that causes it. |
# | 1 | A sentence that says what your numbers do *not* show. |

# %% [markdown] tags=["answer"]
# *Your text: the edit, what you expected, what came, and why.*

# %% tags=["answer"]
# Your code. For example: threes = test.select(3).images[:40]

# %% [markdown] tags=["solution-only"]
# *An example.* We move threes to eights, with both kinds of noise.

# %% tags=["solution-only"]
threes = test.select(3).images[: len(fours)]
z3, noise3 = encode(threes)
means = {y: space.encode_semantic(digits.select(y).images[:500]).mean(0) for y in (3, 8)}
to_eight = means[8] - means[3]
chance = matched_random_direction(draw, to_eight, space.std)
for kind, noise in {"found": noise3, "new": noise_like(noise3, seed + 1)}.items():
    for name, way in {"class means": to_eight, "random": chance}.items():
        eights = decode(z3 + 1.5 * way, noise)
        flips = float((read_by(judge, eights) == 8).double().mean())
        change = float((eights - threes).square().mean())
        print(f"noise {kind}, {name}: judge reads 8 in {flips:.0%}, squared change {change:.3f}")

# %% [markdown]
# ## Summary
#
# One formula mixes an image with noise. From it follow the loss, the predicted image, the DDIM
# step, the sampler and the inversion. You have trained a tiny diffusion autoencoder with your loss.
# Your functions run the shipped networks, and agree with the library. The semantic code decides
# what is drawn, and the stochastic code holds the rest. Methods edit the semantic code, and keep
# the stochastic one.
#
# **Questions to think about.** Would more semantic numbers make the stochastic code superfluous?
# What would an edit of the *stochastic* code be good for? When would you take fewer steps in order
# to process more images?
#
# **Next:** [07 Global directions](07_global_directions.ipynb) searches for directions in the semantic
# code that change a decision.
#
# **References.** K. Preechakul et al., [Diffusion autoencoders: toward a meaningful and decodable
# representation](https://arxiv.org/abs/2111.15640), 2022 · J. Song, C. Meng, S. Ermon, [Denoising
# diffusion implicit models](https://arxiv.org/abs/2010.02502), 2021 · J. Ho, A. Jain, P. Abbeel,
# [Denoising diffusion probabilistic models](https://arxiv.org/abs/2006.11239), 2020 · T. Salimans,
# J. Ho, [Progressive distillation for fast sampling of diffusion
# models](https://arxiv.org/abs/2202.00512), 2022 · M. Heusel et al., [GANs trained by a two
# time-scale update rule](https://arxiv.org/abs/1706.08500), 2017. Digits: MNIST, Y. LeCun, C.
# Cortes, C. J. C. Burges, CC BY-SA 3.0. Figures: sprites of the Liberated Pixel Cup, CC BY-SA 3.0 /
# GPL 3.0; artists in `data/sprites/LPC-AUTHORS.txt` and `ATTRIBUTION.md`. X-rays: chest X-rays of
# children, D. Kermany, K. Zhang, M. Goldbaum, CC BY 4.0; not for diagnosis.
