"""`pipe verify` finds what is wrong, whatever was changed, and what it tells to run mends it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from gated_vae.models.checkpoint import checkpoints
from gated_vae.pairing.cluster import ClusterOptions, cluster_store
from gated_vae.pairing.stream.loader import PairLoader
from gated_vae.pipelines.training.run import open_run
from gated_vae.pipelines.verify import verify
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.sources.celeba.build import CelebaOptions, preprocess_celeba
from gated_vae.preprocessing.store import (
    centroids_path,
    groups_path,
    images_path,
    manifest_path,
    pairs_path,
    rejected_path,
    samples_path,
)
from tests.folders import write_image_faces
from tests.pipelines.test_cli import TINY, pipe

SMALL = ClusterOptions({"pose": 3, "expression": 2}, draws=2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store made by the commands, of twelve faces, one of them rejected."""
    folder = tmp_path_factory.mktemp("whole")
    for number in range(13):
        face = {"pose_Rx": number % 3 * 0.3, "AU12_r": number % 2 * 4.0, "confidence": 0.98 - 0.9 * (number == 12)}
        write_image_faces(folder / "of", f"{number:02d}", [face])
    preprocess_celeba(CelebaOptions(folder / "of", size=16), folder / "store", workers=1)
    cluster_store(folder / "store", SMALL)
    return folder / "store"


@pytest.fixture
def made(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "store")
    return tmp_path / "store"


def rewrite(path: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Save a table again with columns changed, everything else as it was."""
    file = pq.ParquetFile(path)
    columns = {
        name: column.to_numpy().copy()
        for name, column in zip(file.schema_arrow.names, file.read().columns, strict=True)
    }
    change(columns)
    pq.write_table(pa.table(columns, file.schema_arrow), path)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_whole_store_is_whole(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(made).problems == []
    assert pipe("verify", made) == 0
    assert "whole" in capsys.readouterr().out


BROKEN: dict[str, tuple[Callable[[Path], object], Callable[[Path], Path], str]] = {
    "a flipped pixel": (lambda s: flip(images_path(s), -1), images_path, "SHA-256"),
    "images cut": (
        lambda s: images_path(s).write_bytes(images_path(s).read_bytes()[:-1]),
        images_path,
        "cannot be read",
    ),
    "images of another shape": (
        lambda s: np.save(images_path(s), np.zeros((12, 8, 8), np.uint8)),
        images_path,
        "uint8",
    ),
    "images of another type": (
        lambda s: np.save(images_path(s), np.zeros((12, 16, 16), np.int8)),
        images_path,
        "uint8",
    ),
    "pickled images": (
        lambda s: np.save(images_path(s), np.array([{}] * 12, object), allow_pickle=True),
        images_path,
        "cannot be read",
    ),
    "samples in another order": (
        lambda s: rewrite(samples_path(s), lambda c: c.update(sample_id=c["sample_id"][::-1])),
        samples_path,
        "sample_id is not the row number",
    ),
    "no samples": (lambda s: samples_path(s).unlink(), samples_path, "does not exist"),
    "rejected without its rows": (
        lambda s: pq.write_table(pq.read_table(rejected_path(s)).slice(0, 0), rejected_path(s)),
        rejected_path,
        "0 rows, store.json says 1",
    ),
    "a flipped bit in the pairs": (lambda s: flip(pairs_path(s, "pose"), 60), lambda s: pairs_path(s, "pose"), ""),
    "a target that is its input": (
        lambda s: rewrite(pairs_path(s, "pose"), lambda c: c["target_id"].__setitem__(3, c["input_id"][3])),
        lambda s: pairs_path(s, "pose"),
        "1 targets are their own input",
    ),
    "a target beyond the store": (
        lambda s: rewrite(pairs_path(s, "pose"), lambda c: c["target_id"].__setitem__(3, 99)),
        lambda s: pairs_path(s, "pose"),
        "1 targets are no samples",
    ),
    "a target of another group": (
        lambda s: rewrite(pairs_path(s, "pose"), lambda c: c["target_id"].__setitem__(0, 1)),
        lambda s: pairs_path(s, "pose"),
        "1 targets are of another group",
    ),
    "an input twice": (
        lambda s: rewrite(pairs_path(s, "pose"), lambda c: c["input_id"].__setitem__(5, 4)),
        lambda s: pairs_path(s, "pose"),
        "not in the order",
    ),
    "draws mixed up": (
        lambda s: rewrite(pairs_path(s, "pose"), lambda c: c["draw"].__setitem__(0, 1)),
        lambda s: pairs_path(s, "pose"),
        "draws are not in order",
    ),
    "a sample in no group": (
        lambda s: rewrite(groups_path(s, "expression"), lambda c: c["group"].__setitem__(0, -1)),
        lambda s: groups_path(s, "expression"),
        "in no group",
    ),
    "a group beyond all samples": (
        lambda s: rewrite(groups_path(s, "expression"), lambda c: c["group"].__setitem__(0, 2**31 - 1)),
        lambda s: groups_path(s, "expression"),
        "numbers beyond all samples",
    ),
    "centroids of another clustering": (
        lambda s: rewrite(centroids_path(s, "pose"), lambda c: c["size"].__iadd__(1)),
        lambda s: centroids_path(s, "pose"),
        "sizes are not those of the groups",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_found_and_what_it_says_mends_it(name: str, whole: Path, made: Path) -> None:
    damage, place, said = BROKEN[name]
    before = {path: path.read_bytes() for path in made.rglob("*.*") if path.name != ".lock"}
    damage(made)
    found = [problem for problem in verify(made).problems if problem.path == place(made)]
    assert found
    assert said in " ".join(problem.what for problem in found)
    if "pipe preprocess" in found[0].remedy:
        preprocess_celeba(CelebaOptions(whole.parent / "of", size=16), made, overwrite=True)
    cluster_store(made, SMALL, overwrite="pipe cluster" in found[0].remedy)
    assert {path: path.read_bytes() for path in made.rglob("*.*") if path.name != ".lock"} == before


def test_a_partition_that_waits_to_be_recorded_is_named(made: Path) -> None:
    shutil.copytree(pairs_path(made, "pose").parent, pairs_path(made, "extra").parent)
    (problem,) = verify(made).problems
    assert problem.path == pairs_path(made, "extra").parent


@pytest.mark.parametrize(
    "change",
    [
        {"taken": 11},
        {"taken": -1},
        {"rejected": "1"},
        {"image_shape": [16]},
        {"partitions": {"../x": {"method": "kmeans"}}},
    ],
)
def test_a_manifest_that_does_not_add_up_is_refused_or_reported(made: Path, change: dict[str, object]) -> None:
    manifest_path(made).write_text(json.dumps({**json.loads(manifest_path(made).read_bytes()), **change}))
    assert pipe("verify", made) == 1


def test_a_partition_cannot_lead_out_of_the_store(made: Path) -> None:
    manifest = json.loads(manifest_path(made).read_bytes())
    manifest["partitions"] = {"x/../../../outside": manifest["partitions"]["pose"]}
    manifest_path(made).write_text(json.dumps(manifest))
    with pytest.raises(GatedVAEError, match="partitions cannot be"):
        PairLoader(made, 4)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    assert pipe("train", made, "--out", tmp_path / "run", *TINY, "--precision", "fp32") == 0
    return tmp_path / "run"


class Hostile:
    """Unpickling it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_hostile_and_damaged_checkpoints_are_refused_unread(run: Path, tmp_path: Path) -> None:
    assert verify(run).problems == []
    weights = checkpoints(run / "checkpoints")[-1].weights
    whole = weights.read_bytes()
    torch.save({"model": Hostile(tmp_path / "unpickled")}, tmp_path / "pickle")
    tensors = {name: value + 1 for name, value in load_file(weights).items()}
    save_file(tensors, tmp_path / "changed", metadata={"sha256": "0"})
    damaged = {
        "pickle": (tmp_path / "pickle").read_bytes(),
        "cut": whole[:-1],
        "longer": whole + b"more",
        "empty": b"",
        "header too long": (2**62).to_bytes(8, "little") + whole[8:],
        "header of another length": (9).to_bytes(8, "little") + whole[8:],
        "flipped weight": whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:],
        "changed": (tmp_path / "changed").read_bytes(),
    }
    for name, data in damaged.items():
        weights.write_bytes(data)
        with pytest.raises(GatedVAEError, match="step-000000006"):
            open_run(run).model()
        assert [problem.path for problem in verify(run).problems] == [weights], name
    assert not (tmp_path / "unpickled").exists()


def test_a_finished_run_that_died_before_its_metrics_is_finished_when_run_again(run: Path, made: Path) -> None:
    before = (run / "metrics.json").read_bytes()
    (run / "metrics.json").unlink()
    assert pipe("train", made, "--out", run, *TINY, "--precision", "fp32") == 0
    assert (run / "metrics.json").read_bytes() == before


def test_a_store_made_anew_since_is_named(run: Path, made: Path, whole: Path) -> None:
    """Of the same source with other options: the images tell."""
    preprocess_celeba(CelebaOptions(whole.parent / "of", size=24), made, overwrite=True)
    (problem,) = verify(run).problems
    assert "other images" in problem.what
