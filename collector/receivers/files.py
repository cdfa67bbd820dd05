"""Noticing that a file has changed, without reading it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class Watched:
    """Files as they were when last looked at. A rename onto the name, as Kubernetes does it with secrets, is noticed."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether one of the files is another than at the last call."""
        before, self._seen = self._seen, self._look()
        return self._seen != before

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_signature(path) for path in self.paths]


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
