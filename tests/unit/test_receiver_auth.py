"""Tokens: who is let in, as whom, and what happens when the file of tokens changes."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from collector.errors import SpanledgerError, Unauthenticated
from collector.receivers import auth as auth_module
from collector.receivers.auth import Auth
from config.model import AuthConfig

OPTION = "receivers.otlp.protocols.http.auth"


def _auth(**options: object) -> Auth:
    return Auth(AuthConfig.model_validate(options), OPTION)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


CLIENTS = {
    "search": {"token": "s3cret", "attributes": {"team": "search", "deployment.environment.name": "prod"}},
    "ads": {"token": "0ther"},
}


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        ("Bearer s3cret", None),
        ("bearer s3cret", None),
        ("BEARER   s3cret ", None),
        (_basic("pk-lf-1", "s3cret"), None),  # Langfuse's SDKs
        (None, "s3cret"),  # LangSmith's
    ],
)
def test_a_token_comes_in_by_each_of_its_ways(authorization: str | None, api_key: str | None) -> None:
    client = _auth(clients=CLIENTS).client(authorization, api_key)
    assert client.name == "search"
    assert client.attributes == {"team": "search", "deployment.environment.name": "prod"}


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        (None, None), ("", None), ("Bearer", None), ("Bearer ", None), ("Bearer s3cre", None), ("Bearer s3cret2", None),
        ("Bearer S3CRET", None), ("s3cret", None), ("Token s3cret", None), ("Basic s3cret", None),
        ("Basic !!!", None), (_basic("s3cret", ""), None), ("Bearer s3cret,0ther", None), ("Bearer \u00ff", None),
        (None, ""), (None, "wrong"), ("Bearer wrong", "s3cret"),
    ],
)  # fmt: skip
def test_anything_else_stays_out(authorization: str | None, api_key: str | None) -> None:
    with pytest.raises(Unauthenticated):
        _auth(clients=CLIENTS).client(authorization, api_key)


def test_without_a_config_everybody_is_let_in_as_nobody() -> None:
    auth = Auth(None, OPTION)
    assert not auth.required
    assert auth.client(None).attributes == {}


def test_one_token_for_everybody_beside_clients() -> None:
    auth = _auth(token="common", clients=CLIENTS)
    assert auth.client("Bearer common").name == ""
    assert auth.client("Bearer 0ther").name == "ads"


def test_every_token_is_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way through the code is the same for the first, the last and a wrong token: no time tells them apart."""
    compared: list[int] = []
    real = auth_module.hmac.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        assert len(a) == len(b) == 32
        compared[-1] += 1
        return real(a, b)

    monkeypatch.setattr(auth_module.hmac, "compare_digest", counting)
    auth = _auth(clients={f"c{i}": {"token": f"token-{i}"} for i in range(20)})
    for token in ("token-0", "token-19", "token-7", "no", "t" * 10_000):
        compared.append(0)
        try:
            auth.client(f"Bearer {token}")
        except Unauthenticated:
            pass
    assert compared == [20] * 5


@pytest.mark.parametrize("as_json", [False, True])
def test_tokens_from_a_file_are_read_again_when_it_changes(tmp_path: Path, as_json: bool) -> None:
    path = tmp_path / "tokens"
    first = {"search": "one", "ads": {"token": "two", "attributes": {"team": "ads"}}}
    path.write_text(json.dumps(first) if as_json else "search: one\nads: {token: two, attributes: {team: ads}}\n")
    auth = _auth(tokens_file=str(path))
    assert auth.client("Bearer two").attributes == {"team": "ads"}

    replacement = tmp_path / "new"
    replacement.write_text("search: three\n")
    os.replace(replacement, path)
    auth.refresh()
    assert auth.client("Bearer three").name == "search"
    for old in ("one", "two"):
        with pytest.raises(Unauthenticated):
            auth.client(f"Bearer {old}")


def test_a_file_that_became_unreadable_leaves_the_tokens_as_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text("search: one\n")
    auth = _auth(tokens_file=str(path))
    for wrong in ("search: [", "- a\n- b\n", "search: {tokn: hush-hush}\n", "search: ''\n"):
        path.write_text(wrong)
        os.utime(path, ns=(1, hash(wrong) % 10**9))
        auth.refresh()
        assert auth.client("Bearer one").name == "search"
    path.unlink()
    auth.refresh()
    assert auth.client("Bearer one").name == "search"
    assert caplog.text.count("stay valid") == 5
    assert "hush-hush" not in caplog.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot read"),
        ("a: [", "neither YAML nor JSON"),
        ("just text", "not a mapping"),
        ("a: {token: x, atributes: {}}", "a.atributes (extra_forbidden)"),
        ("a: 5", "expected `client: token`"),
        ("a: same\nb: same", "'a' and 'b' have the same token"),
        ("a: ' '", "is empty"),
    ],
)
def test_a_wrong_file_is_named_at_start(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "tokens.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SpanledgerError) as caught:
        _auth(tokens_file=str(path))
    assert said in str(caught.value)
    assert OPTION in str(caught.value)
