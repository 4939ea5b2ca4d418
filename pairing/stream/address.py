"""The address of a pairing service: how it is written, whether a proxy is on the way, and what TLS says when a call fails."""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gated_vae.preprocessing.errors import GatedVAEError

ROOTS_VARIABLE = "GATED_VAE_TLS_ROOTS"
_FORMS = {"grpc": False, "grpc+tcp": False, "grpc+tls": True}  # whether they are encrypted
_SECONDS = 5.0  # for a TLS handshake
_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH = 62, 64  # X509_V_ERR_... of OpenSSL


def is_address(source: str | Path) -> bool:
    """Whether a store is named by the address of a pairing service instead of its folder."""
    return isinstance(source, str) and "://" in source


def is_loopback(host: str) -> bool:
    """Whether a host is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Address:
    """Where a pairing service is."""

    host: str
    port: int
    tls: bool

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``grpc://HOST:PORT``, ``grpc+tcp://`` (the same) or ``grpc+tls://``; `GatedVAEError` where it is none of them."""
        try:
            url = urlsplit(text)
            tls, host, port = _FORMS[url.scheme], url.hostname, url.port
        except (KeyError, ValueError):  # another scheme; no number
            host = port = None
        if not host or not port or url.path not in ("", "/"):
            forms = " or ".join(f"{form}://HOST:PORT" for form in ("grpc", "grpc+tls"))
            remedy = f"Write {forms}, as `pipe serve` prints it."
            raise GatedVAEError(f"{text} is no address of a pairing service.", "", remedy)
        return cls(host, port, tls)

    def __str__(self) -> str:
        """As Flight and `parse` read it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"grpc{'+tls' if self.tls else ''}://{host}:{self.port}"

    @property
    def by_proxy(self) -> bool:
        """Whether gRPC may ask a proxy of the environment: one named for it, and never on the way to this machine itself.

        Proxies for the web (http_proxy, https_proxy), which gRPC takes, too, know nothing of services in the local network.
        """
        return "grpc_proxy" in os.environ and not is_loopback(self.host)

    def tls_trouble(self, roots: bytes) -> tuple[str, str] | None:
        """Why no TLS connection with the server comes about and what to do; None where that is not the trouble.

        Python's TLS is asked, whose answers are numbers where gRPC's are prose.
        """
        try:
            context = ssl.create_default_context(cadata=roots.decode() or None if self.tls else None)
        except (ssl.SSLError, ValueError):
            why = f"The file that {ROOTS_VARIABLE} names holds no certificate (PEM)."
            return why, "Let it name another, or unset it."
        if not self.tls:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        try:
            with socket.create_connection((self.host, self.port), _SECONDS) as plain:
                context.wrap_socket(plain, server_hostname=self.host).close()
        except ssl.SSLCertVerificationError as error:
            return f"Its certificate is refused: {error.verify_message.rstrip('.')}.", _remedy(error.verify_code)
        except ssl.SSLError:
            return ("The server does not speak TLS.", "Write grpc:// in place of grpc+tls://.") if self.tls else None
        except OSError:
            return None
        return None if self.tls else ("The server wants TLS.", "Write grpc+tls:// in place of grpc://.")


def _remedy(code: int) -> str:
    if code in (_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH):
        return "Write the host as the certificate names it, or make one that names this host (subjectAltName)."
    return f"Let {ROOTS_VARIABLE} name the file of a valid certificate (PEM): the server's own, or its signer's."
