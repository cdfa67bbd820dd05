"""What is usual: sums over past windows in which a window counts half after a half-life."""

from __future__ import annotations

from typing import NamedTuple


class Usual(NamedTuple):
    """Decayed sums as of a window. The same windows, in their order, give the same numbers to the last bit."""

    window: int
    sums: tuple[float, ...]

    def at(self, window: int, half_windows: float) -> tuple[float, ...]:
        """The sums as they count in a later window; `half_windows`: after how many windows they count half."""
        weight = 0.5 ** ((window - self.window) / half_windows)
        return tuple(value * weight for value in self.sums)


def added(usual: Usual | None, window: int, values: tuple[float, ...], half_windows: float) -> Usual:
    """One window more."""
    if usual is None:
        return Usual(window, values)
    return Usual(window, tuple(a + b for a, b in zip(usual.at(window, half_windows), values, strict=True)))
