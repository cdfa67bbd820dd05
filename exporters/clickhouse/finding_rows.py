"""A batch's findings as rows of `llm_findings_versions`. There are few: they are made value by value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from itertools import groupby
from typing import Any

import pyarrow as pa

from collector.findings import Finding
from collector.sums import LAST_NS
from exporters.clickhouse.schema import FINDING_SUBJECT

_DAY_NS = 86400 * 10**9
_MOST_PICO = 10**38 - 1
_MAP = pa.map_(pa.string(), pa.string())
_TEXTS = pa.list_(pa.string())
_TIME = pa.timestamp("ns")
_TYPES: dict[str, pa.DataType] = {
    "FindingId": pa.string(), "Kind": pa.string(), "State": pa.string(), "Severity": pa.string(), "FirstSeen": _TIME, "LastSeen": _TIME,
    "ResolvedAt": _TIME, "Resolution": pa.string(), **dict.fromkeys(FINDING_SUBJECT, pa.string()), "Subject": _MAP, "Measured": pa.float64(),
    "Expected": pa.float64(), "Unit": pa.string(), "CostUSD": pa.decimal128(38, 12), "Message": pa.string(), "Observations": pa.uint64(),
    "TraceIds": _TEXTS, "SpanIds": _TEXTS, "Day": pa.date32(), "Version": pa.uint64(),
}  # fmt: skip
_SCHEMA = pa.schema(list(_TYPES.items()))


def finding_rows(findings: Sequence[Finding]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of each month that there is (such as `202611`), in order."""
    rows = sorted((_row(finding) for finding in findings), key=_month)
    for month, part in groupby(rows, _month):
        yield month, pa.RecordBatch.from_pylist(list(part), _SCHEMA)


def _month(row: dict[str, Any]) -> str:
    month: str = pa.scalar(row["Day"], pa.date32()).as_py().strftime("%Y%m")
    return month


def _row(finding: Finding) -> dict[str, Any]:
    subject = dict(finding.subject)
    return {
        "FindingId": finding.id,
        "Kind": finding.kind,
        "State": finding.state.value,
        "Severity": finding.severity.value,
        "FirstSeen": _time(finding.first_seen_ns),
        "LastSeen": _time(finding.last_seen_ns),
        "ResolvedAt": None if finding.resolved_ns is None else _time(finding.resolved_ns),
        "Resolution": finding.resolution.value if finding.resolution else "",
        **{column: subject.get(dimension, "") for column, dimension in FINDING_SUBJECT.items()},
        "Subject": list(subject.items()),
        "Measured": finding.measured,
        "Expected": finding.expected,
        "Unit": finding.unit,
        "CostUSD": None if finding.cost_pico is None else _usd(finding.cost_pico),
        "Message": finding.message,
        "Observations": finding.observations,
        "TraceIds": [one.trace_id for one in finding.evidence],
        "SpanIds": [one.span_id for one in finding.evidence],
        "Day": _time(finding.first_seen_ns) // _DAY_NS,
        "Version": finding.version,
    }


def _time(ns: int) -> int:
    return min(max(ns, 0), LAST_NS)


def _usd(pico: int) -> Decimal:
    """Pico-dollars as dollars, to the last digit; what no column can hold becomes the nearest end."""
    with localcontext() as context:
        context.prec = 60
        return Decimal(min(max(pico, -_MOST_PICO), _MOST_PICO)).scaleb(-12)
