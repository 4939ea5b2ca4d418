"""`pipe inspect`: what a store or a run holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gated_vae.pipelines.options import AsJson, StoreOrRun, is_run, option


def inspect(
    path: StoreOrRun,
    pairs: Annotated[
        Path | None,
        option("Draw images beside their partners, to see what pairs share: a .png, .jpg, .pdf or .svg.", "not drawn"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in a store or a run.

    Example: pipe inspect store --pairs pairs.png
    """
    if not is_run(path):
        _store(path, pairs, as_json=as_json)
    elif pairs is not None:
        raise typer.BadParameter("--pairs is for a store; `pipe report` shows a run's pairs.")
    else:
        _run(path, as_json=as_json)


def _store(path: Path, pairs: Path | None, *, as_json: bool) -> None:
    from gated_vae.pairing.partition import pairs_made
    from gated_vae.pipelines import console
    from gated_vae.preprocessing.store import open_store

    store = open_store(path)
    manifest = store.manifest
    shape = "x".join(map(str, manifest["image_shape"]))
    rows: dict[str, Any] = {
        "store": path,
        "kind": store.kind,
        "images": f"{len(store):,} of {shape} pixels, uint8",
        "taken + rejected": f"{manifest['taken']:,} + {manifest['rejected']:,} = {manifest['seen']:,} seen",
        "source": manifest["source_digest"],
        "made with": store.parameters,
    }
    if factors := manifest.get("factors"):
        rows["factors"] = factors
    if store.splits:
        rows["splits"] = {**store.splits, "none": len(store) - sum(store.splits.values())}
    for name, made in store.partitions.items():
        more = {key: value for key, value in made.items() if key in ("seed", "groups", "merged", "inertia")}
        rows[f"partition {name}"] = f"{pairs_made(made)}; {console.number(more)}"
    if not store.partitions:
        rows["partitions"] = "none yet: run `pipe cluster` or `pipe pair`"
    if pairs is not None:
        from gated_vae.pipelines.evaluation.pictures import draw_pairs

        rows["pairs"] = draw_pairs(store, pairs)
    console.show(manifest, rows, as_json=as_json)


def _run(path: Path, *, as_json: bool) -> None:
    from gated_vae.pipelines import console
    from gated_vae.pipelines.evaluation.scores import Scores
    from gated_vae.pipelines.training.run import open_run

    run = open_run(path)
    Scores.of(run)  # refused where they are none
    config, latest = run.config, run.latest()
    metrics = run.read_metrics()
    model = config.model.to_dict()
    learnt = run.model().scale if latest and config.model.likelihood.learns else None
    rows = {
        "run": path,
        "store": config.store,
        "latent": config.model.latent,
        "model": f"{model['network']}, method {model['method']}, objective {model['objective']}",
        "likelihood": model["likelihood"] + (f", learnt {learnt:.4f}" if learnt else ""),
        "training": f"{config.precision} on {config.device}, batch {config.batch_size}, seed {config.seed}",
        "learning rate": f"{config.lr:g} {config.schedule}",
        "weights used": config.keep,
        "checkpoint": f"step {latest.step:,}" if latest else "none yet",
        "finished": "train" in metrics,
        "measured": ", ".join(metrics) or "nothing yet",
    }
    console.show({"config": config.to_dict(), "metrics": metrics}, rows, as_json=as_json)
