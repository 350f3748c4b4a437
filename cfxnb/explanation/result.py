"""``Explanation``, the result of ``explain``: all results, their comparison, and the page."""

import dataclasses
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cfxnb.attacks.describe_change import FeatureAttribution
from cfxnb.attribution.result import Attribution
from cfxnb.core import validate
from cfxnb.core.result_folder import ResultFolder
from cfxnb.core.results import Counterfactuals
from cfxnb.data.imageset import ImageSet
from cfxnb.data.lazy_imageset import LazyImageSet
from cfxnb.explanation import files
from cfxnb.explanation import findings as say
from cfxnb.explanation.findings import Finding
from cfxnb.explanation.methods import Job

LARGEST_TRACE = 2  # numbers per image that ``briefly`` keeps of a trace, such as bounds of a goal
Result = Counterfactuals | ResultFolder


def parts_of(result: Result) -> Iterator[Counterfactuals]:
    """Yield the Counterfactuals of a result. A folder is read shard by shard."""
    yield from result if isinstance(result, ResultFolder) else [result]


def briefly(result: Result) -> Counterfactuals:
    """Return a result without images and codes: one black pixel stands for each image.

    What is left of 10,000 images are logits, targets, statuses and counts, about a megabyte.
    """

    def brief(part: Counterfactuals) -> Counterfactuals:
        pixel = torch.zeros(1, 1, 1, 1).expand(len(part), 1, 1, 1)
        kept = {k: v for k, v in part.trace.items() if v[:1].numel() <= LARGEST_TRACE}
        return dataclasses.replace(
            part.to("cpu"), original=pixel, image=pixel, reconstruction=pixel, code_before=None,
            code_after=None, trace=kept,
        )  # fmt: skip

    return Counterfactuals.concatenate([brief(part) for part in parts_of(result)])


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """Counterfactuals by several methods, their comparison, and warnings for the reader.

    Attributes:
        title: The question.
        images: The explained images, with labels and factors: an ImageSet, or a LazyImageSet that
            reads them when they are used.
        rows: Row of each explained image in the data set, int64 (n,).
        target: Class to reach, (n,). If the target is a goal, all are 1, the class "reached".
        results: By the name of the method, its Counterfactuals. If the call had an ``output_dir``,
            they are folders of results instead, see ``cfx.open``: ``folder[:]`` reads all, and
            ``folder[0:8]`` reads some.
        table: The table of ``cfx.report`` with 95 % intervals, one row per method. Its numbers are
            over all explained images.
        findings: What a reader should know, each a Finding with ``kind`` ("warning" or "note") and
            ``text``.
        shown: Positions of the images on the page among the explained images, int64 (m,). The page
            shows at most 24, which are evenly spread over all.
        heat_maps: Contribution of each pixel to the change of the decision by the first method that
            flipped something, for the images on the page; None if no image was flipped.
        changes: How much each factor changed, from ``cfx.describe_change``; None without factors.
        judged: For each method, whether the judge sees the target, bool (n,). Empty without a
            judge.
        class_names: Names of the classes. For a goal: "not reached", and the goal in words.
        about: Pairs (name, text) that describe the data and the networks.
        jobs: Dict from the name of each method to its Job, which describes it.
    """

    title: str
    images: ImageSet | LazyImageSet
    rows: np.ndarray
    target: Tensor
    results: dict[str, Result]
    table: pd.DataFrame
    findings: tuple[Finding, ...]
    shown: np.ndarray
    heat_maps: Attribution | None
    changes: FeatureAttribution | None
    judged: dict[str, Tensor]
    class_names: tuple[str, ...]
    about: tuple[tuple[str, str], ...]
    jobs: dict[str, Job]

    def __post_init__(self) -> None:
        validate.fields(self)

    @functools.cached_property
    def brief(self) -> dict[str, Counterfactuals]:
        """The results without images and codes, see ``briefly``."""
        return {name: briefly(each) for name, each in self.results.items()}

    @functools.cached_property
    def samples(self) -> dict[str, Counterfactuals]:
        """The results of the images on the page."""
        return {name: each[self.shown].to("cpu") for name, each in self.results.items()}

    @property
    def warnings(self) -> list[str]:
        """The texts of all findings that are warnings."""
        return [each.text for each in self.findings if each.kind == say.WARNING]

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per image and method: classes, status, probability, judge."""
        return files.per_image(self)

    def html(self) -> str:
        """Return the page as one HTML text that needs no other file."""
        from cfxnb.explanation.page import page  # drawing is needed only here

        return page(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page and all data to a folder, and return the path of the page.

        The folder gets ``index.html``, the tables ``methods.csv``, ``images.csv`` and
        ``findings.csv``, all results in ``results``, and in ``images`` the images that the page
        shows, as PNG files. If the call had an ``output_dir``, each result is a folder that
        ``cfx.open`` opens. Otherwise it is a file that ``cfx.Counterfactuals.load`` reads.

        Args:
            path: The folder, which is made if it is missing. The folder must be empty, or hold an
                earlier page, whose files are replaced.

        Raises:
            ValueError, TypeError: If the folder cannot be written.
        """
        return files.save(self, files.checked_place(path, "path"), name="path")

    def __repr__(self) -> str:
        count = sum(each.kind == say.WARNING for each in self.findings)
        return (
            f"Explanation({len(self.images)} images, {len(self.results)} methods, {count} warnings)"
        )

    def _repr_html_(self) -> str:
        from cfxnb.explanation.page import summary

        return summary(self)
