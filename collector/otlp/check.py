"""What is taken in: requests that are well-formed, within limits, and fit to be decoded without a second look.

Well-formed is what protobuf's own parser takes, with one exception: it refuses a whole request for a string that is not
UTF-8, we put U+FFFD in the place of what is not. A request in which nothing has to change is read once and not copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from collector.errors import Malformed, TooLarge
from collector.otlp import checking, levels
from collector.otlp import layout as L
from collector.otlp.rewriting import Edits, Level, rewrite, spliced
from collector.otlp.tables import I32, I64, Text


@dataclass(frozen=True, slots=True)
class Limits:
    """How much work one request may be, apart from its bytes.

    spans:      spans, and as many resources and scopes
    attributes: attributes and the members of arrays and maps in them, and as many events and links
    nesting:    values inside of values (protobuf's own limit, 100 messages, is reached at 33 to 50)
    """

    spans: int = 250_000
    attributes: int = 2_000_000
    nesting: int = 64


@dataclass(frozen=True, slots=True)
class Checked:
    """A request as it is kept. `reason`: one sentence for the sender if spans were left out or strings repaired, or ""."""

    body: bytes
    spans: int
    rejected: int
    repaired: int
    reason: str


def check_traces(body: bytes, limits: Limits) -> Checked:
    """Check a serialized ExportTraceServiceRequest. Gives the same bytes object if nothing had to change.

    Spans with an invalid trace id (not 16 bytes, or zeros) or span id (not 8 bytes, or zeros) are left out, as OTLP
    says; what else is wrong with the request is wrong with all of it: raises Malformed, or TooLarge for limits.
    """
    data = np.frombuffer(body, dtype=np.uint8)
    counts = np.zeros(checking.TYPES, np.int64)
    results, edits, nodes, blob = checking.check(data, _per_type(limits), limits.nesting, counts)
    _raise_for(int(results[checking.R_STATUS]), limits)
    n_edits, n_nodes = int(results[checking.R_EDITS]), int(results[checking.R_NODES])
    if n_edits:
        body = spliced(data, edits[:, :n_edits], nodes[:, :n_nodes], blob[: int(results[checking.R_BLOB])])
    if results[checking.R_ODD]:
        body = _canonical(body)
    rejected, repaired = int(results[checking.R_REJECTED]), int(results[checking.R_REPAIRED])
    return Checked(body, int(counts[checking.SPAN]), rejected, repaired, _reason(rejected, repaired))


_REQUEST = levels.fields(counted=(L.REQUEST_RESOURCE_SPANS,))
_RESOURCE_SPANS = levels.fields(L.RESOURCE_SPANS_RESOURCE)
_RESOURCE = levels.fields(counted=(L.RESOURCE_ATTRIBUTES,))


def stamp(body: bytes, attributes: Mapping[str, str]) -> bytes:
    """The request, checked before, with these attributes on every resource, whatever stood there under their keys."""
    data = np.frombuffer(body, dtype=np.uint8)
    whole = Text(np.zeros(1, np.int64), np.array([len(body)], np.int32))
    count = levels.pick(data, whole, _REQUEST).counts[0]
    if count == 0 or not attributes:
        return body
    groups = levels.children(data, whole, L.REQUEST_RESOURCE_SPANS, count).message
    resource = levels.pick(data, groups, _RESOURCE_SPANS).text(0)
    count = levels.pick(data, resource, _RESOURCE).counts[0]
    table, _, keys = levels.attributes(data, ((resource, L.RESOURCE_ATTRIBUTES, count),))
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
    return rewrite(data, tree, edits, np.frombuffer(fields + whole_resource, np.uint8))


def _per_type(limits: Limits) -> I64:
    """The largest number of messages of each type."""
    most = np.full(checking.TYPES, limits.attributes, np.int64)
    most[[checking.RESOURCE_SPANS, checking.RESOURCE, checking.SCOPE_SPANS, checking.SCOPE, checking.SPAN]] = (
        limits.spans
    )
    return most


def _raise_for(status: int, limits: Limits) -> None:
    if status == checking.OK:
        return
    if status == checking.NESTED:
        raise TooLarge(f"values are nested more than {limits.nesting} deep; send them flatter, or as text")
    if status >= checking.OVER:
        spans = _per_type(limits)[status - checking.OVER] == limits.spans
        what, most = ("spans", limits.spans) if spans else ("attributes, events or links", limits.attributes)
        raise TooLarge(f"the request has more than {most} {what}; send smaller batches")
    if status == checking.DEEP:
        raise Malformed("messages are nested more than 100 deep, which protobuf does not allow")
    raise Malformed("the body is no well-formed ExportTraceServiceRequest")


def _reason(rejected: int, repaired: int) -> str:
    reasons = []
    if rejected:
        reasons.append(f"{rejected} spans left out: trace id not 16 bytes, span id not 8 bytes, or all zeros")
    if repaired:
        reasons.append(f"{repaired} strings were not UTF-8: the wrong bytes replaced by U+FFFD")
    return "; ".join(reasons)


def _canonical(body: bytes) -> bytes:
    """The same request as protobuf writes it: what stands twice is merged, lengths are short."""
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError:
        raise Malformed("the body is no well-formed ExportTraceServiceRequest") from None
    return request.SerializeToString()
