"""Anomalies: what is unusual in spend and behaviour, by what has been usual for the same series at the same time."""

from processors.anomaly.config import AnomalyConfig, Scope
from processors.anomaly.processor import Anomaly

__all__ = ["Anomaly", "AnomalyConfig", "Scope"]
