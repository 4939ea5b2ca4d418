"""Run the benchmarks and keep what they find: `python -m benchmarks.record [NAME ...] [--seconds 900]`.

Every figure is a row of docs/results/benchmarks.parquet, which keeps those of earlier commits; the newest are told in the table
of docs/benchmarks.md, between its markers, and in docs/figures/benchmarks.png. Scripts run one after the other; what is not done
when the time is over is told and keeps its old figures. Bars that are missed are told, not fatal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Timer

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.report import draw, insert, markdown
from benchmarks.timing import Record
from gated_vae.models.figures.sheet import DPI, render
from gated_vae.preprocessing.files import write_bytes, write_parquet

SCRIPTS = [
    "startup",
    "openface_csv",
    "images",
    "preprocess",
    "pairs",
    "loader",
    "step",
    "pythae_step",
    "service",
    "dci",
]
SCRIPTS += ["kmeans"]  # the longest comes last
MOST_SECONDS = 420  # for one script, so that one that hangs leaves time for the others
DOCS = Path(__file__).parents[1] / "docs"
SCHEMA_VERSION = 1
SCHEMA = pa.schema(
    {
        "processor": pa.string(),
        "stage": pa.string(),
        "peer": pa.string(),  # empty for a figure that is compared with nothing
        "ratio": pa.float64(),  # the median, in `unit`
        "low": pa.float64(),
        "high": pa.float64(),
        "unit": pa.string(),
        "bar": pa.string(),  # such as "<= 1.1"; empty without one
        "met": pa.bool_(),
        "date": pa.string(),
        "commit": pa.string(),
        "load": pa.float64(),  # programs that ran or waited in the minute before the script started
    }
)
KEY = ("processor", "stage", "peer", "commit")
FEATURES = {"amx_bf16": "AMX bf16", "avx512_bf16": "AVX-512 bf16", "avx512f": "AVX-512", "avx2": "AVX2"}  # best first


def processor(cpuinfo: str, cores: int) -> str:
    """Name a processor by its model, the best it can do with vectors, and the cores at hand."""
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())}
    flags = facts.get("flags", "").split()
    best = next((name for flag, name in FEATURES.items() if flag in flags), "")
    return f"{facts.get('model name', 'unknown')} ({', '.join(filter(None, [best, f'{cores} cores']))})"


def this_processor() -> str:
    """The processor that this runs on."""
    cpuinfo = Path("/proc/cpuinfo")
    return processor(cpuinfo.read_text() if cpuinfo.exists() else "", len(os.sched_getaffinity(0)))


def this_commit() -> str:
    """The commit checked out, with a + where files differ from it."""
    git = ["git", "-C", str(DOCS), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def records(lines: Iterable[str]) -> Iterator[Record]:
    """The figures among the lines that a script printed; other lines are left out."""
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and {"stage", "peer", "ratio"} <= value.keys():
            yield value


def run(name: str, seconds: float) -> Iterator[Record]:
    """Run a script, for so many seconds at most, and yield its figures as they come."""
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        timer = Timer(seconds, process.kill)
        timer.start()
        try:
            yield from records(process.stdout)
        finally:
            timer.cancel()
            process.kill()
    if process.returncode not in (0, 1):  # 1: a bar is missed
        print(f"{name}: not finished (exit code {process.returncode})", file=sys.stderr)


def run_all(names: Iterable[str], seconds: float) -> Iterator[Record]:
    """Run scripts one after the other within `seconds` in all; tell each figure, and yield it as a row."""
    end = time.monotonic() + seconds
    made = {"processor": this_processor(), "date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": this_commit()}
    for name in names:
        if time.monotonic() > end:
            print(f"{name}: no time was left", file=sys.stderr)
            continue
        load = round(os.getloadavg()[0], 1)
        for record in run(name, min(MOST_SECONDS, max(1.0, end - time.monotonic()))):
            verdict = {True: "met", False: "MISSED", None: ""}[record["met"]]
            print(f"{record['stage']:<60} {record['peer']:<42} {record['ratio']:>8g} {record['unit']:<12}", end=" ")
            print(f"{record['bar']:<8} {verdict}", flush=True)
            yield {**record, **made, "load": load}


def merge(old: list[Record], new: Iterable[Record]) -> list[Record]:
    """Put new rows in the places of old ones of the same stage, peer, processor and commit; others come last."""
    rows = {tuple(row[name] for name in KEY): row for row in old}
    return list((rows | {tuple(row[name] for name in KEY): row for row in new}).values())


def read(path: Path) -> list[Record]:
    """The rows of the results so far."""
    return pq.read_table(path).to_pylist() if path.exists() else []  # type: ignore[no-any-return]


def write(rows: list[Record], docs: Path) -> None:
    """Write results, table and picture."""
    write_parquet(
        docs / "results" / "benchmarks.parquet", pa.Table.from_pylist(rows, SCHEMA), schema_version=SCHEMA_VERSION
    )
    prose = docs / "benchmarks.md"
    write_bytes(prose, insert(prose.read_text(), markdown(rows)).encode())
    write_bytes(docs / "figures" / "benchmarks.png", render(draw(rows), "png", dpi=DPI))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCRIPTS)}; all by default")
    parser.add_argument("--seconds", type=float, default=900, help="when to stop")
    options = parser.parse_args()
    found = list(run_all(options.names or SCRIPTS, options.seconds))
    write(merge(read(DOCS / "results" / "benchmarks.parquet"), found), DOCS)
    missed = sum(record["met"] is False for record in found)
    print(f"{sum(record['met'] is True for record in found)} bars met, {missed} missed, {len(found)} figures in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
