"""The server of the explorer: Bokeh's, for this machine alone or for whoever brings the token."""

from __future__ import annotations

import hmac
import logging
import secrets
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.auth_provider import AuthProvider
from bokeh.server.server import Server
from bokeh.server.views.auth_request_handler import AuthRequestHandler
from tornado.web import HTTPError, RequestHandler, authenticated
from tornado.websocket import WebSocketHandler

from gated_vae.pairing.service.access import ServiceOptions, check_free
from gated_vae.pairing.stream.address import is_loopback
from gated_vae.preprocessing.errors import UsageError

_REFUSED = (
    "The token is missing or wrong: open the address with ?token= and the content of the token file at its end.\n"
)

Pictures = Callable[[int], bytes | None]  # a sample's PNG; None where there is none


class Guard(AuthProvider):  # type: ignore[misc, unused-ignore]
    """Lets in who brings the token, where one is wanted; else requests to this machine by one of its own names.

    Names, as a page of another site may have its own name lead here (DNS rebinding), and read what comes back.
    """

    def __init__(self, token: bytes | None, hosts: set[str], port: int) -> None:
        self._token, self._hosts = token, hosts
        self._cookie = f"gated_vae_explorer_{port}"  # browsers keep one of a name for all ports of a host
        self._pass = secrets.token_hex(32)
        super().__init__()

    @property
    def get_user(self) -> Callable[[Any], Any]:
        """Who asks, or None."""
        return self._admit

    @property
    def login_url(self) -> str:
        """Where others are sent."""
        return "/refused"

    @property
    def login_handler(self) -> type[RequestHandler]:
        """What says so."""
        return _Refusal

    def _admit(self, handler: RequestHandler) -> str | None:
        if self._token is None:
            if handler.request.host not in self._hosts:
                raise HTTPError(403, "%s is no name of this server", handler.request.host)
            return "local"
        given = handler.get_query_argument("token", "").encode(errors="replace")
        if hmac.compare_digest(given, self._token):
            if not isinstance(handler, WebSocketHandler):  # which can set none
                handler.set_cookie(self._cookie, self._pass, httponly=True, samesite="Strict")
            return "token"
        passed = handler.get_cookie(self._cookie, "") or ""
        return "token" if hmac.compare_digest(passed.encode(), self._pass.encode()) else None


class _Refusal(RequestHandler):
    def get(self) -> None:
        self.set_status(401)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.write(_REFUSED)


class _Picture(AuthRequestHandler):  # type: ignore[misc, unused-ignore]
    """A sample of the store as PNG."""

    def initialize(self, picture: Pictures) -> None:
        self.picture = picture

    @authenticated
    def get(self, sample: str) -> None:
        png = self.picture(int(sample))
        if png is None:
            raise HTTPError(404)
        self.set_header("Content-Type", "image/png")
        self.set_header("Cache-Control", "private, max-age=3600")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.write(png)


def _names(host: str, port: int) -> set[str]:
    """What browsers may call the server, in their address."""
    hosts = {host}
    if is_loopback(host):
        hosts |= {"localhost", "127.0.0.1"}
    elif host == "0.0.0.0":
        own = socket.gethostname()
        hosts |= {"localhost", "127.0.0.1", own, socket.getfqdn()}
        with suppress(socket.gaierror):  # nobody knows it by its name
            hosts |= {str(found[4][0]) for found in socket.getaddrinfo(own, None, socket.AF_INET)}
    return {f"{name}:{port}" for name in hosts}


def make_server(
    build: Callable[[Document], None], picture: Pictures, options: ServiceOptions, largest_message: int
) -> tuple[Server, str]:
    """A server that is about to start, and its address.

    `GatedVAEError` when the address is taken, or the token's file holds none.
    """
    if ":" in options.host:  # which Bokeh takes for no host
        raise UsageError(f"{options.host} cannot be served.", "", "Give a name or an IPv4 address, such as 127.0.0.1.")
    token = options.token()
    check_free(options, f"http://{options.host}:{options.port}")
    for noisy in (
        "tornado.access",
        "bokeh.server.views.ws",
    ):  # of requests refused, and of tabs closed before they are drawn
        logging.getLogger(noisy).setLevel(logging.ERROR)
    port = options.port or _free_port(options.host)
    names = _names(options.host, port)
    server = Server(
        {"/": Application(FunctionHandler(build))},
        address=options.host,
        port=port,
        allow_websocket_origin=sorted(names),
        auth_provider=Guard(token, names, port),
        extra_patterns=[(r"/picture/(\d{1,15})\.png", _Picture, {"picture": picture})],
        sign_sessions=True,  # a connection needs a page that this server has made
        secret_key=secrets.token_bytes(32),
        include_headers=[],
        include_cookies=[],
        use_index=False,
        websocket_max_message_size=largest_message,
    )
    return server, f"http://{options.host}:{port}/"


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def run_until_stopped(server: Server, started: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; `started` is called when it answers."""

    def stop(_number: int, _frame: Any) -> None:
        server.io_loop.add_callback_from_signal(server.io_loop.stop)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.start()
        server.io_loop.add_callback(partial(started))
        server.io_loop.start()
    finally:
        server.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
