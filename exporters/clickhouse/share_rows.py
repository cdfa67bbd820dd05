"""What collectors count together, as rows of `llm_budget_shares`, written and read (`collector.replicas`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate, groupby
from operator import itemgetter

import pyarrow as pa

from collector.counting import Share
from collector.sums import LAST_NS
from exporters.clickhouse import schema
from exporters.clickhouse.arrow import record_batch
from exporters.clickhouse.client import Connection, explain
from exporters.clickhouse.config import Dsn
from exporters.clickhouse.ddl import Layout, text

_S_NS = 10**9
_MOST = 2**63 - 1
_MOST_PICO = 10**38 - 1


def share_rows(shares: Sequence[Share]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of each month that there is (such as `202611`), in order: one for each counter that a batch changed, column by column."""
    months = {p: f"{datetime.fromtimestamp(_time(p) // _S_NS, UTC):%Y%m}" for p in {share.period for share in shares}}
    named = sorted(((months[share.period], share) for share in shares), key=itemgetter(0))
    for month, part in groupby(named, itemgetter(0)):
        yield month, _rows([share for _, share in part])


def _rows(shares: list[Share]) -> pa.RecordBatch:
    said = [item for share in shares for item in share.said.items()]
    offsets = pa.array([0, *accumulate(len(share.said) for share in shares)], pa.int32())
    lines = pa.array([line for line, _ in said], pa.string()), pa.array([at for _, at in said], pa.int64())
    return record_batch({
        "Scope": pa.array([share.scope for share in shares]).dictionary_encode(),
        "Period": pa.array([_time(share.period) for share in shares], pa.timestamp("ns")),
        "Dimensions": pa.array([share.dimensions for share in shares], pa.list_(pa.string())),
        "Values": pa.array([share.values for share in shares], pa.list_(pa.string())),
        "Collector": pa.array([share.collector for share in shares]).dictionary_encode(),
        "CostUSD": _usd([share.cost_pico for share in shares]),
        "Tokens": pa.array([min(max(share.tokens, -_MOST), _MOST) for share in shares], pa.int64()),
        "Calls": pa.array([share.calls for share in shares], pa.int64()),
        "LastCall": pa.array([_time(share.last_ns) for share in shares], pa.timestamp("ns")),
        "Said": pa.MapArray.from_arrays(offsets, *lines),
        "Version": pa.array([share.version for share in shares], pa.uint64()),
    })  # fmt: skip


def _time(ns: int) -> int:
    return min(max(ns, 0), LAST_NS)


def _usd(pico: list[int]) -> pa.Array:
    """Pico-dollars as dollars with twelve digits: the unscaled value is the same number."""
    data = b"".join(min(max(one, -_MOST_PICO), _MOST_PICO).to_bytes(16, "little", signed=True) for one in pico)
    return pa.Array.from_buffers(pa.decimal128(38, 12), len(pico), [None, pa.py_buffer(data)])


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
