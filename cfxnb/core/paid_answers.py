"""Query a classifier so that every answer is paid for once, and kept."""

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.classifiers import as_classifier, class_names_of, unchecked_call, watch_of
from cfxnb.core.kept_work import CheckpointDir, differ, other_part, sketch
from cfxnb.core.outcomes import outcomes_of
from cfxnb.core.warn import ProbabilityWatch

ASKED, ANSWERED = ".pending", ".safetensors"
REMEDY = "begin with an empty folder"
N_COMPARED = 4  # images that are queried again, to recognise the classifier
SAME_IMAGES = 1e-3  # images from another processor may differ by this fraction of their std
SMALLEST_ROOM = 4096  # bytes per image that must be free before a query


class PaidAnswers(validate.BlackBoxed):
    """A black box around a classifier, or around a regression model, with a log of its answers.

    Methods that draw their random numbers from seeds repeat the same calls when they are run
    again. So the log holds the calls in order. A call that is in the log gets its stored answer,
    and the first call that is not in the log is the first one that the classifier is queried for.

    A record of each call is written before the query, and the answer right after it. If a process
    dies in between, this answer was paid for and never arrived. It is queried again, and counted
    in ``lost``.

    Args:
        classifier: Classifier or regression model.
        folder: Folder of the log, or None to store nothing. The folder is locked until ``close``.
        identity: All settings on which the calls depend. A folder with other settings is refused.
        weights: Hash of the weights, which is recorded.

    Attributes:
        n_queries: Images for which the classifier was queried by this object.
        n_lost: Images whose first answer was lost.
        lost_calls: Number of calls of this object whose first answer was lost.
        n_compared: Images that were queried again, to recognise the classifier.

    Raises:
        ValueError: If the folder cannot be used, or belongs to other work.
    """

    def __init__(
        self,
        classifier: Any,
        folder: Path | None,
        identity: dict[str, Any],
        weights: str = "",
    ) -> None:
        self.outcomes = outcomes_of(classifier)
        self.classifier = classifier if self.outcomes is not None else as_classifier(classifier)
        self.class_names = class_names_of(self.classifier)
        self.device = getattr(self.classifier, "device", None)
        inside = watch_of(self.classifier)
        self._own = inside is None
        # No query is made only to find out whether an output is a probability.
        known = ProbabilityWatch("classifier", needed=self.outcomes is None)
        self._watch = known if inside is None else inside
        self.n_queries = self.n_lost = self.lost_calls = self.n_compared = self._number = 0
        self.kept = (
            None if folder is None else CheckpointDir(folder, "queries.json", identity, weights)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.kept is not None:
            self.kept.close()

    @property
    def module(self) -> Any:
        """The torch module inside the classifier, or None."""
        return getattr(self.classifier, "module", None)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        self._number += 1
        if self.kept is None:
            return self._ask(images)
        name, key = f"call{self._number:07d}", sketch(images)
        if self.kept.has(name + ANSWERED):
            return self._stored(name, key, images)
        lost = 0
        if self.kept.has(name + ASKED):
            lost = int(self.kept.read(name + ASKED, REMEDY)["attempts"])
            self._count_lost(lost, len(images))
        self.kept.reserve(len(images) * SMALLEST_ROOM)
        self.kept.write(name + ASKED, {"attempts": torch.tensor(lost + 1)})
        answers = self._ask(images)
        self.kept.release()
        record = {"key": key, "answers": answers, "lost": torch.tensor(lost)}
        self.kept.write(name + ANSWERED, record)
        self.kept.remove(name + ASKED)
        return answers

    def _stored(self, name: str, key: Tensor, images: Tensor) -> Tensor:
        """Return the stored answers of a call, which must be about these images."""
        if self.kept is None:
            raise RuntimeError("without a folder no answers are stored")
        found = self.kept.read(name + ANSWERED, REMEDY)
        if differ(key, found["key"], tolerance=SAME_IMAGES):
            raise other_part("space", self.kept.folder)
        self._count_lost(int(found["lost"]), len(images))
        answers: Tensor = found["answers"]
        if self._number == 1:
            few = images[:N_COMPARED]
            self.n_compared += len(few)
            if differ(self._ask(few).cpu(), answers[: len(few)], among=answers):
                raise other_part("classifier", self.kept.folder)
        return answers.to(images.device)

    def _count_lost(self, calls: int, images: int) -> None:
        self.lost_calls += calls
        self.n_lost += calls * images

    def _ask(self, images: Tensor) -> Tensor:
        self.n_queries += len(images)
        found = validate.tensor_of(unchecked_call(self.classifier)(images), "classifier")
        answers: Tensor = validate.instance(found, Tensor, "classifier", "a torch tensor").detach()
        if not validate.is_plain(answers):
            came = f"{answers.layout} on {answers.device}"
            raise TypeError(f"classifier: expected ordinary tensors, got {came}")
        if self._own and answers.ndim == 2 and answers.is_floating_point():
            self._watch.see(answers)
        return answers
