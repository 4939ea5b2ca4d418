"""Whether a store is what its manifest says: every file's schema, counts, order and checksum, read in a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import SCHEMA_KEY, file_digest, readable
from gated_vae.preprocessing.store import REBUILD, SCHEMA_VERSION, Store, images_path, rejected_path, samples_path


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the file, what is wrong with it, and what mends it."""

    path: Path
    what: str
    remedy: str

    @classmethod
    def of(cls, path: Path, error: GatedVAEError) -> Problem:
        """Make a problem of an exception: what and why as one sentence."""
        return cls(path, " ".join(part for part in (error.what, error.why) if part), error.remedy)


def verify_store(store: Store) -> Iterator[Problem]:
    """Check everything that preprocessing wrote, one batch of rows in memory at a time.

    Checksums are compared where the manifest has them (`digests`, SHA-256 by file name).
    """
    checks: dict[Path, Callable[[Store], Iterator[str]]] = {
        images_path(store.path): _images,
        samples_path(store.path): _samples,
        rejected_path(store.path): _rejected,
    }
    for path, check in checks.items():
        faults = checked(path, lambda: [*check(store)] or [*_digest(store, path)])  # noqa: B023
        yield from (Problem(path, what, REBUILD) for what in faults)


def checked(path: Path, check: Callable[[], list[str]]) -> list[str]:
    """What a check of a file finds; what keeps it from being read is a finding, too."""
    try:
        with readable(path, ""):
            return check()
    except GatedVAEError as error:
        what = error.what.replace(str(path), "It")
        return [" ".join(f"{what if what.startswith('It ') else ''} {error.why}".split())[:300]]


def _images(store: Store) -> Iterator[str]:
    images = store.images  # raises where its header does not fit the manifest
    beyond = images_path(store.path).stat().st_size - images.offset - images.nbytes
    if beyond:
        yield f"It goes on for {beyond} bytes after its last image."


def _samples(store: Store) -> Iterator[str]:
    file = open_parquet(samples_path(store.path))
    yield from schema_faults(file, {"sample_id": pa.types.is_integer})
    if file.metadata.num_rows != len(store):
        yield f"It has {file.metadata.num_rows} rows, store.json says {len(store)}."
    start = 0
    for batch in file.iter_batches():  # all columns, so that every page's checksum is compared
        ids = batch.column("sample_id").to_numpy(zero_copy_only=False)
        if not np.array_equal(ids, np.arange(start, start + len(ids))):
            yield f"Its sample_id is not the row number between rows {start} and {start + len(ids)}."
            return
        start += len(ids)


def _rejected(store: Store) -> Iterator[str]:
    file = open_parquet(rejected_path(store.path))
    yield from schema_faults(file, {"source": _is_text, "reason": _is_text, "detail": _is_text})
    if file.metadata.num_rows != store.manifest["rejected"]:
        yield f"It has {file.metadata.num_rows} rows, store.json says {store.manifest['rejected']}."
    nameless = sum(batch.column("reason").null_count for batch in file.iter_batches())
    if nameless:
        yield f"{nameless} items are rejected without a reason."


def _digest(store: Store, path: Path) -> Iterator[str]:
    expected = store.manifest.get("digests", {}).get(path.name)
    if expected is not None and file_digest(path) != expected:
        yield "Its SHA-256 is not the one in store.json: it was changed after it was written."


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file so that the checksums of its pages are compared as they are read."""
    return pq.ParquetFile(path, page_checksum_verification=True)


def schema_faults(file: pq.ParquetFile, columns: dict[str, Callable[[pa.DataType], bool]]) -> Iterator[str]:
    """Check a table's schema version and that it has `columns` of the right kind; `ValueError` where it has not."""
    schema = file.schema_arrow
    version = (schema.metadata or {}).get(SCHEMA_KEY, b"none").decode(errors="replace")
    if version != str(SCHEMA_VERSION):
        yield f"Its schema version is {version}; this version writes {SCHEMA_VERSION}."
    wrong = [name for name, fits in columns.items() if name not in schema.names or not fits(schema.field(name).type)]
    if wrong:
        raise ValueError(f"It lacks a column {wrong[0]} of the right type.")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
