"""Talking to a running collector's admin port: is it there, what does it say, what does the ledger answer."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from spanledger.cli.shell import CommandError, usage


@dataclass(frozen=True, slots=True)
class Admin:
    """An admin port. `host` and `port` are where to connect, `token` what it asks for."""

    host: str
    port: int
    token: str | None = None

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def alive(self, timeout: float = 1.0) -> bool:
        """Whether a collector answers there."""
        try:
            status, _, body = self.request("GET", "/healthz", timeout=timeout)
        except (OSError, http.client.HTTPException):
            return False
        return status == 200 and len(body) < 4096

    def request(
        self, method: str, path: str, body: bytes | None = None, timeout: float = 60.0
    ) -> tuple[int, str, bytes]:
        """Status, content type and body. Raises `OSError` and `http.client.HTTPException`."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type") or "", answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> bytes:
        """The body of a page that must be there. Raises `CommandError`."""
        try:
            status, _, body = self.request("GET", path, timeout=10.0)
        except (OSError, http.client.HTTPException) as error:
            raise self._nobody(error) from None
        if status in (401, 403):
            raise CommandError(f"{self.url} asks for a token", "Give it with --token or SPANLEDGER_ADMIN_TOKEN.")
        if status != 200:
            raise CommandError(
                f"{self.url}{path} answered {status}", "Is it a collector's admin port (8787 by default)?"
            )
        return body

    @staticmethod
    def _reason(error: Exception) -> str:
        return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__

    def _nobody(self, error: Exception) -> CommandError:
        """Nobody listens, or whoever does speaks no HTTP."""
        return CommandError(
            f"no collector answers at {self.url}: {self._reason(error)}",
            "Start one with `spanledger run`, or say where it is with --config or --admin.",
        )

    def sql(self, statement: str, timeout: float = 120.0) -> bytes:
        """What the query interface answers to one statement, as ClickHouse's JSONCompact. Raises `CommandError`."""
        path = "/clickhouse/?" + urlencode({"default_format": "JSONCompact"})
        try:
            status, _, body = self.request("POST", path, statement.encode(), timeout)
        except ConnectionRefusedError as error:
            raise self._nobody(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(f"the collector at {self.url} went away: {self._reason(error)}") from None
        if status in (401, 403) and b"DB::Exception" not in body:
            raise CommandError(f"{self.url} asks for a token", "Give it with --token or SPANLEDGER_ADMIN_TOKEN.")
        if status == 404 and b"DB::Exception" not in body:
            raise CommandError(
                f"{self.url} has no ledger to ask: it answered 404",
                "Is it a collector's admin port (8787 by default), and does it write to the embedded store? A server is asked with --dsn.",
            )
        if status != 200:
            raise CommandError(body.decode(errors="replace").strip()[:2000] or f"the query failed with status {status}")
        return body


def endpoint(text: str, token: str | None = None) -> Admin:
    """`127.0.0.1:8787`, `[::1]:8787` or a URL, as an admin port. A wildcard address is reached by loopback."""
    parts = urlsplit(text if "//" in text else f"//{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        usage(f"not an admin endpoint: {text!r}", "Write host and port, such as 127.0.0.1:8787.")
    return Admin({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port, token)  # noqa: S104
