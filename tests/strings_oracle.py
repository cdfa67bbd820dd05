"""The leaves of a request, and changes of them, by protobuf's objects and descriptors in plain Python; and what must hold
whatever the bytes are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from random import Random
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from collector.errors import Malformed
from collector.otlp.decode import read
from collector.otlp.moving import moved
from collector.otlp.requests import REQUESTS
from collector.otlp.strings import Kind, Place, Strings, planned, strings
from collector.signals import Signal

ITEMS = ("Span", "LogRecord", "Metric")

#: Message and field → where that is. Fields of AnyValue and KeyValue are where the attribute or body is.
PLACES = {
    "Resource.attributes": Place.RESOURCE_ATTRIBUTE,
    "InstrumentationScope.attributes": Place.SCOPE_ATTRIBUTE,
    "Span.attributes": Place.SPAN_ATTRIBUTE,
    "Event.attributes": Place.EVENT_ATTRIBUTE,
    "Link.attributes": Place.LINK_ATTRIBUTE,
    "LogRecord.attributes": Place.LOG_ATTRIBUTE,
    "Metric.metadata": Place.METRIC_METADATA,
    "NumberDataPoint.attributes": Place.POINT_ATTRIBUTE,
    "HistogramDataPoint.attributes": Place.POINT_ATTRIBUTE,
    "ExponentialHistogramDataPoint.attributes": Place.POINT_ATTRIBUTE,
    "SummaryDataPoint.attributes": Place.POINT_ATTRIBUTE,
    "Exemplar.filtered_attributes": Place.EXEMPLAR_ATTRIBUTE,
    "LogRecord.body": Place.LOG_BODY,
    "Span.name": Place.SPAN_NAME,
    "Event.name": Place.EVENT_NAME,
    "InstrumentationScope.name": Place.SCOPE_NAME,
    "InstrumentationScope.version": Place.SCOPE_VERSION,
    "Status.message": Place.STATUS_MESSAGE,
    "Span.trace_state": Place.TRACE_STATE,
    "Link.trace_state": Place.TRACE_STATE,
    "LogRecord.severity_text": Place.SEVERITY_TEXT,
    "LogRecord.event_name": Place.LOG_EVENT_NAME,
    "Metric.name": Place.METRIC_NAME,
    "Metric.description": Place.METRIC_DESCRIPTION,
    "Metric.unit": Place.METRIC_UNIT,
    "EntityRef.type": Place.ENTITY_TYPE,
    "EntityRef.id_keys": Place.ENTITY_KEY,
    "EntityRef.description_keys": Place.ENTITY_KEY,
    **{
        f"{holder}.schema_url": Place.SCHEMA_URL
        for holder in (
            "ResourceSpans",
            "ResourceLogs",
            "ResourceMetrics",
            "ScopeSpans",
            "ScopeLogs",
            "ScopeMetrics",
            "EntityRef",
        )
    },
}


@dataclass
class Element:
    """A member of a repeated field: what `dropped` and `removed` take out."""

    holder: Message
    field: str
    member: Any


@dataclass
class Leaf:
    """One leaf, and how to change it."""

    message: Message
    field: FieldDescriptor
    index: int  # in a repeated field; -1: a singular one
    value: Any
    place: Place
    kind: Kind
    depth: int
    key: str | None
    item: int
    elements: Sequence[Element]  # around it, from the outermost

    def said(self) -> tuple[Any, ...]:
        """In the form of `found`."""
        return self.place, self.kind, self.depth, self.key, self.item, self.value

    def replace(self, text: str) -> None:
        name = self.field.name
        if self.index >= 0:
            getattr(self.message, name)[self.index] = text
        elif self.field.containing_oneof is not None and self.kind is not Kind.TEXT:
            self.message.string_value = text  # type: ignore[attr-defined]
        elif self.field.type == FieldDescriptor.TYPE_BYTES:
            setattr(self.message, name, text.encode())
        else:
            setattr(self.message, name, text)


def leaves(request: Message) -> list[Leaf]:
    """In the order of field numbers, which is that of the wire."""
    return list(_message(request, Place.UNKNOWN_FIELD, 0, None, [-1, 0], ()))


def _message(
    message: Message, place: Place, depth: int, key: str | None, items: list[int], elements: tuple[Element, ...]
) -> Iterator[Leaf]:
    name = message.DESCRIPTOR.name
    if name in ITEMS:
        items[0], items[1] = items[1], items[1] + 1
    if name == "AnyValue":
        depth += 1
    for field, value in sorted(message.ListFields(), key=lambda entry: entry[0].number):
        here = PLACES.get(f"{name}.{field.name}", Place.UNKNOWN_FIELD) or place
        for index, member in enumerate(value if field.is_repeated else [value]):
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                inner, inside = elements, key
                if field.message_type.name == "KeyValue" or name == "ArrayValue":
                    inner = (*elements, Element(message, field.name, member))
                if field.message_type.name == "KeyValue" and depth == 0:
                    inside = member.key
                yield from _message(member, here, depth, inside, items, inner)
                continue
            kind = _kind(name, field, member)
            if kind is not None:
                where = Place.ID if field.name.endswith(("trace_id", "span_id")) else here
                at = index if field.is_repeated else -1
                yield Leaf(message, field, at, member, where, kind, depth, key, items[0], elements)
    if name in ITEMS:
        items[0] = -1


def _kind(message: str, field: FieldDescriptor, value: Any) -> Kind | None:
    if field.name.endswith(("trace_id", "span_id")):
        return None if len(value) in {0, 16 if field.name == "trace_id" else 8} else Kind.BYTES
    if field.type == FieldDescriptor.TYPE_STRING:
        return Kind.KEY if field.name in {"key", "id_keys", "description_keys"} else Kind.TEXT
    if field.type == FieldDescriptor.TYPE_BYTES:
        return Kind.BYTES
    if message == "AnyValue" and field.name in {"int_value", "double_value", "string_value_strindex"}:
        return Kind.DOUBLE if field.name == "double_value" else Kind.INT
    return None


def take_out(gone: Sequence[Element]) -> None:
    """Take out members of repeated fields, each possibly named more than once."""
    done: list[Any] = []
    for element in gone:
        if any(element.member is other for other in done):
            continue
        done.append(element.member)
        members = getattr(element.holder, element.field)
        for index, member in enumerate(members):
            if member is element.member:
                del members[index]
                break


def said(strings: Strings, data: np.ndarray) -> list[tuple[Any, ...]]:
    """The rows, in the form of `Leaf.said`."""
    rows = []
    for row in range(len(strings)):
        kind, at = Kind(strings.kind[row]), int(strings.off[row])
        raw = data[at : at + int(strings.size[row])].tobytes()
        value: Any = raw if kind in {Kind.BYTES, Kind.UNKNOWN} else raw.decode()
        if kind is Kind.INT:
            value = int(strings.number[row])
        elif kind is Kind.DOUBLE:
            value = float(strings.number[row : row + 1].view(np.float64)[0])
        key = strings.keys[strings.key[row]] if strings.key[row] >= 0 else None
        rows.append((Place(strings.place[row]), kind, int(strings.depth[row]), key, int(strings.item[row]), value))
    return rows


# Whatever the bytes are


def array(body: bytes) -> np.ndarray:
    return np.frombuffer(body, np.uint8)


def parse(signal: Signal, body: Any) -> Message:
    request = REQUESTS[signal].message()
    request.ParseFromString(bytes(body))
    return request


def rewritten(data: np.ndarray, listed: Strings, **changes: Any) -> np.ndarray:
    """The request with some leaves changed, as `planned` takes them."""
    splice = planned(data, listed, **changes)
    return data if splice is None else splice.applied(data)


def survives(signal: Signal, body: bytes) -> bool:
    """Assert that what protobuf parses is listed, can be rewritten at any places, and parses then; whether it did parse."""
    try:
        parse(signal, body)
    except DecodeError:
        parses = False
    else:
        parses = True
    random, data = Random(body), array(body)
    try:
        listed = strings(signal, data)
    except Malformed:
        assert not parses, "protobuf takes it"
        return False
    rows = np.arange(len(listed), dtype=np.int32)
    texts = rows[~np.isin(listed.kind, [Kind.KEY, Kind.UNKNOWN])]
    some = np.array([row for row in texts.tolist() if random.random() < 0.3], np.int32)
    ones = np.ones(len(some), np.int64)
    exchanged = {"replaced": some, "blob": array(b"yx"), "at": ones, "size": ones}
    changed = rewritten(data, listed, **exchanged)
    again = strings(signal, changed)
    for name in ("place", "depth", "attribute", "key", "item"):
        assert (getattr(again, name) == getattr(listed, name)).all(), "all stands where it stood"
    untouched = np.setdiff1d(rows, some)
    assert (again.number[untouched] == listed.number[untouched]).all()
    assert _payloads(changed, again, untouched) == _payloads(data, listed, untouched)
    assert set(_payloads(changed, again, some)) <= {b"x"}
    if signal is Signal.TRACES:
        texts = some[(listed.kind[some] == Kind.TEXT) & (listed.size[some] > 0)]
        moves(data, {row: random.choice([b"", b"x", b"y" * 130]) for row in texts.tolist()})
    dropped, removed = (np.array([row for row in rows.tolist() if random.random() < 0.2], np.int32) for _ in range(2))
    mixed = rewritten(data, listed, **exchanged, dropped=dropped, removed=removed)
    emptied = rewritten(data, listed, dropped=rows)
    assert len(strings(signal, emptied)) == 0
    if parses:
        for result in (changed, mixed, emptied):
            parse(signal, result)
        assert not leaves(parse(signal, emptied))
    return parses


def moves(data: np.ndarray, exchanged: dict[int, bytes]) -> None:
    """Assert that the tables of a request of spans, moved with texts that are exchanged, are those of the new request.

    exchanged: by row among the leaves with keys
    """
    try:
        traces = read(data)
    except Malformed:
        return
    size = np.array([len(text) for text in exchanged.values()], np.int64)
    splice = planned(
        data, strings(Signal.TRACES, data), replaced=np.array(list(exchanged), np.int32), blob=array(b"".join(exchanged.values())),
        at=np.cumsum(size) - size, size=size,
    )  # fmt: skip
    if splice is not None:
        new = splice.applied(data)
        assert _differences(moved(traces, splice, new), read(new)) == []


def _differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two tables differ."""
    if is_dataclass(one):
        pairs = [(f.name, getattr(one, f.name), getattr(other, f.name)) for f in fields(one)]
        return [found for name, a, b in pairs for found in _differences(a, b, f"{path}.{name}")]
    same = np.array_equal(one, other) if isinstance(one, np.ndarray) else list(one) == list(other)
    return [] if same else [path]


def _payloads(data: np.ndarray, listed: Strings, rows: np.ndarray) -> list[bytes]:
    places = zip(listed.off[rows].tolist(), listed.size[rows].tolist(), strict=True)
    return [data[at : at + size].tobytes() for at, size in places]
