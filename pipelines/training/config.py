"""What decides a run: `TrainConfig`, saved as ``config.json``. Defaults are stated here; presets and experiments override them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from gated_vae.models.registry import SCHEDULES
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.preprocessing.errors import GatedVAEError, UsageError


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, and where it was found, which does not count where configurations are compared.

    Attributes
    ----------
    store:
        The store's folder, or the address of a pairing service. A run knows what is in it by digests.
    model:
        Partitions, network, method and objective.
    steps, epochs:
        How long to train: exactly one of them is given.
    batch_size:
        Pairs in a step, over all ranks.
    lr, schedule:
        Adam's learning rate and how it goes on: ``constant``, or ``cosine`` down to nothing at the last step.
    seed:
        Decides initial weights, order of the pairs and noise.
    precision:
        ``fp32``, ``tf32`` or ``bf16``.
    device:
        Where it was begun: ``cpu`` or ``cuda``.
    stacked:
        Whether it was trained as one of a stack of models, or as a stack of one, which rounds otherwise in the last bits.
    decoder_only:
        Fine-tuning: the encoder stays as it is.
    initial, initial_weights:
        The run whose weights to start from, and their SHA-256 (fine-tuning).
    """

    store: str = field(compare=False)
    model: GatedVAEConfig
    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 128
    lr: float = 1e-4
    schedule: str = "constant"
    seed: int = 0
    precision: str = "fp32"
    device: str = field(default="cpu", compare=False)
    stacked: bool = field(default=False, compare=False)
    decoder_only: bool = False
    initial: str | None = field(default=None, compare=False)
    initial_weights: str | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise UsageError("How long to train is unclear.", "", "Give either --epochs or --steps.")
        if (self.steps or self.epochs or 0) < 1 or self.batch_size < 2 or not self.lr > 0:
            why = f"Got {self.epochs or self.steps} epochs or steps, batch size {self.batch_size}, learning rate {self.lr}."
            raise GatedVAEError(
                "Training cannot be set up.", why, "Batches need 2 pairs or more, the rest to be positive."
            )
        if self.schedule not in SCHEDULES:
            raise GatedVAEError(f"There is no schedule {self.schedule!r}.", "", f"Choose {' or '.join(SCHEDULES)}.")

    def learning_rate(self, step: int, steps: int) -> float:
        """The learning rate of a step from 1 on."""
        if self.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * (step - 1) / steps))

    def pairs_per_rank(self, ranks: int) -> int:
        """Each rank's pairs in a step; refused where they cannot be equally many."""
        if self.batch_size % ranks:
            why = f"The batch size {self.batch_size} does not divide by {ranks}."
            raise GatedVAEError(f"{ranks} ranks cannot share a batch.", why, "Choose another --batch-size.")
        return self.batch_size // ranks

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {**asdict(self), "model": self.model.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Build from what `to_dict` gave, after a round trip through JSON."""
        return cls(**{**values, "model": GatedVAEConfig.from_dict(values["model"])})
