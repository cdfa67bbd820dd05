"""What processors that count ask of a store: sums of the time before them (`collector.history` brings them), and what other
collectors have counted of the same (`collector.replicas` does).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from collector.windows import Window


@dataclass(frozen=True, slots=True)
class Summed:
    """What the calls of some values, in one window, add up to. `values`: by the asked dimensions, empty for none."""

    period: int
    values: tuple[str, ...]
    cost_pico: int
    tokens: int  # input and output
    calls: int
    last_ns: int  # start of the newest one
    collector: str = ""  # that wrote these calls


class History(Protocol):
    """A store's calls in force. Methods raise `DeliveryError` where it does not answer."""

    def newest_ns(self) -> int:
        """Start of the newest call; 0 where there is none."""
        ...

    def kept_since_ns(self, now_ns: int) -> int:
        """From when on it keeps calls; 0: all."""
        ...

    def sums(self, dimensions: Sequence[str], window: Window, since_ns: int) -> list[Summed]:
        """Exact sums of the calls that started at `since_ns` or later, by names of `collector.sums.COUNTED_BY`. What is of
        the same window and values may come in parts, which add up, those of several collectors always do."""
        ...


@dataclass(frozen=True, slots=True)
class Share:
    """What one collector has counted in one counter: of a scope, in a window, of some values. Of two versions the higher one holds.

    said: lines whose crossing it tells of, and since when (Unix ns) it wants to; of those that it has told of, minus the time
        of the finding
    """

    scope: str
    period: int
    values: tuple[str, ...]
    collector: str
    version: int
    cost_pico: int
    tokens: int
    calls: int
    last_ns: int  # start of the newest call
    said: Mapping[str, int]
    dimensions: tuple[str, ...] = ()

    @property
    def amounts(self) -> tuple[int, int, int]:
        """Pico-USD, tokens, calls."""
        return self.cost_pico, self.tokens, self.calls


class Shares(Protocol):
    """A store that several collectors write their shares to. Raises `DeliveryError` where it does not answer."""

    def read(self, since: Mapping[str, int], written_ns: int) -> tuple[list[Share], int]:
        """Shares of all collectors, this one's own too, of windows that begin at `since` (by scope) or later, written at
        `written_ns` (the store's clock) or later; and when the newest was written."""
        ...

    def close(self) -> None:
        """Give everything back; `read` takes it again."""
        ...


class Listener(Protocol):
    """Who wants to know shares. Called from the exchange's thread."""

    def wanted(self) -> Mapping[str, int]:
        """Scopes, and from which window on."""
        ...

    def hear(self, shares: Sequence[Share] | None, began_ns: int) -> bool:
        """What was read; None: the store did not answer. `began_ns`: when it was asked. Whether a batch is needed to act on
        it, or on the time that has passed."""
        ...
