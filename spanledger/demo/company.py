"""A company that is drawn by a seed: twenty teams in their time zones, their apps and how these call models, and where models run.

`calls.py` plays one gateway call by call; this is what `traffic.py` draws whole months of calls for.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import StrEnum

from spanledger.demo.world import EMBEDDING, GEMINI, GPT_5, GPT_41, GPT_MINI, HAIKU, MISTRAL, SONNET, Model
from spanledger.demo.world import IN_HOUSE as OWN


class Rhythm(StrEnum):
    """When calls are made, by the clocks of the team."""

    OFFICE = "office"  # people at work: two peaks and a lunch break, few at night and on weekends
    CONSUMER = "consumer"  # customers: evenings, and weekends a little more
    STEADY = "steady"  # machines: nearly the same around the clock
    BATCH = "batch"  # one job a night, for an hour or three


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place where a model runs. `weight`: what share it is configured to take, in any unit."""

    name: str
    region: str | None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A model as the gateway offers it, and how it behaves."""

    model: Model
    deployments: tuple[Deployment, ...]
    first_token_s: float = 0.5

    @property
    def alias(self) -> str:
        return self.model.alias

    @property
    def upstream(self) -> str:
        """The model's name at its provider."""
        return self.model.upstream.partition("/")[2]


def _offer(model: Model, *deployments: Deployment, first: float = 0.5) -> Offer:
    return Offer(model, deployments or (Deployment(f"{model.alias}-main", None),), first)


def _model(
    alias: str,
    upstream: str,
    provider: str,
    book: tuple[str, str],
    speed: int,
    *,
    caches: bool = True,
    reasons: bool = False,
) -> Model:
    return Model(alias, upstream, provider, book, "", "openai", speed, caches, reasons)  # fmt: skip


_AZURE = "azure.ai.openai"
GPT_41_MINI = _model("gpt-4.1-mini", "openai/gpt-4.1-mini", "openai", ("openai", "gpt-4.1-mini"), 120)
GPT_4O = _model("gpt-4o", "azure/gpt-4o", _AZURE, ("azure", "gpt-4o"), 90)
GPT_4O_MINI = replace(GPT_MINI, upstream="azure/gpt-4o-mini", provider=_AZURE, book=("azure", "gpt-4o-mini"))
IN_HOUSE = replace(OWN, provider="vllm")
OPUS = _model("claude-opus", "anthropic/claude-opus-4-5", "anthropic", ("anthropic", "claude-opus-4-5"), 55)
GEMINI_PRO = _model("gemini-pro", "gemini/gemini-2.5-pro", "gcp.gemini", ("google", "gemini-2.5-pro"), 90, reasons=True)
LLAMA = _model("llama-70b", "groq/llama-3.3-70b-versatile", "groq", ("groq", "llama-3.3-70b-versatile"), 280, caches=False)  # fmt: skip

OFFERS: tuple[Offer, ...] = (
    _offer(GPT_41, Deployment("gpt-4.1-a", "us-east-1"), Deployment("gpt-4.1-b", "us-east-1")),
    _offer(GPT_41_MINI, first=0.35),
    _offer(GPT_5, Deployment("gpt-5-a", None), Deployment("gpt-5-b", None), first=1.2),
    _offer(EMBEDDING, first=0.06),
    _offer(GPT_4O, Deployment("azure-eu", "westeurope", 3), Deployment("azure-us", "eastus2")),
    _offer(GPT_4O_MINI, Deployment("azure-eu-mini", "westeurope", 2), Deployment("azure-us-mini", "eastus2", 2), Deployment("azure-se-mini", "swedencentral"), first=0.3),
    _offer(SONNET, Deployment("sonnet-1", None), Deployment("sonnet-2", None), first=0.9),
    _offer(HAIKU, first=0.4),
    _offer(OPUS, first=1.4),
    _offer(GEMINI, Deployment("gemini-eu", "europe-west4"), Deployment("gemini-us", "us-central1"), first=0.4),
    _offer(GEMINI_PRO, first=1.6),
    _offer(MISTRAL, first=0.5),
    _offer(LLAMA, first=0.2),
    _offer(IN_HOUSE, Deployment("vllm-0", None), Deployment("vllm-1", None), first=0.15),
)  # fmt: skip

#: Models of the market that nobody in the company calls, so far.
UNUSED: tuple[Offer, ...] = (
    _offer(_model("gpt-5-pro", "openai/gpt-5-pro", "openai", ("openai", "gpt-5-pro"), 30, caches=False, reasons=True), first=4),
    _offer(_model("o3-pro", "openai/o3-pro", "openai", ("openai", "o3-pro"), 30, caches=False, reasons=True), first=4),
    _offer(_model("claude-opus-4-1", "anthropic/claude-opus-4-1", "anthropic", ("anthropic", "claude-opus-4-1"), 45), first=1.6),
    _offer(_model("grok-4", "xai/grok-4", "x_ai", ("x-ai", "grok-4-0709"), 70, reasons=True), first=1.8),
    _offer(_model("command-a", "cohere/command-a", "cohere", ("cohere", "command-a"), 80, caches=False), first=0.6),
    _offer(_model("deepseek-chat", "deepseek/deepseek-chat", "deepseek", ("deepseek", "deepseek-chat"), 60), first=1.1),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Workload:
    """One app of a team, and how it calls models. Tokens are medians; what varies around them varies by factors."""

    team: str
    app: str
    zone: str
    rhythm: Rhythm
    calls_a_day: float  # on a working day at the start of the month
    models: tuple[tuple[str, float], ...]  # alias and weight
    input_tokens: int
    output_tokens: int
    key: str
    users: tuple[str, ...]
    end_users: int  # how many customers it serves; 0: none are told
    environment: str = "production"
    output_limit: int | None = None
    cached: float = 0.0  # share of calls whose prompt begins with something cached
    streaming: float = 0.0
    guardrail: str | None = None
    refused: float = 0.0  # share of calls that the guardrail refuses
    task: str | None = None
    growth: float = 0.0  # a month
    job_hour: float = 1.0  # of a batch job: local hour at which it begins
    job_hours: float = 2.0
    instrumented: bool = True  # reports its calls itself, beside the gateway


@dataclass(frozen=True, slots=True)
class _Sort:
    """A sort of app that companies have; `size` against the others of the team."""

    name: str
    rhythm: Rhythm
    input_tokens: int
    output_tokens: int
    choices: tuple[tuple[Model, ...], ...]  # of which each app has one; the first model serves most
    task: str
    size: float = 1.0
    cached: float = 0.0
    streaming: float = 0.0
    limit: int | None = None
    guardrail: str | None = None
    customers: int = 0


_SORTS: tuple[_Sort, ...] = (
    _Sort("support-bot", Rhythm.CONSUMER, 1300, 150, ((GPT_4O_MINI, HAIKU), (HAIKU, SONNET), (GEMINI, GPT_4O_MINI)), "general_chat",
          2.0, 0.5, 0.8, 400, "pii-guard", 900),
    _Sort("shop-assistant", Rhythm.CONSUMER, 1700, 180, ((GPT_41_MINI, GPT_41), (GEMINI, GEMINI_PRO)), "general_chat", 2.5, 0.6, 0.9, 600,
          "topic-filter", 2500),
    _Sort("ticket-triage", Rhythm.STEADY, 700, 25, ((GPT_4O_MINI,), (GEMINI,), (LLAMA,)), "classification", 1.5, 0.2, 0.0, 64),
    _Sort("doc-search", Rhythm.OFFICE, 3800, 220, ((GEMINI, GPT_41), (GPT_41_MINI, SONNET), (GPT_4O, GPT_4O_MINI)), "rag", 1.2, 0.4, 0.6, 800,
          "pii-guard", 120),
    _Sort("index", Rhythm.BATCH, 900, 1, ((EMBEDDING,),), "embedding", 3.0),
    _Sort("code-review", Rhythm.OFFICE, 8500, 800, ((SONNET, GPT_5), (SONNET, HAIKU), (GPT_5, GPT_41)), "code", 0.5, 0.7, 0.3, 4000),
    _Sort("code-agent", Rhythm.OFFICE, 14000, 450, ((SONNET, OPUS), (SONNET, HAIKU)), "agent", 0.9, 0.85, 0.6, 8000, None, 60),
    _Sort("campaign-writer", Rhythm.OFFICE, 380, 520, ((GPT_41, MISTRAL), (MISTRAL,), (SONNET, GPT_41)), "writing", 0.5, 0.0, 0.7, 1500, "brand-filter"),
    _Sort("letter-reader", Rhythm.BATCH, 2600, 180, ((GEMINI, SONNET), (GPT_4O,)), "extraction", 0.8, 0.0, 0.0, 1000),
    _Sort("summaries", Rhythm.BATCH, 5200, 260, ((GEMINI,), (GPT_41_MINI,), (LLAMA,)), "summarization", 1.0, 0.0, 0.0, 1000),
    _Sort("translation", Rhythm.STEADY, 600, 620, ((MISTRAL,), (GPT_4O_MINI,), (GEMINI,)), "translation", 0.8, 0.0, 0.2, 2000),
    _Sort("fraud-check", Rhythm.STEADY, 1500, 60, ((HAIKU,), (GPT_41_MINI,)), "classification", 1.5, 0.6, 0.0, 200),
    _Sort("meeting-notes", Rhythm.OFFICE, 9000, 600, ((GPT_41,), (GEMINI_PRO, GEMINI)), "summarization", 0.3, 0.0, 0.3, 3000),
    _Sort("sales-coach", Rhythm.OFFICE, 2200, 350, ((GPT_4O, GPT_4O_MINI), (SONNET,)), "general_chat", 0.4, 0.3, 0.8, 1200, "topic-filter", 80),
    _Sort("faq", Rhythm.CONSUMER, 800, 120, ((IN_HOUSE,), (LLAMA, GPT_4O_MINI)), "general_chat", 1.0, 0.0, 0.5, 300, None, 500),
    _Sort("notebook", Rhythm.OFFICE, 900, 400, ((GPT_41, GPT_41_MINI), (GPT_5, SONNET)), "exploration", 0.15, 0.0, 0.5),
)  # fmt: skip
#: Teams, largest first, and where they sit.
_TEAMS = (
    "Support", "Search", "Commerce", "Platform", "Growth", "Claims", "Payments", "Risk", "Content", "Data",
    "Mobile", "Logistics", "Sales", "Legal", "Research", "Finance", "People", "Security", "Partners", "Labs",
)  # fmt: skip
_ZONES = (
    "Europe/Berlin", "America/New_York", "America/Los_Angeles", "Asia/Kolkata", "Europe/London", "Asia/Tokyo", "America/Sao_Paulo",
    "Australia/Sydney",
)  # fmt: skip
#: How fast teams become smaller, in order of size; those behind the first twelve do so faster.
_DECLINE, _SMALLER, _LARGE = 1.15, 0.72, 12
_NAMES = (
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "kim", "liam", "mallory", "nina", "oscar",
    "peggy", "quinn", "rupert", "sybil", "trent", "uma", "victor", "wendy", "xavier", "yara", "zoe",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class World:
    """Who calls what, where models run, and the seed that everything else is drawn by."""

    seed: int
    workloads: tuple[Workload, ...]
    offers: tuple[Offer, ...] = OFFERS
    unused: tuple[Offer, ...] = UNUSED

    @classmethod
    def seeded(cls, seed: int = 1, calls_a_day: float = 50_000) -> World:
        """A company as large as that: twenty teams, the smallest with a few dozen calls a day."""
        draw = random.Random(seed)
        raw = [place**-_DECLINE * _SMALLER ** max(0, place - _LARGE) for place in range(1, len(_TEAMS) + 1)]
        drawn: list[tuple[Workload, float]] = []
        for name, size in zip(_TEAMS, raw, strict=True):
            zone = draw.choice(_ZONES)
            sorts = draw.sample(_SORTS, draw.choice((1, 2, 2, 3) if size > 0.05 else (1, 1, 2)))
            total = sum(sort.size for sort in sorts)
            drawn += [(_workload(draw, name, zone, sort), size * sort.size / total) for sort in sorts]
        whole = sum(share for _, share in drawn)
        return cls(seed, tuple(replace(one, calls_a_day=calls_a_day * share / whole) for one, share in drawn))

    @property
    def teams(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.team for one in self.workloads))

    def offer(self, alias: str) -> Offer:
        """What a name stands for. Raises KeyError."""
        return {one.alias: one for one in (*self.offers, *self.unused)}[alias]


def _workload(draw: random.Random, team: str, zone: str, sort: _Sort) -> Workload:
    models = draw.choice(sort.choices)
    slug = team.lower()
    machine = sort.rhythm in (Rhythm.STEADY, Rhythm.BATCH)
    people = [f"{name}.{slug}" for name in draw.sample(_NAMES, draw.randint(2, 9))]
    development = sort.name == "notebook"
    return Workload(
        team=team, app=f"{slug}-{sort.name}", zone=zone, rhythm=sort.rhythm, calls_a_day=0.0,
        models=tuple((model.alias, weight) for model, weight in zip(models, (0.8, 0.2), strict=False)),
        input_tokens=round(sort.input_tokens * draw.uniform(0.75, 1.35)), output_tokens=max(1, round(sort.output_tokens * draw.uniform(0.75, 1.35))),
        key=f"{slug}-{sort.name}-{'dev' if development else 'prod'}", users=(f"svc-{slug}-{sort.name}",) if machine else tuple(people),
        end_users=round(sort.customers * draw.uniform(0.5, 1.5)), environment="development" if development else "production",
        output_limit=sort.limit, cached=sort.cached, streaming=sort.streaming, guardrail=sort.guardrail,
        refused=draw.uniform(0.004, 0.02) if sort.guardrail else 0.0, task=sort.task, growth=draw.uniform(-0.02, 0.25),
        job_hour=draw.choice((0.0, 1.0, 2.0, 3.0, 22.0)), job_hours=draw.uniform(1.0, 3.0), instrumented=draw.random() < 0.7 or development,
    )  # fmt: skip


__all__ = ["OFFERS", "UNUSED", "Deployment", "Offer", "Rhythm", "Workload", "World"]
