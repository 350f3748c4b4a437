"""Counterfactuals by walking along the difference of two conditional flows.

LeapFactual (arXiv 2510.14623) lifts a code along the flow of its present class towards noise, and
lands it along the flow of the target. For a small step size gamma, the two legs together are, to
first order,

    gamma * integral over t of  v(u, target, t) - v(u, present, t).

With independent noise, v(u, c, t) = u / t + ((1 - t) / t) grad log p_t(u | c). The first term does
not depend on the class, so

    v(u, target, t) - v(u, present, t)
        = ((1 - t) / t) grad [log p_t(target | u) - log p_t(present | u)]     (Bayes, equal priors)

This is the gradient of the log odds of an *implicit* classifier of noisy codes. All that both
classes share cancels in the difference. In LDCE (arXiv 2310.06668) eps(condition) - eps(none) is
the same gradient against "no class". So the walk here needs neither lift nor landing, no ODE, and
no gradient of the classifier. The walk uses only the outputs of the classifier. The flow was fitted
to them, and they are checked after each step.

The walk alone ends too early. Halfway between two groups of codes the classifier is often sure
already, but the image is a blend of both groups. Such a blend may change other things, too: a
figure that has hardly turned to the left may show another skin or top. So with a fitted flow the
walk ends with a landing. The code moves on as long as it comes nearer to the codes of the target,
and the classifier is not asked about these steps. Then the flow of the target carries the code to
t = 1.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.bisection import bisect
from cfxnb.core.code_covariance import along_active_axes
from cfxnb.core.conditions import conditions_per_class, require_conditional
from cfxnb.core.decisions import is_reached, log_odds, still_reached
from cfxnb.core.driver import Edit, EncodedBatch, Run
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.core.streamed import streamed
from cfxnb.core.target import Target
from cfxnb.core.tensors import finite_rows, per_sample, standardise
from cfxnb.core.types import Classifier, Images, LatentSpace, OnStep, Step
from cfxnb.flows.leap import RK4, integrate, leap
from cfxnb.flows.velocity import ConditionalFlow, DenoiserFlow, FittedFlow, check_flow

# The landing at the end of a walk along a fitted flow:
SURE_ENOUGH = 0.8  # probability at which a walk lands, if another walk may follow
ARRIVAL_STEPS, ARRIVAL_GAMMA = 8, 0.1  # largest number and size of the steps without questions
ARRIVAL_TIME = 0.8  # time at which the flow says how far a code is from the codes of its class
LANDING_STEPS = 4  # Runge-Kutta steps
LARGEST_GROWTH = 4.0  # largest step, in units of the first; longer steps overshoot
NOISIER_TIMES = (0.2, 0.35)  # of a restarted walk along a denoiser, which sees more than details

#: Settings of the paper for MorphoMNIST: 15 leaps, whatever the classifier answers on the way.
PAPER_FLOW: dict[str, Any] = {
    "update": "leap",
    "condition": "probabilities",
    "gamma": 0.1,
    "rounds": 15,
    "ode_steps": 16,
    "stop_when_reached": False,
    "confidence": 0.5,
}


@dataclasses.dataclass(frozen=True)
class FlowOptions:
    """The checked options of ``flow_counterfactual``, which explains them."""

    update: str
    gamma: float
    gamma_land: float
    growth: float
    binary_search_steps: int
    rounds: int
    restarts: int
    confidence: float
    landing_time: float
    times: tuple[float, ...]
    condition: str
    ode_steps: int
    stop_when_reached: bool
    inject_rounds: int
    inject_gammas: tuple[float, float]

    @property
    def total(self) -> int:
        """Largest number of evaluations of the classifier for one image, without bisection."""
        lands = int(self.landing_time < 1)
        return (self.rounds + self.inject_rounds + lands) * (self.restarts + 1)


@streamed
@standard_modes
@torch.no_grad()
def flow_counterfactual(
    space: LatentSpace,
    classifier: Classifier,
    images: Images,
    target: Target,
    *,
    flow: ConditionalFlow | None = None,
    conditions: Sequence[Any] | None = None,
    gamma: float | None = None,
    growth: float | None = None,
    binary_search_steps: int | None = None,
    confidence: float | None = None,
    rounds: int | None = None,
    restarts: int | None = None,
    times: Sequence[float] | None = None,
    landing_time: float | None = None,
    # For the paper's leaps:
    update: str = "difference",
    gamma_land: float | None = None,
    condition: str = "one_hot",
    ode_steps: int = 8,
    stop_when_reached: bool = True,
    inject_rounds: int = 0,
    inject_gammas: Sequence[float] = (0.0, 0.1),
    # As in every method:
    batch_size: int = 256,
    seed: int = 0,
    first_row: int = 0,
    on_step: OnStep | None = None,
    output_dir: str | os.PathLike | None = None,
) -> Counterfactuals:
    """Walk from each code towards the target, along the difference of two conditional flows.

    One step of the walk is::

        u <- u + gamma * mean over t of  v(u, target, t) - v(u, rival, t)

    The rival is the most probable class at this step, except for the target. After each step the
    code is decoded and classified. The walk ends when the target has the required confidence. With
    a fitted flow a landing follows: the code moves on to where the codes of the target lie, without
    further questions. The image of the landed code is classified once. The classifier needs no
    gradients, and may be a ``BlackBox``.

    Differences from the paper: the walk replaces the leaps (``update="leap"``), it stops at the
    first success and lands there, and an image without success keeps its code.
    ``**cfx.PAPER_FLOW`` gives the settings of the paper.

    Args:
        space: Generator in whose codes to walk. A ``Diffusion`` space needs no ``flow``.
        classifier: Maps images to logits (b, k).
        images: Images (b, c, h, w) in [0, 1], or a data set (see ``cfx.open``).
        target: Class to reach, by number or name: one for all images, or one per image (b,). With
            a regression model: a goal, such as ``cfx.raise_to(0.8)``. With a data set also an entry
            of each item, such as ``cfx.from_item("label")``.

        flow: A flow from ``cfx.fit_flow(space, classifier, images)``. Default: the denoiser of a
            ``Diffusion`` space.
        conditions: Without ``flow``: the condition of the diffusion model for each class. Without
            ``flow``, the walk changes what the condition says. It finds the cause only if the
            classifier reads the same. Default: derived from the class names, as in
            ``cfx.diffusion_counterfactual``.
        gamma: Step size. Default: 0.18 with a fitted flow, 0.8 with a denoiser.
        growth: Factor by which each step is larger than the last one, up to a step size of
            4 ``gamma``. The first steps are small, so that easy images change little. The later
            steps are larger, so that hard images need few of them. Default: 1.6 with a fitted
            flow, 1.2 with a denoiser.
        binary_search_steps: Bisection steps that shorten the last step of each walk, as far as the
            target keeps its confidence. Each bisection step decodes and classifies one image.
            Default: 0 with a fitted flow, whose steps are small, and 3 with a denoiser.
        confidence: Probability of the target at which an image is done, in (0, 1). Default: 0.99.
        rounds: Largest number of steps of a walk. Default: 20, or 12 with a denoiser.
        restarts: Further walks for images that have not reached the target. These walks take large
            steps from the beginning. With a denoiser they use the times 0.2 and 0.35 instead, at
            which the noise hides the details of the image. Default: 1, or 0 with ``update="leap"``.
        times: Times in (0, 1) over which the difference is averaged. Default: 0.125, 0.375, 0.625,
            0.875 with a fitted flow, and 0.35, 0.5, 0.65 with a denoiser.
        landing_time: Time in (0, 1] from which the flow of the target carries the found code to
            t = 1. A smaller time moves the code further into the codes of the target. If the
            training images hardly show a combination of factors (in 3 of 100 images, say), the
            landing moves the code to a usual combination. Then pass 1, for no landing, and small
            steps (``gamma=0.1, growth=1.25``). Default: 0.65 with a fitted flow, 1 with a denoiser,
            with class means and with leaps.

        update: ``"difference"`` (default), or ``"leap"``: lift and land along the flow, as in the
            paper. One leap with gamma 1 swaps the class and keeps the noise.
        gamma_land: Factor that multiplies the velocity on the way back from the noise (the landing
            of a leap). Default: ``gamma``.
        condition: Condition of the flow on the way to the noise (the lift of a leap). ``"one_hot"``
            is the predicted class, ``"probabilities"`` are the probabilities of all classes.
        ode_steps: Runge-Kutta steps per leg of a leap. Default: 8, with an error of about 1e-3.
        stop_when_reached: End the walk of an image at its first success. With False all rounds
            are run, as in the paper.
        inject_rounds: With ``update="leap"``: further leaps after the last round, which make the
            target more probable ("injection" in the paper). Default: 0.
        inject_gammas: Factors that multiply the velocity in the further leaps: on the way to the
            noise (lift), and on the way back (landing). Default: (0, 0.1), which leaves out the
            lift.

        batch_size: Images per batch. A larger batch is faster and needs more memory.
        seed: Accepted for consistency. The walk draws no random numbers.
        first_row: Row of the first image in its data set. Only recorded.
        on_step: Called with a Step after each evaluation of the classifier. Return True to stop.
            Images without a result then get the status "stopped".
        output_dir: Folder to which the results are written in shards, for any number of images.
            After a crash, the same call goes on. ``cfx.open`` opens the folder. Default: None.

    Returns:
        Counterfactuals with codes. An image that does not reach the target with the required
        confidence has the status "not_found", and its original code. ``cost`` counts images
        decoded and classified, and evaluations of the velocity under "velocity" (fitted flow) or
        "unet" (denoiser). ``trace["rounds"]`` (b,) is the number of steps of each image.

    Raises:
        ValueError, TypeError: If an argument is wrong, if the flow belongs to another space, or if
            there is neither a flow nor a diffusion space.
    """
    validate.space(space)
    denoises = flow is None
    if denoises and not hasattr(space, "predict_noise"):
        raise ValueError(
            "flow: expected a flow from cfx.fit_flow(space, classifier, images), got None, which "
            f"only a Diffusion space allows; the space is {type(space).__name__}"
        )
    if denoises:
        require_conditional(validate.diffusion(space, null=False))
    if conditions is not None and not denoises:
        raise ValueError("conditions: expected None beside a flow, which knows its classes")
    update = validate.choice(update, "update", ("difference", "leap"))
    lands = update == "difference" and isinstance(flow, FittedFlow)
    gamma = (0.8 if denoises else 0.18) if gamma is None else gamma
    options = _checked(
        update=update,
        gamma=gamma,
        gamma_land=gamma if gamma_land is None else gamma_land,
        growth=(1.2 if denoises else 1.6) if growth is None else growth,
        binary_search_steps=(3 if denoises else 0)
        if binary_search_steps is None
        else binary_search_steps,
        rounds=(12 if denoises else 20) if rounds is None else rounds,
        restarts=int(update == "difference") if restarts is None else restarts,
        confidence=0.99 if confidence is None else confidence,
        landing_time=(0.65 if lands else 1.0) if landing_time is None else landing_time,
        times=((0.35, 0.5, 0.65) if denoises else (0.125, 0.375, 0.625, 0.875))
        if times is None
        else times,
        condition=condition,
        ode_steps=ode_steps,
        stop_when_reached=stop_when_reached,
        inject_rounds=inject_rounds,
        inject_gammas=inject_gammas,
    )
    if options.landing_time < 1 and not lands:
        raise ValueError(
            f"landing_time: expected 1, for no landing, got {options.landing_time}; only a walk "
            "(update='difference') along a flow from cfx.fit_flow lands"
        )
    validate.seed(seed)
    run = Run(
        classifier, images, target, space=space, batch_size=batch_size, first_row=first_row,
        on_step=on_step, any_size=denoises, by_row=True,
    )  # fmt: skip
    known: list[ConditionalFlow] = []  # filled with the first batch, which shows the classes

    def edit(batch: EncodedBatch) -> Edit:
        n_classes = batch.logits_before.shape[1]
        if not known:
            if flow is None:
                by_class = conditions_per_class(run.space, run.classifier, conditions, n_classes)
                known.append(DenoiserFlow(run.space, by_class))
            else:
                check_flow(flow, run.space, n_classes)
                known.append(flow)
        return walk(run, batch, known[0], options)

    record = {**dataclasses.asdict(options), "flow": "denoiser" if denoises else repr(flow)}
    return run.counterfactuals(
        edit, still_reached(options.confidence), function="flow_counterfactual", **record
    )


def walk(run: Run, batch: EncodedBatch, flow: ConditionalFlow, options: FlowOptions) -> Edit:
    """Walk until each image of a batch is classified as the target, and return the edits."""
    state = _State(run, batch, flow, options)
    for attempt in range(options.restarts + 1):
        state.begin(attempt)
        for number in range(options.rounds + options.inject_rounds):
            rows = state.active.nonzero().squeeze(1)
            if not len(rows) or run.stop.now:
                break
            u, logits = state.u[rows], state.logits[rows]
            wanted = F.one_hot(batch.target[rows], flow.n_classes).to(u)
            if options.update == "leap":
                injects = number >= options.rounds
                soft = injects or options.condition == "probabilities"
                present = logits.softmax(1) if soft else _hard(logits)
                gammas = options.inject_gammas if injects else (options.gamma, options.gamma_land)
                step = leap(flow, u, present, wanted, *gammas, options.ode_steps) - u
                evaluations = RK4 * options.ode_steps * (1 + (gammas[0] > 0))
            else:
                rival = _hard(logits.scatter(1, batch.target[rows, None], -torch.inf))
                growth, times = options.growth**number, options.times
                if attempt and isinstance(flow, DenoiserFlow):
                    times = NOISIER_TIMES
                elif attempt:
                    growth = LARGEST_GROWTH
                gamma = options.gamma * min(growth, LARGEST_GROWTH)
                step = gamma * mean_difference(flow, u, wanted, rival, times)
                evaluations = 2 * len(times)
            state.move(rows, step, evaluations)
        state.end()
    return state.edit()


def mean_difference(
    flow: ConditionalFlow, u: Tensor, target: Tensor, rival: Tensor, times: Sequence[float]
) -> Tensor:
    """Return the mean over times of v(u, target, t) - v(u, rival, t), of the shape of u (b, ...).

    Args:
        flow: Velocities on codes.
        u: Codes in the units of the flow, (b, ...).
        target, rival: Conditions to walk to and to walk away from, (b, k).
        times: Times in (0, 1).
    """
    n = len(times)
    at = u.repeat(2 * n, *[1] * (u.ndim - 1))
    t = torch.tensor(times, device=u.device).repeat_interleave(len(u)).repeat(2)
    conditions = torch.cat([target.repeat(n, 1), rival.repeat(n, 1)])
    towards, away = flow.velocity(at, conditions, t).chunk(2)
    return (towards - away).view(n, *u.shape).mean(0)


def _hard(logits: Tensor) -> Tensor:
    return F.one_hot(logits.argmax(1), logits.shape[1]).to(logits)


class _State:
    """State of the walks of all images of a batch. Every tensor has one row per image."""

    def __init__(
        self, run: Run, batch: EncodedBatch, flow: ConditionalFlow, options: FlowOptions
    ) -> None:
        self.run, self.batch, self.flow, self.options = run, batch, flow, options
        self.z = batch.code_before.z.clone()
        self.start = standardise(self.z - flow.mean.to(self.z), flow.std)
        self.std = flow.std.to(self.z)
        self.u, self.last = self.start.clone(), self.z.clone()
        self.image, self.logits = batch.reconstruction.clone(), batch.logits_reconstruction.clone()
        self.active, self.reached = ~batch.skip, torch.zeros_like(batch.skip)
        counts = torch.zeros(3, *batch.target.shape, dtype=torch.int64, device=self.z.device)
        self.rounds, self.queries, self.evaluations = counts
        self.ended = torch.zeros_like(batch.skip)  # successful, and not to be changed any more
        self.needed = options.confidence  # probability of the target at which a walk ends
        self.number = 0  # of the evaluation of the classifier, for ``on_step``

    def begin(self, attempt: int) -> None:
        """Reset the images that have not reached the target to their original codes.

        The first attempt starts there.
        """
        if self.options.landing_time < 1 and attempt < self.options.restarts:
            self.needed = min(SURE_ENOUGH, self.options.confidence)
        else:
            self.needed = self.options.confidence
        rows = (~self.batch.skip & ~self.reached).nonzero().squeeze(1)
        if attempt and not self.run.stop.now:
            self.active[rows] = True
            self.u[rows], self.z[rows] = self.start[rows], self.batch.code_before.z[rows]
            self.logits[rows] = self.batch.logits_reconstruction[rows]

    def move(self, rows: Tensor, step: Tensor, evaluations: int) -> None:
        """Take a step with some images, and classify the decoded codes."""
        options, target = self.options, self.batch.target[rows]
        self.u[rows] += step
        change = self.u[rows] - self.start[rows]
        if not isinstance(self.flow, DenoiserFlow):  # which has its own units
            change = along_active_axes(self.run.space, change)
        z = self.batch.code_before.z[rows] + self.std * change
        self.evaluations[rows] += evaluations
        usable = finite_rows(z)
        self.active[rows[~usable]] = False
        rows, z, target = rows[usable], z[usable], target[usable]
        if not len(rows):
            return
        image = self.run.space.decode(self.batch.code_before[rows].with_z(z))
        logits = self.run.classify(image, rows)
        self.rounds[rows] += 1
        self.queries[rows] += 1
        self.number += 1
        self.last[rows] = self.z[rows]
        self.z[rows], self.image[rows], self.logits[rows] = z, image, logits
        reached = is_reached(logits, target, self.needed)
        self.reached[rows] = reached
        self.active[rows] = finite_rows(logits) & ~(reached & options.stop_when_reached)
        p, total = log_odds(logits, target).sigmoid(), options.total
        self.run.stop.tell(Step(self.number, total, self.batch.rows[rows], z, p, self.active[rows]))

    def end(self) -> None:
        """End the walks that have just been successful: shorten the last step, and land."""
        rows = (self.reached & ~self.ended).nonzero().squeeze(1)
        if not len(rows):
            return
        with self.run.stop.on_interrupt():
            if self.options.binary_search_steps:
                self._shorten(rows)
            if self.options.landing_time < 1:
                self._land(rows)
        logits, target = self.logits[rows], self.batch.target[rows]
        self.reached[rows] = self.ended[rows] = is_reached(logits, target, self.options.confidence)

    def _shorten(self, rows: Tensor) -> None:
        """Bisect the last step of each walk: the target must stay as probable as it has to be."""
        start, end = self.last[rows], self.z[rows]

        def reaches(fraction: Tensor) -> Tensor:
            return self._ask(rows, torch.lerp(start, end, per_sample(fraction, start)), self.needed)

        ones = torch.ones(len(rows), device=rows.device)
        bisect(reaches, torch.zeros_like(ones), ones, self.options.binary_search_steps)

    def _land(self, rows: Tensor) -> None:
        """Carry codes on to the codes of the target. Those that lose the target stay as they are.

        The walk goes on as long as a code comes nearer to the codes of its target, as the flow
        knows them. Then the flow of the target carries it from ``landing_time`` to t = 1. Only the
        result is decoded and classified.
        """
        space, options, target = self.run.space, self.options, self.batch.target[rows]
        start = standardise(self.z[rows] - self.flow.mean.to(self.z), self.flow.std)
        wanted = F.one_hot(target, self.flow.n_classes).to(start)
        rival = _hard(self.logits[rows].scatter(1, target[:, None], -torch.inf))
        u, distance = start.clone(), self._distance(start, wanted)
        self.evaluations[rows] += 1
        nearer = torch.arange(len(rows), device=rows.device)
        for _ in range(ARRIVAL_STEPS):
            if not len(nearer):
                break
            step = mean_difference(self.flow, u[nearer], wanted[nearer], rival[nearer],
                                   options.times)  # fmt: skip
            on = u[nearer] + ARRIVAL_GAMMA * along_active_axes(space, step)
            reduced = self._distance(on, wanted[nearer])
            self.evaluations[rows[nearer]] += 2 * len(options.times) + 1
            less = reduced < distance[nearer]
            nearer = nearer[less]
            u[nearer], distance[nearer] = on[less], reduced[less]
        begin = options.landing_time
        landed = integrate(self.flow, begin * u, wanted, 1.0, begin, 1.0, LANDING_STEPS)
        self.evaluations[rows] += RK4 * LANDING_STEPS
        z = self.z[rows] + self.std * along_active_axes(space, landed - start)
        if (usable := finite_rows(z)).any():
            self._ask(rows[usable], z[usable], options.confidence)

    def _distance(self, u: Tensor, wanted: Tensor) -> Tensor:
        """Return how far codes (b, ...) are from codes of the wanted class (b, k), in std, (b,).

        It is the distance to the expected code of the class, given the code with a little noise.
        """
        t = u.new_full((len(u),), ARRIVAL_TIME)
        away = (1 - ARRIVAL_TIME) * (self.flow.velocity(ARRIVAL_TIME * u, wanted, t) - u)
        return along_active_axes(self.run.space, away).flatten(1).norm(dim=1)

    def _ask(self, rows: Tensor, z: Tensor, needed: float) -> Tensor:
        """Classify other codes of some images, and keep those with the needed probability."""
        image = self.run.space.decode(self.batch.code_before[rows].with_z(z))
        logits = self.run.classify(image, rows)
        self.queries[rows] += 1
        reached = is_reached(logits, self.batch.target[rows], needed)
        on = rows[reached]
        self.z[on], self.image[on], self.logits[on] = z[reached], image[reached], logits[reached]
        return reached

    def edit(self) -> Edit:
        """Return the edits. An image without success gets its code and reconstruction back."""
        batch = self.batch
        found = self.reached & is_reached(self.logits, batch.target, self.options.confidence)
        shape = [-1] + [1] * (self.z.ndim - 1)
        z = torch.where(found.view(shape), self.z, batch.code_before.z)
        image = torch.where(found.view(-1, 1, 1, 1), self.image, batch.reconstruction)
        logits = torch.where(found[:, None], self.logits, batch.logits_reconstruction)
        velocity, queries = self.evaluations, self.queries
        name = self.flow.cost_name
        return Edit(
            code=batch.code_before.with_z(z),
            image=image,
            logits=logits,
            reached=found,
            generator=queries + (velocity if name == "unet" else 0),
            classifier=queries,
            cost={name: velocity},
            trace={"rounds": self.rounds},
        )


def _checked(**given: Any) -> FlowOptions:
    """Check the options of ``flow_counterfactual``."""
    number, name = validate.number, "inject_gammas"
    times = validate.listed(given["times"], "times", "times in (0, 1)")
    if not times:
        raise ValueError("times: expected at least one time in (0, 1), got none")
    gammas = validate.listed(given[name], name, "two numbers")
    if len(gammas) != 2:
        raise ValueError(f"{name}: expected two numbers, got {validate.describe(given[name])}")
    return FlowOptions(
        update=given["update"],
        gamma=number(given["gamma"], "gamma", 0.0),
        gamma_land=number(given["gamma_land"], "gamma_land", 0.0),
        growth=number(given["growth"], "growth", 1.0),
        binary_search_steps=validate.count(given["binary_search_steps"], "binary_search_steps"),
        rounds=validate.count(given["rounds"], "rounds", 1),
        restarts=validate.count(given["restarts"], "restarts"),
        confidence=number(given["confidence"], "confidence", 0.0, 1 - 1e-6, open_low=True),
        landing_time=number(given["landing_time"], "landing_time", 1e-3, 1.0),
        times=tuple(number(t, "times", 1e-3, 1 - 1e-3) for t in times),
        condition=validate.choice(given["condition"], "condition", ("one_hot", "probabilities")),
        ode_steps=validate.count(given["ode_steps"], "ode_steps", 1),
        stop_when_reached=validate.flag(given["stop_when_reached"], "stop_when_reached"),
        inject_rounds=validate.count(given["inject_rounds"], "inject_rounds"),
        inject_gammas=(number(gammas[0], name, 0.0), number(gammas[1], name, 0.0)),
    )
