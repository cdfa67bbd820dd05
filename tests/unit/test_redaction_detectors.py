"""What ships is what it says: every detector finds its examples, leaves its counter-examples, and reaches its mark."""

from __future__ import annotations

import logging
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from collector.errors import SpanledgerError
from processors.redaction import checks, engines, names, scanner, secrecy
from processors.redaction.detector import BREAK, Certainty, Detector, load_detectors, user_detector
from processors.redaction.names import Name, Names
from processors.redaction.patterns import Zone, compiled, defects, least, shortened, width
from processors.redaction.scanner import Scanner
from tests.pii import kit
from tests.pii.corpus import measure
from tests.pii.kit import DETECTORS, Hit, one, scan, scan_all
from tests.pii.negatives import negatives
from tests.pii.positives import positives

#: No check digits and no shape of its own: a number with separators may be a telephone number, or not.
GUESSES = {"phone", "password", "private_ip"}
FOLDER = Path(sys.modules["processors.redaction"].__file__ or "").parent / "detectors"


# The data ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: detector.id)
def test_examples_are_found_and_counter_examples_are_not(detector: Detector) -> None:
    assert detector.examples
    assert detector.counter_examples
    for example in detector.examples:
        text, value = example.text.encode(), example.value.encode()
        start = text.index(value)
        assert Hit(detector.id, start, start + len(value)) in scan([text])[0], example.text
    for counter in detector.counter_examples:
        assert detector.id not in {hit.detector for hit in scan([counter.encode()])[0]}, counter


def test_the_engine_takes_every_trigger() -> None:
    """None is left to the slower engine; and what is looked for around a number is short enough to be seen there."""
    for look in kit.scanner("hyperscan")._looks.values():
        assert not len(look._engine._left)  # type: ignore[attr-defined]
    for detector in DETECTORS:
        for expression in detector.expressions:
            assert compiled(expression.trigger)
            if expression.zone is Zone.NUMBERS:
                assert width(expression.trigger) is not None, detector.id


def test_an_example_cannot_be_taken_for_a_leak_where_it_is_written() -> None:
    """No scanner of repositories finds in the files what stands for a secret of a service."""
    secrets = [one for one in DETECTORS if one.kind == "secret" and one.certainty is Certainty.EXACT and one.id not in
               {"jwt", "private_key", "database_url", "azure_key", "google_key"}]  # fmt: skip
    text = (FOLDER / "secrets.yaml").read_text("utf-8")
    for detector in secrets:
        for example in detector.examples:
            assert example.value not in text or "hooks.slack" in example.text or "TWILIO" in example.text, detector.id
    assert BREAK in text


def test_ids_are_unique_and_every_kind_of_certainty_is_there() -> None:
    ids = [detector.id for detector in load_detectors()]
    assert len(ids) == len(set(ids)) > 75
    assert {detector.certainty for detector in load_detectors()} == set(Certainty)
    assert {"person", "address", "private_ip"} == {one.id for one in load_detectors() if not one.default}


def test_the_dependencies_are_declared() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    declared = " ".join([*project["dependencies"], *project["optional-dependencies"]["presidio"]])
    assert all(name in declared for name in ("google-re2", "hyperscan", "python-stdnum", "presidio-analyzer"))


# The corpus --------------------------------------------------------------------------------------------------------------


def test_recall_and_precision_over_the_corpus() -> None:
    scores = measure()
    assert len(positives()) >= 300
    assert len(negatives()) >= 300
    assert set(scores) >= {detector.id for detector in DETECTORS}
    for detector in DETECTORS:
        score = scores[detector.id]
        assert score.cases >= 12, detector.id
        assert score.recall >= 0.99, (detector.id, score.missed)
        if detector.id not in GUESSES:
            assert score.precision >= 0.97, (detector.id, score.false)
    found, cases = sum(score.covered for score in scores.values()), sum(score.cases for score in scores.values())
    named, wrong = sum(score.named for score in scores.values()), sum(len(score.false) for score in scores.values())
    assert found / cases >= 0.99
    assert named / (named + wrong) >= 0.97


def test_the_measure_measures() -> None:
    """A corpus that is answered wrongly is scored so."""
    case = positives()[0]
    score = measure([case._replace(text="nothing", value="nothing")], ["mail jane@example.com"])[case.detector]
    assert (score.recall, score.precision) == (0.0, 0.0)


# What is read as what ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("カード ４１１１　１１１１　１１１１　１１１１ です", "４１１１　１１１１　１１１１　１１１１"),
        ("card 4111\u00a01111\u202f1111\u20091111", "4111\u00a01111\u202f1111\u20091111"),
        ("ssn 078‑05–1120.", "078‑05–1120"),
        ("jane.doe＠example．com", "jane.doe＠example．com"),
        ("ja\u200bne.d\u00adoe@exam\u2060ple.com", "ja\u200bne.d\u00adoe@exam\u2060ple.com"),
        ("बताइए +९१ ९८७६५ ४३२१०", "+९१ ९८७६५ ४३२१०"),
        ("هاتف ٠٥٠-١٢٣-٤٥٦٧", "٠٥٠-١٢٣-٤٥٦٧"),
        ("\ufeff4111 1111 1111 1111", "4111 1111 1111 1111"),
    ],
)
def test_typographic_and_full_width_spellings_are_read_as_ascii(text: str, found: str) -> None:
    data = text.encode()
    assert found.encode() in [data[hit.start : hit.end] for hit in scan([data])[0]]


def test_what_is_not_utf8_hides_nothing_and_breaks_nothing() -> None:
    texts = [
        b"\xff\xfe jane@example.com \x80",
        b"m\xfcller@example.com",
        b"\xed\xa0\x80 078-05-1120 \xf4\x90\x80\x80",
        b"\xc3",
    ]
    hits = scan(texts)
    assert [[text[hit.start : hit.end] for hit in found] for text, found in zip(texts, hits, strict=True)] == [
        [b"jane@example.com"], [b"m\xfcller@example.com"], [b"078-05-1120"], []]  # fmt: skip


def test_overlapping_hits_are_one_and_the_surest_names_it() -> None:
    token = "ghp_" + "4fA9xQ2mZ7bT1kR8vY3cN6wE5hJ0gL2pS9dU"
    text = f"password: {token}&x https://jane:{token}@git.example.com/".encode()
    hits = scan([text])[0]
    assert [hit.detector for hit in hits] == ["github_token", "github_token"]
    assert text[hits[0].start : hits[0].end] == f"{token}&x".encode()  # all that any of them covers
    assert text[hits[1].start : hits[1].end] == f"jane:{token}".encode()


def test_texts_may_overlap_repeat_and_be_empty() -> None:
    data = np.frombuffer(b"to jane@example.com", np.uint8)
    off, size = np.array([0, 3, 0, 19, 3]), np.array([19, 16, 19, 0, 4], np.int32)
    hits, failed = kit.scanner().scan(data, off, size)
    assert not failed.any()
    assert [column.tolist() for column in hits[:3]] == [[0, 1, 2], [3, 0, 3], [19, 16, 19]]
    none, failed = kit.scanner().scan(data, off[:0], size[:0])
    assert (len(none.row), len(failed)) == (0, 0)


# Fails closed ------------------------------------------------------------------------------------------------------------


def test_a_check_that_raises_gives_up_its_text_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(text: str) -> bool:
        if "11" in text:
            raise RuntimeError(text)
        return True

    monkeypatch.setattr(checks, "named", lambda name: broken)
    monkeypatch.setattr("processors.redaction.detector.named", lambda name: broken)
    by = Scanner([one for one in DETECTORS if one.id == "us_ssn"])
    with caplog.at_level(logging.WARNING):
        hits, failed = scan_all([b"536-22-8145", b"078-05-1120", b"nothing", b"078-05-1120"], by)
    assert failed.tolist() == [False, True, False, True]
    assert [len(found) for found in hits] == [1, 0, 0, 0]
    assert "RuntimeError" in caplog.text
    assert "078" not in caplog.text


def test_an_engine_that_raises_gives_up_the_batch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    by = Scanner([one for one in DETECTORS if one.id == "email"])
    monkeypatch.setattr(engines, "_MOST_TOLD", 3)  # ends the scan as a full memory would
    hits, failed = scan_all([b"a@b.co c@d.co e@f.co g@h.co", b"nothing"], by)
    assert failed.all()
    assert hits == [[], []]
    assert "engine failed" in caplog.text


def test_a_text_of_matches_only_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "MOST_MATCHES", 10)
    _, failed = scan_all([b"a@b.co " * 11, b"a@b.co " * 9])
    assert failed.tolist() == [True, False]


def test_large_batches_are_scanned_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {number} of user{number}@example.com".encode() for number in range(100)]
    whole = scan(texts)
    monkeypatch.setattr(scanner, "CHUNK_BYTES", 70)
    assert scan(texts) == whole
    assert [len(found) for found in whole] == [1] * 100


# Patterns of a user ------------------------------------------------------------------------------------------------------


def test_a_pattern_of_ones_own() -> None:
    plain = user_detector("ticket", r"ACME-\d{4,8}", kind="secret", title="Ticket")
    assert one("see ACME-12345 and acme-1", [plain]) == ["ACME-12345"]
    near = user_detector("member", r"\b\d{6}\b", keywords=["member no", "Mitglied"], min_length=6)
    assert one("Member No. 123456, order 654321\n777777 mitglied", [near]) == ["123456", "777777"]
    checked = user_detector("meter", r"\b\d{11}\b", check="luhn")
    assert one("49927398716 and 49927398717", [checked]) == ["49927398716"]
    words = user_detector("umlaut", "(?i)größe[äöü]{2,3}|プロジェクト.{2}")
    assert one("GRÖSSE größeäöü プロジェクト東京", [words]) == ["größeäöü", "プロジェクト東京"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "(a"}, "not a pattern in RE2's syntax: missing ): (a"),
        ({"pattern": r"(?=a)b"}, "invalid perl operator"),
        ({"pattern": r"(a)\1"}, "invalid escape sequence"),
        ({"pattern": "a*"}, "matches the empty text"),
        ({"pattern": "abc|"}, "matches the empty text"),
        ({"pattern": r"\bfoo|\b"}, "matches the empty text"),
        ({"pattern": r"\w+"}, "let it match at least 3"),
        ({"pattern": r"[\s\S]+"}, "let it match at least 3"),
        ({"pattern": r"\pL{900}x{900}y{100}"}, "large"),
        ({"pattern": r"(?:\p{Latin}{30}x){30}"}, "too large"),
        ({"pattern": r"\Aabc"}, r"\A is not supported"),
        ({"pattern": r"abc\z"}, r"\z is not supported"),
        ({"pattern": r"(?-m:^abc)"}, "(?-m) is not supported"),
        ({"pattern": "abc", "keywords": ["x"]}, "too short"),
        ({"pattern": "abc", "keywords": [" "]}, "too short"),
        ({"pattern": "abc", "check": "lun"}, "no check is named 'lun'"),
        ({"pattern": "abc", "check": "stdnum.xx.nothing"}, "no check is named"),
        ({"pattern": "abc", "check": "stdnum.exceptions"}, "no check is named"),
        ({"pattern": "abc", "id": "Not An Id"}, "id: String should match"),
        ({"pattern": "abc", "min_length": 0}, "min_length: Input should be greater"),
    ],
)
def test_what_is_wrong_with_a_pattern_is_said_in_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        user_detector(**{"id": "own", **options})  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patterns": [], "context": None}, "must have patterns or entities"),
        ({"entities": ["PERSON"]}, "must have patterns or entities"),
        ({"check": "lun"}, "no check is named"),
        ({"certainty": "sure"}, "certainty is one of generic, shape, exact"),
        ({"patterns": ["a("]}, "detector 'x'"),
        ({"surplus": 1}, "Extra inputs"),
        ({"examples": ["a «b"]}, "with « and »"),
        ({"examples": ["a «b» «c»"]}, "with « and »"),
    ],
)
def test_a_declaration_is_read_strictly(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Detector.model_validate({"id": "x", "title": "X", "kind": "pii", "patterns": ["abc"], **change})


@pytest.mark.parametrize(
    ("pattern", "short"),
    [
        ("sk-[a-z]{20,}", "sk-[a-z]{12}"),
        (r"(?P<value>ab[\w-]{3,}x?)", r"(?P<value>ab[\w-]{3})"),
        ("a|b+c*", "a|b"),
        (r"foo.*", "foo"),
        (r"x[^\]]+|[]a]{2}", r"x[^\]]|[]a]{2}"),
        (r"\x{41}+\pL*", r"\x{41}"),
        (r"a\x41*", "a"),
        (r"foo\b", r"foo\b"),
        ("(?i)foo(?:bar)?", "(?i)foo"),
        ("a{2,3}", "a{2}"),
    ],
)
def test_what_may_be_missing_at_the_end_is_not_looked_for_first(pattern: str, short: str) -> None:
    assert shortened(pattern) == short
    assert defects(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "low", "high"),
    [
        ("abc", 3, 3), ("a{2,5}|b", 1, 5), ("a+", 1, None), ("[^a]{2}", 2, 8), ("é?x", 1, 5), (r"\b(?:ab|cde)?\d{3}", 3, 6),
        (".{3,}", 3, None), (r"(?i)ab", 2, 2), (r"(?P<value>a(?:b{2}){3})", 7, 7),
    ],
)  # fmt: skip
def test_how_long_a_match_may_be(pattern: str, low: int, high: int | None) -> None:
    assert (least(pattern), width(pattern)) == (low, high)


# Without Hyperscan, with Presidio ----------------------------------------------------------------------------------------


def test_without_hyperscan_re2_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "hyperscan", None)
    by = Scanner([one for one in DETECTORS if one.id == "email"])
    assert by.engine == "re2"
    assert scan([b"to jane@example.com"], by) == [[Hit("email", 3, 19)]]
    with pytest.raises(ImportError, match="hyperscan"):
        Scanner(DETECTORS[:1], "hyperscan")


def test_what_hyperscan_does_not_know_re2_looks_for() -> None:
    odd = user_detector("odd", r"(?U)x{3,}y")  # Hyperscan has no such flag
    usual = user_detector("usual", "abcd")
    assert one("xxxy abcd xxxxy", [odd, usual]) == ["xxxy", "abcd", "xxxxy"]
    assert one("xxxy", [odd]) == ["xxxy"]


class Analyzer:
    """Presidio's, of which only the part is there that is used: it finds Jane, and takes no text with `bad` in it."""

    def __init__(self) -> None:
        self.texts: list[list[str]] = []

    def analyze_iterator(self, texts: list[str], **options: object) -> list[list[object]]:
        self.texts.append(list(texts))
        assert options["entities"] == ["PERSON", "LOCATION"]
        if any("bad" in text for text in texts):
            raise RuntimeError(texts)
        return [[Found(text.index("Jané"))] if "Jané" in text else [] for text in texts]


class Found:
    def __init__(self, start: int) -> None:
        self.start, self.end, self.entity_type = start, start + 4, "PERSON"


def test_names_are_found_once_per_distinct_text(caplog: pytest.LogCaptureFixture) -> None:
    detectors = [one for one in load_detectors() if one.entities or one.id == "email"]
    analyzer = Analyzer()
    by = Scanner(detectors, names=Names(["PERSON", "LOCATION"], analyzer))
    text = "für Jané: jane@example.com".encode()
    hits, failed = scan_all([text, b"123", text, b"nobody"], by)
    assert analyzer.texts == [[text.decode(), "nobody"]]
    assert hits[0] == hits[2] == [Hit("person", 5, 10), Hit("email", 12, 28)]
    assert not failed.any()
    hits, failed = scan_all([text, b"bad jane@example.com"], by)
    assert failed.tolist() == [False, True]
    assert hits == [[Hit("person", 5, 10), Hit("email", 12, 28)], []]
    assert "jane" not in caplog.text


def test_a_missing_extra_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(SpanledgerError, match=r"pip install 'spanledger\[presidio\]'"):
        Scanner(load_detectors())
    assert Names(["PERSON"], Analyzer())  # needs none


def test_a_missing_model_is_an_error_and_not_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        AnalyzerEngine = BatchAnalyzerEngine = SpacyNlpEngine = None

        class util:
            is_package = staticmethod(lambda name: False)

    for name in ("spacy", "presidio_analyzer", "presidio_analyzer.nlp_engine"):
        monkeypatch.setitem(sys.modules, name, Module)  # type: ignore[arg-type]
    with pytest.raises(SpanledgerError, match="spacy download en_core_web_lg"):
        names._analyzer()
    assert Name(0, 1, "PERSON").entity == "PERSON"


# Checks ------------------------------------------------------------------------------------------------------------------


def test_secrets_and_what_stands_for_them() -> None:
    assert all(
        map(secrecy.placeholder, ["*****", "<token>", "${KEY}", "your-key", "sk-...", "None", "{{ x }}", "xxxx"])
    )
    assert not any(map(secrecy.placeholder, ["hunter2", "7f3a9c1e5b8d2f6a"]))
    assert secrecy.entropy("aaaa") == 0
    assert secrecy.entropy("abcd") == 2


def test_addresses_that_are_no_addresses_are_nobodys() -> None:
    for check in ("public_ip", "private_ip"):
        assert not checks.named(check)("1.2.3.400")
    assert not checks.birth_date("31.02.1980")
    assert checks.birth_date("19800131")
    assert not checks.birth_date("20991231")
