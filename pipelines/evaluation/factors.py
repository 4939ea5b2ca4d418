"""Evaluation against known factors: the paper's scores, and those beside them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_vae.models.metrics import DCI, circular_uninformativeness, dci, mig, modularity, partition_scores, sap
from gated_vae.pipelines.evaluation.encoding import Codes, encode_images
from gated_vae.pipelines.training.run import Run
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store

REGRESSORS = ("lasso", "random_forest")
TEST_SAMPLES = 10_000
SYMMETRY = {0: 4, 1: 2, 2: 1}  # dSprites: turns by which square, ellipse, heart look the same in a full circle
STEP = 2 * np.pi / 39  # radians between rotation classes of dSprites


@dataclass(frozen=True)
class FactorScores:
    """Scores of one run on `samples` random images of its store, codes being posterior means.

    Attributes
    ----------
    factors:
        Names, in the order of per-factor lists.
    dci:
        Regressor -> scores in the paper's form.
    rotation:
        Circular, symmetry-aware uninformativeness: mean over the shapes, and per shape; None without a rotation.
    partition_r2, partition_score:
        Held-out R2 of each factor from each partition's codes (random forest), and own minus best other.
    others:
        MIG, SAP and modularity.
    kl:
        KL(q(z|x) || prior) of every latent dimension, in nats.
    """

    samples: int
    factors: tuple[str, ...]
    dci: dict[str, DCI]
    rotation: dict[str, float] | None
    partition_r2: dict[str, dict[str, float]]
    partition_score: dict[str, float]
    others: dict[str, float]
    kl: list[float]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for ``metrics.json``."""
        scores = {name: plain_dci(score, self.factors) for name, score in self.dci.items()}
        return {
            "samples": self.samples,
            "codes": "posterior means",
            "dci": scores,
            "rotation_circular": self.rotation,
            "partition_r2": self.partition_r2,
            "partition_score": self.partition_score,
            **self.others,
            "kl": self.kl,
        }


def evaluate_factors(run: Run, *, samples: int = TEST_SAMPLES, seed: int = 0) -> FactorScores:
    """Encode random images and score their codes against the store's factors.

    Raises
    ------
    GatedVAEError
        When the store's samples have no exactly known factors.
    """
    store = run.store()
    codes, factors = encode_sample(run, store, samples, seed)
    names = tuple(store.manifest["factors"])
    model_partitions = run.model().partitions
    owner = owners(store, names, model_partitions)
    owned = [names.index(name) for name in owner]
    scores = {name: dci(codes.mean, factors, name, seed=seed) for name in REGRESSORS}  # type: ignore[arg-type]
    table = (
        partition_scores(
            codes.mean,
            factors[:, owned],
            model_partitions,
            owner,
            sharers=sharers(store, names, model_partitions),
            regressor="random_forest",
            seed=seed,
        )
        if len(model_partitions) > 1 and owner
        else None
    )
    others = {
        "mig": mig(codes.mean, factors).score,
        "sap": sap(codes.mean, factors, seed=seed).score,
        "modularity": modularity(codes.mean, factors).score,
    }
    r2: dict[str, dict[str, float]] = {}
    for row in table.rows() if table else ():
        r2.setdefault(str(row["partition"]), {})[str(row["factor"])] = float(row["r2"])
    rotation = _rotation(codes.mean, factors, names, seed)
    score = dict(table.per_factor) if table else {}
    return FactorScores(len(factors), names, scores, rotation, r2, score, others, kl_per_dimension(codes))


def encode_sample(run: Run, store: Store, samples: int, seed: int) -> tuple[Codes, npt.NDArray[np.int64]]:
    """Codes and factor classes (n, K) of random images of a store with a factor grid."""
    if "factors" not in store.manifest:
        why = "Its samples have no exactly known factors."
        raise GatedVAEError(f"{store.path} cannot be judged by factors.", why, "This evaluation is for dSprites.")
    ids = np.sort(np.random.default_rng(seed).choice(len(store), min(samples, len(store)), replace=False))
    factors = store.sample_columns(list(store.manifest["factors"])).to_numpy(np.int64)[ids]
    return encode_images(run.model(), store.images, ids), factors


def owners(store: Store, factors: tuple[str, ...], partitions: Iterable[str]) -> dict[str, str]:
    """Factor -> the first of `partitions` whose pairs share it, in the order of `factors`; those that none shares are left out."""
    return {factor: names[0] for factor, names in sharers(store, factors, partitions).items() if names}


def sharers(store: Store, factors: tuple[str, ...], partitions: Iterable[str]) -> dict[str, list[str]]:
    """Factor -> all of `partitions` whose pairs share it."""
    shares = {name: store.shared(name) for name in partitions}
    return {factor: [name for name, shared in shares.items() if factor in shared] for factor in factors}


def kl_per_dimension(codes: Codes) -> list[float]:
    """KL(q(z|x) || N(0, 1)) of every dimension, mean over the images, in nats: what is near 0 is dead."""
    kl = 0.5 * (codes.mean**2 + codes.std**2 - 1.0 - 2.0 * np.log(codes.std))
    return [float(value) for value in kl.mean(0)]


def _rotation(
    codes: npt.NDArray[np.float32], factors: npt.NDArray[np.int64], names: tuple[str, ...], seed: int
) -> dict[str, float] | None:
    if not {"shape", "orientation"} <= set(names):
        return None
    shape, angle = factors[:, names.index("shape")], factors[:, names.index("orientation")] * STEP
    orders = np.array([SYMMETRY[kind] for kind in range(len(SYMMETRY))])[shape]
    score = circular_uninformativeness(codes, angle, order=orders, groups=shape, seed=seed)
    per_shape = dict(zip(("square", "ellipse", "heart"), score.per_group.values(), strict=False))
    return {"mean": score.mean, **per_shape}


def plain_dci(score: DCI, factors: tuple[str, ...]) -> dict[str, Any]:
    """The scores as plain values, per factor by name."""
    return {
        "disentanglement": score.disentanglement,
        "completeness": score.completeness,
        "uninformativeness": score.uninformativeness,
        "disentanglement_per_code": score.disentanglement_per_code.tolist(),
        "completeness_per_factor": dict(zip(factors, score.completeness_per_factor.tolist(), strict=True)),
        "uninformativeness_per_factor": dict(zip(factors, score.uninformativeness_per_factor.tolist(), strict=True)),
        "importance": score.importance.tolist(),
    }
