"""Columns of decoded tables in which many rows share a value: it is made once and pointed at."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from collector.otlp import gather
from collector.otlp.tables import I32, Decoded, Owner, Text
from exporters.clickhouse.arrow import dictionary, short_map


def texts(decoded: Decoded, text: Text) -> pa.Array:
    """Texts that repeat."""
    codes, values = gather.text_codes(decoded, text)
    return dictionary(codes, values)


def texts_of(decoded: Decoded, text: Text, owner: I32) -> pa.Array:
    """Texts of the rows that own these rows: of resources or scopes."""
    codes, values = gather.text_codes(decoded, text)
    return dictionary(codes[owner], values)


def maps_of(decoded: Decoded, kind: Owner, owner: I32) -> pa.Array:
    """Attributes of the rows that own these rows: the values, which many of them share, as codes too."""
    maps = short_map(gather.attribute_maps(decoded, kind))
    maps = pa.MapArray.from_arrays(maps.offsets, maps.keys, maps.items.dictionary_encode())
    return maps.take(pa.array(owner))


def services(decoded: Decoded, resource: I32) -> pa.Array:
    """The service.name of each row's resource."""
    (rows,) = gather.slots(decoded, ["service.name"], Owner.RESOURCE)
    codes, names = gather.codes(decoded, rows)
    return dictionary(codes[resource], names)


def words(numbers: I32, known: pa.Array) -> pa.Array:
    """Numbers of an enum as words; a number that has none is the first, which says that nothing is known."""
    inside = np.where((numbers < 0) | (numbers >= len(known)), np.int32(0), numbers)
    return dictionary(inside.astype(np.int32), known)
