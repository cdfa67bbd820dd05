"""The verdict ports of a service: in its own process, or in one beside it."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from collector.errors import SpanledgerError
from collector.sums import COUNTED_BY
from config.model import VerdictConfig
from spanledger.verdict.child import Child, Listening
from spanledger.verdict.judge import Health, Judge
from spanledger.verdict.ports import Ports

if TYPE_CHECKING:
    from spanledger.parts import Parts

logger = logging.getLogger(__name__)

#: How long the interpreter lets another thread, the pipeline's, go on while one of ours could answer. Its default is 5 ms.
_SWITCH_S = 0.0005


class VerdictServer:
    """Listens from `start` to `stop`. Raises `SpanledgerError` where the config asks for what cannot be."""

    def __init__(self, config: VerdictConfig, parts: Parts) -> None:
        if not parts.verdicts:
            raise SpanledgerError(
                "service.verdict: no traces pipeline has the processor budgets; what should the verdict be about?"
            )
        unknown = next((name for name in config.headers if name not in COUNTED_BY), None)
        if unknown is not None:
            raise SpanledgerError(
                f"service.verdict.headers: no dimension {unknown!r}; there are {', '.join(COUNTED_BY)}"
            )
        health = Health(config, parts)
        self._open = config.auth is None and (config.tls is None or config.tls.client_ca_file is None)
        self._ports: Ports | None = None
        self.child: Child | None = None
        if config.own_process:
            self.child = Child(parts.config, config, health.trouble)
        else:
            self._ports = Ports(config, Judge(config, [source for _, source in parts.verdicts], health.trouble))

    @property
    def listening(self) -> Listening:
        """Where gateways may ask."""
        if self.child is not None:
            return self.child.listening
        assert self._ports is not None
        http, grpc = self._ports.http, self._ports.grpc
        return Listening(http.endpoint, grpc.endpoint if grpc is not None else None, http.local)

    def start(self) -> None:
        """Listen."""
        if self.child is not None:
            self.child.start()
        elif self._ports is not None:
            sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_S))
            self._ports.start()
        if self._open and not self.listening.local:
            logger.warning("the verdict port listens on %s without a token: whoever reaches it can read what is used of budgets; set service.verdict.auth, or tls.client_ca_file", self.listening.http)  # fmt: skip

    def stop(self) -> None:
        """Close the ports."""
        if self.child is not None:
            self.child.stop()
        elif self._ports is not None:
            self._ports.stop()
