"""The loader against the pair table read with pandas."""

from __future__ import annotations

import json
import pickle
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import ChainDataset, DataLoader

from gated_vae.pairing.exact import pair_exactly
from gated_vae.pairing.rules.uniform import draw_partners
from gated_vae.pairing.stream import batches as batches_module
from gated_vae.pairing.stream.loader import PairBatch, PairLoader
from gated_vae.pairing.tables import write_pairs
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import write_json
from gated_vae.preprocessing.store import Store, manifest_path, open_store, pairs_path
from tests.stores import make_store

pytestmark = [
    pytest.mark.usefixtures("fresh_forks"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than this machine has cores
]


def pairs_of(batches: list[PairBatch]) -> Counter[tuple[str, int, int, int]]:
    return Counter(
        (batch.partition, *row)
        for batch in batches
        for row in zip(batch.input_id.tolist(), batch.target_id.tolist(), batch.group.tolist(), strict=True)
    )


def table(store: Store, draw: int) -> Counter[tuple[str, int, int, int]]:
    pairs = pd.read_parquet(store.path / "pairs")
    pairs = pairs[pairs["draw"] == draw]
    return Counter(
        zip(pairs["partition"].astype(str), pairs["input_id"], pairs["target_id"], pairs["group"], strict=True)
    )


@pytest.fixture(params=["one window", "many windows"])
def windowed(request: pytest.FixtureRequest, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """A store whose pairs are one block, and one of eight blocks of up to 40 inputs, of which two make a window."""
    if request.param == "one window":
        return store
    monkeypatch.setattr("gated_vae.pairing.tables.BLOCK_ROWS", 3 * 40)
    monkeypatch.setattr(batches_module, "WINDOW_ROWS", 80)
    return make_store(tmp_path / "blocks")


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_epoch_is_one_draw_of_the_table_each_pair_once(windowed: Store, prefetch: int) -> None:
    loader = PairLoader(windowed.path, 32, seed=5, prefetch=prefetch)
    for epoch in range(4):
        batches = list(loader)
        assert len(batches) == len(loader) == 2 * 10
        assert pairs_of(batches) == table(windowed, epoch % 3)
        assert [batch.partition for batch in batches] == ["pose", "expression"] * 10
        assert {len(batch.input) for batch in batches[:-2]} == {32}
        assert len(batches[-1].input) == 300 % 32
    assert loader.state_dict()["epoch"] == 4


def test_images_belong_to_their_ids(store: Store) -> None:
    for batch in PairLoader(store.path, 50):
        for ids, images in ((batch.input_id, batch.input), (batch.target_id, batch.target)):
            assert images.dtype.is_floating_point is False
            np.testing.assert_array_equal(images.numpy(), store.images[ids.numpy()])


def test_order_depends_on_seed_and_epoch_alone(store: Store) -> None:
    def order(**options: int) -> list[int]:
        return [int(i) for batch in PairLoader(store.path, 32, **options) for i in batch.input_id]

    assert order(seed=1) == order(seed=1) == order(seed=1, prefetch=0)
    assert order(seed=1) != order(seed=2)
    assert order(seed=1) != order(seed=1, epoch=1)


@pytest.mark.parametrize("stop", [1, 7, 19, 20, 33])
def test_a_state_of_five_integers_resumes_at_the_next_step(windowed: Store, stop: int) -> None:
    path = windowed.path
    whole = PairLoader(path, 32, seed=3)
    expected = [batch.input_id.tolist() for _ in range(3) for batch in whole]
    first = PairLoader(path, 32, seed=3)
    seen: list[list[int]] = []
    while len(seen) < stop:
        for batch in first:
            seen.append(batch.input_id.tolist())
            if len(seen) == stop:
                break
    state = json.loads(json.dumps(first.state_dict()))
    assert all(isinstance(value, int) for value in state.values())
    second = PairLoader(path, 32, seed=3, prefetch=0)
    second.load_state_dict(state)
    while len(seen) < len(expected):
        seen += [batch.input_id.tolist() for batch in second]
    assert seen == expected


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_every_step_of_the_one_rank_run(store: Store, world_size: int) -> None:
    single = list(PairLoader(store.path, 12 * world_size, seed=1))
    ranks = [list(PairLoader(store.path, 12, seed=1, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert {len(batches) for batches in ranks} == {len(single)}
    for whole, *parts in zip(single, *ranks, strict=True):
        assert whole.input_id.tolist() == [i for part in parts for i in part.input_id.tolist()]


def test_exact_pairs_are_fresh_in_every_epoch_and_start_with_the_table(tmp_path: Path) -> None:
    store = make_store(tmp_path / "grid", 4 * 5 * 6)
    shutil.rmtree(store.path / "pairs")
    write_json(manifest_path(store.path), {**store.manifest, "partitions": {}, "factors": {"a": 4, "b": 5, "c": 6}})
    pair_exactly(open_store(store.path), {"left": ("a",), "right": ("b", "c")}, draws=2, seed=9)
    store = open_store(store.path)
    loader = PairLoader(store.path, 16)
    epochs = [pairs_of(list(loader)) for _ in range(3)]
    assert epochs[:2] == [table(store, 0), table(store, 1)]
    assert epochs[2] != epochs[0]
    for _, input_id, target_id, _ in epochs[2]:
        assert input_id != target_id


def test_breaking_off_ends_the_reading_thread(store: Store) -> None:
    import threading

    before = threading.enumerate()
    for batch in PairLoader(store.path, 8):
        assert len(batch.input) == 8
        assert len(threading.enumerate()) == len(before) + 1
        break
    assert threading.enumerate() == before


def test_an_error_while_reading_ahead_reaches_the_reader(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = PairLoader(store.path, 8)

    def fail(*_: object) -> None:
        raise OSError("disk gone")

    monkeypatch.setattr(batches_module.StoreBatches, "gather", fail)
    with pytest.raises(OSError, match="disk gone"):
        next(iter(loader))


def test_wrong_uses_say_what_to_do(store: Store) -> None:
    for wrong in ({"batch_size": 0}, {"rank": 2, "world_size": 2}, {"rank": -1}, {"partitions": ["pose", "pose"]}):
        with pytest.raises(GatedVAEError, match="cannot cut"):
            PairLoader(store.path, **{"batch_size": 1, **wrong})  # type: ignore[arg-type]
    with pytest.raises(GatedVAEError, match="no partition colour"):
        PairLoader(store.path, 8, partitions=["colour"])
    with pytest.raises(GatedVAEError, match="no pairs yet"):
        PairLoader(store.with_partitions({}).path, 8)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_together_every_input_comes_with_its_partner_of_each_partition(windowed: Store, prefetch: int) -> None:
    loader = PairLoader(windowed.path, 32, seed=5, batches="together", prefetch=prefetch)
    images = np.asarray(windowed.images)
    for epoch in range(4):
        batches = list(loader)
        assert len(batches) == len(loader) == 10
        pairs = Counter()
        for batch in batches:
            assert batch.partition is None
            assert np.array_equal(batch.input, images[batch.input_id])
            assert np.array_equal(batch.target, images[batch.target_id])
            for name, targets, groups in zip(("pose", "expression"), batch.target_id, batch.group, strict=True):
                rows = zip(batch.input_id.tolist(), targets.tolist(), groups.tolist(), strict=True)
                pairs.update((name, *row) for row in rows)
        assert pairs == table(windowed, epoch % 3)


@pytest.mark.parametrize("itself", [0.0, 0.3])
def test_together_goes_on_and_is_shared_like_turns(store: Store, itself: float) -> None:
    def opened(batch_size: int, **options: int) -> PairLoader:
        return PairLoader(
            store.path, batch_size, seed=5, batches="together", itself=lambda step: itself * (step % 2), **options
        )

    whole = list(opened(32))
    resumed = opened(32)
    resumed.load_state_dict({**resumed.state_dict(), "step": 4})
    assert [batch.target_id.tolist() for batch in resumed] == [batch.target_id.tolist() for batch in whole[4:]]
    ranks = [list(opened(16, rank=rank, world_size=2)) for rank in range(2)]
    for batch, *parts in zip(whole, *ranks, strict=True):
        assert np.array_equal(np.concatenate([part.target_id for part in parts], 1), batch.target_id)


def test_together_a_sample_stands_in_for_its_own_partner_as_often_as_asked(store: Store) -> None:
    """By step over all epochs, from 1; apart for every partition; where it does not, the partner is the table's."""
    asked: list[int] = []

    def itself(step: int) -> float:
        asked.append(step)
        return {1: 1.0, 2: 0.0}.get(step, 0.5)

    plain = PairLoader(store.path, 60, seed=5, batches="together")
    ours = PairLoader(store.path, 60, seed=5, batches="together", itself=itself, prefetch=0)
    shares = []
    for _ in range(2):
        for batch, partners in zip(ours, plain, strict=True):
            own = batch.target_id == batch.input_id
            assert torch.equal(batch.target_id, torch.where(own, batch.input_id, partners.target_id))
            assert torch.equal(batch.target, torch.from_numpy(np.asarray(store.images)[batch.target_id.numpy()]))
            shares.append(own.float().mean(1).tolist())
            assert len(shares) <= 2 or not torch.equal(own[0], own[1])
    assert asked == list(range(1, 11))
    assert shares[:2] == [[1.0, 1.0], [0.0, 0.0]]
    assert np.mean(shares[2:]) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(960))


def test_partitions_of_different_draws_do_not_come_together(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gated_vae.pairing.tables.BLOCK_ROWS", 256)
    group = np.arange(len(store), dtype=np.int32) % 20
    write_pairs(pairs_path(store.path, "pose"), group, lambda ids, draw: draw_partners(group, draw=draw)[ids], 2)
    store.with_partitions({**store.partitions, "pose": {**store.partitions["pose"], "draws": 2}})
    with pytest.raises(GatedVAEError, match="do not come together"):
        list(PairLoader(store.path, 32, batches="together"))


def test_positions_of_other_loaders_are_refused(store: Store, tmp_path: Path) -> None:
    def position(source: Store = store, batch_size: int = 16, **options: object) -> dict[str, int]:
        return PairLoader(source, batch_size, **options).state_dict()  # type: ignore[arg-type]

    loader = PairLoader(store.path, 16)
    others = {
        "batches of 8 pairs": position(batch_size=8),
        "batches of 32 pairs ": position(world_size=2),
        "seed 1": position(seed=1),
        "other partitions": position(partitions=["pose"]),
        "partitions or": position(partitions=["expression", "pose"]),
        "kind of batches": position(batches="together"),
        "another source": position(make_store(tmp_path / "other", 310)),
        "no such position": {**loader.state_dict(), "step": 39},
        "step 0 of epoch -1": {**loader.state_dict(), "epoch": -1},
        "seed None": {},
    }
    made_anew = {**store.partitions, "pose": {**store.partitions["pose"], "seed": 7}}
    others["another source,"] = position(store.with_partitions(made_anew))
    for message, state in others.items():
        with pytest.raises(GatedVAEError, match=f"(?i){message}"):
            loader.load_state_dict(state)
    assert loader.state_dict()["step"] == 0
    loader.load_state_dict({**loader.state_dict(), "step": 38})
    ranks = PairLoader(
        store.with_partitions({**made_anew, "more": {}}), 8, partitions=["pose", "expression"], world_size=2
    )
    with pytest.raises(GatedVAEError, match="another source"):
        ranks.load_state_dict(loader.state_dict())
    same = store.with_partitions({**made_anew, "pose": {**made_anew["pose"], "seed": 0}, "more": {}})
    ranks = PairLoader(same, 8, partitions=["pose", "expression"], rank=1, world_size=2)
    ranks.load_state_dict(loader.state_dict())  # as many pairs in a step, and a partition that is not asked for


def same(ours: PairBatch, theirs: PairBatch) -> bool:
    tensors = zip(ours[1:6], theirs[1:6], strict=True)
    return ours.partition == theirs.partition and all(map(torch.equal, *zip(*tensors, strict=True)))


@pytest.mark.parametrize(
    ("batches", "workers", "persistent"),
    [("turns", 0, False), ("turns", 2, True), ("turns", 3, False), ("together", 1, False), ("together", 2, True)],
)
def test_a_dataloader_gives_every_batch_once_and_in_the_same_order(
    store: Store, batches: str, workers: int, persistent: bool
) -> None:
    options = {"seed": 3, "batches": batches}
    plain, ours = (PairLoader(store.path, 32, **options) for _ in range(2))  # type: ignore[arg-type]
    for loader in (plain, ours):
        loader.load_state_dict({**loader.state_dict(), "step": 4})
    feeder = DataLoader(ours, batch_size=None, num_workers=workers, persistent_workers=persistent)
    assert len(feeder) == len(plain)
    for _epoch in range(3):
        received = list(feeder)
        assert all(isinstance(batch, PairBatch) for batch in received)
        assert all(same(*pair) for pair in zip(received, plain, strict=True))
        assert ours.state_dict() == plain.state_dict()  # the workers have finished the epoch


def test_a_position_at_the_end_of_an_epoch_has_none_left(store: Store) -> None:
    loader, first = PairLoader(store.path, 32), PairLoader(store.path, 32)
    for _ in zip(range(20), first, strict=False):
        pass
    assert first.state_dict()["step"] == 20
    loader.load_state_dict(first.state_dict())
    assert list(loader) == []
    assert all(same(*pair) for pair in zip(first, loader, strict=True))  # both their second


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, True), (3, False)])
def test_whoever_counts_batches_instead_of_asking_for_the_end_gets_the_next_epoch(
    store: Store, workers: int, persistent: bool
) -> None:
    """As Lightning does: with the last of `len` batches an epoch is over."""
    loader, plain = PairLoader(store.path, 32), PairLoader(store.path, 32)
    feeder = DataLoader(loader, batch_size=None, num_workers=workers, persistent_workers=persistent)
    for _epoch in range(3):
        received = [batch for _, batch in zip(range(len(feeder)), feeder, strict=False)]
        assert all(same(*pair) for pair in zip(received, plain, strict=True))


def test_a_dataloader_with_other_workers_goes_on_where_the_former_ended(store: Store) -> None:
    loader, plain = PairLoader(store.path, 32), PairLoader(store.path, 32)
    for workers in (2, 3, 1, 0, 2):
        received = list(DataLoader(loader, batch_size=None, num_workers=workers))
        assert all(same(*pair) for pair in zip(received, plain, strict=True))


def test_within_an_epoch_batches_received_from_workers_are_counted_by_whoever_reads(store: Store) -> None:
    loader, expected = PairLoader(store.path, 32), list(PairLoader(store.path, 32))
    alone = DataLoader(loader, batch_size=None)
    assert same(next(iter(alone)), expected[0])
    assert loader.state_dict()["step"] == 1
    feeder = DataLoader(loader, batch_size=None, num_workers=2)
    received = [batch for batch, _ in zip(feeder, range(5), strict=False)]
    state = loader.state_dict()
    assert state["step"] == 1
    loader.load_state_dict({**state, "step": state["step"] + len(received)})
    received += list(feeder)
    assert all(same(*pair) for pair in zip(received, expected[1:], strict=True))


def test_a_dataloader_that_would_put_batches_together_is_refused(store: Store) -> None:
    loader = PairLoader(store.path, 32)
    assert same(next(iter(DataLoader(loader))), next(iter(PairLoader(store.path, 32))))
    with pytest.raises(GatedVAEError, match="batch_size=None"):
        next(iter(DataLoader(loader, batch_size=4)))


def test_within_another_dataset_nothing_is_doubled(store: Store) -> None:
    two = ChainDataset([PairLoader(store.path, 32, partitions=[name]) for name in ("pose", "expression")])
    assert pairs_of(list(DataLoader(two, batch_size=None, num_workers=2))) == table(store, 0)


def test_a_pickled_loader_goes_on_where_it_was(store: Store) -> None:
    loader = PairLoader(store.path, 32, seed=3, partitions=["expression"], rank=1, world_size=2, prefetch=1)
    next(iter(loader))
    assert len(pickle.dumps(loader)) < 20_000  # nothing of the store
    copy = pickle.loads(pickle.dumps(loader))
    assert copy.state_dict() == loader.state_dict()
    assert all(same(*pair) for pair in zip(copy, loader, strict=True))
    store.with_partitions({**store.partitions, "expression": {**store.partitions["expression"], "seed": 7}})
    with pytest.raises(GatedVAEError, match="another source"):
        pickle.loads(pickle.dumps(loader))


@pytest.mark.slow
def test_started_workers_count_epochs_like_forked_ones(store: Store) -> None:
    loader, plain = PairLoader(store.path, 32), PairLoader(store.path, 32)
    feeder = DataLoader(loader, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    for _epoch in range(2):
        assert all(same(*pair) for pair in zip(feeder, plain, strict=True))
    assert loader.state_dict() == plain.state_dict()
