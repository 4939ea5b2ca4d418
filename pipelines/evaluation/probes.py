"""Probes: what codes tell of known factors, or of pose and action units on held-out people.

The network was trained on all images of the store, without their labels; only probes are fitted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gated_vae.models.metrics import (
    Split,
    beta_vae,
    circular_uninformativeness,
    dci,
    factor_vae,
    irs,
    mig,
    modularity,
    partition_accuracy,
    partition_r2,
    partition_scores,
    sap,
)
from gated_vae.models.metrics.partition import FULL
from gated_vae.pipelines.evaluation.labels import (
    FEWEST_IMAGES,
    FaceLabels,
    no_labels,
    owner_of,
    random_ids,
    read_labels,
)
from gated_vae.pipelines.evaluation.opened import Codes, OpenRun
from gated_vae.pipelines.evaluation.scores import (
    BOOSTED,
    CHANCE,
    ONE_PARTITION,
    OTHERS,
    PUBLISHED,
    Columns,
    Scores,
    summarise,
)
from gated_vae.pipelines.evaluation.swap import swap_test
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.progress import Progress, ignore
from gated_vae.preprocessing.store import REBUILD, Store, samples_path

FACES, SPRITES = 20_000, 10_000  # how many images are encoded, at most
PROBES = ("ridge", "random_forest")
REGRESSORS = ("lasso", "random_forest")  # of DCI
GRID_REGRESSORS = (BOOSTED, "random_forest", "lasso")
FEWER = (2_500, 1_250)  # images that gradient boosting is fitted and judged on, unless there are `PUBLISHED`
# Of a grid's factors, those whose classes are in no order.
CLASSES = ("shape", "object_shape", "object_color", "background_color")
SYMMETRY = {"square": 4, "ellipse": 2, "heart": 1}  # dSprites: turns by which a shape looks the same in a full circle
STEP = 2 * np.pi / 39  # radians between rotation classes of dSprites

Factors = npt.NDArray[np.int64]


def evaluate(
    run: OpenRun,
    *,
    samples: int | None = None,
    seed: int = 0,
    truth: Path | None = None,
    progress: Progress = ignore,
) -> Scores:
    """Score a run by its store's factors where they are known exactly and images are enough, else as one of faces.

    `GatedVAEError` as of `evaluate_faces`, or where a truth is given for exact factors.
    """
    if "factors" not in run.store.manifest or len(run.store) < FEWEST_IMAGES:
        return evaluate_faces(run, samples=samples or FACES, seed=seed, truth=truth, progress=progress)
    if truth is not None:
        raise UsageError("--truth is for faces.", "This run's store has exact factors.", "Leave it out.")
    return evaluate_factors(run, samples=samples or SPRITES, seed=seed, progress=progress)


def evaluate_factors(
    run: OpenRun,
    *,
    samples: int = SPRITES,
    seed: int = 0,
    regressors: Sequence[str] = GRID_REGRESSORS,
    progress: Progress = ignore,
) -> Scores:
    """Encode random images and score their codes, posterior means, against the exactly known factors of the store.

    Parameters
    ----------
    regressors:
        Which of DCI's; gradient boosting takes most of the time, and fewer of the images (see `boosted_split`).
    """
    progress(0, 3, "encoding")
    codes, factors = encode_sample(run, samples, seed)
    names = tuple(run.store.manifest["factors"])
    shared_by = sharers(run.store, names, run.partitions)
    owner = {factor: partitions[0] for factor, partitions in shared_by.items() if partitions}
    table, left_out = None, {}
    progress(1, 3, "partitions")
    if len(run.partitions) < 2 or not owner:
        left_out["partition scores"] = ONE_PARTITION if owner else "no partition shares a factor"
    else:
        table = partition_scores(
            codes.mean,
            factors[:, [names.index(name) for name in owner]],
            run.partitions,
            owner,
            sharers=shared_by,
            regressor="random_forest",
            seed=seed,
        )
    progress(2, 3, "DCI, by gradient boosting first")
    boosted = boosted_split(len(factors), seed)
    splits = {name: boosted if name == BOOSTED else None for name in regressors}
    shared = _shared_values(codes.mean, factors, seed)
    left_out |= {
        OTHERS[name]: "too few images share a factor's value" for name, score in shared.items() if score is None
    }
    return Scores(
        {
            "samples": len(factors),
            "codes": "posterior means",
            "constant": [name for name, column in zip(names, factors.T, strict=True) if (column == column[0]).all()],
            "dci": score_dci(codes, factors, names, splits, seed=seed),
            "boosted": [len(rows) for rows in (boosted.train, boosted.test)],
            "rotation_circular": _rotation(codes.mean, factors, names, seed) if run.store.kind == "dsprites" else None,
            "partition_r2": by_partition(table.r2, run.partitions, table.factors) if table else {},
            "partition_score": table.per_factor if table else {},
            "mig": mig(codes.mean, factors).score,
            "sap": sap(codes.mean, factors, classes=[names.index(name) for name in CLASSES if name in names]).score,
            "modularity": modularity(codes.mean, factors).score,
            "irs": irs(codes.mean, factors).score,
            **shared,
            "kl": codes.kl(),
            "left_out": left_out,
        }
    )


def encode_sample(run: OpenRun, samples: int, seed: int) -> tuple[Codes, Factors]:
    """Codes and factor classes (n, K) of random images of a store with a factor grid."""
    store = run.store
    ids = random_ids(samples, len(store), seed)
    sizes: dict[str, int] = store.manifest["factors"]
    table = store.sample_columns([*sizes])
    for name, size in sizes.items():
        if table[name].dtype.kind not in "iu" or not table[name].between(0, size - 1).all():
            why = f"Its {name} is not one of {size} classes, 0 to {size - 1}, in every row."
            raise GatedVAEError(f"{samples_path(store.path)} cannot be used.", why, REBUILD)
    return run.encode(store.images, ids), table.to_numpy(np.int64)[ids]


def sharers(store: Store, factors: tuple[str, ...], partitions: Iterable[str]) -> dict[str, list[str]]:
    """Factor -> all of `partitions` whose pairs share it, in order: the first is the one that it belongs to."""
    shares = {name: store.shared(name) for name in partitions if name in store.partitions}
    return {factor: [name for name, shared in shares.items() if factor in shared] for factor in factors}


def _shared_values(codes: npt.NDArray[np.float32], factors: Factors, seed: int) -> dict[str, float | None]:
    """The scores that hold a factor's value; None where too few images share one, or all are alike."""
    scores: dict[str, float | None] = {"factor_vae": None, "beta_vae": None}
    with suppress(ValueError):
        scores["beta_vae"] = beta_vae(codes, factors, seed=seed)
        scores["factor_vae"] = factor_vae(codes, factors, seed=seed).score
    return scores


def boosted_split(n: int, seed: int) -> Split:
    """Which of n random images gradient boosting is fitted and judged on: as published, 10,000 and 5,000, where there are so many.

    Else 2,500 and 1,250 at most, as its time goes with classes and images: 5 factors of dSprites take 47 s of one processor
    instead of 200 s.
    """
    most = PUBLISHED if n >= sum(PUBLISHED) else FEWER
    order = np.random.default_rng(seed).permutation(n)
    fitted = min(most[0], 2 * n // 3)
    return Split(order[:fitted], order[fitted : fitted + most[1]])


def _rotation(
    codes: npt.NDArray[np.float32], factors: Factors, names: tuple[str, ...], seed: int
) -> dict[str, float] | None:
    """Circular uninformativeness: the mean over the shapes, and of each; None without a rotation."""
    if not {"shape", "orientation"} <= set(names):
        return None
    shape, angle = factors[:, names.index("shape")], factors[:, names.index("orientation")] * STEP
    orders = np.array([*SYMMETRY.values()])[shape]
    score = circular_uninformativeness(codes, angle, order=orders, groups=shape, seed=seed)
    return {"mean": score.mean, **dict(zip(SYMMETRY, score.per_group.values(), strict=False))}


def evaluate_faces(
    run: OpenRun,
    *,
    samples: int = FACES,
    seed: int = 0,
    truth: Path | None = None,
    probes: Sequence[str] = PROBES,
    regressors: Sequence[str] = REGRESSORS,
    progress: Progress = ignore,
) -> Scores:
    """Encode faces and predict pitch, yaw and each action unit from each partition and from the full latent.

    Where the store's labels will not do, what needs them is left out.

    `GatedVAEError` when a truth is given that will not do (see `read_labels`).

    Parameters
    ----------
    samples:
        How many images at most, at random.
    truth:
        Where the true values are (simulated faces); by default the store's labels judge.
    probes, regressors:
        Which probes, and which of DCI's regressors; forests take most of the time.
    """
    left_out = {"own - other": ONE_PARTITION} if len(run.partitions) < 2 else {}
    try:
        labels = read_labels(run.store, samples, seed=seed, truth=truth)
    except GatedVAEError as error:
        if truth is not None:
            raise
        left_out = {"probes, DCI, swap test": f"{error.what} {error.why}"}
        labels = no_labels(run.store, samples, seed=seed)
    left_out |= labels.left_out
    progress(0, 4, "encoding")
    codes = run.encode(run.store.images, labels.ids)
    scores: dict[str, Any] = {
        "images": len(labels.ids),
        "held_out": len(labels.split.test),
        "judged_by": labels.source,
        "split_by": labels.split_by,
        "people": "of another store" if run.other else labels.people,
        "constant": list(labels.constant),
        "left_out": left_out,
        **{name: {} for name in ("r2", "summary", "dci", "accuracy", "circular")},
        "reconstruction": _reconstruction(run, codes, labels),
        "swap": None,
        "kl": codes.kl(),
    }
    if labels.factors:
        progress(1, 4, "probes")
        r2 = probe_faces(codes, labels, run.partitions, probes=probes, seed=seed)
        owners = {factor: owner_of(factor, run.store) for factor in labels.factors}
        owner = {factor: partition for factor, partition in owners.items() if partition}
        summary = {
            name: {kind: summarise(table, owner) for kind, table in by_codes.items()} for name, by_codes in r2.items()
        }
        progress(2, 4, "DCI")
        dci = score_dci(codes, labels.values, labels.factors, dict.fromkeys(regressors, labels.split), seed=seed)
        progress(3, 4, "swaps")
        scores |= {"r2": r2, "summary": summary, "dci": dci, "swap": swap_test(run, codes, labels, seed=seed)}
    return Scores(scores | probe_others(codes, labels, run.partitions, seed=seed))


def probe_others(codes: Codes, labels: FaceLabels, partitions: Mapping[str, slice], *, seed: int) -> dict[str, Columns]:
    """Predict classes and angles from each partition and from the full latent, posterior means.

    Returns
    -------
    ``accuracy``: partition -> class label -> balanced accuracy, and ``chance`` -> what guessing gives; ``circular``: partition ->
    angle -> error, 0 exact and 1 no better than the mean (see `circular_uninformativeness`).
    """
    accuracy: dict[str, dict[str, float]] = {name: {} for name in (*partitions, FULL, CHANCE) if labels.classes}
    for label, classes in labels.classes.items():
        found = partition_accuracy(codes.mean, classes, partitions, seed=seed, split=labels.split)
        known = np.intersect1d(classes[labels.split.train], classes[labels.split.test])
        for name, value in zip((*partitions, FULL, CHANCE), [*found.tolist(), 1 / len(known)], strict=True):
            accuracy[name][label] = value
    circular: dict[str, dict[str, float]] = {name: {} for name in (*partitions, FULL) if labels.angles}
    for label, angle in labels.angles.items():
        for name, part in {**partitions, FULL: slice(None)}.items():
            error = circular_uninformativeness(codes.mean[:, part], angle, order=1, seed=seed, split=labels.split)
            circular[name][label] = error.mean
    return {"accuracy": accuracy, "circular": circular}


def probe_faces(
    codes: Codes,
    labels: FaceLabels,
    partitions: Mapping[str, slice],
    *,
    probes: Sequence[str] = PROBES,
    seed: int = 0,
) -> dict[str, dict[str, Columns]]:
    """Predict every factor from each partition and from the full latent: probe -> sample or mean -> partition -> factor -> R2.

    `sample` is one draw from each posterior, which is what the decoder is trained on, `mean` its mean, which a probe may rescale.
    """
    found: dict[str, dict[str, Columns]] = {probe: {} for probe in probes}
    for probe in probes:
        for kind, given in (("sample", codes.sample(seed)), ("mean", codes.mean)):
            r2 = partition_r2(given, labels.values, partitions, regressor=probe, seed=seed, split=labels.split)
            found[probe][kind] = by_partition(r2, partitions, labels.factors)
    return found


def by_partition(r2: npt.NDArray[np.float64], partitions: Iterable[str], factors: Sequence[str]) -> Columns:
    """Partition, or the full latent -> factor -> held-out R2, of what `partition_r2` gives."""
    return {
        name: dict(zip(factors, line, strict=True)) for name, line in zip((*partitions, FULL), r2.tolist(), strict=True)
    }


def score_dci(
    codes: Codes,
    factors: npt.NDArray[Any],
    names: Sequence[str],
    splits: Mapping[str, Split | None],
    *,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Regressor -> DCI of posterior means and factors (n, K) as plain values, per factor by name.

    `splits` says what each regressor is fitted and judged on; where it is None, three quarters and the others, at random.
    """
    found = {}
    for regressor, split in splits.items():
        score = dci(codes.mean, factors, regressor, seed=seed, split=split)  # type: ignore[arg-type]
        errors, completeness = score.uninformativeness_per_factor.tolist(), score.completeness_per_factor.tolist()
        found[regressor] = {
            "disentanglement": score.disentanglement,
            "completeness": score.completeness,
            "uninformativeness": score.uninformativeness,
            "disentanglement_per_code": score.disentanglement_per_code.tolist(),
            "completeness_per_factor": dict(zip(names, completeness, strict=True)),
            "uninformativeness_per_factor": dict(zip(names, errors, strict=True)),
            "importance": score.importance.tolist(),
        }
    return found


def _reconstruction(run: OpenRun, codes: Codes, labels: FaceLabels) -> dict[str, float]:
    """Errors of held-out images decoded from their means, and of the mean training image in their stead."""
    train, test = labels.split.train, labels.split.test
    pixels = np.asarray(run.store.images)
    images = pixels[labels.ids[test]] / 255
    mean_image = pixels[labels.ids[train]].mean(axis=0, dtype=np.float64) / 255
    return {"rmse": _rmse(images, run.decode(codes.mean[test])), "rmse_of_mean_image": _rmse(images, mean_image)}


def _rmse(images: npt.NDArray[Any], guess: npt.NDArray[Any]) -> float:
    return float(np.sqrt(np.square(images - guess).mean(dtype=np.float64)))
