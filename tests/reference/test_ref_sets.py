"""FID, KID and split FID against float64 values of four official implementations."""

import pytest
import torch
from stored import stored

from cfxnb.metrics import fid, kid, mmd2
from cfxnb.metrics.distributions import sfid_of_split

T, FACTS = stored("metrics_features")
each = pytest.mark.parametrize("case", FACTS["cases"], ids=lambda c: c["key"])


def pair(case):
    return T[f"{case['key']}/a"], T[f"{case['key']}/b"]


@each
def test_fid(case):
    few = min(case["n"], case["m"]) < case["d"]
    ours = fid(*pair(case), allow_few=few)
    assert ours == pytest.approx(case["fid_float64"], abs=1e-9)
    # Three implementations; with fewer rows than features their square roots are less exact.
    for name in ("fid_torchmetrics_float64", "fid_torch_fidelity", "fid_pytorch_fid_sqrtm"):
        assert ours == pytest.approx(case[name], abs=1e-5 if few else 1e-6), name
    assert ours == pytest.approx(case["fid_torchmetrics_float32"], rel=1e-3)
    if few:
        with pytest.raises(ValueError, match=r"a: expected at least 32 rows.*got 20"):
            fid(*pair(case))


@each
def test_kid_on_the_stored_subsets(case):
    subset_indices = tuple(T[f"{case['key']}/kid_subsets_{x}"] for x in "ab")
    mean, std = kid(*pair(case), subset_indices=subset_indices)
    assert mean == pytest.approx(case["kid_mean"], abs=1e-9)
    assert std == pytest.approx(case["kid_std"], abs=1e-9)
    a, b = pair(case)
    ours = [mmd2(a[i], b[j]) for i, j in zip(*subset_indices, strict=True)]
    stored_values = T.wanted(f"{case['key']}/kid_per_subset")
    torch.testing.assert_close(
        torch.tensor(ours, dtype=torch.float64), stored_values, rtol=0, atol=1e-9
    )


@each
def test_mmd2_of_all_rows(case):
    assert mmd2(*pair(case)) == pytest.approx(case["mmd2_unbiased_all"], abs=1e-9)
    if case["mmd2_torchmetrics_all"] is not None:  # it takes sets of one size only
        assert mmd2(*pair(case)) == pytest.approx(case["mmd2_torchmetrics_all"], abs=1e-9)


@each
def test_a_set_is_where_it_is(case):
    a, _ = pair(case)
    assert fid(a, a, allow_few=True) == pytest.approx(0, abs=1e-9)


def test_split_fid():
    order, facts = T["sfid/permutation"], FACTS["sfid"]
    real, cf, success = T["sfid/real"], T["sfid/counterfactual"], T["sfid/success"]
    assert sfid_of_split(real, cf, success, order) == pytest.approx(facts["sfid"], abs=1e-9)
    # The halves one by one: the middle one of an odd number is left out.
    one, two = T.wanted("sfid/split1"), T.wanted("sfid/split2")
    for name, a, b in (("fid_real1_cf2", one, two), ("fid_real2_cf1", two, one)):
        half = fid(real[a], cf[b[success[b]]])
        assert half == pytest.approx(facts[name], abs=1e-9)
    assert torch.equal(torch.cat([two, order[facts["n"] // 2][None], one]), order)
    assert order[facts["n"] // 2] == facts["dropped_index"]
    assert fid(real, cf[success]) == pytest.approx(facts["fid_all"], abs=1e-9)
    # The plain distance, each counterfactual against its own original too, is far smaller.
    assert fid(real, cf[success]) < 0.2 * facts["sfid"]
