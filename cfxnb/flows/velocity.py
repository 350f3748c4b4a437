"""Conditional flows on codes: velocities v(u, c, t) from noise (t = 0) to codes (t = 1).

Lipman et al., "Flow Matching for Generative Modeling" (ICLR 2023), with the straight paths
u_t = (1 - t) noise + t u of LeapFactual (arXiv 2510.14623). The condition c holds the probability
of each class: the output of the *classifier*, not the true label.

All flows have the same function ``velocity``. The codes u of a fitted flow are in standard
deviations of the space. The codes u of a denoiser are those of the diffusion model.
"""

import itertools
import warnings
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from torch import Generator, Tensor, nn

from cfxnb.core import progress, validate
from cfxnb.core.border import CheckedClassifier, CheckedSpace
from cfxnb.core.driver import reconstruct_batch
from cfxnb.core.kept_work import checkpoint_path, digest, sketch
from cfxnb.core.modes import standard_modes, standard_numbers
from cfxnb.core.modules import eval_frozen
from cfxnb.core.saved import Result, saved_module, with_state
from cfxnb.core.space_fit import SpaceFit, same_scale
from cfxnb.core.tensors import per_sample, standardise
from cfxnb.core.training import fit
from cfxnb.core.types import Classifier, LatentSpace
from cfxnb.core.weights_hash import weights_hash

MIN_ANSWERS = 20  # images per class below which a flow hardly knows the class
N_PROBES = 16  # answers that identify the classifier of a checkpoint folder


class ConditionalFlow(Protocol):
    """Interface of the flows that ``flow_counterfactual`` takes.

    Attributes:
        n_classes: Number of classes of the condition.
        cost_name: Name under which evaluations of the velocity are counted in ``cost``.
        mean, std: Units of the flow: u = (z - mean) / std.
    """

    n_classes: int
    cost_name: str
    mean: Tensor
    std: Tensor

    def velocity(self, u: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """Return du/dt at codes u (b, ...), for conditions (b, k) and times t (b,)."""


@saved_module
class VelocityNet(nn.Module):
    """A multilayer perceptron whose input is code u, condition c and time t, as in LeapFactual.

    Args:
        dims: Number of dimensions of a code.
        n_classes: Number of classes of the condition.
        hidden_dim: Width of the three hidden layers.
    """

    def __init__(self, dims: int, n_classes: int, hidden_dim: int = 256) -> None:
        super().__init__()
        self.dims, self.n_classes = dims, n_classes
        widths = [dims + n_classes + 1, hidden_dim, hidden_dim, hidden_dim]
        layers = [
            layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())
        ]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden_dim, dims))

    @staticmethod
    def from_state(state: dict[str, Tensor]) -> "VelocityNet":
        """Return the network that has this state dict.

        Raises:
            ValueError: If the state dict is that of another network.
        """
        first, last = state.get("layers.0.weight"), state.get("layers.6.bias")
        if first is None or last is None or first.ndim != 2:
            raise ValueError(f"weights: expected those of a flow, got {sorted(state)[:3]}")
        hidden_dim, inputs = first.shape
        return with_state(VelocityNet(len(last), inputs - len(last) - 1, hidden_dim), state)

    def forward(self, u: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """Return velocities (b, dims) at u (b, dims), for conditions (b, k) and times (b,)."""
        return self.layers(torch.cat([u, condition, t[:, None]], 1))


class FittedFlow(Result):
    """A flow that ``cfxnb.fit_flow`` fitted to the answers of a classifier.

    Args:
        net: Maps (u, condition, t) to velocities (b, dims), all in standard deviations of the code.
        mean, std: Mean and standard deviation of the codes of the space.
        n_classes: Number of classes of the classifier.

    Attributes:
        card: What ``cfx.train`` and ``cfx.load`` say about the flow: dict or None.
    """

    cost_name = "velocity"
    card: dict[str, Any] | None = None

    def __init__(self, net: nn.Module, mean: Tensor, std: Tensor, n_classes: int) -> None:
        validate.instance(net, nn.Module, "net", "a torch.nn.Module")
        self.mean, self.std = validate.place(mean, std)
        self.net = net.eval().requires_grad_(False)
        self.n_classes = validate.count(n_classes, "n_classes", 2)

    @classmethod
    def _saved_fields(cls) -> tuple[str, ...]:
        return ("net", "mean", "std", "n_classes")

    def _check_saved(self) -> None:
        condition = torch.ones(1, self.n_classes) / self.n_classes
        self.velocity(self.mean[None], condition, torch.ones(1))  # fails if they don't fit

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per class: the speed of the flow at the mean code.

        ``speed`` is the length of the velocity at the mean of all codes, at the end of the flow
        (t = 1), in standard deviations of the code.
        """
        return _speeds(self)

    def _stored(self) -> tuple[nn.Module, dict[str, Tensor | None], dict[str, Any]]:
        return self.net, {"mean": self.mean, "std": self.std}, {}

    @property
    def module(self) -> nn.Module:
        """The velocity network."""
        return self.net

    @standard_numbers
    def velocity(self, u: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """Return du/dt at codes u (b, ...), for conditions (b, k) and times t (b,).

        Raises:
            ValueError, TypeError: If a shape is wrong.
        """
        _check_velocity(self, u, condition, t)
        flat = u.to(self.mean).flatten(1)
        found = self.net(flat, condition.to(flat), t.to(flat))
        return found.view(u.shape).to(u)

    def __repr__(self) -> str:
        return f"FittedFlow({type(self.net).__name__}, {self.n_classes} classes)"


class ClassMeans(Result):
    """A baseline: at all codes and times, the velocity points to the mean code of the class.

    The walk along the difference of two such velocities is the straight line along the difference
    of class means. Made by ``cfxnb.fit_flow(..., kind="class_means")``.
    """

    cost_name = "velocity"

    def __init__(self, means: Tensor, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = validate.place(mean, std)
        self.means, self.n_classes = means, len(means)

    @classmethod
    def _saved_fields(cls) -> tuple[str, ...]:
        return ("means", "mean", "std")

    def _check_saved(self) -> None:
        validate.shape(self.means.shape[1:], self.mean.shape, "means", "codes of shape")

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per class.

        ``speed`` is the length of the mean code of the class, in standard deviations of the code.
        """
        return _speeds(self)

    def velocity(self, u: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """Return the mean codes (b, ...) of the classes of the conditions (b, k), at any time.

        Raises:
            ValueError, TypeError: If a shape is wrong.
        """
        _check_velocity(self, u, condition, t)
        means = self.means.to(u).flatten(1)
        return (condition.to(means) @ means).view(u.shape)


@torch.no_grad()
def _speeds(flow: Any) -> pd.DataFrame:
    """Return the length of the velocity to each class, at the mean code and at t = 1."""
    count = flow.n_classes
    u = torch.zeros(count, *flow.mean.shape, device=flow.mean.device)
    v = flow.velocity(u, torch.eye(count).to(u), torch.ones(count).to(u))
    index = pd.RangeIndex(count, name="class")
    return pd.DataFrame({"speed": v.flatten(1).norm(dim=1).cpu().numpy()}, index=index)


class DenoiserFlow:
    """The flow that a conditional diffusion model contains, without any fitting.

    A noisy code sqrt(a) z + sqrt(1 - a) noise, divided by s = sqrt(a) + sqrt(1 - a), lies on the
    straight path from noise to z, at the time t = sqrt(a) / s. Here ``a`` is alpha_bar. So the
    denoiser's noise prediction gives the velocity: v = z - noise = (z_t - eps) / t.

    Args:
        space: A ``Diffusion`` space.
        conditions: The condition of the diffusion model for each class of the classifier.
    """

    cost_name = "unet"

    def __init__(self, space: Any, conditions: list[Any]) -> None:
        self.space, self.n_classes = space, len(conditions)
        self.encoded = space.encode_condition(conditions)
        alpha_bar = space.alphas_cumprod.double()
        signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        self.total, self.times = signal + noise, signal / (signal + noise)
        self.mean, self.std = torch.zeros(1), torch.ones(1)  # the codes as they are

    def velocity(self, u: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """Return dz/dt at u (b, c, h, w). The condition (b, k) counts as its most probable class.

        The denoiser is evaluated at the training time whose t is nearest.
        """
        step = (self.times[None] - t.double().cpu()[:, None]).abs().argmin(1)
        scale = per_sample(self.total[step].to(u), u)
        known = self.encoded[condition.argmax(1).to(self.encoded.device)]
        eps = self.space.predict_noise(scale * u, step, known)
        return (u - eps) / per_sample(self.times[step].to(u), u)


@standard_modes
def fit_flow(
    space: LatentSpace,
    classifier: Classifier,
    images: Tensor,
    *,
    kind: str = "network",
    ask: str = "reconstructions",
    hidden_dim: int = 256,
    steps: int = 2000,
    batch_size: int = 512,
    lr: float = 2e-3,
    checkpoint_dir: str | Path | None = None,
    seed: int = 0,
) -> FittedFlow | ClassMeans:
    """Fit a conditional flow to the answers of a classifier, for ``flow_counterfactual``.

    The classifier classifies the reconstruction of each image once, without gradients. Then a small
    network learns v(u, c, t) by flow matching: it predicts u - noise from u_t = (1 - t) noise + t u
    and c, the probabilities that the classifier returned. The training takes about a minute on one
    core.

    LeapFactual (arXiv 2510.14623) classifies the originals instead (``ask="originals"``). The
    default is better for the walk, which also classifies decoded codes.

    Args:
        space: Space in whose codes the flow moves, with ``mean`` and ``std``.
        classifier: Maps images to logits (b, k). A ``BlackBox`` is welcome.
        images: Unlabelled images (n, c, h, w) in [0, 1]. A thousand are enough, and a few hundred
            often are.
        kind: ``"network"`` (default) fits the flow. ``"class_means"`` only averages the codes of
            each class, as a baseline.
        ask: Whether the classifier classifies the ``"reconstructions"`` of the images (default), or
            the ``"originals"``, as in the paper. Originals need no decoding. For a diffusion
            autoencoder this is much faster, because only the semantic codes are computed.
        hidden_dim: Width of the three hidden layers. Default: 256.
        steps: Training steps. Default: 2000.
        batch_size: Codes per training step, drawn without replacement. Default: 512.
        lr: Highest learning rate. Default: 2e-3.
        checkpoint_dir: Directory for checkpoints, from which an interrupted training resumes. Each
            combination of arguments and images gets its own subdirectory. A subdirectory is refused
            if space or classifier give other outputs than before.
        seed: Seed of the initial weights and of the training batches.

    Returns:
        FittedFlow, or ClassMeans with ``kind="class_means"``.

    Raises:
        ValueError, TypeError: For a wrong argument, or if the classifier answers only one class.

    Warns:
        UserWarning: If the classifier answers some class for fewer than 20 images. Walks to this
            class will often end without a result.
    """
    space, classifier = CheckedSpace(space), CheckedClassifier(classifier)
    images = validate.images(images)
    validate.choice(kind, "kind", ("network", "class_means"))
    validate.choice(ask, "ask", ("reconstructions", "originals"))
    hidden_dim = validate.count(hidden_dim, "hidden_dim", 1)
    steps = validate.count(steps, "steps", 1)
    batch_size = validate.count(batch_size, "batch_size", 1)
    lr = validate.number(lr, "lr", 0.0, open_low=True)
    seed = validate.seed(seed)
    checkpoint_dir = None if checkpoint_dir is None else checkpoint_path(checkpoint_dir)
    z, logits = _codes_and_answers(space, classifier, images, ask == "originals")
    mean, std = space.mean.detach(), space.std.detach()
    u, answers = standardise(z.to(mean) - mean, std), logits.softmax(1).to(mean)
    _check_answers(answers, classifier.class_names)
    if kind == "class_means":
        weight = answers / answers.sum(0).clamp_min(1e-9)
        return ClassMeans((weight.T @ u.flatten(1)).view(-1, *mean.shape), mean, std)
    config: dict[str, Any] = {}
    if checkpoint_dir is not None:
        config = {
            "hidden_dim": hidden_dim,
            "ask": ask,
            "images": digest(images),
            "weights": {"space": weights_hash(space), "classifier": weights_hash(classifier)},
        }
        own = {**config, "steps": steps, "batch_size": batch_size, "lr": lr, "seed": seed}
        checkpoint_dir = checkpoint_dir / digest(own)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        net = VelocityNet(u[0].numel(), answers.shape[1], hidden_dim).to(mean.device)
    few = torch.linspace(0, len(u) - 1, min(N_PROBES, len(u))).round().long()
    fit(
        net,
        flow_matching_loss,
        _repeated(u.flatten(1), answers, batch_size),
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        checkpoint_dir=checkpoint_dir,
        seed=seed,
        device=mean.device,
        config=config,
        answers={"space codes": sketch(u[few]), "classifier": answers[few]},
    )
    if not all(p.isfinite().all() for p in net.parameters()):
        raise ValueError(f"lr: expected a rate at which the training stays finite, got {lr}")
    return FittedFlow(net, mean, std, answers.shape[1])


def flow_matching_loss(net: nn.Module, rows: tuple[Tensor, ...], generator: Generator) -> Tensor:
    """Return ``matching_loss`` with random noise and random times."""
    u, condition = rows
    noise = torch.randn(u.shape, generator=generator, device=u.device)
    t = torch.rand(len(u), generator=generator, device=u.device)
    return matching_loss(net, u, condition, noise, t)


def matching_loss(net: nn.Module, u: Tensor, condition: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return the mean of |v(u_t, c, t) - (u - noise)|^2, with u_t = (1 - t) noise + t u.

    Args:
        net: Velocity network.
        u, noise: Codes and noise, (b, dims).
        condition: Conditions c, (b, k).
        t: Times in [0, 1], (b,).
    """
    return (net(torch.lerp(noise, u, t[:, None]), condition, t) - (u - noise)).square().mean()


def _codes_and_answers(
    space: CheckedSpace, classifier: CheckedClassifier, images: Tensor, originals: bool
) -> tuple[Tensor, Tensor]:
    """Return the codes of images (n, ...), and the logits (n, k) that the classifier answers.

    Args:
        originals: Whether to classify the originals instead of their reconstructions.
    """
    fitted = SpaceFit(space)
    codes, logits = [], []
    encode_semantic = getattr(space, "encode_semantic", None)
    with eval_frozen(space, classifier), torch.no_grad():
        for chunk in progress.each(images.split(256), "fit_flow"):
            if originals:
                codes.append(encode_semantic(chunk) if encode_semantic else space.encode(chunk).z)
                logits.append(classifier(chunk))
                continue
            code, reconstruction = reconstruct_batch(space, chunk)
            fitted.add_images(chunk.to(reconstruction.device), reconstruction)
            codes.append(code.z)
            logits.append(classifier(reconstruction))
    fitted.warn()
    answered = torch.cat(logits)
    if not answered.isfinite().all():
        raise ValueError("classifier: expected finite logits for all images, got NaN or infinity")
    return torch.cat(codes), answered


def _check_answers(answers: Tensor, class_names: Any) -> None:
    counts = answers.argmax(1).bincount(minlength=answers.shape[1]).tolist()
    names = class_names or range(len(counts))
    if max(counts) == len(answers):
        raise ValueError(
            "images: expected images of at least two classes, got only "
            f"{names[counts.index(max(counts))]!r} as the answer to all {len(answers)} "
            "reconstructions. Pass other images, or a space that keeps what the classifier reads."
        )
    if few := [name for name, n in zip(names, counts, strict=True) if n < MIN_ANSWERS]:
        warnings.warn(
            f"images: the classes {few} are answered for fewer than {MIN_ANSWERS} of "
            f"{len(answers)} reconstructions; walks to them will often end without a result",
            stacklevel=4,
        )


def _repeated(u: Tensor, answers: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Repeat the rows until they fill a batch, so that few images can be fitted too."""
    times = -(-batch_size // len(u))
    return u.repeat(times, 1), answers.repeat(times, 1)


def _check_velocity(flow: FittedFlow | ClassMeans, u: Tensor, condition: Tensor, t: Tensor) -> None:
    """Check the arguments of ``velocity``."""
    validate.code_like(u, "u", tuple(flow.mean.shape))
    validate.code_like(condition, "condition", (flow.n_classes,))
    validate.code_like(t[:, None] if isinstance(t, Tensor) and t.ndim == 1 else t, "t", (1,))
    for name, value in (("condition", condition), ("t", t)):
        if len(value) != len(u):
            raise ValueError(
                f"{name}: expected one row for each of {len(u)} codes, got {len(value)}"
            )


def check_flow(flow: Any, space: LatentSpace, n_classes: int) -> None:
    """Check that a flow belongs to this space, and has the classes of the classifier."""
    if not isinstance(flow, FittedFlow | ClassMeans | DenoiserFlow):
        raise TypeError(f"flow: expected a flow from cfx.fit_flow, got {validate.describe(flow)}")
    if not isinstance(flow, DenoiserFlow):
        if flow.mean.shape != space.mean.shape:
            raise ValueError(
                f"flow: expected a flow on codes of shape {tuple(space.mean.shape)}, got one on "
                f"codes of shape {tuple(flow.mean.shape)}. Fit a flow with this space."
            )
        same_scale(flow.mean, flow.std, space, "flow", "a flow of this space")
    if flow.n_classes != n_classes:
        raise ValueError(
            f"flow: expected a flow of {n_classes} classes, as the classifier has, got one of "
            f"{flow.n_classes}. Fit a flow with this classifier."
        )
