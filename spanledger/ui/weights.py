"""How the calls of a model are shared, against what the processor `behaviour` was told they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import polars as pl

#: What calls may be shared among → its column in the figure.
COLUMNS = {"deployment": "Deployment", "provider": "Provider", "region": "Region", "api_key": "ApiKey"}


@dataclass(frozen=True, slots=True)
class Weighted:
    """A model group: `model` may hold `*` and `?`, `by` names one of COLUMNS, `weights` are shares in any unit."""

    model: str
    by: str
    weights: Mapping[str, float]

    def fits(self, model: str) -> bool:
        return fnmatchcase(model.lower(), self.model.lower())


def configured(frame: pl.DataFrame, groups: Sequence[Weighted]) -> pl.DataFrame:
    """Rows of `Asked`, `Calls` and COLUMNS with `By`, `Configured` and `Has`: what the row's member of the group is to have of
    the model's calls, and has; null where no group is configured. A member without any call has a row too."""
    rows: list[dict[str, Any]] = []
    for (asked,), part in frame.group_by("Asked", maintain_order=True):
        group = next((one for one in groups if one.fits(str(asked))), None)
        if group is None:
            rows += ({**row, "By": None, "Configured": None, "Has": None} for row in part.iter_rows(named=True))
            continue
        column, whole, calls = COLUMNS[group.by], sum(group.weights.values()), part["Calls"].sum()
        has = dict(part.group_by(column).agg(pl.col("Calls").sum()).iter_rows())
        shares = {
            name: (group.weights.get(name, 0.0) / whole, has.get(name, 0) / calls) for name in {*group.weights, *has}
        }
        for row in part.iter_rows(named=True):
            rows.append({**row, "By": group.by, "Configured": shares[row[column]][0], "Has": shares[row[column]][1]})
        nothing: dict[str, Any] = dict.fromkeys(COLUMNS.values(), "") | {
            "Asked": asked,
            "Calls": 0,
            "Share": 0.0,
            "By": group.by,
            "Has": 0.0,
        }
        rows += (nothing | {column: name, "Configured": shares[name][0]} for name in group.weights if name not in has)
    types = {"By": pl.String, "Configured": pl.Float64, "Has": pl.Float64}
    return pl.DataFrame(rows, schema={**frame.schema, **types})
