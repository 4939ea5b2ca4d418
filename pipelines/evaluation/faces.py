"""Evaluation of faces: what each partition tells of pose and expression, on people the read-outs have not seen.

The network itself was trained on all images of the store, without their labels; only read-outs are fitted here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_vae.models.metrics import DCI, PartitionScores, dci, partition_scores
from gated_vae.models.vae import GatedVAE
from gated_vae.pipelines.evaluation.encoding import Codes, decode_codes, encode_images
from gated_vae.pipelines.evaluation.factors import kl_per_dimension, plain_dci
from gated_vae.pipelines.evaluation.labels import FaceLabels, owner_of, read_labels
from gated_vae.pipelines.evaluation.swap import SwapScores, swap_test
from gated_vae.pipelines.training.run import Run
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store

SAMPLES = 20_000
READOUTS = ("ridge", "random_forest")
DCI_REGRESSORS = ("lasso", "random_forest")
CODES = ("sample", "mean")

Row = dict[str, str | float]


@dataclass(frozen=True)
class Summary:
    """One partition's factors under one read-out, each a mean of R2 over them, negative R2 counted as 0.

    `own` is from their own partition, `other` from the best other one (factor by factor), `all` from the whole latent;
    `score` is own - other.
    """

    own: float
    other: float
    all: float
    score: float


@dataclass(frozen=True)
class FaceScores:
    """Scores of one run on `images` faces, `held_out` of which judge.

    Attributes
    ----------
    judged_by:
        ``labels`` (OpenFace's) or ``truth``.
    split_by:
        How images to fit on and to judge on were told apart.
    factors, constant:
        What was predicted, and what could not be as it never changes.
    tables:
        (read-out, codes) -> held-out R2 by partition and factor. Read-outs are ridge and random_forest; codes are one draw
        from each posterior (sample), which is what the decoder is trained on, or its mean, which a read-out may rescale.
    dci:
        Regressor -> the scores over all factors, from means.
    reconstruction:
        Root of the mean squared error per pixel, pixels in 0..1, of held-out images decoded from their means (`rmse`), and of
        the mean training image in their stead (`rmse_of_mean_image`).
    swap:
        The swap test; None where there is no pose or no expression to swap.
    kl:
        KL(q(z|x) || prior) of every latent dimension, in nats.
    """

    images: int
    held_out: int
    judged_by: str
    split_by: str
    factors: tuple[str, ...]
    constant: tuple[str, ...]
    tables: dict[tuple[str, str], PartitionScores]
    dci: dict[str, DCI]
    reconstruction: dict[str, float]
    swap: SwapScores | None
    kl: list[float]

    def summary(self, readout: str, codes: str) -> dict[str, Summary]:
        """Sum up one table, by the partition that factors belong to; those whose partition does not exist are left out."""
        table = self.tables[readout, codes]
        floored = dict(zip(table.partitions, np.maximum(table.r2, 0.0), strict=True))
        owners = np.array([owner_of(factor) for factor in self.factors])
        found = {}
        for name in dict.fromkeys(owners):
            if name in table.partitions:
                mine = owners == name
                others = [r2[mine] for other, r2 in floored.items() if other not in (name, "all")]
                own, other = float(floored[name][mine].mean()), float(np.max(others, axis=0).mean())
                found[str(name)] = Summary(own, other, float(floored["all"][mine].mean()), own - other)
        return found

    def to_dict(self) -> dict[str, Any]:
        """As plain values for ``metrics.json``."""
        r2: dict[str, Any] = {}
        summaries: dict[str, Any] = {}
        for (readout, codes), table in self.tables.items():
            cells = r2.setdefault(readout, {}).setdefault(codes, {})
            for row in table.rows():
                cells.setdefault(row["partition"], {})[row["factor"]] = row["r2"]
            found = {name: asdict(summary) for name, summary in self.summary(readout, codes).items()}
            summaries.setdefault(readout, {})[codes] = found
        return {
            "images": self.images,
            "held_out": self.held_out,
            "judged_by": self.judged_by,
            "split_by": self.split_by,
            "constant": list(self.constant),
            "r2": r2,
            "summary": summaries,
            "dci": {name: plain_dci(score, self.factors) for name, score in self.dci.items()},
            "reconstruction": self.reconstruction,
            "swap": None if self.swap is None else asdict(self.swap),
            "kl": self.kl,
        }


def evaluate_faces(
    run: Run,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    truth: Path | None = None,
    readouts: Sequence[str] = READOUTS,
    regressors: Sequence[str] = DCI_REGRESSORS,
) -> FaceScores:
    """Encode faces and predict pitch, yaw and each action unit from each partition and from the whole latent.

    Parameters
    ----------
    samples:
        How many images at most, at random.
    truth:
        Where the true values are (simulated faces); by default the store's labels judge.
    readouts, regressors:
        Which of the read-outs and of DCI's regressors; forests take most of the time.

    Raises
    ------
    GatedVAEError
        When the run has a single partition, or the labels will not do (see `read_labels`).
    """
    store, model = run.store(), run.model()
    if len(model.partitions) < 2:
        why = f"Its only partition is {', '.join(model.partitions)}."
        raise GatedVAEError(f"{run.path} has no partitions to tell apart.", why, "Train with two or more.")
    labels = read_labels(store, samples, seed=seed, truth=truth)
    codes = encode_images(model, store.images, labels.ids)
    return FaceScores(
        images=len(labels.ids),
        held_out=len(labels.split.test),
        judged_by=labels.source,
        split_by=labels.split_by,
        factors=labels.factors,
        constant=labels.constant,
        tables=read_tables(codes, labels, model.partitions, readouts=readouts, seed=seed),
        dci={
            name: dci(codes.mean, labels.values, name, seed=seed, split=labels.split)  # type: ignore[arg-type]
            for name in regressors
        },
        reconstruction=_reconstruction(model, store, codes, labels),
        swap=swap_test(model, codes, labels, seed=seed),
        kl=kl_per_dimension(codes),
    )


def read_tables(
    codes: Codes,
    labels: FaceLabels,
    partitions: dict[str, slice],
    *,
    readouts: Sequence[str] = READOUTS,
    seed: int = 0,
) -> dict[tuple[str, str], PartitionScores]:
    """Predict every factor from each partition and from all, by each read-out, from samples and from means."""
    # The table asks for an owner of each factor; where its own partition does not exist any will do: it enters no R2.
    stand_in = next(iter(partitions))
    owner = {factor: owner_of(factor) for factor in labels.factors}
    owner = {factor: name if name in partitions else stand_in for factor, name in owner.items()}
    given = {"sample": codes.sample(seed), "mean": codes.mean}
    return {
        (readout, kind): partition_scores(
            given[kind], labels.values, partitions, owner, regressor=readout, seed=seed, split=labels.split
        )
        for readout in readouts
        for kind in CODES
    }


def long_rows(scores: dict[str, Any]) -> Iterator[Row]:
    """One row per partition, factor, read-out and kind of codes, from what `FaceScores.to_dict` gave."""
    for readout, by_codes in scores["r2"].items():
        for codes, by_partition in by_codes.items():
            for partition, by_factor in by_partition.items():
                for factor, r2 in by_factor.items():
                    yield {"partition": partition, "factor": factor, "regressor": readout, "codes": codes, "r2": r2}


def _reconstruction(model: GatedVAE, store: Store, codes: Codes, labels: FaceLabels) -> dict[str, float]:
    train, test = labels.split.train, labels.split.test
    images = np.asarray(store.images)[labels.ids[test]] / 255
    mean_image = np.asarray(store.images)[labels.ids[train]].mean(axis=0, dtype=np.float64) / 255
    return {
        "rmse": _rmse(images, decode_codes(model, codes.mean[test])),
        "rmse_of_mean_image": _rmse(images, mean_image),
    }


def _rmse(images: npt.NDArray[Any], guess: npt.NDArray[Any]) -> float:
    return float(np.sqrt(np.square(images - guess).mean(dtype=np.float64)))
