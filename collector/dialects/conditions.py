"""Tests of `when`, for many spans at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from collector.dialects import vocabulary
from collector.dialects.model import KINDS, STATUSES, Source, When, source_at
from collector.dialects.places import in_range, matches
from collector.dialects.table import Coded, Mask, Rows
from collector.otlp.tables import I32


class Known(Protocol):
    """What tests ask of the spans of one dialect (`facts.Facts`)."""

    rows: Rows

    def text(self, name: str) -> Coded: ...

    def read(self, source: Source, needed: Mask) -> Coded: ...

    @property
    def model(self) -> Coded: ...

    @property
    def any_usage(self) -> Mask: ...


def holds(facts: Known, whens: Sequence[When]) -> Mask:
    """Per row whether any of these holds; all rows where there are none."""
    if not whens:
        return np.ones(facts.rows.size, dtype=np.bool_)
    found = _one(facts, whens[0])
    for when in whens[1:]:
        found = found | _one(facts, when)
    return found


def _one(facts: Known, when: When) -> Mask:
    rows = facts.rows
    mask = np.ones(rows.size, dtype=np.bool_)
    for test in (_span, _scope, _keys, _texts, _facts):
        mask = test(facts, when, mask)
        if not mask.any():
            return mask
    if when.not_ is not None:
        mask = mask & ~_one(facts, when.not_)
    return mask


def _span(facts: Known, when: When, mask: Mask) -> Mask:
    rows = facts.rows
    if when.kind is not None:
        mask = mask & _one_of(rows.kind, [KINDS.index(kind) for kind in when.kind])
    if when.status is not None:
        mask = mask & _one_of(rows.status, [STATUSES.index(status) for status in when.status])
    if when.root is not None:
        mask = mask & ((rows.table.traces.spans.parent_span_id.len[rows.rows] == 0) == when.root)
    if when.name is not None:
        globs = when.name
        mask = mask & rows.name.lookup(lambda text: matches(text, globs))
    return mask


def _one_of(numbers: I32, wanted: list[int]) -> Mask:
    mask: Mask = numbers == wanted[0]
    for number in wanted[1:]:
        mask = mask | (numbers == number)
    return mask


def _scope(facts: Known, when: When, mask: Mask) -> Mask:
    rows = facts.rows
    if when.scope is not None:
        globs = when.scope
        mask = mask & rows.scope(rows.table.scope_name).lookup(lambda text: matches(text, globs))
    if when.version is not None:
        wanted = when.version
        mask = mask & rows.scope(rows.table.scope_version).lookup(lambda text: in_range(text, wanted))
    for key, globs_of in when.resource.items():
        mask = mask & rows.resource(key).lookup(lambda text, globs=globs_of: matches(text, globs))  # type: ignore[misc]
    if when.resource_version is not None:
        range_ = when.resource_version
        mask = mask & rows.resource("service.version").lookup(lambda text: in_range(text, range_))
    return mask


def _keys(facts: Known, when: When, mask: Mask) -> Mask:
    rows = facts.rows
    for key in when.has:
        mask = mask & rows.has(key)
    for key in when.lacks:
        mask = mask & ~rows.has(key)
    if when.any:
        some = np.zeros(rows.size, dtype=np.bool_)
        for key in when.any:
            some |= rows.has(key)
        mask = mask & some
    return mask


def _texts(facts: Known, when: When, mask: Mask) -> Mask:
    for source, globs_of in when.is_.items():
        coded = facts.read(source_at(source), mask)
        mask = mask & coded.lookup(lambda text, globs=globs_of: matches(text, globs))  # type: ignore[misc]
    for source, globs_of in when.is_not.items():
        coded = facts.read(source_at(source), mask)
        mask = mask & ~coded.lookup(lambda text, globs=globs_of: matches(text, globs))  # type: ignore[misc]
    return mask


def _facts(facts: Known, when: When, mask: Mask) -> Mask:
    if when.operation is not None:
        wanted, operation = when.operation, facts.text("operation")
        found = operation.lookup(lambda word: word in wanted or vocabulary.operation_class(word) in wanted)
        mask = mask & ((found | (operation.codes < 0)) if "absent" in wanted else found)
    if when.provider is not None:
        providers = when.provider
        mask = mask & facts.text("provider").lookup(lambda text: matches(text, providers))
    if when.model is not None:
        models = when.model
        mask = mask & facts.model.lookup(lambda text: matches(text, models))
    if when.usage is not None:
        mask = mask & (facts.any_usage == when.usage)
    return mask
