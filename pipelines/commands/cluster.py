"""`pipe cluster`: noisy pairs from pose and expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gated_vae.pipelines.options import AsJson, Device, Draws, Overwrite, Scheduler, Seed, StorePath

if TYPE_CHECKING:
    from gated_vae.pairing.cluster import ClusterReport
    from gated_vae.pairing.groups.resolution import Choice


def cluster(
    store: StorePath,
    pose: Annotated[
        str, typer.Option(metavar="K|auto", help="Pose clusters (pitch and yaw); auto: see below.")
    ] = "2500",
    expression: Annotated[
        str, typer.Option(metavar="K|auto", help="Expression clusters (action unit intensities); auto: see below.")
    ] = "4000",
    draws: Draws = 8,
    seed: Seed = 0,
    device: Device = "auto",
    scale: Annotated[
        Literal["none", "std"], typer.Option(help="std divides every column by its standard deviation first.")
    ] = "none",
    strata: Annotated[
        int, typer.Option(min=1, help="Above 1: partners independent of the other partition's labels.")
    ] = 1,
    other_person: Annotated[bool, typer.Option("--other-person", help="Avoid partners of the same identity.")] = False,
    balanced: Annotated[
        int | None,
        typer.Option(min=3, help="Cut clusters of more members in halves, again and again.", show_default="any size"),
    ] = None,
    nearest: Annotated[
        int | None,
        typer.Option(min=1, help="Partners among the K nearest members of the cluster.", show_default="all members"),
    ] = None,
    confidence_weighted: Annotated[
        bool,
        typer.Option(
            "--confidence-weighted",
            help="Draw partners by OpenFace's detection confidence above 0.8 (at least 0.01): 0.983 is drawn 2.2 times as often as"
            " 0.883, as labels differ more where confidence is low.",
        ),
    ] = False,
    train_sample: Annotated[
        int, typer.Option(min=2, help="Of a larger store, so many samples decide the clusters; all are assigned.")
    ] = 1 << 20,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Pair faces alike in head pose, and faces alike in expression.

    They are grouped by K-Means; partners are drawn within the groups.

    With auto there are the fewest clusters whose partners lie no farther apart than OpenFace's labels of one face seen twice
    (measured on CelebA), and at most one per 20 faces.

    Example: pipe cluster store --pose 90 --expression 145
    """
    from gated_vae.pairing.cluster import ClusterOptions, cluster_store
    from gated_vae.pipelines import console

    options = ClusterOptions(
        pose=_clusters("--pose", pose),
        expression=_clusters("--expression", expression),
        draws=draws,
        seed=seed,
        device=device,
        scale=scale,
        strata=strata,
        other_person=other_person,
        balanced=balanced,
        nearest=nearest,
        confidence_weighted=confidence_weighted,
        train_sample=train_sample,
    )
    reports = cluster_store(store, options, overwrite=overwrite, scheduler=scheduler, progress=console.say)
    rows: dict[str, object] = {"store": store}
    for report in reports:
        rows |= {f"{report.name} {key}": value for key, value in _describe(report).items()}
    rows["pairs"] = f'pandas.read_parquet("{store / "pairs"}")'
    console.show(reports, rows, as_json=as_json)


def _clusters(option: str, value: str) -> int | str:
    """Read a number of clusters, or ``auto``."""
    if value == "auto":
        return value
    if not value.isdecimal() or int(value) < 1:
        raise typer.BadParameter(f"{value!r} is neither a whole number from 1 on nor auto.", param_hint=f"'{option}'")
    return int(value)


def _describe(report: ClusterReport) -> dict[str, object]:
    from gated_vae.pipelines import console

    done = " (was there already)" if report.already_done else ""
    quality = [
        [column, found.unit, found.apart, found.apart_random, found.correlation]
        for column, found in report.quality.items()
    ]
    chosen = {} if report.choice is None else {"chosen": _reason(report.choice)}
    return {
        "clusters": f"{report.k:,} by {', '.join(report.columns)}{done}",
        **chosen,
        "inertia": report.inertia,
        "left alone": f"{report.merged:,} samples, merged into the nearest group; {report.empty:,} clusters empty",
        "group sizes": report.sizes,
        "same person": report.same_person,
        "pairs": console.grid(
            ["", "unit", "apart", "random pairs apart", "correlation"], [list(row) for row in quality]
        ),
    }


def _reason(choice: Choice) -> str:
    """Say why so many clusters were chosen."""
    apart, repeated = f"partners lie {choice.apart:.3g} apart", f"labels of one face seen twice {choice.repeated:.3g}"
    if choice.apart <= choice.repeated:
        return f"{choice.k:,} clusters: {apart}, {repeated}"
    return f"{choice.k:,} clusters, the most that leaves 20 faces to each: {apart}, still more than {repeated}"
