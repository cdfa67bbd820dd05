"""What a batch's reports say about who they belong to: one column of texts per source, made when it is asked for.

Attributes are read per distinct value and brought to the reports by number. A source that no report has is None, so that
nobody spends work on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from collector import distinct
from collector.batch import SpanBatch
from collector.documents import look_up, string_list
from collector.mapping import Table
from collector.otlp import gather
from collector.otlp.tables import I32, Owner

#: The report columns that hold what the gateway authenticated, and what the caller claimed, per dimension, best first.
GATEWAY = {
    "team": ("gateway_team", "gateway_org"),
    "user": ("gateway_user",),
    "end_user": ("gateway_end_user",),
    "api_key": ("gateway_key_alias", "gateway_key_hash"),
}
CLAIMED = {"team": ("claimed_team",), "app": ("claimed_app",), "user": ("claimed_user",), "end_user": ("claimed_user",), "task_type": ("claimed_task_type",), "user_priority": ("claimed_user_priority",)}  # fmt: skip
#: Ranks of reports whose service.name names no app: gateways and model servers.
SERVERS = (1, 4)
_OWNERS = {"resource": Owner.RESOURCE, "scope": Owner.SCOPE, "span": Owner.SPAN}
_NOTHING = ["", "None", "null", "undefined"]


class OwnerTable:
    """A mapping table by number of row. `rows` is the table that it was made of."""

    def __init__(self, by: str, rows: Table) -> None:
        self.by = by
        self.rows = rows
        self.keys = pl.Series("key", list(rows), dtype=pl.String())
        self._dimensions: dict[str, pl.Series | None] = {}

    def dimension(self, name: str) -> pl.Series | None:
        """What each row says of a dimension; None: no row says anything."""
        if name not in self._dimensions:
            values = pl.Series([row.get(name) for row in self.rows.values()], dtype=pl.String())
            self._dimensions[name] = values if values.null_count() < len(values) else None
        return self._dimensions[name]


class Identity:
    """The reports of a batch, with the attributes of their spans, resources and scopes as columns."""

    def __init__(self, batch: SpanBatch) -> None:
        self._traces = batch.otlp
        self._reports = batch.reports
        self._spans: I32 = batch.reports["span"].to_numpy()
        self._seen: dict[str, pl.Series | None] = {}
        self._matched: dict[int, pl.Series | None] = {}

    def __len__(self) -> int:
        return len(self._reports)

    def values(self, source: str, dimension: str) -> pl.Series | None:
        """One text per report, null where the source has none; None where no report has any."""
        if source in ("gateway", "claimed"):
            return self._first((GATEWAY if source == "gateway" else CLAIMED).get(dimension, ()))
        if source not in self._seen:
            self._seen[source] = self._service() if source == "service" else self._attribute(source)
        return self._seen[source]

    def _first(self, names: Sequence[str]) -> pl.Series | None:
        value: pl.Series | None = None
        for name in names:
            found = self._reports[name]
            if found.null_count() == len(found):
                continue
            value = found if value is None else value.zip_with(value.is_not_null(), found)
            if not value.null_count():
                break
        return value

    def _service(self) -> pl.Series | None:
        """service.name of reports that an app made; an SDK's `unknown_service` is nobody."""
        ranks = self._reports["rank"]  # null where nobody knows: a NaN, which is none of the servers' either
        own = ~np.isin(ranks.to_numpy(), SERVERS)
        if not own.any():
            return None
        codes, names = distinct.texts(self._reports["service_name"])
        known = [None if not name or name.startswith("unknown_service") else name for name in names]
        return _by_number(pl.Series("", known, dtype=pl.String()), np.where(own, codes, -1))

    def _attribute(self, source: str) -> pl.Series | None:
        """An attribute's text; where there is none under the whole name, a path into the document of a shorter name."""
        owner_name, name = source.split(".", 1)
        traces, owner = self._traces, _OWNERS[owner_name]
        parts = name.split(".")
        candidates = [".".join(parts[: len(parts) - cut]) for cut in range(len(parts))]
        known = [key for key in candidates if key in traces.key_ids]
        value: pl.Series | None = None
        for key, rows in zip(known, gather.slots(traces, known, owner) if known else (), strict=True):
            codes, distinct = gather.codes(traces, rows)
            texts = pl.Series("", distinct, dtype=pl.String())
            if key != name:
                path = name[len(key) + 1 :]
                texts = pl.Series("", [look_up(text, path) for text in texts], dtype=pl.String())
            found = _by_number(_present(texts), codes[self._owners(owner)])
            if found is not None:
                value = found if value is None else value.zip_with(value.is_not_null(), found)
        return value

    def _owners(self, owner: Owner) -> I32:
        spans = self._traces.spans
        if owner is Owner.SPAN:
            return self._spans
        owners: I32 = (spans.resource if owner is Owner.RESOURCE else spans.scope)[self._spans]
        return owners

    def mapped(self, table: OwnerTable, dimension: str) -> pl.Series | None:
        """What the table's row of each report's key says of a dimension."""
        values = table.dimension(dimension)
        if values is None:
            return None
        if id(table) not in self._matched:
            self._matched[id(table)] = self._match(table)
        rows = self._matched[id(table)]
        if rows is None:
            return None
        found = values.gather(rows)
        return found if found.null_count() < len(found) else None

    def _match(self, table: OwnerTable) -> pl.Series | None:
        """Per report the row of the table that one of its keys names, the best key first."""
        numbers = pl.int_range(0, len(table.keys), dtype=pl.UInt32(), eager=True)
        columns = [self._reports[name] for name in GATEWAY[table.by]] if table.by in GATEWAY else [self.values(table.by, "")]  # fmt: skip
        rows: pl.Series | None = None
        for keys in columns:
            if keys is None or keys.null_count() == len(keys):
                continue
            found = keys.replace_strict(table.keys, numbers, default=None, return_dtype=pl.UInt32())
            rows = found if rows is None else rows.zip_with(rows.is_not_null(), found)
        return rows

    @staticmethod
    def extracted(values: pl.Series, pattern: str) -> pl.Series | None:
        """The first group of a pattern; null where it does not match, None where it matches nowhere."""
        codes, texts = distinct.texts(values)
        return _by_number(_present(texts.str.extract(pattern, 1)), codes)

    def tags(self, sources: Sequence[str]) -> pl.Series:
        """The tags of all sources together, sorted, each once; null where a report has none."""
        tags: pl.Series | None = None
        for source in sources:
            found = self._reports["claimed_tags"] if source == "claimed" else self._attribute_tags(source)
            if found is None or found.null_count() == len(found):
                continue
            if tags is not None:
                both = pl.DataFrame({"one": tags, "other": found})
                some = pl.coalesce("one", "other").is_not_null()
                joined = pl.concat_list(pl.col("one").fill_null([]), pl.col("other").fill_null([]))
                found = both.select(pl.when(some).then(joined)).to_series()
            tags = found
        if tags is None:
            return pl.Series("tags", [None], dtype=pl.List(pl.String())).new_from_index(0, len(self))
        codes, kinds = distinct.lists(tags)
        table = pl.Series("tags", [*(sorted(set(kind)) or None for kind in kinds), None], dtype=pl.List(pl.String()))
        return table[_last_for_none(codes, len(kinds))]

    def _attribute_tags(self, source: str) -> pl.Series | None:
        """Tags from an attribute: an array, or one text whose parts a comma divides."""
        texts = self.values(source, "")
        if texts is None:
            return None
        codes, kinds = distinct.texts(texts)
        lists = pl.Series([*(_split_tags(text) for text in kinds), None], dtype=pl.List(pl.String()))
        return lists[_last_for_none(codes, len(kinds))]


def _by_number(texts: pl.Series, codes: NDArray[np.integer[Any]]) -> pl.Series | None:
    """The text of each row's number, null for -1; None where all are null."""
    if texts.null_count() == len(texts):
        return None
    if len(texts) == 1 and (codes == 0).all():
        return texts.new_from_index(0, len(codes))
    table = texts.append(pl.Series([None], dtype=pl.String()))
    found = table[_last_for_none(codes, len(table) - 1)]
    return found if found.null_count() < len(found) else None


def _last_for_none(codes: NDArray[np.integer[Any]], last: int) -> NDArray[np.uint32]:
    return np.where(codes < 0, last, codes).astype(np.uint32)


def _split_tags(text: str) -> list[str] | None:
    items = string_list(text) if text.startswith("[") else None
    parts = items if items is not None else text.split(",")
    return [part.strip() for part in parts if part.strip()] or None


def _present(texts: pl.Series) -> pl.Series:
    """Distinct texts, bare of blanks; those that dialects write for "nothing" are nothing."""
    bare = [text.strip() if text is not None else None for text in texts]
    return pl.Series(texts.name, [None if text in _NOTHING else text for text in bare], dtype=pl.String())
