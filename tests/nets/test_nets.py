"""The two networks for small images, for worlds of any size and colours."""

import pytest
import torch
from torch import nn

from cfxnb.nets import JudgeNet, PlainNet


@pytest.mark.parametrize("kind", [PlainNet, JudgeNet])
@pytest.mark.parametrize(
    ("channels", "size", "n_downsamplings"),
    [(3, (56, 32), 3), (1, (64, 64), 4), (3, (64, 64), 4), (2, (16, 24), 2)],
)
def test_the_last_map_is_as_often_halved_as_asked(kind, channels, size, n_downsamplings):
    net = kind(
        outputs=5, channels=channels, size=size, n_downsamplings=n_downsamplings, width=4
    ).eval()
    images = torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0))
    assert net.body(images).shape[2:] == (
        size[0] // 2**n_downsamplings,
        size[1] // 2**n_downsamplings,
    )
    assert net(images).shape == (2, 5)
    with pytest.raises(RuntimeError):
        net(torch.rand(2, channels, 2 * size[0], size[1]))


def test_the_width_is_that_of_the_first_convolution():
    for kind, widths in ((PlainNet, [6, 12, 24]), (JudgeNet, [6, 12, 12, 12])):
        net = kind(outputs=2, channels=3, size=(64, 64), n_downsamplings=4, width=6)
        assert [m.out_channels for m in net.body if isinstance(m, nn.Conv2d)] == widths


def test_features_of_a_judge_decide():
    judge = JudgeNet(outputs=2, channels=1, size=(64, 64), n_downsamplings=4, width=4).eval()
    images = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    features = judge.features(images)
    assert features.shape == (3, 256)
    assert (features >= 0).all()
    assert torch.equal(judge.head[-1](features), judge(images))
