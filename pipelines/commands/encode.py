"""`pipe encode`: codes of every image, as Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gated_vae.pipelines.options import AsJson, Device, RunPath, StorePath, option


def encode(
    run: RunPath,
    store: StorePath,
    out: Annotated[Path, option("Parquet file to write; one of codes that is there is replaced.", False)],
    partition: Annotated[
        str | None, option("Write the codes of this partition alone, where the others are not needed.", "all")
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Write the codes of every image of a store.

    They are the posterior's mean and standard deviation in every latent dimension.

    Columns: sample_id, then NAME_i and NAME_i_std (float32) for every dimension i of every partition.

    Example: pipe encode run store --out codes.parquet
    """
    from gated_vae.pipelines import console
    from gated_vae.pipelines.evaluation.opened import encode_store, open_run
    from gated_vae.preprocessing.store import open_store

    opened, images = open_run(run, device=device), open_store(store)
    with console.progress("encode", "images") as update:
        report = encode_store(opened, images, out, partition=partition, progress=update)
    rows = {"codes": report.path, "samples": report.samples, "columns": ", ".join(report.columns)}
    console.show(report, rows, as_json=as_json)
