"""Option types that several commands share, so that a name means the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from gated_vae.models.registry import PRECISIONS, Registry, parse
from gated_vae.preprocessing.errors import SEEDS


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


StorePath = Annotated[Path, typer.Argument(help="The store's folder.", show_default=False)]
RunPath = Annotated[Path, typer.Argument(help="The run's folder.", show_default=False)]
MovedStore = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Its store, if that has moved; or another of the same image size.",
        show_default="as trained",
    ),
]
Truth = Annotated[
    Path | None, typer.Option(help="truth.parquet of simulated faces, to judge by.", show_default="labels judge")
]
OutStore = Annotated[Path, typer.Option("--out", help="Folder of the store to write.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what was made there with other options.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Seed = Annotated[int, typer.Option(min=0, max=SEEDS - 1, help="Same seed, same result.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda; auto takes a GPU where there is one.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Tasks at a time; every core by default. The result is the same.")
]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask scheduler to run on, e.g. tcp://host:8786.")]
Precision = Annotated[
    str, one_of((*PRECISIONS, "auto"), "auto is the fastest: tf32 on GPUs, bf16 on some processors, else fp32.")
]
Draws = Annotated[int, typer.Option(min=1, help="How many partners every sample gets in the pair table.")]
