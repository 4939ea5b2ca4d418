"""`pipe pair`: exact pairs from label columns."""

from __future__ import annotations

from typing import Annotated

import typer

from gated_vae.pipelines.options import AsJson, Draws, Overwrite, Scheduler, Seed, StorePath


def pair(
    store: StorePath,
    share: Annotated[list[str], typer.Option(help="NAME=FACTOR[,FACTOR...]; once per partition.", show_default=False)],
    draws: Draws = 1,
    seed: Seed = 0,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Pair samples that agree in labels, exactly.

    Example: pipe pair store --share position=posX,posY --share rotation=orientation --share shape=shape --share size=scale
    """
    from gated_vae.pairing.exact import pair_exactly, parse_shares
    from gated_vae.pipelines import console
    from gated_vae.preprocessing.compute import dashboard
    from gated_vae.preprocessing.store import open_store

    opened, shares = open_store(store), parse_shares(share)
    if scheduler is not None:
        console.say(dashboard(scheduler))
    with console.progress("pair") as update:
        made = pair_exactly(
            opened, shares, draws=draws, seed=seed, overwrite=overwrite, scheduler=scheduler, progress=update
        )
    rows = [
        [part.name, "+".join(part.factors), part.groups, part.merged, "was there" if part.already_done else "written"]
        for part in made
    ]
    table = console.grid(["partition", "shares", "groups", "merged", ""], rows)
    pairs = f"{len(opened) * draws:,} pairs a partition in {store / 'pairs'}"
    console.show(made, {"store": store, "pairs": pairs, "partitions": table}, as_json=as_json)
