"""COUT against the official values, with the defect of its horizontal axis corrected."""

import pytest
import torch
from stored import SmallNet, stored

import cfxnb as cfx
from cfxnb.metrics import cout_curve

T, _ = stored("metrics_cout")


@pytest.fixture(params=["size12/multi", "size12/binary", "size16/multi", "size16/binary"])
def case(request):
    key = request.param
    size = key.split("/")[0]
    x, cf = T[f"{size}/image"], T[f"{size}/counterfactual"]
    classifier = cfx.wrap(SmallNet(T, f"{size}/{key.split('/')[1]}"))
    if key.endswith("multi"):
        return key, classifier, x, cf, T[f"{key}/target"], T[f"{key}/label"]
    source = classifier(x).argmax(1)
    return key, classifier, x, cf, 1 - source, source


def test_corrected_value(case):
    key, classifier, x, cf, target, source = case
    ours = cfx.cout(classifier, x, cf, target, source)
    torch.testing.assert_close(ours.double(), T[f"{key}/cout_corrected"], rtol=0, atol=1e-5)


def test_curves(case):
    key, classifier, x, cf, target, source = case
    share, towards, away = cout_curve(classifier, x, cf, target, source)
    axis = T[f"{key.split('/')[0]}/x_axis_corrected"]
    torch.testing.assert_close(share.double(), axis, rtol=0, atol=1e-6)
    torch.testing.assert_close(towards, T[f"{key}/curve_target"], rtol=0, atol=1e-5)
    torch.testing.assert_close(away, T[f"{key}/curve_source"], rtol=0, atol=1e-5)


def test_the_official_defect_is_not_copied():
    """256 pixels in portions of 5: the official axis ends beyond 1, and a COUT does too."""
    assert T["size16/binary/cout_official"].max() > 1
    classifier = cfx.wrap(SmallNet(T, "size16/binary"))
    x, cf = T["size16/image"], T["size16/counterfactual"]
    ours = cfx.cout(classifier, x, cf, 1 - classifier(x).argmax(1))
    assert ours.max() <= 1
    assert (ours - T["size16/binary/cout_official"]).abs().min() > 0.01
