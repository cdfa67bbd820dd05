"""What was done at gateways, line by line: the audit, and the memory of who holds whom.

A line is written, and on disk, before a gateway is asked (`begun`) and after it has answered (`done`). So a step that a crash cut
off is known when it is taken again, and a block of ours is told from one that somebody else made before.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Whom:
    """A team or key at a gateway, by the ledger's name of it."""

    gateway: str
    what: str  # team, api_key
    name: str


@dataclass(slots=True)
class Held:
    """What is known of one that is held. `before`: whether it was blocked already when we first came."""

    before: bool
    findings: set[str] = field(default_factory=set)


class Journal:
    """One file, appended to. For one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held: dict[Whom, Held] = {}
        self._over: set[tuple[Whom, str]] = set()  # findings that hold nobody any more
        self._file: Any = None

    def open(self) -> None:
        """Read what was written. A line that a crash cut off is taken away."""
        if self._file is not None:
            return
        whole = 0
        if self.path.exists():
            for line in self.path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break
                self._take(json.loads(line))
                whole += len(line)
        self._file = self.path.open("ab")
        os.chmod(self.path, 0o600)
        self._file.truncate(whole)

    def write(self, whom: Whom, finding: str, action: str, state: str, **more: Any) -> None:
        """Add a line. Raises `OSError` where the disk does not take it."""
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"), "gateway": whom.gateway, "action": action, "state": state,
            "what": whom.what, "name": whom.name, "finding": finding, **more,
        }  # fmt: skip
        self._file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._take(line)

    def is_over(self, whom: Whom, finding: str) -> bool:
        """Whether a finding has let go already, or came too late to hold."""
        return (whom, finding) in self._over

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _take(self, line: dict[str, Any]) -> None:
        whom, finding = Whom(line["gateway"], line["what"], line["name"]), line["finding"]
        if line["action"] == "block" and line["state"] == "begun":
            self.held.setdefault(whom, Held(bool(line.get("before"))))
        elif line["action"] == "block" and line["state"] == "done":
            self.held.setdefault(whom, Held(False)).findings.add(finding)
        elif line["state"] == "failed":
            if whom in self.held and not self.held[whom].findings:
                del self.held[whom]  # what was so before is asked again next time
        elif line["state"] in ("done", "passed over"):
            self._over.add((whom, finding))
            held = self.held.get(whom)
            if held is not None:
                held.findings.discard(finding)
                if not held.findings:
                    del self.held[whom]
