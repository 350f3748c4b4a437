"""The search for the baseline, in a linear world in which its step is known."""

import math

import pytest
import torch
from worlds import LinearSpace, code_classifier

import cfxnb as cfx
from cfxnb.attribution.latent_integrated_gradients import latent_integrated_gradients
from cfxnb.attribution.result import ALREADY_BELOW, COMPLETE, NO_BASELINE

STD = torch.tensor([1.0, 0.5, 2.0, 1.0])
SPACE = LinearSpace(std=STD)
F = code_classifier(SPACE, torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 2.0)  # logit of class 1: 2 z_0
Z = torch.tensor([[1.0, 0.3, -0.2, 0.1], [0.5, -0.4, 0.6, 0.2], [2.0, 0.0, 0.0, 0.0]])
X = SPACE.decode(cfx.Code(Z)) + 0.002 * torch.randn(
    3, 3, 4, 4, generator=torch.Generator().manual_seed(1)
)
LIMIT = math.log(0.01 / 0.99)
SEARCH = {"max_step": 8.0, "grid_steps": 16, "binary_search_steps": 10}


def run(direction, label=1, space=SPACE, f=F, x=X, **kwargs):
    found = latent_integrated_gradients(
        space, f, x, torch.as_tensor(direction), label, **SEARCH | kwargs
    )
    return found


def fine(found):
    """One grid step, halved ten times."""
    return 8 / 16 / 2**10 + 1e-4


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("coordinate", [0.01, 30.0])
def test_first_place_below_the_threshold(sign, coordinate):
    """Along the axis that counts: 2 (z_0 - L) = log(p / (1 - p)), where it falls."""
    found = run([sign * coordinate, 0.0, 0.0, 0.0])
    z0 = SPACE.encode(X).z[:, 0]
    expected = -sign * (z0 - LIMIT / 2)
    torch.testing.assert_close(found.baseline_step, expected, rtol=0, atol=fine(found))
    after = F(found.baseline).softmax(1)[:, 1]
    assert (after < 0.01).all()
    assert (after > 0.0098).all()
    assert found.status == (COMPLETE,) * 3


def test_steps_are_in_standard_deviations():
    """A direction (1, 0, 2, 0) is sqrt(1 + 1) std long: one std along it moves z_0 by less."""
    found = run([1.0, 0.0, 2.0, 0.0])
    expected = -(SPACE.encode(X).z[:, 0] - LIMIT / 2) * math.sqrt(2)
    torch.testing.assert_close(found.baseline_step, expected, rtol=0, atol=fine(found))


def test_label_zero_walks_the_other_way():
    found = run([1.0, 0.0, 0.0, 0.0], 0, x=1 - X)
    assert (found.baseline_step > 0).all()
    assert (F(found.baseline).softmax(1)[:, 0] < 0.01).all()


def test_one_direction_per_image():
    both = torch.eye(4)[[0, 0, 2]] * torch.tensor([[1.0], [-3.0], [1.0]])
    found = run(both)
    assert found.status == (COMPLETE, COMPLETE, NO_BASELINE)
    assert found.baseline_step[0] < 0 < found.baseline_step[1]


def test_one_direction_per_image_in_batches():
    both = torch.eye(4)[[0, 0, 2]] * torch.tensor([[1.0], [-3.0], [1.0]])
    torch.testing.assert_close(run(both, batch_size=1).baseline_step, run(both).baseline_step)


def test_probability_is_that_among_all_classes():
    """Three classes: two others share what the label loses."""
    f = code_classifier(SPACE, torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0], [-1.0, 0, 0, 0]]))
    found = run([1.0, 0.0, 0.0, 0.0], 0, f=f)
    torch.testing.assert_close(
        f(found.baseline).softmax(1)[:, 0].detach(), torch.full((3,), 0.01), rtol=0.01, atol=0
    )


def test_the_corner_of_a_joined_path_is_among_its_points():
    """Else the map would cut it, and see nothing of what the space leaves out."""
    for n_points in (2, 4, 6):
        found = run([1.0, 0.4, 0.0, 0.0], n_points=n_points, max_points=1)
        assert found.n_points.tolist() == [n_points + 1] * 3


def test_map_is_complete_for_the_image():
    """Linear all along: weight times (image - baseline), what isn't in the space included."""
    found = run([1.0, 0.4, 0.0, 0.0])
    with torch.no_grad():
        change = (F(X) - F(found.baseline))[:, 1]
    torch.testing.assert_close(found.output_change, change, rtol=0, atol=1e-5)
    assert found.relative_delta.abs().max() < 1e-5
    weight = F.module.weight[0].view(3, 4, 4)
    torch.testing.assert_close(found.attributions, weight * (X - found.baseline), rtol=0, atol=1e-5)
    assert torch.equal(found.image, X)


def test_path_may_end_at_the_reconstruction():
    found = run([1.0, 0.4, 0.0, 0.0], extend_to_image=False)
    rebuilt = SPACE.decode(SPACE.encode(X))
    torch.testing.assert_close(found.image, rebuilt, rtol=0, atol=1e-6)
    assert (found.image - X).abs().max() > 1e-3


def test_no_baseline_is_a_status_and_not_a_zero_map():
    """A direction that moves the decision too slowly: the step of lowest probability stands in."""
    found = run([0.05, 1.0, 0.0, 0.0], max_step=1.0)
    assert found.status == (NO_BASELINE,) * 3
    torch.testing.assert_close(found.baseline_step.abs(), torch.ones(3))
    assert (found.baseline_step < 0).all()
    assert (found.output_change > 0).all()
    assert found.heat_map.abs().sum() > 0


def test_already_below():
    found = run([1.0, 0.0, 0.0, 0.0], 0, threshold=0.4)
    assert found.status == (ALREADY_BELOW,) * 3
    assert not found.baseline_step.any()


def test_with_a_contrast_class_the_probability_is_that_of_the_two():
    """A third class takes nearly all probability; between the two asked for it plays no part."""
    directions = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0], [0.0, 0, 0, 0]])
    f = code_classifier(SPACE, directions)
    f.module.bias.data[2] = 20.0
    assert run([1.0, 0.0, 0.0, 0.0], 0, f=f).status == (ALREADY_BELOW,) * 3
    found = run([1.0, 0.0, 0.0, 0.0], 0, f=f, contrast_class=1)
    with torch.no_grad():
        difference = f(found.baseline)[:, 0] - f(found.baseline)[:, 1]
    torch.testing.assert_close(difference, torch.full((3,), LIMIT), rtol=0, atol=0.01)


def test_the_opposite_direction_is_tried():
    """Near the code the logit falls to the right, but only on the left it falls far enough."""

    def valley(images):
        z = SPACE.encode(images).z[:, 0]
        return cfx.two_logits(torch.where(z > -1.0, 2 - z, 3 + 10 * (z + 1)).clamp_min(-6))

    x = SPACE.decode(cfx.Code(torch.zeros(1, 4)))
    found = run([1.0, 0.0, 0.0, 0.0], f=valley, x=x, max_step=5.0)
    # To the right: 2 - 5 = -3, never below; to the left: at z = -1.76.
    assert found.status == (COMPLETE,)
    expected = torch.tensor([-1 - (3 - LIMIT) / 10])
    torch.testing.assert_close(found.baseline_step, expected, rtol=0, atol=1e-3)


class Counted(LinearSpace):
    decoded = encoded = 0

    def encode(self, images):
        self.encoded += len(images)
        return super().encode(images)

    def decode(self, code):
        self.decoded += len(code)
        return super().decode(code)


@pytest.mark.parametrize("method", ["trapezoid", "proportional"])
def test_cost_is_what_was_asked(method):
    space, box = Counted(std=STD), cfx.BlackBox(F)
    f = box if method == "proportional" else lambda images: F(images)
    direction = [1.0, 0.0, 0.0, 0.0]
    found = run(direction, space=space, f=f, method=method)
    # A second look, at one image at a time, is no cost.
    assert 0 <= space.decoded - int(found.cost["generator"].sum()) <= 3
    assert 3 <= space.encoded <= 6
    if method == "proportional":
        assert int(found.n_queries.sum()) == box.n_queries
        assert found.relative_delta.abs().max() < 1e-6
    # 1 reconstruction, both signs, on to the crossing, 10 bisections, half the path of 17.
    baseline_step = (found.baseline_step.abs() / 0.5).ceil().long()
    assert torch.equal(found.cost["generator"], 1 + 1 + baseline_step + 10 + 8)


class WithAux(LinearSpace):
    """What z doesn't hold is in aux: reconstructions are exact."""

    def encode(self, images):
        z = super().encode(images).z
        return cfx.Code(z, images - super().decode(cfx.Code(z)))

    def decode(self, code):
        return super().decode(code) + code.aux


def test_aux_stays_as_it_is():
    space = WithAux(std=STD)
    found = run([1.0, 0.0, 0.0, 0.0], space=space, f=F, extend_to_image=False)
    torch.testing.assert_close(found.image, X)
    moved = (found.baseline - X).flatten(1)
    along = 0.04 * found.baseline_step[:, None] * space.basis[:1]
    torch.testing.assert_close(moved, along, rtol=0, atol=1e-6)
