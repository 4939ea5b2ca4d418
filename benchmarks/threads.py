"""Training steps on every core, idle and beside other work: `python -m benchmarks.threads`.

OpenMP's threads spin while they wait for one another. Beside other work on the same cores the one that is waited for does not run,
and the others spin its time away. Each way to wait is measured in processes of its own, as libraries read it when they are loaded:
as it is, `OMP_WAIT_POLICY=passive` (sleep at once), and some lengths of spinning. `busy` counts other processes that compute.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

WAYS = {
    "as it is": {},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=30000": {"GOMP_SPINCOUNT": "30000"},
}
STEPS = 30


def measure() -> None:
    """Print milliseconds of a step of each network: medians over `STEPS`, in one process."""
    from benchmarks.step import NETWORKS, step_of

    for name, config in NETWORKS.items():
        step = step_of(config, "fp32")
        for _ in range(5):
            step()
        times = []
        for _ in range(STEPS):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        print(f"{name}\t{1e3 * statistics.median(times):.1f}", flush=True)


def run(way: dict[str, str]) -> dict[str, float]:
    words = [sys.executable, "-m", "benchmarks.threads", "--measure"]
    out = subprocess.run(words, env={**os.environ, **way}, capture_output=True, text=True, check=True).stdout
    return {name: float(value) for name, value in (line.split("\t") for line in out.splitlines())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure in this process, as its environment is")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.measure:
        measure()
        return
    for busy in (0, 1, 2):
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            rounds = [{way: run(environment) for way, environment in WAYS.items()} for _ in range(options.rounds)]
        finally:
            for other in others:
                other.kill()
        for way in WAYS:
            names = rounds[0][way]
            medians = {name: statistics.median(found[way][name] for found in rounds) for name in names}
            print(
                f"{busy} busy, {way}: " + ", ".join(f"{name} {value:.1f} ms" for name, value in medians.items()),
                flush=True,
            )


if __name__ == "__main__":
    main()
