"""How many images and which methods fit in the time, and what the page says about it."""

import time

import pytest
import torch
from explain_scene import scene

import cfxnb as cfx
from cfxnb.explanation import costs
from cfxnb.explanation.methods import METHODS, QUERIES, Job


def job(method, **options):
    return Job(method, METHODS[method][1], "s", options, False)


def estimate(n_images=24, generator=0.01, denoiser=0.0, classifier=0.001):
    speeds = {"s": costs.Speed(generator, denoiser)}
    return costs.Estimate(n_images, classifier, speeds, 100, {})


def test_the_estimate_is_linear():
    for method in METHODS:
        one, many = (estimate(n).seconds(job(method)) for n in (1, 11))
        each = estimate().per_image(job(method))
        assert many - one == pytest.approx(10 * each)
    usual = estimate().per_image(job("latent_attack"))
    assert estimate().per_image(job("latent_attack", steps=50)) == pytest.approx(2 * usual)
    queries = estimate()
    queries.queries["s"] = QUERIES // 2
    setups = [e.setup(job("follow_direction")) for e in (queries, estimate())]
    assert setups[1] == pytest.approx(2 * setups[0])
    assert estimate().setup(job("follow_direction", direction="given")) == 0


JOBS = [job("latent_attack"), job("follow_direction"), job("pixel_attack"), job("reconstruct")]


def test_a_quick_space_has_all_images_and_methods():
    found = costs.choose(JOBS, estimate(generator=1e-4), None, True, 10.0)
    assert (found.n_images, found.left_out, found.why) == (24, {}, "")
    assert found.restored().queries == {"s": QUERIES}


@pytest.mark.parametrize("generator", [0.03, 0.3, 3.0])
def test_a_slow_space_fits_in_the_time_or_has_the_fewest_images(generator):
    found = costs.choose(JOBS, estimate(generator=generator), None, True, 10.0)
    chosen = [each for each in JOBS if each.name not in found.left_out]
    spent = sum(found.restored().seconds(each) for each in chosen)
    methods = [each for each in chosen if not each.baseline]
    assert methods
    assert spent <= 600 or (found.n_images == costs.LEAST and len(methods) == 1)
    texts = [each.text for each in found.findings()]
    assert any("images are explained, because" in t for t in texts) == (found.n_images < 24)
    for name in found.left_out:
        assert any(f"{name} was left out: on this machine" in t for t in texts)


def test_the_usual_evaluations_are_those_that_results_report():
    """Of methods whose number of evaluations depends on the images, about half to twice as many."""
    space, f, flow = (cfx.load(f"digits/{name}") for name in ("vae", "classifier", "flow"))
    x = cfx.data.digits()[:8].images
    found = {
        costs.PASSES["latent_attack"]: cfx.latent_attack(space, f, x, 3),
        costs.FITTED_WALK: cfx.flow_counterfactual(space, f, x, 3, flow=flow),
        costs.PASSES["pixel_attack"]: cfx.pixel_attack(f, x, 3),
        costs.PASSES["reconstruct"]: cfx.reconstruct(space, f, x, 3),
    }
    for usual, cf in found.items():
        began = torch.tensor([s != "already_target" for s in cf.status])
        for name, count in zip(("generator", "unet", "classifier"), usual, strict=True):
            spent = cf.cost[name][began].float().mean() if name in cf.cost else 0.0
            assert count / 2.5 <= spent <= 2.5 * count, (name, usual)


def test_what_the_caller_names_is_done():
    found = costs.choose(JOBS, estimate(generator=3.0), 24, False, 1.0)
    assert (found.n_images, found.left_out) == (24, {})


def test_choices_are_kept(tmp_path):
    found = costs.choose(JOBS, estimate(generator=0.3), None, True, 10.0)
    found.save(tmp_path / "choice.json")
    again = costs.Choice.load(tmp_path / "choice.json")
    assert again.restored() == found.restored()
    assert again.findings() == found.findings()
    (tmp_path / "choice.json").write_text("[")
    with pytest.raises(ValueError, match="line 1"):
        costs.Choice.load(tmp_path / "choice.json")


def test_words():
    found = [costs.in_words(s) for s in (0.2, 1.0, 40.4, 100, 600)]
    assert found == ["1 second", "1 second", "40 seconds", "2 minutes", "10 minutes"]


class Slow(torch.nn.Module):
    """A space whose images take 30 ms each to render."""

    def __init__(self, space):
        super().__init__()
        self.space, self.mean, self.std = space, space.mean, space.std
        self.axes, self.variances = space.axes, space.variances

    def encode(self, images):
        return self.space.encode(images)

    def decode(self, code):
        time.sleep(0.03 * len(code.z))
        return self.space.decode(code)


def test_slow_spaces_are_measured_and_the_page_says_so(tmp_path):
    data, classifier, space = scene()
    told = []
    from cfxnb.explanation.explain import Question, explain_named

    question = Question(
        data, classifier, Slow(space), methods={"reconstruct": {}, "pixel_attack": {}},
        max_minutes=0.001, output_dir=tmp_path, tell=told.append,
    )  # fmt: skip
    found = explain_named(question)
    assert len(found.images) == costs.LEAST
    assert len(told) == 1
    assert told[0].startswith("4 images, 2 methods and baselines: about")
    assert any("Only 4 images are explained" in each.text for each in found.findings)
    assert any("the methods were estimated to take" in text for _, text in found.about)
    again = cfx.explain(
        data, classifier, Slow(space), methods={"reconstruct": {}, "pixel_attack": {}},
        max_minutes=0.001, output_dir=tmp_path,
    )  # fmt: skip
    assert again.table.equals(found.table)
