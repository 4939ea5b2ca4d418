"""How a partition is made: groups, then partners in them, as tables and a record in the store's manifest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gated_vae.pairing.rules.base import Floats, PairingRule, partition_stream
from gated_vae.pairing.tables import Partners, write_centroids, write_groups, write_pairs
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.store import Store

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Grouped:
    """The groups of a partition, ready to draw partners in.

    Attributes
    ----------
    group:
        Group of each sample, int32 (N,); none has a single member.
    distance:
        Distance to the group's centroid, float32 (N,); 0 where groups have none.
    centroids:
        The centroids, float32 (groups, d) over the shared columns; None where groups have none.
    rule, uniform:
        Draws the partners; draws any other member of the group, to compare with.
    results:
        What the record says of the groups.
    """

    group: npt.NDArray[np.int32]
    distance: Floats
    centroids: Floats | None
    rule: PairingRule
    uniform: PairingRule
    results: Record


class Plan(Protocol):
    """A partition to be made."""

    @property
    def name(self) -> str:
        """The partition."""

    @property
    def record(self) -> Record:
        """What decides it (see `describe`): what is recorded so is not made again."""

    def check(self) -> None:
        """Refuse what cannot be made, before anything in the store changes."""

    def group(self) -> Grouped:
        """Group the samples."""

    def measure(self, partners: Partners, uniform: Partners) -> Record:
        """What the record says of the pairs, beside those drawn uniformly."""


def describe(name: str, method: str, shared: Sequence[str], draws: int, seed: int, **more: Any) -> Record:
    """What decides a partition: how samples were grouped (`method`), what pairs share (`shared`), and how they were drawn.

    Raises
    ------
    GatedVAEError
        When `draws` or `seed` cannot be.
    """
    if draws < 1 or seed < 0:
        why = f"Got draws {draws} and seed {seed}."
        raise GatedVAEError("Pairs cannot be drawn.", why, "Give draws >= 1, seed >= 0.")
    drawn = {"seed": seed, "stream": partition_stream(seed, name), "draws": draws}
    return {"method": method, "shared": [*shared], **more, **drawn}


def make_partitions(
    store: Store,
    plans: Sequence[Plan],
    *,
    first: Sequence[str] = (),
    overwrite: bool = False,
    progress: Progress = ignore,
) -> dict[str, tuple[Record, bool]]:
    """Make the partitions that are not there yet; the caller has locked the store.

    They are recorded one by one, so an interrupted run goes on with the first that is missing and ends in the same bytes.

    Parameters
    ----------
    first:
        Partitions that come before all others in training, whichever was made first.
    overwrite:
        Make them again, whatever is there.
    progress:
        Told how many of the pairs are written.

    Returns
    -------
    The record of each, and whether it was there already.

    Raises
    ------
    GatedVAEError
        When one was made otherwise and may not be replaced, or cannot be made; nothing has changed then.
    """
    made = already_made(store, {plan.name: plan.record for plan in plans}, overwrite)
    missing = [plan for plan in plans if plan.name not in made]
    for plan in missing:
        plan.check()
    store = strike(store, [plan.name for plan in missing])
    sizes = [len(store) * plan.record["draws"] for plan in missing]
    for place, plan in enumerate(missing):
        record = _make(store, plan, sum(sizes[:place]), sum(sizes), progress)
        made_now = {**store.partitions, plan.name: record}
        order = [name for name in first if name in made_now]
        store = store.with_partitions({name: made_now[name] for name in [*order, *made_now]})
    return {plan.name: (store.partitions[plan.name], plan.name in made) for plan in plans}


def _make(store: Store, plan: Plan, before: int, pairs: int, progress: Progress) -> Record:
    """Make one partition, of whose command `before` of `pairs` pairs are written; return its record."""
    name, stream = plan.name, plan.record["stream"]

    def told(done: int, _total: int, note: str = "pairs") -> None:
        progress(before + done, pairs, f"{name}: {note}")

    told(0, 0, "groups")
    found = plan.group()
    write_groups(store.path, name, found.group, found.distance)
    write_centroids(store.path, name, plan.record["shared"], found.group, found.centroids)
    told(0, 0)
    partners, uniform = _drawing(found.rule, stream), _drawing(found.uniform, stream)
    written = write_pairs(store.path, name, found.group, partners, plan.record["draws"], progress=told)
    told(written, 0, "measuring")
    return {**plan.record, **found.results, **plan.measure(partners, uniform)}


def _drawing(rule: PairingRule, seed: int) -> Partners:
    return lambda ids, draw: rule.partners(ids, seed=seed, draw=draw)


def already_made(store: Store, records: Mapping[str, Record], overwrite: bool) -> set[str]:
    """Tell which partitions were made just so; none are to count when they may be replaced.

    Parameters
    ----------
    records:
        Partition -> how it is to be made. Keys that only the manifest has (results) do not count.

    Raises
    ------
    GatedVAEError
        When one was made otherwise and may not be replaced.
    """
    there = {} if overwrite else {name: store.partitions[name] for name in records if name in store.partitions}
    for name, found in there.items():
        for key, value in records[name].items():
            if found.get(key) != value:
                why = f"Its {key} is {found.get(key)}, this command's is {value}."
                remedy = "Use the same options, or --overwrite."
                raise GatedVAEError(f"Partition {name} exists and differs.", why, remedy)
    return set(there)


def strike(store: Store, names: Collection[str]) -> Store:
    """Take partitions out of the record before their files change, so that no record describes a half-made table."""
    kept = {name: record for name, record in store.partitions.items() if name not in names}
    return store if len(kept) == len(store.partitions) else store.with_partitions(kept)
