"""The default search: one direction per class, fitted to answers about several images at a time.

``search_globally`` is the algorithm. Three choices make the directions hold for other images, as
measured on digits (``python -m benchmarks.digit_pairs``):

- Codes of real images vary along few axes, so random changes are drawn with the covariance of these
  codes.
- The gradient at one image is not the gradient at other images, so one linear function of the code
  is fitted to the answers about several images together.
- A direction can lead to a third class, so each class is fitted against all other classes.
"""

import dataclasses

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor

from cfxnb.core.code_covariance import CodeCovariance
from cfxnb.core.decisions import log_odds
from cfxnb.core.tensors import unit
from cfxnb.directions.direction_candidates import top_eigenvectors
from cfxnb.directions.held_out import HeldOut
from cfxnb.directions.probing import BlackBoxProbe, ImageProbes
from cfxnb.directions.proxies import PENALTIES, ProxyFit, cosine, fit_hessian, saturate
from cfxnb.directions.search_config import SearchConfig


@dataclasses.dataclass(frozen=True, eq=False)
class GlobalDirections:
    """Directions, which are unit vectors in standard deviations of the code (std).

    Attributes:
        fit: the linear fit whose gradient is g, with measures of quality.
        vectors: "g" and "h1", "h2", ..., (d,) each, best first.
        towards: one direction per class, (k, d). Adding the direction of a class raises the log
            odds of this class against all other classes.
        table: one row per direction, and one for a random direction, see ``HeldOut.table``.
    """

    fit: ProxyFit
    vectors: dict[str, Tensor]
    towards: Tensor
    table: pd.DataFrame


def search_globally(
    probe: BlackBoxProbe, held_out: HeldOut, config: SearchConfig
) -> GlobalDirections:
    """Find one direction per class from the answers about the images of ``probe``."""
    # Query D(z_i + delta, x_T,i) around the code z_i of each image. Opposite changes +-delta have
    # the covariance of real codes, delta = r Sigma^(1/2) eps.
    probes = probe.sample_images(held_out.budget)
    covariance = probe.covariance

    # gamma_c: gradient of class c's log odds against all others, in whitened coordinates xi.
    # Along V^T gamma_c each active axis counts as much as it varies among real codes.
    scores = class_scores(probes.logits, config)
    gamma = fit_scores(probes, scores)
    towards = unit(gamma @ covariance.axes)
    fit, curvature = describe_fit(probes, scores, covariance, config)
    g = towards[config.target]
    if config.contrast_class is not None:
        g = unit(gamma[-1:] @ covariance.axes)[0]
        towards = towards[:-1]
    if not g.any():
        return GlobalDirections(fit, {}, towards, held_out.table({}, fit).iloc[:0])

    # h: eigenvectors of the target's Hessian in xi. More are tested than kept.
    axes = top_eigenvectors(curvature, held_out.n_axes(config.n_curvature, len(covariance.axes)))
    h = axes.to(g) @ covariance.axes
    h = torch.where((h @ fit.gradient < 0)[:, None], -h, h)
    directions = {"g": g} | {f"h{number + 1}": u for number, u in enumerate(h)}

    # The honest figure: move held-out images both ways, beside a random direction.
    held_out.run(directions, towards, covariance)
    table = held_out.table(directions, fit)
    axes_kept = [name for name in table.index if name.startswith("h")][: config.n_curvature]
    names = [name for name in table.index if name in ("g", *axes_kept)]
    return GlobalDirections(
        fit, {name: directions[name] for name in names}, towards, table.loc[[*names, "random"]]
    )


def class_scores(logits: Tensor, config: SearchConfig) -> Tensor:
    """Return the saturated log odds of each class against all others, (n, k).

    If there is a contrast class, a last column holds the target's log odds against this class.
    """
    rows, n_classes = logits.shape
    columns = [log_odds(logits, torch.full((rows,), c)) for c in range(n_classes)]
    if config.contrast_class is not None:
        pair = torch.tensor([[config.target], [config.contrast_class]]).expand(2, rows)
        columns.append(log_odds(logits, *pair))
    scores = torch.stack(columns, 1)
    return scores if config.saturation is None else saturate(scores, config.saturation)


def fit_scores(probes: ImageProbes, scores: Tensor) -> Tensor:
    """Return the gradient of each score in whitened coordinates, (k, axes), by ridge regression.

    With several images the scores are fitted to the whole code, so that differences between images
    count. With one image, only half the score difference of each pair of opposite changes is
    fitted, in which the curvature of the score cancels. Ridge penalties are chosen by leave-one-out
    errors.
    """
    if probes.n_images > 1:
        inputs, outputs, intercept = probes.code, scores, True
    else:
        inputs, outputs = probes.change[::2], (scores[::2] - scores[1::2]) / 2
        intercept = False
    fit = RidgeCV(PENALTIES, fit_intercept=intercept, alpha_per_target=True)
    fit.fit(inputs.double().numpy(), outputs.double().numpy())
    return torch.from_numpy(np.atleast_2d(fit.coef_)).float()


def describe_fit(
    probes: ImageProbes, scores: Tensor, covariance: CodeCovariance, config: SearchConfig
) -> tuple[ProxyFit, Tensor]:
    """Return the fit whose gradient is g, in std, and the Hessian in whitened coordinates. The
    Hessian is that of the target's log odds without saturation.
    """
    column = config.target if config.contrast_class is None else scores.shape[1] - 1
    score = scores[:, column : column + 1]
    pairs = torch.arange(len(score)) // 2
    kept = pairs % 5 != 4
    coefficients = [
        fit_scores(probes.rows(some), score[some])[0]
        for some in (kept, pairs < len(score) // 4, pairs >= len(score) // 4)
    ]
    observed, predicted = score[~kept][:, 0], probes.predictors()[~kept] @ coefficients[0]
    # Only differences are predicted: the level is taken from the fitted answers.
    level = (score[kept][:, 0] - probes.predictors()[kept] @ coefficients[0]).mean()
    residual = observed - predicted - level
    gamma = fit_scores(probes, score)
    scale = covariance.axes / covariance.variances.sqrt()[:, None]  # (axes, d)
    even = probes.even_scores(config.target, config.contrast_class)
    known = even.isfinite()
    hessian = fit_hessian(probes.change[::2][known], even[known])
    fit = ProxyFit(
        gradient=gamma[0] @ scale,
        hessian=scale.T @ hessian @ scale,
        distance=torch.full((scale.shape[1],), torch.nan),
        r2=float(1 - residual.square().mean() / observed.var(correction=0).clamp_min(1e-30)),
        split_half_cosine=cosine(*[c.double().numpy() for c in coefficients[1:]]),
        n_queries=len(score),
    )
    return fit, hessian
