"""The pages: one module each, which registers itself when it is imported. `NAMES` is the list to add one to."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from spanledger.ui.page import PAGES, Page

NAMES = ("overview", "calls", "call", "trace", "models", "guardrails", "budgets", "findings", "pipeline")


def registered() -> Mapping[str, Page]:
    """All pages by path."""
    for name in NAMES:
        import_module(f"spanledger.ui.pages.{name}")
    return PAGES
