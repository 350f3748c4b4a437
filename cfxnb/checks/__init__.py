"""Checks of the exercises, one module a notebook: ``cfx.checks.nb01.kl_term(answer)``.

A check says what property failed, the likely cause and where to look next; it doesn't stop a
"Run All". With the environment variable ``CFXNB_STRICT=1`` a failed check raises instead.
"""

from cfxnb.checks import nb00, nb01, nb02, nb03, nb04, nb05, nb06, nb07, nb08, nb09, nb10
from cfxnb.checks.core import Result

__all__ = [
    "Result", "nb00", "nb01", "nb02", "nb03", "nb04", "nb05", "nb06", "nb07", "nb08", "nb09",
    "nb10",
]  # fmt: skip
