"""Metrics of disentanglement: pure functions of codes (n, M) and factors (n, K) that need numpy and scikit-learn only."""

from gated_vae.models.metrics.arrays import Split, group_split, random_split
from gated_vae.models.metrics.beta_vae import beta_vae
from gated_vae.models.metrics.circular import (
    CircularUninformativeness,
    circular_uninformativeness,
    plain_rotation_floor,
)
from gated_vae.models.metrics.classes import partition_accuracy
from gated_vae.models.metrics.dci import (
    DCI,
    code_weights,
    completeness_per_factor,
    dci,
    disentanglement_per_code,
    nrmse,
)
from gated_vae.models.metrics.factor_vae import FactorVAE, factor_vae
from gated_vae.models.metrics.gaps import Gap
from gated_vae.models.metrics.mig import mig
from gated_vae.models.metrics.modularity import Modularity, modularity
from gated_vae.models.metrics.partition import PartitionScores, partition_r2, partition_scores
from gated_vae.models.metrics.sap import sap

__all__ = [
    "DCI",
    "CircularUninformativeness",
    "FactorVAE",
    "Gap",
    "Modularity",
    "PartitionScores",
    "Split",
    "beta_vae",
    "circular_uninformativeness",
    "code_weights",
    "completeness_per_factor",
    "dci",
    "disentanglement_per_code",
    "factor_vae",
    "group_split",
    "mig",
    "modularity",
    "nrmse",
    "partition_accuracy",
    "partition_r2",
    "partition_scores",
    "plain_rotation_floor",
    "random_split",
    "sap",
]
