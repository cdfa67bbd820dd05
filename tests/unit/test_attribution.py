"""Who pays: ordered sources, what a caller may claim and what not, mappings, patterns, defaults, tags, and the rule that decided."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from collector.batch import Position, SpanBatch
from collector.columns import DIMENSIONS, REPORT_COLUMNS, SPAN_COLUMNS, schema
from collector.component import Context
from collector.errors import ConfigError
from collector.mapping import MappingFile, read_table
from collector.otlp import decode
from processors.attribution import UNATTRIBUTED, Attribution, AttributionConfig
from tests.spans_kit import request, span

Report = Mapping[str, object]


def attribution(**options: object) -> Attribution:
    return Attribution(
        AttributionConfig.model_validate(options), Context("attribution", Path(), metrics=CollectorRegistry())
    )


def batch(
    *reports: Report,
    resources: Sequence[Mapping[str, Any]] = (),
    spans: Sequence[Mapping[str, Any]] = (),
    scopes: Sequence[Mapping[str, Any]] = (),
) -> SpanBatch:
    """A batch of one span per report, each in a request of its own. What a report does not say is null."""
    bodies = [
        request(resource=resource, scope_attributes=scope, spans=[span(attributes=attributes)])
        for _, resource, attributes, scope in zip_longest(reports, resources, spans, scopes)
    ]
    rows = [{"rank": 2, **report, "span": row} for row, report in enumerate(reports)]
    return SpanBatch(
        decode.decode(b"".join(bodies)),
        Position(1, len(reports)),
        0,
        pl.DataFrame([{}] * len(reports), schema=schema(SPAN_COLUMNS)),
        pl.DataFrame(rows, schema=schema(REPORT_COLUMNS), orient="row"),
    )


def decided(processor: Attribution, made: SpanBatch, dimension: str) -> list[tuple[str | None, str | None]]:
    """Value and rule of a dimension, per report."""
    reports = processor.process(made).reports
    return list(zip(reports[dimension], reports[f"{dimension}_rule"], strict=True))


# Sources in their order ------------------------------------------------------------------------------------------------


def test_the_first_source_that_has_a_value_decides():
    """Gateway before the resource, the resource before what the caller claims, then the default; each says its rule."""
    made = batch(
        {"gateway_team": "search", "claimed_team": "mallory"},
        {"claimed_team": "ads"},
        {"claimed_team": "ads"},
        {},
        resources=[{"team": "platform"}, {"team": "platform"}, {"team": "  "}, {}],
    )
    assert decided(attribution(), made, "team") == [
        ("search", "gateway"),
        ("platform", "resource.team"),
        ("ads", "claimed"),
        (UNATTRIBUTED, "default"),
    ]


def test_the_rank_is_the_number_of_the_rule():
    """The ledger takes the lowest rank over a call's reports: a default must lose to everything, nothing has no rank."""
    made = batch({"gateway_team": "search"}, {"claimed_team": "ads"}, {})
    reports = attribution(end_user={"from": ["gateway"], "default": ""}).process(made).reports
    assert reports["team_rank"].to_list() == [0, 2, 3]
    assert reports["end_user_rank"].to_list() == [None, None, None]
    assert reports["end_user_rule"].to_list() == [None, None, None]
    assert reports["team_rank"].dtype == pl.Int16


@pytest.mark.parametrize("column", [column.name for column in DIMENSIONS])
def test_every_dimension_has_its_three_columns(column):
    """Value, rank and rule, for a batch that says nothing at all, too."""
    reports = attribution().process(batch({}, {})).reports
    kinds = [reports[name].dtype for name in (column, f"{column}_rank", f"{column}_rule")]
    assert kinds == [pl.String(), pl.Int16(), pl.String()]


def test_nothing_is_unattributed_explicitly():
    """team, app and user are never empty: sums by them equal the total."""
    reports = attribution().process(batch({}, {"service_name": ""}, {"service_name": "unknown_service:python"})).reports
    for name in ("team", "app", "user"):
        assert reports[name].to_list() == [UNATTRIBUTED] * 3
    assert reports["tags"].to_list() == [None] * 3


def test_a_batch_without_reports_passes():
    """Spans that no dialect knows make no report."""
    made = batch({}).with_(reports=pl.DataFrame(schema=schema(REPORT_COLUMNS)))
    assert attribution().process(made) is made


# What a caller cannot do --------------------------------------------------------------------------------------------


def test_a_caller_cannot_spoof_what_the_gateway_authenticated():
    """Claims, resource attributes and span attributes of the caller lose to the gateway's identity, in every dimension."""
    made = batch(
        {
            "rank": 1, "gateway_team": "search", "gateway_user": "ann", "gateway_end_user": "eve", "gateway_key_alias": "k1",
            "claimed_team": "mallory", "claimed_user": "mallory", "claimed_app": "chat",
        },
        resources=[{"team": "mallory", "user": "mallory", "api_key": "mallory"}],
        spans=[{"metadata": '{"team_id": "mallory"}', "api_key": "mallory"}],
    )  # fmt: skip
    reports = attribution().process(made).reports
    assert reports.select("team", "user", "end_user", "api_key", "app").row(0) == ("search", "ann", "eve", "k1", "chat")
    assert set(reports.select("team_rule", "user_rule", "end_user_rule", "api_key_rule").row(0)) == {"gateway"}


def test_an_api_key_is_never_claimed():
    """No default source of the key is under the caller's control."""
    made = batch({"claimed_user": "x"}, resources=[{"api_key": "stolen"}], spans=[{"api_key": "stolen"}])
    assert decided(attribution(), made, "api_key") == [(None, None)]


# The service ----------------------------------------------------------------------------------------------------------


def test_a_gateways_own_service_is_not_the_app():
    """service.name of a gateway (rank 1) or a model server (rank 4) says nothing of who called."""
    names = [{"rank": rank, "service_name": "svc"} for rank in (0, 1, 2, 3, 4)]
    got = [value for value, _ in decided(attribution(), batch(*names), "app")]
    assert got == ["svc", UNATTRIBUTED, "svc", "svc", UNATTRIBUTED]
    only_gateway = batch({"rank": 1, "service_name": "litellm"})
    assert decided(attribution(), only_gateway, "app") == [(UNATTRIBUTED, "default")]


# Attributes and documents in them -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "attributes", "expected"),
    [
        ("span.team", {"team": "a"}, "a"),
        ("span.team", {"team": 7}, "7"),
        ("span.team", {"team": True}, "true"),
        ("span.team", {"team": "None"}, None),
        ("span.team", {"team": " a "}, "a"),
        ("span.metadata.team", {"metadata": '{"team": "a"}'}, "a"),
        ("span.metadata.team", {"metadata": "{'team': 'a', 'x': None}"}, "a"),
        ("span.metadata.team", {"metadata": "{'team': None}"}, None),
        ("span.metadata.team", {"metadata": {"team": "a"}}, "a"),
        ("span.metadata.team", {"metadata.team": "dotted", "metadata": '{"team": "a"}'}, "dotted"),
        ("span.metadata.org.team", {"metadata": '{"org": {"team": "a"}}'}, "a"),
        ("span.metadata.org.team", {"metadata": '{"org.team": "a"}'}, "a"),
        ("span.metadata.org.team", {"metadata": '{"org": "x"}'}, None),
        ("span.metadata.team", {"metadata": '{"team": 12.5}'}, "12.5"),
        ("span.metadata.team", {"metadata": '{"team": ["a", "b"]}'}, '["a", "b"]'),
        ("span.metadata.team", {"metadata": "not a document"}, None),
        ("span.metadata.team", {"metadata": "__import__('os').system('true')"}, None),
        ("span.metadata.team", {"metadata": "[" * 100_000}, None),
        ("span.metadata.team", {"metadata": '{"team": "\\ud800x"}'}, "?x"),
    ],
)
def test_a_span_attribute_or_a_place_in_its_document(source, attributes, expected):
    """Plain attributes as text; JSON and Python's repr by path, never evaluated; what means nothing is nothing."""
    processor = attribution(team={"from": [source], "default": ""})
    made = batch({}, {}, spans=[attributes, {"other": 1}])
    assert [value for value, _ in decided(processor, made, "team")] == [expected, None]


def test_resource_and_scope_attributes_reach_their_spans():
    """By owner, not by row."""
    processor = attribution(team=["resource.team"], app=["scope.app"], environment=["span.env", "resource.env"])
    made = batch(
        {}, {}, {},
        resources=[{"team": "a", "env": "prod"}, {}, {"team": "c", "env": "test"}],
        scopes=[{}, {"app": "y"}, {"app": "z"}],
        spans=[{}, {"env": "dev"}, {"env": "dev"}],
    )  # fmt: skip
    reports = processor.process(made).reports
    assert reports["team"].to_list() == ["a", UNATTRIBUTED, "c"]
    assert reports["app"].to_list() == [UNATTRIBUTED, "y", "z"]
    assert reports["environment"].to_list() == ["prod", "dev", "dev"]
    assert reports["environment_rule"].to_list() == ["resource.env", "span.env", "span.env"]


def test_both_spellings_of_the_environment():
    """The current and the older attribute of the conventions."""
    made = batch({}, {}, resources=[{"deployment.environment.name": "prod"}, {"deployment.environment": "test"}])
    assert decided(attribution(), made, "environment") == [
        ("prod", "resource.deployment.environment.name"),
        ("test", "resource.deployment.environment"),
    ]


# Patterns ------------------------------------------------------------------------------------------------------------


def test_a_pattern_takes_its_first_group_and_else_the_next_source():
    """No match is no value; patterns work on attributes and on what the gateway says."""
    processor = attribution(
        app=[{"source": "span.url.path", "pattern": "^/apps/([^/]+)/"}, "service"],
        team=[{"source": "gateway", "pattern": r"^team[-_](\w+)$"}, {"source": "gateway", "pattern": "^(org)"}],
    )
    made = batch(
        {"service_name": "svc", "gateway_team": "team-search"},
        {"service_name": "svc", "gateway_team": "organisation"},
        {"service_name": "svc", "gateway_team": "x"},
        spans=[{"url.path": "/apps/bot/run"}, {"url.path": "/other"}, {}],
    )
    assert decided(processor, made, "app") == [("bot", "span.url.path"), ("svc", "service"), ("svc", "service")]
    assert decided(processor, made, "team") == [("search", "gateway"), ("org", "gateway"), (UNATTRIBUTED, "default")]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "not a regular expression: unclosed group"),
        ("a(?=b)", "not a regular expression: look-around"),
        ("^x$", "the pattern has no group"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused(pattern, message):
    """At loading, not at the first span."""
    with pytest.raises(ValidationError, match=message):
        AttributionConfig.model_validate({"team": [{"source": "gateway", "pattern": pattern}]})


# Mappings ------------------------------------------------------------------------------------------------------------

TABLE = {"k1": {"team": "search", "cost_centre": "0042"}, "h2": {"team": "ads"}}


def test_a_mapping_by_key_alias_or_hash():
    """The alias first, then the hash; a dimension that the row lacks goes on to the next source."""
    processor = attribution(mappings=[{"by": "api_key", "table": TABLE}])
    made = batch(
        {"gateway_key_alias": "k1", "gateway_key_hash": "h1", "gateway_team": "t"},
        {"gateway_key_alias": "k2", "gateway_key_hash": "h2", "gateway_team": "t"},
        {"gateway_key_hash": "h2"},
        {"gateway_key_alias": "k3", "gateway_team": "t"},
    )
    assert decided(processor, made, "team") == [
        ("search", "mapping.api_key"),
        ("ads", "mapping.api_key"),
        ("ads", "mapping.api_key"),
        ("t", "gateway"),
    ]
    assert decided(processor, made, "cost_centre") == [("0042", "mapping.api_key"), *[(None, None)] * 3]


def test_several_mappings_are_asked_in_order():
    """Each is a rule of its own, by whatever it goes by."""
    processor = attribution(
        mappings=[
            {"by": "span.tenant", "table": {"t1": {"team": "tenant-team"}}},
            {"by": "user", "table": {"ann@x.com": {"team": "anns", "cost_centre": "7"}}},
            {"by": "service", "table": {"bot": {"team": "bots"}}},
        ]
    )
    made = batch(
        {"gateway_user": "ann@x.com", "service_name": "bot"},
        {"gateway_user": "ann@x.com"},
        {"service_name": "bot", "claimed_user": "ann@x.com"},
        spans=[{"tenant": "t1"}, {"tenant": "t9"}, {}],
    )
    assert decided(processor, made, "team") == [
        ("tenant-team", "mapping.span.tenant"),
        ("anns", "mapping.user"),
        ("bots", "mapping.service"),
    ]
    assert processor.process(made).reports["team_rank"].to_list() == [0, 1, 2]


def write(path: Path, text: str) -> Path:
    """A new version of a file, whose time stamp differs whatever the clock's grain."""
    path.write_text(text, encoding="utf-8")
    write.time += 1  # type: ignore[attr-defined]
    os.utime(path, (write.time, write.time))  # type: ignore[attr-defined]
    return path


write.time = 1_795_000_000  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("owners.csv", "key,team,cost_centre,note\nk1, search ,0042,x\n\nk2,,7,\n"),
        ("owners.csv", "\ufeffkey,team,cost_centre,note\r\nk1,search,0042,x\r\nk2,,7,\r\n"),
        ("owners.yaml", "k1: {team: search, cost_centre: 0042, note: x}\nk2: {team: , cost_centre: 7}\n"),
        ("owners.json", '{"k1": {"team": "search", "cost_centre": "0042", "note": "x"}, "k2": {"cost_centre": "7"}}'),
    ],
)
def test_a_table_from_a_file(name, text, tmp_path):
    """CSV, YAML or JSON; every value is the text that stands there, an empty one is none."""
    path = write(tmp_path / name, text)
    assert read_table(path) == {
        "k1": {"team": "search", "cost_centre": "0042", "note": "x"},
        "k2": {"cost_centre": "7"},
    }
    processor = attribution(mappings=[{"by": "api_key", "file": str(path)}])
    made = batch({"gateway_key_alias": "k1"}, {"gateway_key_alias": "k2"})
    assert decided(processor, made, "team") == [("search", "mapping.api_key"), (UNATTRIBUTED, "default")]


def test_a_file_is_read_again_when_it_changes(tmp_path, caplog):
    """New rows hold from the next batch; a broken file leaves the old rows in force and says so; a repaired one is read."""
    path = write(tmp_path / "owners.csv", "key,team\nk1,search\n")
    processor = attribution(mappings=[{"by": "api_key", "file": str(path)}])
    processor._files = [MappingFile(path, check_every=0)]
    made = batch({"gateway_key_alias": "k1"})

    def team() -> str | None:
        return decided(processor, made, "team")[0][0]

    assert team() == "search"
    write(path, "key,team\nk1,ads\n")
    assert team() == "ads"
    write(path, "key,team\nk1\n")
    assert team() == "ads"
    assert "owners.csv:2: expected 2 cells, got 1; the rows read before stay in force" in caplog.text
    path.unlink()
    assert team() == "ads"
    write(path, "key,team\n")
    assert team() == UNATTRIBUTED


def test_a_file_is_looked_at_once_a_second(tmp_path):
    """Not at every batch."""
    path = write(tmp_path / "owners.csv", "key,team\nk1,search\n")
    file = MappingFile(path)
    before = file.table()
    write(path, "key,team\nk1,ads\n")
    assert file.table() is before


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "key\nk1\n", "a.csv:1: expected a header line"),
        ("a.csv", "", "a.csv:1: expected a header line"),
        ("a.csv", "key,team\nk1,a\nk1,b\n", "a.csv:3: the key of this line stands in an earlier line too"),
        ("a.csv", "key,team\nk1,a,b\n", "a.csv:2: expected 2 cells, got 3"),
        ("a.yaml", "k1: [a]\n", "a.yaml:1: expected a mapping of key"),
        ("a.yaml", "k1: {team: [a]}\n", "a.yaml:1: expected a mapping of key"),
        ("a.yaml", "k1: {team: a\nk2: {}", "a.yaml:2: not YAML"),
    ],
)
def test_a_file_that_is_no_table(name, text, message, tmp_path):
    """File, line, what is wrong."""
    with pytest.raises(ConfigError, match=message):
        read_table(write(tmp_path / name, text))


def test_mapping_mistakes_are_refused(tmp_path):
    """File and table, none of them, no such file, no column that is a dimension, a key that a mapping would name."""
    other = write(tmp_path / "other.csv", "key,Team,owner\nk1,a,b\n")
    latin = tmp_path / "latin.csv"
    latin.write_bytes(b"key,team\nk,caf\xe9\n")
    for mapping, message in [
        ({"by": "api_key"}, "a file or a table, one of the two"),
        ({"by": "api_key", "file": "x.csv", "table": {}}, "a file or a table, one of the two"),
        ({"by": "api_key", "file": str(tmp_path / "no.csv")}, r"no\.csv: cannot be read: No such file or directory"),
        ({"by": "api_key", "file": str(other)}, "no column is a dimension, got Team, owner; there are team, app"),
        ({"by": "api_key", "file": str(latin)}, "not UTF-8 text"),
        ({"by": "key", "table": {}}, "not a source: .key."),
        ({"by": "api_key", "table": {"k": {"tema": "x"}}}, "tema"),
    ]:
        with pytest.raises(ValidationError, match=message):
            AttributionConfig.model_validate({"mappings": [mapping]})
    with pytest.raises(ValidationError, match="api_key cannot come from a mapping"):
        AttributionConfig.model_validate({"api_key": ["mapping"]})


# Tags ----------------------------------------------------------------------------------------------------------------


def test_tags_of_all_sources_together():
    """Claimed lists, arrays, JSON and comma-separated texts; sorted, each once; none is null."""
    processor = attribution(tags=["claimed", "span.tags", "resource.tags"])
    made = batch(
        {"claimed_tags": ["b", "a", "b"]},
        {"claimed_tags": ["x"]},
        {},
        {},
        {"claimed_tags": []},
        resources=[{"tags": "r, a"}, {}, {}, {}, {}],
        spans=[{}, {"tags": ["z", "y"]}, {"tags": '["q", 5]'}, {"tags": " , "}, {"other": 1}],
    )
    got = processor.process(made).reports["tags"].to_list()
    assert got == [["a", "b", "r"], ["x", "y", "z"], ["5", "q"], None, None]


# Against a slow oracle -----------------------------------------------------------------------------------------------

TEXT = st.sampled_from([None, "a", "b"])
REPORT = st.fixed_dictionaries(
    {
        "rank": st.sampled_from([0, 1, 2]),
        "service_name": TEXT,
        "gateway_team": TEXT,
        "gateway_org": TEXT,
        "gateway_user": TEXT,
        "claimed_team": TEXT,
        "claimed_user": TEXT,
        "claimed_app": TEXT,
        "gateway_key_alias": st.sampled_from([None, "k1", "k9"]),
        "gateway_key_hash": st.sampled_from([None, "h2"]),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(REPORT, st.sampled_from([{}, {"team": "r"}])), min_size=1, max_size=8))
def test_columns_decide_as_single_reports_do(drawn):
    """The batch's columns, with their shortcuts, equal a plain walk over the sources, report by report."""
    reports, resources = [report for report, _ in drawn], [resource for _, resource in drawn]
    processor = attribution(mappings=[{"by": "api_key", "table": TABLE}])
    made = processor.process(batch(*reports, resources=resources)).reports
    for row, (report, resource) in enumerate(drawn):
        owner = TABLE.get(report["gateway_key_alias"] or "") or TABLE.get(report["gateway_key_hash"] or "") or {}
        team = [
            owner.get("team"),
            report["gateway_team"] or report["gateway_org"],
            resource.get("team"),
            report["claimed_team"],
        ]
        own_service = report["service_name"] if report["rank"] != 1 else None
        for name, values in {
            "team": [*team, UNATTRIBUTED],
            "app": [None, report["claimed_app"], None, own_service, UNATTRIBUTED],
            "user": [None, report["gateway_user"], report["claimed_user"], UNATTRIBUTED],
            "cost_centre": [owner.get("cost_centre")],
            "api_key": [report["gateway_key_alias"] or report["gateway_key_hash"]],
        }.items():
            rank = next((i for i, value in enumerate(values) if value is not None), None)
            assert made[f"{name}_rank"][row] == rank
            assert made[name][row] == (None if rank is None else values[rank])
