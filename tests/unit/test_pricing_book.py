"""Which rates a call gets: overrides, tiers, days, names; and the many ways in which a price may rest on an assumption."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from fractions import Fraction

import numpy as np
import pytest
from genai_prices.data import providers

from collector.prices import USAGE, Book, Override, Rates, Wanted
from collector.prices.rates import Modality

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)


def override(**options: object) -> Override:
    return Override.model_validate_json(json.dumps(options))


def find(*models: str | None, provider: str | None = None, tier: str | None = None, at: datetime = AT, overrides=()):
    return Book([override(**options) for options in overrides]).find(Wanted(models, provider, tier, at))[0]


def per_token(rates: Rates, kind: str, row: int = 0) -> int:
    return int(rates.coefficients[row][USAGE.index(kind)])


# Overrides -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "model", "matches"),
    [
        ("my-llama", "my-llama", True),
        ("my-llama", "My-LLaMA", True),
        ("my-llama", "my-llama-70b", False),
        ("my-llama*", "my-llama-70b", True),
        ("*-70b", "my-llama-70b", True),
        ("gpt-4?", "gpt-4o", True),
        ("gpt-4?", "gpt-4", False),
        ("my-llama*", "vllm/my-llama-70b", True),
        ("vllm/my-llama*", "vllm/my-llama-70b", True),
        ("[a]", "a", True),
    ],
)
def test_an_override_matches_exactly_by_prefix_or_by_glob(pattern, model, matches):
    """Case does not matter; a gateway's `provider/` in front of the name does not either."""
    assert (find(model, provider="vllm", overrides=[{"model": pattern, "input_mtok": 1}]) is not None) == matches


def test_the_last_override_that_matches_wins():
    """General rules first, exceptions after them."""
    overrides = [
        {"model": "*", "provider": "vllm", "input_mtok": 1},
        {"model": "big-*", "provider": "vllm", "input_mtok": 5},
        {"model": "big-*", "provider": "ollama", "input_mtok": 9},
    ]
    assert per_token(find("small", provider="vllm", overrides=overrides).rates, "input_tokens") == 10**6
    assert per_token(find("big-1", provider="vllm", overrides=overrides).rates, "input_tokens") == 5 * 10**6
    assert per_token(find("big-1", provider="OLLAMA", overrides=overrides).rates, "input_tokens") == 9 * 10**6
    assert find("big-1", overrides=overrides) is None


@pytest.mark.parametrize(
    ("day", "price"), [("2026-06-30", None), ("2026-07-01", 3), ("2026-12-31", 3), ("2027-01-01", 4), ("2027-05-01", 4)]
)
def test_an_override_holds_from_its_day_to_its_day(day, price):
    """UTC days: the first is in, the last is out."""
    overrides = [
        {"model": "mine", "input_mtok": 3, "valid_from": "2026-07-01", "valid_until": "2027-01-01"},
        {"model": "mine", "input_mtok": 4, "valid_from": "2027-01-01"},
    ]
    found = find("mine", at=datetime.fromisoformat(f"{day}T23:59:59+00:00"), overrides=overrides)
    assert (found and per_token(found.rates, "input_tokens")) == (price and price * 10**6)


def test_every_kind_of_price_of_an_override():
    """Cache reads and writes of both lifetimes, audio, reasoning, each call: the narrower kind replaces the wider."""
    rates = find(
        "mine",
        overrides=[
            {
                "model": "mine", "input_mtok": 10, "output_mtok": 20, "cache_read_mtok": 1, "cache_write_mtok": 12,
                "cache_write_1h_mtok": 20, "input_audio_mtok": 40, "cache_audio_read_mtok": 4, "output_audio_mtok": 80,
                "output_reasoning_mtok": 5, "requests_kcount": 2,
            }
        ],
    ).rates  # fmt: skip
    usage = {
        "input_tokens": 1000, "cache_read_tokens": 300, "cache_write_tokens": 200, "cache_write_1h_tokens": 50,
        "input_audio_tokens": 150, "cache_audio_read_tokens": 30, "output_tokens": 500, "reasoning_tokens": 60,
        "output_audio_tokens": 70,
    }  # fmt: skip
    dollars_per_million = (
        (1000 - 300 - 200 - (150 - 30)) * 10  # text, fresh
        + (300 - 30) * 1  # text from the cache
        + 150 * 12 + 50 * 20  # cache writes
        + (150 - 30) * 40 + 30 * 4  # audio, fresh and from the cache
        + (500 - 60 - 70) * 20 + 60 * 5 + 70 * 80
    )  # fmt: skip
    assert rates.cost(usage) == dollars_per_million * 10**6 + 2 * 10**9


def test_a_kind_without_a_price_costs_what_the_wider_kind_costs():
    """An input price alone prices cached and audio input; output without a price is free, as the user wrote."""
    rates = find("mine", overrides=[{"model": "mine", "input_mtok": 10}]).rates
    assert rates.cost({"input_tokens": 100, "cache_read_tokens": 50, "input_audio_tokens": 20}) == 1000 * 10**6
    assert rates.cost({"output_tokens": 100}) == 0


@pytest.mark.parametrize(("tokens", "factor"), [(200_000, 1), (200_001, 2), (1_000_000, 2), (1_000_001, 3)])
def test_above_a_threshold_everything_costs_the_tier(tokens, factor):
    """Tiers go by the whole input; all tokens of the call cost it, the output too where it has tiers."""
    tiered = {"base": 1, "tiers": [{"start": 200_000, "price": 2}, {"start": 1_000_000, "price": 3}]}
    rates = find("mine", overrides=[{"model": "mine", "input_mtok": tiered, "output_mtok": {"base": 10, "tiers": [{"start": 200_000, "price": 20}]}}]).rates  # fmt: skip
    assert (
        rates.cost({"input_tokens": tokens, "output_tokens": 7}) == (tokens * factor + 7 * 10 * min(factor, 2)) * 10**6
    )


def test_tier_multipliers_scale_everything():
    """Batch, flex and priority by served tier, whatever its case in the config; the others are known as alternatives."""
    overrides = [{"model": "mine", "input_mtok": 1, "requests_kcount": 2, "tier_multipliers": {"Batch": 0.5, "priority": 1.75}}]  # fmt: skip
    batch = find("mine", tier="batch", overrides=overrides)
    assert (per_token(batch.rates, "input_tokens"), batch.rates.per_call, batch.tier_priced) == (500_000, 10**9, True)
    assert set(batch.tiers) == {"default", "priority"}
    flex = find("mine", tier="flex", overrides=overrides)
    assert (per_token(flex.rates, "input_tokens"), flex.tier_priced) == (10**6, False)
    assert set(flex.tiers) == {"batch", "priority"}
    assert find("mine", tier="auto", overrides=overrides).tier_priced


def test_a_multiplier_rounds_to_the_pico_dollar():
    """Half to even, once per rate."""
    rates = Rates((), np.full((1, len(USAGE)), 3, dtype=np.int64), 5).scaled(Fraction(1, 2))
    assert (rates.coefficients[0, 0], rates.per_call) == (2, 2)


# The book --------------------------------------------------------------------------------------------------------------


def test_the_price_of_the_day_of_the_call():
    """genai-prices has flex prices of GPT-5 only from October 2026."""
    before = find("gpt-5-mini", provider="openai", tier="flex", at=datetime(2026, 9, 30, tzinfo=UTC))
    after = find("gpt-5-mini", provider="openai", tier="flex")
    assert before.tier_priced is False
    assert after.tier_priced
    assert 2 * per_token(after.rates, "input_tokens") == per_token(before.rates, "input_tokens")


def test_an_alias_that_is_also_a_real_models_name():
    """The upstream name decides, not what the client asked for; and where it has no price, the asked one's is flagged."""
    aliased = find("openai/gpt-4o-mini", None, "gpt-4o", provider="openai")
    assert aliased.source.endswith("openai/gpt-4o-mini")
    assert not aliased.asked_only
    unknown = find("openai/my-llama", None, "gpt-4o", provider="openai")
    assert unknown.source.endswith("openai/gpt-4o")
    assert unknown.asked_only
    assert not find(None, None, "gpt-4o", provider="openai").asked_only
    assert not find(None, "gpt-4o", "gpt-4o", provider="openai").asked_only


@pytest.mark.parametrize("provider", ["vllm", "ollama"])
def test_a_self_hosted_model_has_the_users_price_or_none(provider):
    """Even if its name is a hosted model's."""
    assert find("gpt-4o", provider=provider) is None
    assert find("gpt-4o", provider=provider, overrides=[{"model": "gpt-4o", "provider": provider, "input_mtok": 0}])


@pytest.mark.parametrize(
    ("model", "provider", "expected"),
    [
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", "aws.bedrock", "aws/"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws.bedrock", "aws/"),
        ("claude-sonnet-4-5", "aws.bedrock", "/"),
        ("mistral-large-latest", "mistral_ai", "mistral/"),
        ("gemini-2.5-pro", "gcp.gemini", "google/gemini-2.5-pro"),
    ],
)
def test_names_that_clouds_use(model, provider, expected):
    """Regions in front, versions behind, the conventions' provider names."""
    found = find(model, provider=provider)
    assert found is not None
    assert expected in found.source


@pytest.mark.parametrize(
    ("model", "provider", "expected"),
    [
        ("openai/gpt-oss-120b", "groq", "groq/openai/gpt-oss-120b"),
        ("deepseek/deepseek-chat", "openrouter", "openrouter/deepseek/deepseek-chat"),
        ("openai/gpt-4o", "openai", "openai/gpt-4o"),
        ("anthropic/claude-sonnet-4-5", "openai", "anthropic/claude-sonnet-4-5"),
    ],
)
def test_a_seller_that_lists_the_makers_name_with_the_models_asks_its_own_price(model, provider, expected):
    """What is no name of the seller's is read as provider and model."""
    assert find(model, provider=provider).source.endswith(expected)


def by_id(provider: str, model: str):
    owner = next(p for p in providers if p.id == provider)
    return next(m for m in owner.models if m.id == model)


@pytest.mark.parametrize(
    ("provider", "model", "modality", "unmeasured"),
    [
        ("openai", "gpt-4o-mini", Modality.TEXT, False),
        ("google", "gemini-2.5-flash", Modality.AUDIO_IN, False),
        ("openai", "gpt-audio", Modality.AUDIO, False),
        ("openai", "gpt-image-1", Modality.OTHER, False),
        ("openai", "whisper-1", Modality.TEXT, True),
        ("openai", "tts-1", Modality.TEXT, True),
        ("mistral", "mistral-ocr-latest", Modality.TEXT, True),
        ("mistral", "voxtral-small-24b-2507", Modality.OTHER, False),
    ],
)
def test_what_a_list_charges_by(provider, model, modality, unmeasured):
    """Seconds, characters and pages are on no span: such a list prices nothing, rather than everything at 0."""
    rates = Rates.from_model_price(by_id(provider, model).get_prices(AT))
    assert (rates.unmeasured, rates.modality if not unmeasured else Modality.TEXT) == (unmeasured, modality)


def test_no_model_of_the_book_is_free_by_accident():
    """Whatever has a price in the book charges something for input, output or a call, or is known to be unmeasured."""
    for provider in providers:
        for model in provider.models:
            price = model.get_prices(AT)
            rates = Rates.from_model_price(price)
            values = [v.base if hasattr(v, "base") else v for k, v in price.__dict__.items() if v is not None and "search" not in k and "execution" not in k]  # fmt: skip
            if any(values) and not rates.unmeasured:
                assert rates.coefficients.any() or rates.per_call, f"{provider.id}/{model.id}"


@pytest.mark.parametrize(
    ("model", "provider"),
    [("nova-pro-v1:0", "aws.bedrock"), ("amazon.nova-pro-v1:0", None), ("us.amazon.nova-pro-v1:0", None)],
)
def test_bedrocks_ids_with_their_maker_or_without(model, provider):
    """Traceloop takes the maker off; Strands names no provider; only Bedrock's own ids name a maker before a dot."""
    found, _ = Book().find(Wanted((model,), provider, None, AT))
    assert found is not None
    assert found.provider == "aws"


def test_a_regional_id_costs_what_bedrock_asks_whoever_names_it():
    named, _ = Book().find(Wanted(("us.anthropic.claude-sonnet-4-5-20250929-v1:0",), "aws.bedrock", None, AT))
    alone, _ = Book().find(Wanted(("us.anthropic.claude-sonnet-4-5-20250929-v1:0",), None, None, AT))
    assert named is not None
    assert alone is not None
    assert (alone.provider, alone.rates.cost({"input_tokens": 10})) == ("aws", named.rates.cost({"input_tokens": 10}))
