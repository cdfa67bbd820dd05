"""A quantile sketch of what calls cost (as DDSketch: buckets of equal relative width), one octave to each of 32 bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from collector.columns import PICO_PER_USD
from collector.otlp.compiled import kernel
from collector.otlp.tables import I32
from processors.anomaly.gathering import FIRST_OCTAVE, OCTAVES

Sketch = NDArray[np.uint8]
#: Calls below which nothing is said.
_LEAST = 100
#: Above so many in an octave all count half: what is old is forgotten.
_MOST = 250


@kernel
def median(sketch: Sketch) -> float:
    """Usual cost of a call in USD, within its octave; inf where too few calls are known."""
    total = 0
    for octave in range(OCTAVES):
        total += int(sketch[octave])
    if total < _LEAST:
        return np.inf
    below = 0
    for octave in range(OCTAVES):
        here = int(sketch[octave])
        if here > 0 and 2 * (below + here) >= total:
            inside = (total / 2 - below) / here
            found: float = 2.0 ** (FIRST_OCTAVE + octave + inside) / PICO_PER_USD
            return found
        below += here
    return np.inf


@kernel
def count(sketch: Sketch, costs: I32) -> None:
    """Add a bucket's calls, by octave of their cost."""
    most = 0
    for octave in range(OCTAVES):
        most = max(most, int(sketch[octave]) + costs[octave])
    shift = 0
    while most >> shift > _MOST:
        shift += 1
    for octave in range(OCTAVES):
        sketch[octave] = max(int(sketch[octave]) + costs[octave], 0) >> shift
