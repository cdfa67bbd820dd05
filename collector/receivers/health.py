"""grpc.health.v1: messages small enough to be read and written by hand."""

from __future__ import annotations

from collector.errors import Malformed

SERVING, NOT_SERVING, SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
CHECK, WATCH = b"/grpc.health.v1.Health/Check", b"/grpc.health.v1.Health/Watch"


def service(request: bytes) -> str:
    """HealthCheckRequest{service = 1}. Raises `Malformed`."""
    if not request:
        return ""
    if len(request) < 2 or request[0] != 0x0A or request[1] > 127 or len(request) != request[1] + 2:
        raise Malformed("not a HealthCheckRequest")
    try:
        return request[2:].decode()
    except UnicodeDecodeError:
        raise Malformed("not a HealthCheckRequest") from None
