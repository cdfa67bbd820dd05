"""HTTP/1.1 and HTTP/2 by libcurl: one connection that is kept, a deadline over the whole of a request, bounded answers.

libcurl because one client does for both protocols what the others do for one of them at most: trailers (gRPC's status stands
there), messages that are compressed already (grpcio compresses each attempt anew, six times slower, and never with zstd), a
deadline that a server which sends a byte a second cannot stretch, proxies from the environment, TLS files read at each handshake.
A redirect is an answer like any other: following it could show the headers to somebody else.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import certifi
import pycurl

from collector.errors import Retryable
from collector.receivers.files import Watched
from exporters.otlp.config import TlsConfig

logger = logging.getLogger(__name__)

#: Bytes of an answer that are read, as OTLP recommends to servers at most; a longer one is cut off.
MAX_ANSWER = 4 * 2**20
_CONNECT_S = 10.0
_MAX_LINES = 1000  # of headers and trailers
_VERSIONS = {"1.2": pycurl.SSLVERSION_TLSv1_2, "1.3": pycurl.SSLVERSION_TLSv1_3}
#: What libcurl calls it, for people.
_CAUSES = {
    pycurl.E_COULDNT_RESOLVE_PROXY: "the proxy's name is not known",
    pycurl.E_COULDNT_RESOLVE_HOST: "the host's name is not known",
    pycurl.E_COULDNT_CONNECT: "cannot connect",
    pycurl.E_OPERATION_TIMEDOUT: "no answer in time",
    pycurl.E_SSL_CONNECT_ERROR: "TLS failed",
    pycurl.E_PEER_FAILED_VERIFICATION: "the certificate is not trusted",
    pycurl.E_SSL_CERTPROBLEM: "tls.cert_file or tls.key_file cannot be used",
    pycurl.E_SSL_CACERT_BADFILE: "tls.ca_file cannot be used",
    pycurl.E_GOT_NOTHING: "the connection was closed without an answer",
    pycurl.E_SEND_ERROR: "the connection broke",
    pycurl.E_RECV_ERROR: "the connection broke",
    pycurl.E_PARTIAL_FILE: "the connection broke",
    pycurl.E_HTTP2: "the HTTP/2 connection broke",
    92: "the HTTP/2 stream broke",  # E_HTTP2_STREAM, which pycurl does not name
    8: "the answer is not HTTP",  # E_WEIRD_SERVER_REPLY, likewise
}


@dataclass(slots=True)
class Reply:
    """An answer. Names of headers and trailers are in lower case; of repeated ones the last counts."""

    status: int
    http2: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = True  # false: the body was longer than `MAX_ANSWER`


class Transport:
    """Posts bodies, one at a time, on one thread."""

    def __init__(self, tls: TlsConfig, timeout: float, *, http2: bool) -> None:
        self._tls, self._timeout, self._http2 = tls, timeout, http2
        files = [path for path in (tls.ca_file, tls.cert_file, tls.key_file) if path is not None]
        self._watched = Watched(files) if files else None
        self._look_at = 0.0
        self._curl: pycurl.Curl | None = None
        self._lines: list[bytes] = []
        self._pieces: list[bytes] = []
        self._size = 0
        self._whole = True

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send a body; the answer, whatever its status. Raises `Retryable` where there is none."""
        self._refresh()
        curl = self._curl = self._curl or self._open()
        self._lines, self._pieces, self._size, self._whole = [], [], 0, True
        lines = [f"{name}: {value}" if value else f"{name};" for name, value in headers.items()]
        curl.setopt(pycurl.HTTPHEADER, [*lines, "Expect:", "Accept:", *self._aim(curl, url)])
        curl.setopt(pycurl.POSTFIELDS, body)
        try:
            curl.perform()
        except pycurl.error as error:
            if error.args[0] == pycurl.E_WRITE_ERROR and not self._whole:
                return self._reply(curl)
            cause, detail = _CAUSES.get(error.args[0], f"libcurl error {error.args[0]}"), str(error.args[1]).strip()
            raise Retryable(f"{cause}: {detail}" if detail else cause) from None
        return self._reply(curl)

    def close(self) -> None:
        """Close the connection. It is opened again when it is needed."""
        if self._curl is not None:
            self._curl.close()
            self._curl = None

    def _refresh(self) -> None:
        """Begin anew when a certificate has changed: libcurl reads the files when it connects."""
        now = time.monotonic()
        if self._watched is not None and now >= self._look_at:
            self._look_at = now + self._tls.reload_interval
            if self._watched.changed():
                logger.info("certificates have changed: connecting anew")
                self.close()

    def _open(self) -> pycurl.Curl:
        tls, curl = self._tls, pycurl.Curl()
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.POST, 1)
        curl.setopt(pycurl.USERAGENT, "spanledger")
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(self._timeout * 1000)))
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(min(self._timeout, _CONNECT_S) * 1000)))
        curl.setopt(pycurl.TCP_KEEPALIVE, 1)
        curl.setopt(pycurl.HEADERFUNCTION, self._header)
        curl.setopt(pycurl.WRITEFUNCTION, self._write)
        if self._http2:
            curl.setopt(pycurl.HTTPPROXYTUNNEL, 1)
        curl.setopt(pycurl.SSLVERSION, _VERSIONS[tls.min_version])
        curl.setopt(pycurl.CAINFO, str(tls.ca_file) if tls.ca_file else system_authorities())
        curl.setopt(pycurl.SSL_VERIFYPEER, int(not tls.insecure_skip_verify))
        curl.setopt(pycurl.SSL_VERIFYHOST, 0 if tls.insecure_skip_verify else 2)
        if tls.cert_file is not None:
            curl.setopt(pycurl.SSLCERT, str(tls.cert_file))
            curl.setopt(pycurl.SSLKEY, str(tls.key_file))
            # A key with a passphrase would ask for it on the terminal: give it a wrong one.
            curl.setopt(pycurl.KEYPASSWD, "-")
        return curl

    def _aim(self, curl: pycurl.Curl, url: str) -> list[str]:
        """Where to connect, by which protocol and name; further header lines that this needs."""
        parts = urlsplit(url)
        host, secure = parts.hostname or "", parts.scheme == "https"
        if self._http2:
            version = pycurl.CURL_HTTP_VERSION_2TLS if secure else pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE
        else:
            version = pycurl.CURL_HTTP_VERSION_1_1
        curl.setopt(pycurl.HTTP_VERSION, version)
        if _is_loopback(host):  # as Go and grpcio do: what is on this machine is not asked of a proxy
            curl.setopt(pycurl.PROXY, "")
        else:
            curl.unsetopt(pycurl.PROXY)
        name = self._tls.server_name_override
        if not secure or name is None:
            curl.setopt(pycurl.URL, url)
            return []
        port = parts.port or 443
        curl.setopt(pycurl.CONNECT_TO, [f"{name}:{port}:{f'[{host}]' if ':' in host else host}:{port}"])
        curl.setopt(pycurl.URL, parts._replace(netloc=f"{name}:{port}").geturl())
        return [] if self._http2 else [f"Host: {parts.netloc}"]

    def _header(self, line: bytes) -> None:
        if line.startswith(b"HTTP/"):  # a proxy's or a provisional answer is followed by the real one
            self._lines.clear()
        if len(self._lines) < _MAX_LINES:
            self._lines.append(line)

    def _write(self, data: bytes) -> int:
        self._size += len(data)
        if self._size > MAX_ANSWER:
            self._whole = False
            return 0
        self._pieces.append(data)
        return len(data)

    def _reply(self, curl: pycurl.Curl) -> Reply:
        reply = Reply(curl.getinfo(pycurl.RESPONSE_CODE), body=b"".join(self._pieces), whole=self._whole)
        reply.http2 = curl.getinfo(pycurl.INFO_HTTP_VERSION) == pycurl.CURL_HTTP_VERSION_2_0
        for line in self._lines:
            name, colon, value = line.decode("latin-1").partition(":")
            if colon:
                reply.headers[name.strip().lower()] = value.strip()
        return reply


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def system_authorities() -> str:
    """File of the authorities that this system trusts; SSL_CERT_FILE stands above it."""
    return ssl.get_default_verify_paths().cafile or certifi.where()
