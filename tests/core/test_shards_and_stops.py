"""A data set in shards gives the answers of one call; a stop ends the whole call."""

import os
import signal

import pytest
import torch
from methods_here import DIRECTION, METHODS, SHARDED, SPACE, X, net, other

import cfxnb as cfx
from cfxnb.core.types import STOPPED

F = net()
TARGET = other(F)


@pytest.mark.parametrize("method", SHARDED)
@pytest.mark.parametrize("size", [1, 3])
def test_shards(method, size):
    run = METHODS[method]
    whole = run(F, X, TARGET)
    parts = [run(F, X[i : i + size], TARGET[i : i + size], first_row=i) for i in range(0, 8, size)]
    for a, *pieces in zip(whole, *parts, strict=True):
        torch.testing.assert_close(torch.cat(pieces), a, atol=1e-4, rtol=1e-4)


def test_shards_have_one_record():
    whole = cfx.latent_attack(SPACE, F, X, TARGET, restarts=0)
    parts = [
        cfx.latent_attack(SPACE, F, X[i : i + 4], TARGET[i : i + 4], restarts=0, first_row=i)
        for i in (0, 4)
    ]
    joined = cfx.Counterfactuals.concatenate(parts)
    assert joined.status == whole.status
    for record in (joined.made_by, whole.made_by):
        record.pop("seconds")
    assert joined.made_by == whole.made_by


def test_a_shard_has_noise_of_its_own():
    first, second = (
        cfx.latent_attack(SPACE, F, X[:2], TARGET[:2], init_noise=0.5, first_row=row)
        for row in (0, 2)
    )
    assert not torch.equal(first.image, second.image)
    assert second.made_by["first_row"] == 2


def interrupted(number):
    """A callback that presses Ctrl-C at its call ``number``."""
    calls = []

    def press(step):
        calls.append(step)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGINT)
        return False

    return press


def stops(number):
    calls = []

    def stop(step):
        calls.append(step)
        return len(calls) == number

    return stop


RUNS = {
    "latent_attack": lambda **k: cfx.latent_attack(
        SPACE, F, X, TARGET, restarts=1, confidence=0.9, **k
    ),
    "pixel_attack": lambda **k: cfx.pixel_attack(F, X, TARGET, confidence=0.9, step_size=0.05, **k),
    "follow": lambda **k: cfx.follow_direction(SPACE, F, X, DIRECTION, TARGET, **k),
}


@pytest.mark.parametrize("method", RUNS)
@pytest.mark.parametrize("way", ["callback", "ctrl-c"])
@pytest.mark.filterwarnings("ignore:interrupted")
def test_a_stop_ends_the_whole_call_and_keeps_what_is_finished(method, way):
    """Chunks of two: the third is stopped in its first step, the fourth never begins."""
    run, counts = RUNS[method], []
    whole = run(batch_size=2)
    run(batch_size=2, on_step=lambda step: counts.append(int(step.rows.min()) // 2) and False)
    number = counts.index(2) + 1
    end = stops(number) if way == "callback" else interrupted(number)
    found = run(batch_size=2, on_step=end)
    assert len(found) == 8
    for i in range(4):
        assert found.status[i] == whole.status[i]
        torch.testing.assert_close(found.image[i], whole.image[i])
    assert found.status[6:] == (STOPPED, STOPPED)
    assert torch.equal(found.original, X)
    assert torch.equal(found.image[6:], X[6:])
    assert found.logits_after[6:].isnan().all()
    assert not found.flipped[6:].any()
    assert not found.eligible[6:].any()
    assert torch.equal(found.target, TARGET)
    for status in found.status[4:6]:
        assert status in (STOPPED, "flipped", "already_target")
    if found.code_after is not None:
        assert found.code_after.z[6:].isnan().all()


def test_ctrl_c_is_told():
    with pytest.warns(UserWarning, match=r"interrupted: \d of 8 images are finished"):
        RUNS["latent_attack"](batch_size=2, on_step=interrupted(3))


def test_ctrl_c_before_anything_is_finished_passes():
    def pressed(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cfx.pixel_attack(pressed, X, TARGET)


def test_a_stopped_result_is_saved_and_read(tmp_path):
    found = RUNS["latent_attack"](batch_size=2, on_step=stops(1))
    again = cfx.Counterfactuals.load(found.save(tmp_path / "stopped"))
    assert again.status == found.status
    assert torch.equal(again.image, found.image)
    assert found.status.count(STOPPED) >= 6
    table = cfx.report({"stopped": found}, judge=F)
    assert table["flip rate"].isna().all() or 0 <= table["flip rate"].iloc[0] <= 1
    with pytest.raises(ValueError, match=r"like: expected .*not started"):
        cfx.random_change(SPACE, F, found)


class Pressing:
    """A classifier during whose call ``at`` Ctrl-C is pressed."""

    def __init__(self, at=0):
        self.at, self.calls = at, 0

    def __call__(self, images):
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return F(images)


@pytest.mark.parametrize("method", RUNS)
@pytest.mark.filterwarnings("ignore:interrupted")
def test_ctrl_c_in_the_last_look_keeps_everything(method):
    calls = {
        "latent_attack": lambda f: cfx.latent_attack(SPACE, f, X, TARGET, confidence=0.9),
        "pixel_attack": lambda f: cfx.pixel_attack(f, X, TARGET, confidence=0.9, step_size=0.05),
        "follow": lambda f: cfx.follow_direction(SPACE, f, X, DIRECTION, TARGET),
    }[method]
    whole = Pressing()
    expected = calls(whole)
    found = calls(Pressing(whole.calls))
    assert found.status == expected.status
    torch.testing.assert_close(found.image, expected.image)


@pytest.mark.filterwarnings("ignore:interrupted")
def test_attributions_keep_what_is_finished():
    runs = {
        "pixels": lambda f: cfx.integrated_gradients(
            f, cfx.straight_path(X), TARGET, batch_size=17
        ),
        "code": lambda f: cfx.latent_integrated_gradients(
            SPACE, f, X, DIRECTION, TARGET, method="proportional", batch_size=2
        ),
        "captum": lambda f: cfx.captum_attribution("input_x_gradient", f, X, TARGET, batch_size=2),
    }
    for run in runs.values():
        counted = Pressing()
        whole = run(counted)
        found = run(Pressing(counted.calls * 3 // 4))
        done = [i for i, status in enumerate(found.status) if status != STOPPED]
        assert 0 < len(done) < len(X)
        assert [found.status[i] for i in done] == [whole.status[i] for i in done]
        torch.testing.assert_close(found.attributions[done], whole.attributions[done])
        assert found[slice(len(done), 8)].attributions.isnan().all()
        assert torch.equal(found.label, whole.label)


def test_a_callback_that_changes_what_it_is_shown_changes_nothing():
    def spoil(step):
        for part in (step.code, step.probability, step.rows, step.active):
            part.zero_()

    plain, spoilt = (RUNS["latent_attack"](on_step=on) for on in (None, spoil))
    assert torch.equal(plain.image, spoilt.image)
    assert plain.status == spoilt.status
