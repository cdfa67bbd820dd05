"""What a text in a request belongs to, and what its payload is."""

from __future__ import annotations

from enum import IntEnum


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
    UNKNOWN = 5  # an unknown field, of any wire type
