"""Hostile OTLP bodies against the kernels, protobuf's own parser being the judge.

    python -m tests.fuzz --minutes 10

The captures are changed again and again (`otlp_mutations.py`), and for each body what is taken, refused and read is compared
with what protobuf says. Then the same in a second process in which an access out of bounds cannot go unnoticed:
NUMBA_BOUNDSCHECK=1 for arrays, and bodies that end where a page begins that nobody may read. A failing body is written
to a file, by which `--replay FILE` repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gzip
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np

from collector.errors import Malformed
from collector.otlp import checking, encode, gather, logs, messages, strings, warmup
from collector.otlp.decode import read
from collector.otlp.tables import Owner
from collector.signals import Signal
from processors.redaction.views import needs_quotes, views
from tests.otlp_mutations import mutate
from tests.otlp_oracle import agree, parse
from tests.strings_oracle import rewritten, survives

CAPTURES = Path(__file__).parent / "captures"
_PAGE = mmap.PAGESIZE


def seeds(signal: Signal = Signal.TRACES) -> list[bytes]:
    """The captures' requests of a signal, and some of their spans in requests of their own."""
    bodies = []
    for path in sorted(CAPTURES.glob(f"*/*-{signal}.pb*")):
        body = path.read_bytes()
        bodies.append(gzip.decompress(body) if path.suffix == ".gz" else body)
    single = []
    for body in bodies if signal is Signal.TRACES else ():
        request = parse(body)
        for resource_spans in request.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                for span in list(scope_spans.spans)[:5]:
                    small = type(request)()
                    group = small.resource_spans.add(resource=resource_spans.resource)
                    group.scope_spans.add(scope=scope_spans.scope, spans=[span])
                    single.append(small.SerializeToString())
    return [body for body in bodies + single if len(body) < 30_000]


def bodies(random: Random, signal: Signal = Signal.TRACES) -> Iterator[bytes]:
    """Changed captures, and changes of what came out before."""
    pool = seeds(signal)
    kept = list(pool)
    while True:
        body = mutate(random, random.choice(kept), signal)
        if len(body) < 40_000:
            if random.random() < 0.05:
                kept.append(body)
            if len(kept) > 2 * len(pool):
                del kept[random.randrange(len(pool), len(kept))]
            yield body


def mixed(random: Random) -> Iterator[tuple[Signal, bytes]]:
    """`bodies` of all signals, in turn."""
    streams = [(signal, bodies(random, signal)) for signal in Signal]
    while True:
        for signal, stream in streams:
            yield signal, next(stream)


def fuzz(seconds: float, seed: int, failures: Path) -> tuple[int, int]:
    """How many bodies were tried, and how many of them were taken."""
    random, end = Random(seed), time.monotonic() + seconds
    tried = taken = 0
    for signal, body in mixed(random):
        try:
            taken += agree(body, signal)
            survives(signal, body)
        except BaseException:
            path = failures / f"fuzz-{seed}-{tried}-{signal}.pb"
            path.write_bytes(body)
            print(f"seed {seed}, body {tried}: {path}", file=sys.stderr)
            raise
        tried += 1
        if time.monotonic() > end:
            break
    return tried, taken


class Fenced:
    """Memory whose last byte is followed, and whose first one is preceded, by a page that must not be touched."""

    def __init__(self, size: int) -> None:
        self._pages = -(-size // _PAGE) + 2
        self._map = mmap.mmap(-1, self._pages * _PAGE)
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        libc = ctypes.CDLL(None, use_errno=True)
        for page in (0, self._pages - 1):
            address = ctypes.c_void_p(self._start + page * _PAGE)
            if libc.mprotect(address, ctypes.c_size_t(_PAGE), 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")

    def holding(self, body: bytes, *, at_end: bool) -> np.ndarray:
        """The bytes as an array that ends, or begins, at the fence."""
        at = (self._pages - 1) * _PAGE - len(body) if at_end else _PAGE
        array = np.frombuffer(self._map, np.uint8, len(body), at)
        array[:] = np.frombuffer(body, np.uint8)
        array.flags.writeable = False
        return array


def fuzz_fenced(seconds: float, seed: int) -> int:
    """Checking and reading of bodies, checked or not, between fences. An access outside of them ends the process."""
    random, end = Random(seed), time.monotonic() + seconds
    fence, tried = Fenced(1 << 17), 0
    for signal, body in mixed(random):
        array = fence.holding(body, at_end=random.random() < 0.8)
        counts, most = np.zeros(messages.TYPES, np.int64), np.full(messages.TYPES, 1 << 40, np.int64)
        checking.check(array, messages.REQUESTS[signal], most, 64, counts)
        tried += 1
        with contextlib.suppress(Malformed):
            leaves = strings.strings(signal, array)
            some = np.array([row for row in range(len(leaves)) if random.random() < 0.2], np.int32)
            rewritten(array, leaves, replaced=some, blob=array, at=leaves.off[some], size=leaves.size[some])
            rewritten(array, leaves, dropped=some[::2], removed=some[1::2])
            _search(array, leaves)
        if signal is Signal.LOGS:
            with contextlib.suppress(Malformed):
                decoded = logs.read(array)
                gather.value_texts(decoded, decoded.records.body), gather.attribute_maps(decoded, Owner.RECORD)
                gather.hex_ids(decoded, decoded.records.trace_id), gather.texts(decoded, decoded.records.event_name)
        if signal is not Signal.TRACES:
            continue
        try:
            traces = read(array)
        except Malformed:
            continue
        rows = np.arange(len(traces.attributes.key), dtype=np.int32)
        with contextlib.suppress(UnicodeDecodeError):  # of texts that `check` would have repaired
            gather.codes(traces, rows)
        gather.strings(traces, rows), gather.integers(traces, rows)
        for owner in Owner:
            gather.attribute_maps(traces, owner)
        for text in (traces.spans.name, traces.spans.status_message, traces.links.trace_id, traces.events.name):
            gather.texts(traces, text), gather.hex_ids(traces, text), gather.hash64(traces, text)
        with contextlib.suppress(ValueError):  # of lengths that `check` would have shortened
            encode.encode(traces, removed={key: np.ones(len(traces), np.bool_) for key in traces.keys[:2]})
        if time.monotonic() > end:
            break
    return tried


def _search(array: np.ndarray, leaves: strings.Strings) -> None:
    """The views of all texts, and ways back from all of each."""
    texts = np.flatnonzero(leaves.size > 0)
    off, size = leaves.off[texts], leaves.size[texts]
    found = views(array, off, size)
    view = np.flatnonzero(found.size > 0).astype(np.int32)
    found.to_raw(view, np.zeros(len(view), np.int32), found.size[view])
    found.to_raw(view, found.size[view] - 1, found.size[view])
    every = np.arange(len(texts), dtype=np.int32)
    needs_quotes(array, off, size, every, size // 2, size)


def fenced_process(seconds: float, seed: int) -> subprocess.CompletedProcess[str]:
    """`fuzz_fenced` in a process of its own with NUMBA_BOUNDSCHECK=1; its cache of kernels is its own, too."""
    cache = Path(tempfile.gettempdir()) / f"spanledger-boundscheck-{os.getuid()}"
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "tests.fuzz", "--fenced", "--minutes", str(seconds / 60), "--seed", str(seed)]
    return subprocess.run(
        command, env=environment, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--fenced", action="store_true", help="only the second process's part")
    options = parser.parse_args()
    if options.replay:
        signal = next((signal for signal in Signal if f"-{signal}" in options.replay.name), Signal.TRACES)
        body = options.replay.read_bytes()
        print("taken" if agree(body, signal) and survives(signal, body) else "refused")
        return
    warmup.warm()
    if options.fenced:
        print(f"fenced, seed {options.seed}: {fuzz_fenced(options.minutes * 60, options.seed)} bodies")
        return
    tried, taken = fuzz(options.minutes * 40, options.seed, Path.cwd())
    print(f"seed {options.seed}: {tried} bodies, {taken} taken, {tried - taken} refused, protobuf agrees on each")
    done = fenced_process(options.minutes * 20, options.seed)
    print(done.stdout.strip(), done.stderr[-2000:])
    sys.exit(f"the fenced process ended with {done.returncode}" if done.returncode else 0)


if __name__ == "__main__":
    main()
