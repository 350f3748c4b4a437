"""A good value for each argument, by its name; and for a few functions, where a name means more.

A new argument needs a line here only if it is a must and its name is new.
"""

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import torch
from gaussians import gaussian_world
from matplotlib.figure import Figure
from PIL import Image
from torch import Generator, nn
from worlds import LinearNet, LinearSpace, code_classifier

import cfxnb as cfx
from cfxnb.core.types import Step
from cfxnb.nets import ConvVAE, DiffAE, squeezenet

#: The argument keeps its default.
DEFAULT = object()
ROWS = 12
WORDS = ("no", "yes")


@functools.cache
def space():
    return LinearSpace()


@functools.cache
def classifier():
    return code_classifier(space(), torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 4.0)


@functools.cache
def regression():
    return cfx.wrap_regression(brightness, names="ink", units="%")


def network_regression():
    return cfx.wrap_regression(LinearNet(torch.ones(1, 48)), names="ink")


def brightness(images):
    return images.mean((1, 2, 3))


def first_output(outcomes):
    return outcomes[:, 0]


@functools.cache
def codes():
    z = torch.randn(ROWS, 4, generator=Generator().manual_seed(0))
    z[:, :2] = z[:, :2].sign() * (0.5 + z[:, :2].abs())
    # Every combination of the two attributes is there, the rest is drawn.
    z[:, 0] = z[:, 0].abs() * torch.tensor([1.0, -1.0] * (ROWS // 2))
    z[:, 1] = z[:, 1].abs() * torch.tensor([1.0, 1.0, -1.0, -1.0] * (ROWS // 4))
    return cfx.Code(z)


@functools.cache
def images():
    return space().decode(codes())


@functools.cache
def labels():
    return (codes().z[:, 0] > 0).long()


@functools.cache
def factors():
    z = codes().z.numpy()
    return pd.DataFrame({"up": np.where(z[:, 0] > 0, "yes", "no"),
                         "side": np.where(z[:, 1] > 0, "yes", "no")})  # fmt: skip


@functools.cache
def many():
    return space().sample(120)


@functools.cache
def many_factors():
    z = space().encode(many()).z.numpy()
    return pd.DataFrame({"up": z[:, 0], "side": (z[:, 1] > 0).astype(float)})


@functools.cache
def counterfactuals():
    return cfx.latent_attack(space(), classifier(), images(), 1, steps=8, restarts=0)


@functools.cache
def goal_reached():
    return cfx.pixel_attack(regression(), images(), cfx.raise_by(0.01), steps=8)


@functools.cache
def followed():
    return cfx.follow_direction(
        space(), classifier(), images(), direction(), 1, grid_steps=4, binary_search_steps=1
    )


@functools.cache
def direction():
    return torch.tensor([1.0, 0.5, 0.0, 0.0])


@functools.cache
def descriptors():
    return cfx.fit_descriptors(space(), many(), many_factors(), test_size=0.5)


@functools.cache
def edits():
    return cfx.fit_attribute_edits(space(), images(), factors())


@functools.cache
def flow():
    """A flow that has learnt little; every class has enough answers."""
    return cfx.fit_flow(space(), classifier(), many(), steps=2, hidden_dim=8)


@functools.cache
def reader():
    """Reads both attributes off the images."""
    weight = torch.eye(4)[:2] / space().scale @ space().basis
    return cfx.FactorReader(LinearNet(weight), dict.fromkeys(("up", "side"), WORDS))


@functools.cache
def scores():
    return cfx.contrastive_scores(
        space(), classifier(), images(), factors(), edits=edits(), judge=reader()
    )


@functools.cache
def attribution():
    path = cfx.straight_path(images(), 0.5)
    return cfx.integrated_gradients(classifier(), path, 1)


@functools.cache
def directions():
    """What a search finds with few questions."""
    f = cfx.BlackBox(classifier())
    return cfx.find_directions(
        space(), f, images()[:1], 0, max_queries=96, n_curvature=1, validation_images=images()[1:4]
    )


@functools.cache
def gaussian():
    return gaussian_world(2, 3)


@functools.cache
def figures():
    return cfx.data.sprites(n_samples=5)


@functools.cache
def picture_folder():
    """A table and class folders with a few gray images."""
    path = Path(tempfile.mkdtemp(prefix="pictures-"))
    for i in range(6):
        (path / "ab"[i % 2]).mkdir(exist_ok=True)
        pixels = np.full((4, 4), 40 * i, np.uint8)
        Image.fromarray(pixels).save(path / "ab"[i % 2] / f"{i}.png")
    rows = {"file_name": [f"{'ab'[i % 2]}/{i}.png" for i in range(6)], "age": range(6)}
    pd.DataFrame(rows).assign(label=["a", "b"] * 3).to_csv(path / "metadata.csv", index=False)
    return path


@functools.cache
def lazy_images():
    return cfx.data.folder(picture_folder())


@functools.cache
def figure_classifier():
    weight = torch.randn(2, 3 * 56 * 32, generator=Generator().manual_seed(0))
    return cfx.wrap(LinearNet(0.1 * weight))


@functools.cache
def table():
    draw = np.random.default_rng(0)
    columns = {"x": ["a", "b"], "y": [0, 1], "z": ["u", "v"]}
    made = pd.DataFrame({name: draw.choice(values, 60) for name, values in columns.items()})
    return made.astype({"y": bool})


@functools.cache
def features():
    return torch.randn(9, 3, generator=Generator().manual_seed(1))


@functools.cache
def other_features():
    return torch.randn(10, 3, generator=Generator().manual_seed(2))


@functools.cache
def decisions():
    return torch.rand(6, 3, generator=Generator().manual_seed(3)) > 0.5


@functools.cache
def other_decisions():
    return torch.rand(6, 3, generator=Generator().manual_seed(4)) > 0.5


def means(shown):
    """Features of images."""
    return shown.mean((2, 3))


@functools.cache
def colours():
    """Images of which features of networks can be taken."""
    return torch.rand(2, 3, 32, 32, generator=Generator().manual_seed(5))


@functools.cache
def squeeze():
    torch.manual_seed(0)
    return squeezenet.SqueezeNet().eval().requires_grad_(False)


@functools.cache
def lpips_state():
    """The tensors of the net that LPIPS asks for, drawn at random."""
    from cfxnb.metrics import lpips

    torch.manual_seed(0)
    state, number = {}, 0
    for i, layers in enumerate(lpips.NETS["alex"](), 1):
        for layer in layers:
            state |= {f"net.slice{i}.{number}.{k}": v for k, v in layer.state_dict().items()}
            number += 1
        width = next(m for m in reversed(layers) if isinstance(m, nn.Conv2d)).out_channels
        state[f"lin{i - 1}.model.1.weight"] = torch.rand(1, width, 1, 1)
    state["scaling_layer.shift"] = torch.tensor([-0.03, -0.09, -0.19]).view(1, 3, 1, 1)
    state["scaling_layer.scale"] = torch.tensor([0.46, 0.45, 0.45]).view(1, 3, 1, 1)
    return state


@functools.cache
def lpips():
    return cfx.metrics.LPIPS(lpips_state())


def region():
    return torch.arange(ROWS * 16).view(ROWS, 4, 4) % 3 == 0


def mean_change(before, after):
    return (after - before).mean(0)


def plain_heat(f):
    """What explains: the gradient of the second logit, (n, h, w)."""
    x = images().clone().requires_grad_()
    f(x)[:, 1].sum().backward()
    return x.grad.sum(1)


def tried(step):
    """What is called at each step."""


def draw_picture(**controls):
    return picture()


@functools.cache
def picture():
    return cfx.gallery(images()[:1], alt="an image")


@functools.cache
def figure():
    made = Figure(figsize=(1, 1))
    made.subplots().plot([0, 1])
    return made


def far(a, b):
    """Distance of two batches of images."""
    return (a - b).flatten(1).abs().mean(1)


def step():
    return Step(1, 2, torch.arange(3), torch.zeros(3, 4), torch.full((3,), 0.5),
                torch.ones(3, dtype=torch.bool))  # fmt: skip


@functools.cache
def place() -> Path:
    """A folder of this process: files to read, and room to write."""
    return Path(tempfile.mkdtemp(prefix=f"generated-{os.getpid()}-"))


@functools.cache
def saved():
    return counterfactuals().save(place() / "kept")


def image_file():
    """A small PNG file."""
    path = place() / "small.png"
    PIL.Image.new("RGB", (5, 4), (200, 100, 0)).save(path)
    return path


@functools.cache
def result_folder():
    place_ = place() / "results"
    return cfx.pixel_attack(classifier(), images(), 1, steps=2, batch_size=5, output_dir=place_)


@functools.cache
def latent_diffusion():
    import tiny_ldm

    return tiny_ldm.write(place() / "ldm", tiny_ldm.labelled(4), tiny_ldm.tiny())


@functools.cache
def stable_diffusion():
    import tiny_ldm

    return tiny_ldm.stable_diffusion(place() / "sd")


@functools.cache
def diffae_file():
    torch.manual_seed(0)
    net = DiffAE(size=16, base=8, dims=8, blocks=1, encoder_blocks=1)
    torch.save(net.state_dict(), place() / "diffae.pt")
    return place() / "diffae.pt"


@functools.cache
def stylegan_file():
    import stylegans

    (place() / "net.pkl").write_bytes(stylegans.dumps(stylegans.generator().state_dict()))
    return place() / "net.pkl"


@functools.cache
def vae():
    torch.manual_seed(0)
    net = ConvVAE(dims=4, size=8, widths=(4, 8)).eval().requires_grad_(False)
    return cfx.spaces.VAE(net, torch.zeros(4), torch.ones(4), torch.eye(4), torch.ones(4)).eval()


@functools.cache
def vae_images():
    return torch.rand(3, *vae_shape(), generator=Generator().manual_seed(0))


def vae_shape():
    net = vae().net
    return (net.channels, *net.size)


@functools.cache
def autoencoder():
    from tiny_ldm import settled

    from cfxnb.nets import TinyAutoencoder

    net = settled(TinyAutoencoder(3, 4, 8, (1, 1), (1, 1)))
    return cfx.spaces.Autoencoder(net, torch.zeros(4, 4, 4), torch.ones(4, 4, 4))


@functools.cache
def attributes_unet():
    from tiny_ldm import settled

    from cfxnb.nets import ConditionalUNet

    return settled(ConditionalUNet({"hair": ("red", "blue")}, 4, (16, 32)))


@functools.cache
def diffusion():
    return cfx.spaces.Diffusion(attributes_unet(), autoencoder()).eval()


@functools.cache
def wide():
    """Images of the diffusion model."""
    return torch.rand(2, 3, 16, 16, generator=Generator().manual_seed(1))


@functools.cache
def diffae():
    torch.manual_seed(0)
    sizes = {"size": 8, "channels": 4, "base": 8, "mult": (1, 2), "dims": 6, "encoder_mult": (1, 2)}
    net = DiffAE(
        **sizes, prediction_type="velocity", sketch=(4, 4), latent={"hidden_dim": 8, "layers": 2}
    )
    net.eval().requires_grad_(False)
    kwargs = {"codec": 2, "steps": 2, "inversion_steps": 2, "precision": "float32"}
    return cfx.spaces.DiffusionAutoencoder(net, torch.zeros(6), torch.ones(6), **kwargs)


@functools.cache
def gray():
    return torch.rand(2, 1, 16, 16, generator=Generator().manual_seed(1))


@functools.cache
def stylegan():
    import stylegans

    return cfx.spaces.StyleGAN2(
        stylegans.generator(), w_avg_samples=16, projection={"steps": 1, "n_starts": 2}
    ).eval()


@functools.cache
def prompts():
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = stable_diffusion()
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    return cfx.spaces.PromptConditions(
        tokenizer, CLIPTextModel.from_pretrained(folder / "text_encoder")
    )


def method(images, target, *, seed):
    """What is called again by measures."""
    return cfx.latent_attack(space(), classifier(), images, target, steps=4, restarts=0, seed=seed)


def const(value: Any) -> Callable[[], Any]:
    return lambda: value


#: What a name means in most functions.
NAMES_OF = {
    "a": features, "b": other_features, "alt": const("what is seen"),
    "contrast_class": const(0), "conditions": const(["red", None]), "attribution": attribution,
    "baseline": const(0.5), "batch_size": const(8), "before": decisions, "after": other_decisions,
    "causes": const(["side"]), "cause": const("x"), "cf": counterfactuals,
    "choices": const(["yes", "no"]), "class_names": const(WORDS), "n_classes": const(2),
    "n_chunks": const(4), "classes": const(2),
    "classifier": classifier, "code": codes, "n_columns": const(4), "confidence": const(0.9),
    "context": const([True] * ROWS), "contrasts": const({"up": WORDS}),
    "controls": const({"length": (0.0, 1.0)}), "n_samples": const(3),
    "counterfactual": other_features, "counterfactuals": counterfactuals, "n_curvature": const(1),
    "descriptors": descriptors, "device": const("cpu"), "direction": direction,
    "edits": edits, "distance": const(far), "do_baseline": const(0.4),
    "do_value": const(0.6), "draw": const(draw_picture), "end": codes, "explain": const(plain_heat),
    "factors": factors, "figure": figure, "figures": figures,
    "checkpoint_dir": lambda: place() / "checkpoint_dir",
    "output_dir": lambda: place() / "images", "overwrite": const(True),
    "groups": const((("up",), ("side",))), "binary_search_steps": const(1),
    "hidden_dim": const(8), "image": images, "images": images,
    "importance": lambda: pd.Series({"up": 1.0, "side": 0.5}), "judge": classifier,
    "label": const(1), "labels": labels, "layer": const("hair"), "steps_along": const([-1.0, 1.0]),
    "like": counterfactuals, "lines": const({"a line": [0.0, 1.0, 0.5]}),
    "grid_steps": const(3), "lr": const(0.1), "mask": region,
    "named_factor": const("up"), "module": lambda: classifier().module, "max_images": const(5),
    "n": const([5, 4]), "name": const("up"), "names": const(WORDS),
    "net": const("alex"), "on_step": const(tried), "options": lambda: reader().options,
    "original": images, "outcome": const("y"), "parent": const("hair"), "path": saved,
    "pool": images, "n_points": const(5), "profile": const("ci"), "question": const("which one?"),
    "max_queries": const(96), "reader": reader, "real": features, "max_step": const(3.0),
    "n_resamples": const(3), "restarts": const(0), "results": lambda: {"attack": counterfactuals()},
    "rows": const([0, 1]), "score": const(mean_change), "scores": scores, "seed": const(0),
    "downscale_factor": const(2), "source": labels, "space": space,
    "split": const("test"), "start": codes,
    "steps": const(2), "subset_size": const(4), "success": lambda: torch.ones(9, dtype=torch.bool),
    "table": table, "target": const(1), "titles": const(["a title"] * ROWS),
    "truth": scores, "validation_images": lambda: images()[1:4], "value": const("yes"),
    "world": const("independent"), "x": const([0.0, 1.0, 2.0]), "xlabel": const("along"),
    "ylabel": const("up"), "z": lambda: codes().z, "successes": const([2, 0]),
    "u": lambda: codes().z,
    "query": const(0), "logit": lambda: codes().z[:, 0], "features": const(means),
    "sample_weight": lambda: torch.ones(ROWS), "method": const(method),
    "classifiers": lambda: [classifier(), classifier()],
}  # fmt: skip


def readings(seed: int) -> Callable[[], np.ndarray]:
    return lambda: np.random.default_rng(seed).normal(size=(9, 2))


def _diffusion_world():
    return {
        "space": lambda: gaussian()[0], "classifier": lambda: gaussian()[1],
        "images": lambda: gaussian()[2], "target": lambda: gaussian()[3], "max_attempts": const(1),
    }  # fmt: skip


def _ddpm_world():
    usual = {name: value for name, value in _diffusion_world().items() if name != "max_attempts"}
    return usual | {"steps": const(3), "scales": const((0.5,)), "features": DEFAULT}


def _sce_world():
    usual = {name: value for name, value in _diffusion_world().items() if name != "max_attempts"}
    region = lambda: torch.ones_like(gaussian()[2][:, 0], dtype=torch.bool)  # noqa: E731
    few = {"steps": const(3), "gradient_classifier": lambda: gaussian()[1]}
    return usual | few | {"allowed": region, "denoising_steps": const(8), "blur_size": const(3)}


def unchanged(space, classifier, images, target):
    """A method that changes nothing."""
    return images


def short_attack(classifier, images, target):
    """A method that is called again with other regions."""
    return cfx.latent_attack(space(), classifier, images, target, steps=4, restarts=0)


#: Kinds of results, by the names under which they are found.
RESULTS = (
    "cfx.AttributeEdits", "cfx.Attribution", "cfx.ContrastiveScores", "cfx.Counterfactuals",
    "cfx.Descriptors", "cfx.Directions", "cfx.ErrorExplanation", "cfx.FeatureAttribution",
    "cfx.Evaluation",
    "cfx.ObservedScores", "cfx.ScoreBounds", "cfx.flows.velocity.ClassMeans",
    "cfx.flows.velocity.FittedFlow", "cfx.metrics.InsertionDeletion",
)  # fmt: skip


@functools.cache
def kept(kind):
    """A saved result of this kind."""
    name = kind.split(".")[-1]
    return OBJECTS[name]().save(place() / f"kept {name}")


@functools.cache
def explanation():
    return cfx.explain(images(), classifier(), methods="pixel_attack", n_images=2)


#: What it means elsewhere: function -> argument -> value. DEFAULT leaves it out.
ELSEWHERE: dict[str, dict[str, Any]] = {
    "cfx.AttributeEdits.step": {"target": lambda: torch.ones(ROWS, 2)},
    "cfx.Attribution.concatenate": {"parts": lambda: [attribution(), attribution()]},
    "cfx.ContrastiveScores.concatenate": {"parts": lambda: [scores(), scores()]},
    "cfx.Counterfactuals.concatenate": {"parts": lambda: [counterfactuals(), counterfactuals()]},
    "cfx.Counterfactuals.__add__": {"other": counterfactuals},
    **{
        f"{kind}.{name}": {"path": lambda: place() / "written"}
        for kind in RESULTS for name in ("save", "to_csv")
    },
    **{f"{kind}.load": {"path": functools.partial(kept, kind)} for kind in RESULTS},
    **{
        f"cfx.{name}.save": {"path": lambda: place() / "model"}
        for name in (
            "core.classifiers.Wrapped", "spaces.Autoencoder", "spaces.Diffusion",
            "spaces.DiffusionAutoencoder", "spaces.VAE", "core.regression.WrappedRegression",
        )
    },
    "cfx.Code": {"z": lambda: codes().z, "aux": DEFAULT},
    "cfx.Descriptors.standardise": {"change": lambda: codes().z},
    "cfx.Directions.__getitem__": {"key": const("g")},
    "cfx.Diagram": {"svg": lambda: cfx.diagram("ddim").svg, "title": const("A title")},
    "cfx.Diagram.save": {"path": lambda: place() / "diagram.svg"},
    "cfx.diagram": {"name": const("ddim")},
    "cfx.Picture": {"png": lambda: picture().png},
    "cfx.Picture.save": {"path": lambda: place() / "picture.pdf", "dpi": const(30.5)},
    "cfx.ablate": {"groups": const((("up",), ("side",)))},
    "cfx.fit_attribute_edits": {"reader": DEFAULT, "contrasts": DEFAULT, "checkpoint_dir": DEFAULT},
    "cfx.bars": {"table": lambda: pd.Series({"up": 1.0, "side": -0.5}), "null": DEFAULT},
    "cfx.AttributeEdits": {"contrasts": lambda: edits().contrasts},
    "cfx.captum_attribution": {"algorithm": const("input_x_gradient"), "n_points": const(3)},
    "cfx.code_map": {"points": lambda: codes().z[:, :2]},
    "cfx.contrastive_scores": {"outcome": const(1), "judge": reader, "contrasts": DEFAULT},
    "cfx.cout": {"image": lambda: counterfactuals().image},
    "cfx.metrics.cout_curve": {"image": lambda: counterfactuals().image},
    "cfx.curves": {"tick_labels": DEFAULT},
    "cfx.data.World": {"factors": const({"hair": ["red", "gray"]})},
    "cfx.data.World.options": {"name": const("hair")},
    "cfx.data.World.sample": {"do": const({"hair": "red"})},
    "cfx.data.ImageSet.select": {"classes": const((0, 1))},
    "cfx.data.LazyImageSet.select": {"classes": const((0, 1))},
    "cfx.data.folder": {
        "path": picture_folder, "class_names": DEFAULT, "factors": const(["age"]),
        "split": DEFAULT, "fractions": const((0.4, 0.3, 0.3)),
    },
    "cfx.data.from_dataset": {
        "dataset": const([(torch.rand(3, 4, 4), i % 2) for i in range(6)]),
        "class_names": DEFAULT, "split": DEFAULT, "fractions": const((0.4, 0.3, 0.3)),
    },
    "cfx.data.given": {"cases": const({"red": "teal", "gray": ["white", "metal"]})},
    "cfx.data.causal.Given": {"cases": const({"red": {"teal": 1.0}})},
    "cfx.data.intervene": {"changes": const({"hair": "red"})},
    "cfx.data.measure_digits": {"images": lambda: torch.rand(2, 1, 8, 8)},
    "cfx.data.render_sprites": {"factors": lambda: figures().factors},
    "cfx.data.layer_mask": {"factors": lambda: figures().factors},
    "cfx.data.sprites": {"class_factor": const("hair")},
    "cfx.diffusion_counterfactual": _diffusion_world(),
    **dict.fromkeys(("cfx.maskdime", "cfx.fastdime", "cfx.dime"), _ddpm_world()),
    **dict.fromkeys(("cfx.sce", "cfx.sce_as_published"), _sce_world()),
    "cfx.diverse_counterfactuals": {"method": const(short_attack), "target": const(1)},
    "cfx.evaluate": {
        "method": const(unchanged), "worlds": const(["digits"]), "baselines": const([]),
        "space": const("vae"), "n_images": const(1), "seeds": const([0]),
    },
    "cfx.edit_picture": {"image": lambda: images()[:1]},
    "cfx.edit_strip": {"image": lambda: images()[:1], "factors": lambda: factors()[:1]},
    "cfx.explain": {
        "data": images, "methods": const("pixel_attack"), "n_images": const(2),
        "output_dir": lambda: place() / "page", "target": const("second"), "judge": DEFAULT,
    },
    "cfx.Explanation.save": {"path": lambda: place() / "page"},
    "cfx.explain_errors": _diffusion_world() | {
        "labels": lambda: gaussian()[3], "descriptors": DEFAULT,
        "kwargs": const({"max_attempts": 1, "steps": 2}),
    },
    "cfx.find_directions": {"images": lambda: images()[:2], "target": const(0)},
    "cfx.fit_descriptors": {"images": many, "factors": many_factors, "batch_size": const(512)},
    "cfx.flip_curves": {"results": lambda: {"one": followed()}},
    "cfx.fit_flow": {
        "images": many, "kind": const("network"), "ask": const("originals"),
        "checkpoint_dir": DEFAULT,
    },
    "cfx.flow_counterfactual": {
        "flow": flow, "conditions": DEFAULT, "condition": const("one_hot"), "rounds": const(2),
        "times": const([0.5]), "inject_gammas": const([0.0, 0.1]),
    },
    "cfx.flows.velocity.FittedFlow.velocity": {
        "condition": lambda: torch.ones(ROWS, 2) / 2, "t": lambda: torch.full((ROWS,), 0.5),
    },
    "cfx.flows.velocity.ClassMeans.velocity": {
        "condition": lambda: torch.ones(ROWS, 2) / 2, "t": lambda: torch.full((ROWS,), 0.5),
    },
    "cfx.group_weights": {"groups": const(["a", "b", "b"])},
    "cfx.integrated_gradients": {
        "path": lambda: cfx.straight_path(images(), 0.5), "method": DEFAULT,
    },
    "cfx.latent_integrated_gradients": {"method": DEFAULT},
    "cfx.leakage_map": {"scores": lambda: {"linear": scores()}},
    "cfx.load": {"name": const("digits/judge")},
    "cfx.weights.read_card": {"name": const("digits/judge")},
    "cfx.gallery": {
        "images": lambda: images()[:2], "titles": const(["one", "two"]), "row_labels": DEFAULT,
    },
    "cfx.heat_maps": {"max_images": const(1)},
    "cfx.show": {"max_images": const(1)},
    "cfx.metrics.LPIPS": {"state_dict": lpips_state, "net": const("alex")},
    "cfx.metrics.LPIPS.features": {"images": colours},
    "cfx.metrics.LPIPS.forward": {"a": colours, "b": colours},
    "cfx.metrics.accuracy_by_group": {"groups": const(["a", "b", "c"] * (ROWS // 3))},
    "cfx.metrics.changed_factors": {"judge": reader},
    "cfx.metrics.correlation_difference": {"labels": decisions},
    "cfx.metrics.distinct_explanations": {
        "results": lambda: [counterfactuals(), followed()], "judge": reader,
    },
    "cfx.metrics.diversity": {"results": lambda: [counterfactuals(), followed()]},
    "cfx.metrics.classify_flips": {"judge": reader},
    "cfx.metrics.flip_rate": {
        "before": lambda: decisions()[:, 0], "after": lambda: other_decisions()[:, 0],
        "correct": lambda: torch.tensor([True, False, True, True, True, True]),
    },
    "cfx.metrics.insertion_deletion": {"baseline": lambda: images().flip(0)},
    "cfx.metrics.l1": {"a": images, "b": lambda: counterfactuals().image},
    "cfx.metrics.l2": {"a": images, "b": lambda: counterfactuals().image},
    "cfx.metrics.kid": {
        "subset_indices": lambda: (torch.tensor([[0, 1, 2]]), torch.tensor([[3, 4, 5]])),
    },
    "cfx.metrics.perceptual_distance": {"net": squeeze, "a": colours, "b": colours},
    "cfx.metrics.rank_agreement": {
        "truth": lambda: pd.Series({"up": 0.2, "side": 0.5}),
    },
    "cfx.load_retrained": {"name": const("sprites/honest")},
    "cfx.metrics.accuracy_gain": {"repaired": classifier},
    "cfx.metrics.cycle_distances": {"targets": lambda: torch.stack([1 - labels(), labels()])},
    "cfx.metrics.effectiveness": {
        "predicted": lambda: decisions()[:, 0], "wanted": lambda: decisions()[:, 1],
    },
    "cfx.metrics.factor_diversity": {
        "results": lambda: [counterfactuals(), counterfactuals()], "judge": reader,
    },
    "cfx.metrics.minimality": {
        "original": features, "counterfactual": lambda: features() + 0.1, "source": const([0] * 9),
        "target": const([1] * 9), "reference": other_features,
        "reference_labels": const([0, 1] * 5), "distance": const("l1"),
    },
    "cfx.metrics.sparsity": {"a": images, "b": lambda: counterfactuals().image},
    "cfx.metrics.stability": {"seeds": const((1, 2))},
    "cfx.metrics.sfid": {
        "counterfactual": lambda: other_features()[:9], "allow_few": const(True),
    },
    "cfx.metrics.true_scores": {
        "classifier": figure_classifier, "contrasts": const({"hair": ("gray", "red")}),
        "outcome": const(1), "context": const([True] * 5),
    },
    "cfx.observed_scores": {
        "adjust": const(["z"]), "value": const("a"), "baseline": const("b"),
        "context": const({"z": "u"}),
    },
    "cfx.adjusted_effect": {"adjust": const(["z"]), "context": DEFAULT},
    "cfx.score_bounds": {"value": const("a"), "baseline": const("b")},
    "cfx.from_item": {"key": const("label")},
    "cfx.open": {"path": lambda: result_folder().path},
    "cfx.ResultFolder": {"path": lambda: result_folder().path},
    "cfx.permutation_null": {"before": readings(1), "after": readings(2)},
    "cfx.piecewise_linear_path": {"images": lambda: images().view(2, 6, 3, 4, 4)},
    "cfx.attribution.paths.PiecewiseLinearPath": {"images": lambda: images().view(2, 6, 3, 4, 4)},
    "cfx.attribution.paths.StraightPath": {"baseline": lambda: images().flip(0)},
    "cfx.predict_logits": {"batch_size": const(512)},
    "cfx.report": {
        "features": const({"means": means}), "real": images, "code_std": lambda: space().std,
    },
    "cfx.by_profile": {"ci": const(1), "cpu": const(2), "gpu": const(3)},
    "cfx.direction_path": {"code": lambda: codes()[:2], "steps_along": const(1.0)},
    "cfx.direction_strip": {"image": lambda: images()[:1]},
    "cfx.raise_to": {"value": const(0.5), "output": const(0)},
    "cfx.lower_to": {"value": const(0.5), "output": const(0)},
    "cfx.raise_by": {"amount": const(0.5), "output": const(0)},
    "cfx.lower_by": {"amount": const(0.5), "output": const(0)},
    "cfx.between": {"low": const(0.25), "high": const(0.75), "output": const(0)},
    "cfx.score": {"fn": const(first_output), "at_least": const(0.5)},
    "cfx.select_goal": {
        "model": regression, "goal": const(cfx.raise_to(0.5)), "scale": const(0.1),
    },
    "cfx.wrap_regression": {
        "module": const(nn.Flatten()), "names": const("ink"), "units": const("%"),
        "mean": const([0.5, 0.5, 0.5]), "std": const([0.5, 0.5, 0.5]), "size": const(4),
    },
    "cfx.read_image": {"file": image_file, "like": colours},
    "cfx.workbench": {
        "flow": flow, "direction": directions, "methods": DEFAULT, "class_names": DEFAULT,
    },
    "cfx.interactive.panel.Workbench.add_image": {"file": image_file, "title": const("x.png")},
    "cfx.interactive.panel.Workbench.save": {"output_dir": lambda: place() / "bench"},
    "cfx.interactive.panel.Workbench.run": {},
    "cfx.wrap": {
        "mean": const([0.5, 0.5, 0.5]), "std": const([0.5, 0.5, 0.5]), "size": const(4),
        "class_names": const(["no", "yes"]), "transform": const(lambda x: x),
        "dtype": const(torch.float32), "processor": DEFAULT,
    },
    "cfx.spaces.AttributeConditions": {"options": const({"hair": ("red", "blue")})},
    "cfx.spaces.Unconditional.encode": {"conditions": const([None, None])},
    "cfx.spaces.ClassConditions.encode": {"conditions": const([0, None])},
    "cfx.spaces.EmbeddingConditions": {"table": lambda: torch.randn(3, 4)},
    "cfx.spaces.EmbeddingConditions.encode": {"conditions": const([0, None])},
    "cfx.spaces.PromptConditions": {
        "tokenizer": lambda: prompts().tokenizer, "encoder": lambda: prompts().encoder,
    },
    "cfx.spaces.PromptConditions.encode": {"conditions": const(["red", None])},
    "cfx.spaces.Autoencoder": {
        "net": lambda: autoencoder().codec.autoencoder, "shift_factor": const(0.0),
        "scaling_factor": const(1.0),
    },
    "cfx.spaces.Autoencoder.encode": {"images": wide},
    "cfx.spaces.Autoencoder.decode": {"code": lambda: autoencoder().encode(wide())},
    "cfx.spaces.Autoencoder.fit": {"images": wide},
    "cfx.spaces.Diffusion": {
        "net": attributes_unet, "autoencoder": autoencoder, "conditions": DEFAULT,
        "alphas_cumprod": DEFAULT, "parametrisation": DEFAULT,
    },
    "cfx.spaces.Parametrisation.ddpm": {"alphas_cumprod": lambda: torch.tensor([0.9, 0.5, 0.1])},
    "cfx.spaces.Parametrisation.edm": {"sigmas": lambda: torch.tensor([0.1, 1.0, 2.0])},
    "cfx.spaces.Parametrisation.flow_matching": {"sigmas": lambda: torch.tensor([0.1, 0.5, 1.0])},
    "cfx.spaces.Parametrisation": {
        "alphas_cumprod": lambda: torch.tensor([0.9, 0.5, 0.1]), "times": lambda: torch.arange(3),
        "input_scale": lambda: torch.ones(3), "z_weight": lambda: torch.zeros(3),
        "output_weight": lambda: torch.ones(3), "prediction_type": const("epsilon"),
    },
    "cfx.spaces.Diffusion.encode": {"images": wide},
    "cfx.spaces.Diffusion.decode": {"code": lambda: autoencoder().encode(wide())},
    "cfx.spaces.DiffusionAutoencoder": {"net": lambda: diffae().net, "codec": const(2)},
    "cfx.spaces.DiffusionAutoencoder.encode": {"images": gray},
    "cfx.spaces.DiffusionAutoencoder.encode_semantic": {"images": gray},
    "cfx.spaces.DiffusionAutoencoder.fit": {"images": gray},
    "cfx.spaces.DiffusionAutoencoder.decode": {"code": lambda: diffae().encode(gray())},
    "cfx.spaces.DiffusionAutoencoder.sample": {"shape": const((1, 16, 16))},
    "cfx.spaces.PixelUnshuffleCodec.encode": {"images": gray},
    "cfx.spaces.PixelUnshuffleCodec.decode": {"folded": lambda: torch.rand(2, 4, 8, 8)},
    "cfx.spaces.LatentCodec": {"autoencoder": lambda: autoencoder().codec.autoencoder},
    "cfx.spaces.LatentCodec.encode": {"images": wide},
    "cfx.spaces.LatentCodec.decode": {"latents": lambda: torch.rand(2, 4, 4, 4)},
    "cfx.spaces.StyleGAN2": {"net": lambda: stylegan().net, "w_avg_samples": const(8)},
    "cfx.spaces.StyleGAN2.encode": {"images": lambda: stylegan().decode(stylegan().sample(2))},
    "cfx.spaces.StyleGAN2.project": {
        "images": lambda: stylegan().decode(stylegan().sample(2)), "n_starts": const(2),
    },
    "cfx.spaces.StyleGAN2.decode": {"code": lambda: stylegan().sample(2)},
    "cfx.spaces.StyleGAN2.from_w": {"w": lambda: stylegan().sample(2).z},
    "cfx.spaces.VAE": {"net": lambda: vae().net},
    "cfx.spaces.VAE.encode": {"images": vae_images},
    "cfx.spaces.VAE.decode": {"code": lambda: vae().encode(vae_images())},
    "cfx.spaces.load_diffae": {
        "path": diffae_file, "image_size": const(16), "kwargs": const({"steps": 2}),
    },
    "cfx.spaces.load_diffusers": {
        "path": latent_diffusion, "conditions": DEFAULT, "lora": DEFAULT, "template": DEFAULT,
        "image_size": DEFAULT,
    },
    "cfx.spaces.load_ldm": {"path": latent_diffusion, "conditions": DEFAULT},
    "cfx.spaces.load_stable_diffusion": {"path": stable_diffusion},
    "cfx.spaces.load_stylegan2": {"path": stylegan_file},
}  # fmt: skip


def used_workbench():
    """A panel with one kept run."""
    bench = cfx.workbench(space(), classifier(), images(), judge=classifier())
    bench.run()
    bench.wait()
    bench.keep()
    return bench


#: Objects of which only some have this property.
OWNERS: dict[str, Callable[[], Any]] = {"cfx.Counterfactuals.outcomes": goal_reached}

#: Objects whose methods are called, by the name of their class.
OBJECTS: dict[str, Callable[[], Any]] = {
    "AttributeEdits": edits,
    "BlackBox": lambda: cfx.BlackBox(classifier()),
    "Attribution": attribution,
    "Autoencoder": lambda: carded(autoencoder),
    "Counterfactuals": counterfactuals,
    "Descriptors": descriptors,
    "Diagnosis": cfx.doctor,
    "Diffusion": lambda: carded(diffusion),
    "DiffusionAutoencoder": lambda: carded(diffae),
    "Directions": directions,
    "Explanation": explanation,
    "ErrorExplanation": lambda: explained(),
    "Evaluation": lambda: cfx.evaluate(unchanged, worlds=["digits"], baselines=[], n_images=1),
    "ClassMeans": lambda: cfx.fit_flow(space(), classifier(), many(), kind="class_means"),
    "FactorReader": reader,
    "FittedFlow": flow,
    "FeatureAttribution": lambda: described(),
    "ImageSet": figures,
    "LazyImageSet": lazy_images,
    "LPIPS": lpips,
    "LatentPath": lambda: cfx.latent_path(space(), codes(), codes()),
    "SelectLabel": lambda: cfx.select_label(classifier(), 1),
    "ObservedScores": lambda: cfx.observed_scores(table(), "x", "y"),
    "InsertionDeletion": lambda: pasted(),
    "Picture": picture,
    "PiecewiseLinearPath": lambda: cfx.piecewise_linear_path(images().view(2, 6, 3, 4, 4)),
    "PromptConditions": prompts,
    "ResultFolder": result_folder,
    "ScoreBounds": lambda: cfx.observed_scores(table(), "x", "y").bounds,
    "ContrastiveScores": scores,
    "Step": step,
    "StraightPath": lambda: cfx.straight_path(images(), 0.5),
    "StyleGAN2": stylegan,
    "VAE": lambda: carded(vae),
    "Workbench": used_workbench,
    "Wrapped": lambda: carded(classifier),
    "WrappedRegression": lambda: carded(network_regression),
    "Goal": lambda: cfx.raise_to(0.5),
}


def carded(make):
    """With a card, as what cfx.train and cfx.load give, so that it can be saved."""
    made = make()
    made.card = {"kind": "space", "quality": {}}
    if hasattr(made, "autoencoder"):
        made.autoencoder.card = made.card
    return made


@functools.cache
def described():
    return cfx.describe_change(counterfactuals(), descriptors(), n_resamples=3)


@functools.cache
def pasted():
    return cfx.metrics.insertion_deletion(
        classifier(), images(), images().flip(0), attribution(), 1, n_chunks=4
    )


@functools.cache
def explained():
    space_, f, shown, target = gaussian()
    return cfx.explain_errors(space_, f, shown, target, steps=2, max_attempts=1)
