"""The parts of docs/clickhouse.md that are made from the declarations: `python -m exporters.clickhouse.document` renews them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from exporters.clickhouse import schema
from exporters.clickhouse.declare import Table
from exporters.clickhouse.reader import FORMATS, Limits
from exporters.clickhouse.views import VIEWS

PAGE = Path(__file__).parents[2] / "docs" / "clickhouse.md"
_SECTION = re.compile(r"(<!-- made of: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _columns(table: Table, names: tuple[str, ...] | None = None) -> str:
    fields = [field for field in table.fields if names is None or field.name in names]
    lines = ["| Column | Type | What it is |", "| --- | --- | --- |"]
    for field in fields:
        kind = f"{field.type}, computed when read" if field.alias else field.type
        lines.append(f"| {field.name} | {kind} | {_cell(field.doc)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _views() -> str:
    lines = ["| View | What it answers |", "| --- | --- |"]
    return "\n".join(lines + [f"| `{view.name}` | {_cell(view.doc)} |" for view in VIEWS])


def _tables() -> str:
    lines = ["| Table | Engine | Partition | Sorted by | What it holds |", "| --- | --- | --- | --- | --- |"]
    for table in schema.tables("otel_traces", "otel_logs"):
        engine = table.engine.replace("`", "")
        partition = f"`{table.partition_by}`" if table.partition_by else ""
        lines.append(f"| `{table.name}` | {engine} | {partition} | `{table.order_by}` | {_cell(table.doc)} |")
    return "\n".join(lines)


def _limits() -> str:
    limits = Limits()
    return (
        f"A query may take {limits.seconds:g} s, {limits.memory_bytes // 2**20:,} MiB, give {limits.rows:,} rows or "
        f"{limits.result_bytes // 2**20} MiB, and be {limits.statement_bytes // 2**10} KiB long; {limits.parallel} run at once, "
        f"others wait {limits.queue_seconds:g} s. Formats: {', '.join(FORMATS)}."
    )


SECTIONS: dict[str, Callable[[], str]] = {
    "tables": _tables,
    "views": _views,
    "llm_calls": lambda: _columns(schema.CALLS_OF, schema.CALL_NAMES),
    "llm_costs_hourly": lambda: _columns(schema.HOURLY_OF),
    "llm_traffic_hourly": lambda: _columns(schema.TRAFFIC_OF),
    "llm_budget_shares": lambda: _columns(schema.SHARES_OF),
    "llm_findings": lambda: _columns(
        schema.FINDINGS_OF, tuple(f.name for f in schema.FINDINGS_OF.fields if f.name != "Version")
    ),
    "otel_traces": lambda: _columns(schema.traces("otel_traces")),
    "otel_logs": lambda: _columns(schema.logs("otel_logs")),
    "limits": _limits,
}


def render(page: str) -> str:
    """The page with its made sections renewed."""
    return _SECTION.sub(lambda match: f"{match[1]}{SECTIONS[match[2]]()}\n{match[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
