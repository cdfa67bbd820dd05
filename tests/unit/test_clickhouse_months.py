"""A batch whose calls lie in two months: each month's rows have their own money."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pyarrow as pa

from exporters.clickhouse import schema
from exporters.clickhouse.encode import payloads
from tests import ledger_rows as rows

MONTHS_END_NS = 1_793_491_200 * 10**9  # 2026-11-01
HOUR_NS = 3600 * 10**9


def test_the_hourly_money_of_two_months_is_each_months_own() -> None:
    made = [
        rows.call(str(n), start_ns=MONTHS_END_NS + (n - 4) * HOUR_NS, day=datetime.date(2026, 10, 31) if n < 4 else datetime.date(2026, 11, 1), cost_pico=10**n)
        for n in range(10)
    ]  # fmt: skip
    found = {}
    for payload in payloads(rows.batch(made=made), "clickhouse", "otel_traces", "none"):
        if payload.meta["table"] == schema.HOURLY_TABLE:
            table = pa.ipc.open_stream(payload.body).read_all()
            found |= dict(zip(table["Hour"].to_pylist(), table["CostUSD"].to_pylist(), strict=True))
    assert found == {(MONTHS_END_NS + (n - 4) * HOUR_NS) // 10**9: Decimal(10**n).scaleb(-12) for n in range(10)}
