"""Standard attribution maps of captum, for comparison."""

import os
import time
from collections.abc import Callable

import torch
from torch import Tensor

from cfxnb.attribution.batches import explain_batches, with_record
from cfxnb.attribution.explained_output import ExplainedOutput
from cfxnb.attribution.paths import StraightPath, straight_path
from cfxnb.attribution.result import COMPLETE, INCOMPLETE, Attribution, relative_delta
from cfxnb.core import validate
from cfxnb.core.classifiers import as_classifier
from cfxnb.core.driver import Stop
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.streamed import streamed
from cfxnb.core.target import Label
from cfxnb.core.tensors import finite_rows, require_gradient
from cfxnb.core.types import NO_GRADIENT, Classifier, Images
from cfxnb.core.weights_hash import weights_hash

ALGORITHMS = ("input_x_gradient", "integrated_gradients", "occlusion")


@streamed
@standard_modes
def captum_attribution(
    algorithm: str,
    classifier: Classifier,
    images: Images,
    label: Label,
    *,
    contrast_class: Label | None = None,
    baseline: float | Tensor = 0.0,
    n_points: int = 50,
    window: int = 4,
    stride: int = 2,
    tolerance: float = 0.01,
    batch_size: int = 128,
    output_dir: str | os.PathLike | None = None,
) -> Attribution:
    """Compute an attribution map with captum (Kokhlikyan et al., 2020).

    Args:
        algorithm: "input_x_gradient"; "integrated_gradients" (Gauss-Legendre rule on the straight
            line from the baseline); or "occlusion" (Zeiler & Fergus, 2014; needs no gradients).
        classifier: Images -> logits (b, k). "occlusion" accepts a BlackBox.
        images: Images to explain, (b, c, h, w) in [0, 1], or a data set (see ``cfx.open``).
        label, contrast_class: The explained class, and the class with which the explained class is
            compared, see ``integrated_gradients``.
        baseline: One gray level in [0, 1], or images like ``images``. Default: 0, black.
            "input_x_gradient" ignores ``baseline`` and always uses black.
        n_points: Number of Gauss-Legendre nodes of "integrated_gradients".
        window: Side of the square that "occlusion" covers, in pixels.
        stride: Distance between neighbouring squares, in pixels; at most ``window``.
        tolerance: A map has the status "complete" if the sum of the map differs from the change of
            the output by at most ``tolerance`` times the change. Only the maps of
            "integrated_gradients" are expected to get the status "complete".
        batch_size: Approximate number of images per batch. A larger batch is faster and needs more
            memory.
        output_dir: Folder to which the results are written in shards, for any number of images.
            After a crash, the same call goes on. ``cfx.open`` opens the folder. Default: None.

    Returns:
        An Attribution on the device of ``images``. Images that were not finished when Ctrl-C was
        pressed have the status "stopped".

    Raises:
        ImportError: If captum is not installed.
        ValueError, TypeError: If an argument is wrong. A
            BlackBox is refused unless the algorithm is "occlusion".
    """
    began = time.perf_counter()
    validate.choice(algorithm, "algorithm", ALGORITHMS)
    if algorithm == "occlusion":
        as_classifier(classifier)
    else:
        validate.white_box(classifier)
    path = straight_path(images, baseline)
    if algorithm == "input_x_gradient":
        path = straight_path(images, 0.0)
    largest = min(path.images.shape[2:]) if algorithm == "occlusion" else validate.LARGEST
    window = validate.count(window, "window", 1, largest)
    options = {
        "n_points": validate.count(n_points, "n_points", 1),
        "window": window,
        "stride": validate.count(stride, "stride", 1, window),
    }
    validate.number(tolerance, "tolerance", 0.0, open_low=True)
    batch_size = validate.count(batch_size, "batch_size", 1)
    output = ExplainedOutput(classifier, label, contrast_class, len(path), batch_size)
    stop = Stop(None)

    def explain(rows: Tensor) -> Attribution:
        return _explain(algorithm, output, path, rows, options, tolerance)

    with eval_frozen(classifier):
        positions = torch.arange(len(path), device=path.device)
        result = explain_batches(stop, output, explain, positions, path.images)
    record = {"function": "captum_attribution", "algorithm": algorithm, **options}
    return with_record(result, stop, began, lambda: weights_hash(classifier), **record)


def _explain(
    algorithm: str,
    output: ExplainedOutput,
    path: StraightPath,
    rows: Tensor,
    options: dict[str, int],
    tolerance: float,
) -> Attribution:
    """Explain the images at the positions ``rows`` with one call of captum."""
    baseline, low, _ = output.along(path, rows, torch.zeros(len(rows), device=rows.device))
    image, high, _ = output.along(path, rows, torch.ones(len(rows), device=rows.device))
    n_queries = torch.full_like(rows, 2)  # both ends

    def f(x: Tensor, whose: Tensor) -> Tensor:
        n_queries.index_add_(0, whose - rows[0], torch.ones_like(whose))
        value = output.output(output.classifier(x), whose)
        if algorithm != "occlusion":
            require_gradient(value)
        return value

    with torch.enable_grad():
        full = _captum(algorithm, f, image, baseline, rows, options, output.batch_size).detach()
    change = high - low
    delta = relative_delta(full.flatten(1).sum(1, dtype=torch.float64), change)
    status = [COMPLETE if abs(d) <= tolerance else INCOMPLETE for d in delta.tolist()]
    finite = finite_rows(full).tolist()
    label, contrast_class = output.classes_of(rows)
    nodes = options["n_points"] if algorithm == "integrated_gradients" else 1
    return Attribution(
        image=image,
        baseline=baseline,
        attributions=full,
        output_change=change.float(),
        relative_delta=delta.float(),
        n_points=torch.full_like(rows, nodes),
        label=label,
        contrast_class=contrast_class,
        status=tuple(s if ok else NO_GRADIENT for s, ok in zip(status, finite, strict=True)),
        cost={"generator": torch.zeros_like(rows), "classifier": n_queries},
    )


def _captum(
    algorithm: str,
    f: Callable[[Tensor, Tensor], Tensor],
    image: Tensor,
    baseline: Tensor,
    rows: Tensor,
    options: dict[str, int],
    batch_size: int,
) -> Tensor:
    try:
        from captum.attr import InputXGradient, IntegratedGradients, Occlusion
    except ImportError as error:
        raise ImportError(
            "cfx.captum_attribution needs captum; install it with: pip install 'captum>=0.9'"
        ) from error
    x = image.clone().requires_grad_(algorithm != "occlusion")
    # captum repeats these arguments along with the images.
    arguments = {"additional_forward_args": (rows,)}
    if algorithm == "input_x_gradient":
        return InputXGradient(f).attribute(x, **arguments)
    if algorithm == "integrated_gradients":
        steps = {"n_steps": options["n_points"], "internal_batch_size": max(batch_size, len(x))}
        return IntegratedGradients(f).attribute(x, baseline, **steps, **arguments)
    channels, window, stride = x.shape[1], options["window"], options["stride"]
    moves = {"strides": (channels, stride, stride), "baselines": baseline}
    n_squares = max(1, batch_size // len(x))
    with torch.no_grad():
        return Occlusion(f).attribute(
            x, (channels, window, window), perturbations_per_eval=n_squares, **moves, **arguments
        )
