"""`pipe reproduce`: the paper's results, at a stated scale."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gated_vae.pipelines.options import AsJson, Device, Precision, StorePath, one_of
from gated_vae.pipelines.training.presets import SCHEDULES

app = typer.Typer(no_args_is_help=True, help="Repeat published experiments at a stated scale.")


@app.callback()
def reproduce() -> None:
    """Repeat published experiments at a stated scale."""


@app.command("table1")
def table1(
    out: Annotated[Path, typer.Option(help="Folder for runs and results.")] = Path("out/table1"),
    store: Annotated[
        Path | None, typer.Option(help="Store of sprites; made when missing.", show_default="OUT/store")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every model.")] = 10,
    steps: Annotated[int, typer.Option(min=1, help="Steps of every run (the paper: 288,000).")] = 6000,
    lr: Annotated[float, typer.Option(help="Adam's rate (the paper: 1e-4).")] = 1e-3,
    schedule: Annotated[str, one_of(SCHEDULES, "How the learning rate goes on; cosine falls to 0.")] = "cosine",
    widths: Annotated[
        str | None, typer.Option(help="Hidden sizes (the paper states none).", show_default="the network's")
    ] = None,
    models: Annotated[str, typer.Option(help="Objectives.")] = "beta,info,dip2",
    gatings: Annotated[
        str,
        typer.Option(help="ungated, gated, exchange, exchange_open, partners, composed, composed_apart."),
    ] = "ungated,gated",
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="table1.parquet of other runs to add; repeat it for more.", show_default=False),
    ] = None,
    precision: Precision = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time.", show_default="one per core")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train and score the paper's models on dSprites; stopped, it goes on run by run.

    Writes OUT/table1.parquet, one row per run and regressor, and OUT/table1.md, the paper's four tables beside ours.

    Example: pipe reproduce table1 --seeds 1 --steps 500
    """
    import pandas as pd
    import pyarrow as pa

    from gated_vae.pipelines import console
    from gated_vae.pipelines.commands.train import read_hidden
    from gated_vae.pipelines.experiments.table1 import Schedule, jobs_of
    from gated_vae.pipelines.experiments.table1 import reproduce as run_all
    from gated_vae.pipelines.experiments.table1_report import KEY, markdown, merge
    from gated_vae.pipelines.training.processor import choose_device, choose_precision
    from gated_vae.preprocessing.files import write_bytes, write_parquet

    device = choose_device(device)
    hidden = read_hidden(widths) or Schedule.widths
    plan = Schedule(steps, lr, schedule, hidden, precision=choose_precision(precision, device))
    jobs = jobs_of(models.split(","), gatings.split(","), seeds)
    with console.progress("runs") as update:
        rows = run_all(jobs, plan, out, store=store, workers=workers, device=device, progress=update)
    results = merge([*map(pd.read_parquet, beside or []), pd.DataFrame(rows)])
    write_parquet(out / "table1.parquet", pa.Table.from_pandas(results, preserve_index=False), schema_version=1)
    scale = (
        "# Table 1\n\n"
        f"Ours: steps as stated (the paper: 50 epochs, 288,000 steps), batch {plan.batch_size}, Adam, rate"
        f" {Schedule.lr:g} {Schedule.schedule} (the paper: 1e-4) and hidden widths {','.join(map(str, Schedule.widths))} (the"
        f" paper states none) unless a row says otherwise, {plan.precision}, n seeds; intervals are 95% of the mean over seeds"
        " (Student's t). Codes are posterior means of 10,000 random images, a quarter of them held out; scores as in the paper"
        " (Lasso 0.02; random forest of 10 trees, depth 12; NRMSE).\n"
    )
    write_bytes(out / "table1.md", markdown(results, scale).encode())
    table = results.groupby([*KEY], sort=False)["disentanglement"].agg(["mean", "count"])
    grid = console.grid(
        ["", "D", "runs"],
        [["  ".join(map(str, key)), *line] for key, line in zip(table.index, table.to_numpy().tolist(), strict=True)],
    )
    console.show(
        rows, {"results": out / "table1.parquet", "tables": out / "table1.md", "disentanglement": grid}, as_json=as_json
    )


@app.command("faces")
def faces(
    store: StorePath,
    out: Annotated[Path, typer.Option(help="Folder for runs and results.")] = Path("out/faces"),
    truth: Annotated[
        Path | None, typer.Option(help="truth.parquet of simulated faces, to judge by.", show_default="labels judge")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every kind.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Steps of every run.")] = 4000,
    beta: Annotated[
        float | None,
        typer.Option(min=0, help="KL weight; ungated_beta takes four times as much.", show_default="the preset's"),
    ] = None,
    latent: Annotated[
        str | None, typer.Option(help="NAME=SIZE,... for every partition.", show_default="the preset's")
    ] = None,
    kl_weights: Annotated[
        str | None,
        typer.Option(help="NAME=WEIGHT,...: times --beta, for some partitions of gated runs.", show_default="1 each"),
    ] = None,
    widths: Annotated[
        str | None, typer.Option(help="Channels, then the last hidden size.", show_default="the network's")
    ] = None,
    lr: Annotated[float, typer.Option(help="Adam's rate.")] = 5e-4,
    schedule: Annotated[str, one_of(SCHEDULES, "How the learning rate goes on; cosine falls to 0.")] = "cosine",
    gatings: Annotated[str, typer.Option(help="Which kinds.")] = "ungated,ungated_beta,gated,exchange,partners",
    precision: Precision = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time.", show_default="one per core")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train and score gated and ordinary VAEs on a clustered store of faces; stopped, it goes on run by run.

    Writes OUT/faces.parquet, one row per run, partition, factor, read-out and kind of codes, and OUT/faces.md.

    Example: pipe reproduce faces store --seeds 1 --steps 500
    """
    import pandas as pd
    import pyarrow as pa

    from gated_vae.pipelines import console
    from gated_vae.pipelines.commands.train import read_hidden
    from gated_vae.pipelines.experiments.faces import FacePlan, reproduce_faces
    from gated_vae.pipelines.experiments.faces_report import faces_markdown, faces_preamble
    from gated_vae.pipelines.training.processor import choose_device, choose_precision
    from gated_vae.preprocessing.files import write_bytes, write_parquet

    device = choose_device(device)
    plan = FacePlan(
        store,
        steps,
        beta,
        latent,
        lr,
        schedule,
        precision=choose_precision(precision, device),
        truth=truth,
        kl_weights=kl_weights,
        widths=read_hidden(widths),
    )
    with console.progress("runs") as update:
        runs = reproduce_faces(plan, gatings.split(","), seeds, out, workers=workers, device=device, progress=update)
    rows = pd.DataFrame([row for run in runs for row in run.rows()])
    write_parquet(out / "faces.parquet", pa.Table.from_pandas(rows, preserve_index=False), schema_version=1)
    write_bytes(out / "faces.md", faces_markdown(runs, faces_preamble(plan, runs)).encode())
    mean = rows[(rows["regressor"] == "ridge") & (rows["codes"] == "sample") & (rows["factor"] == "pose_Ry")]
    table = mean.pivot_table(values="r2", index="gating", columns="partition", sort=False)
    cells = [
        [name, *(f"{value:.2f}" for value in line)] for name, line in zip(table.index, table.to_numpy(), strict=True)
    ]
    shown: dict[str, object] = {"results": out / "faces.parquet", "tables": out / "faces.md", "runs": len(runs)}
    if cells:
        shown["R2 of yaw (ridge, samples)"] = console.grid(["", *table.columns], cells)
    console.show(rows.to_dict("records"), shown, as_json=as_json)


@app.command("curves")
def curves(
    out: Annotated[Path, typer.Option(help="Folder for pictures, stores, runs and results.")] = Path("out/curves"),
    axes: Annotated[
        str, typer.Option(help="What to vary: some of these.")
    ] = "clusters,label_noise,wrong,confounding,images,pairing",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every point.")] = 3,
    images: Annotated[int, typer.Option(min=1, help="Pictures of the base point, 32x32.")] = 4000,
    steps: Annotated[int, typer.Option(min=1, help="Steps of every run.")] = 600,
    beta: Annotated[float, typer.Option(min=0, help="KL weight.")] = 0.0625,
    lr: Annotated[float, typer.Option(help="Adam's rate.")] = 1e-3,
    precision: Precision = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time.", show_default="one per core")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Show on simulated faces how many clusters to choose and how noisy labels may be; stopped, it goes on run by run.

    Around a base point, one thing is varied at a time: numbers of clusters, noise of the labels, shares of wrong labels,
    confounding of expression by pose, numbers of images, ways to pair. Writes OUT/curves.parquet, one row per axis, value
    and seed, OUT/curves.md, a table per axis, and OUT/curves.png, a panel per axis.

    Example: pipe reproduce curves --axes clusters,wrong --seeds 1 --steps 300
    """
    import pandas as pd
    import pyarrow as pa

    from gated_vae.pipelines import console
    from gated_vae.pipelines.evaluation.pictures import save
    from gated_vae.pipelines.experiments.curves import CurvePlan, reproduce_curves
    from gated_vae.pipelines.experiments.curves_report import curves_markdown, draw_curves
    from gated_vae.pipelines.training.processor import choose_device, choose_precision
    from gated_vae.preprocessing.files import write_bytes, write_parquet

    device = choose_device(device)
    plan = CurvePlan(images, steps, beta, lr, precision=choose_precision(precision, device))
    with console.progress("curves") as update:
        rows = reproduce_curves(plan, axes.split(","), seeds, out, workers=workers, device=device, progress=update)
    results = pd.DataFrame(rows)
    write_parquet(out / "curves.parquet", pa.Table.from_pandas(results, preserve_index=False), schema_version=1)
    write_bytes(out / "curves.md", curves_markdown(results, plan).encode())
    save(draw_curves(results), out / "curves.png")
    shown: dict[str, object] = {"results": out / "curves.parquet", "tables": out / "curves.md"}
    shown |= {"picture": out / "curves.png", "runs": len(results)}
    names = ["pose_own", "pose_leak", "units_own", "units_leak"]
    table = results.groupby(["axis", "value"], sort=False)[names].mean()
    cells = [
        [f"{axis} {value}", *(f"{cell:.2f}" for cell in line)]
        for (axis, value), line in zip(table.index, table.to_numpy(), strict=True)
    ]
    shown["mean R2"] = console.grid(["", *(name.replace("_", " ") for name in names)], cells)
    console.show(rows, shown, as_json=as_json)
