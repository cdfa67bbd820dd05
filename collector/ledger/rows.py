"""Calls by column selection: the rows of reports that stand alone are their reports' columns under the calls' names."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from collector.columns import CALL_COLUMNS, DIMENSIONS, FACTS, IDENTITY, REPORT_COLUMNS, nulls, schema
from collector.ledger.fields import LAST_DAY
from collector.ledger.kernels import I64, Mask

#: What of a report must be kept to merge it with later ones.
_RULES = tuple(f"{d.name}_{part}" for d in DIMENSIONS for part in ("rank", "rule"))
_DROPPED = ("span", "call_hint", *(c.name for c in IDENTITY))
KEPT = (*(c.name for c in REPORT_COLUMNS if c.name not in _DROPPED), *(d.name for d in DIMENSIONS), *_RULES, "tags")
#: In place of `_RULES`: one text per combination, see `unpack_rules`.
DECIDED = "decided"

#: Columns of a call that are not a column of its report: what processors say of it.
MONEY = (
    "cost_pico", "list_cost_pico", "cache_savings_pico", "price_status", "price_assumptions", "price_source",
    "route", "expected_model", "route_verdict", "expected_cost_pico", "avoidable_cost_pico", "model_tier",
)  # fmt: skip
_DAY_NS = 86_400 * 10**9
_COUNTS = tuple(c.name for c in FACTS if c.name.endswith("_tokens"))
_NO_RANK = 127
#: Dimensions whose ranks, and whether they are null, an int64 holds beside the number of a combination before them.
_DIMENSIONS_A_WORD = 4
_DASH = pa.scalar("-", pa.large_string())
_AS_IT_IS = pl.CompatLevel.newest()


def plain(reports: pl.DataFrame) -> Mask:
    """Which reports may be left as they are: who asked, and calls whose counts, if they have any, are not all zero."""
    mask: Mask = equal_to(reports["role"], "call")
    total = numbers(reports["input_tokens"])[0] + numbers(reports["output_tokens"])[0]
    if not total.all():
        told: Mask = np.zeros(len(reports), dtype=np.bool_)
        for name in _COUNTS:
            told |= numbers(reports[name])[1]
        mask &= (total != 0) | ~told
    return mask | equal_to(reports["role"], "caller")


def kept(reports: pl.DataFrame) -> pl.DataFrame:
    """The columns of reports that are kept."""
    columns = by_name(reports)
    return pl.DataFrame([columns[name] for name in KEPT if name in columns])


def taken(frame: pl.DataFrame, rows: I64) -> pl.DataFrame:
    """Rows of a frame. Column by column: spreading them over threads costs more than it saves."""
    if not len(rows):
        return frame.slice(0, 0)
    at = pl.Series(rows.astype(np.uint32))
    return pl.DataFrame([column.gather(at) for column in frame.get_columns()])


def by_name(frame: pl.DataFrame) -> dict[str, pl.Series]:
    """A frame's columns: cheaper than to ask for one after the other."""
    return {column.name: column for column in frame.get_columns()}


def fresh_calls(reports: pl.DataFrame, version: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Reports as they are kept, and one call per report: CALL_COLUMNS without money."""
    count = len(reports)
    if not count:
        return reports, pl.DataFrame(schema=schema(CALL_COLUMNS))
    source, decided = _rules(reports)
    series = by_name(reports)
    made = {
        "call_id": _call_ids(series["trace_id"], series["span_id"]),
        "reports": _as_lists(reports["dialect"]),
        "report_count": _constant(1, pl.Int64(), count),
        "day": days(numbers(reports["start_ns"])[0]),
        "version": _constant(version, pl.Int64(), count),
        "withdrawn": _constant(False, pl.Boolean(), count),
        "attribution_source": source,
    }
    known = {name: column for name, column in series.items() if name not in MONEY}
    known |= {name: column.alias(name) for name, column in made.items()}
    columns = [known.get(name, null) for name, null in nulls(CALL_COLUMNS, count).items()]
    stored = [column for name, column in series.items() if name not in _RULES]
    return pl.DataFrame([*stored, decided]), pl.DataFrame(columns)


def _call_ids(trace_ids: pl.Series, span_ids: pl.Series) -> pl.Series:
    """`trace-span` of each row."""
    return pl.Series(values=pc.binary_join_element_wise(trace_ids.to_arrow(), span_ids.to_arrow(), _DASH))


def arrow(series: pl.Series) -> pa.Array:
    """A column as Arrow, without a copy where there is one chunk; texts as views."""
    array = series.to_arrow(compat_level=_AS_IT_IS)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def numbers(series: pl.Series) -> tuple[I64, Mask]:
    """An int64 column, 0 where it is null, and where it is not."""
    size = len(series)
    if series.null_count() == size:
        return np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.bool_)
    if not series.null_count():
        return series.to_numpy(), np.ones(size, dtype=np.bool_)
    array = arrow(series)
    told = _bits(array.buffers()[0], array.offset, size)
    values = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + size]
    return np.where(told, values, 0), told


def equal_to(texts: pl.Series, text: str) -> Mask:
    """Where a column holds this text."""
    same = texts == text
    array = arrow(same)
    mask = _bits(array.buffers()[1], array.offset, len(same))
    return mask & _bits(array.buffers()[0], array.offset, len(same)) if same.null_count() else mask


def _bits(buffer: pa.Buffer, offset: int, size: int) -> Mask:
    found: Mask = np.unpackbits(np.frombuffer(buffer, dtype=np.uint8), bitorder="little")[offset : offset + size] != 0
    return found


def days(start_ns: I64) -> pl.Series:
    """The UTC day of each time, within what ClickHouse can hold."""
    return pl.Series(np.clip(start_ns // _DAY_NS, 0, LAST_DAY).astype(np.int32)).cast(pl.Date())


def _constant(value: int | bool | None, dtype: pl.DataType, count: int) -> pl.Series:
    return pl.Series([value], dtype=dtype).new_from_index(0, count)


def _as_lists(texts: pl.Series) -> pl.Series:
    if not texts.null_count() and (texts == texts[0]).all():
        return pl.Series([[texts[0]]], dtype=pl.List(pl.String())).new_from_index(0, len(texts))
    kinds = texts.unique()
    lists = pl.Series([[kind] if kind is not None else [] for kind in kinds], dtype=pl.List(pl.String()))
    numbers = pl.int_range(0, len(kinds), dtype=pl.UInt32(), eager=True)
    return lists.gather(texts.replace_strict(kinds, numbers, return_dtype=pl.UInt32()))


def _rules(reports: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """`team=gateway;app=service;…` and the text that keeps numbers too, made once per combination of rules.

    Within a batch a rule's number tells its name.
    """
    names = [d.name for d in DIMENSIONS if f"{d.name}_rank" in reports.columns]
    code: I64 = np.zeros(len(reports), dtype=np.int64)
    for number, name in enumerate(names):
        if number % _DIMENSIONS_A_WORD == 0 and number:
            code = _distinct(code)[1]
        ranks = reports[f"{name}_rank"].cast(pl.Int64())
        if ranks.null_count() < len(ranks):
            values, told = numbers(ranks)
            code = code * (_NO_RANK + 1) + np.where(told, values + 1, 0)
        told_value = reports[name]
        if 0 < told_value.null_count() < len(told_value):
            code = code * 2 + told_value.is_null().to_numpy()
    first, rows = _distinct(code)
    sources, decided = [], []
    for row in first.tolist():
        rules = {name: (reports[f"{name}_rank"][row], reports[f"{name}_rule"][row]) for name in names}
        named = [f"{name}={rule}" for name, (_, rule) in rules.items() if rule and reports[name][row] is not None]
        sources.append(";".join(named) or None)
        told_rules = {name: rule for name, rule in rules.items() if rule != (None, None)}
        decided.append(json.dumps(told_rules) if told_rules else None)
    return _spread("attribution_source", sources, rows), _spread(DECIDED, decided, rows)


def unpack_rules(record: dict[str, Any]) -> None:
    """Put the numbers and names of the rules back in place of the text that kept them."""
    text = record.pop(DECIDED, None)
    for name, (rank, rule) in (json.loads(text) if text else {}).items():
        record[f"{name}_rank"], record[f"{name}_rule"] = rank, rule


def _spread(name: str, texts: list[str | None], rows: I64) -> pl.Series:
    table = pl.Series(name, texts, dtype=pl.String())
    return table.new_from_index(0, len(rows)) if len(texts) == 1 else table.gather(pl.Series(rows))


def _distinct(code: I64) -> tuple[I64, I64]:
    """A row of each distinct code, and which of them each row has."""
    if (code == code[0]).all():
        return np.zeros(1, dtype=np.int64), np.zeros(len(code), dtype=np.int64)
    _, first, rows = np.unique(code, return_index=True, return_inverse=True)
    return first, rows
