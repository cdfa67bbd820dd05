"""The dashboards in deploy/grafana: they are what the code makes, each panel's SQL runs through the read-only gate over what
the demo's gateway sends and gives the columns that the panel draws, and each Prometheus expression names metrics that exist."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.findings import Evidence, Resolution, Severity, State
from config.loader import loads
from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.exporter import ClickHouse
from exporters.clickhouse.reader import Reader
from processors.routing import Routing, RoutingConfig
from spanledger.demo.calls import Gateway
from spanledger.demo.spans import requests
from spanledger.grafana import render
from spanledger.grafana.__main__ import FOLDER, main
from spanledger.service import Service
from tests.bill import pipeline
from tests.findings_kit import finding
from tests.grafana_kit import Period, dashboards, expand, panels, targets, variables
from tests.integration.clickhouse_matrix import log_batch
from tests.ledger_rows import context
from tests.redaction_kit import redaction
from tests.signals_kit import logs, record
from tests.spans_kit import request, span

BOARDS = dashboards()
CLICKHOUSE, PROMETHEUS = "grafana-clickhouse-datasource", "prometheus"
SQL = [(name, panel, target) for name, board in BOARDS.items() for panel, target in targets(board, CLICKHOUSE)]
SQL_IDS = [f"{name}-{panel['title']}" for name, panel, _ in SQL]
PROMQL = [(name, panel, target) for name, board in BOARDS.items() for panel, target in targets(board, PROMETHEUS)]
NUMBER = re.compile(r"(Nullable\()?(U?Int\d+|Float\d+)\)?")
TEXT = re.compile(r"(LowCardinality\()?(Nullable\()?(String|Enum.*)\)*")
MOMENT = re.compile(r"(Nullable\()?Date(Time(64)?)?(\(.*\))?\)?")
#: What Grafana's trace view cannot do without.
TRACE = {"traceID", "spanID", "parentSpanID", "serviceName", "operationName", "startTime", "duration", "tags", "serviceTags"}  # fmt: skip
NOW = datetime.datetime.now(datetime.UTC)
PERIOD = Period(NOW - datetime.timedelta(days=2), NOW + datetime.timedelta(minutes=1), 3600)
CALLS = 1200


class Store:
    """The embedded store, filled; `trace` is in it."""

    def __init__(self, reader: Reader, trace: str) -> None:
        self._reader, self.trace = reader, trace

    def ask(self, sql: str) -> tuple[list[tuple[str, str]], list[list[Any]]]:
        """Columns with their types, and rows."""
        answer = json.loads(self._reader.ask(sql, "JSONCompact").result.body)
        return [(column["name"], column["type"]) for column in answer["meta"]], answer["data"]

    def panel(self, board: str, target: dict[str, Any], **chosen: tuple[str, ...]) -> Any:
        """A panel's answer with these variables chosen and the others as they stand at first."""
        values = {**variables(BOARDS[board]), "trace": (self.trace,), **chosen}
        return self.ask(expand(target["rawSql"], values, PERIOD))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Four days of the demo, twice as long as what the dashboards are asked for, with findings and logs."""
    folder = tmp_path_factory.mktemp("grafana")
    config = ClickHouseConfig.model_validate({"dsn": f"chdb://{folder / 'clickhouse'}"})
    exporter = ClickHouse(config, context(folder))
    exporter.start()
    gateway, now = Gateway(7), round(NOW.timestamp() * 1e9)
    drawn = [gateway.call(now - int(gateway.random.random() * 4 * 86400e9)) for _ in range(CALLS)]
    bodies = [body for body, _ in requests(drawn, gateway.random)]
    # What the demo has none of: a model that refuses.
    refused = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4.1",
        "gen_ai.response.finish_reasons": ["content_filter"],
    }
    bodies.append(request(scope="app", spans=[span("chat", refused, kind="client", start_ns=now - 60 * 10**9)]))
    hidden = redaction(folder)
    policy = {"routes": [{"match": {"app": "support-bot"}, "route_to": "gpt-4o-mini"}]}
    routing = Routing(RoutingConfig.model_validate(policy), context(folder, "routing"))
    with pipeline(hidden, lambda: [routing]) as pipe:
        batch = pipe.take(bodies)
        dearest = max(pipe.rows.values(), key=lambda row: row["cost_pico"] or 0)
    evidence = (Evidence(dearest["trace_id"], dearest["span_id"]),)
    seen: dict[str, Any] = {"first_seen_ns": now - 10**12, "last_seen_ns": now, "evidence": evidence}
    noticed = (
        finding(**seen),
        finding(id="cd" * 16, severity=Severity.CRITICAL, **seen),
        finding(id="ef" * 16, state=State.RESOLVED, resolved_ns=now, resolution=Resolution.RECOVERED, **seen),
    )
    for payload in exporter.encode(batch.with_(findings=noticed, received_ns=now)):
        exporter.send(payload)
    said = record(trace_id=bytes.fromhex(dearest["trace_id"]), time_unix_nano=now)
    for payload in exporter.encode_requests(log_batch(logs(said))):
        exporter.send(payload)
    reader = Reader(folder / "clickhouse", "spanledger")
    yield Store(reader, dearest["trace_id"])
    reader.close()
    exporter.close()
    hidden.close()


def test_the_committed_dashboards_are_what_the_code_makes(tmp_path: Path) -> None:
    (tmp_path / "gone.json").write_text("{}")
    main(tmp_path)
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert made == render()
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert committed == made, "deploy/grafana/dashboards is stale: run `make grafana`"


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_says_what_it_is_and_where_its_figure_comes_from(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == f"spanledger-{name}"
    shown = list(panels(board))
    assert [panel["id"] for panel in board["panels"]] == list(range(1, len(board["panels"]) + 1))
    for panel in shown:
        assert panel["title"]
        assert re.search(r"From (llm|otel)_|spanledger_", panel["description"]), panel["title"]
        if panel["type"] in ("stat", "timeseries", "bargauge"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    titles = [(panel["title"], panel["type"]) for panel in shown]
    assert len(set(titles)) == len(titles)
    declared = set(variables(board))
    used = {word for word in re.findall(r"\$\{?([a-z]\w*)", json.dumps(board)) if not word.startswith("__")}
    assert used <= declared, "a variable that the dashboard does not have"
    for path in re.findall(r"/d/spanledger-(\w+)\?", json.dumps(board)):
        assert path in BOARDS, "a link that leads nowhere"


@pytest.mark.parametrize(("name", "panel", "target"), SQL, ids=SQL_IDS)
def test_each_panels_sql_gives_what_the_panel_draws(name: str, panel: Any, target: Any, store: Store) -> None:
    columns, rows = store.panel(name, target)
    types = dict(columns)
    assert rows, "the demo has data for every panel"
    named = {override["matcher"]["options"] for override in panel.get("fieldConfig", {}).get("overrides", ())}
    linked = set(re.findall(r"__data\.fields\.(\w+)", json.dumps(panel)))
    assert named | linked <= set(types)
    if target["format"] == 3:
        assert set(types) >= TRACE
        return
    for kind in types.values():
        assert any(pattern.fullmatch(kind) for pattern in (NUMBER, TEXT, MOMENT)), f"Grafana cannot draw a {kind}"
    numbers = [column for column, kind in columns if NUMBER.fullmatch(kind)]
    texts = [column for column, kind in columns if TEXT.fullmatch(kind)]
    assert any(row[at] is not None for row in rows for at, (column, _) in enumerate(columns) if column in numbers) or not numbers  # fmt: skip
    if target["format"] == 0:
        assert columns[0][0] == "time"
        assert types["time"].startswith("DateTime")
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
        assert texts == (["series"] if "displayName" in panel["fieldConfig"]["defaults"] else texts)
        assert len(numbers) == 1
        assert len({(row[0], row[1]) for row in rows}) == len(rows), "two values of one series at one time"
    elif panel["type"] == "stat":
        assert (len(rows), len(columns), len(numbers)) == (1, 1, 1)
    elif panel["type"] == "bargauge":
        assert [len(texts), len(numbers)] == [1, 1]


@pytest.mark.parametrize(("name", "panel", "target"), SQL, ids=SQL_IDS)
def test_each_panels_sql_takes_any_choice(name: str, panel: Any, target: Any, store: Store) -> None:
    """Chosen values reach the engine quoted, whatever they are; a choice that fits nothing gives no row or one of zeros."""
    wanted = {
        one["name"]: ("Support", "it's \"O'Neil\"") for one in BOARDS[name]["templating"]["list"] if one.get("multi")
    }
    _, rows = store.panel(name, target, **wanted)
    if wanted and name != "pipeline":
        assert panel["type"] == "stat" or not rows


def test_what_a_drop_down_offers_can_be_chosen(store: Store) -> None:
    """Each value of each drop-down is some row's, the one that stands for rows without a value too."""
    counted = {"overview": "Calls", "privacy": "Who sends what to whom", "findings": "New findings by kind"}  # fmt: skip
    offers: dict[tuple[str, str], set[str]] = {}
    for name, title in counted.items():
        target = next(target for board, panel, target in SQL if (board, panel["title"]) == (name, title))
        for one in BOARDS[name]["templating"]["list"]:
            if one["type"] == "query":
                _, offered = store.ask(expand(one["query"]["rawSql"], variables(BOARDS[name]), PERIOD))
                values = offers[name, one["name"]] = {value for (value,) in offered}
                assert values, one["name"]
                # The hourly sums know apps that sent nothing of interest to redaction.
                if name != "privacy" or one["name"] == "detector":
                    for value in values:
                        assert store.panel(name, target, **{one["name"]: (value,)})[1], (one["name"], value)
    assert {"Support", "(unattributed)"} <= offers["overview", "team"]


def test_the_trend_can_be_stacked_by_every_dimension_and_adds_up_to_the_spend(store: Store) -> None:
    by = next(one for one in BOARDS["overview"]["templating"]["list"] if one["name"] == "by")
    found = {panel["title"]: target for board, panel, target in SQL if board == "overview"}
    _, ((spend,),) = store.panel("overview", found["Spend"])
    stacks = {}
    for dimension in by["query"].split(","):
        _, rows = store.panel("overview", found["Spend by ${by}"], by=(dimension,))
        assert sum(row[2] for row in rows) == pytest.approx(spend, abs=1e-9)
        stacks[dimension] = {row[1] for row in rows}
        assert len(stacks[dimension]) <= 11
    assert {"Support", "(unattributed)"} <= stacks["Team"]
    assert "(all others)" in stacks["User"]


def test_figures_are_those_of_the_ledger(store: Store) -> None:
    found = {(board, panel["title"]): target for board, panel, target in SQL}
    hours = f"Hour >= toStartOfHour(toDateTime({int(PERIOD.start.timestamp())}), 'UTC')"
    _, ((spend, calls, unpriced),) = store.ask(f"SELECT toFloat64(sum(CostUSD)), sum(Calls), sum(UnpricedCalls) FROM llm_costs_hourly WHERE {hours}")  # fmt: skip
    for (board, title), wanted in {
        ("overview", "Spend"): spend,
        ("teams", "Spend"): spend,
        ("teams", "Calls"): calls,
        ("overview", "Calls without a price"): unpriced,
        ("models", "Calls without a price"): unpriced,
    }.items():
        assert store.panel(board, found[board, title])[1] == [[pytest.approx(wanted)]]
    _, rows = store.panel("overview", found["overview", "Teams by spend"])
    assert sum(row[1] for row in rows) == pytest.approx(spend)
    _, teamless = store.panel("overview", found["overview", "Spend of nobody"])
    assert teamless == [[pytest.approx({row[0]: row[1] for row in rows}["(unattributed)"])]]
    _, ((projected,),) = store.panel("overview", found["overview", "Projected month"])
    assert projected > spend * 1e-9


def _series(tmp_path: Path) -> dict[str, set[str]]:
    """The names of all series that a collector with the shipped config can serve, with their labels."""
    text = (Path(__file__).parents[2] / "config" / "default.yaml").read_text(encoding="utf-8")
    service = Service(loads(text, "default.yaml", {"SPANLEDGER_DATA_DIR": str(tmp_path / "data")}))
    try:
        found: dict[str, set[str]] = {}
        for family in service.parts.metrics.collect():
            ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            labels = set(getattr(family, "_labelnames", ())) | {
                label for sample in family.samples for label in sample.labels
            }
            found |= {family.name + end: labels for end in ends}
        for metric in set(service.parts.metrics._collector_to_names):
            for name in service.parts.metrics._collector_to_names[metric]:
                if name in found:
                    found[name] |= set(getattr(metric, "_labelnames", ()))
        return found
    finally:
        service.stop(0)


def test_every_prometheus_expression_names_metrics_and_labels_that_exist(tmp_path: Path) -> None:
    known = _series(tmp_path)
    assert PROMQL
    for name, panel, target in PROMQL:
        used = set(re.findall(r"\bspanledger_\w+", target["expr"]))
        assert used, (name, panel["title"])
        assert used <= set(known), (name, panel["title"])
        labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        for by in re.findall(r"by \(([^)]*)\)", target["expr"]):
            labels |= {label.strip() for label in by.split(",")}
        assert labels <= {"instance", "le"}.union(*(known[metric] for metric in used)), (name, panel["title"])
    described = re.findall(r"spanledger_\w+[^_…\W](?!…)\b", " ".join(panel["description"] for _, panel, _ in PROMQL))
    for word in described:
        assert any(metric == word or metric.startswith(word) for metric in known), word


def test_the_provisioned_data_sources_are_those_that_the_dashboards_ask() -> None:
    folder = FOLDER.parent / "provisioning"
    sources = yaml.safe_load((folder / "datasources" / "spanledger.yaml").read_text(encoding="utf-8"))["datasources"]
    assert {source["type"] for source in sources} == {CLICKHOUSE, PROMETHEUS}
    assert {target["datasource"]["type"] for board in BOARDS.values() for kind in (CLICKHOUSE, PROMETHEUS) for _, target in targets(board, kind)} == {CLICKHOUSE, PROMETHEUS}  # fmt: skip
