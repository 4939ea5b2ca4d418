"""The `pipe` command: which verbs there are, and how failures reach the user.

Verbs live in `gated_vae.pipelines.commands`, one file each, and import what is heavy only when they run.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from importlib import import_module
from typing import Annotated

import typer

import gated_vae
from gated_vae.pipelines import channels
from gated_vae.preprocessing.errors import UsageError


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gated-vae {gated_vae.__version__}")
        raise typer.Exit


app = typer.Typer(
    name="pipe",
    epilog="First steps: pipe simulate faces --out faces --n 2000, then pipe preprocess celeba --openface faces/processed"
    " --out store, pipe cluster store --pose 40 --expression 60, pipe train store --out run, pipe traverse run."
    " Every command: --debug shows the traceback of a failure.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # boxes leave the text half a line, and rich takes as long to import as all the rest
    pretty_exceptions_enable=False,
)


@app.callback()
def pipe(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=_tell_version,
            help="Say which version is installed, for reports of bugs.",
        ),
    ] = False,
) -> None:
    """Learn disentangled representations from pairs of images."""


GROUPS = ("preprocess", "simulate")
VERBS = (
    *("cluster", "pair", "train", "finetune", "evaluate", "traverse", "encode", "export", "report", "explore"),
    *("reproduce", "serve", "inspect", "verify"),
)
for name in (*GROUPS, *VERBS):
    command = import_module(f"gated_vae.pipelines.commands.{name}")
    if name in GROUPS:
        app.add_typer(command.app, name=name)
    else:
        app.command(name)(getattr(command, name))


# How often OpenMP's threads look before they sleep, read when PyTorch is loaded. As often as they do by themselves, a step takes
# ten times as long beside other work on the same cores; on idle ones so few cost nothing (`python -m benchmarks.threads`).
SPINS = "1000"


def main(arguments: list[str] | None = None) -> None:
    """Run `pipe` and exit: 0 done, 1 failed (what, why and what to do, in three lines at most), 2 wrong usage."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    channels.prepare()
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    code = 0
    try:
        app(args=[word for word in words if word != "--debug"])
    except Exception as error:
        if debug:
            raise
        sys.stderr.write(f"{channels.clean(channels.explain(error))}\n")
        code = 2 if isinstance(error, UsageError) else 1
    except SystemExit as ended:
        code = int(ended.code or 0)
        if code == 128 + signal.SIGINT:
            sys.stderr.write("Interrupted. The same command, run again, goes on from what is finished.\n")
    channels.finish()
    if "RANK" in os.environ and words[:1] == ["train"]:
        from gated_vae.pipelines.process import leave

        leave(code)
    gc.freeze()  # else Python, ending, looks for garbage among all that was imported: a second after training
    sys.exit(code)


if __name__ == "__main__":
    main()
