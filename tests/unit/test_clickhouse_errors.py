"""What ClickHouse's errors become: try again or never, in words that quote nothing of the rows."""

from __future__ import annotations

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, DataError, OperationalError

from collector.errors import Permanent, Retryable
from exporters.clickhouse.client import explain


def database_error(code: int, message: str) -> DatabaseError:
    error = DatabaseError(message)
    error.code = code
    return error


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (r"Cannot convert string 'jane\'s secret' to type Float64 (TYPE_MISMATCH)", "Cannot convert string … to type Float64 (TYPE_MISMATCH)"),
        ('Cannot parse input: expected "," before "a secret"', "Cannot parse input: expected … before …"),
        ("Cannot parse 'a secret that is cut" + "x" * 600, "Cannot parse …"),
        ("Cannot insert NULL value into a column of type UInt64", "Cannot insert NULL value into a column of type UInt64"),
    ],
)  # fmt: skip
def test_rows_that_are_refused_are_not_quoted(message: str, told: str) -> None:
    for error in (database_error(53, message), DataError(message)):
        found = explain(error, "http://store:8123/llm")
        assert isinstance(found, Permanent)
        assert str(found) == f"http://store:8123/llm refuses the rows: {told}"


def test_what_else_goes_wrong_is_tried_again_and_told_as_it_is() -> None:
    for error, told in (
        (database_error(60, "Unknown table 'otel_traces'"), "the table is missing (Unknown table 'otel_traces')"),
        (database_error(999, "Coordination::Exception 'x'"), "Coordination::Exception 'x'"),
        (OperationalError("connection refused"), "does not answer: connection refused"),
        (OSError("no route"), "does not answer: no route"),
        (
            OperationalError(
                "Error HTTPConnectionPool(host='ch', port=1): Max retries exceeded with url: /?query_id=5f (Caused by NewConnectionError(\"HTTPConnection(host='ch', port=1): Failed to establish a new connection: [Errno 111] Connection refused\")) executing HTTP request attempt 1 (http://ch:1)"
            ),
            "does not answer: Connection refused",
        ),
    ):
        found = explain(error, "http://store:8123/llm")
        assert isinstance(found, Retryable)
        assert told in str(found)
    already = Permanent("too large")
    assert explain(already, "x") is already
