"""`pipe pair`: exact pairs from label columns, pairs that differ in few factors, neighbours in sequences, the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gated_vae.pipelines.options import AsJson, Overwrite, Seed, StorePath, option

if TYPE_CHECKING:
    from gated_vae.pairing.exact import Pairing


def pair(
    store: StorePath,
    share: Annotated[
        list[str] | None,
        option(
            "Pair samples that are equal in these columns, words or numbers; once for each partition.",
            metavar="NAME=COLUMN[,...]",
        ),
    ] = None,
    follow: Annotated[
        list[str] | None,
        option(
            "Pair neighbours in a sequence, at most K apart in the column ORDER (1 if not said); once for each partition.",
            metavar="NAME=SEQUENCE,ORDER[:K]",
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        option(
            "Pair samples of a factor grid that differ in exactly K factors, for methods that are told nothing.",
            metavar="[NAME=]K",
        ),
    ] = None,
    pairs: Annotated[
        Path | None, option("Take your own pairs from a table with the columns input, target and partition.")
    ] = None,
    draws: Annotated[
        int | None,
        option("How many partners every sample gets; more give more variety.", "as in the other partitions", min=1),
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Pair samples that agree in labels or in all but K factors, are neighbours in a sequence, or are named in a table.

    Example: pipe pair store --share position=posX,posY --share rotation=orientation --share shape=shape --share size=scale
    """
    from gated_vae.pairing.exact import pair_exactly, parse_change
    from gated_vae.pairing.follow import parse_follow
    from gated_vae.pairing.given import read_pairs
    from gated_vae.pairing.labels import parse_columns
    from gated_vae.pipelines import console
    from gated_vae.preprocessing.store import open_store

    opened = open_store(store)
    wanted: list[tuple[str, Sequence[str] | Pairing]] = [
        *parse_columns("--share", share or []).items(),
        *map(parse_follow, follow or []),
        *map(parse_change, change or []),
        *(read_pairs(pairs, opened).items() if pairs else ()),
    ]
    shares = dict(wanted)
    if len(shares) < len(wanted) or not wanted:
        why = "Two partitions have one name." if wanted else "Give --share, --follow, --change or --pairs."
        raise typer.BadParameter(why, param_hint="partitions")
    with console.progress("pair", "pairs") as update:
        made = pair_exactly(opened, shares, draws=draws, seed=seed, overwrite=overwrite, progress=update)
    done = {True: "was there", False: "written"}
    rows = [[it.name, it.how, it.groups, it.merged, done[it.already_done]] for it in made]
    table = console.grid(["partition", "pairs", "groups", "merged", ""], rows)
    console.show(made, {"store": store, "pairs": store / "pairs", "partitions": table}, as_json=as_json)
