"""Where text can stand in an OTLP request: every field of every message of the three signals, and what its payload is.

`SCHEMA` is the whole list. A field that is not in it, or has another wire type than it says, is an unknown field; a test
compares the list with the installed protobuf descriptors.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from collector.otlp import layout as L
from collector.otlp.tables import I32
from collector.signals import Signal


class Place(IntEnum):
    """What a leaf belongs to. Nested values and keys have the place of the attribute, or body, around them."""

    UNKNOWN_FIELD = 0
    RESOURCE_ATTRIBUTE = 1
    SCOPE_ATTRIBUTE = 2
    SPAN_ATTRIBUTE = 3
    EVENT_ATTRIBUTE = 4
    LINK_ATTRIBUTE = 5
    SPAN_NAME = 6
    EVENT_NAME = 7
    SCOPE_NAME = 8
    SCOPE_VERSION = 9
    STATUS_MESSAGE = 10
    TRACE_STATE = 11
    SCHEMA_URL = 12
    LOG_BODY = 13
    LOG_ATTRIBUTE = 14
    SEVERITY_TEXT = 15
    LOG_EVENT_NAME = 16
    METRIC_NAME = 17
    METRIC_DESCRIPTION = 18
    METRIC_UNIT = 19
    METRIC_METADATA = 20
    POINT_ATTRIBUTE = 21
    EXEMPLAR_ATTRIBUTE = 22
    ENTITY_TYPE = 23
    ENTITY_KEY = 24  # of a resource attribute, named by an entity reference
    ID = 25  # a trace or span id that is none, as it is not 16 or 8 bytes


class Kind(IntEnum):
    """What the payload of a leaf is."""

    TEXT = 0
    BYTES = 1
    KEY = 2  # the key of an attribute, at any depth
    INT = 3
    DOUBLE = 4
    UNKNOWN = 5  # the payload of an unknown field, of any wire type


class Message(IntEnum):
    """The message types."""

    TRACES_REQUEST = 0
    LOGS_REQUEST = 1
    METRICS_REQUEST = 2
    RESOURCE_SPANS = 3
    RESOURCE_LOGS = 4
    RESOURCE_METRICS = 5
    SCOPE_SPANS = 6
    SCOPE_LOGS = 7
    SCOPE_METRICS = 8
    RESOURCE = 9
    ENTITY_REF = 10
    SCOPE = 11
    SPAN = 12  # the items of a request: SPAN to METRIC
    LOG_RECORD = 13
    METRIC = 14
    EVENT = 15
    LINK = 16
    STATUS = 17
    GAUGE = 18
    SUM = 19
    HISTOGRAM = 20
    EXPONENTIAL_HISTOGRAM = 21
    SUMMARY = 22
    NUMBER_POINT = 23
    HISTOGRAM_POINT = 24
    EXPONENTIAL_HISTOGRAM_POINT = 25
    SUMMARY_POINT = 26
    BUCKETS = 27
    QUANTILE = 28
    EXEMPLAR = 29
    KEY_VALUE = 30
    ANY_VALUE = 31
    ARRAY_VALUE = 32
    KEY_VALUE_LIST = 33


# What a kernel does with a field; nothing is listed of the first two, a LEN payload of those from CHILD on
SKIP, PACKED, INT, DOUBLE, CHILD, TEXT, KEY, BYTES, TRACE_ID, SPAN_ID = range(1, 11)

# A rule as one number: the wire type in its low bits, then the action, the place, the child's message type
ACTION, PLACE, CHILD_TYPE = 3, 8, 16

_Fields = dict[int, int]


def _rule(wire: int, action: int, place: int = 0, child_type: int = 0) -> int:
    return wire | action << ACTION | place << PLACE | child_type << CHILD_TYPE


def _plain(wire: int, *numbers: int) -> _Fields:
    """Fields that hold no text: counts, times, measured values."""
    return {number: _rule(wire, SKIP) for number in numbers}


def _packed(wire: int, *numbers: int) -> _Fields:
    """Repeated numbers, one per field or all in one."""
    return {number: _rule(wire, PACKED) for number in numbers}


def _message(child_type: Message) -> int:
    return _rule(L.LEN, CHILD, 0, child_type)


def _attributes(place: Place) -> int:
    return _rule(L.LEN, CHILD, place, Message.KEY_VALUE)


def _text(place: Place) -> int:
    return _rule(L.LEN, TEXT, place)


_TRACE_ID, _SPAN_ID = _rule(L.LEN, TRACE_ID, Place.ID), _rule(L.LEN, SPAN_ID, Place.ID)
_ENTITY_KEY = _rule(L.LEN, KEY, Place.ENTITY_KEY)

#: Message type → field number → rule. Leaves of a KeyValue, and of what is below it, take the place of the field it is in.
SCHEMA: dict[Message, _Fields] = {
    # One resource, its scopes, what they say
    Message.TRACES_REQUEST: {1: _message(Message.RESOURCE_SPANS)},
    Message.LOGS_REQUEST: {1: _message(Message.RESOURCE_LOGS)},
    Message.METRICS_REQUEST: {1: _message(Message.RESOURCE_METRICS)},
    Message.RESOURCE_SPANS: {
        1: _message(Message.RESOURCE),
        2: _message(Message.SCOPE_SPANS),
        3: _text(Place.SCHEMA_URL),
    },
    Message.RESOURCE_LOGS: {
        1: _message(Message.RESOURCE),
        2: _message(Message.SCOPE_LOGS),
        3: _text(Place.SCHEMA_URL),
    },
    Message.RESOURCE_METRICS: {
        1: _message(Message.RESOURCE),
        2: _message(Message.SCOPE_METRICS),
        3: _text(Place.SCHEMA_URL),
    },
    Message.SCOPE_SPANS: {1: _message(Message.SCOPE), 2: _message(Message.SPAN), 3: _text(Place.SCHEMA_URL)},
    Message.SCOPE_LOGS: {1: _message(Message.SCOPE), 2: _message(Message.LOG_RECORD), 3: _text(Place.SCHEMA_URL)},
    Message.SCOPE_METRICS: {1: _message(Message.SCOPE), 2: _message(Message.METRIC), 3: _text(Place.SCHEMA_URL)},
    Message.RESOURCE: {
        1: _attributes(Place.RESOURCE_ATTRIBUTE),
        3: _message(Message.ENTITY_REF),
        **_plain(L.VARINT, 2),
    },
    Message.ENTITY_REF: {1: _text(Place.SCHEMA_URL), 2: _text(Place.ENTITY_TYPE), 3: _ENTITY_KEY, 4: _ENTITY_KEY},
    Message.SCOPE: {
        1: _text(Place.SCOPE_NAME),
        2: _text(Place.SCOPE_VERSION),
        3: _attributes(Place.SCOPE_ATTRIBUTE),
        **_plain(L.VARINT, 4),
    },
    # Spans
    Message.SPAN: {
        1: _TRACE_ID,
        2: _SPAN_ID,
        3: _text(Place.TRACE_STATE),
        4: _SPAN_ID,
        5: _text(Place.SPAN_NAME),
        9: _attributes(Place.SPAN_ATTRIBUTE),
        11: _message(Message.EVENT),
        13: _message(Message.LINK),
        15: _message(Message.STATUS),
        **_plain(L.VARINT, 6, 10, 12, 14),
        **_plain(L.FIXED64, 7, 8),
        **_plain(L.FIXED32, 16),
    },
    Message.EVENT: {
        2: _text(Place.EVENT_NAME),
        3: _attributes(Place.EVENT_ATTRIBUTE),
        **_plain(L.FIXED64, 1),
        **_plain(L.VARINT, 4),
    },
    Message.LINK: {
        1: _TRACE_ID,
        2: _SPAN_ID,
        3: _text(Place.TRACE_STATE),
        4: _attributes(Place.LINK_ATTRIBUTE),
        **_plain(L.VARINT, 5),
        **_plain(L.FIXED32, 6),
    },
    Message.STATUS: {2: _text(Place.STATUS_MESSAGE), **_plain(L.VARINT, 3)},
    # Log records
    Message.LOG_RECORD: {
        3: _text(Place.SEVERITY_TEXT),
        5: _rule(L.LEN, CHILD, Place.LOG_BODY, Message.ANY_VALUE),
        6: _attributes(Place.LOG_ATTRIBUTE),
        9: _TRACE_ID,
        10: _SPAN_ID,
        12: _text(Place.LOG_EVENT_NAME),
        **_plain(L.FIXED64, 1, 11),
        **_plain(L.VARINT, 2, 7),
        **_plain(L.FIXED32, 8),
    },
    # Metrics
    Message.METRIC: {
        1: _text(Place.METRIC_NAME),
        2: _text(Place.METRIC_DESCRIPTION),
        3: _text(Place.METRIC_UNIT),
        5: _message(Message.GAUGE),
        7: _message(Message.SUM),
        9: _message(Message.HISTOGRAM),
        10: _message(Message.EXPONENTIAL_HISTOGRAM),
        11: _message(Message.SUMMARY),
        12: _attributes(Place.METRIC_METADATA),
    },
    Message.GAUGE: {1: _message(Message.NUMBER_POINT)},
    Message.SUM: {1: _message(Message.NUMBER_POINT), **_plain(L.VARINT, 2, 3)},
    Message.HISTOGRAM: {1: _message(Message.HISTOGRAM_POINT), **_plain(L.VARINT, 2)},
    Message.EXPONENTIAL_HISTOGRAM: {1: _message(Message.EXPONENTIAL_HISTOGRAM_POINT), **_plain(L.VARINT, 2)},
    Message.SUMMARY: {1: _message(Message.SUMMARY_POINT)},
    Message.NUMBER_POINT: {
        5: _message(Message.EXEMPLAR),
        7: _attributes(Place.POINT_ATTRIBUTE),
        **_plain(L.FIXED64, 2, 3, 4, 6),
        **_plain(L.VARINT, 8),
    },
    Message.HISTOGRAM_POINT: {
        8: _message(Message.EXEMPLAR),
        9: _attributes(Place.POINT_ATTRIBUTE),
        **_plain(L.FIXED64, 2, 3, 4, 5, 11, 12),
        **_packed(L.FIXED64, 6, 7),
        **_plain(L.VARINT, 10),
    },
    Message.EXPONENTIAL_HISTOGRAM_POINT: {
        1: _attributes(Place.POINT_ATTRIBUTE),
        8: _message(Message.BUCKETS),
        9: _message(Message.BUCKETS),
        11: _message(Message.EXEMPLAR),
        **_plain(L.FIXED64, 2, 3, 4, 5, 7, 12, 13, 14),
        **_plain(L.VARINT, 6, 10),
    },
    Message.SUMMARY_POINT: {
        6: _message(Message.QUANTILE),
        7: _attributes(Place.POINT_ATTRIBUTE),
        **_plain(L.FIXED64, 2, 3, 4, 5),
        **_plain(L.VARINT, 8),
    },
    Message.BUCKETS: {**_plain(L.VARINT, 1), **_packed(L.VARINT, 2)},
    Message.QUANTILE: _plain(L.FIXED64, 1, 2),
    Message.EXEMPLAR: {
        4: _SPAN_ID,
        5: _TRACE_ID,
        7: _attributes(Place.EXEMPLAR_ATTRIBUTE),
        **_plain(L.FIXED64, 2, 3, 6),
    },
    # Attributes; key_strindex and string_value_strindex name texts of a table that only profiles have
    Message.KEY_VALUE: {1: _rule(L.LEN, KEY), 2: _message(Message.ANY_VALUE)},
    Message.ANY_VALUE: {
        1: _rule(L.LEN, TEXT),
        2: _rule(L.VARINT, SKIP),
        3: _rule(L.VARINT, INT),
        4: _rule(L.FIXED64, DOUBLE),
        5: _message(Message.ARRAY_VALUE),
        6: _message(Message.KEY_VALUE_LIST),
        7: _rule(L.LEN, BYTES),
        8: _rule(L.VARINT, INT),
    },
    Message.ARRAY_VALUE: {1: _message(Message.ANY_VALUE)},
    Message.KEY_VALUE_LIST: {1: _message(Message.KEY_VALUE)},
}
FIELDS = 1 + max(number for fields in SCHEMA.values() for number in fields)


def _table() -> I32:
    table = np.zeros((len(Message), FIELDS), np.int32)
    for message, fields in SCHEMA.items():
        for number, rule in fields.items():
            table[message, number] = rule
    return table


#: The schema for kernels: TABLE[message type, field number], 0 for unknown fields
TABLE = _table()

REQUESTS = {
    Signal.TRACES: Message.TRACES_REQUEST,
    Signal.LOGS: Message.LOGS_REQUEST,
    Signal.METRICS: Message.METRICS_REQUEST,
}
