"""On a GPU: `python -m benchmarks.gpu step|plain|kmeans --work DIR --out DIR`.

`step`: stacks of several sizes and precisions, as `pipe train` and `pipe reproduce --stack` take their steps there. `plain`: one
model, operation by operation, as on a processor. DIR/store is one of sprites. `kmeans`: faiss on the GPU beside faiss here.
`benchmarks/gpu.sh` runs all that is to be measured on a GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gated_vae.models.methods.base import StepBatch
from gated_vae.models.vae import GatedVAE, GatedVAEConfig, draw_noise
from gated_vae.pairing.groups.kmeans import group_kmeans
from gated_vae.pipelines.training import stack
from gated_vae.pipelines.training.config import TrainConfig
from gated_vae.pipelines.training.run import create_run, open_run
from gated_vae.pipelines.training.stack import StackTrainer
from gated_vae.preprocessing.store import Store, open_store

LATENT = {"position": 2, "rotation": 2, "shape": 2, "size": 2}


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def sync(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def trainer_of(store: Path, work: Path, models: int, precision: str, device: str) -> StackTrainer:
    """A stack of beta-VAEs of the paper's size (256, 256), with gates, ready to take steps."""
    model = GatedVAEConfig(LATENT, network="fc", hidden=(256, 256))
    runs = []
    opened = open_store(store)
    for seed in range(models):
        config = TrainConfig(str(store), model, steps=10**6, seed=seed, precision=precision, stacked=True)
        out = work / f"{precision}-{models}-{seed}"
        create_run(out, config, opened)
        runs.append(open_run(out))
    return StackTrainer(runs, opened, (10**6,), device)


def plain_steps(store: Path, precision: str, device: str, repeats: int) -> float:
    """Milliseconds of one model's step, operation by operation."""
    torch.manual_seed(0)
    config = GatedVAEConfig(LATENT, network="fc", hidden=(256, 256))
    model = GatedVAE(config, precision).to(device)
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

    def steps(count: int) -> None:
        for place in range(count):
            trainer.step += 1
            trainer._train_on(StepBatch(*ids[:, place % 8], list(LATENT)[place % 4]))

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

    def load_once(store: Store, device: torch.device) -> torch.Tensor:
        if str(device) not in kept:
            kept[str(device)] = load(store, device)
        return kept[str(device)]

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
        value = plain_steps(store, precision, device, repeats)
        print(f"plain step, fc 256,256, {precision}: {value:.3f} ms", flush=True)
        yield {"what": f"plain step, fc 256,256, {precision}", "models": 1, "value": value, "unit": "ms"}


def kmeans_part(device: str, count: int, repeats: int) -> Iterator[dict[str, Any]]:
    """As for CelebA: pitch and yaw into 2,500 clusters, 17 intensities into 4,000; of few points, fewer clusters."""
    random = np.random.default_rng(0)
    for columns, most in ((2, 2500), (17, 4000)):
        points = random.normal(size=(count, columns)).astype(np.float32)
        k = min(most, count // 50)
        for where in dict.fromkeys((device, "cpu")):
            seconds, inertia = [], 0.0
            for _ in range(repeats):
                start = time.perf_counter()
                groups = group_kmeans(points, k, device=where)
                seconds.append(time.perf_counter() - start)
                inertia = float(np.square(groups.distance).sum())
            print(
                f"K-Means {columns} columns, {k}, {where}: {np.median(seconds):.2f} s, inertia {inertia:.6g}",
                flush=True,
            )
            what = f"K-Means, {count:,} x {columns} into {k}, {where}"
            yield {"what": what, "models": 0, "value": float(np.median(seconds)), "unit": "s"}
            yield {"what": f"{what}, inertia", "models": 0, "value": inertia, "unit": ""}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["step", "plain", "kmeans"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", default="1,8,30,60")
    parser.add_argument("--precisions", default="tf32,bf16,fp32")
    parser.add_argument("--points", type=int, default=202_599)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    rows = []
    store = options.work / "store"
    sizes = list(map(int, options.sizes.split(",")))
    if options.part == "kmeans":
        found = kmeans_part(options.device, options.points, repeats=3)
    elif options.part == "plain":
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
