"""Texts in, hits out: what the tests of the scanner and the report share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from processors.redaction.detector import Detector, load_detectors
from processors.redaction.scanner import Scanner

#: All that need nothing but this package; also those that are off by default.
DETECTORS = tuple(detector for detector in load_detectors() if not detector.entities)


class Hit(NamedTuple):
    """Bytes start : end of a text."""

    detector: str
    start: int
    end: int


@cache
def scanner(engine: Literal["hyperscan", "re2"] = "hyperscan") -> Scanner:
    """Of all detectors: compiled once for all tests."""
    return Scanner(DETECTORS, engine)


def scan(texts: Sequence[bytes], by: Scanner | None = None) -> list[list[Hit]]:
    """The hits of each text; none may be unscannable."""
    found, failed = scan_all(texts, by)
    assert not failed.any()
    return found


def scan_all(texts: Sequence[bytes], by: Scanner | None = None) -> tuple[list[list[Hit]], np.ndarray]:
    """The hits of each text, and which could not be scanned."""
    by = by or scanner()
    size = np.array([len(text) for text in texts], np.int32)
    off = np.cumsum(size, dtype=np.int64) - size
    hits, failed = by.scan(np.frombuffer(b"".join(texts) or b" ", np.uint8), off, size)
    found: list[list[Hit]] = [[] for _ in texts]
    for row, start, end, number in zip(*(column.tolist() for column in hits), strict=True):
        found[row].append(Hit(by.detectors[number].id, start, end))
    return found, failed


def one(text: str, detectors: Sequence[Detector]) -> list[str]:
    """What a scanner of these detectors finds in one text."""
    data = text.encode()
    return [data[hit.start : hit.end].decode() for hit in scan([data], Scanner(detectors))[0]]
