"""Lookup tables that people keep in a file: key → columns, read again when the file changes."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from collector.errors import ConfigError

logger = logging.getLogger(__name__)

Table = Mapping[str, Mapping[str, str]]
CHECK_EVERY_S = 1.0


def read_table(path: Path) -> Table:
    """A CSV file (header row, first column is the key) or a YAML file (key → columns) as key → column → text.

    Empty cells are left out. Raises ConfigError, with the line, when the file cannot be read as such.
    """
    try:
        if path.suffix.lower() in (".yaml", ".yml", ".json"):
            return _from_yaml(path)
        return _from_csv(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except csv.Error as error:
        raise ConfigError(f"{path}: not CSV: {error}") from error


def _from_csv(path: Path) -> Table:
    table: dict[str, dict[str, str]] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        header = [name.strip() for name in next(rows, [])]
        if len(header) < 2:
            raise ConfigError(f"{path}:1: expected a header line: the key's name, then at least one column")
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise ConfigError(f"{path}:{rows.line_num}: expected {len(header)} cells, got {len(row)}")
            key = row[0].strip()
            if key in table:
                raise ConfigError(f"{path}:{rows.line_num}: the key of this line stands in an earlier line too")
            cells = zip(header[1:], row[1:], strict=True)
            table[key] = {name: cell.strip() for name, cell in cells if cell.strip()}
    return table


def _from_yaml(path: Path) -> Table:
    try:
        # BaseLoader: every scalar is the text that stands there. A cost centre 0123 is not 83, a key `no` is not false.
        data = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)  # noqa: S506
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(f"{path}:{mark.line + 1 if mark else 1}: not YAML") from error
    table: dict[str, dict[str, str]] = {}
    for key, row in data.items() if isinstance(data, dict) else [("", None)]:
        if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
            raise ConfigError(
                f"{path}:1: expected a mapping of key → {{column: value}}{f', at {key!r}' if key else ''}"
            )
        table[key] = {name: value.strip() for name, value in row.items() if value.strip()}
    return table


class MappingFile:
    """A table in a file, looked at again every `check_every` seconds.

    A file that is gone or became unreadable leaves the rows in force that were read before, and an error in the log.
    """

    def __init__(self, path: Path, check_every: float = CHECK_EVERY_S) -> None:
        self.path = path
        self._check_every = check_every
        self._stamp = self._now()
        self._table = read_table(path)
        self._next_check = time.monotonic() + check_every

    def table(self) -> Table:
        """The rows in force; the same object as long as the file is unchanged."""
        now = time.monotonic()
        if now < self._next_check:
            return self._table
        self._next_check = now + self._check_every
        stamp = self._now()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._table = read_table(self.path)
                logger.info("%s changed: %d rows read", self.path, len(self._table))
            except ConfigError as error:
                logger.error("%s; the rows read before stay in force", error)
        return self._table

    def _now(self) -> tuple[int, int, int]:
        try:
            status = self.path.stat()
        except OSError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_size, status.st_ino)
