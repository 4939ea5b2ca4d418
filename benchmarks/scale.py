"""Made-up stores of 10,000 to 10,000,000 faces through every stage: `nice python -m benchmarks.scale --out FOLDER`.

Every stage runs in a process of its own, whose wall time and peak resident memory are appended to FOLDER/scale.jsonl; what is there
is not run again. At the end come seconds per million pairs or samples, and how both grow with the number of samples.

Labels are drawn from a seed table of made-up faces, with a little noise, and rounded as OpenFace rounds. Images are 8 x 8.
Everything else is what a real store has, but for identities.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import flight

from benchmarks.stores import Noise
from gated_vae.pairing.cluster import ClusterOptions, cluster_store
from gated_vae.pairing.groups import columns
from gated_vae.pairing.groups.kmeans import fit_kmeans
from gated_vae.pairing.stream.batches import StoreBatches
from gated_vae.pairing.stream.cut import Cut
from gated_vae.pairing.stream.wire import Ticket
from gated_vae.preprocessing.openface.cells import INTENSITIES
from gated_vae.preprocessing.sources.base import make_store
from gated_vae.preprocessing.store import open_store

SIDE, SEEDS, CHUNK = 8, 20_000, 1 << 20
CLUSTERS = {"pose": 2500, "expression": 4000}  # whatever the number of samples
BATCH, SERVED = 1024, 2_000_000
PAIRS = ("pairs", "loader", "serve")  # phases that count pairs, not samples

Table = dict[str, np.ndarray[Any, Any]]
Phases = dict[str, dict[str, float]]  # phase -> seconds, and units (samples or pairs) it worked on


def seed_faces() -> Table:
    """Made-up faces: poses with long tails, intensities mostly zero that lean on the yaw and go together."""
    rng = np.random.default_rng(0)
    pose = np.clip(rng.standard_t(5, (SEEDS, 3)) * [0.1, 0.2, 0.06], -1, 1)
    mood = rng.gamma(1.0, 0.6, (SEEDS, 1))
    units = rng.gamma(0.5, 1.0, (SEEDS, len(INTENSITIES))) * mood + 0.3 * np.abs(pose[:, [1]]) - 0.2
    return {"pose": pose, "units": units}


def labels(seeds: Table, start: int, stop: int) -> pa.Table:
    """Rows start .. stop - 1 of samples.parquet."""
    rng = np.random.default_rng([1, start])
    chosen = rng.integers(0, SEEDS, stop - start)
    pose = seeds["pose"][chosen] + rng.normal(0, 0.02, (stop - start, 3))
    units = np.clip(seeds["units"][chosen] + rng.normal(0, 0.05, (stop - start, len(INTENSITIES))), 0, 5)
    columns = {f"pose_R{axis}": pose[:, place].round(3) for place, axis in enumerate("xyz")}
    columns |= {name: units[:, place].round(2) for place, name in enumerate(INTENSITIES)}
    return pa.table(columns)


def make(path: Path, samples: int) -> Phases:
    seeds = seed_faces()
    chunks = [labels(seeds, start, min(start + CHUNK, samples)) for start in range(0, samples, CHUNK)]
    make_store(Noise(pa.concat_tables(chunks), SIDE), path)
    return {}


def cluster(path: Path, samples: int) -> Phases:
    """Both partitions of the command: `fit`, then `group` (assign, write), `pairs` (draw, write) and `measuring`."""
    begun: list[tuple[str, float]] = []
    fitting: list[float] = []

    def note(done: int, total: int, message: str = "") -> None:  # noqa: ARG001
        begun.append((next((name for name in ("measuring", "pairs") if name in message), "group"), time.perf_counter()))

    def fit(*arguments: Any, **chosen: Any) -> Any:
        start = time.perf_counter()
        fitted = fit_kmeans(*arguments, **chosen)
        fitting.append(time.perf_counter() - start)
        return fitted

    columns.fit_kmeans = fit
    reports = cluster_store(path, ClusterOptions(CLUSTERS), overwrite=True, progress=note)
    begun.append(("", time.perf_counter()))
    units = dict.fromkeys(("fit", "group", "measuring"), samples * len(reports))
    units |= {"pairs": sum(report.pairs for report in reports)}
    spent = dict.fromkeys(units, 0.0)
    for (name, start), (_, stop) in pairwise(begun):
        spent[name] += stop - start
    spent |= {"fit": sum(fitting), "group": spent["group"] - sum(fitting)}
    return {name: {"seconds": seconds, "units": units[name]} for name, seconds in spent.items()}


def loader(path: Path, samples: int) -> Phases:
    """An epoch of ids of both partitions."""
    store = open_store(path)
    batches = StoreBatches(store, Cut(tuple(store.partitions), BATCH))
    start = time.perf_counter()
    pairs = sum(len(batch.input_id) for batch in batches.epoch(0, 0, images=False))
    assert pairs == samples * len(store.partitions)
    return {"loader": {"seconds": time.perf_counter() - start, "units": pairs}}


def encode(path: Path, samples: int) -> Phases:
    """Codes of every image, by a small network after a single step."""
    from gated_vae.models.vae import GatedVAEConfig  # here, as torch would show in the memory of every stage
    from gated_vae.pipelines.evaluation.opened import encode_store, open_run
    from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
    from gated_vae.pipelines.training.train import train

    store, run = open_store(path), path.with_name(f"{path.name}-run")
    model = GatedVAEConfig(dict.fromkeys(store.partitions, 4), image_shape=(SIDE, SIDE), network="fc", hidden=(16, 16))
    train(TrainConfig(str(path), model, steps=1), TrainOptions(run, overwrite=True))
    start = time.perf_counter()
    encode_store(open_run(run), store, run / "codes.parquet")
    seconds = time.perf_counter() - start
    shutil.rmtree(run)
    return {"encode": {"seconds": seconds, "units": samples}}


def read_served(address: str) -> dict[str, float]:
    """Read the first ids of an epoch from a server."""
    ticket = Ticket(None, batch_size=BATCH)
    with flight.connect(address) as client:
        start = time.perf_counter()
        reader = client.do_get(flight.Ticket(ticket.to_bytes()))
        pairs = sum(chunk.data.num_rows for chunk in islice(reader, SERVED // BATCH))
        seconds = time.perf_counter() - start
        reader.cancel()
    return {"seconds": seconds, "units": pairs}


STAGES = ("make", "cluster", "loader", "encode")  # then serve


def work(stage: str, path: Path, samples: int) -> Phases:
    return {"make": make, "cluster": cluster, "loader": loader, "encode": encode}[stage](path, samples)


def measured(words: list[str], work: Callable[[subprocess.Popen[str]], Phases]) -> dict[str, Any]:
    """Run a child; what `work` makes of it, its wall time and its peak resident memory."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.PIPE, text=True)
    phases = work(child)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(words)} failed.")
    seconds = round(time.perf_counter() - start, 2)
    return {"phases": phases, "seconds": seconds, "peak_mb": round(usage.ru_maxrss / 1024)}


def told(child: subprocess.Popen[str]) -> Phases:
    assert child.stdout
    answer: Phases = json.loads(child.stdout.read() or "{}")
    return answer


def served(child: subprocess.Popen[str]) -> Phases:
    assert child.stdout
    found = read_served(child.stdout.readline().split()[-1])
    child.terminate()
    return {"serve": found}


def run(out: Path, samples: int, *, keep: bool) -> None:
    """Take a store of so many samples through the stages that have no record yet."""
    log, path = out / "scale.jsonl", out / f"store-{samples}"
    done = {record["stage"] for record in records(out) if record["samples"] == samples}
    if done >= {*STAGES, "serve"}:
        return
    if "make" in done and not path.exists():
        done = set()
    for stage in (*STAGES, "serve"):
        if stage in done:
            continue
        if stage == "make":
            shutil.rmtree(path, ignore_errors=True)
        if stage == "serve":
            found = measured(["gated_vae.pipelines.cli", "serve", str(path), "--port", "0"], served)
        else:
            words = ["benchmarks.scale", "--stage", stage, "--out", str(out)]
            words += ["--samples", str(samples)]
            found = measured(words, told)
        sizes = {"disk_mb": round(sum(f.stat().st_blocks for f in path.rglob("*") if f.is_file()) / 2048)}
        with log.open("a") as file:
            print(json.dumps({"samples": samples, "stage": stage, **found, **sizes}), file=file)
        print(samples, stage, found, file=sys.stderr, flush=True)
    if not keep:
        shutil.rmtree(path)


def records(out: Path) -> list[dict[str, Any]]:
    log = out / "scale.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def report(out: Path) -> None:
    """Print a line per phase and size; the exponents are slopes of a straight line through the logarithms."""
    rows: dict[str, list[tuple[int, float, float]]] = {}
    for record in records(out):
        for name, phase in record["phases"].items():
            rows.setdefault(name, []).append((record["samples"], phase["seconds"], record["peak_mb"]))
            per_million = round(1e6 * phase["seconds"] / phase["units"], 3)
            unit = "pairs" if name in PAIRS else "samples"
            line = {"samples": record["samples"], "phase": name, "seconds": round(phase["seconds"], 2)}
            print(json.dumps(line | {f"s per million {unit}": per_million, "peak MB": record["peak_mb"]}))
    for name, found in rows.items():
        if len(found) > 1:
            samples, seconds, peak = np.log(np.array(sorted(found))).T
            slopes = {"seconds": np.polyfit(samples, seconds, 1)[0], "peak": np.polyfit(samples, peak, 1)[0]}
            power = {kind: round(float(slope), 2) for kind, slope in slopes.items()}
            print(json.dumps({"phase": name, "grows with samples to the power": power}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--keep", action="store_true", help="Keep the stores.")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        (samples,) = options.samples
        print(json.dumps(work(options.stage, options.out / f"store-{samples}", samples)))
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    for samples in options.samples:
        run(options.out, samples, keep=options.keep)
    report(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
