from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import pickle
import time
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from gated_vae.preprocessing import store, store_writer
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.image_file import Region
from gated_vae.preprocessing.sources.base import Made, make_store
from gated_vae.preprocessing.sources.grids import dsprites
from gated_vae.preprocessing.sources.grids.base import sample_table
from gated_vae.preprocessing.sources.grids.dsprites import FACTORS, DSprites, factor_values, read_official
from gated_vae.preprocessing.sources.grids.render import draw_everywhere, fill, outline
from gated_vae.preprocessing.store import open_store

TINY = {"shape": 2, "scale": 2, "orientation": 3, "posX": 2, "posY": 2}
TINY_ROWS = 48


@pytest.fixture(scope="module")
def real_frames(real_data: Path) -> dict[str, np.ndarray]:
    with np.load(real_data / "dsprites" / "gif_labelled_320.npz", allow_pickle=False) as npz:
        return {key: npz[key] for key in ("imgs", "latents_classes", "latents_values")}


# --- the renderer ---


def test_drawn_sprites_match_the_real_pixels(real_frames: dict[str, np.ndarray]) -> None:
    drawn: dict[tuple[int, ...], np.ndarray] = {}
    overlap = []
    frames = zip(real_frames["imgs"], real_frames["latents_classes"], real_frames["latents_values"], strict=True)
    for real, (_, shape, scale, angle, x, y), (_, _, scale_value, angle_value, _, _) in frames:
        if (shape, scale, angle) not in drawn:
            drawn[shape, scale, angle] = draw_everywhere(shape, scale_value, angle_value)
        ours = drawn[shape, scale, angle][x, y] > 0
        overlap.append((ours & (real > 0)).sum() / (ours | (real > 0)).sum())
    assert len(overlap) == 320
    assert np.mean(overlap) > 0.9998
    assert min(overlap) > 0.99


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        (0, [(10, 10), (12, 12), (14, 14), (16, 16), (18, 18), (20, 20)]),
        (1, [(12, 8), (16, 8), (18, 10), (20, 12), (22, 12), (26, 14)]),
        (2, [(10, 9), (12, 11), (14, 13), (16, 14), (18, 15), (20, 17)]),
    ],
)
def test_upright_sprites_have_the_measured_width_and_height(shape: int, sizes: list[tuple[int, int]]) -> None:
    for scale, (width, height) in zip(np.linspace(0.5, 1, 6), sizes, strict=True):
        lit = draw_everywhere(shape, scale, 0.0)[0, 0] > 0
        assert (np.count_nonzero(lit.any(axis=0)), np.count_nonzero(lit.any(axis=1))) == (width, height)


def test_areas_and_centroid_are_the_measured_ones() -> None:
    def area(shape: int, scale: float, angle: float = 0.0) -> int:
        return np.count_nonzero(draw_everywhere(shape, scale, angle)[0, 0])

    assert [area(0, 1.0), area(1, 0.5), area(1, 1.0), area(2, 0.5), area(2, 1.0)] == [400, 76, 288, 58, 222]
    assert all(364 <= area(0, 1.0, 2 * np.pi * k / 39) <= 372 for k in range(1, 39))
    rows, columns = np.nonzero(draw_everywhere(2, 1.0, 0.0)[0, 0])
    assert columns.mean() == 15.5
    assert rows.mean() - 15.5 == pytest.approx(-1.9, abs=0.05)


def test_sprites_stand_where_their_place_says() -> None:
    square = draw_everywhere(0, 1.0, 0.0)
    for x, y in [(0, 0), (31, 0), (0, 31), (31, 31), (7, 22)]:
        rows, columns = np.nonzero(square[x, y])
        assert columns.mean() == pytest.approx(15.5 + 32 * x / 31, abs=0.5)
        assert rows.mean() == pytest.approx(15.5 + 32 * y / 31, abs=0.5)
    assert np.array_equal(square[31, 31, 32:, 32:], square[0, 0, :32, :32])


def test_angles_turn_counter_clockwise_and_meet_again() -> None:
    upright, quarter = draw_everywhere(2, 0.8, 0.0)[0, 0], draw_everywhere(2, 0.8, np.pi / 2)[0, 0]
    assert np.array_equal(np.rot90(upright[:32, :32]), quarter[:32, :32])
    for shape in range(3):
        assert np.array_equal(draw_everywhere(shape, 0.6, 0.0), draw_everywhere(shape, 0.6, 2 * np.pi))


def test_sprites_never_touch_the_border_and_are_black_or_white() -> None:
    for shape in range(3):
        images = draw_everywhere(shape, 1.0, 0.6)
        assert set(np.unique(images)) == {0, 255}
        assert not images[..., [0, 1, 62, 63], :].any()
        assert not images[..., [0, 1, 62, 63]].any()
        assert np.ptp(np.count_nonzero(images, axis=(2, 3))) < 20  # nothing is cut off anywhere


def test_fill_agrees_with_another_implementation() -> None:
    path = pytest.importorskip("matplotlib.path")
    axis = np.linspace(-11, 11, 97)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    for shape in range(3):
        turned = outline(shape) @ np.array([[0.8, 0.6], [-0.6, 0.8]])
        expected = path.Path(turned).contains_points(points).reshape(97, 97)
        assert np.array_equal(fill(turned, axis, axis), expected)


# --- the official file ---


def tiny_arrays() -> dict[str, np.ndarray]:
    """A file in the official form on a small grid, written out by loops."""
    classes, values = [], []
    for shape in range(2):
        for scale in range(2):
            for angle in range(3):
                for x in range(2):
                    for y in range(2):
                        classes.append([0, shape, scale, angle, x, y])
                        values.append([1, shape + 1, [0.5, 1][scale], [0, np.pi, 2 * np.pi][angle], x, y])
    images = np.random.default_rng(0).integers(0, 2, (TINY_ROWS, 64, 64), dtype=np.uint8)
    return {"imgs": images, "latents_classes": np.array(classes), "latents_values": np.array(values, np.float64)}


def read_tiny(path: Path) -> np.ndarray:
    return np.concatenate(list(read_official(path, TINY)))


class Trap:
    """Writes a file when unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path(self.path),)


def test_official_images_come_in_order_scaled_to_255(tmp_path: Path) -> None:
    arrays = tiny_arrays()
    np.savez_compressed(tmp_path / "d.npz", **arrays)
    assert np.array_equal(read_tiny(tmp_path / "d.npz"), arrays["imgs"] * 255)


def test_pickled_metadata_is_never_read(tmp_path: Path) -> None:
    trap = np.array([Trap(str(tmp_path / "sprung"))], object)
    np.savez(tmp_path / "d.npz", metadata=trap, **tiny_arrays())
    read_tiny(tmp_path / "d.npz")
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(trap))
    assert (tmp_path / "sprung").exists()  # the trap works


@pytest.mark.parametrize("key", ["imgs", "latents_classes", "latents_values"])
def test_pickled_arrays_are_refused_unread(tmp_path: Path, key: str) -> None:
    np.savez(tmp_path / "d.npz", **{**tiny_arrays(), key: np.array([Trap(str(tmp_path / "sprung"))], object)})
    with pytest.raises(GatedVAEError, match=f"{key} is object"):
        read_tiny(tmp_path / "d.npz")
    assert not (tmp_path / "sprung").exists()


def swapped_rows(array: np.ndarray) -> np.ndarray:
    return array[[1, 0, *range(2, TINY_ROWS)]]


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("imgs", lambda a: a.astype(np.float64), "imgs is float64"),
        ("imgs", lambda a: a[:-1], r"imgs is uint8 \(47, 64, 64\), not uint8 \(48, 64, 64\)"),
        ("imgs", lambda a: np.asfortranarray(a), "by columns"),
        ("imgs", lambda a: a * np.uint8(255), "pixel value 255"),
        (
            "latents_classes",
            swapped_rows,
            r"Row 0 of latents_classes is \[0, 0, 0, 0, 0, 1\], not \[0, 0, 0, 0, 0, 0\]",
        ),
        ("latents_values", lambda a: a * 1.001, "Row 0 of latents_values"),
        ("latents_values", lambda a: np.where(a == 0.5, np.nan, a), "Row 0 of latents_values"),
        ("latents_values", lambda a: a.astype(np.float32), "latents_values is float32"),
    ],
)
def test_wrong_arrays_are_refused_with_what_is_wrong(tmp_path: Path, key: str, change: object, message: str) -> None:
    arrays = tiny_arrays()
    np.savez(tmp_path / "d.npz", **{**arrays, key: change(arrays[key])})  # type: ignore[operator]
    with pytest.raises(GatedVAEError, match=message):
        read_tiny(tmp_path / "d.npz")


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    arrays = tiny_arrays()
    del arrays["imgs"]
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(GatedVAEError, match=r"imgs\.npy"):
        read_tiny(tmp_path / "d.npz")


def test_any_truncation_or_flipped_byte_gives_a_clear_error_or_the_same_images(tmp_path: Path) -> None:
    arrays = tiny_arrays()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    whole, path = buffer.getvalue(), tmp_path / "d.npz"
    rng = np.random.default_rng(1)
    damaged = [whole[:n] for n in rng.integers(0, len(whole), 60)]
    for at in [*rng.integers(0, len(whole), 150), *range(200), *range(len(whole) - 250, len(whole))]:
        damaged.append(whole[:at] + bytes([whole[at] ^ (1 << int(rng.integers(8)))]) + whole[at + 1 :])
    refused = []
    for data in damaged:
        path.write_bytes(data)
        try:
            assert np.array_equal(read_tiny(path), arrays["imgs"] * 255)
        except GatedVAEError as error:
            refused.append(error)
    assert len(refused) > 200
    assert all(error.what.startswith(str(path)) and error.remedy for error in refused)


@pytest.mark.parametrize(
    "header", [b"(" * 190, b"{'descr': '|u1'", b"[]", b"{'descr': 3, 'fortran_order': 0, 'shape': 'x'}", b"\xff"]
)
def test_a_hostile_header_gives_a_clear_error(tmp_path: Path, header: bytes) -> None:
    np.savez(tmp_path / "d.npz", **{key: value for key, value in tiny_arrays().items() if key != "imgs"})
    with zipfile.ZipFile(tmp_path / "d.npz", "a") as archive:
        archive.writestr("imgs.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(GatedVAEError, match="is not the dSprites file"):
        read_tiny(tmp_path / "d.npz")


def test_surplus_bytes_are_refused(tmp_path: Path) -> None:
    arrays = tiny_arrays()
    np.savez(tmp_path / "d.npz", **{key: value for key, value in arrays.items() if key != "imgs"})
    image = io.BytesIO()
    np.save(image, arrays["imgs"])
    with zipfile.ZipFile(tmp_path / "d.npz", "a") as archive:
        archive.writestr("imgs.npy", image.getvalue() + b"x")
    with pytest.raises(GatedVAEError, match="after its last row"):
        read_tiny(tmp_path / "d.npz")


# --- the store ---


def make(out: Path, npz: Path | None = None, **options: Any) -> Made:
    """A store of the small grid, which is made in no time."""
    return make_store(DSprites(npz, TINY), out, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_row_order_is_the_official_one() -> None:
    assert list(FACTORS.items()) == [("shape", 3), ("scale", 6), ("orientation", 40), ("posX", 32), ("posY", 32)]
    table = sample_table(FACTORS, factor_values(FACTORS)).to_pandas()
    strides = {"shape": 245760, "scale": 40960, "orientation": 1024, "posX": 32, "posY": 1}
    assert len(table) == 737280
    assert (sum(table[name] * stride for name, stride in strides.items()) == np.arange(737280)).all()
    assert table.image[245760 + 5 * 40960 + 12 * 1024 + 3 * 32 + 31] == "shape=1 scale=5 orientation=12 posX=3 posY=31"
    assert table.loc[737279, ["shape_value", "scale_value", "posX_value", "posY_value"]].tolist() == [3, 1, 1, 1]
    assert np.allclose(table.orientation_value, table.orientation * 2 * np.pi / 39)
    assert table.image.is_unique


def test_a_drive_that_is_away_is_no_damage_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While zipfile looks for its directory: it would say that this is no zip file."""

    def away(_file: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    np.savez(tmp_path / "d.npz", **tiny_arrays())
    monkeypatch.setattr(zipfile, "_EndRecData", away)
    with pytest.raises(OSError, match=r"Stale file handle: '.*d\.npz'"):
        make(tmp_path / "s", tmp_path / "d.npz")


def test_a_store_from_the_npz_opens_and_says_what_it_holds(tmp_path: Path) -> None:
    arrays = tiny_arrays()
    np.savez(tmp_path / "d.npz", **arrays)
    calls: list[tuple[int, int]] = []
    made, already_done = make(tmp_path / "s", tmp_path / "d.npz", progress=lambda *call: calls.append(call))
    assert (len(made), already_done) == (TINY_ROWS, False)
    assert calls == [(done, TINY_ROWS) for done in range(4, TINY_ROWS + 1, 4)]
    assert np.array_equal(made.images, arrays["imgs"] * 255)
    assert made.samples[list(TINY)].to_numpy().tolist() == arrays["latents_classes"][:, 1:].tolist()
    assert np.allclose(made.samples[[f"{name}_value" for name in TINY]], arrays["latents_values"][:, 1:])
    assert made.kind == "dsprites"
    assert list(made.manifest["factors"].items()) == list(TINY.items())
    assert made.parameters == {"source": "npz", "pixel_values": [0, 255]}


def test_running_again_does_nothing_and_another_source_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **tiny_arrays())
    out = tmp_path / "s"
    make(out)
    before = contents(out), store.images_path(out).stat().st_mtime_ns
    assert make(out).already_done
    with pytest.raises(GatedVAEError, match="holds another store"):
        make(out, tmp_path / "d.npz")
    assert (contents(out), store.images_path(out).stat().st_mtime_ns) == before


def test_overwriting_removes_groups_and_pairs(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **tiny_arrays())
    fresh, out = tmp_path / "fresh", tmp_path / "s"
    make(fresh, tmp_path / "d.npz")
    make(out)
    for path in (store.groups_path(out, "p"), store.pairs_path(out, "p"), store.centroids_path(out, "p")):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"stale")
    assert not make(out, tmp_path / "d.npz", overwrite=True).already_done
    assert contents(out) == contents(fresh)


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (dsprites, "draw_everywhere"),
        (dsprites, "sample_table"),
        *((store_writer, step) for step in ("finish_images", "write_parquet", "write_json", "commit")),
    ],
)
def test_a_run_that_dies_is_no_store_and_ends_the_same_when_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    make(tmp_path / "whole")
    with monkeypatch.context() as patch:

        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(module, step, die)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "s")
    with pytest.raises(GatedVAEError, match=r"is (no|not a finished) store"):
        open_store(tmp_path / "s")
    assert not make(tmp_path / "s").already_done
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


@pytest.mark.parametrize("drawn", [True, False])
def test_killed_half_way_it_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: bool
) -> None:
    np.savez(tmp_path / "d.npz", **tiny_arrays())
    npz = None if drawn else tmp_path / "d.npz"
    make(tmp_path / "whole", npz)
    written: list[int] = []
    real = Region.write
    monkeypatch.setattr(Region, "write", lambda region, *given: (written.append(region.start), real(region, *given)))

    def die(done: int, _total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "s", npz, progress=die)
    assert 5 <= len(written) < 12
    make(tmp_path / "s", npz)
    assert sorted(written) == list(range(0, TINY_ROWS, 4))  # each once
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_drawn_images_are_the_combinations_in_row_order(tmp_path: Path) -> None:
    make(tmp_path / "s")
    made = open_store(tmp_path / "s")
    for image, (_, *values) in zip(made.images, tiny_arrays()["latents_values"], strict=True):
        shape, scale, angle, x, y = values
        assert np.array_equal(image, draw_everywhere(int(shape) - 1, scale, angle)[int(x) * 31, int(y) * 31])


def test_a_bad_file_spoils_neither_the_folder_nor_a_later_run(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK")
    with pytest.raises(GatedVAEError, match="damaged or not an npz"):
        make(tmp_path / "s", tmp_path / "bad.npz")
    with pytest.raises(GatedVAEError, match="No such file"):
        make(tmp_path / "s", tmp_path / "none.npz")
    make(tmp_path / "s")


def test_the_public_path_insists_on_the_whole_grid(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **tiny_arrays())
    with pytest.raises(GatedVAEError, match=r"\(48, 6\), not int64 \(737280, 6\)"):
        make_store(DSprites(tmp_path / "d.npz"), tmp_path / "s")


def _preprocess(out: Path) -> None:
    make_store(DSprites(), out)


@pytest.mark.slow
def test_the_whole_store_survives_a_kill_and_is_made_in_under_a_minute(tmp_path: Path) -> None:
    out = tmp_path / "s"
    process = multiprocessing.get_context("spawn").Process(target=_preprocess, args=(out,))
    process.start()
    work = out / ".work"
    while len(list(work.glob("pixels-*"))) < 100:
        time.sleep(0.05)
    process.kill()
    process.join()
    before = {path: path.stat().st_mtime_ns for path in work.glob("pixels-*")}
    after: dict[Path, int] = {}

    def look(done: int, total: int) -> None:
        if done == total:
            after.update((path, path.stat().st_mtime_ns) for path in before)

    start = time.monotonic()
    assert not make_store(DSprites(), out, progress=look).already_done
    assert time.monotonic() - start < 60
    assert before == after  # drawn once
    images = open_store(out).images
    assert images.shape == (737280, 64, 64)
    for row in np.random.default_rng(0).integers(0, 737280, 50):
        shape, scale, angle, x, y = np.unravel_index(row, tuple(FACTORS.values()))
        expected = draw_everywhere(int(shape), 0.5 + scale / 10, 2 * np.pi * angle / 39)[x, y]
        assert np.array_equal(images[row], expected)
    assert json.loads(store.manifest_path(out).read_text())["taken"] == 737280
    store.images_path(out).unlink()  # 3 GB
