"""Pairs of samples that are alike: groups by K-Means, centroids and pairs of every label whose columns a store has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gated_vae.pairing.groups.columns import LabelColumns
from gated_vae.pairing.groups.kmeans import Groups, merge_singletons
from gated_vae.pairing.labels import Label, parse_columns, registered
from gated_vae.pairing.partition import Grouped, Plan, Record, describe, make_partitions
from gated_vae.pairing.quality import ColumnQuality, measure_pairs, size_histogram
from gated_vae.pairing.rules import UNIFORM, Rule
from gated_vae.pairing.rules.base import Floats, Grouping, Members, drawing
from gated_vae.pairing.rules.uniform import UniformPartners
from gated_vae.pairing.tables import DRAWS
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.files import locked
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.scheduler.dask import dashboard
from gated_vae.preprocessing.store import Store, open_store

_VARY = "Preprocess from labels that differ, or from CSVs without these columns."


@dataclass(frozen=True)
class ClusterOptions:
    """How to group and pair.

    Attributes
    ----------
    clusters:
        Label -> number of clusters, at most half the samples; as many as its `density` says where it is not named.
    near:
        Labels beside those registered, or in the place of one of the same name.
    rule:
        Who is paired with whom in a cluster.
    draws:
        Partners drawn for every sample.
    seed:
        Decides clusters and partners.
    device:
        ``auto``, ``cpu`` or ``cuda``.
    """

    clusters: Mapping[str, int] = field(default_factory=dict)
    near: tuple[Label, ...] = ()
    rule: Rule = UNIFORM
    draws: int = DRAWS
    seed: int = 0
    device: str = "auto"


def parse_near(texts: Sequence[str]) -> tuple[tuple[Label, ...], dict[str, int]]:
    """Read ``NAME=COLUMN[,COLUMN...][:K]`` as labels, and the number of clusters of those that give one.

    A column of angles or the like says after an @ what a full turn is, as ``orientation@360``.

    `UsageError` when one cannot be read, or two have one name.
    """
    columns = parse_columns("--near", (text.partition(":")[0] for text in texts))
    clusters: dict[str, int] = {}
    for name, text in zip(columns, texts, strict=True):
        _, colon, number = text.partition(":")
        if colon:
            if not (number.isdecimal() and int(number)):
                why = f"{number!r} is no number of clusters."
                raise UsageError(f"--near {text} cannot be read.", why, "Write :K last.")
            clusters[name] = int(number)
    return tuple(_near(name, names) for name, names in columns.items()), clusters


def _near(name: str, texts: Sequence[str]) -> Label:
    columns, turns = [], {}
    for text in texts:
        column, mark, turn = text.rpartition("@")
        columns.append(column if mark else text)
        if mark:
            try:
                turns[column] = float(turn)
            except ValueError:
                turns[column] = math.nan
            if not 0 < turns[column] < math.inf:
                why = f"{turn!r} is no full turn."
                raise UsageError(f"--near {name}={text} cannot be read.", why, "Write COLUMN@360 for degrees.")
    return Label(name, tuple(columns), turns=turns)


@dataclass(frozen=True)
class ClusterReport:
    """What became of one partition.

    Attributes
    ----------
    name, shared, k:
        The partition, what it was clustered by, and into how many clusters.
    inertia:
        Sum of squared distances to K-Means' centroids, in the columns' units, before single samples are merged.
    empty, merged:
        Clusters without members; samples alone in theirs, each merged into the nearest with more.
    sizes:
        Number of groups by size, after merging.
    pairs:
        Rows of the pair table.
    same:
        Label -> share of pairs that are equal in it, of those labels of which something is known (identity).
    quality:
        Column -> what its pairs have in common. Like `same` of draw 0, of at most 262,144 pairs evenly spread.
    already_done:
        True when it was there already and nothing was written.
    """

    name: str
    shared: tuple[str, ...]
    k: int
    inertia: float
    empty: int
    merged: int
    sizes: dict[str, int]
    pairs: int
    same: dict[str, float]
    quality: dict[str, ColumnQuality]
    already_done: bool

    @classmethod
    def read(cls, name: str, record: Record, samples: int, already_done: bool) -> ClusterReport:
        """Read the report of a partition from its record in the manifest."""
        told = {key.name: record[key.name] for key in fields(cls) if key.name in record}
        told |= {"shared": tuple(record["shared"]), "pairs": samples * record["draws"]}
        told["quality"] = {column: ColumnQuality(**found) for column, found in record["quality"].items()}
        return cls(name=name, already_done=already_done, **told)


def cluster_store(
    path: str | Path,
    options: ClusterOptions = ClusterOptions(),
    *,
    overwrite: bool = False,
    scheduler: str | None = None,
    progress: Progress = ignore,
) -> tuple[ClusterReport, ...]:
    """Write groups, centroids and pairs of every label the store has columns for, and record them in the store.

    Partitions are recorded one by one, so an interrupted run goes on with the first that is missing and ends in the
    same bytes. One that is there with the same options is left alone.

    Parameters
    ----------
    overwrite:
        Replace partitions that were made with other options.
    scheduler:
        Address of a Dask scheduler, whose workers see the store under the same path, read and assign samples; None does it
        here. Centroids are fitted and pairs drawn here. The bytes are the same where processors are of the same kind.
    progress:
        Told how many of the pairs are written, and what is being done.

    Raises
    ------
    GatedVAEError
        When no label has columns, a label is the same in all samples, a count does not fit, an option has no meaning, a
        partition was made otherwise, or the scheduler does not answer; nothing is written then. When all but single samples
        of a partition fall into one cluster; those before it are written.
    """
    path = open_store(path).path
    if scheduler is not None:
        dashboard(scheduler)  # before anything changes
    with locked(path):
        store = open_store(path)
        clustering = _Clustering(store, options, scheduler)
        plans = [clustering.plan(name) for name in clustering.columns]
        made = make_partitions(store, plans, overwrite=overwrite, progress=progress)
    return tuple(ClusterReport.read(name, record, store.training, there) for name, (record, there) in made.items())


@dataclass(frozen=True)
class _Clustering:
    """What the partitions of one command have in common."""

    store: Store
    options: ClusterOptions
    scheduler: str | None

    @cached_property
    def labels(self) -> dict[str, Label]:
        """The labels there may be, those registered first."""
        return {label.name: label for label in (*registered("near"), *self.options.near)}

    @cached_property
    def turns(self) -> dict[str, float]:
        """Full turns of all labels' columns."""
        return {column: turn for label in self.labels.values() for column, turn in label.turns.items()}

    @cached_property
    def columns(self) -> dict[str, list[str]]:
        """Label -> its columns in the store, of those labels that have some."""
        schema = self.store.schema
        for label in self.options.near:
            _check_named(label, schema)
        found = {name: label.find(schema.names) for name, label in self.labels.items()}
        if not any(found.values()):
            known = (f"{' and '.join(label.columns)} ({label.title})" for label in registered("near"))
            why = f"It has neither {' nor '.join(known)}."
            remedy = "Name columns of numbers with --near, or pair equal labels with `pipe pair --share`."
            raise GatedVAEError(f"{self.store.path} cannot be clustered.", why, remedy)
        return {name: columns for name, columns in found.items() if columns}

    def plan(self, name: str) -> Plan:
        """Plan the partition of one label; the device is not recorded, as it is no reason to make it again.

        `GatedVAEError` when all samples have the same values, when there are more clusters or strata than samples can make, or
        strata of nothing.
        """
        options, shared = self.options, self.columns[name]
        others = [column for other, columns in self.columns.items() if other != name for column in columns]
        k = options.clusters.get(name, self.labels[name].clusters(self.store.training))
        self._check(name, k, others)
        more: Record = {"k": k, "rule": str(options.rule)}
        if options.rule.kind.strata:
            more["independent_of"] = others
        if turns := {column: turn for column, turn in self.turns.items() if column in shared}:
            more["turns"] = turns
        record = describe(name, "kmeans", shared=shared, draws=options.draws, seed=options.seed, **more)
        return Plan(name, record, lambda: self._group(record, others))

    def _check(self, name: str, k: int, others: list[str]) -> None:
        samples, rule, columns = self.store.training, self.options.rule, LabelColumns(self.store, self.columns[name])
        if gaps := columns.gaps:
            column, count = next(iter(gaps.items()))
            why = f"{count} of {len(self.store)} samples have no {column}."
            remedy = "Fill the table or take these rows out of it, then preprocess again; or choose other columns with --near."
            raise GatedVAEError(f"Samples cannot be grouped by {name}.", why, remedy)
        if not columns.vary:
            why = f"All {samples} have the same {', '.join(self.labels[name].columns)}: partners would be random."
            raise GatedVAEError(f"Samples cannot be grouped by {name}.", why, _VARY)
        most = samples // 2
        if not 1 <= k <= most:
            what = f"{samples} samples cannot make {k} {name} clusters."
            remedy = f"Ask for {most} or fewer." if most else "Preprocess more images."
            raise GatedVAEError(what, "Every sample needs a partner in its cluster.", remedy)
        if rule.kind.strata and not (others and rule.number <= most):
            why = f"{samples} samples make {most} strata at most." if others else "The store has no other label."
            remedy = "Use fewer." if others else "Use --rule uniform, or name more labels with --near."
            raise GatedVAEError(f"Partners in {name} cannot be {rule}.", why, remedy)

    def _group(self, record: Record, others: list[str]) -> Grouped:
        """Cluster, and prepare the rule."""
        samples = self.store.training
        own, every = self._cluster(record["shared"], record["k"])
        found = every.first(samples)
        groups, merged = merge_singletons(found, own.take)
        members = Members.of(groups.group)
        if record["k"] > 1 and groups.sizes.max() == samples:
            what = f"Samples cannot be grouped by {', '.join(record['shared'])}."
            why = f"All but {merged} of {samples} fell into one cluster."
            raise GatedVAEError(what, why, f"Ask for more clusters. {_VARY}")

        def strata(count: int) -> tuple[npt.NDArray[np.int32], Floats]:
            _, cut = self._cluster(others, count)
            return cut.group[:samples], cut.centroids

        grouping = Grouping(members, lambda: own.training().astype(np.float32), strata)
        partners = drawing(self.options.rule.prepare(grouping), record["stream"])
        uniform = drawing(UniformPartners(members), record["stream"])
        results = {
            "inertia": found.inertia,
            "empty": int((found.sizes == 0).sum()),
            "merged": merged,
            "sizes": size_histogram(groups.sizes),
        }
        measure = partial(measure_pairs, self.store, self.labels.values(), own.names, partners, uniform)
        group = np.concatenate([groups.group, every.group[samples:]])
        distance = np.concatenate([groups.distance, every.distance[samples:]])
        return Grouped(group, partners, results, measure, distance, groups.centroids)

    def _cluster(self, columns: list[str], k: int) -> tuple[LabelColumns, Groups]:
        read = LabelColumns(self.store, columns, self.scheduler, self.turns)
        return read, read.group(k, seed=self.options.seed, device=self.options.device)


def _check_named(label: Label, schema: pa.Schema) -> None:
    """Refuse a label of the command line whose columns are not there, or hold no numbers."""
    found = label.find(schema.names)
    words = [name for name in found if not _is_number(schema.field(name).type)]
    if words or not found:
        why = f"{words[0]} holds no numbers." if words else f"The store has not all of {', '.join(label.columns)}."
        numbers = [it.name for it in schema if _is_number(it.type) and it.name != "sample_id"]
        remedy = f"Its columns of numbers: {', '.join(numbers) or 'none'}."
        remedy += f" `pipe pair --share {label.name}={words[0]}` pairs equal values." if words else ""
        raise GatedVAEError(f"Samples cannot be grouped by {label.name}.", why, remedy)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))
