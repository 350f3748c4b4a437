"""Wrong arguments of paths, attributions and measures of maps."""

import pytest
import torch
from torch import nn
from worlds import LinearSpace, code_classifier
from wrong import (
    INF,
    NAN,
    choice_values,
    classifier_values,
    count_values,
    image_values,
    label_values,
    number_values,
    own_arguments,
    result_values,
    space_values,
)
from wrong_scores import check_message, rows, without

import cfxnb as cfx
from cfxnb.attribution.captum_attribution import captum_attribution
from cfxnb.attribution.integrated_gradients import integrated_gradients
from cfxnb.attribution.latent_integrated_gradients import latent_integrated_gradients
from cfxnb.attribution.paths import (
    direction_path,
    latent_path,
    piecewise_linear_path,
    straight_path,
)
from cfxnb.metrics.attribution import (
    insertion_deletion,
    parameter_randomisation,
    pointing_game,
    relevance_mass,
)
from cfxnb.plots.attribution import heat_maps

SPACE = LinearSpace()
F = code_classifier(SPACE, torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 8.0)
Z = cfx.Code(torch.tensor([[-1.0, 0, 0, 0], [-2.0, 1, 0, 0]]))
WITH_AUX = cfx.Code(Z.z, torch.zeros(2, 3))
X = SPACE.decode(Z)
AXIS = torch.tensor([1.0, 0.0, 0.0, 0.0])
PATH = straight_path(X)
MAPS = integrated_gradients(F, PATH, 1)
MASK = torch.ones(2, 4, 4, dtype=torch.bool)

CODES = {
    "None": (None, "NoneType"),
    "tensor": (Z.z, "Tensor"),
    "of another space": (cfx.Code(torch.zeros(2, 5)), "(2, 5)"),
    "vector": (cfx.Code(torch.zeros(4)), "(4,)"),
    "empty": (cfx.Code(torch.zeros(0, 4)), "(0, 4)"),
}
DIRECTIONS = {
    "None": (None, "NoneType"),
    "list": ([1.0, 0.0, 0.0, 0.0], "list"),
    "edits": ("top", "str"),
    "short": (AXIS[:3], "(3,)"),
    "row": (AXIS[None], "(1, 4)"),
    "too many": (AXIS.expand(3, 4), "(3, 4)"),
    "zero": (0 * AXIS, "0"),
    "one zero": (torch.stack([AXIS, 0 * AXIS]), "0"),
    "NaN": (NAN * AXIS, "nan"),
    "infinite": (torch.tensor([INF, 0, 0, 0]), "inf"),
}
LABELS = {
    "label": label_values(),
    "contrast_class": without(label_values(), "None")
    | {"the label": (1, "1"), "one equal": (torch.tensor([0, 1]), "1")},
}
CLASSIFIERS = without(classifier_values(), "wrong rows") | {
    "wrong rows": (lambda x: torch.zeros(len(x) + 1, 2), "2)"),
    "one logit": (lambda x: torch.zeros(len(x), 1), "1)"),
    "no classes": (lambda x: torch.zeros(len(x)), ",)"),
}
WHITE_BOXES = CLASSIFIERS | {
    "black box": (cfx.BlackBox(F), "BlackBox"),
    "cut off": (lambda x: F(x).detach(), "does not"),
}
METHODS = choice_values("trapezoid") | {"captum's": ("riemann_middle", "'riemann_middle'")}
SEARCH = {
    "n_points": count_values(1, 0, -1),
    "tolerance": number_values(0.0, -0.1),
    "max_points": count_values(0, -1),
    "batch_size": count_values(0, -1),
}
MAP_VALUES = {
    "None": (None, "NoneType"),
    "array": (MAPS.heat_map.numpy(), "ndarray"),
    "channels": (MAPS.attributions, "(2, 3, 4, 4)"),
    "one map": (MAPS.heat_map[0], "(4, 4)"),
    "none": (MAPS.heat_map[:0], "(0, 4, 4)"),
}
MASKS = {
    "None": (None, "NoneType"),
    "array": (MASK.numpy(), "ndarray"),
    "numbers": (MASK.float(), "float32"),
    "one": (MASK[0], "(4, 4)"),
    "small": (MASK[:, :2], "(2, 2, 4)"),
}
TABLE = {
    straight_path: (
        {"images": X},
        {
            "images": image_values(),
            "baseline": without(number_values(-0.1, 1.1), "tensor")
            | without(image_values(), "None", "array", "list", "text", "number")
            | {"other size": (X[..., :2], "(2, 3, 4, 2)"), "one image": (X[:1], "(1, 3, 4, 4)")},
        },
    ),
    piecewise_linear_path: (
        {"images": torch.stack([X, X], 1)},
        {
            "images": {
                "None": (None, "NoneType"),
                "four dims": (X, "(2, 3, 4, 4)"),
                "one point": (X[:, None], "(2, 1, 3, 4, 4)"),
                "empty": (X[:0, None], "(0, 1, 3, 4, 4)"),
                "NaN": (torch.full((1, 2, 1, 2, 2), NAN), "NaN"),
                "above 1": (torch.full((1, 2, 1, 2, 2), 2.0), "2"),
                "whole": (torch.ones(1, 2, 1, 2, 2, dtype=torch.int64), "int64"),
            }
        },
    ),
    latent_path: (
        {"space": SPACE, "start": Z, "end": Z},
        {
            "space": space_values(),
            "start": CODES | {"one": (Z[:1], "1"), "another aux": (WITH_AUX, "another")},
            "end": CODES,
        },
    ),
    direction_path: (
        {"space": SPACE, "code": Z, "direction": AXIS, "steps_along": 1.0},
        {
            "space": space_values(),
            "code": without(CODES, "of another space", "vector", "empty"),
            "direction": DIRECTIONS,
            "steps_along": without(number_values(), "tensor")
            | {"three": (torch.ones(3), "Tensor"), "one NaN": (torch.tensor([0, NAN]), "NaN")},
        },
    ),
    integrated_gradients: (
        {"classifier": F, "path": PATH, "label": 1},
        {
            "classifier": WHITE_BOXES,
            "path": {"None": (None, "NoneType"), "images": (X, "Tensor")},
            **LABELS,
            "method": METHODS,
            **SEARCH,
        },
    ),
    latent_integrated_gradients: (
        {"space": SPACE, "classifier": F, "images": X, "direction": AXIS, "label": 1},
        {
            "space": space_values(),
            "classifier": WHITE_BOXES,
            "images": image_values(),
            "direction": DIRECTIONS,
            **LABELS,
            "max_step": without(number_values(0.0, -1.0), "None"),
            "threshold": number_values(0.0, 1.0, -0.5),
            "grid_steps": count_values(0, -1),
            "binary_search_steps": count_values(-1),
            "extend_to_image": {"None": (None, "NoneType"), "number": (1, "int")},
            "method": METHODS | {"straight only": ("gausslegendre", "'gausslegendre'")},
            **SEARCH,
        },
    ),
    captum_attribution: (
        {
            "algorithm": "occlusion",
            "classifier": F,
            "images": X,
            "label": 1,
            "window": 2,
            "stride": 1,
        },
        {
            "algorithm": choice_values("occlusion") | {"unknown": ("saliency", "'saliency'")},
            "classifier": CLASSIFIERS,
            "images": image_values(),
            **LABELS,
            "baseline": without(number_values(-0.1, 1.1), "tensor")
            | {"other size": (X[..., :2], "(2, 3, 4, 2)")},
            "n_points": count_values(0, -1),
            "window": count_values(0, -1, 5),
            "stride": count_values(0, -1, 3),
            "tolerance": number_values(0.0, -0.1),
            "batch_size": count_values(0, -1),
        },
    ),
    relevance_mass: (
        {"attribution": MAPS, "mask": MASK},
        {"attribution": MAP_VALUES, "mask": MASKS},
    ),
    pointing_game: (
        {"attribution": MAPS, "mask": MASK},
        {"attribution": MAP_VALUES, "mask": MASKS},
    ),
    insertion_deletion: (
        {"classifier": F, "images": X, "baseline": X, "attribution": MAPS, "label": 1},
        {
            "classifier": CLASSIFIERS,
            "images": image_values(),
            "baseline": image_values() | {"other size": (X[..., :2], "(2, 3, 4, 2)")},
            "attribution": MAP_VALUES | {"other size": (MAPS.heat_map[..., :2], "(2, 4, 2)")},
            "label": label_values(),
            "n_chunks": count_values(0, -1),
            "batch_size": count_values(0, -1),
        },
    ),
    parameter_randomisation: (
        {"classifier": F, "explain": lambda f: integrated_gradients(f, PATH, 1)},
        {
            "classifier": {
                "None": (None, "NoneType"),
                "function": (lambda x: F(x), "function"),
                "black box": (cfx.BlackBox(F), "BlackBox"),
                "no weights": (nn.Flatten(), "without"),
            },
            "explain": {
                "None": (None, "NoneType"),
                "maps": (MAPS, "Attribution"),
                "images": (lambda f: X, "(2, 3, 4, 4)"),
                "nothing": (lambda f: None, "NoneType"),
                "changing": (lambda f: MAPS.heat_map[: 1 + (f is F)], "(1, 4, 4)"),
            },
            "cascade": {"None": (None, "NoneType"), "text": ("all", "str")},
            "seed": count_values(-1),
        },
    ),
    heat_maps: (
        {"attribution": MAPS},
        {
            "attribution": result_values(),
            "max_images": count_values(0, -1),
            "class_names": {
                "text": ("ab", "str"),
                "number": (2, "int"),
                "too few": (["a"], "['a']"),
            },
        },
    ),
}


@pytest.mark.parametrize(("function", "arguments", "argument", "text"), rows(TABLE))
def test_wrong_argument(function, arguments, argument, text):
    check_message(function, arguments, argument, text)


@pytest.mark.parametrize("function", TABLE, ids=lambda f: f.__name__)
def test_right_arguments_are_accepted(function):
    function(**TABLE[function][0])


@pytest.mark.parametrize("function", TABLE, ids=lambda f: f.__name__)
def test_no_argument_is_left_out(function):
    tested = set(TABLE[function][0]) | set(TABLE[function][1])
    assert own_arguments(function) <= tested


@pytest.mark.parametrize("method", ["trapezoid", "gausslegendre", "mean_gradient"])
def test_a_black_box_is_told_which_method_will_do(method):
    with pytest.raises(TypeError, match=rf"(?s)method='{method}'.*BlackBox.*method='proportional'"):
        integrated_gradients(cfx.BlackBox(F), PATH, 1, method=method)
    if method != "gausslegendre":
        with pytest.raises(TypeError, match="method='proportional'"):
            latent_integrated_gradients(SPACE, cfx.BlackBox(F), X, AXIS, 1, method=method)


def test_captum_with_gradients_refuses_a_black_box():
    for algorithm in ("input_x_gradient", "integrated_gradients"):
        with pytest.raises(TypeError, match=r"classifier: .*BlackBox"):
            captum_attribution(algorithm, cfx.BlackBox(F), X, 1)


def test_gausslegendre_on_a_curve_is_refused():
    with pytest.raises(ValueError, match=r"method: .*'gausslegendre'"):
        integrated_gradients(F, latent_path(SPACE, Z, Z), 1, method="gausslegendre")


def test_missing_captum_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match="captum_attribution needs captum; install it"):
        captum_attribution("input_x_gradient", F, X, 1)


def test_rows_that_are_not_there():
    for rows_asked in (2, -3, [0, 5], [True]):
        with pytest.raises(IndexError, match="2 maps"):
            MAPS[rows_asked]
    with pytest.raises(ValueError, match="parts: expected at least one"):
        type(MAPS).concatenate([])
