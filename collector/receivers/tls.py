"""TLS whose files may change while it runs: a new context when they did, for the connections that come from then on."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Sequence

from collector.errors import SpanledgerError
from collector.receivers.files import Watched
from config.tls import TlsConfig

logger = logging.getLogger(__name__)

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Tls:
    """The TLS context of one port. `context` is what the next connection gets."""

    def __init__(self, config: TlsConfig, protocols: Sequence[str], option: str) -> None:
        """`protocols` are offered by ALPN. `option` is the config path of the port's `tls`. Raises `SpanledgerError`."""
        self.config, self._protocols, self._option = config, list(protocols), option
        files = [config.cert_file, config.key_file]
        self._files = Watched([*files, config.client_ca_file] if config.client_ca_file else files)
        self._look_at = 0.0
        self._stale = False
        self.context = self._build()

    def refresh(self) -> None:
        """Build a new context if a file has changed, looking no more often than `reload_interval`. Files that do not
        fit together leave the old one in use: they are often replaced one after the other."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + self.config.reload_interval
        if not (self._files.changed() or self._stale):
            return
        try:
            self.context = self._build()
            self._stale = False
            logger.info("%s: certificates read again", self._option)
        except SpanledgerError as error:
            self._stale = True  # look again, also if nothing changes: it may have been read while it was written
            logger.error("%s; the certificates that were read before stay in use", error)

    def _build(self) -> ssl.SSLContext:
        config = self.config
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[config.min_version]
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(self._protocols)
        try:
            # A key with a passphrase would ask for it on the terminal: give it a wrong one.
            context.load_cert_chain(config.cert_file, config.key_file, password=lambda: b"-")
        except OSError as error:  # ssl.SSLError is one
            raise SpanledgerError(
                f"{self._option}: cannot use cert_file {config.cert_file} with key_file {config.key_file}: "
                f"{getattr(error, 'reason', None) or error.strerror or error}"
            ) from None
        if config.client_ca_file is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(config.client_ca_file)
            except OSError as error:
                raise SpanledgerError(
                    f"{self._option}.client_ca_file: cannot read {config.client_ca_file}: "
                    f"{getattr(error, 'reason', None) or error.strerror or error}"
                ) from None
        return context
