"""Counterfactuals by queries alone: an evolution strategy in the latent space of a generator.

The classifier may be anything that answers: a scikit-learn estimator, an ONNX session, a model
behind a network. The search is SNES, the separable natural evolution strategy (Schaul, Glasmachers
& Schmidhuber, GECCO 2011), on the objective of ``latent_attack``. Two things suit the search to
latent spaces. It runs in the principal axes of the codes of real images, so that a random change
looks like a difference of real images. And its samples come in pairs of opposite changes
(antithetic, or mirrored sampling).
"""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.bisection import bisect
from cfxnb.core.code_covariance import covariance_of
from cfxnb.core.decisions import is_reached, log_odds, still_reached
from cfxnb.core.driver import Edit, EncodedBatch, Run
from cfxnb.core.goals import Goal
from cfxnb.core.kept_work import checkpoint_path, digest
from cfxnb.core.modes import standard_modes
from cfxnb.core.paid_answers import PaidAnswers
from cfxnb.core.results import Counterfactuals
from cfxnb.core.streamed import streamed
from cfxnb.core.target import Target
from cfxnb.core.tensors import active_dims, distance_weight, finite_rows, noise_like, standardise
from cfxnb.core.types import Classifier, Images, LatentSpace, OnStep, Step
from cfxnb.core.weights_hash import weights_hash

DRIVER_QUERIES = 3  # the original, its reconstruction, and the counterfactual
SEEDS = 7919  # the seeds of two generations differ by this number
REFINED_SIGMA = 0.3  # spread of the samples around a flip of a model without scores


@dataclasses.dataclass(frozen=True)
class QueryOptions:
    """The checked options of ``query_attack``, which explains them."""

    confidence: float
    max_queries: int
    population: int
    sigma: float
    proximity: float
    prior: float
    binary_search_steps: int
    refinements: int
    batch_size: int
    seed: int

    @property
    def reserved(self) -> int:
        """Queries about an image that are kept for the time after the evolution."""
        return self.binary_search_steps + 1


@streamed
@standard_modes
@torch.no_grad()
def query_attack(
    space: LatentSpace,
    classifier: Classifier,
    images: Images,
    target: Target,
    *,
    confidence: float = 0.995,
    max_queries: int = 500,
    population: int = 20,
    sigma: float = 0.7,
    proximity: float = 0.1,
    prior: float = 0.3,
    binary_search_steps: int = 5,
    refinements: int = 8,
    batch_size: int = 256,
    checkpoint_dir: str | Path | None = None,
    seed: int = 0,
    first_row: int = 0,
    on_step: OnStep | None = None,
    output_dir: str | os.PathLike | None = None,
) -> Counterfactuals:
    """Change the code of each image by queries alone, until the classifier predicts the target.

    The search needs no gradients. In each generation it queries the classifier about random
    changes of the code. The changes are normally distributed along the principal axes of real
    codes, with a mean and a standard deviation for each axis. The best changes of a generation
    move mean and standard deviation. A change u is better if this is larger::

        log_odds(target) - proximity * |u|^2 - prior * |(z - mean) / std|^2

    In a code with d > 20 active dimensions, both distances are multiplied by 20 / d, as in
    ``latent_attack``.

    The search for an image ends when a change reaches the target with ``confidence``. At the end, a
    bisection moves the change back towards the original.

    If the classifier gives decisions without scores, all changes of a generation look the same.
    Then the next changes lead to random codes of the prior, until one of them is classified as the
    target. Further generations look for shorter changes that keep the decision. The result lies
    near the decision boundary, where other classifiers often do not see the target. A model that
    only returns labels is passed as ``cfx.wrap(f, probabilities=True)``, where ``f`` returns
    one-hot vectors.

    Args:
        space: Generator whose codes are changed. The search needs a space with few axes, such as
            that of a VAE or of a diffusion autoencoder. If the space states no axes, as that of a
            latent diffusion model, every coordinate is an axis, and 500 queries flip few images.
        classifier: Maps images to logits (b, k). No gradients are used.
        images: Images (b, c, h, w) in [0, 1], or a data set (see ``cfx.open``).
        target: Class to reach, by number or name: one for all images, or one per image (b,). With
            a regression model: a goal, such as ``cfx.raise_to(0.8)``. With a data set also an entry
            of each item, such as ``cfx.from_item("label")``.
        confidence: Probability of the target at which the search for an image ends, in (0, 1).
            Default: 0.995.
        max_queries: Largest number of queries about one image. The original, its reconstruction
            and the counterfactual count, too. ``cost["classifier"]`` of the result is the number of
            queries about each image. Default: 500.
        population: Changes per generation, an even number. Default: 20.
        sigma: Standard deviation of the first changes, relative to the codes of real images. Larger
            values need fewer queries and change more. Default: 0.7.
        proximity: Weight of the squared distance to the original code. Default: 0.1.
        prior: Weight of the squared distance to the mean code. Default: 0.3.
        binary_search_steps: Number of bisection steps that shrink each successful change. Each step
            is a query. Default: 5.
        refinements: Generations that look for shorter changes, if the classifier gives decisions
            without scores. Default: 8.
        batch_size: Largest number of images that are decoded, and that the classifier gets in one
            call. A larger batch is faster and needs more memory.
        checkpoint_dir: Folder in which all answers are stored. An interrupted call continues from
            this folder without repeating queries. If a process dies during a query, the answers to
            this query are lost, and it is repeated within the budget. When a folder with answers is
            opened, 4 images are queried again, beyond ``max_queries``, to recognise the classifier.
            A folder that is in use or belongs to another call is refused. Each shard of a data set
            has its own folder inside.
        seed: Seed of the random changes. The changes of an image depend only on (seed, row).
        first_row: Row of the first image in its data set. If you process a data set in parts and
            set ``first_row``, the results are those of a single call.
        on_step: Called with a Step after each generation. Return True to stop. Images without a
            result then get the status "stopped".
        output_dir: Folder to which the results are written in shards, for any number of images.
            After a crash, the same call goes on. ``cfx.open`` opens the folder. Default: None.

    Returns:
        Counterfactuals with codes. An image that did not reach the target has the status
        "not_found", and the best change of the search. ``trace["decisions_only"]`` tells for which
        images the classifier gave no scores. ``made_by["queries"]`` counts the images that the
        classifier classified in this call, ``made_by["lost"]`` those whose answers were lost by
        earlier calls, and ``made_by["compared"]`` those that were queried again.

    Raises:
        ValueError, TypeError: If an argument is wrong, or if ``checkpoint_dir`` belongs to another
            call, is in use, or has a damaged file.
    """
    validate.space(space)
    options = QueryOptions(
        confidence=validate.number(confidence, "confidence", 0.0, 1 - 1e-6, open_low=True),
        max_queries=validate.count(max_queries, "max_queries", 1),
        population=_even(population, "population"),
        sigma=validate.number(sigma, "sigma", 0.0, open_low=True),
        proximity=validate.number(proximity, "proximity", 0.0),
        prior=validate.number(prior, "prior", 0.0),
        binary_search_steps=validate.count(binary_search_steps, "binary_search_steps"),
        refinements=validate.count(refinements, "refinements"),
        batch_size=validate.count(batch_size, "batch_size", 1),
        seed=validate.seed(seed),
    )
    needed = DRIVER_QUERIES + options.population + options.binary_search_steps
    if options.max_queries < needed:
        raise ValueError(
            f"max_queries: expected at least {needed} for one generation of {population} changes "
            f"and {binary_search_steps} steps of bisection, got {max_queries}"
        )
    folder = None if checkpoint_dir is None else checkpoint_path(checkpoint_dir) / _shard(first_row)
    images = validate.images(images)
    goal = [target.kind, target.values, target.output] if isinstance(target, Goal) else target
    identity = {
        **dataclasses.asdict(options),
        "images": digest(images),
        "target": _digest(goal),
        "rows": _digest(first_row),
        "statistics of the space": digest(space.mean, space.std),
    }
    with PaidAnswers(classifier, folder, identity, weights_hash(classifier)) as answers:
        run = Run(
            answers, images, target, space=space, first_row=first_row, on_step=on_step,
            batch_size=max(1, options.batch_size // options.population), by_row=True,
            repeatable=False,  # queries are paid once
        )  # fmt: skip

        def edit(batch: EncodedBatch) -> Edit:
            return CodeEvolution(run, batch, options, answers).run()

        found = run.counterfactuals(
            edit, still_reached(options.confidence), function="query_attack",
            **dataclasses.asdict(options),
        )  # fmt: skip
    counts = {"queries": answers.n_queries, "lost": answers.n_lost, "compared": answers.n_compared}
    return dataclasses.replace(found, made_by={**found.made_by, **counts})


class CodeEvolution:
    """The search of ``query_attack`` for one batch. Every tensor has one row per image.

    Attributes:
        center, spread: Mean and standard deviation of the changes, in whitened coordinates, (b, k).
        best, best_fitness: The best change so far, and its fitness.
        found: Whether ``best`` reaches the target.
        blind: Whether the classifier gave only one or two scores in a generation: decisions.
        used: Queries so far.
    """

    def __init__(
        self, run: Run, batch: EncodedBatch, options: QueryOptions, answers: PaidAnswers
    ) -> None:
        self.run_of, self.batch, self.options, self.answers = run, batch, options, answers
        z = batch.code_before.z
        self.std = run.space.std.to(z)
        self.active = active_dims(self.std).flatten()
        self.weight = distance_weight(self.std)
        away = standardise(z - run.space.mean.to(z), self.std).flatten(1)
        if getattr(run.space, "axes", None) is None:  # every active coordinate is an axis
            self.axes, self.variances = None, z.new_ones(int(self.active.sum()))
            self.start = away[:, self.active]
        else:
            covariance = covariance_of(run.space)
            self.axes, self.variances = covariance.axes.to(z), covariance.variances.to(z)
            self.start = away @ self.axes.T / self.variances.sqrt()
        count, dims = self.start.shape
        self.center = torch.zeros_like(self.start)
        self.spread = torch.full_like(self.start, options.sigma)
        self.best, self.best_fitness = self.center.clone(), z.new_full((count,), -torch.inf)
        self.found, self.blind = (torch.zeros_like(batch.skip) for _ in range(2))
        self.refined = torch.zeros_like(batch.target)
        # The driver has asked about the originals and the reconstructions.
        self.used = torch.full_like(batch.target, DRIVER_QUERIES - 1 + answers.lost_calls)
        answers.lost_calls = 0
        self.passes = torch.zeros_like(batch.target)
        self.logits = torch.full_like(batch.logits_before, torch.nan)
        # Weights of the ranks, and the learning rate of the spread, as in the paper.
        ranks = torch.arange(1, options.population + 1, device=z.device)
        weights = (math.log(options.population / 2 + 1) - ranks.log()).clamp_min(0)
        self.weights = weights / weights.sum() - 1 / options.population
        self.rate = (3 + math.log(dims)) / (5 * math.sqrt(dims))

    def run(self) -> Edit:
        """Run generations until each image has reached the target, and return the edits."""
        stop, options = self.run_of.stop, self.options
        total = (options.max_queries - DRIVER_QUERIES) // options.population
        with stop.on_interrupt():
            for generation in range(total):
                rows = self._searched().nonzero()[:, 0]
                if not len(rows) or stop.now:
                    break
                self._generation(rows, generation)
                p = log_odds(self.logits[rows], self.batch.target[rows]).sigmoid()
                z, active = self._z(rows, self.best[rows]), self._searched()[rows]
                p = torch.where(p.isfinite(), p, 0.0)
                stop.tell(Step(generation + 1, total, self.batch.rows[rows], z, p, active))
        with stop.on_interrupt():
            self._shrink()
        every = torch.arange(len(self.best), device=self.best.device)
        return Edit(
            code=self.batch.code_before.with_z(self._z(every, self.best)),
            reached=self.found,
            seen=self.logits,
            generator=self.passes,
            classifier=self.used - (DRIVER_QUERIES - 1),
            trace={"decisions_only": self.blind},
        )

    def _searched(self) -> Tensor:
        """Return which images are still searched, bool (b,)."""
        options = self.options
        more = ~self.found | (self.blind & (self.refined < options.refinements))
        next_one = self.used + options.population + options.reserved
        return more & ~self.batch.skip & (next_one <= options.max_queries)

    def _generation(self, rows: Tensor, generation: int) -> None:
        """Draw changes, query the classifier, and move the distribution of the changes."""
        o, half = self.options, self.options.population // 2
        shape = self.start.new_zeros(len(rows), half, self.start.shape[1])
        noise = noise_like(shape, o.seed + SEEDS * generation, self.batch.rows[rows])
        noise = torch.cat([noise, -noise], 1)  # pairs of opposite changes
        changes = self.center[rows, None] + self.spread[rows, None] * noise
        groping = (self.blind & ~self.found)[rows]
        to_prior = noise - self.start[rows, None]  # changes that lead to random codes
        changes = torch.where(groping[:, None, None], to_prior, changes)
        logits = self._evaluate(rows, changes)
        target = self.batch.target[rows].repeat_interleave(o.population)
        reached = is_reached(logits.flatten(0, 1), target, o.confidence).view(len(rows), -1)
        odds = log_odds(logits.flatten(0, 1), target).view(len(rows), -1)
        odds = torch.where(finite_rows(logits.flatten(0, 1)).view(odds.shape), odds, -torch.inf)
        length = (changes.square() * self.variances).sum(2)
        from_mean = ((changes + self.start[rows, None]).square() * self.variances).sum(2)
        fitness = odds - self.weight * (o.proximity * length + o.prior * from_mean)
        # Among changes that reach the target, and around a flip without scores, length decides.
        refining = (self.blind & self.found)[rows]
        short = torch.where(reached, -length, -torch.inf)
        fitness = torch.where(refining[:, None], short, fitness)
        self._keep_best(rows, changes, logits, torch.where(reached, -length, fitness), reached)
        self._move(rows[~groping], noise[~groping], fitness[~groping])
        self.refined[rows[refining]] += 1
        self.blind[rows] |= _decisions_only(odds)
        first = rows[(self.blind & self.found)[rows] & ~refining]
        self.center[first], self.spread[first] = self.best[first], REFINED_SIGMA

    def _keep_best(
        self, rows: Tensor, changes: Tensor, logits: Tensor, value: Tensor, reached: Tensor
    ) -> None:
        """Keep the best change of each image: the shortest one that reached the target, if any."""
        hit = reached.any(1)
        value = torch.where(reached | ~hit[:, None], value, -torch.inf)
        top, place = value.max(1)
        # A change that reaches the target is better than any that does not.
        found = self.found[rows]
        better = (hit & ~found) | ((hit | ~found) & (top > self.best_fitness[rows]))
        here, on = better.nonzero()[:, 0], rows[better]
        self.best[on], self.best_fitness[on] = changes[here, place[here]], top[here]
        self.logits[on] = logits[here, place[here]].to(self.logits)
        self.found[on] |= hit[here]

    def _move(self, rows: Tensor, noise: Tensor, fitness: Tensor) -> None:
        """Move mean and standard deviation towards the better changes, by their ranks."""
        order = fitness.sort(dim=1, descending=True, stable=True).indices
        ranked = noise.gather(1, order[..., None].expand_as(noise))
        gradient = (self.weights[:, None] * ranked).sum(1)
        widening = (self.weights[:, None] * (ranked.square() - 1)).sum(1)
        self.center[rows] += self.spread[rows] * gradient
        self.spread[rows] *= torch.exp(self.rate / 2 * widening)

    def _shrink(self) -> None:
        """Move each successful change back towards the original by bisection."""
        rows = self.found.nonzero()[:, 0]

        def reaches(fraction: Tensor) -> Tensor:
            holds = torch.zeros_like(rows, dtype=torch.bool)
            # Lost answers may have used up the queries.
            some = (self.used[rows] + 1 < self.options.max_queries).nonzero()[:, 0]
            if len(some):
                here, shorter = rows[some], fraction[some, None] * self.best[rows[some]]
                logits = self._evaluate(here, shorter[:, None])[:, 0]
                reached = is_reached(logits, self.batch.target[here], self.options.confidence)
                self.logits[here[reached]] = logits[reached].to(self.logits)
                holds[some] = reached
            return holds

        ones = self.best.new_ones(len(rows))
        steps = self.options.binary_search_steps
        self.best[rows] *= bisect(reaches, torch.zeros_like(ones), ones, steps)[:, None]

    def _z(self, rows: Tensor, changes: Tensor) -> Tensor:
        """Return the codes of images after changes in whitened coordinates (n, k)."""
        if self.axes is None:
            u = changes.new_zeros(len(changes), self.std.numel())
            u[:, self.active] = changes
        else:
            u = changes * self.variances.sqrt() @ self.axes
        z: Tensor = self.batch.code_before.z[rows] + self.std * u.view(-1, *self.std.shape)
        return z

    def _evaluate(self, rows: Tensor, changes: Tensor) -> Tensor:
        """Return the logits of each image after each of m changes, (n, m, k) -> (n, m, classes)."""
        n, m = changes.shape[:2]
        which, flat = rows.repeat_interleave(m), changes.flatten(0, 1)
        parts = []
        for some in torch.arange(n * m, device=rows.device).split(self.options.batch_size):
            z = self._z(which[some], flat[some])
            code = self.batch.code_before[which[some]].with_z(z)
            parts.append(self.run_of.classify(self.run_of.space.decode(code), which[some]))
            lost, self.answers.lost_calls = self.answers.lost_calls, 0
            if lost:
                self.used.index_add_(0, which[some], torch.full_like(some, lost))
        self.used[rows] += m
        self.passes[rows] += m
        return torch.cat(parts).view(n, m, -1)


def _decisions_only(odds: Tensor) -> Tensor:
    """Return whether the scores (n, m) of an image have at most two values, bool (n,)."""
    low, high = odds.amin(1, keepdim=True), odds.amax(1, keepdim=True)
    slack = 1e-6 * odds.abs().nan_to_num(0.0, 0.0, 0.0).amax(1, keepdim=True).clamp_min(1.0)
    return ((odds <= low + slack) | (odds >= high - slack)).all(1)


def _shard(first_row: Any) -> str:
    """Return the name of the folder for the images from ``first_row`` on."""
    if isinstance(first_row, Tensor) and first_row.ndim:
        return f"rows_{_digest(first_row)}"
    return f"row{validate.count(first_row, 'first_row'):09d}"


def _digest(value: Any) -> str:
    """Return a hash of an argument that is checked later."""
    strange = isinstance(value, Tensor) and not validate.is_plain(value)
    return digest("strange" if strange else value)


def _even(value: Any, name: str) -> int:
    number = validate.count(value, name, 4)
    if number % 2:
        raise ValueError(f"{name}: expected an even number, got {number}")
    return number
