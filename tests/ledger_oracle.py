"""The rules of merging once more, slowly: all spans at once, as dicts, everything compared with everything.

It shares no code with the ledger. Where the ledger has state, tables and batches, this has none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from tests.ledger_kit import Span

Report = dict[str, Any]
DIMENSIONS = ("team", "app", "user", "end_user", "api_key", "environment", "cost_centre", "task_type", "user_priority")
INPUT = ("cache_read_tokens", "cache_write_tokens", "input_audio_tokens", "cache_audio_read_tokens")
OUTPUT = ("reasoning_tokens", "output_audio_tokens")


def calls(spans: Iterable[Span]) -> list[dict[str, Any]]:
    """The rows of all calls that these spans report, without id, day, version and money."""
    parents: dict[tuple[int, int], int] = {}
    best: dict[tuple[int, int], Report] = {}
    for span in spans:
        if span.parent:
            parents[span.trace, span.id] = span.parent
        if span.report is not None:
            place = (span.trace, span.id)
            report = {**span.report, "place": place, "trace_id": span.key[0], "span_id": span.key[1]}
            if place not in best or richness(report) > richness(best[place]):
                best[place] = report
    reports = sorted(best.values(), key=when)
    for report in reports:
        report["above"] = above(report["place"], parents, best)
    for report in reports:
        report["counts"] = report["role"] == "call" or (
            report["role"] == "copy" and not any(a["role"] == "call" for a in report["above"])
        )
    groups = [*same_answer([r for r in reports if r["counts"]])]
    groups = same_numbers(groups)
    for report in reports:
        if only_witness(report, reports):
            groups.append({"reports": [report], "replay": False, "ids": set()})
    reported = [r for group in groups for r in group["reports"] if r.get("rank") == 1]
    callers = [r for r in reports if r["role"] == "caller" and not any(is_above(r, other) for other in reported)]
    return [row(group["reports"], group["replay"], caller(group["reports"], callers)) for group in groups]


def caller(reports: Sequence[Report], callers: Sequence[Report]) -> Report | None:
    """Who asked for a call that no gateway reports."""
    if any(r.get("rank") == 1 for r in reports):
        return None
    found = []
    for one in callers:
        for report in reports:
            if one["trace_id"] == report["trace_id"] and (nested(one, report) or overlap(one, report)):
                away = abs(one["start_ns"] - report["start_ns"])
                found.append((not nested(one, report), away, when(one), one))
    return min(found, key=lambda f: f[:3])[3] if found else None


def when(report: Report) -> tuple[int, Any, Any]:
    return (report["start_ns"], report["trace_id"], report["span_id"])


def richness(report: Report) -> tuple[bool, int, str]:
    known = {name: value for name, value in report.items() if value is not None}
    return (usage(report) is not None, len(known), json.dumps(known, sort_keys=True, default=str))


def above(
    place: tuple[int, int], parents: dict[tuple[int, int], int], best: dict[tuple[int, int], Report]
) -> list[Report]:
    """The reports on the way to the root, nearest first."""
    found, seen = [], {place}
    while place in parents:
        place = (place[0], parents[place])
        if place in seen:
            break
        seen.add(place)
        if place in best:
            found.append(best[place])
    return found


def usage(report: Report) -> tuple[int, int] | None:
    counts = (report.get("input_tokens") or 0, report.get("output_tokens") or 0)
    return counts if counts != (0, 0) else None


def models(report: Report) -> set[str]:
    names = [report.get(f"{kind}_model") for kind in ("request", "response", "upstream")]
    return {name.split("/")[-1].lower() for name in names if name}


def undated(report: Report) -> set[str]:
    return models(report) | {re.sub(r"[-@]20\d\d-?\d\d-?\d\d$", "", name) for name in models(report)}


def akin(a: Report, b: Report) -> bool:
    return bool(models(a) & undated(b) or undated(a) & models(b))


def is_above(one: Report, other: Report) -> bool:
    return any(report is one for report in other["above"])


def nested(one: Report, other: Report) -> bool:
    return is_above(one, other) or is_above(other, one)


def apart(one: Report, other: Report) -> int:
    ends = [r["start_ns"] + (r.get("duration_ns") or 0) for r in (one, other)]
    return abs(one["start_ns"] - other["start_ns"]) + abs(ends[0] - ends[1])


def overlap(one: Report, other: Report) -> bool:
    first, last = sorted((one, other), key=when)
    return bool(last["start_ns"] <= first["start_ns"] + (first.get("duration_ns") or 0))


def same_answer(own: Sequence[Report]) -> Iterable[dict[str, Any]]:
    """One group per response id, several where one source gave it again; one per report without an id."""
    for id_ in sorted({r.get("response_id") or "" for r in own}):
        members = [r for r in own if (r.get("response_id") or "") == id_]
        if not id_ or names_nothing(members):
            yield from ({"reports": [r], "replay": False, "ids": set()} for r in members)
            continue
        groups = [[r] for r in members]
        merge(
            groups, [(a, b) for a in members for b in members if a["source"] == b["source"] and is_above(a, b)], False
        )
        pairs = [(a, b) for i, a in enumerate(members) for b in members[i + 1 :] if a["source"] != b["source"]]
        pairs.sort(key=lambda p: (kinship(*p), apart(*p), sorted((p[0]["trace_id"] + p[0]["span_id"], p[1]["trace_id"] + p[1]["span_id"]))))  # fmt: skip
        merge(groups, pairs, True)
        fresh = [g for g in groups if not any(r.get("response_cache_hit") for r in g)]
        fresh.sort(key=lambda g: (all(usage(r) is None for r in g), min(when(r) for r in g)))
        for group in groups:
            replay = len(groups) > 1 and not (fresh and group is fresh[0])
            yield {"reports": group, "replay": replay, "ids": {id_}}


def kinship(one: Report, other: Report) -> int:
    if one["trace_id"] != other["trace_id"]:
        return 2
    return 0 if nested(one, other) else 1


def names_nothing(members: Sequence[Report]) -> bool:
    told = [r for r in members if usage(r) is not None and not r.get("response_cache_hit")]
    for a in told:
        for b in told:
            if usage(a) == usage(b):
                continue
            if a["source"] == b["source"] and not nested(a, b):
                return True
            strangers = models(a) and models(b) and not undated(a) & undated(b)
            kin = [r for r in told if (usage(r), undated(r)) in ((usage(a), undated(a)), (usage(b), undated(b)))]
            if strangers and len({r["trace_id"] for r in kin}) > 1:
                return True
    return False


def merge(groups: list[list[Report]], pairs: Sequence[tuple[Report, Report]], one_per_source: bool) -> None:
    for a, b in pairs:
        group_a = next(g for g in groups if any(r is a for r in g))
        group_b = next(g for g in groups if any(r is b for r in g))
        if group_a is group_b:
            continue
        if one_per_source and {r["source"] for r in group_a} & {r["source"] for r in group_b}:
            continue
        group_a.extend(group_b)
        groups.remove(group_b)


def same_numbers(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pairs = []
    reports = [(r, g) for g in groups for r in g["reports"]]
    for i, (a, _) in enumerate(reports):
        for b, _ in reports[i + 1 :]:
            if (
                a["trace_id"] == b["trace_id"]
                and a["source"] != b["source"]
                and usage(a) == usage(b)
                and (akin(a, b) or (nested(a, b) and usage(a) is None and not (models(a) and models(b))))
            ):
                if nested(a, b):
                    pairs.append((0, apart(a, b), sorted((a["span_id"], b["span_id"])), a, b))
                elif overlap(a, b):
                    pairs.append((1, apart(a, b), sorted((a["span_id"], b["span_id"])), a, b))
            if (
                a["trace_id"] == b["trace_id"]
                and a["source"] != b["source"]
                and (usage(a) is None) != (usage(b) is None)
                and (a if usage(a) is None else b).get("status") != "Error"
                and akin(a, b)
                and nested(a, b)
            ):
                pairs.append((2, apart(a, b), sorted((a["span_id"], b["span_id"])), a, b))
    pairs.sort(key=lambda p: (*p[:3], p[3]["trace_id"]))
    for rank, _, _, a, b in pairs:
        beside = rank == 1
        group_a = next(g for g in groups if any(r is a for r in g["reports"]))
        group_b = next(g for g in groups if any(r is b for r in g["reports"]))
        if group_a is group_b or {r["source"] for r in group_a["reports"]} & {r["source"] for r in group_b["reports"]}:
            continue
        if rank == 2 and all(any(usage(r) is not None for r in g["reports"]) for g in (group_a, group_b)):
            continue
        if group_a["ids"] and group_b["ids"]:
            gateways = not beside and a.get("rank") == b.get("rank") == 1
            if group_a["ids"] & group_b["ids"] or not gateways:
                continue
        groups = [g for g in groups if g is not group_a and g is not group_b]
        groups.append(
            {
                "reports": group_a["reports"] + group_b["reports"],
                "replay": group_a["replay"] or group_b["replay"],
                "ids": group_a["ids"] | group_b["ids"],
            }
        )
    return groups


def only_witness(report: Report, reports: Sequence[Report]) -> bool:
    if report["role"] not in ("wrapper", "rollup"):
        return False
    ids = {r["response_id"] for r in reports if r["counts"] and r.get("response_id")}
    if report.get("response_id") in ids:
        return False
    below = [r for r in reports if is_above(report, r)]
    calls_ = [r for r in below if r["role"] in ("call", "copy")]
    told = [r for r in below if usage(r) is not None and r["role"] in ("call", "copy", "wrapper", "rollup")]
    if report["role"] == "rollup":
        return usage(report) is not None and not told
    return (
        not calls_ and not any(r["role"] == "wrapper" for r in below) and not any(r["role"] == "rollup" for r in told)
    )


# Fields ----------------------------------------------------------------------------------------------------------------


def row(reports: list[Report], replay: bool, asked: Report | None) -> dict[str, Any]:
    by_count = sorted(reports, key=lambda r: (estimated(r), r.get("rank") or 0, when(r)))
    near = sorted(reports, key=lambda r: ({3: 0, 2: 1, 0: 2, 1: 3, 4: 4}.get(r.get("rank"), 5), when(r)))  # type: ignore[arg-type]
    gateways = sorted((r for r in reports if r.get("rank") == 1), key=when)
    others = [r for r in by_count if r.get("rank") != 1]
    upstream = gateways[::-1] + others
    around: list[Report] = []
    for report in near:
        others_above = [a for a in report["above"] if a["role"] not in ("call", "copy", "caller")]
        around += [a for a in others_above if not _in(a, around) and not _in(a, reports)]
    around += [asked] if asked else []
    out: dict[str, Any] = {
        "start_ns": near[0]["start_ns"],
        "duration_ns": near[0].get("duration_ns"),
        "trace_id": near[0]["trace_id"],
        "span_id": near[0]["span_id"],
        "service_name": near[0].get("service_name"),
        "dialect": by_count[0].get("dialect"),
        "reports": list(dict.fromkeys(r["dialect"] for r in by_count)),
        "report_count": len(reports),
        "response_cache_hit": True if replay else first(upstream, "response_cache_hit"),
        "conversation_id": first(near + around, "conversation_id"),
    }
    states = [r["status"] for r in near]
    out["status"] = next((s for s in states if s != "Unset"), "Unset")
    told_tags = [r["tags"] for r in reports if r.get("tags") is not None] or [
        r["tags"] for r in around if r.get("tags") is not None
    ][:1]
    out["tags"] = sorted(set().union(*map(set, told_tags))) if told_tags else None
    attempt = ("parent_span_id", "deployment", "region", "refused_by", "output_limit", "gateway_overhead_ns")
    for name in ("provider", "upstream_model", "reported_cost_pico", *attempt):
        out[name] = first(upstream, name)
    for name in ("request_model", "requested_tier", "streaming", "time_to_first_token_ns", "error_type"):
        out[name] = first(near, name)
    for name in ("operation", "response_model", "response_id", "service_tier", "finish_reason"):
        out[name] = first(by_count, name)
    out |= counts(reports, by_count)
    rules = []
    for name in DIMENSIONS:
        trusted = name in ("team", "api_key", "cost_centre")
        line = (gateways + [r for r in near if r.get("rank") != 1] if trusted else near) + around
        line = [r for r in line if r.get(name) is not None]
        line.sort(key=lambda r: r[f"{name}_rank"])
        out[name] = line[0][name] if line else None
        if line and line[0].get(f"{name}_rule"):
            rules.append(f"{name}={line[0][f'{name}_rule']}")
    out["attribution_source"] = ";".join(rules) or None
    return out


def counts(reports: list[Report], by_count: list[Report]) -> dict[str, Any]:
    told = [r for r in by_count if usage(r) is not None]
    out: dict[str, Any] = {}
    for total, parts in (("input_tokens", INPUT), ("output_tokens", OUTPUT)):
        out[total] = first(told, total)
        for part in parts:
            out[part] = first([r for r in told if r.get(total) == out[total]], part)
    writes = [r for r in told if r.get("cache_write_tokens") == out["cache_write_tokens"]]
    out["cache_write_1h_tokens"] = first(writes, "cache_write_1h_tokens")
    givers = [next((r for r in told if r.get(name) is not None), None) for name in ("input_tokens", "output_tokens")]
    givers = [r for r in givers if r is not None] or [by_count[0]]
    flags: list[str] | None = None
    for report in givers:
        if report.get("usage_flags") is not None:
            flags = list(dict.fromkeys([*(flags or []), *report["usage_flags"]]))
    knows = [
        r
        for r in told
        if (r.get("cache_read_tokens") is not None or r.get("cache_write_tokens") is not None)
        and "no_cache_counts" not in (r.get("usage_flags") or [])
    ]
    if flags and knows:
        flags = [flag for flag in flags if flag != "no_cache_counts"]
    if flags and len({r["source"] for r in reports}) > 1:
        flags = [flag for flag in flags if flag != "maybe_twice"]
    if told and any(estimated(r) for r in givers):
        flags = [*(flags or []), "estimated:gateway"]
    if told and reports[0]["role"] == "wrapper":
        flags = [*(flags or []), "estimated:wrapper"]
    return {**out, "usage_flags": flags}


def estimated(report: Report) -> bool:
    return report.get("rank") == 1 and any(a["role"] == "abort" for a in report["above"])


def first(line: Iterable[Report], name: str) -> Any:
    return next((r[name] for r in line if r.get(name) is not None), None)


def _in(report: Report, reports: Sequence[Report]) -> bool:
    return any(r is report for r in reports)
