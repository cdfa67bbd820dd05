"""What Spanledger adds to spans on their way out: only what they lack; and a second Spanledger counts the same calls again."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client import CollectorRegistry

from collector.batch import Position, SpanBatch
from collector.columns import COUNTS, SPAN_COLUMNS, Column
from collector.component import Context
from collector.dialects import normalise
from collector.ledger import Ledger
from collector.otlp.decode import decode
from collector.otlp.otlp_json import to_protobuf
from collector.signals import Signal
from collector.warmup import _Memory
from config.model import LedgerConfig
from exporters.otlp import Otlp
from exporters.otlp.additions import added_to
from processors.attribution import Attribution
from processors.pricing import Pricing
from tests.otlp_oracle import parse_any
from tests.otlp_strategies import requests_of
from tests.spans_kit import request, span
from tests.vendor_kit import grpc_exporter, grpc_vendor, http_exporter, request_batch, span_batch, vendor

CAPTURES = sorted(p for p in (Path(__file__).parents[1] / "captures").iterdir() if p.is_dir())


def through(body: bytes) -> SpanBatch:
    """A batch as it reaches the exporters: normalised, attributed, merged, priced, annotated."""
    ledger, state = Ledger(LedgerConfig(), CollectorRegistry()), _Memory()
    ledger.load(state)
    batch = normalise(SpanBatch.blank(decode(body), Position(1, 1), 1))
    context = Context("x", Path("."), CollectorRegistry())
    batch = Attribution(Attribution.Config(), context).process(batch)
    batch = ledger.merge(batch, state)
    batch = Pricing(Pricing.Config(), Context("y", Path("."), CollectorRegistry())).process(batch)
    return ledger.annotate(batch)


def read(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def attributes(body: Any, row: int = 0) -> dict[str, Any]:
    message = ExportTraceServiceRequest.FromString(bytes(body))
    spans = [s for r in message.resource_spans for c in r.scope_spans for s in c.spans]
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in spans[row].attributes}


def spans_with(**columns: list[Any]) -> pl.DataFrame:
    """SPAN_COLUMNS, these of them filled."""
    rows = len(next(iter(columns.values())))
    return pl.DataFrame([
        pl.Series(c.name, columns.get(c.name, [None] * rows), dtype=c.dtype) for c in SPAN_COLUMNS
    ])  # fmt: skip


# Nothing changed ----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_without_additions_what_leaves_decodes_equal_to_what_came(data: st.DataObject) -> None:
    """Any requests of any signal, joined: the very bytes, and so field by field. As JSON and in parts, equal too."""
    signal = data.draw(st.sampled_from(list(Signal)))
    bodies = [r.SerializeToString() for r in data.draw(st.lists(requests_of[signal], min_size=1, max_size=3))]
    joined = b"".join(bodies)
    exporter = http_exporter("http://h", attributes=False, compression="none")
    if signal is Signal.TRACES:
        sent = list(exporter.encode(span_batch(joined)))
    else:
        sent = list(exporter.encode_requests(request_batch(signal, joined)))
    assert b"".join(p.body for p in sent) == joined
    assert parse_any(joined, signal) == parse_any(b"".join(p.body for p in sent), signal)


def test_over_the_wire_every_encoding_decodes_equal_to_what_came() -> None:
    """Generated requests of all signals, through real connections: protobuf and JSON, each compression."""
    with vendor() as web, grpc_vendor() as rpc:
        exporters: list[Any] = [
            http_exporter(web.address, attributes=False, compression="gzip"),
            http_exporter(web.address, attributes=False, compression="zstd", encoding="json"),
            grpc_exporter(rpc.address, attributes=False, compression="gzip"),
            grpc_exporter(rpc.address, attributes=False, compression="none"),
        ]

        @settings(deadline=None, max_examples=25)
        @given(st.data())
        def check(data: st.DataObject) -> None:
            signal = data.draw(st.sampled_from(list(Signal)))
            request = data.draw(requests_of[signal])
            body = request.SerializeToString()
            for exporter in exporters:
                there: Any = rpc if isinstance(exporter, Otlp) else web
                there.got.clear()
                batch: Any = span_batch(body) if signal is Signal.TRACES else request_batch(signal, body)
                for payload in exporter.encode(batch) if signal is Signal.TRACES else exporter.encode_requests(batch):
                    exporter.send(payload)
                sent = b"".join(
                    to_protobuf(got.body, signal) if "json" in got.headers.get("content-type", "") else got.body
                    for got in there.got
                )
                arrived = parse_any(sent, signal)
                assert str(arrived) == str(request)
                if there.got and "json" not in there.got[0].headers.get(
                    "content-type", ""
                ):  # which has one NaN, not 2^53
                    assert arrived.SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)  # fmt: skip

        try:
            check()
        finally:
            for exporter in exporters:
                exporter.close()


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda p: p.name)
def test_captured_requests_leave_as_they_came(capture: Path) -> None:
    """All signals of all captures."""
    exporter = http_exporter("http://h", attributes=False, compression="none")
    for path in sorted(capture.glob("*.pb*")):
        body, signal = read(path), Signal(path.name.split("-")[1].split(".")[0])
        batch: Any = span_batch(body) if signal is Signal.TRACES else request_batch(signal, body)
        sent = exporter.encode(batch) if signal is Signal.TRACES else exporter.encode_requests(batch)
        assert b"".join(payload.body for payload in sent) == body


# What is added ------------------------------------------------------------------------------------------------------


def test_what_the_sender_said_is_never_replaced() -> None:
    body = request(spans=[span(attributes={"gen_ai.provider.name": "azure", "gen_ai.usage.input_tokens": "7"}), span()])
    batch = span_batch(body).with_(
        spans=spans_with(
            provider=["azure.ai.openai"] * 2, input_tokens=[7, 8], output_tokens=[None, 0], team=["search", None]
        )
    )
    out = added_to(batch, True, {})
    assert attributes(out) == {
        "gen_ai.provider.name": "azure", "gen_ai.usage.input_tokens": "7", "spanledger.team": "search",
    }  # fmt: skip
    assert attributes(out, 1) == {
        "gen_ai.provider.name": "azure.ai.openai", "gen_ai.usage.input_tokens": 8, "gen_ai.usage.output_tokens": 0,
        "spanledger.added": "gen_ai.provider.name,gen_ai.usage.input_tokens,gen_ai.usage.output_tokens",
    }  # fmt: skip


def test_what_is_spanledgers_own_is_replaced_or_taken_away() -> None:
    """Nobody else's cost may be summed with ours."""
    forged = {"spanledger.cost_usd": 99.0, "spanledger.team": "forged", "spanledger.pii.email": 5, "spanledger.else": 1}
    batch = span_batch(request(spans=[span(attributes=forged), span(attributes=forged)]))
    batch = batch.with_(spans=spans_with(cost_pico=[87_000_000, None], team=[None, "search"]))
    out = added_to(batch, True, {})
    assert attributes(out) == {"spanledger.cost_usd": 8.7e-05, "spanledger.pii.email": 5, "spanledger.else": 1}
    assert attributes(out, 1) == {"spanledger.team": "search", "spanledger.pii.email": 5, "spanledger.else": 1}


def test_costs_are_the_nearest_double_to_the_exact_amount() -> None:
    amounts = [1, 87_000_000, 123_456_789_012_345, 10**15 + 1]
    batch = span_batch(request(spans=[span() for _ in amounts])).with_(spans=spans_with(cost_pico=amounts))
    out = added_to(batch, True, {})
    for row, amount in enumerate(amounts):
        assert attributes(out, row)["spanledger.cost_usd"] == amount / 10**12


def test_what_redaction_found_leaves_as_a_count_for_each_detector() -> None:
    batch = span_batch(request(spans=[span(), span(attributes={"spanledger.pii.card": 9}), span()]))
    found = [[{"name": "email", "count": 2}, {"name": "card", "count": 1}], [{"name": "card", "count": 3}], None]
    batch = batch.with_(spans=spans_with(pii=found, pii_in_request=[None, [{"name": "card", "count": 3}], []]))
    out = added_to(batch, True, {})
    assert attributes(out) == {"spanledger.pii.email": 2, "spanledger.pii.card": 1}
    assert attributes(out, 1) == {"spanledger.pii.card": 3, "spanledger.pii_in_request.card": 3}
    assert attributes(out, 2) == {}


def test_further_names_for_what_is_known() -> None:
    """Where the span has no such attribute; also without the others."""
    body = request(spans=[span(attributes={"gen_ai.usage.cost": 0.5}), span(), span()])
    batch = span_batch(body).with_(spans=spans_with(cost_pico=[10**12, 2 * 10**12, None]))
    out = added_to(batch, False, {"gen_ai.usage.cost": "spanledger.cost_usd", "tag.owner": "spanledger.team"})
    assert attributes(out) == {"gen_ai.usage.cost": 0.5}
    assert attributes(out, 1) == {"gen_ai.usage.cost": 2.0, "spanledger.added": "gen_ai.usage.cost"}
    assert attributes(out, 2) == {}


def test_nothing_to_add_leaves_the_array_alone() -> None:
    batch = span_batch(request(spans=[span("x")]))
    assert added_to(batch, True, {}) is batch.otlp.data
    assert added_to(batch, False, {}) is batch.otlp.data


@pytest.mark.parametrize("column", SPAN_COLUMNS, ids=lambda c: c.name)
def test_every_column_of_spans_can_leave(column: Column) -> None:
    """A column that is added later must not make batches fail here."""
    samples: dict[Any, Any] = {
        pl.String(): "x", pl.Int64(): 5, pl.Boolean(): True, COUNTS: [{"name": "email", "count": 2}],
    }  # fmt: skip
    batch = span_batch(request(spans=[span()])).with_(spans=spans_with(**{column.name: [samples[column.dtype]]}))
    assert any(key.startswith(column.attribute or "-") for key in attributes(added_to(batch, True, {})))


# Chained ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda p: p.name)
def test_a_second_spanledger_counts_what_the_first_one_counted(capture: Path) -> None:
    """The same calls, prices and owners; what a third one would get is what the second one got."""
    body = b"".join(read(path) for path in sorted(capture.glob("*-traces.pb*")))
    first = through(body)
    also = {"gen_ai.usage.cost": "spanledger.cost_usd", "llm.cost.total": "spanledger.cost_usd"}
    out = added_to(first, True, also)
    assert len(out) > len(body)
    second = through(out.tobytes())
    assert second.calls.equals(first.calls)
    assert second.spans.equals(first.spans)
    assert second.reports.drop("span").equals(first.reports.drop("span"))
    assert np.array_equal(added_to(second, True, also), out)
    assert len(first.calls) > 0
    assert "spanledger.added" in json.dumps([attributes(out, row) for row in range(min(len(first), 200))], default=str)


def test_what_an_earlier_one_added_and_this_one_does_not_know_stays_noted() -> None:
    """A name that only the first was told to add must not be the sender's for the third."""
    body = request(spans=[span(attributes={"gen_ai.usage.cost": 2.0, "gen_ai.provider.name": "x", "spanledger.added": "gen_ai.provider.name,gen_ai.usage.cost"})])  # fmt: skip
    batch = span_batch(body).with_(spans=spans_with(provider=["openai"]))
    assert attributes(added_to(batch, True, {})) == {
        "gen_ai.usage.cost": 2.0,
        "gen_ai.provider.name": "openai",
        "spanledger.added": "gen_ai.provider.name,gen_ai.usage.cost",
    }
    gone = span_batch(body).with_(spans=spans_with(provider=[None]))
    assert attributes(added_to(gone, True, {})) == {"gen_ai.usage.cost": 2.0, "spanledger.added": "gen_ai.usage.cost"}
