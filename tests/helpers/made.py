"""Counterfactuals and descriptors put together by hand, so that the truth about them is known."""

import pandas as pd
import torch
from torch import Tensor

import cfxnb as cfx
from cfxnb.core.types import FLIPPED, NOT_FOUND


@torch.no_grad()
def counterfactuals(space, f, start: Tensor, end: Tensor, target) -> cfx.Counterfactuals:
    """From codes to codes; flipped wherever the classifier says so."""
    a, b = cfx.Code(start), cfx.Code(end)
    x, image = space.decode(a), space.decode(b)
    before, after = f(x), f(image)
    target = torch.as_tensor(target).expand(len(x))
    hit = after.argmax(1) == target
    return cfx.Counterfactuals(
        original=x,
        image=image,
        reconstruction=x,
        logits_before=before,
        logits_after=after,
        target=target,
        status=tuple(FLIPPED if h else NOT_FOUND for h in hit.tolist()),
        code_before=a,
        code_after=b,
        made_by={"function": "by hand"},
    )


def descriptors(
    weights, *, std=None, readable=None, correlation=None, bias=None
) -> cfx.Descriptors:
    """Named a, b, c, ...; with weights (d, dims) on codes in units of the spread."""
    weights = torch.as_tensor(weights, dtype=torch.float32)
    d, dims = weights.shape
    names = tuple("abcdefgh"[:d])
    readable = [True] * d if readable is None else readable
    if correlation is None:
        correlation = torch.eye(d).numpy()
    return cfx.Descriptors(
        names=names,
        weights=weights,
        bias=torch.zeros(d) if bias is None else torch.as_tensor(bias),
        mean=torch.zeros(dims),
        std=torch.ones(dims) if std is None else std,
        quality=pd.DataFrame({"AUC": 0.9, "readable": readable}, index=list(names)),
        correlation=pd.DataFrame(correlation, index=list(names), columns=list(names)),
    )
