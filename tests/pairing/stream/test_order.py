"""The order of an epoch: permutation, coverage, turns."""

import numpy as np
import pytest

from gated_vae.pairing.stream.order import Shuffle, partition_of_step, share_of_rank


def visited(shuffle: Shuffle, sizes: list[int]) -> list[tuple[int, int]]:
    """Every (block, row) in visiting order."""
    order = []
    for number, window in enumerate(shuffle.windows(len(sizes))):
        rows = [(int(block), row) for block in window for row in range(sizes[block])]
        order += [rows[position] for position in shuffle.rows(number, len(rows))]
    return order


def test_every_row_is_visited_once_and_epochs_differ() -> None:
    sizes = [5, 5, 5, 2]
    orders = [visited(Shuffle(7, epoch, 0, window=2), sizes) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == [(block, row) for block, size in enumerate(sizes) for row in range(size)]
    assert orders[0] != orders[1] != orders[2]
    assert orders[0] == visited(Shuffle(7, 0, 0, window=2), sizes)
    assert orders[0] != visited(Shuffle(8, 0, 0, window=2), sizes)
    assert orders[0] != visited(Shuffle(7, 0, 1, window=2), sizes)
    first, second = (Shuffle(7, 0, 0, window=2).rows(window, 9).tolist() for window in range(2))
    assert first != second


def test_one_window_shuffles_every_row_to_every_place_alike() -> None:
    """Chi-square of row against place over many seeds: 6 x 6 cells, 25 degrees of freedom (99.99%: 66)."""
    counts = np.zeros((6, 6))
    for seed in range(600):
        for place, (block, row) in enumerate(visited(Shuffle(seed, 0, 0, window=9), [3, 3])):
            counts[place, 3 * block + row] += 1
    assert ((counts - 100) ** 2 / 100).sum() < 66


@pytest.mark.parametrize(("size", "world"), [(10, 3), (2, 4), (128, 2), (0, 2), (7, 7)])
def test_ranks_share_a_batch_without_gap_or_overlap(size: int, world: int) -> None:
    shares = [range(size)[share_of_rank(size, rank, world)] for rank in range(world)]
    assert [row for share in shares for row in share] == list(range(size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("batches", [[3], [2, 2], [1, 4, 2], [0, 3], [5, 5, 5, 5]])
def test_partitions_take_turns_until_they_run_out(batches: list[int]) -> None:
    expected = [
        (partition, batch) for batch in range(max(batches)) for partition, count in enumerate(batches) if batch < count
    ]
    assert [partition_of_step(step, batches) for step in range(sum(batches))] == expected
    with pytest.raises(IndexError):
        partition_of_step(sum(batches), batches)
