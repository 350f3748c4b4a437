"""Measures where the answer can be worked out on paper."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Generator
from worlds import LinearNet

import cfxnb as cfx
from cfxnb.metrics import cout_curve, fid, kid, l1, l2, mmd2


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def test_cout_of_four_pixels_by_hand():
    """Logit = 4 * (sum of pixels) - 4; one pixel at a time, the most changed first."""
    f = cfx.wrap(LinearNet(torch.full((1, 4), 4.0), torch.tensor([4.0])))
    original = torch.tensor([[[[0.0, 0.1], [0.2, 0.0]]]])
    image = torch.tensor([[[[0.5, 0.2], [0.9, 0.0]]]])
    sums = [0.3, 0.3 + 0.7, 0.3 + 0.7 + 0.5, 1.6, 1.6]
    p = [sigmoid(4 * (s - 2) + 4) for s in sums]
    area = sum((a + b) / 2 / 4 for a, b in pairwise(p))
    fraction, p_target, p_source = cout_curve(f, original, image, 1)
    assert fraction.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert p_target[0].tolist() == pytest.approx(p, abs=1e-6)
    assert p_source[0].tolist() == pytest.approx([1 - v for v in p], abs=1e-6)
    assert cfx.cout(f, original, image, 1).item() == pytest.approx(2 * area - 1, abs=1e-6)


def naive_cout(f, original, image, target, source, chunk):
    """Pixel by pixel in Python."""
    _, h, w = original.shape
    change = (image - original).abs().sum(0)
    order = sorted((-change[y, x].item(), y * w + x) for y in range(h) for x in range(w))
    mixed, points = original.clone(), []

    def read(fraction):
        p = f(mixed[None]).softmax(1)[0]
        points.append((fraction, (p[target] - p[source]).item()))

    read(0.0)
    for done, (_, place) in enumerate(order, 1):
        y, x = divmod(place, w)
        mixed[:, y, x] = image[:, y, x]
        if done % chunk == 0 or done == h * w:
            read(done / (h * w))
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))


@pytest.mark.parametrize("n_chunks", [1, 4, 7, 50])
@torch.no_grad()
def test_cout_against_a_slow_loop(n_chunks):
    f = cfx.wrap(LinearNet(2 * torch.randn(3, 3 * 5 * 4)))
    original, image = torch.rand(6, 3, 5, 4), torch.rand(6, 3, 5, 4)
    target, source = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([1, 2, 0, 2, 0, 1])
    ours = cfx.cout(f, original, image, target, source, n_chunks=n_chunks, batch_size=7)
    chunk = max(1, 20 // n_chunks)
    for i in range(6):
        expected = naive_cout(f, original[i], image[i], target[i], source[i], chunk)
        assert ours[i].item() == pytest.approx(expected, abs=1e-5)


def test_distances_of_pixels():
    a, b = torch.zeros(1, 1, 2, 2), torch.tensor([[[[0.3, 0.0], [0.0, 0.4]]]])
    assert l1(a, b).item() == pytest.approx(0.7)
    assert l2(a, b).item() == pytest.approx(0.5)


def test_fid_of_gaussians_with_known_parameters():
    """|m1 - m2|^2 + sum (s1 - s2)^2 for independent coordinates; 60,000 draws, so 2 % off."""
    g = Generator().manual_seed(0)
    s1, s2 = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([2.0, 1.0, 0.5])
    shift = torch.tensor([1.0, 0.0, -0.5])
    a = s1 * torch.randn(60_000, 3, generator=g)
    b = shift + s2 * torch.randn(60_000, 3, generator=g)
    assert fid(a, b) == pytest.approx(1.25 + 2.0, rel=0.02)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=g)).Q
    assert fid(a @ turn, b @ turn) == pytest.approx(fid(a, b), abs=1e-4)


@pytest.mark.parametrize(("n", "m"), [(40, 50), (40, 4), (3, 50), (3, 4), (6, 6)])
def test_fid_is_that_of_the_matrix_root(n, m):
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), for more and for fewer rows than features."""
    a, b = torch.randn(n, 6).double(), 1 + torch.randn(m, 6).double()
    s1, s2 = torch.cov(a.T), torch.cov(b.T)
    # The eigenvalues of S1 S2 are real and not negative, whatever rounding adds to them.
    root = torch.linalg.eigvals(s1 @ s2).real.clamp_min(0).sqrt().sum()
    expected = (a.mean(0) - b.mean(0)).square().sum() + s1.trace() + s2.trace() - 2 * root
    assert fid(a, b, allow_few=True) == pytest.approx(expected.item(), abs=1e-6)


def test_fid_of_a_set_with_itself_and_symmetry():
    a, b = torch.randn(40, 5), torch.randn(50, 5) + 1
    assert fid(a, a) == pytest.approx(0, abs=1e-9)
    assert fid(a, a.flip(0)) == pytest.approx(0, abs=1e-9)
    assert fid(a, b) == pytest.approx(fid(b, a), abs=1e-9)
    assert fid(a, a + 3) == pytest.approx(45, rel=1e-5)


def test_mmd2_against_a_double_loop():
    a, b = torch.randn(6, 3).double(), torch.randn(5, 3).double() + 0.5

    def k(x, y):
        return (float(x @ y) / 3 + 1) ** 3

    aa = sum(k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j) / 30
    bb = sum(k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j) / 20
    ab = sum(k(x, y) for x in a for y in b) / 30
    assert mmd2(a, b) == pytest.approx(aa + bb - 2 * ab, abs=1e-12)


def test_kid_tells_same_from_different():
    g = Generator().manual_seed(0)
    a, b = torch.randn(400, 4, generator=g), torch.randn(400, 4, generator=g)
    mean, std = kid(a, b, subset_size=100, n_subsets=20)
    assert abs(mean) < 3 * std
    assert kid(a, b + 1, subset_size=100, n_subsets=20)[0] > 10 * abs(mean)
    assert kid(a, b, subset_size=100, n_subsets=20) == (mean, std)
