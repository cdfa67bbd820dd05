"""The row of one call, each field from the report that knows it best.

counts           the provider's own SDK, the gateway, instrumentors, frameworks, model servers: in this order of `rank`
provider …       the gateway nearest to the provider: upstream model, reported cost
key, team …      the gateway nearest to the app
start, span …    the report nearest to the app; so do service, app, user and conversation
dimensions       the lowest rule number over all reports, the spans above them and the caller, then in the order above
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any

from collector.columns import DIMENSIONS
from collector.ledger.components import Call, Record, Report

#: Place in line for what the app knows: framework, instrumentor, provider's SDK, gateway, model server, by `rank`.
_NEAR_APP = {3: 0, 2: 1, 0: 2, 1: 3, 4: 4}
_DAY_NS = 86_400 * 10**9
EPOCH = date(1970, 1, 1)
LAST_DAY = 65_535  # days after the epoch, ClickHouse's latest Date
_INPUT_PARTS = ("cache_read_tokens", "cache_write_tokens", "input_audio_tokens", "cache_audio_read_tokens")
_OUTPUT_PARTS = ("reasoning_tokens", "output_audio_tokens")
_BY_GATEWAY = ("team", "api_key", "cost_centre")
#: What is told of an attempt: by the gateway that made it, else by whoever stands next to the provider.
_OF_ATTEMPT = ("parent_span_id", "deployment", "region", "refused_by", "output_limit", "gateway_overhead_ns")
_NO_RULE = 1 << 15
UNKNOWN_CACHE = "no_cache_counts"
MAYBE_TWICE = "maybe_twice"


def row_of(call: Call) -> Record:
    """A call's columns, but for its id, day, version and money."""
    reports = call.reports
    counting = sorted(reports, key=lambda r: (_estimates(r), r.row.get("rank") or 0, r.order))
    near = sorted(reports, key=lambda r: (_NEAR_APP.get(r.row.get("rank"), 5), r.order))  # type: ignore[arg-type]
    inward = sorted((r for r in reports if r.gateway), key=lambda r: r.order)
    upstream = [*reversed(inward), *(r for r in counting if not r.gateway)]
    trusted = [*inward, *(r for r in near if not r.gateway)]
    around = _around(near) + ([call.caller] if call.caller else [])
    namer = near[0]
    row: Record = {
        "start_ns": namer.row["start_ns"],
        "duration_ns": namer.row.get("duration_ns"),
        "trace_id": namer.key[0],
        "span_id": namer.key[1],
        "service_name": namer.row.get("service_name"),
        "dialect": counting[0].row.get("dialect"),
        "reports": list(dict.fromkeys(r.row["dialect"] for r in counting if r.row.get("dialect"))),
        "report_count": len(reports),
        "status": _status(near),
        "response_cache_hit": True if call.replay else _first(upstream, "response_cache_hit"),
        "conversation_id": _first([*near, *around], "conversation_id"),
        "tags": _tags(reports, around),
    }
    for names, line in (
        (("provider", "upstream_model", "reported_cost_pico", *_OF_ATTEMPT), upstream),
        (("request_model", "requested_tier", "streaming", "time_to_first_token_ns", "error_type"), near),
        (("operation", "response_model", "response_id", "service_tier", "finish_reason"), counting),
    ):
        for name in names:
            row[name] = _first(line, name)
    row |= _usage(call, counting)
    row |= _dimensions(near, trusted, around)
    return row


def day_of(start_ns: int) -> date:
    """The UTC day of a time, within what ClickHouse can hold."""
    return EPOCH + timedelta(days=min(max(start_ns // _DAY_NS, 0), LAST_DAY))


def _first(line: Iterable[Report], name: str) -> Any:
    return next((r.row[name] for r in line if r.row.get(name) is not None), None)


def _estimates(report: Report) -> bool:
    """Whether a gateway counted by itself, because the client hung up before the provider told."""
    return report.gateway and any(above.role == "abort" for above in report.ancestors())


def _around(near: Sequence[Report]) -> list[Report]:
    """The reports above the call that are no call, nearest first: they may know who asked. Not callers: see `Call.caller`."""
    found: dict[Report, None] = {}
    for report in near:
        found |= {above: None for above in report.ancestors() if above.role not in ("call", "copy", "caller")}
    return [report for report in found if report not in near]


def _status(near: Sequence[Report]) -> str | None:
    told = [r.row["status"] for r in near if r.row.get("status") is not None]
    return next((status for status in told if status != "Unset"), told[0] if told else None)


def _tags(reports: Sequence[Report], around: Sequence[Report]) -> list[str] | None:
    told = [r.row["tags"] for r in reports if r.row.get("tags") is not None]
    if not told:
        told = [r.row["tags"] for r in around if r.row.get("tags") is not None][:1]
    return sorted({tag for tags in told for tag in tags}) if told else None


def _usage(call: Call, counting: Sequence[Report]) -> Record:
    """The counts: totals from the first report that has them, parts from the first that has them beside these totals."""
    told = [r for r in counting if r.usage is not None]
    givers = [
        next((r for r in told if r.row.get(name) is not None), None) for name in ("input_tokens", "output_tokens")
    ]
    row: Record = {name: _first(told, name) for name in ("input_tokens", "output_tokens")}
    for total, parts in (("input_tokens", _INPUT_PARTS), ("output_tokens", _OUTPUT_PARTS)):
        agreeing = [r for r in told if r.row.get(total) == row[total]]
        row |= {part: _first(agreeing, part) for part in parts}
    same_writes = [r for r in told if r.row.get("cache_write_tokens") == row["cache_write_tokens"]]
    row["cache_write_1h_tokens"] = _first(same_writes, "cache_write_1h_tokens")
    row["usage_flags"] = _flags(call, [r for r in givers if r is not None] or [counting[0]], told)
    return row


def _flags(call: Call, givers: Sequence[Report], told: Sequence[Report]) -> list[str] | None:
    """What is special about the counts, from the reports that gave them."""
    lists = [r.row["usage_flags"] for r in givers if r.row.get("usage_flags") is not None]
    flags = dict.fromkeys(flag for flags in lists for flag in flags)
    if UNKNOWN_CACHE in flags and any(_knows_cache(r) for r in told):
        del flags[UNKNOWN_CACHE]
    if MAYBE_TWICE in flags and len({r.row.get("source") for r in call.reports}) > 1:
        del flags[MAYBE_TWICE]  # the other report has been found
    if told and any(_estimates(r) for r in givers):
        flags["estimated:gateway"] = None
    if told and call.reports[0].role == "wrapper":
        flags["estimated:wrapper"] = None
    return list(flags) if flags or lists else None


def _knows_cache(report: Report) -> bool:
    told = report.row.get("cache_read_tokens") is not None or report.row.get("cache_write_tokens") is not None
    return told and UNKNOWN_CACHE not in (report.row.get("usage_flags") or ())


def _dimensions(near: Sequence[Report], trusted: Sequence[Report], around: Sequence[Report]) -> Record:
    """Who pays, per dimension by the rule of the lowest number, and which rule that was."""
    row: Record = {}
    rules = []
    for column in DIMENSIONS:
        name = column.name
        line = [*(trusted if name in _BY_GATEWAY else near), *around]
        ranked = [r for r in line if r.row.get(name) is not None]
        best = min(ranked, key=lambda r: _rule_number(r, name), default=None)
        row[name] = best.row[name] if best else None
        if best and best.row.get(f"{name}_rule"):
            rules.append(f"{name}={best.row[f'{name}_rule']}")
    row["attribution_source"] = ";".join(rules) if rules else None
    return row


def _rule_number(report: Report, name: str) -> int:
    number: int | None = report.row.get(f"{name}_rank")
    return _NO_RULE if number is None else number
