"""Two gloo ranks on this machine against one process: the same gradients, the same weights, the same run folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from gated_vae.models.checkpoint import checkpoints
from gated_vae.models.distributed import Shares, SynchronisedBatchNorm, everyone, sum_gradients, synchronise_batch_norm
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, draw_noise
from gated_vae.pairing.stream.order import share_of_rank
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.pipelines.training.ranks import on_ranks
from gated_vae.pipelines.training.trainer import InterruptedTrainingError, TrainOptions, TrainReport, train
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store
from tests.stores import make_store

BATCH = 15  # shares of 7 and 8
FC = GatedVAEConfig({"pose": 2, "expression": 3}, image_shape=(16, 16), network="fc", hidden=(16, 16))
CONV = replace(FC, network="conv", hidden=(4, 4, 16))
MODELS = {
    **{name: replace(FC, objective=ObjectiveConfig(name)) for name in ("vae", "beta", "info", "dip2")},
    "exchange": replace(FC, context="target"),
    "partners": replace(FC, context="partners"),
    "whole regulariser": replace(FC, objective=ObjectiveConfig("dip2"), gate_regulariser=False),
    "conv": replace(CONV, objective=ObjectiveConfig("info")),
}

# The discrepancy is a difference of means of kernels near 1, each rounded to 2**-24, times lambda - 1 = 499.
ROUNDING = {"mmd": 499 * 2**-22}

Step = dict[str, torch.Tensor]


def step(config: GatedVAEConfig, rank: int, ranks: int) -> Step:
    """Gradients, buffers and terms of one gated step on this rank's share of a fixed batch."""
    torch.manual_seed(0)
    model = GatedVAE(config)
    synchronise_batch_norm(model)
    *images, target = torch.randint(0, 256, (1 + len(config.latent), BATCH, 16, 16), dtype=torch.uint8)
    own = share_of_rank(BATCH, rank, ranks)
    shares = Shares.of(own.stop - own.start)
    assert (shares.whole, shares.own) == (BATCH, own)
    noise = draw_noise(config, BATCH, seed=1, step=1, device="cpu")[:, own]
    together = config.context == "partners"
    given = torch.stack(images)[:, own] if together else images[0][own]
    loss = model.loss(given, target[own], None if together else "pose", noise, shares)
    loss.total.backward()  # type: ignore[no-untyped-call]
    sum_gradients(model.parameters())
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    statistics = {name: value for name, value in model.named_buffers() if name != "masks"}  # constants are not compared
    return {**gradients, **statistics, **loss.terms}


def cancelled(values: Step) -> set[str]:
    """Biases whose effect a batch normalisation takes away: their gradients are rounding errors, which Adam makes steps of."""
    layers = {name: name.split(".") for name in values if name.endswith(".bias")}
    return {
        name
        for name, (part, group, index, _) in layers.items()
        if f"{part}.{group}.{int(index) + 1}.running_mean" in values
    }


def all_steps() -> dict[str, Step]:
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    return {name: step(config, rank, ranks) for name, config in MODELS.items()}


@pytest.mark.slow
def test_two_ranks_have_the_gradients_of_one_process() -> None:
    shared, alone = on_ranks(all_steps, all_steps, workers=2, device="cpu"), all_steps()
    assert shared is not None
    for model, values in alone.items():
        assert shared[model].keys() == values.keys()
        for name in values.keys() - cancelled(values):
            largest = float(values[name].abs().max())
            bound = 1e-5 * largest + ROUNDING.get(name, 0.0)
            assert float((shared[model][name] - values[name]).abs().max()) <= bound, (model, name)
            assert largest > 0


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
def test_batch_normalisation_is_pytorchs() -> None:
    torch.manual_seed(0)
    theirs, ours = torch.nn.BatchNorm1d(6), SynchronisedBatchNorm(6)
    for _ in range(3):
        x = (torch.randn(9, 6) * 3 + 2).requires_grad_()
        y = x.detach().clone().requires_grad_()
        weight = torch.randn(9, 6)
        (theirs(x) * weight).sum().backward()
        (ours(y) * weight).sum().backward()
        assert x.grad is not None
        assert y.grad is not None
        torch.testing.assert_close(y.grad, x.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.eval()(y), theirs.eval()(x), rtol=1e-5, atol=1e-5)


def config(store: Store, **options: object) -> TrainConfig:
    wanted = {"store": str(store.path), "model": MODELS["info"], "steps": 5, "batch_size": 32, **options}
    return TrainConfig(**wanted)  # type: ignore[arg-type]


def train_on_two(wanted: TrainConfig, options: TrainOptions, stop: int = 0) -> TrainReport | None:
    def first() -> TrainReport:
        def progress(done: int, total: int, losses: dict[str, float]) -> None:  # noqa: ARG001
            if done == stop:
                os.kill(os.getpid(), 15)

        return train(wanted, options, progress)

    return on_ranks(partial(train, wanted, options), first, workers=2, device="cpu")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoints(run / "checkpoints")[-1].weights)


def assert_same_weights(run: Path, other: Path) -> None:
    ours, theirs = weights(run), weights(other)
    assert ours.keys() == theirs.keys()
    means = {name for name in theirs if name.endswith("running_mean")}  # hold those biases
    for name in theirs.keys() - cancelled(theirs) - means:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
def test_two_ranks_train_resume_and_end_in_the_weights_of_one_process(tmp_path: Path, store: Store) -> None:
    options = TrainOptions(tmp_path / "one", device="cpu", log_every=2)
    alone = train(config(store), options)
    whole = train_on_two(config(store), replace(options, out=tmp_path / "two"))
    assert whole is not None
    assert_same_weights(tmp_path / "two", tmp_path / "one")
    for partition, terms in alone.losses.items():
        assert whole.losses[partition] == pytest.approx(terms, rel=1e-4)

    parts = replace(options, out=tmp_path / "parts")
    with pytest.raises(InterruptedTrainingError, match="after 3 of 5"):
        train_on_two(config(store), parts, stop=3)
    resumed = train_on_two(config(store), parts)
    assert resumed is not None
    assert resumed.steps_now == 2
    names = [checkpoints(run / "checkpoints")[-1].weights for run in (tmp_path / "parts", tmp_path / "two")]
    assert names[0].read_bytes() == names[1].read_bytes()


@pytest.mark.slow
def test_a_last_batch_with_rows_for_one_rank_alone_is_left_out_on_both(tmp_path: Path) -> None:
    """301 pairs a partition: a batch of 300, and a single pair."""
    store = make_store(tmp_path / "store", 301)
    wanted = config(store, steps=None, epochs=2, batch_size=300)
    train(wanted, TrainOptions(tmp_path / "one", device="cpu"))
    report = train_on_two(wanted, TrainOptions(tmp_path / "two", device="cpu"))
    assert report is not None
    assert report.steps_now == 8
    assert_same_weights(tmp_path / "two", tmp_path / "one")


def fail_on_another_rank() -> int:
    if dist.get_rank() == 1:
        raise GatedVAEError("Rank one has failed.")
    return everyone(0)[0]


@pytest.mark.slow
def test_the_message_of_a_rank_that_fails_comes_through() -> None:
    with pytest.raises(GatedVAEError, match="Rank one has failed"):
        on_ranks(fail_on_another_rank, fail_on_another_rank, workers=2, device="cpu")
    assert not dist.is_initialized()


def test_a_batch_that_cannot_be_shared_is_refused(store: Store) -> None:
    with pytest.raises(GatedVAEError, match="does not divide by 3"):
        config(store).pairs_per_rank(3)
    assert config(store).pairs_per_rank(4) == 8


@pytest.mark.slow
def test_torchrun_and_workers_end_in_the_same_bytes(tmp_path: Path, store: Store) -> None:
    options = "--network fc --hidden 8,8 --steps 4 --batch-size 16 --latent pose=2,expression=2 --device cpu --json"
    torchrun = "-m torch.distributed.run --standalone --nproc-per-node 2 -m gated_vae.pipelines.train"
    for name, start in {"torchrun": torchrun, "workers": "-m gated_vae.pipelines.cli train --workers 2"}.items():
        command = [sys.executable, *start.split(), str(store.path), "--out", str(tmp_path / name), *options.split()]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count('"steps_now": 4') == 1, "rank 0 alone reports"
        assert len(list((tmp_path / name).glob("events.*"))) == 1, "rank 0 alone writes"
    files = [checkpoints(tmp_path / name / "checkpoints")[-1].weights for name in ("torchrun", "workers")]
    assert files[0].read_bytes() == files[1].read_bytes()
