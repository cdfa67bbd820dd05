"""Texts that repeat, as a dictionary array: each distinct text once, a byte a row.

A column engine keeps a text as a view of 16 bytes. Equal views are equal texts, so the rows are numbered by their views
and no text is read, but for the few distinct ones.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

#: More distinct texts than this are no dictionary.
MOST = 250
_SLOTS = 1024


def coded(texts: pa.Array) -> pa.DictionaryArray | None:
    """A string_view array as a dictionary of large_string, null where it is null; None where too many of them differ."""
    views = np.frombuffer(texts.buffers()[1], dtype=np.int64).reshape(-1, 2)[texts.offset : texts.offset + len(texts)]
    codes, firsts = np.empty(len(texts), dtype=np.uint8), np.empty(MOST, dtype=np.int64)
    count = _number(views, codes, firsts, np.zeros(_SLOTS, dtype=np.int64))
    if count < 0:
        return None
    mask = None
    if texts.null_count:
        mask = np.asarray(texts.is_null().to_numpy(zero_copy_only=False))
        # A null may stand first under a view that a text has too: the dictionary must hold the text.
        for number in np.flatnonzero(mask[firsts[:count]]):
            rows = np.flatnonzero((codes == number) & ~mask)
            if len(rows):
                firsts[number] = rows[0]
    distinct = [texts[int(row)].as_py() or "" for row in firsts[:count]]
    if len(set(distinct)) < count:  # one text in several places
        numbers = {text: number for number, text in enumerate(dict.fromkeys(distinct))}
        codes = np.array([numbers[text] for text in distinct], dtype=np.uint8)[codes]
        distinct = list(numbers)
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=mask), pa.array(distinct, pa.large_string()))


@njit(cache=True, nogil=True)
def _number(views: I64, codes: U8, firsts: I64, slots: I64) -> int:
    """Number the distinct views [rows, 2] in `codes`, their first rows in `firsts`; -1: more than there is room for.

    slots: zeroes, a power of two of them; each becomes a number + 1.
    """
    count, last = 0, -1
    last0, last1 = np.int64(0), np.int64(0)
    for i in range(len(views)):
        a, b = views[i, 0], views[i, 1]
        if last >= 0 and a == last0 and b == last1:
            codes[i] = last
            continue
        mixed = (np.uint64(a) ^ (np.uint64(b) >> np.uint64(29)) ^ np.uint64(b)) * np.uint64(0xFF51AFD7ED558CCD)
        at = np.int64((mixed >> np.uint64(40)) & np.uint64(len(slots) - 1))
        while slots[at] != 0:
            row = firsts[slots[at] - 1]
            if views[row, 0] == a and views[row, 1] == b:
                break
            at = (at + 1) & (len(slots) - 1)
        if slots[at] == 0:
            if count == len(firsts):
                return -1
            firsts[count] = i
            count += 1
            slots[at] = count
        last0, last1, last = a, b, slots[at] - 1
        codes[i] = last
    return count
