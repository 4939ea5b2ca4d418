"""What `preprocess_celeba` is asked to read: checked, listed and identified before anything is written."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from gated_vae.preprocessing.errors import raise_trouble
from gated_vae.preprocessing.files import digest, opened
from gated_vae.preprocessing.openface.listing import CSV, DETAILS, OUTPUT, list_files, listing_digests, pick_csvs
from gated_vae.preprocessing.openface.pictures import WholePictures, list_aligned
from gated_vae.preprocessing.sources.celeba.lists import (
    People,
    read_attributes,
    read_identities,
    read_list,
    read_splits,
)
from gated_vae.preprocessing.sources.celeba.options import FOLDER, CelebaOptions
from gated_vae.preprocessing.sources.sizes import as_told, shape_of, size_of
from gated_vae.preprocessing.store_writer import Plan

LOOKED_AT = 21  # CSVs whose headers tell how faces can be cut out
_REMEDY = "Give the folder that was OpenFace's -out_dir."


@dataclass(frozen=True)
class Source:
    """Everything that was found; paths are those in the folder that OpenFace wrote."""

    sizes: dict[str, int]  # bytes of each CSV by path, sorted
    lonely_details: list[str]  # details without a CSV: images in which OpenFace found no face
    pictures: WholePictures | None  # whole pictures, where asked for
    people: People
    crop: str  # one of `CROPS`
    plan: Plan


def survey(options: CelebaOptions) -> Source:
    """List and check what the options name.

    The digest covers names and sizes of CSVs, details and pictures and the content of the lists; `Plan.times` covers when each
    was last changed. `GatedVAEError` when a folder or file is missing, has nothing to read in it, or a list has a bad line.
    """
    root = options.openface.absolute()
    files = list_files(root, OUTPUT, _REMEDY)
    csvs = pick_csvs(files, options.openface, _REMEDY)
    stems = {name[: -len(CSV)] for name in csvs}
    pictures = WholePictures(options.images.absolute(), root) if options.images else None
    by_folder = options.identities == FOLDER
    lists = (
        (read_identities, None if by_folder else options.identities),
        (read_splits, options.partitions),
        (read_attributes, options.attributes),
    )
    crop = options.crop or ("aligned" if not pictures else "landmarks" if _have_landmarks(root, csvs) else "centre")
    aligned = chain.from_iterable(list_aligned(os.fspath(root), csv) for csv in csvs)
    sizes, times = listing_digests(chain(files.items(), pictures.files.items() if pictures else aligned))
    size = size_of(options.size)
    return Source(
        sizes={name: files[name].size for name in csvs},
        lonely_details=[name for name in files if name.endswith(DETAILS) and name.removesuffix(DETAILS) not in stems],
        pictures=pictures,
        people=People([read(path) for read, path in lists if path], by_folder, options.split),
        crop=crop,
        plan=Plan(
            kind="celeba",
            source_digest=digest(sizes, *(read_list(path) if path else b"" for _, path in lists)),
            inputs=tuple(path for path in (options.openface, options.images, *(path for _, path in lists)) if path),
            times=digest(times),
            parameters={
                "size": as_told(size),
                **({"colour": True} if options.colour else {}),
                "min_confidence": float(options.min_confidence),
                "max_angle": float(options.max_angle),
                "crop": crop,
                "face": options.face,
                "identities": "folder" if by_folder else options.identities is not None,
                "partitions": options.partitions is not None,
                "split": options.split.told() if options.split else None,
                "attributes": options.attributes is not None,
            },
            image_shape=shape_of(size, colour=options.colour),
        ),
    )


def _have_landmarks(root: Path, csvs: Sequence[str]) -> bool:
    """Whether most CSVs, judged by the first of them, have columns of landmarks."""
    found = []
    for csv in csvs[:LOOKED_AT]:
        try:
            with opened(f"{root}/{csv}") as handle:
                header = os.read(handle, 1 << 16).lstrip().partition(b"\n")[0]
        except OSError as error:
            raise_trouble(error)
            continue
        found.append(re.search(rb"(?<!\w)y_67(?!\w)", header) is not None)
    return 2 * sum(found) > len(found)
