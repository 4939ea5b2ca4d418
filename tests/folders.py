"""Folders such as OpenFace writes them, made by hand for the tests of preprocessing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

Row = Mapping[str, float]

GOOD = {
    "confidence": 0.98,
    "pose_Rx": 0.1,
    "pose_Ry": -0.2,
    "pose_Rz": 0.0,
    "AU01_r": 0.5,
    "AU12_r": 2.25,
    "AU12_c": 1.0,
}


def picture(seed: int, height: int = 112, width: int = 112) -> np.ndarray:
    """A smooth colour picture, another for every seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def write_picture(path: Path, seed: int, height: int = 112, width: int = 112) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(path.suffix, picture(seed, height, width))[1]
    path.write_bytes(encoded.tobytes())
    return path


def write_csv(path: Path, rows: Sequence[Row], separator: str = ", ") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [separator.join(rows[0]), *(separator.join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_details(folder: Path, stem: str, given: str, *, csv: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"Input:in/{given}", f"Input full path:/data/in/{given}", f"Output aligned directory:{stem}_aligned"]
    lines += [f"Output csv:{stem}.csv", "Pose: 1"] if csv else []
    (folder / f"{stem}_of_details.txt").write_bytes(os.fsencode("\n".join(lines) + "\n"))


def write_image_faces(folder: Path, stem: str, faces: Sequence[Row], *, given: str = "", suffix: str = ".bmp") -> None:
    """What FaceLandmarkImg writes for one image: details, CSV, aligned faces (seeded by stem and face)."""
    write_details(folder, stem, given or f"{stem}.jpg", csv=bool(faces))
    if faces:
        write_csv(folder / f"{stem}.csv", [{"face": index, **GOOD, **face} for index, face in enumerate(faces)])
    for index in range(len(faces)):
        write_picture(folder / f"{stem}_aligned" / f"face_det_{index:06d}{suffix}", seed_of(stem, index))


def seed_of(stem: str, face: int) -> int:
    return sum(map(ord, stem)) * 10 + face


def read_tree(folder: Path) -> dict[str, bytes]:
    """Every file in a folder but the lock and the note of its source's times, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", ".times")
    }
