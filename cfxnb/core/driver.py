"""The driver of all methods, which splits checked images into batches and makes the result."""

import collections
import contextlib
import dataclasses
import functools
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar

import torch
from torch import Tensor

from cfxnb.core import one_shard, types, validate
from cfxnb.core.border import CheckedClassifier, CheckedSpace
from cfxnb.core.decisions import is_predicted
from cfxnb.core.goals import Goal, GoalClassifier, goal_classifier
from cfxnb.core.memory import RanOut, pieces, within_memory
from cfxnb.core.modules import eval_frozen
from cfxnb.core.outcomes import OUTCOMES
from cfxnb.core.progress import Progress
from cfxnb.core.results import Counterfactuals
from cfxnb.core.second_look import warn_of_randomness
from cfxnb.core.space_fit import SpaceFit
from cfxnb.core.tensors import finite_rows, per_sample, predicted
from cfxnb.core.types import Code, OnStep, Step
from cfxnb.core.weights_hash import weights_hash

Chunk = TypeVar("Chunk", bound=Sized)
Part = TypeVar("Part")
log = logging.getLogger("cfxnb")


class Stop:
    """Records that a call should end: ``on_step`` returned True, or the user pressed Ctrl-C."""

    def __init__(self, on_step: OnStep | None) -> None:
        self.on_step = validate.on_step(on_step)
        self.now = self.interrupted = False
        self.progress: Progress | None = None  # the bar of ``each``

    def tell(self, step: Step) -> None:
        """Move the progress bar, and call ``on_step`` with a copy of the state.

        Changes to the copy have no effect.
        """
        if self.progress is not None:
            self.progress.within(step.number / max(step.total, 1))
        if self.on_step is not None:
            parts = ("rows", "code", "probability", "active")
            copies = {name: getattr(step, name).detach().clone() for name in parts}
            self.now |= validate.stops(self.on_step(dataclasses.replace(step, **copies)))

    @contextlib.contextmanager
    def on_interrupt(self) -> Iterator[None]:
        """Catch the first Ctrl-C inside the ``with`` block, and set ``Stop.now`` to True."""
        try:
            yield
        except KeyboardInterrupt:
            if self.interrupted:
                raise
            self.now = self.interrupted = True

    def finish(self, work: Callable[[], Part]) -> Part:
        """Run ``work``, the last step of a call, and return its result.

        If the user presses Ctrl-C during ``work``, ``work`` runs once more, so that the results of
        the search are kept. A second Ctrl-C is not caught."""
        with self.on_interrupt():
            return work()
        return work()

    def each(
        self,
        chunks: Iterable[Chunk],
        work: Callable[[Chunk], Part],
        name: str = "images",
        repeatable: bool = True,
    ) -> list[tuple[Chunk, Part | None]]:
        """Run ``work`` on each chunk, and return pairs (chunk, result) in order.

        The result of a chunk is None if a stop came before the chunk was finished. If memory runs
        out, the chunk and all later ones are halved until they fit.

        Args:
            chunks: Batches of images, or of positions of images.
            work: Function that is called with each chunk.
            name: Name of the call, for the progress bar.
            repeatable: Whether ``work`` may be repeated with half of a chunk when memory runs out.

        Raises:
            KeyboardInterrupt: If Ctrl-C was pressed before any chunk was finished.
            torch.OutOfMemoryError: If memory runs out with a single image.
        """
        parts: list[tuple[Chunk, Part | None]] = []
        left, outer = collections.deque(chunks), self.progress
        shared = one_shard.current() or one_shard.ShardCall()  # later shards use small batches, too
        too_large = 0
        with Progress(sum(map(len, left)), name) as bar:
            self.progress = bar
            while left:
                chunk, *others = pieces(left.popleft(), shared.largest_batch)
                left.extendleft(reversed(others))
                part: Part | None = None
                if not self.now:
                    bar.begin(len(chunk))
                    found: Part | RanOut | None = None
                    with self.on_interrupt():
                        found = within_memory(work, chunk, repeatable)
                    if isinstance(found, RanOut):
                        too_large = too_large or len(chunk)
                        shared.largest_batch = (len(chunk) + 1) // 2
                        left.appendleft(chunk)
                        continue
                    part = found
                    bar.end()
                parts.append((chunk, part))
        self.progress = outer
        if all(part is None for _, part in parts):
            raise KeyboardInterrupt
        if too_large:
            warnings.warn(
                f"batch_size: memory ran out with {too_large} images at a time, so batches of "
                f"{shared.largest_batch} were used. The results are the same. A smaller batch_size "
                "saves the time of the failed attempts.",
                stacklevel=5,
            )
        return parts

    def warn(self, done: int, count: int, rest: str) -> None:
        """Warn after Ctrl-C. The message ends with ``rest``, a text on the unfinished images.

        If the call works on one shard of a data set, the whole data set ends, and warns then.
        """
        if (call := one_shard.current()) is not None:
            call.stopped |= self.now
            call.interrupted |= self.interrupted
        elif self.interrupted:
            warnings.warn(
                f"interrupted: {done} of {count} images are finished, {rest}", stacklevel=5
            )


@dataclasses.dataclass
class Batch:
    """The images of one batch. Every tensor has one row per image."""

    index: Tensor  # positions among the images of this call
    rows: Tensor  # positions in the data set
    images: Tensor
    target: Tensor
    logits_before: Tensor  # logits of the originals


@dataclasses.dataclass
class EncodedBatch(Batch):
    """A batch with codes and reconstructions."""

    code_before: Any  # None without a space
    reconstruction: Tensor  # without a space: the originals
    logits_reconstruction: Tensor
    skip: Tensor  # bool: needs no search, because it is the target already or not finite


@dataclasses.dataclass
class Edit:
    """What a method returns for a batch: edited codes or images, and how often it evaluated
    networks.

    If neither ``code`` nor ``image`` is set, the counterfactuals are the unchanged reconstructions.

    Attributes:
        code: Edited codes. The driver decodes them.
        image: Edited images, for methods without codes.
        reached: Samples that reached the target in the search, bool (b,). If ``reached`` is None,
            only the logits of the final images decide.
        no_gradient: Samples whose gradient was zero or not finite, bool (b,).
        logits: Logits (b, k) of ``image``, from a method that has classified exactly these images.
            The driver does not classify images again if the method returns their logits.
        seen: Logits of the edited images during the search, (b, k), or NaN for images that the
            search did not classify.
        generator, classifier: Number of times that the method evaluated each network, (b,). The
            driver adds its own evaluations to the counts.
    """

    code: Code | None = None
    image: Tensor | None = None
    reached: Tensor | None = None
    no_gradient: Tensor | None = None
    logits: Tensor | None = None
    seen: Tensor | None = None
    generator: Tensor | int = 0
    classifier: Tensor | int = 0
    cost: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    trace: dict[str, Tensor] = dataclasses.field(default_factory=dict)


class Run:
    """One call of a method: splits the images into batches, and joins the results.

    Args:
        classifier, images, target, space, batch_size, on_step: Arguments of the method, which
            ``Run`` checks. If ``target`` is a goal, ``classifier`` is a model of outcomes.
        first_row: Row of the first image in its data set, or the rows of all n images, (n,).
        choose: Maps the logits of the originals to targets (b,), which replace ``target``.
        encode: Maps a batch to codes, reconstructions, and generator passes per image. If
            ``encode`` is given, the encoder of the space is not used.
        any_size: See ``CheckedSpace``.
        by_row: Whether the method classifies images by ``Run.classify``, which names their rows. If
            the target is a goal, all other methods get one image per batch, because each image
            may have a bound of its own.
        repeatable: Whether a batch may be repeated as two halves when memory runs out.

    Attributes:
        classifier, space: Checked versions of the arguments ``classifier`` and ``space``. Methods
            call these versions. If the target is a goal, ``classifier`` has the classes "not
            reached" and "reached".
        goal: The classifier of the goal, or None if the target is a class.
        images: Checked images (n, c, h, w).
        row_positions: Rows of the images in their data set, (n,).
        stop: The Stop object that says whether the call should end.
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
        by_row: bool = False,
        repeatable: bool = True,
    ) -> None:
        self.started = time.perf_counter()
        self.space: Any = None if space is None else CheckedSpace(space, any_size=any_size)
        self.goal: GoalClassifier | None = None
        if isinstance(target, Goal):  # from here on, a classifier of two classes
            self.goal = classifier = goal_classifier(classifier, target)
            target, choose = 1, None
        self.classifier = CheckedClassifier(classifier)
        self.stop = Stop(on_step)
        self.images = validate.images(images)
        self.batch_size = validate.count(batch_size, "batch_size", 1)
        if self.goal is not None and not by_row:
            self.batch_size = 1
        self.row_positions = _row_positions(first_row, len(self.images))
        if callable(target) and choose is None:
            choose = functools.partial(_chosen, target, self.classifier)
        self.target, self.choose, self.encode = target, choose, encode
        self.repeatable = repeatable
        where = self.space.mean.device if self.space else self.classifier.device
        self.device = where or self.images.device
        self.fit = SpaceFit(self.space)

    def classify(self, images: Tensor, rows: Tensor) -> Tensor:
        """Return the logits of images that belong to the given rows of the present batch.

        Args:
            images: Images (n, c, h, w).
            rows: For each image its row in the batch, (n,). A row may occur several times.
        """
        if self.goal is None:
            return self.classifier(images)
        self.goal.rows = rows
        try:
            return self.classifier(images)
        finally:
            self.goal.rows = None

    def each(
        self, work: Callable[[Batch], Counterfactuals], name: str = "images"
    ) -> list[Counterfactuals]:
        """Return ``work(batch)`` for each batch, with networks frozen in evaluation mode.

        ``name`` is the name of the method, for the progress bar.
        """

        def attempt(index: Tensor) -> Counterfactuals:
            with self.fit.kept_if_finished():
                return work(self._batch(index))

        slices = torch.arange(len(self.images)).split(self.batch_size)
        with eval_frozen(self.space, self.classifier):
            parts = self.stop.each(slices, attempt, name, self.repeatable)
        like = next(part for _, part in parts if part is not None)
        return [self._unfinished(index, like) if part is None else part for index, part in parts]

    def counterfactuals(
        self,
        edit: Callable[[EncodedBatch], Edit],
        need: Callable[[Tensor, Tensor], Tensor] = is_predicted,
        **made_by: Any,
    ) -> Counterfactuals:
        """Run the method: ``edit`` is called for each batch, and the driver does everything else.

        Args:
            edit: The method, which maps an EncodedBatch to an Edit.
            need: Maps (logits, target) to bool (b,): whether an edited image has reached the
                target.
            made_by: Name of the method and settings of the call, for the record in the result.
        """

        def work(batch: Batch) -> Counterfactuals:
            with torch.no_grad():
                encoded, renders = self._encode(batch)
            if self.goal is not None:
                self.goal.searching = True
            found = edit(encoded)
            stopped = self.stop.now
            return self.stop.finish(
                lambda: self._evaluate_edit(encoded, found, need, renders, stopped)
            )

        name = str(made_by.get("function", "images"))
        return self.join_results(self.each(work, name), **made_by)

    def _encode(self, batch: Batch) -> tuple[EncodedBatch, int]:
        """Return the batch with codes and reconstructions, and the generator passes per image."""
        start, image, logits, renders = None, batch.images, batch.logits_before, 0
        if self.space is not None:
            if self.encode is None:
                start, image = reconstruct_batch(self.space, batch.images)
                renders = 1
                self.fit.add_images(batch.images, image)
            else:
                start, image, renders = self.encode(batch)
            logits = self.classifier(image)
            self.fit.add_decisions(batch.logits_before, logits)
        skip = torch.zeros_like(batch.target, dtype=torch.bool)
        for each in (batch.logits_before, logits):
            skip |= is_predicted(each, batch.target) | (predicted(each) < 0)
        return EncodedBatch(
            **vars(batch),
            code_before=start,
            reconstruction=image,
            logits_reconstruction=logits,
            skip=skip,
        ), renders

    @torch.no_grad()
    def _evaluate_edit(
        self,
        batch: EncodedBatch,
        found: Edit,
        need: Callable[[Tensor, Tensor], Tensor],
        renders: int,
        stopped: bool,
    ) -> Counterfactuals:
        """Decode and classify the edited images, so that status and stored logits agree."""
        if self.goal is not None:
            self.goal.searching = False
            found = dataclasses.replace(found, logits=None, seen=None)  # those of the search
        with_space = batch.code_before is not None
        changed = found.code is not None or found.image is not None
        decoded_here = found.code is not None and found.image is None
        code = found.code if changed else batch.code_before
        image = batch.reconstruction if found.image is None else found.image
        if decoded_here:
            image = self.space.decode(found.code)
        elif found.code is None:
            image = torch.where(per_sample(batch.skip, image), batch.reconstruction, image)
        asked = changed and found.logits is None
        after = batch.logits_reconstruction if found.logits is None else found.logits
        if asked:
            after = self.classifier(image)
        # The last evaluation counts, so that the status of a sample agrees with the stored logits.
        reached = need(after, batch.target) & changed
        if found.reached is not None:
            reached &= found.reached
        trace = found.trace if self.goal is None else {**found.trace, **self._outcomes()}
        if found.seen is not None:
            both = found.seen.isfinite().all(1) & after.isfinite().all(1)
            warn_of_randomness(found.seen[both], after[both])
        none = torch.zeros_like(batch.target)
        spent = {
            "generator": none + found.generator + renders + int(decoded_here),
            **found.cost,
            # The originals, their reconstructions, and the edited images.
            "classifier": none + found.classifier + 1 + int(with_space) + int(asked),
        }
        return Counterfactuals(
            original=batch.images,
            image=image,
            reconstruction=batch.reconstruction,
            logits_before=batch.logits_before,
            logits_after=after,
            target=batch.target,
            status=assign_statuses(batch, reached, found.no_gradient, stopped),
            code_before=batch.code_before,
            code_after=code,
            cost=spent,
            trace=trace,
        )

    def _outcomes(self) -> dict[str, Tensor]:
        """Return the outcomes of originals and counterfactuals, and the bounds of the goal."""
        if self.goal is None or self.goal.placed is None or self.goal.values is None:
            return {}
        at = self.goal.placed
        # Without a further evaluation, the images classified last were the reconstructions.
        found = (at.start, self.goal.values, torch.stack([at.low, at.high], 1))
        return dict(zip(OUTCOMES, found, strict=True))

    def _batch(self, index: Tensor) -> Batch:
        chunk = self.images[index.to(self.images.device)].to(self.device)
        if self.goal is not None:
            self.goal.begin()
        with torch.no_grad():
            before = self.classifier(chunk)
        if self.choose is None:
            target = self._targets(before.shape[1])[index].to(self.device)
        else:
            target = self.choose(before)
        here, rows = index.to(self.device), self.row_positions[index].to(self.device)
        return Batch(here, rows, chunk, target, before)

    def with_same_goal(self, classifier: Any, name: str) -> CheckedClassifier:
        """Return another classifier, checked, or another model of outcomes with the same goal."""
        if self.goal is None:
            return CheckedClassifier(classifier, name)
        if classifier is self.goal.model:
            return self.classifier
        raise TypeError(
            f"{name}: expected None, because the target is a goal, got another model; without a "
            "goal, pass cfx.select_goal(model, goal, scale=...) as classifier"
        )

    def _targets(self, classes: int) -> Tensor:
        names = self.classifier.class_names
        return validate.labels(self.target, len(self.images), classes, names=names).cpu()

    def _unfinished(self, index: Tensor, like: Counterfactuals) -> Counterfactuals:
        """Return the result for images that the call did not start, with NaN for their logits."""
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
            status=(types.STOPPED,) * count,
            code_before=_unknown(like.code_before, count),
            code_after=_unknown(like.code_after, count),
            cost={k: v.new_zeros(count) for k, v in like.cost.items()},
        )

    def join_results(self, parts: list[Counterfactuals], **made_by: Any) -> Counterfactuals:
        """Join the results of the batches, and add the record of the call.

        Returns:
            Counterfactuals on the device of the images.

        Raises:
            ValueError: If no logits are finite, or if a decoded image is not finite.
        """
        joined = Counterfactuals.concatenate([part.to(self.images.device) for part in parts])
        whole = one_shard.current() is None  # other shards of the data set may be finite
        if whole and set(joined.status) == {types.NOT_FINITE}:
            raise ValueError(
                "classifier: expected finite logits, got NaN or infinity for the original or the "
                f"reconstruction of all {len(joined)} images"
            )
        known = torch.tensor([s != types.STOPPED for s in joined.status])
        broken = int((~finite_rows(joined.image.cpu()) & known).sum())
        if broken:
            raise ValueError(
                f"space.decode: expected finite images, got NaN or infinity for {broken} of "
                f"{len(joined)}"
            )
        left = joined.status.count(types.STOPPED)
        self.stop.warn(len(joined) - left, len(joined), "the others have the status 'stopped'")
        self.fit.warn()
        weights = self.stop.finish(self._weights)
        seconds = round(time.perf_counter() - self.started, 3)
        record = {**made_by, **self._row_record(), "weights": weights, "seconds": seconds}
        if self.classifier.class_names is not None:
            record["class_names"] = list(self.classifier.class_names)
        if self.goal is not None:
            record["goal"] = self.goal.record()
        counts = {status: joined.status.count(status) for status in dict.fromkeys(joined.status)}
        log.info(
            "%s: %d images in %.1f s: %s", record.get("function"), len(joined), seconds, counts
        )
        return dataclasses.replace(joined, made_by=record)

    def _weights(self) -> dict[str, str]:
        parts = {"space": self.space, "classifier": self.classifier}
        return {name: weights_hash(part) for name, part in parts.items() if part is not None}

    def _row_record(self) -> dict[str, Any]:
        """Return the rows of the images in their data set, as entries of the record."""
        first = int(self.row_positions[0])
        if torch.equal(self.row_positions, torch.arange(len(self.row_positions)) + first):
            return {"first_row": first}
        return {"first_row": first, "rows": self.row_positions.tolist()}


def _chosen(target: Callable[[Tensor], Any], classifier: CheckedClassifier, logits: Tensor) -> Any:
    """Return the targets that a function of the logits chooses, int64 (b,)."""
    names = classifier.class_names
    rows, classes = logits.shape
    chosen = validate.labels(target(logits.clone()), rows, classes, names=names)
    return chosen.to(logits.device)


def _row_positions(first_row: Any, count: int) -> Tensor:
    """Return the rows of the images in their data set, int64 (count,)."""
    if not isinstance(first_row, Tensor) or not first_row.ndim:
        return torch.arange(count) + validate.count(first_row, "first_row")
    return validate.labels(first_row, count, validate.LARGEST, "first_row").cpu()


def _unknown(code: Code | None, count: int) -> Code | None:
    """Return a code of NaN with ``count`` rows like those of ``code``."""
    if code is None:
        return None
    parts = [part for part in (code.z, code.aux) if part is not None]
    return Code(*(part.new_full((count, *part.shape[1:]), torch.nan) for part in parts))


def reconstruct_batch(space: CheckedSpace, images: Tensor) -> tuple[Code, Tensor]:
    """Return the codes of images, and finite reconstructions with the shape of the images."""
    start = space.encode(images)
    made = space.decode(start)
    validate.shape(made.shape, images.shape, "space.decode", "the shape of the images,")
    return start, validate.images(made, "space.decode")


def assign_statuses(
    batch: EncodedBatch, reached: Tensor, no_gradient: Tensor | None, stopped: bool
) -> tuple[str, ...]:
    """Return the status of each sample.

    If a sample needed no search, its status says why, whatever the search found.

    Args:
        reached, no_gradient: Samples that reached the target, and samples whose gradient was zero
            or not finite, bool (b,) each.
        stopped: Whether the call was stopped. After a stop, samples without another status get the
            status "stopped".
    """
    before, after = batch.logits_before, batch.logits_reconstruction
    none = torch.zeros_like(reached)
    # Later lines overwrite earlier ones.
    status = [types.STOPPED if stopped else types.NOT_FOUND] * len(reached)
    for found, name in (
        (none if stopped or no_gradient is None else no_gradient, types.NO_GRADIENT),
        (reached, types.FLIPPED),
        (is_predicted(after, batch.target), types.RECONSTRUCTION_IS_TARGET),
        (is_predicted(before, batch.target), types.ALREADY_TARGET),
        ((predicted(before) < 0) | (predicted(after) < 0), types.NOT_FINITE),
    ):
        status = [name if yes else old for yes, old in zip(found.tolist(), status, strict=True)]
    return tuple(status)
