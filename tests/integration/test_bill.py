"""The ledger is the provider's bill, whatever way the spans come: real captures, real code from decoding to pricing."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.columns import PICO_PER_USD
from tests.bill import CAPTURES, Bill, Pipeline, compare, folders, main, pipeline, requests


def spans_alone(bodies: Sequence[bytes]) -> list[bytes]:
    """Every span in a request of its own."""
    found = []
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    alone = ExportTraceServiceRequest()
                    of_resource = alone.resource_spans.add()
                    of_resource.resource.CopyFrom(resource.resource)
                    of_scope = of_resource.scope_spans.add()
                    of_scope.scope.CopyFrom(scope.scope)
                    of_scope.spans.add().CopyFrom(span)
                    found.append(alone.SerializeToString())
    return found


def in_batches(bodies: Sequence[bytes], seed: int, largest: int) -> Iterator[list[bytes]]:
    """The requests in random order, in batches of random sizes."""
    chance, left = random.Random(seed), list(bodies)
    chance.shuffle(left)
    while left:
        size = chance.randint(1, largest)
        yield left[:size]
        left = left[size:]


def is_the_bill(folder: Path, pipe: Pipeline) -> None:
    result = compare(Bill.read(folder), pipe.rows.values())
    assert result.right, result
    assert pipe.total_pico == pipe.cost_pico, "what moves by differences agrees with the rows"


def again_changes_nothing(pipe: Pipeline, bodies: Sequence[bytes]) -> None:
    rows, spans = dict(pipe.rows), pipe.spans_pico
    batch = pipe.take(bodies)
    assert batch.calls.is_empty()
    assert batch.replaced.is_empty()
    assert (pipe.rows, pipe.spans_pico) == (rows, spans)


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
@pytest.mark.parametrize("order", ["in order", "reversed", "one batch"])
def test_every_call_is_one_row_with_the_bills_tokens_and_cost(folder: Path, order: str) -> None:
    """Scenario: the requests as they came, backwards, or all at once; then all of them again."""
    bodies = requests(folder)
    with pipeline() as pipe:
        if order == "one batch":
            pipe.take(bodies)
        else:
            for body in bodies if order == "in order" else reversed(bodies):
                pipe.take([body])
        is_the_bill(folder, pipe)
        assert pipe.spans_pico <= pipe.cost_pico, "spans show no cost twice"
        again_changes_nothing(pipe, bodies)


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_spans_one_by_one_in_any_order_with_restarts(folder: Path) -> None:
    """Scenario: every span in a request of its own, shuffled, a few in a batch, with restarts in between."""
    bodies = spans_alone(requests(folder))
    for seed in (1, 2):
        with pipeline() as pipe:
            for number, batch in enumerate(in_batches(bodies, seed, largest=max(len(bodies) // 5, 1))):
                pipe.take(batch)
                if number % 3 == 2:
                    pipe.restart()
            is_the_bill(folder, pipe)
            again_changes_nothing(pipe, bodies)


def test_every_span_in_a_batch_of_its_own() -> None:
    """Scenario: the worst order: each batch holds one span, shuffled; wrappers before their calls, second reports late."""
    folder = CAPTURES / "vercel-ai"
    with pipeline() as pipe:
        for batch in in_batches(spans_alone(requests(folder)), seed=3, largest=1):
            pipe.take(batch)
        is_the_bill(folder, pipe)


def test_all_captures_mixed() -> None:
    """Scenario: all senders at once, span by span, shuffled: nothing of one becomes part of another's bill."""
    bodies = [body for folder in folders() for body in spans_alone(requests(folder))]
    with pipeline() as pipe:
        for number, batch in enumerate(in_batches(bodies, seed=4, largest=60)):
            pipe.take(batch)
            if number == 5:
                pipe.restart()
        bills = [Bill.read(folder) for folder in folders()]
        together = Bill("all", tuple(call for bill in bills for call in bill.calls), sum(bill.failed for bill in bills))
        result = compare(together, pipe.rows.values())
        assert result.right, result
        again_changes_nothing(pipe, bodies)


@pytest.mark.parametrize("name", ["litellm-v1", "litellm-v2"])
def test_litellm_proxy_without_a_bill(name: str) -> None:
    """Scenario: a proxy with teams and keys. 24 priced calls, each once, and per team and model what genai-prices asks
    for their usage."""
    bodies = requests(CAPTURES / name)
    with pipeline() as pipe:
        for body in bodies:
            pipe.take([body])
        priced = [row for row in pipe.rows.values() if row["cost_pico"] is not None]
        assert len(priced) == 24
        assert len({row["team"] for row in priced}) > 1
        expected: defaultdict[tuple[str, str], int] = defaultdict(int)
        found: defaultdict[tuple[str, str], int] = defaultdict(int)
        for row in priced:
            place = (row["team"], row["upstream_model"])
            found[place] += row["cost_pico"]
            expected[place] += _by_the_book(row)
        assert found == expected
        again_changes_nothing(pipe, bodies)
        shuffled = dict(found)
    with pipeline() as pipe:
        for batch in in_batches(spans_alone(bodies), seed=5, largest=30):
            pipe.take(batch)
        sums: defaultdict[tuple[str, str], int] = defaultdict(int)
        for row in pipe.rows.values():
            if row["cost_pico"] is not None:
                sums[row["team"], row["upstream_model"]] += row["cost_pico"]
        assert sums == shuffled


def _by_the_book(row: dict[str, Any]) -> int:
    usage = Usage(
        input_tokens=row["input_tokens"], output_tokens=row["output_tokens"], cache_read_tokens=row["cache_read_tokens"]
    )
    provider, _, model = row["upstream_model"].rpartition("/")
    price = calc_price(usage, model_ref=model, provider_id=provider or row["provider"])
    return int(price.total_price * PICO_PER_USD)


def test_the_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Scenario: `make bill`: one line a capture, a sentence, and an exit code that a script can use."""
    assert main([str(CAPTURES / "openai-v2")]) == 0
    shown = capsys.readouterr().out
    assert "openai-v2" in shown
    assert "to the last digit" in shown
