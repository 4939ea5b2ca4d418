"""`pipe pair`: exact pairs from label columns."""

from __future__ import annotations

from typing import Annotated

import typer

from gated_vae.pipelines.options import AsJson, Overwrite, Seed, StorePath


def pair(
    store: StorePath,
    share: Annotated[list[str], typer.Option(help="NAME=COLUMN[,COLUMN...]; once per partition.", show_default=False)],
    draws: Annotated[
        int | None,
        typer.Option(min=1, help="How many partners every sample gets.", show_default="as in the other partitions"),
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Pair samples that agree in labels, exactly.

    Example: pipe pair store --share position=posX,posY --share rotation=orientation --share shape=shape --share size=scale
    """
    from gated_vae.pairing.exact import pair_exactly
    from gated_vae.pairing.labels import parse_columns
    from gated_vae.pipelines import console
    from gated_vae.preprocessing.store import open_store

    opened, shares = open_store(store), parse_columns("--share", share)
    with console.progress("pair", "pairs") as update:
        made = pair_exactly(opened, shares, draws=draws, seed=seed, overwrite=overwrite, progress=update)
    done = {True: "was there", False: "written"}
    rows = [[it.name, "+".join(it.shared), it.groups, it.merged, it.draws, done[it.already_done]] for it in made]
    table = console.grid(["partition", "shares", "groups", "merged", "draws", ""], rows)
    console.show(made, {"store": store, "pairs": store / "pairs", "partitions": table}, as_json=as_json)
