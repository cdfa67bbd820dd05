"""Dashboards for Grafana, made by code: `make grafana` writes them to deploy/grafana/dashboards.

| Module | What it has |
| --- | --- |
| query | SQL for Grafana's ClickHouse data source, PromQL, drop-downs |
| panels | the kinds of panels, units and digits |
| page | what all dashboards have |
| overview, teams, models, routing, latency, privacy, findings, trace, pipeline | one dashboard each |
"""

from __future__ import annotations

import json

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from spanledger.grafana import findings, latency, models, overview, pipeline, privacy, routing, teams, trace

BOARDS = {
    module.__name__.rpartition(".")[2]: module
    for module in (overview, teams, models, routing, latency, privacy, findings, trace, pipeline)
}


def _built(builder: Builder[Dashboard]) -> Dashboard:
    """The dashboard with its panels numbered, which links to single panels and alerts need."""
    board = builder.build()
    for number, panel in enumerate(board.panels or [], 1):
        panel.id_val = number
    return board


def render() -> dict[str, str]:
    """Every dashboard's JSON by its file name."""
    return {
        f"{name}.json": json.dumps(_built(board.build()), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for name, board in BOARDS.items()
    }  # fmt: skip
