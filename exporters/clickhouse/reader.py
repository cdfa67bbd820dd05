"""Asking the embedded store without being able to do anything else.

Three layers, each of which would do for most attacks: the statement is taken apart and put together without what nobody
needs (`sql.py`); the engine's own parse of it is judged by lists of what is allowed (`allowed.py`); and it runs in a session
of its own that has `readonly = 1` and limits on time, memory and rows, none of which a session can lift again.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from exporters.clickhouse import allowed
from exporters.clickhouse.ddl import quote, text
from exporters.clickhouse.engine import Handle, Result
from exporters.clickhouse.sql import Denied, Statement, read

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one query, and of how many run at once. The rest wait `queue_seconds`, then are turned away."""

    seconds: float = 30.0
    memory_bytes: int = 2**30
    rows: int = 1_000_000
    result_bytes: int = 256 * 2**20
    statement_bytes: int = 256 * 2**10
    parallel: int = 4
    queue_seconds: float = 10.0


#: Settings that a question may bring along, and the limit of ours that each is capped by (None: any value does no harm).
_HARMLESS = frozenset({
    "date_time_input_format", "date_time_output_format", "joined_subquery_requires_alias", "join_use_nulls", "extremes",
    "group_by_use_nulls", "max_block_size", "max_threads", "prefer_column_name_to_alias", "use_query_cache", "final",
    "aggregate_functions_null_for_empty", "union_default_mode", "cast_keep_nullable", "session_timezone", "totals_mode",
    "add_http_cors_header", "log_comment", "log_queries", "any_join_distinct_right_table_keys", "join_algorithm",
    "enable_analyzer", "cast_string_to_dynamic_use_inference", "allow_experimental_analyzer", "optimize_read_in_order", "use_skip_indexes", "limit", "offset",
    "interactive_delay", "skip_unavailable_shards", "transform_null_in", "enable_optimize_predicate_expression",
})  # fmt: skip
_HARMLESS_PREFIXES = ("output_format_", "input_format_null_as_default", "format_csv_delimiter", "bool_")
_CAPPED = {
    "max_execution_time": "seconds", "max_result_rows": "rows", "max_result_bytes": "result_bytes",
    "max_memory_usage": "memory_bytes", "max_rows_to_read": None, "max_bytes_to_read": None, "max_query_size": None,
    "max_estimated_execution_time": None, "timeout_overflow_mode": None, "read_overflow_mode": None,
    "result_overflow_mode": None,
}  # fmt: skip
#: Written to a place, or reading one.
_NOT_FOR_OUTPUT = ("_schema", "_path", "_file")
_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?", re.ASCII)

#: Formats that are answered, with their content types.
FORMATS = {
    **dict.fromkeys(("JSON", "JSONCompact", "JSONStrings", "JSONCompactStrings", "JSONColumns", "JSONCompactColumns", "JSONColumnsWithMetadata", "JSONObjectEachRow"), "application/json; charset=UTF-8"),
    **dict.fromkeys(("JSONEachRow", "JSONLines", "NDJSON", "JSONStringsEachRow", "JSONCompactEachRow", "JSONCompactStringsEachRow", "JSONCompactEachRowWithNames", "JSONCompactEachRowWithNamesAndTypes"), "application/x-ndjson; charset=UTF-8"),
    **dict.fromkeys(("CSV", "CSVWithNames", "CSVWithNamesAndTypes"), "text/csv; charset=UTF-8; header=present"),
    **dict.fromkeys(("TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "TabSeparatedWithNames", "TSVWithNames", "TabSeparatedWithNamesAndTypes", "TSVWithNamesAndTypes", "TabSeparatedRawWithNames", "TSVRawWithNames"), "text/tab-separated-values; charset=UTF-8"),
    **dict.fromkeys(("Pretty", "PrettyCompact", "PrettyCompactMonoBlock", "PrettySpace", "PrettyNoEscapes", "PrettyCompactNoEscapes", "Vertical", "Values", "Markdown"), "text/plain; charset=UTF-8"),
    **dict.fromkeys(("Native", "RowBinary", "RowBinaryWithNames", "RowBinaryWithNamesAndTypes", "Arrow", "ArrowStream", "Parquet", "ORC", "Null"), "application/octet-stream"),
    "XML": "application/xml; charset=UTF-8",
}  # fmt: skip
_BY_LOWER = {name.lower(): name for name in FORMATS}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question gave. `format` is the one that was used."""

    result: Result
    format: str
    timezone: str = "UTC"

    @property
    def content_type(self) -> str:
        return FORMATS[self.format]


class Reader:
    """Read-only questions to the embedded store at `path`. Any number of threads may ask.

    The engine is opened by the first question, or shared with whoever has it open in this process.
    """

    def __init__(self, path: Path, database: str, limits: Limits | None = None, *, create: bool = True) -> None:
        self.path = path
        self.database = database
        self.limits = limits or Limits()
        self._create = create
        self._slots = threading.BoundedSemaphore(self.limits.parallel)
        self._lock = threading.Lock()
        self._base: Handle | None = None
        self._functions: allowed.Functions | None = None
        self._timezone = "UTC"

    def ask(
        self,
        sql: str,
        format_: str = "TabSeparated",
        *,
        params: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        database: str = "",
    ) -> Answer:
        """Answer one statement. Raises `Denied` for what is not allowed, `RuntimeError` for what ClickHouse says,
        `EngineError` where the store cannot be opened."""
        if len(sql.encode()) > self.limits.statement_bytes:
            raise Denied(f"the statement has more than {self.limits.statement_bytes} bytes", 62, "SYNTAX_ERROR")
        if database not in ("", "default", self.database):
            raise Denied(f"the database {database[:100]!r} is not served here", 81, "UNKNOWN_DATABASE")
        statement = read(sql)
        name = _format(statement.format or format_)
        values = dict(params or {})
        _check_names(statement, values, self.database)
        kept = self._settings({**(settings or {}), **statement.settings})
        if not self._slots.acquire(timeout=self.limits.queue_seconds):
            raise Denied("too many questions at once: try again", 202, "TOO_MANY_SIMULTANEOUS_QUERIES")
        try:
            functions = self._open()
            with self._session(kept) as session:
                tree = session.run(f"EXPLAIN AST {statement.sql}", "TSVRaw", values).body.decode(errors="replace")
                allowed.judge(tree, functions, self.database)
                return Answer(_in_order(session.run(statement.sql, name, values)), name, self._timezone)
        finally:
            self._slots.release()

    def close(self) -> None:
        """Let go of the engine."""
        with self._lock:
            if self._base is not None:
                self._base.close()
                self._base = None

    def _open(self) -> allowed.Functions:
        """Have the engine up. Raises `EngineError`."""
        with self._lock:
            if self._base is None:
                self._base = Handle(self.path, create=self._create)
            if self._functions is None:
                functions = self._base.query(
                    "SELECT name, alias_to, categories, toString(is_aggregate) FROM system.functions"
                )
                self._timezone = self._base.query("SELECT timezone()").strip()
                tables = self._base.query("SELECT name FROM system.table_functions")
                rows = (tuple(line.split("\t")) for line in functions.splitlines())
                self._functions = allowed.Functions.of(((a, b, c, d) for a, b, c, d in rows), tables.splitlines())
            return self._functions

    @contextmanager
    def _session(self, settings: Mapping[str, str]) -> Iterator[Handle]:
        """A session that can only read. What a question leaves behind in it goes with it."""
        session = Handle(self.path, create=self._create)
        try:
            with suppress(RuntimeError):  # before the first batch there is no database, and no table to ask
                session.run(f"USE {quote(self.database)}")
            bounds = {**self._bounds(), **settings, "readonly": "1"}
            session.run("SET " + ", ".join(f"{name} = {text(value)}" for name, value in bounds.items()))
            yield session
        finally:
            session.close()

    def _bounds(self) -> dict[str, str]:
        limits = self.limits
        return {
            "max_execution_time": f"{limits.seconds:g}",
            "timeout_before_checking_execution_speed": "0",
            "max_memory_usage": str(limits.memory_bytes),
            "max_result_rows": str(limits.rows),
            "max_result_bytes": str(limits.result_bytes),
            "result_overflow_mode": "throw",
            "max_query_size": str(2 * limits.statement_bytes),
            "max_temporary_data_on_disk_size_for_query": str(2 * limits.memory_bytes),
            "allow_introspection_functions": "0",
            "allow_ddl": "0",
            "log_queries": "0",
        }

    def _settings(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """The settings that a question may have. What asks for more than the limits gets the limits."""
        kept: dict[str, str] = {}
        for name, value in wanted.items():
            if name == "readonly" and value in ("1", "2"):
                continue
            if name in _CAPPED:
                kept.update(self._capped(name, value))
            elif name in _HARMLESS or (name.startswith(_HARMLESS_PREFIXES) and not name.endswith(_NOT_FOR_OUTPUT)):
                if name == "max_threads":
                    value = str(min(int(value), 64)) if value.isdecimal() else "0"  # noqa: PLW2901
                kept[name] = value
            else:
                raise Denied(f"Cannot modify {name[:100]!r} setting in readonly mode", 164, "READONLY")
        return {name: value for name, value in kept.items() if _NAME.fullmatch(name)}

    def _capped(self, name: str, value: str) -> dict[str, str]:
        field = _CAPPED[name]
        if field is None:
            # `break` would cut an answer short without a word.
            return (
                {} if name.endswith("_mode") or name == "max_query_size" else {name: value} if value.isdecimal() else {}
            )
        limit = getattr(self.limits, field)
        try:
            asked = float(value)
        except ValueError:
            raise Denied(f"{name} is not a number: {value[:100]!r}", 72, "CANNOT_PARSE_NUMBER") from None
        return {name: f"{asked:g}" if name == "max_execution_time" else str(int(asked))} if 0 < asked < limit else {}


def _in_order(result: Result) -> Result:
    """JSON with totals in order: where there is no row, the embedded engine writes them before everything else."""
    body = result.body
    start = body.find(b'{\n\t"meta":\n') if body.startswith(b'\n\t],\n\n\t"totals":') else -1
    if start < 0:
        return result
    head, opening, rest = body[start:].partition(b'"data":\n\t[\n')
    return replace(result, body=head + opening + body[:start] + rest)


def _format(name: str) -> str:
    """The format's own spelling. Raises `Denied`."""
    known = _BY_LOWER.get(name.lower())
    if known is None:
        raise Denied(
            f"the format {name[:100]!r} is not served here; there are {', '.join(FORMATS)}", 73, "UNKNOWN_FORMAT"
        )
    return known


def _check_names(statement: Statement, values: Mapping[str, str], database: str) -> None:
    """Parameters that stand for a name must be names that could have been written there."""
    for name in statement.identifiers:
        value = values.get(name, "")
        if not _IDENTIFIER.fullmatch(value):
            raise Denied(f"the parameter {name} is not a name")
        if "." in value:
            allowed.table(value, database)
