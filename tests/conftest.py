"""For all tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes by their length: a gzip stream has the time in it, and all workers must call a test by the same name."""
    return f"{argname}-{len(val)}B" if isinstance(val, bytes) else None


@pytest.fixture
def without_warnings() -> Iterator[None]:
    """For simulated companies: one of their models has no price, and pricing says so."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
