"""Run the planned methods, and keep their results as they are finished."""

import dataclasses
import inspect
import time
import warnings
from typing import Any

import pandas as pd
from torch import Tensor

from cfxnb.core import processes
from cfxnb.core.disk import cause
from cfxnb.core.progress import Progress
from cfxnb.core.result_folder import ResultFolder
from cfxnb.data.imageset import ImageSet
from cfxnb.explanation import findings as say
from cfxnb.explanation import kept
from cfxnb.explanation.costs import Estimate
from cfxnb.explanation.findings import Finding
from cfxnb.explanation.methods import METHODS, Job, NotApplicable, Scene, key_of, prepare
from cfxnb.explanation.selection import Selection

SHARD_SECONDS = 20.0  # what a killed process may lose, by the estimate


class Watched:
    """The explained images as a data set that tells how far it was read.

    Args:
        selection: The explained images.
        progress: The bar, which moves within its present part.
    """

    def __init__(self, selection: Selection, progress: Progress) -> None:
        self._selection, self._progress = selection, progress

    def __len__(self) -> int:
        return len(self._selection)

    @property
    def images(self) -> Tensor:
        return self._selection.images.images

    @property
    def labels(self) -> Tensor:
        return self._selection.images.labels

    def __getitem__(self, rows: Any) -> ImageSet:
        if isinstance(rows, slice):
            self._progress.within((rows.start or 0) / max(1, len(self)))
        part = self._selection.images[rows]
        return dataclasses.replace(part, factors=pd.DataFrame(index=part.factors.index))


def run_all(
    jobs: list[Job], scene: Scene, selection: Selection, estimate: Estimate, images: str
) -> tuple[list[Finding], dict[str, str]]:
    """Run all jobs, and return why some were left out, and the warnings that were given.

    Args:
        estimate: How long each job will take.
        images: Digest of the explained images.
    """
    found: list[Finding] = []
    messages: dict[str, str] = {}
    with Progress(sum(estimate.seconds(job) for job in jobs) or 1.0, "explain") as progress:
        for job in jobs:
            progress.begin(estimate.seconds(job))
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                try:
                    began = time.perf_counter()
                    scene.made[job.name] = _run(job, scene, selection, estimate, images, progress)
                    scene.jobs[job.name] = job
                    estimate.took[job.name] = time.perf_counter() - began
                except NotApplicable as error:
                    found.append(Finding(say.NOTE, f"{job.name} was left out: {error}."))
                except (ValueError, TypeError, RuntimeError) as error:
                    text = f"{job.name} failed and is left out: {cause(error, 400)}"
                    found.append(Finding(say.WARNING, text))
            progress.end()
            for each in heard:
                if issubclass(each.category, UserWarning):
                    messages.setdefault(str(each.message).rstrip("."), job.name)
    return found, messages


def _run(
    job: Job,
    scene: Scene,
    selection: Selection,
    estimate: Estimate,
    images: str,
    progress: Progress,
) -> Any:
    """Return the result of one job."""
    if job.method == "random_change":
        if scene.goal is not None and scene.goal.kind == "score":
            raise NotApplicable("the function of a score is not recorded with the results")
        other = _like_job(job, scene)
        function, call = METHODS[job.method][0], {"seed": scene.seed, **job.options}
        before: tuple[Any, ...] = (scene.spaces[str(job.space)], scene.classifier)
        question: Any = (scene.keys.get(other.name), call)
        data: Any = scene.made[other.name]
    else:
        function, before, call = prepare(job, scene)
        question, data = call, selection.images.images if scene.place is None else None
        call = {**call, "target": scene.asked}
    if scene.place is not None:
        scene.keys[job.name] = key_of(scene, images, job.method, before[0], question)
        folder = kept.folder_for(scene.place, job.name, scene.keys[job.name])
        size = shard_size(job, selection, estimate)
        call = {**call, "output_dir": folder, "batch_size": size}
        data = Watched(selection, progress) if data is None else data
    found = function(*before, data, **call)
    if isinstance(found, ResultFolder) and not found.complete:
        raise KeyboardInterrupt  # the user has pressed Ctrl-C; the same call goes on
    return found


def _like_job(job: Job, scene: Scene) -> Job:
    """Return the job whose changes a random change imitates: the first one in the same space."""
    for name, other in scene.jobs.items():
        same = other.space == job.space and not other.baseline
        if same and scene.made[name][:1].code_after is not None:
            return other
    raise NotApplicable("no method has changed codes of this space")


def shard_size(job: Job, selection: Selection, estimate: Estimate) -> int:
    """Return how many images of a job are finished and written together.

    A slow method writes its results often, so that little is lost if the process is killed. Several
    processes get at least two shards each, if there are enough images.
    """
    known = inspect.signature(METHODS[job.method][0]).parameters
    usual = int(job.options.get("batch_size", known["batch_size"].default))
    part = -(-len(selection) // (2 * processes.count())) if processes.count() > 1 else usual
    quick = int(SHARD_SECONDS / max(estimate.per_image(job), 1e-9))
    return max(1, min(usual, part, max(quick, 1)))
