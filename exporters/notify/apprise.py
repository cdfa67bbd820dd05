"""Apprise, which knows how to reach some hundred services. An extra: `pip install 'spanledger[notify]'`."""

from __future__ import annotations

import logging
from typing import Any

from collector.errors import Retryable, SpanledgerError


def module() -> Any:
    """The apprise module. Raises `SpanledgerError` where it is not installed."""
    try:
        import apprise
    except ImportError:
        raise SpanledgerError(
            "notifications by Apprise URL need Apprise: pip install 'spanledger[notify]', or use a webhook"
        ) from None
    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its lines quote URLs, which hold tokens
    return apprise


def readable(url: str) -> bool:
    """Whether Apprise can read a URL. True where it is not installed: the start will say so."""
    try:
        found = module()
    except SpanledgerError:
        return True
    return found.Apprise.instantiate(url, suppress_exceptions=True) is not None


def send(url: str, title: str, text: str, kind: str) -> None:
    """Send a message; `kind` is info, success, warning or failure. Raises `Retryable`."""
    apprise = module()
    service = apprise.Apprise()
    if not service.add(url):
        raise Retryable("Apprise cannot read its URL")
    if not service.notify(body=text, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT):
        raise Retryable("the service did not take it, or could not be reached")
