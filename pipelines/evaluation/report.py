"""The report of a run: what it is, what was measured and what it looks like, in one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gated_vae.models.registry import METHODS, OBJECTIVES, describe
from gated_vae.pipelines.evaluation import html
from gated_vae.pipelines.evaluation.pictures import draw_pairs, draw_reconstructions, draw_swaps, draw_traversals
from gated_vae.pipelines.training.run import Run
from gated_vae.preprocessing.files import write_bytes
from gated_vae.preprocessing.store import Store

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """Where the report is, how large it is in bytes, and whether it holds scores."""

    path: Path
    size: int
    has_scores: bool


def write_report(run: Run) -> Report:
    """Draw a run's pictures and write them with its scores to ``report.html``.

    Raises
    ------
    GatedVAEError
        When the run has no checkpoint, or its store is gone or was replaced.
    """
    store = run.store()
    scores = run.read_metrics().get("evaluate")
    sections = [_facts(run, store), _scores(scores), *_pictures(run, store)]
    page = html.page(f"Run {run.path.resolve().name}", sections)
    path = run.path / "report.html"
    write_bytes(path, page)
    return Report(path, len(page), scores is not None)


def _facts(run: Run, store: Store) -> str:
    config, trained = run.config, run.read_metrics().get("train", {})
    model, latest = config.model, run.latest()
    length = f"{config.steps:,} steps" if config.steps else f"{config.epochs:,} epochs"
    done = "" if trained else ", not finished"
    rows: dict[str, object] = {
        "store": f"{store.kind}, {len(store):,} images of {'x'.join(map(str, model.image_shape))} pixels ({store.path})",
        "pairs": "; ".join(f"{name}: {_made(made)}" for name, made in store.partitions.items()),
        "latent": ", ".join(f"{name} {size}" for name, size in model.latent.items()),
        "method": describe(METHODS, model.method),
        "objective": f"{describe(OBJECTIVES, model.objective)}, {model.network} network",
        "training": f"{length}, batch {config.batch_size}, rate {config.lr:g} {config.schedule},"
        f" {config.precision}, seed {config.seed}",
        "weights": f"step {latest.step:,}{done}" if latest else "none",
    }
    for name, losses in trained.get("losses", {}).items():
        rows[f"last losses, {name}"] = ", ".join(f"{term} {value:.1f}" for term, value in losses.items()) + " nats"
    return html.facts(rows)


def _made(record: Values) -> str:
    """How a partition's pairs were made, in a few words."""
    if record["method"] == "exact":
        return f"equal in {', '.join(record['shared'])}"
    return f"{record.get('k', 'some')} clusters, partners {record.get('rule', 'uniform')}"


def _scores(scores: Values | None) -> str:
    if scores is None:
        return html.section("Scores", html.note("None yet: run `pipe evaluate` on the run, then `pipe report` again."))
    parts = _face_scores(scores) if "r2" in scores else _factor_scores(scores)
    names = ("disentanglement", "completeness", "uninformativeness")
    dci = {name: {key: score[key] for key in names} for name, score in scores["dci"].items()}
    return html.section("Scores", *parts, html.table("DCI, from posterior means", dci))


def _factor_scores(scores: Values) -> list[str]:
    return [
        html.note(f"{scores['samples']:,} random images; a quarter of them judge."),
        html.table("R2 of each factor by partition (random forest, posterior means)", scores["partition_r2"]),
        html.table("R2 from a factor's own partition less the best other's", {"score": scores["partition_score"]}),
    ]


def _face_scores(scores: Values) -> list[str]:
    left_out = f" Left out, as constant: {', '.join(scores['constant'])}." if scores["constant"] else ""
    judge = "the truth" if scores["judged_by"] == "truth" else "OpenFace's labels"
    who = f"{scores['held_out']:,} of {scores['images']:,} images judge, by {judge}. Split {scores['split_by']}.{left_out}"
    short = scores["summary"]["ridge"]["sample"]
    titles = {"own": "own partition", "other": "best other", "all": "whole latent", "score": "own less other"}
    columns = {title: {name: found[key] for name, found in short.items()} for key, title in titles.items()}
    parts = [html.note(who), html.table("Mean R2 of a partition's factors (ridge, posterior samples)", columns)]
    for codes in ("sample", "mean"):
        parts.append(
            html.table(f"R2 of each factor by partition (ridge, posterior {codes}s)", scores["r2"]["ridge"][codes])
        )
    if scores["swap"] is not None:
        names = {
            "by_readout": "nearer in read-outs",
            "by_labels": "nearer in labels",
            "unswapped_by_labels": "the same, not swapped",
        }
        rows = {names[key]: value for key, value in scores["swap"].items() if key in names}
        keys = {"pose": "A's pose", "expression": "B's expression", "both": "both"}
        shares = {title: {name: found[key] for name, found in rows.items()} for key, title in keys.items()}
        parts.append(html.table(f"Swap test: shares of {scores['swap']['pairs']:,} pairs", shares))
    error = scores["reconstruction"]
    rmse = f"{error['rmse']:.3f}; the mean image in its stead would have {error['rmse_of_mean_image']:.3f}."
    return [*parts, html.note(f"Reconstruction: root mean squared error per pixel (0..1) {rmse}")]


def _pictures(run: Run, store: Store) -> list[str]:
    traversals = draw_traversals(run)
    swaps = draw_swaps(run)
    pairs = draw_pairs(store, run.figures / "pairs.png")
    hinton = run.figures / "hinton_random_forest.png"
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
    return [
        html.section(title, html.note(text), html.picture(path.read_bytes(), title))
        for title, text, path in shown
        if path is not None and path.exists()
    ]
