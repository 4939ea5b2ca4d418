"""Option types that several commands share, so that a name means the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from gated_vae.models.registry import PRECISIONS, Registry, parse
from gated_vae.preprocessing.errors import SEEDS


def option(help: str, show_default: bool | str = True, **more: Any) -> Any:
    """An option with its help and, where it says more than the value, its default in words."""
    return typer.Option(help=help, show_default=show_default, **more)


def one_of(names: Iterable[str], help: str, show_default: bool | str = True) -> Any:
    """An option that takes one of some names."""
    known = tuple(names)

    def check(text: str) -> str:
        if text not in known:
            raise typer.BadParameter(f"There is no {text!r}; choose from {', '.join(known)}.")
        return text

    return typer.Option(metavar=f"[{'|'.join(known)}]", parser=check, help=help, show_default=show_default)


def choice_of(registry: Registry[type[Any]], help: str, show_default: str = "the preset's") -> Any:
    """An option that takes a name of a registry with constants behind it, and gives what it stands for."""

    def read(text: str) -> Any:
        try:
            return parse(registry, text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    metavar = f"[{'|'.join(registry)}][:key=value,...]"
    return typer.Option(metavar=metavar, parser=read, help=help, show_default=show_default)


def is_run(path: Path) -> bool:
    """Whether a folder that may be a store's is a run's."""
    from gated_vae.preprocessing.store import manifest_path

    return (path / "config.json").exists() and not manifest_path(path).exists()


StorePath = Annotated[Path, typer.Argument(help="Folder of the store that `pipe preprocess` made.", show_default=False)]
RunPath = Annotated[Path, typer.Argument(help="Folder of the run that `pipe train` made.", show_default=False)]
StoreOrRun = Annotated[Path, typer.Argument(help="Folder of a store or of a run.", show_default=False)]
Host = Annotated[str, option("Address to listen at; one beyond this machine needs --token-file.")]
Port = Annotated[int, option("Port to listen at; 0 takes a free one, and the address is printed.", min=0, max=65535)]
MovedStore = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Where the store is, if it has moved; or another store of the same image size, to judge on.",
        show_default="as trained",
    ),
]
Truth = Annotated[
    Path | None,
    option("Judge simulated faces by the truth: the truth.parquet that `pipe simulate faces` wrote.", "labels judge"),
]
OutStore = Annotated[
    Path, typer.Option("--out", help="Folder of the store to write; new, or one to go on with.", show_default=False)
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what was made there with other options, in place of refusing.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs to read.")]
_SEED = "Number that decides all random choices: the same seed gives the same result."
Seed = Annotated[int, typer.Option(min=0, max=SEEDS - 1, help=_SEED)]
SeedIfGiven = Annotated[int | None, typer.Option(min=0, max=SEEDS - 1, help=_SEED, show_default="0")]
Device = Annotated[
    str, typer.Option(help="Where to compute: cpu, cuda, or auto, which takes a GPU where there is one.")
]
Workers = Annotated[
    int | None,
    option("Tasks at a time, fewer to spare memory; the result is the same. Every core by default.", min=1),
]
Scheduler = Annotated[
    str | None,
    option("Run on the workers of a Dask scheduler, for very large stores: its address, e.g. tcp://host:8786."),
]
Precision = Annotated[
    str,
    one_of(
        (*PRECISIONS, "auto"),
        "Number format of the computation; auto is the fastest: tf32 on GPUs, bf16 on some processors, else fp32.",
    ),
]
Draws = Annotated[int, option("How many partners every sample gets in the pair table; more give more variety.", min=1)]
