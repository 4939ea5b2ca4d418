"""`pipe cluster`: noisy pairs from pose and expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.options import AsJson, Device, Draws, Overwrite, Scheduler, Seed, StorePath

if TYPE_CHECKING:
    from pairing.cluster import ClusterReport


def cluster(
    store: StorePath,
    pose: Annotated[int, typer.Option(min=1, help="Pose clusters (pitch and yaw).")] = 2500,
    expression: Annotated[int, typer.Option(min=1, help="Expression clusters (action unit intensities).")] = 4000,
    draws: Draws = 8,
    seed: Seed = 0,
    device: Device = "auto",
    scale: Annotated[
        str, typer.Option(help="none, or std: divide every column by its standard deviation first.")
    ] = "none",
    strata: Annotated[
        int, typer.Option(min=1, help="Above 1: partners independent of the other partition's labels.")
    ] = 1,
    other_person: Annotated[bool, typer.Option("--other-person", help="Avoid partners of the same identity.")] = False,
    train_sample: Annotated[
        int, typer.Option(min=2, help="Of a larger store, so many samples decide the clusters; all are assigned.")
    ] = 1 << 20,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Group faces alike in head pose, and faces alike in expression, and draw pairs within the groups.

    Example: pipe cluster store --pose 90 --expression 145
    """
    from pairing.cluster import ClusterOptions, cluster_store
    from pipelines import console

    options = ClusterOptions(pose, expression, draws, seed, device, scale, strata, other_person, train_sample)
    reports = cluster_store(store, options, overwrite=overwrite, scheduler=scheduler, progress=console.say)
    rows: dict[str, object] = {"store": store}
    for report in reports:
        rows |= {f"{report.name} {key}": value for key, value in _describe(report).items()}
    rows["pairs"] = f'pandas.read_parquet("{store / "pairs"}")'
    console.show(reports, rows, as_json=as_json)


def _describe(report: ClusterReport) -> dict[str, object]:
    from pipelines import console

    done = " (was there already)" if report.already_done else ""
    quality = [
        [column, found.unit, found.apart, found.apart_random, found.correlation]
        for column, found in report.quality.items()
    ]
    return {
        "clusters": f"{report.k:,} by {', '.join(report.columns)}{done}",
        "inertia": report.inertia,
        "left alone": f"{report.merged:,} samples, merged into the nearest group; {report.empty:,} clusters empty",
        "group sizes": report.sizes,
        "same person": report.same_person,
        "pairs": console.grid(
            ["", "unit", "apart", "random pairs apart", "correlation"], [list(row) for row in quality]
        ),
    }
