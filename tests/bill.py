"""What the providers billed against what the ledger says: `python -m tests.bill [FOLDER…]`, or `make bill`.

Each folder holds OTLP requests as they came and `truth.json`, written by the provider's side. The requests go through the
real decoding, normalising, attribution, ledger and pricing, with the real state store. Every billed call must be one row
with the billed tokens, kind by kind, and the billed cost, to the last digit; what no span tells must show as unknown,
assumed or estimated; and there is no row more. Exit code 1 where that is not so.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
from prometheus_client import CollectorRegistry

from collector.batch import Position, SpanBatch
from collector.columns import PICO_PER_USD, SPAN_COLUMNS, schema
from collector.component import Context, Processor
from collector.dialects import normalise
from collector.ledger import Ledger
from collector.otlp.decode import decode
from collector.store import StateStore, open_sealer
from config.model import EncryptionConfig, LedgerConfig
from processors.attribution import Attribution, AttributionConfig
from processors.pricing import Pricing, PricingConfig
from processors.redaction import Redaction

CAPTURES = Path(__file__).parent / "captures"
PIPELINE = "traces"
#: What a row may rest on and still be the bill: no report tells another tier.
KINDS = ("uncached", "read", "write 5m", "write 1h", "output")


@dataclass(frozen=True)
class Billed:
    """One call on the bill: disjoint token kinds, and pico-dollars. `untold`: why no span lets anyone know; '' else."""

    case: str
    kinds: tuple[int, ...]
    cost_pico: int
    untold: str = ""


@dataclass(frozen=True)
class Bill:
    """What a provider billed for the requests of one folder."""

    name: str
    calls: tuple[Billed, ...]
    failed: int  # requests that were refused, and not billed

    @classmethod
    def read(cls, folder: Path) -> Bill:
        truth = json.loads((folder / "truth.json").read_text())
        untold: dict[str, str] = truth["not_in_spans"]
        calls = []
        for call in truth["calls"]:
            if not call["billed"]:
                continue
            usage = call["usage"]
            names = ("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "output")
            cost = int(Decimal(call["cost_usd"]) * PICO_PER_USD)
            calls.append(Billed(call["case"], tuple(usage[n] for n in names), cost, untold.get(call["case"], "")))
        return cls(folder.name, tuple(calls), truth["unbilled_requests_count"])


@dataclass
class Result:
    """A bill against the rows of a ledger.

    wrong: billed calls without an equal row; twice: rows that equal a billed call once more; more: rows that are none
    unknown: rows for what no span tells, shown as such; silent: such rows that look exact, or cost 0
    """

    bill: Bill
    exact: int = 0
    wrong: list[str] = field(default_factory=list)
    twice: int = 0
    more: int = 0
    unknown: int = 0
    silent: int = 0
    failed: int = 0
    ledger_pico: int = 0

    @property
    def expected_unknown(self) -> int:
        return sum(1 for call in self.bill.calls if call.untold and "no span at all" not in call.untold)

    @property
    def right(self) -> bool:
        return not (self.wrong or self.twice or self.more or self.silent) and self.unknown == self.expected_unknown


def kinds_of(row: dict[str, Any]) -> tuple[int, ...]:
    """The disjoint token kinds of a call's row, as the bill counts them."""
    read, write, hour = (row[f"cache_{name}_tokens"] or 0 for name in ("read", "write", "write_1h"))
    return ((row["input_tokens"] or 0) - read - write, read, write - hour, hour, row["output_tokens"] or 0)


def compare(bill: Bill, rows: Iterable[dict[str, Any]]) -> Result:
    """Each billed call takes one row that equals it; what is left must be failures, or openly unknown."""
    result = Result(bill)
    left: list[dict[str, Any]] = []
    wanted = Counter((call.kinds, call.cost_pico) for call in bill.calls if not call.untold)
    billed = set(wanted)
    for row in rows:
        result.ledger_pico += row["cost_pico"] or 0
        key = (kinds_of(row), row["cost_pico"])
        if wanted[key] > 0:
            wanted[key] -= 1
            result.exact += 1
        else:
            left.append(row)
    result.wrong = [c.case for c in bill.calls if not c.untold and wanted[c.kinds, c.cost_pico] > 0]
    for row in left:
        if row["price_status"] == "failed" and row["cost_pico"] is None:
            result.failed += 1
        elif (kinds_of(row), row["cost_pico"]) in billed:
            result.twice += 1
        elif result.unknown + result.silent < result.expected_unknown:
            openly = row["cost_pico"] is None or (row["cost_pico"] > 0 and row["price_assumptions"])
            result.unknown += bool(openly)
            result.silent += not openly
        else:
            result.more += 1
    return result


def requests(folder: Path) -> list[bytes]:
    """The trace requests of a capture, in the order in which they came."""
    files = sorted(folder.glob("*-traces.pb*"))
    return [gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes() for file in files]


class Pipeline:
    """Decoding to pricing as the collector does it, with its state; `rows` is what ClickHouse would show."""

    def __init__(
        self,
        store: StateStore,
        redaction: Redaction | None = None,
        more: Callable[[], Sequence[Processor[Any]]] = tuple,
    ) -> None:
        self._redaction = redaction
        self._more = more  # makes the processors behind pricing
        self.rows: dict[str, dict[str, Any]] = {}
        self.total_pico = 0  # as a counter has it that moves by `calls` minus `replaced`
        self.spans_pico = 0
        self._store = store
        self._position = 0
        self.restart()

    def restart(self) -> None:
        """A new process over the same state."""
        self.metrics = CollectorRegistry()
        context = Context("test", Path(), self.metrics)
        self._attribution = Attribution(AttributionConfig(), context)
        self._pricing = Pricing(PricingConfig(), context)
        self._ledger = Ledger(LedgerConfig(), context.metrics)
        self._processors = self._more()
        with self._store.reader() as reader:
            self._ledger.load(reader.component(PIPELINE))
            for processor in self._processors:
                processor.load(reader.component(f"{PIPELINE}/{processor.context.id}"))

    def take(self, bodies: Sequence[bytes]) -> SpanBatch:
        """One batch of these requests, up to its commit."""
        self._position += 1
        traces = decode(b"".join(bodies))
        spans = pl.DataFrame({n: pl.Series([None] * len(traces), dtype=t) for n, t in schema(SPAN_COLUMNS).items()})
        batch = normalise(SpanBatch(traces, Position(self._position, self._position), 1_795_500_000 * 10**9, spans))
        batch = self._attribution.process(batch)
        if self._redaction is not None:
            batch = self._redaction.process(batch)
        with self._store.reader() as reader:
            batch = self._ledger.merge(batch, reader.component(PIPELINE))
        batch = self._pricing.process(batch)
        for processor in self._processors:
            batch = processor.process(batch)
        batch = self._ledger.annotate(batch)
        with self._store.transaction() as transaction:
            self._ledger.save(transaction.component(PIPELINE), batch)
            for processor in self._processors:
                processor.save(transaction.component(f"{PIPELINE}/{processor.context.id}"))
        self._count(batch)
        return batch

    def _count(self, batch: SpanBatch) -> None:
        for row in batch.calls.to_dicts():
            if row["withdrawn"]:
                self.rows.pop(row["call_id"], None)
            else:
                self.rows[row["call_id"]] = row
                self.total_pico += row["cost_pico"] or 0
        self.total_pico -= batch.replaced["cost_pico"].sum()
        self.spans_pico += batch.spans["cost_pico"].sum()

    @property
    def cost_pico(self) -> int:
        return sum(row["cost_pico"] or 0 for row in self.rows.values())


@contextmanager
def pipeline(
    redaction: Redaction | None = None, more: Callable[[], Sequence[Processor[Any]]] = tuple
) -> Iterator[Pipeline]:
    """A pipeline on an empty state. In memory where that can be had: a batch of one span would wait for the disk most of all."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        store = StateStore(Path(folder) / "state", open_sealer(EncryptionConfig(), Path(folder)))
        try:
            yield Pipeline(store, redaction, more)
        finally:
            store.close()


def folders() -> list[Path]:
    """The captures with a bill."""
    return sorted(path.parent for path in CAPTURES.glob("*/truth.json"))


def check(folder: Path) -> Result:
    """One folder's requests in order against its bill."""
    with pipeline() as pipe:
        for body in requests(folder):
            pipe.take([body])
        return compare(Bill.read(folder), pipe.rows.values())


def main(arguments: Sequence[str]) -> int:
    """Print the table. Gives the exit code."""
    head = ("capture", "billed", "exact", "wrong", "missing", "twice", "more", "unknown", "silent", "failed", "billed $", "ledger $")  # fmt: skip
    lines = [head]
    results = [check(folder) for folder in (map(Path, arguments) if arguments else folders())]
    for result in results:
        bill = result.bill
        missing = sum(1 for call in bill.calls if "no span at all" in call.untold)
        unknown = f"{result.unknown} of {result.expected_unknown}"
        dollars = (sum(call.cost_pico for call in bill.calls), result.ledger_pico)
        lines.append((
            bill.name, str(len(bill.calls)), str(result.exact), str(len(result.wrong)), str(missing), str(result.twice),
            str(result.more), unknown, str(result.silent), str(result.failed), *(f"{d / PICO_PER_USD:.8f}" for d in dollars),
        ))  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        print("  ".join(text.ljust(w) if n == 0 else text.rjust(w) for n, (text, w) in enumerate(zip(line, widths, strict=True))))  # fmt: skip
    for result in results:
        if result.wrong:
            print(f"{result.bill.name}: no row equals the bill for {', '.join(result.wrong)}")
    right = all(result.right for result in results)
    print("every billed call is one row, to the last digit" if right else "NOT the bill")
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
