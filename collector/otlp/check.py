"""What is taken in: requests that are well-formed, within limits, and fit to be decoded without a second look.

Well-formed is what protobuf's own parser takes, with one exception: it refuses a whole request for a string that is not
UTF-8, we put U+FFFD in the place of what is not. A request in which nothing has to change is read once and not copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from collector.errors import Malformed, TooLarge
from collector.otlp import checking, levels
from collector.otlp import layout as L
from collector.otlp import messages as M
from collector.otlp.requests import REQUESTS
from collector.otlp.rewriting import Edits, Level, rewrite
from collector.otlp.splicing import Splice
from collector.otlp.tables import I32, I64, Owner, Text
from collector.signals import Signal


@dataclass(frozen=True, slots=True)
class Limits:
    """How much work one request may be, apart from its bytes.

    items:      spans, log records or data points, and as many metrics, resources and scopes
    attributes: attributes and the members of arrays and maps in them, and as many events, links, exemplars, quantiles
    nesting:    values inside of values (protobuf's own limit, 100 messages, is reached at 33 to 50)
    """

    items: int = 250_000
    attributes: int = 2_000_000
    nesting: int = 64


@dataclass(frozen=True, slots=True)
class Checked:
    """A request as it is kept. `items`: its spans, log records or data points. `reason`: one sentence for the sender if
    spans were left out or strings repaired, or ""."""

    body: bytes
    items: int
    rejected: int
    repaired: int
    reason: str


#: The types of messages that are a signal's items.
_ITEMS = {
    Signal.TRACES: [M.SPAN],
    Signal.LOGS: [M.LOG_RECORD],
    Signal.METRICS: [M.NUMBER_POINT, M.HISTOGRAM_POINT, M.EXPONENTIAL_POINT, M.SUMMARY_POINT],
}
#: Types of which there may be as many messages as items.
_FEW = [
    *(M.RESOURCE_SPANS, M.SCOPE_SPANS, M.RESOURCE_LOGS, M.SCOPE_LOGS, M.RESOURCE_METRICS, M.SCOPE_METRICS),
    *(M.RESOURCE, M.SCOPE, M.METRIC, M.GAUGE, M.SUM, M.HISTOGRAM, M.EXPONENTIAL_HISTOGRAM, M.SUMMARY),
    *(type_ for types in _ITEMS.values() for type_ in types),
]


def check(signal: Signal, body: bytes, limits: Limits) -> Checked:
    """Check a serialized request of a signal. Gives the same bytes object if nothing had to change.

    Spans with an invalid trace id (not 16 bytes, or zeros) or span id (not 8 bytes, or zeros) are left out, as OTLP
    says; log records and exemplars need no ids. What else is wrong with the request is wrong with all of it: raises
    Malformed, or TooLarge for limits.
    """
    data = np.frombuffer(body, dtype=np.uint8)
    counts = np.zeros(M.TYPES, np.int64)
    most = _per_type(limits)
    results, edits, nodes, blob = checking.check(data, M.REQUESTS[signal], most, limits.nesting, counts)
    _raise_for(int(results[checking.R_STATUS]), signal, limits)
    items = sum(int(counts[type_]) for type_ in _ITEMS[signal])
    if items > limits.items:
        raise _too_many(REQUESTS[signal].items, limits.items)
    n_edits, n_nodes = int(results[checking.R_EDITS]), int(results[checking.R_NODES])
    if n_edits:
        splice = Splice(edits[:, :n_edits], nodes[:, :n_nodes], blob[: int(results[checking.R_BLOB])])
        body = splice.applied(data).tobytes()
    if results[checking.R_ODD]:
        canonical = check(signal, _canonical(signal, body), limits)
        body, items = canonical.body, canonical.items
    rejected, repaired = int(results[checking.R_REJECTED]), int(results[checking.R_REPAIRED])
    return Checked(body, items, rejected, repaired, _reason(rejected, repaired))


def check_traces(body: bytes, limits: Limits) -> Checked:
    """`check` of spans."""
    return check(Signal.TRACES, body, limits)


_REQUEST = levels.fields(counted=(L.REQUEST_RESOURCE_SPANS,))
_RESOURCE_SPANS = levels.fields(L.RESOURCE_SPANS_RESOURCE)
_RESOURCE = levels.fields(counted=(L.RESOURCE_ATTRIBUTES,))


def stamp(body: bytes, attributes: Mapping[str, str]) -> bytes:
    """The request, checked before, with these attributes on every resource, whatever stood there under their keys.

    Of any signal: down to the attributes of resources, the three are the same message.
    """
    data = np.frombuffer(body, dtype=np.uint8)
    whole = Text(np.zeros(1, np.int64), np.array([len(body)], np.int32))
    count = levels.pick(data, whole, _REQUEST).counts[0]
    if count == 0 or not attributes:
        return body
    groups = levels.children(data, whole, L.REQUEST_RESOURCE_SPANS, count).message
    resource = levels.pick(data, groups, _RESOURCE_SPANS).text(0)
    count = levels.pick(data, resource, _RESOURCE).counts[0]
    there = levels.Attributes(data)
    there.add(Owner.RESOURCE, resource, L.RESOURCE_ATTRIBUTES, count)
    table, keys = there.table()
    stamped = np.array([key in attributes for key in keys], np.bool_)
    out = np.flatnonzero(stamped[table.key])
    gone = Text(table.message.off[out], table.message.len[out])
    # As fields of a resource that is there, and as a resource for where there is none
    new = Resource(attributes=[KeyValue(key=k, value=AnyValue(string_value=v)) for k, v in attributes.items()])
    fields, whole_resource = new.SerializeToString(), ResourceSpans(resource=new).SerializeToString()
    has = resource.off > 0
    with_, without = np.flatnonzero(has).astype(np.int32), np.flatnonzero(~has).astype(np.int32)

    def same(rows: I32, number: int) -> I64:
        return np.full(len(rows), number, np.int64)

    edits = [
        Edits.removing(data, gone, L.RESOURCE_ATTRIBUTES, 1, table.owner[out]),
        Edits.inserting(resource.off[with_] + resource.len[with_], 1, with_, same(with_, 0), same(with_, len(fields))),
        Edits.inserting(
            groups.off[without], 0, without, same(without, len(fields)), same(without, len(whole_resource))
        ),
    ]
    rows = np.arange(len(groups.off), dtype=np.int32)
    tree = [
        Level(groups, np.empty(0, np.int32), L.REQUEST_RESOURCE_SPANS),
        Level(resource, rows, L.RESOURCE_SPANS_RESOURCE),
    ]
    return rewrite(data, tree, edits, np.frombuffer(fields + whole_resource, np.uint8)).tobytes()


@cache
def _per_type(limits: Limits) -> I64:
    """The largest number of messages of each type."""
    most = np.full(M.TYPES, limits.attributes, np.int64)
    most[_FEW] = limits.items
    return most


def _raise_for(status: int, signal: Signal, limits: Limits) -> None:
    if status == checking.OK:
        return
    if status == checking.NESTED:
        raise TooLarge(f"values are nested more than {limits.nesting} deep; send them flatter, or as text")
    if status >= checking.OVER:
        request, few = REQUESTS[signal], status - checking.OVER in _FEW
        raise _too_many(request.items, limits.items) if few else _too_many(request.parts, limits.attributes)
    if status == checking.DEEP:
        raise Malformed("messages are nested more than 100 deep, which protobuf does not allow")
    raise REQUESTS[signal].malformed()


def _too_many(what: str, most: int) -> TooLarge:
    return TooLarge(f"the request has more than {most} {what}; send smaller batches")


def _reason(rejected: int, repaired: int) -> str:
    reasons = []
    if rejected:
        reasons.append(f"{rejected} spans left out: trace id not 16 bytes, span id not 8 bytes, or all zeros")
    if repaired:
        reasons.append(f"{repaired} strings were not UTF-8: the wrong bytes replaced by U+FFFD")
    return "; ".join(reasons)


def _canonical(signal: Signal, body: bytes) -> bytes:
    """The same request as protobuf writes it: what stands twice is merged, lengths are short."""
    request = REQUESTS[signal].message()
    try:
        request.ParseFromString(body)
    except DecodeError:
        raise REQUESTS[signal].malformed() from None
    return request.SerializeToString()
