"""Whether the gateway does what it was configured to do: routes, allowed models, fallbacks, guardrails."""

from processors.routing.config import PolicyConfig, Route, RoutingConfig, Rule
from processors.routing.policy import Policy
from processors.routing.processor import Routing

__all__ = ["Policy", "PolicyConfig", "Route", "Routing", "RoutingConfig", "Rule"]
