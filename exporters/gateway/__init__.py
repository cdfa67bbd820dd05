"""Acting on findings where calls are made: block a team or key at its gateway, and let it go again."""

from exporters.gateway.config import GatewayConfig
from exporters.gateway.exporter import Gateway

__all__ = ["Gateway", "GatewayConfig"]
