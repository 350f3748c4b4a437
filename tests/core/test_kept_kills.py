"""Processes that are killed at random moments, two at once, and what others find after them."""

import random
import re
import threading
import time

import pytest
import torch
from kept_scenes import (
    BATCH,
    KNOBS,
    F,
    Worker,
    counted,
    dying,
    same,
    search,
    training,
    watched_search,
)


@pytest.fixture(scope="module")
def whole():
    """A search that nobody disturbs."""
    return search()


def check(found, whole, log, kills):
    """A search in several processes is whole, but for what was under way when one was killed."""
    asked, lost = log.read_text().split(), found.made_by["lost"]
    asked_twice = len(asked) - len(set(asked))
    assert asked_twice <= asked.count(asked[0]) - 1  # the first question alone
    assert len(asked) <= found.n_queries <= KNOBS["max_queries"]
    assert lost <= BATCH * kills
    if not lost:
        assert same(found, whole)
    assert whole.proxy_fit.n_queries - found.proxy_fit.n_queries <= lost + 1
    assert torch.cosine_similarity(found.g, whole.g, dim=0) > 0.999
    # What was lost counts against the budget, so the random direction may be left unmeasured.
    measured = found.table.drop(index="random") if lost else found.table
    assert measured["flip rate"].notna().all()


def killed_later(worker, log, images, seconds):
    """Kill a process some time after so many more images were asked about; whether it did die."""
    before = len(log.read_text().split())
    while worker.process.is_alive() and len(log.read_text().split()) < before + images:
        time.sleep(0.001)
    time.sleep(seconds)
    worker.kill()
    return worker.result() is None


def test_killed_at_random_moments(tmp_path, whole):
    """Twenty-four processes, one after the other, in four folders."""
    chance, kills = random.Random(0), 0
    for number in range(4):
        folder, log = tmp_path / f"search {number}", tmp_path / f"log {number}"
        log.touch()
        for _ in range(6):
            worker = Worker(watched_search, folder, log)
            kills += killed_later(worker, log, chance.randint(0, 60), chance.uniform(0, 0.01))
        found = Worker(watched_search, folder, log).result()
        check(found, whole, log, 6)
        assert same(search(checkpoint_dir=folder), found)
    assert kills >= 18  # the others may have ended by then


@pytest.mark.parametrize("when", ["before", "amid", "after"])
def test_killed_at_a_change_of_a_file(tmp_path, whole, when):
    """Ten processes: each dies at another one of all the changes that a search makes."""
    found, changes = Worker(counted, watched_search, tmp_path / "0", tmp_path / "log").result()
    check(found, whole, tmp_path / "log", 0)
    for fatal in sorted(random.Random(when).sample(range(1, changes + 1), 10)):
        folder, log = tmp_path / f"search {fatal}", tmp_path / f"log {fatal}"
        log.touch()
        died = Worker(dying, watched_search, fatal, when, folder, log, 0.0)
        assert died.result() is None
        assert died.process.exitcode == -9
        check(Worker(watched_search, folder, log, 0.0).result(), whole, log, 1)
        assert not [*folder.glob("*.partial")]
        asked, answered = (
            {f.stem for f in folder.glob(f"*.{s}")} for s in ("pending", "safetensors")
        )
        assert not asked & answered


def refused(found):
    return isinstance(found, ValueError) and re.match(
        "checkpoint_dir: .*in use by another pro", str(found)
    )


def test_two_at_once(tmp_path, whole):
    """A second process is refused at once. When the first one is killed, the folder is free."""
    chance, folder, log = random.Random(1), tmp_path / "search", tmp_path / "log"
    log.touch()
    for _ in range(5):
        before = len(log.read_text().split())
        first = Worker(watched_search, folder, log, 2.0)  # far from its end when it is killed
        while first.process.is_alive() and len(log.read_text().split()) == before:
            time.sleep(0.001)
        assert refused(Worker(watched_search, folder, log).result())
        assert killed_later(first, log, 0, chance.uniform(0, 0.05))
    check(Worker(watched_search, folder, log).result(), whole, log, 5)


def test_two_begin_at_the_same_time(tmp_path, whole):
    """One of them searches; the other one is refused, or finds what the first one has found."""
    for number in range(4):
        folder, log = tmp_path / f"search {number}", tmp_path / f"log {number}"
        both = [Worker(watched_search, folder, log) for _ in range(2)]
        found = [worker.result() for worker in both]
        assert sum(map(bool, map(refused, found))) <= 1
        for each in found:
            assert refused(each) or same(each, whole)
        check(search(checkpoint_dir=folder), whole, log, 0)


def test_two_threads(tmp_path, whole):
    """A second search in the folder is refused while the first one runs, also from within."""
    refused, once = [], threading.Event()

    def within():
        with pytest.raises(ValueError, match=r"_dir: .*in use by another process or thread"):
            search(checkpoint_dir=tmp_path)
        refused.append(threading.get_ident())

    def classifier(images):
        if not once.is_set():
            once.set()
            thread = threading.Thread(target=within)
            thread.start()
            thread.join()
            within()
        return F(images)

    found = search(classifier, checkpoint_dir=tmp_path)
    assert len(set(refused)) == 2
    assert same(found, whole)


def test_a_training_is_killed(tmp_path):
    """Fourteen processes, at random moments and at changes of files: the weights are the same."""
    chance, weights = random.Random(2), training(None, 0.0)
    got, changes = Worker(counted, training, tmp_path / "0", 0.0).result()
    assert torch.equal(got, weights)
    for _ in range(6):
        worker = Worker(training, tmp_path / "1", 0.02)
        time.sleep(chance.uniform(0, 0.2))
        worker.kill()
    assert torch.equal(Worker(training, tmp_path / "1").result(), weights)
    for when in ("before", "amid", "after") * 2 + ("amid", "after"):
        died = Worker(dying, training, chance.randint(1, changes), when, tmp_path / "2", 0.0)
        assert died.result() is None or died.process.exitcode == 0
    assert torch.equal(Worker(training, tmp_path / "2").result(), weights)


def test_an_interrupted_training_keeps_every_step(tmp_path, monkeypatch):
    """Ctrl-C keeps what was reached, although the last checkpoint would be a minute old."""
    weights, steps = training(None, 0.0), []

    def interrupting(seconds):
        steps.append(seconds)
        if len(steps) == 1 + 17:  # the first loss is asked about once more, to recognise it
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupting)
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path, save_every=1e9)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 16
    assert torch.equal(training(tmp_path), weights)
    assert len(steps) == 18 + 1 + 24


def test_a_lock_file_alone_locks_nothing(tmp_path, whole):
    """It stays behind when a process ends, and means nothing without one."""
    (tmp_path / "folder.lock").touch()
    assert same(search(checkpoint_dir=tmp_path), whole)
    assert same(search(checkpoint_dir=tmp_path), whole)
