"""The frame of every method: chunks of checked input on one side, a result on the other."""

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier, CheckedSpace
from cfxnb.core.decisions import is_predicted
from cfxnb.core.modules import eval_frozen
from cfxnb.core.results import Counterfactuals
from cfxnb.core.second_look import warn_of_randomness
from cfxnb.core.space_fit import SpaceFit
from cfxnb.core.tensors import finite_rows, per_sample, predicted
from cfxnb.core.types import (
    ALREADY_TARGET,
    FLIPPED,
    NO_GRADIENT,
    NOT_FINITE,
    NOT_FOUND,
    RECONSTRUCTION_IS_TARGET,
    STOPPED,
    Code,
    OnStep,
    Step,
)
from cfxnb.core.weights_hash import weights_hash

Chunk = TypeVar("Chunk")
Part = TypeVar("Part")


class Stop:
    """Whether the call is to end: ``on_step`` returned True, or the user pressed Ctrl-C."""

    def __init__(self, on_step: OnStep | None) -> None:
        self.on_step = validate.on_step(on_step)
        self.now = self.interrupted = False

    def tell(self, step: Step) -> None:
        """Call ``on_step`` with copies: what it does to them changes no result."""
        if self.on_step is not None:
            parts = ("rows", "code", "probability", "active")
            copies = {name: getattr(step, name).detach().clone() for name in parts}
            self.now |= validate.stops(self.on_step(dataclasses.replace(step, **copies)))

    @contextlib.contextmanager
    def on_interrupt(self) -> Iterator[None]:
        """Ctrl-C inside ends the call and keeps what is finished; a second one is not caught."""
        try:
            yield
        except KeyboardInterrupt:
            if self.interrupted:
                raise
            self.now = self.interrupted = True

    def finish(self, work: Callable[[], Part]) -> Part:
        """What ``work`` returns: a last step that keeps what was found.

        Ctrl-C inside ends the call only after the work was done once more; a second one is not
        caught.
        """
        with self.on_interrupt():
            return work()
        return work()

    def each(
        self, chunks: Iterable[Chunk], work: Callable[[Chunk], Part]
    ) -> list[tuple[Chunk, Part | None]]:
        """What ``work`` makes of each chunk, in order; None for those that a stop left out.

        Raises:
            KeyboardInterrupt: if Ctrl-C was pressed before any chunk was finished.
        """
        parts: list[tuple[Chunk, Part | None]] = []
        for chunk in chunks:
            part = None
            if not self.now:
                with self.on_interrupt():
                    part = work(chunk)
            parts.append((chunk, part))
        if all(part is None for _, part in parts):
            raise KeyboardInterrupt
        return parts

    def warn(self, done: int, count: int, rest: str) -> None:
        """Warn after Ctrl-C; ``rest`` says what the unfinished images mean for the result."""
        if self.interrupted:
            warnings.warn(
                f"interrupted: {done} of {count} images are finished, {rest}", stacklevel=5
            )


@dataclasses.dataclass
class Batch:
    """One chunk of samples being worked on; every tensor has one row per sample."""

    index: Tensor  # positions in this call
    rows: Tensor  # positions in the data set
    images: Tensor
    target: Tensor
    logits_before: Tensor  # logits of the originals


@dataclasses.dataclass
class EncodedBatch(Batch):
    """A chunk whose codes and reconstructions are known, and who of it needs no search."""

    code_before: Any  # codes; None without a space
    reconstruction: Tensor  # the originals without a space
    logits_reconstruction: Tensor  # logits of the reconstructions
    skip: Tensor  # bool: the target already, or not finite


@dataclasses.dataclass
class Edit:
    """What a method makes of a chunk: edited codes, or edited images, and what it spent.

    Attributes:
        code: edited codes, which the driver decodes.
        image: edited images, for methods without codes, or what the method has made of ``code``
            itself. With neither nothing is changed.
        reached: what reached the target in the search, bool (b,). None: the last evaluation of the
            classifier alone decides.
        no_gradient: samples without a gradient, bool (b,).
        seen: logits of the edited images in the search, (b, k), NaN where there were none.
        generator, classifier: evaluations of the networks by the method itself, (b,).
        cost: evaluations of other networks, or of parts of the generator, (b,) each.
        trace: how the search went, one row per sample, (b, ...) each.
    """

    code: Code | None = None
    image: Tensor | None = None
    reached: Tensor | None = None
    no_gradient: Tensor | None = None
    seen: Tensor | None = None
    generator: Tensor | int = 0
    classifier: Tensor | int = 0
    cost: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    trace: dict[str, Tensor] = dataclasses.field(default_factory=dict)


class Run:
    """One call of a method: its input in chunks, when it ends, and what the space loses.

    Args:
        target: one class, or one per image.
        first_row: position of the first image in the data set, or that of each image.
        any_size: see ``CheckedSpace``.
        choose: logits of the originals -> their targets (b,), in place of ``target``.
        encode: task -> codes, reconstructions, and how often the generator ran for each; in place
            of the space's own codes.

    Attributes:
        classifier, space: checked; methods call these.
        images: checked, (n, c, h, w).
        places: their positions in the data set, (n,).
        stop: tells whether the call is to end.
    """

    def __init__(
        self,
        classifier: Any,
        images: Any,
        target: Any,
        *,
        space: Any = None,
        batch_size: int = 256,
        first_row: int | Tensor = 0,
        on_step: OnStep | None = None,
        choose: Callable[[Tensor], Tensor] | None = None,
        encode: Callable[[Batch], tuple[Code, Tensor, int]] | None = None,
        any_size: bool = False,
    ) -> None:
        self.began = time.perf_counter()
        self.space: Any = None if space is None else CheckedSpace(space, any_size=any_size)
        self.classifier = CheckedClassifier(classifier)
        self.stop = Stop(on_step)
        self.images = validate.images(images)
        self.batch_size = validate.count(batch_size, "batch_size", 1)
        self.places = _places(first_row, len(self.images))
        self.target, self.choose, self.encode = target, choose, encode
        where = self.space.mean.device if self.space else self.classifier.device
        self.device = where or self.images.device
        self.fit = SpaceFit(self.space)

    def each(self, work: Callable[[Batch], Counterfactuals]) -> list[Counterfactuals]:
        """What ``work`` makes of each chunk, in order, with networks frozen in evaluation mode."""
        slices = torch.arange(len(self.images)).split(self.batch_size)
        with eval_frozen(self.space, self.classifier):
            parts = self.stop.each(slices, lambda index: work(self._task(index)))
        like = next(part for _, part in parts if part is not None)
        return [self._unfinished(index, like) if part is None else part for index, part in parts]

    def counterfactuals(
        self,
        edit: Callable[[EncodedBatch], Edit],
        need: Callable[[Tensor, Tensor], Tensor] = is_predicted,
        **made_by: Any,
    ) -> Counterfactuals:
        """The whole call: ``edit`` is asked for each chunk, and everything else is done here.

        Args:
            need: (logits, target) -> bool (b,): whether an edited image has reached the target.
            made_by: the record of the call: name and options of the method.
        """

        def work(task: Batch) -> Counterfactuals:
            with torch.no_grad():
                begun, renders = self._begin(task)
            found = edit(begun)
            stopped = self.stop.now
            return self.stop.finish(lambda: self._last_look(begun, found, need, renders, stopped))

        return self.join_results(self.each(work), **made_by)

    def _begin(self, task: Batch) -> tuple[EncodedBatch, int]:
        """Codes and reconstructions of a chunk, and how often the generator ran for each."""
        known = vars(task)
        if self.space is None:
            skip = nothing_to_do(task)
            own = {"reconstruction": task.images, "logits_reconstruction": task.logits_before}
            return EncodedBatch(**known, **own, code_before=None, skip=skip), 0
        if self.encode is None:
            (start, image, logits), renders = self.reconstruct_batch(task), 1
        else:
            start, image, renders = self.encode(task)
            logits = self.classifier(image)
            self.fit.add_decisions(task.logits_before, logits)
        skip = nothing_to_do(task, logits)
        return EncodedBatch(
            **known, code_before=start, reconstruction=image, logits_reconstruction=logits, skip=skip
        ), renders

    @torch.no_grad()
    def _last_look(
        self,
        task: EncodedBatch,
        found: Edit,
        need: Callable[[Tensor, Tensor], Tensor],
        renders: int,
        stopped: bool,
    ) -> Counterfactuals:
        """Decode and classify what the method made, so that status and logits agree."""
        with_space = task.code_before is not None
        code, image = found.code, found.image
        changed = code is not None or image is not None
        decoded_here = code is not None and image is None
        if decoded_here:
            image = self.space.decode(code)
        elif code is None and image is not None:
            image = torch.where(per_sample(task.skip, image), task.reconstruction, image)
        elif not changed:
            code, image = task.code_before, task.reconstruction
        after = self.classifier(image) if changed else task.logits_reconstruction
        reached = torch.ones_like(task.skip) if found.reached is None else found.reached
        seen = torch.full_like(after, torch.nan) if found.seen is None else found.seen
        reached = confirmed(reached, seen, after, task.target, need) & changed
        none = torch.zeros_like(task.target)
        spent = {
            "generator": none + found.generator + renders + int(decoded_here),
            **found.cost,
            # The originals, their reconstructions, and the edited images.
            "classifier": none + found.classifier + 1 + int(with_space) + int(changed),
        }
        logits_reconstruction = task.logits_reconstruction if with_space else None
        return Counterfactuals(
            original=task.images,
            image=image,
            reconstruction=task.reconstruction,
            logits_before=task.logits_before,
            logits_after=after,
            target=task.target,
            status=assign_statuses(task, reached, no_gradient=found.no_gradient, reconstruction=logits_reconstruction, stopped=stopped),
            code_before=task.code_before,
            code_after=code,
            cost=spent,
            trace=found.trace,
        )

    def _task(self, index: Tensor) -> Batch:
        chunk = self.images[index.to(self.images.device)].to(self.device)
        with torch.no_grad():
            before = self.classifier(chunk)
        if self.choose is None:
            target = self._targets(before.shape[1])[index].to(self.device)
        else:
            target = self.choose(before)
        here, rows = index.to(self.device), self.places[index].to(self.device)
        return Batch(here, rows, chunk, target, before)

    def _targets(self, classes: int) -> Tensor:
        names = self.classifier.class_names
        return validate.labels(self.target, len(self.images), classes, names=names).cpu()

    def _unfinished(self, index: Tensor, like: Counterfactuals) -> Counterfactuals:
        """Samples that were never begun: what would have been computed is NaN."""
        images = self.images[index.to(self.images.device)]
        count, classes = len(index), like.logits_before.shape[1]
        unknown = images.new_full((count, classes), torch.nan)
        known = self.choose is None
        target = self._targets(classes)[index] if known else torch.zeros_like(index)
        return Counterfactuals(
            original=images,
            image=images,
            reconstruction=images,
            logits_before=unknown,
            logits_after=unknown,
            target=target.to(images.device),
            status=(STOPPED,) * count,
            code_before=_unknown(like.code_before, count),
            code_after=_unknown(like.code_after, count),
            cost={k: v.new_zeros(count) for k, v in like.cost.items()},
        )

    def join_results(self, parts: list[Counterfactuals], **made_by: Any) -> Counterfactuals:
        """Chunks joined in order, on the device of the images, with the record of the call.

        Raises:
            ValueError: if nothing at all is finite.
        """
        whole = Counterfactuals.concatenate([part.to(self.images.device) for part in parts])
        if set(whole.status) == {NOT_FINITE}:
            raise ValueError(
                "classifier: expected finite logits, got NaN or infinity for the original or the "
                f"reconstruction of all {len(whole)} images"
            )
        known = torch.tensor([s != STOPPED for s in whole.status])
        broken = int((~finite_rows(whole.image.cpu()) & known).sum())
        if broken:
            raise ValueError(
                f"space.decode: expected finite images, got NaN or infinity for {broken} of "
                f"{len(whole)}"
            )
        left = whole.status.count(STOPPED)
        self.stop.warn(len(whole) - left, len(whole), "the others have the status 'stopped'")
        self.fit.warn()
        weights = self.stop.finish(self._weights)
        seconds = round(time.perf_counter() - self.began, 3)
        record = {**made_by, **self._rows(), "weights": weights, "seconds": seconds}
        if self.classifier.class_names is not None:
            record["class_names"] = list(self.classifier.class_names)
        return dataclasses.replace(whole, made_by=record)

    def _weights(self) -> dict[str, str]:
        parts = {"space": self.space, "classifier": self.classifier}
        return {name: weights_hash(part) for name, part in parts.items() if part is not None}

    def _rows(self) -> dict[str, Any]:
        """Where the images lie in their data set, for the record."""
        first = int(self.places[0])
        if torch.equal(self.places, torch.arange(len(self.places)) + first):
            return {"first_row": first}
        return {"first_row": first, "rows": self.places.tolist()}

    def reconstruct_batch(self, task: Batch) -> tuple[Code, Tensor, Tensor]:
        """Codes, reconstructions, and the logits of these."""
        if self.space is None:
            raise RuntimeError("a method without a space reconstructs nothing")
        start, image = reconstruct_batch(self.space, task.images)
        logits = self.classifier(image)
        self.fit.add_images(task.images, image)
        self.fit.add_decisions(task.logits_before, logits)
        return start, image, logits


def _places(first_row: Any, count: int) -> Tensor:
    """Positions of the images in their data set, int64 (count,)."""
    if not isinstance(first_row, Tensor) or not first_row.ndim:
        return torch.arange(count) + validate.count(first_row, "first_row")
    return validate.labels(first_row, count, validate.LARGEST, "first_row").cpu()


def _unknown(code: Code | None, count: int) -> Code | None:
    if code is None:
        return None

    def nan(like: Tensor) -> Tensor:
        return like.new_full((count, *like.shape[1:]), torch.nan)

    return Code(nan(code.z), None if code.aux is None else nan(code.aux))


def reconstruct_batch(space: CheckedSpace, images: Tensor) -> tuple[Code, Tensor]:
    """Codes and reconstructions; these have the shape of the images, all finite."""
    start = space.encode(images)
    made = space.decode(start)
    if made.shape != images.shape:
        raise ValueError(
            f"space.decode: expected the shape of the images, {tuple(images.shape)}, "
            f"got {tuple(made.shape)}"
        )
    return start, validate.images(made, "space.decode")


def nothing_to_do(task: Batch, logits_reconstruction: Tensor | None = None) -> Tensor:
    """Samples that need no search, bool (b,): the target already, or not finite."""
    skip = is_predicted(task.logits_before, task.target) | (predicted(task.logits_before) < 0)
    if logits_reconstruction is not None:
        skip |= is_predicted(logits_reconstruction, task.target) | (predicted(logits_reconstruction) < 0)
    return skip


def assign_statuses(
    task: Batch,
    reached: Tensor,
    *,
    no_gradient: Tensor | None = None,
    reconstruction: Tensor | None = None,
    stopped: bool = False,
) -> tuple[str, ...]:
    """One status a sample; what makes the question needless comes before success and failure.

    Args:
        reached, no_gradient: bool (b,): reached the target; had no gradient.
        reconstruction: logits of the reconstructions.
        stopped: whether the call ended before what did not pass was finished.
    """
    already = is_predicted(task.logits_before, task.target)
    none = torch.zeros_like(already)
    broken = predicted(task.logits_before) < 0
    gone = none if reconstruction is None else is_predicted(reconstruction, task.target)
    if reconstruction is not None:
        broken = broken | (predicted(reconstruction) < 0)
    no_gradient = none if no_gradient is None else no_gradient
    # Later lines overwrite earlier ones.
    status = [STOPPED if stopped else NOT_FOUND] * len(already)
    for found, name in (
        (no_gradient & (not stopped), NO_GRADIENT),
        (reached, FLIPPED),
        (gone, RECONSTRUCTION_IS_TARGET),
        (already, ALREADY_TARGET),
        (broken, NOT_FINITE),
    ):
        status = [name if yes else old for yes, old in zip(found.tolist(), status, strict=True)]
    return tuple(status)


def confirmed(
    reached: Tensor, seen: Tensor, after: Tensor, target: Tensor, need: Callable[..., Tensor]
) -> Tensor:
    """What passed in the search and still passes at the last look, bool (b,).

    The status of a sample then agrees with the logits that are stored. A warning tells that two
    looks at one image differ.

    Args:
        seen: logits of the same images at an earlier look, (b, k); NaN where there was none.
        after: logits of the last look, (b, k).
        need: (logits, target) -> bool (b,), with room for rounding.
    """
    both = seen.isfinite().all(1) & after.isfinite().all(1)
    warn_of_randomness(seen[both], after[both])
    return reached & need(after, target)
