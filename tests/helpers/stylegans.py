"""A tiny StyleGAN2, and a writer of what StyleGAN2-ADA's ``.pkl`` files are.

There each module is stored as a call with its source code among the arguments, which NVIDIA's
loader executes. Here that source is a trap.
"""

import collections
import pickle
import sys
import types
from unittest import mock

import numpy as np
import torch
from torch import nn

from cfxnb.nets.stylegan2 import Generator


def generator():
    """16 pixels, with noise, and colours that stay mostly within [-1, 1]."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Generator((16, 16, 8), z_dim=10, w_dim=12, mapping_layers=2).requires_grad_(False)
        net.mapping.w_avg.copy_(net.mapping(torch.randn(1000, 10)).mean(0))
    for block in net.blocks:
        block.torgb.weight *= 0.6
        for layer in block.layers():
            layer.noise_strength.fill_(0.2)
    return net


class EasyDict(dict):
    """Like ``dnnlib.util.EasyDict``: a dict of its own class."""


def _reconstruct_persistent_obj(meta):
    raise AssertionError("called while reading")


EasyDict.__module__ = "dnnlib.util"
_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class Persistent:
    """A module as it is pickled."""

    def __init__(self, name, source, parameters, buffers, parts):
        state = {
            "training": False,
            "_parameters": parameters,
            "_buffers": buffers,
            "_non_persistent_buffers_set": set(),
            "_backward_hooks": collections.OrderedDict(),
            "_modules": parts,
            "_init_kwargs": EasyDict(lr_multiplier=0.01),
            "weight_gain": np.sqrt(0.5),  # a NumPy scalar: pickled with its dtype
            "channels": np.int64(3),
        }
        self.meta = EasyDict(
            type="class", version=6, module_src=source, class_name=name, state=state
        )

    def __reduce__(self):
        return _reconstruct_persistent_obj, (self.meta,), None


def tree(state, source):
    """A state dict as nested modules: ``"b4.conv1.bias"`` is the part conv1 of the part b4."""
    parameters, buffers, inner = collections.OrderedDict(), collections.OrderedDict(), {}
    for key, value in state.items():
        head, _, rest = key.partition(".")
        if rest:
            inner.setdefault(head, {})[rest] = value
        elif head in ("w_avg", "noise_const", "resample_filter"):
            buffers[head] = value
        else:
            parameters[head] = nn.Parameter(value)
    parts = collections.OrderedDict((name, tree(part, source)) for name, part in inner.items())
    return Persistent("Module", source, parameters, {**buffers, "nothing": None}, parts)


def with_filters(state):
    """Real files store the filter in each layer and block."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    owners = {key.rsplit(".", 1)[0] for key in state if key.endswith(".noise_const")}
    owners |= {key.rsplit(".", 1)[0] for key in owners}
    return {**state, **{f"{owner}.resample_filter": line.outer(line) for owner in sorted(owners)}}


def dumps(state, source="raise SystemExit('executed')", protocol=4, **others):
    """The bytes of a ``.pkl`` file whose G_ema has the tensors of ``state``."""
    held = {"G": None, "D": None, "G_ema": tree(with_filters(state), source)}
    return written(
        {**held, "augment_pipe": None, "training_set_kwargs": EasyDict(), **others}, protocol
    )


def written(value, protocol=4):
    """Bytes of a pickle that names NVIDIA's classes as if they were installed."""
    modules = {name: types.ModuleType(name) for name in ("torch_utils", "dnnlib")}
    modules["torch_utils.persistence"] = types.ModuleType("torch_utils.persistence")
    modules["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj
    modules["dnnlib.util"] = types.ModuleType("dnnlib.util")
    modules["dnnlib.util"].EasyDict = EasyDict
    with mock.patch.dict(sys.modules, modules):
        return pickle.dumps(value, protocol)
