"""Sums by hour over the calls in force, declared once: tables, views, what calls add to them, and how a table is filled from calls.

The rows of such a table are movements: what new versions of calls add, minus what those that they replace had added. Summed
by anything, at any time, they equal the same sums over `llm_calls` to the last digit.

| Sums | By the hour and | For |
| --- | --- | --- |
| COSTS | team, app, user, environment, provider, model | who spent what |
| TRAFFIC | team, app, environment, provider, model; asked model, deployment, region, route, verdict, refusal, price | how calls are routed, shared, refused and priced |
"""

from __future__ import annotations

from dataclasses import dataclass

from collector import columns
from collector.columns import Column
from exporters.clickhouse.declare import Field, Projection, Table, low, text

#: The model that a call is charged under: what the gateway asked its provider for, else who answered, else who was asked.
MODEL = "multiIf(UpstreamModel != '', UpstreamModel, ResponseModel != '', ResponseModel, RequestModel)"
#: What a gateway or provider says where it refuses a call because there are too many.
LIMITED = "ErrorType = '429' OR ErrorType ILIKE '%rate%limit%' OR ErrorType ILIKE '%throttl%'"
#: A call that took longer than a day counts as one of a day, so that no sum of times leaves Int64.
LONGEST_NS = 86_400 * 10**9
_MONEY = "Decimal(38, 12)"
_COUNT = "Int64"


@dataclass(frozen=True, slots=True)
class Key:
    """What sums are kept by. `of_calls`: the same of a row of `llm_calls`. `column`: the pipeline's column that it is; None: `made` of several."""

    field: Field
    of_calls: str
    column: Column | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """A sum of an hourly table. `of_calls` is the same sum over `llm_calls`."""

    name: str
    type: str
    of_calls: str
    doc: str

    @property
    def field(self) -> Field:
        return Field(self.name, self.type, "" if self.type == _MONEY else "T64, ZSTD(1)", doc=self.doc)


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums by hour: the table `<view>_sums` of movements, and the view that shows one row for each combination of keys."""

    view: str
    doc: str
    keys: tuple[Key, ...]
    measures: tuple[Measure, ...]
    projections: tuple[Projection, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.view}_sums"

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(key.field.name for key in self.keys)

    @property
    def table(self) -> Table:
        keys = ", ".join(self.key_names)
        return Table(
            self.name,
            f"Movements of the hourly sums: a better version of a call takes back what the old one added. Ask `{self.view}`",
            (*(key.field for key in self.keys), *(measure.field for measure in self.measures)),
            engine="SummingMergeTree",
            order_by=f"({keys})",
            partition_by="toYYYYMM(Hour)",
            ttl="toDate(Hour)",
            sharding=f"cityHash64({keys})",
            projections=self.projections,
        )

    @property
    def select(self) -> str:
        """The view's SELECT, over `{0}`. A cost that no call has is unknown, not zero."""
        keys = ", ".join(self.key_names)
        totals = (
            "if(sum({0}.PricedCalls) = 0, NULL, sum({0}.CostUSD)) AS CostUSD"
            if measure.name == "CostUSD"
            else f"sum({{0}}.{measure.name}) AS {measure.name}"
            for measure in self.measures
        )
        return f"SELECT {keys}, {', '.join(totals)} FROM {{0}} GROUP BY {keys} HAVING Calls != 0"

    def fill(self, table: str, calls: str, where: str = "1") -> str:
        """INSERT of what calls in force add up to."""
        keys = ", ".join(f"{key.of_calls} AS k{place}" for place, key in enumerate(self.keys))
        sums = ", ".join(f"{measure.of_calls} AS m{place}" for place, measure in enumerate(self.measures))
        group = ", ".join(f"k{place}" for place in range(len(self.keys)))
        totals = ", ".join(f"ifNull(m{place}, 0)" for place in range(len(self.measures)))
        names = ", ".join((*self.key_names, *(measure.name for measure in self.measures)))
        return f"INSERT INTO {table} ({names}) SELECT {group}, {totals} FROM (SELECT {keys}, {sums} FROM {calls} WHERE {where} GROUP BY {group})"


def _key(column: Column, *, repeats: bool = True) -> Key:
    name = str(column.clickhouse)
    return Key((low if repeats else text)(name, column.doc), name, column)


_HOUR = Key(
    Field("Hour", "DateTime('UTC')", "Delta(4), ZSTD(1)", doc="Hour in which the call started, UTC"),
    "toStartOfHour(Timestamp, 'UTC')",
)
_SERVED = Key(low("Model", "Model that the call is charged under: upstream, else response, else request model"), MODEL)
_CALLS = Measure("Calls", _COUNT, "count()", "Calls")
_FAILED = Measure("FailedCalls", _COUNT, "countIf(StatusCode = 'Error')", "Calls that failed")
_PRICED = Measure("PricedCalls", _COUNT, "count(CostUSD)", "Calls whose cost is known")
_COST = Measure("CostUSD", _MONEY, "sum(CostUSD)", "Known cost; NULL where no call of the row has one")

_COST_KEYS = (_HOUR, _key(columns.TEAM), _key(columns.APP), _key(columns.USER, repeats=False), _key(columns.ENVIRONMENT), _key(columns.PROVIDER), _SERVED)  # fmt: skip
_COST_MEASURES = (
    _CALLS,
    _FAILED,
    _PRICED,
    Measure("UnpricedCalls", _COUNT, "countIf(CostUSD IS NULL AND StatusCode != 'Error')", "Calls that did not fail and have no known cost"),
    Measure("InputTokens", _COUNT, "sum(InputTokens)", "Known input tokens"),
    Measure("CacheReadTokens", _COUNT, "sum(CacheReadTokens)", "Known tokens read from a cache"),
    Measure("CacheWriteTokens", _COUNT, "sum(CacheWriteTokens)", "Known tokens written to a cache"),
    Measure("OutputTokens", _COUNT, "sum(OutputTokens)", "Known output tokens"),
    Measure("ReasoningTokens", _COUNT, "sum(ReasoningTokens)", "Known reasoning tokens"),
    _COST,
    Measure("CacheSavingsUSD", _MONEY, "sum(CacheSavingsUSD)", "What caching saved"),
)  # fmt: skip
COSTS = Sums(
    "llm_costs_hourly",
    "Sums by hour, team, app, user, environment, provider and model; equal to sums over `llm_calls`",
    _COST_KEYS,
    _COST_MEASURES,
    # Users are what makes the rows many: without them an hour has some hundreds instead of thousands.
    (Projection("without_user", tuple(key.field.name for key in _COST_KEYS if key.column is not columns.USER), tuple(f"sum({m.name})" for m in _COST_MEASURES)),),
)  # fmt: skip
TRAFFIC = Sums(
    "llm_traffic_hourly",
    "How calls are routed, shared, refused and priced, by hour, without users and keys; equal to sums over `llm_calls`",
    (
        _HOUR, _key(columns.TEAM), _key(columns.APP), _key(columns.ENVIRONMENT), _key(columns.PROVIDER), _SERVED,
        _key(columns.REQUEST_MODEL), _key(columns.DEPLOYMENT), _key(columns.REGION),
        _key(columns.ROUTE), _key(columns.EXPECTED_MODEL), _key(columns.ROUTE_VERDICT),
        Key(Field("ModelTier", "UInt32", "T64, ZSTD(1)", doc=f"{columns.MODEL_TIER.doc}; 0: unknown"), "ifNull(ModelTier, 0)", columns.MODEL_TIER),
        _key(columns.REFUSED_BY), _key(columns.PRICE_STATUS),
        Key(low("PriceBook", "Price book of the rule that priced the call, such as `genai-prices 0.2.3`"), "arrayStringConcat(arraySlice(splitByChar(' ', PriceSource), 1, 2), ' ')"),
    ),
    (
        _CALLS,
        _FAILED,
        Measure("LimitedCalls", _COUNT, f"countIf({LIMITED})", "Calls refused because there were too many"),
        _PRICED,
        _COST,
        Measure("ExpectedCostUSD", _MONEY, "sum(ExpectedCostUSD)", "What the models that the policy expects would have cost"),
        Measure("AvoidableCostUSD", _MONEY, "sum(AvoidableCostUSD)", "What calls cost more than that; 0 for those that cost less"),
        Measure("AnsweredTime", _COUNT, f"sumIf(least(Duration, {LONGEST_NS}), StatusCode != 'Error')", "Time that calls took which did not fail, nanoseconds; each a day at most"),
    ),
)  # fmt: skip
SUMS = (COSTS, TRAFFIC)


def known_cost(table: str = "h") -> str:
    """SQL: the sum of the known costs of movements of hourly sums, NULL where no call has one."""
    return f"if(sum({table}.PricedCalls) = 0, NULL, sum({table}.CostUSD))"
