"""Training of a conditional flow on the codes of a space, for ``cfx.flow_counterfactual``."""

from typing import Any

import torch

from cfxnb.core.prediction import predict_logits
from cfxnb.flows.flow_counterfactual import flow_counterfactual
from cfxnb.flows.velocity import FittedFlow, fit_flow
from cfxnb.train.task import Task

N_TRAIN, N_TEST, N_SLOW = 6000, 200, 24
STEPS = 2000


def train(task: Task) -> tuple[FittedFlow, dict[str, Any]]:
    """Fit a flow to the answers of a classifier, and return it with the fields of its card."""
    space, classifier = task.options["space"], task.options["classifier"]
    if space is None or classifier is None:
        raise ValueError(
            "space, classifier: expected both for kind='flow', because a flow lives on the codes "
            "of a space and learns the answers of a classifier. Train or load them first."
        )
    # A diffusion autoencoder decodes slowly, so its flow learns the answers about the originals.
    slow = hasattr(space, "encode_semantic")
    settings = {"steps": STEPS} | {k: v for k, v in task.given.items() if v and k != "ema"}
    flow: Any = fit_flow(
        space,
        classifier,
        task.parts.train.floats(N_TRAIN),
        ask="originals" if slow else "reconstructions",
        checkpoint_dir=task.checkpoint_dir,
        seed=task.seed,
        **settings,
        **task.options["net"],
    )
    task.log["training"] = settings
    test = task.parts.test.floats(N_SLOW if slow else N_TEST)
    target = (predict_logits(classifier, test).argmax(1) + 1) % flow.n_classes
    found = flow_counterfactual(space, classifier, test, target, flow=flow)
    flipped = [status == "flipped" for status in found.status]
    queries = found.cost["classifier"][torch.tensor(flipped)].double().mean() - 1
    config = {"dims": flow.mean.numel(), "n_classes": flow.n_classes}
    config["hidden_dim"] = task.options["net"].get("hidden_dim", 256)
    quality = {
        f"flips of {len(test)} held-out images": round(sum(flipped) / len(test), 4),
        "images decoded and classified per flip": round(float(queries.nan_to_num(-1)), 2),
    }
    names = getattr(classifier, "class_names", None) or range(flow.n_classes)
    fields = {"net": "VelocityNet", "config": config, "quality": quality}
    return flow, {**fields, "of": _names(space, classifier), "class_names": [*map(str, names)]}


def _names(space: Any, classifier: Any) -> dict[str, str]:
    """Return the summaries of space and classifier, as far as they have cards."""
    parts = {"space": space, "classifier": classifier}
    return {k: (getattr(v, "card", None) or {}).get("summary", "") for k, v in parts.items()}
