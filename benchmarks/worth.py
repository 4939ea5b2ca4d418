"""What a pair of sprites is worth to the gate, without training: `python -m benchmarks.worth --store STORE`.

A decoder that has learnt all there is to learn gives the mean image of what it is told. So what a factor's code earns, in nats of
Bernoulli reconstruction, follows from mean images alone:

- `told`: the decoder is told the one factor that the pair shares, and knows that it is this one;
- `gate`: as in the gate. It sees codes of all partitions, of which one holds of the target, and not which one. It gives the mean
  of what each of them says;
- `in_turn`: it is told those above it in the table, too, of the target; this is what the exchange gate offers as it learns;
- `rest_known`: it is told all other factors of the target, too.

The critical KL weight is the price of a nat above which not even the first of it is worth its price: the largest eigenvalue of
what a small change of belief earns against what it costs, both of second order. Above it a closed code is an optimum.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gated_vae.preprocessing.store import open_store

Floats = npt.NDArray[np.float64]
GRID = (3, 6, 40, 32 * 32)  # shape, size, rotation, position
AXES = {"position": 3, "size": 1, "shape": 0, "rotation": 2}
PIXELS = 64 * 64
SAMPLES, IN_TURN = 2048, 256  # images that stand for all
LEAST = 1e-9  # a probability


def bernoulli(truth: Floats, told: Floats | None = None) -> Floats:
    """Cross-entropy in nats, summed over pixels (..., PIXELS); the entropy where nothing else is told."""
    told = np.clip(truth if told is None else told, LEAST, 1 - LEAST)
    return -(truth * np.log(told) + (1 - truth) * np.log(1 - told)).sum(-1)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Means:
    """Mean images: of all sprites (PIXELS,), and by partition of each value of its factor (k, PIXELS)."""

    whole: Floats
    of: Mapping[str, Floats]

    @classmethod
    def read(cls, images: npt.NDArray[np.uint8]) -> Means:
        """From all images, in the grid's order (shapes, sizes, rotations, positions, pixels); pixels are 0 or 255."""
        *slabs_of, positions, pixels = images.shape
        slabs, position = np.zeros((*slabs_of, pixels)), np.zeros((positions, pixels))
        for place in np.ndindex(*slabs_of):
            slab = images[place] > 0
            slabs[place] = slab.mean(0)
            position += slab
        of = {"position": position / np.prod(slabs_of)}
        for name in ("size", "shape", "rotation"):
            of[name] = slabs.mean(tuple({0, 1, 2} - {AXES[name]}))
        return cls(slabs.mean((0, 1, 2)), of)

    def rest(self, name: str, place: npt.NDArray[np.int64]) -> Floats:
        """The sum of what the codes of the other partitions say, where they are read from the image at this place."""
        return np.sum([means[place[AXES[other]]] for other, means in self.of.items() if other != name], axis=0)  # type: ignore[no-any-return]


def worth(images: npt.NDArray[np.uint8], means: Means, seed: int = 0) -> Iterator[dict[str, Any]]:
    """A row for each partition: `entropy`, and gains, in nats; `critical_told` and `critical_gate`, KL weights."""
    places = np.random.default_rng(seed).integers(0, GRID, (SAMPLES, 4))
    count = len(means.of)
    for name, own in means.of.items():
        silent, told, weights, known = 0.0, 0.0, np.zeros(PIXELS), 0.0
        for place in places:
            rest, value = means.rest(name, place), own[place[AXES[name]]]
            silent += float(bernoulli(value, (rest + means.whole) / count))
            told += float(bernoulli(value, (rest + value) / count))
            mixed = np.clip((rest + means.whole) / count, LEAST, 1 - LEAST)
            # Second order in what the code changes, of which the decoder passes on one part in `count`.
            curvature = means.whole / mixed**2 + (1 - means.whole) / (1 - mixed) ** 2
            weights += 2 / (count * mixed * (1 - mixed)) - curvature / count**2
            known += unsure(images, place, [name])
        sure = np.clip(means.whole * (1 - means.whole), LEAST, None)
        yield {
            "partition": name,
            "entropy": np.log(len(own)),
            "gain_told": bernoulli(means.whole) - bernoulli(own).mean(),
            "gain_gate": (silent - told) / SAMPLES,
            "gain_rest_known": known / SAMPLES,
            "critical_told": critical(own - means.whole, 1 / sure),
            "critical_gate": critical(own - means.whole, weights / SAMPLES),
        }


def in_turn(images: npt.NDArray[np.uint8], means: Means, seed: int = 0) -> list[float]:
    """What each partition earns, in nats, where those before it are known."""
    places, names = np.random.default_rng(seed).integers(0, GRID, (IN_TURN, 4)), [*AXES]
    left = [np.mean([unsure(images, place, names[first:]) for place in places]) for first in range(1, len(names))]
    return [-float(gain) for gain in np.diff([bernoulli(means.whole), *left, 0.0])]


def spread(images: npt.NDArray[np.uint8], means: Means, seed: int = 0) -> float:
    """The standard deviation between images of the cross-entropy, in nats, for a decoder that knows nothing of them."""
    places = np.random.default_rng(seed).integers(0, GRID, (SAMPLES, 4))
    return float(bernoulli((images[tuple(places.T)] > 0).astype(float), means.whole).std())


def unsure(images: npt.NDArray[np.uint8], place: npt.NDArray[np.int64], unknown: Sequence[str]) -> float:
    """The cross-entropy of an image, in nats, where the factors of these partitions are not known."""
    axes = {AXES[name] for name in unknown}
    alike = images[tuple(slice(None) if axis in axes else at for axis, at in enumerate(place))] > 0
    return float(bernoulli(alike.mean(tuple(range(len(axes))))))


def critical(changes: Floats, weights: Floats) -> float:
    """The greatest gain for a nat: of the changes (k, PIXELS) that equally likely values make, at these weights (PIXELS,)."""
    scaled = changes / np.sqrt(len(changes))
    return float(np.linalg.eigvalsh((scaled * weights) @ scaled.T)[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True, help="of sprites")
    parser.add_argument("--out", type=Path, help="where to write the table, .parquet")
    options = parser.parse_args()
    images = open_store(options.store).images.reshape(*GRID, PIXELS)
    means = Means.read(images)
    rows = pd.DataFrame([*worth(images, means)]).assign(gain_in_turn=in_turn(images, means))
    print(rows.round(2).to_string(index=False))
    print(f"standard deviation of an image's cross-entropy: {spread(images, means):.0f} nats")
    if options.out:
        rows.to_parquet(options.out, index=False)


if __name__ == "__main__":
    main()
