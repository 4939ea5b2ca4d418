# %% [markdown]
# # Frames of films, without a label
#
# Neighbours in time look alike in whatever changes slowly: they are a pair without anybody's labels.
# Frames of one film share who is in it.
# The films here are drawn: a disc of one brightness and size drifts over a ground that flickers.

# %%
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image


def pipe(words):
    """Run a command as in a shell and print what it prints."""
    command = [sys.executable, "-m", "gated_vae.pipelines.cli", *words.split()]
    print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


# %% small={"FILMS": 10, "STEPS": 10}
OUT = Path("out/sequences")
FILMS, FRAMES, STEPS = 60, 40, 2000

# %% [markdown]
# ## The frames
#
# They lie in one folder.
# The table says of each which film it is from, its number there, and what we shall judge by.

# %%
rng = np.random.default_rng(0)
(OUT / "frames").mkdir(parents=True, exist_ok=True)
rows = []
for film in range(FILMS):
    size, light = int(rng.integers(5, 14)), int(rng.integers(120, 256))
    start, way = rng.uniform(18, 46, 2), rng.uniform(-0.9, 0.9, 2)
    for frame in range(FRAMES):
        x, y = np.clip(start + way * frame, 14, 50)
        picture = np.full((64, 64), rng.integers(20, 90), np.uint8)
        cv2.circle(picture, (round(x), round(y)), size, light, cv2.FILLED, cv2.LINE_AA)
        name = f"film{film:03d}-{frame:03d}.png"
        cv2.imwrite(f"{OUT}/frames/{name}", picture)
        rows.append({"file_name": name, "film": f"film{film:03d}", "frame": frame, "x": x, "y": y, "size": size})
pd.DataFrame(rows).to_csv(OUT / "frames.csv", index=False)
first = [cv2.imread(f"{OUT}/frames/film000-{frame:03d}.png") for frame in range(0, FRAMES, 4)]
Image.fromarray(np.concatenate(first, axis=1))

# %% [markdown]
# ## Pairs
#
# `--follow place=film,frame:3` pairs frames of one film that are at most 3 apart.
# `--share film=film` pairs any two of one film.

# %%
pipe(f"preprocess images {OUT}/frames --labels {OUT}/frames.csv --size 32 --out {OUT}/store")
pipe(f"pair {OUT}/store --follow place=film,frame:3 --share film=film --draws 4")

# %% [markdown]
# ## Training, and what each partition tells
#
# `film` should tell the size of the disc and `place` where it is.

# %%
pipe(f"train {OUT}/store --out {OUT}/run --method partners --latent place=3,film=3 --steps {STEPS}")
pipe(f"evaluate {OUT}/run")

# %%
pipe(f"traverse {OUT}/run")
Image.open(OUT / "run/figures/traversals.png")
