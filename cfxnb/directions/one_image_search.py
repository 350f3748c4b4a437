"""The search of Global Counterfactual Directions (GCD, arXiv 2404.12488) around one image.

``search_one_image`` is the algorithm of ``find_directions`` with the proxies "ridge", "mlp" and
"mlp_paper".

Differences from the paper:

- Rounds: the paper repeats 50 to 84 rounds: query the classifier, fit a network to all answers, and
  follow its directions. Here the classifier is queried in one round, also with
  ``proxy="mlp_paper"``.
- Score: the paper fits the raw logit within a ball of radius 1. We fit the log odds, within
  ``radius`` standard deviations of the code. The direction g is therefore a mean gradient over a
  ball of ``radius`` standard deviations.
- Distance: the paper's proxy has LPIPS as a second output. The second output of our proxy is the
  root mean square difference of the images, or the function given as ``distance``.
- Proxy: the paper fits a new network to all answers in every round. With "ridge" we fit a ridge
  regression to pairs of opposite changes, which needs far fewer queries. For the gradient the log
  odds are saturated, so that answers near the decision count most.
- Sign: the paper keeps the arbitrary sign of an eigenvector. We test both signs.
- Selection: we test more h-directions (eigenvectors of the Hessian) than we keep. We keep the
  h-directions that flip the largest fraction of the test images.
- Correction: with "ridge", the answers about other test images correct the gradient g, unless the
  corrected g flips fewer images.
"""

import dataclasses

import pandas as pd
import torch
from torch import Tensor

from cfxnb.core.decisions import check_labels
from cfxnb.core.tensors import active_dims, unit
from cfxnb.directions.direction_candidates import DUPLICATE_COSINE, direction_candidates
from cfxnb.directions.direction_trial import STEP_FRACTIONS, Trial, TrialAnswers
from cfxnb.directions.gradient_correction import correct_gradient
from cfxnb.directions.mlp_proxy import mlp
from cfxnb.directions.probing import BlackBoxProbe
from cfxnb.directions.proxies import Probes, ProxyFit, ridge
from cfxnb.directions.search_config import SearchConfig

UNCORRECTED, CORRECTED = "g uncorrected", "g corrected"
N_GRADIENTS = 2  # "g" and "g with distance"


def search_one_image(
    probe: BlackBoxProbe, trial: Trial, config: SearchConfig
) -> tuple[ProxyFit, dict[str, Tensor], pd.DataFrame]:
    """Find directions that change the decision, around the code of one image.

    Args:
        probe: queries the black box about changes of the image's code z = E(x), with a fixed
            stochastic code x_T.
        trial: tests directions on images.

    Returns:
        The fitted proxy, a dict of unit directions (d,) in std, and a table of the directions. The
        dict and the table begin with the best direction.
    """
    active = active_dims(probe.space.std).flatten().cpu()
    correct = config.proxy == "ridge" and trial.has_others
    n_axes, reserved = trial.plan(config.n_curvature, int(active.sum()), N_GRADIENTS + correct)

    # The paper: query the classifier about D(z + delta, x_T) for random delta. Fit a proxy to the
    # answers. g is its gradient at delta = 0, and h are the eigenvectors of its Hessian.
    probes = probe.sample(active, reserved)
    fit = fit_proxy(probes, config)
    directions = direction_candidates(fit, probe.sign, n_axes, active)

    # Ours: move images both ways along each direction, and count how many decisions flip.
    answers = trial.run(directions)

    # Ours: correct g with the answers of the other images, and test the corrected g as well.
    if correct and "g" in directions:
        g = correct_g(directions, answers, fit, config)
        answers = trial.run_corrected(g, answers)
        others = {UNCORRECTED if name == "g" else name: u for name, u in directions.items()}
        directions = {"g": g} | others

    table = trial.rank(directions, answers, fit)
    return fit, *select_directions(directions, table, config.n_curvature)


def fit_proxy(probes: Probes, config: SearchConfig) -> ProxyFit:
    """Fit the proxy that ``config.proxy`` names to the answers of the black box."""
    if config.proxy != "ridge":
        stop = "paper" if config.proxy == "mlp_paper" else "best"
        classes = check_labels(config.target, config.contrast_class, 1, probes.logits.shape[1])
        return mlp(probes, *classes, stop=stop, seed=config.seed)
    fit = ridge(probes)
    if config.saturation is None:
        return fit
    saturated = ridge(probes.saturated(config.saturation))
    # The Hessian stays that of the plain scores, because saturated ones are flat far from 0.
    return dataclasses.replace(
        fit, gradient=saturated.gradient, split_half_cosine=saturated.split_half_cosine
    )


def correct_g(
    directions: dict[str, Tensor], answers: TrialAnswers, fit: ProxyFit, config: SearchConfig
) -> Tensor:
    """Return the unit vector (d,) of the gradient, corrected by the answers about other images."""
    gradient = correct_gradient(
        fit.gradient,
        torch.stack(list(directions.values())),
        answers.score_before,
        answers.score,
        STEP_FRACTIONS[0] * config.max_step,
        config.saturation,
    )
    return unit(gradient[None])[0]


def select_directions(
    directions: dict[str, Tensor], table: pd.DataFrame, n_curvature: int
) -> tuple[dict[str, Tensor], pd.DataFrame]:
    """Drop duplicates of g and the worst h-directions, and name the better gradient "g"."""
    duplicates = [
        name
        for name, u in directions.items()
        if name != "g" and "g" in directions and abs(u @ directions["g"]) > DUPLICATE_COSINE
    ]
    table, names = table.drop(index=duplicates), {}
    rates = table["flip rate"]
    if UNCORRECTED in rates and rates[UNCORRECTED] > rates["g"]:
        names = {"g": CORRECTED, UNCORRECTED: "g"}
    axes = [name for name in table.index if name.startswith("h")]
    table = table.drop(index=axes[n_curvature:])
    directions = {names.get(name, name): directions[name] for name in table.index}
    return directions, table.rename(index=names)
