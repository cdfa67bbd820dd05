"""Sparklines: how a figure went over a period, in a dozen characters; and the SQL that sums it up for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from spanledger.cli.when import literal

_BARS = "▁▂▃▄▅▆▇█"
#: Where nothing was: lower than the lowest bar.
_NOTHING = "·"


def spark(values: Sequence[float]) -> str:
    """One character a value, the greatest the full height. What is above nothing is never drawn as nothing."""
    greatest = max(values, default=0)
    if greatest <= 0:
        return _NOTHING * len(values)
    top = len(_BARS) - 1
    return "".join(_BARS[min(int(value / greatest * top + 0.5), top)] if value > 0 else _NOTHING for value in values)


def cells_sql(value: str, start: datetime, end: datetime, cells: int) -> str:
    """SQL over calls: sums of a value in so many equal parts of a period, a map from the part's number to its sum."""
    width = max(int((end - start).total_seconds() * 1e9) // cells, 1)
    begin = f"toUnixTimestamp64Nano({literal(start)})"
    cell = f"toUInt16(least(intDiv(toUnixTimestamp64Nano(Timestamp) - {begin}, {width}), {cells - 1}))"
    return f"sumMap(map({cell}, toFloat64(ifNull({value}, 0))))"


def cells(answer: Mapping[str, object], number: int) -> list[float]:
    """What `cells_sql` answers, as one value a part."""
    found = [0.0] * number
    for cell, value in answer.items():
        found[int(cell)] = float(str(value))
    return found
