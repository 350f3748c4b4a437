"""COUT against the official values, with the defect of its horizontal axis corrected."""

import pytest
import torch
from stored import SmallNet, stored

import cfxnb as cfx
from cfxnb.metrics import cout_curve
from cfxnb.metrics.pairwise import paste_curve

T, FACTS = stored("metrics_cout")


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
    wanted = T.wanted(f"{key}/cout_corrected")
    torch.testing.assert_close(ours.double(), wanted, rtol=0, atol=1e-5)


def test_curves(case):
    key, classifier, x, cf, target, source = case
    fraction, p_target, p_source = cout_curve(classifier, x, cf, target, source)
    size = key.split("/")[0]
    axis = T.wanted(f"{size}/x_axis_corrected")
    torch.testing.assert_close(fraction.double(), axis, rtol=0, atol=1e-6)
    torch.testing.assert_close(p_target, T.wanted(f"{key}/curve_target"), rtol=0, atol=1e-5)
    torch.testing.assert_close(p_source, T.wanted(f"{key}/curve_source"), rtol=0, atol=1e-5)
    # The official axis has complete chunks only, and may so end beyond 1.
    official = fraction[1].double() * torch.arange(len(fraction))
    torch.testing.assert_close(official, T.wanted(f"{size}/x_axis_official"), rtol=0, atol=1e-6)
    area = torch.trapezoid((p_target - p_source).double(), official)
    torch.testing.assert_close(area, T.wanted(f"{key}/cout_official"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", ["size12", "size16"])
def test_pixels_come_in_the_order_of_the_official_mask(size):
    """The mask orders by the change in all channels; pasting by it gives the same curves."""
    x, cf, mask = T[f"{size}/image"], T[f"{size}/counterfactual"], T.wanted(f"{size}/mask")
    change = (cf - x).abs().sum(1)
    low, high = change.amin((1, 2), True), change.amax((1, 2), True)
    torch.testing.assert_close((change - low) / (high - low), mask[:, 0], rtol=0, atol=1e-6)
    classifier = cfx.wrap(SmallNet(T, f"{size}/multi"))
    _, p = paste_curve(classifier, x, cf, mask[:, 0])
    towards = cout_curve(classifier, x, cf, T[f"{size}/multi/target"])[1]
    index = torch.arange(len(x))
    torch.testing.assert_close(p[index, :, T[f"{size}/multi/target"]], towards, rtol=0, atol=0)


def test_the_official_defect_is_not_copied():
    """256 pixels in chunks of 5: the official axis ends beyond 1, and a COUT does too."""
    assert T["size16/binary/cout_official"].max() > 1
    classifier = cfx.wrap(SmallNet(T, "size16/binary"))
    x, cf = T["size16/image"], T["size16/counterfactual"]
    ours = cfx.cout(classifier, x, cf, 1 - classifier(x).argmax(1))
    assert ours.max() <= 1
    assert FACTS["cases"][1]["last_x_official"] == T["size16/x_axis_official"][-1] > 1
    assert (ours - T["size16/binary/cout_official"]).abs().min() > 0.01
