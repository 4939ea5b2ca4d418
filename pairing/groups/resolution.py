"""How many clusters labels can tell apart: as many as bring partners together as closely as the labels are measured.

A tracker that sees one face twice gives labels that differ. Clusters so fine that partners differ less than that sort samples
by the tracker's error, and leave few partners to choose from; coarser ones pair what the labels do tell apart. The rule takes
the fewest clusters at which partners differ no more than two measurements of one face would (both root mean squares), and at
most one per `MEMBERS` samples, so that every draw of a sample can find it another partner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gated_vae.pairing.groups.columns import training_rows
from gated_vae.pairing.groups.kmeans import Groups, group_kmeans
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.simulate.labels import AU_NOISE, POSE_NOISE
from gated_vae.preprocessing.simulate.render.landmarks import AU_NAMES

MEMBERS = 20  # samples a cluster on average, at least
SAMPLED = 64  # samples a cluster that K-Means is tried on, where there are more
LEAST_SAMPLED = 1 << 14
STEPS = 16  # the number found is at most a sixteenth above the fewest

# One measurement's error, of OpenFace 2.0.2 on CelebA.
_ERRORS = {
    **dict(zip(("pose_Rx", "pose_Ry", "pose_Rz"), POSE_NOISE, strict=True)),
    **{f"{name}_r": error for name, error in zip(AU_NAMES, AU_NOISE, strict=True)},
}


@dataclass(frozen=True)
class Choice:
    """Why there are so many clusters.

    Attributes
    ----------
    k, most:
        The number chosen, and the most that leaves `MEMBERS` samples to a cluster.
    apart:
        Root mean square distance of partners in k clusters of the samples tried, in the units clustered.
    repeated:
        That of two measurements of one face. At `most` clusters, `apart` may still be above it.
    """

    k: int
    most: int
    apart: float
    repeated: float


def repeated_apart(columns: Sequence[str], unit: npt.NDArray[np.float64]) -> float:
    """Tell how far two measurements of one face lie apart, root mean square, in columns divided by `unit` (d,).

    Raises
    ------
    GatedVAEError
        When the error of a column has not been measured.
    """
    unknown = [column for column in columns if column not in _ERRORS]
    if unknown:
        why = f"It follows from the labels' measurement error, and that of {unknown[0]} is not known."
        raise GatedVAEError("The number of clusters cannot be chosen.", why, "Give it as a number.")
    errors = np.array([_ERRORS[column] for column in columns]) / unit
    return float(np.sqrt(2 * np.square(errors).sum()))


def partners_apart(groups: Groups) -> float:
    """Root mean square distance of uniformly drawn partners, over all samples that have one; 0 where none has.

    Members of a group of m lie m / (m - 1) times twice their mean squared distance from their mean apart.
    """
    sizes = groups.sizes[groups.group]
    paired = sizes > 1
    if not paired.any():
        return 0.0
    squares = np.square(groups.distance[paired], dtype=np.float64)
    return float(np.sqrt(2 * (squares * sizes[paired] / (sizes[paired] - 1)).mean()))


def choose_clusters(
    points: npt.NDArray[np.floating], repeated: float, *, seed: int = 0, device: str = "auto"
) -> Choice:
    """Choose the number of clusters for points (N, d); two measurements of one lie `repeated` apart (root mean square).

    K-Means is run at 1, 2, 4, 8 ... clusters until partners lie no farther apart than that, then between the last two;
    each time on at most `SAMPLED` points a cluster, so that all of it takes about as long as the final clustering.
    """
    most = max(1, len(points) // MEMBERS)

    def apart(k: int) -> float:
        size = min(len(points), max(LEAST_SAMPLED, SAMPLED * k))
        tried = points[training_rows(len(points), size, seed)]
        return partners_apart(group_kmeans(tried, k, seed=seed, device=device))

    k, found = _fewest(apart, repeated, most)
    return Choice(k, most, found, repeated)


def _fewest(apart: Callable[[int], float], wanted: float, most: int) -> tuple[int, float]:
    """Find the fewest clusters, to a sixteenth, at which `apart` is at most `wanted`; `most` where it never is."""
    below, k = 0, 1
    found = apart(k)
    while found > wanted and k < most:
        below, k = k, min(2 * k, most)
        found = apart(k)
    while found <= wanted and k - below > max(1, k // STEPS):
        middle = (below + k) // 2
        between = apart(middle)
        if between <= wanted:
            k, found = middle, between
        else:
            below = middle
    return k, found
