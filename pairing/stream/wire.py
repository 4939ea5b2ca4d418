"""What travels between the pairing service and its clients: tickets, schemas, record batches and errors.

A ticket is UTF-8 JSON, so that any language can write one; a record batch is one training batch.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its log would bury the three lines that say what is wrong

import numpy as np
import pyarrow as pa
from pyarrow import flight

from gated_vae.pairing.stream.batches import decided
from gated_vae.pairing.stream.cut import Batch, Cut, Images
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import digest
from gated_vae.preprocessing.store import Store

MAX_TICKET_BYTES = 4096
MAX_BATCH_BYTES = 64 << 20  # of one record batch
STORE_KEY = b"gated_vae.store"  # in a stream's schema: the identity of the store it comes from

_ID_BYTES = 3 * 8 + 32  # of a row: three ids, and the partition's name with its offset
_LIMITS = {
    "seed": (0, 2**63 - 1),
    "epoch": (0, 2**32 - 1),
    "rank": (0, 2**20),
    "world_size": (1, 2**20),
    "batch_size": (1, 2**20),
    "first_step": (0, 2**63 - 1),
}


@dataclass(frozen=True)
class Ticket:
    """Which batches a stream holds.

    Attributes
    ----------
    partition:
        One partition; None for all of the store's, or a list of some, which take turns as in the loader.
    seed, epoch, rank, world_size, batch_size:
        As in `gated_vae.pairing.stream.loader.PairLoader`.
    first_step:
        Steps of the epoch to leave out at its start.
    images:
        Whether the columns input and target come along.
    """

    partition: str | tuple[str, ...] | None = "pose"
    seed: int = 0
    epoch: int = 0
    rank: int = 0
    world_size: int = 1
    batch_size: int = 128
    first_step: int = 0
    images: bool = False

    @classmethod
    def parse(cls, text: bytes) -> Ticket:
        """Read a ticket that anybody may have written.

        `GatedVAEError` when it is too long, no JSON object, or has an unknown key, a wrong type or a value out of bounds.
        """
        if len(text) > MAX_TICKET_BYTES:
            raise _refused(f"It has {len(text):,} bytes; {MAX_TICKET_BYTES:,} are the most.")
        try:
            values = json.loads(text.decode(), object_pairs_hook=_once)
            json.dumps(values, ensure_ascii=False).encode()  # halves of characters, which JSON can spell
        except (ValueError, RecursionError):
            raise _refused("It is not JSON in UTF-8.") from None
        if not isinstance(values, dict):
            raise _refused("It is not a JSON object.")
        unknown = sorted(values.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise _refused(f"It has unknown keys: {', '.join(unknown)}.")
        if isinstance(values.get("partition"), list):
            values["partition"] = tuple(values["partition"])
        ticket = cls(**values)
        ticket._check()
        return ticket

    def _check(self) -> None:
        names = self.partition if isinstance(self.partition, tuple) else (self.partition,)
        if self.partition is not None and not (names and all(isinstance(name, str) for name in names)):
            raise _refused("`partition` is a name, a list of names, or null for all.")
        if not isinstance(self.images, bool):
            raise _refused("`images` is true or false.")
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise _refused(f"`{name}` is a whole number from {least} to {most}.")

    def to_bytes(self) -> bytes:
        """As JSON; `parse` gives the ticket back."""
        return json.dumps(asdict(self)).encode()

    def cut(self, store: Store) -> Cut:
        """How it cuts an epoch of `store`."""
        chosen = self.partition if self.partition is not None else tuple(store.partitions)
        names = (chosen,) if isinstance(chosen, str) else chosen
        return Cut(names, self.batch_size, self.rank, self.world_size)

    def batch_bytes(self, store: Store) -> int:
        """Bytes of a record batch of `batch_size` rows, about."""
        pixels: int = math.prod(store.manifest["image_shape"]) if self.images else 0
        return self.batch_size * (_ID_BYTES + 2 * pixels)

    def schema(self, store: Store) -> pa.Schema:
        """The columns of its record batches.

        `GatedVAEError` when a record batch would be larger than the service sends.
        """
        if self.batch_bytes(store) > MAX_BATCH_BYTES:
            why = f"A batch of {self.batch_size} takes more than {MAX_BATCH_BYTES >> 20} MiB."
            most = MAX_BATCH_BYTES * self.batch_size // self.batch_bytes(store)
            raise GatedVAEError("The batches are too large.", why, f"Ask for {most} or fewer.")
        shape, columns = store.manifest["image_shape"], {"partition": pa.string()}
        columns |= dict.fromkeys(("input_id", "target_id", "group"), pa.int64())
        if self.images:
            columns |= dict.fromkeys(("input", "target"), pa.binary(math.prod(shape)))
        metadata = {STORE_KEY: identity(store).encode(), b"gated_vae.image_shape": json.dumps(shape).encode()}
        return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()], metadata)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _refused("It has a key twice.")
    return values


def _refused(why: str) -> GatedVAEError:
    return GatedVAEError("The ticket cannot be used.", why, "docs/service.md describes tickets.")


def read_secret(path: str | Path | None, remedy: str) -> bytes:
    """The bytes of a token's or certificate's file; none where none is named."""
    try:
        return Path(path).read_bytes() if path else b""
    except OSError as error:
        raise GatedVAEError(f"{path} cannot be read.", error.strerror or "", remedy) from None


def identity(store: Store) -> str:
    """What tells a store from one that took its place: a digest of its manifest, without what was measured on pairs."""
    made = {name: decided(record) for name, record in store.partitions.items()}
    return digest(json.dumps({**store.manifest, "partitions": made}))


def to_arrow(batch: Batch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch as a record batch, its arrays uncopied."""
    columns = [_repeated(batch.partition, len(batch.input_id)), *map(pa.array, batch[1:4])]
    if batch.input is not None and batch.target is not None:
        columns += [_pixels(batch.input), _pixels(batch.target)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


@lru_cache(maxsize=64)  # making it takes longer than all the rest of a batch of ids
def _repeated(partition: str, count: int) -> pa.Array:
    return pa.repeat(partition, count)


def _pixels(images: Images) -> pa.Array:
    kind = pa.binary(math.prod(images.shape[1:]))
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(images), [None, pa.py_buffer(images)])


def from_arrow(rows: pa.RecordBatch, partition: str, image_shape: Sequence[int]) -> Batch:
    """A batch from what `to_arrow` made of it, with images if that had them; the arrays are copies that may be written to.

    `pyarrow.ArrowInvalid` when the record batch is none of its schema.
    """
    rows.validate()  # that no buffer is shorter than its column
    if any(column.null_count for column in rows.columns):
        raise pa.ArrowInvalid("Values are missing.")
    ids = (rows.column(name).to_numpy().copy() for name in ("input_id", "target_id", "group"))
    images = (_images(rows.column(name), image_shape) for name in ("input", "target") if name in rows.schema.names)
    return Batch(partition, *ids, *images)


def _images(column: pa.Array, image_shape: Sequence[int]) -> Images:
    size = math.prod(image_shape)
    pixels = np.frombuffer(column.buffers()[1] or b"", np.uint8, len(column) * size, column.offset * size)
    return pixels.reshape(len(column), *image_shape).copy()


def to_flight(error: GatedVAEError) -> Exception:
    """An error as the service sends it: readable by people, and in its extra info by `from_flight`."""
    parts = [error.what, error.why, error.remedy]
    sent: Exception = flight.FlightServerError(" ".join(filter(None, parts)), json.dumps(parts).encode())
    return sent


def from_flight(error: Exception, address: str) -> GatedVAEError:
    """The error the service sent, as it was raised there; or what Flight says, in short."""
    try:
        what, why, remedy = map(_plain, json.loads(getattr(error, "extra_info", b"")))
        return GatedVAEError(what, why, remedy)
    except (ValueError, TypeError, RecursionError):
        why = str(error).partition(". Detail:")[0].partition(". gRPC client debug")[0]
        return GatedVAEError(f"{address} does not serve pairs.", _plain(why), "Look at the server.")


def _plain(text: object) -> str:
    """What a service says as one line that a terminal only shows."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in str(text)).split())[:300]
