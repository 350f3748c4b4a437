"""Inversion against a world in which the noise of everything is known; schedules by hand."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler
from gaussians import gaussian_world

import cfxnb as cfx
from cfxnb.core import ddim
from cfxnb.core.ddim import (
    add_noise,
    ddim_invert,
    denoise,
    even_schedule,
    exact,
    linear_alphas_cumprod,
    paper_schedule,
)

STD = 2.0  # of the clean codes, which are normal around 0


def ideal(z, times, alpha_bar):
    """The noise to be expected in a noisy code, where codes are N(0, STD^2)."""
    alpha_bar = linear_alphas_cumprod()[times].view(-1, 1).to(z)
    return z * (1 - alpha_bar).sqrt() / (alpha_bar * STD**2 + 1 - alpha_bar)


@pytest.fixture
def clean():
    return STD * torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).double()


def round_trip(clean, steps, strength=(0.2, 0.5, 0.9)):
    plan = even_schedule(linear_alphas_cumprod(), torch.tensor(strength), steps)
    noisy = ddim_invert(ideal, clean, plan)
    return noisy, denoise(ideal, noisy, plan)


def test_the_way_back_ends_where_it_began(clean):
    errors = [(round_trip(clean, n)[1] - clean).abs().max().item() for n in (10, 40, 160)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.02


def test_drawn_noise_ends_elsewhere(clean):
    plan = even_schedule(linear_alphas_cumprod(), torch.tensor([0.2, 0.5, 0.9]), 160)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)).double()
    ends = denoise(ideal, add_noise(clean, noise, plan.start), plan)
    assert (ends - clean).abs().amax(1).min() > 0.2


def test_each_sample_goes_back_by_its_strength(clean):
    """The flow of this world only scales: by the standard deviation of what is noisy."""
    noisy, _ = round_trip(clean, 500)
    times = (torch.tensor([0.2, 0.5, 0.9]).double() * 1000).round().long() - 1
    alpha_bar = linear_alphas_cumprod()[times]
    scale = (alpha_bar * STD**2 + 1 - alpha_bar).sqrt() / STD
    torch.testing.assert_close(noisy, clean * scale.view(-1, 1), rtol=0.02, atol=0.0)


def test_samples_do_not_mix(clean):
    whole, _ = round_trip(clean, 20)
    alone, _ = round_trip(clean[1:2], 20, (0.5,))
    torch.testing.assert_close(whole[1:2], alone)


# -- how many steps, and which


def official(alphas, strength, steps):
    """The official rules, one by one: times, share left before and after each step, and at first.

    ``strength`` is a Python number, which has double precision.
    """
    total = len(alphas)
    grid = [t + 1 for t in range(0, total, total // steps)]
    kept = [alphas[t] for t in grid if t < total]
    before = [alphas[0], *kept[:-1]]
    level = int(strength * steps)
    way = range(level - 1, -1, -1)
    return [grid[i] for i in way], [kept[i] for i in way], [before[i] for i in way], kept[level]


def falling(total):
    return torch.linspace(0.999, 0.001, total, dtype=torch.float64)


@pytest.mark.parametrize("total", [1000, 1001, 997, 20])
def test_the_published_grid_for_all_numbers_of_steps(total):
    """Most of them don't divide the number of times: there are more strides than steps then."""
    alphas = falling(total)
    for steps in range(1, total + 1, max(1, total // 250)):
        for strength in (0.382, 0.5, 0.999):
            given = torch.full((2,), strength, dtype=torch.float64)
            level = int(strength * steps)
            # With as many steps as times the grid ends one time before the end.
            if level < 1 or (steps == total and level == total - 1):
                with pytest.raises(ValueError, match=r"strength: expected one that takes 1 to"):
                    paper_schedule(alphas, given, steps)
                continue
            times, alpha_bar, alpha_bar_prev, start = official(alphas.tolist(), strength, steps)
            found = paper_schedule(alphas, given, steps)
            assert found.times.T.tolist() == [times] * 2
            assert found.alpha_bar.T.tolist() == [alpha_bar] * 2
            assert found.alpha_bar_prev.T.tolist() == [alpha_bar_prev] * 2
            assert found.start.tolist() == [start] * 2


@pytest.mark.parametrize(
    ("strength", "steps"),
    [(0.382, 191), (0.342, 171), (0.502, 251), (0.5, 250)],
    ids=["ImageNet", "pairs", "CelebA-HQ", "Flowers"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_published_runs_take_their_steps(strength, steps, dtype):
    found = paper_schedule(falling(1000), torch.full((3,), strength, dtype=dtype), 500)
    assert found.times[:, 0].tolist() == list(range(2 * steps - 1, 0, -2))
    assert found.start.tolist() == [falling(1000)[2 * steps + 1].item()] * 3
    assert found.alpha_bar_prev[-1].tolist() == [falling(1000)[0].item()] * 3


def test_float32_takes_as_many_steps_as_double_precision():
    """All strengths in thousandths, all fractions of the steps, all numbers of steps up to 1000."""
    thousandths = np.arange(1, 1000)
    beside = 0
    for steps in range(1, 1001):
        for fractions in (thousandths / 1000, np.arange(1, steps) / steps):
            wanted = (fractions * steps).astype(np.int64)  # as int() does with each of them
            for dtype in (torch.float32, torch.float64):
                given = exact(torch.from_numpy(fractions).to(dtype), steps)
                assert given.dtype == torch.float64
                assert np.array_equal((given * steps).long().numpy(), wanted), (steps, dtype)
        # Double precision itself is the official rule, which is a step short here and there.
        beside += int(
            (thousandths * steps // 1000 != (thousandths / 1000 * steps).astype(int)).sum()
        )
    assert beside == 103


def test_float32_alone_would_lose_steps():
    """Or the test above would show nothing."""
    given = torch.tensor([0.382, 0.35, 0.7, 0.02])
    steps = [500, 20, 10, 50]
    lost = [int(float(s) * n) for s, n in zip(given, steps, strict=True)]
    kept = [int(float(exact(s[None], n)) * n) for s, n in zip(given, steps, strict=True)]
    assert kept == [191, 7, 7, 1]
    assert lost != kept
    assert int(float(exact(torch.tensor([0.29]), 100)) * 100) == 28  # as in double precision


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [1, 4, 7, 10, 20])
def test_short_strides_are_rounded_from_exact_places(steps, dtype):
    """Halfway between two times the even one is taken, as by hand with fractions."""
    thousandths = range(1, 1000)
    given = torch.tensor([k / 1000 for k in thousandths], dtype=torch.float64).to(dtype)
    found = even_schedule(falling(1000), given, steps).times + 1
    wanted = [
        [max(1, round(Fraction(k * n, steps))) for k in thousandths] for n in range(steps, 0, -1)
    ]
    assert found.tolist() == wanted


@pytest.mark.parametrize(
    ("strength", "steps", "message"),
    [
        (
            [0.001],
            500,
            r"strength: expected one that takes 1 to 499 of 500 .*, got 0.001, which ta",
        ),
        ([1.0], 500, r"strength: expected one that takes 1 to 499 of 500 .*, which takes 500"),
        ([0.4, 0.5], 500, r"strength: expected the same for all samples, got \[0.4"),
        ([0.5], 1001, "steps: expected 1 to 1000, as many as there are times, got 1001"),
        ([0.5], 0, "steps: expected 1 to 1000, as many as there are times, got 0"),
    ],
)
def test_what_the_published_schedule_cannot_do(strength, steps, message):
    with pytest.raises(ValueError, match=message):
        paper_schedule(falling(1000), torch.tensor(strength), steps)


@pytest.mark.parametrize("strength", [0.382, 0.57, 0.1 * 5.7])
def test_the_public_function_keeps_the_last_digit(strength):
    """0.57 * 100 is a little less than 57 in double precision; 0.1 * 5.7 isn't the same number."""
    world, seen = gaussian_world(2, 1), []
    options = cfx.PAPER_DIFFUSION | {"steps": 100, "strength": strength}
    cfx.diffusion_counterfactual(*world, **options, on_step=seen.append)
    assert len(seen) == {0.382: 38, 0.57: 56}.get(strength, 57)


# -- the same as diffusers


def trained(**options):
    """diffusers' schedulers on our noise levels, in double precision, predicting epsilon."""
    common = {
        "num_train_timesteps": 1000,
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "prediction_type": "epsilon",
        "clip_sample": False,
    }
    both = (
        DDIMScheduler(**common, **options),
        DDIMInverseScheduler(**common, **{**options, "set_alpha_to_one": True}),
    )
    alphas = linear_alphas_cumprod()
    for scheduler in both:
        # Its own are in float32.
        torch.testing.assert_close(scheduler.alphas_cumprod.double(), alphas, rtol=0, atol=1e-6)
        scheduler.alphas_cumprod = alphas
    both[0].final_alpha_cumprod = (
        torch.ones((), dtype=torch.float64) if options["set_alpha_to_one"] else alphas[0]
    )
    return both


def some_network(z, times, alpha_bar):
    """Any smooth function of code and time."""
    return torch.sin(2 * z + torch.as_tensor(times).double().reshape(-1, 1) / 300)


def by_diffusers(scheduler, code, times):
    for time in times:
        code = scheduler.step(some_network(code, time, None), time, code, eta=0.0).prev_sample
    return code


def same(a, b):
    assert a.dtype == b.dtype == torch.float64
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [10, 50, 250])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_even_schedule_is_the_trailing_one_of_diffusers(clean, steps, strength):
    """Down to the clean code: ``set_alpha_to_one``. A strength takes the last of its steps."""
    count = round(strength * steps)
    scheduler, _ = trained(timestep_spacing="trailing", set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    plan = even_schedule(linear_alphas_cumprod(), torch.full((3,), strength), count)
    times = scheduler.timesteps[-count:]
    assert plan.times.T.tolist() == [times.tolist()] * 3
    same(denoise(some_network, clean, plan), by_diffusers(scheduler, clean, times))


@pytest.mark.parametrize("steps", [10, 50, 500])
def test_the_published_schedule_is_the_leading_one_of_diffusers(clean, steps):
    """One time later (``steps_offset``), and down to the first time, not to the clean code."""
    scheduler, _ = trained(timestep_spacing="leading", steps_offset=1, set_alpha_to_one=False)
    scheduler.set_timesteps(steps)
    plan = paper_schedule(linear_alphas_cumprod(), torch.full((3,), 0.6), steps)
    times = scheduler.timesteps[-int(0.6 * steps) :]
    assert plan.times.T.tolist() == [times.tolist()] * 3
    assert plan.start[0] == linear_alphas_cumprod()[times[0] + 1000 // steps]
    same(denoise(some_network, clean, plan), by_diffusers(scheduler, clean, times))


@pytest.mark.parametrize("steps", [10, 50, 250])
def test_inversion_is_that_of_diffusers(clean, steps):
    """From the clean code, ``set_alpha_to_one``, with the network at the later time."""
    _, inverse = trained(timestep_spacing="trailing", set_alpha_to_one=True)
    inverse.set_timesteps(steps)
    plan = even_schedule(linear_alphas_cumprod(), torch.ones(3), steps)
    assert plan.times[:, 0].flip(0).tolist() == inverse.timesteps.tolist()
    code = clean
    for time in inverse.timesteps:
        code = inverse.step(some_network(code, time, None), time, code).prev_sample
    same(ddim_invert(some_network, clean, plan), code)


@pytest.mark.parametrize("steps", [10, 50, 250])
def test_rendering_is_the_leading_schedule_of_diffusers(clean, steps):
    """As in diffusion autoencoders: from time 0 on, and down to the clean image."""
    scheduler, _ = trained(timestep_spacing="leading", set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    times = ddim.timesteps(steps)
    assert times == scheduler.timesteps.flip(0).tolist()
    predict = lambda x, t: some_network(x, t, None)  # noqa: E731 (a formula)
    found = ddim.render(predict, clean, linear_alphas_cumprod(), times, None)
    same(found, by_diffusers(scheduler, clean, scheduler.timesteps))


def test_clipping_is_that_of_diffusers(clean):
    """With ``use_clipped_model_output`` diffusers, too, finds the noise once more."""
    scheduler, _ = trained(timestep_spacing="trailing", set_alpha_to_one=True)
    scheduler.register_to_config(clip_sample=True, clip_sample_range=0.5)
    scheduler.set_timesteps(10)
    eps, alphas = some_network(clean, 599, None), linear_alphas_cumprod()
    wanted = scheduler.step(eps, 599, clean, use_clipped_model_output=True).prev_sample
    same(ddim.ddim_step(clean, eps, alphas[599], alphas[499], 0.5), wanted)
    assert not torch.allclose(ddim.ddim_step(clean, eps, alphas[599], alphas[499]), wanted)
