"""HPACK: the examples of RFC 7541, appendix C, what must be refused, and bounds on what a short block may cost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.receivers.hpack import MAX_LIST_SIZE, Decoder, HpackError, encode
from collector.receivers.huffman import BadHuffman, huffman

REQUESTS = [
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")],
    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com"),
     (b"cache-control", b"no-cache")],
    [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html"), (b":authority", b"www.example.com"),
     (b"custom-key", b"custom-value")],
]  # fmt: skip
PLAIN = [
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
]
CODED = [
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
]


@pytest.mark.parametrize("blocks", [PLAIN, CODED], ids=["plain", "huffman"])
def test_the_rfcs_examples(blocks: list[str]) -> None:
    decoder = Decoder()
    assert [decoder.decode(bytes.fromhex(block)) for block in blocks] == REQUESTS


def test_entries_leave_the_table_as_the_rfc_says() -> None:
    """Appendix C.5: a table of 256 octets, three answers."""
    decoder = Decoder()
    block = (
        "3fe101"  # the table's size
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
        "6e1768747470733a2f2f7777772e6578616d706c652e636f6d"
    )
    first = decoder.decode(bytes.fromhex(block))
    assert first[0] == (b":status", b"302")
    assert decoder.decode(bytes.fromhex("4803333037c1c0bf")) == [(b":status", b"307"), *first[1:]]
    with pytest.raises(HpackError):  # ":status: 302" is no longer there
        decoder.decode(bytes.fromhex("c2"))


@given(st.lists(st.tuples(st.binary(max_size=200), st.binary(max_size=300)), max_size=10))
@settings(deadline=None, max_examples=100)
def test_what_is_encoded_is_decoded(fields: list[tuple[bytes, bytes]]) -> None:
    assert Decoder().decode(encode(fields)) == fields


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_decoded_or_refused(block: bytes) -> None:
    try:
        fields = Decoder().decode(block)
    except HpackError:
        return
    assert sum(len(name) + len(value) + 32 for name, value in fields) <= MAX_LIST_SIZE


@pytest.mark.parametrize(
    "block",
    [
        "80",  # index 0
        "be",  # behind the end of the table
        "ff",  # a number that is cut short
        "ffffffffffff0f",  # a number that is too large
        "0003616263",  # a value that is missing
        "00ff",
        "3fe21f",  # a larger table than was offered
        "8220",  # a table size update behind a field
    ],
)
def test_what_is_wrong_is_refused(block: str) -> None:
    with pytest.raises(HpackError):
        Decoder().decode(bytes.fromhex(block))


def test_a_short_block_cannot_name_a_large_entry_without_end() -> None:
    decoder = Decoder()
    value = b"v" * 3000
    decoder.decode(b"\x40\x01n\x7f" + bytes((3000 - 127 & 127 | 128, 3000 - 127 >> 7)) + value)
    assert decoder.decode(b"\xbe" * 10) == [(b"n", value)] * 10
    with pytest.raises(HpackError, match="too large"):
        decoder.decode(b"\xbe" * 2000)


def test_the_same_block_again_after_the_table_changed_means_something_else() -> None:
    decoder = Decoder()
    decoder.decode(bytes.fromhex("4001610131"))  # a: 1 enters
    assert decoder.decode(b"\xbe") == [(b"a", b"1")]
    assert decoder.decode(b"\xbe") == [(b"a", b"1")]
    decoder.decode(bytes.fromhex("4001620132"))  # b: 2 enters before it
    assert decoder.decode(b"\xbe") == [(b"b", b"2")]


def test_a_text_may_end_in_fewer_than_eight_ones() -> None:
    assert huffman(bytes.fromhex("f8")) == b"&"
    assert huffman(bytes.fromhex("1f")) == b"a"


@pytest.mark.parametrize("text", ["ffffffff", "ff", "1fff", "18"])
def test_the_end_of_string_symbol_and_wrong_padding_are_refused(text: str) -> None:
    with pytest.raises(BadHuffman):
        huffman(bytes.fromhex(text))
