"""`python -m benchmarks.redaction`: how fast the scanner of the redaction is, beside engines that are given the same patterns.

CPU time of one thread, in this process: the median of a few rounds in which all take turns.

scanner      what redaction runs: equal texts once, first look by Hyperscan, verdict by RE2, exact checks
without      the same where there is no wheel of Hyperscan
hyperscan    Hyperscan alone, over the texts joined: all first looks in one pass, nothing is decided
re2, re      every pattern over every text, no checks: what a redactor does that holds a list of patterns
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.payloads import CONTENT, LEAN, TEXT, Requests, Shape
from collector.otlp.decode import decode
from processors.redaction.detector import load_detectors
from processors.redaction.engines import HyperscanEngine
from processors.redaction.patterns import compiled
from processors.redaction.scanner import Scanner

SEED = 20_260_801
#: What a slow engine is given of the texts: its time grows with them and no faster.
_SLOW_SHARE = {"re2": 20, "re": 100}


@dataclass(frozen=True, slots=True)
class Texts:
    """texts = data[off:off + size]; `spans` they came from, 0 where they are no spans' attributes."""

    name: str
    data: np.ndarray
    off: np.ndarray
    size: np.ndarray
    spans: int = 0

    @property
    def total(self) -> int:
        """Bytes of all texts."""
        return int(self.size.sum())

    def share(self, part: int) -> Texts:
        """Every part-th text."""
        return Texts(self.name, self.data, self.off[::part].copy(), self.size[::part].copy(), -(-self.spans // part))

    def each(self) -> list[bytes]:
        return [
            self.data[at : at + size].tobytes() for at, size in zip(self.off.tolist(), self.size.tolist(), strict=True)
        ]


def texts(name: str, values: Sequence[str]) -> Texts:
    encoded = [value.encode() for value in values]
    size = np.array([len(value) for value in encoded], np.int32)
    return Texts(name, np.frombuffer(b"".join(encoded), np.uint8), np.cumsum(size, dtype=np.int64) - size, size)


def attributes(name: str, shape: Shape, spans: int) -> Texts:
    """All strings among the attributes of a request's spans."""
    body = Requests(shape, spans).next()
    table = decode(body).attributes
    strings = table.type == 1
    return Texts(name, np.frombuffer(body, np.uint8), table.value.off[strings], table.value.len[strings], spans)


def workloads() -> list[Texts]:
    chance = random.Random(SEED)
    words = TEXT.split()
    prose = [" ".join(chance.choice(words) for _ in range(700)) for _ in range(1000)]
    logs = [
        json.dumps(
            {
                "ts": f"2026-08-01T12:{chance.randint(0, 59):02d}:45.{chance.randint(0, 999):03d}Z",
                "request_id": str(uuid.UUID(int=chance.getrandbits(128))),
                "trace": f"{chance.getrandbits(128):032x}",
                "latency_ms": chance.random() * 1000,
                "message": " ".join(chance.choice(words) for _ in range(20)),
            }
        )
        for _ in range(6000)
    ]
    found = [
        f"{' '.join(chance.choice(words) for _ in range(60))}, write to user{number}@example.com or call +49 30 {chance.randint(100000, 999999)}, "
        f"card 4111 1111 1111 1111, ssn {chance.randint(100, 599)}-{chance.randint(10, 99)}-{chance.randint(1000, 9999)}"
        for number in range(3000)
    ]
    return [
        texts("prose, 4 kB each", prose),
        texts("JSON logs with ids", logs),
        attributes("lean spans", LEAN, 2000),
        attributes("content spans", CONTENT, 2000),
        texts("four hits per 0.5 kB", found),
    ]


def candidates() -> dict[str, Callable[[Texts], object]]:
    """What is measured, by name: each goes over the texts once."""
    detectors = [detector for detector in load_detectors() if detector.default]
    expressions = [expression for detector in detectors for expression in detector.expressions]
    by_hyperscan, by_re2 = Scanner(detectors, "hyperscan"), Scanner(detectors, "re2")
    looks = HyperscanEngine(list(dict.fromkeys(expression.trigger for expression in expressions)))
    re2s = [compiled(expression.pattern) for expression in expressions]
    res = [_python(expression.pattern) for expression in expressions]

    def alone(given: Texts) -> None:
        each = given.each()
        joined = np.frombuffer(b"\n".join(each) + b"\n", np.uint8)
        looks.look(joined, np.concatenate([[0], np.cumsum([len(text) + 1 for text in each])]))

    return {
        "scanner": lambda given: by_hyperscan.scan(given.data, given.off, given.size),
        "without": lambda given: by_re2.scan(given.data, given.off, given.size),
        "hyperscan": alone,
        "re2": lambda given: [list(regexp.finditer(text)) for text in given.each() for regexp in re2s],
        "re": lambda given: [list(regexp.finditer(text.decode())) for text in given.each() for regexp in res],
    }


def _python(pattern: str) -> re.Pattern[str]:
    """The same for Python, which spells characters by number and classes of letters in its own way."""
    pattern = re.sub(
        r"\\x\{(\w+)\}", lambda found: f"\\u{int(found[1], 16):04x}", pattern.replace(r"[\p{L}]", r"[^\W\d_]")
    )
    return re.compile(pattern.replace(r"\u10ffff", r"\U0010ffff"), re.ASCII)


def measure(rounds: int) -> dict[tuple[str, str], tuple[float, float]]:
    """By text and candidate: MB/s, and µs per span (0 for no spans)."""
    running, given = candidates(), workloads()
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):  # the first one warms up
        for load in given:
            for name, run in running.items():
                part = load.share(_SLOW_SHARE.get(name, 1))
                start = time.thread_time()
                run(part)
                taken = time.thread_time() - start
                if number:
                    seconds.setdefault((load.name, name), []).append(taken / part.total)
    result = {}
    for load in given:
        for name in running:
            per_byte = statistics.median(seconds[load.name, name])
            per_span = per_byte * load.total / load.spans * 1e6 if load.spans else 0.0
            result[load.name, name] = (1e-6 / per_byte, per_span)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redaction", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (default 5)")
    results = measure(parser.parse_args().rounds)
    names = list(dict.fromkeys(name for _, name in results))
    table = Table("texts", *(f"{name}\nMB/s" for name in names), "scanner\nµs per span", title="Redaction: scanning")
    for column in table.columns[1:]:
        column.justify = "right"
    for load in dict.fromkeys(load for load, _ in results):
        per_span = results[load, "scanner"][1]
        table.add_row(
            load, *(f"{results[load, name][0]:,.3g}" for name in names), f"{per_span:.2f}" if per_span else ""
        )
    Console().print(table)


if __name__ == "__main__":
    main()
