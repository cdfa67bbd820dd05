"""Receivers: OTLP over gRPC and HTTP, checked, and answered when it is durable.

listener ─▶ http2 ─ otlp_grpc ─┐ auth, admission        inflate, check, stamp
         └▶ http_head, _chunks ─ otlp_http ─┴──────────▶ export ─────────────▶ intake
"""

from __future__ import annotations

from collector.receivers.config import OtlpConfig
from collector.receivers.otlp import OtlpReceiver

__all__ = ["OtlpConfig", "OtlpReceiver"]
