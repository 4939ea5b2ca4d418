"""Training: the same bytes however often it is stopped, and failures that keep what was there."""

from __future__ import annotations

import hashlib
import json
import math
import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gated_vae.models.checkpoint import checkpoints, prune, read_state
from gated_vae.models.methods.base import NO_GATE, StepBatch
from gated_vae.models.methods.composed import Composed
from gated_vae.models.methods.exchange import Exchange
from gated_vae.models.methods.partners import Partners
from gated_vae.models.methods.vae import Ungated
from gated_vae.models.objectives import DIPVAE2, VAE, Bernoulli, Gaussian, InfoVAE, Likelihood, Objective
from gated_vae.models.vae import GatedVAE, GatedVAEConfig
from gated_vae.pairing.exact import pair_exactly
from gated_vae.pairing.groups.grid import FactorGrid
from gated_vae.pairing.stream.loader import PairLoader
from gated_vae.pipelines.evaluation.opened import OpenRun
from gated_vae.pipelines.explore.curves import EventReader
from gated_vae.pipelines.process import InterruptedTrainingError
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.run import open_run
from gated_vae.pipelines.training.train import train
from gated_vae.pipelines.verify import verify
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import locked
from gated_vae.preprocessing.progress import Progress
from gated_vae.preprocessing.store import Store, open_store
from tests.pipelines.test_cli import pipe
from tests.stores import make_grid_store, make_store

MODEL = GatedVAEConfig({"pose": 2, "expression": 3}, image_shape=(16, 16), network="fc", hidden=(16, 16))


def config(store: Store, **options: object) -> TrainConfig:
    return TrainConfig(
        **{"store": str(store.path), "model": MODEL, "steps": 30, "batch_size": 32, "lr": 1e-3, **options}
    )  # type: ignore[arg-type]


def contents(run: Path) -> dict[str, str]:
    """Digest of every file of a run but TensorBoard's events, which hold times."""
    files = [path for path in run.rglob("*") if path.is_file() and not path.name.startswith(("events.", ".lock"))]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def stop_at(step: int, number: int = signal.SIGINT) -> Progress:
    def progress(done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if done == step:
            signal.raise_signal(number)  # to this thread: another might tell this one a step later

    return progress


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stop", [1, 13, 20])
def test_interrupted_training_ends_in_the_same_bytes(tmp_path: Path, store: Store, precision: str, stop: int) -> None:
    wanted = config(store, precision=precision)
    train(wanted, TrainOptions(tmp_path / "whole", log_every=4, checkpoint_every=10))
    options = TrainOptions(tmp_path / "parts", log_every=4, checkpoint_every=10)
    with pytest.raises(InterruptedTrainingError, match=f"after {stop} of 30"):
        train(wanted, options, stop_at(stop, signal.SIGTERM if stop == 13 else signal.SIGINT))
    report = train(wanted, options)
    assert report.steps_now == 30 - stop
    whole, parts = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    last = {name: digest for name, digest in whole.items() if "30" in name or name.endswith(".json")}
    assert last.items() <= parts.items()
    assert len(last) == 4


def test_with_partners_interrupted_training_ends_in_the_same_bytes(tmp_path: Path, store: Store) -> None:
    wanted = config(store, model=replace(MODEL, method=Partners(self_reconstruction=0.25), likelihood=Gaussian()))
    train(wanted, TrainOptions(tmp_path / "whole", log_every=4, checkpoint_every=10))
    options = TrainOptions(tmp_path / "parts", log_every=4, checkpoint_every=10)
    with pytest.raises(InterruptedTrainingError, match="after 13 of 30"):
        train(wanted, options, stop_at(13))
    assert set(train(wanted, options).losses) == {"all partitions"}
    weights = [checkpoints(tmp_path / name / "checkpoints")[-1].weights.read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]
    assert open_run(tmp_path / "parts").model().scale != pytest.approx(0.25, rel=0.02)
    assert verify(tmp_path / "parts").problems == []


def test_with_partners_the_encoder_sees_each_partitions_own_and_rebuilds_the_input(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without self-reconstruction these are the table's partners; with all of it, at first the image itself, then ever less."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    honest = GatedVAE.loss

    def watched(self: GatedVAE, batch: StepBatch, *rest: object) -> object:
        seen.append((batch.input, batch.target))
        return honest(self, batch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(GatedVAE, "loss", watched)
    for share in (0.0, 0.5, 1.0):
        seen.clear()
        wanted = config(store, model=replace(MODEL, method=Partners(share)), steps=3)
        train(wanted, TrainOptions(tmp_path / f"{share}"))
        batches = list(PairLoader(store.path, 32, batches="together"))[:3]
        own = []
        for (images, target), batch in zip(seen, batches, strict=True):
            assert torch.equal(target, batch.input)
            is_own = (images == target).all(-1).all(-1)
            assert torch.equal(images[~is_own], batch.target[~is_own])
            own.append(is_own.float())
        shares = torch.stack(own).mean((1, 2)).tolist()
        assert shares == pytest.approx([share, share / 3, 0], abs=0.2 if share else 0)
        assert share < 1 or shares[0] == 1


def test_targets_are_composed_of_the_batch_and_interruption_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = FactorGrid(("a", "b", "c"), (4, 5, 6))
    pair_exactly(make_grid_store(tmp_path / "grid", grid), {"left": ("a",), "right": ("b", "c")})
    store = open_store(tmp_path / "grid")
    classes = np.stack(np.unravel_index(np.arange(grid.size), grid.sizes), axis=1)
    id_of = {image.tobytes(): index for index, image in enumerate(store.images)}
    own: list[float] = []
    honest = GatedVAE.loss

    def watched(self: GatedVAE, batch: StepBatch, *rest: object) -> object:
        inputs, targets = ([id_of[image.numpy().tobytes()] for image in some] for some in (batch.input, batch.target))
        assert batch.sources is not None
        left, right = batch.sources
        assert (classes[targets][:, 0] == classes[inputs][left][:, 0]).all()
        assert (classes[targets][:, 1:] == classes[inputs][right][:, 1:]).all()
        own.append(float((torch.stack([left, right]) == torch.arange(len(inputs))).float().mean()))
        return honest(self, batch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(GatedVAE, "loss", watched)
    model = replace(MODEL, latent={"left": 2, "right": 3}, method=Composed(self_reconstruction=1.0))
    wanted = config(store, model=model, steps=8)
    train(wanted, TrainOptions(tmp_path / "whole", log_every=2, checkpoint_every=3))
    assert own[0] == 1
    assert own[:4] == sorted(own[:4], reverse=True)
    assert max(own[4:]) < 0.15
    with pytest.raises(InterruptedTrainingError):
        train(wanted, TrainOptions(tmp_path / "parts", log_every=2, checkpoint_every=3), stop_at(5))
    train(wanted, TrainOptions(tmp_path / "parts", log_every=2, checkpoint_every=3))
    weights = [checkpoints(tmp_path / name / "checkpoints")[-1].weights.read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_a_death_between_checkpoints_ends_in_the_same_bytes(tmp_path: Path, store: Store) -> None:
    def die(done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if done == 17:
            raise RuntimeError("killed")

    options = TrainOptions(tmp_path / "run", log_every=4, checkpoint_every=5)
    with pytest.raises(RuntimeError, match="killed"):
        train(config(store), options, die)
    train(config(store), options)
    train(config(store), replace(options, out=tmp_path / "whole"))
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def logged(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run: the steps and values of every curve."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    return {name: [(it.step, it.value) for it in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.mark.parametrize(("every", "saved"), [(4, 8), (4, 10), (5, 10), (3, 17)])
def test_tensorboard_shows_every_point_of_a_stopped_and_killed_run_once(
    tmp_path: Path, store: Store, every: int, saved: int
) -> None:
    """Stopped at its first log and its first checkpoint, then killed between two, at times beyond a log."""

    def die(done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if done == 19:
            raise RuntimeError("killed")

    whole, parts = (TrainOptions(tmp_path / name, log_every=every, checkpoint_every=saved) for name in ("a", "b"))
    train(config(store), whole)
    for stop in (every, saved):
        with pytest.raises(InterruptedTrainingError):
            train(config(store), parts, stop_at(stop))
    with pytest.raises(RuntimeError, match="killed"):
        train(config(store), parts, die)
    train(config(store), parts)
    assert logged(parts.out) == logged(whole.out)
    assert [step for step, _ in logged(parts.out)["learning_rate"]] == [*range(every, 30, every), 30]


def test_without_its_state_a_run_can_be_used_but_not_trained_on(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    options = TrainOptions(tmp_path / "run", log_every=4, checkpoint_every=10)
    with pytest.raises(InterruptedTrainingError):
        train(config(store), options, stop_at(13))
    last = checkpoints(options.out / "checkpoints")[-1]
    last.state.unlink()
    (problem,) = verify(options.out).problems
    assert problem.path == last.state
    assert "is missing" in problem.what
    for command in (("encode", options.out, store.path, "--out", tmp_path / "c.parquet"), ("traverse", options.out)):
        assert pipe(*command) == 0
    with pytest.raises(GatedVAEError, match=r"state\.safetensors is missing") as refused:
        train(config(store), options)
    assert f"delete {last.weights.name}" in refused.value.remedy
    last.weights.unlink()
    assert train(config(store), options).steps_now == 20, "from the checkpoint before"
    for checkpoint in checkpoints(options.out / "checkpoints"):
        checkpoint.state.unlink()
    capsys.readouterr()
    assert train(config(store), options).steps_now == 0, "it was finished"
    assert pipe("report", options.out) == 0
    assert pipe("finetune", options.out, "--steps", "2") == 0


def test_a_finished_run_is_left_alone_and_another_refused(tmp_path: Path, store: Store) -> None:
    options = TrainOptions(tmp_path / "run")
    train(config(store), options)
    before = contents(options.out)
    assert train(config(store), options).steps_now == 0
    with pytest.raises(GatedVAEError, match=r"lr \(0.001 there, 0.002 here\)"):
        train(config(store, lr=2e-3), options)
    assert contents(options.out) == before
    train(config(store, lr=2e-3), replace(options, overwrite=True))
    assert open_run(options.out).config.lr == 2e-3


def test_resume_with_more_steps_equals_a_longer_run(tmp_path: Path, store: Store) -> None:
    train(config(store, steps=12), TrainOptions(tmp_path / "run", log_every=5))
    train(config(store), TrainOptions(tmp_path / "run", log_every=5, resume=True))
    train(config(store), TrainOptions(tmp_path / "whole", log_every=5))
    weights = [checkpoints(tmp_path / name / "checkpoints")[-1].weights.read_bytes() for name in ("run", "whole")]
    assert weights[0] == weights[1]


def test_resume_takes_no_fewer_steps(tmp_path: Path, store: Store) -> None:
    train(config(store, steps=12), TrainOptions(tmp_path / "run"))
    before = contents(tmp_path / "run")
    with pytest.raises(GatedVAEError, match="longer already"):
        train(config(store, steps=6), TrainOptions(tmp_path / "run", resume=True))
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("stop", [3, 8])
def test_beyond_the_end_of_a_falling_rate_a_new_one_begins(tmp_path: Path, store: Store, stop: int) -> None:
    """Self-reconstruction is over by half of the first; interrupted anywhere, before the former end, too, nothing changes."""
    wanted = config(store, model=replace(MODEL, method=Partners(0.5)), steps=6, schedule="cosine")
    whole, parts = (TrainOptions(tmp_path / name, log_every=1, checkpoint_every=4) for name in ("whole", "parts"))
    train(wanted, whole)
    longer = replace(wanted, steps=10)
    with pytest.raises(GatedVAEError, match=r"steps \(6 there, 10 here\)[^$]*Add --resume"):
        train(longer, whole)
    assert train(longer, replace(whole, resume=True)).steps_now == 4
    rates = [value for _, value in logged(whole.out)["learning_rate"]]
    falls = [1e-3 * 0.5 * (1 + math.cos(math.pi * step / steps)) for steps in (6, 4) for step in range(steps)]
    assert rates == pytest.approx(falls)
    assert json.loads((whole.out / "config.json").read_text())["train"]["earlier"] == [6]
    assert train(longer, whole).steps_now == 0, "the same command does nothing"
    with pytest.raises(InterruptedTrainingError) if stop < 6 else nullcontext():
        train(wanted, parts, stop_at(stop))
    with pytest.raises(InterruptedTrainingError) if stop > 6 else nullcontext():
        train(longer, replace(parts, resume=True), stop_at(stop))
    train(longer, parts)
    last = {name: digest for name, digest in contents(whole.out).items() if "10" in name or "json" in name}
    assert last.items() <= contents(parts.out).items()
    train(replace(longer, steps=12), replace(parts, resume=True))
    assert open_run(parts.out).config.ends(1) == (6, 10, 12)


def test_what_was_measured_of_other_weights_is_forgotten(tmp_path: Path, store: Store) -> None:
    train(config(store, steps=12), TrainOptions(tmp_path / "run"))
    open_run(tmp_path / "run").add_metrics("evaluate", {"of": "12 steps"})
    with pytest.raises(InterruptedTrainingError):
        train(config(store), TrainOptions(tmp_path / "run", resume=True), stop_at(15))
    assert open_run(tmp_path / "run").read_metrics() == {}
    train(config(store), TrainOptions(tmp_path / "run"))
    assert set(open_run(tmp_path / "run").read_metrics()) == {"train"}


def test_pairs_made_anew_make_another_run(tmp_path: Path, store: Store) -> None:
    train(config(store, steps=3), TrainOptions(tmp_path / "run"))
    record = {**store.partitions["pose"], "seed": 7}
    store.with_partitions({**store.partitions, "pose": record})
    with pytest.raises(GatedVAEError, match="pairs were made anew"):
        train(config(store, steps=3), TrainOptions(tmp_path / "run"))
    store = store.with_partitions({**store.partitions, "other": record})  # one that the run does not use
    assert train(config(store, steps=3), TrainOptions(tmp_path / "run")).steps_now == 0
    store.manifest["digests"]["samples.parquet"] = "sha256:of other labels"
    store.with_partitions(store.partitions)
    with pytest.raises(GatedVAEError, match="pairs were made anew"):
        train(config(store, steps=3), TrainOptions(tmp_path / "run"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (replace(MODEL, network="conv", hidden=(16,)), "two hidden sizes or more"),
        (replace(MODEL, network="conv", hidden=(4, 4, 4, 4, 4, 8)), "cannot be halved"),
        (replace(MODEL, method=Composed()), "composed"),
        (replace(MODEL, image_shape=(32, 16)), "Store and model do not fit"),
    ],
)
def test_what_cannot_be_trained_leaves_no_run(
    tmp_path: Path, store: Store, model: GatedVAEConfig, message: str
) -> None:
    with pytest.raises(GatedVAEError, match=message):
        train(config(store, model=model), TrainOptions(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_overwriting_takes_away_all_that_other_commands_have_made_of_the_run(tmp_path: Path, store: Store) -> None:
    train(config(store, steps=3), TrainOptions(tmp_path / "run"))
    weights = open_run(tmp_path / "run").weights_digest()
    tuned = config(store, steps=2, decoder_only=True, initial=str(tmp_path / "run"), initial_weights=weights)
    train(tuned, TrainOptions(tmp_path / "run" / "finetuned"))
    (tmp_path / "run" / "report.html").write_text("of the former weights")
    assert OpenRun(open_run(tmp_path / "run")).tuned is not None
    train(config(store, steps=4), TrainOptions(tmp_path / "run", overwrite=True))
    assert not {"finetuned", "report.html"} & {path.name for path in (tmp_path / "run").iterdir()}


def test_a_decoder_tuned_to_earlier_weights_is_not_used(tmp_path: Path, store: Store) -> None:
    train(config(store, steps=3), TrainOptions(tmp_path / "run"))
    weights = open_run(tmp_path / "run").weights_digest()
    tuned = config(store, steps=2, decoder_only=True, initial=str(tmp_path / "run"), initial_weights=weights)
    train(tuned, TrainOptions(tmp_path / "run" / "finetuned"))
    train(config(store, steps=4), TrainOptions(tmp_path / "run", resume=True))
    assert OpenRun(open_run(tmp_path / "run")).tuned is None


def test_a_run_in_use_is_refused(tmp_path: Path, store: Store) -> None:
    with locked(tmp_path / "run"), pytest.raises(GatedVAEError, match="in use"):
        train(config(store), TrainOptions(tmp_path / "run"))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = GatedVAE.loss

    def spoiled(self: GatedVAE, *arguments: object) -> object:
        loss = honest(self, *arguments)  # type: ignore[arg-type]
        spoiled.calls += 1  # type: ignore[attr-defined]
        return replace(loss, terms={"kl": torch.tensor(float("nan"))}) if spoiled.calls > 12 else loss  # type: ignore[attr-defined]

    spoiled.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(GatedVAE, "loss", spoiled)
    with pytest.raises(GatedVAEError, match="checkpoint of step 10 is kept"):
        train(config(store), TrainOptions(tmp_path / "run", log_every=5, checkpoint_every=10))
    assert [checkpoint.step for checkpoint in checkpoints(tmp_path / "run" / "checkpoints")] == [10]


def test_weights_that_are_not_finite_are_not_saved_though_the_loss_still_is(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = GatedVAE.loss

    def spoiled(self: GatedVAE, *arguments: object) -> object:
        loss = honest(self, *arguments)  # type: ignore[arg-type]
        return replace(loss, total=loss.total * math.nan)

    monkeypatch.setattr(GatedVAE, "loss", spoiled)
    with pytest.raises(GatedVAEError, match="By step 1 some weights are not finite"):
        train(config(store, steps=1), TrainOptions(tmp_path / "run"))
    assert checkpoints(tmp_path / "run" / "checkpoints") == []


def test_a_run_of_an_earlier_form_is_told_from_a_damaged_one(tmp_path: Path, store: Store) -> None:
    """Version 1 did not say how pairs were made."""
    train(config(store, steps=2), TrainOptions(tmp_path / "run"))
    path = tmp_path / "run" / "config.json"
    values = json.loads(path.read_text())
    del values["pairs_digest"]
    path.write_text(json.dumps(values))
    with pytest.raises(GatedVAEError, match="damaged"):
        open_run(tmp_path / "run")
    path.write_text(json.dumps({**values, "schema_version": 1}))
    with pytest.raises(GatedVAEError, match="schema version 1; this version reads 5"):
        open_run(tmp_path / "run")


def test_a_damaged_checkpoint_is_named(tmp_path: Path, store: Store) -> None:
    train(config(store), TrainOptions(tmp_path / "run"))
    weights = checkpoints(tmp_path / "run" / "checkpoints")[-1].weights
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(GatedVAEError, match="step-000000030"):
        open_run(tmp_path / "run").model()


@pytest.mark.parametrize(
    ("likelihood", "trained"), [(Bernoulli(), "decoder."), (Gaussian(), ("decoder.", "raw_scale"))]
)
def test_finetuning_moves_the_decoder_alone(
    tmp_path: Path, store: Store, likelihood: Likelihood, trained: str | tuple[str, ...]
) -> None:
    model = replace(MODEL, likelihood=likelihood)
    train(config(store, model=model), TrainOptions(tmp_path / "run"))
    ungated = replace(model, method=Ungated())
    tuned = config(store, model=ungated, steps=10, decoder_only=True, initial=str(tmp_path / "run"))
    train(tuned, TrainOptions(tmp_path / "tuned"))
    before, after = (load_file(checkpoints(tmp_path / name / "checkpoints")[-1].weights) for name in ("run", "tuned"))
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {name for name in before if name.startswith(trained)}
    moments, _ = read_state(checkpoints(tmp_path / "tuned" / "checkpoints")[-1], open_run(tmp_path / "tuned").outline())
    assert {name.rpartition("/")[0] for name in moments} == {
        name for name, _ in GatedVAE(model).named_parameters() if name.startswith(trained)
    }


@pytest.mark.parametrize("objective", [VAE(), InfoVAE(lambda_=10), DIPVAE2(lambda_od=1, lambda_d=1)])
def test_training_lowers_the_loss(tmp_path: Path, store: Store, objective: Objective) -> None:
    model = replace(MODEL, objective=objective, method=Ungated())
    wanted = config(store, model=model, steps=150)
    first = train(replace(wanted, steps=5), TrainOptions(tmp_path / "short")).losses
    last = train(wanted, TrainOptions(tmp_path / "long")).losses
    assert last[NO_GATE]["reconstruction"] < first[NO_GATE]["reconstruction"] - 1


@pytest.mark.parametrize(
    "wrong", [{"steps": None}, {"epochs": 3}, {"batch_size": 1}, {"lr": 0.0}, {"schedule": "linear"}]
)
def test_settings_that_make_no_sense_are_refused(store: Store, wrong: dict[str, object]) -> None:
    with pytest.raises(GatedVAEError):
        config(store, **wrong)


def test_ordinary_rounds_come_for_every_partition(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every third round over the partitions: target = input, nothing closed."""
    seen: list[str] = []
    honest = GatedVAE.loss

    def watched(self: GatedVAE, batch: StepBatch, *rest: object) -> object:
        ordinary = batch.partition is None
        assert torch.equal(batch.input, batch.target) == ordinary
        seen.append("open" if ordinary else str(batch.partition))
        return honest(self, batch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(GatedVAE, "loss", watched)
    wanted = config(store, model=replace(MODEL, method=Exchange(open_every=3)), steps=12)
    losses = train(wanted, TrainOptions(tmp_path / "run", log_every=6)).losses
    assert seen == ["pose", "expression", "pose", "expression", "open", "open"] * 2
    assert set(losses) == {"pose", "expression", "no gate"}


def test_a_store_that_moved_or_is_behind_a_service_is_asked_for(tmp_path: Path, store: Store) -> None:
    train(config(store, steps=3), TrainOptions(tmp_path / "run"))
    moved = store.path.rename(tmp_path / "moved")
    with pytest.raises(GatedVAEError, match="store"):
        open_run(tmp_path / "run").store()
    assert open_run(tmp_path / "run", moved).store().path == moved
    served = replace(open_run(tmp_path / "run"), config=replace(config(store), store="grpc://127.0.0.1:8815"))
    with pytest.raises(GatedVAEError, match="images") as refused:
        served.store()
    assert "--store FOLDER" in str(refused.value.remedy)
    assert replace(served, moved=moved).store().path == moved


def test_a_finished_run_keeps_no_more_checkpoints_than_others(tmp_path: Path, store: Store) -> None:
    """As after a death between saving the last and removing the first."""
    options = TrainOptions(tmp_path / "run", checkpoint_every=10)
    train(config(store), options)
    kept = checkpoints(tmp_path / "run" / "checkpoints")
    for file in (kept[-1].weights, kept[-1].state):
        old = file.with_name(file.name.replace("30", "05"))
        old.write_bytes(file.read_bytes())
    assert train(config(store), options).steps_now == 0
    assert checkpoints(tmp_path / "run" / "checkpoints") == kept


def test_a_death_while_older_checkpoints_go_leaves_no_weights_without_their_state(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config(store), TrainOptions(tmp_path / "run", checkpoint_every=10))
    folder, real = tmp_path / "run" / "checkpoints", Path.unlink
    assert len(checkpoints(folder)) == 2

    def last(path: Path, *, missing_ok: bool = False) -> None:
        real(path, missing_ok=missing_ok)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", last)
        with pytest.raises(KeyboardInterrupt):
            prune(folder, 1)
    assert [checkpoint.step for checkpoint in checkpoints(folder) if checkpoint.state.exists()] == [30]
    assert len(checkpoints(folder)) == 1


def test_a_last_batch_of_a_single_pair_is_left_out(tmp_path: Path) -> None:
    """Of which batch normalisation has no statistics; as many steps are taken all the same."""
    store = make_store(tmp_path / "store", 65)
    report = train(config(store, steps=None, epochs=1), TrainOptions(tmp_path / "run"))
    assert report.steps_now == 2 * 3
    assert all(math.isfinite(value) for terms in report.losses.values() for value in terms.values())


def test_events_tell_the_kl_of_every_dimension_and_change_nothing(tmp_path: Path, store: Store) -> None:
    """A batch is the whole store here, so that what is told after the last step is what encoding all of it gives."""
    model = replace(MODEL, network="conv", hidden=(4, 4, 8))
    whole = config(store, model=model, steps=4, batch_size=len(store), precision="fp32")
    for name, every in (("told", 1), ("untold", 1000)):
        train(whole, TrainOptions(tmp_path / name, log_every=every))
    weights = "checkpoints/step-000000004.safetensors"  # statistics of batches, too
    assert contents(tmp_path / "told")[weights] == contents(tmp_path / "untold")[weights]
    told = {name: values[-1] for name, values in logged(tmp_path / "told").items() if name.startswith("kl_of/")}
    expected = OpenRun(open_run(tmp_path / "told")).encode(store.images).kl()
    assert {*told} == {f"kl_of/z{i}" for i in range(5)}
    for i, value in enumerate(expected):
        assert told[f"kl_of/z{i}"] == (4, pytest.approx(value, rel=1e-4))


def test_events_are_read_while_they_are_written(tmp_path: Path, store: Store) -> None:
    reader = EventReader(tmp_path / "run")
    train(config(store, steps=4), TrainOptions(tmp_path / "run", log_every=1))
    assert reader.read()
    assert {name: [*zip(*it, strict=True)] for name, it in reader.scalars.items()} == logged(tmp_path / "run")
    assert not reader.read()
    with next((tmp_path / "run").glob("events.*")).open("ab") as file:
        file.write(b"half a record")
    assert not reader.read()
    train(config(store, steps=8), TrainOptions(tmp_path / "run", log_every=1, resume=True))
    assert reader.read()
    assert max(reader.scalars["kl_of/z0"][0]) == 8


def test_curves_of_events_are_losses_by_term_and_their_sum() -> None:
    reader = EventReader(Path())
    reader.scalars = {
        "reconstruction/pose": ([1, 2], [5.0, 4.0]),
        "kl/pose": ([1, 2], [0.5, 0.25]),
        "kl/all partitions": ([1], [2.0]),
        "valid/loss": ([2], [7.0]),
        "valid/kl/pose": ([2], [0.75]),
        "kl_of/z0": ([1, 2], [0.1, 0.2]),
        "learning_rate": ([1, 2], [1.0, 1.0]),
    }
    assert reader.curves() == {
        "loss": {"pose": ([1, 2], [5.5, 4.25]), "all partitions": ([1], [2.0]), "valid": ([2], [7.0])},
        "reconstruction": {"pose": ([1, 2], [5.0, 4.0])},
        "kl": {"pose": ([1, 2], [0.5, 0.25]), "all partitions": ([1], [2.0]), "pose, valid": ([2], [0.75])},
    }
    assert reader.kl() == {"z0": 0.2}
