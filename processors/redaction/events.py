"""Which leaves stand in an event, or a log record, that is content as a whole."""

from __future__ import annotations

import numpy as np

from collector.otlp import gather, interning
from collector.otlp.strings import Kind, Place, Strings
from collector.otlp.tables import I32, I64, U8, Text, Traces
from collector.signals import Signal
from processors.redaction.content import Content, Places

#: Attributes that name a log record's event, where its own field does not.
_NAMES = ("event.name", "event_name")


def content_of_events(leaves: Strings, data: U8, traces: Traces | None, places: Places) -> U8 | None:
    """Per leaf what its event is, as `Content`; None where no event of the request is content."""
    if leaves.signal is Signal.TRACES and traces is not None and len(traces.events.span):
        return _of_spans(leaves, traces, places)
    if leaves.signal is Signal.LOGS:
        return _of_records(leaves, data, places)
    return None


def _of_spans(leaves: Strings, traces: Traces, places: Places) -> U8 | None:
    codes, names = gather.text_codes(traces, traces.events.name)
    content = np.array([places.event(name) for name in names.to_pylist()], np.uint8)
    if not content.any():
        return None
    rows = np.flatnonzero(leaves.place == Place.EVENT_ATTRIBUTE)
    event = np.searchsorted(traces.events.message.off, leaves.off[rows], "right") - 1
    found = np.zeros(len(leaves), np.uint8)
    found[rows] = content[codes[event]]
    return found


def _of_records(leaves: Strings, data: U8, places: Places) -> U8 | None:
    named = leaves.place == Place.LOG_EVENT_NAME
    wanted = np.array([*(key in _NAMES for key in leaves.keys), False])
    named |= (leaves.place == Place.LOG_ATTRIBUTE) & (leaves.kind == Kind.TEXT) & wanted[leaves.key]
    rows = np.flatnonzero(named)
    if not len(rows):
        return None
    codes, first = _texts(data, leaves.off[rows], leaves.size[rows])
    names = [data[leaves.off[row] : leaves.off[row] + leaves.size[row]].tobytes() for row in rows[first].tolist()]
    content = np.array([places.event(name.decode("utf-8", "replace")) for name in names], np.uint8)
    if not content.any():
        return None
    of_item = np.zeros(leaves.items + 1, np.uint8)  # the last one: of no record
    np.maximum.at(of_item, leaves.item[rows], content[codes])
    of_item[-1] = Content.NONE
    found: U8 = of_item[leaves.item]
    found[(leaves.place != Place.LOG_BODY) & (leaves.place != Place.LOG_ATTRIBUTE)] = Content.NONE
    found[_kept_members(leaves, data, found, places)] = Content.NONE
    return found


def _kept_members(leaves: Strings, data: U8, content: U8, places: Places) -> I64:
    """Values in bodies that are maps, under keys that are no content: `role`, `index`."""
    body = (content != Content.NONE) & (leaves.place == Place.LOG_BODY)
    keys = np.flatnonzero(body & (leaves.kind == Kind.KEY))
    keys = keys[keys + 1 < len(leaves)]
    keys = keys[body[keys + 1] & (leaves.kind[keys + 1] != Kind.KEY)]  # a value's key stands right before it
    if not len(keys):
        return np.empty(0, np.int64)
    codes, first = _texts(data, leaves.off[keys], leaves.size[keys])
    names = [data[leaves.off[row] : leaves.off[row] + leaves.size[row]].tobytes() for row in keys[first].tolist()]
    kept = np.array([places.kept_of_events(name.decode("utf-8", "replace")) for name in names], np.bool_)
    rows: I64 = keys[kept[codes]] + 1
    return rows


def _texts(data: U8, off: I64, size: I32) -> tuple[I32, I64]:
    result: tuple[I32, I64] = interning.texts(data, Text(np.ascontiguousarray(off), np.ascontiguousarray(size)))
    return result
