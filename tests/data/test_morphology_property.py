"""Measurements of figures whose measures are known, drawn at sub-pixel resolution."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick

from cfxnb.data import measure_digits

SIZE, FINE = 32, 8


def draw(inside):
    """Image of the set of points (x right, y down, in pixels) where ``inside`` is true."""
    points = (np.arange(SIZE * FINE) + 0.5) / FINE
    x, y = np.meshgrid(points, points)
    mask = inside(x, y).astype(np.float32)
    small = mask.reshape(SIZE, FINE, SIZE, FINE).mean((1, 3))
    return torch.from_numpy(small)[None, None]


def ring(x0, y0, radius, thickness):
    return lambda x, y: abs(np.hypot(x - x0, y - y0) - radius) <= thickness / 2


def bar(x0, y0, thickness, height, lean=0.0):
    """A vertical bar; ``lean`` in degrees shears it, its top to the right."""
    slope = math.tan(math.radians(lean))
    return lambda x, y: (
        (abs(x - x0 + slope * (y - y0)) <= thickness / 2) & (abs(y - y0) <= height / 2)
    )


def one(inside):
    return measure_digits(draw(inside)).iloc[0]


@quick
@given(st.floats(6, 11), st.floats(2, 4), st.floats(-2, 2))
def test_ring(radius, thickness, shift):
    found = one(ring(16 + shift, 16 - shift, radius, thickness))
    assert found["loops"] == 1
    assert found["area"] == pytest.approx(2 * math.pi * radius * thickness, rel=0.1)
    assert found["width"] == pytest.approx(2 * radius + thickness, abs=1)
    assert found["height"] == pytest.approx(2 * radius + thickness, abs=1)
    assert found["thickness"] == pytest.approx(thickness, abs=0.6)
    # Steps along the axes and the diagonals overstate a circle by at most 8 %.
    assert found["length"] == pytest.approx(2 * math.pi * radius, rel=0.1)


@quick
@given(st.integers(2, 6), st.integers(12, 24), st.integers(-4, 4))
def test_bar(thickness, height, shift):
    found = one(bar(16 + shift + (thickness % 2) / 2, 16 + (height % 2) / 2, thickness, height))
    assert found["loops"] == 0
    assert found["area"] == pytest.approx(thickness * height, rel=0.06)
    assert found["height"] == pytest.approx(height, abs=0.6)
    assert found["width"] == pytest.approx(thickness, abs=0.6)
    assert found["thickness"] == pytest.approx(thickness, abs=0.8)
    assert found["length"] == pytest.approx(height - thickness, abs=thickness + 1)
    assert abs(found["slant"]) < 1


@quick
@given(st.floats(-35, 35), st.floats(2.5, 4))
def test_slant(lean, thickness):
    found = one(bar(16, 16, thickness, 22, lean))
    assert found["slant"] == pytest.approx(lean, abs=2)
    assert found["width"] == pytest.approx(thickness, abs=1.2)  # the slant is undone
    assert found["height"] == pytest.approx(22, abs=0.6)


@quick
@given(st.floats(3.5, 5), st.floats(2, 3))
def test_eight(radius, thickness):
    upper, lower = (
        ring(16, 16 - radius, radius, thickness),
        ring(16, 16 + radius, radius, thickness),
    )
    assert one(lambda x, y: upper(x, y) | lower(x, y))["loops"] == 2


@quick
@given(st.integers(-5, 5), st.integers(-5, 5), st.floats(-20, 20))
def test_shifts_change_nothing(right, down, lean):
    image = draw(bar(16, 16, 3, 14, lean))
    moved = image.roll((down, right), (2, 3))
    a, b = measure_digits(torch.cat([image, moved])).to_numpy()
    np.testing.assert_allclose(a, b, atol=1e-6)


@quick
@given(st.floats(0.25, 1))
def test_brightness_hardly_matters(level):
    """The enlargement overshoots at edges, and only white is clamped: up to 4 % of the area."""
    image = draw(ring(16, 16, 8, 3))
    a, b = measure_digits(torch.cat([image, level * image])).to_numpy()
    np.testing.assert_allclose(a, b, rtol=0.04, atol=0.2)


def test_a_gap_opens_the_loop():
    def broken(x, y):
        return ring(16, 16, 8, 3)(x, y) & ~((x > 16) & (abs(y - 16) < 2))

    assert one(broken)["loops"] == 0


def test_a_tiny_hole_is_no_loop():
    def pierced(x, y):
        return (np.hypot(x - 16, y - 16) < 7) & ~(np.hypot(x - 16, y - 16) < 0.4)

    assert one(pierced)["loops"] == 0


def test_a_loop_at_the_border_counts():
    assert one(ring(8, 8, 6.5, 3))["loops"] == 1


@pytest.mark.parametrize("level", [0.0, 0.05])
def test_nothing_drawn_is_nan(level):
    found = measure_digits(torch.full((2, 1, SIZE, SIZE), level))
    assert found.shape == (2, 7)
    assert found.isna().all().all()


def test_an_empty_image_among_others():
    found = measure_digits(torch.cat([torch.zeros(1, 1, SIZE, SIZE), draw(ring(16, 16, 8, 3))]))
    assert found.isna().all(axis=1).tolist() == [True, False]


def test_cached_factors_are_the_measurements(test_digits):
    rows = torch.randperm(10_000, generator=torch.Generator().manual_seed(7))[:50]
    part = test_digits[rows]
    fresh = measure_digits(part.images)
    assert list(part.factors.columns) == list(fresh.columns)
    # Stored in half precision.
    np.testing.assert_allclose(part.factors.to_numpy(), fresh.to_numpy(), rtol=1e-3, atol=2e-3)
