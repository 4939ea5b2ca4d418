"""Experiments: many runs, one process per core, resumable run by run: each is trained, evaluated, and then done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, get_args, get_type_hints

import pandas as pd
import pyarrow as pa

from gated_vae.models.registry import number
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.pipelines.evaluation.opened import OpenRun
from gated_vae.pipelines.evaluation.scores import Scores, Table
from gated_vae.pipelines.experiments import EXPERIMENTS
from gated_vae.pipelines.experiments.tables import merge
from gated_vae.pipelines.process import one_core_each
from gated_vae.pipelines.training.config import TrainConfig, TrainOptions
from gated_vae.pipelines.training.folder import refuse_another, run_of
from gated_vae.pipelines.training.journal import DivergedError, apart
from gated_vae.pipelines.training.run import Run, open_run
from gated_vae.pipelines.training.train import train_on_one_core, train_stacks
from gated_vae.preprocessing.errors import UsageError
from gated_vae.preprocessing.files import locked, readable, refuse_filled, refuse_ours, write_bytes, write_parquet
from gated_vae.preprocessing.progress import Progress, as_note, ignore
from gated_vae.preprocessing.sources.base import make_store
from gated_vae.preprocessing.sources.grids.dsprites import DSprites
from gated_vae.preprocessing.store import Store, manifest_path, open_store

Row = dict[str, Any]
MOST_NAMES = 30  # that a message lists


@dataclass(frozen=True)
class Finished:
    """A run that was trained and evaluated: its name without the seed, the run itself, and its scores."""

    name: str
    run: Run
    scores: Scores

    @property
    def config(self) -> TrainConfig:
        """What it was trained by."""
        return self.run.config

    @property
    def losses(self) -> Mapping[str, Mapping[str, float]]:
        """Its last mean losses by label."""
        return self.run.read_metrics()["train"]["losses"]  # type: ignore[no-any-return]

    @property
    def seconds(self) -> float:
        """How long it was trained, read from all its events."""
        return _seconds_trained(self.run.path)


def _seconds_trained(folder: Path) -> float:
    """Seconds from the first to the last record of every event file of a run, summed: of a stack, those of all its models."""
    from tensorboard.backend.event_processing.event_file_loader import (  # type: ignore[import-untyped, unused-ignore]
        TimestampedEventFileLoader,
    )

    total = 0.0
    for path in folder.glob("events.*"):
        times = [time for time, _ in TimestampedEventFileLoader(str(path)).Load()]
        total += max(times, default=0.0) - min(times, default=0.0)
    return total


@dataclass(frozen=True, kw_only=True)
class Experiment(ABC):
    """What is compared, judged how and told how. Fields are settings, most of them in place of defaults of `TrainConfig`."""

    names: ClassVar[Sequence[str]]  # of all runs, without their seeds, in the order of the report
    usual: ClassVar[str] = "*"  # patterns of the names of runs that are trained unless others are asked for
    key: ClassVar[Sequence[str]]  # the columns that tell one row of the results from another
    # The columns that results are sorted by, with the order of their values where it is not the usual one.
    order: ClassVar[Mapping[str, Sequence[str] | None]]

    out: Path  # folder of runs (NAME-SEED) and results
    # See the experiment; those that take none refuse it.
    store: Path | None = None
    truth: Path | None = None
    seeds: int = 3
    steps: int
    lr: float = 1e-3
    schedule: str = "cosine"
    batch_size: int = 128
    precision: str = "fp32"
    augment: str = "none"

    def __post_init__(self) -> None:
        if self.truth is not None:
            raise UsageError("--truth is for faces.", "", "Leave it out.")

    @property
    def path(self) -> Path:
        """The one store of all runs: as named, else in `out`."""
        return self.store or self.out / "store"

    @property
    def opened(self) -> Store:
        """That store, once it is made."""
        return open_store(self.path)

    def grid(self) -> Store:
        """That store; where none is named and `out` has none, dSprites are drawn there."""
        if self.store or manifest_path(self.path).exists():
            return self.opened
        return make_store(DSprites(), self.path).store

    @abstractmethod
    def prepare(self, names: Sequence[str], workers: int | None, progress: Progress) -> None:
        """Make what the runs of these names need, going on where it stopped."""

    @abstractmethod
    def setup(self, name: str) -> tuple[Path, GatedVAEConfig]:
        """The store that the runs of a name are trained on, and their model."""

    @abstractmethod
    def score(self, run: OpenRun) -> Scores:
        """Judge a trained run (in a process of its own)."""

    @abstractmethod
    def rows(self, runs: Sequence[Finished]) -> list[Row]:
        """The rows of the results, from all finished runs in order."""

    @abstractmethod
    def report(self, results: pd.DataFrame) -> dict[str, bytes]:
        """The report by the ending of its file: ``.md``, and pictures beside it."""

    @abstractmethod
    def headline(self, results: pd.DataFrame) -> Table:
        """What to show first."""

    def config(self, name: str, seed: int) -> TrainConfig:
        """The configuration of one run."""
        store, model = self.setup(name)
        return TrainConfig(
            store=str(store),
            model=model,
            steps=self.steps,
            batch_size=self.batch_size,
            lr=self.lr,
            schedule=self.schedule,
            seed=seed,
            precision=self.precision,
            augment=self.augment,
        )

    def run(self, name: str, seed: int) -> Run:
        """The run that training makes."""
        config = self.config(name, seed)
        return run_of(self.out / f"{name}-{seed}", config, open_store(config.store))

    def chosen(self, only: str) -> list[str]:
        """The names that fit some of the patterns, which commas part; those of `usual` for an empty text.

        `UsageError` when one fits nothing.
        """
        patterns = (only or self.usual).split(",")
        for pattern in patterns:
            if not any(fnmatch(name, pattern) for name in self.names):
                more = " ..., * is any letters" if len(self.names) > MOST_NAMES else ""
                remedy = f"Choose from {', '.join(self.names[:MOST_NAMES])}{more}."
                raise UsageError(f"There is no {pattern!r} to reproduce.", "", remedy)
        return [name for name in self.names if any(fnmatch(name, pattern) for pattern in patterns)]


def make_experiment(name: str, given: Mapping[str, Any], settings: Sequence[str]) -> Experiment:
    """The experiment of a name, with what was `given` (what is None is left to it) and settings ``KEY=VALUE``.

    `UsageError` when it has no such setting, or a value has no meaning.
    """
    module, _, attribute = EXPERIMENTS[name].partition(":")
    kind: type[Experiment] = getattr(import_module(f"{__package__}.{module}"), attribute)
    wanted = {key: value for key, value in given.items() if value is not None}
    known = {field.name for field in fields(kind)} - {"out", "store", "truth"}
    for entry in settings:
        key, _, text = entry.partition("=")
        if key not in known:
            raise UsageError(f"{name} has no setting {key!r}.", "", f"Choose from {', '.join(sorted(known))}.")
        hint = get_type_hints(kind)[key]
        numeric = next((it for it in (int, float) if it in (hint, *get_args(hint))), None)
        try:
            wanted[key] = number(key, text, numeric) if numeric else text
        except ValueError as error:
            raise UsageError(f"--set {entry} cannot be read.", str(error), f"Write {key}=NUMBER.") from None
        if numeric is int and wanted[key] < 1:
            raise UsageError(f"--set {entry} leaves nothing to do.", "", "Give 1 or more.")
    return kind(**wanted)


def reproduce(
    experiment: Experiment,
    names: Sequence[str],
    *,
    beside: Sequence[Path] = (),
    workers: int | None = None,
    stacked: int = 1,
    device: str = "cpu",
    progress: Progress = ignore,
) -> pd.DataFrame:
    """Train and evaluate the runs of these names with every seed, skipping what is finished; write results and report.

    `GatedVAEError` when `out` holds one of the runs, trained otherwise, or something else; or a run fails; those that are
    finished stay. Where some diverge, the others are finished and told of, and then `DivergedError` is raised.

    Parameters
    ----------
    beside:
        Results of other folders or machines to put to this one's; of the same run the last stands.
    workers:
        Runs at a time: one per core when None, or a single one on a GPU.
    stacked:
        Above 1, so many runs of one shape and method are trained at once, as one stack.
    device:
        Where to train; the scores are computed by the processor.

    Returns
    -------
    The results: rows of all finished runs of the folder that were trained so, those of earlier calls included.
    """
    earlier = [_read_results(path) for path in beside]
    refuse_ours(experiment.out)
    with locked(experiment.out):
        if not any(experiment.out.glob("*/.lock")):  # in all that an experiment makes there is one
            refuse_filled(experiment.out, "runs of an experiment")
        experiment.prepare(names, workers, progress)
        runs = [experiment.run(name, seed) for seed in range(experiment.seeds) for name in names]
        diverged = do_runs(experiment, runs, workers=workers, stacked=stacked, device=device, progress=progress)
        found = pd.DataFrame(experiment.rows([*finished_runs(experiment)]))
        results = merge([*earlier, found], experiment.key, experiment.order)
        if diverged and results.empty:
            raise DivergedError(diverged)
        stem = experiment.out / type(experiment).__name__.lower()
        table = pa.Table.from_pandas(results, preserve_index=False)
        write_parquet(stem.with_suffix(".parquet"), table, schema_version=2)
        for ending, content in experiment.report(results).items():
            write_bytes(stem.with_suffix(ending), content)
    if diverged:
        raise DivergedError(diverged, f"The others are in {stem}.md. ")
    return results


def _read_results(path: Path) -> pd.DataFrame:
    with readable(path, "Give a .parquet file that `pipe reproduce` wrote."):
        return pd.read_parquet(path)


def do_runs(
    experiment: Experiment,
    runs: Sequence[Run],
    *,
    workers: int | None = None,
    stacked: int = 1,
    device: str = "cpu",
    progress: Progress = ignore,
) -> dict[Path, str]:
    """Train and evaluate the runs that are not finished; after a failure those begun are finished first.

    Returns what is told of runs that diverged, by folder; the others are finished.
    """
    left = []
    diverged: dict[Path, str] = {}
    for run in runs:
        if is_finished(run.path):
            refuse_another(open_run(run.path), run, "Choose another --out.")
        else:
            left.append(run)
    done = len(runs) - len(left)
    progress(done, len(runs))
    if stacked > 1:
        untrained = [run for run in left if not is_finished(run.path, "train")]
        options = TrainOptions(experiment.out, device=device, checkpoint_every=20_000)
        with apart(diverged):
            train_stacks(untrained, stacked, options, as_note(progress, done, len(runs)))
        left = [run for run in left if run.path not in diverged]
        device = "cpu"  # what is left are the scores
    with one_core_each(len(left), device, workers) as run_tasks:
        for found in run_tasks(do_run, [(experiment, run, device) for run in left]):
            if isinstance(found, DivergedError):
                diverged |= found.where
            else:
                done += 1
                progress(done, len(runs), found)
    return diverged


def do_run(experiment: Experiment, run: Run, device: str) -> str | DivergedError:
    """Train and evaluate one run with one core (called in a process of its own); its name, or that it diverged."""
    found = train_on_one_core(run.config, TrainOptions(run.path, device=device, checkpoint_every=2000))
    if isinstance(found, DivergedError):
        return found
    opened = OpenRun(open_run(run.path))
    opened.files.add_metrics("evaluate", dict(experiment.score(opened).values))
    return run.path.name


def is_finished(run: Path, *commands: str) -> bool:
    """Whether a run was trained and evaluated, or what other commands write."""
    wanted = {*(commands or ("train", "evaluate"))}
    return (run / "config.json").exists() and wanted <= open_run(run).read_metrics().keys()


def finished_runs(experiment: Experiment) -> Iterator[Finished]:
    """The finished runs of a folder that the experiment would train so, by name, then by seed."""
    for name in experiment.names:
        folders = [path for path in experiment.out.glob(f"{name}-*") if path.name.removeprefix(f"{name}-").isdigit()]
        for folder in sorted(folders, key=lambda path: int(path.name.rpartition("-")[2])):
            if is_finished(folder):
                run = open_run(folder)
                if run == experiment.run(name, run.config.seed) and (scores := Scores.of(run)):
                    yield Finished(name, run, scores)
