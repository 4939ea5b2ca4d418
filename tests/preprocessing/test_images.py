from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from gated_vae.preprocessing.decoding.decode import PictureError
from gated_vae.preprocessing.decoding.fit import resize_middle
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.images import decode_grey, read_file, read_pictures
from tests.folders import picture, write_picture


def area_weights(length: int, size: int) -> np.ndarray:
    """Share of source pixel j in target pixel i, when length pixels are averaged into size."""
    edges = np.arange(size + 1) * length / size
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(overlap, 0, None) * size / length


@pytest.mark.parametrize(("height", "width", "size"), [(112, 112, 64), (218, 178, 64), (90, 160, 32), (64, 64, 64)])
def test_resize_averages_areas_of_the_middle_square(height: int, width: int, size: int) -> None:
    grey = picture(1, height, width)[:, :, 0]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    weights = area_weights(side, size)
    expected = weights @ grey[top : top + side, left : left + side].astype(float) @ weights.T
    assert np.abs(resize_middle(grey, (size, size)).astype(float) - expected).max() <= 0.51


def test_grey_levels_by_hand(tmp_path: Path) -> None:
    colours = {(255, 0, 0): 29, (0, 255, 0): 150, (0, 0, 255): 76, (10, 200, 90): 145, (255, 255, 255): 255}  # BGR
    for colour, level in colours.items():
        cv2.imwrite(str(tmp_path / "a.bmp"), np.full((4, 4, 3), colour, np.uint8))
        assert np.all(decode_grey((tmp_path / "a.bmp").read_bytes()) == level), colour


@pytest.mark.parametrize("suffix", [".bmp", ".png", ".jpg"])
def test_decodes_what_pillow_decodes(tmp_path: Path, suffix: str) -> None:
    path = write_picture(tmp_path / f"a{suffix}", 3)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("L"), int)
    assert np.abs(decode_grey(path.read_bytes()) - expected).max() <= 2


def test_writes_into_the_array_given(tmp_path: Path) -> None:
    pixels = decode_grey(write_picture(tmp_path / "a.bmp", 5).read_bytes())
    batch = np.zeros((2, 64, 64), np.uint8)
    resize_middle(pixels, (64, 64), batch[1])
    assert not batch[0].any()
    assert np.array_equal(batch[1], resize_middle(pixels, (64, 64)))


@pytest.mark.parametrize("suffix", [".bmp", ".png", ".jpg"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_short_is_no_picture(tmp_path: Path, suffix: str, share: float) -> None:
    data = write_picture(tmp_path / f"a{suffix}", 3).read_bytes()
    with pytest.raises(PictureError):
        decode_grey(data[: int(len(data) * share)])


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "folder.png"):
        with pytest.raises(OSError, match="regular"):
            read_file(os.fspath(tmp_path / name))
    with pytest.raises(FileNotFoundError):
        read_file(os.fspath(tmp_path / "absent.png"))


def test_a_small_file_cannot_claim_all_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(cv2.imencode(".png", np.zeros((9000, 9000), np.uint8))[1].tobytes())
    assert path.stat().st_size < 200_000
    code = f"from gated_vae.preprocessing.images import *\ntry: decode_grey(read_file({os.fspath(path)!r}))\n"
    code += "except PictureError as error: print(error)"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("OPENCV")
    }  # this process has set it
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == ("more than 67108864 pixels\n", "")


def test_pictures_become_the_array_that_a_model_takes(tmp_path: Path) -> None:
    """In the order given, each as OpenCV reads it; a file that is no picture is named."""
    paths = [tmp_path / name for name in ("b.png", "a.jpg", "c.bmp")]
    for path, shape in zip(paths, ((20, 30), (41, 16), (16, 16)), strict=True):
        cv2.imwrite(str(path), np.random.default_rng(len(path.name)).integers(0, 256, shape, dtype=np.uint8))
    found = read_pictures([paths[0], str(paths[1]), paths[2]], (16, 16))
    assert (found.shape, found.dtype) == ((3, 16, 16), np.uint8)
    grey = cv2.imread(str(paths[0]), cv2.IMREAD_GRAYSCALE)[:, 5:25]
    np.testing.assert_array_equal(found[0], cv2.resize(grey, (16, 16), interpolation=cv2.INTER_AREA))
    np.testing.assert_array_equal(found[1], cv2.imread(str(paths[1]), cv2.IMREAD_GRAYSCALE)[12:28])
    assert read_pictures([], (8, 8)).shape == (0, 8, 8)
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(GatedVAEError, match=r"notes.txt is no picture"):
        read_pictures(tmp_path.glob("*.txt"), (16, 16))
