"""The past of a demo: its config is one, what went wrong shows, and the collector that starts over it knows what was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from prometheus_client import CollectorRegistry

from collector.component import Context, Payload
from collector.errors import Permanent
from collector.findings_book import FindingsBook
from collector.store import StateStore, open_sealer
from config import load
from config.model import LoadedConfig
from exporters.nop import Nop
from spanledger.demo.company import World
from spanledger.demo.history import History, config_text, troubles
from spanledger.demo.rhythm import DAY_NS
from spanledger.demo.traffic import by_day

#: A Monday, the first of a month's second week.
NOW_NS = 1_793_577_600 * 10**9 + 9 * DAY_NS
START_NS = NOW_NS - 4 * DAY_NS
WORLD = World.seeded(1, calls_a_day=4_000)


pytestmark = pytest.mark.usefixtures("without_warnings")


def loaded(folder: Path) -> LoadedConfig:
    """The demo's config, but that nothing is delivered: the store is not what is tested here."""
    config = yaml.safe_load(config_text(WORLD, folder, START_NS))
    for pipeline in config["service"]["pipelines"].values():
        pipeline["exporters"] = ["nop"]
    file = folder / "demo.yaml"
    file.write_text(yaml.safe_dump(config))
    return load(file)


def test_the_config_is_one_without_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text(config_text(WORLD, tmp_path, START_NS))
    made = load(file)
    assert made.warnings == ()
    assert made.service.data_dir == tmp_path
    assert {"pricing", "redaction", "routing", "budgets", "behaviour"} <= set(
        made.service.pipelines["traces"].processors
    )
    budgets = made.processors["budgets"].config.budgets  # type: ignore[attr-defined]
    named = [team for budget in budgets.values() for team in budget.match.get("team", ())]
    assert len(named) == len(set(named)) >= 15


def test_everything_that_went_wrong_changes_calls() -> None:
    made = troubles(WORLD, NOW_NS)
    assert len({one.kind for one in made}) == len(made) >= 8
    changed = {one.kind: 0 for one in made}
    for day in by_day(WORLD, NOW_NS - 18 * DAY_NS, 18, made):
        both = day.calls.join(day.usual, on="call_id", how="left", suffix="_usual")
        other = both.filter(pl.any_horizontal(pl.col(n).ne_missing(pl.col(f"{n}_usual")) for n in ("status", "input_tokens", "cost_pico", "duration_ns")))  # fmt: skip
        for one in made:
            changed[one.kind] += other.filter(pl.col("start_ns").is_between(one.start_ns, one.end_ns)).height
    assert all(changed.values()), changed
    assert max(one.end_ns for one in made) > NOW_NS, "the last of it goes on"


def written(folder: Path) -> tuple[LoadedConfig, pl.DataFrame]:
    made = loaded(folder)
    history, frames = History(made), []
    for day in by_day(WORLD, START_NS, 4, troubles(WORLD, NOW_NS)):
        history.take(day.calls, day.start_ns + DAY_NS)
        frames.append(day.calls)
    history.close(keep=True)
    return made, pl.concat(frames)


def test_the_collector_that_starts_over_it_knows_what_was(tmp_path: Path) -> None:
    made, calls = written(tmp_path)
    store = StateStore(tmp_path / "state", open_sealer(made.service.encryption, tmp_path))
    try:
        with store.reader() as reader:
            book = FindingsBook(CollectorRegistry())
            book.load(reader.component("traces/findings"))
            assert book.open > 0
            spec = made.processors["budgets"]
            budgets: Any = spec.cls(spec.config, Context("budgets", tmp_path, CollectorRegistry()))
            budgets.load(reader.component("traces/budgets"))
            (company,) = [one for one in budgets.verdicts.report(NOW_NS - DAY_NS, 5) if one["budget"] == "company"]
            first = calls["day"].max().replace(day=1)  # type: ignore[union-attr]
            spent = calls.filter(pl.col("day") >= first)["cost_pico"].sum()
            assert round(float(company["subjects"][0]["used"]) * 10**12) == spent
            assert next(iter(reader.component("traces/behaviour").items()), None) is not None
    finally:
        store.close()


def test_what_cannot_be_written_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Nop, payload: Payload) -> None:
        raise Permanent("the disk is full")

    monkeypatch.setattr(Nop, "encode", lambda self, batch: [Payload(b"")])
    monkeypatch.setattr(Nop, "send", refuse)
    history = History(loaded(tmp_path))
    (day,) = by_day(WORLD, START_NS, 1)
    history.take(day.calls, day.start_ns + DAY_NS)
    with pytest.raises(Permanent, match="disk is full"):
        history.take(day.calls, day.start_ns + 2 * DAY_NS)
    history.close(keep=False)
    assert not (tmp_path / "state").exists()
