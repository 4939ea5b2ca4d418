"""The store: one folder of plain formats, readable without this project.

This module owns the layout on disk, the schema version and the manifest; nothing else spells a file name of a store.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import check_name, file_digest, fits, is_ours, read_json, readable, write_json
from gated_vae.preprocessing.sources.splits import SPLITS

if TYPE_CHECKING:  # commands that read neither images nor tables need not wait for them
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

SCHEMA_VERSION = 2
PARTITION_NAME = "[A-Za-z0-9_-]+"  # as a regular expression: it names folders, columns and groups of losses

_LARGEST = 2.0**53  # of labels: sums of squares of larger ones would overflow
_REQUIRED = ("kind", "source_digest", "image_shape", "seen", "taken", "rejected", "parameters")

REBUILD = "Run `pipe preprocess` again with --overwrite."


@dataclass(frozen=True)
class Store:
    """A finished store, opened for reading.

    Attributes
    ----------
    path:
        The store's folder.
    manifest:
        ``store.json`` as a dict: schema_version, kind, source_digest, image_shape, seen, taken, rejected, parameters,
        digests (SHA-256 by file name), and `partitions` (name -> how its groups and pairs were made, and the columns that
        pairs share), in the order in which training alternates.
    """

    path: Path
    manifest: dict[str, Any]

    @property
    def kind(self) -> str:
        """What the store was made from, such as ``celeba`` or ``images``."""
        return str(self.manifest["kind"])

    @property
    def parameters(self) -> dict[str, Any]:
        """The options it was preprocessed with."""
        return dict(self.manifest["parameters"])

    @property
    def partitions(self) -> dict[str, dict[str, Any]]:
        """Partitions that have groups and pairs, in training order."""
        return dict(self.manifest.get("partitions", {}))

    def shared(self, partition: str) -> tuple[str, ...]:
        """Columns in which the pairs of a partition agree, exactly or nearly."""
        return tuple(self.partitions[partition]["shared"])

    def digest_of(self, path_in: Callable[[Path], Path]) -> str:
        """SHA-256 of one of its files, such as `images_path`, as it was made: the same wherever the store lies."""
        path = path_in(self.path)
        return str(self.manifest.get("digests", {}).get(path.name) or file_digest(path))

    def __len__(self) -> int:
        return int(self.manifest["taken"])

    @property
    def training(self) -> int:
        """How many samples train: the first ones; all of a store without splits."""
        return int(self.splits["train"]) if self.splits else len(self)

    @property
    def splits(self) -> dict[str, int]:
        """Samples of each split, which lie one behind the other in the order of `SPLITS`; empty where there are none."""
        return dict(self.manifest.get("splits", {}))

    def split(self, name: str) -> range:
        """The samples of one split; of ``train`` in a store without splits, all."""
        if not self.splits:
            return range(len(self) if name == "train" else 0)
        start = sum(self.splits[before] for before in SPLITS[: SPLITS.index(name)])
        return range(start, start + self.splits[name])

    @cached_property
    def images(self) -> np.memmap[Any, np.dtype[np.uint8]]:
        """Every image, uint8 (N, H, W), or (N, H, W, 3) with red, green and blue, mapped read-only."""
        import numpy as np

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's word on a damaged header that it can still read
            with readable(images_path(self.path), REBUILD):
                images = np.load(images_path(self.path), mmap_mode="r", allow_pickle=False)
        expected = (len(self), *self.manifest["image_shape"])
        if images.dtype != np.uint8 or images.shape != expected:
            why = f"It holds {images.dtype} {images.shape}, store.json says uint8 {expected}."
            raise GatedVAEError(f"{images_path(self.path)} does not fit its store.", why, REBUILD)
        return images  # type: ignore[no-any-return]

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row per image, in image order; `sample_id` equals the row number."""
        return self.sample_columns()

    def sample_columns(self, columns: list[str] | None = None) -> pd.DataFrame:
        """Read only some columns of samples.parquet (all when None)."""
        import pandas as pd

        with self.open_samples():
            return pd.read_parquet(samples_path(self.path), columns=columns)

    @cached_property
    def schema(self) -> pa.Schema:
        """Names and types of the columns of samples.parquet."""
        with self.open_samples() as file:
            return file.schema_arrow

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of samples.parquet that hold one value a sample, so no lists."""
        import pyarrow as pa

        return tuple(field.name for field in self.schema if not pa.types.is_nested(field.type))

    @contextmanager
    def open_samples(self) -> Iterator[pq.ParquetFile]:
        """Open samples.parquet while the block lasts; `GatedVAEError` when it cannot be read or has not a row for each image."""
        import pyarrow.parquet as pq

        path = samples_path(self.path)
        with readable(path, REBUILD), pq.ParquetFile(path) as file:
            rows = file.metadata.num_rows
            if rows != len(self):
                why = f"It has {rows} rows, store.json says {len(self)}."
                raise GatedVAEError(f"{path} does not fit its store.", why, REBUILD)
            if twice := [name for name, count in Counter(file.schema_arrow.names).items() if count > 1]:
                raise GatedVAEError(f"{path} cannot be used.", f"It has two columns {twice[0]}.", REBUILD)
            yield file

    def with_partitions(self, partitions: dict[str, dict[str, Any]]) -> Store:
        """Record how partitions were made (replacing the manifest atomically) and return the store as it now is."""
        manifest = {**self.manifest, "partitions": partitions}
        write_json(manifest_path(self.path), manifest)
        return Store(self.path, manifest)


def manifest_path(store: Path) -> Path:
    """``store.json``, written last: a folder without it is not a store yet."""
    return store / "store.json"


def work_path(store: Path) -> Path:
    """Where what is made of a store lies until it is complete."""
    return store / ".work"


def images_path(store: Path) -> Path:
    """``images.npy``: uint8 (N, H, W), or (N, H, W, 3) in colour."""
    return store / "images.npy"


def samples_path(store: Path) -> Path:
    """``samples.parquet``: row i describes images[i]."""
    return store / "samples.parquet"


def rejected_path(store: Path) -> Path:
    """``rejected.parquet``: source, row, reason, detail of every item not taken."""
    return store / "rejected.parquet"


class Rejected(NamedTuple):
    """A row of ``rejected.parquet``: an item of the source that was not taken."""

    source: str  # its file, as users know it
    row: int | None  # in the file; None where it is all of it
    reason: str  # a word
    detail: str  # particulars


def rejected_schema() -> pa.Schema:
    """Columns of ``rejected.parquet``: those of `Rejected`."""
    import pyarrow as pa

    return pa.schema({"source": pa.string(), "row": pa.int64(), "reason": pa.string(), "detail": pa.string()})


def groups_path(store: Path, partition: str) -> Path:
    """The groups of one partition: sample_id, group, distance."""
    return store / "groups" / f"partition={partition}" / "groups.parquet"


def pairs_path(store: Path, partition: str) -> Path:
    """The pairs of one partition: input_id, target_id, group, draw."""
    return store / "pairs" / f"partition={partition}" / "pairs.parquet"


def centroids_path(store: Path, partition: str) -> Path:
    """The centroids of one clustered partition."""
    return store / "centroids" / f"{partition}.parquet"


def open_store(path: str | Path) -> Store:
    """Open a finished store.

    Raises
    ------
    GatedVAEError
        When the folder is missing, no store, half written, or of another schema version, or its path is not UTF-8.
    """
    path = Path(path)
    check_name(path)
    if not path.is_dir():
        remedy = "Make one with `pipe preprocess`."
        raise GatedVAEError(f"There is no store at {path}.", "The folder does not exist.", remedy)
    if not manifest_path(path).exists():
        raise _no_store(path)
    manifest = read_json(manifest_path(path), REBUILD)
    check_manifest(manifest, manifest_path(path))
    return Store(path, manifest)


def _no_store(path: Path) -> GatedVAEError:
    """What is told of a folder without a manifest: a store half made, a run's, or anybody's."""
    if work_path(path).exists():
        remedy = "Run the same `pipe preprocess` command again: it goes on where it stopped."
        return GatedVAEError(f"{path} is not a finished store.", "It has no store.json, which is written last.", remedy)
    remedy = "Give the folder that was the --out of `pipe preprocess`."
    if is_ours(path):
        return GatedVAEError(
            f"{path} is no store but a run.", f"`pipe inspect {path}` says where its store is.", remedy
        )
    return GatedVAEError(f"{path} is no store.", "It has no store.json.", remedy)


def check_manifest(manifest: dict[str, Any], path: Path) -> None:
    """Raise `GatedVAEError` unless this is a manifest's form and nothing in it contradicts the rest; `path` is where it is from."""
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        why = f"It was written with schema version {version}; this version reads {SCHEMA_VERSION}."
        raise GatedVAEError(f"{path} cannot be opened.", why, REBUILD)
    missing = [key for key in _REQUIRED if key not in manifest]
    if missing:
        raise GatedVAEError(f"{path} is incomplete.", f"It lacks {', '.join(missing)}.", REBUILD)
    wrong = next((key for key in _FORMS if key in manifest and not _can_be(key, manifest[key])), None)
    if wrong:
        raise GatedVAEError(f"{path} is damaged.", f"Its {wrong} cannot be what it says.", REBUILD)
    seen, taken, rejected = (manifest[key] for key in ("seen", "taken", "rejected"))
    combinations = math.prod(manifest.get("factors", {0: taken}).values())
    split = sum(manifest.get("splits", {0: taken}).values())
    shared = {
        it for made in manifest.get("partitions", {}).values() if made["method"] == "exact" for it in made["shared"]
    }
    strange = sorted(shared - {*manifest.get("factors", shared)})
    contradictions = {
        f"{taken} taken and {rejected} rejected are not the {seen} seen.": taken + rejected != seen,
        f"Its factors have {combinations} combinations, it holds {taken} samples.": combinations != taken,
        f"Its pairs share {', '.join(strange)}, which is no factor.": bool(strange),
        f"Its splits have {split} samples, it holds {taken}.": split > taken,  # some may be in none
    }
    if why := next((what for what, found in contradictions.items() if found), ""):
        raise GatedVAEError(f"{path} contradicts itself.", why, REBUILD)


def check_numbers(table: pd.DataFrame, path: Path, remedy: str, first: int = 0) -> None:
    """Raise `GatedVAEError` unless all columns hold numbers that can be reckoned with; missing ones pass.

    `path` is where they are from, and `first` the number of their first row.
    """
    for name, column in table.items():
        if column.dtype.kind not in "biuf":
            raise GatedVAEError(f"{path} cannot be used.", f"Its {name} holds no numbers.", remedy)
        beyond = (column.abs() > _LARGEST).to_numpy(bool, na_value=False)
        if beyond.any():
            row = int(beyond.argmax())
            why = f"Its {name} is {column.iloc[row]:g} in row {first + row}, which no label can be."
            raise GatedVAEError(f"{path} cannot be used.", why, remedy)


_MOST = 2**40  # of anything that is counted
_SIDE = 2**16  # pixels
_SIZE = (int, float)

# What keys of store.json hold, see `fits`; then what the record of a partition may hold beside what it must.
_FORMS: dict[str, Any] = {
    "kind": str,
    "source_digest": str,
    "image_shape": [int],
    **dict.fromkeys(("seen", "taken", "rejected"), int),
    "parameters": {},
    "digests": {str: str},
    "factors": {str: int},
    "splits": dict.fromkeys(SPLITS, int),
    "partitions": {str: {"method": str, "shared": [str], "draws": int}},
}
_MORE = {
    **dict.fromkeys(("k", "groups", "merged", "further", "seed", "stream"), int),
    "turns": {str: _SIZE},
    "apart": _SIZE,
}
_NEEDED = {"exact": ("stream",), "change": ("stream", "k"), "follow": ("apart",)}  # of those, by method

_RANGES: dict[str, Callable[[Any], bool]] = {
    "image_shape": lambda shape: all(0 < side < _SIDE for side in shape) and (len(shape) == 2 or shape[2:] == [3]),
    **dict.fromkeys(("seen", "taken", "rejected"), lambda count: 0 <= count < _MOST),
    "factors": lambda sizes: all(0 < size < _MOST for size in sizes.values()),
    "splits": lambda counts: tuple(counts) == SPLITS and all(0 <= count < _MOST for count in counts.values()),
    "partitions": lambda made: all(_is_partition(name, record) for name, record in made.items()),
}


def _can_be(key: str, value: Any) -> bool:
    return fits(value, _FORMS[key]) and (key not in _RANGES or _RANGES[key](value))


def _is_partition(name: str, record: dict[str, Any]) -> bool:
    """Whether a partition's name cannot lead out of the store and its record says how it was made."""
    more = {key: form for key, form in _MORE.items() if key in record}
    if not (re.fullmatch(PARTITION_NAME, name) and fits(record, more)):
        return False
    counts = [record.get(key, 0) for key in ("draws", "groups", "merged", "further")]
    sizes = [*record.get("turns", {}).values(), record.get("apart", 1), record.get("k", 1), record["draws"]]
    return (
        all(0 <= count < _MOST for count in counts)
        and all(0 < size < math.inf for size in sizes)
        and all(record.get(key, 0) >= 0 for key in ("seed", "stream"))
        and all(key in record for key in _NEEDED.get(record["method"], ()))
        and (record["method"] != "follow" or len(record["shared"]) > 1)
    )
