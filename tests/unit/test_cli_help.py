"""Help that teaches, errors without a traceback, exit codes, and a README whose commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from spanledger.cli import app
from tests.cli_kit import run

ROOT = Path(__file__).parents[2]


def commands(group: typer.core.TyperGroup | None = None, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], object]:
    """Every command by its words."""
    found: dict[tuple[str, ...], object] = {}
    for name, command in (group or typer.main.get_command(app)).commands.items():  # type: ignore[attr-defined]
        if hasattr(command, "commands"):
            found |= commands(command, (*path, name))
        else:
            found[*path, name] = command
    return found


COMMANDS = commands()


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_a_help_that_teaches(words, capsys):
    """What it does, every option explained, and an example that begins with its own words."""
    shown = run(capsys, *words, "--help").ok()
    assert "Example" in shown
    assert f"spanledger {' '.join(words)}" in shown.split("Example")[1]
    command = COMMANDS[words]
    assert len(command.help or command.callback.__doc__) > 30
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{' '.join(words)}: {parameter.name} says nothing about itself"


def test_every_example_is_a_command_that_exists():
    """The words after `spanledger` in an epilog name a command."""
    for words, command in COMMANDS.items():
        for line in re.findall(r"\[cyan\](spanledger [^\[]+)\[/\]", command.epilog or ""):
            assert _known(line), f"{' '.join(words)} shows {line!r}"


def _known(line: str) -> bool:
    rest = line.split()[1:]
    return any(tuple(rest[: len(words)]) == words for words in COMMANDS)


@pytest.mark.parametrize(
    "path", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")), "benchmarks/README.md"]
)
def test_every_command_in_the_documentation_exists(path):
    """`spanledger X` in the README and in docs/ is a command, and its options are options of it."""
    if not (ROOT / path).exists():
        pytest.skip("not written yet")
    text = (ROOT / path).read_text(encoding="utf-8")
    lines = re.findall(r"^\s*(?:\.venv/bin/)?(spanledger [a-z-].*)$", text, re.MULTILINE)
    lines += re.findall(r"`(?:\.venv/bin/)?(spanledger [a-z-][^`]*)`", text)
    for line in lines:
        if re.match(r"spanledger (--?[a-z]|[a-z]+:)", line):
            continue
        assert _known(line), f"{path} names {line!r}"
        words = next(words for words in COMMANDS if tuple(line.split()[1 : 1 + len(words)]) == words)
        options = {name for parameter in COMMANDS[words].params for name in parameter.opts} | {"--help", "--verbose"}
        for option in re.findall(r"\s(--[a-z-]+)", line):
            assert option in options, f"{path}: {line!r} has no {option}"


def test_the_readme_names_the_commands_people_need():
    """The first steps are in it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for word in ("demo", "costs", "query", "validate", "components"):
        assert f"spanledger {word}" in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["costs", "--by"], 2, "requires an argument"),
        (["costs", "--nonsense"], 2, "No such option"),
        (["costs", "--by", "tema"], 2, "error: --by: no dimension 'tema'\n  Did you mean team?"),
        (["costs", "--since", "yesterday"], 2, "--since: not a time: 'yesterday'"),
        (["costs", "--since", "2026-11-02", "--until", "2026-11-01"], 2, "--since is not before --until"),
        (["query", " "], 2, "error: there is no SQL"),
        (["query", "SELECT 1", "--admin", "nonsense"], 2, "not an admin endpoint: 'nonsense'"),
        (["query", "SELECT 1", "--admin", "127.0.0.1:1"], 1, "no collector answers at http://127.0.0.1:1: Connection refused"),
        (["query", "SELECT 1", "--dsn", "ftp://x"], 2, "not a ClickHouse DSN"),
        (["components", "nonsense"], 2, "error: no section 'nonsense'"),
        (["validate", "nowhere.yaml"], 2, "nowhere.yaml: cannot read the config: No such file or directory"),
        (["send", "nowhere"], 2, "nowhere: no such file"),
        (["send", __file__, "--endpoint", "ftp://x"], 2, "not an OTLP/HTTP endpoint: 'ftp://x'"),
        (["send", __file__, "--header", "x"], 2, "--header: expected NAME=VALUE"),
        (["demo", "--duration", "soon"], 2, "not a duration: 'soon'"),
        (["demo", "--calls", "1", "--endpoint", "http://127.0.0.1:1"], 1, "nobody listens at"),
        (["demo", "--calls", "1", "--protocol", "grpc", "--endpoint", "127.0.0.1:1"], 1, "nobody listens at"),
        (["prices", "lookup", "gpt-4o", "--at", "tomorrow"], 2, "Invalid value for '--at'"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_said_in_a_line_or_two(words, code, said, capsys):
    """On standard error; 2 for the command line and the config, 1 for what did not work out; nothing on standard output."""
    result = run(capsys, *words)
    assert result.code == code
    assert said in result.err
    assert result.out == ""


def test_an_error_of_our_own_is_told_apart_and_verbose_shows_it(capsys, monkeypatch):
    """A bug: one line, the advice, exit code 1; with --verbose the traceback."""
    from spanledger.cli import version

    def broken(name: str) -> str:
        raise RuntimeError(f"[bold]{name}")

    monkeypatch.setattr("importlib.metadata.version", broken)
    result = run(capsys, "version")
    assert (result.code, result.out) == (1, "")
    assert "internal error: RuntimeError: [bold]spanledger" in result.err
    assert "--verbose" in result.err
    with pytest.raises(RuntimeError):
        run(capsys, "version", "--verbose")
    assert version
