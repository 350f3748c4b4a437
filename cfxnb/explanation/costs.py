"""How long a page will take, and what is left out so that it does not take too long.

The time of a method is estimated from the number of network evaluations that it usually needs, and
from the time of one evaluation, which is measured on a few images. The number of evaluations
depends on the images, so an estimate can be wrong by a factor of two.
"""

import dataclasses
import inspect
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from cfxnb.core.disk import writing
from cfxnb.core.modes import standard
from cfxnb.explanation import findings as say
from cfxnb.explanation.findings import Finding
from cfxnb.explanation.methods import (
    FEW_QUERIES,
    METHODS,
    QUERIES,
    WITHOUT_GRADIENT,
    Job,
    Scene,
    is_denoiser,
)

#: Evaluations per image of generator, denoiser and classifier with the default options: means over
#: digits and sprites, or over digits and faces for methods that denoise. They are the ``cost`` of
#: the results, so forward and backward passes are counted apart.
PASSES: dict[str, tuple[float, float, float]] = {
    "latent_attack": (31, 0, 32),
    "query_attack": (59, 0, 60),
    "flow_counterfactual": (53, 41, 12),  # along the denoiser
    "follow_direction": (11, 0, 12),
    "diffusion_counterfactual": (76, 45, 31),
    "sce": (49, 30, 30),
    "maskdime": (63, 20, 45),
    "fastdime": (47, 14, 34),
    "dime": (54, 33, 23),
    "nearest_neighbour": (0, 0, 2),
    "pixel_attack": (0, 0, 47),
    "random_change": (1, 0, 3),
    "reconstruct": (1, 0, 2),
}
FITTED_WALK = (4, 0, 5)  # of ``flow_counterfactual`` along a fitted flow
AMOUNTS = ("steps", "max_queries")  # options to which the number of evaluations is proportional
BACKWARD = 1.5  # mean time of forward and backward passes, in forward passes
SEARCH = 1.8  # evaluations of a search for a direction per query, with those of its trial
TRAINING = 60.0  # seconds for training a flow
AIM = 0.6  # part of the time that the estimate may fill, since it can be wrong
SETUP_SHARE = 0.4  # part of this time that the search for one direction may fill
LEAST, MOST = 4, 24  # images that are explained by default
QUICK = 0.2  # seconds of an evaluation that is repeated
TRIALS = (4, 8)  # images with which the speed is measured, after one
LONGEST = 4.0  # seconds that one of these measurements may take


@dataclasses.dataclass(frozen=True)
class Speed:
    """Seconds per image of one evaluation of the generator (encode or decode) and denoiser."""

    generator: float = 0.0
    denoiser: float = 0.0


@dataclasses.dataclass
class Estimate:
    """How long jobs take.

    Attributes:
        n_images: Number of images.
        classifier: Seconds per image of one evaluation of the classifier.
        speeds: Speed of each space.
        n_reference: Number of images with which a flow is fitted.
        queries: Queries of the search for a direction, by space.
        took: Seconds of the finished jobs.
    """

    n_images: int
    classifier: float
    speeds: dict[str, Speed]
    n_reference: int
    queries: dict[str | None, int]
    took: dict[str, float] = dataclasses.field(default_factory=dict)

    def per_image(self, job: Job) -> float:
        """Return the seconds of a job for one image."""
        known = inspect.signature(METHODS[job.method][0]).parameters
        more = 1.0
        for name in AMOUNTS:
            given, usual = job.options.get(name), known[name].default if name in known else None
            if isinstance(given, int) and isinstance(usual, int) and usual:
                more *= given / usual
        speed = self._speed(job)
        fitted = job.method == "flow_counterfactual" and not speed.denoiser
        generator, denoiser, classifier = FITTED_WALK if fitted else PASSES[job.method]
        found = generator * speed.generator + denoiser * speed.denoiser
        found += classifier * self.classifier
        return more * found * (1.0 if job.method in WITHOUT_GRADIENT else BACKWARD)

    def setup(self, job: Job) -> float:
        """Return the seconds of a job that do not depend on the number of images."""
        each = self._speed(job).generator + self.classifier
        if job.method == "follow_direction" and "direction" not in job.options:
            return SEARCH * self.queries.get(job.space, QUERIES) * each
        fits = job.method == "flow_counterfactual" and "flow" not in job.options
        if fits and not self._speed(job).denoiser:
            return TRAINING + 2 * self.n_reference * each
        return 0.0

    def seconds(self, job: Job) -> float:
        """Return the seconds of a job."""
        return self.setup(job) + self.n_images * self.per_image(job)

    def _speed(self, job: Job) -> Speed:
        return self.speeds.get(str(job.space), Speed())


@dataclasses.dataclass(frozen=True)
class Choice:
    """How many images are explained, and what is left out. Kept for a repeated call.

    Attributes:
        n_images: Number of images.
        why: Why fewer images than usual are explained, or an empty text.
        left_out: Why methods are left out, by the name of the job.
        estimate: The fields of an Estimate.
    """

    n_images: int
    why: str
    left_out: dict[str, str]
    estimate: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write the choice as JSON."""
        with writing(path, "output_dir") as partial:
            partial.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ValueError: If there is no such file, or if it is damaged.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, TypeError) as error:
            raise ValueError(f"path: expected a choice, got {path}: {error}") from None

    def restored(self) -> Estimate:
        """Return the estimate for the chosen images."""
        fields = {**self.estimate, "n_images": self.n_images}
        fields["speeds"] = {name: Speed(*pair) for name, pair in fields["speeds"].items()}
        return Estimate(**fields)

    def findings(self) -> list[Finding]:
        """Return what the page says about the choice."""
        found = [Finding(say.NOTE, f"{n} was left out: {why}.") for n, why in self.left_out.items()]
        return ([Finding(say.NOTE, self.why)] if self.why else []) + found


def measured(scene: Scene, image: Tensor) -> dict[str, Speed]:
    """Return the speed of each space, from the time of a few evaluations with one image."""
    return {name: _speed(space, image) for name, space in scene.spaces.items()}


def _speed(space: Any, image: Tensor) -> Speed:
    try:
        with standard(), torch.no_grad():
            code = space.encode(image.to(space.mean.device))
            generator = _seconds(lambda n: space.decode(code[[0] * n]))
            if not is_denoiser(space):
                return Speed(generator)
            known = _any_condition(space)
            t = torch.zeros(1, dtype=torch.int64)

            def denoise(count: int) -> None:
                z = code.z[[0] * count]
                space.predict_noise(z, t.expand(count), known.expand(count, *known.shape[1:]))

            return Speed(generator, _seconds(denoise))
    except (ValueError, TypeError, RuntimeError, AttributeError, IndexError):
        return Speed()  # the methods will say what is wrong with the space


def _any_condition(space: Any) -> Tensor:
    """Return the encoded condition of a diffusion model for no class, or for its first class."""
    try:
        found: Tensor = space.encode_condition([None])
    except (ValueError, TypeError):
        found = space.encode_condition([0])
    return found


def _seconds(work: Callable[[int], Any]) -> float:
    """Return the seconds per image of ``work(n)`` for n images, measured within a few seconds."""
    spent, count = _timed(work, 1), 1
    if spent < QUICK:
        spent = _timed(work, 1)  # the first evaluation of a network is slower
    for more in TRIALS:  # several images together take less time per image
        if more * spent / count < LONGEST:
            spent, count = _timed(work, more), more
    return spent / count


def _timed(work: Callable[[int], Any], count: int) -> float:
    began = time.perf_counter()
    work(count)
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # a GPU works on after the call
    return time.perf_counter() - began


def choose(
    jobs: list[Job], estimate: Estimate, n_images: int | None, free: bool, max_minutes: float
) -> Choice:
    """Choose how many images are explained, and which methods are left out.

    Args:
        jobs: The jobs that apply.
        estimate: Their times, with all images.
        n_images: Number of images that the caller wants, or None.
        free: Whether the caller has named no methods, so that some may be left out.
        max_minutes: Time that the page should take.
    """
    budget = 60 * max_minutes * AIM
    left_out: dict[str, str] = {}
    fewest = min(estimate.n_images, LEAST if n_images is None else n_images)
    for job in jobs if free else []:
        if job.method == "follow_direction":
            most = SETUP_SHARE * budget / max(1e-9, estimate.setup(job)) * QUERIES
            estimate.queries[job.space] = max(FEW_QUERIES, min(QUERIES, int(most)))
        least = estimate.setup(job) + fewest * estimate.per_image(job)
        if least > budget:
            left_out[job.name] = (
                f"on this machine it would take about {in_words(least)} for {fewest} images, and "
                f"the whole page should take at most {max_minutes:g} minutes (max_minutes); name "
                "it in methods to run it"
            )
    if free and all(job.baseline or job.name in left_out for job in jobs):
        methods = [job for job in jobs if not job.baseline]  # a page needs a method
        if methods:
            quickest = min(methods, key=lambda j: estimate.setup(j) + estimate.per_image(j))
            left_out.pop(quickest.name)
    chosen = [job for job in jobs if job.name not in left_out]
    count, why = estimate.n_images, ""
    if n_images is None:
        rest = budget - sum(estimate.setup(job) for job in chosen)
        fit = int(rest / max(1e-9, sum(estimate.per_image(job) for job in chosen)))
        count = max(min(LEAST, count), min(count, fit))
        if count < estimate.n_images:
            why = (
                f"Only {count} images are explained, because one image takes about "
                f"{in_words(sum(estimate.per_image(job) for job in chosen))} on this machine, and "
                f"the page should take at most {max_minutes:g} minutes. Set max_minutes or n_images"
                " to explain more."
            )
    fields = {f.name: getattr(estimate, f.name) for f in dataclasses.fields(estimate)}
    fields["speeds"] = {n: dataclasses.astuple(each) for n, each in estimate.speeds.items()}
    fields["took"] = {}
    return Choice(count, why, left_out, fields)


def in_words(seconds: float) -> str:
    """Return "40 seconds" or "3 minutes"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} second{'s' if round(seconds) > 1 else ''}"
    return f"{round(seconds / 60)} minutes"
