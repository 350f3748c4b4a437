"""The workbench without a browser: what the controls run, what is kept, and the code of it."""

import threading
from inspect import signature

import pytest
import torch
from PIL import Image

import cfxnb as cfx


class Identity:
    """A space whose codes are the pixels."""

    mean, std = torch.full((48,), 0.5), torch.full((48,), 0.2)

    def encode(self, images):
        return cfx.Code(images.flatten(1))

    def decode(self, code):
        return code.z.view(-1, 3, 4, 4).clamp(0, 1)


def brightness(images):
    """Class 1 ("light") if the image is brighter than 0.5."""
    score = 60 * (images.mean((1, 2, 3)) - 0.5)
    return torch.stack([-score, score], 1)


def images_of(n=5):
    return torch.linspace(0.4, 0.45, n)[:, None, None, None].expand(n, 3, 4, 4).clone()


@pytest.fixture
def bench():
    names = ["dark", "light"]
    return cfx.workbench(Identity(), brightness, images_of(), judge=brightness, class_names=names)


def status(bench):
    return bench._status.value


def test_a_run_gives_what_the_method_gives(bench):
    bench._image.value, bench._count.value = 1, 2
    bench._boxes["steps"].value = "40"
    bench.run()
    bench.wait()
    run = bench.last
    alone = cfx.latent_attack(Identity(), brightness, images_of()[1:3], 1, steps=40)
    assert torch.equal(run.result.image, alone.image)
    assert run.options == {"steps": 40}
    assert run.judged.tolist() == [1, 1]
    assert "2 of 2 flipped" in status(bench)
    assert 'alt="' in bench._picture.value


def test_the_code_of_kept_runs_makes_them_again(bench):
    bench.run()
    bench.wait()
    bench.keep()
    bench._method.value = "pixel_attack"
    bench._boxes["minimal_norm"].value = True
    bench.run()
    bench.wait()
    bench.keep()
    names = {"space": Identity(), "images": images_of(), "judge": brightness}
    names["f"] = brightness
    code = bench.code().replace("'light'", "1")  # this function has no class names
    exec(code, names)
    for name, run in bench.runs.items():
        assert torch.equal(names[name].image, run.result.image)
    assert "minimal_norm=True" in code
    assert list(bench.runs) == ["run_1", "run_2"]


def test_the_runner_up_is_proposed_as_the_target(bench):
    assert bench._target.value == 1
    assert bench._target.label == "light"


def test_wrong_options_are_said_and_nothing_runs(bench):
    bench._boxes["steps"].value = "many"
    bench._run.click()
    assert "steps: expected an integer, got 'many'" in status(bench).replace("&#x27;", "'")
    assert bench.last is None
    bench._boxes["steps"].value = "-3"
    bench.run()
    bench.wait()
    assert "steps" in status(bench)
    assert "⚠" in status(bench)
    assert not bench._run.disabled


def test_the_stop_button_ends_a_run():
    begun = threading.Event()

    def slow(images):
        begun.set()
        return brightness(images) - 1e3 * torch.tensor([0.0, 1.0])  # never the target

    bench = cfx.workbench(Identity(), slow, images_of())
    bench._boxes["steps"].value = "100000"
    bench.run()
    assert begun.wait(30)
    bench._halt.click()
    result = bench.wait()
    assert result.status == ("stopped",)
    assert bench._halt.disabled


def test_kept_runs_are_compared_forgotten_and_saved(bench, tmp_path):
    with pytest.raises(ValueError, match="keep: expected a run"):
        bench.keep()
    with pytest.raises(ValueError, match="compare: expected kept runs"):
        bench.compare()
    bench.run()
    bench.wait()
    bench.keep()
    bench.compare()
    assert "latent_attack" in bench._compared.value
    folder = bench.save(tmp_path / "mine")
    assert cfx.Counterfactuals.load(folder / "run_1.safetensors").flipped.all()
    assert (folder / "runs.py").read_text() == bench.code()
    bench._kept.value = ("run_1",)
    bench.forget()
    assert not bench.runs


def test_a_black_box_gets_only_methods_without_gradients():
    box = cfx.BlackBox(brightness)
    alone = cfx.workbench(Identity(), box, images_of())
    assert list(alone.methods) == ["query_attack"]
    alone.run()
    assert alone.wait().flipped.all()
    bench = cfx.workbench(Identity(), box, images_of(), direction=torch.ones(48))
    assert list(bench.methods) == ["query_attack", "follow_direction"]
    bench._method.value = "follow_direction"
    bench._boxes["max_step"].value = "20"
    bench.run()
    assert bench.wait().flipped.all()


def test_an_own_method_gets_controls_for_its_arguments():
    def brighter(space, classifier, images, target, *, by=0.1, batch_size=4):
        return cfx.pixel_attack(classifier, images, target, epsilon=by)

    bench = cfx.workbench(Identity(), brightness, images_of(), methods={"brighter": brighter})
    bench._method.value = "brighter"
    assert list(bench._boxes) == ["by"]
    bench._boxes["by"].value = "6"
    bench.run()
    bench.wait()
    assert bench.last.options == {"by": 6.0}
    assert "methods['brighter'](space, f, x, target=1, by=6.0)" in bench.code()


def test_a_file_becomes_an_image(bench, tmp_path):
    Image.new("RGBA", (40, 20), (255, 0, 0, 255)).save(tmp_path / "red.png")
    content = (tmp_path / "red.png").read_bytes()
    row = bench.add_image(content, "red.png")
    assert row == 5
    assert torch.equal(cfx.read_image(tmp_path / "red.png", images_of()), bench._images[5:])
    assert bench._images[5, :, 0, 0].tolist() == [1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="file: expected an image file"):
        bench.add_image(b"no image", "x.png")


def test_the_code_of_an_added_file_beside_others_runs(bench, tmp_path, monkeypatch):
    Image.new("RGB", (8, 8), (90, 90, 90)).save(tmp_path / "gray.png")
    bench.add_image((tmp_path / "gray.png").read_bytes(), "gray.png")
    bench._image.value, bench._count.value = 4, 2
    bench.run()
    result = bench.wait()
    monkeypatch.chdir(tmp_path)
    names = {"space": Identity(), "f": brightness, "images": images_of(), "judge": brightness}
    exec(bench.code().replace("'light'", "1"), names)
    assert torch.equal(names["run_1"].image, result.image)


@pytest.mark.parametrize(
    ("goal", "value", "inside"),
    [
        ("probability at least", "0.8", lambda p: p >= 0.8),
        ("probability between", "0.6, 0.7", lambda p: (p >= 0.6) & (p <= 0.7)),
        ("probability at most", "1e-6", lambda p: p <= 1e-6),
    ],
)
@pytest.mark.parametrize("hidden", [False, True], ids=["white box", "black box"])
def test_a_goal_for_a_probability(goal, value, inside, hidden):
    f = cfx.BlackBox(brightness) if hidden else brightness
    bench = cfx.workbench(Identity(), f, images_of(), judge=brightness)
    bench._count.value, bench._target.value = 2, 1
    bench._goal.value, bench._goal_value.value = goal, value
    bench.run()
    result = bench.wait()
    assert "2 of 2 flipped" in status(bench)
    assert inside(brightness(result.image).softmax(1)[:, 1]).all()
    assert bench.last.judged.tolist() == [1, 1]
    probability = bench.last.table()["probability after"]
    expected = brightness(result.image).softmax(1)[:, 1]
    assert probability.tolist() == pytest.approx(expected.tolist(), abs=0.01)
    names = {"space": Identity(), "f": f, "images": images_of(), "judge": brightness}
    exec(bench.code(), names)
    assert torch.equal(names["run_1"].image, result.image)


@pytest.mark.parametrize(
    ("goal", "value", "inside"),
    [
        ("at least", "60", lambda y, before: y >= 60),
        ("at most", "36", lambda y, before: y <= 36),
        ("between", "50, 52", lambda y, before: (y >= 50) & (y <= 52)),
        ("raised by", "5", lambda y, before: y >= before + 5),
        ("lowered by", "5", lambda y, before: y <= before - 5),
    ],
)
def test_a_goal_for_an_outcome(goal, value, inside):
    def light(images):
        return 100 * images.mean((1, 2, 3))

    f = cfx.wrap_regression(light, names="light", units="percent")
    bench = cfx.workbench(Identity(), f, images_of(), judge=cfx.wrap_regression(light))
    assert "40 percent" in bench._preview.value
    bench._count.value, bench._goal.value, bench._goal_value.value = 2, goal, value
    bench.run()
    result = bench.wait()
    assert "2 of 2 flipped" in status(bench)
    assert inside(light(result.image), light(result.original)).all()
    assert bench.last.judged.tolist() == [1, 1]
    assert bench.last.table()["outcome before"].tolist() == [40.0, 41.25]
    names = {"space": Identity(), "f": f, "images": images_of()}
    exec(bench.code(), names | {"judge": f})
    code = "".join(line for line in bench.code().splitlines(True) if "report" not in line)
    exec(code, names)
    assert torch.equal(names["run_1"].image, result.image)


def test_wrong_goal_values_are_said(bench):
    bench._goal.value = "probability between"
    for value, told in (("0.5", "two numbers"), ("0.5, 1.5", "below 1"), ("few, many", "two")):
        bench._goal_value.value = value
        bench._run.click()
        assert "goal value: expected" in status(bench)
        assert told in status(bench)
    assert bench.last is None


def test_the_judge_of_a_regression_model_is_one():
    f = cfx.wrap_regression(lambda images: images.mean((1, 2, 3)))
    with pytest.raises(TypeError, match="judge: expected a regression model"):
        cfx.workbench(Identity(), f, images_of(), judge=brightness)
    two = cfx.wrap_regression(lambda images: images.mean((2, 3))[:, :2])
    with pytest.raises(ValueError, match="judge: expected 1 outcomes as classifier, got 2"):
        cfx.workbench(Identity(), f, images_of(), judge=two)


def test_each_method_has_at_most_ten_options_and_they_are_its_own():
    from cfxnb.interactive.methods import CHOICES, OPTIONS

    for name, options in OPTIONS.items():
        assert len(options) <= 10
        method = getattr(cfx, name)
        texts = [o for o in options if isinstance(signature(method).parameters[o].default, str)]
        assert set(texts) <= set(CHOICES), name
