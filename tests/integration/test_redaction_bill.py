"""Redaction costs nobody a cent: the ledger over redacted spans is the ledger over the spans as they came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from processors.redaction.columns import IDENTITY_OF
from tests.bill import CAPTURES, Bill, Pipeline, compare, folders, pipeline, requests
from tests.redaction_kit import outcome, redaction

FOLDERS = sorted({path.parent for path in CAPTURES.glob("*/*-traces.pb*")})
NEVER = ("jane.doe@example.com", "4111 1111 1111 1111", "4111111111111111", "078-05-1120", "corp.example")


def ledger(folder: Path, profile: str | None, **options: Any) -> Pipeline:
    """The calls of a capture's requests, one batch each."""
    with pipeline(redaction(profile=profile, **options) if profile else None) as pipe:
        for body in requests(folder):
            batch = pipe.take([body])
            if profile:
                left = batch.otlp.data.tobytes() + str((batch.spans.to_dicts(), batch.reports.to_dicts(), batch.calls.to_dicts())).encode()  # fmt: skip
                assert not [text for text in NEVER if text.encode() in left]
    return pipe


@pytest.mark.parametrize("profile", ["default", "strict"])
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_rows_of_the_ledger_are_the_same_but_for_who_it_was(folder: Path, profile: str) -> None:
    """Every call, its tokens, its cost, its keys and times; users are other names, as many and for the same calls."""
    plain, private = ledger(folder, None), ledger(folder, profile, audit=True)
    identities = [name for name in IDENTITY_OF if name in next(iter(plain.rows.values()), {})]
    assert len(plain.rows) == len(private.rows)
    names: dict[tuple[str, Any], Any] = {}
    for before, after in zip(plain.rows.values(), private.rows.values(), strict=True):
        for name in identities:
            assert names.setdefault((name, before.get(name)), after.get(name)) == after.get(name)
        assert {k: v for k, v in before.items() if k not in identities} == {k: v for k, v in after.items() if k not in identities}  # fmt: skip
    assert len(set(names.values())) == len({value for _, value in names}), "as many users as there were"
    assert (plain.cost_pico, plain.spans_pico, plain.total_pico) == (private.cost_pico, private.spans_pico, private.total_pico)  # fmt: skip


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_it_is_still_the_providers_bill(folder: Path) -> None:
    assert compare(Bill.read(folder), ledger(folder, "default").rows.values()).right


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_a_ledger_made_of_redacted_spans_is_the_bill_too(folder: Path) -> None:
    """What leaves is still all that a ledger is made of: the next Spanledger counts the same calls at the same prices."""
    first = redaction()
    with pipeline() as pipe:
        for body in requests(folder):
            pipe.take([outcome(first, body).data.tobytes()])
        assert compare(Bill.read(folder), pipe.rows.values()).right
