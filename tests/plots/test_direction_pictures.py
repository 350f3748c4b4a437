"""Pictures of directions say in words what they show, and refuse what they can't."""

import pytest
import torch
from worlds import LinearSpace

import cfxnb as cfx

SPACE = LinearSpace()
IMAGES = SPACE.decode(cfx.Code(0.3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))))


def brightness(images):  # of a linear space
    return cfx.two_logits(500 * (images.mean((1, 2, 3)) - 0.5))


def direction():
    code = SPACE.encode(IMAGES)
    z = code.z.clone().requires_grad_()
    SPACE.decode(code.with_z(z)).mean().backward()
    return z.grad.mean(0)


def test_flip_curves_tell_the_fractions():
    result = cfx.follow_direction(SPACE, brightness, IMAGES, direction(), max_step=6.0)
    assert result.flipped[result.eligible].any()
    share = result.flipped[result.eligible].float().mean().item()
    assert f"g {share:.0%}" in cfx.flip_curves(SPACE, {"g": result}).alt


def test_direction_strip_tells_the_decisions():
    picture = cfx.direction_strip(
        SPACE, brightness, IMAGES[:1], direction(), [-5.0, 5.0], class_names=("dark", "bright")
    )
    assert "-5.0 std: dark" in picture.alt
    assert "+5.0 std: bright" in picture.alt


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"image": IMAGES}, ValueError, "image: expected one image, got 6"),
        ({"direction": torch.ones(3)}, ValueError, "direction: expected shape"),
        ({"steps_along": ["far"]}, TypeError, "steps_along"),
        ({"space": 3}, TypeError, "space"),
        ({"class_names": ["dark"]}, ValueError, "class_names: expected 2 names, got 1"),
    ],
)
def test_direction_strip_refuses(change, error, told):
    right = {
        "space": SPACE, "classifier": brightness, "image": IMAGES[:1],
        "direction": direction(), "steps_along": [1.0],
    }  # fmt: skip
    with pytest.raises(error, match=told):
        cfx.direction_strip(**right | change)


def test_flip_curves_refuse_what_is_no_result():
    with pytest.raises(TypeError, match="results"):
        cfx.flip_curves(SPACE, {"g": IMAGES})
