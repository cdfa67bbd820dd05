"""`spanledger costs` and `query` against a query interface that answers from a script: what is asked, and how it is shown."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal

import pytest

from spanledger.cli.show import count, money
from tests.cli_kit import ledger, run, serve

MEASURES = ["count()", "failed", "in", "cached", "out", "cost", "unpriced", "nobody", "nobody_cost"]


def answer(columns: list[str], rows: list[list[object]], totals: list[object] | None = None) -> dict[str, object]:
    found: dict[str, object] = {"meta": [{"name": name, "type": "String"} for name in columns], "data": rows}
    return found | ({"totals": totals} if totals is not None else {})


LINES = [
    # team, model, calls, failed, input, cached, output, cost, unpriced, unattributed calls and cost
    ["Support", "gpt-4o-mini", "1200", "3", "1500000", "200000", "90000", "1.234567890123", "0", "0", "0"],
    ["", "gpt-4.1", "10", "0", "5000", "0", "700", "0.25", "0", "10", "0.25"],
    ["Support", "acme-7b", "4", "0", "400", "0", "80", None, "4", "0", "0"],
    ["Search", "mixed", "6", "0", "600", "0", "60", "0.1", "2", "0", "0"],
]
TOTALS = ["", "", "1220", "3", "1506000", "200000", "90840", "1.584567890123", "6", "10", "0.25"]
UNPRICED = [["unpriced_model", "6", ["acme-7b", "b", "c", "d"]]]


def script(sql: str) -> dict[str, object]:
    if sql.startswith("SELECT PriceStatus"):
        return answer(["PriceStatus", "n", "models"], UNPRICED)
    if "sumMap" in sql:
        return answer(
            ["d0", "d1", "trend"],
            [["Support", "gpt-4o-mini", {"0": 1, "11": 2}], ["", "gpt-4.1", {}]],
            ["", "", {"0": 1}],
        )
    limit = int(sql.rsplit(" ", 1)[1])
    return answer(["d0", "d1", *MEASURES], LINES[:limit], TOTALS)


def test_costs_as_a_table(capsys):
    """Lines, a total, what has no owner, what has no price; money to its last digit, aligned; unknown is not 0."""
    with ledger(script) as server:
        result = run(capsys, "costs", "--admin", server.address)
    shown = result.ok()
    for text in (
        "1.234567890123", "0.250000000000", "no price", "0.100000000000*", "1.584567890123", "(unattributed)", "1,506,000",
        "Without team: 10 calls, 0.25 USD (part of the total)",
        "Without a price (*): 6 calls, not in the total: 6 unpriced_model (acme-7b, b, c, …)",
        "▅··········█", "············", "█···········",
    ):  # fmt: skip
        assert text in shown
    assert f"from the collector at http://{server.address}" in result.err


@pytest.mark.parametrize("width", [50, 60, 80, 100])
def test_a_narrow_terminal_cuts_no_figure(width, capsys, monkeypatch):
    """Names fold and columns go; money keeps every digit, and the table its width."""
    monkeypatch.setattr("tests.cli_kit.WIDTH", width)
    with ledger(script) as server:
        shown = run(capsys, "costs", "--admin", server.address).ok()
    for text in ("1.234567890123", "0.250000000000", "1.584567890123", "no price"):
        assert text in shown
    assert "…" not in shown.partition("Without")[0]
    assert all(len(line) <= width for line in shown.partition("Without")[0].splitlines())


def test_names_of_a_usual_length_stay_whole_at_80_columns(capsys, monkeypatch):
    """A column of figures goes before a model's name is folded."""
    monkeypatch.setattr("tests.cli_kit.WIDTH", 80)

    def long(sql: str) -> dict[str, object]:
        named = [["Platform", "text-embedding-3-small", *row[2:]] for row in LINES]
        return (
            script(sql) if "trend" in sql or "groupUniqArray" in sql else answer(["d0", "d1", *MEASURES], named, TOTALS)
        )

    with ledger(long) as server:
        shown = run(capsys, "costs", "--admin", server.address).ok()
    assert "text-embedding-3-small" in shown
    assert all(len(line) <= 80 for line in shown.partition("Without")[0].splitlines())


def test_a_figure_that_is_nothing_in_all_lines_has_no_column(capsys):
    """Where no call failed, the room is for what there is."""

    def fine(sql: str) -> dict[str, object]:
        rows, totals = [[*row[:3], "0", *row[4:]] for row in LINES], [*TOTALS[:3], "0", *TOTALS[4:]]
        return (
            script(sql) if "trend" in sql or "groupUniqArray" in sql else answer(["d0", "d1", *MEASURES], rows, totals)
        )

    with ledger(script) as some, ledger(fine) as none:
        assert "Failed" in run(capsys, "costs", "--admin", some.address).ok()
        assert "Failed" not in run(capsys, "costs", "--admin", none.address).ok()


def test_another_port_is_no_ledger(capsys):
    """A web server that knows no such path is not a collector's admin port, and what to do about it."""
    with serve(lambda _: (404, {}, b'{"code": 5}')) as server:
        result = run(capsys, "query", "SELECT 1", "--admin", server.address)
    assert result.code == 1
    assert "has no ledger to ask: it answered 404" in result.err
    assert "8787" in result.err


def test_the_lines_add_up_when_some_are_left_out(capsys):
    """--limit sums the rest in one line: the lines' sum stays the total, to the last digit."""
    with ledger(script) as server:
        shown = run(capsys, "costs", "--admin", server.address, "--limit", "2", "--format", "json").ok()
    lines = json.loads(shown, parse_float=Decimal)
    assert [line["team"] for line in lines] == ["Support", "(unattributed)", "(others)"]
    assert sum(line["cost_usd"] for line in lines) == Decimal("1.584567890123")
    assert sum(line["calls"] for line in lines) == 1220


def test_costs_as_csv(capsys):
    """For a spreadsheet: one header line, every digit, nothing else on standard output."""
    with ledger(script) as server:
        shown = run(capsys, "costs", "--admin", server.address, "--format", "csv").ok()
    rows = list(csv.DictReader(io.StringIO(shown)))
    assert len(rows) == 4
    assert rows[0]["cost_usd"] == "1.234567890123"
    assert rows[1]["team"] == "(unattributed)"


@pytest.mark.parametrize(
    ("words", "in_sql"),
    [
        ([], ["toString(Team) AS d0", "AS d1", "Timestamp >= toDateTime64('20", "LIMIT 50"]),
        (["--by", "env,key", "--since", "all"], ["toString(Environment) AS d0", "toString(ApiKey) AS d1", "FROM llm_calls WHERE 1)"]),
        (["--by", "day", "--since", "2026-11-01", "--until", "2026-12-01"],
         ["FROM llm_costs_hourly_sums WHERE Hour >= toDateTime64('2026-11-01 00:00:00.000000', 9, 'UTC')", "Hour < toDateTime64('2026-12-01 00:00:00.000000'"]),
        (["--since", "2026-11-24T13:00+01:00"], ["toDateTime64('2026-11-24 12:00:00.000000', 9, 'UTC')"]),
    ],
)  # fmt: skip
def test_what_costs_asks(words, in_sql, capsys):
    """Dimensions, aliases and times become SQL that holds nothing of what was typed."""
    with ledger(lambda sql: answer(["d0", "d1", *MEASURES][-(len(MEASURES) + sql.count(" AS d")) :], [], ["", ""][: sql.count(" AS d")] + ["1"] + ["0"] * 8) if "TOTALS" in sql and "sumMap" not in sql else answer([], [])) as server:  # fmt: skip
        run(capsys, "costs", "--admin", server.address, *words).ok()
    sql = server.requests[0].body.decode()
    for text in in_sql:
        assert text in sql


def test_no_calls_is_said(capsys):
    """An empty ledger is no table of zeros; the hint says what to do."""
    with ledger(lambda sql: answer(["d0", "d1", *MEASURES], [], ["", ""] + ["0"] * 9)) as server:
        result = run(capsys, "costs", "--admin", server.address)
    assert (result.code, result.out) == (1, "")
    assert "there are no calls since 24h" in result.err
    assert "spanledger demo" in result.err


def test_control_characters_of_a_model_name_do_not_reach_the_terminal(capsys):
    """Names come from spans: escape sequences are shown, not obeyed."""
    evil = ["\x1b[2Jx", "[red]m[/]", "1", "0", "0", "0", "0", "1", "0", "0", "0"]
    with ledger(lambda sql: answer(["d0", "d1", *MEASURES], [evil], ["", "", *evil[2:]]) if "TOTALS" in sql and "sumMap" not in sql else answer([], [])) as server:  # fmt: skip
        shown = run(capsys, "costs", "--admin", server.address).ok()
    assert "\x1b" not in shown
    assert "\\x1b[2Jx" in shown
    assert "[red]m[/]" in shown


# query ----------------------------------------------------------------------------------------------------------------

ROWS = {
    "meta": [{"name": "Team", "type": "String"}, {"name": "Cost", "type": "Decimal(18, 12)"}, {"name": "Tags", "type": "Array(String)"}],
    "data": [["a,b", "@", ["x", "y"]], ["\x1b[31m", None, []]],
}  # fmt: skip


def exact(sql: str) -> dict[str, object]:
    """A Decimal as ClickHouse's JSON writes it, a bare number of more digits than a float has."""
    return json.loads(json.dumps(ROWS).replace('"@"', "1.5"))


@pytest.mark.parametrize(
    ("format_", "expected"),
    [
        ("json", '[{"Team": "a,b", "Cost": 12345678901.123456789012, "Tags": ["x", "y"]},\n {"Team": "\\u001b[31m", "Cost": null, "Tags": []}]\n'),
        ("csv", 'Team,Cost,Tags\n"a,b",12345678901.123456789012,"[""x"", ""y""]"\n\x1b[31m,,[]\n'),
    ],
)  # fmt: skip
def test_query_keeps_every_digit(format_, expected, capsys):
    """Decimals do not go through a float; NULL is null in JSON and nothing in CSV."""
    body = json.dumps(ROWS).replace('"@"', "12345678901.123456789012").encode()
    with serve(lambda request: (200, {"Content-Type": "application/json"}, body)) as server:
        assert run(capsys, "query", "SELECT 1;", "--admin", server.address, "--format", format_).ok() == expected
    assert server.requests[0].body == b"SELECT 1"


def test_query_as_a_table(capsys):
    """NULL says so, control characters are shown, the number of rows goes to standard error."""
    with ledger(exact) as server:
        result = run(capsys, "query", "SELECT 1", "--admin", server.address)
    assert "NULL" in result.ok()
    assert "\\x1b[31m" in result.out
    assert "\x1b" not in result.out
    assert result.err.startswith("2 rows from the collector at")


def test_query_from_standard_input(capsys, monkeypatch):
    """`-` reads the statement from a pipe."""
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 2;\n"))
    with ledger(exact) as server:
        run(capsys, "query", "-", "--admin", server.address).ok()
    assert server.requests[0].body == b"SELECT 2"


def test_what_the_store_says_is_shown(capsys):
    """A mistake in the SQL, a token that is asked for, a FORMAT of the statement's own."""

    def wrong(sql: str) -> dict[str, object]:
        raise ValueError("Code: 62. DB::Exception: Syntax error: near [x]")

    with ledger(wrong) as server:
        result = run(capsys, "query", "SELEC", "--admin", server.address)
    assert (result.code, result.out) == (1, "")
    assert "error: Code: 62. DB::Exception: Syntax error: near [x]" in result.err
    with serve(lambda request: (401, {}, b"")) as server:
        result = run(capsys, "query", "SELECT 1", "--admin", server.address)
    assert "Give it with --token or SPANLEDGER_ADMIN_TOKEN." in result.err
    with serve(lambda request: (200, {}, b"1\t2\n")) as server:
        result = run(capsys, "query", "SELECT 1 FORMAT TSV", "--admin", server.address)
    assert result.code == 2
    assert "the query names a FORMAT of its own" in result.err


def test_the_token_goes_along(capsys):
    """As a bearer token, from the option or the environment."""
    with ledger(exact) as server:
        run(capsys, "query", "SELECT 1", "--admin", server.address, "--token", "t0").ok()
    assert server.requests[0].headers["authorization"] == "Bearer t0"


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (Decimal("12.345"), "12.345"), (Decimal("1234567"), "1,234,567.00"), (Decimal("0.000000000001"), "0.000000000001"),
        (Decimal("1E+3"), "1,000.00"), (None, ""), (0, "0.00"), (Decimal("-0.5"), "-0.50"),
    ],
)  # fmt: skip
def test_money(amount, shown):
    """To the last digit that is there, two at least; unknown is nothing, not zero."""
    assert money(amount) == shown
    assert count(None) == ""


def test_a_store_that_is_not_there_yet(tmp_path, capsys):
    """What it is, and what to do; nothing is made in its place."""
    result = run(capsys, "query", "SELECT 1", "--dsn", f"chdb://{tmp_path / 'store'}")
    assert result.code == 1
    assert "nothing was ever written there" in result.err
    assert "say where the ledger is: --config, --dsn or --admin" in result.err
    assert not (tmp_path / "store").exists()
