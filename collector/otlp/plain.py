"""The KeyValue that nearly all are: a key, then a value that is one text, number or flag, lengths of a byte each.

Read in one go it costs a third of reading it field by field. Senders may write it otherwise: then the general way reads it.
"""

from __future__ import annotations

import numpy as np

from collector.otlp import layout as L
from collector.otlp.compiled import kernel
from collector.otlp.raw import Int, load8, load64
from collector.otlp.wire import varint

_NO: Int = np.int64(0)
_KEY = 2  # bytes before it


@kernel
def plain_pair(data: Int, at: Int, end: Int) -> tuple[Int, Int, Int, Int, Int]:
    """Of the KeyValue data[at : end] the size of the key, which begins at at + 2, then kind, offset, size and number of the
    value, as `kernels.any_value` gives them. Kind -1: it is not plain, or not well-formed."""
    if end - at < _KEY + 4 or load8(data, at) != L.KEY_VALUE_KEY:
        return _NO, np.int64(-1), _NO, _NO, _NO
    key = load8(data, at + 1)
    value = at + _KEY + key
    # With a length below 128, which is all of its byte, the value ends with the pair, and has a tag and a byte at least.
    if (
        key >= 0x80
        or value + 4 > end
        or load8(data, value) != L.KEY_VALUE_VALUE
        or load8(data, value + 1) != end - value - 2
    ):
        return _NO, np.int64(-1), _NO, _NO, _NO
    value += 2
    field = load8(data, value)
    if field == L.ANY_STRING:
        if end - value < 0x80 + 2 and load8(data, value + 1) == end - value - 2:
            return key, np.int64(L.STRING), value + 2, end - value - 2, _NO
    elif field == L.ANY_INT or field == L.ANY_BOOL:  # noqa: PLR1714 (compiles to less)
        number, behind = varint(data, value + 1, end)
        if behind == end:
            if field == L.ANY_INT:
                return key, np.int64(L.INT), value, _NO, number
            return key, np.int64(L.BOOL), value, _NO, np.int64(number != 0)
    elif field == L.ANY_DOUBLE and value + 9 == end:
        return key, np.int64(L.DOUBLE), value, _NO, load64(data, value + 1)
    return _NO, np.int64(-1), _NO, _NO, _NO
