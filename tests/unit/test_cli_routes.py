"""`spanledger routes`: what is wrong with a policy, and what is asked of the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli_kit import ledger, run

ROUTES = (
    "routes:\n  - {name: low, match: {user_priority: low}, route_to: gpt-3.5-turbo}\n  - {name: rest, route_to: fast}\n"
)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(ROUTES)
    return path


def test_check_shows_the_routes_and_what_has_no_price(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "routes", "check", "--policy", str(policy))
    shown = result.ok()
    assert "openai/gpt-3.5-turbo" in shown
    assert "2 routes, 0 rules" in shown
    assert "No price for fast" in result.err
    policy.write_text(ROUTES + "aliases: {fast: gpt-4o-mini}\n")
    assert run(capsys, "routes", "check", "--policy", str(policy)).err == ""


def test_check_says_every_mistake_with_its_place(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy.write_text("routes:\n  - match: {task_typ: x}\n    route_to: gpt-4\n  - match: {}\n")
    result = run(capsys, "routes", "check", "--policy", str(policy))
    assert result.code == 2
    assert f"{policy}:2:" in result.err
    assert "did you mean 'task_type'?" in result.err
    assert f"{policy}:4:" in result.err


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        ("rules:\n  - {deny_models: [x]}\n", (), "has no routes"),
        (ROUTES, ("--since", "2026-11-25", "--until", "2026-11-24"), "--since is not before --until"),
        (ROUTES, ("--since", "soon"), "--since: not a time"),
    ],
)
def test_what_cannot_be_simulated(policy: Path, text: str, words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    policy.write_text(text)
    result = run(capsys, "routes", "simulate", "--policy", str(policy), *words)
    assert result.code == 2
    assert says in result.err


def test_simulate_asks_for_a_time_and_says_where_nothing_is(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []

    def nothing(sql: str) -> dict[str, object]:
        asked.append(sql)
        return {"meta": [], "data": []}

    with ledger(nothing) as server:
        words = ("routes", "simulate", "--policy", str(policy), "--admin", server.address)
        result = run(capsys, *words)
        assert run(capsys, *words, "--format", "json").ok().strip() == "[]"
    assert "there are no calls since 7d" in result.err
    assert "Timestamp >= toDateTime64('20" in asked[0]
    assert "UserPriority" in asked[0]
