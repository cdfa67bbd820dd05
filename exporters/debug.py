"""What passes, in lines for a person: one a batch, or one a call, span, log record or metric. Never what was said to a
model.

```yaml
exporters:
  debug: {verbosity: normal}
```
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TextIO

from collector.component import Context, Exporter, Payload
from collector.signals import Signal
from config.delivery import ExporterConfig

if TYPE_CHECKING:
    import polars as pl

    from collector.batch import RequestBatch, SpanBatch

#: Lines of one batch; the rest is counted.
MOST_LINES = 100
_CALL = (
    "call_id", "version", "trace_id", "dialect", "provider", "request_model", "upstream_model", "response_model", "team", "app",
    "environment", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "status",
    "error_type", "price_status", "price_assumptions", "price_source", "usage_flags", "attribution_source", "reports",
)  # fmt: skip


class DebugConfig(ExporterConfig):
    """Prints what passes to standard error."""

    verbosity: Literal["basic", "normal", "detailed"] = "basic"
    """`basic`: a line per batch. `normal`: a line per call, too. `detailed`: all that is known of each call, and each
    span, log record or metric."""


class Debug(Exporter[DebugConfig]):
    """Prints what passes: batches, calls, spans, log records, metrics. Attribute values, names of users and texts are not printed."""

    Config = DebugConfig
    signals = frozenset(Signal)
    keeps = False

    def __init__(self, config: DebugConfig, context: Context, out: TextIO | None = None) -> None:
        super().__init__(config, context)
        self._out = out

    def encode(self, batch: SpanBatch) -> Iterable[Payload]:
        lines = list(self._lines(batch))
        yield Payload("\n".join(lines).encode(), {}, len(batch))

    def encode_requests(self, batch: RequestBatch) -> Iterable[Payload]:
        from collector.otlp.requests import REQUESTS  # brings protobuf: not for reading a config

        request = REQUESTS[batch.signal]
        first, last = batch.position.first, batch.position.last
        lines = [f"{self.context.id}: requests {first}-{last}, {batch.items} {request.items}"]
        if self.config.verbosity == "detailed":
            parsed = request.message.FromString(batch.data.tobytes())
            found = list(_records(parsed) if batch.signal is Signal.LOGS else _metrics(parsed))
            what = "log records" if batch.signal is Signal.LOGS else "metrics"
            lines += _limited(map(_printable, found), len(found), what)
        yield Payload("\n".join(lines).encode(), {}, batch.items)

    def send(self, payload: Payload) -> None:
        out = self._out or sys.stderr
        out.write(f"{payload.body.decode(errors='replace')}\n")
        out.flush()

    def _lines(self, batch: SpanBatch) -> Iterator[str]:
        calls = batch.calls
        withdrawn = int(calls["withdrawn"].sum()) if len(calls) else 0
        cost = sum(value for value in calls["cost_pico"].to_list() if value is not None)
        yield (
            f"{self.context.id}: requests {batch.position.first}-{batch.position.last}, {len(batch)} spans, "
            f"{len(calls) - withdrawn} calls, {_usd(cost)} USD"
            + (f", {len(batch.replaced)} replaced" if len(batch.replaced) else "")
            + (f", {withdrawn} withdrawn" if withdrawn else "")
        )
        if self.config.verbosity == "basic":
            return
        detailed = self.config.verbosity == "detailed"
        yield from _limited(_calls(calls, detailed), len(calls), "calls")
        if detailed:
            yield from _limited(_spans(batch), len(batch), "spans")


def _records(request: Any) -> Iterator[str]:
    """Of each log record its event, severity and span, how long its body is, and its attributes' keys."""
    for record in (r for group in request.resource_logs for scope in group.scope_logs for r in scope.log_records):
        keys = sorted({attribute.key for attribute in record.attributes})
        body = f"{record.body.ByteSize()} bytes of {record.body.WhichOneof('value') or 'no'} body"
        yield f"  log {record.span_id.hex() or '(no span)'} {record.event_name!r} severity {record.severity_number}, {body}: {', '.join(keys)}"


def _metrics(request: Any) -> Iterator[str]:
    """Of each metric its name, unit and kind, how many points it has, and their attributes' keys."""
    for metric in (m for group in request.resource_metrics for scope in group.scope_metrics for m in scope.metrics):
        kind = metric.WhichOneof("data")
        points = getattr(metric, kind).data_points if kind else ()
        keys = sorted({attribute.key for point in points for attribute in point.attributes})
        yield f"  metric {metric.name!r} {metric.unit!r} {kind or 'of no kind'}, {len(points)} points: {', '.join(keys)}"


def _limited(lines: Iterator[str], count: int, what: str) -> Iterator[str]:
    for line, _ in zip(lines, range(MOST_LINES), strict=False):
        yield line
    if count > MOST_LINES:
        yield f"  … {count - MOST_LINES} more {what}"


def _calls(calls: pl.DataFrame, detailed: bool) -> Iterator[str]:
    for row in calls.head(MOST_LINES).iter_rows(named=True):
        if detailed:
            known = {name: row[name] for name in _CALL if row[name] not in (None, [])}
            known["cost_usd"] = _usd(row["cost_pico"])
            yield f"  call {_printable(json.dumps(known))}"
            continue
        model = row["upstream_model"] or row["response_model"] or row["request_model"] or "(no model)"
        tokens = f"{_or_unknown(row['input_tokens'])} in, {_or_unknown(row['output_tokens'])} out"
        state = "withdrawn" if row["withdrawn"] else row["price_status"] or "(no status)"
        owner = row["team"] or "(no team)"
        yield _printable(f"  call {row['call_id']}: {owner}, {model}, {tokens}, {_usd(row['cost_pico'])} USD, {state}")


def _spans(batch: SpanBatch) -> Iterator[str]:
    """Identity, times and keys: no value of an attribute."""
    traces = batch.otlp
    spans, data = traces.spans, traces.data
    for row in range(min(len(batch), MOST_LINES)):
        id_, name = (
            data[text.off[row] : text.off[row] + text.len[row]].tobytes() for text in (spans.span_id, spans.name)
        )
        start, end = int(spans.attributes.start[row]), int(spans.attributes.end[row])
        keys = sorted({traces.keys[key] for key in traces.attributes.key[start:end]})
        length = max(0, int(spans.end_ns[row]) - int(spans.start_ns[row]))
        yield _printable(
            f"  span {id_.hex()} {name.decode(errors='replace')!r} {length / 1e6:.1f} ms: {', '.join(keys)}"
        )


def _usd(pico: int | None) -> str:
    return "unknown" if pico is None else f"{Decimal(pico).scaleb(-12):f}"


def _or_unknown(count: int | None) -> str:
    return "?" if count is None else str(count)


def _printable(text: str) -> str:
    """What a sender wrote must not move the cursor."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
