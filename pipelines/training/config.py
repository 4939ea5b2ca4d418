"""What decides a run: `TrainConfig`, saved as ``config.json``. Defaults are stated here; presets and experiments override them.

And `TrainOptions`, which do not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

from gated_vae.models.registry import AUGMENTATIONS, SCHEDULES
from gated_vae.models.vae import GatedVAEConfig
from gated_vae.preprocessing.errors import GatedVAEError, UsageError, check_seed
from gated_vae.preprocessing.files import fits

MOST_STEPS = 10**9 - 1  # that the names of checkpoints can tell
MOST_PAIRS = 2**20  # in a step
FEWEST_FOR_A_CRITIC = 8  # of fewer, too many codes stay where they are when they are permuted

_NUMBER = (int, float)
_MODEL = {
    **dict.fromkeys(("network", "method", "objective", "likelihood"), str),
    "image_shape": [int],
    "hidden": [int],
    "latent": {str: int},
    "kl_weights": {str: _NUMBER},
}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, and where it was found, which does not count where configurations are compared."""

    # The store's folder, or the address of a pairing service; a run knows what is in it by digests.
    store: str = field(compare=False)
    model: GatedVAEConfig
    # How long to train: exactly one of the two is given.
    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 128  # pairs in a step, over all ranks
    # Adam's learning rate and how it goes on: `constant`, or `cosine`, down to nothing at the last step.
    lr: float = 1e-4
    schedule: str = "constant"
    # How what is encoded is varied: `none`, or some of `AUGMENTATIONS`, parted by commas in their order.
    augment: str = "none"
    # Steps over which the weight of the KL divergence rises from 0, evenly (KL annealing; Bowman et al. 2016); other
    # regularisers weigh in full from the start.
    warmup: int = 0
    # Whose weights are used: those of the `last` step, or of the `best`, which has the lowest validation loss; `best:N` stops
    # training when N validations in a row were no better (early stopping).
    keep: str = "last"
    checkpoint_every: int | None = None  # steps between two validations, where they decide; else `TrainOptions` says
    # How long it was to be, in the same unit, each time that it was gone on with beyond its end: a schedule ends there.
    earlier: tuple[int, ...] = ()
    seed: int = 0  # decides initial weights, order of the pairs and noise
    precision: str = "fp32"  # one of `PRECISIONS`
    device: str = field(default="cpu", compare=False)  # where it was begun: `cpu` or `cuda`
    # Whether it was trained as one of a stack of models, or as a stack of one, which rounds otherwise in the last bits.
    stacked: bool = field(default=False, compare=False)
    decoder_only: bool = False  # fine-tuning: the encoder stays as it is
    # The run whose weights to start from, and their SHA-256.
    initial: str | None = field(default=None, compare=False)
    initial_weights: str | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise UsageError("How long to train is unclear.", "", "Give either --epochs or --steps.")
        length = self.steps or self.epochs or 0
        if not 1 <= length <= MOST_STEPS or not 2 <= self.batch_size <= MOST_PAIRS or not 0 < self.lr < math.inf:
            why = f"Got {length} epochs or steps, batch size {self.batch_size}, learning rate {self.lr}."
            remedy = (
                f"Batches need 2 to {MOST_PAIRS:,} pairs, the rest to be positive; {MOST_STEPS:,} steps are the most."
            )
            raise UsageError("Training cannot be set up.", why, remedy)
        check_seed(self.seed)
        if self.schedule not in SCHEDULES:
            raise GatedVAEError(f"There is no schedule {self.schedule!r}.", "", f"Choose {' or '.join(SCHEDULES)}.")
        if self.augmentations != tuple(name for name in AUGMENTATIONS if name in self.augmentations):
            remedy = f"Choose none, or some of {','.join(AUGMENTATIONS)}, in this order."
            raise UsageError(f"--augment {self.augment} cannot be read.", "", remedy)
        if self.augmentations and self.model.method.batches == "composed":
            why = "Targets are composed of the batch's own factors, which a mirror would change."
            remedy = "Use --augment none, or on images without exact factors --method partners."
            raise UsageError("Images whose factors are recombined cannot be augmented.", why, remedy)
        if self.warmup and hasattr(self.model.objective, "steps"):
            why = "Its capacity rises by itself."
            raise UsageError("--warmup is not for this objective.", why, "Leave --warmup out.")
        if hasattr(self.model.objective, "critic") and self.batch_size < FEWEST_FOR_A_CRITIC:
            why = f"Of {self.batch_size} codes, permuted, one in {self.batch_size} stays where it was."
            remedy = f"Choose --batch-size {FEWEST_FOR_A_CRITIC} or more."
            raise UsageError("The batch is too small for a discriminator.", why, remedy)
        if not re.fullmatch(r"last|best(:0*[1-9][0-9]{0,8})?", self.keep):
            remedy = "Choose last, best or best:N, where N validations in a row that are no better end training."
            raise UsageError(f"--keep {self.keep} cannot be read.", "", remedy)
        if self.keeps_best == (self.checkpoint_every is None) or min(self.warmup, self.checkpoint_every or 0) < 0:
            why = f"Got warmup {self.warmup}, keep {self.keep}, checkpoint_every {self.checkpoint_every}."
            raise UsageError("Training cannot be set up.", why, "Give 0 or more, and 1 or more with keep best alone.")

    @property
    def augmentations(self) -> tuple[str, ...]:
        """What `augment` names."""
        return () if self.augment == "none" else tuple(self.augment.split(","))

    @property
    def keeps_best(self) -> bool:
        """Whether the weights of the lowest validation loss are used."""
        return self.keep != "last"

    @property
    def patience(self) -> int:
        """How many validations in a row that are no better end training; 0 for any number."""
        return int(self.keep.partition(":")[2] or 0)

    def stops_after(self, validations: int) -> bool:
        """Whether training ends early where so many validations in a row were no better."""
        return 0 < self.patience <= validations

    def ends(self, epoch: int) -> tuple[int, ...]:
        """The last step of each schedule, the last of all last, where an epoch has so many steps."""
        return (*(end * (epoch if self.epochs else 1) for end in self.earlier), self.length(epoch))

    def length(self, epoch: int) -> int:
        """Steps in all, where an epoch has so many."""
        steps = self.steps or (self.epochs or 0) * epoch
        if steps > MOST_STEPS:
            why = f"{self.epochs:,} epochs are {steps:,} steps; {MOST_STEPS:,} are the most."
            raise GatedVAEError("Training cannot be set up.", why, "Ask for fewer.")
        if self.rises > steps:
            kind, remedy = "rise of the capacity", "--objective annealed:steps=N"
            if self.warmup:
                kind, remedy = "KL warm-up", "--warmup"
            why = f"It would take {self.rises:,} steps, training has {steps:,}."
            raise GatedVAEError(f"The {kind} is longer than the run.", why, f"Give a shorter {remedy}, or more steps.")
        return steps

    def learning_rate(self, step: int, ends: Sequence[int]) -> float:
        """The learning rate of a step from 1 on; `ends` as `ends` gives them."""
        if self.schedule == "constant":
            return self.lr
        start = max((end for end in ends if end < step), default=0)
        steps = min(end for end in ends if end >= step) - start
        return self.lr * 0.5 * (1.0 + math.cos(math.pi * (step - start - 1) / steps))

    @property
    def rises(self) -> int:
        """Over how many steps something in the loss rises: the weight of the KL divergence, or what the objective says."""
        return self.warmup or (0 if self.decoder_only else getattr(self.model.objective, "steps", 0))

    def kl_share(self, step: int) -> float:
        """Which share of its weight the KL divergence has in a step from 1 on."""
        return min(1.0, (step - 1) / self.warmup) if self.warmup else 1.0

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
        """Build from what `to_dict` gave, after a round trip through JSON; an error of some kind where it is anything else."""
        forms = {**get_type_hints(cls), "model": _MODEL, "lr": _NUMBER, "earlier": [int]}
        for name, form in forms.items():
            if not fits(values.get(name), get_args(form) or form):
                raise ValueError(f"Its {name} cannot be {values.get(name)!r:.100}.")
        chosen = {"model": GatedVAEConfig.from_dict(values["model"]), "earlier": tuple(values["earlier"])}
        config = cls(**{**values, **chosen})
        lengths = [0, *config.earlier, config.steps or config.epochs or 0]
        if lengths != sorted({*lengths}):
            raise ValueError(f"It cannot have been {config.earlier} long before.")
        return config


@dataclass(frozen=True)
class TrainOptions:
    """What does not change the result: where and how to run it."""

    out: Path  # the run's folder
    device: str = "auto"
    resume: bool = False  # go on beyond the end of the run that is there
    overwrite: bool = False  # train anew in place of the run that is there
    log_every: int = 50  # steps
    checkpoint_every: int = 1000  # steps
