"""The options of the exporter `gateway`.

```yaml
exporters:
  gateway:
    gateways:
      proxy: {litellm: "http://litellm:4000", key: "${env:LITELLM_MASTER_KEY}"}
      ours: {webhook: "https://gateway.example/blocks", secret: "${env:HOOK_SECRET}"}
    actions:
      - {budgets: [teams], block: team, at: [proxy]}
```
"""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from config.delivery import ExporterConfig
from config.types import Duration, Secret, StrictModel
from exporters.notify.config import signing_key


def _url(url: str) -> str:
    parts = urlsplit(url)
    try:
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.username
    except ValueError:
        fine = False
    if not fine:
        raise ValueError("not a URL; write http(s)://host:port/path, without a user")
    return url.rstrip("/")


Url = Annotated[str, AfterValidator(_url)]


class Target(StrictModel):
    """A gateway: LiteLLM by its admin API, any other by a webhook."""

    litellm: Url | None = None
    """LiteLLM's address. Teams are blocked by `/team/block`, keys by `/key/block`, and let go by `unblock`."""
    key: Secret | None = None
    """LiteLLM's master key, or one that may block teams and keys."""
    webhook: Url | None = None
    """URL that is told by POST whom to block and whom to let go."""
    secret: Secret | None = None
    """Signs what goes to the webhook (Standard Webhooks, HMAC-SHA256): a text of 16 bytes or more, or `whsec_` and base64."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.litellm is None) == (self.webhook is None):
            raise ValueError("a gateway is reached by litellm or by webhook: name one of them")
        if (self.litellm is None) != (self.key is None):
            raise ValueError("key goes with litellm, and litellm needs it")
        if self.secret is not None and (self.webhook is None or len(signing_key(self.secret)) < 16):
            raise ValueError("secret signs what goes to a webhook, with 16 bytes or more")
        return self


class Action(StrictModel):
    """Whom to block when which budget is used up."""

    budgets: tuple[str, ...] = Field(min_length=1)
    """Names of budgets, where `*` stands for anything. All that a subject calls is blocked, whatever the budget's `match`
    says: name those that limit all of it."""
    block: Literal["team", "api_key"]
    """What is blocked. Budgets `per` anything but this alone are passed over, for they say nothing of all of its calls."""
    at: tuple[str, ...] = Field(min_length=1)
    """Names of gateways."""


class GatewayConfig(ExporterConfig):
    """Blocks teams and keys at their gateway when a budget is used up, and lets them go when its window ends."""

    gateways: dict[str, Target] = Field(min_length=1)
    """Gateways by a name of your choice. One that is down delays those behind it."""
    actions: list[Action] = Field(min_length=1)
    """What to do. `budget.hard` blocks; its end, or that of its window, lets go what nothing else holds."""
    timeout: Duration = Field(default=10.0, gt=0, le=300)
    """How long one request to a gateway may take."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        for number, action in enumerate(self.actions):
            for name in action.at:
                if name not in self.gateways:
                    raise ValueError(f"actions.{number}.at: there is no gateway {name!r}; there are {', '.join(self.gateways)}")  # fmt: skip
        return self
