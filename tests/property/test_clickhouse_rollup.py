"""Hourly sums equal the calls to the last digit, whatever versions of calls come, in whatever batches, sent how often."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from collector.sums import LAST_TOKENS
from exporters.clickhouse.client import Connection
from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.exporter import ClickHouse
from exporters.clickhouse.hourly import SUMS, Sums
from tests.ledger_rows import batch, call, context
from tests.spans_kit import NOON_NS

COUNT = st.none() | st.integers(0, 10**9) | st.sampled_from([-1, LAST_TOKENS, LAST_TOKENS + 1, 2**62])
MONEY = st.none() | st.integers(0, 10**15) | st.integers(-(10**6), 10**18 - 1)
NAME = st.none() | st.sampled_from(["", "a", "A", "é'", "(unattributed)"])
VERSION = st.fixed_dictionaries(
    {
        "call_id": st.sampled_from("abcdef"),
        "start_ns": st.integers(-3, 3).map(lambda hours: NOON_NS + hours * 1800 * 10**9),
        "team": NAME, "app": NAME, "user": NAME, "environment": NAME, "provider": NAME, "upstream_model": NAME,
        "response_model": NAME, "request_model": NAME, "status": st.sampled_from(["Unset", "Ok", "Error"]),
        "input_tokens": COUNT, "output_tokens": COUNT, "cache_read_tokens": COUNT, "cache_write_tokens": COUNT,
        "reasoning_tokens": COUNT, "cost_pico": MONEY, "cache_savings_pico": MONEY, "withdrawn": st.booleans(),
        "deployment": NAME, "region": NAME, "route": NAME, "expected_model": NAME, "route_verdict": NAME, "refused_by": NAME,
        "price_status": NAME, "price_source": NAME | st.sampled_from(["book 1.2 openai/gpt-4o", "book  1.2", " book"]),
        "error_type": NAME | st.sampled_from(["429", "Rate-Limit", "limit rate", "rate", "THROTTLED", "ratelimits"]),
        "model_tier": st.none() | st.integers(1, 3), "expected_cost_pico": MONEY, "avoidable_cost_pico": MONEY,
        "duration_ns": COUNT,
    }
)  # fmt: skip
BATCHES = st.lists(st.lists(VERSION, max_size=5, unique_by=lambda v: v["call_id"]), min_size=1, max_size=4)
DAYS = {id_: datetime.date(2026, 11, 24) if id_ < "d" else datetime.date(2026, 10, 31) for id_ in "abcdef"}


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    folder = tmp_path_factory.mktemp("rollup")
    made = ClickHouse(
        ClickHouseConfig.model_validate({"dsn": f"chdb://{folder / 'clickhouse'}"}), context(Path(folder))
    )
    made.start()
    yield made
    made.close()


@settings(
    deadline=None,
    max_examples=6,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(batches=BATCHES, again=st.integers(1, 3), merged=st.booleans())
def test_hourly_sums_equal_the_calls(
    exporter: ClickHouse, batches: list[list[dict[str, Any]]], again: int, merged: bool
) -> None:
    """The view, and the sums without users that the engine keeps beside them, before and after parts were merged."""
    connection = exporter._connection
    assert connection is not None
    for table in ("llm_calls_versions", *(sums.name for sums in SUMS)):
        connection.command(f"TRUNCATE TABLE spanledger.{table}")
    current: dict[str, dict[str, Any]] = {}
    for position, versions in enumerate(batches, 1):
        made = [
            call(v["call_id"], **{**v, "day": DAYS[v["call_id"]], "version": current.get(v["call_id"], {"version": 0})["version"] + 1})
            for v in versions
        ]  # fmt: skip
        replaced = [current[row["call_id"]] for row in made if row["call_id"] in current]
        for payload in exporter.encode(batch(made=made, replaced=replaced, position=position)):
            for _ in range(again):
                exporter.send(payload)
        current |= {row["call_id"]: row for row in made}
    for sums in SUMS if merged else ():
        connection.command(f"OPTIMIZE TABLE spanledger.{sums.name} FINAL")
    alive = [row for row in current.values() if not row["withdrawn"]]
    assert _ask(connection, "SELECT count() FROM spanledger.llm_calls") == [(str(len(alive)),)]
    for sums in SUMS:
        hourly = ", ".join(f"ifNull({m.name}, 0) AS of_{m.name}" for m in sums.measures)
        keys = ", ".join(sums.key_names[1:])
        found = f"SELECT toUnixTimestamp(Hour) AS hour, {keys}, {hourly} FROM spanledger.{sums.view} ORDER BY ALL"
        assert _ask(connection, _of_calls(sums)) == _ask(connection, found)
        # What the engine answers from for whoever asks for fewer keys.
        for narrow in sums.projections:
            total = ", ".join(f"sum({m.name})" for m in sums.measures)
            found = f"SELECT toUnixTimestamp(Hour), {', '.join(narrow.keys[1:])}, {total} FROM spanledger.{sums.name} GROUP BY {', '.join(narrow.keys)} HAVING sum(Calls) != 0 ORDER BY ALL"
            assert _ask(connection, _of_calls(sums, narrow.keys)) == _ask(
                connection, f"{found} SETTINGS force_optimize_projection = 1"
            )


def _of_calls(of: Sums, names: tuple[str, ...] | None = None) -> str:
    """The same sums of the calls in force."""
    keys = [key.of_calls for key in of.keys if names is None or key.field.name in names]
    first = f"toUnixTimestamp({keys[0]}) AS k0"
    columns = ", ".join([first, *(f"{sql} AS k{place}" for place, sql in enumerate(keys[1:], 1))])
    total = ", ".join(f"ifNull({m.of_calls}, 0)" for m in of.measures)
    return f"SELECT {columns}, {total} FROM spanledger.llm_calls GROUP BY {', '.join(f'k{n}' for n in range(len(keys)))} ORDER BY ALL"


def _ask(connection: Connection, sql: str) -> list[tuple[str, ...]]:
    return connection.rows(sql)
