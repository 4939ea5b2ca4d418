"""`pipe cluster`: noisy pairs of samples that are alike."""

from __future__ import annotations

from typing import Annotated

from gated_vae.pairing.rules import Rule, forms
from gated_vae.pipelines.options import AsJson, Device, Draws, Overwrite, Scheduler, Seed, StorePath, option

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
    rows: dict[str, object] = {"store": store}
    for report in reports:
        done = " (was there already)" if report.already_done else ""
        done += ": one cluster, random partners" if report.k == 1 else ""
        fewer = ": perhaps there are fewer different values" if report.empty else ""
        found = {
            "clusters": f"{report.k:,} by {', '.join(report.shared)}{done}",
            "inertia": report.inertia,
            "singletons": f"{report.merged:,} samples, merged into the nearest group; {report.empty:,} clusters empty{fewer}",
            "group sizes": report.sizes,
            **{f"same {name}": share for name, share in report.same.items()},
            "pairs": console.grid(
                ["", "unit", "apart", "random pairs apart", "correlation"],
                [[name, it.unit, it.apart, it.apart_random, it.correlation] for name, it in report.quality.items()],
            ),
        }
        rows |= {f"{report.name} {key}": value for key, value in found.items()}
    rows["pairs"] = f'pandas.read_parquet("{store / "pairs"}")'
    console.show(reports, rows, as_json=as_json)
