"""Unseen means unseen: what valid and test samples are decides no cluster, no pair and no weight."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from gated_vae.models.checkpoint import checkpoints
from gated_vae.pairing import PairLoader
from gated_vae.pairing.cluster import ClusterOptions, cluster_store
from gated_vae.pairing.exact import pair_exactly
from gated_vae.pairing.rules import Rule
from gated_vae.pairing.tables import read_groups
from gated_vae.pipelines.cli import main
from gated_vae.pipelines.evaluation.labels import read_labels
from gated_vae.pipelines.evaluation.opened import open_run
from gated_vae.pipelines.evaluation.pictures import draw_pairs, draw_reconstructions
from gated_vae.pipelines.evaluation.probes import evaluate_faces
from gated_vae.pipelines.verify import verify
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.sources.celeba.build import CelebaOptions, preprocess_celeba
from gated_vae.preprocessing.sources.splits import Split, parse_split
from gated_vae.preprocessing.store import centroids_path, open_store, pairs_path
from tests.folders import GOOD, write_csv, write_image_faces, write_picture

SPLIT = Split({"train": 0.6, "valid": 0.2, "test": 0.2})


def write_people(folder: Path, people: int = 24, images: int = 5, spoil: frozenset[str] = frozenset()) -> None:
    """Faces of many people, a folder each; those to spoil have other labels and pictures."""
    for person in range(people):
        name = f"p{person:02d}"
        for image in range(images):
            generator = np.random.default_rng([person, image, name in spoil])
            labels = {
                column: float(generator.uniform(0, 1)) for column in GOOD if column[:4] in ("pose", "AU01", "AU12")
            }
            face = {"face": 0, **GOOD, **labels, "AU12_c": 1.0, "confidence": 0.98}
            write_csv(folder / name / f"{image}.csv", [face])
            write_picture(folder / name / f"{image}_aligned" / "face_det_000000.bmp", int(generator.integers(1000)))


def make(folder: Path, out: Path, **options: object) -> Path:
    preprocess_celeba(
        CelebaOptions(folder, **{"identities": Path("folder"), "split": SPLIT, "size": 8} | options),  # type: ignore[arg-type]
        out,
    )
    return out


def paired(out: Path) -> Path:
    cluster_store(out, ClusterOptions({"pose": 6, "expression": 7}, rule=Rule.parse("independent:3"), device="cpu"))
    pair_exactly(open_store(out), {"identity": ["identity"]})
    return out


def test_people_lie_in_one_split_each_which_names_alone_decide(tmp_path: Path) -> None:
    write_people(tmp_path / "of")
    store = open_store(make(tmp_path / "of", tmp_path / "store"))
    samples = store.samples
    assert samples.groupby("identity")["split"].nunique().max() == 1
    assert store.splits == samples["split"].value_counts().reindex(["train", "valid", "test"]).to_dict()
    assert samples["split"].tolist() == ["train"] * store.training + ["valid"] * len(store.split("valid")) + [
        "test"
    ] * len(store.split("test"))
    for name in ("train", "valid", "test"):
        ids = np.flatnonzero(samples["split"] == name)
        assert ids.tolist() == list(store.split(name))
    write_people(tmp_path / "of", people=30)
    more = open_store(make(tmp_path / "of", tmp_path / "more")).samples
    before = samples.drop_duplicates("identity").set_index("identity")["split"]
    after = more.drop_duplicates("identity").set_index("identity")["split"]
    assert after[before.index].tolist() == before.tolist()
    other = Split(SPLIT.shares, seed=1)
    moved = open_store(make(tmp_path / "of", tmp_path / "other", split=other)).samples
    assert (moved.drop_duplicates("identity").set_index("identity")["split"][after.index] != after).any()


def test_splits_far_below_their_shares_are_named() -> None:
    sizes = {"train": 600, "valid": 300, "test": 100}
    assert SPLIT.falls_short(sizes) == []
    assert SPLIT.falls_short({**sizes, "train": 601, "test": 99}) == ["test"]
    assert SPLIT.falls_short({"train": 10, "valid": 0, "test": 90}) == ["train", "valid"]


def test_the_command_says_that_a_person_of_many_pictures_has_made_a_split_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_people(tmp_path / "of", people=12, images=2)
    shutil.rmtree(tmp_path / "of" / "p00")
    write_people(tmp_path / "of", people=1, images=60)
    words = ("--identities", "folder", "--split", "train=.6,valid=.2,test=.2", "--size", "8", "--out")
    with pytest.raises(SystemExit, match="0"):
        main(["preprocess", "celeba", "--openface", str(tmp_path / "of"), *words, str(tmp_path / "store")])
    told = " ".join(capsys.readouterr().out.split())
    assert "of 82: shares are of people or sequences" in told
    assert "--split ...,seed=1" in told


def test_what_test_people_are_decides_nothing(tmp_path: Path) -> None:
    write_people(tmp_path / "of")
    first = paired(make(tmp_path / "of", tmp_path / "first"))
    samples = open_store(first).samples
    unseen = frozenset(samples.loc[samples["split"] != "train", "identity"])
    write_people(tmp_path / "spoilt", spoil=unseen)
    second = paired(make(tmp_path / "spoilt", tmp_path / "second"))
    training = open_store(first).training
    for name in ("pose", "expression", "identity"):
        assert pairs_path(first, name).read_bytes() == pairs_path(second, name).read_bytes()
        assert np.array_equal(read_groups(first, name)[0][:training], read_groups(second, name)[0][:training])
        pairs = pd.read_parquet(pairs_path(first, name))
        assert sorted(set(pairs["input_id"])) == list(range(training))
        assert pairs["target_id"].max() < training
    assert centroids_path(first, "pose").read_bytes() == centroids_path(second, "pose").read_bytes()
    assert not np.array_equal(read_groups(first, "pose")[0], read_groups(second, "pose")[0])
    assert verify(first).problems == []
    for kind in ("turns", "together"):
        ids = np.concatenate([batch.input_id for batch in PairLoader(first, 16, batches=kind).ids()])  # type: ignore[arg-type]
        assert sorted(set(ids.tolist())) == list(range(training))


def test_what_unseen_people_are_decides_no_weight(tmp_path: Path) -> None:
    """Valid people decide what validations find, and nothing else; test people not even that."""
    options = ["--network", "fc", "--hidden", "8", "--latent", "pose=2,expression=2,identity=2", "--method", "partners"]
    options += ["--batch-size", "16", "--steps", "6", "--checkpoint-every", "3", "--device", "cpu"]
    found, splits = {}, None
    for spoilt in ("none", "valid", "test"):
        spoil = frozenset() if splits is None else frozenset(splits.loc[splits["split"] == spoilt, "identity"])
        write_people(tmp_path / "of", spoil=spoil)
        store = open_store(paired(make(tmp_path / "of", tmp_path / spoilt, size=16)))
        splits, run = store.samples, tmp_path / f"{spoilt}-run"
        with pytest.raises(SystemExit, match="0"):
            main(["train", str(store.path), "--out", str(run), *options])
        saved, trained = checkpoints(run / "checkpoints")[-1], json.loads((run / "metrics.json").read_text())["train"]
        slots = {name: value.numpy().tobytes() for name, value in load_file(saved.state).items()}
        found[spoilt] = trained.pop("valid"), (saved.weights.read_bytes(), slots, trained)
    assert [*found["none"][0]["history"]] == ["3", "6"]
    assert found["test"] == found["none"]
    assert found["valid"][1] == found["none"][1]
    assert found["valid"][0] != found["none"][0]


def test_unseen_people_judge(tmp_path: Path) -> None:
    """Probes are fitted on valid people and judged on test people; another store of the same size judges, too."""
    write_people(tmp_path / "of", people=60)
    store = paired(make(tmp_path / "of", tmp_path / "store", size=16))
    options = ["--network", "fc", "--hidden", "8", "--latent", "pose=2,expression=2,identity=2", "--steps", "3"]
    with pytest.raises(SystemExit, match="0"):
        main(["train", str(store), "--out", str(tmp_path / "run"), *options])
    opened = open_store(store)
    run = open_run(tmp_path / "run")
    labels = read_labels(opened, 20_000)
    assert labels.people == "unseen"
    assert labels.ids[labels.split.train].tolist() == list(opened.split("valid"))
    assert labels.ids[labels.split.test].tolist() == list(opened.split("test"))
    scores = evaluate_faces(run, probes=("ridge",), regressors=("lasso",))
    assert (scores.values["people"], scores.values["held_out"]) == ("unseen", len(opened.split("test")))
    assert scores.facts()["mind"] == "fewer than 100 images judge: scores are rough"
    assert draw_reconstructions(run).exists()  # of samples that have partners
    assert draw_pairs(opened, tmp_path / "pairs.png").exists()
    other = make(tmp_path / "of", tmp_path / "other", size=16, split=None)
    judged = evaluate_faces(open_run(tmp_path / "run", other), probes=("ridge",), regressors=("lasso",))
    assert (judged.values["people"], judged.values["images"]) == ("of another store", 300)
    small = make(tmp_path / "of", tmp_path / "small", size=8)
    with pytest.raises(GatedVAEError, match="cannot be judged on"):
        open_run(tmp_path / "run", small)


def test_groups_of_the_others_are_the_nearest_or_their_own(tmp_path: Path) -> None:
    write_people(tmp_path / "of")
    store = open_store(paired(make(tmp_path / "of", tmp_path / "store")))
    centroids = pd.read_parquet(centroids_path(store.path, "pose"))[["pose_Rx", "pose_Ry"]].to_numpy()
    points = store.samples[["pose_Rx", "pose_Ry"]].to_numpy()
    nearest = np.linalg.norm(points[:, None] - centroids, axis=2).argmin(axis=1)
    others = slice(store.training, len(store))
    assert np.array_equal(read_groups(store.path, "pose")[0][others], nearest[others])
    group, identity = read_groups(store.path, "identity")[0], store.samples["identity"]
    assert pd.crosstab(group, identity).gt(0).sum().tolist() == [1] * identity.nunique()


def test_a_list_says_who_trains_and_who_is_in_no_split(tmp_path: Path) -> None:
    for stem in "abcd":
        write_image_faces(tmp_path / "of", stem, [{}])
    (tmp_path / "list.txt").write_text("a.jpg 2\nb.jpg 0\nd.jpg 1\n")
    options = {"identities": None, "split": None, "partitions": tmp_path / "list.txt"}
    store = open_store(make(tmp_path / "of", tmp_path / "store", **options))
    assert store.samples["image"].tolist() == ["b.jpg", "d.jpg", "a.jpg", "c.jpg"]
    assert store.splits == {"train": 1, "valid": 1, "test": 1}
    assert store.samples["split"].tolist()[:3] == ["train", "valid", "test"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("train=.8,valid=.1", "sum to 0.9"),
        ("train=1,valid=0", "valid"),
        ("valid=1", "train"),
        ("train=.5,other=.5", "other"),
        ("train", "'train' is no share"),
        ("train=nan", "train"),
        ("train=1,seed=-1", "seed"),
        ("train=1,seed=.5", "seed"),
    ],
)
def test_splits_that_cannot_be(text: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        parse_split(text)


def test_a_split_without_anybody_is_refused(tmp_path: Path) -> None:
    write_people(tmp_path / "of", people=3, images=1)
    with pytest.raises(GatedVAEError, match=r"too few for valid=0\.01"):
        make(tmp_path / "of", tmp_path / "store", split=parse_split("train=.98,valid=.01,test=.01"))
    with pytest.raises(GatedVAEError, match="Both --split and --partitions"):
        CelebaOptions(tmp_path / "of", split=SPLIT, partitions=tmp_path / "list.txt")
