"""OTLP's messages as one table: which fields hold messages, strings, ids or packed numbers, for all three signals.

`SCHEMA[message type, field number]` is a rule, 0 for a field about which there is nothing to say: a number, an enum, bytes.
A test compares it with protobuf's own descriptors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from collector.otlp import layout as L
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

_LEN, _FIXED64 = L.LEN << WIRE, L.FIXED64 << WIRE
_TEXT = _LEN | STRING


def _many(type_: int) -> int:
    return _LEN | MESSAGE | type_


def _one(type_: int) -> int:
    return _many(type_) | SINGLE


def _either(type_: int) -> int:
    return _many(type_) | ONEOF


_ATTRIBUTES = _many(KEY_VALUE)
#: The value of a data point or an exemplar: a double or a 64-bit number.
_NUMBER = _FIXED64 | ONEOF
_RULES: dict[int, dict[int, int]] = {
    RESOURCE: {1: _ATTRIBUTES, 3: _many(ENTITY_REF)},
    SCOPE: {1: _TEXT, 2: _TEXT, 3: _ATTRIBUTES},
    KEY_VALUE: {1: _TEXT, 2: _one(ANY_VALUE)},
    ANY_VALUE: {
        1: _TEXT | ONEOF,
        2: ONEOF,
        3: ONEOF,
        4: _FIXED64 | ONEOF,
        5: _either(ARRAY_VALUE),
        6: _either(KEY_VALUE_LIST),
        7: _LEN | ONEOF,
        8: ONEOF,
    },
    ARRAY_VALUE: {1: _many(ANY_VALUE)},
    KEY_VALUE_LIST: {1: _ATTRIBUTES},
    ENTITY_REF: {1: _TEXT, 2: _TEXT, 3: _TEXT | ID_KEY, 4: _TEXT | ID_KEY},
    # traces
    TRACES: {1: _many(RESOURCE_SPANS)},
    RESOURCE_SPANS: {1: _one(RESOURCE), 2: _many(SCOPE_SPANS), 3: _TEXT},
    SCOPE_SPANS: {1: _one(SCOPE), 2: _many(SPAN), 3: _TEXT},
    SPAN: {
        1: _LEN | TRACE_ID,
        2: _LEN | SPAN_ID,
        3: _TEXT,
        5: _TEXT,
        9: _ATTRIBUTES,
        11: _many(EVENT),
        13: _many(LINK),
        15: _one(STATUS),
    },
    EVENT: {2: _TEXT, 3: _ATTRIBUTES},
    LINK: {3: _TEXT, 4: _ATTRIBUTES},
    STATUS: {2: _TEXT},
    # logs
    LOGS: {1: _many(RESOURCE_LOGS)},
    RESOURCE_LOGS: {1: _one(RESOURCE), 2: _many(SCOPE_LOGS), 3: _TEXT},
    SCOPE_LOGS: {1: _one(SCOPE), 2: _many(LOG_RECORD), 3: _TEXT},
    LOG_RECORD: {3: _TEXT, 5: _one(ANY_VALUE), 6: _ATTRIBUTES, 12: _TEXT},
    # metrics
    METRICS: {1: _many(RESOURCE_METRICS)},
    RESOURCE_METRICS: {1: _one(RESOURCE), 2: _many(SCOPE_METRICS), 3: _TEXT},
    SCOPE_METRICS: {1: _one(SCOPE), 2: _many(METRIC), 3: _TEXT},
    METRIC: {
        1: _TEXT,
        2: _TEXT,
        3: _TEXT,
        5: _either(GAUGE),
        7: _either(SUM),
        9: _either(HISTOGRAM),
        10: _either(EXPONENTIAL_HISTOGRAM),
        11: _either(SUMMARY),
        12: _ATTRIBUTES,
    },
    GAUGE: {1: _many(NUMBER_POINT)},
    SUM: {1: _many(NUMBER_POINT)},
    HISTOGRAM: {1: _many(HISTOGRAM_POINT)},
    EXPONENTIAL_HISTOGRAM: {1: _many(EXPONENTIAL_POINT)},
    SUMMARY: {1: _many(SUMMARY_POINT)},
    NUMBER_POINT: {4: _NUMBER, 5: _many(EXEMPLAR), 6: _NUMBER, 7: _ATTRIBUTES},
    HISTOGRAM_POINT: {6: _LEN | PACKED_FIXED64, 7: _LEN | PACKED_FIXED64, 8: _many(EXEMPLAR), 9: _ATTRIBUTES},
    EXPONENTIAL_POINT: {1: _ATTRIBUTES, 8: _one(BUCKETS), 9: _one(BUCKETS), 11: _many(EXEMPLAR)},
    BUCKETS: {2: _LEN | PACKED_VARINT},
    SUMMARY_POINT: {6: _many(QUANTILE), 7: _ATTRIBUTES},
    EXEMPLAR: {3: _NUMBER, 6: _NUMBER, 7: _ATTRIBUTES},
}


def _schema() -> NDArray[np.int32]:
    table = np.zeros((TYPES, FIELDS), np.int32)
    for message, rules in _RULES.items():
        for number, rule in rules.items():
            table[message, number] = rule
    return table


SCHEMA = _schema()
