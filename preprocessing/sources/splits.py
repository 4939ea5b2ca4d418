"""Who trains, who is looked at while training, and who judges: people kept apart, and kept so.

A split is decided for each key (a person, a sequence, an image) by its name and a seed alone, so that adding images moves nobody.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from gated_vae.preprocessing.errors import BadSourceError, UsageError

SPLITS = ("train", "valid", "test")  # in the order in which a store has their samples
# The split that a word of somebody's list, table or folder means.
SPLIT_OF = {name: name for name in SPLITS} | {"training": "train", "testing": "test"}
SPLIT_OF |= dict.fromkeys(("val", "validation", "dev"), "valid")


@dataclass(frozen=True)
class Split:
    """Shares of `SPLITS` that sum to one, and the seed that decides who is where."""

    shares: Mapping[str, float]
    seed: int = 0

    def told(self) -> dict[str, float]:
        """What a manifest says of it."""
        return {**self.shares, "seed": self.seed}

    def assign(self, keys: Sequence[str]) -> list[str]:
        """Name of the split of each key, equal keys never parted; `BadSourceError` when one that was asked for gets nobody."""
        names, ends = list(self.shares), list(accumulate(self.shares.values()))
        places = {key: min(bisect(ends, self._point(key)), len(names) - 1) for key in {*keys}}
        empty = [name for place, name in enumerate(names) if place not in places.values()]
        if empty:
            why = f"{len(places)} people, sequences or images are too few for {empty[0]}={self.shares[empty[0]]:g}."
            raise BadSourceError("Samples cannot be split so.", why, "Ask for larger shares, or leave --split out.")
        return [names[places[key]] for key in keys]

    def falls_short(self, sizes: Mapping[str, int]) -> list[str]:
        """Splits with less than half of the samples asked for: who is kept together may have many, or few."""
        whole = sum(sizes.values())
        return [name for name, share in self.shares.items() if sizes[name] < share * whole / 2]

    def _point(self, key: str) -> float:
        """Where a key lies in 0 .. 1."""
        digest = hashlib.sha256(f"{self.seed}\0{key}".encode("utf-8", "backslashreplace")).digest()
        return int.from_bytes(digest[:7], "big") / 2**56


def parse_split(text: str) -> Split:
    """Read ``train=.8,valid=.1,test=.1``, and ``,seed=7`` where another choice is wanted; `UsageError` where that cannot be."""
    remedy = "Write --split train=.8,valid=.1,test=.1"
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise UsageError(f"--split {text} cannot be read.", f"{part!r} is no share.", remedy) from None
    seed = found.pop("seed", 0.0)
    wrong = [name for name, share in found.items() if name not in SPLITS or not 0 < share <= 1]
    if wrong or "train" not in found or not 0 <= seed < 2**32 or seed != int(seed):
        what = wrong[0] if wrong else "seed" if "train" in found else "train"
        raise UsageError(f"--split {text} cannot be read.", f"Look at {what}.", remedy)
    if abs(sum(found.values()) - 1) > 1e-6:
        raise UsageError(f"--split {text} cannot be.", f"The shares sum to {sum(found.values()):g}.", remedy)
    return Split({name: found[name] for name in SPLITS if name in found}, int(seed))


def in_order(splits: Sequence[object]) -> list[int]:
    """The order in which a store has its samples: those that train first, then valid, test, and those of no split."""
    places = {name: place for place, name in enumerate(SPLITS)}
    ranks = [places.get(split, len(SPLITS)) if isinstance(split, str) else len(SPLITS) for split in splits]
    return sorted(range(len(ranks)), key=ranks.__getitem__)
