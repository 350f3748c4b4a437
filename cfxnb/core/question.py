"""Describe the arguments of a call as JSON, to recognise the same call when it is repeated."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cfxnb.core.kept_work import digest
from cfxnb.core.weights_hash import weights_hash


def described(value: Any) -> Any:
    """Return a description of an argument: equal for equal arguments, also in another process.

    Numbers, texts and lists stand for themselves. Tensors and tables are described by a digest of
    their values, and networks by a hash of their weights. Functions are described by their name and
    by the weights of the networks that they use.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor | np.ndarray):
        return f"tensor {digest(torch.as_tensor(value))}"
    if isinstance(value, pd.DataFrame | pd.Series):
        return f"table {digest(value.to_json())}"
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): described(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [described(each) for each in value]
    if isinstance(value, functools.partial):
        parts = {"function": value.func, "args": value.args, "keywords": value.keywords}
        return {name: described(part) for name, part in parts.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: described(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__qualname__, **fields}
    name = getattr(value, "__qualname__", type(value).__qualname__)
    return {"type": name, "weights": weights_hash(value)}
