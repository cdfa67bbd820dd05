"""Every text of a request is listed, and what is rewritten is what protobuf's objects give when edited the same way."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from collector.errors import Malformed
from collector.otlp import layout as L
from collector.otlp import messages as M
from collector.otlp.decode import decode, read
from collector.otlp.requests import REQUESTS
from collector.otlp.strings import Kind, Place, Strings, strings
from collector.signals import Signal
from tests.fuzz import bodies
from tests.otlp_mutations import mutate
from tests.otlp_strategies import requests_of, texts
from tests.strings_oracle import Leaf, array, leaves, parse, rewritten, said, survives, take_out

modest = settings(deadline=None, max_examples=40)
any_requests = st.sampled_from(Signal).flatmap(lambda signal: st.tuples(st.just(signal), requests_of[signal]))


def serialized(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def same(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> bool:
    return repr(found) == repr(expected)  # NaN is NaN here


# The table and protobuf's descriptors

#: Fields that are unknown on purpose: they name a text of a table that these signals do not have.
NOT_READ = {"opentelemetry.proto.common.v1.KeyValue.key_strindex"}
IDS = ("trace_id", "span_id", "parent_span_id")  # listed only where they are none
WIRE = {
    FieldDescriptor.TYPE_DOUBLE: L.FIXED64,
    FieldDescriptor.TYPE_FIXED64: L.FIXED64,
    FieldDescriptor.TYPE_SFIXED64: L.FIXED64,
    FieldDescriptor.TYPE_FIXED32: L.FIXED32,
    FieldDescriptor.TYPE_STRING: L.LEN,
    FieldDescriptor.TYPE_BYTES: L.LEN,
    FieldDescriptor.TYPE_MESSAGE: L.LEN,
}


def listed_as(field: FieldDescriptor) -> set[int]:
    """What the table must say of a field."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return {M.TEXT, M.KEY}
    if field.type == FieldDescriptor.TYPE_BYTES:
        return {M.ID16 if field.name == "trace_id" else M.ID8} if field.name in IDS else {M.BYTES}
    if field.containing_type.name == "AnyValue" and field.name in {"int_value", "string_value_strindex"}:
        return {M.INT}
    return {M.DOUBLE if field.full_name.endswith("AnyValue.double_value") else M.NOTHING}


def test_every_field_is_in_the_table() -> None:
    """A field that an installed opentelemetry-proto has and the table has not, or has otherwise, fails here."""
    waiting = [(M.REQUESTS[signal], request.message.DESCRIPTOR) for signal, request in REQUESTS.items()]
    seen: dict[int, Descriptor] = {}
    while waiting:
        type_, descriptor = waiting.pop()
        if type_ in seen:
            assert seen[type_] is descriptor
            continue
        seen[type_] = descriptor
        rules = dict(enumerate(M.RULES[type_].tolist()))
        for field in descriptor.fields:
            rule = rules.pop(field.number)
            if field.full_name in NOT_READ:
                assert rule == 0
                continue
            assert rule >> M.LISTED & 15 in listed_as(field), field.full_name
            packed = rule & (M.PACKED_FIXED64 | M.PACKED_VARINT)
            assert rule >> M.WIRE & 7 == (L.LEN if packed else WIRE.get(field.type, L.VARINT)), field.full_name
            texts = field.type == FieldDescriptor.TYPE_STRING and descriptor.name not in {"AnyValue", "KeyValue"}
            assert not texts or rule >> M.PLACE in set(Place), field.full_name
            if field.message_type is not None:
                waiting.append((rule & M.TYPE, field.message_type))
        assert not any(rules.values()), f"{descriptor.full_name} has no such fields"
    assert seen.keys() == set(range(M.TYPES)) - {M.ID_KEY}


# What is listed


def items(request: Any) -> int:
    """How many spans, log records or metrics: members of the second field of members of the second field."""
    groups = [group for _, field in request.ListFields() for group in field]
    scopes = [scope for group in groups for field, value in group.ListFields() if field.number == 2 for scope in value]
    return sum(len(value) for scope in scopes for field, value in scope.ListFields() if field.number == 2)


@modest
@given(any_requests, st.integers(1, 2))
def test_all_leaves_are_listed(drawn: tuple[Signal, Message], copies: int) -> None:
    """With their place, kind, depth, attribute key and item, in the order of the wire; of joined requests, too."""
    signal, request = drawn
    body = request.SerializeToString() * copies
    listed = strings(signal, array(body))
    joined = parse(signal, body)
    assert same(said(listed, array(body)), [leaf.said() for leaf in leaves(joined)])
    assert len(set(listed.keys)) == len(listed.keys)
    assert listed.items == items(joined)
    top = (listed.kind == Kind.KEY) & (listed.depth == 0) & (listed.attribute >= 0)
    assert (np.diff(listed.attribute[top]) > 0).all()


@modest
@given(any_requests)
def test_without_the_keys_of_attributes(drawn: tuple[Signal, Message]) -> None:
    """The same leaves but for these, which `keys` names all the same."""
    signal, request = drawn
    body = array(request.SerializeToString())
    with_keys, without = strings(signal, body), strings(signal, body, keys=False)
    top = (with_keys.kind == Kind.KEY) & (with_keys.depth == 0) & (with_keys.attribute >= 0)
    for name in ("off", "size", "head", "place", "kind", "depth", "number", "attribute", "key", "item"):
        assert (getattr(without, name) == getattr(with_keys, name)[~top]).all(), name
    assert without.keys == with_keys.keys
    assert without.items == with_keys.items
    assert not without.repeated


@modest
@given(requests_of[Signal.TRACES], st.booleans(), st.data())
def test_keys_that_are_numbered_already(request: Message, keys: bool, data: st.DataObject) -> None:
    """The same leaves under the same keys; also with another request's tables, which tell nothing."""
    body = array(request.SerializeToString())
    other = decode(data.draw(requests_of[Signal.TRACES]).SerializeToString())
    alone = said(strings(Signal.TRACES, body, keys=keys), body)
    assert same(said(strings(Signal.TRACES, body, keys=keys, decoded=read(body)), body), alone)
    assert same(said(strings(Signal.TRACES, body, keys=keys, decoded=other), body), alone)


def test_keys_that_are_said_again_are_counted() -> None:
    """The last one counts; all are leaves."""
    pair = field(1, b"first") + field(2, field(1, b"value")) + field(1, b"last")
    body = array(field(1, field(2, field(2, field(9, pair) + field(9, field(1, b"other"))))))
    listed = strings(Signal.TRACES, body)
    assert [said[-1] for said in said(listed, body)] == ["first", "value", "last", "other"]
    assert [listed.keys[key] for key in listed.key] == ["last", "last", "last", "other"]
    assert listed.repeated == strings(Signal.TRACES, body, keys=False).repeated == 1


def field(number: int, payload: bytes) -> bytes:
    """A field of wire type 2 with a length below 128."""
    return bytes([number << 3 | 2, len(payload)]) + payload


@modest
@given(requests_of[Signal.TRACES], st.randoms(use_true_random=False))
def test_keys_that_are_numbered_already_of_any_bytes(request: Message, random: Random) -> None:
    """Where what was decoded and what is listed see other attributes, the keys are read anew."""
    body = array(mutate(random, request.SerializeToString()))
    try:
        decoded, alone = read(body), said(strings(Signal.TRACES, body), body)
    except (Malformed, UnicodeDecodeError):
        assume(False)
    assert same(said(strings(Signal.TRACES, body, decoded=decoded), body), alone)


# What is rewritten


def edited(signal: Signal, body: bytes, replaced: dict[int, str], dropped: set[int], removed: set[int]) -> Message:
    """By protobuf's objects."""
    request = parse(signal, body)
    listed = leaves(request)
    gone = []
    for row, text in replaced.items():
        listed[row].replace(text)
    for row in dropped | removed:
        leaf: Leaf = listed[row]
        if leaf.elements:
            gone.append(leaf.elements[0 if row in removed else -1])
        elif leaf.index >= 0:
            gone.append(leaf)  # type: ignore[arg-type]
        else:
            leaf.message.ClearField(leaf.field.name)
    members = [entry for entry in gone if not isinstance(entry, Leaf)]
    for entry in sorted((entry for entry in gone if isinstance(entry, Leaf)), key=lambda entry: -entry.index):
        del getattr(entry.message, entry.field.name)[entry.index]
    take_out(members)
    return request


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_rewriting(data: st.DataObject) -> None:
    """Texts replaced, members dropped, attributes removed, at any places at once, in any order of rows."""
    signal, request = data.draw(any_requests)
    body = request.SerializeToString()
    listed = strings(signal, array(body))
    assume(len(listed) > 0)
    rows = st.integers(0, len(listed) - 1)
    replaced = data.draw(st.dictionaries(rows, texts | st.just("x" * 20_000), max_size=8))
    dropped, removed = data.draw(st.sets(rows, max_size=3)), data.draw(st.sets(rows, max_size=2))
    out = rewritten(array(body), listed, **arguments(replaced), dropped=i32(dropped), removed=i32(removed))
    dropped -= removed
    wanted = edited(signal, body, {r: t for r, t in replaced.items() if r not in dropped | removed}, dropped, removed)
    assert serialized(parse(signal, out)) == serialized(wanted)
    if not (replaced or dropped or removed):
        assert out.tobytes() == body


def i32(rows: Any) -> np.ndarray:
    return np.array(list(rows), np.int32)


def arguments(replaced: dict[int, str]) -> dict[str, Any]:
    encoded = [text.encode() for text in replaced.values()]
    size = np.array([len(text) for text in encoded], np.int64)
    return {
        "replaced": i32(replaced),
        "blob": array(b"".join(encoded)),
        "at": np.cumsum(size) - size,
        "size": size,
    }


def test_what_is_said_of_leaves_of_one_attribute() -> None:
    """Any two leaves of a nested attribute: what takes out more counts, whichever comes first."""
    request: Any = REQUESTS[Signal.TRACES].message()
    attribute = request.resource_spans.add().scope_spans.add().spans.add(name="name").attributes.add(key="key")
    for member in (attribute.value.array_value.values.add() for _ in range(2)):
        for key in "ab":
            member.kvlist_value.values.add(key=key).value.string_value = key * 3
    body = request.SerializeToString()
    listed = strings(Signal.TRACES, array(body))
    assert len(listed) == 10
    for one in range(10):
        for other in range(10):
            out = rewritten(
                array(body), listed, **arguments({2: "x", 9: "y"}), dropped=i32({one}), removed=i32({other})
            )
            texts = {row: text for row, text in {2: "x", 9: "y"}.items() if row not in {one, other}}
            wanted = edited(Signal.TRACES, body, texts, {one} - {other}, {other})
            assert serialized(parse(Signal.TRACES, out)) == serialized(wanted), (one, other)


@modest
@given(any_requests)
def test_replaced_by_itself(drawn: tuple[Signal, Message]) -> None:
    """Every text by itself: the same bytes, as protobuf writes lengths in as few bytes as we do."""
    signal, request = drawn
    body = array(request.SerializeToString())
    listed = strings(signal, body)
    rows = np.flatnonzero(np.isin(listed.kind, [Kind.TEXT, Kind.KEY])).astype(np.int32)
    same_again = rewritten(body, listed, replaced=rows, blob=body, at=listed.off[rows], size=listed.size[rows])
    assert same_again.tobytes() == body.tobytes()


def test_bytes_that_are_no_text_become_text() -> None:
    """INT, DOUBLE and BYTES values, an index of profiles, and an id that is none."""
    request: Any = REQUESTS[Signal.LOGS].message()
    record = request.resource_logs.add().scope_logs.add().log_records.add(trace_id=b"no trace id")
    for name, value in {"int_value": -1, "double_value": 0.5, "bytes_value": b"\0", "string_value_strindex": 7}.items():
        setattr(record.attributes.add(key=name).value, name, value)
    body = array(request.SerializeToString())
    listed = strings(Signal.LOGS, body)
    rows = np.flatnonzero(~np.isin(listed.kind, [Kind.TEXT, Kind.KEY])).astype(np.int32)
    assert len(rows) == 5
    zeros = np.zeros(5, np.int64)
    out: Any = parse(Signal.LOGS, rewritten(body, listed, replaced=rows, blob=array(b"gone"), at=zeros, size=zeros + 4))
    record = out.resource_logs[0].scope_logs[0].log_records[0]
    assert record.trace_id == b"gone"
    assert [attribute.value.string_value for attribute in record.attributes] == ["gone"] * 4


# Unknown fields


def test_unknown_fields_are_leaves() -> None:
    """Of every wire type, in any message, and where a known field has the wire type of another; they can be dropped."""
    request: Any = REQUESTS[Signal.TRACES].message()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="name")
    span.attributes.add(key="key").value.string_value = "value"
    clean = request.SerializeToString()
    unknown = [
        (b"\xba\x06\x05alice", 103 << 3 | 2, b"alice"),
        (b"\xbb\x06\x0a\x05alice\xbc\x06", 103 << 3 | 3, b"\x0a\x05alice\xbc\x06"),
        (b"\xb9\x06alice567", 103 << 3 | 1, b"alice567"),
        (b"\xbd\x06bob4", 103 << 3 | 5, b"bob4"),
        (b"\x28\x07", 5 << 3, b"\x07"),  # a name that is a number
    ]
    inner = b"".join(field for field, _, _ in unknown)
    attribute = b"\x0a\x03key\x12\x07\x0a\x05value\x18\x07"  # with a key_strindex
    spans = inner + b"\x2a\x04name" + b"\x4a" + bytes([len(attribute)]) + attribute
    scope = b"\x12" + bytes([len(spans)]) + spans
    resource = b"\x12" + bytes([len(scope)]) + scope
    body = array(b"\x0a" + bytes([len(resource)]) + resource)
    listed = strings(Signal.TRACES, body)
    rows = np.flatnonzero(listed.kind == Kind.UNKNOWN).astype(np.int32)
    found = [
        (int(listed.number[row]), body[listed.off[row] : listed.off[row] + listed.size[row]].tobytes()) for row in rows
    ]
    assert found == [(tag, payload) for _, tag, payload in unknown] + [(3 << 3, b"\x07")]
    assert set(listed.place[rows].tolist()) == {Place.UNKNOWN_FIELD}
    assert rewritten(body, listed, dropped=rows).tobytes() == clean
    zeros = np.zeros(len(rows), np.int64)
    assert rewritten(body, listed, replaced=rows, blob=array(b""), at=zeros, size=zeros).tobytes() == clean, (
        "nothing can be put into them"
    )
    gone: Any = parse(Signal.TRACES, rewritten(body, listed, removed=rows[-1:]))
    assert not gone.resource_spans[0].scope_spans[0].spans[0].attributes


# What is not well-formed, and calls that make no sense


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_hostile_bytes(data: st.DataObject) -> None:
    """What protobuf parses is listed and can be rewritten, and parses again without anything of what was dropped."""
    signal = data.draw(st.sampled_from(Signal))
    random = Random(data.draw(st.integers()))
    survives(signal, mutate(random, data.draw(requests_of[signal]).SerializeToString(), signal))


def test_captures_and_hostile_bytes() -> None:
    """A short run of what `python -m tests.fuzz` does for minutes."""
    random = Random(4)
    for signal in Signal:
        for body in itertools.islice(bodies(random, signal), 150):
            survives(signal, body)


def test_not_well_formed() -> None:
    """The error says what it was to be, and nothing of what it is."""
    with pytest.raises(Malformed, match="no well-formed ExportLogsServiceRequest"):
        strings(Signal.LOGS, array(b"\x0a\x10alice@example.com"))


def test_rows_of_another_request() -> None:
    """Leaves that are none of this request change nothing, and texts must be in the blob."""
    request: Any = REQUESTS[Signal.TRACES].message()
    request.resource_spans.add().scope_spans.add().spans.add(name="name", trace_state="state")
    body = array(request.SerializeToString())
    listed = strings(Signal.TRACES, body)
    row, one = np.array([0], np.int32), np.ones(1, np.int64)
    with pytest.raises(ValueError, match="no leaves of this request"):
        rewritten(body[:-1], listed, replaced=row, blob=array(b"xx"), at=one, size=one)
    with pytest.raises(ValueError, match="no leaves of this request"):
        rewritten(body, shifted(listed), replaced=row, blob=array(b"xx"), at=one, size=one)
    with pytest.raises(ValueError, match="texts that are not in the blob"):
        rewritten(body, listed, replaced=row, blob=array(b"x"), at=one, size=one)
    with pytest.raises(ValueError, match="needs one text"):
        rewritten(body, listed, replaced=row, blob=array(b"x"), at=one[:0], size=one)
    assert rewritten(body, listed) is body


def shifted(listed: Strings) -> Strings:
    listed.off[:] += 1
    return listed
