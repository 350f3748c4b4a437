"""Checks of the exercises, one module per notebook: ``cfx.checks.nb01.kl_term(answer)``.

A check says which property of the answer is wrong, the likely cause, and what to do next. A failed
check doesn't stop "Run All". If the environment variable ``CFXNB_STRICT`` is "1", a failed check
raises AssertionError.
"""

from cfxnb.checks import nb00, nb01, nb02, nb03, nb04, nb05, nb06, nb07, nb08, nb09, nb10, nb11
from cfxnb.checks.core import Result

__all__ = [
    "Result", "nb00", "nb01", "nb02", "nb03", "nb04", "nb05", "nb06", "nb07", "nb08", "nb09",
    "nb10", "nb11",
]  # fmt: skip
