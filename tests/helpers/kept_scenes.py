"""What the processes of these tests do: a small search, a small training, and dying on the way."""

import hashlib
import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from worlds import LinearSpace, code_classifier

import cfxnb as cfx
from cfxnb.core import training as engine
from cfxnb.directions import probing

# A server that has imported everything and forks: a process begins in a moment. What torch imports
# when it is first needed takes seconds, too.
FORKS = multiprocessing.get_context("forkserver")
MINE = ["cfxnb.directions.find_directions", "cfxnb.core.training"]  # cfxnb itself imports little
SCENES = ["kept_scenes", "explain_scene"]
FORKS.set_forkserver_preload([*MINE, "pytest", "sympy", "torch._dynamo", *SCENES])

SPACE = LinearSpace(4)
F = code_classifier(SPACE, torch.tensor([[1.0, -2.0, 0.5, 0.3]]))
X = SPACE.sample(9, 3)
BATCH = 20
KNOBS = {"max_queries": 300, "n_curvature": 2, "batch_size": BATCH, "validation_images": X[1:3]}


def search(classifier=F, **knobs) -> cfx.Directions:
    return cfx.find_directions(SPACE, classifier, X[0], 1, **KNOBS | knobs)


def same(a: cfx.Directions, b: cfx.Directions) -> bool:
    """Whether everything that was found is the same, to the last bit."""
    return (
        torch.equal(a.vectors, b.vectors)
        and a.names == b.names
        and a.table.equals(b.table)
        and torch.equal(a.proxy_fit.gradient, b.proxy_fit.gradient)
        and torch.equal(a.proxy_fit.hessian, b.proxy_fit.hessian)
        and a.n_queries == b.n_queries
    )


class Watched:
    """A slow classifier that writes down each image before it answers.

    What is asked anew, to recognise it, is left out: this belongs to a process of its own.
    """

    def __init__(self, log: Path, wait: float) -> None:
        self.log, self.wait, self.recognising = log, wait, False
        plain = probing.recognise

        def recognise(*arguments):
            self.recognising = True
            try:
                return plain(*arguments)
            finally:
                self.recognising = False

        probing.recognise = recognise

    def __call__(self, images: Tensor) -> Tensor:
        if not self.recognising:
            lines = [hashlib.sha256(x.numpy().tobytes()).hexdigest()[:16] + "\n" for x in images]
            with self.log.open("a") as file:
                file.writelines(lines)
        time.sleep(self.wait)
        return F(images)


def watched_search(folder: Path, log: Path, wait: float = 0.005) -> cfx.Directions:
    # A black box is not looked at twice: each image in the log is a query.
    return search(cfx.BlackBox(Watched(log, wait)), checkpoint_dir=folder)


def training(folder: Path | None, wait: float = 0.002, save_every: float = -1.0, **knobs) -> Tensor:
    """Weights of a small network after forty steps, each of which is kept."""
    before, engine.SAVE_EVERY_SECONDS = engine.SAVE_EVERY_SECONDS, save_every
    g = torch.Generator().manual_seed(0)
    data = torch.randn(64, 5, generator=g), torch.randn(64, 2, generator=g)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    def loss(model, rows, generator):
        noise = torch.randn(rows[0].shape, generator=generator)
        value = (model(rows[0] + 0.1 * noise) - rows[1]).square().mean()
        time.sleep(wait)  # statistics of the batch norm have moved by now
        return value

    options = {"steps": 40, "batch_size": 16, "lr": 0.01, "seed": 3} | knobs
    try:
        net = engine.fit(net, loss, data, checkpoint_dir=folder, **options)
    finally:
        engine.SAVE_EVERY_SECONDS = before
    return torch.cat([value.flatten().float() for value in net.state_dict().values()])


OPTIONS = {"a": ("n", "y"), "b": ("n", "y")}


class Reading(nn.Module):
    """Two oblique bits, linear in the code; ``gain`` belongs to no weights."""

    def __init__(self, gain: float = 1.0, lean: float = 0.5) -> None:
        super().__init__()
        self.gain = gain
        row = torch.tensor([[1.0, lean, 0, 0], [lean, 1.0, 0, 0]])
        self.mix = nn.Parameter(4 * torch.stack([-row, row], 1).flatten(0, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.gain * SPACE.encode(images).z @ self.mix.T


def read_by(**knobs) -> cfx.FactorReader:
    return cfx.FactorReader(Reading(**knobs).eval(), OPTIONS)


def edits(**change) -> Tensor:
    """Weights of a network that learnt to edit two factors."""
    told = {"space": SPACE, "images": SPACE.sample(60, 1), "reader": read_by()}
    told |= {"hidden_dim": 8, "steps": 12, "batch_size": 16} | change
    told.setdefault("factors", read_by().read(SPACE.sample(60, 1)))
    parts = [told.pop(name) for name in ("space", "images", "factors")]
    step_model = cfx.fit_attribute_edits(*parts, **told).step_model
    return torch.cat([value.flatten() for value in step_model.state_dict().values()])


def counted(work, folder: Path, *arguments):
    """The result, and how many times files were written, replaced or removed for it."""
    count = 0

    def tell(*_):
        nonlocal count
        count += 1

    _at_every_change(folder, tell)
    return work(folder, *arguments), count


def dying(work, fatal: int, when: str, folder: Path, *arguments):
    """The work of a process that is killed before, amid or after its change ``fatal`` of a file."""
    count = 0

    def die(change, data):
        nonlocal count
        count += 1
        if count < fatal:
            return
        if when == "amid" and data:
            change(data[: len(data) // 2])
        if when == "after":
            change()
        os.kill(os.getpid(), signal.SIGKILL)

    _at_every_change(folder, die)
    return work(folder, *arguments)


def _at_every_change(folder: Path, tell) -> None:
    """Call ``tell`` before each change of a file in a folder, with what makes the change."""
    for kind in ("write_bytes", "replace", "unlink"):
        plain = getattr(Path, kind)

        def change(self, *context, plain=plain, **named):
            if folder in self.parents:
                data = context[0] if context and isinstance(context[0], bytes) else None
                tell(lambda *other: plain(self, *(other or context), **named), data)
            return plain(self, *context, **named)

        setattr(Path, kind, change)


class Worker:
    """A process that works, may be killed, and tells what came of it."""

    def __init__(self, work, *arguments) -> None:
        self.end, far = FORKS.Pipe()
        self.process = FORKS.Process(target=_worker, args=(far, work, arguments))
        self.process.start()
        far.close()
        self.end.recv_bytes()  # it has begun

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def result(self):
        """What it found or raised, None if it died."""
        try:
            told = pickle.loads(self.end.recv_bytes())
        except EOFError:
            told = None
        self.process.join()
        return told


def _worker(end, work, arguments) -> None:
    torch.set_num_threads(1)
    end.send_bytes(b"begun")
    try:
        told = work(*arguments)
    except Exception as error:
        told = error
    # Not by the pipe's own pickler, which would share the memory of tensors.
    end.send_bytes(pickle.dumps(told))
