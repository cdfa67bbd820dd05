"""Takes out what must neither be kept nor leave: personal data, secrets and, if wanted, all that was said to a model.

It covers every string of the request (attributes of spans, events, links, scopes and resources, names, messages, bodies,
metric labels, keys, documents inside texts), numbers that are cards or national ids, and every column derived so far. It runs
after all that may read raw values and before all that keeps or sends.

```yaml
processors:
  redaction:
    profile: default
    identities: {keep: [user]}
    detectors: {card: {mask: {keep_last: 4}}, ip_address: off}
    attributes: [{match: "http.request.header.*", action: drop}]
    allow: [support@acme.example]
```
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import polars as pl

from collector import columns
from collector.batch import RequestBatch, SpanBatch
from collector.component import Context, Processor, Stage, StateReader
from collector.once import once
from collector.otlp import decode
from collector.signals import Signal
from processors.redaction.audit import Audit
from processors.redaction.config import RedactionConfig
from processors.redaction.engine import Outcome
from processors.redaction.findings import counts
from processors.redaction.metrics import Metrics, Tally
from processors.redaction.parts import Parts
from processors.redaction.pseudonyms import Pseudonyms, load_keys
from processors.redaction.texts import Texts
from processors.redaction.warmup import warm

logger = logging.getLogger(__name__)


class Redaction(Processor[RedactionConfig]):
    """Takes out personal data, secrets and, if wanted, content; users become pseudonyms, so that cost per user still adds up."""

    Config = RedactionConfig
    signals = frozenset(Signal)
    stage = Stage.REDACTION
    adds = (columns.PII, columns.PII_IN_REQUEST)

    def __init__(self, config: RedactionConfig, context: Context) -> None:
        super().__init__(config, context)
        self._metrics = once(context.metrics, Metrics)
        self._tally = Tally()
        if config.idle:
            logger.warning("%s is OFF (profile: off): personal data, prompts and secrets are kept and sent on as they come", context.id)  # fmt: skip
            return
        pseudonyms = Pseudonyms(load_keys(config.pseudonyms.key, config.pseudonyms.key_file, context.data_dir))
        self.parts = Parts(config, pseudonyms, context.sources)
        self._audit = Audit(self.parts, self._metrics, context.id) if config.audit else None

    def load(self, state: StateReader) -> None:  # noqa: ARG002
        """Compile what is compiled, ahead of the first batch."""
        if not self.config.idle:
            warm(self.parts)

    def process(self, batch: SpanBatch) -> SpanBatch:
        if self.config.idle or not len(batch.otlp.data):
            return batch
        data = batch.otlp.data
        outcome = self.parts.engine.redact(Signal.TRACES, data, batch.otlp)
        traces = outcome.decoded(batch.otlp)
        if self._audit is not None:
            audited = self._audit.request(Signal.TRACES, outcome.data, traces)
            traces = traces if audited is outcome.data else decode.read(audited, len(batch))
        found = counts(outcome, self.parts.policy.detectors, len(batch))
        spans, reports = self._columns([batch.spans, batch.reports], outcome.clean)
        spans = spans.with_columns(found) if found else spans
        self._note(outcome)
        return batch.with_(otlp=traces, spans=spans, reports=reports)

    def process_requests(self, batch: RequestBatch) -> RequestBatch:
        if self.config.idle:
            return batch
        outcome = self.parts.engine.redact(batch.signal, batch.data)
        data = outcome.data if self._audit is None else self._audit.request(batch.signal, outcome.data)
        self._note(outcome)
        return batch.with_(data=data)

    def committed(self) -> None:
        self._metrics.add(self._tally)
        self._tally = Tally()

    def rollback(self) -> None:
        self._tally = Tally()

    def called(self, dimension: str, value: str) -> str:
        return value if self.config.idle else self.parts.columns.called(dimension, value)

    def _columns(self, frames: Sequence[pl.DataFrame], clean: Texts) -> list[pl.DataFrame]:
        redacted = self.parts.columns.redact(frames, clean)
        return redacted if self._audit is None else [self._audit.frame(frame) for frame in redacted]

    def _note(self, outcome: Outcome) -> None:
        self._tally = self._tally.plus(outcome, self.parts.policy.detectors)


__all__ = ["Redaction", "RedactionConfig"]
