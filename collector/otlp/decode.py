"""Request bytes to tables, in one go for any number of requests.

Serialized requests concatenate: `b"".join(bodies)` is one request with the spans of all of them.
Level by level: the request's resources, their scopes, the scopes' spans, the spans' events and links; then all attributes.
"""

from __future__ import annotations

import numpy as np

from collector.otlp import kernels, levels
from collector.otlp import layout as L
from collector.otlp.tables import (
    U8,
    EventTable,
    LinkTable,
    Owner,
    SpanTable,
    Traces,
)


def decode(data: bytes) -> Traces:
    """The spans of one or more ExportTraceServiceRequest bodies that `check` has passed; rows stand in wire order.

    Raises Malformed for what is no well-formed request. Of repeated singular fields the last one counts (`check`
    merges repeated messages before they come here).
    """
    return read(np.frombuffer(data, dtype=np.uint8))


def read(body: U8, count: int | None = None) -> Traces:
    """As `decode`, from an array of bytes. count: how many spans there are, if that is known."""
    attributes = levels.Attributes(body)
    groups = levels.groups(body, _SPAN, L.SPAN_ATTRIBUTES, attributes, count)
    spans, span = groups.items, groups.items.fields
    status = levels.pick(body, span.text(5), _STATUS)
    events = levels.children(body, spans.message, L.SPAN_EVENTS, span.counts[0])
    event = levels.pick(body, events.message, _EVENT)
    links = levels.children(body, spans.message, L.SPAN_LINKS, span.counts[1])
    link = levels.pick(body, links.message, _LINK)
    of_events = attributes.add(Owner.EVENT, events.message, L.EVENT_ATTRIBUTES, event.counts[0])
    of_links = attributes.add(Owner.LINK, links.message, L.LINK_ATTRIBUTES, link.counts[0])
    table, keys = attributes.table()
    trace_id, span_id, parent = span.text(0), span.text(1), span.text(3)
    ids = np.empty((4, len(spans.parent)), np.int64)
    kernels.ids(body, trace_id.off, trace_id.len, span_id.off, span_id.len, parent.off, parent.len, ids)
    return Traces(
        data=body,
        resources=groups.resources,
        scopes=groups.scopes,
        spans=SpanTable(
            scope=spans.parent,
            resource=groups.resource_of_items,
            message=spans.message,
            trace_id=trace_id,
            span_id=span_id,
            parent_span_id=parent,
            ids=ids,
            trace_state=span.text(2),
            name=span.text(4),
            kind=span.numbers(6).astype(np.int32),
            start_ns=span.numbers(7).view(np.uint64),
            end_ns=span.numbers(8).view(np.uint64),
            status_code=status.numbers(1).astype(np.int32),
            status_message=status.text(0),
            flags=span.numbers(9).astype(np.uint32),
            attributes=spans.attributes,
            event_start=events.ranges.start,
            event_end=events.ranges.end,
            link_start=links.ranges.start,
            link_end=links.ranges.end,
        ),
        events=EventTable(events.parent, events.message, event.numbers(1).view(np.uint64), event.text(0), of_events),
        links=LinkTable(links.parent, links.message, link.text(0), link.text(1), link.text(2), of_links),
        attributes=table,
        keys=keys,
    )


_SPAN = levels.fields(
    L.SPAN_TRACE_ID,
    L.SPAN_SPAN_ID,
    L.SPAN_TRACE_STATE,
    L.SPAN_PARENT_SPAN_ID,
    L.SPAN_NAME,
    L.SPAN_STATUS,
    L.SPAN_KIND,
    L.SPAN_START,
    L.SPAN_END,
    L.SPAN_FLAGS,
    counted=(L.SPAN_EVENTS, L.SPAN_LINKS),
)
_STATUS = levels.fields(L.STATUS_MESSAGE, L.STATUS_CODE)
_EVENT = levels.fields(L.EVENT_NAME, L.EVENT_TIME, counted=(L.EVENT_ATTRIBUTES,))
_LINK = levels.fields(L.LINK_TRACE_ID, L.LINK_SPAN_ID, L.LINK_TRACE_STATE, counted=(L.LINK_ATTRIBUTES,))
