"""The config: models, the loader with its line-accurate errors, and the YAML that ships."""

from config.errors import ConfigError, Finding
from config.loader import load
from config.model import ComponentSpec, LoadedConfig
from config.registry import Registry
from config.show import json_schema, print_config

__all__ = [
    "ComponentSpec",
    "ConfigError",
    "Finding",
    "LoadedConfig",
    "Registry",
    "json_schema",
    "load",
    "print_config",
]
