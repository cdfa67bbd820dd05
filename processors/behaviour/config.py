"""What `behaviour` is told.

```yaml
processors:
  behaviour:
    window: 15m
    groups:
      - {model: gpt-4o, weights: {azure-eu: 3, azure-us: 1}}         # deployments, as the gateway calls them
      - {model: "claude-*", by: provider, weights: {anthropic: 1, aws.bedrock: 1}}
```
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from config.types import Duration, StrictModel

#: What the calls of a model group may be shared among.
Member = Literal["deployment", "provider", "region", "api_key"]
Name = Annotated[str, Field(min_length=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Group(StrictModel):
    """A model group, and how its calls are to be shared."""

    model: Name
    """The model, or the gateway's name for the group, that clients ask for. `*` and `?` stand for anything; of several groups
    that fit, the first counts."""
    by: Member = "deployment"
    """Among what: `deployment`, `provider`, `region` or `api_key`."""
    weights: dict[Name, Weight] = Field(min_length=2)
    """What each is to take, in any unit: 3 and 1 are three quarters and one."""

    @field_validator("weights")
    @classmethod
    def _some(cls, weights: dict[str, float]) -> dict[str, float]:
        if not any(weights.values()):
            raise ValueError("one weight must be above 0, or nobody takes the calls")
        return weights


class BehaviourConfig(StrictModel):
    """When load, guardrails and answer times are worth a finding."""

    window: Duration = Field(default=900.0, ge=60, le=86400)
    """Calls are looked at in windows of so long. With little traffic, make it longer: findings need `least_calls`."""
    grace: Duration = Field(default=300.0, ge=0, le=86400)
    """For how long after its end a window waits for calls that come late."""
    quiet: Duration = Field(default=7200.0, ge=120, le=30 * 86400)
    """A finding of which nothing was seen for so long is resolved, also where calls no longer come. At least two windows."""
    half_life: Duration = Field(default=7 * 86400.0, ge=3600, le=90 * 86400)
    """What is usual is a mean in which a window counts half after so long."""
    confidence: float = Field(default=0.99999, ge=0.9, lt=1)
    """How sure a finding must be that chance alone does not explain it. A dozen deployments have a thousand windows a day: what is
    only one in a thousand happens in one of them."""
    least_calls: int = Field(default=50, ge=10)
    """Calls that a window must have to be judged."""
    groups: list[Group] = []
    """Model groups with configured weights. Rate limits are watched in all."""
    tolerance: float = Field(default=0.05, ge=0, lt=1)
    """How far a share may be off its weight, as a share of the group's calls, whatever the confidence."""
    rate_limited: float = Field(default=0.05, gt=0, le=1)
    """Share of refusals for a rate limit from which on a deployment is a finding."""
    stricter: float = Field(default=2.0, gt=1)
    """How many times its usual share of calls a guardrail must refuse."""
    slower: float = Field(default=1.5, gt=1)
    """How many times as long as usual answers must take."""
    slower_by: Duration = Field(default=0.2, ge=0)
    """How much longer than usual answers must take at least on average."""
    ignore_guardrails: list[Name] = []
    """Guardrails that may change as they like, such as one that is being tuned."""

    @model_validator(mode="after")
    def _long_enough(self) -> BehaviourConfig:
        if self.quiet < 2 * self.window:
            raise ValueError("quiet must be at least two windows, or a finding would be resolved while it still is so")
        return self
