"""The types that config models are written with: durations, sizes, secrets, and the strict base model."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
)

_DURATION_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_SIZE_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse_duration(value: Any) -> float:
    """`"1m30s"` → 90.0 seconds. A bare 0 is allowed, any other bare number is refused: its unit would be a guess."""
    if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and value == 0):
        return float(value)
    text = str(value).strip()
    parts = _DURATION_PART.findall(text)
    if isinstance(value, bool) or not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f"not a duration: {text!r}; write a number and a unit, such as 500ms, 5s, 1m30s or 24h")
    return sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)


def parse_size(value: Any) -> int:
    """`"64MiB"` → 67108864 bytes. A bare whole number is bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(str(value).strip())
    if isinstance(value, bool) or not match or match[2].upper() not in _SIZE_UNITS:
        raise ValueError(f"not a size: {value!r}; write a number and a unit, such as 512KiB, 64MiB or 2GiB")
    return int(float(match[1]) * _SIZE_UNITS[match[2].upper()])


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError("not a network: expected an address or a network such as 10.0.0.0/8") from None


def parse_endpoint(text: str) -> tuple[str, int]:
    """`host:port`, `[v6]:port` or `:port` (every interface, host "") as host and port. Raises ValueError."""
    if "://" in text:
        raise ValueError(
            f"not an endpoint: {text!r}; write host:port without {text.partition('://')[0]}://, such as 127.0.0.1:4317"
        )
    host, colon, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or "[" in host:
        raise ValueError(f"not an endpoint: {text!r}; write an IPv6 address in brackets, such as [::1]:4317")
    if port.isascii() and port.isdigit() and int(port) > 65535:
        raise ValueError(f"not an endpoint: {text!r}; a port is a number up to 65535")
    if not colon or not (port.isascii() and port.isdigit()) or "/" in host:
        raise ValueError(f"not an endpoint: {text!r}; write host:port, such as 127.0.0.1:4317")
    return host, int(port)


def _endpoint(text: str) -> str:
    parse_endpoint(text)
    return text


def read_duration(value: Any, info: ValidationInfo) -> float:
    """`parse_duration` for a field. Python code may give seconds, a config file may not: it is read as JSON."""
    if info.mode == "json" and isinstance(value, float):
        raise ValueError(f"not a duration: {value!r}; write a number and a unit, such as 500ms, 5s, 1m30s or 24h")
    return parse_duration(value)


def show_duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= length and seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds * 1000:g}ms" if seconds else "0s"


def show_size(size: int) -> str:
    for unit, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= length and size % length == 0:
            return f"{size // length}{unit}"
    return f"{size}B"


_DURATION_SCHEMA = {
    "type": "string",
    "pattern": r"^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h|d))+$",
    "examples": ["500ms", "5s", "24h"],
}
_SIZE_SCHEMA = {"type": ["string", "integer"], "examples": ["512KiB", "64MiB"]}

#: Seconds, written `5s`, `200ms`, `1m30s`.
Duration = Annotated[
    float,
    BeforeValidator(read_duration),
    PlainSerializer(show_duration, return_type=str),
    WithJsonSchema(_DURATION_SCHEMA),
]
#: Bytes, written `64MiB`.
ByteSize = Annotated[
    int, BeforeValidator(parse_size), PlainSerializer(show_size, return_type=str), WithJsonSchema(_SIZE_SCHEMA)
]
#: Where to listen: `host:port`, `[v6]:port` or `:port`.
Endpoint = Annotated[str, AfterValidator(_endpoint)]
#: Addresses, as `10.0.0.0/8` or one address.
Network = Annotated[str, AfterValidator(_network)]
#: A value that never prints; `.get_secret_value()` reads it.
Secret = SecretStr


class StrictModel(BaseModel):
    """The base of every config model: unknown keys are errors, values are not coerced silently, frozen once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
