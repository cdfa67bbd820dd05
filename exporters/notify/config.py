"""The options of the exporter `notify`, all checked when the config is loaded.

```yaml
exporters:
  notify:
    targets:
      chat: {url: "${env:CHAT_URL}"}                 # any Apprise URL: Slack, Teams, PagerDuty, e-mail …
      incidents: {webhook: "https://incidents.example/hook", secret: "${env:HOOK_SECRET}"}
    routes:
      - {kinds: ["budget.*", "privacy.*"], min_severity: critical, to: [incidents, chat]}
      - {teams: [search], to: [chat]}
    digest: 15m
    quiet_hours: {start: "22:00", end: "07:00", time_zone: Europe/Berlin}
```
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import time
from typing import Annotated, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from collector.findings import Severity, Transition
from config.delivery import ExporterConfig
from config.types import Duration, Secret, StrictModel
from exporters.notify.templates import check

_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_LEAST_SECRET = 16
_PREFIX = "whsec_"


def _clock(text: str) -> str:
    if not _CLOCK.fullmatch(text):
        raise ValueError("not a time of day; write it as HH:MM, in quotes, such as '22:00'")
    return text


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError("no such time zone; write its name, such as Europe/Berlin or UTC") from None
    return name


def _webhook(url: Secret) -> Secret:
    parts = urlsplit(url.get_secret_value())
    try:
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise ValueError("not a URL; write http(s)://host:port/path")
    return url


def _key(secret: Secret) -> Secret:
    try:
        enough = len(signing_key(secret)) >= _LEAST_SECRET
    except binascii.Error:
        raise ValueError(f"what follows {_PREFIX} is not base64") from None
    if not enough:
        raise ValueError(f"too short to sign with: {_LEAST_SECRET} bytes at least")
    return secret


def _apprise(url: Secret) -> Secret:
    """Refuses what Apprise cannot read, where Apprise is there to ask."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url.get_secret_value()):
        raise ValueError("not an Apprise URL: it begins with the service, such as slack:// or mailto://")
    from exporters.notify.apprise import readable

    if not readable(url.get_secret_value()):
        raise ValueError("Apprise cannot read it; https://appriseit.com/services/ says how each service is written")
    return url


def signing_key(secret: Secret) -> bytes:
    """The bytes to sign with: what follows `whsec_` is base64, anything else stands for itself."""
    text = secret.get_secret_value()
    return base64.b64decode(text[len(_PREFIX) :], validate=True) if text.startswith(_PREFIX) else text.encode()


Clock = Annotated[str, AfterValidator(_clock)]
Template = Annotated[str, AfterValidator(check)]


class Target(StrictModel):
    """Where notifications go: a service by its Apprise URL, or a webhook."""

    url: Annotated[Secret, AfterValidator(_apprise)] | None = None
    """Apprise URL of a chat, mailbox, pager or any other service (needs `pip install 'spanledger[notify]'`)."""
    webhook: Annotated[Secret, AfterValidator(_webhook)] | None = None
    """URL that gets CloudEvents as JSON, by POST."""
    secret: Annotated[Secret, AfterValidator(_key)] | None = None
    """Signs what goes to the webhook (Standard Webhooks, HMAC-SHA256): a text, or `whsec_` and base64."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.url is None) == (self.webhook is None):
            raise ValueError("a target has a url or a webhook: name one of them")
        if self.secret is not None and self.webhook is None:
            raise ValueError("secret signs what goes to a webhook; an Apprise URL has its own")
        return self


class Route(StrictModel):
    """Which findings go where. A finding takes every route that it fits, and reaches each target once."""

    kinds: list[str] = Field(default_factory=lambda: ["*"], min_length=1)
    """Kinds, where `*` stands for anything: `budget.*`."""
    min_severity: Severity = Severity.WARNING
    """Least severity."""
    teams: list[str] | None = None
    """Findings about these teams only, where `*` stands for anything. Default: all, also those about no team."""
    transitions: list[Transition] = Field(default_factory=lambda: list(Transition), min_length=1)
    """What of a finding: that it `opened`, was `raised` to a higher severity, is `resolved`."""
    to: list[str] = Field(min_length=1)
    """Names of targets."""


class QuietHours(StrictModel):
    """When nobody wants to be told. What comes then is told together when they are over."""

    start: Clock
    """Time of day, HH:MM."""
    end: Clock
    """Time of day; before `start` it is one of the next day."""
    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """Name of a time zone, such as `Europe/Berlin`."""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.start == self.end:
            raise ValueError("start and end are the same")
        return self

    @property
    def bounds(self) -> tuple[time, time]:
        return time.fromisoformat(self.start), time.fromisoformat(self.end)


class NotifyConfig(ExporterConfig):
    """Tells of findings."""

    targets: dict[str, Target] = Field(min_length=1)
    """Where to, by a name of your choice. One that is down delays those behind it: give it an exporter of its own if that matters."""
    routes: list[Route] = Field(default_factory=list)
    """Which findings go where. Default: those of severity `warning` and above, to all targets."""
    digest: Duration = Field(default=0.0, ge=0, le=86400)
    """Collect for so long, and tell all of it in one message per target. 0: each at once."""
    quiet_hours: QuietHours | None = None
    """When nobody wants to be told."""
    urgent: Severity | None = Severity.CRITICAL
    """From this severity on, findings are told at once, whatever `digest` and `quiet_hours` say; `null`: none is."""
    title: Template = "{severity}: {kind} {transition}"
    """First line of a message. `{names}` as in docs/findings.md."""
    body: Template = "{message}\n{details}"
    """The message."""
    timeout: Duration = Field(default=10.0, gt=0, le=300)
    """How long one attempt to reach a webhook may take."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        for number, route in enumerate(self.routes):
            for name in route.to:
                if name not in self.targets:
                    raise ValueError(
                        f"routes.{number}.to: there is no target {name!r}; there are {', '.join(self.targets)}"
                    )
        return self

    @property
    def all_routes(self) -> list[Route]:
        """The routes, or the one that stands for none."""
        return self.routes or [Route(to=list(self.targets))]
