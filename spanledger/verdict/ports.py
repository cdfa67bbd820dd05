"""Both ways to ask, started and stopped together."""

from __future__ import annotations

from collector.receivers.tls import Tls
from config.model import VerdictConfig
from config.types import parse_endpoint
from spanledger.admin.control import new_key
from spanledger.admin.guard import App, Guard
from spanledger.verdict.envoy import EnvoyServer
from spanledger.verdict.http import VerdictApp
from spanledger.verdict.judge import Judge
from spanledger.web import WebServer

_MOST_AT_ONCE = 1000


class Ports:
    """Listen from `start` to `stop`, in whichever process. Raises `SpanledgerError` where an address cannot be had."""

    def __init__(self, config: VerdictConfig, judge: Judge) -> None:
        token = config.auth.token.get_secret_value() if config.auth else None
        app: App = VerdictApp(judge, token)
        if token is None:  # a token protects against pages in a browser too; without one it is the Host that does
            app = Guard(app, parse_endpoint(config.endpoint)[0], (), None, new_key(), "service.verdict.auth")
        tls = Tls(config.tls, ["http/1.1"], "service.verdict.tls") if config.tls is not None else None
        self.http = WebServer(app, config.endpoint, "service.verdict.endpoint", _MOST_AT_ONCE, tls)
        self.grpc = None
        if config.grpc_endpoint is not None:
            self.grpc = EnvoyServer(judge, token, config.grpc_endpoint, config.tls)

    def start(self) -> None:
        """Listen."""
        self.http.start()
        if self.grpc is not None:
            self.grpc.start()

    def stop(self) -> None:
        """Close the ports."""
        self.http.stop()
        if self.grpc is not None:
            self.grpc.stop()
