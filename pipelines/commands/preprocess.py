"""`pipe preprocess`: raw sources into a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gated_vae.pipelines.options import AsJson, OutStore, Overwrite, Scheduler, Workers, one_of, option
from gated_vae.preprocessing.sources.celeba.options import CROPS, FACES

if TYPE_CHECKING:
    from gated_vae.preprocessing.sources.base import DataSource, Report
    from gated_vae.preprocessing.sources.celeba.build import CelebaReport
    from gated_vae.preprocessing.sources.images.build import ImagesReport
    from gated_vae.preprocessing.sources.splits import Split

StoredSize = Annotated[
    str,
    option(
        "Size of the stored images in pixels, one number or height x width; 32 trains four times as fast as 64.",
        metavar="N|HxW",
    ),
]
Colour = Annotated[
    bool, typer.Option("--colour", help="Store red, green and blue, where colour matters; grey without it.")
]
Shares = Annotated[
    str | None,
    option("Keep people or pictures apart for judging, where nothing else says who: train=.8,valid=.1,test=.1.", "all"),
]

app = typer.Typer(no_args_is_help=True, help="Turn raw sources into a store of plain formats.")


@app.command("dsprites")
def dsprites(
    out: OutStore,
    npz: Annotated[
        Path | None, option("The official file, .npz or .hdf5; without it the same images are drawn.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a store of all 737,280 dSprites, from the official file or drawn to match it.

    Example: pipe preprocess dsprites --out store
    """
    from gated_vae.preprocessing.sources.grids.dsprites import DSprites

    _make("dsprites", DSprites(npz), out, overwrite=overwrite, as_json=as_json)


@app.command("shapes3d")
def shapes3d(
    h5: Annotated[Path, option("The published file, 3dshapes.h5, which you download yourself.", False)],
    out: OutStore,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a store of all 480,000 images of 3D Shapes, in colour. It needs the package h5py.

    Example: pipe preprocess shapes3d --h5 3dshapes.h5 --out store
    """
    from gated_vae.preprocessing.sources.grids.shapes3d import Shapes3D

    _make("shapes3d", Shapes3D(h5), out, overwrite=overwrite, as_json=as_json)


@app.command("mpi3d")
def mpi3d(
    npz: Annotated[
        Path, option("A published file (toy, realistic, real or complex), which you download yourself.", False)
    ],
    out: OutStore,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a store of all images of MPI3D, in colour.

    Example: pipe preprocess mpi3d --npz mpi3d_real.npz --out store
    """
    from gated_vae.preprocessing.sources.grids.mpi3d import MPI3D

    _make("mpi3d", MPI3D(npz), out, overwrite=overwrite, as_json=as_json)


def _make(name: str, source: DataSource, out: Path, *, overwrite: bool, as_json: bool) -> None:
    """Make a store of a factor grid, and tell of it."""
    from gated_vae.pipelines import console
    from gated_vae.preprocessing.sources.base import make_store

    with console.progress(name) as update:
        store, already_done = make_store(source, out, overwrite=overwrite, progress=update)
    rows = {"store": out, "images": len(store), "source": store.parameters["source"]}
    done = "nothing to do: it was finished" if already_done else "written"
    console.show({**rows, "already_done": already_done}, {**rows, "": done}, as_json=as_json)


@app.command("celeba")
def celeba(
    openface: Annotated[
        Path, option("Folder of what OpenFace 1 or 2 wrote, in any flavour; folders in it are searched.", False)
    ],
    out: OutStore,
    images: Annotated[
        Path | None, option("Folder of the whole pictures, where no aligned faces lie beside the CSVs.")
    ] = None,
    identities: Annotated[
        Path | None,
        option(
            "Who is on which picture: identity_CelebA.txt or its like; `folder` where each person has a folder.",
            metavar="FILE|folder",
        ),
    ] = None,
    partitions: Annotated[
        Path | None, option("Who trains and who judges, as CelebA has it: list_eval_partition.txt or its like.")
    ] = None,
    attributes: Annotated[Path | None, option("Attributes to pair by: list_attr_celeba.txt or its like.")] = None,
    split: Shares = None,
    crop: Annotated[
        str | None,
        one_of(
            CROPS,
            "What of a picture is stored: the aligned face, a cut by the landmarks, or the centre of what has none.",
            "by itself",
        ),
    ] = None,
    face: Annotated[
        str,
        one_of(
            FACES, "Which of several faces in a picture is taken: the one the tracker is surest of, or the largest."
        ),
    ] = FACES[0],
    size: StoredSize = "64",
    colour: Colour = False,
    min_confidence: Annotated[
        float, option("Reject faces that OpenFace is less sure of; raise it where labels are too noisy.")
    ] = 0.8,
    max_angle: Annotated[float, option("Reject faces turned further than so many radians, about any axis.")] = 1.0,
    workers: Workers = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a store of faces from what OpenFace wrote. Every row and file not taken is listed in rejected.parquet.

    Example: pipe preprocess celeba --openface processed --identities identity_CelebA.txt --out store
    """
    from gated_vae.pipelines import console
    from gated_vae.preprocessing.scheduler.dask import dashboard
    from gated_vae.preprocessing.sources.celeba.build import CelebaOptions, preprocess_celeba
    from gated_vae.preprocessing.sources.sizes import parse_size
    from gated_vae.preprocessing.sources.splits import parse_split

    if scheduler is not None:
        console.say(dashboard(scheduler))
    options = CelebaOptions(
        openface=openface,
        images=images,
        identities=identities,
        partitions=partitions,
        attributes=attributes,
        split=parse_split(split) if split else None,
        crop=crop,
        face=face,
        size=parse_size(size),
        colour=colour,
        min_confidence=min_confidence,
        max_angle=max_angle,
    )
    with console.progress("celeba") as update:
        report = preprocess_celeba(
            options, out, workers=workers, scheduler=scheduler, overwrite=overwrite, progress=update
        )
    left_out: dict[str, list[str]] = {}
    for name, why in report.left_out.items():
        left_out.setdefault(why, []).append(name)
    rows = {
        "left out": "; ".join(f"{', '.join(names)} ({why})" for why, names in left_out.items()) or None,
        "people": None if report.people is None else f"{report.people:,}",
        "without identity": report.without_identity,
        "splits": report.splits or None,
        "mind": "; ".join(_short_splits(options.split, report)) or None,
        "without split": report.without_split,
    }
    _show(report, rows, as_json=as_json)


@app.command("images")
def images(
    folder: Annotated[
        Path, typer.Argument(help="Folder of the pictures; folders in it are searched.", show_default=False)
    ],
    out: OutStore,
    labels: Annotated[
        Path | None,
        option(
            "Table of what is known of the pictures, a row for each: CSV, TSV, JSON lines or Parquet.",
            "metadata.csv|jsonl|parquet in DIR",
        ),
    ] = None,
    file_column: Annotated[
        str | None,
        option(
            "Column of the table that holds the file names, where it has an unusual name.",
            "file_name or the like",
            metavar="NAME",
        ),
    ] = None,
    tracker: Annotated[
        str | None,
        option(
            "Face tracker that wrote the table, to take its names: openface, pyfeat, libreface, pyafar, blendshapes.",
            metavar="NAME[:version=...,angles=...]",
        ),
    ] = None,
    split: Shares = None,
    size: StoredSize = "64",
    colour: Colour = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a store of any pictures and what a table says of them. What is not taken is listed in rejected.parquet.

    Example: pipe preprocess images photos --labels labels.csv --colour --out store
    """
    from gated_vae.pipelines import console
    from gated_vae.preprocessing.labels.trackers import parse_tracker
    from gated_vae.preprocessing.scheduler.dask import dashboard
    from gated_vae.preprocessing.sources.images.build import ImagesOptions, preprocess_images
    from gated_vae.preprocessing.sources.sizes import parse_size
    from gated_vae.preprocessing.sources.splits import parse_split

    if scheduler is not None:
        console.say(dashboard(scheduler))
    options = ImagesOptions(
        folder=folder,
        labels=labels,
        file_column=file_column,
        labeller=parse_tracker(tracker) if tracker else None,
        split=parse_split(split) if split else None,
        size=parse_size(size),
        colour=colour,
    )
    with console.progress("images") as update:
        report = preprocess_images(
            options, out, workers=workers, scheduler=scheduler, overwrite=overwrite, progress=update
        )
    notes = [*(f"{name}: {note}" for name, note in report.notes.items()), *_short_splits(options.split, report)]
    rows = {
        "labels": ", ".join(report.columns[:12]) + " ..." * (len(report.columns) > 12) or "none",
        "tracker": report.tracker,
        "splits": report.splits or None,
        "mind": "; ".join(notes) or None,
        "without split": (report.splits and report.taken - sum(report.splits.values())) or None,
    }
    _show(report, rows, as_json=as_json)


def _short_splits(split: Split | None, report: Report) -> list[str]:
    """What is told where splits came out much smaller than they were asked for; nothing where none did."""
    if split is None or not (short := split.falls_short(report.splits)):
        return []
    told = " and ".join(f"{name} has {report.splits[name]:,} of {report.taken:,}" for name in short)
    why = "shares are of people or sequences, some of which have many pictures; another seed deals anew"
    return [f"{told}: {why}, --split ...,seed={split.seed + 1}"]


def _show(report: CelebaReport | ImagesReport, rows: Mapping[str, object], *, as_json: bool) -> None:
    """Tell what became of all that was seen, then what is known of `rows`."""
    from gated_vae.pipelines import console

    rejected = sum(report.rejected.values())
    told = {
        "store": report.store,
        "seen": f"{report.seen:,} = {report.taken:,} taken + {rejected:,} rejected",
        "rejected": report.rejected,
        **{name: value for name, value in rows.items() if value is not None},
        "": "nothing to do: it was finished" if report.already_done else f"written in {report.seconds:.1f} s",
    }
    console.show(report, told, as_json=as_json)
