"""How the gateway behaves from window to window: load among deployments, stricter guardrails, slower answers and why."""

from processors.behaviour.config import BehaviourConfig
from processors.behaviour.processor import Behaviour

__all__ = ["Behaviour", "BehaviourConfig"]
