"""From a question to a verdict, budgets known or not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from collector.sums import COUNTED_BY
from collector.verdict import Verdict, Verdicts, decide
from config.model import VerdictConfig

if TYPE_CHECKING:
    from spanledger.parts import Parts

logger = logging.getLogger(__name__)

#: How old what is known of the pipelines may be: asking costs a look at the disk.
_LOOK_EVERY_S = 0.5


class BadQuestion(ValueError):
    """The question names something that calls are not counted by. The text says what."""


class Health:
    """Whether the counters can be trusted, as the collector's own process knows it. From any thread."""

    def __init__(self, config: VerdictConfig, parts: Parts) -> None:
        self.config = config
        self._parts = parts
        self._trouble: str | None = None
        self._looked = 0.0

    def trouble(self) -> str | None:
        """Why the counters cannot be trusted."""
        if not self._parts.ready:
            return "the collector is starting or stopping"
        now = time.monotonic()
        if now - self._looked > _LOOK_EVERY_S:
            self._trouble, self._looked = self._look(), now
        return self._trouble

    def _look(self) -> str | None:
        for pipeline, _ in self._parts.verdicts:
            if pipeline.failed or not pipeline.alive:
                return f"pipeline {pipeline.id} stands still"
            if pipeline.lag > self.config.max_lag:
                return f"pipeline {pipeline.id} is behind"
        return None


class Judge:
    """Asks every pipeline's budgets. From any thread.

    Where the counters cannot be trusted (the collector is starting, a pipeline stands still or is behind), the answer is what
    `on_error` says.
    """

    def __init__(self, config: VerdictConfig, sources: Sequence[Verdicts], trouble: Callable[[], str | None]) -> None:
        self.config = config
        self._sources = sources
        self._trouble = trouble
        #: Names of headers, lower-case, by dimension.
        self.headers = {header.lower(): dimension for dimension, header in config.headers.items()}

    def ask(self, question: Mapping[str, str]) -> tuple[Verdict, dict[str, str]]:
        """The verdict and the headers that go with it. Raises `BadQuestion`."""
        unknown = next((name for name in question if name not in COUNTED_BY), None)
        if unknown is not None:
            raise BadQuestion(f"no such dimension; there are {', '.join(COUNTED_BY)}")
        now_ns = time.time_ns()
        trouble = self._trouble()
        verdict = None
        if trouble is None:
            try:
                verdict = decide([source.ask(question, now_ns) for source in self._sources])
            except Exception as error:  # whatever it is, the gateway gets an answer
                trouble = f"asking them raised {type(error).__name__}"
                logger.error("verdict: %s", trouble)
        if verdict is None:
            verdict = Verdict(self.config.on_error == "allow", f"budgets are not known: {trouble}", known=False)
        return verdict, verdict.headers(now_ns)

    def from_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The dimensions that a request's headers (names in lower case) name."""
        return {dimension: headers[name] for name, dimension in self.headers.items() if name in headers}


def refusal(verdict: Verdict) -> dict[str, object]:
    """What a client is told, in the shape that providers' own clients show."""
    return {
        "message": verdict.reason,
        "type": "insufficient_quota",
        "code": "budget_exceeded" if verdict.known else "budget_unknown",
    }
