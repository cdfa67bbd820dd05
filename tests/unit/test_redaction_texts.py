"""What a search of texts may leave out: equal texts, and those in which an earlier search found nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.redaction.texts import NO_TEXTS, Searched, Texts, TextSearch, joined
from tests.redaction_kit import redaction

SEARCH: TextSearch = redaction().parts.columns._texts
PLAIN = ["stop", "", "gpt-4o", "chatcmpl-0123456789abcdefghijkl", "x" * 300, "grüße"]
TELLING = ["jane.doe@example.com", "card 4111 1111 1111 1111", r"{\"mail\": \"jane\\u0040example.com\"}", "jane.doe@example.com " + "y" * 300]  # fmt: skip


def search(texts: list[str], clean: Texts = NO_TEXTS) -> Searched:
    return SEARCH.search(*joined([text.encode() for text in texts]), clean)


def spots(searched: Searched) -> list[tuple[int, ...]]:
    found = searched.found
    return list(zip(*(column.tolist() for column in (found.leaf, found.start, found.end, found.detector)), strict=True))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(PLAIN + TELLING), max_size=30))
def test_each_row_has_what_its_text_alone_has(texts: list[str]) -> None:
    alone = [(row, *spot[1:]) for row, text in enumerate(texts) for spot in spots(search([text]))]
    assert spots(search(texts)) == alone


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(PLAIN + TELLING), max_size=20), st.lists(st.sampled_from(PLAIN + TELLING), max_size=20))
def test_what_was_clean_before_changes_no_result(before: list[str], after: list[str]) -> None:
    assert spots(search(after, search(before).clean)) == spots(search(after))


def test_clean_texts_are_not_searched_again_and_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = search([*PLAIN, *TELLING]).clean
    kept = {clean.data[at : at + size].tobytes().decode() for at, size in zip(clean.off.tolist(), clean.size.tolist(), strict=True)}  # fmt: skip
    assert kept == {text for text in PLAIN if len(text) <= 256}
    searched: list[int] = []
    scan = SEARCH.scanner.scan_each
    monkeypatch.setattr(
        SEARCH.scanner, "scan_each", lambda data, off, size: searched.append(len(off)) or scan(data, off, size)
    )  # type: ignore[func-returns-value]
    search(["stop", "stop", "new"], clean)
    assert searched == [1]
    searched.clear()
    assert len(spots(search([TELLING[0], "stop", TELLING[0]], clean))) == 2
    assert searched[0] == 1


def test_a_text_that_could_not_be_searched_is_not_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(data: object, off: np.ndarray, size: object) -> object:
        found, failed = scan(data, off, size)  # type: ignore[arg-type]
        return found, np.ones_like(failed)

    scan = SEARCH.scanner.scan_each
    monkeypatch.setattr(SEARCH.scanner, "scan_each", failing)
    searched = search(["stop", "stop"])
    assert len(searched.clean.off) == 0
    assert searched.failed["error"].tolist() == [0, 1]
