"""Option types that several commands share, so that a name means the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

StorePath = Annotated[Path, typer.Argument(help="The store's folder.", show_default=False)]
RunPath = Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)]
MovedStore = Annotated[
    Path | None, typer.Option("--store", help="The run's store, if it is elsewhere now.", show_default="as trained")
]
OutStore = Annotated[Path, typer.Option("--out", help="Folder of the store to write.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what was made there with other options.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same result.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda; auto takes a GPU where there is one.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Tasks at a time; every core by default. The result is the same.")
]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask scheduler to run on, e.g. tcp://host:8786.")]
Precision = Annotated[Literal["fp32", "bf16", "auto"], typer.Option(help="auto is bf16 where that is the faster one.")]
RateSchedule = Literal["constant", "cosine"]
Draws = Annotated[int, typer.Option(min=1, help="How many partners every sample gets in the pair table.")]
