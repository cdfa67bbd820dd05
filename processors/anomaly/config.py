"""What is watched, and how much it takes to be told of it.

```yaml
processors:
  anomaly:
    min_usd: 5                           # what is cheaper is nobody's sleep
    scopes:
      users: {per: [team, user], measures: [cost]}            # beside the shipped ones
      keys: null                                              # not these
    sensitivity:
      - {match: {team: research}, factor: 0.5}                # experiments: half as sensitive
```
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from collector.sums import COUNTED_BY
from config.annotations import NullSaysSomething
from config.types import Duration, StrictModel

MeasureName = Literal[
    "cost", "calls", "cost_per_call", "input_tokens", "output_tokens", "latency", "time_to_first_token", "tokens_per_second", "error_rate",
    "refusal_rate", "cache_hit_rate", "share_lost", "share_gained",
]  # fmt: skip


def _counted(name: str) -> str:
    if name not in COUNTED_BY:
        raise ValueError(f"no dimension {name!r}; there are {', '.join(COUNTED_BY)}")
    return name


Dimension = Annotated[str, AfterValidator(_counted)]


class Scope(StrictModel):
    """Series to watch: one for each combination of values."""

    per: Annotated[tuple[Dimension, ...], Field(min_length=1)]
    """Dimensions whose combinations of values have a series each."""
    measures: tuple[MeasureName, ...] = ()
    """What is watched of each. Shares are of the calls with the same values but for the last of `per`."""
    new: bool = False
    """Also tell of a combination that was never seen before."""
    single: bool = False
    """Also tell of a single call that costs many times what calls of the series cost."""

    @model_validator(mode="after")
    def _whole(self) -> Scope:
        if len(set(self.per)) != len(self.per) or len(set(self.measures)) != len(self.measures):
            raise ValueError("name each dimension and each measure once")
        if "cost" in self.measures and "calls" in self.measures:
            raise ValueError(
                "a series has one season: watch `cost` or `calls`, and the other one in a scope of its own"
            )
        if self.shares and len(self.per) < 2:
            raise ValueError("a share is one of several: it needs two dimensions at least")
        if not (self.measures or self.new or self.single):
            raise ValueError("nothing is watched: name `measures`, or say `new` or `single`")
        return self

    @property
    def shares(self) -> bool:
        """Whether series are compared with those beside them."""
        return "share_lost" in self.measures or "share_gained" in self.measures


class Sensitivity(StrictModel):
    """How sensitive to be for some series."""

    match: Annotated[dict[Dimension, str], Field(min_length=1)]
    """Dimensions and their values; a series must have all of them."""
    factor: Annotated[float, Field(gt=0, le=10)]
    """1 as shipped; 0.5 asks for twice the evidence and twice the money."""


#: The shipped scopes: from the whole to the part, each cause where it shows.
SHIPPED: dict[str, dict[str, Any]] = {
    "teams": {"per": ("team",), "measures": ("cost",), "new": True},
    "apps": {
        "per": ("team", "app"),
        "measures": ("cost", "input_tokens", "output_tokens", "cache_hit_rate", "refusal_rate", "error_rate"),
    },
    "app_models": {"per": ("team", "app", "model"), "measures": ("share_gained", "input_tokens", "output_tokens", "cache_hit_rate"), "single": True},
    "keys": {"per": ("team", "api_key"), "measures": ("cost",), "new": True},
    "models": {"per": ("model",), "new": True},
    "providers": {"per": ("provider",), "measures": ("latency", "time_to_first_token", "tokens_per_second", "error_rate")},
    "provider_models": {
        "per": ("provider", "model"),
        "measures": ("latency", "time_to_first_token", "tokens_per_second", "error_rate", "cost_per_call"),
    },
    "deployments": {"per": ("model", "deployment"), "measures": ("share_lost", "latency", "error_rate")},
}  # fmt: skip


def _merged(value: Any) -> Any:
    """What is configured, over what is shipped; null takes a scope out."""
    if not isinstance(value, dict):
        return value
    return {name: _as_shipped(scope) for name, scope in {**SHIPPED, **value}.items() if scope is not None}


def _as_shipped(scope: Any) -> Any:
    """Lists as tuples: behind a function a file's lists are no longer taken for them."""
    if not isinstance(scope, dict):
        return scope
    return {key: tuple(value) if isinstance(value, list) else value for key, value in scope.items()}


class AnomalyConfig(StrictModel):
    """What is unusual in spend and behaviour, series by series."""

    scopes: Annotated[dict[str, Annotated[Scope, NullSaysSomething()]], BeforeValidator(_merged), Field(min_length=1, max_length=64, validate_default=True)] = Field(
        default_factory=dict
    )  # fmt: skip
    """Series by scope, beside the shipped ones; null in the place of a scope takes it out."""
    alike: str | None = "app_models"
    """Scope whose series say what a call usually takes. Other series are compared with that, call by call, so that another mix of
    apps and models is no change in behaviour. None: each series is compared with itself alone."""
    bucket: Annotated[Duration, Field(ge=60, le=3600)] = 300.0
    """Calls are summed over so long before they are judged."""
    lateness: Annotated[Duration, Field(ge=0, le=86400)] = 120.0
    """How long after its end a bucket waits for calls that come late. What comes later is not judged (a metric tells)."""
    warm_up: Annotated[Duration, Field(ge=3600, le=31 * 86400)] = 7 * 86400.0
    """How old a series must be before anything is said of its sums, and how long to watch before anything is called new. A third of it
    does for what is measured per call."""
    min_calls: Annotated[int, Field(ge=1)] = 15
    """Calls that a rate, a latency or a cost per call must rest on."""
    min_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
    """Money that must be at stake before anything about money is said, in USD: so far, or in a day at this rate."""
    min_share: Annotated[float, Field(ge=0, le=1)] = 0.02
    """As `min_usd`, as a share of what the series spends in a day."""
    threshold: Annotated[float, Field(gt=0, le=1000)] = 14.0
    """Evidence that it takes, summed over buckets: how much likelier calls are if something has changed, as a natural logarithm (of
    sums of money or calls: standard deviations beyond a burst). Twice as much: fewer false alarms, found later."""
    single_factor: Annotated[float, Field(gt=1)] = 200.0
    """A single call is an outlier from so many times the series' median cost on."""
    cool_down: Annotated[Duration, Field(ge=0, le=7 * 86400)] = 1800.0
    """After a finding, and while it is open, what follows from it is not told again for so long."""
    accept_after: Annotated[Duration, Field(ge=3600, le=31 * 86400)] = 7 * 86400.0
    """What has been different for so long is the new usual: the finding is resolved."""
    sensitivity: tuple[Sensitivity, ...] = ()
    """Series to be more or less sensitive for. The factors of all that match are multiplied."""
    max_series: Annotated[int, Field(ge=100, le=10_000_000)] = 200_000
    """Series kept at most, about 0.5 kB of memory each. When there are more, those seen least recently go (a metric tells)."""

    @model_validator(mode="after")
    def _there(self) -> AnomalyConfig:
        if self.alike is not None and self.alike not in self.scopes:
            raise ValueError(f"alike: no scope {self.alike!r}; there are {', '.join(self.scopes)}")
        return self
