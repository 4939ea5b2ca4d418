"""The client's side of the pairing service: the same batches as from the folder, across restarts of the server."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import flight

from gated_vae.pairing.stream.address import ROOTS_VARIABLE, Address, is_loopback
from gated_vae.pairing.stream.batches import partition_record
from gated_vae.pairing.stream.cut import Batch, Cut
from gated_vae.pairing.stream.order import partition_of_step, share_of_rank
from gated_vae.pairing.stream.wire import (
    MAX_BATCH_BYTES,
    STORE_KEY,
    Ticket,
    from_arrow,
    from_flight,
    identity,
    read_secret,
)
from gated_vae.preprocessing.compute import read_ahead
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store, check_manifest, images_path, manifest_path, samples_path

TOKEN_VARIABLE = "GATED_VAE_TOKEN_FILE"
DELAYS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 10.0, 10.0, 10.0)  # seconds before each new attempt: 49 in all
ANSWER_SECONDS = 20.0  # for everything but streams
_PROCESS = os.getpid()  # gRPC is used in this one; in those forked from it, it may hang

_AWAY = (flight.FlightUnavailableError, flight.FlightTimedOutError, flight.FlightCancelledError)
_TRANSPORT = [
    ("grpc.use_local_subchannel_pool", 1),  # a new client tries at once, instead of sharing an old one's waiting time
    ("grpc.keepalive_time_ms", 330_000),  # a machine that went without a word; servers refuse to be asked more often
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_receive_message_length", 2 * MAX_BATCH_BYTES),
]


class Service:
    """A pairing service at an address.

    The token, where the service wants one, is read from the file that the environment's GATED_VAE_TOKEN_FILE names; the
    certificates to trust, where they are not the system's, from GATED_VAE_TLS_ROOTS.

    Parameters
    ----------
    address:
        ``grpc://host:port``, ``grpc+tcp://host:port`` or ``grpc+tls://host:port``.
    store:
        What the store's manifest is known to say; asked for when None. Its path is the address.

    Raises
    ------
    GatedVAEError
        When the service does not answer, or refuses.
    """

    def __init__(self, address: str, store: Store | None = None) -> None:
        self.address, self._place = address, Address.parse(address)
        self._headers = [(b"authorization", b"Bearer " + token)] if (token := _read(TOKEN_VARIABLE).strip()) else []
        self._roots = _read(ROOTS_VARIABLE)
        if self._headers and not self._place.tls and not is_loopback(self._place.host):
            _warn_of_token(address)
        self.store = store or self._store()

    def stream(self, ticket: Ticket) -> Iterator[pa.RecordBatch]:
        """The record batches of a ticket, in one attempt.

        Raises
        ------
        pyarrow.flight.FlightError
            When the service refuses, or goes away on the way.
        GatedVAEError
            When it serves another store than before.
        """
        options = flight.FlightCallOptions(headers=self._headers)
        with self._connect() as client:
            reader = client.do_get(flight.Ticket(ticket.to_bytes()), options)
            try:
                if (reader.schema.metadata or {}).get(STORE_KEY) != identity(self.store).encode():
                    why, remedy = "Its manifest is not the one this run began with.", "Serve the former store again."
                    raise GatedVAEError(f"{self.address} serves another store now.", why, remedy)
                if not reader.schema.equals(ticket.schema(self.store), check_metadata=True):
                    raise self.unfit("Its batches have other columns.")
                for chunk in reader:
                    yield chunk.data
            finally:
                reader.cancel()

    def _connect(self) -> flight.FlightClient:
        if os.getpid() != _PROCESS:
            why, remedy = "gRPC does not survive a fork.", 'Give the DataLoader multiprocessing_context="spawn".'
            raise GatedVAEError(f"A forked process cannot read from {self.address}.", why, remedy)
        options = [*_TRANSPORT, ("grpc.enable_http_proxy", int(self._place.by_proxy))]
        return flight.FlightClient(str(self._place), tls_root_certs=self._roots or None, generic_options=options)

    def _act(self, name: str) -> Iterator[flight.Result]:
        options = flight.FlightCallOptions(timeout=ANSWER_SECONDS, headers=self._headers)
        with self._connect() as client:
            yield from client.do_action(name, options)

    def _store(self) -> Store:
        try:
            (answer,) = read_ahead(self._act("manifest"), stop=bool)  # elsewhere, so that signals are heard here
        except (flight.FlightError, pa.ArrowException) as error:
            raise self.failure(error) from None
        except ValueError:
            raise self.unfit("It has no manifest, or several.") from None
        store = Store(Path(self.address), _object(answer.body.to_pybytes()))
        try:
            check_manifest(store.manifest, manifest_path(store.path))
        except GatedVAEError as error:
            raise self.unfit(error.why) from None
        files = {path_of(store.path).name for path_of in (images_path, samples_path)}
        if not files <= store.manifest.get("digests", {}).keys():
            raise self.unfit("Its manifest lacks the digests of its images and samples.")
        return store

    def unfit(self, why: str) -> GatedVAEError:
        """What the user reads when what came is not what a service of this version sends."""
        return GatedVAEError(f"{self.address} cannot be used.", why, "Install the same version on both sides.")

    def tls_trouble(self) -> tuple[str, str] | None:
        """Why no TLS connection comes about and what to do; None where it is not that."""
        return self._place.tls_trouble(self._roots)

    def failure(self, error: Exception) -> GatedVAEError:
        """What the user reads when a call failed."""
        if isinstance(error, _AWAY):
            reason = from_flight(error, self.address).why, "Check the address, and that the service runs."
            return GatedVAEError(f"No service answers at {self.address}.", *(self.tls_trouble() or reason))
        if isinstance(error, flight.FlightUnauthenticatedError):
            remedy = f"Let {TOKEN_VARIABLE} name the file that holds the server's token."
            return GatedVAEError(f"{self.address} refuses this client.", "The token is missing or wrong.", remedy)
        return from_flight(error, self.address)


class ServiceBatches:
    """The batches of a store behind a service, those that `StoreBatches` makes; its length is the steps of an epoch."""

    def __init__(self, service: Service, cut: Cut) -> None:
        self._service, self._cut = service, cut
        for name in cut.partitions:
            partition_record(service.store, name)
        self._steps = [cut.steps(service.store.training)] * len(cut.partitions)

    def __len__(self) -> int:
        return sum(self._steps)

    def epoch(
        self, seed: int, epoch: int, first_step: int = 0, *, every: int = 1, images: bool = True
    ) -> Iterator[Batch]:
        """Yield this rank's batch of every so-many-th step from `first_step` to the end of the epoch.

        The service sends the others, too. When it goes away, it is tried again, later and later, from the step that is next.

        `GatedVAEError` when it stays away, refuses, or comes back with another store.
        """
        cut = self._cut
        step, attempt = first_step, 0
        while step < len(self):
            ticket = Ticket(cut.partitions, seed, epoch, cut.rank, cut.world_size, cut.batch_size, step, images)
            try:
                for rows in self._service.stream(ticket):
                    if step == len(self):
                        raise self._service.unfit("It sends more batches than an epoch has.")
                    if (step - first_step) % every == 0:
                        yield self._checked(rows, step)
                    step, attempt = step + 1, 0
                if step < len(self):
                    raise flight.FlightUnavailableError("The stream ended early.")
            except _AWAY as error:
                if attempt == len(DELAYS):
                    address = self._service.address
                    reason, *_ = self._service.tls_trouble() or (from_flight(error, address).why,)
                    why = f"It was tried {attempt + 1} times. {reason}"
                    remedy = "Start `pipe serve` again, then run the same command again: it goes on where it stopped."
                    raise GatedVAEError(f"The service at {address} went away.", why, remedy) from None
                time.sleep(DELAYS[attempt])
                attempt += 1
            except (flight.FlightError, pa.ArrowException) as error:
                raise self._service.failure(error) from None

    def _checked(self, rows: pa.RecordBatch, step: int) -> Batch:
        """The batch of a step; raises unless it is as large as the cut says and of samples that train."""
        cut, store = self._cut, self._service.store
        index, place = partition_of_step(step, self._steps)
        batch = from_arrow(rows, cut.partitions[index], store.manifest["image_shape"])
        whole = min(cut.global_batch, store.training - place * cut.global_batch)
        share = share_of_rank(whole, cut.rank, cut.world_size)
        if len(rows) != share.stop - share.start:
            raise self._service.unfit(f"Its batch of step {step} has {len(rows)} pairs.")
        ids = np.concatenate([batch.input_id, batch.target_id])
        if ((ids < 0) | (ids >= store.training)).any():
            raise self._service.unfit(f"Its batch of step {step} pairs samples that the store has not.")
        return batch


def _object(text: bytes) -> dict[str, Any]:
    """A JSON object; an empty one where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


@lru_cache  # once
def _warn_of_token(address: str) -> None:
    told = f"The token travels to {address} unencrypted: others on the way can read it. Serve with --tls-cert."
    warnings.warn(told, stacklevel=3)


def _read(variable: str) -> bytes:
    return read_secret(os.environ.get(variable), f"Let {variable} name a file that can be read, or unset it.")
