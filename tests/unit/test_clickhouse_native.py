"""Native blocks for clients that name a protocol revision: walked column by column, whatever the types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from exporters.clickhouse.engine import Handle
from exporters.clickhouse.native import CUSTOM_SERIALIZATION, Unframed, framed, parse

TYPES = (
    "toUInt8(number)", "toInt256(number)", "toFloat32(number)", "toString(number)", "repeat('x', number * 100)", "toFixedString('ab', 5)",
    "toDate('2026-01-01')", "toDateTime64(number, 9, 'UTC')", "toDecimal32(number, 2)", "toDecimal128(number, 20)", "toDecimal256(number, 50)",
    "generateUUIDv4()", "toIPv4('1.2.3.4')", "toIPv6('::1')", "true", "NULL", "[]", "if(number % 2, NULL, number)", "if(number % 2, NULL, toString(number))",
    "range(number % 4)", "arrayMap(x -> [toString(x)], range(number % 3))", "map('a', number)", "map(toString(number), [1])", "tuple(number, 'x', [1])",
    "CAST(tuple(number, 'y'), 'Tuple(a UInt64, `b c` String)')", "toLowCardinality(toString(number % 3))", "CAST(if(number % 2, NULL, 'z'), 'LowCardinality(Nullable(String))')",
    "arrayMap(x -> toLowCardinality(toString(x)), range(number % 3))", "CAST(map('k', 'v'), 'Map(LowCardinality(String), String)')",
    "CAST('a', 'Enum8(\\'a\\' = 1, \\'b, (c\\' = 2)')", "toIntervalDay(number)", "CAST((1, 2), 'Point')", "CAST([[(1, 2)]], 'Polygon')",
    "arrayMap(x -> CAST(map('k', 'v'), 'Map(LowCardinality(String), String)'), range(number % 2))",
)  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handle]:
    handle = Handle(Path(tmp_path_factory.mktemp("native")) / "clickhouse")
    yield handle
    handle.close()


def native(engine: Handle, select: str) -> bytes:
    return engine.run(f"SELECT {select} SETTINGS max_block_size = 7", "Native").body


@pytest.mark.parametrize("expression", TYPES)
def test_a_column_of_any_type_is_walked_to_its_end(expression: str, engine: Handle) -> None:
    """A second column behind it is found only if the first one ends where it does."""
    body = native(engine, f"{expression} AS a, number AS b FROM numbers(20)")
    old, new = framed(body, 54_405), framed(body, CUSTOM_SERIALIZATION)
    blocks = body.count(b"\x01b\x06UInt64")
    assert blocks >= 1
    assert len(old) == len(body) + 8 * blocks
    assert len(new) == len(old) + 2 * blocks
    assert new.count(b"\x01b\x06UInt64\x00") == blocks
    assert old.startswith(b"\x01\x00\x02\xff\xff\xff\xff\x00\x02")
    assert framed(body, 0) == body


def test_all_types_at_once(engine: Handle) -> None:
    columns = ", ".join(f"{expression} AS c{i}" for i, expression in enumerate(TYPES))
    body = native(engine, f"{columns}, 1 AS z FROM numbers(3)")
    assert len(framed(body, CUSTOM_SERIALIZATION)) == len(body) + 8 + len(TYPES) + 1


def test_no_rows_are_still_a_block(engine: Handle) -> None:
    assert framed(b"", CUSTOM_SERIALIZATION) == b"\x01\x00\x02\xff\xff\xff\xff\x00\x00\x00"
    assert framed(native(engine, "number FROM numbers(0)"), CUSTOM_SERIALIZATION).startswith(b"\x01\x00\x02")


@pytest.mark.parametrize(
    "type_", ["JSON", "Dynamic", "Variant(UInt8, String)", "AggregateFunction(sum, UInt8)", "", "(("]
)
def test_a_type_that_cannot_be_walked_is_said(type_: str) -> None:
    with pytest.raises(Unframed):
        parse(type_)
