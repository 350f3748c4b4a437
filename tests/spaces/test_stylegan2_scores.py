"""The published setting, small: contrastive scores in StyleGAN2's spaces, by the same calls."""

import pandas as pd
import torch
from stylegans import generator

import cfxnb as cfx
from cfxnb.spaces import StyleGAN2


def halves(images):
    """How bright the upper and the left half are, and which are brighter than their median."""
    level = torch.stack([images[:, :, :8].mean((1, 2, 3)), images[..., :8].mean((1, 2, 3))], 1)
    return level, level > level.median(0).values


def test_what_decides_is_found_necessary_and_sufficient():
    space = StyleGAN2(generator(), "w", projection={"steps": 60, "n_starts": 32}).eval()
    images = space.decode(space.sample(60, seed=2))
    level, has = halves(images)
    cut = level[:, 0].median()

    def upper(x):
        distance = 50 * (x[:, :, :8].mean((1, 2, 3)) - cut)
        return torch.stack([-distance, distance], 1)

    factors = pd.DataFrame(has.numpy(), columns=["upper", "left"])
    # The halves overlap and go together: held apart, neither could be moved far.
    edits = cfx.fit_attribute_edits(space, images, factors, preserve_others=False)
    found = cfx.contrastive_scores(space, upper, images, factors, edits=edits, batch_size=16)
    assert found.reconstruction_agreement > 0.8
    assert found.necessity["upper"] > 0.5
    assert found.sufficiency["upper"] > 0.5
