"""OTLP's messages as one table: what every field of all three signals is to the checker, and what text it can hold.

`SCHEMA[message type, field number]` is for `checking`: whether the field is a message, a string, an id or packed numbers; 0 if it
is none of these. `RULES` is the same for `walking`, with what is listed of the field and under which place; 0 there means that
OTLP has no such field. A test compares both with protobuf's own descriptors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from collector.otlp import layout as L
from collector.otlp.places import Place
from collector.signals import Signal

# Message types. ID_KEY stands for the strings of an EntityRef, so that they can be counted too.
(
    TRACES, RESOURCE_SPANS, SCOPE_SPANS, SPAN, EVENT, LINK, STATUS,
    LOGS, RESOURCE_LOGS, SCOPE_LOGS, LOG_RECORD,
    METRICS, RESOURCE_METRICS, SCOPE_METRICS, METRIC, GAUGE, SUM, HISTOGRAM, EXPONENTIAL_HISTOGRAM, SUMMARY,
    NUMBER_POINT, HISTOGRAM_POINT, EXPONENTIAL_POINT, BUCKETS, SUMMARY_POINT, QUANTILE, EXEMPLAR,
    RESOURCE, SCOPE, KEY_VALUE, ANY_VALUE, ARRAY_VALUE, KEY_VALUE_LIST, ENTITY_REF, ID_KEY,
) = range(35)  # fmt: skip
TYPES = 35
FIELDS = 17

#: The message that a request of each signal is.
REQUESTS = {Signal.TRACES: TRACES, Signal.LOGS: LOGS, Signal.METRICS: METRICS}

# A rule: in its low bits the type of the message (or of what is counted like one), then
TYPE = 0x3F
MESSAGE, STRING = 0x40, 0x80
SINGLE, ONEOF = 0x100, 0x200  # a message that may stand once; a member of a oneof, of which a message has one at most
TRACE_ID, SPAN_ID = 0x400, 0x800  # without which a span is none
PACKED_FIXED64, PACKED_VARINT = 0x1000, 0x2000
WIRE = 14  # and the wire type it must have from this bit on; any other makes it an unknown field
LISTED = 17  # what is listed of it from this bit on (4 bits)
PLACE = 21  # and its Place from this bit on; none: that of the message around it

# What is listed; 0 for an unknown field. Of ids only those that are none, by their length.
NOTHING, INT, DOUBLE, TEXT, KEY, BYTES, ID16, ID8 = range(1, 9)

_LEN = L.LEN << WIRE
_KNOWN = NOTHING << LISTED
#: Numbers, enums, flags: no text.
_VARINT, _FIXED64, _FIXED32 = _KNOWN, _KNOWN | L.FIXED64 << WIRE, _KNOWN | L.FIXED32 << WIRE
#: Repeated numbers, packed or one per field.
_FIXED_NUMBERS, _VARINT_NUMBERS = _KNOWN | _LEN | PACKED_FIXED64, _KNOWN | _LEN | PACKED_VARINT


def _many(type_: int) -> int:
    return _KNOWN | _LEN | MESSAGE | type_


def _one(type_: int) -> int:
    return _many(type_) | SINGLE


def _either(type_: int) -> int:
    return _many(type_) | ONEOF


def _at(place: Place, rule: int) -> int:
    return rule | place << PLACE


def _text(place: Place) -> int:
    return _at(place, _LEN | STRING | TEXT << LISTED)


def _attributes(place: Place) -> int:
    return _at(place, _many(KEY_VALUE))


_ID16, _ID8 = _at(Place.ID, _LEN | ID16 << LISTED), _at(Place.ID, _LEN | ID8 << LISTED)
_KEY = _LEN | STRING | KEY << LISTED
_ENTITY_KEY = _at(Place.ENTITY_KEY, _KEY | ID_KEY)
_SCHEMA_URL = _text(Place.SCHEMA_URL)
#: The value of a data point or an exemplar: a double or a 64-bit number.
_NUMBER = _FIXED64 | ONEOF

_RULES: dict[int, dict[int, int]] = {
    RESOURCE: {1: _attributes(Place.RESOURCE_ATTRIBUTE), 2: _VARINT, 3: _many(ENTITY_REF)},
    SCOPE: {
        1: _text(Place.SCOPE_NAME),
        2: _text(Place.SCOPE_VERSION),
        3: _attributes(Place.SCOPE_ATTRIBUTE),
        4: _VARINT,
    },
    # Without its key_strindex, which names a text of a table that only profiles have
    KEY_VALUE: {1: _KEY, 2: _one(ANY_VALUE)},
    ANY_VALUE: {
        1: _LEN | STRING | TEXT << LISTED | ONEOF,
        2: _VARINT | ONEOF,
        3: INT << LISTED | ONEOF,
        4: L.FIXED64 << WIRE | DOUBLE << LISTED | ONEOF,
        5: _either(ARRAY_VALUE),
        6: _either(KEY_VALUE_LIST),
        7: _LEN | BYTES << LISTED | ONEOF,
        8: INT << LISTED | ONEOF,  # as key_strindex
    },
    ARRAY_VALUE: {1: _many(ANY_VALUE)},
    KEY_VALUE_LIST: {1: _many(KEY_VALUE)},
    ENTITY_REF: {1: _SCHEMA_URL, 2: _text(Place.ENTITY_TYPE), 3: _ENTITY_KEY, 4: _ENTITY_KEY},
    # traces
    TRACES: {1: _many(RESOURCE_SPANS)},
    RESOURCE_SPANS: {1: _one(RESOURCE), 2: _many(SCOPE_SPANS), 3: _SCHEMA_URL},
    SCOPE_SPANS: {1: _one(SCOPE), 2: _many(SPAN), 3: _SCHEMA_URL},
    SPAN: {
        1: _ID16 | TRACE_ID,
        2: _ID8 | SPAN_ID,
        3: _text(Place.TRACE_STATE),
        4: _ID8,
        5: _text(Place.SPAN_NAME),
        6: _VARINT,
        7: _FIXED64,
        8: _FIXED64,
        9: _attributes(Place.SPAN_ATTRIBUTE),
        10: _VARINT,
        11: _many(EVENT),
        12: _VARINT,
        13: _many(LINK),
        14: _VARINT,
        15: _one(STATUS),
        16: _FIXED32,
    },
    EVENT: {1: _FIXED64, 2: _text(Place.EVENT_NAME), 3: _attributes(Place.EVENT_ATTRIBUTE), 4: _VARINT},
    LINK: {
        1: _ID16,
        2: _ID8,
        3: _text(Place.TRACE_STATE),
        4: _attributes(Place.LINK_ATTRIBUTE),
        5: _VARINT,
        6: _FIXED32,
    },
    STATUS: {2: _text(Place.STATUS_MESSAGE), 3: _VARINT},
    # logs
    LOGS: {1: _many(RESOURCE_LOGS)},
    RESOURCE_LOGS: {1: _one(RESOURCE), 2: _many(SCOPE_LOGS), 3: _SCHEMA_URL},
    SCOPE_LOGS: {1: _one(SCOPE), 2: _many(LOG_RECORD), 3: _SCHEMA_URL},
    LOG_RECORD: {
        1: _FIXED64,
        2: _VARINT,
        3: _text(Place.SEVERITY_TEXT),
        5: _at(Place.LOG_BODY, _one(ANY_VALUE)),
        6: _attributes(Place.LOG_ATTRIBUTE),
        7: _VARINT,
        8: _FIXED32,
        9: _ID16,
        10: _ID8,
        11: _FIXED64,
        12: _text(Place.LOG_EVENT_NAME),
    },
    # metrics
    METRICS: {1: _many(RESOURCE_METRICS)},
    RESOURCE_METRICS: {1: _one(RESOURCE), 2: _many(SCOPE_METRICS), 3: _SCHEMA_URL},
    SCOPE_METRICS: {1: _one(SCOPE), 2: _many(METRIC), 3: _SCHEMA_URL},
    METRIC: {
        1: _text(Place.METRIC_NAME),
        2: _text(Place.METRIC_DESCRIPTION),
        3: _text(Place.METRIC_UNIT),
        5: _either(GAUGE),
        7: _either(SUM),
        9: _either(HISTOGRAM),
        10: _either(EXPONENTIAL_HISTOGRAM),
        11: _either(SUMMARY),
        12: _attributes(Place.METRIC_METADATA),
    },
    GAUGE: {1: _many(NUMBER_POINT)},
    SUM: {1: _many(NUMBER_POINT), 2: _VARINT, 3: _VARINT},
    HISTOGRAM: {1: _many(HISTOGRAM_POINT), 2: _VARINT},
    EXPONENTIAL_HISTOGRAM: {1: _many(EXPONENTIAL_POINT), 2: _VARINT},
    SUMMARY: {1: _many(SUMMARY_POINT)},
    NUMBER_POINT: {
        2: _FIXED64,
        3: _FIXED64,
        4: _NUMBER,
        5: _many(EXEMPLAR),
        6: _NUMBER,
        7: _attributes(Place.POINT_ATTRIBUTE),
        8: _VARINT,
    },
    HISTOGRAM_POINT: {
        2: _FIXED64,
        3: _FIXED64,
        4: _FIXED64,
        5: _FIXED64,
        6: _FIXED_NUMBERS,
        7: _FIXED_NUMBERS,
        8: _many(EXEMPLAR),
        9: _attributes(Place.POINT_ATTRIBUTE),
        10: _VARINT,
        11: _FIXED64,
        12: _FIXED64,
    },
    EXPONENTIAL_POINT: {
        1: _attributes(Place.POINT_ATTRIBUTE),
        2: _FIXED64,
        3: _FIXED64,
        4: _FIXED64,
        5: _FIXED64,
        6: _VARINT,
        7: _FIXED64,
        8: _one(BUCKETS),
        9: _one(BUCKETS),
        10: _VARINT,
        11: _many(EXEMPLAR),
        12: _FIXED64,
        13: _FIXED64,
        14: _FIXED64,
    },
    BUCKETS: {1: _VARINT, 2: _VARINT_NUMBERS},
    SUMMARY_POINT: {
        2: _FIXED64,
        3: _FIXED64,
        4: _FIXED64,
        5: _FIXED64,
        6: _many(QUANTILE),
        7: _attributes(Place.POINT_ATTRIBUTE),
        8: _VARINT,
    },
    QUANTILE: {1: _FIXED64, 2: _FIXED64},
    EXEMPLAR: {
        2: _FIXED64,
        3: _NUMBER,
        4: _ID8,
        5: _ID16,
        6: _NUMBER,
        7: _attributes(Place.EXEMPLAR_ATTRIBUTE),
    },
}


def _table() -> NDArray[np.int32]:
    table = np.zeros((TYPES, FIELDS), np.int32)
    for message, rules in _RULES.items():
        for number, rule in rules.items():
            table[message, number] = rule
    return table


RULES = _table()
SCHEMA = RULES & (1 << LISTED) - 1
