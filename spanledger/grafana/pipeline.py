"""The pipeline itself: what comes in, what waits and for how long, what goes out, what went wrong.

What ClickHouse can tell stands first; the rest are the collector's own metrics, which a Prometheus scrapes at its admin port.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from exporters.clickhouse.schema import DELAYS
from spanledger.grafana.page import instances, page, source
from spanledger.grafana.panels import (
    ALARM,
    BYTES,
    COUNT,
    RATE,
    SECONDS,
    SHARE,
    WARN,
    Column,
    lines,
    number,
    ranking,
    stacked,
)
from spanledger.grafana.query import promql, series

_ARRIVED = "FROM otel_traces AS s WHERE $__timeFilter(s.Received)"
_TIME = "$__timeInterval(s.Received)"
_DELAYS = series(_TIME, {"median": f"{DELAYS}[1]", "p95": f"{DELAYS}[2]"}, _ARRIVED)
_BY_DIALECT = f"""
SELECT {_TIME} AS time, if(s.Dialect = '', '(no model call)', s.Dialect) AS series, count() AS value
{_ARRIVED}
GROUP BY time, series
ORDER BY time, series"""
_SENDERS = f"""
SELECT s.ServiceName AS Service, if(s.Dialect = '', '(no model call)', s.Dialect) AS Dialect, count() AS Spans, uniqExactIf(s.CallId, s.CallId != '') AS Calls,
       max(s.Received) AS LastSeen
{_ARRIVED}
GROUP BY Service, Dialect
ORDER BY Spans DESC
LIMIT 100"""
_STORES = "From otel_traces."


def _mine(metric: str) -> str:
    """The series of the chosen collectors."""
    return metric + '{instance=~"$instance"}'


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({_mine(metric)}[$__rate_interval]))"


def _grown(*metrics: str) -> str:
    """How much counters rose in the dashboard's time. A collector that lacks one counts as zero."""
    return " + ".join(f"(sum(increase({_mine(metric)}[$__range])) or vector(0))" for metric in metrics)


def _quantile(metric: str, level: float) -> str:
    return f"histogram_quantile({level}, sum by (le, pipeline) (rate({_mine(f'{metric}_bucket')}[$__rate_interval])))"


_ITEMS = ("spans", "log_records", "metric_points")
_SELF = "The collector's own metrics, by Prometheus"


def build() -> dashboard.Dashboard:
    board = page("pipeline", "pipeline", "What comes in, what waits and for how long, what goes out, what went wrong.", since="now-6h", refresh="30s")  # fmt: skip
    waiting = f"sum({_mine('spanledger_exporter_queue_size')}) / sum({_mine('spanledger_exporter_queue_capacity')})"
    return (
        board.with_variable(source("prometheus", "Prometheus", "prometheus"))
        .with_variable(instances())
        .with_row(dashboard.Row("What arrived (ClickHouse)"))
        .with_panel(number("Spans", f"That came in during the period. {_STORES}", f"SELECT count() AS Spans {_ARRIVED}", COUNT, width=6))
        .with_panel(number("Newest span", "Seconds since the newest span of the period came in, at the period's end. From otel_traces.", f"SELECT if(count() = 0, NULL, toUnixTimestamp($__toTime) - toUnixTimestamp(max(s.Received))) AS Age {_ARRIVED}", SECONDS, width=6, steps={300.0: "orange", 3600.0: "red"}, none="no span"))
        .with_panel(number("Delay, p95", f"From the end of a span to its arrival: batching and retries of senders, and clocks that differ. {_STORES}", f"SELECT {DELAYS}[2] AS Delay {_ARRIVED}", SECONDS, width=6))
        .with_panel(number("Calls reported", f"Distinct calls that the period's spans report. {_STORES}", f"SELECT uniqExactIf(s.CallId, s.CallId != '') AS Calls {_ARRIVED}", COUNT, width=6))
        .with_panel(stacked("Spans by dialect", f"How senders spell things: what each is read for stands in docs/dialects.md. {_STORES}", _BY_DIALECT, COUNT, interval="1m"))
        .with_panel(lines("Delay", f"From the end of a span to its arrival. {_STORES}", _DELAYS, SECONDS, height=9))
        .with_panel(ranking("Senders", f"Who reports, how, and when last. {_STORES}", _SENDERS, (Column("Spans", COUNT, width=110), Column("Calls", COUNT, width=110)), width=24))
        .with_row(dashboard.Row("Health (Prometheus)"))
        .with_panel(number("Collectors", f"That answer at their admin port. {_SELF}: spanledger_build.", promql(f"count({_mine('spanledger_build')}) or vector(0)"), COUNT, steps={1.0: "green"}, base="red"))
        .with_panel(number("Oldest in an inbox", f"Longest time that an accepted request has waited to be processed. {_SELF}: spanledger_pipeline_queue_oldest_seconds.", promql(f"max({_mine('spanledger_pipeline_queue_oldest_seconds')})"), SECONDS, steps={30.0: "orange", 300.0: "red"}))
        .with_panel(number("Oldest in an outbox", f"Longest time that something processed has waited to be delivered. {_SELF}: spanledger_exporter_queue_oldest_seconds.", promql(f"max({_mine('spanledger_exporter_queue_oldest_seconds')})"), SECONDS, steps={60.0: "orange", 600.0: "red"}))
        .with_panel(number("Outboxes full", f"Bytes that wait, of those that may; when one is full, senders are told to come back. {_SELF}: spanledger_exporter_queue_size.", promql(waiting), SHARE, decimals=1, steps={0.5: "orange", 0.9: "red"}))
        .with_panel(number("Dead letters", f"Requests and deliveries that wait for somebody to decide: `spanledger dead-letter list`. {_SELF}: spanledger_dead_letters.", promql(f"sum({_mine('spanledger_dead_letters')})"), COUNT, steps=ALARM))
        .with_panel(number("Refused", f"Spans, log records and data points of the period that could not be kept; their senders were told to come back. {_SELF}: spanledger_receiver_refused_….", promql(_grown(*(f"spanledger_receiver_refused_{noun}_total" for noun in _ITEMS))), COUNT, decimals=0, steps=WARN))
        .with_row(dashboard.Row("Receivers (Prometheus)"))
        .with_panel(lines("Accepted a second", f"Durable and answered OK. {_SELF}: spanledger_receiver_accepted_….", [promql(_rate(f"spanledger_receiver_accepted_{noun}_total", "receiver, transport"), f"{noun.replace('_', ' ')} {{{{receiver}}}} {{{{transport}}}}", ref) for noun, ref in zip(_ITEMS, "ABC", strict=True)], RATE))
        .with_panel(lines("Requests a second, by answer", f"gRPC or HTTP code. {_SELF}: spanledger_receiver_requests_total.", [promql(_rate("spanledger_receiver_requests_total", "transport, code"), "{{transport}} {{code}}")], RATE))
        .with_panel(lines("In flight", f"Requests that are not answered yet. {_SELF}: spanledger_receiver_in_flight_requests.", [promql(f"sum by (receiver) ({_mine('spanledger_receiver_in_flight_requests')})", "{{receiver}}")], COUNT, width=8))
        .with_panel(lines("Received", f"Bytes a second as they came, before inflating. {_SELF}: spanledger_receiver_received_bytes_total.", [promql(_rate("spanledger_receiver_received_bytes_total", "receiver, transport"), "{{receiver}} {{transport}}")], "Bps", width=8))
        .with_panel(lines("Left out and repaired, a second", f"Spans with impossible ids, strings that were not UTF-8. {_SELF}: spanledger_receiver_rejected_spans_total, spanledger_receiver_repaired_strings_total.", [promql(_rate("spanledger_receiver_rejected_spans_total", "receiver"), "spans left out {{receiver}}"), promql(_rate("spanledger_receiver_repaired_strings_total", "receiver"), "strings repaired {{receiver}}", "B")], RATE, width=8))
        .with_row(dashboard.Row("Pipelines and their inboxes (Prometheus)"))
        .with_panel(lines("Processed a second", f"Spans, log records or data points, committed. {_SELF}: spanledger_pipeline_items_total.", [promql(_rate("spanledger_pipeline_items_total", "pipeline"), "{{pipeline}}")], RATE))
        .with_panel(lines("Waiting in the inbox", f"Items that are accepted and not processed yet. {_SELF}: spanledger_pipeline_queue_items.", [promql(f"sum by (pipeline) ({_mine('spanledger_pipeline_queue_items')})", "{{pipeline}}")], COUNT))
        .with_panel(lines("Age of the oldest in the inbox", f"{_SELF}: spanledger_pipeline_queue_oldest_seconds.", [promql(f"max by (pipeline) ({_mine('spanledger_pipeline_queue_oldest_seconds')})", "{{pipeline}}")], SECONDS))
        .with_panel(lines("Time for a batch, p95", f"To process one, and to make it durable. {_SELF}: spanledger_pipeline_process_seconds, spanledger_pipeline_commit_seconds.", [promql(_quantile("spanledger_pipeline_process_seconds", 0.95), "process {{pipeline}}"), promql(_quantile("spanledger_pipeline_commit_seconds", 0.95), "commit {{pipeline}}", "B")], SECONDS))
        .with_panel(lines("Calls a second", f"By what a batch made of them: new, better, and so on. {_SELF}: spanledger_ledger_calls_total.", [promql(_rate("spanledger_ledger_calls_total", "outcome"), "{{outcome}}")], RATE))
        .with_panel(lines("Calls without a price, a second", f"By model. {_SELF}: spanledger_pricing_unpriced_calls_total.", [promql(_rate("spanledger_pricing_unpriced_calls_total", "provider, model"), "{{provider}} {{model}}")], RATE))
        .with_row(dashboard.Row("Exporters and their outboxes (Prometheus)"))
        .with_panel(lines("Delivered a second", f"Rows and spans. {_SELF}: spanledger_exporter_sent_items_total.", [promql(_rate("spanledger_exporter_sent_items_total", "exporter"), "{{exporter}}")], RATE))
        .with_panel(lines("Waiting in the outbox", f"{_SELF}: spanledger_exporter_queue_size.", [promql(f"sum by (exporter) ({_mine('spanledger_exporter_queue_size')})", "{{exporter}}")], BYTES))
        .with_panel(lines("Age of the oldest in the outbox", f"{_SELF}: spanledger_exporter_queue_oldest_seconds.", [promql(f"max by (exporter) ({_mine('spanledger_exporter_queue_oldest_seconds')})", "{{exporter}}")], SECONDS))
        .with_panel(lines("Failed attempts a second", f"Deliveries that failed and are tried again. {_SELF}: spanledger_exporter_failed_attempts_total.", [promql(_rate("spanledger_exporter_failed_attempts_total", "exporter"), "{{exporter}}")], RATE))
        .with_panel(lines("Dead letters that were made", f"In the last hour, each moment. {_SELF}: spanledger_pipeline_dead_letters_total, spanledger_exporter_dead_letters_total.", [promql(f"sum by (pipeline) (increase({_mine('spanledger_pipeline_dead_letters_total')}[1h]))", "not processed {{pipeline}}"), promql(f"sum by (exporter) (increase({_mine('spanledger_exporter_dead_letters_total')}[1h]))", "not delivered {{exporter}}", "B")], COUNT))
        .with_panel(lines("Refused by destinations, a second", f"Items that were refused in deliveries that were taken otherwise. {_SELF}: spanledger_exporter_rejected_items_total.", [promql(_rate("spanledger_exporter_rejected_items_total", "exporter"), "{{exporter}}")], RATE))
        .with_row(dashboard.Row("Process and memory (Prometheus)"))
        .with_panel(lines("CPU", f"Cores in use. {_SELF}: spanledger_process_cpu_seconds_total.", [promql(_rate("spanledger_process_cpu_seconds_total", "instance"), "{{instance}}")], COUNT, decimals=2, width=8))
        .with_panel(lines("Memory", f"{_SELF}: spanledger_process_resident_memory_bytes.", [promql(_mine("spanledger_process_resident_memory_bytes"), "{{instance}}")], BYTES, width=8))
        .with_panel(lines("The ledger's memory", f"Tables that find the reports of a call. {_SELF}: spanledger_ledger_memory_bytes.", [promql(_mine("spanledger_ledger_memory_bytes"), "{{instance}}")], BYTES, width=8))
    )  # fmt: skip
