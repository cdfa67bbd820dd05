"""Values from the environment: `${env:NAME}`, `${env:NAME:-default}`, and `$$` for a dollar sign."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?:\$|\{(?P<inner>[^{}]*)\}|(?P<open>\{))")
_ENV = re.compile(r"env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


class EnvironmentProblem(Exception):
    """A reference that cannot be replaced. The message holds names only, no value."""


def expand(text: str, env: Mapping[str, str]) -> tuple[str, bool]:
    """The text with its references replaced, and whether there were any. Raises `EnvironmentProblem`.

    What a variable holds is not looked at again: a `$` in it is a dollar sign.
    """
    if "$" not in text:
        return text, False
    referred = False

    def value(match: re.Match[str]) -> str:
        nonlocal referred
        if match[0] == "$$":
            return "$"
        if match["open"]:
            raise EnvironmentProblem(
                "`${` without its `}`; write ${env:NAME} or ${env:NAME:-default}, and $${ for a text"
            )
        reference = _ENV.fullmatch(match["inner"])
        if not reference:
            name = match["inner"].removeprefix("env:").partition(":")[0]
            hint = f"write ${{env:{name}}}" if re.fullmatch(r"[A-Za-z_]\w*", name) else "write ${env:NAME}"
            raise EnvironmentProblem(f"`{match[0]}` is not understood; {hint}, or $$ for a dollar sign")
        referred = True
        if reference["name"] in env:
            found = env[reference["name"]]
            return found if found or reference["default"] is None else reference["default"]
        if reference["default"] is None:
            raise EnvironmentProblem(
                f"the environment variable {reference['name']} is not set; set it, or give a default: "
                f"${{env:{reference['name']}:-default}}"
            )
        return reference["default"]

    return _REFERENCE.sub(value, text), referred
