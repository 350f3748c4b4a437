"""The checks report; only the test of the strict mode wants them to raise."""

import pytest


@pytest.fixture(autouse=True)
def not_strict(monkeypatch):
    monkeypatch.delenv("CFXNB_STRICT", raising=False)
