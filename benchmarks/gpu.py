"""Everything that a GPU is asked for, part by part: `python -m benchmarks.gpu PART --work DIR --out DIR [--seconds N]`.

Parts: `step` (a step of stacks of several sizes and precisions), `table1` (the paper's table at its own schedule, stacked, as
far as the time allows) and `score` (its codes, on any machine). `benchmarks/gpu.sh` runs them with the CUDA tests, in order.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch._dynamo

from gated_vae.models.methods.base import StepBatch
from gated_vae.models.registry import METHODS, OBJECTIVES, parse
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, draw_noise
from gated_vae.pipelines.training import stack
from gated_vae.pipelines.training.chunks import id_chunks
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.pipelines.training.run import create_run, open_run
from gated_vae.pipelines.training.stack import StackTrainer, _Inputs
from gated_vae.pipelines.training.trainer import InterruptedTrainingError, TrainOptions
from gated_vae.preprocessing.store import Store, open_store

LATENT = {"position": 2, "rotation": 2, "shape": 2, "size": 2}


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def sync(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def trainer_of(store: Path, work: Path, models: int, precision: str, device: str, **options: Any) -> StackTrainer:
    """A stack of beta-VAEs of the paper's size (256, 256), with gates, ready to take steps."""
    model = GatedVAEConfig(LATENT, network="fc", hidden=options.pop("hidden", (256, 256)), **options)
    runs = []
    opened = open_store(store)
    for seed in range(models):
        config = TrainConfig(str(store), model, steps=10**6, seed=seed, precision=precision, stacked=True)
        out = work / f"{precision}-{models}-{abs(hash(str(options)))}-{seed}"
        create_run(out, config, opened)
        runs.append(open_run(out))
    return StackTrainer(runs, opened, 10**6, device)


def plain_steps(store: Path, precision: str, device: str, compiled: bool, repeats: int) -> float:
    """Milliseconds of one model's step, operation by operation, or compiled."""
    torch.manual_seed(0)
    config = GatedVAEConfig(LATENT, network="fc", hidden=(256, 256))
    model = GatedVAE(config, precision).to(device)
    if compiled:
        model.compile_loss()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    images = torch.from_numpy(np.array(open_store(store).images[:256])).to(device)

    def steps(count: int) -> None:
        for step in range(count):
            noise = draw_noise(config, 128, seed=0, step=step, device=device)
            batch = StepBatch(images[:128], images[128:], list(LATENT)[step % 4])
            model.loss(batch, noise).total.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return median_of(steps, device, repeats)


def time_steps(trainer: StackTrainer, device: str, repeats: int) -> float:
    """Milliseconds a step, the median of five rounds."""
    generator = np.random.default_rng(0)
    shape = (2, 8, len(trainer.runs), trainer.config.batch_size)
    ids = torch.from_numpy(generator.integers(0, len(trainer.images), shape).astype(np.int32)).to(device)
    chunk = _Inputs(ids[0], ids[1], None)

    def steps(count: int) -> None:
        for place in range(count):
            trainer.step += 1
            trainer._train_on(chunk, place % 8, place % 4)

    return median_of(steps, device, repeats)


def median_of(steps: Callable[[int], None], device: str, repeats: int) -> float:
    """Milliseconds a step, the median of five rounds."""
    steps(8)
    rounds = []
    for _ in range(5):
        sync(device)
        start = time.perf_counter()
        steps(repeats)
        sync(device)
        rounds.append((time.perf_counter() - start) / repeats * 1000)
    return float(np.median(rounds))


def keep_images() -> None:
    """Let all stacks of this process share the images on the device."""
    load = stack.load_images
    kept: dict[str, torch.Tensor] = {}

    def load_once(store: Store, device: str) -> torch.Tensor:
        if device not in kept:
            kept[device] = load(store, device)
        return kept[device]

    stack.load_images = load_once  # type: ignore[assignment]


def step_part(
    store: Path, work: Path, device: str, sizes: list[int], precisions: list[str], repeats: int
) -> Iterator[dict[str, Any]]:
    keep_images()
    for precision in precisions:
        for models in sizes:
            try:
                trainer = trainer_of(store, work, models, precision, device)
                value = time_steps(trainer, device, repeats)
            except Exception as error:  # one size that fails costs the others nothing
                print(f"stack {models} {precision}: {type(error).__name__} {str(error)[:300]}", flush=True)
                continue
            memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
            print(f"stack {models} {precision}: {value:.3f} ms a step, {memory:.1f} GiB", flush=True)
            yield {"what": f"step, fc 256,256, {precision}", "models": models, "value": value, "unit": "ms"}
            del trainer
            if device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()


def plain_part(store: Path, device: str, repeats: int) -> Iterator[dict[str, Any]]:
    for precision in ("fp32", "bf16"):
        for compiled in (False, True):
            what = f"plain step, fc 256,256, {precision}{', compiled' if compiled else ''}"
            try:
                value = plain_steps(store, precision, device, compiled, repeats)
            except Exception as error:
                print(f"{what}: {type(error).__name__} {str(error)[:300]}", flush=True)
                continue
            print(f"{what}: {value:.3f} ms", flush=True)
            yield {"what": what, "models": 1, "value": value, "unit": "ms"}


SHARES = {"position": ["posX", "posY"], "rotation": ["orientation"], "shape": ["shape"], "size": ["scale"]}
APART = {"x": 1, "y": 1, "shape": 2, "turn": 2, "size": 2}


def table1_configs(store: Path, method: str, seeds: int, extra: dict[str, int]) -> dict[str, TrainConfig]:
    """The paper's models under the gate (and other KL weights), or our best method, at the paper's schedule."""
    constant = {"steps": 288_000, "lr": 1e-4, "schedule": "constant", "precision": "tf32", "stacked": True}
    found = {}
    if method == "gate":
        counts = dict.fromkeys(["beta:beta=4", "info", "dip2"], seeds) | extra
        for objective, count in counts.items():
            model = GatedVAEConfig(LATENT, network="fc", hidden=(256, 256), objective=parse(OBJECTIVES, objective))
            found |= {f"{objective} {n}": TrainConfig(str(store), model, seed=n, **constant) for n in range(count)}  # type: ignore[arg-type]
        return found
    way = parse(METHODS, "composed:self_reconstruction=1"), parse(OBJECTIVES, "beta:beta=0.5")
    model = GatedVAEConfig(APART, (64, 64), "fc", (256, 256), *way, {"shape": 0.5})
    options = constant | {"lr": 1e-3, "schedule": "cosine"}
    return {f"composed_apart {n}": TrainConfig(str(store), model, seed=n, **options) for n in range(seeds)}  # type: ignore[arg-type]


class Marked:
    """Codes of all models of a stack whenever it has come so far."""

    def __init__(self, trainer: StackTrainer, names: list[str], marks: list[int]) -> None:
        self.trainer, self.names, self.marks, self.found = trainer, names, marks, {}
        ids = np.sort(np.random.default_rng(0).choice(len(trainer.images), 10_000, replace=False))
        self._images = trainer.images[torch.from_numpy(ids).to(trainer.images.device)]
        self._started, self.log = time.perf_counter(), []

    def __call__(self, step: int, steps: int, losses: dict[str, float]) -> None:
        if step % 5000 == 0:
            spent = time.perf_counter() - self._started
            self.log.append({"step": step, "seconds": spent, "loss": losses})
            print(f"{step} of {steps}, {spent:.0f} s, {losses}", flush=True)
        if step == steps or any(step - self.trainer_log < mark <= step for mark in self.marks):
            self.take(step)

    trainer_log = 1000

    @torch.no_grad()
    def take(self, step: int) -> None:
        rows = self.trainer.stack.rows()
        model = GatedVAE(self.trainer.config.model).to(self._images.device).eval()
        for index, name in enumerate(self.names):
            model.load_state_dict({key: rows[key][index] for key in model.state_dict()})
            posteriors = [model.encode(part) for part in self._images.split(2500)]
            mean = torch.cat([posterior.mean for posterior in posteriors])
            variance = torch.cat([posterior.logvar for posterior in posteriors]).exp()
            kl = 0.5 * (mean.square() + variance - 1 - variance.log()).mean(0)
            self.found[f"{name} {step} mean"] = mean.cpu().numpy().astype(np.float16)
            self.found[f"{name} {step} kl"] = kl.cpu().numpy()


def table1_part(options: argparse.Namespace) -> None:
    """Train within `options.seconds`: first the gate, then our best method for as many steps as are left."""
    start = time.perf_counter()
    torch._dynamo.config.suppress_errors = True  # a step that cannot be compiled is taken as it is
    store, device = options.work / "store", options.device
    for method, seeds, extra in (
        ("gate", options.seeds, {"beta:beta=1": 2, "beta:beta=16": 3}),
        ("composed_apart", options.seeds, {}),
    ):
        configs = table1_configs(store, method, seeds, extra)
        if options.steps:
            configs = {name: replace(config, steps=options.steps) for name, config in configs.items()}
        left = options.seconds - (time.perf_counter() - start)
        if method != "gate" and not options.steps:
            trial = open_stack(options.work / "trial", dict(configs), store, device)
            warm = time.perf_counter()
            milliseconds = time_ids(trial, configs)
            left -= time.perf_counter() - warm + 12
            steps = min(288_000, int(left / milliseconds * 1000)) // 1000 * 1000
            print(f"{method}: {milliseconds:.3f} ms a step, {left:.0f} s left: {steps} steps", flush=True)
            if steps < 20_000:
                return
            configs = {name: replace(config, steps=steps) for name, config in configs.items()}
            del trial
        trainer = open_stack(options.work / method, configs, store, device)
        steps = trainer.steps
        marks = Marked(trainer, list(configs), [steps // 12, steps // 4, steps // 2])
        timer = threading.Timer(left, lambda: os.kill(os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()
        try:
            trainer.fit(TrainOptions(options.work, log_every=1000, checkpoint_every=10**9), marks)
        except InterruptedTrainingError as error:
            print(error, flush=True)
            marks.take(trainer.step)
        timer.cancel()
        spent = time.perf_counter() - marks._started
        print(f"{method}: {trainer.step} steps of {len(configs)} models in {spent:.0f} s", flush=True)
        np.savez_compressed(options.out / f"codes-{method}.npz", **marks.found)
        example = trainer.runs[0]
        latest = example.latest()
        if latest is not None:
            shutil.copy(latest.weights, options.out / f"weights-{method}.safetensors")
        told = {"steps": trainer.step, "seconds": spent, "log": marks.log, "device": device_name(device)}
        told["configs"] = {name: run.config.to_dict() for name, run in zip(configs, trainer.runs, strict=True)}
        told["losses"] = {name: losses.means for name, losses in zip(configs, trainer.losses, strict=True)}
        (options.out / f"told-{method}.json").write_text(json.dumps(told))
        del trainer, marks
        if device == "cuda":
            torch.cuda.empty_cache()


def open_stack(work: Path, configs: dict[str, TrainConfig], store: Path, device: str) -> StackTrainer:
    runs, opened = [], open_store(store)
    for name, config in configs.items():
        out = work / name.replace(":", "-").replace(" ", "-")
        create_run(out, config, opened)
        runs.append(open_run(out))
    return StackTrainer(runs, opened, runs[0].config.steps or 0, device)


def time_ids(trainer: StackTrainer, configs: dict[str, TrainConfig]) -> float:
    """Seconds of a thousand steps, fed as in training."""
    chunks = id_chunks(list(configs.values()), [None] * len(configs), 0, 3 * 2048, workers=len(configs))
    spent = []
    for chunk in chunks:
        there = trainer._on_device(chunk)
        sync(str(trainer.device))
        start = time.perf_counter()
        for place in range(chunk.steps):
            trainer.step += 1
            trainer._train_on(there, place, int(chunk.partition[place]))
        sync(str(trainer.device))
        spent.append((time.perf_counter() - start) / chunk.steps * 1000)
    return spent[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["step", "plain", "table1"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", default="1,8,30,60")
    parser.add_argument("--precisions", default="tf32,bf16,fp32")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="fewer than the paper's, to try the script out")
    options = parser.parse_args()
    if options.part == "table1":
        table1_part(options)
        return 0
    rows = []
    store = options.work / "store"
    sizes = list(map(int, options.sizes.split(",")))
    if options.part == "plain":
        found = plain_part(store, options.device, options.repeats)
    else:
        found = step_part(
            store, options.work / "step", options.device, sizes, options.precisions.split(","), options.repeats
        )
    for row in found:
        rows.append({"device": device_name(options.device), **row})
        pd.DataFrame(rows).to_parquet(options.out / f"{options.part}.parquet")
    return 0


if __name__ == "__main__":
    sys.exit(main())
