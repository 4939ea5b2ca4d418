"""Partners: which other member of its group each sample is paired with.

Everything here is a pure function of (seed, draw, sample id), computed element by element: any slice of the ids, in any order
and on any machine, gives the same partners, and resuming needs no state.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Finalise a 64-bit counter (SplitMix64; Steele, Lea, Flood 2014): a bijection whose output passes for random."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def random_below(bound: npt.ArrayLike, ids: npt.NDArray[np.int64], *, seed: int, draw: int) -> npt.NDArray[np.int64]:
    """Draw one integer in [0, bound) for every id, the same for the same (seed, draw, id).

    Parameters
    ----------
    bound:
        Exclusive upper bounds, one or one per id, each in 1 .. 2**32 - 1 (bias at most bound / 2**32).
    ids:
        Integers (n,), the counters of the generator.
    seed, draw:
        Non-negative integers below 2**64 and 2**32.
    """
    with np.errstate(over="ignore"):
        key = _mix(_mix(np.array([seed], np.uint64) + _GOLDEN) + np.uint64(draw) * _GOLDEN)
        bits = _mix((ids.astype(np.uint64) + np.uint64(1)) * _GOLDEN + key)
    return ((bits >> np.uint64(32)) * np.asarray(bound, np.uint64) >> np.uint64(32)).astype(np.int64)
