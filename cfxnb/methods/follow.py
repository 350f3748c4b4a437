"""One direction on a whole data set: the smallest step along it that flips each decision."""

import time

import torch
from torch import Tensor

from cfxnb import validate
from cfxnb.methods.paths import heading
from cfxnb.methods.search import log_odds
from cfxnb.methods.tasks import Task, fingerprint, finish, is_predicted, rebuild, statuses, tasks
from cfxnb.results import Counterfactuals
from cfxnb.tensors import in_spreads, noise_like, norms, per_sample, typical_distance, undisturbed
from cfxnb.types import Classifier, Code, LatentSpace, OnStep, Step


def follow(
    space: LatentSpace,
    classifier: Classifier,
    images: Tensor,
    direction: Tensor,
    target: int | Tensor | None = None,
    *,
    reach: float | None = None,
    looks: int = 8,
    halvings: int = 4,
    noise: int | None = None,
    batch: int = 64,
    on_step: OnStep | None = None,
) -> Counterfactuals:
    """Walk every code along one direction, both ways, to the first place that shows the target.

    Black-box: the classifier is only asked. Global Counterfactual Directions (arXiv 2404.12488)
    looks at fixed lengths of the sense that a sign rule names; here both are tried, the step is
    bisected, and a reconstruction that flips by itself is told apart.

    Args:
        direction: like ``space.center``; neither sign nor length matter.
        target: class to reach, one for all or one a sample (b,). None: with two classes, the
            other one than that which is predicted.
        reach: longest step, in spreads. By default sqrt(d / 2), with d coordinates that carry
            anything: half the typical distance between the codes of two images. Farther on, a code
            is nearer to some other image's, and most directions flip something.
        looks: evenly spaced renders along the reach, in each sense that is walked: first the one
            that raises the target's log odds more at the first look; the other if that fails.
        halvings: bisections of the stretch in which the decision flips, one render each.
        noise: seed of a random stochastic code for each image, from (seed, row), in place of the
            image's own: another seed, another answer, unless the space has no such code. None
            keeps its own.
        batch: images worked on together; bounds the memory, never changes a result.
        on_step: called with a Step after each look; returning True ends the walk there: what
            has flipped is still bisected.

    Returns:
        Counterfactuals. What is not flipped ends at the far end of the second walk.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    began = time.perf_counter()
    validate.space(space)
    validate.function(classifier, "classifier")
    images = validate.images(images)
    step = _upright(heading(space, direction, len(images)))
    if reach is None:
        reach = typical_distance(space.spread) / 2
    knobs = {
        "reach": validate.number(reach, "reach", 0.0, open_low=True),
        "looks": validate.count(looks, "looks", 1),
        "halvings": validate.count(halvings, "halvings"),
        "noise": validate.optional(validate.count, noise, "noise"),
    }
    validate.on_step(on_step)
    parts = []
    with undisturbed(space, classifier), torch.no_grad():
        chosen = 0 if target is None else target
        for task in tasks(classifier, images, chosen, batch, space.center.device):
            if target is None:
                task.target = _other(task.before)
            walk = Walk(space, classifier, task, step[task.rows], knobs)
            parts.append(walk.run(on_step))
    weights = {"space": fingerprint(space), "classifier": fingerprint(classifier)}
    return finish(parts, images.device, began, method="follow", **knobs, weights=weights)


def _upright(step: Tensor) -> Tensor:
    """Largest coordinate positive: where both senses look alike, the given sign must not tell."""
    flat = step.flatten(1)
    largest = flat.gather(1, flat.abs().argmax(1, keepdim=True))
    return step * per_sample(largest.sign()[:, 0], step)


def _other(logits: Tensor) -> Tensor:
    if logits.shape[1] != 2:
        raise ValueError(f"target: expected a class out of {logits.shape[1]}, got None")
    return 1 - logits.argmax(1)


def _rebuild(space: LatentSpace, task: Task, noise: int | None) -> tuple[Code, Tensor]:
    """Codes, perhaps with a random rest, and what they look like."""
    if noise is None:
        return rebuild(space, task.images)
    code = validate.instance(space.encode(task.images), Code, "space.encode", "a cfx.Code")
    if code.rest is not None:
        code = Code(code.z, noise_like(code.rest, noise, task.rows))
    return code, validate.images(space.decode(code), "space.decode")


class Walk:
    """One chunk of images; a sample that has arrived leaves, whatever its mates do."""

    def __init__(
        self, space: LatentSpace, classifier: Classifier, task: Task, step: Tensor, knobs: dict
    ) -> None:
        self.space, self.classifier, self.task = space, classifier, task
        self.step, self.knobs = step, knobs
        self.start, self.reconstruction = _rebuild(space, task, knobs["noise"])
        count = len(task.rows)
        self.place = torch.zeros(count, device=step.device)  # signed, in reaches
        self.passed = torch.zeros(count, dtype=torch.bool, device=step.device)
        self.renders = torch.ones(count, dtype=torch.int64, device=step.device)
        self.stopped = False

    def code(self, rows: Tensor, place: Tensor) -> Code:
        z = self.start.z[rows]
        return self.start[rows].at(z + per_sample(self.knobs["reach"] * place, z) * self.step[rows])

    def odds(self, rows: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Log odds of the targets at signed places, and whether they are predicted."""
        self.renders[rows] += 1
        logits = self.classifier(self.space.decode(self.code(rows, place)))
        target = self.task.target[rows]
        return log_odds(logits, target), is_predicted(logits, target)

    def run(self, on_step: OnStep | None) -> Counterfactuals:
        rebuilt = self.classifier(self.reconstruction)
        target = self.task.target
        moot = is_predicted(self.task.before, target) | is_predicted(rebuilt, target)
        rows = (~moot).nonzero()[:, 0]
        if len(rows):
            self._both_ways(rows, on_step)
        everyone = torch.arange(len(target), device=rows.device)
        code = self.code(everyone, self.place)
        image = self.space.decode(code)
        return Counterfactuals(
            original=self.task.images,
            image=image,
            reconstruction=self.reconstruction,
            before=self.task.before,
            after=self.classifier(image),
            target=target,
            status=statuses(self.task, self.passed, reconstruction=rebuilt),
            start=self.start,
            code=code,
            cost={"generator": self.renders + 1, "classifier": self.renders + 2},
        )

    def _both_ways(self, rows: Tensor, on_step: OnStep | None) -> None:
        first = torch.full((len(rows),), 1 / self.knobs["looks"], device=rows.device)
        there, back = self.odds(rows, first), self.odds(rows, -first)
        up = there[0] >= back[0]
        better = [torch.where(up, a, b) for a, b in zip(there, back, strict=True)]
        other = [torch.where(up, b, a) for a, b in zip(there, back, strict=True)]
        sense = torch.where(up, 1.0, -1.0)
        self._along(rows, sense, better, 0, on_step)
        left = ~self.passed[rows]
        again = [seen[left] for seen in other]
        self._along(rows[left], -sense[left], again, self.knobs["looks"], on_step)
        self._bisect()

    def _along(
        self, rows: Tensor, sense: Tensor, first: list[Tensor], told: int, on_step: OnStep | None
    ) -> None:
        """Look by look outwards; what the first look has ``first`` shown is known.

        Args:
            told: looks before these, for ``on_step``.
        """
        looks = self.knobs["looks"]
        for look in range(1, looks + 1):
            if not len(rows) or self.stopped:
                return
            place = sense * (look / looks)
            odds, seen = first if look == 1 else self.odds(rows, place)
            self.place[rows] = place
            self.passed[rows] = seen
            if on_step is not None:
                z, p = self.code(rows, place).z, odds.sigmoid()
                step = Step(told + look, 2 * looks, self.task.rows[rows], z, p, ~seen)
                self.stopped = bool(on_step(step))
            rows, sense = rows[~seen], sense[~seen]

    def _bisect(self) -> None:
        rows = self.passed.nonzero()[:, 0]
        far = self.place[rows]
        near = far - far.sign() / self.knobs["looks"]
        for _ in range(self.knobs["halvings"] if len(rows) else 0):
            middle = (near + far) / 2
            _, ok = self.odds(rows, middle)
            near, far = torch.where(ok, near, middle), torch.where(ok, middle, far)
        self.place[rows] = far


def step_lengths(space: LatentSpace, result: Counterfactuals) -> Tensor:
    """How far each code was moved, in spreads, (n,).

    Raises:
        TypeError: for a result without codes.
    """
    start, code = validate.codes(result, "result")
    return norms(in_spreads(code.z - start.z, space.spread))
