"""What faces are judged by: pose and action units, of the store or a truth file, no person both fitted and judged on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gated_vae.models.metrics import Split, group_split, random_split
from gated_vae.models.metrics.arrays import can_judge
from gated_vae.pairing.groups.equal import number_classes
from gated_vae.pairing.labels import IDENTITY, registered
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store, samples_path

FEWEST_IMAGES = 40
FEWEST_PEOPLE = 8  # a quarter is held out: two people at the least

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judges:
    """The images that a run is judged by.

    Attributes
    ----------
    ids:
        Which images of the store (n,), ascending.
    split, split_by:
        Rows to fit on and to judge on, and how they were chosen, in words.
    people:
        ``unseen`` where none of them has trained a network or been in a pair, ``trained on`` where they have.
    """

    ids: npt.NDArray[np.int64]
    split: Split
    split_by: str
    people: str


@dataclass(frozen=True, eq=False)
class FaceLabels:
    """The labels of n images.

    Attributes
    ----------
    judges:
        The images.
    factors, values:
        Names, and what they are (n, K): pitch and yaw in radians, action units in 0 .. 5. Only those that vary on both sides.
    constant:
        Names of those that do not, or hardly where they would be judged by (see `can_judge`).
    source:
        ``labels`` (the store's) or ``truth``; None where there are none.
    """

    judges: Judges
    factors: tuple[str, ...]
    values: Floats
    constant: tuple[str, ...]
    source: str | None

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Which images of the store (n,), ascending."""
        return self.judges.ids

    @property
    def split(self) -> Split:
        """Rows to fit on and to judge on."""
        return self.judges.split


def random_ids(count: int, of: int, seed: int) -> npt.NDArray[np.int64]:
    """So many random numbers below `of`, each once and ascending; all where there are no more."""
    return np.sort(np.random.default_rng(seed).choice(of, min(count, of), replace=False))


def owner_of(factor: str) -> str:
    """The partition that a factor belongs to: pose for pitch and yaw, expression for action units."""
    return next(label.name for label in registered("near") if label.owns(factor))


def read_labels(store: Store, samples: int, *, seed: int = 0, truth: Path | None = None) -> FaceLabels:
    """Read the labels of all images, or of `samples` random ones where there are more.

    Parameters
    ----------
    truth:
        Parquet file with `image` and the factors' true values (``truth.parquet`` of simulated faces), joined by image name.

    Raises
    ------
    GatedVAEError
        When there are no labels, none that varies, or fewer than 40 images, or the truth lacks an image.
    """
    if len(store) < FEWEST_IMAGES:
        why = f"It has {len(store)} images; {FEWEST_IMAGES} are the least to fit and to judge on."
        raise GatedVAEError(f"{store.path} is too small to be judged by.", why, "Preprocess more images.")
    table = _stored_labels(store) if truth is None else _true_labels(store, truth)
    judges = choose_judges(store, samples, seed)
    values = table.iloc[judges.ids].to_numpy(np.float64)
    varying = can_judge(values[judges.split.train], values[judges.split.test])
    if not varying.any():
        why = "Every label has one value only." if len(varying) else "It has no pose_Rx, pose_Ry or AU*_r."
        raise GatedVAEError(f"{truth or store.path} has nothing to judge by.", why, "Use labels that vary.")
    names = np.array(table.columns)
    return FaceLabels(
        judges=judges,
        factors=tuple(names[varying]),
        values=values[:, varying],
        constant=tuple(names[~varying]),
        source="labels" if truth is None else "truth",
    )


def no_labels(store: Store, samples: int, *, seed: int = 0) -> FaceLabels:
    """Images to be judged by without labels: all, or `samples` random ones; a few are on both sides."""
    judges = choose_judges(store, samples, seed)
    return FaceLabels(judges, (), np.empty((len(judges.ids), 0)), (), None)


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


def _stored_labels(store: Store) -> pd.DataFrame:
    labels = store.sample_columns(_factors(pq.read_schema(samples_path(store.path)).names))
    broken = ~np.isfinite(labels.to_numpy(np.float64)).all(axis=1)
    if broken.any():
        why = f"{broken.sum():,} samples lack a label, the first is sample {broken.argmax()}."
        raise GatedVAEError(f"{store.path} cannot be judged by its labels.", why, "Preprocess it again.")
    return labels


def _true_labels(store: Store, path: Path) -> pd.DataFrame:
    remedy = "Give the truth.parquet that `pipe simulate faces` wrote for these images."
    try:
        truth = pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise GatedVAEError(f"{path} cannot be read.", str(error), remedy) from None
    if "image" not in truth or truth["image"].duplicated().any():
        raise GatedVAEError(f"{path} does not fit.", "It has no column `image` that names each image once.", remedy)
    names = _factors(list(truth.columns))
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
