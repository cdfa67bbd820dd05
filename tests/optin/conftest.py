"""Tests that need something which is not installed by default are skipped, and say so, unless asked for with `-m optin`."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Runs before `-m` deselects, so an ordinary run reports them as skipped."""
    if "optin" in config.getoption("markexpr"):
        return
    for item in items:
        if item.get_closest_marker("optin"):
            item.add_marker(pytest.mark.skip(reason="opt-in: run with `-m optin`"))
