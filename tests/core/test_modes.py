"""The caller's modes of torch change no number, and are as they were afterwards."""

import contextlib
import threading

import pytest
import torch
from methods_here import BRIGHT, FACTORS, MANY, METHODS, SPACE, X, net, other
from torch import nn

import cfxnb as cfx
from cfxnb.core import modes

F = net()
TARGET = other(F)


@contextlib.contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_device():
    torch.set_default_device("meta")
    try:
        yield
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    try:
        yield
    finally:
        torch.set_num_threads(before)


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": default_dtype,
    "device": default_device,
    "threads": one_thread,
}
with_warnings = pytest.mark.filterwarnings("ignore:space. it does not know these images")


@with_warnings
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", METHODS)
def test_the_same_numbers_in_every_mode(method, mode):
    run = METHODS[method]
    plain = run(F, X, TARGET)
    with MODES[mode]():
        inside = run(F, X, TARGET)
    for a, b in zip(plain, inside, strict=True):
        a, b = (v if isinstance(v, torch.Tensor) else torch.tensor(v) for v in (a, b))
        assert not b.is_inference()
        torch.testing.assert_close(b.double(), a.double(), atol=1e-4, rtol=1e-4, equal_nan=True)


@with_warnings
@pytest.mark.parametrize("method", METHODS)
def test_no_trace_is_left(method):
    f = net(drop=0.5).train()
    f[1].weight.requires_grad_(False)
    random, state = torch.get_rng_state(), {k: v.clone() for k, v in f.state_dict().items()}
    x = X.clone()
    METHODS[method](f, x, TARGET)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(x, X)
    assert all(m.training for m in f.modules())
    assert [p.requires_grad for p in f.parameters()] == [False, True, True, True]
    assert all(p.grad is None for p in f.parameters())
    assert all(torch.equal(v, state[k]) for k, v in f.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in f.modules())
    assert torch.is_grad_enabled()


def test_shipped_networks_are_the_same_under_another_default_dtype():
    plain = cfx.load("digits/classifier", device="cpu")
    with default_dtype():
        inside = cfx.load("digits/classifier", device="cpu")
    x = torch.rand(2, 1, 32, 32)
    assert torch.equal(plain(x), inside(x))
    assert inside(x).dtype == torch.float32


def test_two_threads_leave_the_network_as_it_was():
    """One call begins while the other runs, and ends later."""
    f = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 2)).train()
    begun, second, done = (threading.Event() for _ in range(3))
    seen = []

    def first_stop(step):
        begun.set()
        assert second.wait(20)
        return True

    def second_stop(step):
        second.set()
        assert done.wait(20)
        seen.append((f.training, f[2].weight.requires_grad))
        return True

    def run(stop, after):
        begun.wait(20) if stop is second_stop else None
        cfx.latent_attack(
            SPACE, f, X, 1 - cfx.predict_logits(f, X).argmax(1), on_step=stop, restarts=0
        )
        after.set()

    threads = [
        threading.Thread(target=run, args=(first_stop, done)),
        threading.Thread(target=run, args=(second_stop, threading.Event())),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == [(False, False)]
    assert all(m.training for m in f.modules())
    assert all(p.requires_grad for p in f.parameters())


def test_many_threads_give_the_answers_of_one():
    f = net(drop=0.5).train()
    f.requires_grad_(True)
    plain = METHODS["latent_attack"](f, X, TARGET)
    found, failed = {}, []

    def run(number):
        try:
            found[number] = METHODS["latent_attack"](f, X, TARGET)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed
    for numbers in found.values():
        for a, b in zip(plain, numbers, strict=True):
            torch.testing.assert_close(a, b)
    assert f.training
    assert all(p.requires_grad for p in f.parameters())
    assert torch.get_default_dtype() is torch.float32
    assert not modes._users


def test_the_state_comes_back_after_an_error():
    f = net(drop=0.5).train()

    def fails(step):
        raise OSError("the callback fails")

    with default_dtype(), pytest.raises(OSError, match="the callback fails"):
        cfx.latent_attack(SPACE, f, X, TARGET, on_step=fails)
    assert f.training
    assert all(p.requires_grad for p in f.parameters())


MEMBERS = {
    "flipped": lambda: FOUND.flipped,
    "eligible": lambda: FOUND.eligible,
    "no rows": lambda: FOUND[[]].image,
    "edit": lambda: EDITS.edit(CODES, "a", [1] * 8).z,
    "log_odds": lambda: READERS.log_odds(CODES.z),
    "wrapped": lambda: cfx.wrap(F, mean=0.1, std=0.2)(X),
    "black box": lambda: cfx.BlackBox(F)(X),
    "one label": lambda: cfx.select_label(F, 1)(X),
    "vae": lambda: VAE.encode(VAE.decode(VAE.sample(2))).z,
    "diffusion autoencoder": lambda: DIFFAE.decode(DIFFAE.encode(XRAYS)),
    "group weights": lambda: cfx.group_weights(["a", "b", "a"]),
}
FOUND = cfx.pixel_attack(F, X, TARGET, steps=2)
EDITS = cfx.fit_attribute_edits(SPACE, X, FACTORS)
READERS = cfx.fit_descriptors(SPACE, MANY, BRIGHT)
CODES = SPACE.encode(X)
VAE = cfx.load("digits/vae", device="cpu")
DIFFAE = cfx.load("chest/diffae", device="cpu").with_steps(2)
XRAYS = cfx.data.chest("test").images[:1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("member", MEMBERS)
def test_members_give_the_same_numbers_in_every_mode(member, mode):
    plain = MEMBERS[member]()
    with MODES[mode]():
        inside = MEMBERS[member]()
    assert inside.dtype == plain.dtype
    torch.testing.assert_close(inside.detach(), plain.detach(), atol=1e-5, rtol=1e-4)


def test_members_leave_whether_gradients_are_taken_to_their_caller():
    code = VAE.sample(1)
    code = code.with_z(code.z.clone().requires_grad_())
    assert VAE.decode(code).requires_grad
    with torch.no_grad():
        assert not VAE.decode(code).requires_grad


def set_all(value):
    torch.backends.fp32_precision = value


PRECISIONS = {
    "as torch has it": (lambda: None, lambda: None),
    "rounded products": (
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: torch.set_float32_matmul_precision("highest"),
    ),
    "the new way": (lambda: set_all("tf32"), lambda: set_all("none")),
}


@pytest.mark.parametrize("kind", PRECISIONS)
def test_products_of_float32_are_exact_in_a_call_and_as_they_were_afterwards(kind):
    begin, end = PRECISIONS[kind]
    begin()
    before, seen = modes._Settings.now(), []

    def watch(step):
        seen.append(modes._Settings.now())

    try:
        cfx.pixel_attack(F, X, TARGET, steps=1, on_step=watch)
        assert modes._Settings.now() == before
    finally:
        end()
    for inside in seen:
        assert inside.cudnn is False
        assert inside.products == "highest"
        assert set(inside.precisions) <= {"ieee", "none"}
    assert seen
