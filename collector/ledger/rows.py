"""Calls by column selection: the rows of reports that stand alone are their reports' columns under the calls' names."""

from __future__ import annotations

import numpy as np
import polars as pl

from collector.columns import CALL_COLUMNS, DIMENSIONS, FACTS, REPORT_COLUMNS, schema
from collector.ledger.fields import LAST_DAY
from collector.ledger.kernels import I64, Mask

#: What of a report must be kept to merge it with later ones.
_DECIDED = tuple(name for d in DIMENSIONS for name in (d.name, f"{d.name}_rank", f"{d.name}_rule"))
_WHERE = tuple(c.name for c in REPORT_COLUMNS if c.name != "span" and c.name not in ("call_hint",))
KEPT = (*(n for n in _WHERE if not n.startswith(("gateway_", "claimed_"))), *_DECIDED, "tags")

#: Columns of a call that are not a column of its report.
MONEY = ("cost_pico", "list_cost_pico", "cache_savings_pico", "price_status", "price_assumptions", "price_source")
_DAY_NS = 86_400 * 10**9
_COUNTS = tuple(c.name for c in FACTS if c.name.endswith("_tokens"))
_NO_RANK = 255


def plain(reports: pl.DataFrame) -> Mask:
    """Which reports may be calls just as they are: calls, whose counts, if they have any, are not all zero."""
    mask: Mask = (reports["role"] == "call").fill_null(False).to_numpy().copy()
    total = reports["input_tokens"].fill_null(0).to_numpy() + reports["output_tokens"].fill_null(0).to_numpy()
    if not total.all():
        told: Mask = np.zeros(len(reports), dtype=np.bool_)
        for name in _COUNTS:
            told |= reports[name].is_not_null().to_numpy()
        mask &= (total != 0) | ~told
    return mask


def fresh_calls(reports: pl.DataFrame, version: int) -> pl.DataFrame:
    """One call per report: CALL_COLUMNS without money."""
    count = len(reports)
    if not count:
        return pl.DataFrame(schema=schema(CALL_COLUMNS))
    made = {
        "call_id": reports.select(pl.concat_str("trace_id", pl.lit("-"), "span_id")).to_series(),
        "reports": _as_lists(reports["dialect"]),
        "report_count": _constant(1, pl.Int64(), count),
        "day": days(reports["start_ns"].fill_null(0).to_numpy()),
        "version": _constant(version, pl.Int64(), count),
        "withdrawn": _constant(False, pl.Boolean(), count),
        "attribution_source": _rules(reports),
    }
    known = {**{name: reports[name] for name in reports.columns}, **made}
    columns = []
    for name, dtype in schema(CALL_COLUMNS).items():
        given = known.get(name) if name not in MONEY else None
        columns.append(_constant(None, dtype, count).alias(name) if given is None else given.alias(name))
    return pl.DataFrame(columns)


def days(start_ns: I64) -> pl.Series:
    """The UTC day of each time, within what ClickHouse can hold."""
    return pl.Series(np.clip(start_ns // _DAY_NS, 0, LAST_DAY).astype(np.int32)).cast(pl.Date())


def _constant(value: int | bool | None, dtype: pl.DataType, count: int) -> pl.Series:
    return pl.Series([value], dtype=dtype).new_from_index(0, count)


def _as_lists(texts: pl.Series) -> pl.Series:
    kinds = texts.unique()
    lists = pl.Series([[kind] if kind is not None else [] for kind in kinds], dtype=pl.List(pl.String()))
    if len(kinds) == 1:
        return lists.new_from_index(0, len(texts))
    numbers = pl.int_range(0, len(kinds), dtype=pl.UInt32(), eager=True)
    return lists.gather(texts.replace_strict(kinds, numbers, return_dtype=pl.UInt32()))


def _rules(reports: pl.DataFrame) -> pl.Series:
    """`team=gateway;app=service;…`: made once per combination of rules. Within a batch a rule's number tells its name."""
    names = [d.name for d in DIMENSIONS if f"{d.name}_rank" in reports.columns]
    code: I64 = np.zeros(len(reports), dtype=np.int64)
    for name in names:
        ranks = reports[f"{name}_rank"]
        code = code * (_NO_RANK + 1) + ranks.fill_null(_NO_RANK).to_numpy()
    distinct, first, rows = _distinct(code)
    texts = []
    for row in first.tolist():
        decided = [(name, reports[f"{name}_rule"][row]) for name in names if reports[name][row] is not None]
        texts.append(";".join(f"{name}={rule}" for name, rule in decided if rule) or None)
    table = pl.Series("attribution_source", texts, dtype=pl.String())
    return table.new_from_index(0, len(code)) if len(distinct) == 1 else table.gather(pl.Series(rows))


def _distinct(code: I64) -> tuple[I64, I64, I64]:
    """The distinct codes, a row of each, and which of them each row has."""
    if len(code) and (code == code[0]).all():
        return code[:1], np.zeros(1, dtype=np.int64), np.zeros(len(code), dtype=np.int64)
    distinct, first, rows = np.unique(code, return_index=True, return_inverse=True)
    return distinct, first, rows
