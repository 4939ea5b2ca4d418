"""The pairing service: a store's batches over Arrow Flight, for trainers on other machines and in other languages.

The server only reads, and a stream is a pure function of its ticket, so it keeps nothing for a client: whoever comes back after
a failure, of either side, asks for the step that is next.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import flight

from gated_vae.pairing.service.access import Admission, ServiceOptions, check_free
from gated_vae.pairing.service.connections import PATIENCE_SECONDS, connections, end, peer_of, watch
from gated_vae.pairing.stream.batches import StoreBatches, partition_record
from gated_vae.pairing.stream.wire import Ticket, identity, to_arrow, to_flight
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import open_store

MIN_SENT_BYTES = 1 << 20  # small record batches are handed to Flight several at a time, at a third of the cost
CLOSING_SECONDS = 3.0  # for streams to end in

ACTIONS = {
    "statistics": "What the server has done since it started.",
    "health": "Whether the store is still the one that was opened.",
    "manifest": "The store's manifest, store.json.",
}

Answer = TypeVar("Answer")


def _answered(method: Callable[..., Answer]) -> Callable[..., Answer]:
    """Turn every failure of a handler into what clients may read: no traceback, no path of this machine's code."""

    @wraps(method)
    def answer(*arguments: Any) -> Answer:
        try:
            return method(*arguments)
        except Exception as error:
            raise _told(error) from None

    return answer


def _told(error: Exception) -> Exception:
    if isinstance(error, GatedVAEError):
        return to_flight(error)
    if isinstance(error, flight.FlightError):
        return error  # type: ignore[no-any-return]
    if isinstance(error, OSError) and error.errno:  # the machine's, not the store's: it may pass
        why = f"The service cannot read its store: {os.strerror(error.errno)}."
        return flight.FlightUnavailableError(why)  # type: ignore[no-any-return]
    text = f"Unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    sys.stderr.write(f"{text}\n")
    return to_flight(GatedVAEError("The service failed to answer.", text, "Look at the server."))


class _Stream:
    """A stream that is open: to whom, and when a batch last went out."""

    def __init__(self, peer: str) -> None:
        self.peer, self.moved = peer_of(peer), 0.0


class PairService(flight.FlightServerBase):  # type: ignore[misc]
    """A Flight server over one store; it answers from the moment it is made until `close`.

    `GatedVAEError` when the store has no pairs, the address cannot be listened at, or a file of the options cannot be used.
    """

    def __init__(self, path: str | Path, options: ServiceOptions) -> None:
        self.store = open_store(path)
        if not self.store.partitions:
            raise GatedVAEError(f"{path} has no pairs yet.", "", "Run `pipe cluster` or `pipe pair` on it first.")
        self._started, self._closing = time.time(), threading.Event()
        self._lock = threading.Lock()
        self._counts = {"streams": 0, "streams_refused": 0, "batches": 0, "pairs": 0}
        self._streams: list[_Stream] = []
        self._max_streams = options.max_streams
        token = options.token()
        location, certificates = options.location(options.port), options.certificates()
        check_free(options, options.location(options.port))
        try:
            super().__init__(location, tls_certificates=certificates, middleware={"admission": Admission(token)})
        except pa.ArrowException as error:
            why = "Another program may have taken the port, or certificate and key do not belong together."
            raise GatedVAEError(f"{location} cannot be served.", why, str(error)) from None
        self.address = options.location(self.port)
        watching = (self.port, self._closing, lambda: {stream.peer for stream in [*self._streams]})
        threading.Thread(target=watch, args=watching, daemon=True).start()

    def close(self) -> bool:
        """End open streams, whose clients will try again, and stop listening; whether that was done within some seconds.

        A stream whose client does not read cannot be ended from here: it ends with the process.
        """
        self._closing.set()
        ending = threading.Thread(target=self.shutdown, daemon=True)
        ending.start()
        ending.join(CLOSING_SECONDS)
        return not ending.is_alive()

    @_answered
    def list_flights(self, context: flight.ServerCallContext, criteria: bytes) -> Iterator[flight.FlightInfo]:  # noqa: ARG002
        """Describe every partition."""
        return iter([self._info(name) for name in self.store.partitions])

    @_answered
    def get_flight_info(
        self,
        context: flight.ServerCallContext,  # noqa: ARG002
        descriptor: flight.FlightDescriptor,
    ) -> flight.FlightInfo:
        """Describe the partition that a path names, or the stream of the ticket that a command holds."""
        if descriptor.descriptor_type == flight.DescriptorType.PATH:
            return self._info("/".join(part.decode(errors="replace") for part in descriptor.path))
        if descriptor.descriptor_type != flight.DescriptorType.CMD:
            raise GatedVAEError("The descriptor cannot be used.", "It has neither path nor command.", "Give either.")
        self._open(descriptor.command)
        return self._flight(descriptor, descriptor.command, -1)

    @_answered
    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.GeneratorStream:
        """Stream the batches of a ticket; one is made when the one before has gone out."""
        wanted, batches = self._open(ticket.ticket)
        schema = wanted.schema(self.store)
        return flight.GeneratorStream(schema, self._stream(_Stream(context.peer()), wanted, batches, schema))

    def _open(self, text: bytes) -> tuple[Ticket, StoreBatches]:
        """A ticket and the batches of its epoch; raises where it cannot be served."""
        ticket = Ticket.parse(text)
        ticket.schema(self.store)
        self._check_store()
        batches = StoreBatches(self.store, ticket.cut(self.store))
        self._check_store()  # again: what is open now is what the manifest describes
        if ticket.first_step > len(batches):
            why = f"The epoch has {len(batches)} steps."
            raise GatedVAEError(f"There is no step {ticket.first_step}.", why, "Ask for an earlier one.")
        return ticket, batches

    def _stream(
        self, stream: _Stream, ticket: Ticket, batches: StoreBatches, schema: pa.Schema
    ) -> Iterator[pa.RecordBatchReader]:
        together = max(1, MIN_SENT_BYTES // ticket.batch_bytes(self.store))
        with self._slot(stream):
            try:
                made = batches.epoch(ticket.seed, ticket.epoch, ticket.first_step, images=ticket.images)
                while group := list(islice(made, together)):
                    if self._closing.is_set():
                        raise flight.FlightUnavailableError("The service is shutting down.")
                    yield pa.RecordBatchReader.from_batches(schema, [to_arrow(batch, schema) for batch in group])
                    stream.moved = time.monotonic()
                    self._counts["batches"] += len(group)
                    self._counts["pairs"] += sum(len(batch.input_id) for batch in group)
            except Exception as error:
                raise _told(error) from None

    @contextmanager
    def _slot(self, stream: _Stream) -> Iterator[None]:
        """Count a stream while it is open; taken when it starts, as one that never starts is never closed."""
        stream.moved = time.monotonic()
        with self._lock:
            if len(self._streams) >= self._max_streams:
                self._counts["streams_refused"] += 1
                self._end_stalled()
                raise flight.FlightUnavailableError(f"All {self._max_streams} streams are taken; try again later.")
            self._counts["streams"] += 1
            self._streams.append(stream)
        try:
            yield
        finally:
            with self._lock:
                self._streams.remove(stream)

    def _end_stalled(self) -> None:
        """End the connections of streams whose clients do not read, for others who wait; a trainer among them comes back."""
        late = time.monotonic() - PATIENCE_SECONDS
        stalled = {stream.peer for stream in self._streams if stream.moved < late}
        for connection in connections(self.port) if stalled else ():
            if connection.peer in stalled:
                end(connection)

    def list_actions(self, context: flight.ServerCallContext) -> list[flight.ActionType]:  # noqa: ARG002
        """The actions there are."""
        return [flight.ActionType(name, text) for name, text in ACTIONS.items()]

    @_answered
    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> list[bytes]:  # noqa: ARG002
        """Answer an action in JSON."""
        if action.type not in ACTIONS:
            raise GatedVAEError(f"There is no action {action.type[:80]!r}.", "", f"There are {', '.join(ACTIONS)}.")
        answers: dict[str, Callable[[], dict[str, Any]]] = {
            "statistics": self._statistics,
            "health": self._health,
            "manifest": lambda: self.store.manifest,
        }
        return [json.dumps(answers[action.type]()).encode()]

    def _statistics(self) -> dict[str, Any]:
        pairs = dict.fromkeys(self.store.partitions, self.store.training)
        with self._lock:
            counts = {**self._counts, "streams_open": len(self._streams)}
            return {**counts, "seconds": time.time() - self._started, "pairs_per_epoch": pairs}

    def _health(self) -> dict[str, Any]:
        self._check_store()
        return {"status": "serving", "store": identity(self.store)}

    def _info(self, partition: str) -> flight.FlightInfo:
        partition_record(self.store, partition)
        descriptor = flight.FlightDescriptor.for_path(partition)
        return self._flight(descriptor, Ticket(partition).to_bytes(), self.store.training)

    def _flight(self, descriptor: flight.FlightDescriptor, ticket: bytes, records: int) -> flight.FlightInfo:
        endpoint = flight.FlightEndpoint(ticket, [])  # no location: at this server
        return flight.FlightInfo(Ticket.parse(ticket).schema(self.store), descriptor, [endpoint], records, -1)

    def _check_store(self) -> None:
        """Refuse to go on with a store that was changed or replaced since it was opened."""
        try:
            same = identity(open_store(self.store.path)) == identity(self.store)
        except GatedVAEError:
            same = False
        if not same:
            why = f"What is at {self.store.path} is not what this server opened."
            raise GatedVAEError("The store was replaced while it was served.", why, "Start `pipe serve` again.")
