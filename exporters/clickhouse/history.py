"""The ledger's calls as a history: exact sums by any dimensions and windows (`collector.history.History`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from collector.columns import CALL_COLUMNS
from collector.counting import Summed
from collector.sums import COUNTED_BY, LAST_NS
from collector.windows import QUARTER_NS, Rolling, Window
from exporters.clickhouse import schema
from exporters.clickhouse.client import Connection, explain
from exporters.clickhouse.config import Dsn
from exporters.clickhouse.ddl import Layout
from exporters.clickhouse.hourly import MODEL

_NAMES = {column.name: column.clickhouse for column in CALL_COLUMNS}
_DAY_NS = 86400 * 10**9
#: Grains of one statement, which has them as texts: a month's quarters of an hour are 3,000.
_AT_ONCE = 4000
_START = f"least(greatest(toUnixTimestamp64Nano(Timestamp), 0), {LAST_NS})"


class CallHistory:
    """Asks the view `llm_calls`, which has each call once, as it stands. Raises `DeliveryError`."""

    def __init__(self, dsn: Dsn, layout: Layout, timeout: float) -> None:
        self._dsn, self._layout, self._timeout = dsn, layout, timeout
        self._table = layout.name(schema.CALLS)

    def newest_ns(self) -> int:
        with self._asking() as connection:
            found = connection.values(f"SELECT count(), max({_START}) FROM {self._table}")
        return int(found[0][1]) if found and found[0][0] else 0

    def kept_since_ns(self, now_ns: int) -> int:
        days = self._layout.ledger_ttl_days
        return max(now_ns - days * _DAY_NS, 0) if days else 0

    def sums(self, dimensions: Sequence[str], window: Window, since_ns: int) -> list[Summed]:
        """Windows are cut here, not there: the store is asked which grains of time have calls, and told the window of each."""
        # Windows begin at quarters of an hour in every zone; rolling ones move on by their own steps.
        grain = window.step_ns if isinstance(window, Rolling) else QUARTER_NS
        at, where = f"intDiv({_START}, {grain})", f"WHERE {_START} >= {since_ns}"
        names = [MODEL if (name := COUNTED_BY[d]) is None else f"toString(`{_NAMES[name]}`)" for d in dimensions]
        keys = "".join(f", {name} AS d{number}" for number, name in enumerate(names))
        found: list[Summed] = []
        with self._asking() as connection:
            asked = connection.values(f"SELECT DISTINCT {at} AS grain FROM {self._table} {where} ORDER BY grain")
            grains = [int(row[0]) for row in asked]
            for first in range(0, len(grains), _AT_ONCE):
                some = grains[first : first + _AT_ONCE]
                periods = window.starts(np.array(some, np.int64) * grain).tolist()
                rows = connection.values(
                    f"SELECT transform({at}, {some}, {periods}, toInt64(-1)) AS period, "
                    "toString(ifNull(sum(CAST(CostUSD AS Nullable(Decimal(76, 12)))), toDecimal256(0, 12)) * 1000000000000), "
                    "toString(sum(toInt256(ifNull(InputTokens, 0))) + sum(toInt256(ifNull(OutputTokens, 0)))), "
                    f"count(), max({_START}), Collector{keys} FROM {self._table} {where} AND {at} BETWEEN {some[0]} AND {some[-1]} "
                    f"GROUP BY period, Collector{''.join(f', d{n}' for n in range(len(names)))}"
                )
                found += [
                    Summed(int(period), tuple(values), int(cost.partition(".")[0]), int(tokens), int(calls), int(last), str(by))
                    for period, cost, tokens, calls, last, by, *values in rows if int(period) >= 0
                ]  # fmt: skip
        return found

    @contextmanager
    def _asking(self) -> Iterator[Connection]:
        try:
            connection = Connection(self._dsn, timeout=self._timeout)
            try:
                yield connection
            finally:
                connection.close()
        except Exception as error:
            raise explain(error, str(self._dsn)) from error
