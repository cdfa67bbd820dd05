"""OTLP's numbers: the wire types, and the tag (field number << 3 | wire type) of each field that is read."""

from __future__ import annotations

# Wire types
VARINT, FIXED64, LEN, GROUP, END_GROUP, FIXED32 = 0, 1, 2, 3, 4, 5

# Down to the items, and with the same numbers, the requests of logs and metrics are as those of spans.
REQUEST_RESOURCE_SPANS = 1 << 3 | LEN

RESOURCE_SPANS_RESOURCE = 1 << 3 | LEN
RESOURCE_SPANS_SCOPE_SPANS = 2 << 3 | LEN
RESOURCE_SPANS_SCHEMA_URL = 3 << 3 | LEN

RESOURCE_ATTRIBUTES = 1 << 3 | LEN

SCOPE_SPANS_SCOPE = 1 << 3 | LEN
SCOPE_SPANS_SPANS = 2 << 3 | LEN
SCOPE_SPANS_SCHEMA_URL = 3 << 3 | LEN

SCOPE_NAME = 1 << 3 | LEN
SCOPE_VERSION = 2 << 3 | LEN
SCOPE_ATTRIBUTES = 3 << 3 | LEN

SPAN_TRACE_ID = 1 << 3 | LEN
SPAN_SPAN_ID = 2 << 3 | LEN
SPAN_TRACE_STATE = 3 << 3 | LEN
SPAN_PARENT_SPAN_ID = 4 << 3 | LEN
SPAN_NAME = 5 << 3 | LEN
SPAN_KIND = 6 << 3 | VARINT
SPAN_START = 7 << 3 | FIXED64
SPAN_END = 8 << 3 | FIXED64
SPAN_ATTRIBUTES = 9 << 3 | LEN
SPAN_EVENTS = 11 << 3 | LEN
SPAN_LINKS = 13 << 3 | LEN
SPAN_STATUS = 15 << 3 | LEN
SPAN_FLAGS = 16 << 3 | FIXED32

STATUS_MESSAGE = 2 << 3 | LEN
STATUS_CODE = 3 << 3 | VARINT

EVENT_TIME = 1 << 3 | FIXED64
EVENT_NAME = 2 << 3 | LEN
EVENT_ATTRIBUTES = 3 << 3 | LEN

LINK_TRACE_ID = 1 << 3 | LEN
LINK_SPAN_ID = 2 << 3 | LEN
LINK_TRACE_STATE = 3 << 3 | LEN
LINK_ATTRIBUTES = 4 << 3 | LEN

LOG_TIME = 1 << 3 | FIXED64
LOG_SEVERITY_NUMBER = 2 << 3 | VARINT
LOG_SEVERITY_TEXT = 3 << 3 | LEN
LOG_BODY = 5 << 3 | LEN
LOG_ATTRIBUTES = 6 << 3 | LEN
LOG_FLAGS = 8 << 3 | FIXED32
LOG_TRACE_ID = 9 << 3 | LEN
LOG_SPAN_ID = 10 << 3 | LEN
LOG_OBSERVED_TIME = 11 << 3 | FIXED64
LOG_EVENT_NAME = 12 << 3 | LEN

KEY_VALUE_KEY = 1 << 3 | LEN
KEY_VALUE_VALUE = 2 << 3 | LEN

ANY_STRING = 1 << 3 | LEN
ANY_BOOL = 2 << 3 | VARINT
ANY_INT = 3 << 3 | VARINT
ANY_DOUBLE = 4 << 3 | FIXED64
ANY_ARRAY = 5 << 3 | LEN
ANY_KVLIST = 6 << 3 | LEN
ANY_BYTES = 7 << 3 | LEN
ANY_STRING_INDEX = 8 << 3 | VARINT  # a place in a table that traces do not have: no value

VALUES = 1 << 3 | LEN  # of ArrayValue and of KeyValueList

# The kinds of an AnyValue, as in tables.ValueType
EMPTY, STRING, BOOL, INT, DOUBLE, ARRAY, KVLIST, BYTES = range(8)
