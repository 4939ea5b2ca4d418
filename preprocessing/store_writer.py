"""How a store comes to be, whatever it is made of: staged, resumable, accounted for, published at once.

The work lies in one hidden folder inside the store. Nothing outside that folder changes before everything is ready, so a
command that fails or is killed leaves what was there before, and running it again goes on where it stopped.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from gated_vae.preprocessing.errors import GatedVAEError, made_otherwise
from gated_vae.preprocessing.files import (
    commit,
    file_digest,
    read_bytes,
    read_json,
    refuse_filled,
    refuse_links,
    remove,
    write_bytes,
    write_json,
    write_parquet,
)
from gated_vae.preprocessing.image_file import Region, finish_images, make_images
from gated_vae.preprocessing.sources.splits import SPLITS
from gated_vae.preprocessing.store import (
    REBUILD,
    SCHEMA_VERSION,
    Rejected,
    Store,
    centroids_path,
    groups_path,
    images_path,
    manifest_path,
    open_store,
    pairs_path,
    rejected_path,
    rejected_schema,
    samples_path,
    work_path,
)

REGION_IMAGES = 512  # 2 MB of pixels at 64 x 64
_NULLABLE = {pa.int64(): pd.Int64Dtype()}  # noted in the file, so that pandas reads row numbers as integers


@dataclass(frozen=True)
class Plan:
    """What decides a store: equal plans make equal stores, wherever they are made."""

    kind: str  # what it is made from, such as "celeba"
    source_digest: str  # SHA-256 of what it is made from, see `files.digest`
    parameters: dict[str, Any]  # the options, without paths, as JSON knows them
    image_shape: tuple[int, ...]  # of one image, such as (H, W)
    factors: dict[str, int] | None = None  # where images are all combinations of some: sizes by name, the slowest first
    inputs: tuple[Path, ...] = ()  # what is read; where it lies decides nothing
    times: str = ""  # digest of when the files were last changed, where `source_digest` does not cover what is in them

    def manifest(self) -> dict[str, Any]:
        """The keys of store.json that are known beforehand."""
        keys = {"schema_version": SCHEMA_VERSION, "kind": self.kind, "source_digest": self.source_digest}
        keys |= {"image_shape": list(self.image_shape), "parameters": self.parameters}
        return keys if self.factors is None else {**keys, "factors": self.factors}


class StoreWriter:
    """Puts a store together in the folder `out`, which whoever calls holds locked."""

    def __init__(self, out: Path, plan: Plan) -> None:
        self.seen = 0  # items of the source, which sets it: those taken and those rejected must add up to it
        self.rejected: list[Rejected] = []
        self.work = work_path(out.absolute())  # where tasks leave what they have made
        # Where the table of rejected items goes when nothing is left to make a store of.
        self.beside = self.work.parent.with_name(f"{self.work.parent.name}.rejected.parquet")
        self._out, self._plan, self._plan_path = out, plan, self.work / "plan.json"
        self._staged = self.work / "store"
        self._regions: list[Region] = []
        self._samples = pa.table({})

    def is_finished(self, *, overwrite: bool = False) -> bool:
        """Whether the store is there already and shall stay.

        Raises
        ------
        GatedVAEError
            When the folder holds something that is no store; or another one, finished or not, unless to `overwrite`.
        """
        work = self._out / self.work.name
        refuse_links(self._out, (work, *work.rglob("*")))
        if manifest_path(self._out).exists():
            if overwrite:
                self._refuse_foreign()
                return False
            self._refuse_other(open_store(self._out).manifest)
            return True
        plan = self._unfinished()
        if plan is None:
            refuse_filled(self._out, "store")
        elif not overwrite:
            self._refuse_other(plan)
        return False

    def is_current(self) -> bool:
        """Whether the files of the finished store's source are surely those that it was made from."""
        wanted = self._plan.times.encode()
        with suppress(FileNotFoundError):
            return not wanted or read_bytes(_times_path(self._out), len(wanted)) == wanted
        return False

    def begin(self) -> None:
        """Go on with the unfinished work on this store; work on any other is thrown away."""
        plan = {**self._plan.manifest(), "times": self._plan.times}
        if self._unfinished() != plan:
            self.discard()
            write_json(self._plan_path, plan)

    def discard(self) -> None:
        """Remove the work folder; its plan first, so that a part of it is never taken for the whole."""
        self._plan_path.unlink(missing_ok=True)
        remove(self.work)

    def images(self, count: int, each: int = REGION_IMAGES) -> list[Region]:
        """Make room for `count` images in regions of `each`, to be filled in any order; some may be, by an earlier run."""
        self._regions = make_images(images_path(self._staged), self._plan.image_shape, count, each)
        return self._regions

    def failed(self) -> dict[int, tuple[str, str]]:
        """Reason and detail of images that failed, by number: they become no sample, and the source rejects them."""
        failed = ((region.start, *failure) for region in self._regions for failure in region.failed())
        return {start + place: (reason, detail) for start, place, reason, detail in failed}

    def samples(self, table: pa.Table) -> None:
        """Row i describes image i; those of images that failed are left out, and `sample_id` comes in front.

        A column `split` says who trains; rows must be in the order of `splits.in_order`.
        """
        self._samples = table

    def reject(self, source: str, row: int | None, reason: str, detail: str) -> None:
        """Account for an item that is not taken."""
        self.rejected.append(Rejected(source, row, reason, detail))

    def publish(self) -> Store:
        """Complete the store and put it into the place of what lies in the folder, groups and pairs included.

        Then files are only renamed, which takes no space that could run out: old manifest away first, new one in last.
        `GatedVAEError` when an item or an image is unaccounted for, or pixels are not those that were written.
        """
        self._complete()
        self._replace()
        return open_store(self._out)

    def confirm(self) -> None:
        """Complete the store and compare it with the finished one, whose source was touched since.

        `GatedVAEError` when they differ; what was made stays for the same command with --overwrite.
        """
        made, there = self._complete()["digests"], open_store(self._out).manifest.get("digests", {})
        if changed := [name for name, value in made.items() if there.get(name) != value]:
            why = f"Its source has changed since: {' and '.join(changed)} would be others."
            remedy = "Replace it with --overwrite, which has little left to do, or choose another folder."
            raise GatedVAEError(f"{self._out} holds an older store.", why, remedy)
        commit(_times_path(self._staged), _times_path(self._out))

    def give_up(self) -> None:
        """Remove the work folder; what was rejected is told `beside`."""
        self.discard()
        if self.rejected:
            write_parquet(self.beside, self._rejected_table(), schema_version=SCHEMA_VERSION)

    def _complete(self) -> dict[str, Any]:
        """Write all files of the store into the work folder; return its manifest."""
        samples, images = self._taken(), images_path(self._staged)
        digests = {images.name: finish_images(images, self._plan.image_shape, len(samples), self._regions)}
        tables = {samples_path(self._staged): samples, rejected_path(self._staged): self._rejected_table()}
        for path, table in tables.items():
            write_parquet(path, table, schema_version=SCHEMA_VERSION)
            digests[path.name] = file_digest(path)
        counts: dict[str, Any] = {"seen": self.seen, "taken": len(samples), "rejected": len(self.rejected)}
        if "split" in samples.column_names:
            sizes = Counter(samples["split"].to_pylist())
            counts["splits"] = {name: sizes[name] for name in SPLITS}
        manifest = {**self._plan.manifest(), **counts, "partitions": {}, "digests": digests}
        write_bytes(_times_path(self._staged), self._plan.times.encode())
        write_json(manifest_path(self._staged), manifest)
        return manifest

    def _unfinished(self) -> dict[str, Any] | None:
        """The plan of the work that lies here; None where there is none, or a machine has torn it by stopping."""
        with suppress(GatedVAEError):
            plan = read_json(self._plan_path, REBUILD)
            return plan if isinstance(plan.get("parameters"), dict) else None
        return None

    def _refuse_foreign(self) -> None:
        """Raise where another program's folder has a store.json, or a folder bears a file's name; what is damaged may go."""
        manifest = {"schema_version": "damaged"}
        with suppress(GatedVAEError):
            manifest = read_json(manifest_path(self._out), REBUILD)
        if "schema_version" not in manifest:
            why, remedy = "Its store.json is none of a store.", "Choose a new or empty folder."
            raise GatedVAEError(f"{self._out} cannot be replaced.", why, remedy)
        for path in (path_in(self._out) for path_in in _FILES):
            if path.is_dir() and not path.is_symlink():
                raise GatedVAEError(f"{path} cannot be replaced.", "It is a folder.", "Remove it, then run this again.")

    def _refuse_other(self, found: dict[str, Any]) -> None:
        there = _named(found)
        for key, wanted in _named(self._plan.manifest()).items():
            if there.get(key) != wanted:
                why = made_otherwise(key, there.get(key), wanted)
                if key == "source_digest":
                    why = "It was made from other files, or from these before they changed."
                remedy = "Choose another folder, or have `pipe preprocess` replace what is there with --overwrite."
                raise GatedVAEError(f"{self._out} holds another store.", why, remedy)

    def _taken(self) -> pa.Table:
        """The samples whose images did not fail; `GatedVAEError` when an item or an image is unaccounted for."""
        failed, given, rejected = self.failed(), len(self._samples), len(self.rejected)
        images, taken = sum(region.count for region in self._regions), given - len(failed)
        faults = {
            f"{taken} taken and {rejected} rejected are not the {self.seen} seen.": taken + rejected != self.seen,
            f"{given} samples have {images} images.": given != images,
        }
        why = next((fault for fault, found in faults.items() if found), None)
        if why:
            remedy = "What reads the source has lost or doubled some: nothing is published."
            raise GatedVAEError(f"The account of {self._out} does not add up.", why, remedy)
        samples = self._samples.take(np.delete(np.arange(given), [*failed])) if failed else self._samples
        return samples.add_column(0, "sample_id", pa.array(np.arange(taken)))

    def _rejected_table(self) -> pa.Table:
        """Rejected items ordered by source and row, whole files (without a row) last."""
        schema = rejected_schema()
        table = pa.Table.from_pylist([item._asdict() for item in self.rejected], schema)
        table = table.sort_by([("source", "ascending"), ("row", "ascending")])
        return pa.Table.from_pandas(table.to_pandas(types_mapper=_NULLABLE.get), schema, preserve_index=False)

    def _replace(self) -> None:
        out = self._out
        manifest_path(out).unlink(missing_ok=True)
        for folder in (groups_path(out, "").parents[1], pairs_path(out, "").parents[1], centroids_path(out, "").parent):
            remove(folder)
        for path_in in _FILES:
            commit(path_in(self._staged), path_in(out))
        self.beside.unlink(missing_ok=True)


def _times_path(folder: Path) -> Path:
    """Where it is noted when the files of a store's source were last changed."""
    return folder / ".times"


_FILES = (images_path, samples_path, rejected_path, _times_path, manifest_path)  # the manifest last


def _named(manifest: dict[str, Any]) -> dict[str, Any]:
    """What equal stores have in common, parameters one by one, in the order in which differences are told."""
    last = ("image_shape", "factors", "source_digest")
    return {"kind": manifest.get("kind"), **manifest.get("parameters", {}), **{key: manifest.get(key) for key in last}}
