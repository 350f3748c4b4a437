"""How much a notebook computes: ``ci`` in seconds, ``cpu`` on a laptop, ``gpu`` at full size."""

from typing import TypeVar

from cfxnb.core import validate

T = TypeVar("T")


def by_profile(profile: str, *, ci: T, cpu: T, gpu: T) -> T:
    """The value for a profile, as in ``count = cfx.by_profile(profile, ci=20, cpu=200, gpu=1000)``.

    Raises:
        ValueError, TypeError: for an unknown profile, so that a misspelt one is not passed over.
    """
    values = {"ci": ci, "cpu": cpu, "gpu": gpu}
    return values[validate.choice(profile, "profile", values)]
