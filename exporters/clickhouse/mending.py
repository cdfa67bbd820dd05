"""What a kill leaves behind in the embedded store's own books, put right before the engine opens them.

ClickHouse notes an insert's token in the table's deduplication log, and then puts the part that it wrote in place. A process
that is killed in between leaves a token of rows that are not there: their repetition would be taken for a duplicate, and they
would be missing for good. So lines of the log that no part on disk stands for are taken out; then the repetition is an insert.

A log has a line for each insert, `1`, part, token, and for each part that was dropped, `2`, part, token, separated by tabs.
A part is a directory, `<partition>_<first block>_<last block>_<level>`, and merged ones span the blocks of what they were made of.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

#: What was under way when the process ended is among the newest lines; older ones were confirmed long ago.
_NEWEST = 100
_PART = re.compile(r"([^_]+)_(\d+)_(\d+)_\d+(?:_\d+)?", re.ASCII)
_LOG = re.compile(r"deduplication_log_(\d+)\.txt", re.ASCII)
_ADDED = "1"


@contextmanager
def holding(store: Path) -> Iterator[bool | None]:
    """The engine's lock on a store, if nobody has it: whether it is ours for the block. None: there is none to have, in a new
    store, or in one that was closed, where the engine takes its file away."""
    try:
        status = (store / "status").open("rb")
    except OSError:
        yield None
        return
    with status:
        try:
            fcntl.flock(status, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = False
        else:
            held = True
        yield held


def mend(store: Path) -> list[str]:
    """Take tokens of parts that are not there out of the logs of a store that nobody has open. Gives these parts' names.

    Where somebody has it open nothing is done: it was put right when they opened it. Raises `OSError`.
    """
    with holding(store) as held:
        lost = [part for table in _tables(store) for part in _mend(store, table)] if held else []
    if lost:
        logger.warning("the embedded ClickHouse was killed while it wrote %s: what it notes of them is taken back, and they are written again", ", ".join(lost))  # fmt: skip
    return lost


def _tables(store: Path) -> Iterator[Path]:
    """Directories of tables that have a log."""
    return (logs.parent for logs in sorted(store.glob("store/*/*/deduplication_logs")))


def _mend(store: Path, table: Path) -> list[str]:
    """One table: its newest log, and the one before, which is the newest that says anything right after a rotation."""
    logs = [(int(match[1]), path) for path in (table / "deduplication_logs").iterdir() if (match := _LOG.fullmatch(path.name))]  # fmt: skip
    blocks = _blocks(table)
    lost: list[str] = []
    for _, log in sorted(logs)[-2:]:
        lines = log.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)
        gone = {place for place in range(max(len(lines) - _NEWEST, 0), len(lines)) if not _stands(lines[place], blocks)}
        if gone:
            lost += [lines[place].split("\t")[1] for place in sorted(gone)]
            _replace(store, log, "".join(line for place, line in enumerate(lines) if place not in gone))
    return lost


def _blocks(table: Path) -> dict[str, list[tuple[int, int]]]:
    """First and last block of every part of a table, by partition."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for entry in os.scandir(table):
        if match := _PART.fullmatch(entry.name):
            found[match[1]].append((int(match[2]), int(match[3])))
    return found


def _stands(line: str, blocks: dict[str, list[tuple[int, int]]]) -> bool:
    """Whether a line is about rows that are there, or is none about an insert."""
    words = line.rstrip("\n").split("\t")
    part = _PART.fullmatch(words[1]) if len(words) == 3 and words[0] == _ADDED else None
    if part is None:
        return True
    first, last = int(part[2]), int(part[3])
    return any(low <= first and last <= high for low, high in blocks.get(part[1], ()))


def _replace(store: Path, log: Path, text: str) -> None:
    """In one step; the new file is made outside of the folder, in which the engine takes every file for a log."""
    made = store / "deduplication_log.new"
    with made.open("w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    made.replace(log)
