"""Both ways to ask, started and stopped together."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from collector.errors import SpanledgerError
from collector.sums import COUNTED_BY
from config.model import VerdictConfig
from config.types import parse_endpoint
from spanledger.admin.control import new_key
from spanledger.admin.guard import App, Guard
from spanledger.verdict.envoy import EnvoyServer
from spanledger.verdict.http import VerdictApp
from spanledger.verdict.judge import Judge
from spanledger.web import WebServer

if TYPE_CHECKING:
    from spanledger.service import Service

logger = logging.getLogger(__name__)

_MOST_AT_ONCE = 1000
#: How long the interpreter lets another thread, the pipeline's, go on while one of ours could answer. Its default is 5 ms.
_SWITCH_S = 0.0005


class VerdictServer:
    """Listens from `start` to `stop`. Raises `SpanledgerError` where the config asks for what cannot be."""

    def __init__(self, config: VerdictConfig, service: Service) -> None:
        if not service.verdicts:
            raise SpanledgerError(
                "service.verdict: no traces pipeline has the processor budgets; what should the verdict be about?"
            )
        unknown = next((name for name in config.headers if name not in COUNTED_BY), None)
        if unknown is not None:
            raise SpanledgerError(
                f"service.verdict.headers: no dimension {unknown!r}; there are {', '.join(COUNTED_BY)}"
            )
        token = config.auth.token.get_secret_value() if config.auth else None
        judge = Judge(config, service)
        self._open = token is None
        app: App = VerdictApp(judge, token)
        if (
            token is None
        ):  # a token protects against pages in somebody's browser too; without one it is the Host that does
            app = Guard(app, parse_endpoint(config.endpoint)[0], (), None, new_key(), "service.verdict.auth")
        self.http = WebServer(app, config.endpoint, "service.verdict.endpoint", _MOST_AT_ONCE)
        self.grpc = EnvoyServer(judge, token, config.grpc_endpoint) if config.grpc_endpoint is not None else None

    def start(self) -> None:
        """Listen."""
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_S))
        self.http.start()
        if self.grpc is not None:
            self.grpc.start()
        if self._open and not self.http.local:
            logger.warning("the verdict port listens on %s without a token: whoever reaches it can read what is used of budgets; set service.verdict.auth", self.http.endpoint)  # fmt: skip

    def stop(self) -> None:
        """Close the ports."""
        self.http.stop()
        if self.grpc is not None:
            self.grpc.stop()
