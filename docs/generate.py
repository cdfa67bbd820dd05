"""The pages that are made from the code: run `make docs` after changing what they show; a test fails while they are stale.

Every option, column, dialect and command is described where it is declared, and nowhere else.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from collector import columns
from collector.columns import Column
from collector.dialects.load import dialects
from config.annotations import models, unit
from config.loader import SHIPPED
from config.model import ServiceConfig
from config.registry import SECTIONS, Registry
from config.show import REDACTED
from config.types import Secret, show_duration, show_size
from processors.redaction.detector import load_detectors
from spanledger.cli import app

ROOT = Path(__file__).parents[1]
NOTE = "<!-- Made by docs/generate.py: change what it reads, then run `make docs`. -->\n"
OURS = "spanledger"


# docs/config.md --------------------------------------------------------------------------------------------------------

_INTRODUCTION = """# The config

One YAML file. Without `--config` the one that ships runs:

```yaml
{shipped}```

- **Ids** are `type` or `type/name`, so that a type can be there more than once. `service.pipelines` connects them. An id with nothing behind it has all defaults.
- **Environment**: `${{env:NAME}}`, `${{env:NAME:-default}}` where the variable is unset or empty; `$$` is a dollar sign.
- **Durations** have a unit (`500ms`, `5s`, `1m30s`, `24h`), **sizes** may have one (`512KiB`, `64MiB`; a bare number is bytes).
- **Secrets** print as `{redacted}`, wherever a config or a mistake in one is shown.
- **Paths** are relative to the directory that the collector was started in.
- **Mistakes** are reported all at once, as `file:line:column: path: message`: `spanledger validate --config FILE`.
- `--set path=value` stands above the file: `--set service.batch.timeout=50ms`. May be given again.
- `spanledger config-schema` prints a JSON Schema, for completion and checks in an editor.
"""


def config_page() -> str:
    parts = [_INTRODUCTION.format(shipped=SHIPPED.read_text(encoding="utf-8"), redacted=REDACTED)]
    parts.append("## service\n\n" + _model(ServiceConfig, "service"))
    for section, noun, name, cls in _components():
        example = _example(cls)
        shown = f"```yaml\n{example}```\n\n" if example else ""
        parts.append(
            f"## {section}.{name}\n\n{_flow(inspect.getdoc(cls) or noun)}\n\n{shown}{_model(cls.Config, name)}"
        )
    return _page(parts)


def _components() -> Iterator[tuple[str, str, str, type[Any]]]:
    """Section, noun, type and class of each component of ours."""
    registry = Registry.installed()
    for section, noun in SECTIONS.items():
        for name, entry in registry.section(section).items():
            if entry.origin.split()[0] == OURS:
                yield section, noun, name, entry.load(section)


def _example(cls: type[Any]) -> str:
    """The YAML of the module that declares the component's options."""
    for owner in (cls.Config, cls):
        found = re.search(r"```yaml\n(.*?)```", sys.modules[owner.__module__].__doc__ or "", re.DOTALL)
        if found:
            return found[1]
    return ""


def _model(model: type[BaseModel], path: str) -> str:
    """A table of the model's options, then one for each model inside it; equal ones once, under all their names."""
    sections: dict[tuple[str, str], list[str]] = {}
    for name, doc, table in _inner(model, path):
        sections.setdefault((doc, table), []).append(f"`{name}`")
    parts = [_table(model)]
    for (doc, table), names in sections.items():
        likewise = f" Likewise {', '.join(names[1:])}." if names[1:] else ""
        parts.append(f"### {names[0]}\n\n{doc}{likewise}\n\n{table}")
    return "\n\n".join(parts)


def _table(model: type[BaseModel]) -> str:
    rows = [
        f"| `{field.alias or name}` | {_type(field)} | {_default(field)} | {_flow(field.description or '')} |"
        for name, field in model.model_fields.items()
    ]
    return "\n".join(["| Option | Type | Default | Meaning |", "| --- | --- | --- | --- |", *rows])


def _inner(model: type[BaseModel], path: str) -> Iterator[tuple[str, str, str]]:
    """Path, description and table of each model inside a model, however deep."""
    for name, field in model.model_fields.items():
        here = f"{path}.{field.alias or name}{_suffix(field.annotation)}"
        for found in _inside(field.annotation):
            yield here, _flow(found.__doc__ or ""), _table(found)
            yield from _inner(found, here)


def _inside(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) in (list, tuple, dict):
        return [m for argument in get_args(annotation) for m in _inside(argument)]
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return [m for argument in get_args(annotation) for m in _inside(argument)]
    return models(annotation)


def _suffix(annotation: Any) -> str:
    origin = get_origin(annotation)
    return "[]" if origin in (list, tuple) else ".NAME" if origin is dict else ""


def _type(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    for item in field.metadata:
        annotation = Annotated[annotation, item]
    return _spell(annotation)


def _spell(annotation: Any) -> str:
    measure = unit([annotation])
    if measure:
        return measure
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _spell(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_spell(a) for a in arguments if a is not type(None)))
    if origin is Literal:
        return ", ".join(f"`{a}`" for a in arguments)
    if origin in (list, tuple):
        return f"list of {_spell(arguments[0])}"
    if origin is dict:
        return f"mapping to {_spell(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "options"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    names = {"str": "text", "int": "whole number", "float": "number", "Decimal": "number", "bool": "true, false",
             "Path": "path", "SecretStr": "secret", "date": "date"}  # fmt: skip
    return names.get(annotation.__name__, annotation.__name__)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or value in ([], (), {}):
        return ""
    if isinstance(value, BaseModel):
        return _whole_default(value)
    if isinstance(value, Secret):
        return f"`{value.get_secret_value()}`"
    annotation: Any = field.annotation
    for item in field.metadata:
        annotation = Annotated[annotation, item]
    measure = unit([annotation])
    if measure:
        return f"`{show_duration(value) if measure == 'duration' else show_size(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list | tuple):
        return "`[" + ", ".join(map(str, value)) + "]`"
    return f"`{value}`".replace("\n", "\\n")  # a row of a table is one line


def _whole_default(value: BaseModel) -> str:
    """A model that is a default says something only where it differs from its own defaults (sources of a dimension)."""
    if "from_" in type(value).model_fields:
        sources = ", ".join(source.source for source in value.from_)  # type: ignore[attr-defined]
        return f"`[{sources}]`, else " + (f"`{value.default}`" if value.default else "nothing")  # type: ignore[attr-defined]
    named = [key for key, inner in value if inner is not None and key in value.model_fields_set]
    return f"`{{{', '.join(named)}}}`" if named else ""


# docs/columns.md -------------------------------------------------------------------------------------------------------


def columns_page() -> str:
    parts = [
        "# Columns\n\nWhat flows through a pipeline and what is written to ClickHouse, declared once in `collector/columns.py`. "
        "Units: `_ns` nanoseconds, `_pico` pico-dollars (1 USD = 10^12). Unknown is null, never zero. "
        "`input_tokens` includes what was read from and written to a cache, `cache_write_tokens` includes the one-hour part, "
        "`output_tokens` includes reasoning.",
        "## llm_calls: one row per call\n\n" + _columns(columns.CALL_COLUMNS),
        "## otel_traces: after the 22 columns of the OpenTelemetry Collector's exporter\n\n"
        + _columns(columns.SPAN_COLUMNS),
        "## Reports, inside the pipeline\n\nOne row per span that matters to the ledger; processors of stage `reports` see them "
        "as `batch.reports`. Attribution adds `<dimension>`, `<dimension>_rank` (number of the rule that decided, lower wins) and "
        "`<dimension>_rule` for "
        + ", ".join(f"`{column.name}`" for column in columns.DIMENSIONS)
        + ", and `tags`.\n\n"
        + _columns(tuple(c for c in columns.REPORT_COLUMNS if c not in columns.CALL_COLUMNS)),
    ]
    return _page(parts)


def _columns(found: tuple[Column, ...]) -> str:
    stored = any(column.clickhouse for column in found)
    head = "| Column | Type | In the pipeline | OTLP attribute | Meaning |" if stored else "| Column | Type | Meaning |"
    lines = [head, "| " + " | ".join("---" for _ in range(head.count("|") - 1)) + " |"]
    for column in found:
        unit_ = f" ({column.unit})" if column.unit and column.unit not in column.doc else ""
        meaning = _cell(column.doc + unit_)
        if stored:
            inside = f"`{column.name}` {_polars(column)}"
            attribute = f"`{column.attribute}`" if column.attribute else ""
            clickhouse = f"`{column.clickhouse}`" if column.clickhouse else ""
            lines.append(f"| {clickhouse} | {column.clickhouse_type or ''} | {inside} | {attribute} | {meaning} |")
        else:
            lines.append(f"| `{column.name}` | {_polars(column)} | {meaning} |")
    return "\n".join(lines)


def _polars(column: Column) -> str:
    return str(column.dtype).replace("List(String)", "List(String)")


# docs/dialects.md ------------------------------------------------------------------------------------------------------


def dialects_page() -> str:
    found = sorted(dialects(), key=lambda dialect: dialect.name)
    table = ["| Dialect | Whose spans |", "| --- | --- |"]
    table += [f"| [`{d.name}`](#{d.name}) | {_cell(d.about)} |" for d in found]
    parts = [
        "# Dialects\n\nWhat each gateway, SDK and framework calls things: one YAML file each in `collector/dialects/`. The one that "
        "fits a span best reads it. A fact is taken from the first of its places that has it; `KEY#path` is a path in the "
        "JSON, or Python repr, that an attribute's text is.",
        "\n".join(table),
    ]
    folder = ROOT / "collector" / "dialects"
    for dialect in found:
        raw = yaml.safe_load((folder / f"{dialect.name}.yaml").read_text(encoding="utf-8"))
        parts.append(_dialect(dialect.name, raw))
    return _page(parts)


def _dialect(name: str, raw: dict[str, Any]) -> str:
    lines = [f"## {name}\n", f"{_cell(str(raw['about']))}. Read from: {_flow(str(raw['source']))}."]
    if raw.get("extends"):
        lines.append(f"\nWhat it says nothing of is read as in [`{raw['extends']}`](#{raw['extends']}).")
    facts = raw.get("facts") or {}
    if facts:
        lines += ["\n| Fact | Where it stands, the first that is there |", "| --- | --- |"]
        for fact, sources in facts.items():
            places = [_place(source) for source in (sources if isinstance(sources, list) else [sources])]
            more = f" and {len(places) - 4} more" if len(places) > 4 else ""
            lines.append(f"| `{fact}` | {', '.join(dict.fromkeys(places[:4])) or 'not read'}{more} |")
    return "\n".join(lines)


def _place(source: Any) -> str:
    if isinstance(source, str):
        return f"`{_cell(source)}`"
    if not isinstance(source, dict):
        return "not read"
    if "sum" in source:
        return " + ".join(f"`{_cell(part)}`" for part in source["sum"])
    if "from" in source:
        return f"`{_cell(source['from'])}`" + (" (a part of it)" if "pattern" in source else "")
    return f"always `{_cell(str(source.get('value')))}`"


# docs/cli.md -----------------------------------------------------------------------------------------------------------


def cli_page() -> str:
    root = typer.main.get_command(app)
    parts = [
        "# The command line\n\nResults go to standard output, what is said about them to standard error. Exit codes: 0 done, 1 it "
        "did not work out, 2 the command line or the config is wrong, 130 interrupted. `--verbose` with any command shows the "
        "traceback of an error."
    ]
    table = ["| Command | What it does |", "| --- | --- |"]
    for path, command in _commands(root, ()):
        words = " ".join(path)
        first = _flow(_help(command)).split(". ")[0].rstrip(".")
        table.append(f"| [`spanledger {words}`](#spanledger-{words.replace(' ', '-')}) | {_cell(first)} |")
        parts.append(_command(words, command))
    parts.insert(1, "\n".join(table))
    return _page(parts)


def _commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


def _help(command: Any) -> str:
    return command.help or inspect.getdoc(command.callback) or ""


def _command(words: str, command: Any) -> str:
    paragraphs = [" ".join(p.split()) for p in _help(command).split("\n\n")]
    lines = [f"## spanledger {words}\n", "\n\n".join(paragraphs)]
    rows = []
    for parameter in command.params:
        if isinstance(parameter, click.Option) or parameter.param_type_name == "option":
            if parameter.name == "help":
                continue
            name = ", ".join(f"`{name}`" for name in parameter.opts)
        else:
            name = f"`{(parameter.metavar or parameter.name).upper()}`"
        default = parameter.default
        shown = getattr(default, "value", default)
        known = shown not in (None, False, (), []) and not callable(shown) and "Sentinel" not in type(shown).__name__
        notes = f" Default: `{shown}`." if known else ""
        variable = f" Environment: `{parameter.envvar}`." if getattr(parameter, "envvar", None) else ""
        rows.append(f"| {name} | {_cell(getattr(parameter, 'help', '') or '')}{notes}{variable} |")
    if rows:
        lines.append("\n| Argument or option | Meaning |\n| --- | --- |\n" + "\n".join(rows))
    examples = re.findall(r"\[dim\](.*?)\[/\]\s*\[cyan\](.*?)\[/\]", command.epilog or "", re.DOTALL)
    if examples:
        lines.append("\n```sh\n" + "\n".join(f"# {why}\n{line}" for why, line in examples) + "\n```")
    return "\n".join(lines)


# README.md ---------------------------------------------------------------------------------------------------------------


def readme() -> str:
    """The README with its component table made anew."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = ["| Kind | Type | What it does |", "| --- | --- | --- |"]
    lines += [
        f"| {noun} | `{name}` | {_flow((inspect.getdoc(cls) or '').partition(chr(10))[0]).rstrip('.')} |"
        for _, noun, name, cls in _components()
    ]
    table = "\n".join(lines)
    return re.sub(r"\| Kind \| Type \| What it does \|\n(?:\|.*\n)+", lambda _: f"{table}\n", text, count=1)


# docs/redaction.md -----------------------------------------------------------------------------------------------------


def redaction_page() -> str:
    """The page with its table of detectors made anew."""
    text = (ROOT / "docs/redaction.md").read_text(encoding="utf-8")
    lines = ["| Detector | Kind | What it finds |", "| --- | --- | --- |"]
    lines += [
        f"| `{d.id}` | {d.kind}{'' if d.default else ', off unless named'} | {_cell(d.title)} |"
        for d in load_detectors()
    ]
    table = "\n".join(lines)
    page, made = re.subn(
        r"(<!-- made of: detectors -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{table}\n{match[2]}",
        text,
        flags=re.DOTALL,
    )
    if made != 1:
        raise ValueError("docs/redaction.md has no place for its detectors: was it written by halves?")
    return page


# All of them ---------------------------------------------------------------------------------------------------------------

PAGES: dict[str, Callable[[], str]] = {
    "docs/config.md": config_page,
    "docs/columns.md": columns_page,
    "docs/dialects.md": dialects_page,
    "docs/cli.md": cli_page,
    "docs/redaction.md": redaction_page,
    "README.md": readme,
}


def _flow(text: str) -> str:
    """One paragraph, without line breaks, fit for a table cell."""
    return _cell(" ".join(text.split()))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _page(parts: list[str]) -> str:
    return NOTE + "\n\n".join(part.rstrip() for part in parts) + "\n"


if __name__ == "__main__":
    for page, make in PAGES.items():
        beside = (ROOT / page).with_suffix(".new")  # a page that is read to be made must not be lost half-way
        beside.write_text(make(), encoding="utf-8")
        beside.replace(ROOT / page)
        print(page)
