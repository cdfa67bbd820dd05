"""From tables to Arrow buffers: texts, numbers, maps. Each kernel walks rows once and copies texts as blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from collector.otlp import layout as L
from collector.otlp.compiled import kernel
from collector.otlp.raw import Int, address, copy, hash_bytes, load8, load64, store8, store64
from collector.otlp.rendering import bound, put_value
from collector.otlp.tables import I32, I64, U8, U64

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8).copy()


@kernel
def slots(owner_kind: U8, owner: I32, key: I32, kind: Int, wanted: I32, out: I32) -> None:
    """out[wanted[key], owner] = attribute row, for the attributes of one kind of owner whose key is wanted (>= 0)."""
    for row in range(len(key)):
        if owner_kind[row] == kind:
            column = wanted[key[row]]
            if column >= 0:
                out[column, owner[row]] = row


@kernel
def texts(body: U8, offset: I64, size: I32) -> tuple[I64, U8]:
    """Arrow's offsets and bytes."""
    data = address(body)
    offsets = np.empty(len(offset) + 1, np.int64)
    total = np.int64(0)
    for row in range(len(offset)):
        offsets[row] = total
        total += size[row]
    offsets[len(offset)] = total
    buffer = np.empty(total, np.uint8)
    out = address(buffer)
    for row in range(len(offset)):
        copy(out, offsets[row], data, offset[row], np.int64(size[row]))
    return offsets, buffer


@kernel
def hex_texts(body: U8, offset: I64, size: I32) -> tuple[I64, U8]:
    """Arrow's offsets and bytes of the texts in hexadecimal."""
    data = address(body)
    offsets = np.empty(len(offset) + 1, np.int64)
    total = np.int64(0)
    for row in range(len(offset)):
        offsets[row] = total
        total += 2 * np.int64(size[row])
    offsets[len(offset)] = total
    buffer = np.empty(total, np.uint8)
    out = address(buffer)
    for row in range(len(offset)):
        at, here = offsets[row], offset[row]
        end = here + size[row]
        while here + 8 <= end:  # ids are 8 or 16 bytes
            word = load64(data, here)
            store64(out, at, _eight_digits(word & 0xFFFFFFFF))
            store64(out, at + 8, _eight_digits((word >> 32) & 0xFFFFFFFF))
            here += 8
            at += 16
        while here < end:
            byte = load8(data, here)
            store8(out, at, np.int64(_HEX[byte >> 4]))
            store8(out, at + 1, np.int64(_HEX[byte & 15]))
            here += 1
            at += 2
    return offsets, buffer


@kernel
def hex_words(words: I64) -> tuple[I64, U8]:
    """Arrow's offsets and bytes of ids [words of an id, ids] in hexadecimal; zeros only are no id, and no text."""
    count, width = words.shape[1], words.shape[0]
    offsets = np.empty(count + 1, np.int64)
    buffer = np.empty(count * width * 16, np.uint8)
    out = address(buffer)
    at = np.int64(0)
    for row in range(count):
        offsets[row] = at
        some = np.int64(0)
        for place in range(width):
            some |= words[place, row]
        if some != 0:
            for place in range(width):
                word = words[place, row]
                store64(out, at, _eight_digits(word & 0xFFFFFFFF))
                store64(out, at + 8, _eight_digits((word >> 32) & 0xFFFFFFFF))
                at += 16
    offsets[count] = at
    return offsets, buffer[:at]


@kernel
def words_of(data: U8, offsets: I64, width: Int) -> I64:
    """The reverse of `hex_words`: from Arrow's offsets and bytes to the words [width, texts]; zeros where a text is no id."""
    words = np.zeros((width, len(offsets) - 1), np.int64)
    text = address(data)
    for row in range(words.shape[1]):
        at = offsets[row]
        if offsets[row + 1] - at != 16 * width:
            continue
        for place in range(width):
            low, high = _four_bytes(load64(text, at)), _four_bytes(load64(text, at + 8))
            if low < 0 or high < 0:
                words[:, row] = 0
                break
            words[place, row] = low | (high << 32)
            at += 16
    return words


@kernel
def _four_bytes(digits: Int) -> Int:
    """The reverse of `_eight_digits`; -1 for what is no digit, or a capital one."""
    numbers = (digits & 0x0F0F0F0F0F0F0F0F) + ((digits >> 6) & 0x0101010101010101) * 9
    spread = ((numbers << 4) | (numbers >> 8)) & 0x00FF00FF00FF00FF
    spread = (spread | (spread >> 8)) & 0x0000FFFF0000FFFF
    word = (spread | (spread >> 16)) & 0xFFFFFFFF
    return word if _eight_digits(word) == digits else np.int64(-1)


@kernel
def _eight_digits(word: Int) -> Int:
    """The hexadecimal digits of 4 bytes, the first byte's first, all at once: each byte of the result is one digit."""
    spread = (word | (word << 16)) & 0x0000FFFF0000FFFF
    spread = (spread | (spread << 8)) & 0x00FF00FF00FF00FF
    digits = ((spread >> 4) | (spread << 8)) & 0x0F0F0F0F0F0F0F0F
    letters = ((digits + 0x0606060606060606) >> 4) & 0x0101010101010101
    return digits + 0x3030303030303030 + letters * 39  # from "0", and from behind "9" to "a"


@kernel
def hashes(body: U8, offset: I64, size: I32) -> U64:
    """64 bits of each text, the same in every process."""
    data = address(body)
    out = np.empty(len(offset), np.uint64)
    for row in range(len(offset)):
        out[row] = np.uint64(hash_bytes(data, offset[row], np.int64(size[row]), np.int64(0)))
    return out


@kernel
def values(body: U8, type_: U8, number: I64, offset: I64, size: I32, rows: I32, buffer: U8) -> tuple[I64, U8]:
    """Arrow's offsets and bytes of the attribute rows' values as text; nothing for row -1.

    The bytes stand in `buffer`, if it is large enough.
    """
    data = address(body)
    offsets = np.empty(len(rows) + 1, np.int64)
    out = address(buffer)
    at = np.int64(0)
    for i in range(len(rows)):
        offsets[i] = at
        row = np.int64(rows[i])
        if row >= 0:
            kind, length = np.int64(type_[row]), np.int64(size[row])
            most = at + bound(kind, length)
            if most > len(buffer):
                larger = np.empty(2 * most, np.uint8)
                larger[:at] = buffer[:at]
                buffer = larger
                out = address(buffer)
            at = put_value(out, at, data, kind, number[row], offset[row], length)
    offsets[len(rows)] = at
    return offsets, buffer[:at]


@kernel
def maps(
    body: U8, type_: U8, number: I64, offset: I64, size: I32, key: I32, start: I32, end: I32, keys: int, buffer: U8
) -> tuple[I32, I32, I64, U8]:
    """For each owner its attributes: map offsets, key of each entry, and Arrow's offsets and bytes of the values.

    Of entries with one key the last one is taken, EMPTY is an empty text. The bytes stand in `buffer`, if it is large
    enough.
    """
    data = address(body)
    entry = np.int64(0)
    for owner in range(len(start)):
        entry += end[owner] - start[owner]
    owners = np.empty(len(start) + 1, np.int32)
    entries = np.empty(entry, np.int32)
    offsets = np.empty(entry + 1, np.int64)
    out = address(buffer)
    last = np.empty(keys, np.int32)
    entry, at = np.int64(0), np.int64(0)
    for owner in range(len(start)):
        owners[owner] = entry
        for row in range(start[owner], end[owner]):
            last[key[row]] = row
        for row in range(start[owner], end[owner]):
            if last[key[row]] == row:
                offsets[entry] = at
                entries[entry] = key[row]
                entry += 1
                kind, length = np.int64(type_[row]), np.int64(size[row])
                most = at + bound(kind, length)
                if most > len(buffer):
                    larger = np.empty(2 * most, np.uint8)
                    larger[:at] = buffer[:at]
                    buffer = larger
                    out = address(buffer)
                at = put_value(out, at, data, kind, number[row], offset[row], length)
    owners[len(start)] = entry
    offsets[entry] = at
    return owners, entries[:entry], offsets[: entry + 1], buffer[:at]


@kernel
def _decimal(data: Int, at: Int, size: Int) -> tuple[bool, Int]:
    """The int64 that a text of decimal digits, with or without a minus, stands for."""
    end = at + size
    negative = size > 0 and load8(data, at) == 45
    if negative:
        at += 1
    if at >= end or end - at > 19:
        return False, 0
    value = np.int64(0)  # kept below zero, where int64 reaches one further
    while at < end:
        digit = load8(data, at) - 48
        if digit < 0 or digit > 9 or value < -922337203685477580:
            return False, 0
        if value == -922337203685477580 and digit > (8 if negative else 7):
            return False, 0
        value = value * 10 - digit
        at += 1
    return True, value if negative else -value


@kernel
def integers(body: U8, type_: U8, number: I64, double: F64, offset: I64, size: I32, rows: I32) -> tuple[I64, Mask]:
    """INT; DOUBLE without a fraction, as far as int64 reaches; STRING of decimal digits. And which rows are such."""
    data = address(body)
    out = np.zeros(len(rows), np.int64)
    valid = np.zeros(len(rows), np.bool_)
    for i in range(len(rows)):
        row = np.int64(rows[i])
        if row < 0:
            continue
        kind = type_[row]
        if kind == L.INT:
            out[i], valid[i] = number[row], True
        elif kind == L.DOUBLE:
            value = double[row]
            if -9223372036854775808.0 <= value < 9223372036854775808.0 and value == np.floor(value):
                out[i], valid[i] = np.int64(value), True
        elif kind == L.STRING:
            valid[i], out[i] = _decimal(data, offset[row], np.int64(size[row]))
    return out, valid


@kernel
def doubles(type_: U8, number: I64, double: F64, rows: I32) -> tuple[F64, Mask]:
    """DOUBLE, and INT as the nearest double. And which rows are such."""
    out = np.zeros(len(rows), np.float64)
    valid = np.zeros(len(rows), np.bool_)
    for i in range(len(rows)):
        row = np.int64(rows[i])
        if row >= 0 and type_[row] == L.DOUBLE:
            out[i], valid[i] = double[row], True
        elif row >= 0 and type_[row] == L.INT:
            out[i], valid[i] = np.float64(number[row]), True
    return out, valid
