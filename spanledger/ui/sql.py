"""SQL that several pages have in common."""

from __future__ import annotations

from datetime import datetime, timedelta

from exporters.clickhouse.hourly import COSTS, MODEL, TRAFFIC, known_cost
from spanledger.ui.ask import Value
from spanledger.ui.charts import REST
from spanledger.ui.filters import NONE
from spanledger.ui.page import View

#: A text, or what stands for none.
ABSENT = "if({column} = '', '" + NONE + "', {column})"
#: The model that a row of `llm_calls` is charged under.
CALL_MODEL = f"({MODEL})"
#: Movements of the hourly sums: summed by anything they equal the calls. `llm_costs_hourly` shows the same with one row a
#: key, but has to make that row first, users apart, whatever is asked; from these the engine takes the narrowest sums.
MOVEMENTS = f"{COSTS.name} AS h"
#: The same of how calls are routed, shared, refused and priced.
ROUTED = f"{TRAFFIC.name} AS h"
COST = known_cost("h")
_WEEK = timedelta(days=7)
HOURS_NOTE = "Times are UTC. Sums are made of whole hours; the first one counts whole."


def hourly(view: View, table: str = "h") -> tuple[str, dict[str, Value]]:
    """Condition and parameters over `MOVEMENTS` or `ROUTED`."""
    return view.filters.where(table, time="Hour")


def calls(view: View, table: str = "c") -> tuple[str, dict[str, Value]]:
    """Condition and parameters over `llm_calls`."""
    return view.filters.where(table, columns={"Model": CALL_MODEL})


def last_days(view: View, days: int) -> tuple[datetime, str]:
    """For what has to be found span by span or trace by trace: of a period longer than a week its last days must do. Gives
    where they start, and a sentence that says so."""
    if view.filters.end - view.filters.start <= _WEEK:
        return view.filters.start, ""
    return view.filters.end - timedelta(days=days), f" Of the last {days} days of the period."


def step_of(seconds: float) -> int:
    """How long a step on a chart of hourly sums is, in seconds: at most some hundred of them."""
    return next((step for step in (3600, 3 * 3600, 6 * 3600, 86400) if seconds / step <= 60), 86400 if seconds <= 86400 * 200 else 7 * 86400)  # fmt: skip


def trend(key: str, value: str, seconds: int, where: str, table: str = MOVEMENTS, time: str = "h.Hour") -> str:  # fmt: skip
    """A sum over time by a text: a series for each of the ten with the most of it, and one for the others."""
    name = ABSENT.format(column=key)
    return f"""WITH (SELECT groupArray(name) FROM (SELECT {name} AS name FROM {table} WHERE {where} GROUP BY name ORDER BY {value} DESC NULLS LAST LIMIT 10)) AS top
SELECT toStartOfInterval({time}, INTERVAL {seconds} SECOND, 'UTC') AS time, if(has(top, {name}), {name}, '{REST}') AS series, {value} AS value
FROM {table}
WHERE {where}
GROUP BY time, series
HAVING value > 0
ORDER BY time, series"""
