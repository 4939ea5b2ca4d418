"""What is explored: a run and its store, or either alone, opened once for every page until it changes on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gated_vae.models.figures.sheet import PALETTE, colours_of
from gated_vae.pipelines.evaluation.opened import OpenRun, open_run
from gated_vae.pipelines.evaluation.scores import Scores
from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.store import Store, manifest_path, open_store

_RELOAD = "Load the page again."


@dataclass(frozen=True, eq=False)
class Subject:
    """A run with its store, a run whose store is gone, or a store alone."""

    path: Path  # of the run or the store, as it was given
    run: OpenRun | None = None
    store: Store | None = None
    missing: str = ""  # why there is no store
    source: Path | None = None  # the folder that the store was made from, for pictures of what was rejected
    stamp: tuple[object, ...] = field(default=(), repr=False)  # of the store as it was opened

    @cached_property
    def colours(self) -> dict[str, str]:
        """The accent colour of every partition, as in all pictures of the run, or of the store where there is none."""
        config = self.run.files.config.model if self.run else None
        names = [*(config.latent if config else ()), *(self.store.partitions if self.store else ())]
        return colours_of(dict.fromkeys(names)) or {"": PALETTE[0]}

    def about(self) -> str:
        """What it is, in one line."""
        told = []
        if self.run is not None:
            latest, config = self.run.files.latest(), self.run.files.config.model
            told.append("latent " + ", ".join(f"{name} {size}" for name, size in config.latent.items()))
            told.append(f"step {latest.step:,}" if latest else "no checkpoint yet")
        if self.store is not None:
            shape = "x".join(map(str, self.store.manifest["image_shape"]))
            told.append(f"{len(self.store):,} images of {shape} pixels")
        return "; ".join(told)

    @property
    def version(self) -> str:
        """What tells its pictures from those of another store in its place."""
        return f"{hash(self.stamp) & 0xFFFFFFFF:08x}"

    def its_run(self) -> OpenRun:
        """The run; refused where there is a store alone, or no checkpoint yet."""
        if self.run is None:
            raise GatedVAEError("This is a store: it has no codes.", "", "Train on it, then `pipe explore RUN`.")
        self.run.model  # noqa: B018  refused where there is no checkpoint
        return self.run

    def its_store(self) -> Store:
        """The store; refused where it is gone or has changed since the page was made."""
        if self.store is None:
            raise GatedVAEError("There are no pictures of the store.", self.missing, "Give --store FOLDER.")
        if _stamp(self.store) != self.stamp:
            raise GatedVAEError(f"{self.store.path} has changed since it was opened.", "", _RELOAD)
        return self.store

    def image(self, sample: int) -> npt.NDArray[np.uint8]:
        """A sample's image (H, W[, 3]); `GatedVAEError` where there is none."""
        store = self.its_store()
        if not 0 <= sample < len(store):
            why = f"The store has {len(store):,}, numbered from 0."
            raise GatedVAEError(f"There is no sample {sample}.", why, "Choose another.")
        return np.array(store.images[sample])

    def kl(self) -> list[float] | None:
        """Mean KL of every latent dimension in nats: of random images of the store, or what was measured; None if unknown."""
        run = self.its_run()
        if self.store is not None:
            return run.sampled[1].kl()
        scores = Scores.of(run.files)
        return scores.values["kl"] if scores else None

    def scores(self) -> Scores | None:
        """What `pipe evaluate` found, as it is now."""
        return Scores.of(self.run.files) if self.run else None


def _stamp(store: Store) -> tuple[object, ...]:
    """Changes whenever a store is made anew, or pairs are added to it."""
    try:
        found = manifest_path(store.path).stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


@dataclass
class Opener:
    """Opens the subject, and again where its weights or its store are others now; `opened` is what it was last."""

    path: Path
    is_run: bool
    moved: Path | None = None
    source: Path | None = None
    opened: Subject | None = None
    _state: object = None

    def subject(self) -> Subject:
        """The subject as it is now; `GatedVAEError` where it cannot be opened."""
        fresh = self._of_run() if self.is_run else self._of_store()
        latest = fresh.run.files.latest() if fresh.run else None
        state = fresh.stamp, latest, fresh.missing
        if self.opened is None or self._state != state:
            self._state, self.opened = state, fresh
        return self.opened

    def _of_store(self) -> Subject:
        store = open_store(self.path)
        return Subject(self.path, None, store, source=self.source, stamp=_stamp(store))

    def _of_run(self) -> Subject:
        run = open_run(self.path, self.moved)
        try:
            store = run.store
        except GatedVAEError as error:
            return Subject(self.path, run, None, " ".join(filter(None, (error.what, error.why))))
        return Subject(self.path, run, store, source=self.source, stamp=_stamp(store))
