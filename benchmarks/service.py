"""The pairing service to one local client: `python -m benchmarks.service [--samples 50000] [--repeats 5]`.

Ids only, beside the in-process loader with ids only (reading ahead in its thread, as it does by default, and without); with pixels,
beside a plain Flight server that sends the same record batches, made once. Server and client share the machine's cores.
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
from typing import Any

from pyarrow import flight

from benchmarks.loader import make_store
from benchmarks.timing import alternate, ratio, show
from pairing.batches import StoreBatches
from pairing.loader import prefetched
from pairing.tickets import Ticket, to_arrow
from preprocessing.store import Store, open_store

SEEN = 256  # different batches that the plain server sends in turn


class PlainServer(flight.FlightServerBase):  # type: ignore[misc]
    """Sends record batches that lie ready, as many as the service would."""

    def __init__(self, store: Store, ticket: Ticket) -> None:
        super().__init__("grpc://127.0.0.1:0")
        batches = StoreBatches(store, ticket.cut(store))
        self.steps, self.schema = len(batches), ticket.schema(store)
        self.ready = [to_arrow(batch, self.schema) for batch in islice(batches.epoch(0, 0), SEEN)]

    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.GeneratorStream:  # noqa: ARG002
        return flight.GeneratorStream(self.schema, (self.ready[i % len(self.ready)] for i in range(self.steps)))


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


def compare(store: Store, size: int, repeats: int) -> list[dict[str, Any]]:
    ids, pixels = Ticket(None, batch_size=size), Ticket(None, batch_size=size, images=True)
    local = StoreBatches(store, ids.cut(store))

    def exhaust(batches: Iterator[object]) -> None:
        for _ in batches:
            pass

    plain_command = ("benchmarks.service", "--plain", str(store.path), "--batch-size", str(size))
    with server("pipelines.cli", "serve", str(store.path), "--port", "0") as service, server(*plain_command) as plain:
        times = alternate(
            {
                "ids": reading(service, ids),
                "loader": lambda: exhaust(prefetched(local.epoch(0, 0, images=False), 2)),
                "arrays": lambda: exhaust(local.epoch(0, 0, images=False)),
                "pixels": reading(service, pixels),
                "plain": reading(plain, pixels),
            },
            repeats,
        )
    pairs = 2 * len(store)
    rates = {f"{name}, M pairs/s": round(pairs / float(sorted(t)[repeats // 2]) / 1e6, 3) for name, t in times.items()}
    print(json.dumps({"batch_size": size, **rates}))
    return [
        ratio(f"ids only, {size}", "loader, reading ahead", times["ids"], times["loader"], 0.5, at_most=False),
        ratio(f"ids only, {size}", "loader, not ahead", times["ids"], times["arrays"], 0.5, at_most=False),
        ratio(f"pixels, {size}", "plain Flight", times["pixels"], times["plain"], 0.5, at_most=False),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=50_000)
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
