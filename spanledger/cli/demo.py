"""`spanledger demo`: a lifelike gateway that reports to a running collector."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from spanledger.cli.send import EndpointOption, Protocol, ProtocolOption, TokenOption
from spanledger.cli.sender import Body, Sender, SendError, await_start, open_sender
from spanledger.cli.shell import CommandError, SetOption, err, examples, out, program, usage
from spanledger.cli.show import count, money

TICK = 0.25  # seconds between two rounds of requests

EPILOG = examples(
    ("about 500 calls, then a hint what to look at", "spanledger demo"),
    ("a busy gateway for five minutes", "spanledger demo --rate 200 --duration 5m"),
    ("a day's worth at once, spread over the last 24 hours", "spanledger demo --calls 5000 --rate 0 --spread 24h"),
    ("a collector of its own, with a month behind it", "spanledger demo --history 30d"),
)


def demo(
    rate: Annotated[
        float, typer.Option(min=0, max=100_000, help="Calls a second; 0: as fast as the collector takes them.")
    ] = 50.0,
    calls: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000_000,
            help="Stop after so many calls. Default: 500, if there is no --duration.",
            show_default=False,
        ),
    ] = None,
    duration: Annotated[str | None, typer.Option(help="Stop after so long: 30s, 5m, 1h.", show_default=False)] = None,
    spread: Annotated[
        str, typer.Option(help="Let the calls have happened within so long before now, instead of now.")
    ] = "0s",
    seed: Annotated[int | None, typer.Option(help="Draw the same calls again.", show_default=False)] = None,
    history: Annotated[
        str | None,
        typer.Option(
            help="Start a collector whose store holds so much simulated past, and go on from there: 30d. Stops with Ctrl-C, or after --duration.",
            show_default=False,
        ),
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="With --history: its directory, new or of a demo before.")] = Path(
        "spanledger-demo"
    ),
    set_: SetOption = None,
    endpoint: EndpointOption = None,
    token: TokenOption = None,
    protocol: ProtocolOption = Protocol.HTTP,
) -> None:
    """Play an LLM gateway: teams, apps and models, streams, cached prompts, failures, fallbacks, guardrail blocks.

    LiteLLM's spans and those of the apps' own SDKs, two reports of most calls, go to a running collector. One model
    has no price, one key no team, some prompts hold (invented) personal data. At the end stands what the providers
    would bill: compare it with `spanledger costs`.

    With --history it needs no running collector: it starts one over a store of its own, with a company of twenty teams behind it,
    which goes on calling. --set changes that collector's config.
    """  # fmt: skip
    from config.types import parse_duration

    try:
        limit = parse_duration(duration) if duration is not None else None
        back = parse_duration(spread)
        past = parse_duration(history) if history is not None else None
    except ValueError as error:
        usage(str(error))
    if past is not None:
        if calls is not None or back or endpoint is not None:
            usage(
                "--history has a collector and calls of its own: it goes with --duration, --seed, --data-dir and --set alone"
            )
        from spanledger.cli.demo_history import demo_with_history

        demo_with_history(past, data_dir, 1 if seed is None else seed, limit, set_ or ())
        return
    if set_:
        usage("--set is for the collector that --history starts")
    total = calls if calls is not None or limit is not None else 500
    if total is None and limit is not None and rate:
        total = max(1, round(limit * rate))
    await_start(protocol.value, endpoint)
    sender = open_sender(protocol.value, endpoint, token, {}, retries=20)
    tally = Tally(seed, rate, total, limit, back)
    try:
        tally.run(sender)
    except SendError as error:
        raise CommandError(str(error), error.hint) from None
    except KeyboardInterrupt:
        err.print("[dim]stopped[/]")
    finally:
        sender.close()
    _summary(tally, sender)


@dataclass
class Tally:
    """Draws calls at a rate, sends their spans, and keeps count of what the providers bill."""

    seed: int | None
    rate: float
    total: int | None
    limit: float | None
    back: float
    done: int = 0
    spans: int = 0
    billed: Decimal = Decimal(0)
    billed_calls: int = 0
    unpriced: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    teams: dict[str, Decimal] = field(default_factory=dict)

    def run(self, sender: Sender) -> None:
        """Send until the number or the time is reached. Raises `SendError`."""
        from rich.live import Live

        from spanledger.demo.calls import Gateway
        from spanledger.demo.spans import requests

        gateway = Gateway(self.seed)
        began = time.monotonic()
        with Live(console=err, transient=True, refresh_per_second=8) as live:
            while (room := self._room(time.monotonic() - began)) is not None:
                if room:
                    drawn = [gateway.call(self._when(gateway.random)) for _ in range(room)]
                    for body, spans in requests(drawn, gateway.random):
                        sender.send(Body("demo", "traces", body))
                        self.spans += spans
                    for call in drawn:
                        self._count(call)
                    live.update(self._line(time.monotonic() - began))
                if self.rate:
                    time.sleep(max(0.0, min(TICK, (self.done + 1) / self.rate - (time.monotonic() - began))))

    def _room(self, elapsed: float) -> int | None:
        """How many calls are due now; None: it is over."""
        over = self.limit is not None and elapsed >= self.limit and not (self.total and self.rate)
        if over or (self.total is not None and self.done >= self.total):
            return None
        due = int(elapsed * self.rate) + 1 - self.done if self.rate else 200
        due = max(0, min(due, 1000))
        return due if self.total is None else min(due, self.total - self.done)

    def _when(self, draw: Any) -> int:
        return time.time_ns() - int(draw.random() * self.back * 1e9)

    def _count(self, call: Any) -> None:
        self.done += 1
        self.outcomes[call.outcome.value] += 1
        if not call.billed:
            return
        if call.cost is None:
            self.unpriced += 1
            return
        self.billed += call.cost
        self.billed_calls += 1
        team = call.app.team or "(unattributed)"
        self.teams[team] = self.teams.get(team, Decimal(0)) + call.cost

    def _line(self, elapsed: float) -> str:
        of = f" of {count(self.total)}" if self.total else ""
        return (
            f"{count(self.done)}{of} calls  {count(self.spans)} spans  {self.done / max(elapsed, 0.1):,.0f} calls/s  "
            f"{self.billed:,.4f} USD"
        )


def _summary(tally: Tally, sender: Sender) -> None:
    kinds = ", ".join(f"{count(n)} {kind}" for kind, n in tally.outcomes.most_common())
    out.print(
        f"Sent {count(tally.done)} calls as {count(tally.spans)} spans to {sender.endpoint}: {kinds}", soft_wrap=True
    )
    out.print(f"The providers bill [bold]{money(tally.billed)} USD[/] for {count(tally.billed_calls)} calls; "
              f"{count(tally.unpriced)} calls to a model that has no price", soft_wrap=True)  # fmt: skip
    for team, cost in sorted(tally.teams.items(), key=lambda item: -item[1]):
        out.print(f"  {team:<16} {money(cost)}", style="dim", markup=False)
    if sender.retried:
        out.print(f"[dim]{sender.retried} requests were put off by the collector and sent again[/]")
    name, sql = program(), "SELECT Team, App, PriceStatus, CostUSD FROM llm_calls ORDER BY Timestamp DESC LIMIT 10"
    out.print(
        f"\nNow look at it:\n  [cyan]{name} costs --by team,model[/]\n  [cyan]{name} query '{sql}'[/]", soft_wrap=True
    )
