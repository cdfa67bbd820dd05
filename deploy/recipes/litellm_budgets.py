"""LiteLLM asks Spanledger before each call, and refuses it where a budget is used up.

Put this file beside LiteLLM's config.yaml and name it there:

    litellm_settings:
      callbacks: [otel, litellm_budgets.budgets]

Environment of the proxy:

    SPANLEDGER_VERDICT_URL    default http://127.0.0.1:8788
    SPANLEDGER_VERDICT_TOKEN  service.verdict.auth.token, where one is set
    SPANLEDGER_ON_ERROR       allow (default) or deny: what to do while nobody answers

Who the call is of is what LiteLLM itself authenticated; nothing that the caller wrote is believed.
"""

import logging
import os
from typing import Any

import httpx
from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger

logger = logging.getLogger("spanledger")

#: A verdict takes a millisecond; a gateway must not wait for one that does not come.
TIMEOUT_S = 0.5


class Budgets(CustomLogger):
    """The hook."""

    def __init__(self) -> None:
        super().__init__()
        token = os.environ.get("SPANLEDGER_VERDICT_TOKEN")
        self._client = httpx.AsyncClient(
            base_url=os.environ.get("SPANLEDGER_VERDICT_URL", "http://127.0.0.1:8788"),
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=TIMEOUT_S,
        )
        self._on_error = os.environ.get("SPANLEDGER_ON_ERROR", "allow")
        if self._on_error not in ("allow", "deny"):
            raise ValueError("SPANLEDGER_ON_ERROR: expected allow or deny")

    async def async_pre_call_hook(
        self,
        user_api_key_dict: Any,
        cache: Any,  # noqa: ARG002
        data: dict[str, Any],
        call_type: str,  # noqa: ARG002
    ) -> dict[str, Any]:
        """LiteLLM calls it with the key's owner and the request; raising refuses the call."""
        try:
            answer = await self._client.get("/v1/verdict", params=question(user_api_key_dict, data))
            verdict = answer.json()
            allow, error = bool(verdict["allow"]), verdict.get("error")
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as trouble:
            logger.warning("no verdict from Spanledger (%s): %s", type(trouble).__name__, self._on_error)
            allow, error, answer = (
                self._on_error == "allow",
                {"message": "budgets cannot be asked", "code": "budget_unknown"},
                None,
            )
        if allow:
            return data
        headers = {
            name: value
            for name, value in (answer.headers if answer is not None else {}).items()
            if name.startswith("x-spanledger-") or name == "retry-after"
        }
        raise HTTPException(
            status_code=answer.status_code if answer is not None else 503, detail={"error": error}, headers=headers
        )


def question(key: Any, data: dict[str, Any]) -> dict[str, str]:
    """Who calls, as Spanledger's attribution names it: team by alias, else id; key by alias; user by id, else e-mail."""
    named = {
        "team": getattr(key, "team_alias", None) or getattr(key, "team_id", None) or "(unattributed)",
        "user": getattr(key, "user_id", None) or getattr(key, "user_email", None) or "(unattributed)",
        "end_user": getattr(key, "end_user_id", None) or "",
        "api_key": getattr(key, "key_alias", None) or getattr(key, "api_key", None) or "",
        "model": deployed(data.get("model") or ""),
    }
    return {name: str(value) for name, value in named.items()}


def deployed(alias: str) -> str:
    """The provider's name of the model behind an alias, which is what budgets per model go by; the alias where it stands for
    several."""
    try:
        from litellm.proxy.proxy_server import llm_router

        found = llm_router.get_model_list(model_name=alias) or []
        models = {deployment["litellm_params"]["model"].rpartition("/")[2] for deployment in found}
    except (ImportError, AttributeError, KeyError, TypeError):
        return alias
    return models.pop() if len(models) == 1 else alias


budgets = Budgets()
