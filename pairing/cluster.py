"""Cluster a store of faces: groups, centroids and pairs of images alike in pose, and of images alike in expression."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gated_vae.pairing.drawing import Drawing, Source, discard_spilled
from gated_vae.pairing.groups.balanced import LEAST, split_large
from gated_vae.pairing.groups.columns import Fit, LabelColumns, scaled, scales
from gated_vae.pairing.groups.kmeans import Groups, merge_singletons
from gated_vae.pairing.groups.resolution import Choice, choose_clusters, repeated_apart
from gated_vae.pairing.quality import ColumnQuality, column_quality, size_histogram
from gated_vae.pairing.records import Record, already_made, strike
from gated_vae.pairing.rules.independent import IndependentPartners
from gated_vae.pairing.rules.nearest import NearestPartners
from gated_vae.pairing.rules.uniform import Ints, Members, partition_stream
from gated_vae.pairing.rules.weighted import WeightedPartners, confidence_weights
from gated_vae.pairing.tables import DRAWS, write_groups, write_pairs
from gated_vae.preprocessing.compute import dashboard
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import locked, write_parquet
from gated_vae.preprocessing.store import SCHEMA_VERSION, Store, centroids_path, open_store, samples_path

Progress = Callable[[str], None]  # told what begins
Columns = dict[str, list[str]]  # partition -> the columns it is clustered by

# In training order: pitch and yaw; the intensities of the action units.
PARTITIONS = {"pose": re.compile(r"pose_R[xy]"), "expression": re.compile(r"AU\d+_r")}
MEASURED = re.compile(r"pose_R[xyz]|AU\d+_r")
MEASURED_PAIRS = 1 << 18
CONFIDENCE = "confidence"
AUTO = "auto"
TRAIN_SAMPLE = 1 << 20  # more than the 256 points a centroid that K-Means looks at, at 4,000 clusters


@dataclass(frozen=True)
class ClusterOptions:
    """How to group and pair.

    Attributes
    ----------
    pose, expression:
        Number of clusters of each, at most half the samples; ``auto`` chooses it (see `gated_vae.pairing.groups.resolution`).
    draws:
        Partners drawn for every sample.
    seed:
        Decides clusters and partners.
    device:
        ``auto``, ``cpu`` or ``cuda``.
    scale:
        ``none`` clusters the columns as they are (both angles in radians, all intensities in 0 .. 5); ``std`` divides
        each by its standard deviation first.
    strata:
        Above 1, partners are drawn so that the other partition's labels, cut into this many strata, are independent of
        the input's (16 is a good number); 1 draws uniformly.
    other_person:
        Avoid partners of the same identity.
    balanced:
        Cut clusters of more members (see `gated_vae.pairing.groups.balanced`); None leaves them.
    nearest:
        Draw partners among so many nearest members of the cluster (see `gated_vae.pairing.rules.nearest`); None draws among all.
    confidence_weighted:
        Draw partners by the weight of their confidence (see `gated_vae.pairing.rules.weighted`).
    train_sample:
        Of a store of more samples, so many (by `seed`, evenly spread) decide the centroids; all are assigned.
    """

    pose: int | str = 2500
    expression: int | str = 4000
    draws: int = DRAWS
    seed: int = 0
    device: str = "auto"
    scale: str = "none"
    strata: int = 1
    other_person: bool = False
    balanced: int | None = None
    nearest: int | None = None
    confidence_weighted: bool = False
    train_sample: int = TRAIN_SAMPLE

    def clusters(self, partition: str) -> int | str:
        """Number of clusters of a partition, or ``auto``."""
        return {"pose": self.pose, "expression": self.expression}[partition]

    def fit(self, k: int, scale: str = "none") -> Fit:
        """How columns are grouped into k."""
        return Fit(k, self.seed, self.device, scale, self.train_sample)


@dataclass(frozen=True)
class ClusterReport:
    """What became of one partition.

    Attributes
    ----------
    name, columns, k:
        The partition, what it was clustered by, and into how many clusters (parts of large ones included).
    inertia:
        Sum of squared distances to K-Means' centroids, in the units clustered, before single samples are merged and large
        clusters cut.
    empty, merged:
        Clusters without members; samples alone in theirs, each merged into the nearest with more.
    sizes:
        Number of groups by size, after merging.
    pairs:
        Rows of the pair table.
    same_person:
        Share of pairs of one identity; None where identities are not known.
    quality:
        Column -> what its pairs have in common. Like `same_person` of draw 0, of at most 262,144 pairs evenly spread.
    already_done:
        True when it was there already and nothing was written.
    choice:
        Why there are k clusters, where their number was chosen.
    """

    name: str
    columns: tuple[str, ...]
    k: int
    inertia: float
    empty: int
    merged: int
    sizes: dict[str, int]
    pairs: int
    same_person: float | None
    quality: dict[str, ColumnQuality]
    already_done: bool
    choice: Choice | None = None

    @classmethod
    def read(cls, name: str, record: Record, already_done: bool) -> ClusterReport:
        """Read the report of a partition from its record in the manifest."""
        quality = {column: ColumnQuality(**found) for column, found in record["report"]["quality"].items()}
        made = {"columns": tuple(record["columns"]), "k": record["k"], "inertia": record["inertia"]}
        found = {**made, **record["report"], "quality": quality}
        if "choice" in found:
            found["choice"] = Choice(**found["choice"])
        return cls(name=name, already_done=already_done, **found)


def cluster_store(
    path: str | Path,
    options: ClusterOptions | None = None,
    *,
    overwrite: bool = False,
    scheduler: str | None = None,
    progress: Progress = lambda _message: None,
) -> tuple[ClusterReport, ...]:
    """Write groups, centroids and pairs of every partition the store has columns for, and record them in the store.

    Partitions are recorded one by one, so an interrupted run goes on with the first that is missing and ends in the
    same bytes. One that is there with the same options is left alone.

    Parameters
    ----------
    overwrite:
        Replace partitions that were made with other options.
    scheduler:
        Address of a Dask scheduler, whose workers see the store under the same path, assign samples and draw pairs; None
        does it here. Centroids are fitted here. The bytes are the same where processors are of the same kind.

    Raises
    ------
    GatedVAEError
        When no partition has columns, a count does not fit, an option has no meaning, a partition was made
        otherwise, or the scheduler does not answer; nothing is written then.
    """
    options = options or ClusterOptions()
    path = open_store(path).path
    if scheduler is not None:
        progress(dashboard(scheduler))
    with locked(path):
        store = open_store(path)
        columns = partition_columns(store)
        _check(store, columns, options)
        records = {name: _record(name, columns, options, len(store)) for name in columns}
        made = already_made(store, records, overwrite)
        missing = [name for name in records if name not in made]
        store = strike(store, missing)
        discard_spilled(store.path)
        for name in missing:
            results = _Clustering(store, columns, options, scheduler, progress).make(name)
            made_so = {key: value for key, value in records[name].items() if value is not None}
            store = store.with_partitions(_ordered({**store.partitions, name: {**made_so, **results}}))
    return tuple(ClusterReport.read(name, store.partitions[name], name in made) for name in records)


def partition_columns(store: Store) -> Columns:
    """Find which partitions a store has columns for: pose with both pitch and yaw, expression with any action unit."""
    names = pq.read_schema(samples_path(store.path)).names
    found = {name: [column for column in names if form.fullmatch(column)] for name, form in PARTITIONS.items()}
    return {name: columns for name, columns in found.items() if len(columns) >= (2 if name == "pose" else 1)}


def _check(store: Store, columns: Columns, options: ClusterOptions) -> None:
    """Refuse what cannot be done before anything is written."""
    if not columns:
        why = "It has neither pose_Rx and pose_Ry nor AU01_r .. AU45_r."
        raise GatedVAEError(f"{store.path} cannot be clustered.", why, "Use `pipe pair` for stores with factors.")
    most = len(store) // 2
    for name in columns:
        _check_clusters(name, columns[name], options.clusters(name), len(store))
    valid = options.draws >= 1 and options.seed >= 0 and 1 <= options.strata <= most
    if not valid or options.scale not in ("none", "std"):
        why = f"Got draws {options.draws}, seed {options.seed}, strata {options.strata}, scale {options.scale}."
        remedy = f"Give draws >= 1, seed >= 0, strata 1 .. {most}, scale none or std."
        raise GatedVAEError("These options cannot be used.", why, remedy)
    least = 2 * max(k if isinstance(k, int) else 1 for k in map(options.clusters, columns))
    if len(store) > options.train_sample and options.train_sample < least:
        why = f"{least // 2} clusters need {least} or more."
        raise GatedVAEError(f"{options.train_sample} samples are too few to train on.", why, "Raise --train-sample.")
    if options.balanced is not None and options.balanced < LEAST:
        why = f"A cluster of one more than {options.balanced} would leave a part without pairs."
        raise GatedVAEError(
            f"Clusters of at most {options.balanced} cannot be made.", why, f"Give --balanced {LEAST} or more."
        )
    _check_partners(store, options)


def _check_partners(store: Store, options: ClusterOptions) -> None:
    """Refuse ways to draw partners that exclude each other, or that the store has no labels for."""
    ways = {
        "--nearest": options.nearest is not None,
        "--confidence-weighted": options.confidence_weighted,
        "--strata or --other-person": options.strata > 1 or options.other_person,
    }
    chosen = [way for way, wanted in ways.items() if wanted]
    if len(chosen) > 1:
        why = "Each decides by itself which members of a cluster are drawn."
        raise GatedVAEError(f"{' and '.join(chosen)} cannot be combined.", why, "Use one of them.")
    if options.nearest is not None and options.nearest < 1:
        raise GatedVAEError(f"{options.nearest} nearest members cannot be drawn from.", "", "Give --nearest 1 or more.")
    if options.confidence_weighted and CONFIDENCE not in pq.read_schema(samples_path(store.path)).names:
        remedy = "Preprocess from files of OpenFace that have it, or pair without --confidence-weighted."
        raise GatedVAEError("Partners cannot be weighted.", f"The store has no column {CONFIDENCE}.", remedy)
    if options.other_person and number_persons(store) is None:
        remedy = "Preprocess with --identities, or pair without regard to persons."
        raise GatedVAEError("Pairs of different persons cannot be made.", "The store has no identities.", remedy)


def _check_clusters(name: str, columns: list[str], clusters: int | str, samples: int) -> None:
    """Refuse a number of clusters that `samples` cannot make, and words that are not ``auto``."""
    if isinstance(clusters, str) and clusters != AUTO:
        what = f"{clusters} is no number of {name} clusters."
        raise GatedVAEError(what, "", f"Use --{name} {AUTO}, or a whole number.")
    most = samples // 2
    if not 1 <= (1 if isinstance(clusters, str) else clusters) <= most:
        what = f"{samples} samples cannot make {clusters} {name} clusters."
        remedy = f"Use --{name} {most} or fewer." if most else "Preprocess more images."
        raise GatedVAEError(what, "Every sample needs a partner in its cluster.", remedy)
    if clusters == AUTO:
        repeated_apart(columns, np.ones(len(columns)))


def _record(name: str, columns: Columns, options: ClusterOptions, samples: int) -> Record:
    """Describe how a partition is made; the device is left out, as it is no reason to make it again.

    What is None has no effect, and is not written. Where k is a result, `clusters` tells what was asked for.
    """
    clusters = options.clusters(name)
    given = isinstance(clusters, int) and options.balanced is None
    asked: Record = {"clusters": None, "k": clusters} if given else {"clusters": clusters}
    return {
        "method": "kmeans",
        "columns": columns[name],
        **asked,
        "scale": options.scale,
        "seed": options.seed,
        "stream": partition_stream(options.seed, name),
        "draws": options.draws,
        "strata": options.strata if len(columns) > 1 else 1,
        "other_person": options.other_person,
        "balanced": options.balanced,
        "nearest": options.nearest,
        "confidence_weighted": options.confidence_weighted or None,
        "train_sample": options.train_sample if samples > options.train_sample else None,
    }


def _ordered(partitions: dict[str, Record]) -> dict[str, Record]:
    """Bring pose and expression first, in this order, whichever was made first."""
    first = [name for name in PARTITIONS if name in partitions]
    return {name: partitions[name] for name in [*first, *partitions]}


@dataclass(frozen=True)
class _Clustering:
    """Makes the partitions of a store."""

    store: Store
    columns: Columns
    options: ClusterOptions
    scheduler: str | None
    progress: Progress

    def make(self, name: str) -> Record:
        """Make one partition: cluster, write, measure; return what its record says of the results."""
        store, options, own = self.store, self.options, self._labels(self.columns[name])
        k, choice = self._clusters(name, own)
        self.progress(f"{name}: {k} clusters of {len(store)} samples by {len(own.names)} columns")
        found, unit = own.group(options.fit(k, options.scale))
        groups, merged = merge_singletons(found, lambda rows: own.take(rows) / unit)
        if options.balanced is not None:
            groups = split_large(groups, options.balanced, lambda rows: own.take(rows) / unit)
        write_groups(store.path, name, groups.group, groups.distance)
        _write_centroids(store, name, own.names, groups, unit)

        self.progress(f"{name}: {len(store) * options.draws} pairs")
        stream = partition_stream(options.seed, name)
        members = Members.of(groups.group)
        uniform, drawn = Drawing(members, stream), Drawing(self._source(name, members, unit), stream)
        pairs = write_pairs(store.path, name, groups.group, drawn, options.draws, scheduler=self.scheduler)

        self.progress(f"{name}: measuring the pairs")
        report = {
            "empty": int((found.sizes == 0).sum()),
            "merged": merged,
            "sizes": size_histogram(groups.sizes),
            "pairs": pairs,
            **self._measured(own.names, uniform, drawn),
        }
        if choice is not None:
            report["choice"] = asdict(choice)
        return {"k": len(groups.centroids), "inertia": found.inertia, "report": report}

    def _clusters(self, name: str, own: LabelColumns) -> tuple[int, Choice | None]:
        """Tell the number of clusters: the option's, or chosen, with the reason."""
        options, clusters = self.options, self.options.clusters(name)
        if isinstance(clusters, int):
            return clusters, None
        self.progress(f"{name}: choosing the number of clusters")
        points = own.training(options.train_sample, options.seed)
        unit = scales(points, options.scale)
        repeated = repeated_apart(own.names, unit)
        points = scaled(points, unit, options.scale)
        choice = choose_clusters(points, repeated, seed=options.seed, device=options.device)
        return choice.k, choice

    def _labels(self, names: list[str]) -> LabelColumns:
        return LabelColumns(self.store, names, self.scheduler)

    def _source(self, name: str, members: Members, unit: npt.NDArray[np.float64]) -> Source:
        """Prepare what partners are drawn from, as the options say: the groups alone, or with what else decides."""
        if self.options.nearest is not None:
            points = self._labels(self.columns[name]).all().astype(np.float32)
            points = scaled(points, unit, self.options.scale).astype(np.float32, copy=False)
            return NearestPartners.of(members, points, self.options.nearest)
        if self.options.confidence_weighted:
            confidence = LabelColumns(self.store, [CONFIDENCE]).all()[:, 0]
            return WeightedPartners.of(members, confidence_weights(confidence))
        others = [column for other in self.columns if other != name for column in self.columns[other]]
        strata = self.options.strata if others else 1
        if strata == 1 and not self.options.other_person:
            return members
        stratum, centroids = np.zeros(len(members.group), np.int32), np.zeros((1, 1), np.float32)
        if strata > 1:
            cut, _ = self._labels(others).group(self.options.fit(strata))
            stratum, centroids = cut.group, cut.centroids
        person = number_persons(self.store) if self.options.other_person else None
        return IndependentPartners.of(members.group, stratum, centroids, person)

    def _measured(self, shared: list[str], uniform: Drawing, drawn: Drawing) -> Record:
        """Measure pairs of draw 0, at most `MEASURED_PAIRS`, in every column there is; one column in memory at a time."""
        store = self.store
        ids = np.arange(0, len(store), -(-len(store) // MEASURED_PAIRS))
        target, plain = drawn(ids, 0), uniform(ids, 0)
        rows = np.concatenate([ids, target, plain])
        quality = {}
        for column in pq.read_schema(samples_path(store.path)).names:
            if MEASURED.fullmatch(column):
                values = np.split(LabelColumns(store, [column]).take(rows)[:, 0], 3)
                quality[column] = asdict(column_quality(column, *values, shared=column in shared))
        person = number_persons(store)
        same = None if person is None else float((person[ids] == person[target]).mean())
        return {"same_person": same, "quality": quality}


def _write_centroids(store: Store, name: str, columns: list[str], groups: Groups, unit: npt.NDArray[Any]) -> None:
    """Write group, size and the centroid in the columns' own units."""
    centroids = (groups.centroids * unit).astype(np.float32)
    table = {"group": np.arange(len(centroids), dtype=np.int32), "size": groups.sizes.astype(np.int32)}
    table |= dict(zip(columns, centroids.T.copy(), strict=True))
    write_parquet(centroids_path(store.path, name), pa.table(table), schema_version=SCHEMA_VERSION)


def number_persons(store: Store) -> Ints | None:
    """Number the person on every sample (N,), every unknown one apart; None where no identity is known."""
    if "identity" not in pq.read_schema(samples_path(store.path)).names:
        return None
    code, known = pd.factorize(store.sample_columns(["identity"])["identity"])
    unknown = code < 0
    code[unknown] = len(known) + np.arange(np.count_nonzero(unknown))
    return code if len(known) else None
