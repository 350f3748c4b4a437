"""How much a notebook computes: ``ci`` in seconds, ``cpu`` on a laptop, ``gpu`` at full size."""

from typing import TypeVar

T = TypeVar("T")


def sizes(profile: str, *, ci: T, cpu: T, gpu: T) -> T:
    """The value for a profile, as in ``count = cfx.sizes(profile, ci=20, cpu=200, gpu=1000)``.

    Raises:
        ValueError: for an unknown profile, so that a misspelt parameter does not pass silently.
    """
    values = {"ci": ci, "cpu": cpu, "gpu": gpu}
    if profile not in values:
        raise ValueError(f"profile: expected one of {list(values)}, got {profile!r}")
    return values[profile]
