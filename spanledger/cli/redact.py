"""`spanledger redact`: what redaction would do to a captured request."""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spanledger.cli.sender import inflate
from spanledger.cli.shell import CommandError, ConfigOption, SetOption, err, examples, out, usage
from spanledger.cli.show import Format, count, print_csv, print_json

if TYPE_CHECKING:
    from rich.text import Text

    from collector.otlp.tables import U8
    from config.model import LoadedConfig
    from processors.redaction import RedactionConfig
    from processors.redaction.engine import Outcome
    from processors.redaction.parts import Parts


class Profile(StrEnum):
    DEFAULT = "default"
    STRICT = "strict"


EPILOG = examples(
    ("what would be taken out of a capture, counted", "spanledger redact --file 003-traces.pb"),
    ("where, and what stands there afterwards", "spanledger redact --file 003-traces.pb --explain"),
    ("by another profile, or by your own config", "spanledger redact --file body.json --profile strict --config spanledger.yaml"),
    ("in a pipeline of checks: fail where there is anything", "spanledger redact --file body.json --check"),
    ("everything that is looked for", "spanledger redact --detectors"),
    ("what a person is called in a ledger of pseudonyms", "spanledger redact --pseudonym jane@example.com"),
)  # fmt: skip
#: Lines of an explanation; what says the same is one line.
MOST_LINES = 200
_AROUND = 48  # characters shown before and after what was found
_NEW = re.compile(r"\[REDACTED:[a-z0-9_]+\]|[a-z][a-z0-9_]*_k[0-9a-f]{4}_[0-9a-f]{32}|\*[-* .]{3,}[0-9A-Za-z]{0,8}")


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one value. `after` is None where it goes; `hits` are places in `before` (of the text, in characters)."""

    place: str
    key: str
    why: str
    before: str
    after: str | None
    hits: tuple[tuple[int, int], ...]


def redact(
    file: Annotated[
        list[Path] | None, typer.Option("--file", "-F", help="An OTLP request: .pb (protobuf) or .json, .gz if gzipped; of any signal. May be given again.", show_default=False)
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show each value that changes: where it stands, why, and what it becomes. What it was is shown on a terminal only.")
    ] = False,
    before: Annotated[bool, typer.Option("--before", help="With --explain: show what values were, even into a pipe or file. Mind who reads it.")] = False,
    profile: Annotated[Profile | None, typer.Option(help="Profile, in the place of the config's.", show_default=False)] = None,
    processor: Annotated[str | None, typer.Option(help="Which of the config's redaction processors. Default: the first.", show_default=False)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the redacted request there, as protobuf.", show_default=False)] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 where anything would be changed.")] = False,
    detectors: Annotated[bool, typer.Option("--detectors", help="List what is looked for and what happens to it, and end.")] = False,
    pseudonym: Annotated[str | None, typer.Option(metavar="NAME", help="Say what the user of this name is called in the ledger, and end.", show_default=False)] = None,
    format_: Annotated[Format, typer.Option("--format", "-f", help="How to print.")] = Format.TABLE,
    config: ConfigOption = None,
    set_: SetOption = None,
) -> None:  # fmt: skip
    """Show what redaction would do to captured requests. Nothing is sent anywhere, and the files stay as they are.

    Counts tell how often each detector found something and what was done about it. --explain goes through the values one by
    one. Pseudonyms are made with the key of the config's data directory where there is one, else with one of the moment.
    """
    parts = _parts(config, set_, profile, processor)
    if detectors:
        _list(parts, format_)
        return
    if pseudonym is not None:
        out.print(_called(parts, pseudonym, config, set_, processor), markup=False, soft_wrap=True)
        return
    if not file:
        usage(
            "say which request: --file FILE", "A capture of your own: any exporter's OTLP/HTTP body, saved to a file."
        )
    if output is not None and len(file) > 1:
        usage("--output takes the request of one --file")
    counts: Counter[tuple[str, str]] = Counter()
    changes: Counter[Change] = Counter()
    for path in file:
        data, outcome = _redacted(parts, path)
        counts.update(_counts(parts, outcome))
        changes.update(_changes(parts, data, outcome))
        if output is not None:
            output.write_bytes(outcome.data.tobytes())
    _show_counts(counts, len(changes), format_)
    if explain:
        _explain(changes, shown=before or out.is_terminal, format_=format_)
    if check and changes:
        raise CommandError(f"{count(sum(changes.values()))} values would be changed", "" if explain else "--explain shows where they stand.")  # fmt: skip


def _parts(config: Path | None, set_: list[str] | None, profile: Profile | None, processor: str | None) -> Parts:
    """Redaction as the config has it."""
    from config import load
    from processors.redaction.parts import Parts
    from processors.redaction.pseudonyms import Pseudonyms

    loaded = load(config, overrides=set_ or ())
    options = _options(loaded, processor)
    if profile is not None:
        options = options.model_copy(update={"profile": profile.value})
    if options.idle:
        raise CommandError("the profile is off: nothing would be taken out", "Try another one: --profile default")
    return Parts(options, Pseudonyms(_keys(options, loaded.service.data_dir)), loaded.sources)


def _options(loaded: LoadedConfig, id_: str | None) -> RedactionConfig:
    from processors.redaction import Redaction, RedactionConfig

    found = {name: spec.config for name, spec in loaded.processors.items() if issubclass(spec.cls, Redaction)}
    if id_ is not None and id_ not in found:
        usage(f"--processor: the config has no redaction processor {id_!r}", f"It has: {', '.join(found) or 'none'}")
    options = found[id_] if id_ is not None else next(iter(found.values()), RedactionConfig())
    assert isinstance(options, RedactionConfig)
    return options


def _keys(options: RedactionConfig, data_dir: Path) -> list[bytes]:
    """The keys of pseudonyms that the collector uses; without any, one that nobody keeps."""
    from processors.redaction.pseudonyms import load_keys

    if _kept(options, data_dir):
        return load_keys(options.pseudonyms.key, options.pseudonyms.key_file, data_dir)
    return [secrets.token_bytes(32)]


def _kept(options: RedactionConfig, data_dir: Path) -> bool:
    """Whether there is a key that a collector uses."""
    from processors.redaction.pseudonyms import KEY_FILE

    given = options.pseudonyms.key is not None or options.pseudonyms.key_file is not None
    return given or (data_dir / KEY_FILE).exists()


def _called(parts: Parts, name: str, config: Path | None, set_: list[str] | None, processor: str | None) -> str:
    """The pseudonym of a user under the collector's key."""
    from config import load

    loaded = load(config, overrides=set_ or ())
    options = _options(loaded, processor)
    if not _kept(options, loaded.service.data_dir):
        raise CommandError(
            f"there is no key of pseudonyms in {loaded.service.data_dir}: nobody was ever given one there",
            "Say which config the collector runs with: --config FILE.",
        )
    return parts.columns.called("user", name)


def _redacted(parts: Parts, path: Path) -> tuple[U8, Outcome]:
    """A file's request, and what redaction makes of it."""
    import numpy as np

    from collector.errors import Malformed
    from collector.otlp import decode
    from collector.otlp.otlp_json import to_protobuf
    from collector.signals import Signal
    from spanledger.cli.send import read_body

    if not path.is_file():
        usage(f"--file: {path}: no such file")
    body = read_body(path)
    signal = Signal(body.signal)
    plain = inflate(body.data) if body.gzipped else body.data
    try:
        if body.content_type == "application/json":
            plain = to_protobuf(plain, signal)
        data = np.frombuffer(plain, np.uint8)
        traces = decode.read(data) if signal is Signal.TRACES else None
        return data, parts.engine.redact(signal, data, traces)
    except Malformed as error:
        raise CommandError(f"{path}: no OTLP request: {error}") from None


def _counts(parts: Parts, outcome: Outcome) -> Counter[tuple[str, str]]:
    """How often which detector found something and what was done, and what could not be searched."""
    from processors.redaction.metrics import Tally

    tally = Tally().plus(outcome, parts.policy.detectors)
    unscanned = {("(not searchable)", reason): number for reason, number in tally.unscanned.items()}
    return Counter({**tally.hits, **unscanned})


def _changes(parts: Parts, data: U8, outcome: Outcome) -> Iterator[Change]:
    """Every value that changes."""
    from collector.otlp.strings import Kind, Place
    from processors.redaction.actions import marker
    from processors.redaction.ours import CONTENT
    from processors.redaction.search import value_of

    leaves, changes, found = outcome.leaves, outcome.changes, outcome.found
    content = marker(CONTENT).decode()
    hits: dict[int, list[tuple[int, int]]] = {}
    names: dict[int, Counter[str]] = {}
    for leaf, start, end, detector in zip(*(c.tolist() for c in (found.leaf, found.start, found.end, found.detector)), strict=True):  # fmt: skip
        hits.setdefault(leaf, []).append((start, end))
        names.setdefault(leaf, Counter())[parts.policy.detectors[detector].id] += 1
    reasons = {int(row): reason for reason, rows in outcome.unscanned.items() for row in rows}
    after: dict[int, str | None] = dict.fromkeys([*changes.dropped.tolist(), *changes.removed.tolist()])
    for row, start, size in zip(changes.replaced.tolist(), changes.at.tolist(), changes.size.tolist(), strict=True):
        after[row] = changes.blob[start : start + size].tobytes().decode("utf-8", "replace")
    for row, text in sorted(after.items()):
        key = leaves.keys[leaves.key[row]] if leaves.key[row] >= 0 else ""
        value = b"" if text is None and leaves.kind[row] == Kind.KEY else value_of(data, leaves, row)
        if row in reasons:
            why = f"not searchable: {reasons[row].replace('_', ' ')}"
        elif row in names:
            why = ", ".join(f"{name} ×{n}" if n > 1 else name for name, n in names[row].items())
        else:
            why = "content" if text == content else parts.policy.rule(key).why
        spans = [tuple(len(value[:byte].decode("utf-8", "replace")) for byte in ends) for ends in hits.get(row, [])]
        yield Change(
            Place(leaves.place[row]).name.lower().replace("_", " "), key, why, value.decode("utf-8", "replace"), text,
            tuple((start, end) for start, end in spans),
        )  # fmt: skip


# Printing -----------------------------------------------------------------------------------------------------------------


def _show_counts(counts: Counter[tuple[str, str]], changed: int, format_: Format) -> None:
    rows = [(name, action, number) for (name, action), number in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]  # fmt: skip
    names = ["detector", "action", "hits"]
    if format_ is Format.JSON:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    elif format_ is Format.CSV:
        print_csv(names, rows)
    elif not changed and not rows:
        out.print("[green]Nothing to take out.[/]")
    else:
        from rich.table import Table

        table = Table(header_style="bold", box=None, pad_edge=False)
        table.add_column("Detector")
        table.add_column("What happens")
        table.add_column("Hits", justify="right")
        for name, action, number in rows:
            table.add_row(f"[yellow]{name}[/]", _ACTIONS.get(action, action.replace("_", " ")), count(int(number)))
        if rows:
            out.print(table)
        err.print(f"[dim]{count(changed)} different values change.[/]")


_ACTIONS = {
    "none": "[dim]stays, as the config says[/]",
    "mask": "masked",
    "replace": "replaced by a marker",
    "pseudonymise": "replaced by a pseudonym",
    "drop_value": "the value goes",
    "drop_attribute": "the attribute goes",
}


def _explain(changes: Counter[Change], *, shown: bool, format_: Format) -> None:
    if format_ is not Format.TABLE:
        return
    from rich.text import Text

    for change, number in list(changes.items())[:MOST_LINES]:
        head = Text.assemble(
            (change.place, "bold"), "  ", (_printable(change.key), "cyan"), "  ", (change.why, "yellow")
        )
        if number > 1:
            head.append(f"  ×{number}", "dim")
        out.print(head, soft_wrap=True)
        if shown and change.before:
            out.print(
                Text("  before  ", "dim"), _excerpt(change.before, change.hits, "bold red"), sep="", soft_wrap=True
            )
        after = Text("(gone)", "green italic") if change.after is None else _after(change.after)
        out.print(Text("  after   ", "dim"), after, sep="", soft_wrap=True)
    if len(changes) > MOST_LINES:
        err.print(f"[dim]… and {count(len(changes) - MOST_LINES)} more[/]")
    if not shown and changes:
        err.print("[dim]What the values were is shown on a terminal, or with --before.[/]")


def _excerpt(text: str, hits: Sequence[tuple[int, int]], style: str) -> Text:
    """What was found, or is new, with some of what stands around it."""
    from rich.text import Text

    if not hits:
        return Text(_short(text), style)
    shown = Text()
    last = 0
    for start, end in sorted(hits):
        left = max(last, start - _AROUND)
        shown.append(("…" if left > last else "") + _printable(text[left:start]))
        shown.append(_printable(text[start:end]), style)
        last = end
    return shown.append(_printable(text[last : last + _AROUND]) + ("…" if last + _AROUND < len(text) else ""))


def _after(text: str) -> Text:
    """What stands there afterwards; what is new is green."""
    from rich.text import Text

    new = [match.span() for match in _NEW.finditer(text)]
    if not new or new[0] == (0, len(text)):
        return Text(_short(text), "green")
    return _excerpt(text, new, "bold green")


def _short(text: str) -> str:
    return _printable(text if len(text) <= 4 * _AROUND else f"{text[: 4 * _AROUND]}…")


def _printable(text: str) -> str:
    """What a sender wrote must not move the cursor."""
    return "".join(c if c.isprintable() else "⏎" if c == "\n" else f"\\x{ord(c):02x}" for c in text)


def _list(parts: Parts, format_: Format) -> None:
    from processors.redaction.detector import load_detectors
    from processors.redaction.metrics import WORDS

    actions = {d.id: WORDS[a.what] for d, a in zip(parts.policy.detectors, parts.policy.actions, strict=True)}
    rows = [[d.id, d.kind, actions.get(d.id, "off"), d.title] for d in load_detectors()]
    names = ["detector", "kind", "action", "what it finds"]
    if format_ is Format.JSON:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    if format_ is Format.CSV:
        print_csv(names, rows)
        return
    from rich.table import Table

    table = Table(*(name.capitalize() for name in names), header_style="bold", box=None, pad_edge=False)
    for id_, kind, action, title in rows:
        table.add_row(f"[yellow]{id_}[/]", kind, f"[dim]{action}[/]" if action == "off" else action, title)
    out.print(table)
