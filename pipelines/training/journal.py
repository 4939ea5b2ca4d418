"""What is kept of a run beside its model and optimiser: losses, what validations found, where the loader stands, events."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped, unused-ignore]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped, unused-ignore]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped, unused-ignore]

from gated_vae.models import distributed
from gated_vae.models.checkpoint import Checkpoint, Tensors, save_checkpoint
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import append_to, atomic_file

if TYPE_CHECKING:
    from gated_vae.pipelines.training.run import Run

Terms = dict[str, float]
Found = tuple[dict[str, Terms], dict[str, Any]]  # the last mean losses, and what validations have found

MOST_LOSSES = 1000  # of validations, that are kept: of more, the best and the latest
TOTAL, VALID, KL_OF = "loss", "valid", "kl_of"  # in the tags of events: valid/loss, kl_of/z0


class RunningLosses:
    """Sums of loss terms by label, kept where the steps are computed, and their means when they were last told."""

    def __init__(self) -> None:
        self.means: dict[str, Terms] = {}
        self._sums: dict[str, dict[str, torch.Tensor]] = {}

    def add(self, label: str, terms: Mapping[str, torch.Tensor], steps: int = 1) -> None:
        """Count a step, or the sums of several."""
        sums = self._sums.setdefault(label, {})
        for name, term in {**terms, "steps": torch.tensor(float(steps))}.items():
            sums[name] = sums.get(name, torch.zeros((), dtype=torch.float64)) + term

    def tell(self) -> dict[str, Terms]:
        """The means since the last time, by label; `means` has them, too."""
        told = {}
        for label, sums in self._sums.items():
            count = sums.pop("steps").item()
            told[label] = {name: total.item() / count for name, total in sums.items()}
        self.means |= told
        self._sums = {}
        return told

    def note(self) -> str:
        """The last mean loss of every label, or the loss where it has one alone, for beside a progress bar."""
        names = ["loss"] if len(self.means) == 1 else [*self.means]
        return "  ".join(
            f"{name} {sum(terms.values()):.1f}" for name, terms in zip(names, self.means.values(), strict=True)
        )

    def diverged(self) -> str | None:
        """A label whose last mean is not finite."""
        return next((label for label, terms in self.means.items() if not math.isfinite(sum(terms.values()))), None)

    def state_dict(self) -> dict[str, dict[str, Terms]]:
        """As numbers, for a checkpoint."""
        sums = {label: {name: total.item() for name, total in sums.items()} for label, sums in self._sums.items()}
        return {"losses": self.means, "sums": sums}

    def load_state_dict(self, state: Mapping[str, dict[str, Terms]]) -> None:
        """Go on from a checkpoint."""
        self.means = dict(state["losses"])
        self._sums = {
            label: {name: torch.tensor(value, dtype=torch.float64) for name, value in sums.items()}
            for label, sums in state["sums"].items()
        }


@dataclass
class History:
    """What validations have found: what checkpoints and ``metrics.json`` keep of them."""

    step: int = 0  # whose weights are used
    losses: dict[str, Terms] = field(default_factory=dict)  # its mean losses by label and term
    best: int = 0  # the step of the lowest loss
    since: int = 0  # how many validations there were after it
    history: dict[str, float] = field(default_factory=dict)  # the loss by step

    def add(self, step: int, losses: dict[str, Terms], *, keeps_best: bool) -> dict[str, float]:
        """File a validation; return it as TensorBoard shows it."""
        loss = sum(sum(terms.values()) for terms in losses.values()) / len(losses)
        is_better = not self.best or loss < self.history[str(self.best)]
        self.best, self.since = (step, 0) if is_better else (self.best, self.since + 1)
        if is_better or not keeps_best:
            self.step, self.losses = step, losses
        latest = [*self.history, str(step)][-MOST_LOSSES:]
        found = self.history | {str(step): loss}
        self.history = {at: value for at, value in found.items() if at in {*latest, str(self.best)}}
        terms = {f"{VALID}/{term}/{label}": value for label, terms in losses.items() for term, value in terms.items()}
        return {f"{VALID}/{TOTAL}": loss, **terms}

    def told(self) -> dict[str, dict[str, Any]]:
        """As an entry of a checkpoint's position and of metrics; none where there was no validation."""
        return {"valid": asdict(self)} if self.best else {}

    def note(self) -> str:
        """The last loss, for beside a progress bar."""
        return f"  valid {[*self.history.values()][-1]:.1f}" if self.best else ""


class EventLog:
    """Appends scalars to a new event file in `folder`; what earlier files say of steps after `step`, the last saved, is void."""

    def __init__(self, folder: Path, step: int) -> None:
        host = socket.gethostname()
        # In the order of their names: of two in one second, the one that goes on from a later step is the later one.
        path = folder / f"events.out.tfevents.{int(time.time()):010d}.{step:09d}.{host}.{os.getpid()}"
        self._file = append_to(path)
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        self._write(step=step + 1, session_log=SessionLog(status=SessionLog.START))  # a reader drops this step, too

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write the values of one step by name."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._write(step=step, summary=Summary(value=values))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, **content: Any) -> None:
        self._records.write(Event(wall_time=time.time(), **content).SerializeToString())
        self._file.flush()


def kl_by_dimension(kl: torch.Tensor) -> Terms:
    """The KL divergence of every latent dimension, (M,), under its tag."""
    return {f"{KL_OF}/z{dimension}": value for dimension, value in enumerate(kl.tolist())}


class DivergedError(GatedVAEError):
    """Losses or weights of runs are not finite: `where`, by the runs' folders; `others` says what became of the rest."""

    def __init__(self, where: Mapping[Path, str], others: str = "") -> None:
        remedy = f"{others}Use a lower learning rate, or precision fp32, in another --out."
        super().__init__("Training diverged.", " ".join(where.values()), remedy)
        self.where, self.others = where, others

    def __reduce__(self) -> tuple[type[DivergedError], tuple[Any, ...]]:
        return type(self), (self.where, self.others)


@contextmanager
def apart(diverged: dict[Path, str]) -> Iterator[None]:
    """Note where training diverges instead of stopping: others can still go on."""
    try:
        yield
    except DivergedError as error:
        diverged |= {**error.where, **diverged}  # what was told of a run first stands


class Journal:
    """One run's losses, what validations found, its loader's position and its events, alone or as one of a stack.

    Attributes
    ----------
    loader:
        The state of the loader after the last step; empty before the first.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.losses, self.history = RunningLosses(), History()
        self.loader: dict[str, int] = {}
        self._events: EventLog | None = None

    def restore(self, position: dict[str, Any]) -> None:
        """Go on from the position in a checkpoint, which `load_checkpoint` gives."""
        self.loader = position["loader"]
        self.losses.load_state_dict(position)
        self.history = History(**position.get("valid", {}))

    def save(self, step: int, weights: Tensors, slots: Tensors) -> None:
        """Save a checkpoint, from which `restore` goes on, with the model's weights and the optimiser's slots.

        The first rank alone writes; all of them raise `DivergedError` where weights are not finite.
        """
        if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
            raise self._diverged(step, "some weights are")
        if distributed.rank() == 0:
            checkpoint = Checkpoint.at(self.run.checkpoints, step)
            position = {"step": step, "loader": self.loader, **self.losses.state_dict(), **self.history.told()}
            is_best = self.run.config.keeps_best and self.history.best == step
            save_checkpoint(checkpoint, weights, slots, position, atomic_file, is_best=is_best)

    @contextmanager
    def open(self, step: int) -> Iterator[None]:
        """Write events meanwhile, on the first rank alone; what was written of steps after `step`, the last saved, is void."""
        with closing(EventLog(self.run.path, step)) if distributed.rank() == 0 else nullcontext() as self._events:
            yield

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Tell mean losses since the last time, and more; `DivergedError` where they are not finite."""
        told = self.losses.tell()
        if (label := self.losses.diverged()) is not None:
            raise self._diverged(step, f"the loss of {label} is")
        means = {f"{term}/{label}": value for label, terms in told.items() for term, value in terms.items()}
        self._tell(step, {**means, **scalars})

    def validated(self, step: int, losses: dict[str, Terms]) -> None:
        """File the losses of a validation."""
        self._tell(step, self.history.add(step, losses, keeps_best=self.run.config.keeps_best))

    def _tell(self, step: int, scalars: Mapping[str, float]) -> None:
        if self._events is not None:
            self._events.add(step, scalars)

    def _diverged(self, step: int, what: str) -> DivergedError:
        kept = f"; the checkpoint of step {latest.step} is kept" if (latest := self.run.latest()) else ""
        return DivergedError({self.run.path: f"By step {step} {what} not finite in {self.run.path}{kept}."})

    @property
    def stopped_early(self) -> bool:
        """Whether as many validations in a row as the run was to wait for were no better."""
        return self.run.config.stops_after(self.history.since)

    def found(self) -> Found:
        """What is filed when the run is trained."""
        return self.losses.means, self.history.told()

    def note(self) -> str:
        """The last losses, for beside a progress bar."""
        return self.losses.note() + self.history.note()
