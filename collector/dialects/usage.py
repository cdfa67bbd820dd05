"""Counts in one convention: input includes what the cache took part in, output includes reasoning.

What the emitter meant is said by its dialect, or found by arithmetic, and always written down as a flag where it was not
the common convention. Nothing is clamped: what cannot be is flagged `impossible:<what>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

from collector.dialects.facts import Facts, Numbers
from collector.dialects.model import HELPERS, NUMBERS, Convention
from collector.dialects.table import Coded, Mask, distinct
from collector.otlp.tables import I64

#: More tokens than any call has: beyond it sums could leave the 64 bits.
MOST_TOKENS = 2**40
#: Operations that no provider caches: a dialect that is silent about cached tokens hides nothing there.
_UNCACHED = frozenset(
    {"embeddings", "rerank", "image_generation", "video_generation", "speech", "transcription", "translation", "moderation", "ocr", "search"}
)  # fmt: skip


class Flags:
    """Texts that hold for some of the rows, gathered as lists per row."""

    def __init__(self, rows: int) -> None:
        self._bits = np.zeros(rows, dtype=np.int64)
        self._texts: list[str] = []

    def add(self, text: str, mask: Mask) -> None:
        """The flag holds where the mask does. At most 62 flags: all come from dialect files and from here."""
        if not mask.any():
            return
        if text not in self._texts:
            self._texts.append(text)
        self._bits |= np.where(mask, np.int64(1) << self._texts.index(text), 0)

    def holds(self, prefix: str) -> Mask:
        """Rows with a flag that starts so."""
        bits = sum(1 << place for place, text in enumerate(self._texts) if text.startswith(prefix))
        found: Mask = (self._bits & np.int64(bits)) != 0
        return found

    def keep(self, mask: Mask) -> None:
        """Forget the flags of all other rows."""
        self._bits = np.where(mask, self._bits, 0)

    def coded(self) -> Coded:
        """Per row its sorted list; none where there is no flag."""
        if not self._bits.any():
            return Coded(np.full(len(self._bits), -1, dtype=np.int32), pa.array([], pa.list_(pa.large_string())))
        found, codes = distinct(self._bits, 1 << len(self._texts))
        lists = [sorted(text for place, text in enumerate(self._texts) if bits >> place & 1) for bits in found.tolist()]
        codes = np.where(found[codes] == 0, -1, codes)
        return Coded(codes.astype(np.int32), pa.array(lists, pa.list_(pa.large_string())))


def settle(facts: Facts) -> tuple[dict[str, Numbers], Coded]:
    """All counts of the rows, told or not, and the flags that say how they were understood."""
    flags = Flags(facts.rows.size)
    counts = {name: _plausible(name, facts.number(name), flags) for name in sorted(NUMBERS | HELPERS)}
    _cache_writes(counts)
    _no_input(counts)
    _input(facts, counts, flags)
    _output(facts, counts, flags)
    used = np.zeros(facts.rows.size, dtype=np.bool_)
    for name in ("input_tokens", "output_tokens"):
        numbers, told = counts[name]
        used |= told & (numbers != 0)
    _impossible(counts, flags)
    for flag in facts.dialect.flags:
        mask = used & facts.holds(flag.when)
        if flag.flag == "no_cache_counts":
            mask &= ~(counts["cache_read_tokens"][1] | counts["cache_write_tokens"][1])
            mask &= ~facts.text("operation").lookup(lambda word: word in _UNCACHED)
        flags.add(flag.flag, mask)
    flags.keep(used | flags.holds("impossible:"))
    return {name: (numbers, told & used) for name, (numbers, told) in counts.items() if name in NUMBERS}, flags.coded()


def _plausible(name: str, counted: Numbers, flags: Flags) -> Numbers:
    numbers, told = counted
    if not told.any():
        return counted
    what = name.removesuffix("_tokens")
    negative, huge = told & (numbers < 0), told & (numbers > MOST_TOKENS)
    if not (negative | huge).any():
        return counted
    flags.add(f"impossible:negative_{what}", negative)
    flags.add(f"impossible:too_large_{what}", huge)
    told = told & ~negative & ~huge
    return np.where(told, numbers, 0), told


def _cache_writes(counts: dict[str, Numbers]) -> None:
    """All writes are those of both lifetimes; the one-hour part is what is not the five-minute part."""
    (write, write_told), (hour, hour_told) = counts["cache_write_tokens"], counts["cache_write_1h_tokens"]
    short, short_told = counts["cache_write_5m_tokens"]
    both = short_told & hour_told & ~write_told
    write, write_told = np.where(both, short + hour, write), write_told | both
    rest = short_told & ~hour_told & write_told & (short <= write)
    counts["cache_write_1h_tokens"] = np.where(rest, write - short, hour), hour_told | rest
    counts["cache_write_tokens"] = write, write_told


def _no_input(counts: dict[str, Numbers]) -> None:
    """Nothing answers nothing: no input beside an output was not counted, as of a stream that names it only at its start."""
    (numbers, told), (output, _) = counts["input_tokens"], counts["output_tokens"]
    counts["input_tokens"] = numbers, told & ~((numbers == 0) & (output > 0))


def _parts(facts: Facts, conventions: Sequence[Convention]) -> list[tuple[Mask, Convention]]:
    """Which convention holds for which rows; what none is for is unclear."""
    left = np.ones(facts.rows.size, dtype=np.bool_)
    found = []
    for convention in (*conventions, Convention(part="unclear", because="unknown_emitter")):
        if not left.any():
            break
        mask = left & facts.holds(convention.when) if convention.when else left
        left = left & ~mask
        found.append((mask, convention))
    return found


def _input(facts: Facts, counts: dict[str, Numbers], flags: Flags) -> None:
    (numbers, told), (output, _) = counts["input_tokens"], counts["output_tokens"]
    (read, _), (write, _) = counts["cache_read_tokens"], counts["cache_write_tokens"]
    (total, total_told), (fresh, fresh_told) = counts["total_tokens"], counts["uncached_input_tokens"]
    cached = read + write
    added = ~told & fresh_told
    numbers, told = np.where(added, fresh + cached, numbers), told | added
    matters = told & ~added & (cached > 0)
    if matters.any():
        shown: list[tuple[str, Mask]] = [
            ("cached_exceeds_input", cached > numbers),
            ("total", total_told & (total == numbers + output + cached)),
            ("uncached_equals_input", fresh_told & (fresh == numbers)),
        ]
        inside = fresh_told & (fresh + cached == numbers)
        outside = _outside("input", facts, facts.dialect.input, matters, shown, inside, flags)
        numbers = np.where(outside, numbers + cached, numbers)
    counts["input_tokens"] = numbers, told


def _output(facts: Facts, counts: dict[str, Numbers], flags: Flags) -> None:
    (numbers, told), (spent, spent_told) = counts["output_tokens"], counts["reasoning_tokens"]
    (input_, input_told), (total, total_told) = counts["input_tokens"], counts["total_tokens"]
    rest = total - input_ - numbers
    left_out = input_told & total_told & (rest > 0) & ~spent_told
    if left_out.any():
        left_out &= _left_out(facts)
        spent, spent_told = np.where(left_out, rest, spent), spent_told | left_out
        numbers, told = np.where(left_out, numbers + rest, numbers), told | left_out
        flags.add("output_exclusive:total", left_out)
        counts["reasoning_tokens"], counts["output_tokens"] = (spent, spent_told), (numbers, told)
    matters = told & (spent > 0) & ~left_out
    if matters.any():
        shown: list[tuple[str, Mask]] = [
            ("reasoning_exceeds_output", spent > numbers),
            ("total", total_told & (total == input_ + numbers + spent)),
        ]
        inside = np.zeros(facts.rows.size, dtype=np.bool_)
        outside = _outside("output", facts, facts.dialect.output, matters, shown, inside, flags)
        counts["output_tokens"] = np.where(outside, numbers + spent, numbers), told


def _left_out(facts: Facts) -> Mask:
    """Where the dialect says that only the total tells reasoning."""
    found = np.zeros(facts.rows.size, dtype=np.bool_)
    for where, convention in _parts(facts, facts.dialect.output):
        if convention.part == "left_out":
            found |= where
    return found


def _outside(
    count: Literal["input", "output"],
    facts: Facts,
    conventions: Sequence[Convention],
    matters: Mask,
    shown: list[tuple[str, Mask]],
    inside: Mask,
    flags: Flags,
) -> Mask:
    """Where the part is on top of the count: as the dialect says, or as the numbers show where it does not.

    shown:  what proves that it is, and where; inside: where numbers prove the contrary.
    """
    outside = np.zeros(len(matters), dtype=np.bool_)
    for where, convention in _parts(facts, conventions):
        mask = where & matters
        if convention.part in ("outside", "left_out"):
            outside |= mask
            flags.add(f"{count}_exclusive:{convention.because}", mask)
        elif convention.part == "unclear":
            for how, proof in shown:
                found = mask & proof
                outside |= found
                flags.add(f"{count}_exclusive:{how}", found)
                mask = mask & ~found
            mask = mask & ~inside
            if convention.flagged:
                flags.add(f"{count}_unclear:{convention.because}", mask)
            if convention.assume == "outside":
                outside |= mask
    return outside


def _impossible(counts: dict[str, Numbers], flags: Flags) -> None:
    def exceeds(part: I64, part_told: Mask, whole: str) -> Mask:
        numbers, told = counts[whole]
        if not part_told.any():
            return part_told
        return part_told & told & (part > numbers)

    read, write = counts["cache_read_tokens"], counts["cache_write_tokens"]
    flags.add("impossible:cached_exceeds_input", exceeds(read[0] + write[0], read[1] | write[1], "input_tokens"))
    for part, whole in (
        ("cache_write_1h_tokens", "cache_write_tokens"),
        ("reasoning_tokens", "output_tokens"),
        ("input_audio_tokens", "input_tokens"),
        ("cache_audio_read_tokens", "cache_read_tokens"),
        ("output_audio_tokens", "output_tokens"),
    ):
        what = part.removesuffix("_tokens")
        flags.add(f"impossible:{what}_exceeds_{whole.removesuffix('_tokens')}", exceeds(*counts[part], whole))
