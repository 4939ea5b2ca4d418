# %% [markdown]
# # Own pictures and a table of labels
#
# A folder of pictures, and a table that says something about each: this is all that is needed.
# The pictures here are drawn, discs of some hue at some place on a plain or striped ground, in colour.
# With your own, begin at *From a folder to a store*.

# %%
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

import gated_vae


def pipe(words):
    """Run a command as in a shell and print what it prints."""
    command = [sys.executable, "-m", "gated_vae.pipelines.cli", *words.split()]
    print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


# %% small={"PICTURES": 200, "STEPS": 10}
OUT = Path("out/own_pictures")
PICTURES, STEPS = 2000, 2000

# %% [markdown]
# ## The pictures and the table

# %%
rng = np.random.default_rng(0)
(OUT / "pictures").mkdir(parents=True, exist_ok=True)
rows = []
for number in range(PICTURES):
    x, y, hue = map(int, rng.integers([16, 16, 0], [49, 49, 360]))
    ground = str(rng.choice(["plain", "striped"]))
    picture = np.full((64, 64, 3), 70, np.uint8)
    if ground == "striped":
        picture[:, ::8] = picture[:, 1::8] = picture[:, 2::8] = 130
    colour = cv2.cvtColor(np.array([[[hue // 2, 220, 230]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0].tolist()
    cv2.circle(picture, (x, y), 11, colour, cv2.FILLED, cv2.LINE_AA)
    cv2.imwrite(f"{OUT}/pictures/{number:05d}.png", picture)
    rows.append({"file_name": f"{number:05d}.png", "x": x, "y": y, "hue": hue, "ground": ground})
table = pd.DataFrame(rows)
table.to_csv(OUT / "labels.csv", index=False)
table.head()

# %% [markdown]
# ## From a folder to a store
#
# Pictures are cut to a square, made 32 pixels wide and kept in colour.
# Part of them is held out to judge the model: `valid` and `test` take no part in clusters, pairs or training.

# %%
split = "train=.7,valid=.15,test=.15"
found = f"{OUT}/pictures --labels {OUT}/labels.csv"
pipe(f"preprocess images {found} --colour --size 32 --split {split} --out {OUT}/store")

# %% [markdown]
# ## Which pictures are alike
#
# Numbers that are near make a group by K-Means: the place, and the hue, which begins anew after 360 degrees.
# Words have to be equal.
# Each of the three becomes a partition of the latent.

# %%
pipe(f"cluster {OUT}/store --near place=x,y:{PICTURES // 50} --near colour=hue@360:{PICTURES // 100}")
pipe(f"pair {OUT}/store --share ground=ground")

# %% [markdown]
# ## Training
#
# The method `partners` decodes an image from the codes of several others.
# One has the same place, one the same hue, one the same ground.

# %%
pipe(f"train {OUT}/store --out {OUT}/run --method partners --latent place=3,colour=2,ground=2 --steps {STEPS}")

# %% [markdown]
# ## Does each partition tell its own label, and no other?
#
# Regressors are fitted from each partition's codes to each label, and judged on pictures that took no part in training.

# %%
pipe(f"evaluate {OUT}/run")

# %% [markdown]
# ## Traversals
#
# Each row moves one dimension of the latent, from -2 to +2.

# %%
pipe(f"traverse {OUT}/run")
Image.open(OUT / "run/figures/traversals.png")

# %% [markdown]
# ## A model for other pictures
#
# The run's folder is all that is needed to encode pictures: no store, no table.

# %%
run = gated_vae.open_run(OUT / "run")
pictures = gated_vae.read_pictures(sorted((OUT / "pictures").iterdir())[:2], run.image_shape)
mean, std = run.encode(pictures)
print(run.partitions)
mean.round(2)

# %% [markdown]
# Codes can be put together: the place and ground of the first picture, the colour of the second.

# %%
code = mean[[0]].copy()
code[:, run.partitions["colour"]] = mean[[1], run.partitions["colour"]]
three = np.concatenate([*pictures / 255, run.decode(code)[0]], axis=1)
Image.fromarray((255 * three).astype(np.uint8)).resize((576, 192), Image.Resampling.NEAREST)
