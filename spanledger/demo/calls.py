"""What happens in the demo: one call after another, drawn from the invented world by a seeded generator.

A call carries its own bill, by genai-prices, so that what the ledger says can be held against it.
"""

from __future__ import annotations

import hashlib
import math
import random
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from spanledger.demo.world import ANSWERS, APPS, END_USERS, FALLBACKS, App, Model


class Outcome(StrEnum):
    OK = "ok"
    FALLBACK = "fallback"  # the first model failed, another answered
    RATE_LIMITED = "rate limited"
    BLOCKED = "blocked"  # by the gateway's guardrail, before any model saw it
    REPLAYED = "replayed"  # answered from the gateway's own cache: nobody is billed


@dataclass(frozen=True, slots=True)
class Call:
    """One request of an app to the gateway and what came of it. Token kinds as the ledger counts them."""

    app: App
    model: Model  # that answered, or would have
    failed: Model | None  # that was tried before
    outcome: Outcome
    start_ns: int
    duration_ns: int
    first_chunk_ns: int | None  # None: not streamed
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost: Decimal | None  # what the provider bills; None: nobody knows the price; 0: nothing was billed
    reported_cost: float  # what the gateway writes on its span
    user: str
    end_user: str
    session: str
    prompt: str
    answer: str
    response_id: str
    call_id: str
    trace_id: bytes

    @property
    def billed(self) -> bool:
        return self.outcome in (Outcome.OK, Outcome.FALLBACK)


class Gateway:
    """Draws calls. The same seed gives the same calls, but for their times."""

    def __init__(self, seed: int | None = None) -> None:
        self.random = random.Random(seed)
        self.answered: dict[str, Call] = {}

    def call(self, now_ns: int) -> Call:
        """One call that ends at `now_ns`, Unix time."""
        draw = self.random
        app = draw.choices(APPS, [a.weight for a in APPS])[0]
        model = draw.choices(list(app.models), list(app.models.values()))[0]
        outcome = self._outcome(model)
        failed = None
        if outcome is Outcome.FALLBACK:
            failed, model = model, FALLBACKS[model]
        if outcome is Outcome.REPLAYED and (replay := self.answered.get(app.key)) is not None:
            return self._replay(replay, now_ns)
        outcome = Outcome.OK if outcome is Outcome.REPLAYED else outcome
        answered = outcome in (Outcome.OK, Outcome.FALLBACK)
        tokens = self._tokens(app, model) if answered else (0, 0, 0, 0, 0)
        total, read, write, output, reasoning = tokens
        cost = bill(model, total, read, write, output, now_ns) if answered else Decimal(0)
        wait = draw.uniform(0.15, 0.9) if not model.embeds else 0.05
        seconds = wait + output / model.tokens_per_second + (draw.uniform(0.3, 2) if failed else 0)
        streamed = answered and not model.embeds and draw.random() < app.streaming
        response = self._id(24)
        found = Call(
            app=app, model=model, failed=failed, outcome=outcome, start_ns=now_ns - int(seconds * 1e9), duration_ns=int(seconds * 1e9),
            first_chunk_ns=int(wait * 1e9) if streamed else None, input_tokens=total, cache_read_tokens=read,
            cache_write_tokens=write, output_tokens=output, reasoning_tokens=reasoning, cost=cost, reported_cost=float(cost or 0),
            user=draw.choice(app.users) if app.users else "", end_user=draw.choice(END_USERS) if app.users else "",
            session=f"s-{draw.randrange(1000, 1400)}", prompt=draw.choice(app.prompts), answer=draw.choice(ANSWERS),
            response_id=f"msg_{response}" if model.sdk == "anthropic" else f"chatcmpl-{response}",
            call_id=str(uuid.UUID(int=draw.getrandbits(128), version=4)), trace_id=draw.randbytes(16),
        )  # fmt: skip
        if outcome is Outcome.OK and not model.embeds and model.book:
            self.answered[app.key] = found
        return found

    def _outcome(self, model: Model) -> Outcome:
        roll = self.random.random()
        if model in FALLBACKS and roll < 0.02:
            return Outcome.FALLBACK
        if roll < 0.035:
            return Outcome.RATE_LIMITED
        if roll < 0.045:
            return Outcome.BLOCKED
        return Outcome.REPLAYED if roll < 0.075 else Outcome.OK

    def _tokens(self, app: App, model: Model) -> tuple[int, int, int, int, int]:
        """Input (all of it), read from cache, written to cache, output (all of it), reasoning."""
        draw = self.random
        total = max(12, int(app.input_tokens * math.exp(draw.gauss(0, 0.45))))
        if model.embeds:
            return max(8, total // 12), 0, 0, 0, 0
        output = max(4, int(app.output_tokens * math.exp(draw.gauss(0, 0.5))))
        reasoning = int(output * draw.uniform(0.5, 3)) // 64 * 64 if model.reasons else 0
        read = write = 0
        if model.caches and total > 1400 and draw.random() < app.cached:
            prefix = min(total - 200, total * 7 // 10) // 128 * 128
            if model.sdk == "anthropic" and draw.random() < 0.2:
                write = prefix
            else:
                read = prefix
        return total, read, write, output + reasoning, reasoning

    def _replay(self, call: Call, now_ns: int) -> Call:
        """The gateway answers the same request from its cache: the same response id, a moment later, unbilled."""
        return replace(
            call, outcome=Outcome.REPLAYED, start_ns=now_ns - 8_000_000, duration_ns=8_000_000, first_chunk_ns=None,
            cost=Decimal(0), reported_cost=0.0, call_id=str(uuid.UUID(int=self.random.getrandbits(128), version=4)),
            trace_id=self.random.randbytes(16),
        )  # fmt: skip

    def _id(self, length: int) -> str:
        return "".join(self.random.choices("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789", k=length))


def bill(model: Model, total: int, read: int, write: int, output: int, at_ns: int) -> Decimal | None:
    """What the provider bills by genai-prices, exact; None where the book has no price."""
    if model.book is None:
        return None
    from genai_prices import Usage, calc_price

    usage = Usage(
        input_tokens=total, cache_read_tokens=read or None, cache_write_tokens=write or None, output_tokens=output
    )
    at = datetime.fromtimestamp(at_ns / 1e9, UTC)
    found = calc_price(usage, model.book[1], provider_id=model.book[0], genai_request_timestamp=at)
    return Decimal(found.total_price)


def key_hash(alias: str) -> str:
    """What the gateway keeps of a key."""
    return hashlib.sha256(f"sk-demo-{alias}".encode()).hexdigest()
