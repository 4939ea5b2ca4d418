# %% [markdown]
# # The demo, looked at in pandas
#
# `make demo` draws faces, groups them by head pose and by expression, pairs them and trains on the pairs.
# All that it writes on the way is plain Parquet and NumPy.
# This tutorial takes the same steps up to the pairs and looks at each result.
# Which samples are there, which were rejected and why, what is a group, and how alike are the images of a pair?

# %%
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image


def pipe(words):
    """Run a command as in a shell and print what it prints."""
    command = [sys.executable, "-m", "gated_vae.pipelines.cli", *words.split()]
    print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


# %% small={"FACES": 240}
OUT = Path("out/demo_in_pandas")
FACES = 2000

# %% [markdown]
# ## From faces to a store
#
# No face here is real: each is drawn from a known pose, expression and person.
# `faces/processed` holds what OpenFace 2.0 would have written for them, errors included.

# %%
pipe(f"simulate faces --out {OUT}/faces --n {FACES} --seed 1")
found = f"--openface {OUT}/faces/processed --identities {OUT}/faces/identity.txt"
pipe(f"preprocess celeba {found} --size 32 --out {OUT}/store")

# %% [markdown]
# A store holds images and a table.
# Row i of the table describes image i.

# %%
images = np.load(OUT / "store/images.npy", mmap_mode="r")
samples = pd.read_parquet(OUT / "store/samples.parquet")
print(images.shape, images.dtype)
samples[["image", "confidence", "pose_Rx", "pose_Ry", "AU06_r", "AU12_r", "identity"]].head()


# %%
def sheet(rows, scale=2):
    """Rows of sample ids as one picture."""
    pixels = np.concatenate([np.concatenate([images[i] for i in row], axis=1) for row in rows])
    return Image.fromarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1))


sheet(np.arange(48).reshape(3, 16))

# %% [markdown]
# ## Rejected rows
#
# OpenFace is not always sure, and not always right.
# What was not taken is listed with its reason, so that nothing is lost unseen.
# Taken and rejected make up all that there was.

# %%
rejected = pd.read_parquet(OUT / "store/rejected.parquet")
manifest = json.loads((OUT / "store/store.json").read_text())
print(manifest["taken"], "taken +", len(rejected), "rejected =", manifest["seen"], "seen")
rejected.groupby("reason").agg(rows=("source", "size"), example=("detail", "first"))

# %% [markdown]
# ## Groups
#
# `pipe cluster` groups the faces twice by K-Means: by pose, and by the intensities of action units.
# Partners are drawn within a group.
# `--rule independent:8` draws them so that everything else is as different as among random faces.

# %%
pipe(f"cluster {OUT}/store --pose {FACES // 50} --expression {FACES // 50} --rule independent:8")

# %%
groups = pd.read_parquet(OUT / "store/groups")
sizes = groups.groupby("partition", observed=True)["group"].value_counts()
sizes.groupby("partition", observed=True).describe().round(1)

# %% [markdown]
# The images of three pose groups, a group in a row: one pose, any expression, anybody.

# %%
pose = groups[groups["partition"] == "pose"]
largest = pose["group"].value_counts().index[:3]
sheet([pose.loc[pose["group"] == group, "sample_id"].head(12) for group in largest])

# %% [markdown]
# ## Pairs
#
# `pipe pair` adds pairs of one person, from a column that is known exactly.
# The pair table has a row for each pair.

# %%
pipe(f"pair {OUT}/store --share identity=identity")
pairs = pd.read_parquet(OUT / "store/pairs")
pairs.head()

# %% [markdown]
# Each sample is an input once in every partition and draw, and never its own partner.

# %%
inputs = pairs.groupby(["partition", "draw"], observed=True)["input_id"].agg(["size", "nunique"])
print("own partner:", (pairs["input_id"] == pairs["target_id"]).sum())
inputs.unstack("draw")["nunique"]

# %% [markdown]
# ## How alike are they?
#
# Pairs should agree in what their partition is named after, and in nothing else.
# The table has the mean differences between input and target, and the share of pairs that are one person.
# Its last row is of random pairs.

# %%
rng = np.random.default_rng(0)
shuffled = pd.DataFrame(
    {"partition": "random", "input_id": samples["sample_id"], "target_id": rng.permutation(len(samples))}
)
both = pd.concat([pairs, shuffled])
first, second = (samples.loc[both[end]].reset_index(drop=True) for end in ("input_id", "target_id"))
apart = pd.DataFrame(
    {
        "yaw, degrees": np.degrees((first["pose_Ry"] - second["pose_Ry"]).abs()),
        "smile (AU12)": (first["AU12_r"] - second["AU12_r"]).abs(),
        "one person": first["identity"] == second["identity"],
    }
)
apart.groupby(both["partition"].to_numpy()).mean().round(3)

# %% [markdown]
# Inputs in the upper row of each two, their partners below: expression, identity, pose.

# %%
drawn = pairs[pairs["draw"] == 0].groupby("partition", observed=True).head(12)
sheet([part[end] for _, part in drawn.groupby("partition", observed=True) for end in ("input_id", "target_id")])

# %% [markdown]
# ## What comes next
#
# These tables are all the supervision that a model gets.
# `make demo` goes on with
#
# ```
# pipe train out/demo/store --out out/demo/run --preset faces-partners --steps 3000
# pipe traverse out/demo/run
# ```
