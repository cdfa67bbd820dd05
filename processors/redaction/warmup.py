"""Everything of redaction that is compiled, run once on requests made up for it: ahead of the first batch."""

from __future__ import annotations

import numpy as np
import polars as pl

from collector.otlp import decode
from collector.signals import Signal
from processors.redaction.parts import Parts

_TEXT = b"Write to warm@example.com about 4111 1111 1111 1111."
_DOCUMENT = rb'{"user": "warm", "a": "x\nwarm@example.com", "n": 4111111111111111, "d": "{\"b\": \"\u0040\"}"}'
#: More different texts than count as repeating.
_ROWS = 300


def warm(parts: Parts) -> None:
    """Redact what has something of everything: hits in texts, documents, numbers, keys and bytes, and nothing to find."""
    values = [
        _field(1, _TEXT), _field(1, _DOCUMENT), _field(7, _TEXT), b"\x18" + _varint(4111111111111111), b"\x18\x05",
        _field(5, _field(1, _field(1, _TEXT))), _field(1, b"plain"),
    ]  # fmt: skip
    keys = [b"note", b"gen_ai.prompt", b"bytes", b"card", b"n", b"list", b"user.id", b"customer.ssn"]
    pairs = [_field(1, key) + _field(2, value) for key, value in zip(keys, [*values, values[0]], strict=True)]
    pairs.append(_field(1, b"warm@example.com") + _field(2, values[-1]))
    span = _field(1, bytes(16)) + _field(2, bytes(8)) + _field(5, b"warm") + b"".join(_field(9, pair) for pair in pairs)
    span += _field(11, _field(2, b"gen_ai.user.message") + _field(3, pairs[0]))
    record = _field(5, values[0]) + _field(12, b"gen_ai.user.message") + b"".join(_field(6, pair) for pair in pairs)
    metric = _field(1, b"warm") + _field(7, _field(1, b"".join(_field(7, pair) for pair in pairs)))
    for signal, item in ((Signal.TRACES, span), (Signal.LOGS, record), (Signal.METRICS, metric)):
        data = np.frombuffer(_field(1, _field(2, _field(2, item))), np.uint8)
        parts.engine.redact(signal, data, decode.read(data) if signal is Signal.TRACES else None)
    # Where only texts are exchanged, tables are moved instead of read anew.
    data = np.frombuffer(_field(1, _field(2, _field(2, span[: 2 + 16 + 2 + 8] + _field(9, pairs[0])))), np.uint8)
    traces = decode.read(data)
    parts.engine.redact(Signal.TRACES, data, traces).decoded(traces)
    texts = [f"warm-{number}" for number in range(_ROWS)]
    lists = pl.Series("tags", [[text] for text in texts], dtype=pl.List(pl.String()))
    frame = pl.DataFrame(
        {"response_id": texts, "team": [_TEXT.decode(), *texts[1:]], "user": texts, "provider": "openai"}
    )
    parts.columns.redact([frame.with_columns(lists)])


def _field(number: int, payload: bytes) -> bytes:
    """A field of wire type 2."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)
