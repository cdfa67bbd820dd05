"""What each incident is, measured on the traffic itself: with it, and as it would have been without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from collector.columns import PICO_PER_USD
from spanledger.demo.company import World
from spanledger.demo.incidents import Incident, about
from spanledger.demo.rhythm import DAY_NS
from spanledger.demo.traffic import Day, by_day

#: What findings may name. `model` is compared with both names that a call has for its model.
_DIMENSIONS = ("team", "app", "user", "api_key", "environment", "provider", "request_model", "upstream_model", "deployment", "region", "refused_by", "task_type")  # fmt: skip
_SPELT = {"model": ("request_model", "upstream_model"), "guardrail": ("refused_by",), "served": ("upstream_model",)}
_COMPARED = ("status", "provider", "request_model", "upstream_model", "deployment", "output_limit", "input_tokens", "output_tokens", "cache_read_tokens", "duration_ns", "cost_pico", "refused_by")  # fmt: skip


@dataclass(slots=True)
class Label:
    """An incident as it came out. Money is what it cost beyond what would have been spent."""

    incident: Incident
    first_ns: int = 0  # start of the first call that it changed or made; 0: there was none
    changed: int = 0  # calls that it changed or made
    cost_usd: float = 0.0
    daily_usd: float = 0.0  # what the whole company usually spends a day
    #: All calls in its time, by what findings may name: how many, their cost, and whether it is about them.
    calls: list[pl.DataFrame] = field(default_factory=list)

    @property
    def cost_a_day(self) -> float:
        """Per day, or in all where it lasts less."""
        days = (self.incident.end_ns - self.incident.start_ns) / DAY_NS
        return self.cost_usd / max(days, 1.0)

    @property
    def dear(self) -> bool:
        """Whether it costs more than 5% of what the company spends a day."""
        return self.cost_a_day > 0.05 * self.daily_usd

    def part_of(self, subject: Mapping[str, str]) -> float:
        """Of the calls of a subject in the incident's time, or of their cost, which part it is about: the larger of the two."""
        matching = pl.lit(True)
        for dimension, value in subject.items():
            columns = _SPELT.get(dimension, (dimension,))
            if not set(columns) <= set(_DIMENSIONS):
                return 0.0
            matching &= pl.any_horizontal(pl.col(name) == value for name in columns)
        if not self.calls:
            return 0.0
        found = pl.concat(self.calls).filter(matching)
        own = found.filter("about")
        return max(
            (float(own[name].sum()) / total if (total := float(found[name].sum())) else 0.0)
            for name in ("calls", "usd")
        )


def measured(world: World, start_ns: int, labels: Sequence[Label], days: int = 30) -> Iterator[Day]:
    """The month day by day. The labels learn of each day before it is given out, and are complete after the last one."""
    spent: list[float] = []
    for day in by_day(world, start_ns, days, [label.incident for label in labels]):
        spent.append(_usd(day.usual))
        for label in labels:
            one = label.incident
            if one.start_ns < day.start_ns + DAY_NS and one.end_ns > day.start_ns:
                _measure(label, day)
            label.daily_usd = sum(spent) / len(spent)
        yield day


def _measure(label: Label, day: Day) -> None:
    one = label.incident
    during = pl.col("start_ns").is_between(one.start_ns, one.end_ns, closed="left")
    calls, usual = (frame.filter(during).select("call_id", "start_ns", *_DIMENSIONS, *(c for c in _COMPARED if c not in _DIMENSIONS)) for frame in (day.calls, day.usual))  # fmt: skip
    ids = pl.concat([frame.filter(about(one)).select("call_id") for frame in (calls, usual)]).unique()
    own, before = calls.join(ids, on="call_id", how="semi"), usual.join(ids, on="call_id", how="semi")
    both = own.join(before, on="call_id", how="left", suffix="_before", maintain_order="left")
    new = ~pl.col("call_id").is_in(before["call_id"].implode())
    changed = both.filter(
        new | pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_before")) for name in _COMPARED)
    )
    if len(changed):
        first = int(changed["start_ns"].min())  # type: ignore[arg-type]
        label.first_ns = min(label.first_ns or first, first)
    label.changed += len(changed)
    label.cost_usd += _usd(own) - _usd(before)
    # A call that goes elsewhere now counts where it would have gone, too.
    gone = before.join(changed, on="call_id", how="semi")
    rows = pl.concat([
        calls.with_columns(pl.col("call_id").is_in(ids["call_id"].implode()).alias("about")), gone.with_columns(pl.lit(True).alias("about")),
    ])  # fmt: skip
    label.calls.append(rows.group_by(*_DIMENSIONS, "about").agg(pl.len().alias("calls"), (pl.col("cost_pico").sum() / PICO_PER_USD).alias("usd")))  # fmt: skip


def _usd(calls: pl.DataFrame) -> float:
    return float(calls["cost_pico"].sum()) / PICO_PER_USD


__all__ = ["Label", "measured"]
