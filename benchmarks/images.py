"""Decoding pictures beside bare OpenCV and Pillow loops: `python -m benchmarks.images [FOLDER] [--repeats 5]`.

FOLDER holds what FaceLandmarkImg wrote, aligned faces included (default: celeba/processed of GATED_VAE_DATA; without it,
pictures of that form are made up). The floor is cv2.imread and cv2.resize of the same files, whose names are known, into
one array: on one core, and on every core in as many processes, started beforehand, that send nothing back. Pillow, where it
is installed, does the same on one core (grey, resized by averaging boxes). Ours is the
decoding round of `pipe preprocess celeba`, checks and durable shards on disk included. Runs alternate.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from benchmarks.timing import Record, alternate, ratio, show
from gated_vae.preprocessing.compute import count_workers, threads
from gated_vae.preprocessing.image_file import make_images
from gated_vae.preprocessing.images import use_one_thread
from gated_vae.preprocessing.sources.pictures import Pictures, decode_shard
from gated_vae.preprocessing.store_writer import REGION_IMAGES

SIZE = 64
STAGE = "images to 64x64 grey"

Run = Callable[[], object]


def bare(files: list[str]) -> None:
    pixels = np.empty((len(files), SIZE, SIZE), np.uint8)
    for place, file in enumerate(files):
        cv2.resize(cv2.imread(file, cv2.IMREAD_GRAYSCALE), (SIZE, SIZE), pixels[place], interpolation=cv2.INTER_AREA)


@contextmanager
def bare_on(files: list[str], processes: int) -> Iterator[Callable[[int], None]]:
    """Start processes that know the files; yields the bare loop over them, cut into so many parts.

    The names go to them in a file and a task is two numbers: names through the pool's pipe, megabytes of them, can stall it.
    """
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "names.json")
        names.write_text(json.dumps(files))
        with ProcessPoolExecutor(processes, get_context("spawn"), _know, (names,)) as pool:

            def bare_in_parts(parts: int) -> None:
                list(pool.map(_bare_part, range(parts), [parts] * parts))

            yield bare_in_parts


_known: list[str] = []


def _know(names: Path) -> None:
    use_one_thread()
    _known.extend(json.loads(names.read_text()))


def _bare_part(part: int, parts: int) -> None:
    bare(_known[part::parts])


def with_pillow(files: list[str]) -> None:
    from PIL import Image

    pixels = np.empty((len(files), SIZE, SIZE), np.uint8)
    for place, file in enumerate(files):
        with Image.open(file) as image:
            pixels[place] = image.convert("L").resize((SIZE, SIZE), Image.Resampling.BOX)


def ours(files: list[str], workers: int) -> None:
    names = [os.fsencode(file) for file in files]
    with tempfile.TemporaryDirectory() as folder:
        regions = make_images(Path(folder, "store", "images.npy"), (SIZE, SIZE), len(names), REGION_IMAGES)
        with threads(workers) as run:
            pictures = Pictures("", names)
            list(run(decode_shard, [(pictures.part(region), region) for region in regions]))


def find_pictures(folder: Path) -> list[str]:
    return sorted(map(os.fspath, folder.glob("**/*_aligned/*_det_*.*")))


def make_up(folder: Path, count: int) -> None:
    """Smooth grey pictures of 112 x 112 as jpg, about 3 kB each."""
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = cv2.resize(rng.integers(0, 256, (12, 12), dtype=np.uint8), (112, 112), interpolation=cv2.INTER_CUBIC)
        (folder / f"{number:06d}_aligned").mkdir()
        cv2.imwrite(f"{folder}/{number:06d}_aligned/face_det_000000.jpg", pixels)


def compare(files: list[str], repeats: int) -> list[Record]:
    use_one_thread()
    count = count_workers()
    with bare_on(files, count) as bare_in_parts:
        runs: dict[str, Run] = {
            "bare loop, one core": lambda: bare(files),
            "ours, one core": lambda: ours(files, 1),
            "bare loop, every core": lambda: bare_in_parts(count),
            "ours, every core": lambda: ours(files, count),
        }
        if find_spec("PIL"):
            runs["Pillow"] = lambda: with_pillow(files)
        times = alternate(runs, repeats)
    records = [
        ratio(STAGE, f"bare OpenCV loop, {where}", times[f"ours, {where}"], times[f"bare loop, {where}"], 1.1)
        for where in ("one core", "every core")
    ]
    if "Pillow" in times:
        peer = "bare Pillow loop, one core"
        records.append(ratio(STAGE, peer, times["ours, one core"], times["Pillow"], at_most=False))
    return records


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    real = os.environ.get("GATED_VAE_DATA")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(real, "celeba", "processed") if real else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--files", type=int, default=5000, help="how many to make up when there is no folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made_up:
        if arguments.folder is None:
            make_up(Path(made_up), arguments.files)
        return show(compare(find_pictures(arguments.folder or Path(made_up)), arguments.repeats))


if __name__ == "__main__":
    sys.exit(main())
