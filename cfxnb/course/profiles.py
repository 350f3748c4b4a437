"""Profiles (``ci``, ``cpu``, ``gpu``) decide how much a notebook computes.

The profile ``ci`` computes for seconds, ``cpu`` fits a laptop, and ``gpu`` has the full size.
"""

from typing import TypeVar

from cfxnb.core import validate

T = TypeVar("T")


def by_profile(profile: str, *, ci: T, cpu: T, gpu: T) -> T:
    """Return the value of the chosen profile: ``ci``, ``cpu`` or ``gpu``.

    Example: ``n_images = cfx.by_profile(profile, ci=20, cpu=200, gpu=1000)``.

    Args:
        profile: ``"ci"``, ``"cpu"`` or ``"gpu"``.
        ci, cpu, gpu: the value for each profile.

    Raises:
        ValueError, TypeError: if the profile is unknown.
    """
    values = {"ci": ci, "cpu": cpu, "gpu": gpu}
    return values[validate.choice(profile, "profile", values)]
