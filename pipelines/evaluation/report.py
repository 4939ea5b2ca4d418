"""The report of a run: what it is, what was measured and what it looks like, in one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gated_vae.models.registry import LIKELIHOODS, METHODS, OBJECTIVES, describe
from gated_vae.pairing.partition import pairs_made
from gated_vae.pipelines.evaluation import html
from gated_vae.pipelines.evaluation.opened import OpenRun
from gated_vae.pipelines.evaluation.pictures import draw_pairs, draw_reconstructions, draw_swaps, draw_traversals
from gated_vae.pipelines.evaluation.scores import Scores
from gated_vae.preprocessing.files import ending_of, read_picture, write_bytes

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """Where the report is, how large it is in bytes, and whether it holds scores."""

    path: Path
    size: int
    has_scores: bool


def write_report(run: OpenRun, path: Path | None = None) -> Report:
    """Draw a run's pictures and write them with its scores to ``report.html`` where its results go, or to `path` alone.

    Raises
    ------
    GatedVAEError
        When the run has no checkpoint, or its store is gone or was replaced.
    """
    page_path = path or run.files.written / "report.html"
    ending_of(page_path, ("html",))
    metrics, scores = run.files.read_metrics(), Scores.of(run.files)
    hinton = run.files.figures / "hinton_random_forest.png" if scores and scores.values["dci"] else None
    with TemporaryDirectory() as scratch:
        drawn = run if path is None else run.writing_to(Path(scratch))
        sections = [_facts(drawn, metrics.get("train", {})), _scores(scores), *_pictures(drawn, hinton)]
    page = html.page(f"Run {run.files.path.resolve().name}", sections)
    write_bytes(page_path, page)
    return Report(page_path, len(page), scores is not None)


def _facts(run: OpenRun, trained: Values) -> str:
    config, store = run.files.config, run.store
    model, kept = config.model, run.files.kept()
    length = f"{config.steps:,} steps" if config.steps else f"{config.epochs:,} epochs"
    done = "" if trained else ", not finished"
    rows: dict[str, object] = {
        "store": f"{store.kind}, {len(store):,} images of {'x'.join(map(str, model.image_shape))} pixels ({store.path})",
        "pairs": "; ".join(f"{name}: {pairs_made(made)}" for name, made in store.partitions.items()),
        "latent": ", ".join(f"{name} {size}" for name, size in model.latent.items()),
        "method": describe(METHODS, model.method),
        "objective": f"{describe(OBJECTIVES, model.objective)}, {describe(LIKELIHOODS, model.likelihood)} likelihood,"
        f" {model.network} network",
        "training": f"{length}, batch {config.batch_size}, learning rate {config.lr:g} {config.schedule},"
        f" {config.precision}, seed {config.seed}",
        "weights": f"step {kept.step:,}{done}",
    }
    for name, losses in trained.get("losses", {}).items():
        rows[f"last losses, {name}"] = ", ".join(f"{term} {value:.1f}" for term, value in losses.items()) + " nats"
    if valid := trained.get("valid"):
        rows["validation loss"] = (
            f"{valid['history'][str(valid['best'])]:.1f} nats at its lowest, step {valid['best']:,}"
        )
    return html.facts(rows)


def _scores(scores: Scores | None) -> str:
    if scores is None:
        return html.section("Scores", html.note("None yet: run `pipe evaluate` on the run, then `pipe report` again."))
    return html.section("Scores", html.facts(scores.facts()), *map(html.table, scores.tables()))


def _pictures(run: OpenRun, hinton: Path | None) -> list[str]:
    traversals = draw_traversals(run)
    swaps = draw_swaps(run)
    pairs = draw_pairs(run.store, run.files.figures / "pairs.png") if run.store.partitions else None
    shown = [
        (
            "Traversals",
            f"Each row moves one latent dimension around image {traversals.sample}, the busiest first; KL divergence beside it.",
            traversals.path,
        ),
        ("Swaps", "Rows decide the first partition, columns the second.", swaps),
        ("Pairs", "Images beside what each partition paired them with: this is all the supervision there is.", pairs),
        (
            "Reconstructions",
            "Decoded from posterior means; a gated model aims at the target.",
            draw_reconstructions(run),
        ),
        ("Importance", "How much each latent dimension matters to each factor (random forest).", hinton),
    ]
    remedy = f"Remove it, then run `pipe evaluate {run.files.path}` again."
    return [
        html.section(title, html.note(text), html.picture(read_picture(path, remedy), title))
        for title, text, path in shown
        if path is not None and path.exists()
    ]
