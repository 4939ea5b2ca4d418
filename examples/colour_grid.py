"""pip install '.[cpu]'; python examples/colour_grid.py out/grid --steps 2000

A factor grid in colour, every combination once: exact pairs by arithmetic, and targets composed of a batch's factors. The grid here
is drawn, a source of 20 lines (`DataSource`). 3D Shapes and MPI3D are read from their files: `pipe preprocess shapes3d`, `mpi3d`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from gated_vae.preprocessing.compute import RunTasks
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.sources.base import make_store
from gated_vae.preprocessing.sources.grids.base import sample_table
from gated_vae.preprocessing.store_writer import Plan, StoreWriter

FACTORS = {"ground": 6, "hue": 8, "size": 5, "x": 9}
SIDE = 32


class Discs:
    """A disc of some hue and size at some place before a ground of some hue, as a `DataSource`."""

    def plan(self) -> Plan:
        """What decides the store."""
        return Plan("discs", "sha256:discs 1", {}, (SIDE, SIDE, 3), FACTORS)

    def build(self, writer: StoreWriter, _run: RunTasks, progress: Progress) -> None:
        """Draw every combination, the last factor the fastest."""
        grid = np.indices(tuple(FACTORS.values())).reshape(len(FACTORS), -1).T
        writer.seen = len(grid)
        for region in writer.images(len(grid)):
            region.write(np.stack([draw(*classes) for classes in grid[region.start : region.stop].tolist()]))
            progress(region.stop, len(grid))
        writer.samples(sample_table(FACTORS, {name: np.arange(float(size)) for name, size in FACTORS.items()}))


def draw(ground: int, hue: int, size: int, x: int) -> np.ndarray:
    """One image, uint8 (32, 32, 3), red, green and blue."""
    hues = np.array([[[ground * 30, 90, 90]], [[hue * 22, 220, 230]]], np.uint8)
    back, front = cv2.cvtColor(hues, cv2.COLOR_HSV2RGB)[:, 0].tolist()
    image = np.full((SIDE, SIDE, 3), back, np.uint8)
    return cv2.circle(image, (8 + 2 * x, SIDE // 2), 4 + size, front, cv2.FILLED, cv2.LINE_AA)


def pipe(words: str) -> None:
    """Run a command of `pipe`."""
    print("$ pipe", words, flush=True)
    subprocess.run(
        [sys.executable, "-c", "from gated_vae.pipelines.cli import main; main()", *words.split()], check=True
    )


def main() -> None:
    """Draw, pair, train, judge, and draw traversals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    given = parser.parse_args()
    out = given.out
    make_store(Discs(), out / "store")
    pipe(f"pair {out}/store --share ground=ground --share hue=hue --share size=size --share x=x")
    latent = "ground=2,hue=2,size=1,x=1"
    pipe(
        f"train {out}/store --out {out}/run --method composed --network conv --latent {latent} --steps {given.steps} --lr 1e-3"
    )
    pipe(f"evaluate {out}/run")
    pipe(f"traverse {out}/run")


if __name__ == "__main__":
    main()
