"""Validation: its loss is that of pairs of valid people, and looking at them changes nothing that is trained."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gated_vae.models.checkpoint import checkpoints
from gated_vae.models.distributed import Shares
from gated_vae.models.methods.base import NO_GATE, Method, StepBatch
from gated_vae.models.methods.exchange import Exchange
from gated_vae.models.methods.partners import Partners
from gated_vae.models.objectives import DIPVAE2, VAE, AnnealedVAE, FactorVAE, InfoVAE, Objective
from gated_vae.models.vae import GatedVAE, draw_noise
from gated_vae.pairing.stream.loader import PairLoader
from gated_vae.pairing.tables import read_groups, write_groups
from gated_vae.pipelines.evaluation.opened import open_run as opened_run
from gated_vae.pipelines.process import InterruptedTrainingError
from gated_vae.pipelines.training import journal, validation
from gated_vae.pipelines.training.config import TrainOptions
from gated_vae.pipelines.training.run import open_run
from gated_vae.pipelines.training.train import train, train_stack
from gated_vae.pipelines.training.validation import Validation
from gated_vae.pipelines.verify import verify
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store, groups_path
from tests.pipelines.test_cli import pipe
from tests.pipelines.test_same_run import WORDS
from tests.pipelines.test_trainer import MODEL, config, contents, logged, stop_at
from tests.stores import make_store

SPLITS = {"train": 210, "valid": 62, "test": 28}
METHODS = [
    (MODEL.method, VAE()),
    (Exchange(open_every=3), InfoVAE(lambda_=10)),
    (Partners(0.5), DIPVAE2(lambda_od=1, lambda_d=1)),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """300 random images, of which 62 are valid ones: some have no partner among them in a partition, and one has no group."""
    store = make_store(tmp_path / "store", splits=SPLITS)
    group, distance = read_groups(store.path, "pose")
    write_groups(groups_path(store.path, "pose"), np.where(np.arange(300) == 220, -1, group), distance)
    return store


def options(out: Path, **more: object) -> TrainOptions:
    return TrainOptions(out, **{"device": "cpu", "log_every": 4, "checkpoint_every": 5, **more})  # type: ignore[arg-type]


def valid(run: Path) -> dict[str, object]:
    return json.loads((run / "metrics.json").read_text())["train"]["valid"]  # type: ignore[no-any-return]


def test_the_loss_is_that_of_pairs_of_valid_people(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the encoder and decoder of the saved weights, and PyTorch's own divergence and cross-entropy."""
    seen: list[tuple[StepBatch, torch.Tensor]] = []
    honest = GatedVAE.forward

    def watched(self: GatedVAE, batch: StepBatch, noise: torch.Tensor, shares: Shares, *rest: object) -> object:
        if not self.training:
            seen.append((batch, noise))
        return honest(self, batch, noise, shares, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(GatedVAE, "forward", watched)
    wanted = config(store, model=replace(MODEL, objective=VAE(0.5), kl_weights={"pose": 3.0}), steps=10, warmup=8)
    train(wanted, options(tmp_path / "run"))
    half = len(seen) // 2
    for (before, noise), (after, same) in zip(seen[:half], seen[half:], strict=True):
        assert all(map(torch.equal, (before.input, before.target, noise), (after.input, after.target, same)))
    model = opened_run(tmp_path / "run").model
    id_of = {image.tobytes(): number for number, image in enumerate(store.images)}
    losses: dict[str, list[float]] = {}
    for name, dims in model.partitions.items():
        group, inputs = read_groups(store.path, name)[0], []
        total = 0.0
        for batch, noise in seen[half:]:
            assert batch.through is not None
            if batch.through.nonzero().flatten().tolist() != list(range(dims.start, dims.stop)):
                continue
            ids, partners = ([id_of[image.numpy().tobytes()] for image in some] for some in (batch.input, batch.target))
            assert len(ids) >= 2
            inputs += ids
            sizes = Counter(group[SPLITS["train"] : SPLITS["train"] + SPLITS["valid"]].tolist())
            for one, other in zip(ids, partners, strict=True):
                assert group[one] == group[other]
                assert (one == other) == (sizes[group[one]] == 1 or group[one] < 0)
            with torch.no_grad():
                mean, logvar = model.encoder(batch.input / 255).chunk(2, dim=1)
                std = (logvar / 2).exp()
                logits = model.decoder(mean + noise[0] * std)
            divergence = torch.distributions.kl_divergence(
                torch.distributions.Normal(mean, std), torch.distributions.Normal(0.0, 1.0)
            )
            weighed = 0.5 * (divergence * torch.tensor([3.0, 3.0, 1.0, 1.0, 1.0])).sum()
            flat, target = logits.flatten(), batch.target.flatten() / 255
            drawn = torch.nn.BCEWithLogitsLoss(reduction="sum")(flat, target)
            total += float(weighed + drawn)
        assert sorted(inputs) == list(store.split("valid"))
        losses[name] = [total / len(inputs)]
    found = valid(tmp_path / "run")
    assert {label: [sum(terms.values())] for label, terms in found["losses"].items()} == {  # type: ignore[attr-defined]
        name: pytest.approx(value, rel=1e-5) for name, value in losses.items()
    }
    mean_loss = sum(value for (value,) in losses.values()) / 2
    assert found["history"]["10"] == pytest.approx(mean_loss, rel=1e-5)  # type: ignore[index]
    shown = logged(tmp_path / "run")
    assert [step for step, _ in shown["valid/loss"]] == [5, 10]
    assert shown["valid/loss"][-1][1] == pytest.approx(mean_loss, rel=1e-5)
    assert "valid/reconstruction/pose" in shown


@pytest.mark.parametrize(("method", "objective"), METHODS)
def test_looking_changes_nothing_that_is_trained(
    method: Method, objective: Objective, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = config(store, model=replace(MODEL, method=method, objective=objective), steps=8, warmup=3)
    for name in ("looked", "blind"):
        if name == "blind":
            monkeypatch.setattr(Validation, "of", lambda *_: None)
        train(wanted, options(tmp_path / name, checkpoint_every=2))
        train_stack([wanted], [tmp_path / f"{name} stack"], options(tmp_path, checkpoint_every=2))
    for one, other in (("looked", "blind"), ("looked stack", "blind stack")):
        ours, theirs = (checkpoints(tmp_path / name / "checkpoints")[-1] for name in (one, other))
        assert ours.weights.read_bytes() == theirs.weights.read_bytes()
        state, blind = load_file(ours.state), load_file(theirs.state)
        assert state.keys() == blind.keys()
        assert all(torch.equal(state[name], blind[name]) for name in state)
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text())["train"] for name in ("looked", "blind")]
    assert metrics[0].pop("valid")["losses"].keys() == metrics[0]["losses"].keys() - {NO_GATE}
    assert metrics[0] == metrics[1]
    alone, stacked = (valid(tmp_path / name)["history"] for name in ("looked", "looked stack"))
    assert stacked == pytest.approx(alone, rel=1e-3)


@pytest.mark.parametrize(
    ("objective", "warmup"),
    [(VAE(2.0), 10), (AnnealedVAE(gamma=10, capacity=5, steps=10), 0)],
    ids=["weight", "capacity"],
)
def test_what_rises_has_risen_where_valid_people_are_looked_at(
    objective: Objective, warmup: int, tmp_path: Path, store: Store
) -> None:
    """As in a model that is opened, though training is at nine tenths."""
    wanted = config(store, model=replace(MODEL, objective=objective), steps=10, warmup=warmup)
    train(wanted, options(tmp_path / "run"))
    train_stack([wanted], [tmp_path / "stack"], options(tmp_path))
    for run in (tmp_path / "run", tmp_path / "stack"):
        told: dict[str, dict[str, float]] = valid(run)["losses"]  # type: ignore[assignment]
        for label, terms in Validation(wanted, store).losses(open_run(run).model()).items():
            assert told[label] == pytest.approx(terms, rel=1e-4)


@pytest.mark.parametrize(("stop", "stacked"), [(7, False), (12, True)])
def test_interrupted_the_best_is_the_same(stop: int, stacked: bool, tmp_path: Path, store: Store) -> None:
    wanted = config(store, steps=24, lr=3e-2, keep="best", checkpoint_every=4)

    def run(out: Path, *progress: object) -> None:
        if stacked:
            train_stack([wanted], [out], options(out, log_every=stop), *progress)  # type: ignore[arg-type]
        else:
            train(wanted, options(out, log_every=stop), *progress)  # type: ignore[arg-type]

    run(tmp_path / "whole")
    with pytest.raises(InterruptedTrainingError):
        run(tmp_path / "parts", stop_at(stop))
    run(tmp_path / "parts")
    whole, parts = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    last = {name: digest for name, digest in whole.items() if "best" in name or "24" in name or "json" in name}
    assert last.items() <= parts.items()
    found = valid(tmp_path / "whole")
    assert list(found["history"]) == ["4", "8", "12", "16", "20", "24"]  # type: ignore[call-overload]
    assert sum("best" in name for name in parts) == 1


def test_the_best_weights_are_used_and_training_goes_on_from_the_last(tmp_path: Path, store: Store) -> None:
    """With a learning rate at which valid people are soon told worse."""
    wanted = config(store, steps=16, lr=0.3, keep="best", checkpoint_every=4)
    report = train(wanted, options(tmp_path / "run"))
    assert report.valid == valid(tmp_path / "run")
    history = {int(step): loss for step, loss in report.valid["history"].items()}
    best = min(history, key=lambda step: (history[step], step))
    assert (report.valid["best"], report.valid["step"], report.steps) == (best, best, 16)
    assert best < 8, "else this shows nothing"
    until = train(replace(wanted, steps=best), options(tmp_path / "until"))
    assert history[best] == pytest.approx(until.valid["history"][str(best)])
    run = open_run(tmp_path / "run")
    there = load_file(checkpoints(tmp_path / "until" / "checkpoints")[-1].weights)
    assert all(torch.equal(value, there[name]) for name, value in run.model().state_dict().items())
    assert run.latest().step == 16  # type: ignore[union-attr]
    assert run.weights_digest() == open_run(tmp_path / "until").weights_digest()
    assert verify(tmp_path / "run").problems == []
    assert train(replace(wanted, steps=18), options(tmp_path / "run", resume=True)).steps_now == 2
    assert run.kept().step == best
    run.kept().weights.write_bytes(b"damaged")
    (problem,) = verify(tmp_path / "run").problems
    assert "--overwrite" in str(problem)
    run.kept().weights.unlink()
    (problem,) = verify(tmp_path / "run").problems
    assert "no best weights" in str(problem)


def test_training_stops_early_and_is_finished_then(tmp_path: Path, store: Store) -> None:
    wanted = config(store, steps=400, lr=0.3, keep="best:3", checkpoint_every=4)
    report = train(wanted, options(tmp_path / "run", log_every=3))
    history = list(report.valid["history"].values())
    assert report.stopped_early
    assert report.steps == 4 * len(history) < 400
    assert min(history) == history[-4]
    again = train(wanted, options(tmp_path / "run"))
    assert (again.steps_now, again.steps, again.stopped_early) == (0, report.steps, True)
    with pytest.raises(GatedVAEError, match="It stopped early"):
        train(replace(wanted, steps=500), options(tmp_path / "run", resume=True))
    with pytest.raises(InterruptedTrainingError):
        train(wanted, options(tmp_path / "parts", log_every=3), stop_at(report.steps - 5))
    train(wanted, options(tmp_path / "parts", log_every=3))
    before = contents(tmp_path / "run")
    last = {name: digest for name, digest in before.items() if f"{report.steps:09d}" in name or "step" not in name}
    assert last.items() <= contents(tmp_path / "parts").items()
    (tmp_path / "run" / "metrics.json").unlink()  # as by a death between the last two writes
    assert train(wanted, options(tmp_path / "run")).steps_now == 0
    assert contents(tmp_path / "run") == before
    (stacked,) = train_stack([wanted], [tmp_path / "stack"], options(tmp_path, log_every=3))
    assert stacked.steps == pytest.approx(report.steps, abs=4)
    assert stacked.stopped_early
    assert train_stack([wanted], [tmp_path / "stack"], options(tmp_path))[0].steps_now == 0
    with pytest.raises(GatedVAEError, match="Early stopping"):
        train_stack([wanted, replace(wanted, seed=1)], [tmp_path / "a", tmp_path / "b"], options(tmp_path))


@pytest.mark.parametrize("objective", [VAE(0.7), InfoVAE(lambda_=10)])
def test_the_kl_weight_rises_from_0_evenly(objective: Objective, tmp_path: Path, store: Store) -> None:
    """Against a loop of plain PyTorch, in which the weight is 0, 1/3, 2/3, 1, 1 times the divergence's and nothing else's."""
    model = replace(MODEL, objective=objective, kl_weights={"expression": 2.0})
    wanted = config(store, model=model, steps=5, warmup=3)
    train(wanted, options(tmp_path / "run", log_every=1))
    torch.manual_seed(0)
    ours = GatedVAE(model).train()
    adam = torch.optim.Adam(ours.parameters(), lr=1e-3, fused=True)
    kinds, loader = [0, 1 / 3, 2 / 3, 1, 1], PairLoader(store.path, 32, prefetch=0)
    for step, (share, pairs) in enumerate(zip(kinds, loader, strict=False), 1):
        noise = draw_noise(model, 32, seed=0, step=step, device="cpu")
        batch = ours.opened(StepBatch(pairs.input, pairs.target, pairs.partition))
        terms = ours(batch, noise, Shares((32,)))
        adam.zero_grad()
        sum(term * (share if name == "kl" else 1) for name, term in terms.items()).backward()  # type: ignore[union-attr]
        adam.step()
    there = load_file(checkpoints(tmp_path / "run" / "checkpoints")[-1].weights)
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(there[name], value, rtol=1e-4, atol=1e-6)
    train_stack([wanted], [tmp_path / "stack"], options(tmp_path, log_every=1))
    alone, stacked = logged(tmp_path / "run"), logged(tmp_path / "stack")
    for name in ("kl/pose", "kl/expression", "reconstruction/pose"):
        assert [value for _, value in stacked[name]] == pytest.approx([value for _, value in alone[name]], rel=1e-2)
    assert stacked["kl/pose"][0] == (1, 0)
    with pytest.raises(InterruptedTrainingError):
        train(wanted, options(tmp_path / "parts"), stop_at(2))
    train(wanted, options(tmp_path / "parts"))
    parts = checkpoints(tmp_path / "parts" / "checkpoints")[-1].weights
    assert parts.read_bytes() == checkpoints(tmp_path / "run" / "checkpoints")[-1].weights.read_bytes()


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        ({"keep": "best", "checkpoint_every": 5}, "no valid split"),
        ({"warmup": 31}, "31 steps, training has 30"),
        ({"keep": "worst"}, "cannot be read"),
        ({"keep": "best:0"}, "cannot be read"),
        ({"keep": "best"}, "cannot be set up"),
        ({"warmup": -1}, "cannot be set up"),
        (
            {"model": replace(MODEL, objective=AnnealedVAE(steps=31))},
            r"capacity is longer.*\n.*31 steps, training has 30",
        ),
        ({"model": replace(MODEL, objective=AnnealedVAE(steps=9)), "warmup": 3}, "rises by itself"),
        (
            {"model": replace(MODEL, objective=FactorVAE()), "batch_size": 2},
            "too small for a discriminator.\nOf 2 codes",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_there_is_a_run(wanted: dict[str, object], what: str, tmp_path: Path) -> None:
    store = make_store(tmp_path / "plain", splits={"train": 299, "valid": 1, "test": 0})
    with pytest.raises(GatedVAEError, match=what):
        train(config(store, **wanted), options(tmp_path / "run"))
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_service_has_nobody_to_validate_on(store: Store) -> None:
    served = replace(config(store), store="grpc://127.0.0.1:1")
    assert Validation.of(served, store) is None
    with pytest.raises(GatedVAEError, match="training pairs alone"):
        Validation.of(replace(served, keep="best", checkpoint_every=5), store)


def test_groups_of_another_store_are_refused(store: Store) -> None:
    write_groups(groups_path(store.path, "pose"), np.zeros(250, np.int32), np.zeros(250, np.float32))
    with pytest.raises(GatedVAEError, match="250 rows, the store 300 samples"):
        Validation.of(config(store), store)


def test_a_history_stays_small_and_knows_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MOST_LOSSES", 3)
    history = journal.History()
    for step, loss in enumerate([5.0, 2.0, 4.0, math.pi, 6.0, 7.0], 1):
        told = history.add(step, {"pose": {"kl": loss - 1}, "expression": {"kl": loss, "mmd": 1.0}}, keeps_best=True)
        assert told["valid/loss"] == loss
    assert (history.step, history.best, history.since) == (2, 2, 4)
    assert history.history == {"2": 2.0, "4": math.pi, "5": 6.0, "6": 7.0}


def test_at_most_so_many_images_are_looked_at(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "MOST_IMAGES", 40)
    batches = Validation(config(store), store)._batches
    ids = np.concatenate([own for name, own, _ in batches if name == "pose"])
    assert len(set(ids.tolist())) == len(ids) == 40
    assert set(ids.tolist()) <= set(store.split("valid"))
    other = Validation(replace(config(store), seed=1), store)._batches
    assert not np.array_equal(other[0][1], batches[0][1])


def test_a_loss_that_is_not_finite_is_no_better(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = GatedVAE.forward

    def spoiled(self: GatedVAE, *rest: object) -> object:
        terms = honest(self, *rest)  # type: ignore[arg-type]
        return terms if self.training else {**terms, "kl": torch.tensor(float("inf"))}

    monkeypatch.setattr(GatedVAE, "forward", spoiled)
    train(config(store, keep="best", checkpoint_every=10), options(tmp_path / "run"))
    assert valid(tmp_path / "run")["best"] == 10
    assert open_run(tmp_path / "run").kept().step == 10


def test_the_command_line(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, words = tmp_path / "run", [word for word in WORDS if word != "--steps"]
    words.remove("30")
    wanted = ("train", store.path, "--out", run, *words, "--checkpoint-every", "4")
    best = ("--keep", "best:2", "--steps", "60", "--lr", "0.3")
    assert pipe(*wanted, *best) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "validation loss" in told
    assert "whose weights are used" in told
    assert "stopped early" in told
    assert pipe(*wanted, *best, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["valid"]["step"] == report["valid"]["best"] == report["steps"] - 8
    assert pipe("inspect", run) == 0
    assert pipe("finetune", run, "--steps", "2") == 0
    assert pipe(*wanted[:4], *words, *best, "--checkpoint-every", "3") == 1
    assert "checkpoint_every (4 there, 3 here)" in " ".join(capsys.readouterr().err.split())
    assert pipe(*wanted[:3], tmp_path / "other", *words, "--keep", "first", "--steps", "3") == 2
