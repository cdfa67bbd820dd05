"""Exact checks, by name: a look at what a pattern found. They run on hits only."""

from __future__ import annotations

from collections.abc import Callable

Check = Callable[[str], bool]


def luhn(text: str) -> bool:
    """Luhn's check digit."""
    digits = [int(digit) for digit in reversed(text) if digit.isdigit()]
    return (sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])) % 10 == 0


CHECKS: dict[str, Check] = {"luhn": luhn}
