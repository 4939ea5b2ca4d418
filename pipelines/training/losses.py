"""Mean losses since the last time they were told, by what the steps were for; and the file that TensorBoard reads them from."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped, unused-ignore]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped, unused-ignore]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped, unused-ignore]

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.files import append_to

Terms = dict[str, float]
Found = tuple[dict[str, Terms], dict[str, Any]]  # the last mean losses, and what validations have found


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


Curve = tuple[list[int], list[float]]  # steps, values
TOTAL, VALID = "loss", "valid"
KL_OF = "kl_of"  # of tags that tell the KL divergence of each latent dimension, as kl_of/z0


def kl_by_dimension(kl: torch.Tensor) -> Terms:
    """The KL divergence of every latent dimension, (M,), under its tag."""
    return {f"{KL_OF}/z{dimension}": value for dimension, value in enumerate(kl.tolist())}


class EventReader:
    """The scalars of a run from its event files, as far as they are written: tag -> steps and values."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped, unused-ignore]

        logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of steps that a later file has made void
        self.scalars: dict[str, Curve] = {}
        self._events = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})

    def read(self) -> bool:
        """Read what has come since the last time; whether there was any. `GatedVAEError` when the run is gone."""
        from tensorboard.backend.event_processing.directory_watcher import (  # type: ignore[import-untyped, unused-ignore]
            DirectoryDeletedError,
        )

        try:
            self._events.Reload()
        except DirectoryDeletedError:
            raise GatedVAEError(f"{self._events.path} is gone.", "", "Restore it, then load the page again.") from None
        found = {tag: self._events.Scalars(tag) for tag in self._events.Tags()["scalars"]}
        scalars = {tag: ([it.step for it in told], [it.value for it in told]) for tag, told in found.items()}
        changed, self.scalars = scalars != self.scalars, scalars
        return changed

    def curves(self) -> dict[str, dict[str, Curve]]:
        """Term -> what it is the mean of (a partition, all, those of valid pairs) -> its curve; first `TOTAL`, their sum."""
        found: dict[str, dict[str, Curve]] = {TOTAL: {}}
        for tag, (steps, values) in self.scalars.items():
            valid = tag.startswith(f"{VALID}/")
            term, _, label = tag.removeprefix(f"{VALID}/").partition("/")
            if tag == f"{VALID}/{TOTAL}":
                found[TOTAL][VALID] = steps, values
            elif label and term != KL_OF:
                found.setdefault(term, {})[label + f", {VALID}" * valid] = steps, values
                if not valid:
                    before = found[TOTAL].get(label, (steps, [0.0] * len(steps)))[1]
                    found[TOTAL][label] = steps, [a + b for a, b in zip(before, values, strict=False)]
        return found

    def kl(self) -> dict[str, float]:
        """The KL of every latent dimension, z0 and so on, as it was last told."""
        told = {tag.partition("/"): values for tag, (_, values) in self.scalars.items()}
        return {name: values[-1] for (kind, _, name), values in told.items() if kind == KL_OF}


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


def seconds_trained(folder: Path) -> float:
    """Seconds from the first to the last record of every event file of a run, summed: of a stack, those of all its models."""
    from tensorboard.backend.event_processing.event_file_loader import (  # type: ignore[import-untyped, unused-ignore]
        TimestampedEventFileLoader,
    )

    total = 0.0
    for path in folder.glob("events.*"):
        times = [time for time, _ in TimestampedEventFileLoader(str(path)).Load()]
        total += max(times, default=0.0) - min(times, default=0.0)
    return total
