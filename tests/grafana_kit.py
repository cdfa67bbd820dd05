"""What Grafana and its ClickHouse data source do with a panel's SQL before the server sees it (plugin 4.20).

The browser decides `$__conditionalAll(condition, $variable)` and puts the values of variables in, then the plugin expands the
macros of time. Written after what the plugin's documentation says of them; only what the dashboards use is here, and anything
else is an error.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spanledger.grafana.__main__ import FOLDER

ALL = ("$__all",)
_CONDITIONAL = "$__conditionalAll("


@dataclass(frozen=True)
class Period:
    """The dashboard's time, and how long a point of a chart is."""

    start: datetime.datetime
    stop: datetime.datetime
    seconds: int


def dashboards() -> dict[str, dict[str, Any]]:
    """The committed dashboards by name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(FOLDER).glob("*.json"))}


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels that show something, those in rows too."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panels(panel)
        else:
            yield panel


def targets(board: Mapping[str, Any], kind: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Panels and their queries to data sources of this type."""
    for panel in panels(board):
        for target in panel["targets"]:
            if target["datasource"]["type"] == kind:
                yield panel, target


def variables(board: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """Every variable at what it stands at when the dashboard is opened."""
    found: dict[str, Sequence[str]] = {}
    for one in board["templating"]["list"]:
        value = one.get("current", {}).get("value", "")
        found[one["name"]] = tuple(value) if isinstance(value, list) else (value,)
    return found


def expand(sql: str, values: Mapping[str, Sequence[str]], period: Period) -> str:
    """The statement that reaches ClickHouse. Raises `ValueError` where something would be left over."""
    sql = _macros(_values(_conditions(sql, values), values), period)
    if "$" in sql:
        raise ValueError(f"not expanded: {sql[sql.index('$') :][:40]}")
    return sql


def _conditions(sql: str, values: Mapping[str, Sequence[str]]) -> str:
    while (at := sql.rfind(_CONDITIONAL)) >= 0:
        condition, variable, end = _arguments(sql, at + len(_CONDITIONAL))
        name = variable.strip().strip("${}")
        dropped = tuple(values[name]) in (ALL, ("",))
        sql = sql[:at] + ("1=1" if dropped else condition) + sql[end:]
    return sql


def _arguments(sql: str, start: int) -> tuple[str, str, int]:
    """Both arguments and where the call ends. Like the plugin, brackets and commas in quotes count."""
    depth, commas = 1, []
    for at in range(start, len(sql)):
        depth += {"(": 1, ")": -1}.get(sql[at], 0)
        if sql[at] == "," and depth == 1:
            commas.append(at)
        if depth == 0:
            (comma,) = commas
            return sql[start:comma], sql[comma + 1 : at], at + 1
    raise ValueError("a bracket is open")


def _values(sql: str, values: Mapping[str, Sequence[str]]) -> str:
    def value(match: re.Match[str]) -> str:
        if match["format"] != "singlequote":
            raise ValueError(f"{match[0]} is not quoted")
        return ",".join("'" + text.replace("'", "\\'") + "'" for text in values[match["name"]])

    return re.sub(r"\$\{(?P<name>\w+)(?::(?P<format>\w+))?\}", value, sql)


def _macros(sql: str, period: Period) -> str:
    start, stop = (f"toDateTime({int(moment.timestamp())})" for moment in (period.start, period.stop))
    sql = re.sub(r"\$__timeFilter\(([\w.]+)\)", rf"\1 >= {start} AND \1 <= {stop}", sql)
    sql = re.sub(r"\$__timeInterval\(([\w.]+)\)", rf"toStartOfInterval(toDateTime(\1), INTERVAL {period.seconds} second)", sql)  # fmt: skip
    return re.sub(r"\$__fromTime\b", start, re.sub(r"\$__toTime\b", stop, sql))
