"""Every method on one tiny world, as ``run(space, f, x, target, **more) -> numbers``."""

import pandas as pd
import torch
from torch import nn
from worlds import LinearSpace

import cfxnb as cfx

SPACE = LinearSpace(shape=(1, 8, 8), scale=0.05)
X = SPACE.sample(8, 5)
DIRECTION = torch.tensor([1.0, 2.0, -1.0, 0.5])
FACTORS = pd.DataFrame({"a": [0, 1] * 4, "b": [0, 0, 1, 1] * 2})
MANY = SPACE.sample(90, 3)
BRIGHT = pd.DataFrame({"c": SPACE.encode(MANY).z[:, 0].numpy() > 0}).astype(int)


def net(seed=3, drop=0.0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Dropout(drop), nn.Linear(16, 2)
        )
    with torch.no_grad():
        made[-1].weight *= 10
        made[-1].bias -= made(X).mean(0)
    return made.eval()


def other(f):
    with torch.no_grad():
        return 1 - f(X).argmax(1)


QUICK = {"restarts": 1, "steps": 6, "init_noise": 0.3, "confidence": 0.9}


def _latent_attack(f, x, t, **more):
    found = cfx.latent_attack(SPACE, f, x, t, **QUICK, **more)
    return found.image, found.logits_after


def _pixel_attack(f, x, t, **more):
    found = cfx.pixel_attack(f, x, t, steps=8, **more)
    return found.image, found.logits_after


def _reconstruct(f, x, t, **more):
    found = cfx.reconstruct(SPACE, f, x, t, **more)
    return found.image, found.logits_after


def _follow(f, x, t, **more):
    found = cfx.follow_direction(SPACE, f, x, DIRECTION, t, **more)
    return found.image, found.logits_after


def _random_change(f, x, t, **more):
    like = cfx.latent_attack(SPACE, f, x, t, steps=4, restarts=0)
    found = cfx.random_change(SPACE, f, like, **more)
    return found.image, found.logits_after


def _integrated(f, x, t):
    return (cfx.integrated_gradients(f, cfx.straight_path(x), t).attributions,)


def _latent_integrated(f, x, t):
    found = cfx.latent_integrated_gradients(SPACE, f, x, DIRECTION, t, threshold=0.4)
    return found.attributions, found.baseline_step


def _captum(f, x, t):
    return tuple(
        cfx.captum_attribution(name, f, x, t).attributions
        for name in ("input_x_gradient", "integrated_gradients", "occlusion")
    )


def _directions(f, x, t):
    found = cfx.find_directions(
        SPACE, f, x[0], 1, max_queries=200, n_curvature=2, validation_images=x[1:3]
    )
    return (found.vectors,)


def _scores(f, x, t, **more):
    edits = cfx.fit_attribute_edits(SPACE, X, FACTORS)
    found = cfx.contrastive_scores(SPACE, f, x, FACTORS[: len(x)], edits=edits, **more)
    return (found.table[["pns", "monotonicity_violation"]].to_numpy(float),)


def _descriptors(f, x, t):
    found = cfx.fit_descriptors(SPACE, MANY, BRIGHT)
    return (found.weights,)


def _fine_tune(f, x, t):
    module = f if isinstance(f, nn.Module) else f.module
    tuned = cfx.fine_tune(module, x, t, steps=3, batch_size=4)
    return (cfx.predict_logits(tuned, x),)


def _predict(f, x, t):
    return (cfx.predict_logits(f, x),)


def _cout(f, x, t):
    return (cfx.cout(f, x, 1 - x, t),)


def _report(f, x, t):
    like = cfx.latent_attack(SPACE, f, x, t, steps=4, restarts=0)
    table = cfx.report({"a": like}, judge=f, classifier=f).drop(columns="seconds per flip")
    return (table.to_numpy(float),)


METHODS = {
    name[1:]: run
    for name, run in list(globals().items())
    if name.startswith("_") and callable(run) and not name.startswith("__")
}
#: Those that work image by image, and take ``first_row``.
SHARDED = ("latent_attack", "pixel_attack", "reconstruct", "follow", "random_change")
