"""Says which personal data and secrets reach which provider, as findings: from what redaction found in requests to models.

Redaction takes them out of what is kept and sent on. The provider has seen them all the same, because a collector reads of
calls that are over. So each detector, provider and app is one finding, open until nothing of it was seen for a day.

```yaml
processors:
  privacy:
    allowed_providers: [vllm, ollama]   # ours
    ignore: [ip_address]
    severities: {email: info}
```
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import polars as pl
from pydantic import Field

from collector import columns
from collector.batch import SpanBatch
from collector.component import Context, Processor, Stage, StateReader, StateWriter
from collector.findings import Evidence, Observation, Severity, Subject
from config.types import Duration, StrictModel

KIND = "privacy.pii_sent"
MOST = 10_000
_HOUR_NS = 3600 * 10**9
_UNKNOWN = "(unknown)"
#: How detectors are called in a sentence; of the others it says what they find.
_NAMES = {
    "aws_access_key": "AWS access keys",
    "aws_secret_key": "AWS secret keys",
    "card": "Payment card numbers",
    "date_of_birth": "Dates of birth",
    "email": "E-mail addresses",
    "iban": "Bank account numbers",
    "ip_address": "IP addresses",
    "jwt": "JSON Web Tokens",
    "passport": "Passport numbers",
    "password": "Passwords",
    "phone": "Phone numbers",
    "private_key": "Private keys",
    "us_ssn": "Social security numbers",
}
#: What costs money, or a person's identity, when it is in the wrong hands.
_CRITICAL = frozenset({"card", "iban", "us_ssn", "private_key"})


class PrivacyConfig(StrictModel):
    """Findings about personal data that reaches a provider."""

    quiet: Duration = Field(default=86400.0, ge=3600)
    """A finding is resolved when nothing of it was seen for so long."""
    ignore: list[str] = Field(default_factory=list)
    """Detectors that make no finding, such as `ip_address`."""
    allowed_providers: list[str] = Field(default_factory=list)
    """Providers that may see personal data, such as your own model servers."""
    severities: dict[str, Severity] = Field(default_factory=dict)
    """Severity by detector. Default: critical for card, iban, us_ssn and private_key, warning for the others."""


class Privacy(Processor[PrivacyConfig]):
    """Makes findings of the personal data and secrets that redaction found in requests to providers."""

    Config = PrivacyConfig
    stage = Stage.CALLS

    def __init__(self, config: PrivacyConfig, context: Context) -> None:
        super().__init__(config, context)
        self._quiet_ns = round(config.quiet * 10**9)
        # One observation an hour of each subject is enough, whatever the traffic: the last hour that had one.
        self._hours: dict[bytes, int] = {}
        self._before: dict[bytes, int | None] = {}

    def load(self, state: StateReader) -> None:
        self._hours = {key: int(value) for key, value in state.items()}

    def process(self, batch: SpanBatch) -> SpanBatch:
        self._before.clear()
        found = batch.spans[columns.PII_IN_REQUEST.name]
        if found.null_count() == len(found):
            return batch
        seen = tuple(self._observed(self._rows(batch, found)))
        return batch.with_(observed=(*batch.observed, *seen)) if seen else batch

    def save(self, state: StateWriter) -> None:
        for key in self._before:
            hour = self._hours.get(key)
            if hour is None:
                state.delete(key)
            else:
                state.put(key, str(hour).encode())

    def rollback(self) -> None:
        for key, hour in self._before.items():
            if hour is None:
                self._hours.pop(key, None)
            else:
                self._hours[key] = hour
        self._before.clear()

    def _rows(self, batch: SpanBatch, found: pl.Series) -> pl.DataFrame:
        """The first call of each subject and hour in which something was found, in wire order."""
        per_span = pl.DataFrame({"span": found.is_not_null().arg_true().cast(pl.Int32), "found": found.drop_nulls()})
        kept = ["span", "start_ns", "trace_id", "span_id", "provider", "app"]
        reports = batch.reports
        if "app" not in reports.columns:  # without attribution nobody says
            reports = reports.with_columns(pl.lit(None, pl.String()).alias("app"))
        calls = reports.filter(pl.col("role") == "call", pl.col("start_ns") <= batch.received_ns + _HOUR_NS).select(
            kept
        )
        rows = calls.join(per_span, on="span", maintain_order="left").explode("found").unnest("found")
        rows = rows.filter(
            ~pl.col("name").is_in(self.config.ignore), ~pl.col("provider").fill_null("").is_in(self.config.allowed_providers)
        )  # fmt: skip
        hour = pl.col("start_ns") // _HOUR_NS
        return rows.with_columns(hour.alias("hour")).unique(["provider", "app", "name", "hour"], keep="first", maintain_order=True)  # fmt: skip

    def _observed(self, rows: pl.DataFrame) -> Iterator[Observation]:
        for row in rows.to_dicts():
            detector, provider, app = row["name"], row["provider"] or _UNKNOWN, row["app"]
            subject: Subject = (("detector", detector), ("provider", provider))
            subject = subject if app is None else (("app", app), *subject)
            key = blake2b(repr(subject).encode(errors="surrogatepass"), digest_size=16).digest()
            if row["hour"] <= self._hours.get(key, -1):
                continue
            self._before.setdefault(key, self._hours.get(key))
            self._hours[key] = row["hour"]
            yield Observation(
                KIND,
                subject,
                row["start_ns"],
                f"{_NAMES.get(detector, f'Values that {detector} finds')} reach {provider}, from {'an unknown app' if app is None else f'app {app}'}.",
                self.config.severities.get(detector, Severity.CRITICAL if detector in _CRITICAL else Severity.WARNING),
                evidence=(Evidence(row["trace_id"], row["span_id"]),),
                quiet_ns=self._quiet_ns,
            )
        if len(self._hours) > MOST:
            for key in sorted(self._hours, key=self._hours.__getitem__)[: len(self._hours) - MOST]:
                self._before.setdefault(key, self._hours[key])
                del self._hours[key]


__all__ = ["Privacy", "PrivacyConfig"]
