"""Encryption of a port that listens: the same options wherever one does."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from config.types import Duration, StrictModel


class TlsConfig(StrictModel):
    """Encryption of the port. The files are read again when they change; connections that are open stay."""

    cert_file: Path
    """PEM file with the certificate, then its intermediates."""
    key_file: Path
    """PEM file with the certificate's private key, without a passphrase."""
    client_ca_file: Path | None = None
    """PEM file of authorities. With it every client must show a certificate that one of them signed (mTLS)."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """Oldest TLS version to speak."""
    reload_interval: Duration = Field(default=10.0, ge=0.1, le=86400)
    """How often to look whether the files have changed."""
