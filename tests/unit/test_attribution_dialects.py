"""From a gateway's spans to the team that pays: what its dialect trusts decides, whatever the caller wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prometheus_client import CollectorRegistry

from collector.batch import Position, SpanBatch
from collector.columns import SPAN_COLUMNS, schema
from collector.component import Context
from collector.dialects import normalise
from collector.otlp import decode
from processors.attribution import UNATTRIBUTED, Attribution, AttributionConfig
from tests.spans_kit import request, span

LITELLM_V1 = {
    "gen_ai.operation.name": "acompletion", "llm.request.type": "acompletion", "litellm.call_id": "c1",
    "gen_ai.request.model": "gpt-4o-mini", "gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 7,
}  # fmt: skip
LITELLM_V2 = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini",
    "litellm.call_id": "c2", "litellm.call_type": "acompletion", "gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 7,
}  # fmt: skip


def report(attributes: dict[str, Any], resource: dict[str, Any], **options: object) -> dict[str, Any]:
    """The one report that a LiteLLM span gives, normalised and attributed."""
    body = request(resource={"service.name": "litellm", **resource}, scope="litellm", version="1.106.2",
                   spans=[span("litellm_request", attributes, kind="client")])  # fmt: skip
    traces = decode.decode(body)
    batch = SpanBatch(traces, Position(1, 1), 0, pl.DataFrame([{}], schema=schema(SPAN_COLUMNS)))
    processor = Attribution(AttributionConfig.model_validate(options), Context("a", Path(), CollectorRegistry()))
    reports = processor.process(normalise(batch)).reports
    assert len(reports) == 1
    return reports.row(0, named=True)


@pytest.mark.parametrize(
    "spoof",
    [
        {"metadata.team_id": "mallory", "metadata.user_id": "mallory", "metadata.team_alias": "mallory"},
        {"metadata.requester_metadata": "{'team_id': 'mallory', 'user_api_key_team_id': 'mallory'}"},
        {"metadata.requester_metadata": '{"user_api_key_team_alias": "mallory", "user_api_key_user_id": "mallory"}'},
        {"metadata": '{"user_api_key_team_id": "mallory"}', "team": "mallory", "team_id": "mallory"},
        {"gen_ai.request.user": "mallory", "enduser.id": "mallory", "user.id": "mallory"},
    ],
    ids=["metadata", "repr", "json", "blob", "user"],
)
def test_a_caller_of_litellm_cannot_spend_for_another_team(spoof):
    """metadata.user_api_key_* is the proxy's own; metadata.team_id and everything else of the caller's is not."""
    trusted = {
        "metadata.user_api_key_team_id": "t1", "metadata.user_api_key_team_alias": "search",
        "metadata.user_api_key_user_id": "ann", "metadata.user_api_key_alias": "search-prod", "metadata.user_api_key_hash": "88dc",
    }  # fmt: skip
    got = report({**LITELLM_V1, **trusted, **spoof}, {"team": "mallory"})
    assert (got["team"], got["user"], got["api_key"]) == ("search", "ann", "search-prod")
    assert {got["team_rule"], got["user_rule"], got["api_key_rule"]} == {"gateway"}


def test_the_second_instrumentation_of_litellm():
    """litellm.team.* and litellm.metadata.user_api_key_* are trusted."""
    trusted = {
        "litellm.team.id": "t1", "litellm.team.alias": "search", "litellm.api_key.hash": "88dc",
        "litellm.metadata.user_api_key_alias": "search-prod", "litellm.metadata.user_api_key_user_id": "ann",
    }  # fmt: skip
    got = report({**LITELLM_V2, **trusted, "litellm.metadata.team_id": "mallory"}, {"team": "mallory"})
    assert (got["team"], got["user"], got["api_key"]) == ("search", "ann", "search-prod")


def test_a_mapping_goes_by_the_authenticated_key_only():
    """A caller that writes another key's alias into its metadata gets nothing of that key's owner."""
    mapping = [
        {
            "by": "api_key",
            "table": {"ceo-key": {"team": "board"}, "search-prod": {"team": "search", "cost_centre": "0042"}},
        }
    ]
    mine = report({**LITELLM_V1, "metadata.user_api_key_alias": "search-prod", "metadata.api_key": "ceo-key",
                   "metadata.requester_metadata": "{'user_api_key_alias': 'ceo-key'}"}, {"api_key": "ceo-key"}, mappings=mapping)  # fmt: skip
    assert (mine["team"], mine["cost_centre"], mine["team_rule"]) == ("search", "0042", "mapping.api_key")


def test_the_proxys_own_service_is_no_app():
    """service.name of the gateway names the gateway; what nobody claims is explicit."""
    got = report(dict(LITELLM_V1), {})
    assert (got["app"], got["team"]) == (UNATTRIBUTED, UNATTRIBUTED)
