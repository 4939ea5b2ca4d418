"""Partners drawn by weight: those whose labels are surer are drawn more often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_vae.pairing.rules.uniform import Ints, Members, random_below
from gated_vae.preprocessing.errors import GatedVAEError

FLOOR = 0.8  # confidence at which faces begin to be taken
UNITS = 1000  # weights are whole numbers: OpenFace writes confidence in thousandths
LEAST = 10  # so that everybody can be drawn


def confidence_weights(confidence: npt.NDArray[np.floating[Any]]) -> Ints:
    """Weigh samples by their detection confidence above 0.8 in thousandths, 10 at least (also where unknown), int64 (N,).

    OpenFace 2.0.2 knows few values: on CelebA 0.983 in four faces of five, else 0.917 or 0.883, seldom 0.850 or 0.817. These
    weigh 183, 117, 83, 50 and 17; weights by confidence itself would differ by a tenth. 374 pictures were run through OpenFace
    as stills and as a sequence: head poses (pitch and yaw) differ by 0.079 rad (median) at 0.983, by 0.107 at 0.917 and 0.113
    at 0.883, so that one over their squares falls about as these weights do.
    """
    above = np.rint((np.nan_to_num(confidence.astype(np.float64)) - FLOOR) * UNITS)
    return np.maximum(above, LEAST).astype(np.int64)


@dataclass(frozen=True, eq=False)
class WeightedPartners:
    """Groups to draw from by weight.

    Attributes
    ----------
    members:
        The groups; none has a single member.
    ends:
        Sum of the weights of ``members.ids`` up to and including each, int64 (N,).
    """

    members: Members
    ends: npt.NDArray[np.int64]

    @classmethod
    def of(cls, members: Members, weights: Ints) -> WeightedPartners:
        """Prepare the sums; weights are whole numbers from 1 on (N,).

        Raises
        ------
        GatedVAEError
            When a sample is alone in its group, or a group's weights add up to 2**32 or more.
        """
        partners = cls(members, np.cumsum(weights[members.ids], dtype=np.int64))
        alone = int((members.sizes == 1).sum())
        if alone:
            raise GatedVAEError("Partners cannot be drawn.", f"{alone} samples are alone in their group.")
        sums = np.diff(np.concatenate([[0], partners.ends])[members.offsets])
        if sums.max(initial=0) >= 2**32:
            raise GatedVAEError("Partners cannot be drawn by weight.", "A group is too large.", "Use more groups.")
        return partners

    def partners(self, ids: npt.NDArray[np.int64], *, seed: int, draw: int) -> npt.NDArray[np.int64]:
        """Draw for each of `ids` (n,) another member of its group, by weight; element by element, in any order.

        A whole number below the sum of the others' weights is drawn, one's own stretch of the line is stepped over, and who
        owns the stretch it falls in is the partner.
        """
        members, group = self.members, self.members.group[ids]
        place = members.offsets[group] + members.rank[ids]
        first, last = self._before(members.offsets[group]), self.ends[members.offsets[group + 1] - 1]
        start, end = self._before(place), self.ends[place]
        point = first + random_below(last - first - (end - start), ids, seed=seed, draw=draw)
        point += np.where(point >= start, end - start, 0)
        return members.ids[np.searchsorted(self.ends, point, side="right")].astype(np.int64, copy=False)

    def _before(self, place: Ints) -> npt.NDArray[np.int64]:
        """Sum of the weights before each place."""
        return np.where(place > 0, self.ends[place - 1], 0)
