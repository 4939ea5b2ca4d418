"""The pairing service to one local client: `python -m benchmarks.service [--samples 100000] [--repeats 5]`.

An epoch of ids only, beside the in-process loader with ids only, reading ahead in its thread as it does by default (the rate of the
bare arrays, not read ahead, is shown, too); the end of an epoch with pixels, beside a plain Flight server that sends as many record
batches of that size, which lie ready. Server and client share the machine's cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from pyarrow import flight

from benchmarks.stores import make_store
from benchmarks.timing import Record, alternate, ratio, show
from gated_vae.pairing.stream.batches import StoreBatches
from gated_vae.pairing.stream.wire import Ticket, to_arrow
from gated_vae.preprocessing.compute import read_ahead
from gated_vae.preprocessing.store import Store, open_store

READY = 64  # different record batches that the plain server sends in turn
PIXEL_PAIRS = 40_000  # a third of a gigabyte


class PlainServer(flight.FlightServerBase):  # type: ignore[misc]
    """Sends record batches that lie ready, as many as the service would."""

    def __init__(self, store: Store, ticket: Ticket) -> None:
        super().__init__("grpc://127.0.0.1:0")
        batches = StoreBatches(store, ticket.cut(store))
        self.steps, self.schema = len(batches), ticket.schema(store)
        self.ready = [to_arrow(batch, self.schema) for batch in islice(batches.epoch(0, 0), READY)]

    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.GeneratorStream:  # noqa: ARG002
        steps = range(Ticket.parse(ticket.ticket).first_step, self.steps)
        return flight.GeneratorStream(self.schema, (self.ready[step % len(self.ready)] for step in steps))


@contextmanager
def server(*command: str) -> Iterator[flight.FlightClient]:
    """A server in a process of its own, and a client of it."""
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        with flight.connect(process.stdout.readline().split()[-1]) as client:
            yield client
    finally:
        process.terminate()
        process.wait()


def reading(client: flight.FlightClient, ticket: Ticket) -> Callable[[], None]:
    def run() -> None:
        for _ in client.do_get(flight.Ticket(ticket.to_bytes())):
            pass

    return run


def compare(store: Store, size: int, repeats: int) -> list[Record]:
    ids = Ticket(None, batch_size=size)
    local = StoreBatches(store, ids.cut(store))
    steps = PIXEL_PAIRS // size
    pixels = Ticket(None, batch_size=size, first_step=max(0, len(local) - steps), images=True)

    def exhaust(batches: Iterator[object]) -> None:
        for _ in batches:
            pass

    plain_command = ("benchmarks.service", "--plain", str(store.path), "--batch-size", str(size))
    with (
        server("gated_vae.pipelines.cli", "serve", str(store.path), "--port", "0") as service,
        server(*plain_command) as plain,
    ):
        times = alternate(
            {
                "ids": reading(service, ids),
                "loader": lambda: exhaust(read_ahead(local.epoch(0, 0, images=False), 2)),
                "arrays": lambda: exhaust(local.epoch(0, 0, images=False)),
                "pixels": reading(service, pixels),
                "plain": reading(plain, pixels),
            },
            repeats,
        )
    pairs = dict.fromkeys(times, 2 * len(store)) | dict.fromkeys(("pixels", "plain"), steps * size)
    rates = {name: round(pairs[name] / float(np.median(taken)) / 1e6, 3) for name, taken in times.items()}
    print(json.dumps({"batch_size": size, "M pairs/s": rates}))
    return [
        ratio(
            f"service, ids only, batches of {size}",
            "loader, reading ahead",
            times["ids"],
            times["loader"],
            0.5,
            at_most=False,
        ),
        ratio(
            f"service, pixels, batches of {size}", "plain Flight", times["pixels"], times["plain"], 0.5, at_most=False
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--batch-size", type=int, default=128, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        plain = PlainServer(open_store(options.plain), Ticket(None, batch_size=options.batch_size, images=True))
        print(f"grpc://127.0.0.1:{plain.port}", flush=True)
        plain.wait()
        return 0
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store", options.samples)
        return show([record for size in (128, 1024) for record in compare(store, size, options.repeats)])


if __name__ == "__main__":
    sys.exit(main())
