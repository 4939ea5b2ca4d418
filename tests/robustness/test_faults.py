"""Whatever happens at any write or read of any command: a clear message, nothing lost, the same bytes after running it again."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from gated_vae.pairing.verify import UNRECORDED
from gated_vae.pipelines.verify import verify
from gated_vae.preprocessing.files import locked
from gated_vae.preprocessing.sources.celeba.build import CelebaOptions, preprocess_celeba
from tests.folders import write_image_faces
from tests.robustness.faultlib import READS, TERM, WRITES, Campaign, Command, Fault, Server, read_tree
from tests.robustness.fuzz import FACTORS, sprite_arrays

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="faults are injected by a library that needs a C compiler"),
]

TINY = ["--network", "fc", "--hidden", "8", "--batch-size", "16", "--latent", "pose=2,expression=2", "--steps", "7"]
GRID = {**FACTORS, "shape": 2, "scale": 1}
CLUSTER = ["--pose", "3", "--expression", "2", "--draws", "2"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("library"), GRID)
    yield server
    server.close()


@pytest.fixture(scope="module")
def made(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources, a store without pairs, one with pairs, a run: each made by an undisturbed command."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "few").mkdir()
    for number in range(14):
        face = {"pose_Rx": number % 3 * 0.3, "AU12_r": number % 2 * 4.0}
        write_image_faces(folder / "of", f"{number:02d}", [face] * (1 + (number == 3)))
    (folder / "of" / "05_aligned" / "face_det_000000.bmp").write_bytes(b"BM")
    for path in (path for path in (folder / "of").iterdir() if path.name[:2] in ("03", "04", "05", "06")):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / "few" / path.name)
    (folder / "npz").mkdir()
    np.savez_compressed(folder / "npz" / "dsprites.npz", **sprite_arrays(GRID))

    def run(*words: str) -> None:
        outcome = server.run(list(words), folder)
        assert outcome.code == 0, outcome

    run("simulate", "faces", "--out", f"{folder}/simulated", "--n", "1", "--workers", "1")
    run("preprocess", "celeba", "--openface", f"{folder}/of", "--out", f"{folder}/plain", "--size", "16")
    shutil.copytree(folder / "plain", folder / "paired")
    run("cluster", f"{folder}/paired", *CLUSTER)
    run("train", f"{folder}/paired", "--out", f"{folder}/run", *TINY)
    splits = ("--size", "16", "--split", "train=.6,valid=.4")
    run("preprocess", "celeba", "--openface", f"{folder}/of", "--out", f"{folder}/split", *splits)
    run("cluster", f"{folder}/split", *CLUSTER)
    return folder


def unsound(root: Path) -> list[str]:
    """What `pipe verify` finds in a store or run, if it is one yet, but for tables that wait to be recorded."""
    if not ((root / "store.json").exists() or (root / "config.json").exists()):
        return []
    return [str(problem) for problem in verify(root).problems if problem.what != UNRECORDED]


def commands(made: Path) -> dict[str, Command]:
    of, npz, paired, plain, run, simulated = (
        made / name for name in ("few", "npz", "paired", "plain", "run", "simulated")
    )
    faces = ["preprocess", "celeba", "--openface", str(of), "--out", "ROOT", "--size", "8", "--workers", "1"]
    sprites = ["preprocess", "dsprites", "--out", "ROOT"]
    simulate = ["simulate", "faces", "--out", "ROOT", "--n", "1", "--workers", "1"]
    train = ["train", str(paired), "--out", "ROOT", *TINY]
    best = ["train", f"{made}/split", "--out", "ROOT", *TINY, "--keep", "best:2", "--checkpoint-every", "1"]
    cluster = ["cluster", "ROOT", *CLUSTER]
    found = [
        Command("simulate", simulate),
        Command("simulate --overwrite", [*simulate, "--seed", "1", "--overwrite"], simulated),
        Command("preprocess", faces, None, of, unsound),
        Command("preprocess --overwrite", [*faces, "--overwrite"], paired, of, unsound),
        Command("preprocess dsprites", sprites, None, None, unsound),
        Command("preprocess dsprites --npz", [*sprites, "--npz", f"{npz}/dsprites.npz"], None, npz, unsound),
        Command("cluster", cluster, plain, None, unsound),
        Command("cluster --overwrite", [*cluster, "--seed", "1", "--overwrite"], paired, None, unsound),
        Command("pair", ["pair", "ROOT", "--share", "smile=AU12_r", "--draws", "2"], plain, None, unsound),
        Command("train", train, None, paired, unsound),
        Command("train --keep best", [*best, "--lr", ".3"], None, made / "split", unsound),
        Command("train --overwrite", [*train, "--seed", "1", "--overwrite"], run, paired, unsound),
        Command("finetune", ["finetune", "ROOT", "--steps", "4"], run, paired, unsound),
        Command("encode", ["encode", str(run), str(paired), "--out", "ROOT/codes.parquet"], None, made),
    ]
    return {command.name: command for command in found}


def readers(made: Path) -> dict[str, Command]:
    """Commands that change nothing."""
    found = [
        Command(f"{name} {kind}", [name, "ROOT"], made / kind, made / "paired")
        for name in ("inspect", "verify")
        for kind in ("paired", "run")
    ]
    return {command.name: command for command in found}


NAMES = list(commands(Path()))


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_at_every_write(name: str, server: Server, made: Path, tmp_path: Path) -> None:
    # Only training listens to SIGTERM; the others die of it as of kill -9.
    _try_all(
        Campaign(server, tmp_path),
        commands(made)[name],
        (*WRITES, TERM) if name in ("train", "train --keep best") else WRITES,
    )


@pytest.mark.parametrize("name", [*NAMES, *readers(Path())])
def test_a_fault_at_every_read(name: str, server: Server, made: Path, tmp_path: Path) -> None:
    _try_all(Campaign(server, tmp_path), (commands(made) | readers(made))[name], READS)


def _try_all(campaign: Campaign, command: Command, faults: Sequence[Fault]) -> None:
    campaign.run(command, faults)
    count = sum(campaign.injected.values())
    print(f"\n{command.name}: {count} faults injected, {len(campaign.failures)} failures:", campaign.injected)
    assert not campaign.failures, "\n".join(campaign.failures[:20])
    assert count > 3


def test_a_worker_of_a_cluster_that_dies_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr("gated_vae.preprocessing.sources.pictures.REGION_IMAGES", 2)
    for number in range(24):
        write_image_faces(tmp_path / "of", f"{number:02d}", [{}])
    options = CelebaOptions(tmp_path / "of", size=16)
    preprocess_celeba(options, tmp_path / "whole", workers=1)
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        killed: list[int] = []

        def kill(done: int, total: int, note: str) -> None:  # noqa: ARG001
            if done > 26 and not killed:
                killed.append(cluster.workers[0].process.pid)
                os.kill(killed[0], signal.SIGKILL)

        address = cluster.scheduler_address
        preprocess_celeba(options, tmp_path / "store", scheduler=address, progress=kill)
    assert killed
    assert read_tree(tmp_path / "store") == read_tree(tmp_path / "whole")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "encode"])
def test_a_folder_in_use_is_refused_and_left_alone(name: str, server: Server, made: Path, tmp_path: Path) -> None:
    campaign = Campaign(server, tmp_path)
    command = commands(made)[name]
    root = campaign._root(command)
    folder = root / "finetuned" if name == "finetune" else root
    with locked(folder):
        before = sorted(root.rglob("*"))
        outcome = server.run([word.replace("ROOT", str(root)) for word in command.words], root)
        assert (outcome.code, "in use by another process" in outcome.said) == (1, True), outcome
        assert sorted(root.rglob("*")) == before
