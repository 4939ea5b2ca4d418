# %% [markdown]
# # Metrics on your own codes
#
# The metrics need no model and no store of this project.
# Each is a function of two arrays with a row per image.
# The codes have a column per dimension, the factors a column for each thing that is known.
# Here the codes are made up, so that it is plain what a good score should be.

# %%
import numpy as np
import pandas as pd

from gated_vae import metrics
from gated_vae.models.figures.grids import hinton

# %% small={"IMAGES": 1000}
IMAGES = 10_000

# %% [markdown]
# ## Factors, and three ways to encode them
#
# - `apart` has each factor in a dimension of its own, and one dimension of noise.
# - `mixed` is the same turned in space: everything is there, but every dimension tells of every factor.
# - `noisy` has each factor in its own dimension, but hardly readable.

# %%
rng = np.random.default_rng(0)
names = ["shape", "size", "angle"]
factors = np.stack([rng.integers(0, 3, IMAGES), rng.integers(0, 6, IMAGES), rng.integers(0, 40, IMAGES)], axis=1)
scaled = (factors - factors.mean(axis=0)) / factors.std(axis=0)
noise = rng.standard_normal((IMAGES, 4))
apart = np.column_stack([scaled, noise[:, 3]]) + 0.05 * noise
turn = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
codes = {"apart": apart, "mixed": apart @ turn, "noisy": apart + 2 * noise}

# %% [markdown]
# ## DCI
#
# One regressor per factor is fitted on all dimensions.
# What it says of their importance gives the scores (Eastwood and Williams 2018).
#
# - Disentanglement: does a dimension tell of one factor only?
# - Completeness: is a factor told by one dimension only?
# - Uninformativeness is an error, so less is better; 1 is no better than the mean.

# %%
scores = ["disentanglement", "completeness", "uninformativeness"]
found = {
    (regressor, name): metrics.dci(z, factors, regressor, seed=0)
    for regressor in ("lasso", "random_forest")
    for name, z in codes.items()
}
pd.DataFrame({key: {score: getattr(it, score) for score in scores} for key, it in found.items()}).T.round(2)

# %% [markdown]
# Mixed codes are as informative as those apart, but not disentangled.
# Noisy ones are, as Lasso has it, but hardly informative; a forest finds something in noise, too.
# So none of the scores says much alone, or without its regressor.
#
# ## Hinton diagrams
#
# The area of a square is how important a dimension (column) is to a factor (row).

# %%
hinton(found["random_forest", "apart"].importance, factor_names=names, partitions={})

# %%
hinton(found["random_forest", "mixed"].importance, factor_names=names, partitions={})

# %% [markdown]
# ## Other scores
#
# Each looks at another side of the same question, and they do not always agree.
# Report more than one, and how each was computed: the regressor or the number of bins, the split, the number of images.

# %%
others = {"MIG": metrics.mig, "SAP": metrics.sap, "modularity": metrics.modularity, "IRS": metrics.irs}
table = {score: {name: measure(z, factors).score for name, z in codes.items()} for score, measure in others.items()}
pd.DataFrame(table).T.round(2)

# %% [markdown]
# ## Partitions
#
# Where several dimensions belong together, as in a gated VAE, it is the partition that should tell a factor.
# `partition_scores` compares what a factor's own partition tells with what the best of the others does.

# %%
partitions = {"form": slice(0, 2), "pose": slice(2, 4)}
owner = {"shape": "form", "size": "form", "angle": "pose"}
judged = {name: metrics.partition_scores(z, factors, partitions, owner, seed=0) for name, z in codes.items()}
pd.concat({name: pd.DataFrame(it.r2, it.partitions, it.factors) for name, it in judged.items()}).round(2)

# %% [markdown]
# ## Codes of a run
#
# A trained model's codes are the mean of `run.encode`, or the columns of `pipe encode`:
#
# ```python
# run = gated_vae.open_run("run")
# mean, std = run.encode(images)  # uint8 (n, H, W)
# metrics.partition_scores(mean, factors, run.partitions, owner)
# ```
