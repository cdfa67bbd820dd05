"""The ledger is the provider's bill, whatever way the spans come: real captures, real code from decoding to pricing."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from genai_prices import Usage, calc_price
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.columns import PICO_PER_USD
from spanledger.demo.calls import Gateway, Outcome
from spanledger.demo.spans import requests as demo_requests
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


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.name)
def test_every_span_in_a_batch_of_its_own(folder: Path) -> None:
    """Scenario: the worst order: each batch holds one span, shuffled; wrappers before their calls, second reports late."""
    bodies = spans_alone(requests(folder))
    with pipeline() as pipe:
        for batch in in_batches(bodies, seed=3, largest=1):
            pipe.take(batch)
        is_the_bill(folder, pipe)
        again_changes_nothing(pipe, bodies)


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


Place = tuple[str, str]


@pytest.mark.parametrize("largest", [0, 30, 1], ids=["as it came", "spans in small batches", "a span a batch"])
@pytest.mark.parametrize("name", ["litellm-v1", "litellm-v2"])
def test_litellm_proxy_without_a_bill(name: str, largest: int) -> None:
    """Scenario: a proxy with teams and keys. 24 priced calls, each once. Per team and model: as many calls and tokens as the
    proxy counted itself (its metrics, which are no spans), and the money that genai-prices asks for these tokens."""
    bodies = requests(CAPTURES / name)
    with pipeline() as pipe:
        batches = in_batches(spans_alone(bodies), seed=5, largest=largest) if largest else ([body] for body in bodies)
        for batch in batches:
            pipe.take(batch)
        priced = [row for row in pipe.rows.values() if row["cost_pico"] is not None]
        assert len(priced) == 24
        found: defaultdict[Place, Counter[str]] = defaultdict(Counter)
        for row in priced:
            found[row["team"], row["upstream_model"]].update(
                calls=1, input=row["input_tokens"], output=row["output_tokens"], cost_pico=row["cost_pico"]
            )
        counted = _counted_by_the_proxy(CAPTURES / name)
        assert {place: {k: n for k, n in sums.items() if k != "cost_pico"} for place, sums in found.items()} == counted
        for (team, model), sums in found.items():
            provider = {
                row["provider"] for row in priced if (row["team"], row["upstream_model"]) == (team, model)
            }.pop()
            price = calc_price(Usage(input_tokens=sums["input"], output_tokens=sums["output"]), model_ref=model, provider_id=provider)  # fmt: skip
            assert sums["cost_pico"] == int(price.total_price * PICO_PER_USD)
        again_changes_nothing(pipe, bodies)


def _counted_by_the_proxy(folder: Path) -> dict[Place, dict[str, int]]:
    """Calls, input and output tokens per team alias and model: the last of the proxy's cumulative metrics."""
    last = sorted(folder.glob("*-metrics.pb"))[-1]
    counted: defaultdict[Place, Counter[str]] = defaultdict(Counter)
    for of_resource in ExportMetricsServiceRequest.FromString(last.read_bytes()).resource_metrics:
        for metric in (metric for scope in of_resource.scope_metrics for metric in scope.metrics):
            if metric.name != "gen_ai.client.token.usage":
                continue
            for point in metric.histogram.data_points:
                said = {attribute.key: attribute.value.string_value for attribute in point.attributes}
                kind = said["gen_ai.token.type"]
                place = (said["metadata.user_api_key_team_alias"], said["gen_ai.request.model"])
                counted[place].update({kind: int(point.sum), **({"calls": point.count} if kind == "input" else {})})
    return {place: dict(sums) for place, sums in counted.items()}


@pytest.mark.parametrize("largest", [0, 1], ids=["as it came", "a span a batch"])
def test_litellm_calls_whose_own_spans_are_lost(largest: int) -> None:
    """Scenario: LiteLLM wrote its calls on spans that had ended, so that only the providers' raw answers below are left.
    What these tell is the bill, to the last digit; of the rest there is a row that says openly that nobody knows."""
    folder = CAPTURES / "litellm-v1-upstream"
    lost = [_without(body, "litellm_request") for body in requests(folder)]
    copies = sum(body.count(b"raw_gen_ai_request") for body in lost)
    with pipeline() as pipe:
        for batch in in_batches(spans_alone(lost), seed=6, largest=largest) if largest else ([body] for body in lost):
            pipe.take(batch)
        result = compare(Bill.read(folder), pipe.rows.values())
        assert (result.exact, result.twice, result.silent) == (11, 0, 0)
        untold = [row for row in pipe.rows.values() if row["price_status"] == "missing_usage"]
        assert len(untold) == copies - result.exact
        assert {row["cost_pico"] for row in untold} == {None}
        again_changes_nothing(pipe, lost)
        # The calls' own spans come after all: the rows are theirs, and nothing of the copies is left.
        pipe.take(requests(folder))
        is_the_bill(folder, pipe)


def _without(body: bytes, name: str) -> bytes:
    """A request without its spans of this name."""
    message = ExportTraceServiceRequest.FromString(body)
    for scope in (scope for resource in message.resource_spans for scope in resource.scope_spans):
        kept = [span for span in scope.spans if span.name != name]
        del scope.spans[:]
        scope.spans.extend(kept)
    return message.SerializeToString()


@pytest.mark.parametrize("largest", [0, 5, 1], ids=["one batch", "small batches", "a span a batch"])
def test_calls_that_a_gateway_refused_are_their_teams(largest: int) -> None:
    """Scenario: a guardrail blocks requests, so that the gateway makes no call; the app's own span of the failed call does
    not know its team, but where the gateway authenticated the request it does."""
    gateway = Gateway(seed=11)
    now = 1_795_500_000 * 10**9
    drawn = [gateway.call(now) for _ in range(3000)]
    blocked = [call for call in drawn if call.outcome is Outcome.BLOCKED and call.app.instrumented and call.app.key]
    others = [call for call in drawn if call.outcome is Outcome.OK][:20]
    assert len(blocked) > 5
    bodies = [body for body, _ in demo_requests([*blocked, *others], random.Random(1))]
    expected = Counter(call.app.team for call in blocked)
    with pipeline() as pipe:
        for batch in in_batches(spans_alone(bodies), seed=7, largest=largest) if largest else [bodies]:
            pipe.take(batch)
        refused = [row for row in pipe.rows.values() if row["price_status"] == "failed"]
        assert Counter(row["team"] for row in refused) == expected
        assert {row["attribution_source"].split(";")[0] for row in refused} == {"team=gateway"}
        assert sum(1 for row in pipe.rows.values() if row["price_status"] != "failed") == len(others)
        again_changes_nothing(pipe, bodies)


def test_the_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Scenario: `make bill`: one line a capture, a sentence, and an exit code that a script can use."""
    assert main([str(CAPTURES / "openai-v2")]) == 0
    shown = capsys.readouterr().out
    assert "openai-v2" in shown
    assert "to the last digit" in shown
