"""`pipe cluster`: noisy pairs of samples that are alike."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from gated_vae.pairing.rules import Rule, forms
from gated_vae.pipelines.options import AsJson, Device, Draws, Overwrite, Scheduler, Seed, StorePath, option

if TYPE_CHECKING:
    from gated_vae.pairing.cluster import ClusterReport

_DEFAULT = "the paper's density"


def cluster(
    store: StorePath,
    pose: Annotated[
        int | None,
        option(
            "Number of pose clusters (pitch and yaw); more make partners closer, and fewer to choose from.",
            _DEFAULT,
            min=1,
            metavar="K",
        ),
    ] = None,
    expression: Annotated[
        int | None,
        option(
            "Number of expression clusters (action units); more make partners closer, and fewer to choose from.",
            _DEFAULT,
            min=1,
            metavar="K",
        ),
    ] = None,
    near: Annotated[
        list[str] | None,
        option(
            "Cluster by other columns of numbers, once for each partition; COLUMN@360 begins anew after 360, as angles do.",
            metavar="NAME=COLUMN[,...][:K]",
        ),
    ] = None,
    rule: Annotated[
        str,
        option(
            "How a partner is drawn: any member of the cluster; so that the other partitions' labels, cut into N strata, are"
            " independent of the input's, where labels depend on each other; or one of the N nearest members.",
            metavar=forms(),
        ),
    ] = "uniform",
    draws: Draws = 8,
    seed: Seed = 0,
    device: Device = "auto",
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", help="Say of every column how alike pairs are, and how large groups are: to choose K."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pair samples that are alike: in head pose, in expression, or in other columns of numbers.

    They are grouped by K-Means; partners are drawn within the groups.

    Example: pipe cluster store --pose 90 --expression 145 --rule independent:8
    """
    chosen = Rule.parse(rule)

    from gated_vae.pairing.cluster import ClusterOptions, cluster_store, parse_near
    from gated_vae.pipelines import console
    from gated_vae.preprocessing.scheduler.dask import dashboard

    labels, clusters = parse_near(near or [])
    clusters |= {name: k for name, k in {"pose": pose, "expression": expression}.items() if k is not None}
    options = ClusterOptions(clusters, labels, chosen, draws, seed, device)
    if scheduler is not None:
        console.say(dashboard(scheduler))
    with console.progress("cluster", "pairs") as update:
        reports = cluster_store(store, options, overwrite=overwrite, scheduler=scheduler, progress=update)
    rows = {"store": store, **{report.name: _line(report) for report in reports}}
    alike = console.grid(
        ["", "labels they share", "other labels", *(f"same {name}" for name in reports[0].same)],
        [[it.name, *_correlations(it), *(f"{share:.1%}" for share in it.same.values())] for it in reports],
    )
    tables = {"How alike pairs are, as a correlation of labels: 1 is equal, 0 is random": alike}
    if verbose:
        for report in reports:
            sizes = ", ".join(f"{count:,} of {size}" for size, count in report.sizes.items() if count)
            rows |= {f"{report.name} inertia": report.inertia, f"{report.name} groups": f"{sizes} members"}
            tables[f"{report.name}: pairs by column"] = console.grid(
                ["", "unit", "apart", "random pairs apart", "correlation"],
                [[name, it.unit, it.apart, it.apart_random, it.correlation] for name, it in report.quality.items()],
            )
    rows["pairs"] = f'pandas.read_parquet("{store / "pairs"}")'
    console.show(reports, rows, as_json=as_json, tables=tables)


def _line(report: ClusterReport) -> str:
    """A partition in one line: its clusters, and what is not as it should be."""
    first, *others = report.shared
    by = ", ".join(report.shared) if len(others) < 3 else f"{first} ... {others[-1]} ({len(report.shared)} columns)"
    notes = {
        "was there already": report.already_done,
        "partners are random, ask for more": report.k == 1,
        f"singleton clusters merged: {report.merged:,}": report.merged,
        f"{report.empty:,} clusters empty: perhaps there are fewer different values": report.empty,
    }
    return "; ".join(
        [f"{report.k:,} cluster{'s' * (report.k > 1)} by {by}", *(note for note, holds in notes.items() if holds)]
    )


def _correlations(report: ClusterReport) -> list[str]:
    """The mean correlation of what pairs share, and the mean size of that of all else."""
    shared = [it.correlation for it in report.quality.values() if it.shared and it.correlation is not None]
    others = [abs(it.correlation) for it in report.quality.values() if not it.shared and it.correlation is not None]
    return [f"{fmean(values):.2f}" if values else "-" for values in (shared, others)]
