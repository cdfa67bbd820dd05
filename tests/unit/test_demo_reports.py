"""The month's calls as OTLP: what is sent is protobuf, and a collector makes of it the calls that it was made of."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client import CollectorRegistry

from collector.batch import Position, SpanBatch
from collector.component import Context
from collector.dialects import normalise
from collector.ledger import Ledger
from collector.otlp.decode import read
from config.model import LedgerConfig
from processors.attribution import Attribution
from processors.pricing import Pricing
from spanledger.demo.company import World
from spanledger.demo.reports import Reporter
from spanledger.demo.traffic import month
from spanledger.demo.wire import number, real, text
from tests.findings_kit import Memory

START_NS = 1_793_577_600 * 10**9
WORLD = World.seeded(1, calls_a_day=30_000)


pytestmark = pytest.mark.usefixtures("without_warnings")


@cache
def calls() -> pl.DataFrame:
    """Four hours around noon in London, without what a gateway answers from its own cache."""
    frames = pl.concat([frame for n, frame in enumerate(month(WORLD, START_NS, 1)) if 12 <= n < 16])
    return frames.filter(~pl.col("response_cache_hit").fill_null(False))


@cache
def bodies() -> list[tuple[bytes, int]]:
    return list(Reporter(WORLD).requests(calls()))


@cache
def spans() -> dict[bytes, tuple[str, Span]]:
    """Service and span by span id."""
    found = {}
    for body, count in bodies():
        request = ExportTraceServiceRequest.FromString(body)
        mine = [(r.resource.attributes[3].value.string_value, span) for r in request.resource_spans for scope in r.scope_spans for span in scope.spans]  # fmt: skip
        assert len(mine) == count
        found |= {span.span_id: (service, span) for service, span in mine}
    assert len(found) == sum(count for _, count in bodies())
    return found


@cache
def ledger() -> pl.DataFrame:
    """What the pipeline's own steps make of it."""

    def context(id_: str) -> Context:
        return Context(id_, Path(), CollectorRegistry())

    data = np.frombuffer(b"".join(body for body, _ in bodies()), np.uint8)
    batch = normalise(SpanBatch.blank(read(data, sum(n for _, n in bodies())), Position(1, 1), time.time_ns()))
    batch = Attribution(Attribution.Config(), context("attribution")).process(batch)
    batch = Ledger(LedgerConfig(), CollectorRegistry()).merge(batch, Memory())
    return Pricing(Pricing.Config(), context("pricing")).process(batch).calls


def test_every_span_has_its_parent_and_lies_within_it() -> None:
    found = spans()
    for service, span in found.values():
        assert span.end_time_unix_nano >= span.start_time_unix_nano
        if not span.parent_span_id:
            assert span.name == "handle_request" or service == "litellm-proxy"
            continue
        _, parent = found[span.parent_span_id]
        assert parent.trace_id == span.trace_id
        assert parent.start_time_unix_nano <= span.start_time_unix_nano
        assert parent.end_time_unix_nano >= span.end_time_unix_nano
    assert {service for service, _ in found.values()} > {"litellm-proxy"}


def test_a_collector_makes_of_it_the_calls_that_it_was_made_of() -> None:
    mine, theirs = calls(), ledger()
    assert theirs["cost_pico"].sum() == mine["cost_pico"].sum()
    both = mine.drop_nulls("response_id").join(theirs, on="response_id", suffix="_there")
    assert len(both) == len(mine.drop_nulls("response_id"))
    for name in (
        "trace_id", "dialect", "operation", "provider", "request_model", "response_model", "upstream_model", "team", "app", "user", "end_user",
        "api_key", "environment", "task_type", "deployment", "region", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
        "output_limit", "cost_pico", "price_status", "status", "finish_reason", "conversation_id", "reports", "attribution_source",
    ):  # fmt: skip
        one, two = both[name], both[f"{name}_there"]
        if one.dtype == pl.List(pl.String()):
            one, two = one.list.join(","), two.list.join(",")
        assert both.filter(one.ne_missing(two)).select(name, f"{name}_there").is_empty(), name


def test_guardrails_and_failed_attempts_are_told_apart() -> None:
    mine, theirs = calls(), ledger()
    refused = theirs.filter(pl.col("refused_by").is_not_null())
    assert refused.group_by("refused_by").len().sort("refused_by").rows() == (
        mine.filter(pl.col("refused_by").is_not_null()).group_by("refused_by").len().sort("refused_by").rows()
    )
    assert len(refused) > 5
    failed = theirs.filter((pl.col("status") == "Error") & pl.col("refused_by").is_null())
    wrong = mine.filter((pl.col("status") == "Error") & pl.col("refused_by").is_null())
    assert sorted(failed["error_type"]) == sorted(wrong["error_type"])
    assert len(wrong) > 5


def test_nothing_to_report() -> None:
    assert list(Reporter(WORLD).requests(calls().clear())) == []


def test_attributes_that_are_not_known_are_left_out() -> None:
    def read_back(piece: bytes) -> list[object]:
        return [getattr(a.value, a.value.WhichOneof("value")) for a in Span.FromString(piece).attributes]

    assert [read_back(p.as_py()) for p in text("a", pl.Series(["x", None, "ü" * 200]))] == [["x"], [], ["ü" * 200]]
    assert [read_back(p.as_py()) for p in number("a", pl.Series([0, None, 2**34]))] == [[0], [], [2**34]]
    assert [read_back(p.as_py()) for p in real("a", pl.Series([0.5, None]))] == [[0.5], []]
