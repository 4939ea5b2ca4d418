"""Any other member of the group, each as likely as the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gated_vae.pairing.rules.base import Grouping, Ids, Ints, Members, in_blocks, random_below
from gated_vae.preprocessing.errors import check_seed


@dataclass(frozen=True, eq=False)
class UniformPartners:
    """Groups to draw from.

    Raises
    ------
    GatedVAEError
        When a sample is alone in its group.
    """

    members: Members

    def __post_init__(self) -> None:
        self.members.check()

    def partners(self, ids: Ints, *, seed: int, draw: int) -> Ids:
        """Draw for each of `ids` (n,) another member of its group; element by element, in any order."""
        members = self.members

        def draw_some(own: Ints) -> Ints:
            group = members.group.take(own)
            other = random_below(members.sizes.take(group) - 1, own, seed=seed, draw=draw)
            other += other >= members.rank.take(own)  # one's own place is left out, so the later ones move up
            other += members.offsets.take(group)
            return members.ids.take(other)

        return in_blocks(ids, draw_some)


def prepare(grouping: Grouping, _number: int) -> UniformPartners:
    """Prepare the rule for `gated_vae.pairing.rules`."""
    return UniformPartners(grouping.members)


def draw_partners(group: npt.ArrayLike, *, seed: int = 0, draw: int = 0) -> Ids:
    """Pair every sample with another member of its group, uniformly: a pure function of its arguments.

    Parameters
    ----------
    group:
        Integer labels (N,).
    seed, draw:
        Which of the possible pairings: whole numbers from 0, below 2**64 and 2**32.

    Returns
    -------
    Index of each sample's partner, int64 (N,): never itself, always of the same group.

    Raises
    ------
    GatedVAEError
        When some samples are alone in their group, or seed or draw cannot be.
    """
    members, seed, draw = Members.of(group), check_seed(seed, below=2**64), check_seed(draw, "draw", 2**32)
    return UniformPartners(members).partners(np.arange(len(members.group)), seed=seed, draw=draw)
