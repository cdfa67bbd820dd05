"""The scanner in general: right places in any batch, the same with either engine, and nothing across a boundary."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.redaction import folding
from processors.redaction.patterns import Zone
from processors.redaction.scanner import Scanner
from tests.pii.kit import DETECTORS, Hit, scan, scan_all, scanner
from tests.pii.negatives import negatives
from tests.pii.positives import positives

EXAMPLES = [(detector, example) for detector in DETECTORS for example in detector.examples]
#: What stands around an example and has no part in it: a line's end, and something that belongs to nothing.
APART = "\n¶\n"
WORDS = ["password", "token", "phone", "ssn", "iban", "born", "bsn", "@", "://", "sk-", "+49", "0", "4111", "-----BEGIN ", "eyJ", "=", ": ", '"', "\\n"]  # fmt: skip
FOLDED = "１＠．\u00a0\u200b\u00ad‑–٣"

ordinary = st.text(max_size=40)
fragments = st.one_of(
    st.sampled_from([example.text for _, example in EXAMPLES]),
    st.sampled_from([example.value for _, example in EXAMPLES]),
    st.sampled_from(WORDS),
    st.text("0123456789 .-/()+", max_size=20),
    st.text("abz019.@:-_/=\n " + FOLDED, max_size=12),
    st.text(max_size=6),
)
mixtures = st.lists(fragments, max_size=6).map("".join)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(EXAMPLES), st.lists(ordinary, max_size=4), st.lists(ordinary, max_size=4), ordinary, ordinary, st.data()
)  # fmt: skip
def test_an_example_is_found_where_it_stands(pair, before, after, left, right, data) -> None:
    detector, example = pair
    text = left + APART + example.text + APART + right
    batch = [one.encode() for one in (*before, text, *after)]
    start = len((left + APART).encode()) + example.text.encode().index(example.value.encode())
    engine = data.draw(st.sampled_from(["hyperscan", "re2"]))
    found = scan(batch, scanner(engine))[len(before)]
    assert Hit(detector.id, start, start + len(example.value.encode())) in found


@settings(max_examples=150, deadline=None)
@given(st.lists(mixtures, max_size=6))
def test_both_engines_find_the_same(texts: list[str]) -> None:
    batch = [text.encode() for text in texts]
    assert scan(batch, scanner("hyperscan")) == scan(batch, scanner("re2"))


@settings(max_examples=150, deadline=None)
@given(st.lists(mixtures, min_size=2, max_size=6))
def test_a_text_is_scanned_as_if_it_were_alone(texts: list[str]) -> None:
    batch = [text.encode() for text in texts]
    assert scan(batch) == [scan([text])[0] for text in batch]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EXAMPLES), st.data())
def test_nothing_is_found_across_a_boundary(pair, data) -> None:
    """An example cut in two texts, one behind the other in memory: in each is found what is in it."""
    text = pair[1].text.encode()
    cut = data.draw(st.integers(0, len(text)))
    assert scan([text[:cut], text[cut:]]) == [scan([text[:cut]])[0], scan([text[cut:]])[0]]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), mixtures.map(str.encode)), max_size=6))
def test_hits_are_in_order_in_their_text_and_never_overlap(texts: list[bytes]) -> None:
    found, failed = scan_all(texts)
    assert not failed.any()
    for text, hits in zip(texts, found, strict=True):
        ends = [0]
        for hit in hits:
            assert ends[-1] <= hit.start < hit.end <= len(text)
            ends.append(hit.end)
        for end in ends if text.isascii() or _is_utf8(text) else ():
            assert _is_utf8(text[:end])


def _is_utf8(text: bytes) -> bool:
    try:
        return bool(text.decode() or True)
    except UnicodeDecodeError:
        return False


@settings(max_examples=150, deadline=None)
@given(mixtures)
def test_the_first_look_overlooks_nothing(text: str) -> None:
    """RE2 over the whole text, every pattern, with no trigger: the definition. (Patterns of numbers have their zone in it.)"""
    found = {hit.detector for hit in scan([text.encode()], BY_TEXT)[0]}
    folded = folding.fold(*_alone(text.encode())).text(0)
    for number, detector in enumerate(BY_TEXT.detectors):
        for expression in (one for one in BY_TEXT._expressions if one.detector == number):
            place = 0
            while match := expression.regexp.search(folded, place):
                start, place = match.span(expression.value)
                left_out = expression.unless and match.start(expression.unless) >= 0
                if not left_out and detector.judge()(folded[start:place].decode()):
                    assert found  # merged hits have the name of the surest of them
                    break


BY_TEXT = Scanner([one for one in DETECTORS if not one.digits])


def test_the_first_look_overlooks_nothing_of_the_corpus() -> None:
    """As above with all detectors, over texts in which there is something: also the zone of numbers costs none."""
    by = scanner()
    texts = [case.text for case in positives()] + negatives()
    found = scan([text.encode() for text in texts])
    for text, hits in zip(texts, found, strict=True):
        folded = folding.fold(*_alone(text.encode())).text(0)
        for expression in by._expressions:
            detector, place = by.detectors[expression.detector], 0
            if any(hit.detector == detector.id for hit in hits):
                continue
            while match := expression.regexp.search(folded, place):
                start, place = match.span(expression.value)
                if expression.unless and match.start(expression.unless) >= 0:
                    continue
                if detector.judge()(folded[start:place].decode()):
                    assert hits, (detector.id, text)  # under another name


def _alone(text: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.frombuffer(text or b" ", np.uint8), np.zeros(1, np.int64), np.array([len(text)], np.int32)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=30), st.text("ab1" + FOLDED, max_size=30)), max_size=5))
def test_folding_keeps_places(texts: list[str]) -> None:
    """Whatever became of a character: its place in the buffer is its place in the text."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    size = np.array([len(text) for text in encoded], np.int32)
    folded = folding.fold(
        np.frombuffer(b"".join(encoded) or b" ", np.uint8), np.cumsum(size, dtype=np.int64) - size, size
    )
    assert len(folded.start) == len(texts) + 1
    for row, text in enumerate(encoded):
        begin = int(folded.start[row])
        places = np.arange(begin, int(folded.start[row + 1]), dtype=np.int64)
        offsets = folded.offsets(np.full(len(places), row), places)
        assert np.all(np.diff(offsets) >= 1)
        assert offsets[-1] == len(text)
        for place, offset in zip(places[:-1].tolist(), offsets[:-1].tolist(), strict=True):
            byte = bytes(folded.buffer[place : place + 1])
            assert byte == text[offset : offset + 1] or byte.isascii()
        folded.text(row).decode()  # always valid


@pytest.mark.parametrize("unit", ["a@b.", "eyJaaaaaaaa.", "password: ", "http://a:b@", "1-", "123 ", "-----BEGIN PRIVATE KEY-----\n", "%40a.co", "é１"])  # fmt: skip
def test_time_grows_with_the_text_and_no_faster(unit: str) -> None:
    def seconds(size: int) -> float:
        text = (unit * size)[:size].encode()
        best = 9.0
        for _ in range(2):
            start = time.thread_time()
            scan_all([text])
            best = min(best, time.thread_time() - start)
        return best

    seconds(1000)
    assert seconds(160_000) < 40 * max(
        seconds(20_000), 1e-3
    )  # eight times the text; quadratic would be 64 times the time


def test_zones_are_all_in_use() -> None:
    assert {expression.zone for detector in DETECTORS for expression in detector.expressions} == set(Zone)
