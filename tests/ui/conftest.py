"""One collector and one browser for the tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.collector_kit import Collector
from tests.ui_kit import chromium, collector_with_calls


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Of this package, not of the session: while it runs, so does an event loop in the main thread."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def collector(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with collector_with_calls(tmp_path_factory.mktemp("ui")) as collector:
        yield collector
