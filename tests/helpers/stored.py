"""Reads the reference tensors, which official implementations computed on tiny random nets."""

import json
from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

HERE = Path(__file__).parents[1] / "reference"
COMPARED = set()  # "file/tensor" of all that tests have wanted so far


class Tensors(dict):
    """The tensors of one file: ``t["x"]`` reads what goes in, ``t.wanted("y")`` what comes out.

    What is wanted is compared with what the package gives. The inventory counts on that: it finds
    tensors that no test compares.
    """

    def __init__(self, name):
        super().__init__(load_file(HERE / f"{name}.safetensors"))
        self.name = name

    def wanted(self, key):
        COMPARED.add(f"{self.name}/{key}")
        return self[key]


def stored(name):
    """(tensors, facts) of one reference file."""
    return Tensors(name), json.loads((HERE / f"{name}.json").read_text())


class SmallNet(nn.Module):
    """The net of the references: two convolutions of stride 2, mean over places, one linear."""

    def __init__(self, tensors, prefix):
        super().__init__()
        self.t = {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{prefix}.")}

    def forward(self, x):
        for name in ("c1", "c2"):
            x = F.relu(F.conv2d(x, self.t[f"{name}.weight"], self.t[f"{name}.bias"], 2, 1))
        return F.linear(x.mean((2, 3)), self.t["l.weight"], self.t["l.bias"])
