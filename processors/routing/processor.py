"""The processor: what the policy says of each call, and what is to be noticed about it."""

from __future__ import annotations

import logging
import re
from dataclasses import replace

import numpy as np
import polars as pl

from collector import columns, distinct
from collector.batch import SpanBatch
from collector.component import Context, Processor, Stage, StateReader, StateWriter
from processors.routing.attempts import Attempts
from processors.routing.config import RoutingConfig
from processors.routing.files import PolicySource
from processors.routing.observing import observed
from processors.routing.policy import OK, VERDICTS, Columns, Policy, fitting, money, spelt

logger = logging.getLogger(__name__)

#: The finish reason by which a model, or its provider, says that it refused.
REFUSAL = "content_filter"
BY_MODEL = "model"
#: Errors by which a provider says so: ContentPolicyViolationError, content_filter …
_POLICY = re.compile(r"content.?(policy|filter)", re.IGNORECASE)


class Routing(Processor[RoutingConfig]):
    """Expected model, verdict and avoidable cost of each call by your routing policy; models that may not serve; fallbacks; guardrails."""

    Config = RoutingConfig
    stage = Stage.CALLS
    adds = (
        columns.ROUTE,
        columns.EXPECTED_MODEL,
        columns.ROUTE_VERDICT,
        columns.EXPECTED_COST,
        columns.AVOIDABLE_COST,
        columns.MODEL_TIER,
        columns.REFUSED_BY,
    )

    def __init__(self, config: RoutingConfig, context: Context) -> None:
        super().__init__(config, context)
        self._source = PolicySource(config)
        self._attempts = Attempts(round(config.fallback_within * 1e9))
        self._warned = False

    def load(self, state: StateReader) -> None:
        self._attempts.load(state)

    def save(self, state: StateWriter) -> None:
        self._attempts.save(state)

    def rollback(self) -> None:
        self._attempts.rollback()

    def process(self, batch: SpanBatch) -> SpanBatch:
        policy = self._source.policy()
        if batch.calls.is_empty():
            self._attempts.take(batch.calls)  # nothing: what `save` would write is of this batch, not of the last one
            return batch
        self._expect_prices(batch, policy)
        columns_ = Columns(batch.calls)
        added = [refused(batch.calls), policy.tiers(columns_), *self._judged(batch, policy, columns_)]
        calls = exchanged(batch.calls, *added)
        done = batch.with_(calls=calls)
        fallbacks = self._attempts.take(calls)
        return done.with_(
            observed=(*done.observed, *observed(done, policy, columns_, fallbacks, round(self.config.quiet * 1e9)))
        )

    def _judged(self, batch: SpanBatch, policy: Policy, columns_: Columns) -> list[pl.Series]:
        """The columns of the verdict; none where there are no routes."""
        if not policy.tests:
            return []
        calls = batch.calls
        judged = policy.judge(calls, batch.quote, columns_)
        if calls["withdrawn"].any():  # it is no call
            gone = calls["withdrawn"].to_numpy()
            judged = replace(
                judged,
                route=np.where(gone, -1, judged.route),
                verdict=np.where(gone, -1, judged.verdict),
                known=judged.known & ~gone,
            )
        cost, costs = distinct.integers(calls["cost_pico"])
        more = np.where(judged.verdict == OK, 0, np.maximum(cost - judged.expected, 0))
        return [
            spelt("route", policy.names, judged.route),
            spelt("expected_model", policy.expected, judged.route),
            spelt("route_verdict", VERDICTS, judged.verdict),
            money("expected_cost_pico", judged.expected, judged.known),
            money("avoidable_cost_pico", more, judged.known & costs),
        ]

    def _expect_prices(self, batch: SpanBatch, policy: Policy) -> None:
        if batch.quote is None and policy.tests and not self._warned:
            self._warned = True
            logger.warning(
                "%s has no prices to compare models with: put `pricing` before it in the pipeline's processors",
                self.context.id,
            )


def refused(calls: pl.DataFrame) -> pl.Series:
    """Who refused: the guardrail that a gateway names, else the model, or its provider, where it stopped or failed for that reason."""
    by, reasons = calls["refused_by"], calls["finish_reason"]
    rows = fitting(reasons, lambda text: REFUSAL in text.split(","))
    rows |= fitting(calls["error_type"], lambda text: _POLICY.search(text) is not None)
    rows &= ~distinct.valid(by)
    if not rows.any():
        return by
    return by.zip_with(pl.Series(~rows), pl.Series([BY_MODEL]).new_from_index(0, len(by))).alias(by.name)


def exchanged(frame: pl.DataFrame, *added: pl.Series) -> pl.DataFrame:
    """The frame with these in the place of its columns of the same names."""
    result = frame.clone()
    for column in added:
        result.replace_column(result.get_column_index(column.name), column)
    return result
