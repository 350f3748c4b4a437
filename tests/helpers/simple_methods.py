"""Methods whose measures are known: perfect, doing nothing, adding noise.

An image has one grey level. Above 0.5 it is of class 1, below of class 0.
"""

import torch

import cfxnb as cfx
from cfxnb.core.types import ALREADY_TARGET, FLIPPED, NOT_FOUND


def level(*values, size=4):
    """Images of constant grey levels."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, size, size).clone()


def bright(images, threshold=0.5):
    """The classifier. Its logits grow with the distance to the threshold."""
    margin = 20 * (images.mean((1, 2, 3)) - threshold)
    return torch.stack([-margin, margin], 1)


def results(images, image, target, f=bright, **more):
    """Counterfactuals of given images, with the statuses that follow."""
    before, after = f(images), f(image)
    status = [
        ALREADY_TARGET if b == t else FLIPPED if a == t else NOT_FOUND
        for b, a, t in zip(before.argmax(1), after.argmax(1), target, strict=True)
    ]
    made_by = {"seconds": 1.0, **more}
    return cfx.Counterfactuals(
        images, image, images, before, after, target, tuple(status),
        cost={"classifier": torch.full((len(images),), 3)}, made_by=made_by,
    )  # fmt: skip


def perfect(images, target, seed=0):
    """Mirror the grey levels at the boundary. An image of the target class stays as it is."""
    moved = bright(images).argmax(1) != target
    return results(images, torch.where(moved.view(-1, 1, 1, 1), 1 - images, images), target)


def idle(images, target, seed=0):
    """Change nothing."""
    return results(images, images.clone(), target)


def noisy(images, target, seed=0):
    """Mirror, and move every pixel up or down by 0.1, as the seed wants."""
    mirrored = perfect(images, target).image
    signs = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed)).sign()
    return results(images, (mirrored + 0.1 * signs).clamp(0, 1), target, seed=seed)
