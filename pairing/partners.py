"""Partners of given samples, on request: drawn at random, or the nearest of the group."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt

from gated_vae.pairing.groups.columns import scaled, scales
from gated_vae.pairing.rules.uniform import Members
from gated_vae.pairing.stream.batches import partition_record
from gated_vae.pairing.stream.wire import read_object
from gated_vae.pairing.tables import read_groups
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store

Ids = npt.NDArray[np.int64]

MAX_REQUEST_BYTES = 1 << 20
MAX_PARTNERS = 1 << 16  # in one answer

_REMEDY = "docs/service.md describes requests for partners."


@dataclass(frozen=True)
class PartnersRequest:
    """Whose partners are wanted: of samples `ids`, `count` each, ``random`` (by `seed`) or the ``nearest``."""

    partition: str
    ids: list[int]
    kind: str = "random"
    count: int = 1
    seed: int = 0

    @classmethod
    def parse(cls, text: bytes) -> PartnersRequest:
        """Read a request that anybody may have written, as JSON.

        Raises
        ------
        GatedVAEError
            When it is too long, lacks a key or has an unknown one, or a value is of a wrong type or out of bounds.
        """
        values = read_object(text, "request", MAX_REQUEST_BYTES)
        names = {field.name for field in fields(cls)}
        if not {"partition", "ids"} <= values.keys() <= names:
            why = f"It needs partition and ids, and may have {', '.join(sorted(names - {'partition', 'ids'}))}."
            raise GatedVAEError("The request cannot be used.", why, _REMEDY)
        request = cls(**values)
        request._check()
        return request

    def _check(self) -> None:
        numbers = [self.count, self.seed, *self.ids] if isinstance(self.ids, list) else [None]
        if not isinstance(self.partition, str) or any(type(number) is not int for number in numbers):
            why = "`ids` is a list of whole numbers, `count` and `seed` are whole numbers, `partition` is a name."
            raise GatedVAEError("The request cannot be used.", why, _REMEDY)
        if self.kind not in ("random", "nearest") or self.count < 1 or not 0 <= self.seed < 2**63:
            why = "`kind` is random or nearest, `count` 1 or more, `seed` 0 or more."
            raise GatedVAEError("The request cannot be used.", why, _REMEDY)
        if self.count * len(self.ids) > MAX_PARTNERS:
            why = f"At most {MAX_PARTNERS:,} partners are told at once."
            raise GatedVAEError("The request is too large.", why, "Ask in parts.")


class Partners:
    """The groups of one partition, read when first asked for and kept: 16 bytes a sample.

    The nearest need the columns the partition was clustered by, too: 4 bytes a column and sample.
    """

    def __init__(self, store: Store, partition: str) -> None:
        self._store, self._name = store, partition
        self._made = partition_record(store, partition)
        self._lock = threading.RLock()

    def find(self, request: PartnersRequest) -> list[list[int]]:
        """Answer a request: the partners of each of its samples."""
        if request.kind == "nearest":
            return self.nearest(request.ids, request.count)
        return self.random(request.ids, request.count, seed=request.seed)

    def random(self, ids: Sequence[int], count: int, *, seed: int = 0) -> list[list[int]]:
        """Draw `count` partners of each sample, uniformly and independently, as `pairing.draw_partners` does."""
        chosen = self._chosen(ids)
        with self._lock:
            drawn = [self._members.partners(chosen, seed=seed, draw=draw) for draw in range(count)]
        return [list(map(int, partners)) for partners in zip(*drawn, strict=True)]

    def nearest(self, ids: Sequence[int], count: int) -> list[list[int]]:
        """Find the `count` other members of each sample's group that lie nearest to it, the nearest first.

        Distances are Euclidean, in the columns and units the partition was clustered in. A group of fewer gives fewer.

        Raises
        ------
        GatedVAEError
            When the partition was not clustered: members of an exact group are all equally near.
        """
        with self._lock:
            return [self._nearest(int(sample), count) for sample in self._chosen(ids)]

    def _nearest(self, sample: int, count: int) -> list[int]:
        members, points = self._members, self._points
        group = members.group[sample]
        others = members.ids[members.offsets[group] : members.offsets[group + 1]]
        others = others[others != sample]
        distance = np.square(points[others] - points[sample]).sum(axis=1)
        return [int(other) for other in others[np.argsort(distance, kind="stable")[:count]]]

    def _chosen(self, ids: Sequence[int]) -> Ids:
        unknown = [sample for sample in ids if not 0 <= sample < len(self._store)]
        if unknown:
            why = f"Samples are numbered from 0 to {len(self._store) - 1}."
            raise GatedVAEError(f"There is no sample {unknown[0]}.", why, "Ask for others.")
        return np.asarray(ids, np.int64)

    @cached_property
    def _members(self) -> Members:
        return Members.of(read_groups(self._store.path, self._name)[0])

    @cached_property
    def _points(self) -> npt.NDArray[np.float32]:
        if "columns" not in self._made:
            why = f"Partition {self._name} was not clustered: members of its groups are all equally near."
            raise GatedVAEError("There are no nearest partners.", why, "Ask for random ones.")
        points: npt.NDArray[np.float32] = self._store.sample_columns(self._made["columns"]).to_numpy(np.float32)
        scale = self._made.get("scale", "none")
        return scaled(points, scales(points, scale), scale).astype(np.float32, copy=False)
