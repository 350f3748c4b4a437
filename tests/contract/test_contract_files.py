"""What every method returns can be written and read again, with every space and classifier."""

import dataclasses

import torch
from cases import each_method
from worlds import other_class

import cfxnb as cfx


@each_method
def test_results_come_back(world, method, tmp_path):
    space, f, x = world
    result = method.run(space, f, x, other_class(f, x))
    found = cfx.Counterfactuals.load(result.save(tmp_path / "result"))
    for field in dataclasses.fields(result):
        a, b = getattr(result, field.name), getattr(found, field.name)
        if isinstance(a, torch.Tensor):
            torch.testing.assert_close(b, a.cpu(), rtol=0, atol=0, equal_nan=True)
        elif field.name in ("cost", "trace"):
            assert a.keys() == b.keys()
            for name in a:
                torch.testing.assert_close(b[name], a[name].cpu(), rtol=0, atol=0, equal_nan=True)
        elif field.name == "status":
            assert a == b
