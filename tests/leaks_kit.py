"""Looks for texts on disk however they may lie there: as they are, in 16 bits, in base64 at any alignment, and inside what is
compressed (LZ4 and zstd frames, gzip, the blocks of ClickHouse's columns)."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import lz4.block
import lz4.frame
import zstandard

_FRAMES = (b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08")
_LARGEST = 64 * 2**20
_MULTIPLE, _LZ4, _ZSTD, _NONE = 0x91, 0x82, 0x90, 0x02
_CHECKSUM, _HEADER = 16, 9


def spellings(text: str) -> dict[str, bytes]:
    """The bytes that a text may lie as."""
    plain = text.encode()
    found = {"utf-8": plain, "utf-16-le": text.encode("utf-16-le"), "utf-16-be": text.encode("utf-16-be")}
    for shift in range(3):
        # The digits that depend on what stands before or behind are cut off.
        digits = base64.b64encode(b"\0" * shift + plain).rstrip(b"=")
        cut = 0 if not shift else shift + 1
        found[f"base64+{shift}"] = digits[cut : len(digits) - (1 if (shift + len(plain)) % 3 else 0)]
    return found


def leaks(folder: Path, texts: Iterable[str]) -> list[str]:
    """Where below a folder one of the texts lies: `file: text as spelling`."""
    wanted = [(text, how, bytes_) for text in texts for how, bytes_ in spellings(text).items()]
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            data = path.read_bytes()
        except OSError:  # ClickHouse merges parts while we look
            continue
        for where, part in [("", data), *_unpacked(data, path.suffix == ".bin")]:
            found += [f"{path.relative_to(folder)}{where}: {text} as {how}" for text, how, b in wanted if b in part]
    return found


def _unpacked(data: bytes, blocks: bool) -> Iterator[tuple[str, bytes]]:
    """Everything compressed in a file, opened."""
    for magic in _FRAMES:
        at = data.find(magic)
        while at >= 0:
            opened = _open(magic, data[at:])
            if opened:
                yield f" (frame at {at})", opened
            at = data.find(magic, at + 1)
    at = 0
    while blocks and at + _CHECKSUM + _HEADER <= len(data):
        size = int.from_bytes(data[at + _CHECKSUM + 1 : at + _CHECKSUM + 5], "little")
        block = data[at + _CHECKSUM : at + _CHECKSUM + size]
        if size < _HEADER or len(block) < size:
            break
        yield f" (block at {at})", _block(block)
        at += _CHECKSUM + size


def _open(magic: bytes, data: bytes) -> bytes:
    try:
        if magic == _FRAMES[0]:
            return lz4.frame.LZ4FrameDecompressor().decompress(data, _LARGEST)
        if magic == _FRAMES[1]:
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
        return zlib.decompressobj(31).decompress(data, _LARGEST)
    except (RuntimeError, zstandard.ZstdError, zlib.error):
        return b""


def _block(block: bytes) -> bytes:
    """A block of ClickHouse's: method, size with this header, size before compression, what is compressed. Several methods
    one after the other are undone from the last; Delta and T64 are of numbers."""
    method, size, body = block[0], int.from_bytes(block[5:9], "little"), block[_HEADER:]
    if method == _NONE:
        return body
    if method == _LZ4:
        return lz4.block.decompress(body, uncompressed_size=size)
    if method == _ZSTD:
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=size)
    if method == _MULTIPLE:
        return _block(body[1 + body[0] :]) if body else b""
    return body
