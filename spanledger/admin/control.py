"""Changing what a running collector holds: who may, and how its own command finds it.

Reading asks for the admin port's token, where one is set. Changing something asks for more: a key that is drawn at each
start and lies, with the address, in `admin.json` in the data directory, for its owner alone to read. Who can read that
file could change the stores themselves once the collector is stopped, so nobody gains anything. Other users of the
machine cannot read it; a page in somebody's browser neither knows it nor may send it.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "admin.json"
#: Paths below which something is changed.
CHANGES = ("/dead-letters/",)


@dataclass(frozen=True, slots=True)
class Control:
    """Where a collector's admin port is, and the key to change what it holds."""

    endpoint: str
    key: str


def new_key() -> str:
    return secrets.token_urlsafe(32)


def publish(data_dir: Path, control: Control) -> None:
    """Let who may read the data directory find the collector that runs on it."""
    target = data_dir / FILE
    temporary = target.with_name(f"{FILE}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(control), file)
    temporary.replace(target)


def withdraw(data_dir: Path) -> None:
    """No collector runs there any more. A file that a crash left behind names a port where nobody knows its key."""
    (data_dir / FILE).unlink(missing_ok=True)


def find(data_dir: Path) -> Control | None:
    """The collector that said it runs on this data; None where there is none."""
    try:
        return Control(**json.loads((data_dir / FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
