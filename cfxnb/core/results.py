"""Counterfactuals: the frozen result that every method returns."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfxnb.core import results_file, validate
from cfxnb.core.tensors import positions
from cfxnb.core.types import ALREADY_TARGET, FLIPPED, NOT_FINITE, STATUSES, STOPPED, Code

_IMAGES = ("original", "image", "reconstruction")
_LOGITS = ("logits_before", "logits_after")


@dataclasses.dataclass(frozen=True, eq=False)
class Counterfactuals:
    """Images, their counterfactuals, and how those were found; one row a sample.

    Samples with the status "stopped" that were never begun keep the original as ``image``; their
    logits and codes are NaN.

    Attributes:
        original, image, reconstruction: (n, c, h, w) in [0, 1]: the input, its counterfactual,
            and what the space makes of the input without any change (the input itself for
            methods without a space).
        logits_before, logits_after: logits of ``original`` and of ``image``, (n, k).
        target: the class asked for, (n,).
        status: one of ``cfxnb.core.types.STATUSES`` a sample.
        code_before, code_after: codes of ``reconstruction`` and ``image``; None for methods without a space.
        cost: network evaluations spent on each sample, (n,) each: ``generator`` (forward and
            backward passes both count 1), ``classifier``.
        trace: what a method tells of its way, one row a sample, (n, ...) each; its docstring says
            what is in it.
        made_by: function, arguments, seed, weights, seconds.
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
        for name in (*_IMAGES, *_LOGITS, "target"):
            value = validate.instance(getattr(self, name), Tensor, name, "a torch tensor")
            dims = 4 if name in _IMAGES else 2 if name in _LOGITS else 1
            floats = value.is_floating_point()
            if value.ndim != dims or value.layout != torch.strided or floats != (dims > 1):
                raise ValueError(
                    f"{name}: expected {'floats' if dims > 1 else 'int64'} with {dims} axes, got "
                    f"{value.dtype} of shape {tuple(value.shape)}"
                )
            if len(value) != len(self.original):
                raise ValueError(f"{name}: expected {len(self.original)} rows, got {len(value)}")
        if not isinstance(self.status, tuple) or len(self.status) != len(self.original):
            raise ValueError(
                f"status: expected one for each of {len(self.original)} rows, got "
                f"{validate.describe(self.status)}"
            )
        for name, code in (("code_before", self.code_before), ("code_after", self.code_after)):
            if code is not None and len(validate.instance(code, Code, name)) != len(self.original):
                raise ValueError(f"{name}: expected {len(self.original)} rows, got {len(code)}")
        for name, kept in (("cost", self.cost), ("trace", self.trace)):
            for key, value in validate.instance(kept, dict, name).items():
                shape = validate.instance(value, Tensor, f"{name}[{key!r}]", "a tensor").shape
                if shape[:1] != (len(self.original),):
                    raise ValueError(
                        f"{name}[{key!r}]: expected {len(self.original)} rows, got shape "
                        f"{tuple(shape)}"
                    )
        results_file.check_record(self.made_by)

    @property
    def flipped(self) -> Tensor:
        """True where the target was reached, bool (n,)."""
        return torch.tensor([s == FLIPPED for s in self.status], device="cpu")

    @property
    def eligible(self) -> Tensor:
        """True where there was something to flip, and the search was finished, bool (n,).

        Not counted: originals that are the target already, and the statuses "stopped" and
        "not_finite".
        """
        nothing = (ALREADY_TARGET, STOPPED, NOT_FINITE)
        return torch.tensor([s not in nothing for s in self.status], device="cpu")

    @property
    def confidence(self) -> Tensor:
        """Probability of the target after the change, (n,)."""
        return self.logits_after.softmax(1).gather(
            1, self.target[:, None].to(self.logits_after.device)
        )[:, 0]

    def __len__(self) -> int:
        return len(self.original)

    def __getitem__(
        self, rows: int | slice | Sequence[int] | np.ndarray | Tensor
    ) -> "Counterfactuals":
        """The chosen rows, in that order (an int gives a result of length one)."""
        index = positions(rows, len(self), f"a result with {len(self)} counterfactuals")
        tensors = {name: getattr(self, name)[index] for name in (*_IMAGES, *_LOGITS, "target")}
        return dataclasses.replace(
            self,
            **tensors,
            status=tuple(self.status[i] for i in index.tolist()),
            code_before=None if self.code_before is None else self.code_before[index],
            code_after=None if self.code_after is None else self.code_after[index],
            cost={k: v[index] for k, v in self.cost.items()},
            trace={k: v[index] for k, v in self.trace.items()},
        )

    def to(self, device: torch.device | str) -> "Counterfactuals":
        """The same on another device."""
        device = validate.named_device(device)
        tensors = {n: getattr(self, n).to(device) for n in (*_IMAGES, *_LOGITS, "target")}
        return dataclasses.replace(
            self,
            **tensors,
            code_before=None if self.code_before is None else self.code_before.to(device),
            code_after=None if self.code_after is None else self.code_after.to(device),
            cost={k: v.to(device) for k, v in self.cost.items()},
            trace={k: v.to(device) for k, v in self.trace.items()},
        )

    @staticmethod
    def concatenate(parts: "Sequence[Counterfactuals]") -> "Counterfactuals":
        """One result out of several of the same kind, in their order."""
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
            **{n: _join([getattr(p, n) for p in parts]) for n in (*_IMAGES, *_LOGITS, "target")},
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
        told = ", ".join(f"{n} {s}" for s, n in counts.items())
        return f"Counterfactuals({len(self)} by {self.made_by.get('function', '?')}: {told})"

    def _repr_html_(self) -> str:
        from cfxnb.plots.pictures import html_strip  # results show themselves; plots read results

        return html_strip(self)

    def save(self, path: str | os.PathLike) -> Path:
        """Write ``path``, with ``.safetensors`` added unless it ends so; return where.

        The file can be read without running any code. ``~`` stands for the home folder, and folders
        on the way are created. If anything fails, a file that was there before is still whole.

        Raises:
            ValueError, TypeError: if the file can't be written (the message names ``path`` and the
                cause), or if a field is not what a result has.
        """
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return results_file.write(fields, path)

    @staticmethod
    def load(path: str | os.PathLike) -> "Counterfactuals":
        """Read what ``save`` wrote.

        Raises:
            ValueError, TypeError: if there is no such file, or if it is damaged, was altered, or
                holds anything else; the message names ``path`` and the field.
        """
        return Counterfactuals(**results_file.read(path))


def _join(tensors: list[Tensor]) -> Tensor:
    shapes = {t.shape[1:] for t in tensors}
    if len(shapes) > 1:
        raise ValueError(f"parts: expected results of one shape, got {sorted(map(tuple, shapes))}")
    return torch.cat(tensors)


def _join_codes(codes: list[Code | None]) -> Code | None:
    present = [c for c in codes if c is not None]
    if len(present) < len(codes):
        return None
    rests = [c.aux for c in present if c.aux is not None]
    return Code(_join([c.z for c in present]), _join(rests) if len(rests) == len(present) else None)


def _join_traces(parts: Sequence[Counterfactuals]) -> dict[str, Tensor]:
    """What any part tells; a part in which nothing was searched tells nothing: NaN or False.

    What has another number of steps in another part is left out.
    """
    joined = {}
    for name in {name: None for part in parts for name in part.trace}:
        told = [part.trace.get(name) for part in parts]
        known = [t for t in told if t is not None]
        if len({t.shape[1:] for t in known}) == 1:
            joined[name] = torch.cat(
                [
                    _missing_trace(known[0], len(p)) if t is None else t
                    for p, t in zip(parts, told, strict=True)
                ]
            )
    return joined


def _missing_trace(like: Tensor, rows: int) -> Tensor:
    return like.new_full((rows, *like.shape[1:]), torch.nan if like.is_floating_point() else 0)


def _join_records(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The common record with the seconds added up; ``parts`` where the records differ.

    Shards of one data set differ in their first rows alone: theirs is that of the first one.
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
