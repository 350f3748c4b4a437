"""Scores leave no trace, take any black box, and depend on neither batches nor order."""

import random

import numpy as np
import pandas as pd
import pytest
import torch
from bits import ALL, NAMES, RULES, BitSpace, decide, edits, factors_of, images_of, judge, scores
from torch import Generator, nn
from worlds import Faulty, LinearSpace, vae_world

import cfxnb as cfx

# Half of the decisions of the random autoencoder change by reconstruction alone.
pytestmark = pytest.mark.filterwarnings("ignore:space. it does not know these images")
SHOWN = ("row", "factor", "value", "before", "after", "reconstruction agrees", "used")


@pytest.fixture(params=["linear", "vae"])
def world(request):
    """(space, classifier, 41 images, factors, edits, judge); two factors out of the code."""
    if request.param == "linear":
        space = LinearSpace()
        weight = torch.randn(2, 48, generator=Generator().manual_seed(2))
        f = cfx.wrap(nn.Sequential(nn.Flatten(), nn.Dropout(0.5), Linear(40 * weight)).eval())
    else:
        space, f, _ = vae_world(2)
    with torch.no_grad():
        code = cfx.Code(torch.randn(41, 4, generator=Generator().manual_seed(1)))
        images = space.decode(code).clamp(0, 1)
        u = space.encode(images).z
    factors = pd.DataFrame({"p": u[:, 0] > 0, "q": np.where(u[:, 1] + 0.4 * u[:, 0] > 0, "y", "n")})
    reads = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), Linear(reading(images, factors))).eval()
    reader = cfx.FactorReader(reads, {"p": (False, True), "q": ("n", "y")})
    return space, f, images, factors, cfx.fit_attribute_edits(space, images, factors), reader


class Linear(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, pixels):
        return (pixels - 0.5) @ self.weight.T


def reading(images, factors):
    pixels = images.flatten(1) - 0.5
    wanted = torch.tensor([factors["p"] * 2.0 - 1, (factors["q"] == "y") * 2.0 - 1]).float()
    return 100 * torch.linalg.lstsq(pixels, wanted.T, driver="gelsd").solution.T


def run(world, **kwargs):
    space, f, images, factors, directions, reader = world
    kwargs = {"edits": directions, "judge": reader, "edit_filter": "all", **kwargs}
    return cfx.contrastive_scores(space, f, images, factors, **kwargs)


def test_the_worlds_ask_something(world):
    """Both classes, both values and some effect; or nothing below would mean anything."""
    found = run(world)
    assert 0.1 < found.units["before"].mean() < 0.9
    assert found.pns.max() > 0.1
    assert found.units["took effect"].any()


@pytest.mark.parametrize("batch_size", [1, 7, 41])
def test_batch_size_changes_nothing(world, batch_size):
    whole, parts = run(world, batch_size=256), run(world, batch_size=batch_size)
    assert parts.table.equals(whole.table)
    assert parts.units.equals(whole.units)
    assert parts.leakage.equals(whole.leakage)
    assert parts.reconstruction_agreement == whole.reconstruction_agreement


def test_batches_without_anybody_to_ask():
    factors = factors_of(ALL)
    factors.loc[[0, 1, 2], list(NAMES)] = "unknown"
    f = decide(RULES["majority"])
    whole, parts = (
        cfx.contrastive_scores(
            BitSpace(), f, images_of(ALL), factors, edits=edits(), judge=judge(), batch_size=b
        )
        for b in (8, 1)
    )
    assert parts.units.equals(whole.units)
    assert parts.units.dtypes.equals(whole.units.dtypes)
    assert sorted(parts.units["row"].unique()) == [3, 4, 5, 6, 7]


def test_order_goes_through(world):
    space, f, images, factors, directions, reader = world
    order = np.random.default_rng(0).permutation(41)
    plain = run(world)
    turned = run((space, f, images[order], factors.iloc[order], directions, reader), batch_size=7)
    assert turned.table.equals(plain.table)
    assert turned.leakage.equals(plain.leakage)
    back = turned.units.assign(row=order[turned.units["row"]])
    back = back.sort_values("row", kind="stable", ignore_index=True)
    assert back[[*SHOWN]].equals(plain.units[[*SHOWN]])


def test_rows_are_taken_by_position(world):
    """Whatever index the table of factors has, as after filtering."""
    space, f, images, factors, directions, reader = world
    odd = factors.set_axis(np.arange(41)[::-1] * 3)
    assert run((space, f, images, odd, directions, reader)).table.equals(run(world).table)


def test_a_context_is_the_same_as_these_images_alone(world):
    space, f, images, factors, directions, reader = world
    inside = factors["p"].to_numpy().copy()
    part = run((space, f, images[inside], factors[inside], directions, reader), batch_size=5)
    whole = run(world, context=factors["p"], batch_size=6)
    assert whole.table.equals(part.table)
    assert (whole.units["row"].unique() == np.flatnonzero(inside)).all()


def test_few_images():
    """One image is enough to ask; two, one of each value, are enough to learn from."""
    alone = scores("and", ALL[7:])
    assert (alone.necessity["A"], alone.table.loc["A", "necessity n"]) == (1, 1)
    assert np.isnan(alone.sufficiency["A"])
    pair = scores("B", ALL[[0, 2]], edits=edits_of_two())
    assert (pair.necessity["B"], pair.sufficiency["B"]) == (1, 1)


def edits_of_two():
    return cfx.fit_attribute_edits(
        BitSpace(), images_of(ALL[[0, 2]]), factors_of(ALL[[0, 2]])[["B"]]
    )


def test_a_black_box_is_enough_and_every_question_is_counted(world):
    space, f, images, factors, directions, reader = world
    box = cfx.BlackBox(f)
    asked = run((space, box, images, factors, directions, reader), batch_size=7)
    assert asked.table.equals(run(world).table)
    # Each original, each reconstruction, and one edit for each of two attributes.
    assert box.n_queries == 4 * 41
    box = cfx.BlackBox(f)
    run((space, box, images, factors.assign(p="?"), directions, reader), context=[True] * 41)
    assert box.n_queries == 3 * 41


def test_numpy_and_plain_functions_are_black_boxes(world):
    space, f, images, factors, directions, reader = world

    def plain(x):
        with torch.no_grad():
            return torch.from_numpy(f(x).numpy().copy())

    again = run((space, plain, images, factors, directions, reader))
    assert again.table.equals(run(world).table)


def state(*modules):
    inner = [m for top in modules for m in top.modules()]
    parameters = [p for m in inner for p in m.parameters(recurse=False)]
    return {
        "training": [m.training for m in inner],
        "requires_grad": [p.requires_grad for p in parameters],
        "grad": [p.grad is None for p in parameters],
        "values": [t.sum().item() for m in inner for t in m.state_dict().values()],
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002 (the global one is watched)
        "python": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
    }


def unusual(space, f, reader):
    space.train()
    f.module.train()
    reader.module.train()
    next(f.module.parameters()).requires_grad_(False)
    return space, f.module, reader.module


@pytest.mark.parametrize("edits", [True, False])
def test_no_trace(world, edits):
    """Nor do dropout and batch statistics play a part: the answer is that of evaluation mode."""
    space, f, _, _, made, reader = world
    kwargs = {"edits": made if edits else None}
    clean = run(world, **kwargs)
    modules = (*unusual(space, f, reader), made.module)
    before = state(*modules)
    again = run(world, **kwargs)
    assert state(*modules) == before
    assert again.units.equals(clean.units)
    assert again.table.equals(clean.table)


@pytest.mark.parametrize("fatal", [1, 2, 3, 4])
@pytest.mark.parametrize("part", ["classifier", "judge"])
def test_no_trace_after_an_exception(world, fatal, part):
    space, f, images, factors, made, reader = world
    if part == "classifier":
        f = cfx.wrap(Faulty(f.module, fatal))
    else:
        reader = cfx.FactorReader(Faulty(reader.module, min(fatal, 3)), reader.options)
    modules = (*unusual(space, f, reader), made.module)
    before = state(*modules)
    with pytest.raises(OSError, match="the net is gone"):
        run((space, f, images, factors, made, reader))
    assert state(*modules) == before


def test_the_inputs_are_left_alone(world):
    space, _, images, factors, directions, _ = world
    copies = images.clone(), factors.copy(deep=True)
    kept = [p.clone() for p in (directions.mean, directions.std, directions.step_model.normals)]
    run(world)
    cfx.fit_attribute_edits(space, images, factors, preserve_others=False)
    assert torch.equal(images, copies[0])
    assert factors.equals(copies[1])
    now = directions.mean, directions.std, directions.step_model.normals
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))


def test_scores_tell_how_they_were_made(world):
    made = run(world, confidence_level=0.9).made_by
    assert made["function"] == "contrastive_scores"
    found = (made["edit_filter"], made["confidence_level"], made["preserve_others"])
    assert found == ("all", 0.9, True)
    assert all(len(w) == 16 for w in made["weights"].values())
    assert made["seconds"] >= 0
