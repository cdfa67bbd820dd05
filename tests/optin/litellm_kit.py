"""A real LiteLLM proxy: its own process and environment, answers mocked inside it, no network, no database."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.collector_kit import free_ports

REPOSITORY = Path(__file__).parents[2]
PROGRAM = Path(os.environ.get("SPANLEDGER_LITELLM", REPOSITORY / ".venv-litellm" / "bin" / "litellm"))
INSTALL = "python3 -m venv .venv-litellm && .venv-litellm/bin/pip install 'litellm[proxy]' opentelemetry-exporter-otlp"

CONFIG = """
model_list:
  - model_name: mini
    litellm_params: {model: openai/gpt-4o-mini, api_key: none, mock_response: "Your refund was approved."}
  - model_name: claude
    litellm_params: {model: anthropic/claude-sonnet-4-5, api_key: none, mock_response: "The parcel leaves the depot on Thursday."}
  - model_name: broken
    litellm_params: {model: openai/gpt-4.1, api_key: none, mock_response: litellm.InternalServerError}
  - model_name: premium
    litellm_params: {model: openai/gpt-4.1, api_key: none, mock_response: litellm.InternalServerError}
router_settings:
  num_retries: 0
  fallbacks: [{premium: [claude]}]
litellm_settings:
  callbacks: [otel]
general_settings:
  master_key: sk-master
  custom_auth: owners.authenticate
"""

#: Keys with owners, as a proxy with a database has them.
OWNERS = """
from litellm.proxy._types import UserAPIKeyAuth

KEYS = {
    "sk-payments": dict(key_alias="payments-bot", team_id="t-1", team_alias="payments", user_id="jane"),
    "sk-research": dict(key_alias="research-bot", team_id="t-2", team_alias="research", user_id="joe"),
}


async def authenticate(request, api_key):
    return UserAPIKeyAuth(api_key=api_key, **KEYS[api_key])
"""


@dataclass(frozen=True)
class Answer:
    """What the proxy said to a client. `usage` is None where it said none."""

    status: int
    id: str
    usage: dict[str, Any] | None


class Proxy:
    """A running proxy."""

    def __init__(self, port: int) -> None:
        self.port = port

    def chat(self, key: str, model: str, *, stream: bool = False, **more: Any) -> Answer:
        """One chat call in plain HTTP."""
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": "Where is my parcel?"}],
            **more,
        }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/chat/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": f"Bearer {key}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            return Answer(error.code, "", None)
        if not stream:
            said = json.loads(text)
            return Answer(200, said["id"], said["usage"])
        chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        return Answer(200, chunks[0]["id"], next(c["usage"] for c in chunks if c.get("usage")))


@contextlib.contextmanager
def proxy(folder: Path, env: dict[str, str], hook: Path | None = None) -> Iterator[Proxy]:
    """A proxy whose callback `otel` reads `env`, for the length of a block; its end flushes what it still holds.

    hook: the file of a further callback, whose instance is called `budgets`
    """
    folder.mkdir(parents=True, exist_ok=True)
    callbacks = "otel" if hook is None else f"otel, {hook.stem}.budgets"
    (folder / "config.yaml").write_text(CONFIG.replace("callbacks: [otel]", f"callbacks: [{callbacks}]"))
    if hook is not None:
        shutil.copy(hook, folder)
    (folder / "owners.py").write_text(OWNERS)
    log = folder / "litellm.log"
    [port] = free_ports(1)
    offline = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # the price list that it ships
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
        "LITELLM_TELEMETRY": "False",
        "DISABLE_ADMIN_UI": "true",
        "OTEL_BSP_SCHEDULE_DELAY": "300",
    }
    command = [
        str(PROGRAM),
        "--config",
        "config.yaml",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--telemetry",
        "False",
    ]
    with log.open("wb") as output:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LITELLM_"))}
        server = subprocess.Popen(
            command,
            cwd=folder,
            stdout=output,
            stderr=output,
            env={**inherited, **offline, **env},
            start_new_session=True,
        )
    try:
        for _ in range(600):
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=5),
            ):
                break
            assert server.poll() is None, log.read_text()[-3000:]
            time.sleep(0.2)
        else:
            raise AssertionError(f"the proxy did not start: {log.read_text()[-3000:]}")
        yield Proxy(port)
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
