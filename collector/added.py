"""What a Spanledger wrote on spans under names that are not its own, and the note of it.

On OTLP output a span gets the conventions' attributes that it lacks (`gen_ai.provider.name` …), and `spanledger.added` names
them: `gen_ai.provider.name,gen_ai.usage.input_tokens`. So the next Spanledger knows which attributes the sender never said,
reads the span as its dialect wrote it, and counts the call as this one did.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from collector.otlp import gather
from collector.otlp.tables import I32, Owner, Traces

#: The attribute of a span that lists what was added to it.
ADDED = "spanledger.added"

Mask = NDArray[np.bool_]


class Added:
    """Of each span the keys that an earlier Spanledger added."""

    def __init__(self, traces: Traces) -> None:
        self.codes: I32
        """Per span a row of `lists`, the last one for none."""
        self.lists: list[frozenset[str]] = [frozenset()]
        if ADDED not in traces.key_ids:
            self.codes = np.zeros(len(traces), np.int32)
            return
        (slots,) = gather.slots(traces, [ADDED], Owner.SPAN)
        codes, texts = gather.codes(traces, slots)
        self.lists = [frozenset(text.split(",")) - {""} for text in texts.to_pylist()] + self.lists
        self.codes = np.where(codes < 0, np.int32(len(self.lists) - 1), codes).astype(np.int32)

    @property
    def keys(self) -> frozenset[str]:
        """Every key that was added to any span."""
        return frozenset().union(*self.lists)

    def has(self, key: str) -> Mask:
        """Per span whether the key was added to it."""
        listed: Mask = np.array([key in keys for keys in self.lists], np.bool_)[self.codes]
        return listed
