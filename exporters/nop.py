"""The end of a pipeline that leads nowhere: what comes is taken, counted and dropped.

For a signal that senders export whether anybody wants it or not, such as the metrics of an SDK that sends all three:
without a pipeline for it they are refused, and log errors.

```yaml
exporters:
  nop:
```
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from collector.component import Exporter, Payload
from collector.signals import Signal
from config.delivery import ExporterConfig

if TYPE_CHECKING:
    from collector.batch import RequestBatch, SpanBatch

logger = logging.getLogger(__name__)


class NopConfig(ExporterConfig):
    """Takes everything and delivers nothing."""


class Nop(Exporter[NopConfig]):
    """Takes everything and delivers nothing: what reaches it is counted (`spanledger_pipeline_items_total`) and dropped."""

    Config = NopConfig
    signals = frozenset(Signal)
    keeps = False

    def start(self) -> None:
        logger.info("exporter %s delivers nothing: what reaches it is counted and dropped", self.context.id)

    def encode(self, batch: SpanBatch) -> Iterable[Payload]:  # noqa: ARG002
        return ()

    def encode_requests(self, batch: RequestBatch) -> Iterable[Payload]:  # noqa: ARG002
        return ()

    def send(self, payload: Payload) -> None:
        """Never called: nothing gets into its queue."""

    def __str__(self) -> str:
        return "nowhere"
