"""The verdict's gRPC port with TLS: grpcio's credentials from the same options and files as every other port's."""

from __future__ import annotations

from typing import Any

import grpc

from collector.errors import SpanledgerError
from collector.receivers.tls import Tls
from config.tls import TlsConfig

_OPTION = "service.verdict.tls"


def credentials(config: TlsConfig) -> grpc.ServerCredentials:
    """Credentials that follow the files. Raises `SpanledgerError` where these cannot be used."""
    if config.min_version == "1.3":
        raise SpanledgerError(
            f"{_OPTION}.min_version: the port of service.verdict.grpc_endpoint speaks TLS 1.2 too, which its library does not "
            "let us turn off; set 1.2, or serve HTTP alone"
        )
    # Python's own TLS judges the files: grpcio says of a wrong one only that a handshake failed.
    tls = Tls(config, ["h2"], _OPTION)
    used: Any = tls.context

    def follow() -> Any:
        """New certificates, where there are any; None: those in use."""
        nonlocal used
        tls.refresh()
        if tls.context is used:
            return None
        try:
            found = _read(config)
        except OSError:  # being replaced: the next connection looks again
            return None
        used = tls.context
        return found

    return grpc.dynamic_ssl_server_credentials(
        _read(config), follow, require_client_authentication=config.client_ca_file is not None
    )


def _read(config: TlsConfig) -> Any:
    """Raises `OSError`."""
    authorities = config.client_ca_file.read_bytes() if config.client_ca_file is not None else None
    pairs = [(config.key_file.read_bytes(), config.cert_file.read_bytes())]
    return grpc.ssl_server_certificate_configuration(pairs, root_certificates=authorities)
