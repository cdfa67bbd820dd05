"""Whether two names are one model: providers, clouds and versions spell it in their own ways."""

from __future__ import annotations

import re
from functools import lru_cache

_REGION = re.compile(r"^(?:us|eu|apac|jp|au|ca|us-gov|global)\.(?=[a-z0-9-]+\.)")
_MAKER = re.compile(
    r"^(?:anthropic|meta|amazon|cohere|mistral|ai21|deepseek|openai|qwen|writer|stability|twelvelabs)\.(?=[a-z])"
)
#: `-20240307`, `-2024-08-06`, `-0613`, `-latest`, `@20240307`, `-v1:0`, `:0`, `-001`.
_VERSION = re.compile(r"(?:[-@](?:20\d{6}|20\d{2}-\d{2}-\d{2}|\d{4}|\d{3}|latest|default)|-v\d+(?::\d+)?|:\d+)$")


@lru_cache(maxsize=8192)
def bare(name: str) -> str:
    """The name in lower case, without what stands for a provider, a region or a maker before it."""
    text = name.lower().rpartition("/")[2]
    return _MAKER.sub("", _REGION.sub("", text))


@lru_cache(maxsize=8192)
def undated(name: str) -> str:
    """The bare name without its version."""
    text = bare(name)
    while (shorter := _VERSION.sub("", text)) != text and shorter:
        text = shorter
    return text


def same_model(expected: str, served: str) -> bool:
    """Whether `served` is the expected model, or a version of it where `expected` names none."""
    wanted = bare(expected)
    return bare(served) == wanted or (undated(served) == wanted)
