"""`spanledger prices`: what a model costs, and which rule says so."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spanledger.cli.shell import CommandError, ConfigOption, examples, out, usage
from spanledger.cli.show import Format, money, print_csv, print_json
from spanledger.rates import KINDS, columns, each_call, per_million, rows

if TYPE_CHECKING:
    from rich.table import Table

    from collector.prices import Book, Found, Rates

app = typer.Typer(
    help="What models cost, on which day, and which rule says so.",
    no_args_is_help=True,
    epilog=examples(
        ("why a call costs what it costs", "spanledger prices lookup claude-sonnet-4-5 --provider aws.bedrock"),
        ("the whole book of one provider", "spanledger prices list --provider anthropic"),
    ),
)

_LISTED = KINDS[:4]

LOOKUP_EPILOG = examples(
    ("a model, as its spans spell it", "spanledger prices lookup gpt-4o-mini"),
    ("through a cloud, on a day", "spanledger prices lookup claude-sonnet-4-5 --provider aws.bedrock --at 2026-03-01"),
    (
        "with the overrides of a config",
        "spanledger prices lookup my-llama-70b --provider vllm --config spanledger.yaml",
    ),
)
LIST_EPILOG = examples(
    ("one provider's models", "spanledger prices list --provider anthropic"),
    ("everything, for a spreadsheet", "spanledger prices list --format csv"),
)


@app.command("lookup", epilog=LOOKUP_EPILOG)
def lookup(
    model: Annotated[str, typer.Argument(help="Model name as a span spells it, such as gpt-4o-mini or openai/gpt-4o.")],
    provider: Annotated[
        str | None, typer.Option(help="Provider as a span spells it, such as azure.ai.openai.", show_default=False)
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="Day or minute, UTC. Default: now.", show_default=False
        ),
    ] = None,
    tier: Annotated[
        str | None, typer.Option(help="Service tier that served: flex, priority, batch …", show_default=False)
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Explain the price of one model: what was tried, which rule matched, and the rates in USD per million tokens."""
    from collector.prices import Wanted

    when = (at or datetime.now(tz=UTC)).replace(tzinfo=UTC)
    found, steps = _book(config).find(Wanted((model,), provider, tier and tier.lower(), when))
    for step in steps:
        out.print(f"  tried {step}", style="dim", markup=False, soft_wrap=True)
    if found is None:
        raise CommandError(
            f"no price for {model!r} at {when:%Y-%m-%d %H:%M} UTC: its calls count as unpriced, not as free",
            f"Add it under processors.pricing.overrides: {{model: {model!r}, input_mtok: 1.0, output_mtok: 2.0}}",
        )
    _show(found, tier, when)


def _show(found: Found, tier: str | None, when: datetime) -> None:
    from rich.markup import escape

    out.print(f"[bold]{escape(found.source)}[/] at {when:%Y-%m-%d %H:%M} UTC", soft_wrap=True)
    if not found.tier_priced:
        out.print(f"[yellow]No price for the tier {escape(repr(tier))}: the standard one stands in.[/]")
    for title, rates in (
        ("USD per million tokens", found.rates),
        *((f"served as {n}", r) for n, r in found.tiers.items()),
    ):
        out.print(f"\n{title}", markup=False)
        out.print(_table(rates))


@app.command("list", epilog=LIST_EPILOG)
def list_(
    provider: Annotated[str | None, typer.Option(help="Only this provider of the book.", show_default=False)] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TABLE,
    config: ConfigOption = None,
) -> None:
    """Print the whole book: every model with its standard price today, in USD per million tokens, overrides first."""
    from rich.table import Table

    from collector.prices import Rates

    book, now = _book(config), datetime.now(tz=UTC)
    listed: list[tuple[str, ...]] = []
    for override in book.overrides:
        if provider in (None, override.provider) and override.holds(now.date()):
            rates = Rates.from_model_price(override.model_price())
            listed.append(
                (override.provider or "(any)", override.model, *(per_million(rates, 0, kinds) for _, kinds in _LISTED))
            )
    for owner, model in book.models():
        if provider in (None, owner.id):
            rates = Rates.from_model_price(model.get_prices(now))
            listed.append((owner.id, model.id, *(per_million(rates, 0, kinds) for _, kinds in _LISTED)))
    if not listed:
        known = ", ".join(owner.id for owner in book.snapshot.providers)
        usage(f"--provider: no provider {provider!r} in the book", f"There are {known}.")
    names = ("provider", "model", *(name.replace(" ", "_") for name, _ in _LISTED))
    if format_ is Format.JSON:
        print_json([dict(zip(names, row, strict=True)) for row in listed])
    elif format_ is Format.CSV:
        print_csv(names, listed)
    else:
        table = Table(title=f"{book.version}, USD per million tokens", title_justify="left", box=None, pad_edge=False)
        for name in names:
            table.add_column(name.replace("_", " ").capitalize(), justify="left" if name in names[:2] else "right")
        for row in listed:
            table.add_row(*row)
        out.print(table)


def _book(config: Path | None) -> Book:
    from collector.prices import Book
    from config import load

    for spec in load(config).processors.values():
        if spec.type == "pricing":
            return Book(getattr(spec.config, "overrides", ()))
    return Book()


def _table(rates: Rates) -> Table:
    from rich.table import Table

    above = columns(rates)
    table = Table(show_header=len(above) > 1, box=None, pad_edge=False)
    table.add_column("", min_width=18)
    for heading in above:
        table.add_column(heading, justify="right")
    for name, cells in rows(rates):
        table.add_row(name, *cells)
    if rates.per_call:
        table.add_row("each call", f"{money(each_call(rates))} USD")
    return table
