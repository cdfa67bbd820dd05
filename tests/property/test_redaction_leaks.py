"""Whatever a detector is for, wherever it stands, however it is written, under any config that enables it: it is in no output.

An example of a detector is put into a request; the request goes the whole way, to ClickHouse's rows, OTLP backends, the debug
exporter, the log and the metrics. Then every text of every output is read in every way that a reader could, with Python's own
parsers, and none of the readings may hold the example's value.
"""

from __future__ import annotations

import ast
import html
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client import CollectorRegistry, generate_latest

from collector.batch import Position, RequestBatch
from collector.component import Exporter, Payload
from collector.signals import Signal
from exporters.clickhouse.exporter import ClickHouse
from exporters.debug import Debug
from processors.redaction.detector import Detector, Example, load_detectors
from tests.bill import pipeline
from tests.ledger_rows import context
from tests.redaction_kit import message, redaction, texts
from tests.signals_kit import logs, record
from tests.spans_kit import event, request, span
from tests.vendor_kit import http_exporter

DETECTORS = [detector for detector in load_detectors() if detector.default]
EXAMPLES = [(detector, example) for detector in DETECTORS for example in detector.examples]
NUMBERS = [(d, e) for d, e in EXAMPLES if e.text == e.value and e.value.isdigit() and e.value[0] != "0"]
KEYS = ["note", "gen_ai.input.messages", "user.id", "metadata.requester_metadata", "http.request.header.x", "gen_ai.request.model",
        "gen_ai.response.id", "exception.message", "llm.openai.messages", "gen_ai.usage.details", "session.id", "a b"]  # fmt: skip
CALL = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 2}  # fmt: skip

# How a text may be written ------------------------------------------------------------------------------------------------


def _escaped(text: str) -> str:
    """JSON with every letter that is no letter of ASCII written as a number."""
    units = np.frombuffer(text.encode("utf-16-be", "surrogatepass"), ">u2").tolist()
    return '"' + "".join(chr(u) if 32 < u < 127 and chr(u).isalnum() else f"\\u{u:04x}" for u in units) + '"'


WRITTEN: dict[str, Callable[[str], str]] = {
    "prose": lambda text: f"Please note: {text} \nThank you.",
    "json": lambda text: json.dumps({"role": "user", "content": text}),
    "json list": lambda text: json.dumps([1, {"deep": [text]}, None], ensure_ascii=False),
    "json, all escaped": lambda text: f'{{"a":{_escaped(text)}}}',
    "repr": lambda text: repr({"content": text, "n": None}),
    "repr list": lambda text: repr([text]),
    "url": lambda text: f"/search?q={quote(text, safe='')}&page=2",
    "html": lambda text: f"<p>{html.escape(text)}</p>",
}


def readings(text: str, depth: int = 7) -> Iterator[str]:
    """A text, and all that it says to who reads it as JSON, as Python, as a URL, as HTML."""
    yield text
    if not depth:
        return
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        if not isinstance(value, str) or value != text:
            for leaf in _leaves(value):
                yield from readings(leaf, depth - 1)
    for unescaped in {unquote(text), html.unescape(text)} - {text}:
        yield from readings(unescaped, depth - 1)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(key)
            yield from _leaves(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, bytes):
        yield value.decode("latin-1")
    elif value is not None:
        yield str(value)


def nested(value: Any, depth: int) -> Any:
    """A value inside of arrays and maps."""
    for level in range(depth):
        value = [value, level] if level % 2 else {"inner": value, "n": level}
    return value


# Where it may stand -------------------------------------------------------------------------------------------------------

SPAN_PLACES = ["attribute", "key", "resource", "scope attribute", "scope", "version", "schema", "name", "status", "state", "event", "event name", "link"]  # fmt: skip
LOG_PLACES = ["body", "attribute", "key", "resource", "severity", "event name", "scope"]
METRIC_PLACES = ["point", "name", "unit", "description", "exemplar", "metadata", "resource"]


def spans_with(place: str, key: str, value: Any) -> bytes:
    """A request of traces with the value at a place."""
    text = value if isinstance(value, str) else str(value)
    attrs: dict[str, Any] = dict(CALL)
    if place == "attribute":
        attrs[key] = value
    if place == "key":
        attrs[text] = 1
        attrs["map"] = {text: {text: "x"}}
    made = span(
        text if place == "name" else "chat", attrs,
        events=[event(text if place == "event name" else "e", {key: value} if place == "event" else {})],
        status="error", message=text if place == "status" else "",
    )  # fmt: skip
    made.trace_state = text if place == "state" else ""
    if place == "link":
        link = Span.Link(trace_id=b"x" * 16, span_id=b"y" * 8, trace_state=text if isinstance(value, str) else "")
        link.attributes.add(key=key).value.CopyFrom(span("s", {key: value}).attributes[0].value)
        made.links.append(link)
    return request(
        resource={key: value} if place == "resource" else {"service.name": "shop"}, scope=text if place == "scope" else "litellm",
        version=text if place == "version" else "1", schema_url=text if place == "schema" else "",
        scope_attributes={key: value} if place == "scope attribute" else {}, spans=[made],
    )  # fmt: skip


def logs_with(place: str, key: str, value: Any) -> bytes:
    text = value if isinstance(value, str) else str(value)
    fields = {"severity_text": text} if place == "severity" else {"event_name": text} if place == "event name" else {}
    attrs = {key: value} if place == "attribute" else {text: 1} if place == "key" else {}
    return logs(
        record(value if place == "body" else "said", attrs, **fields),
        resource={key: value} if place == "resource" else None, scope=text if place == "scope" else "app",
    )  # fmt: skip


def metrics_with(place: str, key: str, value: Any) -> bytes:
    text = value if isinstance(value, str) else str(value)
    made = ExportMetricsServiceRequest()
    resource = made.resource_metrics.add()
    any_value = span("s", {key: value}).attributes[0]
    if place == "resource":
        resource.resource.attributes.append(any_value)
    metric = resource.scope_metrics.add().metrics.add(name=text if place == "name" else "m", unit=text if place == "unit" else "1")  # fmt: skip
    metric.description = text if place == "description" else ""
    point = metric.sum.data_points.add(as_int=1)
    if place == "metadata":
        metric.metadata.append(any_value)
    if place == "point":
        point.attributes.append(any_value)
    if place == "exemplar":
        point.exemplars.add().filtered_attributes.append(any_value)
    return made.SerializeToString()


# What comes out -----------------------------------------------------------------------------------------------------------


@contextmanager
def logged() -> Iterator[list[str]]:
    """Every line that anything logs, at any level."""
    lines: list[str] = []
    handler = logging.Handler(0)
    handler.emit = lambda made: lines.append(made.getMessage())  # type: ignore[method-assign]
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def exporters(folder: Any) -> list[Exporter[Any]]:
    clickhouse = ClickHouse(ClickHouse.Config.model_validate({"dsn": f"chdb://{folder}/c"}), context(folder))
    debug = Debug(Debug.Config.model_validate({"verbosity": "detailed"}), context(folder))
    return [clickhouse, debug, http_exporter("http://vendor.example", compression="none")]


def shown(payload: Payload, signal: Signal) -> Iterator[str]:
    """Every text of what is delivered."""
    if payload.meta.get("format") == "ArrowStream":
        yield from _leaves(pa.ipc.open_stream(payload.body).read_all().to_pydict())
    elif "table" in payload.meta or b"requests " in payload.body[:200]:
        yield payload.body.decode("utf-8", "replace")
    else:
        yield from texts(message(payload.body, signal))


def outputs(signal: Signal, body: bytes, options: dict[str, Any], folder: Any) -> Iterator[str]:
    """Everything that anybody gets to see of a request."""
    registry = CollectorRegistry()
    processor = redaction(registry=registry, audit=True, **options)
    with logged() as lines:
        if signal is Signal.TRACES:
            with pipeline(processor) as pipe:
                batch: Any = pipe.take([body])
        else:
            sent = RequestBatch(signal, np.frombuffer(body, np.uint8), 1, Position(1, 1), 0)
            batch = processor.process_requests(sent)
        processor.committed()
        for exporter in exporters(folder):
            if signal in type(exporter).signals:
                encode = exporter.encode if signal is Signal.TRACES else exporter.encode_requests
                for payload in encode(batch):
                    yield from shown(payload, signal)
    if signal is Signal.TRACES:
        yield from _leaves([frame.to_dicts() for frame in (batch.spans, batch.reports, batch.calls)])
        yield generate_latest(pipe.metrics).decode()
    metrics = generate_latest(registry).decode()
    assert "audit_findings_total{" not in metrics, "the first pass left something to the audit"
    yield metrics
    yield from lines


ACTIONS = st.sampled_from(["replace", "mask", "pseudonymise", "drop_value", "drop_attribute"])
OPTIONS = st.fixed_dictionaries(
    {"profile": st.sampled_from(["default", "strict"])},
    optional={"content": st.sampled_from(["drop", "redact"]), "detectors": st.fixed_dictionaries({"pii": ACTIONS, "secret": ACTIONS})},
)  # fmt: skip
PLACES = [(Signal.TRACES, p) for p in SPAN_PLACES] + [(Signal.LOGS, p) for p in LOG_PLACES] + [(Signal.METRICS, p) for p in METRIC_PLACES]  # fmt: skip
MAKE = {Signal.TRACES: spans_with, Signal.LOGS: logs_with, Signal.METRICS: metrics_with}
QUIET = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


def assert_gone(value: str, found: Iterator[str]) -> None:
    for text in found:
        for reading in readings(text):
            assert value not in reading, f"still there, in: {text[:300]}"


@QUIET
@given(
    case=st.sampled_from(EXAMPLES), where=st.sampled_from(PLACES), key=st.sampled_from(KEYS),
    written=st.lists(st.sampled_from(sorted(WRITTEN)), max_size=3), depth=st.integers(0, 3), as_bytes=st.booleans(), options=OPTIONS,
)  # fmt: skip
def test_a_text_is_in_no_output(
    case: tuple[Detector, Example], where: tuple[Signal, str], key: str, written: list[str], depth: int, as_bytes: bool, options: dict[str, Any], tmp_path_factory: Any,
) -> None:  # fmt: skip
    _, example = case
    signal, place = where
    text = example.text
    for how in written:
        text = WRITTEN[how](text)
    value = nested(text.encode() if as_bytes else text, depth) if place in ("attribute", "body", "resource", "event", "point") else text  # fmt: skip
    body = MAKE[signal](place, key, value)
    assert_gone(example.value, outputs(signal, body, options, tmp_path_factory.getbasetemp()))


@settings(parent=QUIET, max_examples=25)
@given(case=st.sampled_from(NUMBERS), where=st.sampled_from(PLACES), depth=st.integers(0, 3), kind=st.sampled_from([int, float]), options=OPTIONS)  # fmt: skip
def test_a_number_is_in_no_output(
    case: tuple[Detector, Example], where: tuple[Signal, str], depth: int, kind: Any, options: dict[str, Any], tmp_path_factory: Any
) -> None:  # fmt: skip
    _, example = case
    signal, place = where
    number = kind(int(example.value))
    if place not in ("attribute", "body", "resource", "event", "point", "exemplar", "metadata", "link", "scope attribute") or int(number) != int(example.value):  # fmt: skip
        return
    body = MAKE[signal](place, "note", nested(number, depth))
    assert_gone(example.value, outputs(signal, body, options, tmp_path_factory.getbasetemp()))


@settings(parent=QUIET, max_examples=60)
@given(case=st.sampled_from(EXAMPLES), written=st.lists(st.sampled_from(sorted(WRITTEN)), max_size=3), options=OPTIONS)
def test_twice_is_once(case: tuple[Detector, Example], written: list[str], options: dict[str, Any]) -> None:
    """Two in a row that have the same key: the second finds nothing to do."""
    text = case[1].text
    for how in written:
        text = WRITTEN[how](text)
    body = spans_with("attribute", "note", text)
    processor = redaction(**options)
    data = np.frombuffer(body, np.uint8)
    once = processor.parts.engine.redact(Signal.TRACES, data).data
    assert processor.parts.engine.redact(Signal.TRACES, once).data is once


def test_the_readings_find_what_is_written(tmp_path: Any) -> None:
    """The test's own reader reads all that the test writes: what it does not find is not there."""
    for detector, example in EXAMPLES:
        for how, write in WRITTEN.items():
            assert any(example.value in reading for reading in readings(write(example.text))), (detector.id, how)
    body = spans_with("attribute", "note", "jane.doe@example.com")
    with pipeline() as pipe:
        batch = pipe.take([body])
    for exporter in (e for e in exporters(tmp_path) if not isinstance(e, Debug)):
        assert any("jane.doe@example.com" in text for p in exporter.encode(batch) for text in shown(p, Signal.TRACES))
    assert isinstance(message(body), Message)
