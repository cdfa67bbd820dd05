"""The verdict port: gateways ask it whether a call may be made, over HTTP or as Envoy's external authorization."""

from spanledger.verdict.server import VerdictServer

__all__ = ["VerdictServer"]
