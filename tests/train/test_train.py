"""Training on one's own images: the loop, what is held out, saved folders, refusals."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Generator, nn
from torch.nn import functional as F

import cfxnb as cfx
from cfxnb.core.code_covariance import principal_axes
from cfxnb.core.training import autocast, fit
from cfxnb.nets import ConvVAE
from cfxnb.train.monitor import PATIENCE, HeldOutMonitor
from cfxnb.train.training_data import SPLIT_SEED, split, training_data
from cfxnb.train.vae import VAELoss

SMALL = {"steps": 3, "batch_size": 8, "device": "cpu"}


def bars(n=60, size=16, seed=0):
    """Gray images: class 0 has its left half bright, class 1 its right half; exact bytes."""
    generator = Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    x = torch.randint(0, 60, (n, 1, size, size), generator=generator).float()
    x[labels == 0, :, :, : size // 2] += 150
    x[labels == 1, :, :, size // 2 :] += 150
    return cfx.data.ImageSet(x / 255, labels, ("left", "right"), pd.DataFrame(index=range(n)))


@pytest.fixture(scope="module")
def classifier():
    return cfx.train.classifier(bars(200), steps=60, batch_size=32, device="cpu")


@pytest.fixture(scope="module")
def vae(classifier):
    given = {"net": {"dims": 4, "widths": [8, 8]}, "classifier": classifier}
    return cfx.train.space(bars(200), steps=150, batch_size=32, device="cpu", **given)


def test_an_easy_task_is_learned_and_the_card_tells(classifier, vae):
    test = bars(40, seed=9)
    right = cfx.predict_logits(classifier, test.images).argmax(1) == test.labels
    assert right.double().mean() >= 0.95
    assert classifier.card["quality"]["accuracy on 20 held-out images"] >= 0.95
    again = vae.decode(vae.encode(test.images))
    same = cfx.predict_logits(classifier, again).argmax(1) == test.labels
    assert same.double().mean() >= 0.9
    assert vae.card["quality"]["fraction of decisions that survive reconstruction"] >= 0.9
    assert vae.card["images"] == {"trained on": 160, "stopped by": 20, "measured on": 20}


def test_what_is_saved_is_what_is_loaded(classifier, vae, tmp_path):
    x = bars(5).images
    vae.save(tmp_path / "space")
    space = cfx.load(tmp_path / "space", "cpu")
    assert torch.equal(space.decode(space.encode(x)), vae.decode(vae.encode(x)))
    assert space.card["quality"] == vae.card["quality"]
    assert space.reconstruction_error == pytest.approx(
        vae.card["quality"]["mean squared error of reconstructions"]
    )
    classifier.save(tmp_path / "f")
    f = cfx.load(str(tmp_path / "f"), "cpu")
    assert torch.equal(f(x), classifier(x))
    assert f.class_names == ("left", "right")
    assert cfx.latent_attack(space, f, x, 1 - f(x).argmax(1), steps=5).image.shape == x.shape


def test_a_shipped_network_can_be_saved(tmp_path):
    space = cfx.load("digits/vae", "cpu")
    space.save(tmp_path / "copy")
    again = cfx.load(tmp_path / "copy", "cpu")
    x = cfx.data.digits()[:2].images
    assert torch.equal(again.encode(x).z, space.encode(x).z)


def test_altered_folders_are_refused(vae, tmp_path):
    vae.save(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(cfx.data.DamagedFileError, match="damaged or altered"):
        cfx.load(tmp_path, "cpu")
    file.write_bytes(whole)
    card = json.loads((tmp_path / "card.json").read_text())
    for change in ({"config": {**card["config"], "dims": 5}}, {"net": "DiffAE"}, {"kind": "x"}):
        (tmp_path / "card.json").write_text(json.dumps({**card, **change}))
        with pytest.raises(cfx.data.DamagedFileError, match="does not fit its card"):
            cfx.load(tmp_path, "cpu")


def test_folders_with_other_files_are_kept(vae, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="other files"):
        vae.save(tmp_path)
    with pytest.raises(ValueError, match=r"card\.json"):
        cfx.load(tmp_path)
    with pytest.raises(ValueError, match="with a card"):
        cfx.wrap(nn.Flatten()).save(tmp_path / "new")


def test_samples_from_the_codes_have_their_mean_and_covariance():
    """Codes that depend on each other: samples from N(0, 1) would not."""
    torch.manual_seed(0)
    mixed = torch.randn(4, 4)
    codes = torch.randn(5000, 4) @ mixed + torch.tensor([1.0, -2.0, 0.0, 3.0])
    axes, variances = principal_axes(codes, codes.std(0))
    net = ConvVAE(4, 1, 8, (4, 8))
    space = cfx.spaces.VAE(net, codes.mean(0), codes.std(0), axes, variances, prior="codes")
    drawn = space.sample(20_000, seed=3).z
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.1, rtol=0.05)
    torch.testing.assert_close(drawn.T.cov(), codes.T.cov(), atol=0.15, rtol=0.05)
    assert torch.equal(space.sample(3, seed=3).z, drawn[:3])
    with pytest.raises(ValueError, match="axes"):
        cfx.spaces.VAE(net, codes.mean(0), codes.std(0), prior="codes")


def test_the_call_trains_as_the_plain_loop_does():
    """The steps of a recipe, written out: same seeds, same loss, same weights."""
    data = bars(40)
    made = cfx.train.space(
        data,
        net={"dims": 3, "widths": [8, 8]},
        loss=VAELoss(0.5, "bernoulli"),
        held_out=bars(20, seed=1),
        early_stopping=False,
        quality=False,
        lr=2e-3,
        **SMALL,
    )

    def loss(model, batch, generator):
        (images,) = batch
        with autocast(images.device):
            mean, log_variance = (t.float() for t in model.posterior(images))
            noise = torch.randn(mean.shape, generator=generator)
            logits = model.decode_logits(mean + noise * (0.5 * log_variance).exp())
        distortion = F.binary_cross_entropy_with_logits(logits.float(), images, reduction="sum")
        rate = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
        return (distortion + 0.5 * rate) / len(images)

    torch.manual_seed(0)
    net = ConvVAE(3, 1, (16, 16), (8, 8))
    fit(net, loss, (data.images,), steps=3, batch_size=8, lr=2e-3, checkpoint_dir=None)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, made.net.state_dict()[name], rtol=0, atol=1e-6)


class Slope(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))


def pull(model, batch, generator):
    """Training pulls the weight to 3; on held-out images, 1 is best."""
    return (model.w - (3.0 if model.training else 1.0)).square().sum() + 0 * batch[0].sum()


def test_early_stopping_keeps_the_best_weights():
    rows = (torch.zeros(64, 1),)
    monitor = HeldOutMonitor(pull, rows, batch_size=16, device=torch.device("cpu"), n_checks=100)
    given = {"steps": 1000, "batch_size": 8, "lr": 0.01, "checkpoint_dir": None, "ema": 0.0}
    net = fit(Slope(), pull, rows, monitor=monitor, **given)
    assert net.w.item() == pytest.approx(1, abs=0.06)
    assert len(monitor.losses) < 100
    assert min(monitor.losses[:-PATIENCE]) == min(monitor.losses)


def test_a_stopped_training_with_a_monitor_goes_on(tmp_path):
    rows = (torch.zeros(64, 1),)
    given = {"steps": 60, "batch_size": 8, "lr": 0.01, "config": {}}
    stopped = []

    def once(model, batch, generator):
        if model.training and model.w.item() > 0.1 and not stopped:
            stopped.append(1)
            raise KeyboardInterrupt
        return pull(model, batch, generator)

    def monitor():
        return HeldOutMonitor(pull, rows, batch_size=16, device=torch.device("cpu"))

    with pytest.raises(KeyboardInterrupt):
        fit(Slope(), once, rows, monitor=monitor(), checkpoint_dir=tmp_path, **given)
    resumed, plain = monitor(), monitor()
    net = fit(Slope(), once, rows, monitor=resumed, checkpoint_dir=tmp_path, **given)
    same = fit(Slope(), pull, rows, monitor=plain, checkpoint_dir=None, **given)
    assert net.w.item() == same.w.item()
    assert resumed.losses == plain.losses


def test_time_ends_a_training_with_a_small_learning_rate():
    rates = []

    def slow(model, batch, generator):
        time.sleep(0.005)
        rates.append(model.w.item())
        return pull(model, batch, generator)

    began = time.monotonic()
    rows = (torch.zeros(64, 1),)
    fit(Slope(), slow, rows, steps=10**6, batch_size=8, lr=1.0, checkpoint_dir=None, seconds=0.7)
    assert time.monotonic() - began < 5
    assert abs(rates[-1] - rates[-2]) < 0.1  # the learning rate has fallen


def test_parts_don_t_overlap_and_the_test_part_is_the_same_for_all_seeds():
    data = training_data(bars(100))
    one, two = split(data, None, True, 0), split(data, None, True, 5)
    assert torch.equal(one.test.images, two.test.images)
    assert not torch.equal(one.stop.images, two.stop.images)
    for parts in (one, two):
        every = torch.cat([parts.train.images, parts.stop.images, parts.test.images])
        assert len(every.flatten(1).unique(dim=0)) == len(every) == 100
    assert SPLIT_SEED == 0


def test_bytes_are_kept_as_bytes_and_other_numbers_as_they_are():
    exact = bars(20).images
    assert training_data(exact).images.dtype == torch.uint8
    assert torch.equal(training_data(exact).floats(), exact)
    between = exact * 0.999
    assert torch.equal(training_data(between).floats(), between)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "gan"}, "kind"),
        ({"minutes": 0}, "minutes"),
        ({"steps": 0}, "steps"),
        ({"kind": "flow"}, "space"),
        ({"net": [1]}, "net"),
        ({"extra": (torch.zeros(60),)}, "extra"),
        ({"attributes": {"a": 3}, "kind": "ldm"}, "attributes"),
        ({"held_out": torch.rand(30, 3, 16, 16)}, "held_out"),
        ({"loss": 3}, "loss"),
        ({"output_dir": 3}, "output_dir"),
        ({"fold": 2}, "fold: expected with kind='diffae', got it with kind='vae'"),
        ({"kind": "diffae", "attributes": {"a": ["b"]}}, "attributes: expected with kind='ldm'"),
        ({"kind": "ldm", "extra": (torch.zeros(60),)}, "extra: expected with kind='vae'"),
    ],
)
def test_wrong_arguments_are_refused(given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        cfx.train.space(bars(), **{**SMALL, **given})


def test_images_that_no_network_fits_are_refused_with_advice():
    with pytest.raises(ValueError, match="divisible by 4"):
        cfx.train.space(torch.rand(30, 1, 18, 18), **SMALL)
    with pytest.raises(ValueError, match="at least 20 images"):
        cfx.train.space(torch.rand(10, 1, 16, 16), **SMALL)
    with pytest.raises(ValueError, match="labels of at least two classes"):
        cfx.train.classifier(torch.rand(30, 1, 16, 16), **SMALL)


TWO = """
import torch
from PIL import Image
from torch import nn
from cfxnb.core.training import fit

torch.manual_seed(0)
net, x = nn.Linear(3, 1), torch.arange(192.0).view(64, 3).sin()
loss = lambda net, batch, _: (net(batch[0]) - batch[0].sum(1, keepdim=True)).square().mean()
fit(net, loss, (x,), steps=20, batch_size=16, lr=0.05, checkpoint_dir=None)
print("weights", *[f"{v:.6f}" for v in net.weight.flatten().tolist()])
"""


def test_two_processes_train_as_one(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--main_process_port", "0"]
    out = {}
    for name, how in (("one", []), ("two", launch)):
        run = [sys.executable, *how, str(script)]
        found = subprocess.run(run, capture_output=True, text=True, timeout=120)
        assert found.returncode == 0, found.stderr[-2000:]
        lines = {x for x in found.stdout.splitlines() if x.startswith("weights")}
        assert len(lines) == 1  # both processes hold the same weights
        out[name] = [float(v) for v in lines.pop().split()[1:]]
    assert out["two"] == pytest.approx(out["one"], abs=1e-5)


@pytest.mark.filterwarnings("ignore:space. it does not know")
def test_one_command_from_a_folder_to_counterfactuals(tmp_path, capsys):
    from cfxnb.cli import main

    data, out = bars(80), tmp_path / "out"
    for i, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        folder = tmp_path / "pictures" / data.class_names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(folder / f"{i}.png")
    given = ["train", str(tmp_path / "pictures"), "--output", str(out), "--device", "cpu"]
    assert main([*given, "--minutes", "0.05"]) == 0
    told = capsys.readouterr().out
    assert "pixel_attack" in told
    x = data.images[:3]
    classifier, judge, space = (
        cfx.load(out / name, "cpu") for name in ("classifier", "judge", "space")
    )
    assert classifier(x).shape == judge(x).shape == (3, 2)
    assert space.decode(space.encode(x)).shape == x.shape
    names = {path.name for path in (out / "space").iterdir()}
    assert names == {"model.safetensors", "card.json", "reconstructions.png", "samples.png"}
    table = pd.read_csv(out / "counterfactuals.csv", index_col=0)
    assert list(table.index) == ["latent_attack", "pixel_attack"]
    assert main([*given, "--minutes", "0.05"]) == 0  # nothing is trained twice
    assert capsys.readouterr().out.count("== ") == told.count("== ") - 3


def test_sets_that_don_t_fit_in_memory_are_read_batch_by_batch(tmp_path, monkeypatch):
    from cfxnb.train import training_data as module

    data = bars(40)
    for i, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        folder = tmp_path / data.class_names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(folder / f"{i:02d}.png")
    found = []
    for part in (0.4, 0.0):
        monkeypatch.setattr(module, "MEMORY_PART", part)
        given = {"net": {"dims": 3, "widths": [8, 8]}, "quality": False, **SMALL}
        found.append(cfx.train.space(cfx.data.folder(tmp_path), **given))
    assert isinstance(training_data(cfx.data.folder(tmp_path)).images, module.LazyRows)
    x = data.images[:4]
    assert torch.equal(found[0].encode(x).z, found[1].encode(x).z)


@pytest.mark.filterwarnings("ignore:space. it does not know")
def test_the_code_of_the_guide_runs(tmp_path, monkeypatch):
    """With short times, and a folder of small pictures."""
    guide = (Path(__file__).resolve().parents[2] / "docs" / "guide.md").read_text()
    [_, part] = guide.split("\n## Train a generator on your own images\n")
    [code] = re.findall(r"```python\n(.*?)```", part.split("\n## ")[0], re.DOTALL)
    data = bars(60, size=32)
    for i, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        folder = tmp_path / "pictures" / data.class_names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(folder / f"{i:02d}.png")
    monkeypatch.chdir(tmp_path)
    names = {"cfx": cfx}
    exec(re.sub(r"minutes=\d+", "minutes=0.03", code), names)
    assert names["space"].card["kind"] == "space"
    assert (tmp_path / "my_space" / "card.json").is_file()
