"""A policy over a batch of calls: which route each falls under, which model is expected, and what the difference costs.

Tests on texts are done once per distinct text, on numbers as columns; whether two names are one model is found out once per
combination of names.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import yaml
from numpy.typing import NDArray

from collector import distinct
from collector.batch import Quote
from collector.prices import USAGE
from collector.sums import served_model
from processors.routing.config import ANY_OF, COMPARISONS, LIST_COLUMNS, PolicyConfig, Tier, pattern_of, route_name
from processors.routing.names import bare, same_model, undated

I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]
#: What `route_verdict` says, by number.
VERDICTS = ("ok", "premium_instead", "cheaper_instead", "other_model", "unknown_route")
OK, PREMIUM, CHEAPER, OTHER, UNKNOWN = range(len(VERDICTS))
MODELS = ("upstream_model", "response_model", "request_model")
#: What a quote needs of a call.
QUOTED = (
    "start_ns", "provider", *MODELS, "service_tier", "requested_tier", "operation", "team", "status", "response_cache_hit",
    "usage_flags", "reported_cost_pico", "price_source", *USAGE,
)  # fmt: skip
_REMEMBERED = 50_000
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {name: getattr(operator, {"lte": "le", "gte": "ge"}.get(name, name)) for name in COMPARISONS}  # fmt: skip
_LISTS = frozenset(column.name for column in LIST_COLUMNS)


@cache
def shipped_tiers() -> tuple[Tier, ...]:
    """The quality tiers that ship."""
    text = files("processors.routing").joinpath("tiers.yaml").read_text(encoding="utf-8")
    return tuple(Tier.model_validate(tier) for tier in yaml.safe_load(text))


class Columns:
    """Columns of a batch's calls, each read when it is first asked for."""

    def __init__(self, calls: pl.DataFrame) -> None:
        self._calls = calls
        self._numbers: dict[str, tuple[I64, Mask]] = {}
        self._texts: dict[str, tuple[NDArray[np.int32], list[Any]]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def fits(self, name: str, pattern: re.Pattern[str]) -> Mask:
        """Rows whose text (or one of whose texts) the pattern fits; what is null is the empty text."""
        if name not in self._texts:
            column = self._calls[name]
            if name in _LISTS:
                codes, lists = distinct.lists(column)
                self._texts[name] = codes, [[text.lower() for text in texts] for texts in lists]
            else:
                codes, texts = distinct.texts(column)
                self._texts[name] = codes, [[text.lower()] for text in texts.to_list()]
        codes, values = self._texts[name]
        table = [any(pattern.match(text) for text in texts or [""]) for texts in values]
        found: Mask = np.array([*table, pattern.match("") is not None], dtype=np.bool_)[codes]
        return found

    @cached_property
    def served(self) -> tuple[NDArray[np.int32], list[str]]:
        """Of the model that served: per row the number of its name, -1 for null, and the names."""
        codes, texts = distinct.texts(served_model(self._calls))
        return codes, texts.to_list()

    def number(self, name: str) -> tuple[I64, Mask]:
        """A count, and where it is known."""
        if name not in self._numbers:
            self._numbers[name] = distinct.integers(self._calls[name])
        return self._numbers[name]


class Test:
    """A `match`, made ready."""

    def __init__(self, match: Any) -> None:
        self._texts: list[tuple[tuple[str, ...], re.Pattern[str]]] = []
        self._numbers: list[tuple[str, Callable[[Any, Any], Any], int]] = []
        for name in sorted(match.model_fields_set):
            value = getattr(match, name)
            if value is None:
                continue
            column, _, comparison = name.rpartition("_")
            if comparison in COMPARISONS and isinstance(value, int):
                self._numbers.append((column, _COMPARE[comparison], value))
            else:
                self._texts.append((ANY_OF.get(name, (name,)), re.compile(pattern_of(value))))

    @property
    def columns(self) -> set[str]:
        """The columns that it looks at."""
        return {name for names, _ in self._texts for name in names} | {name for name, _, _ in self._numbers}

    def holds(self, columns: Columns) -> Mask:
        """Which calls it holds for."""
        held = np.ones(len(columns), dtype=np.bool_)
        for names, pattern in self._texts:
            one = columns.fits(names[0], pattern)
            for name in names[1:]:
                one = one | columns.fits(name, pattern)
            held &= one
        for name, compare, limit in self._numbers:
            values, known = columns.number(name)
            held &= compare(values, limit) & known
        return held


@dataclass(frozen=True, slots=True)
class Judged:
    """What a policy says of calls, as columns.

    route:    per row the number of its route, -1 for none
    verdict:  per row its place in VERDICTS
    expected: pico-USD that the expected model would have cost, and where that is known
    """

    route: I64
    verdict: NDArray[np.int8]
    expected: I64
    known: Mask


@dataclass
class Policy:
    """A policy, made ready. For one thread."""

    config: PolicyConfig
    names: list[str] = field(init=False)
    _same: dict[tuple[Any, ...], bool] = field(init=False, default_factory=dict)
    _tiers: dict[str, int | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.names = [route_name(route, number) for number, route in enumerate(self.config.routes)]
        self.expected = [route.route_to[0] for route in self.config.routes]
        self.tests = [Test(route.match) for route in self.config.routes]
        self._globs = [re.compile(pattern_of(route.route_to)) for route in self.config.routes]
        self._patterns = [(tier.tier, re.compile(pattern_of(tier.models))) for tier in (*self.config.tiers, *shipped_tiers())]  # fmt: skip

    @property
    def columns(self) -> set[str]:
        """The columns that the routes look at."""
        return set[str]().union(*(test.columns for test in self.tests))

    def judge(self, calls: pl.DataFrame, quote: Quote | None, columns: Columns | None = None) -> Judged:
        """Route, verdict and expected cost of each call (CALL_COLUMNS, priced)."""
        count = len(calls)
        route = self.route(columns or Columns(calls))
        cost, costs = distinct.integers(calls["cost_pico"])
        right = self._right(calls, route)
        verdict = np.where(route < 0, UNKNOWN, np.where(right, OK, OTHER)).astype(np.int8)
        expected, known = np.where(right, cost, 0), right & costs
        wrong = np.flatnonzero(verdict == OTHER)
        if len(wrong) and quote is not None:
            expected[wrong], known[wrong] = self._quoted(calls, route, wrong, quote)
            both = known & costs & (verdict == OTHER)
            verdict[both & (cost > expected)] = PREMIUM
            verdict[both & (cost < expected)] = CHEAPER
        assert len(verdict) == count
        return Judged(route, verdict, expected, known)

    def route(self, columns: Columns) -> I64:
        """The number of each call's route, -1 for none: the first that matches."""
        found = np.full(len(columns), -1, dtype=np.int64)
        left = np.ones(len(columns), dtype=np.bool_)
        for number, test in enumerate(self.tests):
            if not left.any():
                break
            held = test.holds(columns) & left
            found[held] = number
            left &= ~held
        return found

    def quoted(self, calls: pl.DataFrame, route: I64, quote: Quote) -> tuple[I64, Mask]:
        """What the expected models would have cost, of calls that have a route; and where that is known."""
        return self._quoted(calls, route, np.arange(len(calls)), quote)

    def _quoted(self, calls: pl.DataFrame, route: I64, rows: I64, quote: Quote) -> tuple[I64, Mask]:
        aliases = self.config.aliases
        models = pl.Series("request_model", [aliases.get(name, name) for name in self.expected], dtype=pl.String())
        asked = calls.select(QUOTED)
        asked = asked if len(rows) == len(asked) else asked[rows]
        return distinct.integers(quote(asked, models[route[rows].astype(np.uint32)])["cost_pico"])

    def _right(self, calls: pl.DataFrame, route: I64) -> Mask:
        """Whether the expected model served."""
        code, first = distinct.combinations(calls, MODELS, [route])
        names, table = [calls[name] for name in MODELS], []
        for row in first.tolist():
            key = (int(route[row]), *(column.item(row) for column in names))
            if key not in self._same:
                if len(self._same) >= _REMEMBERED:
                    self._same.clear()
                self._same[key] = key[0] >= 0 and self._served(*key)
            table.append(self._same[key])
        found: Mask = np.array(table, dtype=np.bool_)[code]
        return found

    def _served(self, number: int, upstream: str | None, response: str | None, request: str | None) -> bool:
        """Whether one of the route's models served; the asked name counts where nobody tells who did, or for an alias."""
        route = self.config.routes[number]
        served = [name for name in (upstream, response) if name]
        aliased = any(name in self.config.aliases for name in route.route_to)
        candidates = [*served, *([request] if request and (aliased or not served) else [])]
        wanted = [
            *route.route_to,
            *(self.config.aliases[name] for name in route.route_to if name in self.config.aliases),
        ]
        return any(same_model(want, name) for want in wanted for name in candidates) or any(
            self._globs[number].match(text) for name in candidates for text in (name.lower(), bare(name))
        )

    def tier(self, model: str | None) -> int | None:
        """The quality tier of a model; None: nobody knows."""
        if not model:
            return None
        if model not in self._tiers:
            if len(self._tiers) >= _REMEMBERED:
                self._tiers.clear()
            spellings = (model.lower(), bare(model), undated(model))
            self._tiers[model] = next((tier for tier, one in self._patterns if any(map(one.match, spellings))), None)
        return self._tiers[model]

    def tiers(self, columns: Columns) -> pl.Series:
        """The quality tier of the model that served each call."""
        codes, texts = columns.served
        table = pl.Series("model_tier", [*(self.tier(text) for text in texts), None], dtype=pl.Int64())
        return table[np.where(codes < 0, len(table) - 1, codes).astype(np.uint32)]


def fitting(column: pl.Series, fits: Callable[[str], bool]) -> Mask:
    """Rows whose text fits; none where it is null or empty."""
    if column.null_count() == len(column):
        return np.zeros(len(column), dtype=np.bool_)
    codes, texts = distinct.texts(column)
    return coded(codes, texts.to_list(), fits)


def coded(codes: NDArray[np.int32], texts: Sequence[str], fits: Callable[[str], bool]) -> Mask:
    """The same of a column whose texts are numbered, -1 for null."""
    table = [bool(text) and fits(text) for text in texts]
    found: Mask = np.array([*table, False], dtype=np.bool_)[codes]
    return found


def spelt(name: str, table: Sequence[str], rows: NDArray[Any], known: Mask | None = None) -> pl.Series:
    """The table's texts by number, null where a row is not known."""
    texts = pl.Series(name, [*table, None], dtype=pl.String())
    last = len(table)
    return texts[np.where((rows < 0) | (False if known is None else ~known), last, rows).astype(np.uint32)]


def money(name: str, values: I64, known: Mask) -> pl.Series:
    """A column of pico-USD, null where it is not known."""
    return pl.Series(name, pa.array(values, mask=~known))
