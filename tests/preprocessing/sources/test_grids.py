"""Factor grids in their published forms, of fewer classes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gated_vae.pairing.exact import pair_exactly
from gated_vae.pairing.stream.loader import PairLoader
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.sources.base import make_store
from gated_vae.preprocessing.sources.grids import mpi3d, shapes3d
from gated_vae.preprocessing.sources.grids.dsprites import DSprites
from gated_vae.preprocessing.sources.grids.hdf5 import open_hdf5, read_dataset
from gated_vae.preprocessing.sources.grids.mpi3d import MPI3D
from gated_vae.preprocessing.sources.grids.shapes3d import Shapes3D
from gated_vae.preprocessing.store import Store
from tests.pipelines.test_cli import pipe
from tests.preprocessing.sources.test_dsprites import TINY, contents, tiny_arrays

SHAPES = {"floor_hue": 2, "wall_hue": 3, "object_hue": 2, "scale": 2, "shape": 2, "orientation": 3}
OBJECTS = dict(zip(mpi3d.FACTORS[0], (2, 2, 2, 1, 2, 3, 3), strict=True))


def images_of(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def write_shapes(path: Path, **changes: Any) -> dict[str, np.ndarray]:
    """A file in the published form, its labels written out by loops."""
    values = [[0.0, 0.1], [0.0, 0.1, 0.2], [0.3, 0.4], [0.75, 1.25], [0.0, 1.0], [-30.0, 0.0, 30.0]]
    labels = np.array([*itertools.product(*values)])
    arrays = {"images": images_of(len(labels)), "labels": labels} | changes
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file.create_dataset(name, data=array, compression="gzip", chunks=(5, *array.shape[1:]))
    return arrays


def shapes(path: Path, out: Path) -> Store:
    return make_store(Shapes3D(path, SHAPES), out).store


def test_shapes_come_in_order_in_colour_with_their_own_values(tmp_path: Path) -> None:
    arrays = write_shapes(tmp_path / "3dshapes.h5")
    store = shapes(tmp_path / "3dshapes.h5", tmp_path / "s")
    assert (store.kind, store.manifest["image_shape"]) == ("shapes3d", [64, 64, 3])
    assert np.array_equal(store.images, arrays["images"])
    assert np.array_equal(store.samples[[f"{name}_value" for name in SHAPES]], arrays["labels"])
    assert store.samples["image"].iloc[-1] == "floor_hue=1 wall_hue=2 object_hue=1 scale=1 shape=1 orientation=2"
    pair_exactly(store, {"shape": ["shape"], "hue": ["floor_hue", "wall_hue", "object_hue"]})
    batch = next(iter(PairLoader(tmp_path / "s", 8)))
    assert batch.input.shape == (8, 64, 64, 3)
    assert np.array_equal(batch.target, arrays["images"][batch.target_id])


def test_the_published_sizes_are_insisted_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        np.prod([*shapes3d.FACTORS.values()]),
        [int(np.prod([*grid.values()])) for grid in mpi3d.FACTORS],
    ) == (
        480_000,
        [1_036_800, 460_800],
    )
    write_shapes(tmp_path / "a.h5")
    np.savez(tmp_path / "a.npz", images=images_of(8))
    assert pipe("preprocess", "shapes3d", "--h5", tmp_path / "a.h5", "--out", tmp_path / "s") == 1
    assert "labels is float64 (144, 6), not float64 (480000, 6)" in capsys.readouterr().err
    assert pipe("preprocess", "mpi3d", "--npz", tmp_path / "a.npz", "--out", tmp_path / "s") == 1
    assert "images is uint8 (8, 64, 64, 3)" in capsys.readouterr().err
    np.savez(tmp_path / "a.npz", pictures=images_of(8))
    assert pipe("preprocess", "mpi3d", "--npz", tmp_path / "a.npz", "--out", tmp_path / "s") == 1
    assert "\nThere is no item named 'images.npy' in the archive\n" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux counts what is read")
def test_chunks_of_many_images_are_unpacked_once(tmp_path: Path) -> None:
    """As h5py chooses them for 3D Shapes: 768 chunks of 4 x 4 pixels of many images each, there of 15,000, here of 7,500."""

    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    form, path = ((7500, 64, 64, 3), np.dtype(np.uint8)), tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        packed = {"compression": "gzip", "compression_opts": 1}
        file.create_dataset("images", data=np.zeros(*form), chunks=(7500, 4, 4, 1), **packed)
    before = bytes_read()
    with open_hdf5(path, "a file", "") as file:
        assert sum(len(block) for block in read_dataset(file, "images", form, 1200)) == 7500
    assert bytes_read() - before < 2 * path.stat().st_size


def outside(path: Path, name: str) -> None:
    """Replace an array by one that is a link into another file, which has it."""
    write_shapes(path.with_name("other.h5"))
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = h5py.ExternalLink("other.h5", name)


def soft(path: Path, name: str) -> None:
    with h5py.File(path, "a") as file:
        file.move(name, "elsewhere")
        file[name] = h5py.SoftLink("/elsewhere")


def raw(path: Path, name: str) -> None:
    """Replace an array by the bytes of a file of the user's."""
    (path.parent / "secret").write_bytes(b"x" * 144 * 6 * 8)
    with h5py.File(path, "a") as file:
        del file[name]
        file.create_dataset(name, (144, 6), np.float64, external=[(str(path.parent / "secret"), 0, 144 * 6 * 8)])


def virtual(path: Path, name: str) -> None:
    write_shapes(path.with_name("other.h5"))
    with h5py.File(path, "a") as file:
        del file[name]
        layout = h5py.VirtualLayout((144, 6), np.float64)
        layout[:] = h5py.VirtualSource(str(path.with_name("other.h5")), name, (144, 6))
        file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize("change", [outside, soft, raw, virtual])
def test_what_leads_out_of_a_file_is_not_followed(tmp_path: Path, change: Callable[[Path, str], None]) -> None:
    path = tmp_path / "3dshapes.h5"
    write_shapes(path)
    change(path, "labels")
    with pytest.raises(GatedVAEError, match=r"It has no labels|lies in other files"):
        shapes(path, tmp_path / "s")


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("images", lambda a: a[..., :1], r"images is uint8 \(144, 64, 64, 1\)"),
        ("images", lambda a: a.astype(np.float32), "images is float32"),
        ("images", lambda _: None, "It has no images"),
        ("labels", lambda a: a[[1, 0, *range(2, 144)]], "Row 0 of labels has value 1 of orientation, not 0"),
        ("labels", lambda a: np.where(a == 0.75, 1.25, a), "scale has 1 values, not 2"),
        ("labels", lambda a: np.where(a == 0.75, np.nan, a), r"scale has"),
    ],
)
def test_other_files_are_refused_with_what_is_wrong(
    tmp_path: Path, name: str, change: Callable[[np.ndarray], Any], told: str
) -> None:
    arrays = write_shapes(tmp_path / "a.h5")
    write_shapes(tmp_path / "3dshapes.h5", **{name: change(arrays[name])})
    with pytest.raises(GatedVAEError, match=told):
        shapes(tmp_path / "3dshapes.h5", tmp_path / "s")


def test_a_cut_or_damaged_file_gives_a_clear_error_or_the_same_images(tmp_path: Path) -> None:
    arrays = write_shapes(tmp_path / "whole.h5")
    whole, path = (tmp_path / "whole.h5").read_bytes(), tmp_path / "3dshapes.h5"
    rng = np.random.default_rng(0)
    refused: list[GatedVAEError] = []
    for at in [*rng.integers(0, len(whole), 25), *range(0, 2048, 97)]:
        data = whole[:at] if at % 2 else whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]
        path.write_bytes(data)
        try:
            store = shapes(path, tmp_path / f"s{at}-{len(refused)}")
            assert store.images.shape == arrays["images"].shape
        except GatedVAEError as error:
            refused.append(error)
    assert len(refused) > 15
    assert all(str(path) in error.what and error.remedy for error in refused)


def test_mpi3d_is_told_by_its_number_of_images(tmp_path: Path) -> None:
    images = images_of(144)
    np.savez_compressed(tmp_path / "mpi3d_toy.npz", images=images)
    store = make_store(
        MPI3D(tmp_path / "mpi3d_toy.npz", [{**OBJECTS, "object_size": 5}, OBJECTS]), tmp_path / "s"
    ).store
    assert np.array_equal(store.images, images)
    assert store.manifest["factors"] == OBJECTS
    classes = np.stack(np.unravel_index(np.arange(144), [*OBJECTS.values()]), axis=1)
    assert np.array_equal(store.samples[[*OBJECTS]], classes)
    np.savez(tmp_path / "other.npz", images=images.astype(np.int16))
    with pytest.raises(GatedVAEError, match="images is int16"):
        make_store(MPI3D(tmp_path / "other.npz", [OBJECTS]), tmp_path / "t")


def test_dsprites_as_hdf5_make_the_same_store_as_the_npz(tmp_path: Path) -> None:
    arrays = tiny_arrays()
    np.savez(tmp_path / "d.npz", **arrays)
    with h5py.File(tmp_path / "d.hdf5", "w") as file:
        file["imgs"], file["latents/classes"] = arrays["imgs"], arrays["latents_classes"]
        file["latents/values"] = arrays["latents_values"]
    for name in ("npz", "hdf5"):
        make_store(DSprites(tmp_path / f"d.{name}", TINY), tmp_path / name)
    one, other = (contents(tmp_path / name) for name in ("npz", "hdf5"))
    assert {name for name in one if one[name] != other[name]} == {"store.json"}  # which names the source


def test_without_h5py_its_installation_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shapes(tmp_path / "a.h5")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(GatedVAEError, match="pip install h5py"):
        shapes(tmp_path / "a.h5", tmp_path / "s")
