"""Pseudonyms and their keys, and the persons that they are for."""

from __future__ import annotations

import base64
import json
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import ConfigError, StoreError
from config.types import Secret
from processors.redaction.actions import Action, What, mask, replacement
from processors.redaction.content import places
from processors.redaction.persons import Persons
from processors.redaction.pseudonyms import KEY_FILE, Pseudonyms, key_id, load_keys

ONE, TWO = bytes(range(32)), bytes(range(1, 33))


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_a_token_is_the_same_for_the_same_text_and_for_no_other(text: bytes, other: bytes) -> None:
    first, second = Pseudonyms([ONE]), Pseudonyms([ONE])
    assert first.token("user", text) == second.token("user", text)
    assert (first.token("user", text) == second.token("user", other)) == (text == other)
    assert re.fullmatch(rb"user_k[0-9a-f]{4}_[0-9a-f]{32}", first.token("user", text))
    assert first.token("key", text).split(b"_")[2] == first.token("user", text).split(b"_")[2], (
        "joins whatever its name"
    )


def test_another_key_gives_other_tokens_and_names_itself() -> None:
    assert key_id(ONE) != key_id(TWO)
    assert key_id(ONE).encode() in Pseudonyms([ONE]).token("user", b"alice")
    assert Pseudonyms([TWO]).token("user", b"alice") != Pseudonyms([ONE]).token("user", b"alice")


def test_tokens_of_a_key_that_was_replaced_are_known_and_of_others_not() -> None:
    old = Pseudonyms([ONE]).token("user", b"alice")
    assert Pseudonyms([TWO, ONE]).is_token(old)
    assert not Pseudonyms([TWO]).is_token(old)


@given(st.integers(0, 43), st.characters(codec="ascii"))
def test_a_token_that_was_changed_is_none(at: int, letter: str) -> None:
    made = Pseudonyms([ONE])
    token = made.token("user", b"alice").decode()
    changed = token[:at] + letter + token[at + 1 :]
    renamed = token.partition("_k")[2] == changed.partition("_k")[2]  # the name is not part of the proof
    assert made.is_token(changed.encode()) == (changed == token or (renamed and bool(re.fullmatch(r"[a-z][a-z0-9_]*", changed))))  # fmt: skip


def test_keys_come_from_the_config_a_file_or_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    text = base64.b64encode(ONE).decode()
    assert load_keys(Secret(text), None, tmp_path) == [ONE]
    (tmp_path / "keys").write_text(f"# new\n{TWO.hex()}\n# old\n{text}\n")
    assert load_keys(None, tmp_path / "keys", tmp_path) == [TWO, ONE]
    data = tmp_path / "data"
    made = load_keys(None, None, data)
    assert made == load_keys(None, None, data)
    assert stat.S_IMODE((data / KEY_FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_a_key_that_is_none_is_never_quoted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pseudonyms.key: a key has 32 bytes") as caught:
        load_keys(Secret("hunter2"), None, tmp_path)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(StoreError, match="No such file"):
        load_keys(None, tmp_path / "missing", tmp_path)


@pytest.fixture
def persons() -> Persons:
    return Persons(Pseudonyms([ONE]), places().nobody, places().members)


@given(
    name=st.text(min_size=1, max_size=12), member=st.sampled_from(places().members), levels=st.integers(0, 3),
    as_repr=st.booleans(),
)  # fmt: skip
def test_members_of_documents_get_the_pseudonym_that_the_bare_name_has(
    name: str, member: str, levels: int, as_repr: bool
) -> None:
    """In JSON and in Python's repr, with other members beside them, in documents inside documents."""
    persons = Persons(Pseudonyms([ONE]), places().nobody, places().members)
    bare = name.encode("utf-8", "replace").decode()
    if as_repr and levels:  # nothing tells how deep a single quote stands
        bare = re.sub(r"[^a-z0-9@.]", "", bare) or "alice"
    document = {"role": "user", member: bare, "n": 1}
    text = repr(document) if as_repr else json.dumps(document)
    for _ in range(levels):
        text = json.dumps({"inner": text})
    out = text.encode()
    for found in reversed(list(persons.members(out))):
        out = out[: found.start] + found.piece + out[found.end :]
    read = out.decode()
    for _ in range(levels):
        read = json.loads(read)["inner"]
    got = eval(read) if as_repr else json.loads(read)
    assert got == {"role": "user", member: persons.token("user", bare.encode()).decode(), "n": 1}


def test_numbers_become_texts_and_objects_stay(persons: Persons) -> None:
    def of(text: str) -> str:
        out = text.encode()
        for found in reversed(list(persons.members(out))):
            out = out[: found.start] + found.piece + out[found.end :]
        return out.decode()

    token = persons.token("user", b"42").decode()
    assert of('{"user_id": 42}') == f'{{"user_id": "{token}"}}'
    assert of("{'user_id': 42}") == f"{{'user_id': '{token}'}}"
    for same in (
        '{"user": {"id": 1}}',
        '{"user_id": 4.5}',
        '{"user": null}',
        '{"user": "None"}',
        '{"user": ""}',
        '{"role": "user"}',
    ):
        assert of(same) == same


def test_a_long_run_of_quotes_takes_no_time(persons: Persons) -> None:
    """The expression is linear: nobody can send a document that keeps it busy."""
    for text in (b"\\" * 200_000, b'"user":' * 30_000, b'"user":"' + b"\\\\" * 100_000, b'"' * 200_000):
        assert len(list(persons.members(text))) <= len(text)


@pytest.mark.parametrize(
    ("text", "keep", "expected"),
    [
        ("4111 1111 1111 1111", 4, "**** **** **** 1111"),
        ("078-05-1120", 4, "***-**-1120"),
        ("jane@example.com", 0, "****@*******.***"),
        ("ab", 4, "*b"),
        ('a"b\\c', 0, "*.*.*"),
        ("Jürgen", 8, "***gen"),
    ],
)
def test_masks(text: str, keep: int, expected: str) -> None:
    """At most half stays, and no sign that a document around it could take for its own."""
    assert mask(text.encode(), keep).decode() == expected


@given(st.binary(max_size=60), st.sampled_from([What.MASK, What.REPLACE, What.PSEUDONYMISE]), st.integers(0, 8))
def test_whatever_takes_a_texts_place_may_stand_in_a_document(text: bytes, what: What, keep: int) -> None:
    made = replacement(Action(what, keep), "email", text, Pseudonyms([ONE])).decode()
    assert json.loads(f'"{made}"') == eval(f"'{made}'") == made
