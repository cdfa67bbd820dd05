"""The LiteLLM hook of deploy/recipes, with LiteLLM, FastAPI and httpx played, against a real verdict port."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.unit.test_verdict import serving

RECIPE = Path(__file__).parents[2] / "deploy" / "recipes" / "litellm_budgets.py"


class Refused(Exception):
    """FastAPI's HTTPException."""

    def __init__(self, status_code: int, detail: Any, headers: Mapping[str, str]) -> None:
        super().__init__(status_code)
        self.status_code, self.detail, self.headers = status_code, detail, headers


class Client:
    """httpx.AsyncClient, as far as the hook uses it."""

    def __init__(self, base_url: str, headers: Mapping[str, str], timeout: float) -> None:
        self._at, self._headers, self._timeout = urlsplit(base_url).netloc, headers, timeout

    async def get(self, path: str, params: Mapping[str, str]) -> Any:
        connection = http.client.HTTPConnection(self._at, timeout=self._timeout)
        try:
            connection.request("GET", f"{path}?{urlencode(params)}", headers=dict(self._headers))
            answer = connection.getresponse()
            body = answer.read()
        except OSError as error:
            raise sys.modules["httpx"].HTTPError(str(error)) from None
        finally:
            connection.close()
        return SimpleNamespace(
            status_code=answer.status,
            headers={k.lower(): v for k, v in answer.getheaders()},
            json=lambda: json.loads(body),
        )


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that loads the recipe with an environment."""

    def module(name: str, **content: Any) -> None:
        made = ModuleType(name)
        made.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, made)

    def models(model_name: str) -> Any:
        found = {"mini": ["openai/gpt-4o-mini"], "mixed": ["a/b", "c/d"]}.get(model_name)
        return found and [{"litellm_params": {"model": model}} for model in found]

    module("httpx", AsyncClient=Client, HTTPError=type("HTTPError", (Exception,), {}))
    module("fastapi", HTTPException=Refused)
    for name in ("litellm", "litellm.integrations", "litellm.proxy"):
        module(name)
    module("litellm.integrations.custom_logger", CustomLogger=object)
    module("litellm.proxy.proxy_server", llm_router=SimpleNamespace(get_model_list=models))

    def load(**environment: str) -> Any:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        spec = importlib.util.spec_from_file_location("litellm_budgets", RECIPE)
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        return made

    return load


def asked(recipe: Any, team: str) -> Any:
    key = SimpleNamespace(team_alias=team, team_id="t-1", user_id=None, key_alias="bot")
    return asyncio.run(recipe.budgets.async_pre_call_hook(key, None, {"model": "mini"}, "completion"))


def test_a_team_over_its_budget_is_refused_with_the_reason(hook: Any) -> None:
    with serving(auth={"token": "t0p"}) as running:
        recipe = hook(SPANLEDGER_VERDICT_URL=f"http://{running.http}", SPANLEDGER_VERDICT_TOKEN="t0p")
        assert asked(recipe, "rich") == {"model": "mini"}
        with pytest.raises(Refused) as refused:
            asked(recipe, "broke")
    assert refused.value.status_code == 429
    assert refused.value.detail["error"]["message"].startswith("budget teams: team broke used 12 of 10 USD")
    assert set(refused.value.headers) >= {"x-spanledger-budget", "retry-after"}


def test_where_nobody_answers_the_environment_decides(hook: Any) -> None:
    nobody = "http://127.0.0.1:1"
    assert asked(hook(SPANLEDGER_VERDICT_URL=nobody), "broke") == {"model": "mini"}
    with pytest.raises(Refused) as refused:
        asked(hook(SPANLEDGER_VERDICT_URL=nobody, SPANLEDGER_ON_ERROR="deny"), "rich")
    assert refused.value.status_code == 503
    with serving(auth={"token": "t0p"}) as running, pytest.raises(Refused):
        asked(hook(SPANLEDGER_VERDICT_URL=f"http://{running.http}", SPANLEDGER_ON_ERROR="deny"), "rich")  # no token
    with pytest.raises(ValueError, match="expected allow or deny"):
        hook(SPANLEDGER_ON_ERROR="maybe")


def test_who_calls_is_what_the_gateway_knows_and_the_model_what_it_deploys(hook: Any) -> None:
    recipe = hook()
    key = SimpleNamespace(
        team_alias=None, team_id="t-1", user_id=None, user_email="a@b.example", end_user_id="e", api_key="hash"
    )
    assert recipe.question(key, {"model": "mini", "user": "claimed"}) == {
        "team": "t-1", "user": "a@b.example", "end_user": "e", "api_key": "hash", "model": "gpt-4o-mini",
    }  # fmt: skip
    assert (recipe.deployed("mixed"), recipe.deployed("unknown")) == ("mixed", "unknown")
    assert recipe.question(SimpleNamespace(), {})["team"] == "(unattributed)"
