"""Hand-made traffic for tests of anomalies: a few apps that call a few models, steadily but for chance."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from prometheus_client import CollectorRegistry

from collector.batch import Position, SpanBatch
from collector.columns import CALL_COLUMNS, nulls
from collector.component import Context
from collector.findings import Observation
from collector.otlp import decode
from processors.anomaly import Anomaly, AnomalyConfig
from tests.findings_kit import Memory

S, MINUTE, HOUR, DAY = 10**9, 60 * 10**9, 3600 * 10**9, 86400 * 10**9
#: A Monday.
START = 1_793_577_600 * S
#: App, team, key, model, provider, calls in five minutes.
_APPS = (
    ("chat", "search", "search-prod", "small", "openai", 12),
    ("chat", "search", "search-prod", "large", "openai", 4),
    ("docs", "search", "docs-prod", "small", "openai", 8),
    ("bids", "ads", "ads-prod", "swift", "groq", 8),
)  # fmt: skip
_PRICES = {"small": 4e-6, "large": 3e-5, "swift": 2e-6}
_NOTHING = decode.decode(b"")
Change = Callable[[pl.DataFrame], pl.DataFrame]


def traffic(start_ns: int, end_ns: int, seed: int = 1, times: float = 1.0, **columns: Any) -> pl.DataFrame:
    """Calls of a time, sorted by start. `times`: how many times the usual; `columns`: values that all of them have."""
    draw = np.random.default_rng([seed, start_ns // S])
    parts = [_calls(draw, start_ns, end_ns, times * (end_ns - start_ns) / (5 * MINUTE), *app) for app in _APPS]
    calls = pl.concat(parts).sort("start_ns", "call_id")
    return calls.with_columns(pl.lit(value).cast(calls.schema[name]).alias(name) for name, value in columns.items())


def _calls(
    draw: np.random.Generator, start_ns: int, end_ns: int, buckets: float, app: str, team: str, key: str, model: str, provider: str, calls: int
) -> pl.DataFrame:  # fmt: skip
    count = int(draw.poisson(calls * buckets))
    asked, answered = draw.lognormal(7, 0.4, count).astype(np.int64), draw.lognormal(5, 0.4, count).astype(np.int64)
    duration = (0.5 + answered / 100) * draw.lognormal(0, 0.1, count) * S
    hit = draw.random(count) < 0.6
    ids = [f"{app}-{model}-{start_ns // S}-{number}" for number in range(count)]
    values: dict[str, Any] = {
        "start_ns": draw.integers(start_ns, end_ns, count), "call_id": ids, "app": [app] * count, "team": [team] * count,
        "api_key": [key] * count, "request_model": [model] * count, "response_model": [model] * count, "provider": [provider] * count,
        "deployment": [f"{model}-{'ab'[place]}" for place in draw.integers(0, 2, count).tolist()],
        "trace_id": [f"{place:032x}" for place in draw.integers(1, 2**62, count).tolist()],
        "span_id": [f"{place:016x}" for place in draw.integers(1, 2**62, count).tolist()],
        "input_tokens": asked, "output_tokens": answered, "cache_read_tokens": np.where(hit, asked * 7 // 10, 0),
        "duration_ns": duration.astype(np.int64), "time_to_first_token_ns": (0.4 * S * draw.lognormal(0, 0.2, count)).astype(np.int64),
        "cost_pico": ((asked + 4 * answered) * _PRICES[model] * 1e12).astype(np.int64), "status": ["Unset"] * count,
        "version": [1] * count, "withdrawn": [False] * count,
        "service_name": ["gateway"] * count, "reports": [["litellm"]] * count, "report_count": [1] * count, "tags": [[]] * count,
        "usage_flags": [[]] * count, "price_assumptions": [[]] * count,
    }  # fmt: skip
    made: dict[str, pl.Series] = nulls(CALL_COLUMNS, count)
    made |= {name: pl.Series(name, value, dtype=made[name].dtype) for name, value in values.items()}
    return pl.DataFrame(list(made.values())).with_columns(pl.from_epoch("start_ns", "ns").dt.date().alias("day"))


def multiplied(where: pl.Expr, factor: float, *names: str) -> Change:
    """Some columns of some calls, times a factor."""
    return lambda calls: calls.with_columns(
        pl.when(where).then((pl.col(name) * factor).round().cast(pl.Int64())).otherwise(pl.col(name)).alias(name) for name in names
    )  # fmt: skip


def exchanged(where: pl.Expr, **values: Any) -> Change:
    """Other values in some calls."""
    return lambda calls: calls.with_columns(
        pl.when(where).then(pl.lit(value).cast(calls.schema[name])).otherwise(pl.col(name)).alias(name) for name, value in values.items()
    )  # fmt: skip


def processor(state: Memory | None = None, **options: Any) -> Anomaly:
    """As it starts over a state."""
    registry = CollectorRegistry()
    made = Anomaly(AnomalyConfig.model_validate(options), Context("anomaly", Path(), registry))
    made.load(state or Memory())
    return made


def counted(made: Anomaly, name: str) -> float:
    """One of its metrics."""
    return made.context.metrics.get_sample_value(f"spanledger_anomaly_{name}") or 0.0


def batch(calls: pl.DataFrame, replaced: pl.DataFrame | None = None, received_ns: int | None = None) -> SpanBatch:
    """Calls as the ledger hands them on."""
    newest = int(calls["start_ns"].max() or 0) if received_ns is None else received_ns  # type: ignore[arg-type]
    made = SpanBatch.blank(_NOTHING, Position(1, 1), newest).with_(calls=calls)
    return made if replaced is None else made.with_(replaced=replaced)


def take(made: Anomaly, calls: pl.DataFrame, state: Memory | None = None, **more: Any) -> list[Observation]:
    """One batch, committed; what was observed."""
    done = made.process(batch(calls, **more))
    made.save(state if state is not None else Memory())
    made.committed()
    return list(done.observed)


def opened(observed: Iterable[Observation]) -> list[tuple[str, dict[str, str]]]:
    """Kind and subject of what begins, in order; what ends may begin again."""
    found: list[tuple[str, dict[str, str]]] = []
    known: set[tuple[str, Any]] = set()
    for one in observed:
        key = (one.kind, one.subject)
        if one.holds and key not in known:
            found.append((one.kind, dict(one.subject)))
        known = known | {key} if one.holds else known - {key}
    return found
