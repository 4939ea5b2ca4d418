"""What sources of pictures have in common: tasks that decode, and what is told when nothing is left."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from gated_vae.preprocessing.compute import RunTasks, processes, threads
from gated_vae.preprocessing.decoding.decode import PictureError
from gated_vae.preprocessing.decoding.fit import Pixels, Size, middle, resize_middle
from gated_vae.preprocessing.errors import BadSourceError, raise_trouble
from gated_vae.preprocessing.image_file import Region
from gated_vae.preprocessing.images import decode_colour, decode_grey, read_file, use_one_thread
from gated_vae.preprocessing.openface.align import Array, cut_face, landmarks_of, share_outside
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.scheduler.dask import cluster
from gated_vae.preprocessing.store import Rejected
from gated_vae.preprocessing.store_writer import REGION_IMAGES, StoreWriter

BAD_SECTOR = os.strerror(errno.EIO)
FEW_BAD = 10  # files that it may cost, or one in a hundred: more is no matter of a few sectors
PROCESSES_FROM = 10_000  # files: what processes take to start, threads lose on about so many by sharing the interpreter
BLACK = 3  # grey levels; what JPEG may make of black


def workers_for(files: int, workers: int | None, scheduler: str | None) -> AbstractContextManager[RunTasks]:
    """The workers of a Dask scheduler; without one threads, or from `PROCESSES_FROM` files on processes (every core when None).

    A script that starts processes needs ``if __name__ == "__main__":``.
    """
    if scheduler is not None:
        return cluster(scheduler)
    return processes(workers) if workers != 1 and files >= PROCESSES_FROM else threads(workers)


class OutsideError(ValueError):
    """More of a face lies outside of what is stored of its picture than inside."""


@dataclass(frozen=True)
class Pictures:
    """Pictures to be stored."""

    root: str  # the folder in which they lie, an absolute path
    paths: Sequence[bytes]  # in it; names of files need not be text
    cuts: Array | None = (
        None  # (n, 2, 3) transforms into OpenFace's square, NaN where unknown; faces that lie outside fail
    )
    crop: str = "centre"  # `landmarks` where faces are cut out by them; else the middle of pictures is stored

    def part(self, region: Region) -> Pictures:
        """Those of one region."""
        places = slice(region.start, region.stop)
        return Pictures(self.root, self.paths[places], None if self.cuts is None else self.cuts[places], self.crop)


def decode_all(
    pictures: Pictures,
    origins: Sequence[tuple[str, int | None]],
    writer: StoreWriter,
    run: RunTasks,
    progress: Progress,
    before: int = 0,
) -> int:
    """Fill the store's images and reject those that fail as `origins`, the source and row of each; return how many there are.

    `before` steps were done already.
    """
    count = len(pictures.paths)
    regions = writer.images(count, REGION_IMAGES)
    tasks = [(pictures.part(region), region) for region in regions]
    for region, _ in zip(regions, run(decode_shard, tasks), strict=True):
        progress(before + region.stop, before + count, "decoding pictures")
    failed = writer.failed()
    for place, why in failed.items():
        writer.reject(*origins[place], *why)
    return count - len(failed)


def decode_shard(pictures: Pictures, region: Region) -> None:
    """Turn as many pictures as a region has places into its pixels, grey or in colour, and fill it with them, unless it is."""
    if region.is_filled():
        return
    use_one_thread()
    folder = os.fsencode(pictures.root)
    pixels = np.zeros((region.count, *region.shape), np.uint8)
    decode = decode_colour if len(region.shape) == 3 else decode_grey
    failed: dict[int, tuple[str, str]] = {}
    for place, path in enumerate(pictures.paths):
        try:
            picture = decode(read_file(os.path.join(folder, path)))  # noqa: PTH118
            _fill(pixels[place], picture, pictures.crop, None if pictures.cuts is None else pictures.cuts[place])
        except PictureError as error:
            failed[place] = error.reason, str(error)
        except OutsideError as error:
            failed[place] = "outside", str(error)
        except OSError as error:
            raise_trouble(error)
            failed[place] = "unreadable_picture", error.strerror or str(error)
    for place in np.flatnonzero(pixels.reshape(len(pixels), -1).max(axis=1) <= BLACK).tolist():
        failed.setdefault(place, ("blank", "it is black all over"))
    region.write(pixels, [(place, *why) for place, why in sorted(failed.items())])


def _fill(out: Pixels, picture: Pixels, crop: str, cut: Array | None) -> None:
    """Put what is stored of a picture into its place; `OutsideError` where the face is known to lie elsewhere."""
    shape = out.shape[0], out.shape[1]
    if cut is None or not np.isfinite(cut).all():
        resize_middle(picture, shape, out)
    else:
        _refuse_outside(picture, crop, cut, shape)
        if crop == "landmarks":
            cut_face(picture, cut, shape, out)
        else:
            resize_middle(picture, shape, out)
    if out.ndim == 3:
        cv2.cvtColor(out, cv2.COLOR_BGR2RGB, dst=out)


def _refuse_outside(picture: Pixels, crop: str, cut: Array, shape: Size) -> None:
    height, width = picture.shape[:2]
    part, where = (slice(0, height), slice(0, width)), "its picture"
    if crop != "landmarks":
        part = middle(height, width, shape)
        where = f"the middle{' square' * (shape[0] == shape[1])} that is stored of its picture"
    share = share_outside(landmarks_of(cut), *part)
    if share > 0.5:
        raise OutsideError(f"{share:.0%} of the face is outside {where}")


def refuse_bad_disk(source: Path, rejected: Sequence[Rejected], files: int) -> None:
    """Raise where more files than a few bad sectors may hold could not be read."""
    broken = [item for item in rejected if item.detail.startswith(BAD_SECTOR)]
    if len(broken) > max(FEW_BAD, files // 100):
        why = f"{len(broken)} files could not be read, the first is {broken[0].source}: {BAD_SECTOR}."
        remedy = "Look after the disk or network drive that they lie on, then run the same command again."
        raise BadSourceError(f"{source} cannot be read.", why, remedy)


def why_nothing(writer: StoreWriter) -> tuple[str, str]:
    """Of which kinds all that was rejected is, in words, and the most frequent kind."""
    counts = Counter(item.reason for item in writer.rejected).most_common()
    first = next(item for item in writer.rejected if item.reason == counts[0][0])
    where = first.source + ("" if first.row is None else f" row {first.row}")
    why = ", ".join(f"{count} {reason}" for reason, count in counts)
    told = f"Rejected: {why}. The first, {where}: {first.detail.rstrip('.')}. All are in {writer.beside}."
    return told, counts[0][0]
