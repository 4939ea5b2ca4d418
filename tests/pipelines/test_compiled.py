"""A compiled step computes what the plain one does, but for rounding."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from gated_vae.models.methods.base import StepBatch
from gated_vae.models.objectives import DIPVAE2, VAE, BetaVAE, InfoVAE, Objective
from gated_vae.models.registry import METHODS, OBJECTIVES
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, draw_noise
from gated_vae.pipelines.cli import app
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.pipelines.training.run import open_run
from gated_vae.pipelines.training.trainer import InterruptedTrainingError, TrainOptions, train
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store
from tests.pipelines.test_trainer import MODEL, config, contents, stop_at

LATENT = {"pose": 2, "expression": 3}
BATCH = 16
STRONG = [VAE(2.0), BetaVAE(2.0), InfoVAE(lambda_=10.0), DIPVAE2(2.0, 1.0, 1.0)]

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="TorchInductor needs a C++ compiler"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of what PyTorch does inside its own compiler
]


def steps(model: GatedVAE, partitions: list[str | None]) -> list[torch.Tensor]:
    """Loss and gradient, in one vector, of a step for each of the partitions."""
    images = torch.randint(0, 256, (2, BATCH, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    inputs = images if model.config.method.batches == "together" else images[0]
    composed = model.config.method.batches == "composed"
    sources = torch.stack([torch.arange(BATCH), torch.arange(BATCH).flip(0)]) if composed else None
    noise = draw_noise(model.config, BATCH, seed=0, step=1, device="cpu")
    found = []
    for partition in partitions:
        model.zero_grad()
        loss = model.loss(StepBatch(inputs, images[1], partition, sources), noise)
        loss.total.backward()
        gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])  # type: ignore[union-attr]
        found += [loss.total.detach(), gradient]
    return found


def compare(config: GatedVAEConfig, partitions: list[str | None]) -> None:
    torch.manual_seed(0)
    model = GatedVAE(config)
    plain = steps(model, partitions)
    model.compile_loss()
    for ours, expected in zip(steps(model, partitions), plain, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_every_objective_is_compiled() -> None:
    assert [type(objective) for objective in STRONG] == [*OBJECTIVES.values()]


def test_all_partitions_share_a_graph_that_computes_what_the_plain_step_does() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compare(GatedVAEConfig(LATENT, image_shape=(16, 16), network="fc", hidden=(16, 16)), ["pose", "expression"])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.slow
@pytest.mark.parametrize("network", ["fc", "conv"])
@pytest.mark.parametrize(
    ("objective", "method"),
    [(BetaVAE(2.0), name) for name in METHODS] + [(objective, "gate") for objective in STRONG],
)
def test_every_kind_of_step_can_be_compiled(objective: Objective, method: str, network: str) -> None:
    torch._dynamo.reset()
    hidden = {"fc": (16, 16), "conv": (8, 8, 16)}[network]
    how = METHODS[method]()
    config = GatedVAEConfig(
        LATENT, image_shape=(16, 16), network=network, hidden=hidden, objective=objective, method=how
    )
    compare(config, ["pose", None] if method in ("gate", "exchange") else [None])


@pytest.mark.slow
def test_interrupted_compiled_training_ends_in_the_same_bytes(tmp_path: Path, store: Store) -> None:
    wanted = config(store, compiled=True)
    train(wanted, TrainOptions(tmp_path / "whole", log_every=4, checkpoint_every=10))
    options = TrainOptions(tmp_path / "parts", log_every=4, checkpoint_every=10, prefetch=0)
    with pytest.raises(InterruptedTrainingError, match="after 13 of 30"):
        train(wanted, options, stop_at(13))
    train(wanted, options)
    whole, parts = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    assert {name: digest for name, digest in whole.items() if "30" in name}.items() <= parts.items()


def test_without_a_compiler_training_goes_on_without_and_records_it(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, str(tmp_path / "no-compiler")))
    command = ["train", str(store.path), "--out", str(tmp_path / "run"), "--steps", "2", "--batch-size", "8"]
    command += ["--network", "fc", "--hidden", "8,8", "--latent", "pose=1,expression=1", "--compile"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "The step is not compiled. InvalidCxxCompiler" in result.stderr
    assert not open_run(tmp_path / "run").config.compiled


def test_ranks_cannot_share_a_compiled_step() -> None:
    wanted = TrainConfig("store", MODEL, steps=1, compiled=True)
    with pytest.raises(GatedVAEError, match="no --compile"):
        wanted.pairs_per_rank(2)
    assert wanted.pairs_per_rank(1) == 128
