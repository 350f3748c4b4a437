"""Counterfactuals by diffusion in a world whose ideal denoiser is known."""

import pytest
import torch
from gaussians import GAP, SHAPE, Bayes, GaussianSpace, gaussian_world

import cfxnb as cfx
from cfxnb.core.ddim import ddim_invert, even_schedule
from cfxnb.diffusion.best_attempt import BestAttempt
from cfxnb.diffusion.consensus import chance_level
from cfxnb.diffusion.inversion_path import InversionPath

QUICK = {
    "steps": 6,
    "max_attempts": 1,
    "min_strength": 0.0,
    "strength": 0.5,
    "composite_threshold": None,
    "backprop_diffusion": False,
    "confidence": 0.9,
    "noise": "random",
}


def run(world, **options):
    space, f, x, target = world
    return cfx.diffusion_counterfactual(space, f, x, target, **QUICK | options)


def close(a, b, atol=1e-5):
    torch.testing.assert_close(a, b, rtol=0, atol=atol, equal_nan=True)


# -- what each guide does


def test_it_flips_and_changes_what_the_class_is_made_of():
    world = gaussian_world(3, 6)
    cf = run(world, max_attempts=4)
    assert cf.flipped.all()
    assert (cf.confidence >= 0.9).all()
    moved = (cf.code_after.z - cf.code_before.z).abs().mean((0, 1, 2))
    assert moved[:GAP].min() > 1.5 * moved[GAP:].max()


def test_without_guidance_it_is_noise_and_denoise():
    """Of a Gaussian alone DDIM gives back a draw; its way is deterministic."""
    world = gaussian_world()
    cf = run(world, guidance="none", classifier_scale=100.0, distance_scale=100.0, cone_angle=1.0)
    again = run(world, guidance="none")
    assert torch.equal(cf.image, again.image)
    assert set(cf.trace) == {"strength", "chance_fraction"}


def test_the_noise_that_an_image_comes_from_leads_back_to_it():
    world = gaussian_world()
    far, near = (run(world, guidance="none", noise="ddim_inversion", steps=n) for n in (5, 80))
    far, near = ((cf.code_after.z - cf.code_before.z).abs().mean() for cf in (far, near))
    assert near < 0.2 * far
    drawn = run(world, guidance="none", steps=80)
    assert near < 0.05 * (drawn.code_after.z - drawn.code_before.z).abs().mean()


def test_classifier_free_is_the_sampler_conditioned_on_the_target():
    """With ``guidance_scale`` 1 only the condition counts, and with 0 it does not count."""
    space, f, x, target = gaussian_world()
    x, target = x[target == 1], target[target == 1]  # one target: the model sees no row numbers
    world = space, f, x, target
    cond = run(world, guidance="classifier_free", guidance_scale=1.0)
    plain = GaussianSpace.predict_noise

    class Conditioned(GaussianSpace):
        def predict_noise(self, z, t, condition):
            return plain(self, z, t, torch.ones_like(condition))

    close(cond.image, run((Conditioned(), f, x, target), guidance="none").image)
    close(
        run(world, guidance="classifier_free", guidance_scale=0.0).image,
        run(world, guidance="none").image,
    )
    assert run(world, guidance="classifier_free", guidance_scale=3.0, strength=0.9).flipped.all()


def test_a_guidance_scale_alone_is_classifier_free_guidance():
    world = gaussian_world()
    alone = run(
        world,
        classifier_scale=0.0,
        distance_scale=0.0,
        guidance_scale=2.5,
        pause_when_reached=False,
    )
    close(alone.image, run(world, guidance="classifier_free", guidance_scale=2.5).image, 1e-4)


def test_consensus_moves_nothing_where_the_classes_are_the_same():
    """The cheat looks at a column that the model knows nothing of: only consensus sees through."""
    world = gaussian_world(2, 4, cheat=3.0)
    kept = run(world, distance_scale=0.0, pause_when_reached=False)
    cheated = run(world, guidance="classifier", distance_scale=0.0, pause_when_reached=False)
    free = run(world, guidance="none")
    close(kept.code_after.z[..., GAP:], free.code_after.z[..., GAP:], 1e-4)
    assert (cheated.code_after.z - free.code_after.z)[..., -1].abs().mean() > 0.1
    assert not kept.trace["masks"][..., GAP:].any()
    assert kept.trace["masks"][:, 0, :, :GAP].all()
    columns = [0, 1, 2, 5]  # that the classifier looks at
    assert cheated.trace["masks"][..., columns].all()
    assert torch.equal(cheated.trace["chance_fraction"], torch.ones(4))
    close(kept.trace["chance_fraction"], torch.full((4,), chance_level(3, 45.0)))


def test_random_positions_are_as_many():
    world = gaussian_world()
    one = {"steps": 1, "pause_when_reached": False}
    agreed, random = run(world, **one), run(world, guidance="random_mask", **one)
    assert torch.equal(agreed.trace["masks"].sum((2, 3)), random.trace["masks"].sum((2, 3)))
    assert not torch.equal(agreed.trace["masks"], random.trace["masks"])
    longer = run(world, guidance="random_mask", pause_when_reached=False).trace["masks"]
    assert not torch.equal(longer[:, 0], longer[:, 1])
    other = run(world, guidance="random_mask", pause_when_reached=False, seed=1).trace["masks"]
    assert not torch.equal(longer, other)


@pytest.mark.parametrize("distance_space", ["code", "image"])
@pytest.mark.parametrize("backprop_diffusion", [False, True])
@pytest.mark.parametrize(
    "guidance", ["consensus", "classifier", "random_mask", "classifier_free", "none"]
)
def test_everything_stays_finite(guidance, distance_space, backprop_diffusion):
    """Also for a classifier that is far too sure."""
    space, f, x, target = gaussian_world()
    sure = cfx.wrap(Loud(f.module))
    cf = run(
        (space, sure, x, target),
        guidance=guidance,
        distance_space=distance_space,
        backprop_diffusion=backprop_diffusion,
        classifier_scale=50.0,
    )
    for value in (cf.image, cf.code_after.z, cf.logits_after):
        assert value.isfinite().all()
    assert cf.image.min() >= 0
    assert cf.image.max() <= 1


class Loud(torch.nn.Module):
    def __init__(self, inner, factor=100.0):
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, images):
        return self.factor * self.inner(images)


def test_only_the_direction_of_the_slope_counts():
    space, f, x, target = gaussian_world()
    quiet = cfx.wrap(Loud(f.module, 0.5))
    loud = cfx.wrap(Loud(f.module, 2.0))
    a, b = (run((space, g, x, target), pause_when_reached=False) for g in (quiet, loud))
    close(a.image, b.image, 1e-4)


def test_staying_keeps_near():
    world = gaussian_world(2, 6)
    far, near = (
        run(world, distance_scale=distance_scale, pause_when_reached=False)
        for distance_scale in (0.0, 3.0)
    )
    far, near = ((cf.code_after.z - cf.code_before.z).flatten(1).norm(dim=1) for cf in (far, near))
    assert (near < 0.98 * far).all()


@pytest.mark.parametrize("backprop_diffusion", [False, True])
def test_one_step_by_hand(backprop_diffusion):
    """The whole of the guidance once more, with nothing of it taken from the package."""
    space, f, x, target = world = gaussian_world()
    seen = []
    options = {
        "steps": 1,
        "pause_when_reached": False,
        "classifier_scale": 2.0,
        "distance_scale": 0.7,
        "cone_angle": 60.0,
        "guidance_scale": 0.3,
    }
    cf = run(
        world,
        backprop_diffusion=backprop_diffusion,
        on_step=lambda step: seen.append(step),
        **options,
    )
    (step,) = seen
    t = torch.full((len(x),), 499)
    a = space.alphas_cumprod[499].float()
    z = step.code.clone().requires_grad_()
    cond, free = (
        space.predict_noise(z, t, target),
        space.predict_noise(z, t, torch.full_like(target, 2)),
    )
    clean = (z - (1 - a).sqrt() * free) / a.sqrt()
    logits = f(space.decode(cfx.Code(clean), clamp=False))
    other = logits.gather(1, 1 - target[:, None]).sum()
    odds = logits.gather(1, target[:, None]).sum() - other
    (slope,) = torch.autograd.grad(odds, z if backprop_diffusion else clean)
    s, k = (cond - free).detach(), -(1 - a).sqrt() * slope
    cosine = (s * k).sum(1) / (s.norm(dim=1) * k.norm(dim=1))
    keep = (cosine >= 0.5)[:, None]
    k = torch.where(keep, k, 0.0)
    d = (clean - space.encode(x).z).detach()

    def fit(v):
        return (
            v
            / v.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            * s.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        )

    eps = free + 2.0 * fit(k) + 0.7 * fit(d) + 0.3 * s
    close(cf.code_after.z, ((z - (1 - a).sqrt() * eps) / a.sqrt()).detach(), 1e-3)
    assert torch.equal(cf.trace["masks"][:, 0], keep[:, 0])
    close(cf.trace["kept_fraction"][:, 0], keep.float().mean((1, 2, 3)))
    p = logits.softmax(1).gather(1, target[:, None])[:, 0]
    close(cf.trace["probability"][:, 0], p.detach(), 1e-4)
    close(step.probability, p.detach(), 1e-4)


# -- noise levels


def test_later_tries_lower_the_noise():
    world = gaussian_world(2, 6)
    once, often = run(world, strength=0.8), run(world, strength=0.8, max_attempts=6)
    assert once.flipped.all()
    assert often.flipped.all()
    assert (once.trace["strength"] == 0.8).all()
    assert (often.trace["strength"] < 0.8).all()
    change = [(cf.code_after.z - cf.code_before.z).flatten(1).norm(dim=1) for cf in (once, often)]
    assert (change[1] < change[0]).all()
    # What is kept is an exact run at that level.
    level = float(often.trace["strength"][0])
    close(run(world, strength=level).image[0], often.image[0])
    assert not run(world, strength=level - 0.8 / 2**5 - 1e-3).flipped[0]


def test_no_try_goes_below_the_least_noise():
    """From 0.8 every try flips: 0.4 is tried, 0.2 is not; a first try may be lower."""
    world = gaussian_world(2, 6)
    free, bound = (
        run(world, strength=0.8, max_attempts=4, min_strength=min_strength)
        for min_strength in (0.0, 0.3)
    )
    assert (free.trace["strength"] == 0.1).all()
    assert (bound.trace["strength"] == 0.4).all()
    close(bound.image, run(world, strength=0.4).image)
    assert torch.equal(bound.cost["unet"], run(world, strength=0.8, max_attempts=2).cost["unet"])
    low = run(world, strength=0.2, max_attempts=4, min_strength=0.3)
    assert (low.trace["strength"] == 0.2).all()
    # A failure is followed by more noise, whatever the bound.
    up, same = (
        run(
            world,
            strength=0.02,
            max_attempts=2,
            min_strength=min_strength,
            classifier_scale=0.5,
            distance_scale=0.0,
        )
        for min_strength in (0.9, 0.0)
    )
    assert (up.trace["strength"] == 0.51).all()
    assert torch.equal(up.image, same.image)


def test_a_failure_raises_the_noise():
    world = gaussian_world(2, 4)
    seen = run(world, strength=0.02, max_attempts=5, classifier_scale=0.5, distance_scale=0.0)
    assert not run(world, strength=0.02, classifier_scale=0.5, distance_scale=0.0).flipped.any()
    assert seen.flipped.any()
    assert (seen.trace["strength"][seen.flipped] > 0.02).all()
    never = run(world, strength=0.5, max_attempts=3, guidance="none")
    open_rows = [s == "not_found" for s in never.status]
    assert any(open_rows)
    # Levels after failures go half of the way to 1, and the last try is what is kept.
    close(never.trace["strength"][open_rows], torch.full((sum(open_rows),), 0.875))


@pytest.mark.parametrize("scale", [0.55, 0.8])  # some fail at the strength, some flip at half
@pytest.mark.parametrize(("max_attempts", "min_strength"), [(2, 0.2), (3, 0.2), (4, 0.0), (3, 0.3)])
def test_half_of_the_strength_first_finds_what_a_bisection_from_the_strength_finds(
    scale, max_attempts, min_strength
):
    """The bisection is written out, with one call per strength."""
    world = gaussian_world(3, 12)
    options = {"classifier_scale": scale, "distance_scale": 0.0}
    calls = {}

    def flips(strength, row):
        if strength not in calls:
            calls[strength] = run(world, strength=strength, **options)
        return bool(calls[strength].flipped[row])

    def bisected(row):
        low, high, strength, tried = 0.0, float("inf"), 0.5, []
        while len(tried) < max_attempts and (high > 1 or strength >= min_strength):
            tried.append(strength)
            low, high = (low, strength) if flips(strength, row) else (strength, high)
            strength = (low + min(high, 1)) / 2
        return high if high < 1 else tried[-1], len(tried)

    steps = []
    cf = run(
        world, max_attempts=max_attempts, min_strength=min_strength, on_step=steps.append, **options
    )
    begins_at_half = min_strength <= 0.25
    assert {s.total for s in steps} == {6 * (max_attempts + begins_at_half)}
    for row in range(12):
        if not flips(0.5, row) and flips(0.25, row):
            continue  # a bisection supposes that more noise flips more
        wanted, n_tried = bisected(row)
        assert cf.trace["strength"][row] == pytest.approx(wanted)
        assert cf.flipped[row] == flips(wanted, row)
        more = begins_at_half * (int(not flips(0.5, row)) - int(flips(0.25, row)))
        passes = sum(int((s.rows == row).sum()) for s in steps)
        assert passes == 6 * (n_tried + more)


class Attempt:
    """What BestAttempt reads of an attempt."""

    def __init__(self, count):
        self.networks = self
        self.cost = {p: torch.full((count,), 2) for p in ("unet", "decoder", "classifier")}
        self.no_gradient = torch.zeros(count, dtype=torch.bool)

    def trace(self, n_steps):
        return {"kept_fraction": torch.full((len(self.no_gradient), n_steps), 0.5)}


def test_best_is_the_lowest_that_flips_or_else_the_last():
    best = BestAttempt(torch.zeros(3, 1), torch.zeros(3, 2))
    true, false = torch.tensor(True), torch.tensor(False)

    def tell(rows, value, passed, level):
        rows = torch.tensor(rows)
        n = len(rows)
        best.update(
            rows,
            torch.full((n, 1), value),
            torch.full((n, 2), value),
            torch.stack(passed),
            torch.full((n,), level),
            Attempt(n),
            4,
        )

    tell([0, 1], 1.0, [true, false], 0.5)
    assert best.z[:, 0].tolist() == [1, 1, 0]
    tell([0], 2.0, [false], 0.25)  # a failure after a success is forgotten
    tell([1], 3.0, [false], 0.75)  # a failure after a failure is not
    assert best.z[:, 0].tolist() == [1, 3, 0]
    tell([0, 1], 4.0, [true, true], 0.375)
    assert best.z[:, 0].tolist() == [4, 4, 0]
    assert best.reached.tolist() == [True, True, False]
    assert best.strength[:2].tolist() == [0.375, 0.375]
    assert best.strength[2].isnan()
    assert best.cost["unet"].tolist() == [6, 6, 0]
    assert best.cost["decoder"].tolist() == [9, 9, 0]  # what came out was looked at, too
    trace = best.trace(0.1)
    assert trace["kept_fraction"].shape == (3, 4)
    assert trace["kept_fraction"][2].isnan().all()


def test_guidance_pauses_where_the_guess_is_there():
    world = gaussian_world(2, 4)
    eased, driven = (
        run(world, pause_when_reached=pause_when_reached, strength=0.8)
        for pause_when_reached in (True, False)
    )
    there = eased.trace["probability"] >= 0.9
    assert there.any()
    assert not there.all()
    assert torch.equal(eased.trace["kept_fraction"].isnan(), there)
    assert not eased.trace["masks"][there].any()
    assert not driven.trace["kept_fraction"].isnan().any()
    assert (eased.cost["unet"] < driven.cost["unet"]).all()
    assert (eased.cost["unet"] == 2 * 6 - there.sum(1)).all()
    change = [
        (cf.code_after.z - cf.code_before.z).flatten(1).norm(dim=1).mean() for cf in (eased, driven)
    ]
    assert change[0] < change[1]


# -- what is promised of every method


def test_statuses():
    space, f, x, target = gaussian_world(2, 4)
    target[0] = f(x[:1]).argmax(1)
    cf = run((space, f, x, target))
    assert cf.status == ("already_target", "flipped", "flipped", "flipped")
    assert torch.equal(cf.image[0], cf.reconstruction[0])
    assert cf.trace["strength"][0].isnan()
    assert cf.cost["unet"][0] == 0

    class Swapping(GaussianSpace):
        def decode(self, code, clamp=True):
            return super().decode(cfx.Code(code.z + self.means[1 - self.first] * 4))

    other = Swapping()
    other.first = int(f(x[1:2]).argmax(1))
    assert run((other, f, x[1:2], target[1:2])).status == ("reconstruction_is_target",)
    weak = run((space, f, x, target), classifier_scale=0.0, strength=0.05)
    assert weak.status == ("already_target", *["not_found"] * 3)


class Flat(torch.nn.Module):
    def forward(self, images):
        return torch.tensor([[2.0, 0.0]]) + 0 * images.flatten(1)[:, :2]


class Nan(torch.nn.Module):
    def forward(self, images):
        total = images.sum((1, 2, 3))
        logits = torch.stack([total, -total], 1)
        return logits * torch.nan if images.requires_grad else logits


@pytest.mark.parametrize("kind", [Flat, Nan])
def test_without_a_slope(kind):
    space, _, x, _ = gaussian_world()
    cf = run((space, cfx.wrap(kind()), x, 1), max_attempts=2)
    assert set(cf.status) == {"no_gradient"}
    assert cf.image.isfinite().all()
    assert not cf.trace["masks"].any()


def test_a_black_box_is_refused():
    space, f, x, target = gaussian_world()
    box = cfx.BlackBox(f)
    with pytest.raises(TypeError, match=r"classifier.*BlackBox"):
        run((space, box, x, target))
    assert box.n_queries == 0
    for pause_when_reached in (True, False):
        with pytest.raises(TypeError, match=r"classifier: expected.*gradients"):
            run(
                (space, torch.no_grad()(f.__call__), x, target),
                pause_when_reached=pause_when_reached,
                strength=0.9,
            )


@pytest.mark.parametrize("last", [1, 3, 8])
def test_on_step_can_end_it(last):
    world, seen = gaussian_world(2, 4), []

    def stop(step):
        seen.append(step)
        return step.number == last

    cf = run(world, max_attempts=3, on_step=stop)
    assert [s.number for s in seen] == list(range(1, last + 1))
    assert {s.total for s in seen} == {24}  # an image that fails twice gets a fourth try
    assert cf.trace["masks"].shape == (4, 6, *SHAPE[1:])
    assert cf.image.isfinite().all()
    whole = run(world, max_attempts=3)
    if last == 8:  # the first try was whole
        assert cf.flipped.all()
    else:
        assert cf.trace["kept_fraction"][:, last:].isnan().all()
        half = run(world, strength=0.25)
        close(cf.trace["probability"][:, :last], half.trace["probability"][:, :last])
    assert torch.equal(whole.image, run(world, max_attempts=3, on_step=lambda step: None).image)


@pytest.mark.parametrize("guidance", ["consensus", "random_mask", "classifier_free"])
def test_batch_mates_never_matter(guidance):
    space, f, x, target = world = gaussian_world(3, 7)
    options = {"max_attempts": 3, "guidance": guidance, "strength": 0.4}
    whole, halves = run(world, **options), run(world, batch_size=3, **options)
    close(whole.image, halves.image, 1e-4)
    assert whole.status == halves.status
    for name in whole.trace:
        close(whole.trace[name].float(), halves.trace[name].float(), 1e-4)
    alone = run((space, f, x[:1], target[:1]), **options)
    close(alone.image, whole.image[:1], 1e-4)
    swapped = x.clone()
    swapped[0] = x[1].flip(-1)
    other = run((space, f, swapped, target), **options)
    close(other.image[1:], whole.image[1:], 1e-4)
    for name in whole.cost:
        assert torch.equal(whole.cost[name], halves.cost[name])
        assert torch.equal(whole.cost[name][:1], alone.cost[name])


def test_seeds_decide():
    world = gaussian_world()
    assert torch.equal(run(world, seed=4).image, run(world, seed=4).image)
    assert not torch.equal(run(world, seed=4).image, run(world, seed=5).image)


@pytest.mark.parametrize("noise", ["random", "ddim_inversion"])
@pytest.mark.parametrize("composite_threshold", [None, 0.2])
@pytest.mark.parametrize("distance_space", ["code", "image"])
@pytest.mark.parametrize("backprop_diffusion", [False, True])
def test_costs_are_what_was_spent(distance_space, backprop_diffusion, composite_threshold, noise):
    """One sample alone: looks are counted in the parts themselves."""
    space, f, x, target = gaussian_world(2, 1)
    net, decoded, slopes = f.module, [], []
    plain, eps = space.decode, space.predict_noise

    def counting(z, t, condition):
        out = eps(z, t, condition)
        if out.requires_grad:
            out.register_hook(slopes.append)
        return out

    def decode(code, clamp=True):
        images = plain(code, clamp)
        decoded.append("forward")
        if images.requires_grad:
            code.z.register_hook(lambda g: decoded.append("back"))
        return images

    space.decode, space.predict_noise = decode, counting
    net.rows = net.backward = 0
    options = {
        "distance_space": distance_space,
        "backprop_diffusion": backprop_diffusion,
        "composite_threshold": composite_threshold,
        "max_attempts": 3,
    }
    options["noise"] = noise
    cf = run((space, f, x, target), **options)
    assert cf.cost["classifier"].item() == net.rows + net.backward
    assert cf.cost["unet"].item() == len(space.rows) + len(slopes)
    assert bool(slopes) == backprop_diffusion
    assert (cf.cost["generator"] - cf.cost["unet"]).item() == len(decoded)


@pytest.mark.parametrize("noise", ["random", "ddim_inversion"])
@pytest.mark.parametrize("backprop_diffusion", [False, True])
def test_all_computed_rows_are_counted(noise, backprop_diffusion):
    """Of a whole batch, in which guidance pauses and resumes."""
    space, f, x, target = gaussian_world(3, 9)
    eps, passes = space.predict_noise, []

    def counting(z, t, condition):
        assert len(z)
        passes.append(len(z))
        out = eps(z, t, condition)
        if out.requires_grad:
            out.register_hook(lambda g: passes.append(len(g)))
        return out

    space.predict_noise = counting
    cf = run(
        (space, f, x, target),
        noise=noise,
        backprop_diffusion=backprop_diffusion,
        max_attempts=3,
        strength=0.8,
    )
    assert cf.trace["kept_fraction"].isnan().any()
    # A check repeats one row of the first call twice. This is not part of the cost.
    assert cf.cost["unet"].sum() == sum(passes) - 2


def path_and_space(halved, count=3, steps=6):
    space, _, x, _ = gaussian_world(2, count)
    code = space.encode(x).z
    uncond = torch.full((count,), 2)
    path = InversionPath(code, space.alphas_cumprod, 0.6, steps, halved)

    def predict(rows):
        return lambda here, z, t: space.predict_noise(z, t, uncond[rows[here]])

    def inverted(strength):
        schedule = even_schedule(
            space.alphas_cumprod, torch.full((count,), strength).double(), steps
        )
        denoiser = lambda z, t, _: space.predict_noise(z, t, uncond)  # noqa: E731
        return schedule.start, ddim_invert(denoiser, code, schedule)

    return path, space, predict, inverted


@pytest.mark.parametrize(("halved", "strength"), [(True, 0.3), (False, 0.6)])
def test_the_path_is_the_inversion_of_its_attempt(halved, strength):
    path, _, predict, inverted = path_and_space(halved)
    start, wanted = inverted(strength)
    rows = torch.arange(3)
    assert torch.equal(path.start(rows, start, predict(rows)), wanted)


@pytest.mark.parametrize("strength", [0.2, 0.45, 0.6, 0.9])
def test_with_many_steps_every_place_on_the_path_is_the_inversion(strength):
    path, _, predict, inverted = path_and_space(True, steps=200)
    start, wanted = inverted(strength)
    rows = torch.arange(3)
    close(path.start(rows, start, predict(rows)), wanted, 0.05)


def test_the_path_is_taken_once_by_each_sample_alone():
    path, space, predict, inverted = path_and_space(True)
    levels = {s: inverted(s)[0] for s in (0.3, 0.45, 0.6, 0.8)}
    rows = torch.arange(3)
    space.rows = []
    whole = {s: path.start(rows, levels[s], predict(rows)) for s in (0.6, 0.3, 0.45, 0.8)}
    assert sum(space.rows) == 3 * (6 + 3 + 2)  # short strides to 0.3, long ones to 0.6 and to 0.8
    for strength, code in whole.items():  # the order does not matter, nor do other samples
        other = path_and_space(True)[0]
        mixed = torch.stack([levels[0.3][0], levels[strength][0]])
        pair = torch.tensor([0, 2])
        found = other.start(pair, mixed, predict(pair))
        close(found[1], code[2])
        close(found[0], whole[0.3][0])


def test_saved_and_loaded_with_its_trace(tmp_path):
    cf = run(gaussian_world())
    assert {"kept_fraction", "masks", "probability", "strength", "chance_fraction"} == set(cf.trace)
    assert cf.trace["masks"].dtype == torch.bool
    assert cf.trace["masks"].shape == (5, 6, *SHAPE[1:])
    assert cf.trace["kept_fraction"].shape == cf.trace["probability"].shape == (5, 6)
    again = cfx.Counterfactuals.load(cf.save(tmp_path / "cf"))
    for name, values in cf.trace.items():
        torch.testing.assert_close(again.trace[name], values, equal_nan=True)
    assert again.made_by["cone_angle"] == 45.0
    assert torch.equal(cf[1:3].trace["masks"], cf.trace["masks"][1:3])


def test_chunks_in_which_there_was_nothing_to_do():
    space, f, x, target = gaussian_world(2, 4)
    target[:2] = f(x[:2]).argmax(1)
    cf = run((space, f, x, target), batch_size=2)
    whole = run((space, f, x, target))
    assert cf.status == whole.status
    for name in ("kept_fraction", "masks", "probability", "strength", "chance_fraction"):
        close(cf.trace[name].float(), whole.trace[name].float(), 1e-4)
    assert cf.trace["kept_fraction"][:2].isnan().all()
    assert not cf.trace["masks"][:2].any()
    none = run((space, f, x[:2], target[:2]))
    assert set(none.trace) == {"strength", "chance_fraction"}


def test_patches_agree_together():
    world = gaussian_world(2, 4)
    cf = run(world, patch_size=2, pause_when_reached=True, strength=0.9, max_attempts=2)
    assert cf.trace["masks"].shape == (4, 6, SHAPE[1] // 2, SHAPE[2] // 2)
    close(cf.trace["chance_fraction"], torch.full((4,), chance_level(12, 45.0)))
    with pytest.raises(ValueError, match="patch_size: expected a divisor"):
        run(world, patch_size=4)


def test_composites_keep_the_rest_bit_for_bit():
    space, f, x, target = gaussian_world(2, 6)
    x = x + 1e-7 * torch.rand(x.shape)
    plain, pasted = run((space, f, x, target)), run((space, f, x, target), composite_threshold=0.5)
    assert plain.flipped.all()
    assert pasted.status == plain.status
    same = (pasted.image == x).all(1)
    assert same.any()
    assert not same.all()
    assert torch.equal(pasted.image[~same[:, None].expand_as(x)],
                       plain.image[~same[:, None].expand_as(x)])  # fmt: skip
    with torch.no_grad():
        close(pasted.logits_after, f(pasted.image), 1e-4)
    assert (pasted.confidence >= 0.9 - 1e-4).all()
    # Where nothing but the largest pixel would be left, it does not flip, and nothing is pasted.
    strict = run((space, f, x, target), composite_threshold=1.0)
    assert torch.equal(strict.image, plain.image)


def test_the_paper_options():
    world = gaussian_world()
    options = {**cfx.PAPER_DIFFUSION, "steps": 20}
    space, f, x, target = world
    cf = cfx.diffusion_counterfactual(space, f, x, target, **options)
    assert cf.flipped.all()
    assert cf.trace["kept_fraction"].shape == (5, int(0.382 * 20))
    assert (cf.cost["unet"] == 7 * 4).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 2}, "max_attempts: expected 1 with"),
        ({"steps": 1001}, "steps: expected at most 1000"),
        ({"strength": 0.1, "steps": 5}, "strength: expected at least one of 5 steps"),
    ],
)
def test_what_the_published_schedule_can_not_do(options, message):
    with pytest.raises(ValueError, match=message):
        run(gaussian_world(), timestep_spacing="paper", **options)


def test_class_names_give_the_conditions():
    _, f, x, target = world = gaussian_world(2, 3)
    given = run(world, conditions=[0, 1])
    assert torch.equal(given.image, run(world).image)
    crossed = run(world, conditions=[1, 0], guidance="classifier_free", guidance_scale=1.0)
    assert not torch.equal(
        crossed.image, run(world, guidance="classifier_free", guidance_scale=1.0).image
    )
    three = GaussianSpace(3)
    with pytest.raises(ValueError, match="conditions: expected one for each of"):
        run((three, f, x, target))
    assert run((three, f, x, target), conditions=[0, 2]).image.isfinite().all()


def test_nothing_is_left_behind():
    space, f, x, target = gaussian_world()
    f.module.train()
    kept, state = x.clone(), torch.get_rng_state()
    run((space, f, x, target))
    assert f.module.training
    assert all(p.requires_grad and p.grad is None for p in Bayes.parameters(f.module))
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)
