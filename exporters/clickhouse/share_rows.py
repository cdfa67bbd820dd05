"""What collectors count together, as rows of `llm_budget_shares`, written and read (`collector.replicas`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import pyarrow as pa

from collector.replicas import Share
from collector.sums import LAST_NS
from exporters.clickhouse import schema
from exporters.clickhouse.client import Connection, explain
from exporters.clickhouse.config import Dsn
from exporters.clickhouse.ddl import Layout, text
from exporters.clickhouse.finding_rows import usd

_S_NS = 10**9
_TIME = pa.timestamp("ns")
_SCHEMA = pa.schema([
    ("Scope", pa.string()), ("Period", _TIME), ("Dimensions", pa.list_(pa.string())), ("Values", pa.list_(pa.string())), ("Collector", pa.string()),
    ("CostUSD", pa.decimal128(38, 12)), ("Tokens", pa.int64()), ("Calls", pa.int64()), ("LastCall", _TIME), ("Said", pa.map_(pa.string(), pa.int64())),
    ("Version", pa.uint64()),
])  # fmt: skip
_MOST = 2**63 - 1


def share_rows(shares: Sequence[Share]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of each month that there is (such as `202611`), in order. There are as many as counters that a batch changed."""
    for month, part in groupby(sorted(shares, key=_month), _month):
        yield month, pa.RecordBatch.from_pylist([_row(share) for share in part], _SCHEMA)


def _month(share: Share) -> str:
    return datetime.fromtimestamp(_time(share.period) // _S_NS, UTC).strftime("%Y%m")


def _row(share: Share) -> dict[str, Any]:
    return {
        "Scope": share.scope, "Period": _time(share.period), "Dimensions": list(share.dimensions), "Values": list(share.values),
        "Collector": share.collector, "CostUSD": usd(share.cost_pico), "Tokens": min(max(share.tokens, -_MOST), _MOST), "Calls": share.calls,
        "LastCall": _time(share.last_ns), "Said": list(share.said.items()), "Version": share.version,
    }  # fmt: skip


def _time(ns: int) -> int:
    return min(max(ns, 0), LAST_NS)


class StoredShares:
    """Asks the table. For one thread. Raises `DeliveryError`."""

    def __init__(self, dsn: Dsn, layout: Layout, timeout: float) -> None:
        self._dsn, self._timeout = dsn, timeout
        self._table = layout.name(schema.SHARES_TABLE)
        self._connection: Connection | None = None

    def read(self, since: Mapping[str, int], written_ns: int) -> tuple[list[Share], int]:
        """As `collector.replicas.Shares.read`."""
        if not since:
            return [], 0
        ours = " OR ".join(
            f"(Scope = {text(scope)} AND Period >= fromUnixTimestamp64Nano(toInt64({period})))"
            for scope, period in since.items()
        )
        select = (
            "SELECT Scope, toUnixTimestamp64Nano(Period), `Dimensions`, `Values`, Collector, Version, toString(toDecimal256(CostUSD, 12) * 1000000000000), Tokens, Calls, "
            "toUnixTimestamp64Nano(LastCall), Said, toUnixTimestamp64Milli(Written) "
            f"FROM {self._table} WHERE ({ours}) AND toUnixTimestamp64Milli(Written) >= {max(written_ns, 0) // 10**6} "
            "ORDER BY Version DESC LIMIT 1 BY Scope, Period, `Values`, Collector"
        )  # fmt: skip
        try:
            if self._connection is None:
                self._connection = Connection(self._dsn, timeout=self._timeout)
            rows = self._connection.values(select)
        except Exception as error:
            self.close()
            raise explain(error, str(self._dsn)) from error
        shares = [
            Share(
                str(scope), int(period), tuple(values), str(by), int(version), int(cost.partition(".")[0]), int(tokens), int(calls), int(last),
                {str(line): int(at) for line, at in said.items()}, tuple(dimensions),
            )
            for scope, period, dimensions, values, by, version, cost, tokens, calls, last, said, _ in rows
        ]  # fmt: skip
        return shares, max((int(row[-1]) for row in rows), default=0) * 10**6

    def close(self) -> None:
        """Give the connection back; the next read makes another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
