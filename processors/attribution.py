"""Who pays for a call: team, app, user, end user, API key, environment, cost centre and tags.

Each dimension has an ordered list of sources; the first that has a value decides. Reports of one call are judged alone and
merged by the number of the deciding source, so it does not matter which of them arrives first.

Sources:
    mapping                 a column of that name in one of `mappings`, the first table that knows the report's key
    gateway                 what the gateway authenticated (never what the caller sent)
    claimed                 what the caller sent
    service                 service.name, unless the report is a gateway's or a model server's own
    resource.NAME, scope.NAME, span.NAME    an attribute; `span.metadata.team` also finds `team` in the JSON of `metadata`

```yaml
processors:
  attribution:
    team: {from: [mapping, gateway, resource.team], default: (unattributed)}
    app: {from: [{source: span.url.path, pattern: "^/apps/([^/]+)/"}, service]}
    mappings: [{by: api_key, file: owners.csv}]
```
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import polars as pl
from pydantic import AfterValidator, Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema

from collector import columns, distinct
from collector.batch import SpanBatch
from collector.component import Context, Processor, Stage
from collector.errors import ConfigError
from collector.identity import GATEWAY, Identity, OwnerTable
from collector.mapping import MappingFile, read_table
from config.types import StrictModel

UNATTRIBUTED = "(unattributed)"
DimensionName = Literal["team", "app", "user", "end_user", "environment", "cost_centre", "task_type", "user_priority"]
_ATTRIBUTE = re.compile(r"(resource|scope|span)\.\S+")


def _one_of(*names: str) -> AfterValidator:
    """A text that is one of these names, or says where an attribute is."""

    def check(text: str) -> str:
        if text not in names and not _ATTRIBUTE.fullmatch(text):
            raise ValueError(
                f"not a source: {text!r}; there are {', '.join(names)}, and attributes as resource.NAME, scope.NAME or "
                "span.NAME"
            )
        return text

    return AfterValidator(check)


class Source(StrictModel):
    """One place to look, and what to take of it."""

    source: Annotated[str, _one_of("mapping", "gateway", "claimed", "service")]
    """`mapping`: what a table of `mappings` says. `gateway`: what the gateway authenticated, never what the caller sent.
    `claimed`: what the caller sent. `service`: service.name, unless the report is a gateway's or a model server's own.
    Or an attribute, `resource.NAME`, `scope.NAME`, `span.NAME`; `span.metadata.team` also finds `team` in the JSON (or
    Python repr) of `metadata`."""
    pattern: str | None = None
    """Regular expression (Rust's dialect, which cannot blow up); its first group is the value. No match: no value."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = pl.Series([""]).str.extract_groups(pattern).struct.fields
            except pl.exceptions.PolarsError as error:
                reason = str(error).partition("\nerror: ")[2].partition("\n")[0] or "not understood"
                raise ValueError(f"not a regular expression: {reason}") from None
            if not groups:
                raise ValueError("the pattern has no group; put ( ) around the part that is the value")
        return pattern


class Dimension(StrictModel):
    """Where a dimension comes from. `team: [gateway, claimed]` and `team: gateway` are short for `team: {from: …}`."""

    from_: Annotated[list[Source], Field(alias="from")]
    """Sources in order; the first that has a value decides. A plain text is a source without a pattern."""
    default: str = UNATTRIBUTED
    """What stands there when no source has a value. Empty: nothing."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The short forms too, for editors."""
        reference = handler(core)
        schema = handler.resolve_ref_schema(reference)
        sources = schema["properties"]["from"]
        sources["items"] = {"anyOf": [sources["items"], {"type": "string"}]}
        whole = dict(schema)
        schema.clear()
        schema.update(description=whole["description"], anyOf=[whole, {**sources}, {"type": "string"}])
        return reference

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        if isinstance(value, list | str):
            value = {"from": [value] if isinstance(value, str) else value}
        if isinstance(value, dict) and isinstance(value.get("from"), list):
            sources = [{"source": source} if isinstance(source, str) else source for source in value["from"]]
            return {**value, "from": sources}
        return value


class MappingTable(StrictModel):
    """A table that says who owns a key, a user, a service: its columns are the dimensions' names."""

    by: Annotated[str, _one_of("api_key", "team", "user", "end_user", "service")]
    """What the table's key is compared with: `api_key` (alias or hash), `team`, `user`, `end_user` as the gateway
    authenticated them, `service`, or an attribute."""
    file: Path | None = None
    """CSV (header, first column is the key) or YAML file (key → {column: value}); read again when it changes."""
    table: dict[str, dict[DimensionName, str]] | None = None
    """The table itself, key → {column: value}."""

    @property
    def rows(self) -> dict[str, dict[str, str]]:
        """The inline table."""
        return {key: {str(name): value for name, value in row.items()} for key, row in (self.table or {}).items()}

    @model_validator(mode="after")
    def _one(self) -> MappingTable:
        if (self.file is None) == (self.table is None):
            raise ValueError("a mapping needs a file or a table, one of the two")
        if self.file is not None:
            try:
                rows = read_table(self.file)
            except ConfigError as error:
                raise ValueError(str(error)) from None
            named = {name for row in rows.values() for name in row}
            if named and not named & set(get_args(DimensionName)):
                raise ValueError(
                    f"{self.file}: no column is a dimension, got {', '.join(sorted(named))}; "
                    f"there are {', '.join(get_args(DimensionName))}"
                )
        return self


def _from(*sources: str, default: str = UNATTRIBUTED) -> Dimension:
    return Dimension.model_validate({"from": list(sources), "default": default})


def _said_as(name: str) -> Dimension:
    """What a mapping says, or the caller: as its dialect has it, or in an attribute of that name."""
    return _from("mapping", "claimed", f"span.{name}", f"span.metadata.{name}", f"resource.{name}", default="")


class AttributionConfig(StrictModel):
    """Sources per dimension, trusted ones first, and mapping tables."""

    team: Dimension = _from("mapping", "gateway", "resource.team", "claimed")
    """Team that the call is charged to."""
    app: Dimension = _from("mapping", "claimed", "resource.app", "service")
    """Application that made the call."""
    user: Dimension = _from("mapping", "gateway", "claimed")
    """Who holds the key, or else whom the caller names."""
    end_user: Dimension = _from("mapping", "gateway", "claimed", default="")
    """Whom the app served."""
    api_key: Dimension = _from("gateway", default="")
    """Alias of the gateway's key, or else its hash."""
    environment: Dimension = _from(
        "mapping", "resource.deployment.environment.name", "resource.deployment.environment", default=""
    )
    """Deployment environment."""
    cost_centre: Dimension = _from("mapping", "resource.cost_centre", "resource.cost_center", default="")
    """Cost centre."""
    task_type: Dimension = _said_as("task_type")
    """What the call is for, as the app says it: routing goes by it."""
    user_priority: Dimension = _said_as("user_priority")
    """How much whom the call serves matters, as the app or a mapping says it: routing goes by it."""
    tags: list[Annotated[str, _one_of("claimed")]] = ["claimed"]
    """Where tags come from (`claimed` or attributes): an array, or one text with commas. All sources together."""
    mappings: list[MappingTable] = []
    """Lookup tables for the source `mapping`, in the order in which they are asked."""

    @property
    def sources(self) -> dict[str, list[str]]:
        """The attributes that hold, as a whole, whom a call is charged to: redaction exchanges them as it does the columns."""
        names = {"user": self.user, "end_user": self.end_user}
        return {
            name: [s.source for s in dimension.from_ if s.pattern is None and _ATTRIBUTE.fullmatch(s.source)]
            for name, dimension in names.items()
        }

    @model_validator(mode="after")
    def _no_circle(self) -> AttributionConfig:
        if any(source.source == "mapping" for source in self.api_key.from_):
            raise ValueError("api_key cannot come from a mapping: mappings name owners, the key is what they go by")
        return self


@dataclass(frozen=True, slots=True)
class Rule:
    """One source of one dimension. `table` is the number of the mapping table, -1 for other sources."""

    source: str
    pattern: str | None
    name: str
    table: int = -1


class Attribution(Processor[AttributionConfig]):
    """Who pays: team, app, user, end user, API key, environment, cost centre, tags, and which rule decided."""

    Config = AttributionConfig
    stage = Stage.REPORTS
    adds = (*columns.DIMENSIONS, columns.TAGS)

    def __init__(self, config: AttributionConfig, context: Context) -> None:
        super().__init__(config, context)
        self._files = [MappingFile(mapping.file) if mapping.file else None for mapping in config.mappings]
        self._tables = [OwnerTable(mapping.by, mapping.rows) for mapping in config.mappings]
        self._rules = {column.name: self._spread(getattr(config, column.name)) for column in columns.DIMENSIONS}

    def _spread(self, dimension: Dimension) -> list[Rule]:
        """The sources as rules; `mapping` is one rule per table."""
        rules: list[Rule] = []
        for source in dimension.from_:
            if source.source != "mapping":
                rules.append(Rule(source.source, source.pattern, source.source))
                continue
            for number, mapping in enumerate(self.config.mappings):
                rules.append(Rule("mapping", source.pattern, f"mapping.{mapping.by}", number))
        return rules

    def process(self, batch: SpanBatch) -> SpanBatch:
        if batch.reports.is_empty():
            return batch
        for number, (mapping, file) in enumerate(zip(self.config.mappings, self._files, strict=True)):
            if file is not None and file.table() is not self._tables[number].rows:
                self._tables[number] = OwnerTable(mapping.by, file.table())
        identity = Identity(batch)
        added: list[pl.Series] = []
        mixed: list[pl.Expr] = []
        for name, rules in self._rules.items():
            found = self._found(identity, name, rules)
            default = getattr(self.config, name).default
            if not found:
                added.append(pl.Series(name, [default or None], dtype=pl.String()).new_from_index(0, len(identity)))
            elif len(found) == 1 and not found[0][1].null_count():
                added.append(found[0][1].alias(name))
            else:
                fallback = [pl.lit(default)] if default else []
                mixed.append(pl.coalesce([pl.lit(values) for _, values in found] + fallback).alias(name))
            added += _deciders(name, rules, found, len(identity), bool(default))
        if mixed:
            added += pl.select(mixed).get_columns()
        added.append(identity.tags(self.config.tags))
        known = {column.name: column for column in (*batch.reports.get_columns(), *added)}
        return batch.with_(reports=pl.DataFrame(list(known.values())))

    def _found(self, identity: Identity, name: str, rules: Sequence[Rule]) -> list[tuple[int, pl.Series]]:
        """The values of a dimension by number of rule, as far as rules are needed: none beyond one that is always there."""
        found: list[tuple[int, pl.Series]] = []
        for number, rule in enumerate(rules):
            if rule.table >= 0:
                values = identity.mapped(self._tables[rule.table], name)
            else:
                values = identity.values(rule.source, name)
            if values is not None and rule.pattern is not None:
                values = identity.extracted(values, rule.pattern)
            if values is not None:
                found.append((number, values))
                if not values.null_count():
                    break
        return found


def _deciders(
    name: str, rules: Sequence[Rule], found: Sequence[tuple[int, pl.Series]], rows: int, default: bool
) -> list[pl.Series]:
    """`<name>_rank` and `<name>_rule`: number and name of the rule that decided; past the last one the default, or null."""
    last = len(rules)
    ranks = pl.Series(f"{name}_rank", [*range(last), last if default else None], dtype=pl.Int16())
    names = pl.Series(f"{name}_rule", [*(rule.name for rule in rules), "default" if default else None], dtype=pl.String())  # fmt: skip
    if not found or (len(found) == 1 and not found[0][1].null_count()):
        decided = found[0][0] if found else last
        return [table.new_from_index(decided, rows) for table in (ranks, names)]
    rank = np.full(rows, last, np.uint32)
    for number, values in reversed(found):
        rank[distinct.valid(values)] = number
    return [ranks[rank], names[rank]]


__all__ = ["GATEWAY", "Attribution", "AttributionConfig", "Dimension", "MappingTable", "Source"]
