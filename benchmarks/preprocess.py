"""`pipe preprocess celeba` beside its two parts: `python -m benchmarks.preprocess [FOLDER] [--images 20000] [--repeats 5]`.

FOLDER holds what FaceLandmarkImg wrote, aligned faces included (default: celeba/processed of GATED_VAE_DATA; without it,
faces are simulated); folders beside each other, each with links to all of its files, make so many images of it. The
peers are the sum of its parts, each the least that must be done: `read_csvs` of the known files for the same columns, and
a bare OpenCV loop over the known pictures, both in as many processes, started beforehand; and the whole on one core, of
which every core should leave little more than its share. Runs alternate; the largest resident memory of this process is
told at the end. With --profile it is told instead where one core's time goes, function by function.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from benchmarks.images import Run, bare_on, find_pictures
from benchmarks.timing import Record, alternate, ratio, show
from gated_vae.preprocessing.compute import RunTasks, count_workers, processes
from gated_vae.preprocessing.openface.reader import read_csvs
from gated_vae.preprocessing.scheduler.dask import stream_tasks
from gated_vae.preprocessing.sources.celeba import build as celeba
from gated_vae.preprocessing.sources.celeba.build import CelebaOptions, preprocess_celeba
from gated_vae.preprocessing.sources.celeba.faces import LABELS, PLACES
from gated_vae.preprocessing.sources.celeba.tasks import cut_shards

STAGE = "pipe preprocess celeba"


def make_up(folder: Path, count: int) -> Path:
    """Simulate faces; return where their OpenFace output lies."""
    # Imported here, since every process imports this module, and the command's need no simulation, which is as long to import.
    from gated_vae.preprocessing.simulate.faces import PROCESSED, simulate_faces
    from gated_vae.preprocessing.simulate.options import FaceSimulation

    simulate_faces(FaceSimulation(count), folder)
    return folder / PROCESSED


def multiply(folder: Path, out: Path, images: int) -> None:
    """Link the files of a folder into so many folders of `out` that they hold `images` CSVs or more."""
    for copy in range(-(-images // len(list(folder.glob("*.csv"))))):
        shutil.copytree(folder, out / f"{copy}", copy_function=os.link)


def read(shards: list[list[str]], run: RunTasks) -> None:
    list(run(_read_part, [(shard,) for shard in shards]))


def _read_part(files: list[str]) -> None:
    read_csvs(files, files, [*PLACES, *LABELS])  # nothing is sent back, as by the bare loop


def whole(folder: Path, workers: int) -> None:
    with tempfile.TemporaryDirectory() as out:
        preprocess_celeba(CelebaOptions(folder), Path(out), workers=workers)


def profile(folder: Path) -> None:
    """Print the time in each function of preprocessing, tasks being called one by one in the thread that is looked at."""
    import cProfile
    import pstats

    celeba.threads = lambda _workers: nullcontext(stream_tasks)
    whole(folder, 1)
    with cProfile.Profile() as profiler:
        whole(folder, 1)
    pstats.Stats(profiler).sort_stats("cumulative").print_stats("preprocessing")


def compare(folder: Path, repeats: int) -> list[Record]:
    files, csvs, count = find_pictures(folder), sorted(folder.glob("*/*.csv")), count_workers()
    shards = cut_shards({os.fspath(csv): csv.stat().st_size for csv in csvs})
    with bare_on(files, count) as bare_in_parts, processes(1) as one, processes(count) as all_cores:
        runs: dict[str, Run] = {}
        for workers, pool in {1: one, count: all_cores}.items():
            runs[f"whole {workers}"] = partial(whole, folder, workers)
            runs[f"csv {workers}"] = partial(read, shards, pool)
            runs[f"decode {workers}"] = partial(bare_in_parts, workers)
        times = alternate(runs, repeats)
    parts_of = {workers: times[f"csv {workers}"] + times[f"decode {workers}"] for workers in (1, count)}
    seconds = {name: round(float(sorted(found)[repeats // 2]), 3) for name, found in times.items()}
    print(json.dumps({"stage": STAGE, "pictures": len(files), "seconds": seconds}))
    return [
        ratio(STAGE, "its CSVs and pictures alone, one core", times["whole 1"], parts_of[1], 1.3),
        ratio(STAGE, "its CSVs and pictures alone, every core", times[f"whole {count}"], parts_of[count], 1.3),
        ratio(STAGE, "itself on one core", times[f"whole {count}"], times["whole 1"], 1.3 / count),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    real = os.environ.get("GATED_VAE_DATA")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(real, "celeba", "processed") if real else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=20_000, help="at least so many")
    parser.add_argument("--faces", type=int, default=2000, help="how many to simulate when there is no folder")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made_up:
        folder = arguments.folder or make_up(Path(made_up, "faces"), arguments.faces)
        multiply(folder, Path(made_up, "many"), arguments.images)
        if arguments.profile:
            profile(Path(made_up, "many"))
            return 0
        missed = show(compare(Path(made_up, "many"), arguments.repeats))
    print(json.dumps({"stage": STAGE, "resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
    return missed


if __name__ == "__main__":
    sys.exit(main())
