"""What each call of a batch is said to cost: discounts and margins, reported costs, assumptions, counts that cannot be."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from collector.batch import SpanBatch
from collector.columns import CALL_COLUMNS, schema
from collector.component import Context
from processors.pricing import Pricing, PricingConfig

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
BASE = {
    "start_ns": int(AT.timestamp()) * 10**9, "provider": "openai", "response_model": "gpt-4o-mini", "status": "Unset",
    "usage_flags": [], "service_tier": "default", "operation": "chat",
}  # fmt: skip
LIST = 150_000_000  # 1,000 tokens into gpt-4o-mini


def pricing(**options: object) -> Pricing:
    return Pricing(PricingConfig.model_validate(options), Context("pricing", Path(), metrics=CollectorRegistry()))


def frame(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(
        [{**BASE, "input_tokens": 1000, "output_tokens": 0, **row} for row in rows],
        schema=schema(CALL_COLUMNS),
        orient="row",
    )


def price(*rows: dict[str, object], **options: object) -> list[dict[str, object]]:
    return pricing(**options).price(frame(*rows)).to_dicts()


def told(row: dict[str, object]) -> tuple[object, object, object]:
    return row["price_status"], row["cost_pico"], row["price_assumptions"]


# Discounts and margins ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "cost"),
    [
        ({}, LIST),
        ({"provider": "OpenAI", "team": "search"}, LIST * 78 // 100),
        ({"team": "search", "response_model": "gpt-4.1-mini"}, 400_000_000 * 50 // 100),
        ({"team": "resale"}, LIST * 110 // 100),
    ],
)
def test_the_first_adjustment_that_matches_holds(call, cost):
    """By provider, by team, by model with a pattern; a margin goes on top of what the discount left."""
    options = {
        "discounts": [
            {"percent": 50, "model": "gpt-4.1*"},
            {"percent": 22, "provider": "openai", "team": "search"},
            {"percent": 99, "provider": "anthropic"},
        ],
        "margins": [{"percent": 10, "team": "resale"}],
    }
    row = price(call, **options)[0]
    assert row["cost_pico"] == cost
    assert row["list_cost_pico"] == (400_000_000 if "response_model" in call else LIST)


def test_a_discount_and_a_margin_together():
    """(1 - 0.22) * (1 + 0.10), exactly."""
    row = price({}, discounts=[{"percent": 22}], margins=[{"percent": 10}])[0]
    assert row["cost_pico"] == LIST * 78 * 110 // 10_000
    assert price({}, discounts=[{"percent": 100}])[0]["cost_pico"] == 0


def test_a_reported_cost_after_our_discount_confirms_ours():
    """A gateway that knows the contract reports what the team pays: no assumption is left."""
    call = {"service_tier": None, "reported_cost_pico": LIST * 78 // 100}
    assert told(price(call, discounts=[{"percent": 22}])[0]) == ("priced", LIST * 78 // 100, [])
    call = {"service_tier": None, "reported_cost_pico": LIST}
    assert told(price(call, discounts=[{"percent": 22}])[0]) == ("priced", LIST * 78 // 100, [])


def test_a_gateways_margin_is_taken_only_where_ours_is_not_exact():
    """`total` is what the team pays at the gateway; with the tier known our price stands, the difference is kept."""
    with_margin = LIST * 115 // 100
    exact, open_ = price({"reported_cost_pico": with_margin}, {"reported_cost_pico": with_margin, "service_tier": None})
    assert told(exact) == ("priced", LIST, [])
    assert (exact["reported_cost_pico"], exact["list_cost_pico"]) == (with_margin, LIST)
    assert told(open_) == ("reported", with_margin, [])
    assert open_["list_cost_pico"] == LIST


@pytest.mark.parametrize("mode", ["when_assumed", "never", "always"])
def test_a_reported_zero_is_no_report(mode):
    """LiteLLM writes 0 where it knows no price."""
    assert told(price({"reported_cost_pico": 0}, reported_cost=mode)[0]) == ("priced", LIST, [])
    unpriced = {"reported_cost_pico": 0, "response_model": "nobody-knows-me"}
    assert told(price(unpriced, reported_cost=mode)[0]) == ("unpriced_model", None, [])


# Assumptions -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "assumptions"),
    [
        ({"service_tier": None}, ["standard_tier"]),
        ({"service_tier": None, "requested_tier": "default"}, ["requested_tier"]),
        ({"service_tier": None, "requested_tier": "flex", "response_model": "gpt-5-mini"}, ["requested_tier"]),
        ({"service_tier": "spaceship"}, ["tier_at_standard_price"]),
        ({"service_tier": None, "response_model": "gpt-3.5-turbo-instruct"}, []),
        ({"provider": "anthropic", "response_model": "claude-sonnet-4-5", "cache_write_tokens": 10}, ["cache_writes_5m"]),
        ({"provider": "anthropic", "response_model": "claude-sonnet-4-5", "cache_write_tokens": 10, "cache_write_1h_tokens": 0}, []),
        ({"provider": "anthropic", "response_model": "claude-sonnet-4-5", "cache_write_tokens": 0}, []),
        ({"provider": "gcp.gemini", "response_model": "gemini-2.5-flash"}, []),
        ({"provider": "gcp.gemini", "response_model": "gemini-2.5-flash", "operation": "transcription"}, ["text_only"]),
        ({"provider": "gcp.gemini", "response_model": "gemini-2.5-flash", "operation": "transcription", "input_audio_tokens": 900}, []),
        ({"response_model": "gpt-audio"}, ["text_only"]),
        ({"response_model": "gpt-audio", "input_audio_tokens": 5, "output_audio_tokens": 0, "output_tokens": 1}, []),
        ({"response_model": "gpt-image-1", "operation": "image_generation"}, ["text_only"]),
        ({"upstream_model": "openai/my-llama", "response_model": None, "request_model": "gpt-4o"}, ["requested_model"]),
        ({"usage_flags": ["no_cache_counts", "input_exclusive:anthropic"]}, ["nothing_cached"]),
        ({"provider": "mistral_ai", "response_model": "mistral-embed", "operation": "embeddings", "output_tokens": None}, []),
        ({"usage_flags": ["input_unclear:unknown_emitter"]}, ["unclear_usage"]),
        ({"usage_flags": ["maybe_twice"]}, ["maybe_twice"]),
        ({"usage_flags": ["output_unclear:package_version"]}, ["unclear_usage"]),
        ({"usage_flags": ["estimated:gateway"], "service_tier": None}, ["standard_tier", "estimated_usage"]),
    ],
)  # fmt: skip
def test_what_a_price_rests_on_is_said(call, assumptions):
    """Empty means exact."""
    row = price(call)[0]
    assert row["price_status"] == "priced"
    assert sorted(row["price_assumptions"]) == sorted(assumptions)


def test_a_model_billed_by_the_second_has_no_cost():
    """Its list has a price and the span no seconds: unknown, never 0; the gateway's own cost is taken if there is one."""
    call = {"response_model": "whisper-1", "operation": "transcription"}
    assert told(price(call)[0]) == ("missing_usage", None, [])
    assert told(price({**call, "reported_cost_pico": 6 * 10**9})[0]) == ("reported", 6 * 10**9, [])


# Reported costs that tell what no span says -------------------------------------------------------------------------------


def test_a_gateways_cost_names_the_tier_that_was_served_instead_of_the_asked_one():
    """Flex was asked for, the reported cost is the standard one's: that is what served."""
    flex = {"response_model": "gpt-5-mini", "service_tier": None, "requested_tier": "flex"}
    asked = price(flex)[0]
    standard = price({"response_model": "gpt-5-mini"})[0]["cost_pico"]
    assert asked["cost_pico"] * 2 == standard
    served = price({**flex, "reported_cost_pico": standard})[0]
    assert told(served) == ("priced", standard, [])
    assert served["service_tier"] == "default"


def test_tier_and_one_hour_part_are_solved_row_by_row():
    """Rows of one combination of names, each with an answer of its own."""
    write = {
        "provider": "anthropic", "response_model": "claude-sonnet-4-5", "input_tokens": 5000, "cache_write_tokens": 4000,
        "cache_read_tokens": 0, "output_tokens": 3, "service_tier": "standard",
    }  # fmt: skip
    costs = [price({**write, "cache_write_1h_tokens": hour})[0]["cost_pico"] for hour in (0, 1, 1234, 4000)]
    rows = price(*({**write, "reported_cost_pico": cost} for cost in [*costs, costs[0] + 1]))
    assert [row["cache_write_1h_tokens"] for row in rows] == [0, 1, 1234, 4000, None]
    assert [row["price_status"] for row in rows] == ["priced"] * 4 + ["reported"]
    assert all(row["price_assumptions"] == [] for row in rows)


def test_a_confirmed_cost_leaves_a_told_one_hour_part_alone():
    """What a report said is not overwritten."""
    call = {
        "provider": "anthropic",
        "response_model": "claude-sonnet-4-5",
        "cache_write_tokens": 40,
        "cache_write_1h_tokens": 7,
    }
    cost = price(call)[0]["cost_pico"]
    assert price({**call, "reported_cost_pico": cost})[0]["cache_write_1h_tokens"] == 7


# Counts that cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "counts",
    [
        {"cache_read_tokens": 600, "cache_write_tokens": 401},
        {"cache_write_tokens": 5, "cache_write_1h_tokens": 6},
        {"input_audio_tokens": 1001},
        {"cache_read_tokens": 5, "cache_audio_read_tokens": 6, "input_audio_tokens": 9},
        {"cache_read_tokens": 9, "cache_audio_read_tokens": 6, "input_audio_tokens": 5},
        {"output_tokens": 5, "reasoning_tokens": 6},
        {"output_tokens": 5, "output_audio_tokens": 6},
        {"output_tokens": -1},
        {"input_tokens": -(2**63)},
        {"input_tokens": 2**63 - 1, "output_tokens": 2**63 - 1},
        {"usage_flags": ["impossible:cache_read"]},
    ],
)
def test_impossible_counts_have_no_cost(counts):
    """Flagged, never clamped; neighbours in the batch are priced all the same."""
    before, row, after = price({}, counts, {})
    assert told(row) == ("impossible_usage", None, [])
    assert before["cost_pico"] == after["cost_pico"] == LIST


def test_the_largest_sums_are_exact():
    """Up to millions of dollars in one call, beyond what a float could hold."""
    tokens = 10**13 + 1
    assert price({"input_tokens": tokens})[0]["cost_pico"] == tokens * 150_000


# Savings, sources, shape ----------------------------------------------------------------------------------------------------


def test_cache_savings_are_what_fresh_tokens_would_have_cost_more():
    """Reads save, writes cost extra; a replay from the gateway's own cache saves all of it."""
    call = {"provider": "anthropic", "response_model": "claude-sonnet-4-5", "cache_read_tokens": 500, "cache_write_tokens": 100, "cache_write_1h_tokens": 0}  # fmt: skip
    row, replay = price(call, {"response_cache_hit": True})
    assert row["cache_savings_pico"] == 500 * 2_700_000 - 100 * 750_000
    assert (replay["price_status"], replay["cost_pico"], replay["cache_savings_pico"]) == ("cached_replay", 0, LIST)


def test_the_source_says_which_book_and_rule():
    """Override, book, gateway; nothing where there is no cost."""
    rows = price(
        {}, {"response_model": "mine"}, {"response_model": "nobody", "reported_cost_pico": 5}, {"response_model": "nobody"},
        overrides=[{"model": "mine", "input_mtok": 1}],
    )  # fmt: skip
    sources = [row["price_source"] for row in rows]
    assert sources[0].startswith("genai-prices ")
    assert sources[0].endswith(" openai/gpt-4o-mini")
    assert sources[1:] == ["override mine", "reported by the gateway", None]


def test_only_the_cost_columns_change():
    """Columns, order and types stay; a batch without calls passes."""
    calls = frame({}, {"response_model": "nobody"}, {"response_cache_hit": True})
    priced = pricing().price(calls)
    assert priced.schema == calls.schema
    ours = [column.name for column in Pricing.adds]
    assert priced.drop(ours).equals(calls.drop(ours))
    batch = SpanBatch(None, None, 0, None)  # type: ignore[arg-type]
    assert pricing().process(batch) is batch


CALL = st.fixed_dictionaries(
    {
        "response_model": st.sampled_from(["gpt-4o-mini", "gpt-5-mini", "claude-sonnet-4-5", "gemini-2.5-pro", "nobody", None]),
        "provider": st.sampled_from(["openai", "anthropic", "gcp.gemini", None]),
        "service_tier": st.sampled_from([None, "default", "flex"]),
        "team": st.sampled_from([None, "a"]),
        "status": st.sampled_from(["Unset", "Error"]),
        "input_tokens": st.sampled_from([None, 0, 100, 250_000]),
        "output_tokens": st.sampled_from([None, 7]),
        "cache_write_tokens": st.sampled_from([None, 0, 60]),
        "cache_read_tokens": st.sampled_from([None, 40, 200]),
        "reported_cost_pico": st.sampled_from([None, 0, 15_000_000, 123]),
        "response_cache_hit": st.sampled_from([None, None, True]),
        "usage_flags": st.sampled_from([None, [], ["estimated:x"], ["impossible:y"]]),
    }
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(CALL, min_size=2, max_size=12))
def test_a_row_does_not_depend_on_its_neighbours(rows):
    """A batch with its shortcuts gives each row what it gets alone."""
    processor = pricing(discounts=[{"percent": 10, "team": "a"}])
    together = processor.price(frame(*rows)).to_dicts()
    assert together == [processor.price(frame(row)).to_dicts()[0] for row in rows]


# What another model would have cost --------------------------------------------------------------------------------------


def quoted(model: str, *rows: dict[str, object], **options: object) -> list[tuple[object, object]]:
    calls = frame(*rows)
    models = pl.Series([model] * len(calls), dtype=pl.String())
    return pricing(**options).quote(calls, models).select("cost_pico", "price_source").rows()


@pytest.mark.parametrize(
    ("model", "call", "cost"),
    [
        ("gpt-4", {}, 30_000_000_000),
        ("claude-3-haiku", {}, 250_000_000),  # another maker's
        ("claude-3-haiku", {"provider": "vllm", "response_model": "my-llama"}, 250_000_000),  # which a server of one's own does not have
        ("gpt-4", {"upstream_model": "gpt-4o", "request_model": "fast"}, 30_000_000_000),  # no name of the call counts any more
        ("gpt-4", {"reported_cost_pico": 7}, 30_000_000_000),  # that was another model's
        ("gpt-4", {"response_cache_hit": True}, 0),
        ("gpt-4", {"input_tokens": None, "output_tokens": None}, None),
        ("gpt-4", {"input_tokens": None, "output_tokens": None, "status": "Error"}, None),
        ("my-own-7b", {}, None),
        ("", {}, None),
    ],
)  # fmt: skip
def test_a_quote_is_for_the_same_tokens_of_another_model(model, call, cost):
    ((found, _),) = quoted(model, call)
    assert found == cost


def test_a_quote_has_the_discounts_of_who_would_have_sold_it_and_your_own_prices():
    """Of openai's discount a model of anthropic's has nothing, though openai served the call; a team's it has."""
    options = {
        "discounts": [{"provider": "openai", "percent": 10}, {"team": "search", "percent": 50}],
        "overrides": [{"model": "my-own-7b", "input_mtok": "1"}],
    }
    assert quoted("gpt-4", {}, **options)[0][0] == 27_000_000_000
    assert quoted("claude-3-haiku", {}, **options)[0][0] == 250_000_000
    assert quoted("claude-3-haiku", {"team": "search"}, **options)[0][0] == 125_000_000
    assert quoted("my-own-7b", {}, **options)[0] == (900_000_000, "override my-own-7b")


def test_a_quote_leaves_no_trace():
    """Nobody called the model: it is not counted as one without a price."""
    prices = pricing()
    prices.quote(frame({}), pl.Series(["nobodys-model"]))
    assert prices._warned == set()
