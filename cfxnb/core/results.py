"""Counterfactuals, the result that every method returns."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cfxnb.core import image_files, results_file, validate
from cfxnb.core.outcomes import OUTCOMES, record_of_goal
from cfxnb.core.results_file import TENSORS
from cfxnb.core.saved import Result, cost_columns, image_index
from cfxnb.core.tensors import positions, predicted
from cfxnb.core.types import ALREADY_TARGET, FLIPPED, NOT_FINITE, STATUSES, STOPPED, Code


@dataclasses.dataclass(frozen=True, eq=False)
class Counterfactuals(Result):
    """Images, their counterfactuals, and how they were found. Every tensor has one row per image.

    Images that a stopped call did not start have the status "stopped". For images that were not
    started, ``image`` is the original, and logits and codes are NaN.

    Attributes:
        original, image, reconstruction: The n inputs, their counterfactuals, and their
            reconstructions by the space, (n, c, h, w) in [0, 1]. For methods without a space the
            reconstructions are the originals.
        logits_before, logits_after: Logits of ``original`` and of ``image``, (n, k) for k classes.
        target: Class to reach, (n,).
        status: One of ``cfxnb.core.types.STATUSES`` per image.
        code_before, code_after: Codes of ``reconstruction`` and of ``image``. For methods without a
            space, ``code_before`` and ``code_after`` are None.
        cost: Network evaluations per image, a dict of tensors (n,). The entries ``generator`` and
            ``classifier`` count forward and backward passes of the generator and of the classifier.
        made_by: Record of the call: function, arguments, seed, hashes of the weights, seconds.
        trace: What the method recorded during the search, a dict of tensors (n, ...). The docstring
            of the method describes the entries of ``trace``.
    """

    original: Tensor
    image: Tensor
    reconstruction: Tensor
    logits_before: Tensor
    logits_after: Tensor
    target: Tensor
    status: tuple[str, ...]
    code_before: Code | None = None
    code_after: Code | None = None
    cost: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    made_by: dict[str, Any] = dataclasses.field(default_factory=dict)
    trace: dict[str, Tensor] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = validate.instance(self.original, Tensor, "original", "a torch tensor").shape[:1]
        if not isinstance(self.status, tuple) or (rows and rows[0] != len(self.status)):
            came = validate.describe(self.status)
            raise ValueError(f"status: expected a tuple with one for each image, got {came}")
        results_file.check_layout(_fields(self))

    @property
    def flipped(self) -> Tensor:
        """Whether the target was reached with the required confidence, bool (n,)."""
        return torch.tensor([s == FLIPPED for s in self.status], dtype=torch.bool, device="cpu")

    @property
    def eligible(self) -> Tensor:
        """Whether a flip was possible and the search was finished, bool (n,).

        Images with the status "already_target", "stopped" or "not_finite" are not eligible."""
        nothing = (ALREADY_TARGET, STOPPED, NOT_FINITE)
        return torch.tensor([s not in nothing for s in self.status], dtype=torch.bool, device="cpu")

    @property
    def confidence(self) -> Tensor:
        """Probability of the target after the change, (n,)."""
        target = self.target[:, None].to(self.logits_after.device)
        return self.logits_after.softmax(1).gather(1, target)[:, 0]

    @property
    def outcomes(self) -> pd.DataFrame:
        """Outcomes of the images in the units of the model, if the target was a goal.

        One row per image, with the columns ``before`` and ``after``, ``low`` and ``high`` (the
        bounds of the goal, infinite where there is none), ``distance`` (from the outcome after the
        change to the goal, 0 if the goal is reached), and ``status``. ``attrs`` of the table holds
        the goal in words and the units. For a goal from ``cfx.score``, outcomes are scores.

        Raises:
            ValueError: If the target was a class.
        """
        if not set(OUTCOMES) <= self.trace.keys():
            raise ValueError(
                "outcomes: expected a result with a goal as target, such as cfx.raise_to(0.8), got "
                f"one by {self.made_by.get('function', '?')} with classes as targets"
            )
        before, after, goal = (self.trace[name].detach().cpu() for name in OUTCOMES)
        low, high = goal.double().unbind(1)
        distance = torch.maximum(low - after, after - high).clamp_min(0)
        columns = {"before": before, "after": after, "low": low, "high": high, "distance": distance}
        table = pd.DataFrame({name: value.double().numpy() for name, value in columns.items()})
        record = record_of_goal(self.made_by) or {}
        table.attrs = {"goal": record.get("text", ""), "units": record.get("units", "")}
        return table.assign(status=list(self.status))

    def __len__(self) -> int:
        return len(self.original)

    def __getitem__(
        self, rows: int | slice | Sequence[int] | np.ndarray | Tensor
    ) -> "Counterfactuals":
        """Return a result with the selected rows, in the order in which ``rows`` names them.

        A single position gives a result of length 1.
        """
        index = positions(rows, len(self), f"a result with {len(self)} counterfactuals")
        status = tuple(self.status[i] for i in index.tolist())
        return self._changed(lambda part: part[index], status=status)

    def to(self, device: torch.device | str) -> "Counterfactuals":
        """Return a copy of the result with all tensors on another device."""
        device = validate.named_device(device)
        return self._changed(lambda part: part.to(device))

    def _changed(self, change: Callable[[Any], Any], **fields: Any) -> "Counterfactuals":
        """Return a copy of the result in which ``change`` was applied to each tensor and code."""
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in TENSORS}
        for name in ("code_before", "code_after"):
            code = getattr(self, name)
            changed[name] = None if code is None else change(code)
        return dataclasses.replace(
            self,
            **changed,
            cost={k: change(v) for k, v in self.cost.items()},
            trace={k: change(v) for k, v in self.trace.items()},
            **fields,
        )

    @staticmethod
    def concatenate(parts: "Sequence[Counterfactuals]") -> "Counterfactuals":
        """Join several results into one, in the order of the list ``parts``."""
        if isinstance(parts, Counterfactuals) or not isinstance(parts, Sequence):
            raise TypeError(f"parts: expected a list of results, got {type(parts).__name__}")
        if not parts:
            raise ValueError("parts: expected at least one result, got none")
        if wrong := [p for p in parts if not isinstance(p, Counterfactuals)]:
            raise TypeError(f"parts: expected Counterfactuals, got {type(wrong[0]).__name__}")
        if len({p.image.device for p in parts}) > 1:
            raise ValueError("parts: expected results on one device; move them by .to(device)")
        first = parts[0]
        return Counterfactuals(
            **{n: _join([getattr(p, n) for p in parts]) for n in TENSORS},
            status=sum((p.status for p in parts), ()),
            code_before=_join_codes([p.code_before for p in parts]),
            code_after=_join_codes([p.code_after for p in parts]),
            cost={
                k: torch.cat([p.cost[k] for p in parts])
                for k in first.cost
                if all(k in p.cost for p in parts)
            },
            made_by=_join_records([p.made_by for p in parts]),
            trace=_join_traces(parts),
        )

    def __add__(self, other: "Counterfactuals") -> "Counterfactuals":
        if not isinstance(other, Counterfactuals):
            raise TypeError(f"other: expected Counterfactuals, got {type(other).__name__}")
        return self.concatenate([self, other])

    def __repr__(self) -> str:
        counts = {s: self.status.count(s) for s in STATUSES if s in self.status}
        text = ", ".join(f"{n} {s}" for s, n in counts.items())
        return f"Counterfactuals({len(self)} by {self.made_by.get('function', '?')}: {text})"

    def _repr_html_(self) -> str:
        from cfxnb.plots.pictures import html_strip  # results show themselves; plots read results

        return html_strip(self)

    def save(self, path: str | os.PathLike) -> Path:
        """Write the result to a safetensors file, and return the path of the file.

        Args:
            path: Path of the file. The ending ``.safetensors`` is added if it is missing. Missing
                folders are created, and ``~`` stands for the home folder. If writing fails, an
                existing file at ``path`` is kept.

        Raises:
            ValueError, TypeError: If the file cannot be written, or if a field is not valid. The
                error message names the path or the field.
        """
        return results_file.write(_fields(self), path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read a result that ``save`` wrote.

        Args:
            path: Path of the file.

        Raises:
            ValueError, TypeError: If the file does not exist, is damaged or altered, or holds no
                result.
        """
        return cls(**results_file.read(path))

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per image, whose index is the position in the result.

        Columns:

        - ``status``, ``flipped``, ``target``: as the attributes.
        - ``class before``, ``class after``: predicted classes of original and counterfactual, or -1
          if the logits are not finite.
        - ``confidence``: probability of the target after the change.
        - ``L1``, ``L2``: distance between original and counterfactual: the sum of the absolute
          differences, and the square root of the sum of the squared differences.
        - ``outcome ...``: the columns of ``outcomes``, if the target was a goal.
        - ``... passes``: evaluations of each network.
        - ``trace ...``: entries of ``trace`` that hold one number per image.

        If the record of the call has class names, ``target``, ``class before`` and ``class after``
        are followed by columns with the names of the classes, such as ``target name``.
        """
        names = validate.recorded_names(self.made_by)
        before, after = predicted(self.logits_before), predicted(self.logits_after)
        columns: dict[str, Any] = {"status": list(self.status), "flipped": self.flipped.numpy()}
        classes = (("target", self.target), ("class before", before), ("class after", after))
        for column, numbers in classes:
            columns[column] = numbers.detach().cpu().numpy()
            if names is not None:
                known = [names[c] if 0 <= c < len(names) else None for c in numbers.tolist()]
                columns[f"{column} name"] = known
        change = (self.image.to(self.original.device) - self.original).detach().cpu().flatten(1)
        columns["confidence"] = self.confidence.detach().cpu().numpy()
        columns["L1"] = change.abs().sum(1).numpy()
        columns["L2"] = change.norm(dim=1).numpy()
        columns |= cost_columns(self.cost)
        if set(OUTCOMES) <= self.trace.keys():
            goal = self.outcomes.drop(columns="status").add_prefix("outcome ")
            columns |= {str(name): values.to_numpy() for name, values in goal.items()}
        scalars = {k: v for k, v in self.trace.items() if v.ndim == 1 and k not in OUTCOMES}
        columns |= {f"trace {k}": v.detach().cpu().numpy() for k, v in scalars.items()}
        return pd.DataFrame(columns, index=image_index(len(self)))

    def save_images(self, output_dir: str | os.PathLike, *, overwrite: bool = False) -> list[Path]:
        """Write the images as PNG files with 8 bits per value, and return the paths of the files.

        For image 12 the names are ``000012_original.png``, ``000012_reconstruction.png``,
        ``000012_counterfactual.png`` and ``000012_difference.png``. The number is the position in
        the result. The difference is counterfactual - reconstruction, summed over the channels: 1
        is purple, 0 white, -1 orange, as in ``cfx.show``. For methods without a space there is no
        reconstruction, and the difference is taken to the original.

        Args:
            output_dir: Folder of the files, which is created if it does not exist.
            overwrite: If True, existing files of these names are replaced. Default: False.

        Raises:
            ValueError, TypeError: If ``output_dir`` cannot be written to, or already has a file of
                one of the names.
        """
        parts = {"original": self.original, "counterfactual": self.image}
        if not torch.equal(self.reconstruction, self.original):
            parts["reconstruction"] = self.reconstruction
        change = (self.image - self.reconstruction).sum(1)

        def pixels_of(images: Tensor) -> Callable[[int], np.ndarray]:
            return lambda i: image_files.pixels(images[i])

        drawn = {kind: pixels_of(images) for kind, images in parts.items()}
        drawn["difference"] = lambda i: image_files.signed_map(change[i], 1.0)
        return image_files.save_images(output_dir, drawn, len(self), overwrite=overwrite)


def _fields(cf: Counterfactuals) -> dict[str, Any]:
    return {field.name: getattr(cf, field.name) for field in dataclasses.fields(cf)}


def _join(tensors: list[Tensor]) -> Tensor:
    shapes = {t.shape[1:] for t in tensors}
    if len(shapes) > 1:
        raise ValueError(f"parts: expected results of one shape, got {sorted(map(tuple, shapes))}")
    return torch.cat(tensors)


def _join_codes(codes: list[Code | None]) -> Code | None:
    present = [c for c in codes if c is not None]
    if len(present) < len(codes):
        return None
    aux = [c.aux for c in present if c.aux is not None]
    return Code(_join([c.z for c in present]), _join(aux) if len(aux) == len(present) else None)


def _join_traces(parts: Sequence[Counterfactuals]) -> dict[str, Tensor]:
    """Join the traces of all results, the tensors that methods recorded during the search.

    If a result lacks a trace that others have, the rows of this result are filled with NaN, False
    or 0. A trace that has different numbers of steps in two results is left out.
    """
    joined = {}
    for name in {name: None for part in parts for name in part.trace}:
        traces = [part.trace.get(name) for part in parts]
        known = [t for t in traces if t is not None]
        if len({t.shape[1:] for t in known}) == 1:
            like, fill = known[0], torch.nan if known[0].is_floating_point() else 0
            lacking = [like.new_full((len(p), *like.shape[1:]), fill) for p in parts]
            filled = zip(lacking, traces, strict=True)
            joined[name] = torch.cat([nothing if t is None else t for nothing, t in filled])
    return joined


def _join_records(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one record for joined results, with the entry ``parts`` if the records are unequal.

    Records count as equal if they differ only in ``seconds`` and ``first_row``, as for several
    parts of a data set. Equal records become one record with the sum of the seconds and the first
    ``first_row``.
    """
    own = ("seconds", "first_row")
    stripped = [{k: v for k, v in r.items() if k not in own} for r in records]
    if any(r != stripped[0] for r in stripped):
        records = [part for r in records for part in r.get("parts", [r])]  # a sum of sums is flat
        return {"function": " + ".join(str(r.get("function")) for r in records), "parts": records}
    common = {k: v for k, v in records[0].items() if k != "seconds"}
    if "seconds" not in records[0]:
        return common
    return {**common, "seconds": round(sum(r["seconds"] for r in records), 3)}
