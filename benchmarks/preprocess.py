"""`pipe preprocess celeba` beside its two parts: `python -m benchmarks.preprocess [FOLDER] [--repeats 5]`.

FOLDER holds what FaceLandmarkImg wrote, aligned faces included (default: celeba/processed of GATED_VAE_DATA; without it,
faces are simulated). The peers are the sum of its parts, each the least that must be done and with the same number of
workers: `read_csvs` of the known files for the same columns, and a bare OpenCV loop over the known pictures (processes
started beforehand); and the whole on one core, of which every core should leave little more than its share. Runs
alternate; the largest resident memory of this process is told at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.images import Run, bare_on, find_pictures
from benchmarks.timing import Record, alternate, ratio, show
from preprocessing.celeba import CelebaOptions, preprocess_celeba
from preprocessing.compute import cores, run_tasks
from preprocessing.faces import LABELS, PLACES
from preprocessing.openface import find_csvs, read_csvs
from preprocessing.shards import cut_shards
from preprocessing.simulate import FaceSimulation, simulate_faces
from preprocessing.simulate.faces import PROCESSED

STAGE = "pipe preprocess celeba"


def read(folder: Path, workers: int) -> None:
    files = find_csvs(folder)
    shards = cut_shards([*map(os.fspath, files)], [file.stat().st_size for file in files])
    run_tasks(read_csvs, [(folder, shard, [*PLACES, *LABELS]) for shard in shards], workers=workers)


def whole(folder: Path, workers: int) -> None:
    with tempfile.TemporaryDirectory() as out:
        preprocess_celeba(CelebaOptions(folder), Path(out), workers=workers)


def compare(folder: Path, repeats: int) -> list[Record]:
    files, count = find_pictures(folder), cores()
    with bare_on(files, count) as bare_in_parts:
        runs: dict[str, Run] = {}
        for workers in {1, count}:
            runs[f"whole {workers}"] = partial(whole, folder, workers)
            runs[f"csv {workers}"] = partial(read, folder, workers)
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
    parser.add_argument("--faces", type=int, default=2000, help="how many to simulate when there is no folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made_up:
        if arguments.folder is None:
            simulate_faces(FaceSimulation(arguments.faces), Path(made_up))
        missed = show(compare(arguments.folder or Path(made_up, PROCESSED), arguments.repeats))
    print(json.dumps({"stage": STAGE, "resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
    return missed


if __name__ == "__main__":
    sys.exit(main())
