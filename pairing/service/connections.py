"""Connections of the service's clients, as Linux counts them: gRPC, which has them, can neither be asked nor told to end one.

It reads whatever is sent, however large, before it hands a call over, and keeps whoever says nothing for ever.
"""

from __future__ import annotations

import resource
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import NamedTuple
from urllib.parse import unquote

PATIENCE_SECONDS = 30.0  # with clients that say nothing, or do not read while others wait: fewer than a trainer tries
UNASKED_BYTES = 1 << 20  # that a connection may bring beyond what it was sent: calls are small, answers large
_WATCH_SECONDS = 0.05

Peer = tuple[str, int]


class Connection(NamedTuple):
    """A connection that the service has accepted: who is there, bytes both ways, and for how long there were none."""

    handle: int
    peer: Peer
    sent: int
    received: int
    idle: float


def peer_of(name: str) -> Peer:
    """Host and port of a client as gRPC names it, such as ``ipv4:127.0.0.1:4242`` or ``ipv6:%5B::1%5D:4242``."""
    host, _, port = unquote(name.partition(":")[2]).rpartition(":")
    return host.strip("[]"), int(port)


def watch(port: int, closing: Event, busy: Callable[[], Collection[Peer]]) -> None:
    """Until `closing`, end connections that bring more than they may, and those idle too long but for `busy` ones."""
    while hasattr(socket, "TCP_INFO") and not closing.wait(_WATCH_SECONDS):
        found = [*connections(port)]
        streaming = busy()  # after: a connection that was idle may just have begun
        for it in found:
            unasked = it.received - it.sent > UNASKED_BYTES
            if unasked or (it.idle > PATIENCE_SECONDS and it.peer not in streaming):
                end(it)


def connections(port: int) -> Iterator[Connection]:
    """What this process has accepted at a port."""
    for handle in _handles():
        with suppress(OSError, struct.error), _borrowed(handle) as it:  # no socket, not connected, or closed meanwhile
            if it.type == socket.SOCK_STREAM and it.getsockname()[1:2] == (port,):
                host, other, *_ = it.getpeername()
                yield Connection(handle, (host.removeprefix("::ffff:"), other), *_counts(it))


@contextmanager
def _borrowed(handle: int) -> Iterator[socket.socket]:
    """A socket that is gRPC's, and is not closed here."""
    borrowed = socket.socket(fileno=handle)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def _counts(connected: socket.socket) -> tuple[int, int, float]:
    """Bytes sent and received, seconds without either: fields of `tcp_info` in linux/tcp.h."""
    told = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
    last_sent, _, last_received = struct.unpack_from("III", told, 44)
    sent, received = struct.unpack_from("QQ", told, 120)
    return sent, received, min(last_sent, last_received) / 1000


def _handles() -> Iterable[int]:
    try:
        return [int(path.name) for path in Path("/dev/fd").iterdir()]
    except OSError:  # listing takes a handle, and there may be none left: then all below the limit are in use
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def end(connection: Connection) -> None:
    """Shut a connection down, which gRPC then takes for the client's doing."""
    with suppress(OSError), _borrowed(connection.handle) as it:
        if it.getpeername()[1] == connection.peer[1]:
            it.shutdown(socket.SHUT_RDWR)
