"""Two ranks on this machine, started as torchrun starts them."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import multiprocessing

from gated_vae.models.checkpoint import checkpoints
from gated_vae.pipelines.process import joined, leave
from tests.machine import free_place, until


def outcomes(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What a function that can be pickled returned, or raised, on each of two ranks of one gloo group."""
    where, context = free_place(), multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        found = [Path(folder) / f"{rank}" for rank in range(2)]
        ranks = [
            context.Process(target=_rank, args=(rank, where, found[rank], function, arguments), daemon=True)
            for rank in range(2)
        ]
        for rank in ranks:
            rank.start()
        try:
            _wait(ranks)
        finally:
            for rank in ranks:
                rank.kill()
                rank.join()
        return [pickle.loads(path.read_bytes()) for path in found]


def on_two_ranks(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returned on the first of two ranks; raises what it raised, on the last rank if there."""
    for outcome in reversed(found := outcomes(function, *arguments)):
        if isinstance(outcome, Exception):
            raise outcome
    return found[0]


def _rank(rank: int, at: tuple[str, int], path: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": at[0], "MASTER_PORT": at[1]}
    os.environ |= {name: str(value) for name, value in where.items()}
    try:
        with joined("cpu") as first:
            assert first == (rank == 0)
            outcome = function(*arguments)
    except Exception as error:
        outcome = error
    path.write_bytes(pickle.dumps(outcome))
    leave(0)


def _wait(ranks: list[Any]) -> None:
    """Until both have ended, or one could not even start: the other would wait for it by the half hour."""
    until(lambda: any(rank.exitcode for rank in ranks) or all(rank.exitcode == 0 for rank in ranks))


def cancelled(values: dict[str, torch.Tensor]) -> set[str]:
    """Biases whose effect a batch normalisation takes away: their gradients are rounding errors, which Adam makes steps of."""
    layers = {name: name.split(".") for name in values if name.endswith(".bias")}
    return {
        name
        for name, (part, group, index, _) in layers.items()
        if f"{part}.{group}.{int(index) + 1}.running_mean" in values
    }


def assert_same_weights(run: Path, other: Path) -> None:
    """Weights of two runs' newest checkpoints, but for rounding."""
    ours, theirs = (load_file(checkpoints(path / "checkpoints")[-1].weights) for path in (run, other))
    assert ours.keys() == theirs.keys()
    means = {name for name in theirs if name.endswith("running_mean")}  # hold those biases
    for name in theirs.keys() - cancelled(theirs) - means:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5, msg=name)
