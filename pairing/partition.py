"""How a partition is made: groups, then partners in them, as tables and a record in the store's manifest."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_vae.pairing.labels import coordinates, registered
from gated_vae.pairing.rules.base import Floats, Partners, partition_stream
from gated_vae.pairing.tables import write_centroids, write_groups, write_pairs
from gated_vae.preprocessing.errors import GatedVAEError, UsageError, check_seed, made_otherwise
from gated_vae.preprocessing.files import commit, real
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.store import PARTITION_NAME, Store, centroids_path, groups_path, pairs_path

Record = dict[str, Any]

RESERVED = "full"  # `gated_vae.models.metrics.partition.FULL`
MOST_DRAWS = 2**20
_TABLES = (groups_path, centroids_path, pairs_path)


@dataclass(frozen=True, eq=False)
class Grouped:
    """The groups of a partition, ready to draw partners in.

    Attributes
    ----------
    group:
        Group of each sample, int32 (N,); of the T that train none is alone in its. -1 where others fit in none.
    partners:
        Draws them.
    results, measure:
        What the record says of the groups; tells what it says of the pairs.
    distance, centroids:
        Distance to the group's centroid, float32 (N,), and the centroids, float32 (groups, d) over the coordinates of the shared
        columns; None where groups have none.
    """

    group: npt.NDArray[np.int32]
    partners: Partners
    results: Record
    measure: Callable[[], Record] = dict
    distance: Floats | None = None
    centroids: Floats | None = None


@dataclass(frozen=True)
class Plan:
    """A partition to be made: what decides it (see `describe`; what is recorded so is not made again), and its groups."""

    name: str
    record: Record
    group: Callable[[], Grouped]


def describe(name: str, method: str, *, shared: Sequence[str], draws: int, seed: int, **more: Any) -> Record:
    """What decides a partition: how samples were grouped (`method`), what pairs share (`shared`), and how they were drawn.

    `GatedVAEError` when `name`, `draws` or `seed` cannot be.
    """
    if not re.fullmatch(PARTITION_NAME, name) or name == RESERVED:
        why = "Scores call the whole latent so." if name == RESERVED else "Names are letters, digits, _ and - alone."
        raise UsageError(f"No partition can be called {name!r}.", why, "Choose another name.")
    if not 1 <= draws <= MOST_DRAWS:
        raise UsageError("Pairs cannot be drawn.", f"Got draws {draws}.", f"Give draws >= 1 and <= {MOST_DRAWS:,}.")
    drawn = {"seed": check_seed(seed), "stream": partition_stream(seed, name), "draws": draws}
    return {"method": method, "shared": [*shared], **more, **drawn}


def pairs_made(record: Record) -> str:
    """How a partition's pairs were made, in a few words, from its record."""
    shared, drawn = ", ".join(record["shared"]), f"draws {record['draws']}"
    if record["method"] == "exact":
        return f"equal in {shared}, {drawn}"
    if record["method"] == "follow":
        *sequence, order = record["shared"]
        nearest = f" ({further:,} have none so near, but the nearest)" if (further := record.get("further", 0)) else ""
        return f"{order} at most {record['apart']:g} apart in {', '.join(sequence)}{nearest}, {drawn}"
    if record["method"] == "change":
        return f"different in {record['k']} factor{'s' * (record['k'] > 1)}, {drawn}"
    if record["method"] == "given":
        return f"given by a table, {drawn}"
    found = ", ".join(f"{key} {record[key]}" for key in ("k", "rule", "draws") if key in record)
    return f"{record['method']} ({found})"


def make_partitions(
    store: Store, plans: Sequence[Plan], *, overwrite: bool = False, progress: Progress = ignore
) -> dict[str, tuple[Record, bool]]:
    """Make the partitions that are not there yet; the caller has locked the store.

    They are recorded one by one, so an interrupted run goes on with the first that is missing and ends in the same bytes.
    In training those of registered labels come before all others, whichever was made first. With `overwrite` they are made
    again, whatever is there.

    Returns
    -------
    The record of each, and whether it was there already.

    Raises
    ------
    GatedVAEError
        When one was made otherwise and may not be replaced; nothing has changed then.
    """
    made = set() if overwrite else {plan.name for plan in plans if _is_made(store, plan)}
    missing = [plan for plan in plans if plan.name not in made]
    _refuse_others(store, missing)
    sizes = [store.training * plan.record["draws"] for plan in missing]
    for place, plan in enumerate(missing):
        record = _make(store, plan, sum(sizes[:place]), sum(sizes), progress)
        others = {name: it for name, it in store.partitions.items() if name != plan.name}
        if len(others) < len(store.partitions):  # before its files change, so that no record describes others
            store = store.with_partitions(others)
        _put_in(store, plan)
        records = {**others, plan.name: record}
        first = [label.name for label in registered("near") if label.name in records]
        store = store.with_partitions({name: records[name] for name in (*first, *records)})
    return {plan.name: (store.partitions[plan.name], plan.name in made) for plan in plans}


def _is_made(store: Store, plan: Plan) -> bool:
    """Whether a partition is there; refuses one that was made otherwise. Results, which only the manifest has, do not count."""
    found = store.partitions.get(plan.name)
    if found is None:
        return False
    for key, value in plan.record.items():
        if found.get(key) != value:
            why = made_otherwise(key, found.get(key), value)
            remedy = "Use the same options, or have `pipe pair` or `pipe cluster` make it anew with --overwrite."
            raise GatedVAEError(f"Partition {plan.name} exists and differs.", why, remedy)
    return True


def _refuse_others(store: Store, plans: Sequence[Plan]) -> None:
    """Raise where a table to be replaced is none, or lies behind a link: it may be somebody else's."""
    for path in (path_in(store.path, plan.name) for plan in plans for path_in in _TABLES):
        is_ours = real(store.path) in real(path.parent).parents
        if path.exists() and not (is_ours and path.is_file()):
            why = "It is no regular file." if is_ours else "A link leads to where it lies."
            remedy = "Remove it, or the link, then run the same command again."
            raise GatedVAEError(f"{path} cannot be replaced.", why, remedy)


def _staged(path: Path) -> Path:
    """Where a table waits until all of its partition are complete: hidden from whoever reads the folder."""
    return path.with_name(f".{path.name}.new")


def _put_in(store: Store, plan: Plan) -> None:
    """Put the tables of a partition into their places; what is there and was not made anew goes."""
    for path in (path_in(store.path, plan.name) for path_in in _TABLES):
        if _staged(path).exists():
            commit(_staged(path), path)
        else:
            path.unlink(missing_ok=True)


def _make(store: Store, plan: Plan, before: int, pairs: int, progress: Progress) -> Record:
    """Make one partition, of whose command `before` of `pairs` pairs are written, and leave it staged; return its record."""
    name, draws = plan.name, plan.record["draws"]

    def told(done: int, _total: int, note: str = "pairs") -> None:
        progress(before + done, pairs, f"{name}: {note}")

    told(0, 0, "groups")
    found = plan.group()
    groups, centroids, pairs_to = (_staged(path_in(store.path, name)) for path_in in _TABLES)
    write_groups(groups, found.group, found.distance)
    paired = found.group[: store.training]
    if found.centroids is None:
        centroids.unlink(missing_ok=True)
    else:
        names = coordinates(plan.record["shared"], plan.record.get("turns", {}))
        write_centroids(centroids, names, paired, found.centroids)
    told(0, 0)
    written = write_pairs(pairs_to, paired, found.partners, draws, progress=told)
    told(written, 0, "measuring")
    return {**plan.record, **found.results, **found.measure()}
