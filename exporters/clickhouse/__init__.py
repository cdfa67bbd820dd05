"""ClickHouse, embedded or on a server: where spans, calls and hourly sums go, and how they are asked for."""

from exporters.clickhouse.config import ClickHouseConfig
from exporters.clickhouse.exporter import ClickHouse

__all__ = ["ClickHouse", "ClickHouseConfig"]
