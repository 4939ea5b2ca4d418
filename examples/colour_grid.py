# %% [markdown]
# # A source of your own: a factor grid in colour
#
# Data that do not lie in a folder of pictures can become a store, too.
# A `DataSource` says what decides the store and fills it, in some twenty lines.
# Here every combination of four factors is drawn once, so that pairs are exact.
# 3D Shapes and MPI3D are such grids and are read from their files: `pipe preprocess shapes3d`, `mpi3d`.

# %%
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from gated_vae.preprocessing.sources.base import make_store
from gated_vae.preprocessing.sources.grids.base import sample_table
from gated_vae.preprocessing.store_writer import Plan


def pipe(words):
    """Run a command as in a shell and print what it prints."""
    command = [sys.executable, "-m", "gated_vae.pipelines.cli", *words.split()]
    print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


# %% small={"STEPS": 10, "JUDGES": 200}
OUT = Path("out/colour_grid")
STEPS, JUDGES = 2000, 2160

# %% [markdown]
# ## The source
#
# `plan` is all that decides the store: equal plans make equal stores, and a finished one is not made again.
# `build` fills it region by region; a build that was stopped goes on where it was.

# %%
FACTORS = {"ground": 6, "hue": 8, "size": 5, "x": 9}


def draw(ground, hue, size, x):
    """A disc of some hue and size at some place before a ground of some hue, uint8 (32, 32, 3)."""
    hues = np.array([[[ground * 30, 90, 90]], [[hue * 22, 220, 230]]], np.uint8)
    back, front = cv2.cvtColor(hues, cv2.COLOR_HSV2RGB)[:, 0].tolist()
    image = np.full((32, 32, 3), back, np.uint8)
    return cv2.circle(image, (8 + 2 * x, 16), 4 + size, front, cv2.FILLED, cv2.LINE_AA)


class Discs:
    """Every combination once, the last factor the fastest."""

    def plan(self):
        """What decides the store."""
        return Plan("discs", "sha256:discs 1", {}, (32, 32, 3), FACTORS)

    def build(self, writer, _run, progress):
        """Draw the images and tell of each."""
        grid = np.indices(tuple(FACTORS.values())).reshape(len(FACTORS), -1).T
        writer.seen = len(grid)
        for region in writer.images(len(grid)):
            region.write(np.stack([draw(*classes) for classes in grid[region.start : region.stop].tolist()]))
            progress(region.stop, len(grid))
        writer.samples(sample_table(FACTORS, {name: np.arange(float(size)) for name, size in FACTORS.items()}))


store = make_store(Discs(), OUT / "store").store
Image.fromarray(np.concatenate(list(store.images[:: len(store) // 16][:16]), axis=1)).resize((1024, 64))

# %% [markdown]
# ## Pairs, training, scores
#
# The method `composed` aims at images that are put together from the factors of several.
# One gives the hue, another the size.

# %%
pipe(f"pair {OUT}/store --share ground=ground --share hue=hue --share size=size --share x=x")
latent = "ground=2,hue=2,size=1,x=1"
model = f"--method composed --network conv --latent {latent}"
pipe(f"train {OUT}/store --out {OUT}/run {model} --steps {STEPS} --lr 1e-3")
pipe(f"evaluate {OUT}/run --samples {JUDGES}")

# %%
pipe(f"traverse {OUT}/run")
Image.open(OUT / "run/figures/traversals.png")
