"""How soon commands answer, beside Python itself: `python -m benchmarks.startup [--repeats 10]`.

`pipe --help` and `pipe inspect` of a small store, each in a process of its own, in turn, files warm: in seconds on the clock, in
seconds of the processor, which other programs lengthen less, and against `python -c pass`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.stores import make_store
from benchmarks.timing import Record, alternate, figure, ratio, show

MOST_SECONDS = 0.3


def command(*words: str) -> Callable[[], object]:
    """A function that runs Python with these arguments and waits for its end."""
    return lambda: subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)


def processor_seconds(run: Callable[[], object]) -> float:
    """What the processes that `run` starts take of the processor, user and system."""
    before = os.times()
    run()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def compare(store: Path, repeats: int) -> Iterator[Record]:
    pipe = "from gated_vae.pipelines.cli import main; main()"  # what the installed script does
    runs = {
        "python -c pass": command("-c", "pass"),
        "pipe --help": command("-c", pipe, "--help"),
        "pipe inspect": command("-c", pipe, "inspect", str(store)),
    }
    times = alternate(runs, repeats)
    bare = times.pop("python -c pass")
    for name, taken in times.items():
        yield figure(f"start-up, {name}", "", taken, "s", MOST_SECONDS)
        used = np.array([processor_seconds(runs[name]) for _ in range(repeats)])
        yield figure(f"start-up, {name}", "processor time", used, "s")
        yield ratio(f"start-up, {name}", "python -c pass", taken, bare)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        return show(compare(make_store(Path(folder) / "store", 5000).path, repeats))


if __name__ == "__main__":
    sys.exit(main())
