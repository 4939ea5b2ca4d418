"""What a GPU must do as the processor does: run with ``pytest -m cuda`` on a machine that has one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gated_vae.models.checkpoint import checkpoints
from gated_vae.models.methods.base import StepBatch
from gated_vae.models.noise import hashed_noise
from gated_vae.models.registry import METHODS, OBJECTIVES, parse
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, draw_noise
from gated_vae.pairing.exact import FactorGrid, pair_exactly
from gated_vae.pipelines.experiments.seeds import train_seeds
from gated_vae.pipelines.explore.curves import EventReader
from gated_vae.pipelines.process import InterruptedTrainingError
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.folder import create_run
from gated_vae.pipelines.training.run import open_run
from gated_vae.pipelines.training.stack import StackTrainer
from gated_vae.pipelines.training.train import train_single, train_stack
from gated_vae.preprocessing.store import Store, open_store
from tests.stores import make_grid_store

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
LATENT = {"left": 2, "right": 3}
HIDDEN = {"fc": (32, 32), "conv": (4, 8, 16)}
# Small constants, so that no term drowns the others.
OBJECTIVE = {"vae": "vae", "beta": "beta:beta=2", "info": "info:lambda=10", "dip2": "dip2:lambda_od=1,lambda_d=1"}
OBJECTIVE |= {
    "tc": "tc:beta=2",
    "dip1": "dip1:lambda_od=1,lambda_d=1",
    "annealed": "annealed:gamma=2,capacity=1,steps=6",
}
CRITIC = {"factor": "factor:gamma=1"}  # is in no stack with the others


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("store") / "grid"
    pair_exactly(make_grid_store(path, FactorGrid(("a", "b", "c"), (8, 8, 8))), {"left": ("a",), "right": ("b", "c")})
    return open_store(path)


def model_of(network: str, method: str = "gate", objective: str = "beta") -> GatedVAEConfig:
    chosen = parse(METHODS, method), parse(OBJECTIVES, (OBJECTIVE | CRITIC)[objective])
    return GatedVAEConfig(LATENT, (16, 16), network, HIDDEN[network], *chosen)


def config(store: Store, model: GatedVAEConfig, **options: object) -> TrainConfig:
    wanted = {"store": str(store.path), "model": model, "steps": 24, "batch_size": 32, "lr": 1e-3, **options}
    return TrainConfig(**wanted)  # type: ignore[arg-type]


def a_batch(method: str) -> StepBatch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 16, 16, 16), dtype=torch.uint8, generator=generator)
    sources = torch.randint(0, 16, (2, 16), generator=generator) if method == "composed" else None
    partition = "left" if method in ("gate", "prior-gate", "exchange", "gvae", "ml-vae") else None
    batch = StepBatch(images[:2] if method == "partners" else images[0], images[2], partition, sources)
    return batch.both() if METHODS[method]().encoded(2) == 2 and method not in ("partners", "exchange") else batch


def gradients(config: GatedVAEConfig, precision: str, device: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = GatedVAE(config, precision).to(device)
    batch, noise = a_batch(method_name(config)), draw_noise(config, 16, seed=0, step=1, device="cpu").to(device)
    moved = {name: value.to(device) for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    loss = model.loss(replace(batch, **moved), noise)
    loss.total.backward()  # type: ignore[no-untyped-call]
    found = {name: value.grad.cpu() for name, value in model.named_parameters() if value.grad is not None}
    return loss.total.detach().cpu(), found


def method_name(config: GatedVAEConfig) -> str:
    return next(name for name in METHODS if type(config.method) is METHODS[name])


@pytest.mark.parametrize("network", HIDDEN)
@pytest.mark.parametrize(
    ("method", "objective"), [(name, "beta") for name in METHODS] + [("gate", name) for name in OBJECTIVE | CRITIC]
)
def test_loss_and_gradients_are_the_processors(network: str, method: str, objective: str) -> None:
    wanted = model_of(network, method, objective)
    for precision, close in (("fp32", 2e-3), ("bf16", 5e-2)):  # convolutions may use TF32
        here, there = gradients(wanted, "fp32", "cpu"), gradients(wanted, precision, "cuda")
        assert float(there[0]) == pytest.approx(float(here[0]), rel=close)
        ours, theirs = (torch.cat([value.flatten() for value in found[1].values()]) for found in (there, here))
        assert float(torch.cosine_similarity(ours, theirs, 0)) > 1 - close


@pytest.mark.parametrize("network", HIDDEN)
@pytest.mark.parametrize("objective", OBJECTIVE | CRITIC)
def test_closed_partitions_get_no_gradient(network: str, objective: str) -> None:
    _, found = gradients(model_of(network, "gate", objective), "bf16", "cuda")
    heads = [value for name, value in found.items() if name.startswith("encoder") and value.shape[0] == 10][-2:]
    for head in heads:
        reached = head.flatten(1).abs().sum(1) if head.dim() > 1 else head.abs()
        assert set(reached.nonzero().flatten().tolist()) == {0, 1, 5, 6}


def test_hashed_noise_is_the_processors() -> None:
    seeds, step = torch.arange(5), torch.tensor(7)
    there = hashed_noise(seeds.cuda(), step.cuda(), (3, 16, 5)).cpu()
    torch.testing.assert_close(there, hashed_noise(seeds, step, (3, 16, 5)), rtol=1e-5, atol=1e-5)
    drawn = draw_noise(model_of("fc"), 16, seed=3, step=7, device="cuda").cpu()
    torch.testing.assert_close(drawn, there[3], rtol=0, atol=0)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoints(path / "checkpoints")[-1].weights)


@pytest.mark.parametrize(
    ("method", "objective"), [(name, "beta") for name in METHODS] + [("gate", "annealed"), ("gate", "factor")]
)
def test_training_repeats_and_resumes_to_the_same_bytes(
    tmp_path: Path, grid: Store, method: str, objective: str
) -> None:
    wanted = config(grid, model_of("fc", method, objective))
    for name in ("one", "two"):
        train_single(wanted, TrainOptions(tmp_path / name, device="cuda", log_every=5))

    def stop(done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if done == 13:
            import os

            os.kill(os.getpid(), 15)

    with pytest.raises(InterruptedTrainingError):
        train_single(wanted, TrainOptions(tmp_path / "parts", device="cuda", log_every=5), stop)
    train_single(wanted, TrainOptions(tmp_path / "parts", device="cuda", log_every=5))
    one = weights(tmp_path / "one")
    for name in ("two", "parts"):
        other = weights(tmp_path / name)
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("network", HIDDEN)
@pytest.mark.parametrize("method", METHODS)
def test_a_stack_is_its_single_runs(tmp_path: Path, grid: Store, method: str, network: str) -> None:
    # A few steps: small convolutional networks run apart by Adam's first steps along directions that are rounding errors.
    wanted = [config(grid, model_of(network, method, name), seed=seed, steps=8) for seed, name in enumerate(OBJECTIVE)]
    options = TrainOptions(tmp_path, device="cuda", log_every=4)
    stacked = train_stack(wanted, [tmp_path / f"stacked-{one.seed}" for one in wanted], options)
    for one, report in zip(wanted, stacked, strict=True):
        alone = train_single(one, replace(options, out=tmp_path / f"alone-{one.seed}"))
        for label, terms in alone.losses.items():
            assert report.losses[label]["reconstruction"] == pytest.approx(terms["reconstruction"], rel=2e-2)
            assert report.losses[label].keys() == terms.keys()


def test_a_stack_repeats_and_goes_on_to_the_same_bytes(tmp_path: Path, grid: Store) -> None:
    wanted = [config(grid, model_of("fc"), seed=seed, steps=40, warmup=20) for seed in range(3)]
    outs = {name: [tmp_path / f"{name}-{seed}" for seed in range(3)] for name in ("one", "two", "parts")}
    options = TrainOptions(tmp_path, device="cuda", log_every=5)
    for name in ("one", "two"):
        train_stack(wanted, outs[name], options)
    half = [replace(one, steps=24) for one in wanted]
    train_stack(half, outs["parts"], options)
    for one, out in zip(wanted, outs["parts"], strict=True):
        create_run(out, replace(one, stacked=True), grid, extend=True)
    train_stack(wanted, outs["parts"], options)
    for seed in range(3):
        one = weights(outs["one"][seed])
        for name in ("two", "parts"):
            other = weights(outs[name][seed])
            assert all(torch.equal(one[key], other[key]) for key in one), name


def test_a_stacks_step_never_waits_for_the_device(tmp_path: Path, grid: Store) -> None:
    wanted = [replace(config(grid, model_of("fc", "gate", name), seed=0, steps=64), stacked=True) for name in OBJECTIVE]
    runs = []
    for index, one in enumerate(wanted):
        create_run(tmp_path / f"{index}", one, grid)
        runs.append(open_run(tmp_path / f"{index}"))
    trainer = StackTrainer(runs, grid, (64,), "cuda")
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, len(grid), (2, len(runs), 32)).astype(np.int32)).cuda()
    for _ in range(6):  # as it is, then recorded, then replayed
        trainer.step += 1
        trainer._train_on(StepBatch(*ids, "left"))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for partition in ("left", "right", "left"):
            trainer.step += 1
            trainer._train_on(StepBatch(*ids, partition))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_seeds_are_trained_as_one_stack_and_log_the_kl_of_every_dimension(tmp_path: Path, grid: Store) -> None:
    wanted = config(grid, model_of("fc"))
    assert len(train_seeds(wanted, range(3), TrainOptions(tmp_path, device="cuda", log_every=8), grid)) == 3
    for seed in range(3):
        assert open_run(tmp_path / f"{seed}").config.stacked
        reader = EventReader(tmp_path / f"{seed}")
        assert reader.read()
        assert reader.scalars["kl_of/z4"][0] == [8, 16, 24]
