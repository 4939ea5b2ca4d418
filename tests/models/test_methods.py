"""The contract that every training method is held to: those that there are, and one written here as a user would."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from gated_vae.models.checkpoint import checkpoints
from gated_vae.models.methods.averaged import GVAE, MLVAE, AdaGVAE, AdaMLVAE
from gated_vae.models.methods.base import ALL, NO_GATE, Method, Step, StepBatch, Told, self_reconstruction_at
from gated_vae.models.methods.composed import Composed
from gated_vae.models.methods.exchange import Exchange
from gated_vae.models.methods.gate import Gate, PriorGate
from gated_vae.models.methods.partners import Partners
from gated_vae.models.methods.slow import SlowVAE
from gated_vae.models.methods.vae import Ungated
from gated_vae.models.registry import METHODS
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, draw_noise
from gated_vae.pairing.exact import Change, FactorGrid, pair_exactly
from gated_vae.pairing.stream.loader import PairLoader
from gated_vae.pipelines.cli import main
from gated_vae.pipelines.process import InterruptedTrainingError
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.run import open_run
from gated_vae.pipelines.training.train import train
from gated_vae.preprocessing.errors import GatedVAEError
from tests.ranks import assert_same_weights, on_two_ranks
from tests.stores import make_grid_store

LATENT = {"left": 2, "right": 3}
BATCH = 8


@dataclass(frozen=True)
class Mine(Method):
    """Decode a pair's target from the codes of its input, whatever they share."""

    told: ClassVar[Told] = "nothing"

    def prepare(self, batch: StepBatch, turn: int) -> StepBatch:  # noqa: ARG002
        """All partitions learn."""
        return replace(batch, partition=None, label=ALL)

    def step(self, vae: GatedVAE, batch: StepBatch, noise: torch.Tensor) -> Step:
        """Encode, and add what the method wants besides."""
        posterior = vae.encode(batch.input)
        codes = posterior.sample(noise[0])
        return Step(posterior, codes, codes, {"size": posterior.mean.square().sum(1)})


CHOICES: dict[str, Method] = {
    "vae": Ungated(),
    "gate": Gate(),
    "prior-gate": PriorGate(),
    "exchange": Exchange(),
    "exchange with ordinary rounds": Exchange(open_every=2),
    "partners": Partners(),
    "partners at first themselves": Partners(self_reconstruction=0.5),
    "composed": Composed(),
    "composed at first themselves": Composed(self_reconstruction=1.0),
    "gvae": GVAE(),
    "ml-vae": MLVAE(double_variance=True),
    "ada-gvae": AdaGVAE(),
    "ada-gvae, two changed": AdaGVAE(k=2),
    "ada-ml-vae": AdaMLVAE(symmetric=True),
    "slow-vae": SlowVAE(),
    "mine": Mine(),
}
CLOSING = [name for name, method in CHOICES.items() if isinstance(method, Gate | PriorGate | Exchange)]
KNOWING = (Gate, PriorGate, Exchange, GVAE, MLVAE)  # whose steps are one partition's
every_method = pytest.mark.parametrize("method", CHOICES.values(), ids=CHOICES.keys())


@pytest.fixture(autouse=True)
def mine() -> Iterator[None]:
    METHODS.add("mine", Mine)
    yield
    METHODS.remove("mine")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full grid of factors, which every method can be trained on."""
    path = tmp_path_factory.mktemp("methods") / "store"
    pair_exactly(make_grid_store(path, FactorGrid(("a", "b", "c"), (4, 5, 3))), {"left": ("a",), "right": ("b", "c")})
    return path


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The grid with pairs that differ in one factor."""
    path = tmp_path_factory.mktemp("changed") / "store"
    pair_exactly(make_grid_store(path, FactorGrid(("a", "b", "c"), (4, 5, 3))), {"changed": Change(1)})
    return path


def model(method: Method) -> GatedVAEConfig:
    return GatedVAEConfig(LATENT, image_shape=(16, 16), network="fc", hidden=(16, 16), method=method)


def config(store: Path, method: Method, **options: object) -> TrainConfig:
    values = {"store": str(store), "model": model(method), "steps": 10, "batch_size": BATCH, "lr": 1e-3, **options}
    return TrainConfig(**values)  # type: ignore[arg-type]


def batch_of(method: Method, partition: str, turn: int = 0) -> StepBatch:
    """What the trainer makes of a loader's batch of that partition, in some round."""
    generator = torch.Generator().manual_seed(1)
    images, target, *others = torch.randint(0, 256, (3, BATCH, 16, 16), dtype=torch.uint8, generator=generator)
    if method.batches == "turns":
        return method.prepare(StepBatch(images, target, partition), turn)
    if method.batches == "together":
        return method.prepare(StepBatch(images, torch.stack([target, *others])), turn)
    rows = torch.stack([torch.randperm(BATCH, generator=generator) for _ in LATENT])
    return method.prepare(StepBatch(images, target, sources=rows), turn)


def fresh(method: Method) -> tuple[GatedVAE, torch.Tensor]:
    torch.manual_seed(0)
    return GatedVAE(model(method)), draw_noise(model(method), BATCH, seed=0, step=1, device="cpu")


def test_every_method_that_there_is_is_held_to_the_contract() -> None:
    assert {type(method) for method in CHOICES.values()} == set(METHODS.values())


@every_method
@pytest.mark.parametrize("partition", list(LATENT))
def test_exactly_the_heads_of_what_is_open_get_gradients(method: Method, partition: str) -> None:
    """Of a closed partition not one bit; where nothing is closed, all of them."""
    vae, noise = fresh(method)
    batch = batch_of(method, partition)
    vae.loss(batch, noise).total.backward()  # type: ignore[no-untyped-call]
    heads = vae.encoder.layers[-1]  # type: ignore[union-attr, index]
    closes = isinstance(method, Gate | PriorGate | Exchange) and batch.partition
    own = range(5)[vae.partitions[partition]] if closes else range(vae.config.latent_size)
    expected = {*own, *(row + vae.config.latent_size for row in own)}
    assert set(heads.weight.grad.abs().sum(1).nonzero().flatten().tolist()) == expected
    assert set(heads.bias.grad.nonzero().flatten().tolist()) == expected
    assert batch.partition in ((partition,) if type(method) in KNOWING else (None,))
    assert batch.label == (batch.partition or (NO_GATE if type(method) is Ungated else ALL))


def test_ordinary_steps_reconstruct_their_input() -> None:
    """Every step of a VAE; of the exchange gate as many as it is told."""
    batch = StepBatch(torch.zeros(1), torch.ones(1), "left")
    turns = [Exchange(open_every=3).prepare(batch, turn) for turn in range(6)]
    assert [step.label for step in turns] == ["left", "left", NO_GATE] * 2
    for step in (Ungated().prepare(batch, 0), turns[2]):
        assert (step.target.item(), step.partition) == (0, None)
    assert turns[0].target is batch.target


@every_method
def test_images_encoded_are_counted(method: Method) -> None:
    """On average over rounds."""
    vae, noise = fresh(method)
    seen: list[int] = []
    vae.encoder.register_forward_hook(lambda _layer, images, _found: seen.append(len(images[0])))
    for turn in range(2):
        vae.loss(batch_of(method, "left", turn), noise)
    assert sum(seen) / 2 == BATCH * method.encoded(len(LATENT))


@pytest.mark.parametrize("name", CLOSING)
@pytest.mark.parametrize("partition", list(LATENT))
def test_what_is_closed_going_backward_is_the_same_going_forward(name: str, partition: str) -> None:
    """Posterior, sample and the open partition's codes have the bits that they have with everything open."""
    method = CHOICES[name]
    batch = batch_of(method, partition)
    steps = []
    for through in (batch.partition, None):
        vae, noise = fresh(method)
        steps.append(method.step(vae, vae.opened(replace(batch, partition=through)), noise))
    gated, ungated = steps
    assert torch.equal(gated.posterior.mean, ungated.posterior.mean)
    assert torch.equal(gated.posterior.logvar, ungated.posterior.logvar)
    assert torch.equal(gated.sample, ungated.sample)
    assert torch.equal(gated.sample, gated.posterior.sample(noise[0]))
    own = vae.partitions[partition]
    assert torch.equal(gated.codes[:, own], ungated.codes[:, own])


@pytest.mark.parametrize("partition", list(LATENT))
def test_a_closed_prior_gate_shows_the_decoder_noise_alone(partition: str) -> None:
    """What is decoded in closed partitions is the step's second noise, whatever the images are."""
    method = PriorGate()
    vae, noise = fresh(method)
    batch = vae.opened(batch_of(method, partition))
    first, other = (method.step(vae, replace(batch, input=images), noise) for images in (batch.input, batch.target))
    closed = torch.ones(5, dtype=torch.bool)
    closed[vae.partitions[partition]] = False
    assert torch.equal(first.codes[:, closed], noise[1][:, closed])
    assert torch.equal(other.codes[:, closed], noise[1][:, closed])
    assert not torch.equal(first.codes[:, ~closed], other.codes[:, ~closed])


@every_method
def test_an_interrupted_training_ends_in_the_same_bytes(tmp_path: Path, store: Path, method: Method) -> None:
    def stop(done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if done == 5:
            os.kill(os.getpid(), signal.SIGINT)

    options = TrainOptions(tmp_path / "whole", log_every=2, checkpoint_every=3)
    whole = train(config(store, method), options)
    parts = replace(options, out=tmp_path / "parts")
    with pytest.raises(InterruptedTrainingError, match="after 5 of 10"):
        train(config(store, method), parts, stop)
    assert train(config(store, method), parts).losses == whole.losses
    ours, theirs = (checkpoints(tmp_path / name / "checkpoints")[-1] for name in ("parts", "whole"))
    assert ours.weights.read_bytes() == theirs.weights.read_bytes()
    assert ours.state.read_bytes() == theirs.state.read_bytes()
    assert open_run(tmp_path / "whole").config.model.method == method


def train_all(configs: dict[str, TrainConfig], out: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Train several; the other processes do not know of mine yet."""
    METHODS.add("mine", Mine)
    options = TrainOptions(out, device="cpu", log_every=2)
    return {name: train(wanted, replace(options, out=out / name)).losses for name, wanted in configs.items()}


@pytest.mark.slow
def test_two_ranks_train_to_the_weights_of_one(tmp_path: Path, store: Path) -> None:
    """Batches of 16 and, as 60 pairs do not divide, of 12."""
    configs = {
        name: config(store, method, steps=None, epochs=1, batch_size=16)
        for name, method in CHOICES.items()
        if method.batches != "composed"
    }
    shared, alone = on_two_ranks(train_all, configs, tmp_path / "two"), train_all(configs, tmp_path / "one")
    for name, losses in alone.items():
        assert_same_weights(tmp_path / "two" / name, tmp_path / "one" / name)
        assert shared[name].keys() == losses.keys()
        for label, terms in losses.items():
            assert shared[name][label] == pytest.approx(terms, rel=1e-4)


def test_composed_targets_are_of_one_rank(store: Path) -> None:
    with pytest.raises(GatedVAEError, match="must be in one place") as refused:
        PairLoader(store, BATCH, batches="composed", world_size=2)
    assert "--method partners" in str(refused.value.remedy)


@every_method
def test_pairs_that_nobody_says_what_they_share_are_for_methods_that_need_not_know(
    tmp_path: Path, changed: Path, method: Method
) -> None:
    wanted = replace(config(changed, method, steps=2), model=replace(model(method), latent={"changed": 5}))
    options = TrainOptions(tmp_path / "run", device="cpu")
    if method.told == "shared":
        with pytest.raises(GatedVAEError, match=r"(?s)cannot be trained on by .*nobody says which") as refused:
            train(wanted, options)
        assert "name the other partitions alone: --latent NAME=SIZE" in str(refused.value.remedy)
        assert not (options.out / "config.json").exists()
    else:
        assert train(wanted, options).steps == 2


def test_self_reconstruction_falls_evenly_to_nothing_half_way_through() -> None:
    found = [self_reconstruction_at(Partners(0.5), step, 100) for step in (1, 26, 51, 100)]
    assert found == pytest.approx([0.5, 0.25, 0, 0])
    assert self_reconstruction_at(Gate(), 1, 100) == 0


def test_what_methods_are_told() -> None:
    told = {name: kind().told for name, kind in METHODS.items() if name != "mine"}
    nothing = ("vae", "ada-gvae", "ada-ml-vae", "slow-vae")
    assert told == {name: "nothing" if name in nothing else "shared" for name in told}
    assert AdaGVAE(k=1).told == AdaMLVAE(k=3).told == "count"


def test_a_method_of_ones_own_lowers_the_loss_and_is_one_of_the_command_line(tmp_path: Path, store: Path) -> None:
    words = ["train", str(store), "--network", "fc", "--hidden", "16,16", "--lr", "1e-3", "--batch-size", "8"]
    for steps in (5, 100):
        command = [*words, "--method", "mine", "--steps", str(steps), "--out", str(tmp_path / f"{steps}")]
        with pytest.raises(SystemExit) as ended:
            main([*command, "--latent", "left=2,right=3", "--precision", "fp32", "--device", "cpu"])
        assert not ended.value.code
    runs = [open_run(tmp_path / f"{steps}") for steps in (5, 100)]
    assert json.loads((runs[0].path / "config.json").read_text())["train"]["model"]["method"] == "mine"
    first, last = (run.read_metrics()["train"]["losses"][ALL]["reconstruction"] for run in runs)
    assert last < first - 1
