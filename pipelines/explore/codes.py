"""Codes of a run: its dimensions in the order in which they are shown, and a sample of them laid out on a plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex

from gated_vae.models.figures.sheet import MUTED, PALETTE
from gated_vae.preprocessing.errors import GatedVAEError

if TYPE_CHECKING:
    from gated_vae.preprocessing.store import Store

REACH = 3.0  # prior standard deviations, to both sides
STEPS = 9  # of a traversal
MOST_CLASSES = 8  # that have a colour of their own
_CLASSES = (*PALETTE, "#F0E442", "#999999")  # their colours
LAYOUTS = ("PCA", "UMAP") if find_spec("umap") else ("PCA",)

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


class Dimension(NamedTuple):
    """A latent dimension: its number among all, its partition, its mean KL in nats where known, and whether that is near 0."""

    number: int
    partition: str
    kl: float | None
    dead: bool


def dimensions(partitions: Mapping[str, slice], kl: Sequence[float] | None, dead_below: float) -> list[Dimension]:
    """All dimensions, partition by partition, in each the busiest first."""
    found = []
    for name, part in partitions.items():
        own = [
            Dimension(number, name, kl[number] if kl else None, kl is not None and kl[number] < dead_below)
            for number in range(part.start, part.stop)
        ]
        found += sorted(own, key=lambda it: -(it.kl or 0.0))
    return found


def traversed(code: Floats, dimension: int, values: Floats) -> Floats:
    """A code (M,) with one dimension at each of the values (n,): (n, M)."""
    moved = np.tile(code, (len(values), 1))
    moved[:, dimension] = values
    return moved


def mixed(a: Floats, b: Floats, partitions: Mapping[str, slice], from_b: Sequence[bool]) -> Floats:
    """The code (M,) of A, but for the partitions that are taken from B."""
    code = a.copy()
    for taken, part in zip(from_b, partitions.values(), strict=True):
        if taken:
            code[part] = b[part]
    return code


def combinations(a: Floats, b: Floats, partitions: Mapping[str, slice]) -> dict[tuple[bool, ...], Floats]:
    """Every way to take some partitions' codes from B and the others' from A: whether each is from B -> code (M,)."""
    choices = product((False, True), repeat=len(partitions))
    return {from_b: mixed(a, b, partitions, from_b) for from_b in choices}


def plane(codes: Floats, layout: str) -> npt.NDArray[np.float64]:
    """Codes (n, d) on a plane (n, 2): as they are where d is 2 (or 1), else by principal components or UMAP, seed 0.

    Components point to where their largest weight is positive, so that the same codes lie the same way.
    """
    x = codes.astype(np.float64)
    if x.shape[1] <= 2:
        return np.pad(x, ((0, 0), (0, 2 - x.shape[1])))
    if layout == "UMAP":
        from umap import UMAP  # type: ignore[import-not-found, unused-ignore]

        return np.asarray(UMAP(random_state=0).fit_transform(x), np.float64)
    x -= x.mean(0)
    vectors = np.linalg.eigh(x.T @ x)[1][:, :-3:-1]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), [0, 1]])
    return np.asarray(x @ vectors)


def labels_of(store: Store, column: str, ids: Ids) -> pd.Series[Any]:
    """A column's values of some samples; `GatedVAEError` where there is no such column."""
    if column not in store.schema.names:
        raise GatedVAEError(f"There is no column {column}.", "", "Choose one of the list.")
    with store.open_samples() as file:  # not by pandas: of ten million texts it would make as many objects
        return file.read(columns=[column]).column(0).take(ids).to_pandas().reset_index(drop=True)


def is_number(values: pd.Series[Any]) -> bool:
    """Whether values are numbers, and no truth values."""
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def classes_of(values: pd.Series[Any]) -> tuple[list[str], list[str]]:
    """Values as classes (n,), but the `MOST_CLASSES` most frequent all "other", and those: numbers by size, else by frequency."""
    texts = values.map(str, na_action="ignore").astype("string").fillna("none")  # bytes need not be text
    names = [str(name) for name in texts.value_counts().index[:MOST_CLASSES]]
    if is_number(values):
        names.sort(key=lambda name: np.inf if name == "none" else float(name))
    return texts.where(texts.isin(names), "other").tolist(), names


@dataclass(frozen=True)
class Painted:
    """The colour of each of n points; and what colours mean: the `ends` of a scale, or the colour of each of `classes`."""

    colours: list[str]
    ends: tuple[float, float] | None
    classes: dict[str, str]


def painted(values: pd.Series[Any], *, as_classes: bool) -> Painted:
    """Colour values (n,): numbers by viridis, from the 1st to the 99th percentile, grey where none is; few values as classes."""
    if is_number(values) and not as_classes and values.nunique() > MOST_CLASSES:
        half = values.to_numpy(np.float64, na_value=np.nan) / 2  # differences of the largest numbers are none
        low, high = map(float, np.quantile(half[np.isfinite(half)], [0.01, 0.99]))
        share = ((half - low) / ((high - low) or 1)).clip(0, 1)
        viridis = colormaps["viridis"].with_extremes(bad=MUTED)
        return Painted([to_hex(colour) for colour in viridis(share)], (2 * low, 2 * high), {})
    classes, names = classes_of(values)
    colour = dict(zip(names, _CLASSES, strict=False)) | ({"other": MUTED} if "other" in classes else {})
    return Painted([colour[name] for name in classes], None, colour)


def numbers_of(store: Store, columns: Sequence[str], ids: Ids) -> pd.DataFrame:
    """Columns of numbers of some samples, one column of all of them in memory at a time."""
    return pd.DataFrame({name: labels_of(store, name, ids).astype(np.float64) for name in columns}, range(len(ids)))


def contrast(table: pd.DataFrame, rows: Ids, most: int) -> dict[str, tuple[float, float]]:
    """Means over some rows and over all, of the columns in which they differ most, in standard deviations."""
    own, whole, std = table.iloc[rows].mean(), table.mean(), table.std()
    order = ((own - whole) / std.where(std > 0)).abs().dropna().sort_values(ascending=False).index[:most]
    return {str(name): (float(own[name]), float(whole[name])) for name in order}


def nearest(points: npt.NDArray[Any], at: tuple[float, float]) -> tuple[int, float]:
    """Which of points (n, 2) is nearest to a place, and how far, in shares of what they span; (-1, inf) where there is none."""
    if not len(points):
        return -1, np.inf
    span = np.ptp(points, axis=0)
    away = np.hypot(*((points - at) / np.where(span > 0, span, 1)).T)
    return int(away.argmin()), float(away.min())
