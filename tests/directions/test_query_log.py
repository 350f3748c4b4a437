"""A budget that holds, and searches that go on where they were interrupted."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import LinearSpace, code_classifier

import cfxnb as cfx
from cfxnb.core.kept_work import digest
from cfxnb.directions.direction_trial import Trial
from cfxnb.directions.query_log import QueryBatch, QueryLog

SPACE = LinearSpace(4)
F = code_classifier(SPACE, torch.tensor([[1.0, -2.0, 0.5, 0.3]]))
X = SPACE.sample(9, 3)
KNOBS = {
    "max_queries": 300,
    "n_curvature": 2,
    "batch_size": 20,
    "validation_images": X[1:3],
    "proxy": "ridge",
}


def search(f=F, **knobs):
    return cfx.find_directions(SPACE, f, X[0], 1, **KNOBS | knobs)


def again(found):
    """Images that were asked about once more, to recognise the classifier."""
    return found.made_by["compared"]


def same(a, b):
    assert torch.equal(a.vectors, b.vectors)
    assert a.names == b.names
    assert a.table.equals(b.table)
    assert torch.equal(a.proxy_fit.gradient, b.proxy_fit.gradient)
    assert torch.equal(a.proxy_fit.hessian, b.proxy_fit.hessian)
    assert (a.proxy_fit.r2, a.proxy_fit.split_half_cosine, a.n_queries) == (
        b.proxy_fit.r2,
        b.proxy_fit.split_half_cosine,
        b.n_queries,
    )


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    queries=st.integers(36, 700),
    batch_size=st.integers(2, 90),
    images=st.integers(0, 8),
    n_curvature=st.integers(0, 9),
)
def test_the_budget_is_a_hard_limit(queries, batch_size, images, n_curvature):
    box, plans, plain = cfx.BlackBox(F), [], Trial.plan
    others = X[1 : 1 + images] if images else None

    def plan(self, *arguments):
        plans.append(plain(self, *arguments))
        return plans[0]

    with mock.patch.object(Trial, "plan", plan), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = search(
            box,
            max_queries=queries,
            batch_size=batch_size,
            validation_images=others,
            n_curvature=n_curvature,
        )
    assert box.n_queries == found.n_queries <= queries
    assert found.proxy_fit.n_queries >= 32
    assert len(found.h) <= n_curvature
    [(axes, keep)] = plans
    assert min(n_curvature, 4) <= axes <= min(3 * n_curvature, 4)  # the code has four coordinates
    # What the trial needs is kept for it, and hardly anything is left over.
    trial = box.n_queries - 1 - found.proxy_fit.n_queries
    assert trial <= keep <= queries / (2 if images else 4)
    assert keep <= max(images, 1) * (1 + 4 * (2 + (images > 0) + axes))
    assert queries - box.n_queries <= 1 + keep - trial
    # Without a trial flip rates are not known, and that is told.
    assert found.table["flip rate"].isna().all() == (trial == 0) == bool(told)


def test_a_log_refuses_what_exceeds_the_budget():
    log, asked = QueryLog(5, None, {}), []

    def about(rows, place):
        z = place + torch.arange(2.0 * rows).view(rows, 2)
        return QueryBatch("probes", z, z[:1], torch.zeros(8), z)

    def ask(question):
        draw = lambda: asked.append(len(question)) or torch.zeros(len(question))  # noqa: E731
        return log.query(question, draw, lambda images: {"a": images})

    assert ask(about(3, 0.0))["a"].shape == (3,)
    assert log.can_afford(about(2, 5.0))
    assert not log.can_afford(about(2, 5.0), reserved=1)
    with pytest.raises(RuntimeError, match="3 more queries, 2 left of 5"):
        ask(about(3, 5.0))
    assert ask(about(3, 0.0))["a"].shape == (3,)  # it is known, and asked nothing
    assert (asked, log.n_queries, log.remaining) == ([3], 3, 2)


def test_a_folder_changes_nothing_and_is_asked_once(tmp_path):
    box = cfx.BlackBox(F)
    first = search(box, checkpoint_dir=tmp_path / "a" / "b")
    same(first, search())
    spent = box.n_queries
    second = search(box, checkpoint_dir=str(tmp_path / "a" / "b"))
    same(second, first)
    assert again(first) == 0 < again(second) <= 13
    assert box.n_queries - again(second) == spent == first.n_queries
    kept = json.loads((tmp_path / "a" / "b" / "search.json").read_text())
    assert kept["config"]["max_queries"] == 300
    assert kept["notes"]["classifier"]


class Interrupting:
    """Raises KeyboardInterrupt at its call number ``fatal``, without having answered.

    Searches get it as a black box, which is not looked at twice: each of its calls is a question.
    """

    module = F.module

    def __init__(self, fatal, f=F):
        self.fatal, self.f, self.calls, self.rows = fatal, f, 0, 0

    def __call__(self, images):
        self.calls += 1
        self.rows += len(images)
        if self.calls == self.fatal:
            raise KeyboardInterrupt
        return self.f(images)


@pytest.mark.parametrize("fatal", [2, 5, 9, 13, 15])
def test_interrupted_while_asking(tmp_path, fatal):
    """The answers under way are lost, nothing else, and nothing is asked again."""
    broken, whole = Interrupting(fatal), search()
    with pytest.raises(KeyboardInterrupt):
        search(cfx.BlackBox(broken), checkpoint_dir=tmp_path)
    box = cfx.BlackBox(F)
    found = search(box, checkpoint_dir=tmp_path)
    assert broken.rows + box.n_queries - again(found) == found.n_queries <= 300
    lost = found.made_by["lost"]
    assert 0 < lost <= 20
    trial = fatal > 13
    assert found.proxy_fit.n_queries == whole.proxy_fit.n_queries - (0 if trial else lost)
    if trial:
        assert torch.equal(found.proxy_fit.gradient, whole.proxy_fit.gradient)
    assert torch.nn.functional.cosine_similarity(found.g, whole.g, dim=0) > 0.999
    assert found.table["flip rate"].notna().all()
    # The one call recognises it.
    same(search(cfx.BlackBox(Interrupting(2)), checkpoint_dir=tmp_path), found)


def test_interrupted_at_the_second_look(tmp_path):
    """Of a classifier that is no black box: the answers of that batch are lost, and no others."""
    with pytest.raises(KeyboardInterrupt):
        search(Interrupting(3), checkpoint_dir=tmp_path)
    found = search(checkpoint_dir=tmp_path)
    assert found.made_by["lost"] == 20
    assert found.proxy_fit.n_queries == search().proxy_fit.n_queries - 20
    assert found.table["flip rate"].notna().all()


@pytest.mark.parametrize("stop", [1, 4, 11])
def test_interrupted_between_questions_loses_nothing(tmp_path, stop):
    def interrupt(step):
        if step.number == stop:
            raise KeyboardInterrupt

    box = cfx.BlackBox(F)
    with pytest.raises(KeyboardInterrupt):
        search(box, checkpoint_dir=tmp_path, on_step=interrupt)
    assert box.n_queries == 1 + 20 * stop
    found = search(box, checkpoint_dir=tmp_path)
    same(found, search())
    assert box.n_queries - again(found) == search().n_queries


def test_what_breaks_while_drawing_is_not_spent(tmp_path):
    space = LinearSpace(4)
    plain, calls = space.decode, []

    def decode(code):
        calls.append(len(code))
        if sum(count > 1 for count in calls) == 3:  # single images are looked at twice
            raise MemoryError
        return plain(code)

    space.decode = decode
    box = cfx.BlackBox(F)
    with pytest.raises(MemoryError):
        cfx.find_directions(space, box, X[0], 1, checkpoint_dir=tmp_path, **KNOBS)
    assert box.n_queries == 41
    same(search(box, checkpoint_dir=tmp_path), search())


def bent(images):
    z = SPACE.encode(images).z
    return cfx.two_logits(z[:, 0] - 2 * z[:, 1] + z[:, 0] * z[:, 2])


@pytest.mark.parametrize("back", range(4))
def test_interrupted_in_the_trial_of_a_corrected_gradient(tmp_path, back):
    """It rests on the answers of the trial before, and is asked about last, image by image."""
    last = Interrupting(0, bent)
    whole = search(cfx.BlackBox(last))
    assert "g uncorrected" in whole.names
    with pytest.raises(KeyboardInterrupt):
        search(cfx.BlackBox(Interrupting(last.calls - back, bent)), checkpoint_dir=tmp_path)
    found = search(cfx.BlackBox(Interrupting(0, bent)), checkpoint_dir=tmp_path)
    assert 0 < found.made_by["lost"] <= 20
    assert found.n_queries <= 300
    assert torch.equal(found.proxy_fit.gradient, whole.proxy_fit.gradient)
    if back < 2:  # of two images; what the direction rests on is known
        assert torch.equal(found.g, whole.g)
    assert found.table["flip rate"].notna().all()
    same(search(cfx.BlackBox(Interrupting(2, bent)), checkpoint_dir=tmp_path), found)


def stop_at(*numbers):
    return lambda step: step.number in numbers


@pytest.mark.parametrize(
    "stops", [(2,), (2, 2), (2, 5), (5, 2), (3, 7, 11), (11, 12), (12, 11, 10)]
)
def test_stopped_by_on_step(tmp_path, stops):
    """What is known is used; later the search goes on, within the same budget."""
    box = cfx.BlackBox(F)

    def asked(**knobs):
        """A search in the folder; what recognised the classifier doesn't count."""
        found = search(box, checkpoint_dir=tmp_path, **knobs)
        box.n_queries -= again(found)
        return found

    for stop in stops:
        before = box.n_queries
        found = asked(on_step=stop_at(stop))
        # Where trials have spent what the probes would need, fewer are known.
        assert found.proxy_fit.n_queries == 20 * stop or 300 - box.n_queries < 66 + 20
        assert box.n_queries == found.n_queries <= 300
        same(asked(on_step=stop_at(stop)), found)
        assert box.n_queries == found.n_queries >= before
        assert found.table["flip rate"].notna().all() or 300 - box.n_queries < 66
    whole = asked()
    assert box.n_queries == whole.n_queries <= 300
    assert whole.proxy_fit.n_queries >= 20 * min(max(stops), 6)
    assert whole.made_by["lost"] == 0


def test_stopped_too_early_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"max_queries: expected at least 32 .*got 20"):
        search(on_step=stop_at(1), checkpoint_dir=tmp_path)
    same(search(checkpoint_dir=tmp_path), search())


OTHERS = {
    "images": lambda: cfx.find_directions(SPACE, F, X[5], 1, checkpoint_dir=FOLDER, **KNOBS),
    "validation_images": lambda: search(checkpoint_dir=FOLDER, validation_images=X[1:4]),
    "target": lambda: cfx.find_directions(SPACE, F, X[0], 0, checkpoint_dir=FOLDER, **KNOBS),
    "contrast_class": lambda: search(checkpoint_dir=FOLDER, contrast_class=0),
    "seed": lambda: search(checkpoint_dir=FOLDER, seed=1),
    "max_queries": lambda: search(checkpoint_dir=FOLDER, max_queries=301),
    "batch_size": lambda: search(checkpoint_dir=FOLDER, batch_size=21),
    "radius": lambda: search(checkpoint_dir=FOLDER, radius=0.5),
    "classifier": lambda: search(code_classifier(SPACE, torch.ones(1, 4)), checkpoint_dir=FOLDER),
    "space": lambda: cfx.find_directions(
        LinearSpace(4, seed=1), F, X[0], 1, checkpoint_dir=FOLDER, **KNOBS
    ),
    "distance": lambda: search(
        checkpoint_dir=FOLDER, distance=lambda a, b: (a - b).abs().mean((1, 2, 3))
    ),
}
FOLDER = Path()


def contents(folder):
    return {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.iterdir()}


@pytest.mark.parametrize("other", OTHERS)
def test_the_folder_of_another_search_is_refused(tmp_path, monkeypatch, other):
    search(checkpoint_dir=tmp_path)
    monkeypatch.setitem(globals(), "FOLDER", tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=rf"checkpoint_dir: expected .*{other}|{other}: expected "):
        OTHERS[other]()
    assert contents(tmp_path) == before
    same(search(checkpoint_dir=tmp_path), search())


def test_damaged_folders_are_refused(tmp_path):
    search(checkpoint_dir=tmp_path)
    answers = sorted(tmp_path.glob("probes-*.safetensors"))
    good = answers[3].read_bytes()
    [one] = tmp_path.glob("start-*.safetensors")  # the answer to another number of images
    for bad in (b"", good[:50], b"\0" * len(good), one.read_bytes()):
        answers[3].write_bytes(bad)
        with pytest.raises(ValueError, match=rf"checkpoint_dir: expected .*{answers[3].name}"):
            search(checkpoint_dir=tmp_path)
        assert answers[3].read_bytes() == bad
    answers[3].write_bytes(good)
    for bad in ("", "{", "[]", "3", "[" * 99999):
        (tmp_path / "search.json").write_text(bad)
        with pytest.raises(ValueError, match=r"checkpoint_dir: .*search\.json, which is damaged"):
            search(checkpoint_dir=tmp_path)


def test_folders_that_are_none(tmp_path):
    mine = tmp_path / "thesis.txt"
    mine.write_text("mine")
    with pytest.raises(ValueError, match=r"checkpoint_dir: .*with other files"):
        search(checkpoint_dir=tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ValueError, match=r"checkpoint_dir: expected a folder, got the file"):
        search(checkpoint_dir=mine)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("times", [1, 3])
def test_an_interrupted_first_question_leaves_no_debris(tmp_path, times):
    """It is asked again. Each time counts: the limit holds for what was asked, answered or not."""
    for _ in range(times):
        with pytest.raises(KeyboardInterrupt):
            search(cfx.BlackBox(Interrupting(1)), checkpoint_dir=tmp_path)
    box = cfx.BlackBox(F)
    found, whole = search(box, checkpoint_dir=tmp_path), search()
    assert found.n_queries == times + box.n_queries <= 300
    assert found.made_by["lost"] == times
    assert torch.allclose(found.g, whole.g, atol=1e-3)
    assert found.proxy_fit.n_queries == whole.proxy_fit.n_queries - 2 * (
        times // 2
    )  # one image was left over
    second = search(checkpoint_dir=tmp_path)
    same(second, found)
    assert second.made_by["lost"] == times


def test_digest_tells_shapes_and_values():
    a = torch.zeros(2, 3)
    told = {digest(a), digest(a.T), digest(a, a), digest(a[:0]), digest(a + 1), digest(a, a[:0])}
    assert len(told) == 6
    assert digest(a) == digest(a.clone())


# A process that kills itself. The log has one line an image: its hash, before it is answered.
CHILD = """
import hashlib, os, signal, sys
sys.path[:0] = sys.argv[5:]
import torch
import test_query_log as t
from cfxnb.core import kept_work as kept
from cfxnb.directions import probing
folder, log, fatal, place = sys.argv[1], open(sys.argv[2], "a"), int(sys.argv[3]), sys.argv[4]
torch.manual_seed(0)
asked = 0
plain, known, recognising = kept.CheckpointDir._replace, probing.recognise, False

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def classifier(images):
    global asked
    for image in images[: 0 if recognising else None]:
        log.write(hashlib.sha256(image.numpy().tobytes()).hexdigest() + "\\n")
        log.flush()
        os.fsync(log.fileno())
        asked += 1
        if asked == fatal and place == "asking":
            die()
    return t.F(images)

def write(self, name, data):
    if asked >= fatal and place == "writing" and name.endswith(".safetensors"):
        (self.folder / (name + kept.PARTIAL)).write_bytes(data[: len(data) // 2])
        die()
    plain(self, name, data)

def recognise(*arguments):
    global recognising
    recognising = True
    try:
        return known(*arguments)
    finally:
        recognising = False

kept.CheckpointDir._replace, probing.recognise = write, recognise
found = t.search(t.cfx.BlackBox(classifier), checkpoint_dir=folder)
print(found.n_queries, found.made_by["lost"])
"""


def process(folder, log, fatal, place):
    here = Path(__file__).parent
    places = [str(here), str(here.parent / "helpers")]
    arguments = [sys.executable, "-c", CHILD, str(folder), str(log), str(fatal), place, *places]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        arguments, capture_output=True, text=True, timeout=300, env=environment, check=False
    )


@pytest.mark.parametrize("kills", [[(119, "writing"), (140, "asking")]])
def test_killed_processes_ask_nothing_twice(tmp_path, kills):
    """Fresh interpreters, at two places that are easily wrong; ``test_kept_kills`` has more."""
    folder, log = tmp_path / "search", tmp_path / "log"
    for fatal, place in kills:
        died = process(folder, log, fatal, place)
        assert died.returncode == -signal.SIGKILL, died.stderr
    last = process(folder, log, 0, "nowhere")
    assert last.returncode == 0, last.stderr
    asked = log.read_text().split()
    assert len(asked) == len(set(asked))
    queries, lost = map(int, last.stdout.split())
    assert len(asked) <= queries <= 300
    assert len(kills) <= lost <= 20 * len(kills)
    plain = []

    def watching(images):
        plain.extend(hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in images)
        return F(images)

    whole = search(cfx.BlackBox(watching))
    assert len(plain) == len(set(plain)) == whole.n_queries
    probes = 1 + whole.proxy_fit.n_queries
    assert len(set(plain[:probes]) - set(asked)) <= lost  # what was asked is what was planned
