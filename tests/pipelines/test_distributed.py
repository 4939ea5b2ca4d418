"""Two gloo ranks on this machine against one process: the same gradients, the same weights, the same run folder."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from gated_vae.models.checkpoint import checkpoints
from gated_vae.models.distributed import Shares, SynchronisedBatchNorm, everyone, sum_gradients, synchronise_batch_norm
from gated_vae.models.methods.base import StepBatch
from gated_vae.models.methods.exchange import Exchange
from gated_vae.models.methods.gate import Gate
from gated_vae.models.methods.partners import Partners
from gated_vae.models.objectives import DIPVAE2, VAE, Gaussian, InfoVAE
from gated_vae.models.registry import OBJECTIVES
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, draw_noise, optimiser_groups
from gated_vae.pairing.stream.order import share_of_rank
from gated_vae.pipelines.process import InterruptedTrainingError, joined
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.train import TrainReport, train
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store
from tests.ranks import assert_same_weights, cancelled, on_two_ranks, outcomes
from tests.stores import make_store

BATCH = 15  # shares of 7 and 8
FC = GatedVAEConfig({"pose": 2, "expression": 3}, image_shape=(16, 16), network="fc", hidden=(16, 16))
CONV = replace(FC, network="conv", hidden=(4, 4, 16))
MODELS = {
    **{name: replace(FC, objective=objective()) for name, objective in OBJECTIVES.items()},
    "exchange": replace(FC, method=Exchange()),
    "partners": replace(FC, method=Partners()),
    "whole regulariser": replace(FC, objective=DIPVAE2(), method=Gate(regulariser=False)),
    "gaussian": replace(FC, likelihood=Gaussian()),
    "conv": replace(CONV, objective=InfoVAE()),
}

# The discrepancy is a difference of means of kernels near 1, each rounded to 2**-24, times lambda - 1 = 499; the total correlation
# one of logarithms near 8, rounded to 2**-21, times beta - 1 = 5.
ROUNDING = {"mmd": 499 * 2**-22, "tc": 5 * 2**-20}

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
    together = config.method.batches == "together"
    given = torch.stack(images)[:, own] if together else images[0][own]
    loss = model.loss(StepBatch(given, target[own], None if together else "pose"), noise, shares)
    loss.total.backward()  # type: ignore[no-untyped-call]
    sum_gradients(optimiser_groups(dict(model.named_parameters()))[0]["params"])
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    statistics = {
        name: value for name, value in model.named_buffers() if name not in ("masks", "step")
    }  # constants are not compared
    return {**gradients, **statistics, **loss.terms}


def all_steps() -> dict[str, Step]:
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    return {name: step(config, rank, ranks) for name, config in MODELS.items()}


@pytest.mark.slow
def test_two_ranks_have_the_gradients_of_one_process() -> None:
    shared, alone = on_two_ranks(all_steps), all_steps()
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


def listening() -> set[str]:
    """Where this process listens."""
    found = set()
    for handle in (int(path.name) for path in Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            borrowed = socket.socket(fileno=handle)
            try:
                if borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.add(borrowed.getsockname()[0])
            finally:
                borrowed.detach()
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_ranks_meet_at_loopback_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "")
    for name in ("GLOO_SOCKET_IFNAME", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    before = listening()
    with joined("cpu") as first:
        assert first
        assert everyone(7) == (7,)
        assert listening() - before <= {"127.0.0.1"}
    taken = pytest.raises(GatedVAEError, match=r"Ranks cannot meet.*\n.*in use.*\n.*MASTER_PORT a free port")
    with socket.create_server(("127.0.0.1", port)), taken, joined("cpu"):
        pass


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


def train_until(wanted: TrainConfig, options: TrainOptions, stop: int = 0) -> TrainReport:
    """Train; the first rank is told to stop after some steps."""

    def progress(done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if done == stop and dist.get_rank() == 0:
            os.kill(os.getpid(), 15)

    return train(wanted, options, progress)


@pytest.mark.slow
def test_two_ranks_train_resume_and_end_in_the_weights_of_one_process(tmp_path: Path, store: Store) -> None:
    options = TrainOptions(tmp_path / "one", device="cpu", log_every=2)
    alone = train(config(store), options)
    whole = on_two_ranks(train_until, config(store), replace(options, out=tmp_path / "two"))
    assert_same_weights(tmp_path / "two", tmp_path / "one")
    for partition, terms in alone.losses.items():
        assert whole.losses[partition] == pytest.approx(terms, rel=1e-4)

    parts = replace(options, out=tmp_path / "parts")
    with pytest.raises(InterruptedTrainingError, match="after 3 of 5"):
        on_two_ranks(train_until, config(store), parts, 3)
    resumed = on_two_ranks(train_until, config(store), parts)
    assert resumed.steps_now == 2
    names = [checkpoints(run / "checkpoints")[-1].weights for run in (tmp_path / "parts", tmp_path / "two")]
    assert names[0].read_bytes() == names[1].read_bytes()


@pytest.mark.slow
def test_the_first_of_two_ranks_validates_and_both_stop_early(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", splits={"train": 210, "valid": 60, "test": 30})
    model = replace(MODELS["partners"], objective=VAE())
    wanted = config(store, model=model, lr=1e-3, keep="best", checkpoint_every=2)
    alone = train(wanted, TrainOptions(tmp_path / "one", device="cpu"))
    whole = on_two_ranks(train_until, wanted, TrainOptions(tmp_path / "two", device="cpu"))
    assert whole.valid["history"] == pytest.approx(alone.valid["history"], rel=1e-3)
    hasty = replace(wanted, steps=90, lr=0.3, keep="best:2", checkpoint_every=3)  # gets worse soon
    stopped = on_two_ranks(train_until, hasty, TrainOptions(tmp_path / "hasty", device="cpu"))
    assert stopped.stopped_early
    assert stopped.steps == stopped.valid["best"] + 6 < 90
    assert on_two_ranks(train_until, hasty, TrainOptions(tmp_path / "hasty", device="cpu")).steps_now == 0


@pytest.mark.slow
def test_a_last_batch_with_rows_for_one_rank_alone_is_left_out_on_both(tmp_path: Path) -> None:
    """301 pairs a partition: a batch of 300, and a single pair."""
    store = make_store(tmp_path / "store", 301)
    wanted = config(store, steps=None, epochs=2, batch_size=300)
    train(wanted, TrainOptions(tmp_path / "one", device="cpu"))
    report = on_two_ranks(train_until, wanted, TrainOptions(tmp_path / "two", device="cpu"))
    assert report.steps_now == 8
    assert_same_weights(tmp_path / "two", tmp_path / "one")


def fail_on_another_rank() -> int:
    if dist.get_rank() == 1:
        raise GatedVAEError("Rank one has failed.")
    return everyone(0)[0]


@pytest.mark.slow
def test_a_rank_that_fails_ends_the_others() -> None:
    first, second = outcomes(fail_on_another_rank)
    assert (type(first), type(second)) == (GatedVAEError, GatedVAEError)
    assert str(first).startswith("Rank 0 has stopped.")
    assert "Another rank's message may say more." in str(first)
    assert str(second).startswith("Rank one has failed.")


def test_a_batch_that_cannot_be_shared_is_refused(store: Store) -> None:
    with pytest.raises(GatedVAEError, match="does not divide by 3"):
        config(store).pairs_per_rank(3)
    assert config(store).pairs_per_rank(4) == 8


def torchrun(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Two ranks of `pipe`, as docs/distributed.md starts them."""
    start = "-m torch.distributed.run --standalone --nproc-per-node 2 --no-python"
    command = [sys.executable, *start.split(), str(Path(sys.executable).with_name("pipe")), *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)


@pytest.mark.slow
def test_torchrun_ends_in_the_bytes_of_any_two_ranks_and_reports_once(tmp_path: Path, store: Store) -> None:
    model = replace(FC, latent={"pose": 2, "expression": 2}, hidden=(8, 8), objective=VAE())
    wanted = config(store, model=model, steps=4, batch_size=16)
    on_two_ranks(train, wanted, TrainOptions(tmp_path / "spawned", device="cpu"))
    options = "--network fc --hidden 8,8 --steps 4 --batch-size 16 --latent pose=2,expression=2 --device cpu --json"
    options += " --precision fp32 --objective vae --lr 1e-4 --schedule constant"
    done = torchrun("train", store.path, "--out", tmp_path / "torchrun", *options.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"steps_now": 4') == 1, "rank 0 alone reports"
    assert len(list((tmp_path / "torchrun").glob("events.*"))) == 1, "rank 0 alone writes"
    files = [checkpoints(tmp_path / name / "checkpoints")[-1].weights for name in ("torchrun", "spawned")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_under_torchrun_failures_are_told_and_fail(tmp_path: Path, store: Store) -> None:
    done = torchrun("train", store.path, "--out", tmp_path / "run", "--steps", "4", "--batch-size", "15")
    assert done.returncode == 1
    assert "2 ranks cannot share a batch." in done.stderr
    assert not (tmp_path / "run" / "config.json").exists()
