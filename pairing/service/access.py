"""Where and to whom the pairing service answers: address, token, TLS."""

from __future__ import annotations

import hmac
import socket
from dataclasses import dataclass
from pathlib import Path

from pyarrow import flight

from gated_vae.pairing.stream.address import Address, is_loopback
from gated_vae.pairing.stream.wire import read_secret, to_flight
from gated_vae.preprocessing.errors import GatedVAEError

MIN_TOKEN_BYTES = 16
_METHODS = {
    flight.FlightMethod.LIST_FLIGHTS: "ListFlights",
    flight.FlightMethod.GET_FLIGHT_INFO: "GetFlightInfo",
    flight.FlightMethod.DO_GET: "DoGet",
    flight.FlightMethod.DO_ACTION: "DoAction",
    flight.FlightMethod.LIST_ACTIONS: "ListActions",
}
_REMEDY = "Give a file that can be."


@dataclass(frozen=True)
class ServiceOptions:
    """Where and to whom to serve.

    Attributes
    ----------
    host, port:
        Address to listen at; port 0 takes a free one.
    token_file:
        File whose content clients must know; needed beyond this machine.
    tls_cert, tls_key:
        Certificate and private key in PEM, both or neither.
    max_streams:
        Streams at a time; further clients are told to come back.
    """

    host: str = "127.0.0.1"
    port: int = 8815
    token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_streams: int = 16

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise GatedVAEError("TLS cannot be set up.", "", "Give both --tls-cert and --tls-key.")
        if self.token_file is None and not is_loopback(self.host):
            why = f"{self.host} can be reached from other machines."
            raise GatedVAEError("A token is needed.", why, "Give --token-file, or serve at 127.0.0.1.")

    def location(self, port: int) -> str:
        """The address at a port, as clients write it."""
        return str(Address(self.host, port, tls=self.tls_cert is not None))

    def certificates(self) -> list[tuple[bytes, bytes]]:
        """Certificate and key; none without TLS."""
        return [(read_secret(self.tls_cert, _REMEDY), read_secret(self.tls_key, _REMEDY))] if self.tls_cert else []

    def token(self) -> bytes | None:
        """The token, None where none is wanted."""
        token = read_secret(self.token_file, _REMEDY).strip()
        if self.token_file and (len(token) < MIN_TOKEN_BYTES or not token.isalnum()):
            why = f"{MIN_TOKEN_BYTES} letters and digits or more are needed."
            raise GatedVAEError(f"{self.token_file} holds no token.", why, "Write one: `openssl rand -hex 32`.")
        return token or None


class Admission(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Lets calls pass that bring the token, where one is wanted, and that a service which only reads can answer."""

    def __init__(self, token: bytes | None) -> None:
        super().__init__()
        self._expected = b"Bearer " + token if token else None

    def start_call(self, info: flight.CallInfo, headers: dict[str, list[str]]) -> None:
        """Refuse a call without the token, in a time that does not tell how much of it was right; and what is not answered.

        Here, as what pyarrow says of a method that is not there, and of errors in GetSchema, is a traceback.
        """
        given = "".join(headers.get("authorization", [])).encode(errors="replace")
        if self._expected and not hmac.compare_digest(given, self._expected):
            raise flight.FlightUnauthenticatedError("The token is missing or wrong.")
        if info.method not in _METHODS:
            why = f"It answers {', '.join(_METHODS.values())}."
            raise to_flight(
                GatedVAEError("This service only reads its store.", why, "docs/service.md says how to ask.")
            )


def check_free(options: ServiceOptions, location: str) -> None:
    """Ask the operating system for the address first, told as `location`: it says what is wrong, which servers do not."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        remedy = "Choose another --port, or stop what listens there; --host must be an address of this machine."
        raise GatedVAEError(f"{location} cannot be served.", f"{error.strerror or error}.", remedy) from None
