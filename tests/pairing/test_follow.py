"""Pairs of neighbours in sequences, against a search through all samples."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from gated_vae.pairing.exact import pair_exactly
from gated_vae.pairing.follow import Follow, NeighbourPartners, parse_follow
from gated_vae.pairing.stream.loader import PairLoader
from gated_vae.pipelines.verify import verify
from gated_vae.preprocessing.errors import GatedVAEError, UsageError
from gated_vae.preprocessing.sources.base import make_store
from gated_vae.preprocessing.store import Store, open_store, pairs_path
from tests.pipelines.test_cli import pipe
from tests.stores import Given, random_images


def store_of(path: Path, **columns: Any) -> Store:
    count = len(next(iter(columns.values())))
    samples = pa.table({"image": [f"{number}.png" for number in range(count)], **columns})
    return make_store(Given(random_images(count), samples, "images"), path).store


def frames(path: Path) -> Store:
    """Three videos whose frames lie in no order, some lost; one of them has two faces in a frame; and one of a single frame."""
    rng = np.random.default_rng(0)
    rows = [(video, frame) for video in ("a", "b", "c") for frame in range(40) if rng.random() < 0.7]
    rows += [("b", 7), ("b", 7), ("d", 3), ("a", 90)]  # the last far away from all others
    rng.shuffle(rows)
    videos, numbers = zip(*rows, strict=True)
    return store_of(path, video=list(videos), frame=list(map(int, numbers)))


def test_partners_are_neighbours_and_every_neighbour_is_one(tmp_path: Path) -> None:
    store = frames(tmp_path / "store")
    (made,) = pair_exactly(store, {"time": Follow(("video",), "frame", 3)}, draws=400)
    assert (made.groups, made.merged) == (3, 1)
    samples, pairs = store.samples, pd.read_parquet(pairs_path(store.path, "time"))
    video = samples["video"].replace("d", "c").to_numpy()  # the video of one frame joins the nearest in sorted order
    frame = samples["frame"].to_numpy()
    further = 0
    for own, found in pairs.groupby("input_id")["target_id"]:
        others = [i for i in range(len(video)) if video[i] == video[own] and i != own]
        near = [i for i in others if abs(frame[i] - frame[own]) <= 3]
        least = min(abs(frame[i] - frame[own]) for i in others)
        further += not near
        expected = near or [i for i in others if abs(frame[i] - frame[own]) == least]
        counts = Counter(found)
        assert counts.keys() == {*expected}
        assert len(expected) == 1 or stats.chisquare([counts[i] for i in expected]).pvalue > 1e-5
    assert further > 1
    assert made.how == f"frame at most 3 apart in video ({further} have none so near, but the nearest), draws 400"
    assert not verify(store.path).problems


def test_sequences_are_told_apart_by_all_their_columns_and_times_need_not_be_whole(tmp_path: Path) -> None:
    clips = list(itertools.product(("ann", "bob"), (1, 2), range(5)))
    person, clip, number = zip(*clips, strict=True)
    seconds = [2.0e9 + 0.04 * n for n in number]
    store = store_of(tmp_path / "store", person=list(person), clip=list(clip), seconds=seconds)
    pair_exactly(store, {"time": Follow(("person", "clip"), "seconds", 0.05)}, draws=8)
    pairs = pd.read_parquet(pairs_path(store.path, "time"))
    away = pairs["target_id"] - pairs["input_id"]
    assert {*away.abs()} == {1}  # neighbours in the table are neighbours in time
    assert (pairs["input_id"] // 5 == pairs["target_id"] // 5).all()


def test_whole_groups_are_each_others_neighbours_however_far_groups_are_apart() -> None:
    group, at = np.array([0, 1, 0, 1, 0], np.int32), np.array([-5.0, 1e6, 0.0, -1e6, 5.0])
    found = NeighbourPartners.of(group, at, 1e9)
    drawn = {(own, int(found.partners(np.array([own]), seed=0, draw=d)[0])) for own in range(5) for d in range(60)}
    assert drawn == {(a, b) for a in range(5) for b in range(5) if a != b and group[a] == group[b]}


def test_samples_that_do_not_train_are_in_no_pair(tmp_path: Path) -> None:
    split = ["train"] * 12 + ["test"] * 4
    store = store_of(tmp_path / "store", video=["a"] * 16, frame=list(range(16)), split=split)
    store = open_store(store.path)
    assert store.training == 12
    pair_exactly(store, {"time": Follow(("video",), "frame", 2)}, draws=9)
    assert pd.read_parquet(pairs_path(store.path, "time"))[["input_id", "target_id"]].max().max() == 11


def test_the_command_makes_pairs_that_a_loader_serves_and_does_not_make_them_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = frames(tmp_path / "store")
    words = ("pair", store.path, "--share", "video=video", "--follow", "time=video,frame:5", "--draws", "2")
    assert pipe(*words) == 0
    out = capsys.readouterr().out
    assert "frame at most 5 apart" in " ".join(out.split())
    assert pipe(*words) == 0
    assert "was there" in capsys.readouterr().out
    assert pipe(*words[:-3], "time=video,frame:6", "--draws", "2") == 1
    assert "made with apart 5.0; this command has" in capsys.readouterr().err
    batch = next(iter(PairLoader(store.path, 16, partitions=["time"])))
    assert (batch.input_id != batch.target_id).all()


@pytest.mark.parametrize(
    "text", ["time", "time=", "time=video", "time=video,", "time=a,a", "t=a,b:", "t=a,b:0", "t=a,b:x"]
)
def test_what_cannot_be_followed_is_refused_when_it_is_read(text: str) -> None:
    with pytest.raises(UsageError, match="--follow"):
        parse_follow(text)


def test_sequences_that_cannot_be_followed_are_refused(tmp_path: Path) -> None:
    store = store_of(
        tmp_path / "a",
        video=["a", "a", "b", "b"],
        frame=["1", "2", "x", "4"],
        at=[0.0, 1.0, None, 3.0],
        near=[0, 1, 2, 3],
        day=pa.array([0, 1, 2, 3], pa.timestamp("us")),
    )
    for follow, told in (
        (Follow(("film",), "frame"), "no column film"),
        (Follow(("video",), "frame"), "It holds no numbers"),
        (Follow(("video",), "day"), "It holds no numbers"),
        (Follow(("video",), "near", 0.5), "4 of 4 samples have no other of their sequence so near"),
        (Follow(("video",), "at"), r"1 of 4 samples have no number in it, 2\.png first"),
    ):
        with pytest.raises(GatedVAEError, match=told):
            pair_exactly(store, {"time": follow})
    assert not (store.path / "pairs").exists()
