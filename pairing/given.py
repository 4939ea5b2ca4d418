"""Pairs that somebody else has made: a table of inputs, targets and the partition whose factors they share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from gated_vae.pairing.partition import Grouped, Record
from gated_vae.pairing.rules.base import Ids, drawing, random_below
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import digest
from gated_vae.preprocessing.labels.table import read_table
from gated_vae.preprocessing.store import Store

COLUMNS = ("input", "target", "partition")
_REMEDY = "Give a table with the columns input, target (images or sample ids) and partition, a row to a pair."


@dataclass(frozen=True, eq=False)
class GivenPartners:
    """The partners of every sample as compressed rows: of sample i ``ids[offsets[i]:offsets[i + 1]]``, one at the least."""

    ids: Ids
    offsets: Ids

    def partners(self, ids: Ids, *, seed: int, draw: int) -> Ids:
        """Give each of `ids` (n,) one of its partners, the next with every draw; with which one it begins is drawn."""
        start, count = self.offsets[ids], self.offsets[ids + 1] - self.offsets[ids]
        first = random_below(count, ids, seed=seed, draw=0)
        return self.ids[start + (first + draw) % count]


@dataclass(frozen=True, eq=False)
class Given:
    """The pairs of one partition as they were given.

    Attributes
    ----------
    path:
        The table they are from.
    pairs:
        Sample ids (n, 2), each pair once in one of its directions.
    """

    method: ClassVar[str] = "given"
    path: Path
    pairs: Ids

    def decides(self, store: Store) -> Record:  # noqa: ARG002
        """What decides the pairs, for the partition's record."""
        return {"shared": [], "given": digest(self.pairs.tobytes())}

    def group(self, store: Store, record: Record) -> Grouped:
        """Make groups of what is connected by pairs. Pairs with samples that do not train are left out, and counted.

        `GatedVAEError` when a sample that trains has no partner.
        """
        training = store.training
        pairs = self.pairs[(self.pairs < training).all(axis=1)]
        both = np.concatenate([pairs, pairs[:, ::-1]])
        links = sparse.csr_array((np.ones(len(both), np.int8), both.T), shape=(training, training))
        links.sum_duplicates()
        offsets, targets = links.indptr.astype(np.int64), links.indices.astype(np.int64)
        alone = np.flatnonzero(np.diff(offsets) == 0)
        if len(alone):
            image = store.sample_columns(["image"])["image"].iloc[alone[0]]
            why = f"{len(alone)} of {training} samples that train are in no pair, {image} first."
            remedy = "Name a partner for each, or preprocess without these pictures."
            raise GatedVAEError(f"The pairs of {self.path} do not do for this store.", why, remedy)
        groups, code = connected_components(links, directed=False)
        group = np.full(len(store), -1, np.int32)
        group[:training] = code
        partners = drawing(GivenPartners(targets, offsets), record["stream"])
        results = {"groups": int(groups), "merged": 0, "pairs": len(pairs), "left_out": len(self.pairs) - len(pairs)}
        return Grouped(group, partners, results)


def read_pairs(path: Path, store: Store) -> dict[str, Given]:
    """Read a table of pairs, by partition in the order in which they come; a pair holds in both directions.

    `GatedVAEError` when it cannot be read, lacks a column, or a row names no two different samples of the store, or no
    partition.
    """
    labels = read_table(path, COLUMNS.__contains__)
    labels.require(*COLUMNS)
    table = pd.DataFrame({name: labels.table[name].cast(pa.string()).to_pandas() for name in COLUMNS})
    ids = np.stack([_sample_ids(path, table[name], store) for name in COLUMNS[:2]], axis=1)
    same, nameless = ids[:, 0] == ids[:, 1], table["partition"].isna().to_numpy()
    for wrong, why in ((same, "It pairs a sample with itself."), (nameless, "It names no partition.")):
        if wrong.any():
            raise GatedVAEError(f"Row {int(wrong.argmax())} of {path} is no pair.", why, _REMEDY)
    ids.sort(axis=1)
    names = table["partition"].str.strip()
    return {name: Given(path, np.unique(ids[(names == name).to_numpy()], axis=0)) for name in names.unique()}


def _sample_ids(path: Path, values: pd.Series, store: Store) -> npt.NDArray[np.int64]:
    """Which samples a column names: images, or sample ids where none is an image."""
    images = store.sample_columns(["image"])["image"]
    place = pd.Series(np.arange(len(images)), images)
    found = values.map(place[~place.index.duplicated(keep=False)])
    if found.isna().all():
        numbers = pd.to_numeric(values, errors="coerce")
        found = numbers.where(numbers.isin(place))
    wrong = found.isna().to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        why = f"Its {values.name} is {values.iloc[row]!r}; the store has {images.iloc[0]!r} and others."
        raise GatedVAEError(f"Row {row} of {path} is no pair.", why, _REMEDY)
    ids: Ids = found.to_numpy(np.int64)
    return ids
