"""Numbers as text: the shortest digits, in JSON's notation."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.otlp import gather
from collector.otlp.decode import decode
from tests.otlp_oracle import double_text


def rendered(*numbers: float) -> list[str]:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    for number in numbers:
        span.attributes.add(key="k").value.double_value = number
    traces = decode(request.SerializeToString())
    texts: list[str] = gather.strings(traces, np.arange(len(numbers), dtype=np.int32)).to_pylist()
    return texts


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-2.5, "-2.5"),
        (0.2, "0.2"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e-6, "0.000001"),
        (9.5e-7, "9.5e-7"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (2.2250738585072014e-308, "2.2250738585072014e-308"),
        (123456789012345680.0, "123456789012345680"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (math.nan, "NaN"),
    ],
)
def test_doubles(number: float, text: str) -> None:
    """As the OpenTelemetry Collector and JavaScript write them."""
    assert rendered(number) == [text]
    assert double_text(number) == text


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
@example([0x1010000000000000, 0x0360000000000000])
def test_doubles_of_any_bits(bits: list[int]) -> None:
    """Every double reads back as itself, in as few digits as Python's repr needs."""
    numbers = [struct.unpack("<d", struct.pack("<Q", word))[0] for word in bits]
    texts = rendered(*numbers)
    assert texts == [double_text(number) for number in numbers]
    for number, text in zip(numbers, texts, strict=True):
        assert math.isnan(number) or float(text) == number


def test_powers_of_two_and_their_neighbours() -> None:
    """Where the doubles above are twice as far apart as those below, the nearest decimal need not be the shortest one."""
    powers = [math.ldexp(1.0, exponent) for exponent in range(-1074, 1024)]
    numbers = [n for power in powers for n in (math.nextafter(power, 0), power, math.nextafter(power, math.inf))]
    assert rendered(*numbers) == [double_text(number) for number in numbers]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.decimals(-10_000, 10_000, places=6).map(float), max_size=20))
def test_prices_and_durations(numbers: list[float]) -> None:
    """Short decimals take the fast way through integers."""
    assert rendered(*numbers) == [double_text(number) for number in numbers]
