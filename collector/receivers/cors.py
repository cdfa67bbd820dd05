"""CORS: which web pages may send. Off unless it is configured."""

from __future__ import annotations

import re

from collector.receivers.config import CorsConfig
from collector.receivers.http_head import Head

_HEADERS = ("Content-Type", "Content-Encoding", "Authorization")


class Cors:
    """Answers for the origins that are allowed; says nothing to others, so that the browser refuses."""

    def __init__(self, config: CorsConfig) -> None:
        patterns = (".*".join(map(re.escape, origin.split("*"))) for origin in config.allowed_origins)
        self._origins = re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)
        self._headers = ", ".join(dict.fromkeys((*_HEADERS, *config.allowed_headers)))
        self._max_age = str(int(config.max_age))

    def answer(self, head: Head) -> dict[str, str]:
        """Headers of every answer. Cookies are never asked for: no credentials are allowed."""
        origin = head.text(b"origin")
        if origin is None or not self._origins.fullmatch(origin):
            return {"Vary": "Origin"}
        return {"Vary": "Origin", "Access-Control-Allow-Origin": origin}

    def preflight(self, head: Head) -> dict[str, str]:
        """Further headers of the answer to OPTIONS."""
        if "Access-Control-Allow-Origin" not in self.answer(head):
            return {}
        return {
            "Access-Control-Allow-Methods": "POST",
            "Access-Control-Allow-Headers": self._headers,
            "Access-Control-Max-Age": self._max_age,
        }
