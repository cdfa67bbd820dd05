"""The reports of one dialect's spans in a batch: what each span is, and what it says."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from collector import columns
from collector.dialects.facts import Facts, Numbers
from collector.dialects.model import FLAGS, LIST, MONEY, OTHER_NUMBERS, RANKS, TEXTS, Dialect
from collector.dialects.table import Coded, Mask, Rows, Table, first_of
from collector.dialects.usage import settle
from collector.otlp.tables import I64

ROLES = ("call", "copy", "wrapper", "rollup", "context", "caller", "abort", "none")
CALL, COPY, WRAPPER, ROLLUP, CONTEXT, CALLER, ABORT, NONE = range(len(ROLES))
ERROR = 2  # of a span's status
IDENTITY = tuple(column.name for column in columns.IDENTITY)
#: What a report that is no call says: who, and in which conversation.
_HANDED_DOWN = (*IDENTITY, "conversation_id")
_TEXT_FACTS = tuple(sorted(TEXTS))


class Part(NamedTuple):
    """Reports of one dialect, in the order of their spans."""

    rows: I64  # spans
    role: NDArray[np.int8]  # place in ROLES
    rank: NDArray[np.int8]
    failed: Mask  # whatever the span's status says
    texts: dict[str, Coded]
    lists: dict[str, Coded]
    numbers: dict[str, Numbers]
    flags: dict[str, tuple[Mask, Mask]]


def report(table: Table, dialect: Dialect, spans: I64) -> Part | None:
    """What these spans report; None where none of them does."""
    facts = Facts(Rows(table, spans), dialect)
    facts.rows.prepare(dialect.role_keys)
    role = _roles(facts)
    if not (role != NONE).any():
        return None
    if (role == NONE).any():
        spans, role = spans[role != NONE], role[role != NONE]
        facts = Facts(Rows(table, spans), dialect)
    facts.rows.prepare(dialect.text_keys)
    part = _everything(facts, role)
    return _useful(part)


def _roles(facts: Facts) -> NDArray[np.int8]:
    roles = np.full(facts.rows.size, NONE, dtype=np.int8)
    left = np.ones(facts.rows.size, dtype=np.bool_)
    for rule in facts.dialect.spans:
        if not left.any():
            break
        mask = left & facts.holds(rule.when)
        roles[mask] = ROLES.index(rule.role)
        left &= ~mask
    return roles


def _everything(facts: Facts, role: NDArray[np.int8]) -> Part:
    dialect = facts.dialect
    texts = {name: facts.text(name) for name in _TEXT_FACTS if name in dialect.facts}
    texts["operation"] = _operations(facts, role)
    counts, usage_flags = settle(facts)
    numbers = {**counts, **{name: facts.number(name) for name in OTHER_NUMBERS if name in dialect.facts}}
    flags: dict[str, tuple[Mask, Mask]] = {name: facts.flag(name) for name in FLAGS if name in dialect.facts}
    failed = np.zeros(facts.rows.size, dtype=np.bool_)
    if dialect.failed:
        failed = facts.holds(dialect.failed)
    if dialect.replayed:
        replayed, (hit, told) = (
            facts.holds(dialect.replayed),
            flags.get("response_cache_hit", (failed & False, failed & False)),
        )
        flags["response_cache_hit"] = hit | replayed, told | replayed
    if "response_id" in texts:
        texts["response_id"] = _own_ids(facts, texts["response_id"], role)
    lists = {"usage_flags": usage_flags}
    if LIST in dialect.facts:
        lists[LIST] = facts.lists(LIST)
    return Part(facts.rows.rows, role, _ranks(facts), failed, texts, lists, numbers, flags)


def _operations(facts: Facts, role: NDArray[np.int8]) -> Coded:
    named = facts.text("operation")
    missing = ((role == CALL) | (role == COPY)) & (named.codes < 0)
    if not missing.any():
        return named
    default = pa.array([facts.dialect.default_operation], pa.large_string())
    return first_of(named, Coded(np.where(missing, np.int32(0), np.int32(-1)).astype(np.int32), default))


def _ranks(facts: Facts) -> NDArray[np.int8]:
    ranks = np.full(facts.rows.size, RANKS["instrumentor"], dtype=np.int8)
    left = np.ones(facts.rows.size, dtype=np.bool_)
    for rule in facts.dialect.rank:
        mask = left & facts.holds(rule.when) if rule.when else left
        ranks[mask] = RANKS[rule.rank]
        left = left & ~mask
    return ranks


def _own_ids(facts: Facts, ids: Coded, role: NDArray[np.int8]) -> Coded:
    """Response ids without those that are the gateway's call id again, and without those of one call on a sum of many."""
    codes = np.where((role == WRAPPER) | (role == ROLLUP), np.int32(-1), ids.codes).astype(np.int32)
    for key in facts.dialect.response_id_unless:
        other = facts.rows.text(key)
        if len(other.values) and len(ids.values):
            same = np.asarray(pc.equal(ids.texts(), other.texts()).fill_null(False))
            codes = np.where(same, np.int32(-1), codes).astype(np.int32)
    return Coded(codes, ids.values)


def _useful(part: Part) -> Part | None:
    """Without what says nothing: a sum without counts is at most context, and context is worth its identity."""
    used = np.zeros(len(part.rows), dtype=np.bool_)
    for name in ("input_tokens", "output_tokens", MONEY):
        if name in part.numbers:
            used |= part.numbers[name][1]
    role = np.where((part.role == ROLLUP) & ~used, np.int8(CONTEXT), part.role).astype(np.int8)
    known = np.zeros(len(part.rows), dtype=np.bool_)
    for name in _HANDED_DOWN:
        coded = part.texts.get(name, part.lists.get(name))
        if coded is not None:
            known |= coded.codes >= 0
    context = (role == CONTEXT) | (role == CALLER)
    part = part._replace(role=role)
    if context.any():
        part = _blank(part, context)
    keep = ~context | known
    if keep.all():
        return part
    return _kept(part, keep) if keep.any() else None


def _blank(part: Part, context: Mask) -> Part:
    """Context, and who asked, carry identity only."""
    texts = {
        name: coded if name in _HANDED_DOWN else Coded(np.where(context, np.int32(-1), coded.codes), coded.values)
        for name, coded in part.texts.items()
    }
    numbers = {name: (counts, told & ~context) for name, (counts, told) in part.numbers.items()}
    flags = {name: (yes, told & ~context) for name, (yes, told) in part.flags.items()}
    return part._replace(texts=texts, numbers=numbers, flags=flags)


def _kept(part: Part, keep: Mask) -> Part:
    return Part(
        part.rows[keep],
        part.role[keep],
        part.rank[keep],
        part.failed[keep],
        {name: Coded(coded.codes[keep], coded.values) for name, coded in part.texts.items()},
        {name: Coded(coded.codes[keep], coded.values) for name, coded in part.lists.items()},
        {name: (numbers[keep], told[keep]) for name, (numbers, told) in part.numbers.items()},
        {name: (yes[keep], told[keep]) for name, (yes, told) in part.flags.items()},
    )
