"""What normalising makes of spans written down in a test."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.batch import Position, SpanBatch
from collector.columns import SPAN_COLUMNS, schema
from collector.dialects import normalise
from collector.otlp.decode import decode
from exporters.otlp.additions import added_to
from tests.spans_kit import request, span

CAPTURES = Path(__file__).parent / "captures"
#: A chat of the conventions.
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 20,
}
CLAUDE = {**CHAT, "gen_ai.provider.name": "anthropic", "gen_ai.request.model": "claude-sonnet-4-5"}
READ = "gen_ai.usage.cache_read.input_tokens"
WRITE = "gen_ai.usage.cache_creation.input_tokens"


def batch(body: bytes) -> SpanBatch:
    """The decoded batch, as a pipeline would hand it to `normalise`."""
    traces = decode(body)
    empty = pl.DataFrame(schema=schema(SPAN_COLUMNS))
    return SpanBatch(traces, Position(1, 1), 0, empty.clear(len(traces)))


def reports(body: bytes) -> list[dict[str, Any]]:
    """The reports as dictionaries of what they tell; another Spanledger, that gets the spans on OTLP output, reads the same."""
    made = normalise(batch(body))
    frame = made.reports
    assert normalise(batch(added_to(made, True, {}).tobytes())).reports.equals(frame)
    return [{key: value for key, value in row.items() if value is not None} for row in frame.iter_rows(named=True)]


def report(
    attributes: Mapping[str, Any],
    *,
    scope: str = "",
    version: str = "",
    schema_url: str = "",
    resource: Mapping[str, Any] | None = None,
    name: str = "span",
    **how: Any,
) -> dict[str, Any] | None:
    """What one span with these attributes reports; None where it reports nothing."""
    one: Span = span(name, attributes, **how)
    body = request(resource=resource, scope=scope, version=version, schema_url=schema_url, spans=[one])
    found = reports(body)
    assert len(found) <= 1
    return found[0] if found else None


def facts(found: dict[str, Any] | None, *names: str) -> tuple[Any, ...]:
    """What a report tells of these; None where it does not."""
    assert found is not None
    return tuple(found.get(name) for name in names)


@cache
def capture(folder: str) -> bytes:
    """The bodies of a capture's traces, joined."""
    paths = sorted((CAPTURES / folder).glob("*traces.pb*"))
    return b"".join(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in paths)


def truth(folder: str) -> dict[str, Any]:
    """What the provider billed."""
    found: dict[str, Any] = json.loads((CAPTURES / folder / "truth.json").read_text())
    return found
