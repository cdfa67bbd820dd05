"""The invented company behind the demo: its teams, apps, people and models."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Model:
    """One model as the gateway offers it: `alias` is what clients ask for, `upstream` what the gateway asks for."""

    alias: str
    upstream: str  # as LiteLLM writes it, provider first
    provider: str  # as the conventions spell it
    book: tuple[str, str] | None  # provider and model in genai-prices; None: nobody knows a price
    server: str
    sdk: str = "openai"  # the client library that apps call it with
    tokens_per_second: int = 80
    caches: bool = True
    reasons: bool = False
    embeds: bool = False


OPENAI, ANTHROPIC = "api.openai.com", "api.anthropic.com"
GPT_41 = Model("gpt-4.1", "openai/gpt-4.1", "openai", ("openai", "gpt-4.1"), OPENAI)
GPT_MINI = Model(
    "gpt-4o-mini", "openai/gpt-4o-mini", "openai", ("openai", "gpt-4o-mini"), OPENAI, tokens_per_second=140
)
GPT_5 = Model("gpt-5", "openai/gpt-5", "openai", ("openai", "gpt-5"), OPENAI, tokens_per_second=60, reasons=True)
EMBEDDING = Model(
    "text-embedding-3-small", "openai/text-embedding-3-small", "openai", ("openai", "text-embedding-3-small"), OPENAI,
    tokens_per_second=4000, caches=False, embeds=True,
)  # fmt: skip
SONNET = Model(
    "claude-sonnet",
    "anthropic/claude-sonnet-4-5",
    "anthropic",
    ("anthropic", "claude-sonnet-4-5"),
    ANTHROPIC,
    "anthropic",
)
HAIKU = Model(
    "claude-haiku",
    "anthropic/claude-haiku-4-5",
    "anthropic",
    ("anthropic", "claude-haiku-4-5"),
    ANTHROPIC,
    "anthropic",
    150,
)
GEMINI = Model(
    "gemini-flash", "gemini/gemini-2.5-flash", "gcp.gemini", ("google", "gemini-2.5-flash"),
    "generativelanguage.googleapis.com", tokens_per_second=200, reasons=True,
)  # fmt: skip
MISTRAL = Model(
    "mistral-large",
    "mistral/mistral-large-latest",
    "mistral_ai",
    ("mistral", "mistral-large-latest"),
    "api.mistral.ai",
    caches=False,
)
IN_HOUSE = Model("acme-support-7b", "hosted_vllm/acme-support-7b", "hosted_vllm", None, "vllm.internal", caches=False)

#: Where the gateway turns when a model fails.
FALLBACKS = {GPT_41: SONNET, GPT_5: SONNET, SONNET: GPT_41, GEMINI: GPT_MINI}


@dataclass(frozen=True, slots=True)
class App:
    """One program that calls models. `instrumented` apps report their calls themselves, beside the gateway."""

    name: str
    key: str  # alias of its gateway key; empty: the gateway's master key, which belongs to nobody
    team: str
    models: dict[Model, float]
    input_tokens: int  # median
    output_tokens: int
    users: tuple[str, ...]
    environment: str = "production"
    instrumented: bool = True
    streaming: float = 0.5
    cached: float = 0.0  # share of calls whose prompt begins with something cached
    weight: float = 1.0
    prompts: tuple[str, ...] = field(default=())


_SUPPORT = (
    "Where is my refund for order 88-1204? You can write to jane.doe@example.com.",
    "Please change my address: Jane Doe, 12 Sample Street, phone +1 415 555 0132.",
    "My card 4111 1111 1111 1111 was charged twice in March. Please refund one of the payments.",
    "I cannot log in. My account is max.mustermann@example.org, social security number 078-05-1120.",
    "Transfer the credit to DE89 3704 0044 0532 0130 00 and confirm by e-mail.",
    "How do I export last year's invoices?",
)
_SEARCH = (
    "Summarise the following passages about parental leave in two sentences.",
    "Which contracts with Example GmbH end this quarter?",
    "Rewrite the question as three search queries: how do I rotate the signing keys?",
)
_CODE = (
    "Explain why this test is flaky and suggest a fix:\n\ndef test_retry():\n    client = Client('10.0.0.7')\n    ...",
    "Write a migration that adds an index on orders(customer_id) without a lock.",
    "Review this diff for security problems. AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE is only an example.",
)
_MARKETING = (
    "Write a friendly product announcement of 80 words about faster exports.",
    "Translate the newsletter into German and French, keep the links.",
)
_SUMMARY = (
    "Extract name, date of birth and diagnosis from the attached letter of Dr. Erika Musterfrau, born 1964-08-12.",
)

APPS = (
    App("support-bot", "support-bot-prod", "Support", {GPT_MINI: 5, SONNET: 2, HAIKU: 2, IN_HOUSE: 1}, 1100, 140,
        ("alice", "bob"), streaming=0.8, cached=0.5, weight=5, prompts=_SUPPORT),
    App("ticket-triage", "triage-prod", "Support", {GPT_MINI: 6, GEMINI: 2}, 600, 20, ("svc-triage",), streaming=0.0,
        weight=3, prompts=_SUPPORT),
    App("doc-search", "rag-prod", "Search", {GEMINI: 4, GPT_41: 2, EMBEDDING: 6}, 3800, 220, ("carol", "dave", "svc-index"),
        streaming=0.6, cached=0.3, weight=4, prompts=_SEARCH),
    App("code-review", "code-review-ci", "Platform", {SONNET: 5, GPT_5: 3}, 9000, 900, ("svc-ci",), streaming=0.3,
        cached=0.7, weight=2, prompts=_CODE),
    App("code-review", "code-review-dev", "Platform", {SONNET: 3, GPT_5: 3, HAIKU: 2}, 5000, 600, ("erin", "frank"),
        environment="staging", streaming=0.7, cached=0.5, weight=1, prompts=_CODE),
    App("campaign-writer", "campaigns-prod", "Growth", {GPT_41: 3, MISTRAL: 3}, 350, 500, ("grace", "heidi"), instrumented=False,
        weight=2, prompts=_MARKETING),
    App("letter-reader", "letters-prod", "Claims", {SONNET: 2, GEMINI: 3}, 2600, 180, ("ivan",), streaming=0.0, weight=1.5,
        prompts=_SUMMARY),
    App("notebook", "", "", {GPT_41: 1, GPT_MINI: 2, GPT_5: 1}, 700, 300, (), environment="development", instrumented=False,
        weight=0.8, prompts=_MARKETING),
)  # fmt: skip

ANSWERS = (
    "Thank you for writing to us. The refund was approved and will arrive within five business days.",
    "Here is a short summary: the customer was charged twice, one payment has been returned, nothing else is open.",
    "The retry loop shares a client between threads; give every worker its own and the race is gone.",
    "Exports are now five times faster. Open the reports page, choose a period and press Export.",
)
END_USERS = tuple(f"customer-{n}" for n in range(1, 41))
