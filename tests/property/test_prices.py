"""Our integer rates against genai-prices' own Decimal arithmetic, over its whole book; and the statuses of a batch."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import polars as pl
import pytest
from genai_prices import Usage
from genai_prices.data import providers
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from collector.columns import CALL_COLUMNS, PICO_PER_USD, schema
from collector.component import Context
from collector.prices import Book, Override, Rates, Wanted
from processors.pricing import Pricing, PricingConfig

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
MODELS = [(provider, model) for provider in providers for model in provider.models]
COUNT = st.integers(0, 1_000_000)


def pricing(**options: object) -> Pricing:
    config = PricingConfig.model_validate(options)
    return Pricing(config, Context("pricing", data_dir=None, metrics=CollectorRegistry()))  # type: ignore[arg-type]


def calls(*rows: dict[str, object]) -> pl.DataFrame:
    start = int(AT.timestamp()) * 10**9
    base = {
        "start_ns": start,
        "provider": "openai",
        "response_model": "gpt-4o-mini",
        "status": "Unset",
        "usage_flags": [],
    }
    return pl.DataFrame([{**base, **row} for row in rows], schema=schema(CALL_COLUMNS), orient="row")


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.tuples(COUNT, COUNT, COUNT, COUNT, COUNT, COUNT),
    st.sampled_from([None, "default", "flex", "priority", "batch"]),
)
def test_rates_equal_genai_prices_for_every_model_of_the_book(pair, counts, tier):
    """Any usage of any model costs what genai-prices says, to the pico-dollar."""
    provider, model = pair
    fresh, read, write5, write1, out, reasoning = counts
    usage = {
        "input_tokens": fresh + read + write5 + write1,
        "output_tokens": out + reasoning,
        "cache_read_tokens": read,
        "cache_write_tokens": write5 + write1,
        "cache_write_1h_tokens": write1,
    }
    context = None if tier is None else {"processing": "batch"} if tier == "batch" else {"service_tier": tier}
    expected = model.calc_price(Usage(**usage), provider, genai_request_timestamp=AT, price_context=context)
    rates = Rates.from_model_price(model.get_prices(AT, context))
    assert rates.cost({**usage, "reasoning_tokens": None}) == pytest.approx(
        expected.total_price * PICO_PER_USD,
        abs=0 if _whole(model, context) else usage["input_tokens"] + usage["output_tokens"] + 1,
    )


def _whole(model, context) -> bool:
    prices = model.get_prices(AT, context).__dict__.values()
    tiers = [t.price for p in prices if hasattr(p, "tiers") for t in p.tiers]
    flat = [p.base if hasattr(p, "tiers") else p for p in prices if p is not None]
    return all((Decimal(p) * 10**6) % 1 == 0 for p in [*flat, *tiers])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 400_000), st.integers(0, 50_000), st.integers(0, 300_000)), min_size=1, max_size=30
    )
)
def test_a_batch_is_priced_as_its_rows_are(rows):
    """Columns and single calls agree, tiers above a threshold included."""
    frame = calls(
        *(
            {
                "provider": provider,
                "response_model": model,
                "input_tokens": fresh + read,
                "output_tokens": out,
                "cache_read_tokens": read,
            }
            for fresh, out, read in rows
            for provider, model in [
                ("openai", "gpt-4o-mini"),
                ("gcp.gemini", "gemini-2.5-pro"),
                ("openai", "no-such-model"),
            ]
        )
    )
    priced = pricing().price(frame)
    book = Book()
    for row in priced.iter_rows(named=True):
        found, _ = book.find(Wanted((row["response_model"],), row["provider"], None, AT))
        assert row["cost_pico"] == (found.rates.cost(row) if found else None)
        assert row["price_status"] == ("priced" if found else "unpriced_model")


@given(st.integers(0, 10**15), st.decimals(0, 100, places=3), st.decimals(0, 100, places=3))
def test_discounts_and_margins_are_exact(tokens, discount, margin):
    """(1 - discount) * (1 + margin) of the list price, rounded half to even once."""
    tokens %= 10**11
    frame = calls({"input_tokens": tokens, "output_tokens": 0})
    row = pricing(discounts=[{"percent": discount}], margins=[{"percent": margin}]).price(frame).row(0, named=True)
    factor = (1 - Fraction(discount) / 100) * (1 + Fraction(margin) / 100)
    assert row["list_cost_pico"] == tokens * 150_000
    assert row["cost_pico"] == round(tokens * 150_000 * factor)


@pytest.mark.parametrize(
    ("row", "status", "cost", "assumptions"),
    [
        ({"input_tokens": 1000, "output_tokens": 10, "service_tier": "default"}, "priced", 156_000_000, []),
        ({"input_tokens": 1000, "output_tokens": 10}, "priced", 156_000_000, ["standard_tier"]),
        ({"input_tokens": 1000, "output_tokens": 10, "usage_flags": ["no_cache_counts"], "service_tier": "default"}, "priced", 156_000_000, ["nothing_cached"]),
        ({"input_tokens": 1000, "output_tokens": 10, "usage_flags": ["estimated:gateway"], "service_tier": "default"}, "priced", 156_000_000, ["estimated_usage"]),
        ({}, "missing_usage", None, []),
        ({"status": "Error"}, "failed", None, []),
        ({"status": "Error", "input_tokens": 1000, "service_tier": "default"}, "priced", 150_000_000, ["half_of_usage"]),
        ({"output_tokens": 10, "service_tier": "default"}, "priced", 6_000_000, ["half_of_usage"]),
        ({"input_tokens": 1000, "response_model": "text-embedding-3-small", "service_tier": "default"}, "priced", 20_000_000, []),
        ({"input_tokens": 10, "cache_read_tokens": 11}, "impossible_usage", None, []),
        ({"input_tokens": 2**62, "output_tokens": 1}, "impossible_usage", None, []),
        ({"input_tokens": -1}, "impossible_usage", None, []),
        ({"input_tokens": 10, "usage_flags": ["impossible:cache_read"]}, "impossible_usage", None, []),
        ({"input_tokens": 10, "response_model": "nobody-knows-me"}, "unpriced_model", None, []),
        ({"input_tokens": 10, "response_model": "nobody-knows-me", "reported_cost_pico": 77}, "reported", 77, []),
        ({"input_tokens": 1000, "output_tokens": 10, "response_cache_hit": True}, "cached_replay", 0, []),
        # The gateway's cost confirms the standard tier, tells the tier, or is taken as it is.
        ({"input_tokens": 1000, "output_tokens": 10, "reported_cost_pico": 156_000_000}, "priced", 156_000_000, []),
        ({"input_tokens": 1000, "output_tokens": 10, "reported_cost_pico": 123_456}, "reported", 123_456, []),
        ({"input_tokens": 1000, "output_tokens": 10, "reported_cost_pico": 123_456, "service_tier": "default"}, "priced", 156_000_000, []),
        ({"input_tokens": 1000, "output_tokens": 10, "service_tier": "spaceship"}, "priced", 156_000_000, ["tier_at_standard_price"]),
    ],
)  # fmt: skip
def test_what_a_row_is_said_to_cost_and_why(row, status, cost, assumptions):
    """Each case of unknown, assumed and exact is told apart."""
    priced = pricing().price(calls(row)).row(0, named=True)
    assert (priced["price_status"], priced["cost_pico"], priced["price_assumptions"]) == (status, cost, assumptions)
    assert (priced["price_source"] is None) == (cost is None)


@given(st.integers(1, 50_000), st.integers(0, 50_000), st.integers(0, 50_000))
def test_the_one_hour_part_of_cache_writes_is_solved_from_the_reported_cost(hour, five, fresh):
    """A gateway's cost that whole one-hour tokens explain gives those tokens; the call is then exact."""
    write = hour + five
    row = {
        "provider": "anthropic",
        "response_model": "claude-sonnet-4-5",
        "input_tokens": fresh + write,
        "output_tokens": 7,
        "cache_write_tokens": write,
        "cache_read_tokens": 0,
    }
    rates = Book().find(Wanted(("claude-sonnet-4-5",), "anthropic", None, AT))[0].rates
    reported = rates.cost({**row, "cache_write_1h_tokens": hour})
    priced = pricing().price(calls({**row, "reported_cost_pico": reported})).row(0, named=True)
    assert priced["cache_write_1h_tokens"] == hour
    assert (priced["cost_pico"], priced["price_status"], priced["price_assumptions"]) == (reported, "priced", [])
    alone = pricing().price(calls(row)).row(0, named=True)
    assert alone["price_assumptions"] == ["cache_writes_5m"]


def test_flex_is_recognised_by_what_the_gateway_reports():
    """A reported cost that only the flex price explains names the tier."""
    row = {"response_model": "gpt-5-mini", "input_tokens": 1000, "output_tokens": 10}
    flex = Book().find(Wanted(("gpt-5-mini",), "openai", "flex", AT))[0].rates.cost(row)
    standard = Book().find(Wanted(("gpt-5-mini",), "openai", None, AT))[0].rates.cost(row)
    assert flex * 2 == standard
    priced = pricing().price(calls({**row, "reported_cost_pico": flex})).row(0, named=True)
    assert (priced["service_tier"], priced["cost_pico"], priced["price_assumptions"]) == ("flex", flex, [])


def test_reported_cost_wins_when_told_to_and_never_when_told_so():
    """`reported_cost: always | never`."""
    row = {"input_tokens": 1000, "output_tokens": 10, "service_tier": "default", "reported_cost_pico": 5}
    assert pricing(reported_cost="always").price(calls(row)).row(0, named=True)["cost_pico"] == 5
    unpriced = {**row, "response_model": "nobody-knows-me"}
    assert pricing(reported_cost="never").price(calls(unpriced)).row(0, named=True)["cost_pico"] is None


def test_overrides_by_pattern_provider_date_and_tier():
    """The last override that is valid on the day and matches wins over the book."""
    overrides = [
        {"model": "gpt-4o-*", "input_mtok": 1, "output_mtok": 2},
        {"model": "gpt-4o-mini", "provider": "azure.ai.openai", "input_mtok": 3},
        {"model": "gpt-4o-mini", "valid_from": "2027-01-01", "input_mtok": 4},
        {
            "model": "mine",
            "input_mtok": {"base": 1, "tiers": [{"start": 100, "price": 2}]},
            "tier_multipliers": {"batch": 0.5},
        },
        {"model": "per-call", "requests_kcount": 5},
    ]
    frame = calls(
        {"input_tokens": 1_000_000, "output_tokens": 0},
        {"input_tokens": 1_000_000, "output_tokens": 0, "provider": "azure.ai.openai"},
        {"input_tokens": 100, "response_model": "mine", "provider": "vllm"},
        {"input_tokens": 101, "response_model": "mine", "provider": "vllm"},
        {"input_tokens": 101, "response_model": "mine", "provider": "vllm", "service_tier": "batch"},
        {"input_tokens": 1, "response_model": "per-call", "provider": "vllm"},
    )
    costs = pricing(overrides=overrides).price(frame)["cost_pico"].to_list()
    assert costs == [10**12, 3 * 10**12, 100 * 10**6, 202 * 10**6, 101 * 10**6, 5 * 10**9]
    with pytest.raises(ValidationError, match="at least one price"):
        Override(model="free")


def test_an_unpriced_model_is_warned_of_once_and_counted(caplog):
    """Loud: one warning per model, every call counted."""
    processor = pricing()
    row = {"input_tokens": 5, "response_model": "nobody-knows-me"}
    for _ in range(3):
        processor.price(calls(row, row))
    assert [record.getMessage().count("nobody-knows-me") for record in caplog.records] == [2]
    labels = {"provider": "openai", "model": "nobody-knows-me"}
    assert processor.context.metrics.get_sample_value("spanledger_pricing_unpriced_calls_total", labels) == 6


@pytest.mark.parametrize(
    ("models", "provider", "expected"),
    [
        (("openai/gpt-4o-mini", "fast"), "openai", "openai/gpt-4o-mini"),
        ((None, "text-embedding-3-small"), None, "openai/text-embedding-3-small"),
        ((None, "premium", "gpt-4.1"), "openai", "openai/gpt-4.1"),
        (("anthropic/claude-sonnet-4-5",), "openai", "anthropic/claude-sonnet-4-5"),
        ((None, "gpt-4o"), "azure.ai.openai", "azure/gpt-4o"),
        ((None, "grok-4"), "strands-agents", "x-ai/grok-4-0709"),
        ((None, "gemini-2.5-flash"), "gcp.vertex_ai", "google/gemini-2.5-flash"),
        ((None, "gpt-4o"), "ollama", None),
        (("hosted_vllm/gpt-4o",), None, None),
    ],
)
def test_which_model_is_priced(models, provider, expected):
    """Upstream, served, asked: the first that has a price, under the named provider or else its maker; never for self-hosted."""
    found, steps = Book().find(Wanted(models, provider, None, AT))
    assert (found and found.source.split()[-1]) == expected
    assert steps
