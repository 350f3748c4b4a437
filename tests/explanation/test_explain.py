"""One page about a classifier: what it says, what it warns of, and what it refuses."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from gaussians import gaussian_world
from PIL import Image
from torch import nn
from worlds import LinearNet, LinearSpace, code_classifier

import cfxnb as cfx
from cfxnb.cli import main
from cfxnb.explanation import config, parts
from cfxnb.explanation import findings as say
from cfxnb.explanation.methods import Job
from cfxnb.explanation.page import _status

WORD = {"pixel_attack": {}, "latent_attack": {"restarts": 0}, "reconstruct": {}}


@pytest.fixture(scope="module")
def world():
    """A space, a classifier that reads its first coordinate, and images with one factor."""
    space = LinearSpace()
    classifier = code_classifier(space, torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]]), 4.0)
    images = space.sample(240, 1)
    z = space.encode(images).z
    data = cfx.data.ImageSet(
        images, (z[:, 0] < 0).long(), ("up", "down"), pd.DataFrame({"height": z[:, 0].numpy()})
    )
    return space, classifier, data


@pytest.fixture(scope="module")
def explained(world, tmp_path_factory):
    space, classifier, data = world
    place = tmp_path_factory.mktemp("page") / "out"
    every = {**WORD, "random_change": {}}
    found = cfx.explain(
        data, classifier, space, judge=classifier, methods=every, n_images=6, output_dir=place
    )
    return found, place


class Parts(HTMLParser):
    """Elements of a page, and whether each is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.links, self.names = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.names.append(tag)
        if tag == "img":
            self.images.append(attrs)
        for key in ("src", "href", "srcset", "action"):
            if key in attrs:
                self.links.append(attrs[key])
        if tag not in ("img", "meta", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_nothing_else(explained):
    text = (explained[1] / "index.html").read_text()
    page = Parts(text)
    assert not page.open
    assert len(page.images) >= 6 * 5
    assert all(image["alt"] for image in page.images)
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "script" not in page.names
    assert not re.search(r"https?://|@import|url\(", text)


def test_numbers_of_the_page_are_those_of_the_report(explained, world):
    found, place = explained
    table = cfx.report(found.results, judge=world[1], confidence_level=0.95)
    pd.testing.assert_frame_equal(
        found.table.drop(columns=[c for c in table if "seconds" in c]),
        table.drop(columns=[c for c in table if "seconds" in c]),
    )
    stored = pd.read_csv(place / "methods.csv", index_col="method")
    assert stored.index.tolist() == list(found.results)
    rows = pd.read_csv(place / "images.csv")
    assert len(rows) == 6 * 4
    flips = rows[rows["status"] == "flipped"].groupby("method").size()
    assert flips["latent attack"] == int(found.brief["latent attack"].flipped.sum()) == 6


def test_results_are_stored(explained):
    found, place = explained
    for name, cf in found.results.items():
        loaded = cfx.open(place / "results" / name.replace(" ", "_"))
        assert loaded.complete
        assert torch.equal(loaded[:].image, cf[:].image)
    row = found.rows[2]
    with Image.open(place / "images" / "original" / f"{row:06d}.png") as picture:
        pixels = torch.tensor(np.asarray(picture)).permute(2, 0, 1)
    assert (pixels / 255 - found.images.images[2]).abs().max() < 0.003


def test_explained_images_are_not_those_of_the_fit(explained, world):
    found, data = explained[0], world[2]
    assert len(found.rows) == 6
    assert found.rows[0] == 0
    assert found.rows[-1] == len(data) - 1
    assert torch.equal(found.images.images, data.images[found.rows])


def test_what_changed_is_named(explained):
    """The classifier reads the height alone, and all counterfactuals change it."""
    changes = explained[0].changes
    assert changes is not None
    assert changes.local["height"].abs().min() > 1


def test_heat_maps_are_complete(explained):
    heat = explained[0].heat_maps
    assert heat.relative_delta.abs().max() < 0.02


def test_a_judge_that_disagrees_is_a_warning(world):
    space, classifier, data = world
    other = code_classifier(space, torch.tensor([[0, 0, 1.0, 0], [0, 0, -1.0, 0]]), 4.0)
    found = cfx.explain(data, classifier, space, judge=other, methods=WORD, n_images=20)
    assert any("judge agrees with only" in text for text in found.warnings)
    assert any("'latent attack'" in text for text in found.warnings)


def test_decisions_that_do_not_survive_are_a_warning(world):
    _space, classifier, data = world
    lossy = LinearSpace(dims=4)
    lossy.basis[0] = 0  # loses what the classifier reads
    lossy.std[0] = 1e-6
    shifted = cfx.wrap(LinearNet(classifier.module.weight, torch.tensor([0.0, 2.0])))
    found = cfx.explain(data, shifted, lossy, methods=["reconstruct", "pixel_attack"])
    assert any("decisions survive the space" in text for text in found.warnings)


def test_nothing_found_is_a_warning(world):
    space, classifier, data = world
    few = {"latent_attack": {"steps": 1, "restarts": 0, "lr": 1e-4}}
    found = cfx.explain(data, classifier, space, methods=few)
    assert any("changed the decision for only 0 %" in text for text in found.warnings)
    assert found.heat_maps is None
    assert "Nothing" not in found.html()


def test_labels_of_other_classes_are_a_warning(world):
    _space, classifier, data = world
    wrong = cfx.data.ImageSet(data.images, 1 - data.labels, data.class_names, data.factors)
    found = cfx.explain(wrong, classifier, methods="pixel_attack")
    assert any("less than half" in text for text in found.warnings)


def test_a_method_that_fails_is_left_out_with_its_reason(world):
    space, classifier, data = world
    methods = {**WORD, "diffusion_counterfactual": {}, "pixel_attack": {"steps": -3}}
    found = cfx.explain(data, classifier, space, methods=methods, n_images=4)
    assert set(found.results) == {"latent attack", "reconstruction"}
    texts = [each.text for each in found.findings]
    assert any("diffusion was left out: the method needs a space that is" in t for t in texts)
    assert any("pixel attack failed" in t and "steps" in t for t in texts)


def test_black_boxes_get_the_methods_without_gradients(world):
    space, classifier, data = world
    box = cfx.BlackBox(classifier)
    found = cfx.explain(data, box, space, methods=["follow_direction", "reconstruct"], n_images=4)
    assert found.results["one direction"].flipped.any()
    assert found.heat_maps is not None
    with pytest.raises(ValueError, match="passes none"):
        cfx.explain(data, box, space, methods="pixel_attack", n_images=2)


def test_targets(world):
    _space, classifier, data = world
    call = {"methods": "pixel_attack", "n_images": 4}
    decided = cfx.explain(data, classifier, **call).results["pixel attack"].logits_before.argmax(1)
    for target in ("second", "next", {"up": "down", "down": "up"}, {0: 1, 1: 0}):
        assert torch.equal(cfx.explain(data, classifier, target=target, **call).target, 1 - decided)
    assert cfx.explain(data, classifier, target=1, **call).target.tolist() == [1] * 4
    with pytest.raises(ValueError, match=r"target: .*'secnd'.* did you mean 'second'"):
        cfx.explain(data, classifier, target="secnd", **call)


def test_a_folder_of_other_files_is_not_touched(world, tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(ValueError, match="output_dir: expected a new or empty folder"):
        cfx.explain(world[2], world[1], methods="pixel_attack", output_dir=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_names_of_the_user_are_no_markup(world, tmp_path):
    _space, classifier, data = world
    odd = cfx.data.ImageSet(data.images, data.labels, ("<b>&", "'\">"), data.factors)
    found = cfx.explain(odd, classifier, methods="pixel_attack", n_images=2, title="<script>")
    page = Parts(found.html())
    assert "script" not in page.names
    assert not page.open


# --- the file of settings -------------------------------------------------------------------------


def test_the_example_can_be_used(capsys, tmp_path):
    assert main(["explain", "--example"]) == 0
    (tmp_path / "e.yaml").write_text(capsys.readouterr().out)
    assert main(["explain", str(tmp_path / "e.yaml"), "--check"]) == 0
    assert "All settings can be used" in capsys.readouterr().out


GOOD = {"data": "digits", "classifier": "digits/classifier"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"clasifier": 1}, r"clasifier: expected one of the keys .* did you mean 'classifier'"),
        ({"data": None}, "data: expected in the settings"),
        ({"data": "digitz"}, "data: .*nothing there; did you mean 'digits'"),
        ({"data": {"name": "digits", "splt": "test"}}, "data: .*'splt'; did you mean 'split'"),
        ({"data": 3}, "data: expected the name of a data set"),
        ({"classifier": "digits/clasifier"}, "classifier: .* did you mean 'digits/classifier'"),
        ({"classifier": {"mean": 0}}, "classifier: expected a name, a path"),
        ({"space": "none.safetensor"}, "space none: expected a name"),
        ({"methods": {"latent_atack": {}}}, "methods: .* did you mean 'latent_attack'"),
        ({"methods": {"pixel_attack": {"epsilom": 1}}}, "methods.pixel_attack: .*'epsilon'"),
        ({"classifier": {"load": "digits/classifier", "meen": 0.5}}, "classifier: .*'mean'"),
        ({"classifier": {"load": "digits/classifier", "std": [0, 1]}}, "classifier.std: expected"),
        ({"judge": "digits/vae"}, "judge: expected a classifier, got 'digits/vae'"),
        ({"space": {"load": "digits/vae", "size": 3}}, "space vae: expected no options"),
        ({"classifier": "cfxnb.core.modes:standard_mode"}, "did you mean 'standard_modes'"),
        ({"target": "secnd"}, "target: .* did you mean 'second'"),
        ({"target": 10}, "target: expected 'second', 'next', or a class out of"),
        ({"target": {"3": "sven"}}, "target: expected .*, got 'sven'"),
        (
            {"classifier": {"load": "digits/classifier", "class_names": ["cat", "dog"]}}
            | {"target": "catt"},
            "target: .* did you mean 'cat'",
        ),
        ({"n_images": "many"}, "n_images: expected a whole number"),
        ({"seed": -1}, "seed: expected"),
        ({"device": "abacus"}, "device: expected"),
    ],
)
def test_settings_are_checked_in_words(change, told):
    with pytest.raises((ValueError, TypeError), match=told):
        config.checked(GOOD | change)


@pytest.mark.parametrize("text", ["- a", "data: [", "", "data: !!python/object:os.system {}"])
def test_files_that_are_no_settings(tmp_path, text, capsys):
    (tmp_path / "e.yaml").write_text(text)
    assert main(["explain", str(tmp_path / "e.yaml")]) == 2
    assert "path: expected" in capsys.readouterr().err


def test_a_command_from_a_folder_to_a_page(tmp_path, monkeypatch, capsys):
    """Images of one's own, and a classifier in TorchScript."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for i in range(12):
        (tmp_path / "photos" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 100, (8, 8, 3)) + 155 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(f"photos/{'ab'[i % 2]}/{i}.png")
    (tmp_path / "photos" / "a" / "broken.png").write_text("no image")
    net = nn.Sequential(nn.Flatten(), nn.Linear(8 * 8 * 3, 2))
    with torch.no_grad():
        net[1].weight[0], net[1].weight[1] = -0.1, 0.1
        net[1].bias.copy_(torch.tensor([9.6, -9.6]))
    torch.jit.trace(net, torch.rand(1, 3, 8, 8)).save("net.pt")
    (tmp_path / "e.yaml").write_text(
        "data: photos\nclassifier: {load: net.pt, class_names: [a, b]}\n"
        "methods: [pixel_attack]\nn_images: all\noutput_dir: out\n"
    )
    with pytest.warns(UserWarning, match="1 of 13 files were skipped"):
        assert main(["explain", "e.yaml"]) == 0
    assert (tmp_path / "out" / "index.html").exists()
    assert "broken.png" in pd.read_csv("out/skipped.csv")["file"][0]
    told = capsys.readouterr()
    assert "1 files of the data were skipped" in told.err
    assert "out/index.html" in told.out
    rows = pd.read_csv("out/images.csv")
    assert (rows["before"] == rows["label"]).all()
    assert (rows["after"] == rows["target"]).all()


def test_a_page_of_other_settings_is_not_replaced_unasked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for i in range(4):
        (tmp_path / "photos" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 255, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(f"photos/{'ab'[i % 2]}/{i}.png")
    net = nn.Sequential(nn.Flatten(), nn.Linear(8 * 8 * 3, 2))
    torch.jit.trace(net, torch.rand(1, 3, 8, 8)).save("net.pt")
    text = "data: photos\nclassifier: net.pt\nmethods: [pixel_attack]\noutput_dir: out\n"
    Path("e.yaml").write_text(text)
    page = Path("out/index.html")
    assert main(["explain", "e.yaml"]) == 0
    assert "<dt>classifier</dt><dd>net.pt (Wrapped of" in page.read_text()
    assert main(["explain", "e.yaml"]) == 0  # the same settings
    assert main(["explain", "out/settings.yaml", "--device", "cpu"]) == 0
    first = page.read_bytes()
    Path("e.yaml").write_text(text.replace("[pixel_attack]", "{pixel_attack: {steps: 3}}"))
    for more in ([], ["--check"]):
        assert main(["explain", "e.yaml", *more]) == 2
        assert "a page of other settings (methods)" in capsys.readouterr().err
    assert page.read_bytes() == first
    assert main(["explain", "e.yaml", "--replace"]) == 0
    assert main(["explain", "e.yaml", "--n-images", "2"]) == 2
    Path("e.yaml").write_text(text + "target: b\n")
    assert main(["explain", "e.yaml", "--output-dir", "new", "--check"]) == 0
    assert "The class in target was not checked" in capsys.readouterr().out


def test_pickles_are_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "net.pt")
    with pytest.raises(ValueError, match="is a pickle, which may run any code, and is not read"):
        parts.load_classifier(str(tmp_path / "net.pt"), "classifier", torch.device("cpu"))


def test_functions_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_nets_of_a_test.py").write_text(
        "import torch\n\ndef load_net():\n    return torch.nn.Sequential(torch.nn.Flatten(),"
        " torch.nn.Linear(48, 2))\n\ndef logits(x):\n    return x.flatten(1)[:, :2]\n"
    )
    cpu = torch.device("cpu")
    for name in ("load_net", "logits"):
        found = parts.load_classifier(f"my_nets_of_a_test:{name}", "classifier", cpu)
        assert found(torch.rand(3, 3, 4, 4)).shape == (3, 2)
    with pytest.raises(ValueError, match=r"'lgits'; did you mean 'logits'"):
        parts.load_classifier("my_nets_of_a_test:lgits", "classifier", cpu)
    with pytest.raises(ValueError, match="expected a module that can be imported"):
        parts.load_classifier("nowhere_at_all:net", "classifier", cpu)


def test_the_example_in_the_docs_is_the_one_of_the_command():
    root = Path(__file__).parents[2]
    assert (root / "docs" / "explain.yaml").read_text() == config.EXAMPLE


# --- confidence and status ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def timid(world):
    """A method that reaches the target, but never with its confidence, beside random changes."""
    space, _, data = world
    weak = code_classifier(space, torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]]), 0.2)
    methods = {
        "latent_attack": {"restarts": 0, "steps": 12, "lr": 0.2, "confidence": 0.999},
        "random_change": {},
    }
    return cfx.explain(data, weak, space, judge=weak, methods=methods, n_images=8)


def test_a_target_with_too_little_confidence_is_told(timid):
    cf = timid.results["latent attack"]
    near = say.nearly(cf)
    assert not cf.flipped.any()
    assert near.any()
    assert torch.equal(near, (cf.logits_after.argmax(1) == cf.target))
    text = timid.html()
    told = "target reached, but with less than the required confidence of 99.9 %"
    assert len(re.findall(f"<i>{told}</i>", text)) == int(near.sum())
    short = text.split("In short")[1].split("<h2>")[0]
    assert f"0 of 8 images, and {int(near.sum())} more reach the target, but with less" in short
    assert timid.to_frame()["required confidence"].dropna().unique().tolist() == [0.999]


def test_captions_do_not_contradict_the_predicted_class(timid, explained):
    for found in (timid, explained[0]):
        for cf in found.brief.values():
            after = cf.logits_after.argmax(1)
            for row in range(len(cf)):
                words = _status(cf, row)
                same = after[row] == cf.logits_before.argmax(1)[row]
                assert (words != "decision not changed") or same


def _result(logits, status, confidence=None):
    """Counterfactuals of class 0 towards class 1 with given log odds of the target."""
    n = len(logits)
    before, after = torch.tensor([[1.0, 0.0]] * n), torch.tensor([[0.0, x] for x in logits])
    images = torch.zeros(n, 1, 2, 2)
    made = {"function": "f"} if confidence is None else {"function": "f", "confidence": confidence}
    return cfx.Counterfactuals(
        images, images, images, before, after, torch.ones(n, dtype=torch.int64), status,
        made_by=made,
    )  # fmt: skip


def test_chance_is_compared_by_the_confidence_of_the_method():
    """Random changes that only just reach the target are no match for sure flips."""
    job = {
        "latent attack": Job("latent_attack", "latent attack", "s", {}, True),
        "random change": Job("random_change", "random change", "s", {}, True),
    }
    sure = _result([6.0, 0.5, -1.0, -1.0], ("flipped", *["not_found"] * 3), 0.99)
    for odds, warned in ((1.0, False), (6.0, True)):
        chance = _result([odds] * 3 + [-1.0], (*["flipped"] * 3, "not_found"))
        results = dict(zip(job, (sure, chance), strict=True))
        texts = [each.text for each in say.of_results(job, results, {})]
        assert any("Random changes" in text for text in texts) == warned
        assert any("25 % (1 of 4) of the images, and 1 more reaches" in text for text in texts)


def test_words_for_each_status():
    every = ("already_target", "reconstruction_is_target", "not_found", "flipped", "not_finite")
    cf = _result([3.0, 3.0, -3.0, 8.0, float("nan")], every, 0.99)
    words = [_status(cf, row) for row in range(5)]
    assert words[0].startswith("not changed: the original already is")
    assert words[1].startswith("not counted: encoding and decoding alone")
    assert words[2:] == ["decision not changed", "decision changed", "no finite output"]
    assert say.required_confidence(_result([1.0], ("flipped",), 1e-6)) is None


def test_a_model_that_does_not_know_the_classes_is_used_without_conditions(monkeypatch):
    """Its conditions cannot be inferred, so the method that needs none stands in."""
    space, classifier, images, _ = gaussian_world(2, 3)
    found = cfx.explain(images, classifier, space, n_images=3)
    assert "diffusion" in found.results
    assert "SCE" not in found.results

    def defaults(*args):
        raise ValueError("conditions: expected one for each class; they can't be inferred")

    monkeypatch.setattr(space.conditions, "defaults", defaults, raising=False)
    found = cfx.explain(images, classifier, space, n_images=3)
    assert "SCE" in found.results
    assert "diffusion" not in found.results
    texts = [each.text for each in found.findings]
    assert any("diffusion was left out: the conditions of the space do not fit" in t for t in texts)


def test_only_baselines_are_a_warning(world, monkeypatch):
    space, classifier, data = world
    monkeypatch.setattr(
        "cfxnb.explanation.explain.plan",
        lambda scene, named: [Job("pixel_attack", "pixel attack", None, {}, False)],
    )
    found = cfx.explain(data, classifier, space, n_images=3)
    assert any("this page shows baselines only" in text for text in found.warnings)


def test_classes_with_the_same_names_are_the_same_in_any_order(world):
    _space, classifier, data = world
    named = cfx.wrap(classifier.module, class_names=["low", "high"])
    own = cfx.data.ImageSet(data.images, data.labels, ("low", "high"), data.factors)
    turned = cfx.data.ImageSet(data.images, 1 - data.labels, ("high", "low"), data.factors)
    for given in (own, turned):
        texts = [f.text for f in cfx.explain(given, named, methods="pixel_attack").findings]
        assert any("is right on 100 %" in text for text in texts), texts
