"""What a running service says of itself at `/status`: sizes in bytes, times in seconds, null for what is not so at the moment."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from config.show import print_config

if TYPE_CHECKING:
    from collector.delivery import Delivery
    from collector.pipeline import Pipeline
    from spanledger.parts import Parts


def status(parts: Parts) -> dict[str, Any]:
    """Everything, as JSON can hold it. From any thread."""
    letters = parts.letters
    return {
        "version": version("spanledger"),
        "ready": parts.ready,
        "problems": parts.problems(),
        "receivers": parts.endpoints,
        "inbox": {
            "bytes": parts.inbox.bytes,
            "capacity_bytes": parts.config.service.inbox.max_size,
            "failed": str(parts.inbox.failed) if parts.inbox.failed else None,
        },
        "pipelines": {pipeline.id: _pipeline(pipeline) for pipeline in parts.pipelines},
        "exporters": {delivery.outlet.name: _exporter(delivery) for delivery in parts.deliveries},
        "dead_letters": letters.count,
        "dead_letter_bytes": letters.bytes,
        "dead_letter_capacity_bytes": letters.max_bytes,
        "config": print_config(parts.config),
    }


def _pipeline(pipeline: Pipeline) -> dict[str, Any]:
    items, size = pipeline.waiting
    return {
        "position": pipeline.position,
        "waiting_items": items,
        "waiting_bytes": size,
        "oldest_seconds": round(pipeline.lag, 3),
        "failed": pipeline.failed,
    }


def _exporter(delivery: Delivery) -> dict[str, Any]:
    outbox, wait, error = delivery.outlet.outbox, delivery.wait, delivery.last_error
    return {
        "to": str(delivery.outlet.exporter),
        "waiting_deliveries": outbox.count,
        "waiting_items": outbox.items,
        "waiting_bytes": outbox.bytes,
        "capacity_bytes": delivery.outlet.max_bytes,
        "oldest_seconds": round(delivery.lag, 3),
        "failed": delivery.failed,
        "attempts": delivery.attempts,
        "next_attempt_seconds": None if wait is None else round(wait, 3),
        "last_error": None if error is None else {"text": error[1], "seconds_ago": round(time.time() - error[0], 3)},
    }
