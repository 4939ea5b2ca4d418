"""Damage is refused and harmless loss is taken, judged by the whole picture's pixels; files are written by Pillow."""

from __future__ import annotations

import io
import random
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from gated_vae.preprocessing.decoding.decode import PictureError, decode
from tests.folders import picture

END, NO_CHUNK = b"\xff\xd9", b"\0\0\0\0IEND\xaeB`\x82"
KINDS: dict[str, dict[str, object]] = {
    "sequential": {},
    "own tables": {"optimize": True},
    "restarts": {"restart_marker_blocks": 7},
    "progressive": {"progressive": True},
}


def jpeg(seed: int = 0, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(seed, 218, 178)).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def png(seed: int = 0) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(seed, 218, 178)).save(file, "PNG")
    return file.getvalue()


def grey(data: bytes) -> np.ndarray:
    return decode(data, cv2.IMREAD_GRAYSCALE)


def refusal(data: bytes) -> str:
    with pytest.raises(PictureError) as refused:
        grey(data)
    return str(refused.value)


def middle_of_codes(data: bytes, share: float = 0.5) -> int:
    """A place among the Huffman codes of the first scan (of all, but for progressive ones)."""
    start = data.index(b"\xff\xda") + 14
    return start + int((len(data) - start) * share)


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_may_lack_its_end_or_have_more_after_it(kind: str) -> None:
    whole = jpeg(**KINDS[kind])
    expected = cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_GRAYSCALE)
    zeros = bytes(700)
    for data in (
        whole,
        whole[:-1],
        whole[:-2],
        whole + b"more" * 99,
        whole + zeros,
        whole[:-2] + zeros,
        whole[:-2] + zeros + END,
    ):
        assert np.array_equal(grey(data), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_jpeg_with_a_hole_or_cut_is_damaged(kind: str, share: float) -> None:
    whole = jpeg(**KINDS[kind])
    at = middle_of_codes(whole, share)
    tail = bytes(len(whole) - at - 2)
    for data in (whole[:at], whole[:at] + END, whole[:at] + tail, whole[:at] + tail + END):
        assert refusal(data).startswith("damaged JPEG: ")
    for hole in (32, 64, 512):
        assert refusal(whole[:at] + bytes(hole) + whole[at + hole :]).startswith("damaged JPEG: ")
    assert refusal(whole[:-3] + END) == "damaged JPEG: premature end of data segment"
    assert refusal(whole[:100]).startswith("JPEG that OpenCV cannot decode")


@pytest.mark.parametrize("options", [*KINDS.values(), {"restart_marker_rows": 1, "optimize": True}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_zeros_that_are_a_whole_jpegs_own(mode: str, options: dict[str, object]) -> None:
    """Flat pictures with tables of their own have hundreds of them among their codes; so have other parts of a file."""
    pixels = np.zeros((300, 2000, 3), np.uint8)
    pixels[200:220, 40:80] = picture(1, 20, 40)
    for image in (Image.fromarray(pixels), Image.new("RGB", (2000, 300), (10, 200, 90))):
        file = io.BytesIO()
        image.convert(mode).save(file, "JPEG", comment=bytes(300), **options)
        assert np.array_equal(grey(file.getvalue()), grey(file.getvalue()[:-2]))
    if options.get("optimize"):
        assert bytes(32) in file.getvalue()[middle_of_codes(file.getvalue(), 0) :]


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def test_a_png_may_have_more_after_its_end_and_bad_text() -> None:
    whole = png()
    text = chunk(b"tEXt", b"Comment\0hello")
    expected = cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_GRAYSCALE)
    bad_text = whole[:33] + text[:-1] + bytes([text[-1] ^ 1]) + whole[33:]
    for data in (whole, whole + bytes(99), bad_text):
        assert np.array_equal(grey(data), expected)


def test_a_damaged_png_is_refused_in_words() -> None:
    whole = png()
    at = len(whole) // 2
    data = zlib.compress(b"\0" + bytes(178 * 3))
    short = whole[:33] + chunk(b"IDAT", data) + NO_CHUNK
    flipped = whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:]
    for damaged in (whole[:at], whole[:at] + bytes(len(whole) - at), whole[:-12], whole[:-5], flipped, short):
        assert "PNG" in refusal(damaged)
    assert refusal(flipped).startswith("damaged PNG: ")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty file"),
        (bytes(4096), "nothing but zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "text: an error page, or what Git LFS leaves"),
        (bytes(range(256)), "not a picture that OpenCV can decode"),
        (b"BM" + bytes(60), "BMP that OpenCV cannot decode"),
        (cv2.imencode(".bmp", picture(1))[1].tobytes()[:-9], "BMP that OpenCV cannot decode"),
    ],
)
def test_reasons_are_in_words(data: bytes, words: str) -> None:
    with pytest.raises(PictureError, match=words):
        grey(data)


@pytest.mark.parametrize("flags", [cv2.IMREAD_GRAYSCALE, cv2.IMREAD_COLOR])
def test_flags_are_opencvs(flags: int) -> None:
    assert np.array_equal(decode(png(), flags), cv2.imdecode(np.frombuffer(png(), np.uint8), flags))


def test_threads_know_whose_picture_was_damaged(capfd: pytest.CaptureFixture[str]) -> None:
    """And nothing of it is seen, while what Python prints meanwhile is."""
    whole, rng = [jpeg(seed) for seed in range(8)], random.Random(0)
    wanted = [rng.random() < 0.3 for _ in range(400)]
    files = [
        data[: len(data) // 2] + END if bad else data
        for bad, data in ((bad, whole[place % 8]) for place, bad in enumerate(wanted))
    ]

    def is_refused(data: bytes) -> bool:
        try:
            grey(data)
        except PictureError:
            return True
        return False

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(is_refused, files)) == wanted
    assert capfd.readouterr() == ("", "")
