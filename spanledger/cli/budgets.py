"""`spanledger budgets`: what is used of each budget, how fast it goes, and when it is used up if it goes on like this."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spanledger.cli.ledger import AdminOption, TokenOption, admin_of, load_config
from spanledger.cli.shell import CommandError, ConfigOption, SetOption, examples, out
from spanledger.cli.show import print_json

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

EPILOG = examples(
    ("what is used, the fullest first", "spanledger budgets"),
    ("one of them, all of its subjects", "spanledger budgets --budget teams --limit 1000"),
    ("for a script: who is over?", "spanledger budgets --format json | jq '.[] | select(.denies)'"),
)  # fmt: skip

_BAR = 20
_DAY_NS = 86_400 * 10**9
#: Others are read every two seconds.
_STALE_NS = 30 * 10**9


class BudgetsFormat(StrEnum):
    TABLE = "table"
    JSON = "json"


def budgets(
    budget: Annotated[list[str] | None, typer.Option(help="Only this budget. May be given again.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Subjects of a budget at most: those that used most.")] = 20,
    format_: Annotated[BudgetsFormat, typer.Option("--format", "-f", help="Bars, or one JSON object a subject.")] = BudgetsFormat.TABLE,
    config: ConfigOption = None,
    set_: SetOption = None,
    admin: AdminOption = None,
    token: TokenOption = None,
) -> None:  # fmt: skip
    """Show what is used of budgets in a running collector: bars, burn rate, and when a budget is used up.

    The burn rate is the mean of the window so far; the guess goes on from it in a straight line.
    """
    port = admin_of(load_config(config, set_), admin, token)
    try:
        found: list[dict[str, Any]] = json.loads(port.get(f"/budgets?most={limit}"))
    except ValueError:
        raise CommandError(f"{port.url}/budgets is not a collector's") from None
    names = [one["budget"] for one in found]
    for name in budget or ():
        if name not in names:
            raise CommandError(
                f"there is no budget {name!r} in the collector", f"There are {', '.join(names) or 'none'}."
            )
    found = [one for one in found if not budget or one["budget"] in budget]
    now = time.time_ns()
    if format_ is BudgetsFormat.JSON:
        print_json([_row(one, subject, now) for one in found for subject in one["subjects"]])
    elif not found:
        out.print(
            "The collector has no budgets: add the processor `budgets` to a pipeline (docs/budgets.md).", markup=False
        )
    else:
        for one in found:
            out.print(view(one, now))


def _row(budget: dict[str, Any], subject: dict[str, Any], now: int) -> dict[str, Any]:
    """One subject with its rates. Amounts are exact, rates and guesses are not."""
    used, limit, left = Decimal(subject["used"]), Decimal(subject["limit"]), Decimal(subject["remaining"])
    passed = max(now - budget["begins_ns"], 10**9)
    per_day = used * _DAY_NS / passed
    out_at = None
    if used > 0 and left > 0 and budget["ends_ns"] is not None:
        at = now + int(left / used * passed)
        out_at = _iso(at) if at < budget["ends_ns"] else None
    return {
        "pipeline": budget["pipeline"], "budget": budget["budget"], "window": budget["window"], "subject": subject["subject"],
        "unit": subject["unit"], "used": used, "limit": limit, "remaining": left, "used_percent": _digits(100 * used / limit, 2),
        "counted_since": subject.get("counted_since"), "per_day": _digits(per_day, 6), "used_up_at": out_at, "resets_at": subject["resets_at"], "denies": subject["denies"],
        **({"shares": subject["shares"]} if "shares" in subject else {}),
    }  # fmt: skip


def view(budget: dict[str, Any], now: int) -> RenderableType:
    """One budget: a line that says what it is, and a bar a subject."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = [_row(budget, subject, now) for subject in budget["subjects"]]
    ends = "" if budget["ends_ns"] is None else f", ends {_when(_iso(budget['ends_ns']), now)}"
    per = f"per {', '.join(budget['per'])}" if budget["per"] else "all calls together"
    since = budget.get("counted_since_ns")
    short = "" if since is None else f"  counted since {_iso(since)} only: there may be more"
    together = budget.get("shared")
    shared = "" if together is None else f"  shared, {_read(together['read_ns'], now)}"
    old = together is not None and now - together["read_ns"] > _STALE_NS
    head = Text.assemble(
        (budget["budget"], "bold"), (f"  {per}, {budget['window']}{ends}", "dim"), (shared, "yellow" if old else "dim"), (short, "yellow"),
    )  # fmt: skip
    if not rows:
        return Group(head, Text("  nothing used so far", style="dim"), "")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    names = [_name(row) for row in rows]
    table.add_column("", overflow="fold", max_width=40, min_width=min(max(map(len, names)), 24))
    table.add_column("", no_wrap=True)
    for heading in ("Used", f"of {budget['unit']}", "a day"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Used up", no_wrap=True)
    if together is not None:
        table.add_column("By collector")
    for name, row in zip(names, rows, strict=True):
        share = float(row["used_percent"])
        soft = [float(line["percent"]) for line in budget["thresholds"] if not line["hard"]]
        style = "red" if row["denies"] or share >= 100 else "yellow" if soft and share >= max(soft) else "green"
        table.add_row(
            Text(name), _bar(share, style), _amount(row["used"], row["unit"]), _amount(row["limit"], row["unit"]),
            _amount(row["per_day"], row["unit"]), _used_up(row, now), *([_shares(row)] if together is not None else []),
        )  # fmt: skip
    more = budget["subjects_count"] - len(rows)
    rest = [Text(f"  and {more:,} more that used less", style="dim")] if more > 0 else []
    return Group(head, table, *rest, "")


def _name(row: dict[str, Any]) -> str:
    """Whose line it is; nothing that a terminal would obey."""
    name = ", ".join(value or "(none)" for value in row["subject"].values()) or "everybody"
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)


def _shares(row: dict[str, Any]) -> Text:
    """Who counted how much of it."""
    from rich.text import Text

    shares = row.get("shares", {}).items()
    return Text(
        ", ".join(f"{name or '(before)'} {_amount(Decimal(used), row['unit'])}" for name, used in shares), style="dim"
    )


def _read(read_ns: int, now: int) -> str:
    """How old it is what others count."""
    return f"others read {max(now - read_ns, 0) // 10**9} s ago" if read_ns else "others not read so far"


def _bar(share: float, style: str) -> Text:
    from rich.text import Text

    full = min(int(share / 100 * _BAR + 0.5), _BAR)
    return Text.assemble(("█" * full, style), ("░" * (_BAR - full), "dim"), (f" {share:5.1f}%", style))


def _used_up(row: dict[str, Any], now: int) -> Text:
    from rich.text import Text

    if row["denies"] or row["remaining"] == 0:
        return Text("denied" if row["denies"] else "over", style="bold red")
    return Text(_when(row["used_up_at"], now), style="yellow") if row["used_up_at"] else Text("")


def _amount(amount: Decimal, unit: str) -> str:
    return f"{amount:,.2f}" if unit == "USD" else f"{amount:,.0f}"


def _digits(number: Decimal, digits: int) -> Decimal:
    return number.quantize(Decimal(1).scaleb(-digits))


def _iso(ns: int) -> str:
    # Whole seconds after 1970: a window's end may lie beyond what the platform's own conversion takes.
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // 10**9)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _when(text: str, now: int) -> str:
    """`in 5h`, `in 3 days`, from the moment as text."""
    seconds = datetime.fromisoformat(text).timestamp() - now / 1e9
    if seconds < 90 * 60:
        return f"in {max(seconds, 0) / 60:.0f} min"
    return f"in {seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"in {seconds / 86400:.0f} days"


__all__ = ["EPILOG", "budgets", "view"]
