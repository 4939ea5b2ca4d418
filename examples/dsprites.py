# %% [markdown]
# # dSprites: with the gate and without
#
# A heart, an ellipse or a square, in some size, turned by some angle, at some place: dSprites has every combination once.
# Which images agree in what is known exactly, so pairs are exact, too.
# Here models of one size are trained for the same number of steps.
# One is a plain VAE, one has the gate of Vowels, Camgoz and Bowden (2019), and one has a method of this project.
# Then each is asked which dimension of its latent tells which factor.

# %%
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

import gated_vae
from gated_vae.preprocessing.sources.base import make_store
from gated_vae.preprocessing.sources.grids.dsprites import DSprites


def pipe(words):
    """Run a command as in a shell, and give what it prints."""
    command = [sys.executable, "-m", "gated_vae.pipelines.cli", *words.split()]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


# %% small={"STEPS": 20, "PLACES": 3, "JUDGES": 300}
OUT = Path("out/dsprites")
STEPS, JUDGES = 3000, 10_000
PLACES = 8

# %% [markdown]
# ## A small dSprites
#
# `pipe preprocess dsprites` makes the whole of it, 737,280 images and 3 GB.
# A coarser grid will do here, with fewer angles and places.

# %%
grid = DSprites(factors={"shape": 3, "scale": 6, "orientation": 9, "posX": PLACES, "posY": PLACES})
store = make_store(grid, OUT / "store").store
print(store.images.shape)
store.samples[["image", *grid.factors]].sample(5, random_state=0)

# %%
some = np.random.default_rng(0).integers(0, len(store), 24)
Image.fromarray(np.concatenate([np.concatenate(list(store.images[row]), axis=1) for row in some.reshape(2, 12)]))

# %% [markdown]
# ## Exact pairs
#
# Two images of a pair agree in the factors that are named, and differ at random in the rest.
# Each of the four becomes a partition of the latent.

# %%
shares = "--share position=posX,posY --share rotation=orientation --share shape=shape --share size=scale"
print(pipe(f"pair {OUT}/store {shares}"))

# %%
pairs = pd.read_parquet(OUT / "store/pairs").groupby("partition", observed=True).sample(3, random_state=1)
first, second = (store.samples.loc[pairs[end], [*grid.factors]] for end in ("input_id", "target_id"))
alike = pd.DataFrame(first.to_numpy() == second.to_numpy(), pairs["partition"], first.columns)
alike.replace({True: "equal", False: "."})

# %% [markdown]
# ## Three models
#
# - `--method vae` has no gate: it encodes an image and decodes the same image.
# - `--method gate` is the paper's: the decoder aims at the image's partner.
#   The gradient reaches the encoder through the one partition whose factors the two share; the partitions take turns.
# - `--method partners` encodes each partition from a partner of its own, all of them in one step.

# %%
METHODS = ["vae", "gate", "partners"]
for method in METHODS:
    print(pipe(f"train {OUT}/store --out {OUT}/{method} --method {method} --beta 1 --steps {STEPS}"))
    pipe(f"evaluate {OUT}/{method} --samples {JUDGES}")

# %% [markdown]
# ## Side by side

# %%
found = {method: json.loads((OUT / method / "metrics.json").read_text())["evaluate"]["dci"] for method in METHODS}
regressors, scores = ["lasso", "random_forest"], ["disentanglement", "completeness", "uninformativeness"]
table = pd.DataFrame({(name, method): found[method][name] for name in regressors for method in METHODS}).T
table[scores].astype(float).round(2)

# %% [markdown]
# How well a forest reads each factor from the whole latent: 0 is without an error, 1 no better than the mean.

# %%
errors = {method: found[method]["random_forest"]["uninformativeness_per_factor"] for method in METHODS}
pd.DataFrame(errors).astype(float).round(2)

# %% [markdown]
# The place is easy to tell for all.
# Shape takes the gate longer than so few steps, and rotation takes all of them longer.
# A square looks the same after a quarter of a turn.
# The results in the documentation are of 60,000 steps and more.
#
# ## Hinton diagrams
#
# The area of a square is how important a dimension (column) is to a factor (row).
# Without the gate, the factors lie anywhere in the latent:

# %%
Image.open(OUT / "vae/figures/hinton_random_forest.png")

# %% [markdown]
# With it, what is learned lies in the partition that was meant for it:

# %%
Image.open(OUT / "gate/figures/hinton_random_forest.png")

# %%
Image.open(OUT / "partners/figures/hinton_random_forest.png")

# %% [markdown]
# ## Traversals
#
# What each dimension does to one image:

# %%
print(pipe(f"traverse {OUT}/partners"))
Image.open(OUT / "partners/figures/traversals.png")

# %% [markdown]
# ## Swaps
#
# Codes can be put together from two images.
# The third row has the position of the first, and all else of the second.
# As the rotation is not learned, what is drawn is the mean over all of them.

# %%
run = gated_vae.open_run(OUT / "partners")
first, second = store.images[some[:6]], store.images[some[6:12]]
codes, other = run.encode(second)[0].copy(), run.encode(first)[0]
codes[:, run.partitions["position"]] = other[:, run.partitions["position"]]
rows = [first, second, (255 * run.decode(codes)).astype(np.uint8)]
Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows]))
