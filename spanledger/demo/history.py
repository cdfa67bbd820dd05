"""The past of a demo, written into a fresh data directory before its collector starts.

Calls go through the config's own processors of calls and the ClickHouse exporter's own encoding, and what the processors have
learnt by then goes into the state store: the collector that starts over it goes on where the history ends. Only spans are
missing; those of the last hours are sent to it as OTLP instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from prometheus_client import CollectorRegistry

from collector.batch import Position, Quote, SpanBatch
from collector.columns import PICO_PER_USD
from collector.component import Context, Exporter, Processor, Stage
from collector.findings_book import FindingsBook
from collector.otlp import decode
from collector.store import StateStore, open_sealer
from config.loader import SHIPPED
from config.model import LoadedConfig
from processors.pricing import Pricing
from spanledger.demo.company import World
from spanledger.demo.incidents import Incident, Kind
from spanledger.demo.rhythm import DAY_NS, HOUR_NS
from spanledger.demo.traffic import by_day

PIPELINE = "traces"


# The collector of this company --------------------------------------------------------------------------------------------


def config_text(world: World, data_dir: Path, start_ns: int) -> str:
    """The shipped config with what this company would add to it: routes, budgets, and the weights of its deployments."""
    config = yaml.safe_load(SHIPPED.read_text("utf-8"))
    config["service"]["data_dir"] = str(data_dir)
    config["exporters"]["clickhouse"]["dsn"] = f"chdb://{data_dir / 'clickhouse'}"
    added = {"routing": _routing(), "budgets": _budgets(world, start_ns), "behaviour": _behaviour(world)}
    config["processors"] = {**config["processors"], **added}
    pipeline = config["service"]["pipelines"][PIPELINE]
    pipeline["processors"] += [name for name in added if name not in pipeline["processors"]]
    return "# Made by `spanledger demo --history`: the shipped config, and what the demo's company has added to it.\n" + yaml.safe_dump(config, sort_keys=False, width=120)  # fmt: skip


_SMALL = [
    "gpt-4o-mini",
    "gpt-4.1-mini",
    "gemini-2.5-flash",
    "claude-haiku-4-5",
    "llama-3.3-70b-versatile",
    "acme-support-7b",
]


def _routing() -> dict[str, Any]:
    return {
        "quiet": "24h",
        "routes": [
            {"name": "triage", "match": {"task_type": "classification"}, "route_to": _SMALL},
            {"name": "summaries", "match": {"task_type": "summarization", "input_tokens_lt": 6000}, "route_to": [*_SMALL, "gemini-2.5-pro", "gpt-4.1"]},
            {"name": "chat", "match": {"task_type": "general_chat"}, "route_to": [*_SMALL, "gemini-2.5-pro", "gpt-4.1", "gpt-4o"]},
        ],
        "rules": [{"match": {"environment": "production"}, "deny_models": ["claude-opus*", "gpt-5-pro*", "o3-pro*"], "require_max_tokens": True}],
    }  # fmt: skip


def _budgets(world: World, start_ns: int) -> dict[str, Any]:
    """What the company and its teams need in a month, going by its first working day, and a little more: launches are not in it."""
    weekday = (start_ns // DAY_NS + 3) % 7
    calls = next(by_day(world, start_ns + (7 - weekday) * DAY_NS if weekday >= 5 else start_ns, 1)).usual
    spent = calls.group_by("team").agg(pl.col("cost_pico").sum() / PICO_PER_USD).sort("cost_pico", descending=True)
    month = {team: 26 * usd for team, usd in spent.iter_rows() if usd > 0}
    teams, tiers = list(month), ("large-teams", "teams", "small-teams")
    parts = [teams[: len(teams) // 5], teams[len(teams) // 5 : len(teams) // 2], teams[len(teams) // 2 :]]
    return {
        "budgets": {
            "company": {"usd": _rounded(1.05 * sum(month.values()))},
            **{name: {"per": ["team"], "match": {"team": part}, "usd": _rounded(1.1 * month[part[0]])} for name, part in zip(tiers, parts, strict=True) if part},
            "notebooks": {"per": ["user"], "match": {"environment": "development"}, "usd": 1, "window": "day"},
        }
    }  # fmt: skip


def _rounded(usd: float) -> int:
    """As people write budgets: two digits that say something."""
    step: int = 10 ** max(len(str(round(usd))) - 2, 0)
    return max(round(usd / step) * step, 1)


def _behaviour(world: World) -> dict[str, Any]:
    many = [one for one in world.offers if len(one.deployments) > 1]
    return {"groups": [{"model": one.alias, "weights": {d.name: d.weight for d in one.deployments}} for one in many]}


def troubles(world: World, now_ns: int) -> tuple[Incident, ...]:
    """What went wrong in the weeks before, so that there is something to find; the last of it is still going on."""
    apps = sorted(world.workloads, key=lambda one: -one.calls_a_day)
    chat = next(one for one in apps if one.guardrail and one.output_limit)
    cached = next(one for one in apps if one.cached >= 0.5 and one.app != chat.app)
    agent = next((one for one in apps if one.task in ("agent", "code")), apps[0])
    writer = next((one for one in reversed(apps) if one.calls_a_day > 100 and one.output_limit and one.app != chat.app), apps[-1])  # fmt: skip
    served = world.offer(cached.models[0][0])
    of = {one.app: (("app", one.app), ("team", one.team)) for one in apps}
    model = (("model", served.alias), ("provider", served.model.provider))

    def at(kind: Kind, where: Any, days_ago: float, hours: float, strength: float, to: str = "") -> Incident:
        start = now_ns - round(days_ago * DAY_NS)
        return Incident(kind, where, start, start + round(hours * HOUR_NS), strength, to, round(days_ago * 100))

    return (
        at(Kind.CACHE_BROKEN, of[cached.app], 17.4, 26, 0.95),
        at(Kind.ERROR_BURST, model, 14.6, 2, 0.6),
        at(Kind.RUNAWAY_LOOP, of[agent.app], 12.3, 4, 30),
        at(Kind.PREMIUM_DRIFT, (*of[chat.app], ("model", chat.models[0][0])), 10.5, 60, 0.8, "claude-sonnet"),
        at(Kind.KEY_LEAKED, (("api_key", writer.key), ("team", writer.team)), 7.2, 7, 20, "claude-opus"),
        at(Kind.GUARDRAIL_STRICT, of[chat.app], 5.5, 14, 0.3),
        at(Kind.NEW_MODEL, of[writer.app], 4.3, 30, 0.4, "grok-4"),
        at(Kind.PROVIDER_SLOW, (("provider", served.model.provider),), 2.6, 3, 3.5),
        at(Kind.PROMPT_BLOAT, of[agent.app], 1.6, 60, 3.0),
    )


# Writing ------------------------------------------------------------------------------------------------------------------


class _Memory(dict[bytes, bytes]):
    """A component's namespace until it goes into the store."""

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:  # type: ignore[override]
        return iter(sorted(item for item in super().items() if item[0].startswith(prefix)))

    put = dict.__setitem__

    def delete(self, key: bytes) -> None:
        self.pop(key, None)


class History:
    """Writes frames of calls, priced and attributed, as a pipeline would have. Raises `SpanledgerError`."""

    def __init__(self, loaded: LoadedConfig) -> None:
        self._loaded = loaded
        pipeline = loaded.service.pipelines[PIPELINE]
        self._undo = ExitStack()
        made: list[Processor[Any]] = [self._opened(loaded.processors[name]) for name in pipeline.processors]
        self._exporters: list[Exporter[Any]] = [self._opened(loaded.exporters[name]) for name in pipeline.exporters]
        self._named = [one for one in made if one.stage is not Stage.CALLS]
        self._processors = [one for one in made if one.stage is Stage.CALLS and not isinstance(one, Pricing)]
        self._quote = next((_by_day(one.quote) for one in made if isinstance(one, Pricing)), None)
        self._book = FindingsBook(CollectorRegistry())
        self._states = {one.context.id: _Memory() for one in self._processors} | {"findings": _Memory()}
        for one in self._processors:
            one.load(self._states[one.context.id])
        self._nothing = decode.decode(b"")
        self._names: dict[str, dict[str, str]] = {}
        self._taken = 0
        # Encoding and inserting are the engine's and Arrow's work, beside which the next day can be drawn.
        self._writer = ThreadPoolExecutor(1, "history")
        self._writing: Future[None] = self._writer.submit(self._start)

    def _opened(self, spec: Any) -> Any:
        made = spec.cls(spec.config, Context(spec.id, self._loaded.service.data_dir, CollectorRegistry(), sources=self._loaded.sources))  # fmt: skip
        self._undo.callback(made.close)
        return made

    def take(self, calls: pl.DataFrame, until_ns: int) -> None:
        """Calls that begin before `until_ns` and behind those taken before: a day of them at best, since an insert is worth its
        cost with many rows. Raises what went wrong with those before."""
        self._taken += 1
        position = Position(self._taken, self._taken)
        batch = SpanBatch.blank(self._nothing, position, until_ns).with_(calls=self._renamed(calls), quote=self._quote)
        for processor in self._processors:
            batch = processor.process(batch)
        batch = self._book.observe(batch)
        for one in self._processors:
            one.save(self._states[one.context.id])
            one.committed()
        self._book.save(self._states["findings"])
        self._writing.result()
        self._writing = self._writer.submit(self._write, batch)

    def _start(self) -> None:
        for exporter in self._exporters:
            exporter.start()

    def _write(self, batch: SpanBatch) -> None:
        for exporter in self._exporters:
            for payload in exporter.encode(batch):
                exporter.send(payload)

    def close(self, *, keep: bool) -> None:
        """Free everything; `keep`: leave what the processors know for the collector that starts next."""
        with self._undo, self._writer:
            if keep:
                self._writing.result()
                self._store()

    def _store(self) -> None:
        settings = self._loaded.service
        store = StateStore(settings.data_dir / "state", open_sealer(settings.encryption, settings.data_dir), dead_letter_bytes=settings.dead_letters.max_size)  # fmt: skip
        try:
            with store.transaction() as transaction:
                for name, state in self._states.items():
                    component = transaction.component(f"{PIPELINE}/{name}")
                    for key, value in state.items():
                        component.put(key, value)
        finally:
            store.close()

    def _renamed(self, calls: pl.DataFrame) -> pl.DataFrame:
        """People under the names that redaction gives them."""
        return calls.with_columns(
            calls[column].replace_strict(self._called(column, calls[column].unique().drop_nulls()), default=None, return_dtype=pl.String())
            for column in ("user", "end_user")
        )  # fmt: skip

    def _called(self, column: str, names: Iterable[str]) -> dict[str, str]:
        known = self._names.setdefault(column, {})
        for name in names:
            if name not in known:
                known[name] = name
                for processor in self._named:
                    known[name] = processor.called(column, known[name])
        return known


def _by_day(quote: Quote) -> Quote:
    """Asks once for a day, not for every quarter of an hour: prices of these models hold for whole days."""

    def asked(calls: pl.DataFrame, models: pl.Series) -> pl.DataFrame:
        return quote(calls.with_columns(pl.col("start_ns") // DAY_NS * DAY_NS), models)

    return asked


__all__ = ["History", "config_text", "troubles"]
