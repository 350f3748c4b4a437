# %% [markdown]
# # 11 · Flow counterfactuals: a walk between two classes
#
# **About 100 minutes · two CPU cores are enough · nothing is downloaded · [glossary](../docs/glossary.md)**
#
# A latent attack follows the gradient of the classifier. Many classifiers give no gradients, only
# answers. *LeapFactual* ([Cao et al., 2025](https://arxiv.org/abs/2510.14623)) uses answers only. It
# learns a [flow](../docs/glossary.md) from noise to the codes of each class. It then moves a code along the flow of one
# class to noise, and along the flow of another class back. In this chapter you write such a flow, and
# both movements. Then you derive a shorter walk that needs no noise at all. You test it on figures for
# which the cause of each decision is known.
#
# ## What you will be able to do
#
# - **write** flow matching: the path, the loss, the training, a solver for the flow
# - **build** counterfactuals by lift and land, and by the difference walk
# - **derive** that the difference of two velocities is the gradient of an implicit classifier
# - **compare** your walk with the library, a class swap, a straight line, and a latent attack
# - **say** what such a walk cannot find
#
# Needed before: [02 Counterfactual attacks](02_counterfactual_attacks.ipynb),
# [04 Known truth](04_known_truth.ipynb).

# %%
import pandas as pd
import torch
from torch.nn.functional import one_hot

import cfxnb as cfx
from cfxnb.core.tensors import norms, standardise
from cfxnb.flows.velocity import FittedFlow, VelocityNet
from cfxnb.solutions.nb02 import move

cfx.doctor()

# %% tags=["parameters"]
profile: str = "cpu"  # ci, cpu or gpu: how much is computed
count: int = 0  # number of explained figures; 0: as many as the profile says
seed: int = 0

# %% jupyter={"source_hidden": true}
count = count or cfx.by_profile(profile, ci=24, cpu=60, gpu=500)
n_codes = cfx.by_profile(profile, ci=600, cpu=1500, gpu=6000)
n_steps = cfx.by_profile(profile, ci=300, cpu=900, gpu=2000)
space, classifier, judge = (
    cfx.load(f"sprites/{name}", device="cpu") for name in ("vae", "unknown", "judge")
)
figures = cfx.data.sprites("pairs", count, split="test", seed=seed)
target = 1 - cfx.predict_logits(classifier, figures.images).argmax(1)

# %% [markdown]
# ## Where we are going
#
# The classifier in this chapter says *gray* or *red*, as if it read the hair. We know what it really
# reads, because its training labels followed a rule. It says *red* if **exactly one** of top and shoes
# is made of metal. So top and shoes are its [planted cause](../docs/glossary.md). Nothing else matters
# to it, and hair matters least of all.
#
# A good counterfactual changes the top or the shoes, and nothing else. The picture shows three rows:
# figures, what the walk of this chapter makes of them, and what a latent attack makes of them. Both
# change the decision of the classifier in every column. Compare hair, eyes, skin and trousers.

# %% jupyter={"source_hidden": true}
shipped = cfx.load("sprites/flow_unknown", device="cpu")
asked = (space, classifier, figures.images, target)
attack = cfx.latent_attack(*asked)
settings = {"gamma": 0.1, "growth": 1.25, "restarts": 0, "landing_time": 1.0}
library = cfx.flow_counterfactual(*asked, flow=shipped, **settings)
shown = torch.cat([x[:8] for x in (figures.images, library.image, attack.image)])
cfx.gallery(shown, n_columns=8, row_labels=["original", "difference walk", "latent attack"])

# %% [markdown]
# The walk exchanges a top or a pair of shoes. The latent attack often changes the whole figure. By
# the end of this chapter, you will have written the method of the second row, and you will know why it
# leaves the rest alone.
#
# The diagram shows its two forms. On the left, a code is *lifted* to noise along the flow of its
# present class, and *landed* along the flow of the target class. On the right, the code moves directly
# along the difference of the two flows.

# %% jupyter={"source_hidden": true}
cfx.diagram("flow")

# %% [markdown]
# ## Piece 1: a straight path from noise to a code
#
# Let $u$ be a code in standard deviations, and $\varepsilon$ a noise vector from the normal
# distribution. **Flow matching** ([Lipman et al., 2023](https://arxiv.org/abs/2210.02747)) joins them
# by a straight path. The time $t$ goes from 0 (noise) to 1 (code):
#
# $$u_t = (1 - t)\,\varepsilon + t\,u.$$
#
# ### Exercise 1 · A point of the path
#
# *Easy, 3 minutes.* Return $u_t$ for each pair of noise and code.
#
# - `noise`, `u`: shape (b, d)
# - `t`: one time per row, shape (b,)
# - output: shape (b, d)
#
# <details><summary>Hint 1</summary>
#
# A number per row must multiply a whole row: its shape has to become (b, 1).
#
# </details>
# <details><summary>Hint 2</summary>
#
# `t[:, None]` adds a dimension.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Test your function at $t = 0$: the result is the noise.
#
# </details>


# %% tags=["exercise"]
def interpolate(noise: torch.Tensor, u: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return the points of the paths from noise to codes at the times t, (b, d)."""
    ### BEGIN SOLUTION
    t = t[:, None]
    return (1 - t) * noise + t * u
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb11.interpolate(interpolate)

# %%
interpolate = cfx.course.piece("nb11.interpolate", interpolate)

# %% [markdown]
# ## Piece 2: the velocity
#
# A point on one path moves with the velocity
#
# $$\frac{d u_t}{dt} = u - \varepsilon.$$
#
# To move a *new* point, we need the velocity at a place. But many paths pass through one place. Each
# belongs to another pair of noise and code. So we train a network $v(u_t, c, t)$ that predicts the
# velocity. Its inputs are the place, the time, and a condition $c$. Here $c$ holds the probabilities
# that the *classifier* answers for this code. The loss is the squared error:
#
# $$L = \mathbb{E}\;\big|\,v(u_t, c, t) - (u - \varepsilon)\,\big|^2.$$
#
# The best prediction under a squared error is the mean. So the trained network returns the *mean*
# velocity of all paths that pass through $u_t$ at time $t$ and end in a code with the answer $c$:
#
# $$v(u_t, c, t) = \mathbb{E}\,[\,u - \varepsilon \mid u_t, c\,].$$
#
# This is all that we need. If all points move with the mean velocity of their place, the same number
# of points passes each place as on the straight paths. So the points are distributed as noise at
# $t = 0$, and as the codes of class $c$ at $t = 1$.
#
# ### Exercise 2 · The loss of flow matching
#
# *Easy, 5 minutes.* Use `interpolate`.
#
# - `net(u_t, condition, t)` returns velocities, shape (b, d)
# - `u`, `noise`: shape (b, d); `condition`: shape (b, k); `t`: shape (b,)
# - output: one number, the mean of the squared errors over all rows and coordinates
#
# <details><summary>Hint 1</summary>
#
# The network sees a point *between* noise and code. It never sees the code itself.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The velocity of a straight path is its end minus its beginning.
#
# </details>
# <details><summary>Hint 3</summary>
#
# First write the point, then the prediction, then its error. `Tensor.mean()` without a dimension takes
# the mean of all entries.
#
# </details>


# %% tags=["exercise"]
def flow_loss(net, u, condition, noise, t) -> torch.Tensor:
    """Return the mean squared error of the predicted velocities, a number."""
    ### BEGIN SOLUTION
    point = interpolate(noise, u, t)
    error = net(point, condition, t) - (u - noise)
    return (error**2).mean()
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb11.flow_loss(flow_loss)

# %%
flow_loss = cfx.course.piece("nb11.flow_loss", flow_loss)

# %% [markdown]
# ### Exercise 3 · Train the flow
#
# *Medium, 12 minutes.* Write the training loop with `flow_loss`. One step does this:
#
# 1. Draw `batch_size` random rows. A row is a code together with *its* answer.
# 2. Draw new noise for each row (`torch.randn`), and a new time for each row (`torch.rand`).
# 3. Take one step of Adam with learning rate `lr` down the gradient of the loss.
#
# - `net`: a network, `net(point, condition, t)`; `u`: codes, (n, d); `answers`: (n, k)
# - `seed`: all random numbers come from one `torch.Generator` with this seed
# - output: `net.requires_grad_(False)`, the trained network, which no later step changes
#
# <details><summary>Hint 1</summary>
#
# `torch.randint(len(u), (batch_size,), generator=g)` draws row numbers. Index `u` and `answers` with
# the same numbers.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Noise and times are drawn inside the loop. The optimiser is created before it.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Gradients add up in PyTorch until `adam.zero_grad()` is called.
#
# </details>


# %% tags=["exercise"]
def train_flow(net, u, answers, steps: int, batch_size: int = 256, lr: float = 2e-3, seed: int = 0):
    """Train a network by flow matching, and return it."""
    ### BEGIN SOLUTION
    g = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(steps):
        rows = torch.randint(len(u), (batch_size,), generator=g)
        noise = torch.randn(batch_size, u.shape[1], generator=g)
        t = torch.rand(batch_size, generator=g)
        adam.zero_grad()
        loss = flow_loss(net, u[rows], answers[rows], noise, t)
        loss.backward()
        adam.step()
    return net.requires_grad_(False)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb11.train_flow(train_flow)

# %% [markdown]
# ### A flow in the plane
#
# We start with codes that can be drawn. They form four groups. The classifier `quadrant` says class 1
# if the two coordinates have different signs, and class 0 if they have the same sign. This is the rule
# *exactly one of two* again: each class consists of two groups.

# %%
train_flow = cfx.course.piece("nb11.train_flow", train_flow)
centres = torch.tensor([[-1.2, -1.2], [1.2, 1.2], [-1.2, 1.2], [1.2, -1.2]])
spread = 0.3


def quadrant(points: torch.Tensor) -> torch.Tensor:
    product = 4 * points[:, 0] * points[:, 1]
    return torch.stack([product, -product], 1)


g = torch.Generator().manual_seed(seed)
points = centres.repeat(250, 1) + spread * torch.randn(1000, 2, generator=g)
answers = quadrant(points).softmax(1)
torch.manual_seed(seed)
plane_flow = train_flow(VelocityNet(2, 2, 128), points, answers, n_steps)

# %% [markdown]
# ## Piece 3: follow the flow
#
# The network gives a velocity at each place and time. To move a point, we solve the equation
# $\frac{du}{dt} = \gamma\, v(u, c, t)$, where the factor $\gamma$ is 1 for now. The simplest solver,
# Euler's, takes the velocity at the beginning of each step of length $h$. Its error shows in the Taylor
# series:
#
# $$u(t + h) = u(t) + h\,\dot u(t) + \tfrac{h^2}{2}\,\ddot u(t) + O(h^3).$$
#
# Euler's step drops the third term. The velocity in the *middle* of the step contains it, because
# $\dot u(t + \tfrac h2) = \dot u(t) + \tfrac h2\,\ddot u(t) + O(h^2)$. So the **midpoint method** takes
# half a step first, only to learn the velocity there. With this velocity it takes the whole step, from
# the beginning:
#
# $$u_{\text{mid}} = u + \tfrac h2\,\gamma\,v(u, c, t), \qquad
# u_{\text{next}} = u + h\,\gamma\,v(u_{\text{mid}}, c, t + \tfrac h2).$$
#
# ### Exercise 4 · The midpoint method
#
# *Medium, 8 minutes.* Move points from the time `start` to the time `end` in equal steps.
#
# - `velocity(u, condition, t)`: the network, with `t` of shape (b,)
# - `u`: shape (b, d); `condition`: shape (b, k)
# - `start`, `end`: floats. `end` may be smaller than `start`: then the points move back in time.
# - output: the points at the time `end`, shape (b, d). Do not modify `u`.
#
# <details><summary>Hint 1</summary>
#
# The length $h$ of a step is the whole time divided by the number of steps. It is negative if the
# points move back in time, and no other line has to change.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `torch.full((len(u),), time)` makes one time per row.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Both lines of a step begin at the same `u`. So the point in the middle needs a name of its own.
#
# </details>


# %% tags=["exercise"]
def midpoint(velocity, u, condition, start: float, end: float, steps: int = 8, gamma: float = 1.0):
    """Solve du/dt = gamma v(u, condition, t) from start to end, (b, d) -> (b, d)."""
    ### BEGIN SOLUTION
    h = (end - start) / steps
    for i in range(steps):
        t = torch.full((len(u),), start + i * h)
        middle = u + h / 2 * gamma * velocity(u, condition, t)
        u = u + h * gamma * velocity(middle, condition, t + h / 2)
    return u
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb11.midpoint(midpoint)

# %% [markdown]
# The next cells start at noise and follow the flow of each class. Left: the training points, each drawn
# as the answer of the classifier. Middle and right: 60 noise vectors land along the flow of class 0,
# and the *same* 60 along the flow of class 1.

# %%
midpoint = cfx.course.piece("nb11.midpoint", midpoint)
noise = torch.randn(60, 2, generator=g)
classes = torch.eye(2)
paths = {}
for c in (0, 1):
    here = classes[c].expand(60, 2)
    paths[c] = torch.stack([midpoint(plane_flow, noise, here, 0, t / 8) for t in range(9)])

# %% jupyter={"source_hidden": true}
from matplotlib.figure import Figure


def plane(panels, alt):
    """Draw points as the answers of the classifier, and paths (steps, n, 2), side by side."""
    figure = Figure(figsize=(3.3 * len(panels), 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, (dots, ways)) in zip(axes, panels.items(), strict=True):
        ax.axhline(0, color="0.7", lw=1)
        ax.axvline(0, color="0.7", lw=1)
        cfx.code_map(dots, quadrant(dots).argmax(1), ["0", "1"], ax=ax)
        for way in ways.unbind(1):
            ax.plot(*way.T, color="#D55E00", lw=1.2)
            ax.plot(*way[0], "o", color="#D55E00", ms=3)
        ax.set(title=title, xlim=(-3, 3), ylim=(-3, 3), xlabel="", ylabel="", aspect="equal")
    return cfx.as_picture(figure, alt)


nothing = torch.zeros(2, 0, 2)
panels = {"training points": (points[:160], nothing)}
panels |= {f"noise lands in class {c}": (way[-1], way[:, :25]) for c, way in paths.items()}
plane(panels, "Four groups of points; noise moves to the two groups of class 0, or of class 1.")

# %% [markdown]
# Each line begins at a dot (noise) and ends in a group. The gray lines are the boundary of the classifier.
# Class 0 has its groups at the lower left and
# upper right, and class 1 at the upper left and lower right. The flow has learned both shapes from the
# answers of the classifier.
#
# ## Piece 4: lift and land
#
# Now we have a code, and not noise. **Lift**: follow the flow of its present class *back* in time, from
# $t = 1$ to $t = 0$. This gives the noise that belongs to the code. **Land**: follow the flow of the
# target class from $t = 0$ to $t = 1$. Both together are a **leap**. With $\gamma = 1$ a leap is a
# *class swap*: the same noise, in another class.
#
# ### Exercise 5 · A leap
#
# *Easy, 4 minutes.* Use `midpoint` twice. Both legs cover all times, and both use `gamma`.
#
# - `u`: shape (b, d); `present`, `target`: conditions, shape (b, k)
# - output: the codes after the landing, shape (b, d)
#
# <details><summary>Hint 1</summary>
#
# The lift begins where the code is: at which time?
#
# </details>
# <details><summary>Hint 2</summary>
#
# The landing begins where the lift has ended.
#
# </details>
# <details><summary>Hint 3</summary>
#
# If both conditions are the same, a leap returns to its start.
#
# </details>


# %% tags=["exercise"]
def leap(velocity, u, present, target, gamma: float = 1.0, steps: int = 8) -> torch.Tensor:
    """Lift codes along the flow of one class, and land them along that of another, (b, d)."""
    ### BEGIN SOLUTION
    lifted = midpoint(velocity, u, present, 1.0, 0.0, steps, gamma)
    return midpoint(velocity, lifted, target, 0.0, 1.0, steps, gamma)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb11.leap(leap)

# %%
leap = cfx.course.piece("nb11.leap", leap)
start = points[quadrant(points).argmax(1) == 0][:24]
here, there = classes[0].expand(24, 2), classes[1].expand(24, 2)
swapped = leap(plane_flow, start, here, there)
small = [start]
for _ in range(8):
    small.append(leap(plane_flow, small[-1], here, there, gamma=0.1))
small = torch.stack(small)

# %% jupyter={"source_hidden": true}
panels = {
    "class swap: one leap, gamma = 1": (swapped, torch.stack([start, swapped])),
    "eight leaps, gamma = 0.1": (small[-1], small),
}
plane(
    panels, "One large leap moves codes of class 0 to class 1. Small leaps take curved ways to it."
)

# %% [markdown]
# Each line begins at a dot, a code of class 0, and ends at a code of class 1. The paper does not use one
# large leap but many small ones. After each, the classifier answers again. With a small $\gamma$
# the lift moves the code only a little towards the noise, and the landing moves it a little back. What
# remains is the *difference* of the two flows.
#
# ## Piece 5: the difference of two flows
#
# We make this exact. In the lift with a small $\gamma$ the code hardly moves. So we may take all
# velocities at the code $u$ itself. The error is of the order $\gamma^2$:
#
# $$u_{\text{lifted}} = u - \gamma \int_0^1 v(u, \text{present}, t)\,dt + O(\gamma^2).$$
#
# The landing adds the same integral for the target. So a leap is
#
# $$u_{\text{landed}} - u = \gamma \int_0^1
# \big[\,v(u, \text{target}, t) - v(u, \text{present}, t)\,\big]\,dt + O(\gamma^2).$$
#
# This needs no solver. Four times in the middle of four equal intervals approximate the integral:
# $t = \tfrac18, \tfrac38, \tfrac58, \tfrac78$.
#
# ### Exercise 6 · The mean difference
#
# *Medium, 6 minutes.* Return the mean over the times of $v(u, \text{target}, t) - v(u, \text{rival},
# t)$. The [rival](../docs/glossary.md) is the class that the code should leave.
#
# - `u`: shape (b, d); `target`, `rival`: conditions, shape (b, k)
# - `times`: a sequence of floats
# - output: shape (b, d)
#
# <details><summary>Hint 1</summary>
#
# `torch.full((len(u),), time)` makes one time per row.
#
# </details>
# <details><summary>Hint 2</summary>
#
# All velocities are taken at the same `u`.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Add up the differences, and divide once by the number of times.
#
# </details>


# %% tags=["exercise"]
def mean_difference(velocity, u, target, rival, times=(0.125, 0.375, 0.625, 0.875)):
    """Return the mean over times of v(u, target, t) - v(u, rival, t), (b, d)."""
    ### BEGIN SOLUTION
    total = torch.zeros_like(u)
    for time in times:
        t = torch.full((len(u),), time)
        total += velocity(u, target, t) - velocity(u, rival, t)
    return total / len(times)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb11.mean_difference(mean_difference)

# %% [markdown]
# Does the approximation hold for the trained flow? The table compares a leap, divided by $\gamma$, with
# the mean difference. A cosine of 1 means the same direction.

# %%
mean_difference = cfx.course.piece("nb11.mean_difference", mean_difference)
difference = mean_difference(plane_flow, start, there, here)
rows = {}
for gamma in (0.01, 0.1, 0.3, 1.0):
    leapt = (leap(plane_flow, start, here, there, gamma) - start) / gamma
    cosine = torch.cosine_similarity(leapt, difference).mean()
    rows[gamma] = (float(cosine), float((norms(leapt) / norms(difference)).mean()))
columns = ["cosine", "length of the leap / length of the difference"]
pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("gamma").round(3)

# %% [markdown]
# ## Why it works: an implicit classifier
#
# What is this difference? We need two steps. **First**, the velocity in terms of the noise. Solve
# $u_t = (1-t)\,\varepsilon + t\,u$ for $u$, and insert it:
#
# $$u - \varepsilon = \frac{u_t - (1-t)\,\varepsilon}{t} - \varepsilon = \frac{u_t - \varepsilon}{t},
# \qquad v(u_t, c, t) = \frac{u_t - \mathbb{E}[\varepsilon \mid u_t, c]}{t}.$$
#
# **Second**, the mean noise is a gradient. For a *known* code $u$, the point $u_t$ is normally
# distributed with mean $t\,u$ and standard deviation $1 - t$. So
#
# $$\nabla_{u_t} \log p(u_t \mid u) = -\frac{u_t - t\,u}{(1-t)^2} = -\frac{\varepsilon}{1-t}.$$
#
# The density of class $c$ is the mean of $p(u_t \mid u)$ over its codes $u$. With $\nabla p = p\,\nabla \log
# p$, the gradient of its logarithm is
#
# $$\nabla \log p_t(u_t \mid c) = \frac{\mathbb{E}_u\big[\,p(u_t \mid u)\,\nabla \log p(u_t \mid u)\,\big]}
# {p_t(u_t \mid c)} = \mathbb{E}\big[\,\nabla \log p(u_t \mid u) \;\big|\; u_t, c\,\big].$$
#
# The last step is Bayes' rule: $p(u_t \mid u) / p_t(u_t \mid c)$ turns the mean over all codes into the mean
# over the codes that can lie behind $u_t$. Now insert the gradient for a known code, and then the
# velocity:
#
# $$\nabla \log p_t(u_t \mid c) = -\frac{\mathbb{E}[\varepsilon \mid u_t, c]}{1-t}
# \quad\Longrightarrow\quad
# v(u_t, c, t) = \frac{u_t}{t} + \frac{1-t}{t}\,\nabla \log p_t(u_t \mid c).$$
#
# The first term contains no class. In the difference it cancels. By Bayes' rule, $\log p_t(u_t \mid c) =
# \log p_t(c \mid u_t) + \log p_t(u_t) - \log p(c)$. The second of these terms is the same for both
# classes, and the third has no gradient. What remains is
#
# $$v(u_t, \text{target}, t) - v(u_t, \text{rival}, t) = \frac{1-t}{t}\;\nabla
# \log\frac{p_t(\text{target} \mid u_t)}{p_t(\text{rival} \mid u_t)}.$$
#
# So the difference is the gradient of the log odds of an **implicit classifier**: the classifier of noisy
# codes that is hidden in the flow. Everything that both classes share is part of $p_t(u_t)$, and
# cancels. This is why the walk changes what the classifier reads and leaves the rest alone. In
# [09 Diffusion counterfactuals](09_diffusion_counterfactuals.ipynb) the implicit classifier compares a
# class with *no* class. Here it compares a class with its rival.
#
# Two remarks. The walk asks for this gradient at the code itself, so it treats the code as a noisy one. And
# our condition holds probabilities: a one-hot condition stands for codes of which the classifier is sure.
#
# ### Exercise 7 · The gradient of the implicit classifier
#
# *Medium, 8 minutes.* In the plane we know the density, so we can test the derivation. Return the
# right-hand side of the last formula. The formula before it allows you to replace
# $p_t(c \mid u)$ by $p_t(u \mid c)$.
#
# - `log_p(u, t, c)` returns $\log p_t(u \mid c)$, shape (b,), for a float `t` and a class `c`, an int
# - `u`: shape (b, d). Do not modify it.
# - output: shape (b, d), without gradient history
#
# <details><summary>Hint 1</summary>
#
# A copy of `u` collects gradients, as in chapter 02.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The log of a quotient is a difference of two logs.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The gradient of the sum over rows has the gradient of each row in its own row. Then one factor is
# left.
#
# </details>


# %% tags=["exercise"]
def implicit_gradient(log_p, u, t: float, target: int, rival: int) -> torch.Tensor:
    """Return (1 - t) / t times the gradient of the implicit classifier's log odds, (b, d)."""
    ### BEGIN SOLUTION
    u = u.detach().clone().requires_grad_()
    odds = log_p(u, t, target) - log_p(u, t, rival)
    (gradient,) = torch.autograd.grad(odds.sum(), u)
    return (1 - t) / t * gradient
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb11.implicit_gradient(implicit_gradient)

# %% [markdown]
# In the plane, the density is known. The codes of a group are normally distributed with mean $m$ (its
# centre) and standard deviation $s$ in each coordinate. The noise has mean 0 and standard deviation 1.
# So $u_t = (1-t)\,\varepsilon + t\,u$ is normally distributed, too. Its mean is $t\,m$, and its variance is
# the sum of two variances: $t^2 s^2 + (1-t)^2$.
#
# ### Exercise 8 · The density of noisy codes
#
# *Medium, 7 minutes.* A class has several groups, all equally probable. Return $\log p_t(u \mid c)$, up
# to a constant that does not depend on $u$.
#
# - `u`: places, shape (b, d); `t`: a float
# - `centres`: the centres of the groups of the class, shape (m, d); `std`: the number $s$
# - output: shape (b,)
# - special case: far from all centres, every density rounds to 0. Stay with logarithms.
#
# <details><summary>Hint 1</summary>
#
# Up to a constant, the log of a normal density is the squared distance to the mean, divided by $-2$
# times the variance.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `u[:, None]` has the shape (b, 1, d). Its difference to the means has the shape (b, m, d).
#
# </details>
# <details><summary>Hint 3</summary>
#
# The density of the class is the sum over its groups: `logsumexp` over the dimension of the groups.
#
# </details>


# %% tags=["exercise"]
def noisy_log_density(u, t: float, centres, std: float) -> torch.Tensor:
    """Return log p_t(u) of codes in groups, up to a constant, (b, d) -> (b,)."""
    ### BEGIN SOLUTION
    variance = t**2 * std**2 + (1 - t) ** 2
    squares = ((u[:, None] - t * centres) ** 2).sum(2)
    return (-squares / (2 * variance)).logsumexp(1)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb11.noisy_log_density(noisy_log_density)

# %% [markdown]
# The table compares the exact gradient with the difference of *your trained* flow, which has seen answers
# only. One row per time. 1 means the same direction.

# %%
implicit_gradient = cfx.course.piece("nb11.implicit_gradient", implicit_gradient)
noisy_log_density = cfx.course.piece("nb11.noisy_log_density", noisy_log_density)


def log_p(u, t, c):
    return noisy_log_density(u, t, centres[2 * c : 2 * c + 2], spread)


rows = {}
for t in (0.125, 0.375, 0.625, 0.875):
    exact = implicit_gradient(log_p, start, t, 1, 0)
    learned = mean_difference(plane_flow, start, there, here, [t])
    rows[t] = float(torch.cosine_similarity(exact, learned).mean())
pd.Series(rows, name="cosine of exact and learned").rename_axis("t").to_frame().round(3)

# %% [markdown]
# The directions agree well at all times. They are not equal, because the network has seen 1000 points and
# smooths the density a little.
#
# ## Piece 6: the rival
#
# The walk takes many small steps. Which class should a code leave? Before the decision flips, it is the
# present class. But the walk does not end at the flip. It ends when the target has the confidence 0.99.
# After the flip the present class *is* the target, and the difference would be 0. So the walk leaves the
# rival: the most probable class *except* the target.
#
# ### Exercise 9 · The strongest rival
#
# *Easy, 4 minutes.* Return the rival of each row as a condition.
#
# - `logits`: shape (b, k); `target`: shape (b,)
# - output: one-hot rows as floats, shape (b, k)
#
# <details><summary>Hint 1</summary>
#
# The rival is the largest logit of a row in which the target cannot win.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `Tensor.scatter` can put $-\infty$ into one entry of each row. It does not change the tensor itself.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `one_hot(classes, k)` returns integers.
#
# </details>


# %% tags=["exercise"]
def strongest_rival(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the most probable class other than the target, as one-hot rows (b, k)."""
    ### BEGIN SOLUTION
    others = logits.scatter(1, target[:, None], -torch.inf)
    return one_hot(others.argmax(1), logits.shape[1]).float()
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb11.strongest_rival(strongest_rival)

# %%
strongest_rival = cfx.course.piece("nb11.strongest_rival", strongest_rival)

# %% [markdown]
# ## The difference walk
#
# One step of the walk, with the number $n = 0, 1, 2, \dots$, is
#
# $$u \leftarrow u + \gamma_n \cdot \text{mean difference}(u), \qquad
# \gamma_n = \gamma \cdot \min(1.25^{\,n},\, 4).$$
#
# The first steps are small, so that easy images change little. Later steps are larger, so that hard
# images need few of them. After each step the classifier answers, and an image **stops** as soon as its
# target has the `confidence`.
#
# ### Exercise 10 · The walk
#
# *Hard, 20 minutes.* Use `mean_difference` and `strongest_rival`.
#
# - `velocity(u, condition, t)`: a flow; `classify(u)`: logits of codes, shape (b, k)
# - `u`: codes, shape (b, d), which you must not modify; `target`: shape (b,)
# - call `classify` once before the first step, and once after each step. Take at most `rounds` steps,
#   and stop early when all images have reached the target.
# - output: a pair, the codes (b, d), and `reached`, bool (b,)
# - special cases: an image that has reached the target stays where it is. An image counts as reached
#   only after a step.
#
# <details><summary>Hint 1</summary>
#
# You need three things before the loop: a copy of the codes, their logits, and `reached`, which is
# False everywhere.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The condition of the target is one-hot, too. The rival may change from step to step, because it
# depends on the newest logits.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `torch.where(reached[:, None], u, u + step)` moves only the images that are still on their way. Once
# reached, an image stays reached.
#
# </details>


# %% tags=["exercise"]
def walk(velocity, classify, u, target, gamma=0.1, rounds=20, confidence=0.99):
    """Walk along the difference of two flows until the target is reached, (b, d), bool (b,)."""
    ### BEGIN SOLUTION
    logits = classify(u)
    reached = torch.zeros(len(u), dtype=torch.bool)
    wanted = one_hot(target, logits.shape[1]).float()
    for n in range(rounds):
        rival = strongest_rival(logits, target)
        step = gamma * min(1.25**n, 4) * mean_difference(velocity, u, wanted, rival)
        u = torch.where(reached[:, None], u, u + step)
        logits = classify(u)
        p = logits.softmax(1).gather(1, target[:, None]).squeeze(1)
        reached = reached | (p >= confidence)
        if reached.all():
            break
    return u, reached
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb11.walk(walk)

# %% [markdown]
# ## A baseline: the line along the difference of class means
#
# Is a flow needed at all? A simpler way from one class to another is the straight line along the
# difference of the two mean codes. It fits into your walk without a change: take a "flow" whose velocity
# is the mean code of the condition, at all places and times.
#
# ### Exercise 11 · Class means as a flow
#
# *Medium, 6 minutes.* Return a *function* `velocity(u, condition, t)`.
#
# - `codes`: shape (n, d); `answers`: probabilities of the classes for each code, shape (n, k)
# - the mean code of a class weights each code with its probability of this class
# - `velocity` returns the mean code of the condition of each row, shape (b, d)
#
# <details><summary>Hint 1</summary>
#
# A product of two matrices computes the weighted sums of all classes together, shape (k, d).
#
# </details>
# <details><summary>Hint 2</summary>
#
# The weights of a class add up to `answers.sum(0)`, shape (k,).
#
# </details>
# <details><summary>Hint 3</summary>
#
# A one-hot row, multiplied by a matrix, selects one row of it. Define a function inside your function,
# and return it.
#
# </details>


# %% tags=["exercise"]
def class_mean_line(codes: torch.Tensor, answers: torch.Tensor):
    """Return a velocity that is the mean code of the class, at all places and times."""
    ### BEGIN SOLUTION
    means = answers.T @ codes / answers.sum(0)[:, None]

    def velocity(u, condition, t):
        return condition @ means

    return velocity
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb11.class_mean_line(class_mean_line)

# %%
guess = cfx.predict_then_run(
    "In the plane, the line along the class means reaches the other class for",
    choices := ["hardly any code", "about half of the codes", "almost all codes"],
)

# %%
walk = cfx.course.piece("nb11.walk", walk)
class_mean_line = cfx.course.piece("nb11.class_mean_line", class_mean_line)
ones = torch.ones(24, dtype=torch.int64)
walked = torch.stack([walk(plane_flow, quadrant, start, ones, rounds=n)[0] for n in range(21)])
line = class_mean_line(points, answers)
lined, on_target = walk(line, quadrant, start, ones)
moved = quadrant(walked[-1]).argmax(1) == 1
print(f"walk: {moved.double().mean():.0%}, line: {on_target.double().mean():.0%} reach class 1")

# %%
on = float(on_target.double().mean())
guess(
    choices[int(on > 0.25) + int(on > 0.75)],
    why="Each class has two groups in opposite corners, so both mean codes lie in the centre. Their "
    "difference is almost zero, and it is the same for every code. The flow knows the groups: at each "
    "place it leads to the nearest group of the target.",
)

# %% jupyter={"source_hidden": true}
text = "Ways of codes from class 0 to class 1, as far as this step."
cfx.explore(
    lambda step: plane({f"walk, step {step}": (walked[step], walked[: step + 1])}, text),
    step=(0, 12),
)
panels = {
    "difference walk": (walked[-1], walked),
    "line of class means": (lined, torch.stack([start, lined])),
}
plane(panels, "The walk leads each code to class 1. Along the line, the codes hardly move.")

# %% [markdown]
# Move the slider to watch the walk. Each code goes to a group of class 1 and stops there. It changes
# mainly one of its two coordinates. Along the line of class means, all codes make the same short step, in
# a direction that has nothing to do with the decision.
#
# ## From the plane to images
#
# Now the real space: 20 coordinates, and figures instead of points. The black box answers once for each
# training figure, and your loop fits a flow to the answers. We ask about *reconstructions*, because
# the walk will also ask about decoded codes.
#
# ### Exercise 12 · Codes and answers
#
# *Easy, 5 minutes.* Prepare the training data of a flow.
#
# - `images`: shape (n, 3, 56, 32)
# - output: a pair, the codes in standard deviations from the mean code (n, d), and the probabilities that
#   the classifier answers for the *reconstructions* (n, k)
#
# `standardise(z - space.mean, space.std)` changes the unit. `cfx.predict_logits(classifier, images)`
# returns logits in batches.
#
# <details><summary>Hint 1</summary>
#
# `space.encode(images).z` are the codes, and `space.decode(cfx.Code(z))` the reconstructions.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The softmax turns the logits of a row into probabilities.
#
# </details>
# <details><summary>Hint 3</summary>
#
# The generator decodes codes in their own unit, so change the unit last.
#
# </details>


# %% tags=["exercise"]
def codes_and_answers(space, classifier, images) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the codes in standard deviations, and the answers for the reconstructions."""
    ### BEGIN SOLUTION
    z = space.encode(images).z
    logits = cfx.predict_logits(classifier, space.decode(cfx.Code(z)))
    u = standardise(z - space.mean, space.std)
    return u, logits.softmax(1)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb11.codes_and_answers(codes_and_answers)

# %%
codes_and_answers = cfx.course.piece("nb11.codes_and_answers", codes_and_answers)


def fit(classifier, world, seed):
    """Return your flow and the line of class means, for figures of a world."""
    training = cfx.data.sprites(world, n_codes, split="train", seed=seed).images
    codes, answers = codes_and_answers(space, classifier, training)
    torch.manual_seed(seed)
    net = train_flow(VelocityNet(20, 2), codes, answers, n_steps, seed=seed)
    return net, class_mean_line(codes, answers)


flow, line = fit(classifier, "pairs", seed + 1)

# %% [markdown]
# ### Exercise 13 · Assemble the method
#
# *Hard, 15 minutes.* Encode, walk, decode. Use `walk`. The import at the top gave you `move(space, z0,
# change)`, which you wrote in chapter 02: it returns the codes
# $z_0 + \sigma \odot \text{change}$, without a change of unused coordinates.
#
# - `images`: shape (b, 3, 56, 32); `target`: shape (b,); `velocity`: a flow in standard deviations
# - output: three parts, the changed images, their codes $z$ (b, d), and `reached`, bool (b,)
# - special case: an image that does not reach the target keeps its original code. Half an edit is no
#   explanation.
#
# The check runs your function on eight figures and compares it with `cfx.flow_counterfactual`. The flips
# must be the same. Each code may be at most 0.02 standard deviations away.
#
# <details><summary>Hint 1</summary>
#
# The flow lives in standard deviations from the mean code: $u = (z - \bar z) / \sigma$.
# `standardise(z - space.mean, space.std)` computes it.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `walk` needs a function from $u$ to logits. Define it inside your function. The change is what $u$ has
# moved away from its start.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Set the rows of $u$ that did not reach the target back to the start. Decode after that.
#
# </details>


# %% tags=["exercise"]
def my_flow_counterfactual(space, classifier, velocity, images, target):
    """Return counterfactual images, their codes, and which of them reach the target."""
    ### BEGIN SOLUTION
    z0 = space.encode(images).z
    start = standardise(z0 - space.mean, space.std)

    def classify(u):
        return classifier(space.decode(cfx.Code(move(space, z0, u - start))))

    u, reached = walk(velocity, classify, start, target)
    u = torch.where(reached[:, None], u, start)
    z = move(space, z0, u - start)
    return space.decode(cfx.Code(z)), z, reached
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb11.my_flow_counterfactual(my_flow_counterfactual)

# %%
my_flow_counterfactual = cfx.course.piece("nb11.my_flow_counterfactual", my_flow_counterfactual)

# %% [markdown]
# ### Exercise 14 · The class swap for images
#
# *Medium, 7 minutes.* The second baseline is one leap with $\gamma = 1$. Use `leap` and `move`. The
# classifier has two classes, so each image comes from the class that is not its target.
#
# - `images`, `target`, `velocity`: as in the last exercise
# - output: the changed images, shape (b, 3, 56, 32)
#
# <details><summary>Hint 1</summary>
#
# Begin as in the last exercise, with codes in standard deviations.
#
# </details>
# <details><summary>Hint 2</summary>
#
# With two classes, the other class of `target` is `1 - target`. Conditions are one-hot rows of floats.
#
# </details>
# <details><summary>Hint 3</summary>
#
# `leap` returns the new codes. `move` takes the *change*.
#
# </details>


# %% tags=["exercise"]
def swap_class(space, velocity, images, target) -> torch.Tensor:
    """Return the images after one leap to the target with gamma = 1."""
    ### BEGIN SOLUTION
    z0 = space.encode(images).z
    start = standardise(z0 - space.mean, space.std)
    present, wanted = one_hot(1 - target, 2).float(), one_hot(target, 2).float()
    u = leap(velocity, start, present, wanted)
    return space.decode(cfx.Code(move(space, z0, u - start)))
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb11.swap_class(swap_class)

# %% [markdown]
# ## How to measure
#
# The [judge](../docs/glossary.md) is a network that reads all seven factors of a figure: body, eyes, hair,
# top and so on. No method sees it. A flip explains the decision if the judge reads another *cause*
# afterwards, and reads *every other* factor as before.
#
# ### Exercise 15 · The cause, and nothing else
#
# *Medium, 8 minutes.* Say how good the counterfactuals of a method are.
#
# - `before`, `after`: images, (b, 3, 56, 32); `target`: shape (b,); `causes`: a collection of names
# - `classifier(images)` returns logits. `judge.indices(images)` returns the read option of each factor,
#   (b, factors). `judge.options` is a dict whose keys are the names of the factors, in the same order.
# - output: three floats: the fraction of images that flip; the fraction *of the flips* in which at
#   least one cause changed; the fraction *of the flips* in which at least one cause changed *and no
#   other factor did*
# - special case: if nothing flips, the last two are NaN
#
# <details><summary>Hint 1</summary>
#
# One bool per factor says whether it is a cause. It selects columns.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `Tensor.any(1)` asks whether a row contains True. `&` joins two bool tensors, and `~` reverses one.
#
# </details>
# <details><summary>Hint 3</summary>
#
# Select the rows of the flips before you take a mean. The mean of no numbers is NaN.
#
# </details>


# %% tags=["exercise"]
def measure(classifier, judge, before, after, target, causes) -> tuple[float, float, float]:
    """Return the fractions of flips, of changed causes, and of changed causes and nothing else."""
    ### BEGIN SOLUTION
    flipped = classifier(after).argmax(1) == target
    changed = (judge.indices(before) != judge.indices(after))[flipped]
    is_cause = torch.tensor([name in causes for name in judge.options])
    cause = changed[:, is_cause].any(1)
    other = changed[:, ~is_cause].any(1)
    parts = (flipped, cause, cause & ~other)
    return tuple(float(part.double().mean()) for part in parts)
    ### END SOLUTION


# %% tags=["check"]
cfx.checks.nb11.measure(measure)

# %% [markdown]
# ## Your walk against the planted cause
#
# Four methods explain the same figures: your walk with your flow, the line of class means, the class
# swap (one leap with $\gamma = 1$), and the latent attack, which uses gradients. First make a guess.

# %%
guess = cfx.predict_then_run(
    "The latent attack flips the decision. It changes a cause and nothing else in",
    choices := ["less than 30 % of its flips", "30 % to 80 %", "more than 80 %"],
)

# %%
swap_class = cfx.course.piece("nb11.swap_class", swap_class)
measure = cfx.course.piece("nb11.measure", measure)


def compare(classifier, flow, line, images, target, causes):
    """Return a table of four methods, and their images."""
    found = {
        "your walk": my_flow_counterfactual(space, classifier, flow, images, target)[0],
        "line of class means": my_flow_counterfactual(space, classifier, line, images, target)[0],
        "class swap": swap_class(space, flow, images, target),
        "latent attack": cfx.latent_attack(space, classifier, images, target).image,
    }
    before = space.decode(space.encode(images))
    rows = [measure(classifier, judge, before, x, target, causes) for x in found.values()]
    columns = ["flipped", "cause changed", "cause and nothing else"]
    return pd.DataFrame(rows, list(found), columns), found


table, found = compare(classifier, flow, line, figures.images, target, ["top", "shoes"])
table.round(2)

# %%
alone = table.loc["latent attack", "cause and nothing else"]
guess(
    choices[int(alone > 0.3) + int(alone > 0.8)],
    why="The gradient of the classifier does not say what both classes share. Each coordinate that raises "
    "the log odds a little is moved, and the other factors move with it. In the difference of the two "
    "flows, what both classes share has cancelled.",
)

# %% jupyter={"source_hidden": true}
shown = torch.cat([figures.images[:8], *(image[:8] for image in found.values())])
cfx.gallery(shown, n_columns=8, row_labels=["original", *found])

# %% [markdown]
# Rows: the originals and four methods. Columns of the table: higher is better. The walk changes a top or
# the shoes, and little else. It used no gradient. The line of class means hardly flips anything, as in the
# plane. The class swap does well here, because in this world no factor goes together with another one. The
# latent attack flips everything and changes other factors too.
#
# ## The same as the library
#
# The shipped flow was fitted by `cfx.fit_flow`, longer than yours. With the *same* flow and the same
# settings, your walk and `cfx.flow_counterfactual` must find the same codes. The settings at the top of this
# chapter are $\gamma = 0.1$, a growth of 1.25, no second walk for failures, and no landing. The library's
# own defaults are larger steps and a *landing*, to which we come below.

# %%
asked = (figures.images, target)
mine, z, reached = my_flow_counterfactual(space, classifier, shipped.velocity, *asked)
apart = norms(standardise(z - library.code_after.z, space.std))
same_flips = reached.tolist() == [status == "flipped" for status in library.status]
pd.Series({"same flips": same_flips, "largest distance of two codes": f"{apart.max():.5f}"})

# %% jupyter={"source_hidden": true}
# NBVAL_CHECK_OUTPUT
print("same flips as the library:", same_flips)
print("codes within 0.02 standard deviations:", bool(apart.max() < 0.02))
print("the walk keeps the rest more often than the latent attack:", table.iloc[0, 2] > alone)

# %% [markdown]
# The cost differs, too. The numbers are means per figure. For the latent attack, the classifier must also
# give gradients. The flow needed one answer for each training figure, once for all explanations.

# %%
answers = {"walk": library.cost["classifier"], "latent attack": attack.cost["classifier"]}
pd.DataFrame(answers).mean().rename("answers of the classifier per figure").to_frame().round(1)

# %% [markdown]
# ## Where factors go together
#
# The class swap looked almost as good as the walk. Now comes a harder world: 97 % of the figures with red
# hair wear a metal top, and 97 % of those with gray hair a white one. The classifier `shortcut` reads the
# top only. In this world the hair predicts its answer almost as well as the top does. We fit a second
# flow, on figures of this world.

# %%
mostly = {"white": 0.97, "metal": 0.03}, {"white": 0.03, "metal": 0.97}
top = cfx.data.given("hair", gray=mostly[0], red=mostly[1])
together = cfx.data.World(hair=["gray", "red"], top=top, shoes=["brown", "metal"])
shortcut = cfx.load("sprites/shortcut", device="cpu")
usual = cfx.data.sprites(together, count, split="test", seed=seed + 2).images
other = 1 - cfx.predict_logits(shortcut, usual).argmax(1)
second, line = fit(shortcut, together, seed + 3)
harder, images = compare(shortcut, second, line, usual, other, ["top"])
harder.round(2)

# %% jupyter={"source_hidden": true}
shown = torch.cat([usual[:8], *(image[:8] for image in images.values())])
cfx.gallery(shown, n_columns=8, row_labels=["original", *images])

# %% [markdown]
# Look at the hair. The class swap and the line of class means change it together with the top. They
# answer another question: *what do typical figures of the other class look like?* A counterfactual asks
# *what would change this decision?* A small step of the walk follows the implicit classifier. The flow has
# seen the few figures in which hair and top disagree, so it knows which of the two the answers follow.
#
# ### The landing
#
# Halfway between two groups of codes, a classifier is often sure already. The image is then a blend of
# both groups. By default, `cfx.flow_counterfactual` therefore *lands* after the walk. It takes a few more
# steps without asking the classifier. Then it scales the code to the time $t = 0.65$, and follows the flow
# of the target from there to $t = 1$. This moves the code further into the target class. What does it do
# where factors go together?

# %%
whole = FittedFlow(second, space.mean, space.std, 2)
landed = cfx.flow_counterfactual(space, shortcut, usual, other, flow=whole)
pictures = (landed.reconstruction, landed.image)
harder.loc["library, landing"] = measure(shortcut, judge, *pictures, other, ["top"])
harder.round(2)

# %% [markdown]
# In this world the landing changes the hair, too. It carries each code to the *usual* figures of the target
# class, and these have the other hair. So the last row resembles the class swap. If factors of your data
# hang together this strongly, pass the settings of this chapter: no landing, and small steps. Then the
# library's walk ends where yours ends.
#
# ## Where it fails: what the space drops
#
# A flow can only learn what the codes contain. The classifier in the next cell reads a faint watermark
# in the upper left corner. The space was trained on figures without marks, so it does not draw them.


# %%
def reads_mark(images):
    odds = 400 * (images[:, :, :6, :6].mean((1, 2, 3)) - middle)
    return torch.stack([-odds, odds], 1) / 2


plain = cfx.data.sprites("pairs", 400, split="train", seed=seed + 4).images
middle = plain[:, :, :6, :6].mean() + 0.05
some = plain.clone()
some[::2, :, :6, :6] += 0.1  # every other figure gets the mark
_, of_copies = codes_and_answers(space, reads_mark, some)
for name, answers in {"originals": reads_mark(some), "reconstructions": of_copies}.items():
    print(f"{name}: {answers.argmax(1).double().mean():.0%} have the mark")

# %% [markdown]
# The mark is gone in all reconstructions, so `cfx.fit_flow` would refuse these answers: there is only one
# class. What if we fit a flow to the answers for the *originals*, as in the paper?

# %%
u, _ = codes_and_answers(space, reads_mark, some)
blind = train_flow(VelocityNet(20, 2, 128), u, reads_mark(some).softmax(1), n_steps, seed=seed)
to_mark = torch.ones(16, dtype=torch.int64)
_, _, reached = my_flow_counterfactual(space, reads_mark, blind, plain[:16], to_mark)
print(f"{reached.double().mean():.0%} of the walks reach the answer 'mark'")

# %% jupyter={"source_hidden": true}
# NBVAL_CHECK_OUTPUT
print("walks that reach the mark:", int(reached.sum()))

# %% [markdown]
# No walk arrives, and each figure keeps its code. This is the right answer: the space holds no such
# change. A method that returned its last code might show a change of hair or clothes, and might name a
# false cause.
#
# ## Limits
#
# - The walk finds only what the *space* holds and what the *training figures* show. Look at the status
#   `not_found`, and at the reconstructions, before you look at the counterfactuals.
# - The flow needs answers of both classes. A rare class needs more training figures.
# - The result is a small change, and not the smallest. With a smaller $\gamma$ the walk stops nearer to
#   the confidence, and needs more answers.
# - The velocity network is a small one. It fits codes of 20 coordinates. Codes of large spaces need more
#   data and another network, or a conditional diffusion model, which contains a flow already
#   (`cfx.flow_counterfactual` without `flow`). Such a flow knows the *labels* and not the answers of the
#   classifier.
# - The judge was trained on the same kind of figures as the space.

# %% [markdown] tags=["open-task"]
# ## Open task · Ten classes
#
# *About 40 minutes.* Bring your method to the digits: `digits/vae`, `digits/classifier` and
# `digits/judge`. All your functions work for ten classes. Explain each digit as the next one (9 becomes
# 0). Then try to break the walk: choose one setting or one pair of digits where you expect it to fail,
# and find out why.
#
# **Rubric**
#
# | points | what |
# |---|---|
# | 1 | A sentence, written before the first run, that says where you expect the walk to fail and why. |
# | 2 | A table with flips and agreement of the judge, for your walk and one baseline, on at least 40 digits. |
# | 2 | One changed setting ($\gamma$, confidence, number of training codes), with numbers before and after. |
# | 2 | A picture of one failure, and an explanation that names the piece that causes it. |
# | 1 | A sentence that says what your numbers do *not* show. |

# %% [markdown] tags=["answer"]
# *Your text: the expectation, the table, the failure and its cause.*

# %% tags=["answer"]
# Your code. For example: digits = cfx.data.digits("train").images[:1000]

# %% [markdown] tags=["solution-only"]
# *An example.* We expect failures where the flow has seen few codes. So we fit it to 200 and to 1000
# digits.

# %% tags=["solution-only"]
vae, reader, second_reader = (
    cfx.load(f"digits/{name}", device="cpu") for name in ("vae", "classifier", "judge")
)
tests = cfx.data.digits("test")[:count]
following = (tests.labels + 1) % 10
for n in (200, 1000):
    u, answers = codes_and_answers(vae, reader, cfx.data.digits("train").images[:n])
    torch.manual_seed(seed)
    ten = train_flow(VelocityNet(20, 10), u, answers, n_steps, seed=seed)
    image, _, reached = my_flow_counterfactual(vae, reader, ten, tests.images, following)
    read = cfx.predict_logits(second_reader, image).argmax(1) == following
    print(
        f"{n} digits: {reached.double().mean():.2f} flip, judge {read[reached].double().mean():.2f}"
    )
cfx.gallery(
    torch.cat([tests.images[:10], image[:10]]), n_columns=10, row_labels=["original", "next digit"]
)

# %% [markdown]
# ## Summary
#
# You have written flow matching and a solver for its flow. A leap lifts a code to noise along the flow
# of one class and lands it along the flow of another. For small steps it becomes the difference of two
# velocities. This difference is the gradient of an implicit classifier, in which all that the classes
# share cancels. Your walk follows it and stops when the classifier is sure. It finds the same codes as
# the library. On figures with a planted cause it changes the cause and little else, also where factors
# go together. It cannot find what the space drops.
#
# **Questions to think about.** Why does the walk stop at a confidence of 0.99 and not at the flip? What
# does the flow learn if the classifier answers always 0.5? What would change if the flow were trained
# on true labels?
#
# **References.** Z. Cao et al., [LeapFactual: Reliable visual counterfactual explanation using
# conditional flow matching](https://arxiv.org/abs/2510.14623), NeurIPS 2025 · Y. Lipman et al., [Flow
# matching for generative modeling](https://arxiv.org/abs/2210.02747), ICLR 2023 · K. Farid et al.,
# [Latent diffusion counterfactual explanations](https://arxiv.org/abs/2310.06668), 2023. Figures:
# Liberated Pixel Cup, CC BY-SA 3.0 / GPL 3.0; the authors are listed in `data/sprites`.
