"""The losses of a run as curves, and the KL divergence of its dimensions, read from its events while they are written."""

from __future__ import annotations

import logging
from pathlib import Path

from gated_vae.pipelines.training.journal import KL_OF, TOTAL, VALID
from gated_vae.preprocessing.errors import GatedVAEError

Curve = tuple[list[int], list[float]]  # steps, values


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
