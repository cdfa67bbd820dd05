"""gRPC server reflection (v1, and v1alpha, which is the same on the wire): what grpcurl asks before it calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from collector.errors import Malformed

METHODS = tuple(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo".encode() for version in ("v1", "v1alpha")
)


@lru_cache(maxsize=64)
def reflect(request: bytes, services: Sequence[str]) -> bytes:
    """ServerReflectionRequest to ServerReflectionResponse. Raises `Malformed`."""
    # Imported when somebody asks: it brings grpcio, which serving needs not.
    from google.protobuf.message import DecodeError
    from grpc_health.v1 import health_pb2  # noqa: F401  (its descriptors)
    from grpc_reflection.v1alpha import reflection as stock
    from grpc_reflection.v1alpha import reflection_pb2
    from opentelemetry.proto.collector.logs.v1 import logs_service_pb2  # noqa: F401
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2  # noqa: F401
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # noqa: F401

    servicer: Any = stock.ReflectionServicer(services)
    try:
        asked = reflection_pb2.ServerReflectionRequest.FromString(request)
    except DecodeError:
        raise Malformed("not a ServerReflectionRequest") from None
    (answer,) = servicer.ServerReflectionInfo(iter([asked]), None)
    return bytes(answer.SerializeToString())
