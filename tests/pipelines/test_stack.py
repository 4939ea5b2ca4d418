"""A stack of models is its single runs: the same batches, noise, losses and gradients, saved as ordinary runs."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gated_vae.models.checkpoint import Checkpoint
from gated_vae.models.methods.base import StepBatch
from gated_vae.models.noise import hashed_noise
from gated_vae.models.objectives import Bernoulli, Gaussian, correlation
from gated_vae.models.objectives.base import gaussian_kl
from gated_vae.models.registry import METHODS, OBJECTIVES, parse
from gated_vae.models.stacked import Stack, bytes_of_one
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, draw_noise
from gated_vae.pairing.exact import pair_exactly
from gated_vae.pairing.groups.grid import FactorGrid
from gated_vae.pairing.stream.loader import PairLoader
from gated_vae.pipelines.evaluation.opened import open_run as open_model
from gated_vae.pipelines.explore.curves import EventReader
from gated_vae.pipelines.process import InterruptedTrainingError
from gated_vae.pipelines.training import stack
from gated_vae.pipelines.training.chunks import Walk, id_chunks
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.folder import create_run
from gated_vae.pipelines.training.journal import DivergedError
from gated_vae.pipelines.training.run import open_run
from gated_vae.pipelines.training.stack import StackTrainer
from gated_vae.pipelines.training.train import TrainReport, _groups, train, train_stack, train_stacks
from gated_vae.pipelines.training.trainer import Trainer
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store, open_store
from tests.ranks import assert_same_weights, cancelled
from tests.stores import make_grid_store

LATENT = {"left": 2, "right": 3}
HIDDEN = {"fc": (24, 24), "conv": (4, 8, 16)}
# Small constants, so that no term drowns the others.
OBJECTIVE = {"vae": "vae", "beta": "beta:beta=2", "info": "info:lambda=10", "dip2": "dip2:lambda_od=1,lambda_d=1"}
SMALL = {"slow-vae": "slow-vae:gamma=1"}
WAYS = (
    "vae",
    "gate",
    "gate:regulariser=false",
    "exchange:open_every=3",
    "partners:self_reconstruction=0.5",
    "composed",
    "ada-ml-vae:k=2",
    SMALL["slow-vae"],
)
BOTH = {"gvae", "ml-vae", "ada-gvae", "ada-ml-vae", "slow-vae"}  # encode and decode both images of a pair


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """210 images, so that the last batch of 32 is a smaller one."""
    path = tmp_path_factory.mktemp("store") / "grid"
    pair_exactly(make_grid_store(path, FactorGrid(("a", "b", "c"), (5, 6, 7))), {"left": ("a",), "right": ("b", "c")})
    return open_store(path)


def model_of(network: str, method: str, objective: str = "beta") -> GatedVAEConfig:
    chosen = parse(METHODS, method), parse(OBJECTIVES, OBJECTIVE[objective])
    likelihood = Gaussian() if network == "conv" else Bernoulli()
    return GatedVAEConfig(LATENT, (16, 16), network, HIDDEN[network], *chosen, likelihood)


def configs(store: Store, network: str, method: str, **options: object) -> list[TrainConfig]:
    wanted = {"steps": 40, "batch_size": 32, "lr": 1e-3, **options}
    models = [model_of(network, method, name) for name in OBJECTIVE]
    return [TrainConfig(str(store.path), model, seed=seed, **wanted) for seed, model in enumerate(models)]  # type: ignore[arg-type]


@pytest.mark.parametrize("network", HIDDEN)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_losses_and_gradients_are_those_of_each_model_alone(network: str, method: str, precision: str) -> None:
    generator = torch.Generator().manual_seed(1)  # by which no unit is so near its threshold that rounding decides
    images = torch.randint(0, 256, (4, 3, 12, 16, 16), dtype=torch.uint8, generator=generator)
    sources = torch.randint(0, 12, (4, 2, 12), generator=generator) if method == "composed" else None
    inputs = images[:, :2] if method == "partners" else images[:, 0]
    alone, models = [], []
    for seed, name in enumerate(OBJECTIVE):
        for kept in (alone, models):
            torch.manual_seed(seed)
            kept.append(GatedVAE(model_of(network, SMALL.get(method, method), name), precision))
    stacked = Stack(models)
    noise = torch.stack([draw_noise(models[0].config, 12, seed=seed, step=1, device="cpu") for seed in range(4)])
    through = models[0].masks[0] if method in ("gate", "prior-gate", "exchange", "gvae", "ml-vae") else None
    inputs, targets = (images[:, :2], images[:, :2]) if method in BOTH else (inputs, images[:, 2])
    terms = stacked.terms(StepBatch(inputs, targets, sources=sources, through=through), noise)
    torch.stack(list(terms.values())).sum().backward()
    partition = None if through is None else "left"
    close = {"rtol": 1e-4, "atol": 1e-5} if precision == "fp32" else {"rtol": 0.1, "atol": 0.1}
    for index, model in enumerate(alone):
        own = None if sources is None else sources[index]
        loss = model.loss(StepBatch(inputs[index], targets[index], partition, own), noise[index])
        loss.total.backward()
        for name, term in loss.terms.items():
            torch.testing.assert_close(terms[name][index].detach(), term, **close)
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        ours = {name: stacked.parameters[name].grad[index] for name in gradients}
        if precision == "fp32":
            torch.testing.assert_close(ours, gradients, rtol=1e-4, atol=1e-4)
        whole = [torch.cat([value.flatten() for value in found.values()]) for found in (ours, gradients)]
        assert float(torch.cosine_similarity(*whole, dim=0)) > (0.999 if precision == "fp32" else 0.95)
        for name, value in model.state_dict().items():
            if "running" in name:
                torch.testing.assert_close(stacked.buffers[name][index], value, **close)


@pytest.mark.parametrize("method", ["gate", "partners:self_reconstruction=0.5", "ml-vae"])
def test_a_stack_of_augmented_images_ends_where_its_single_runs_end(tmp_path: Path, grid: Store, method: str) -> None:
    wanted = configs(grid, "fc", method, steps=9, augment="mirror,shift,light")
    options = TrainOptions(tmp_path, device="cpu")
    reports = train_stack(wanted, [tmp_path / f"stacked-{one.seed}" for one in wanted], options)
    for one, report in zip(wanted, reports, strict=True):
        alone = train(one, replace(options, out=tmp_path / f"alone-{one.seed}"))
        for label, losses in alone.losses.items():
            for term, value in losses.items():
                assert report.losses[label][term] == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("method", WAYS)
def test_a_stack_ends_where_its_single_runs_end(tmp_path: Path, grid: Store, method: str) -> None:
    """Through the smaller last batches of two epochs."""
    wanted = configs(grid, "fc", method, steps=30, schedule="cosine")
    options = TrainOptions(tmp_path, device="cpu", log_every=10)
    reports = train_stack(wanted, [tmp_path / f"stacked-{one.seed}" for one in wanted], options)
    for one, report in zip(wanted, reports, strict=True):
        alone = train(one, replace(options, out=tmp_path / f"alone-{one.seed}"))
        assert report.losses.keys() == alone.losses.keys()
        for label, terms in alone.losses.items():
            assert report.losses[label].keys() == terms.keys()
            for name, value in terms.items():
                assert report.losses[label][name] == pytest.approx(value, rel=1e-3, abs=2e-3)
        runs = [open_run(tmp_path / f"{name}-{one.seed}") for name in ("stacked", "alone")]
        assert runs[0].config == runs[1].config
        assert (runs[0].config.stacked, runs[1].config.stacked) == (True, False)


@pytest.mark.parametrize("network", HIDDEN)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_kl_of_a_stack_is_each_models_after_training(network: str, precision: str) -> None:
    models = []
    for seed in range(3):
        torch.manual_seed(seed)
        models.append(GatedVAE(model_of(network, "gate"), precision))
        for name, statistics in models[-1].named_buffers():
            if "running" in name:
                statistics.uniform_(0.5, 2)
    images = torch.randint(0, 256, (3, 12, 16, 16), dtype=torch.uint8)
    stacked = Stack(models)
    before = {name: value.clone() for name, value in stacked.buffers.items()}
    found = stacked.kl(images)
    for own, model, seen in zip(found, models, images, strict=True):
        close = {"rtol": 1e-4, "atol": 1e-6} if precision == "fp32" else {"rtol": 0.05, "atol": 1e-3}
        torch.testing.assert_close(own, gaussian_kl(model.eval().encode(seen)).detach(), **close)
    assert all(torch.equal(value, before[name]) for name, value in stacked.buffers.items())


@pytest.mark.parametrize("network", HIDDEN)
@pytest.mark.parametrize("method", ["gate", "partners", "ml-vae"])
def test_a_stack_logs_what_its_single_runs_log(tmp_path: Path, grid: Store, network: str, method: str) -> None:
    """Losses, the KL of every dimension, the learning rate; and to log changes no weight, no statistics."""
    first = configs(grid, network, method, steps=6, schedule="cosine")[0]
    wanted = [first, replace(first, seed=4)]
    options = TrainOptions(tmp_path, device="cpu", log_every=2)
    for name, every in (("stacked", 2), ("quiet", 100)):
        outs = [tmp_path / f"{name}-{one.seed}" for one in wanted]
        train_stack(wanted, outs, replace(options, log_every=every))
    for one in wanted:
        train(one, replace(options, out=tmp_path / f"alone-{one.seed}"))
        stacked, alone = (EventReader(tmp_path / f"{name}-{one.seed}") for name in ("stacked", "alone"))
        assert stacked.read()
        assert alone.read()
        assert {f"kl_of/z{dimension}" for dimension in range(5)} < stacked.scalars.keys()
        assert stacked.scalars.keys() == alone.scalars.keys()
        for tag, (steps, values) in alone.scalars.items():
            # Biases before batch normalisation go by rounding errors, which running means have not caught up with yet.
            close = 0.1 if tag.startswith("kl_of") else 1e-3
            assert stacked.scalars[tag] == (steps, pytest.approx(values, rel=close, abs=1e-5)), tag
        assert contents(tmp_path / f"stacked-{one.seed}").keys() == contents(tmp_path / f"quiet-{one.seed}").keys()
        weights = "step-000000006.safetensors"
        assert contents(tmp_path / f"stacked-{one.seed}")[weights] == contents(tmp_path / f"quiet-{one.seed}")[weights]


@pytest.mark.parametrize(
    "objectives",
    [("tc:beta=2", "annealed:gamma=3,capacity=2,steps=6", "dip1:lambda_od=1"), ("factor:gamma=2", "factor:gamma=5")],
)
def test_what_rises_and_what_has_a_critic_is_trained_alike_alone_stacked_interrupted_and_by_hand(
    tmp_path: Path, grid: Store, objectives: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: the step told to the model, and an Adam of its own for the critic."""
    monkeypatch.setattr(correlation, "UNITS", (16, 16))
    one = configs(grid, "fc", "gate", steps=9)[0]
    wanted = [
        replace(one, seed=i, model=replace(one.model, objective=parse(OBJECTIVES, o))) for i, o in enumerate(objectives)
    ]
    options = TrainOptions(tmp_path, device="cpu", log_every=3)
    stacked = train_stack(wanted, [tmp_path / f"stacked-{config.seed}" for config in wanted], options)
    for config, report in zip(wanted, stacked, strict=True):
        alone = train(config, replace(options, out=tmp_path / f"alone-{config.seed}"))
        for label, losses in alone.losses.items():
            assert report.losses[label] == pytest.approx(losses, rel=1e-3, abs=2e-3)
        parts = replace(options, out=tmp_path / f"parts-{config.seed}")
        with pytest.raises(InterruptedTrainingError):
            train(config, parts, lambda done, *_: signal.raise_signal(signal.SIGINT) if done == 4 else None)
        train(config, parts)
        whole = contents(tmp_path / f"alone-{config.seed}")
        assert {name: contents(parts.out)[name] for name in whole} == whole
        torch.manual_seed(config.seed)
        model = GatedVAE(config.model).train()
        own = [parameter for name, parameter in model.named_parameters() if not name.startswith("critic")]
        adams = [torch.optim.Adam(own, lr=1e-3)]
        if model.critic is not None:
            adams.append(torch.optim.Adam(model.critic.parameters(), lr=1e-4, betas=(0.5, 0.9)))
        for step, pairs in zip(range(9), PairLoader(grid.path, 32, seed=config.seed, prefetch=0), strict=False):
            model.step.fill_(step)
            noise = draw_noise(config.model, 32, seed=config.seed, step=step + 1, device="cpu")
            model.loss(StepBatch(pairs.input, pairs.target, pairs.partition), noise).total.backward()  # type: ignore[no-untyped-call]
            for adam in adams:
                adam.step()
                adam.zero_grad()
        there = load_file(tmp_path / f"alone-{config.seed}" / "checkpoints" / "step-000000009.safetensors")
        here = {name: value for name, value in model.state_dict().items() if not name.endswith("running_mean")}
        for name in here.keys() - cancelled(there):
            torch.testing.assert_close(there[name], here[name], rtol=1e-4, atol=1e-5)


def test_a_run_may_start_from_one_without_a_critic_and_is_not_stacked_with_it(
    tmp_path: Path, grid: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correlation, "UNITS", (16,))
    plain = configs(grid, "fc", "gate", steps=2)[0]
    factor = replace(plain, model=replace(plain.model, objective=parse(OBJECTIVES, "factor")))
    assert stack.why_not_stacked([plain, factor]) == "Some have a discriminator, others none."
    options = TrainOptions(tmp_path / "plain", device="cpu")
    train(plain, options)
    train(replace(factor, initial=str(tmp_path / "plain"), lr=1e-20), replace(options, out=tmp_path / "factor"))
    weights = [
        load_file(tmp_path / name / "checkpoints" / "step-000000002.safetensors") for name in ("plain", "factor")
    ]
    torch.testing.assert_close(weights[1]["decoder.layers.0.weight"], weights[0]["decoder.layers.0.weight"])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "checkpoints").iterdir())}


@pytest.mark.parametrize("method", ["gate", "partners:self_reconstruction=0.5", "composed:self_reconstruction=1"])
def test_an_interrupted_stack_goes_on_to_the_same_bytes(
    tmp_path: Path, grid: Store, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stack.CHUNK, "cpu", 7)
    wanted = configs(grid, "fc", method)
    options = TrainOptions(tmp_path, device="cpu", log_every=5)
    outs = {name: [tmp_path / f"{name}-{one.seed}" for one in wanted] for name in ("whole", "parts")}
    train_stack(wanted, outs["whole"], options)

    def stop(step: int, steps: int, note: str = "") -> None:  # noqa: ARG001
        if step == 20:
            os.kill(os.getpid(), 15)

    with pytest.raises(InterruptedTrainingError, match="of 40 steps is saved"):
        train_stack(wanted, outs["parts"], options, stop)
    assert train_stack(wanted, outs["parts"], options)[0].steps_now < 40
    for whole, parts in zip(outs["whole"], outs["parts"], strict=True):
        latest = {name: data for name, data in contents(whole).items() if "000040" in name}
        assert len(latest) == 2
        assert latest.items() <= contents(parts).items()
    left = outs["whole"][0] / "checkpoints" / ".step-000000040.safetensors.partial"  # as by a death while saving
    left.touch()
    assert train_stack(wanted, outs["whole"], options)[0].steps_now == 0
    assert not left.exists()


def test_a_model_of_a_stack_is_an_ordinary_run(tmp_path: Path, grid: Store) -> None:
    """Opened, encoded with, and gone on with by the trainer of single runs."""
    wanted = configs(grid, "conv", "gate", steps=10)
    outs = [tmp_path / f"{one.seed}" for one in wanted]
    options = TrainOptions(tmp_path, device="cpu", log_every=5)
    train_stack([replace(one, steps=7) for one in wanted], outs, options)
    assert train_stack(wanted, outs, replace(options, resume=True))[0].steps_now == 3
    mean, std = open_model(outs[1]).encode(grid.images[:9])
    assert mean.shape == std.shape == (9, 5)
    report = train(replace(wanted[1], steps=14), replace(options, out=outs[1], resume=True))
    assert (report.steps, report.steps_now) == (14, 4)
    assert open_model(outs[1]).model.scale not in (None, open_model(outs[0]).model.scale)  # each has learnt its own


def test_what_cannot_be_stacked_is_refused(tmp_path: Path, grid: Store) -> None:
    wanted = configs(grid, "fc", "gate")
    other = {"lr": 2e-3, "batch_size": 16, "model": model_of("conv", "gate"), "steps": 41, "precision": "bf16"}
    for key, value in other.items():
        with pytest.raises(GatedVAEError, match="differ in more than"):
            train_stack(
                [wanted[0], replace(wanted[1], **{key: value})],
                [tmp_path / "0", tmp_path / "1"],
                TrainOptions(tmp_path),
            )
    with pytest.raises(GatedVAEError, match="A service sends images"):
        train_stack([replace(wanted[0], store="grpc://127.0.0.1:1")], [tmp_path / "0"], TrainOptions(tmp_path))
    with pytest.raises(GatedVAEError, match="Fine-tuning"):
        train_stack([replace(wanted[0], decoder_only=True)], [tmp_path / "0"], TrainOptions(tmp_path))
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "notes.txt").write_text("mine")
    with pytest.raises(GatedVAEError, match="1 is not empty"):
        train_stack(wanted[:2], [tmp_path / "0", tmp_path / "1"], TrainOptions(tmp_path))
    assert not (tmp_path / "0").exists()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than this machine has cores
def test_worker_processes_list_the_same_ids(grid: Store) -> None:
    wanted = configs(grid, "fc", "partners:self_reconstruction=0.5")
    here = [*id_chunks(wanted, [{}] * 4, Walk(0, (30,), chunk=8))]
    there = [*id_chunks(wanted, [{}] * 4, Walk(0, (30,), chunk=8), workers=2)]
    assert [len(chunk.partitions) for chunk in here] == [6, 1, 6, 1, 6, 1, 6, 1, 2]  # 210 = 6 * 32 + 18
    for ours, theirs in zip(there, here, strict=True):
        assert torch.equal(ours.input, theirs.input)
        assert torch.equal(ours.target, theirs.target)
        assert ours.positions == theirs.positions


def test_hashed_noise_is_normal_and_a_function_of_seed_and_step() -> None:
    seeds = torch.tensor([0, 1, 2**62])
    noise = hashed_noise(seeds, torch.tensor(5), (3, 100, 7))
    assert torch.equal(noise[1:2], hashed_noise(seeds[1:2], torch.tensor(5), (3, 100, 7)))
    assert not torch.equal(noise[0], noise[1])
    many = torch.cat([hashed_noise(seeds[:1], torch.tensor(step), (3, 100, 7)).flatten() for step in range(60)])
    ordered = many.sort().values
    expected = torch.special.ndtri((torch.arange(len(many)) + 0.5) / len(many))
    assert float((ordered - expected).abs().max()) < 0.5
    assert float((ordered - expected).square().mean().sqrt()) < 0.01
    pairs = torch.stack([many[:-1], many[1:]])
    assert abs(float(torch.corrcoef(pairs)[0, 1])) < 0.02


def test_runs_are_stacked_that_have_come_equally_far(tmp_path: Path, grid: Store) -> None:
    """Those that were begun together, whatever a death has left of their last saving; no more than are asked for."""
    saved = {0: (20, 30), 1: (20, 30, 40), 2: (), 3: (), 4: (10,), 5: (20, 30)}
    one = configs(grid, "fc", "gate")[0]
    runs = []
    for seed, steps in saved.items():
        runs.append(create_run(tmp_path / f"{seed}", replace(one, seed=seed), grid))
        for step in steps:
            checkpoint = Checkpoint.at(runs[-1].checkpoints, step)
            checkpoint.weights.parent.mkdir(exist_ok=True)
            checkpoint.weights.touch()
            checkpoint.state.touch()

    def together(size: int) -> list[list[str]]:
        return [[run.path.name for run in group] for group in _groups(runs, size)]

    assert together(9) == [["0", "1", "5"], ["2", "3", "4"]]
    assert together(2) == [["0", "1"], ["2", "3"], ["4"], ["5"]]


@pytest.mark.parametrize(
    ("log_every", "what"),
    [(5, "By step 15 the loss of (left|right) is not finite"), (50, "By step 20 some weights are not finite")],
)
def test_where_one_diverges_the_others_go_on_without_it(
    tmp_path: Path, grid: Store, monkeypatch: pytest.MonkeyPatch, log_every: int, what: str
) -> None:
    wanted = [replace(configs(grid, "fc", "gate")[1], seed=seed) for seed in range(3)]
    options = TrainOptions(tmp_path, device="cpu", log_every=log_every, checkpoint_every=10)
    whole = [tmp_path / f"whole-{seed}" for seed in range(3)]
    train_stack(wanted, whole, options)
    honest = StackTrainer._train_on

    def spoiled(self: StackTrainer, ids: StepBatch) -> None:
        honest(self, ids)
        for index, run in enumerate(self.runs):
            if run.config.seed == 1 and self.step == 13:
                next(iter(self.stack.parameters.values())).data[index] = torch.nan

    monkeypatch.setattr(StackTrainer, "_train_on", spoiled)
    runs = [create_run(tmp_path / f"{one.seed}", replace(one, stacked=True), grid) for one in wanted]
    with pytest.raises(DivergedError, match=what) as diverged:
        train_stacks(runs, 3, options)
    assert diverged.value.where.keys() == {runs[1].path}
    assert f"{runs[1].path}; the checkpoint of step 10 is kept" in diverged.value.why
    assert runs[1].saved_steps() == {10}
    assert not runs[1].metrics.exists()
    for run, other in zip(runs[::2], whole[::2], strict=True):
        assert run.is_trained(40)
        assert_same_weights(run.path, other)


def test_how_many_models_fit_is_told_where_memory_does_not_suffice(
    tmp_path: Path, grid: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    wanted = configs(grid, "fc", "gate")
    room = [bytes_of_one(wanted[0].model, "fp32", 32)]
    monkeypatch.setattr(StackTrainer, "__init__", full)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (grid.images.nbytes + room[0], 80 * 2**30))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 0)

    def told() -> str:
        with pytest.raises(GatedVAEError, match="4 models do not fit into the memory of the GPU") as refused:
            train_stack(wanted, [tmp_path / f"{one.seed}" for one in wanted], TrainOptions(tmp_path, device="cpu"))
        return refused.value.remedy

    assert "about 1 at a time: --stack 1" in told()
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 2 * room[0])
    assert "about 3 at a time: --stack 3, or so many --seeds" in told()
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 9 * room[0])
    assert "about 2 at a time" in told(), "the estimate was too low"
    room[0] = 0
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 0)
    assert "Lower --batch-size" in told()


@pytest.mark.parametrize("method", METHODS)
def test_what_a_model_takes_grows_with_the_batch_beyond_weights_gradients_and_moments(method: str) -> None:
    wanted = model_of("fc", SMALL.get(method, method))
    weights = sum(parameter.numel() for parameter in GatedVAE(wanted).parameters())
    small, large = (bytes_of_one(wanted, "fp32", size) - 16 * weights for size in (32, 320))
    assert 9 < large / small < 11
    assert small > 32 * 2 * 16 * 16 * 4, "the images that are encoded, and what is decoded"


@pytest.mark.parametrize("stacked", [True, False])
def test_a_gpu_that_fails_is_told_and_training_goes_on_from_what_was_saved(
    tmp_path: Path, grid: Store, monkeypatch: pytest.MonkeyPatch, stacked: bool
) -> None:
    wanted, options = configs(grid, "fc", "gate", steps=12)[:2], TrainOptions(tmp_path / "0", "cpu", checkpoint_every=5)

    def go() -> TrainReport:
        outs = [tmp_path / "0", tmp_path / "1"]
        return train_stack(wanted, outs, options)[0] if stacked else train(wanted[0], options)

    kind, step = (StackTrainer, "_compute") if stacked else (Trainer, "_set_learning_rate")
    honest = getattr(kind, step)

    def lost(self: StackTrainer | Trainer, *rest: object) -> object:
        if self.step == 8:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure\nmore")
        return honest(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(kind, step, lost)
        with pytest.raises(GatedVAEError, match="The GPU has failed") as refused:
            go()
    assert refused.value.why == "CUDA error: unspecified launch failure. The state after 5 steps is saved."
    assert go().steps_now == 7
