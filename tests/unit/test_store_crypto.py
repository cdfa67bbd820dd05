"""Sealing: what comes back, what is refused, where keys come from, and how they change."""

import base64
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from collector.errors import ConfigError, StoreError
from collector.store import Inbox, NullSealer, Sealer, StateStore, open_sealer
from collector.store.crypto import Damaged, key_id, key_of
from config.model import EncryptionConfig

OLD, NEW = bytes(range(32)), bytes(range(32, 64))


def config(**options: object) -> EncryptionConfig:
    return EncryptionConfig.model_validate(options)


@pytest.mark.parametrize("size", [0, 1, 1000, 65535, 65536, 1_000_000])
@pytest.mark.parametrize("sealer", [Sealer([OLD]), NullSealer()], ids=["sealed", "plain"])
def test_what_is_sealed_opens_in_its_own_context_only(sealer: Sealer, size: int) -> None:
    plain = os.urandom(size)
    sealed = sealer.seal(plain, b"here")
    assert sealer.open(sealed, b"here") == plain
    assert sealer.open(memoryview(sealed), b"here") == plain
    with pytest.raises(Damaged):
        sealer.open(sealed, b"there")


@pytest.mark.parametrize("sealer", [Sealer([OLD]), NullSealer()], ids=["sealed", "plain"])
def test_every_flipped_bit_and_every_cut_is_noticed(sealer: Sealer) -> None:
    sealed = bytes(sealer.seal(b"some text", b"here"))
    for bit in range(8 * len(sealed)):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Damaged):
            sealer.open(flipped, b"here")
    for length in range(len(sealed)):
        with pytest.raises(Damaged):
            sealer.open(sealed[:length], b"here")


def test_the_plain_text_does_not_show_and_no_two_records_are_alike() -> None:
    sealer = Sealer([OLD])
    records = [bytes(sealer.seal(b"the secret prompt", b"here")) for _ in range(1000)]
    assert len({record[:29] for record in records}) == 1000  # the headers, which hold the nonces
    assert not any(b"secret" in record for record in records)
    assert all(key_of(record) == key_id(OLD) for record in records)


def test_a_restart_seals_under_another_derived_key() -> None:
    first, second = Sealer([OLD]).seal(b"x", b""), Sealer([OLD]).seal(b"x", b"")
    assert first[:5] == second[:5]  # version and key
    assert first[5:21] != second[5:21]  # session
    assert Sealer([OLD]).open(first, b"") == b"x"


def test_a_forked_child_does_not_repeat_its_parents_nonces() -> None:
    sealer = Sealer([OLD])
    reader, writer = os.pipe()
    if not (child := os.fork()):
        os.write(writer, sealer.seal(b"x", b""))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 1000)
    os.close(reader)
    os.close(writer)
    assert theirs[:29] != sealer.seal(b"x", b"")[:29]
    assert sealer.open(theirs, b"") == b"x"


def test_an_old_key_opens_and_a_strange_one_does_not() -> None:
    record = Sealer([OLD]).seal(b"x", b"")
    assert Sealer([NEW, OLD]).open(record, b"") == b"x"
    assert key_of(Sealer([NEW, OLD]).seal(b"x", b"")) == key_id(NEW)
    with pytest.raises(Damaged, match=key_id(OLD).hex()):
        Sealer([NEW]).open(record, b"")


def test_encryption_may_be_switched_on_and_off() -> None:
    assert Sealer([OLD]).open(NullSealer().seal(b"x", b""), b"") == b"x"
    assert NullSealer([OLD]).open(Sealer([OLD]).seal(b"x", b""), b"") == b"x"


def test_a_key_is_made_once_for_the_owner_only(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    record = open_sealer(config(), data).seal(b"x", b"")
    assert stat.S_IMODE((data / "inbox.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert open_sealer(config(), data).open(record, b"") == b"x"
    assert os.listdir(data) == ["inbox.key"]


def test_no_key_is_made_where_none_is_needed(tmp_path: Path) -> None:
    open_sealer(config(enabled=False), tmp_path)
    open_sealer(config(key=OLD.hex()), tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        OLD.hex(),
        OLD.hex().upper(),
        base64.b64encode(OLD).decode(),
        base64.b64encode(OLD).decode().rstrip("="),
        f" {base64.urlsafe_b64encode(OLD).decode()}\n",
    ],
)
def test_a_key_is_read_as_hex_or_base64(tmp_path: Path, text: str) -> None:
    assert open_sealer(config(key=text), tmp_path).current == key_id(OLD)


@pytest.mark.parametrize(
    "text", ["", "secretsecret", OLD.hex()[:-2], "not base64!", base64.b64encode(OLD[:16]).decode()]
)
def test_what_is_no_key_is_a_config_error_that_does_not_show_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"service\.encryption\.key: .*openssl rand -base64 32") as caught:
        open_sealer(config(key=text), tmp_path)
    assert not text or text not in str(caught.value)


def test_a_key_file_holds_the_current_key_first(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# since March\n{NEW.hex()}\n\n{base64.b64encode(OLD).decode()}\n")
    sealer = open_sealer(config(key_file=str(file)), tmp_path / "data")
    assert sealer.current == key_id(NEW)
    assert sealer.known == {key_id(NEW), key_id(OLD)}


def test_key_file_mistakes_say_where(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    with pytest.raises(StoreError, match="keys: No such file"):
        open_sealer(config(key_file=str(file)), tmp_path / "data")
    file.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="keys: holds no key"):
        open_sealer(config(key_file=str(file)), tmp_path / "data")
    file.write_text(f"{OLD.hex()}\nnonsense!\n")
    with pytest.raises(ConfigError, match="keys:2: not a key"):
        open_sealer(config(key_file=str(file)), tmp_path / "data")


def test_a_made_key_stays_readable_after_one_is_configured(tmp_path: Path) -> None:
    record = open_sealer(config(), tmp_path).seal(b"x", b"")
    sealer = open_sealer(config(key=NEW.hex()), tmp_path)
    assert sealer.current == key_id(NEW)
    assert sealer.open(record, b"") == b"x"


def test_two_first_starts_agree_on_one_key(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from collector.store import open_sealer; from config.model import *;"
        "print(open_sealer(EncryptionConfig(), Path(sys.argv[1])).current.hex())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert len({process.communicate()[0] for process in started}) == 1
    assert os.listdir(tmp_path) == ["inbox.key"]


def append(inbox: Inbox, body: bytes) -> None:
    inbox.append(("traces",), body, 1, lambda error: None)
    inbox.flush()


def test_an_inbox_asks_for_a_key_until_what_it_sealed_has_gone(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, max_bytes=10**7, sealer=Sealer([OLD]))
    append(inbox, b"small")
    append(inbox, bytes(10**6))
    inbox.close()
    with pytest.raises(StoreError, match=f"(?s){key_id(OLD).hex()}.*key_file"):
        Inbox(tmp_path, max_bytes=10**7, sealer=Sealer([NEW]))
    inbox = Inbox(tmp_path, max_bytes=10**7, sealer=Sealer([NEW, OLD]))
    append(inbox, b"new")
    assert [len(entry.body) for entry in inbox.queue("traces").read(0, 10**7)] == [5, 10**6, 3]
    inbox.queue("traces").trim(2)
    inbox.close()
    inbox = Inbox(tmp_path, max_bytes=10**7, sealer=Sealer([NEW]))
    assert [entry.body for entry in inbox.queue("traces").read(0, 10**7)] == [b"new"]
    inbox.close()


@pytest.mark.parametrize("before", [Sealer([OLD]), NullSealer()], ids=["old key", "not encrypted"])
def test_the_state_is_sealed_anew_when_the_key_changes(tmp_path: Path, before: Sealer) -> None:
    values = {b"small": b"1", b"large": os.urandom(10**6), b"empty": b""}
    store = StateStore(tmp_path, before)
    with store.transaction() as transaction:
        transaction.set_position("traces", 7)
        for key, value in values.items():
            transaction.component("ledger").put(key, value)
    store.close()
    StateStore(tmp_path, Sealer([NEW, OLD])).close()
    store = StateStore(tmp_path, Sealer([NEW]))
    with store.reader() as reader:
        assert reader.position("traces") == 7
        assert dict(reader.component("ledger").items()) == values
        assert {id_ for table in (store._state, store._positions) for _, id_ in table.key_ids(reader._txn)} == {
            key_id(NEW)
        }
    store.close()
