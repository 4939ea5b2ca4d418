"""What images are judged by: labels of the store or a truth file, no person both fitted and judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from gated_vae.models.metrics import Split, group_split, random_split
from gated_vae.models.metrics.arrays import can_judge
from gated_vae.pairing.groups.equal import number_classes
from gated_vae.pairing.labels import IDENTITY, registered
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import readable
from gated_vae.preprocessing.store import REBUILD, Store, check_numbers, samples_path

FEWEST_IMAGES = 40
FEWEST_PEOPLE = 8  # a quarter is held out: two people at the least

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judges:
    """The images that a run is judged by."""

    ids: npt.NDArray[np.int64]  # which images of the store (n,), ascending
    split: Split  # rows to fit on and to judge on
    split_by: str  # how those were chosen, in words
    people: str  # `unseen` where none of them has trained a network or been in a pair, `trained on` where they have


@dataclass(frozen=True, eq=False)
class FaceLabels(Judges):
    """The labels of n images that judge."""

    # Names, and what they are (n, K), numbers: pitch and yaw in radians, action units in 0 .. 5, others as they are stored. Only
    # those that vary on both sides.
    factors: tuple[str, ...]
    values: Floats
    constant: tuple[str, ...]  # names of those that do not, or hardly where they would be judged by (see `can_judge`)
    source: str | None  # `labels` (the store's) or `truth`; None where there are none
    # Labels that are in no order, by name (n,): at least two of each are on both sides.
    classes: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    # Labels that begin anew after a full turn, by name, in radians (n,).
    angles: Mapping[str, Floats] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)  # labels that are not judged by, and why


def random_ids(count: int, of: int, seed: int) -> npt.NDArray[np.int64]:
    """So many random numbers below `of`, each once and ascending; all where there are no more."""
    return np.sort(np.random.default_rng(seed).choice(of, min(count, of), replace=False))


def owner_of(factor: str, store: Store | None = None) -> str | None:
    """The partition of a factor: pose for pitch and yaw, expression for action units, else the first that shares it."""
    shares = {name: store.shared(name) for name in _alike(store)} if store else {}
    registered_for = (label.name for label in registered("near") if label.owns(factor))
    return next(registered_for, next((name for name, shared in shares.items() if factor in shared), None))


def read_labels(store: Store, samples: int, *, seed: int = 0, truth: Path | None = None) -> FaceLabels:
    """Read the labels of all images, or of `samples` random ones where there are more.

    `GatedVAEError` when there are no labels, none that varies, or fewer than 40 images, or the truth lacks an image.

    Parameters
    ----------
    truth:
        Parquet file with `image` and the factors' true values (``truth.parquet`` of simulated faces), joined by image name.
    """
    judges = choose_judges(store, samples, seed)
    if len(judges.ids) < FEWEST_IMAGES:
        held = " that validate and test" if len(judges.ids) < len(store) else ""
        why = f"It has {len(judges.ids)} images{held}; {FEWEST_IMAGES} are the least to fit and to judge on."
        raise GatedVAEError(f"{store.path} is too small to be judged by.", why, "Preprocess more images.")
    kinds = Kinds.of(store)
    table, lacking = _stored_labels(store, kinds.numbers) if truth is None else (_true_labels(store, truth), {})
    found = _others(store, kinds, judges) if truth is None else _Others({}, {}, {})
    values = table.iloc[judges.ids].to_numpy(np.float64)
    varying = can_judge(values[judges.split.train], values[judges.split.test])
    if not (varying.any() or found.classes or found.angles):
        why = "Every label has one value only." if len(varying) else "It has no labels."
        raise GatedVAEError(f"{truth or store.path} has nothing to judge by.", why, "Use labels that vary.")
    names = np.array(table.columns)
    return FaceLabels(
        **vars(judges),
        factors=tuple(names[varying]),
        values=values[:, varying],
        constant=tuple(names[~varying]),
        source="labels" if truth is None else "truth",
        classes=found.classes,
        angles=found.angles,
        left_out=lacking | found.left_out,
    )


@dataclass(frozen=True)
class Kinds:
    """The columns of a store that images are judged by: `numbers`, `classes`, and `angles` with their full turns."""

    numbers: list[str]
    classes: list[str]
    angles: dict[str, float]

    @classmethod
    def of(cls, store: Store) -> Kinds:
        """Pose and action units, then what the pairs of partitions share; where they are the user's own, all labels."""
        schema, alike = store.schema, _alike(store)
        turns = {column: turn for name in alike for column, turn in store.partitions[name].get("turns", {}).items()}
        exact = {
            column for name in alike if store.partitions[name]["method"] == "exact" for column in store.shared(name)
        }
        exact |= {name for label in registered("equal") for name in label.find(schema.names)}  # persons are no numbers
        own = _factors(schema.names)
        shared = {column for name in alike for column in store.shared(name)}
        others = [name for name in store.columns if name not in _BOOKS and name not in own]
        others = [name for name in others if name in shared or store.kind not in _FACES]
        numbers = {name for name in others if _is_number(schema.field(name).type)} - exact - turns.keys()
        return cls(
            [*own, *(name for name in others if name in numbers)],
            [name for name in others if name not in numbers and name not in turns],
            {name: turn for name, turn in turns.items() if name in schema.names},
        )


_WHENCE = ("source", "row", "frame", "face")  # columns that tell where a picture is from, not what is seen
_BOOKS = {"sample_id", "image", "split", *_WHENCE}
_FACES = ("celeba",)  # kinds of stores whose further columns are OpenFace's and CelebA's
MOST_CLASSES = 200


def _alike(store: Store) -> list[str]:
    """Partitions whose pairs are alike in columns."""
    return [name for name, record in store.partitions.items() if record["method"] in ("kmeans", "exact")]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


@dataclass(frozen=True)
class _Others:
    """Labels that are no numbers: see `FaceLabels`."""

    classes: dict[str, npt.NDArray[Any]]
    angles: dict[str, Floats]
    left_out: dict[str, str]


def _others(store: Store, kinds: Kinds, judges: Judges) -> _Others:
    """Read classes and angles of the images that judge; what cannot be judged by is left out, with its reason."""
    whence = [name for name in _WHENCE if name in store.schema.names and store.kind not in _FACES]
    why = "its name says where a picture is from, not what is seen; rename it to judge by it"
    found = _Others({}, {}, dict.fromkeys(whence, why))
    for name in (*kinds.classes, *kinds.angles):
        table = store.sample_columns([name])
        if name in kinds.angles:
            check_numbers(table, samples_path(store.path), REBUILD)
        values = table[name].iloc[judges.ids]
        train, test = ({*values.iloc[rows]} for rows in (judges.split.train, judges.split.test))
        if missing := int(values.isna().sum()):
            found.left_out[name] = f"{missing:,} of {len(values):,} images have no value"
        elif name in kinds.angles:
            found.angles[name] = values.to_numpy(np.float64) * (2 * np.pi / kinds.angles[name])
        elif len(train | test) > MOST_CLASSES:
            found.left_out[name] = f"it has {len(train | test):,} classes; {MOST_CLASSES} are the most"
        elif len(train & test) < 2:
            found.left_out[name] = "no two of its classes are both among images that probes are fitted on and others"
        else:
            found.classes[name] = values.astype(str).to_numpy()
    return found


def no_labels(store: Store, samples: int, *, seed: int = 0) -> FaceLabels:
    """Images to be judged by without labels: all, or `samples` random ones; a few are on both sides."""
    judges = choose_judges(store, samples, seed)
    return FaceLabels(**vars(judges), factors=(), values=np.empty((len(judges.ids), 0)), constant=(), source=None)


def choose_judges(store: Store, samples: int, seed: int) -> Judges:
    """All images, or `samples` random ones; of a store with splits the valid ones to fit on and the test ones to judge on."""
    valid, test = store.split("valid"), store.split("test")
    if not len(test):
        ids = random_ids(samples, len(store), seed)
        return Judges(ids, *_split(store, ids, seed), "trained on")
    first = valid.start if len(valid) else test.start
    ids = first + random_ids(samples, test.stop - first, seed)
    fit, judge = np.flatnonzero(ids < test.start), np.flatnonzero(ids >= test.start)
    if min(len(fit), len(judge)) < FEWEST_IMAGES // 2:
        split, how = _split(store, ids, seed)
        return Judges(ids, split, f"unseen, {how}", "unseen")
    how = f"unseen: fitted on {len(fit):,} valid images, judged on {len(judge):,} test images"
    return Judges(ids, Split(fit, judge), how, "unseen")


def _factors(columns: list[str]) -> list[str]:
    """The factors among columns: pitch and yaw first, then action units, as stored."""
    return [column for label in registered("near") for column in columns if label.owns(column)]


def _stored_labels(store: Store, names: list[str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Numbers, and why some of the user's own cannot be judged by; pose and action units all can."""
    labels, why = store.sample_columns(names), dict[str, str]()
    for name in names:
        try:
            check_numbers(labels[[name]], samples_path(store.path), REBUILD)
        except GatedVAEError as error:
            if name in _factors(names):
                raise
            why[name] = error.why.rstrip(".")
        else:
            if name not in _factors(names) and (missing := int(labels[name].isna().sum())):
                why[name] = f"{missing:,} of {len(labels):,} images have no value"
    labels = labels.drop(columns=[*why])
    broken = ~np.isfinite(labels.to_numpy(np.float64)).all(axis=1)
    if broken.any():
        told = f"{broken.sum():,} samples lack a label, the first is sample {broken.argmax()}."
        raise GatedVAEError(f"{store.path} cannot be judged by its labels.", told, "Preprocess it again.")
    return labels, why


def _true_labels(store: Store, path: Path) -> pd.DataFrame:
    remedy = "Give the truth.parquet that `pipe simulate faces` wrote for these images."
    with readable(path, remedy):
        truth = pd.read_parquet(path)
    if "image" not in truth or truth["image"].duplicated().any():
        raise GatedVAEError(f"{path} does not fit.", "It has no column `image` that names each image once.", remedy)
    names = _factors(list(truth.columns))
    check_numbers(truth[names], path, remedy)
    found = truth.set_index("image")[names].reindex(store.sample_columns(["image"])["image"])
    missing = ~np.isfinite(found.to_numpy(np.float64)).all(axis=1)
    if missing.any():
        why = (
            f"It lacks {missing.sum():,} of the store's {len(store):,} images, such as {found.index[missing.argmax()]}."
        )
        raise GatedVAEError(f"{path} is not the truth about {store.path}.", why, remedy)
    return found.reset_index(drop=True)


def _split(store: Store, ids: npt.NDArray[np.int64], seed: int) -> tuple[Split, str]:
    if len(ids) < FEWEST_IMAGES:
        rows = np.arange(len(ids))
        return Split(rows, rows), f"all on both sides: there are {len(ids)} only"
    person = number_classes(store, IDENTITY)
    if person is None:
        return random_split(len(ids), seed=seed), "at random: the store has no identities"
    person = person[ids]
    people = len(np.unique(person))
    if people < FEWEST_PEOPLE:
        return random_split(len(ids), seed=seed), f"at random, persons on both sides: there are {people} only"
    split = group_split(person, seed=seed)
    held_out = len(np.unique(person[split.test]))
    return split, f"by person: fitted on {people - held_out:,}, judged on {held_out:,} others"
