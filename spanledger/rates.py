"""A price's rates in words: kinds of tokens, in USD per million."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.prices import Rates

#: Kind of token, and the usage columns that one token of it counts in.
KINDS = (
    ("input", ("input_tokens",)),
    ("output", ("output_tokens",)),
    ("cache read", ("input_tokens", "cache_read_tokens")),
    ("cache write", ("input_tokens", "cache_write_tokens")),
    ("cache write 1h", ("input_tokens", "cache_write_tokens", "cache_write_1h_tokens")),
    ("audio in", ("input_tokens", "input_audio_tokens")),
    ("audio from cache", ("input_tokens", "cache_read_tokens", "input_audio_tokens", "cache_audio_read_tokens")),
    ("audio out", ("output_tokens", "output_audio_tokens")),
    ("reasoning", ("output_tokens", "reasoning_tokens")),
)


def per_million(rates: Rates, row: int, kinds: Sequence[str]) -> str:
    """USD per million tokens that count in the columns `kinds`, exactly, in a row of `rates.coefficients`."""
    from collector.prices import USAGE

    pico = sum(int(rates.coefficients[row][USAGE.index(kind)]) for kind in kinds)
    whole, part = divmod(pico, 10**6)  # pico-USD per token is micro-USD per million tokens
    return f"{whole}.{part:06}".rstrip("0").rstrip(".")


def columns(rates: Rates) -> list[str]:
    """What the columns of `rows` hold for: '' and then 'above … input tokens'."""
    return ["", *(f"above {start:,} input tokens" for start in rates.thresholds)]


def rows(rates: Rates) -> list[tuple[str, list[str]]]:
    """Kinds with their rates, one for each of `columns`. Kinds that cost what the wider one costs are left out."""
    found = []
    for name, kinds in KINDS:
        cells = [per_million(rates, row, kinds) for row in range(len(rates.thresholds) + 1)]
        wider = [per_million(rates, row, kinds[:-1]) for row in range(len(cells))] if kinds[1:] else []
        if cells != wider:
            found.append((name, cells))
    return found


def each_call(rates: Rates) -> Decimal:
    """USD that every call costs besides."""
    return Decimal(rates.per_call).scaleb(-12)
