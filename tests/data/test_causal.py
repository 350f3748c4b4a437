"""Structural causal models: frequencies, interventions and counterfactuals by closed form."""

import pytest

import cfxnb as cfx
from cfxnb.data import World, given

COUNT = 20000


@pytest.fixture
def chain():
    """hair -> top -> shoes, all with two options: every probability is a line of arithmetic."""
    return World(
        hair={"red": 0.3, "gray": 0.7},
        top=given("hair", red={"metal": 0.9, "white": 0.1}, gray={"metal": 0.2, "white": 0.8}),
        shoes=given("top", metal="metal", white=["brown", "golden"]),
    )


def share(table, **options):
    hit = True
    for name, option in options.items():
        hit = hit & (table[name] == option)
    return hit.mean()


def test_frequencies_are_the_stated_ones(chain):
    drawn = chain.sample(COUNT)
    assert share(drawn, hair="red") == pytest.approx(0.3, abs=0.015)
    assert share(drawn, top="metal") == pytest.approx(0.3 * 0.9 + 0.7 * 0.2, abs=0.015)
    assert share(drawn, hair="red", top="white") == pytest.approx(0.3 * 0.1, abs=0.01)
    assert share(drawn, shoes="golden") == pytest.approx(0.59 * 0.5, abs=0.015)


def test_doing_is_not_seeing(chain):
    """Setting the top leaves its cause alone; seeing it tells about the cause (Bayes)."""
    seen = chain.sample(COUNT)
    done = chain.sample(COUNT, do={"top": "metal"})
    assert share(done, hair="red") == pytest.approx(0.3, abs=0.015)
    known = seen[seen["top"] == "metal"]
    assert share(known, hair="red") == pytest.approx(0.27 / 0.41, abs=0.02)


def test_counterfactuals_keep_what_does_not_follow(chain):
    """The same figures in another world: only descendants of what was done may differ."""
    real = chain.sample(500, seed=4)
    twin = chain.sample(500, seed=4, do={"top": "metal"})
    assert twin["hair"].equals(real["hair"])
    unchanged = real["top"] == "metal"
    assert twin[unchanged].equals(real[unchanged])
    assert (twin["shoes"] == "metal").all()


def test_a_cause_in_common_confounds_and_doing_undoes_it():
    world = cfx.data.SPRITE_WORLDS["confounded"]
    seen = world.sample(COUNT)
    red, gray = seen[seen["hair"] == "red"], seen[seen["hair"] == "gray"]
    # By hand: P(knight | red) = 0.8, so P(metal | red) = 0.8 * 0.9 + 0.2 * 0.1 = 0.74.
    assert share(red, top="metal") == pytest.approx(0.74, abs=0.02)
    assert share(gray, top="metal") == pytest.approx(0.26, abs=0.02)
    for hair in ("red", "gray"):
        done = world.sample(COUNT, do={"hair": hair})
        assert share(done, top="metal") == pytest.approx(0.5, abs=0.015)


def test_mediation_passes_through_the_middle():
    world = cfx.data.SPRITE_WORLDS["mediated"]
    assert {("hair", "top"), ("top", "shoes")} == set(world.edges())
    red, gray = (world.sample(COUNT, do={"hair": h}) for h in ("red", "gray"))
    assert share(red, shoes="metal") == pytest.approx(0.9 * 0.9 + 0.1 * 0.1, abs=0.015)
    assert share(gray, shoes="metal") == pytest.approx(0.1 * 0.9 + 0.9 * 0.1, abs=0.015)
    held = [world.sample(2000, do={"hair": h, "top": "metal"})["shoes"] for h in ("red", "gray")]
    assert held[0].equals(held[1])


def test_a_longer_sample_begins_like_a_shorter_one(chain):
    assert chain.sample(10, seed=2).equals(chain.sample(200, seed=2)[:10])


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: World(hair={"red": 0.5, "gray": 0.4}), "hair.*add up to 1"),
        (lambda: World(hair={"red": -1.0, "gray": 2.0}), "hair"),
        (lambda: World(hair=[]), "hair"),
        (lambda: World(hair=7), "hair"),
        (lambda: World(top=given("hair", red="metal")), "top.*cause"),
        (lambda: World(hair=["red", "gray"], top=given("hair", red="metal")), "top.*gray"),
        (lambda: World(hair=["red"]).sample(3, do={"hair": "blue"}), "hair"),
        (lambda: World(hair=["red"]).sample(3, do={"top": "metal"}), "do: .*top"),
        (lambda: World(hair=["red"]).sample(2.5), "n_samples"),
    ],
)
def test_wrong_worlds_name_the_factor(make, named):
    with pytest.raises((ValueError, TypeError), match=named) as error:
        make()
    assert "expected" in str(error.value)


def test_a_misspelt_factor_or_case_is_refused():
    with pytest.raises(ValueError, match=r"top.*expected cases.*'rde'"):
        World(hair=["red"], top=given("hair", red="metal", rde="white"))
    with pytest.raises(ValueError, match=r"world.*expected one of.*'tops'"):
        cfx.data.sprites(World(hair=["red"], tops=["metal"]), 3)
